//! [`Output`]: where lines go.

use std::path::PathBuf;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
    /// There are none: what they would tell is counted
    /// ([`Engine::counts`](crate::engine::Engine::counts)). Whoever runs the engine may write this
    /// file when the run is over.
    Counted(Option<PathBuf>),
}
