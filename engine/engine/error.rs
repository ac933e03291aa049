//! [`EngineError`]: why a run could not begin; [`SandboxError`]: why it cannot give up its rights.

use crate::capture::{self, pcap};
use crate::config::ConfigError;
use crate::output::WriterError;
use crate::sys::user::UserError;
use crate::sys::words_of;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a run could not begin or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Input and output are the same file.
    #[error("the output is the input; name another file")]
    SameFile,
    /// The interfaces could not be opened.
    #[error(transparent)]
    Live(#[from] capture::live::LiveOpenError),
    /// The capture file could not be opened.
    #[error(transparent)]
    File(#[from] pcap::CaptureOpenError),
    /// The output could not be opened.
    #[error(transparent)]
    Output(#[from] WriterError),
    /// The output cannot be opened by the user that the run became.
    #[error("cannot write {} as {user}; chown it, or -Z root", path.display())]
    OutputOfUser {
        /// The output.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// The run cannot give up its rights.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The port of the metrics cannot be opened.
    #[error("cannot listen on {address} for --metrics: {}", why_not_listening(.source))]
    Listen {
        /// The address and the port.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error(
        "cannot start a thread: {}; is there a limit on processes (ulimit -u, pids.max of a \
         container) or on the address space (ulimit -v)?",
        words_of(.0)
    )]
    Thread(std::io::Error),
}

fn why_not_listening(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "another program listens there; name another port".into(),
        ErrorKind::AddrNotAvailable => "this machine does not have the address".into(),
        ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; name another port".into()
        }
        _ => words_of(error),
    }
}

/// Why a run cannot give up its rights.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The user does not exist.
    #[error("-Z: {0}")]
    User(#[from] UserError),
    /// Only root may become another user.
    #[error("-Z {0}: only root may become another user; leave -Z out, or start httplines as root")]
    NotRoot(String),
    /// The system refuses.
    #[error("cannot become {name}: {}; name another user with -Z", words_of(source))]
    Become {
        /// The user.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// Capabilities cannot be given up.
    #[error("cannot give up capabilities: {}; --no-sandbox keeps them", words_of(.0))]
    Capabilities(#[source] io::Error),
    /// Landlock refuses its rules.
    #[error("cannot restrict files by Landlock: {0}; --no-sandbox does without")]
    Landlock(String),
}
