//! Live.
fn main() {}
