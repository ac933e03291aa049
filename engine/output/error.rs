//! [`WriterError`]: why lines cannot be written, in sentences that say what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::output::descriptor::is_given_up;
use crate::sys::words_of;

/// Why lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// An output could not be opened.
    #[error("{}", cannot_open(path, source))]
    Open {
        /// The output.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An output is to be rotated that is no file.
    #[error(
        "{name} is no file, and only files are rotated; leave out -C and -G, or name a file with -o"
    )]
    NotRotated {
        /// The output.
        name: String,
    },
    /// Standard output could not be used.
    #[error("cannot use standard output: {}", words_of(.0))]
    Stdout(#[source] io::Error),
    /// An output could not be written, and the run does not continue without it
    /// ([`Policy::Wait`](crate::output::Policy::Wait)).
    #[error("cannot write {name}: {}", why(source))]
    Write {
        /// The output.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// A run that does not wait ([`Policy::Drop`](crate::output::Policy::Drop)) ended while an
    /// output could not be written.
    #[error("cannot write {name}: {}; lines were lost until the end", why(source))]
    LostUntilTheEnd {
        /// The output.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// The same, while an output was too slow.
    #[error("{name}: its reader or disk is too slow; lines were lost until the end")]
    TooSlowUntilTheEnd {
        /// The output.
        name: String,
    },
    /// The directory of the outputs was removed, and this process may open no other one.
    #[error(
        "{}, the directory of the output, was removed, and a run in its sandbox can write to no \
         other one; make it again and start httplines again",
        .0.display()
    )]
    DirectoryRemoved(PathBuf),
    /// The writer thread could not be started.
    #[error(
        "cannot start a thread: {}; is there a limit on processes (ulimit -u, pids.max of a \
         container) or on the address space (ulimit -v)?",
        words_of(.0)
    )]
    Thread(#[source] io::Error),
    /// The writer thread panicked; lines may be missing.
    #[error("the writer thread panicked")]
    Panicked,
    /// The thread that deletes and compresses closed files panicked; no line is missing.
    #[error("the thread that deletes and compresses closed files panicked")]
    JanitorPanicked,
}

impl WriterError {
    /// Whether more privileges would help: exit code 3.
    pub fn is_permission(&self) -> bool {
        matches!(self, WriterError::Open { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Why lines are lost, as far as the counters tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LossCause {
    /// The disk or the quota is full, or the file has reached the size limit.
    DiskFull,
    /// The reader has gone, or was too slow at the end.
    ReaderGone,
    /// Anything else.
    WriteError,
}

impl LossCause {
    pub(super) fn of(error: &io::Error) -> LossCause {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => LossCause::DiskFull,
            io::ErrorKind::BrokenPipe => LossCause::ReaderGone,
            _ if is_given_up(error) => LossCause::ReaderGone,
            _ => LossCause::WriteError,
        }
    }
}

/// Why an output cannot be opened, and what to do.
fn cannot_open(path: &Path, error: &io::Error) -> String {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (path, directory) = (path.display(), directory.display());
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("cannot write {path}: there is no directory {directory}; make it first")
        }
        io::ErrorKind::NotADirectory => {
            format!("cannot write {path}: {directory} is not a directory; name another path")
        }
        io::ErrorKind::IsADirectory => {
            format!("{path} is a directory; name a file in it, such as {path}/http.jsonl")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{path}: this user may not write there; name a file elsewhere")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{path} is on a read-only file system; name a file elsewhere")
        }
        // Ours: it says what to do.
        io::ErrorKind::Other => format!("cannot write {path}: {error}"),
        io::ErrorKind::BrokenPipe => format!("cannot write {path}: its reader has gone"),
        _ if error.raw_os_error() == Some(libc::EMFILE) => {
            format!("cannot write {path}: too many open files; raise the limit with ulimit -n")
        }
        _ => format!("cannot write {path}: {}; name another file", why(error)),
    }
}

/// The system's error, in plain words for common causes.
pub(super) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full; free some space".into(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up; free some space".into(),
        io::ErrorKind::FileTooLarge => {
            "the file has reached the size limit (ulimit -f); name another file".into()
        }
        _ => words_of(error),
    }
}
