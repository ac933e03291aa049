//! Frame → Segment.
mod admit;
pub use admit::begins_like_message;
