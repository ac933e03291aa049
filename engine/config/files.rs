//! [`FilesConfig`]: when an output file is closed, and which closed files are kept.

use std::time::Duration;

/// When an output file is closed and a new one is opened, and what becomes of closed files. The
/// default: a file is never closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesConfig {
    /// A file is closed before it would grow beyond this many bytes (`--rotate-size`). Only a
    /// single batch of lines may be larger.
    pub rotate_bytes: Option<u64>,
    /// A file is closed at multiples of this time since the Unix epoch, in UTC
    /// (`--rotate-interval`). At least a second.
    pub rotate_interval: Option<Duration>,
    /// Closed files of each output that are kept (`--keep-files`); older ones are deleted.
    pub keep_file_count: Option<u64>,
    /// Bytes that all files of the run may take together, open, closed and compressed ones
    /// (`--keep-size`). The oldest closed files are deleted.
    pub keep_bytes: Option<u64>,
    /// Space that must stay free in the file system (`--keep-free`). The oldest closed files are
    /// deleted.
    pub keep_free: Option<KeepFree>,
    /// Closed files are compressed with zstd, except the newest one of each output (`--compress`).
    /// Needs the feature `cli`.
    pub is_compressed: bool,
}

/// Space that must stay free in a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepFree {
    /// This many bytes.
    Bytes(u64),
    /// This part of its size, from 1 to 99.
    Percent(u8),
}

impl KeepFree {
    /// The bytes that must stay free in a file system of `total_bytes`.
    pub fn bytes(self, total_bytes: u64) -> u64 {
        match self {
            KeepFree::Bytes(bytes) => bytes,
            KeepFree::Percent(percent) => total_bytes / 100 * u64::from(percent),
        }
    }
}

impl FilesConfig {
    /// Whether files are closed while the run goes on.
    pub fn is_rotating(&self) -> bool {
        self.rotate_bytes.is_some() || self.rotate_interval.is_some()
    }

    /// Whether something is to be done with closed files.
    pub fn is_keeping(&self) -> bool {
        self.keep_file_count.is_some()
            || self.keep_bytes.is_some()
            || self.keep_free.is_some()
            || self.is_compressed
    }
}
