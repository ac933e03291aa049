//! arguments → Config → Engine::run → exit code
fn main() {}
