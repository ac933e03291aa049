//! The only room with unsafe code.
pub mod uring;
