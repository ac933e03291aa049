//! The failings of the ancestor.
