//! [`CaptureOpenError`]: why a capture cannot be opened. Each message says what to do.

use std::io::{self, ErrorKind};

/// Why a capture cannot be opened. Each message is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureOpenError {
    /// No file of that name exists.
    #[error("{input}: no such file; check the path")]
    NotFound {
        /// What was to be opened.
        input: String,
    },
    /// No path was given.
    #[error("there is no capture file to read; name one")]
    NoFile,
    /// One of several paths is that of no regular file.
    #[error(
        "{input} is no regular file, such as a pipe; several captures are read only from regular \
         files"
    )]
    NotRegular {
        /// What was to be opened.
        input: String,
    },
    /// The path is a directory.
    #[error("{input} is a directory; name a capture file in it")]
    IsDirectory {
        /// What was to be opened.
        input: String,
    },
    /// This user may not read the file. Exit code 3.
    #[error("{input}: permission denied; make it readable for this user")]
    PermissionDenied {
        /// What was to be opened.
        input: String,
    },
    /// The input has no bytes.
    #[error(
        "{input} is empty; a capture has at least a file header (is its writer still buffering?)"
    )]
    Empty {
        /// What was to be opened.
        input: String,
    },
    /// The input begins like neither format.
    #[error(
        "{input} is not a capture that httplines reads (pcap, pcapng); \
         `editcap -F pcapng IN OUT` converts others"
    )]
    NotACapture {
        /// What was to be opened.
        input: String,
    },
    /// The input is compressed.
    #[error("{input} is {kind} compressed; decompress it: `{tool} FILE | httplines -r -`")]
    Compressed {
        /// What was to be opened.
        input: String,
        /// The compression format.
        kind: &'static str,
        /// The command that unpacks it to standard output.
        tool: &'static str,
    },
    /// The input ends inside its file header.
    #[error("{input} is cut off inside its file header and holds no frame; capture again")]
    HeaderCut {
        /// What was to be opened.
        input: String,
    },
    /// A version that no tool has written in this century.
    #[error(
        "{input} is {format} version {major}.{minor}, which is unsupported; convert it with editcap"
    )]
    Version {
        /// What was to be opened.
        input: String,
        /// pcap or pcapng.
        format: &'static str,
        /// Major version in the file.
        major: u16,
        /// Minor version in the file.
        minor: u16,
    },
    /// Opening or reading failed for another reason.
    #[error("cannot read {input}: {source}")]
    Read {
        /// What was to be opened.
        input: String,
        /// The error from the kernel.
        source: io::Error,
    },
}

impl CaptureOpenError {
    /// Whether more privileges would help: exit code 3.
    pub fn is_permission(&self) -> bool {
        matches!(self, CaptureOpenError::PermissionDenied { .. })
    }

    pub(super) fn io(input: &str, source: io::Error) -> CaptureOpenError {
        let input = input.to_string();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => CaptureOpenError::NotFound { input },
            ErrorKind::IsADirectory => CaptureOpenError::IsDirectory { input },
            ErrorKind::PermissionDenied => CaptureOpenError::PermissionDenied { input },
            _ => CaptureOpenError::Read { input, source },
        }
    }
}
