//! The only room with unsafe code.
