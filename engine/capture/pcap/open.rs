//! Opening a capture for all shards of a run.
//!
//! Every shard reads all frames and keeps only its own flows, unless it is known which shard a
//! frame belongs to ([`Capture::walked`]). What can be read only once (standard
//! input, a FIFO) is read by a thread and shared: [`crate::capture::tee`]. So is what a compressed
//! file decompresses to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::CaptureOpenError;
use super::files::{CaptureSource, Opened};
use super::input::Counters;
use super::walked::WalkedSource;
use crate::capture::{Frame, FrameSource, Lookahead, Polled, Route, SourceError};
use crate::ids::IfaceNames;

/// How far the shards have read; cheap to clone and to query.
#[derive(Clone, Debug)]
pub struct Progress {
    /// One counter per shard.
    read_bytes: Counters,
    size_bytes: Option<u64>,
}

impl Progress {
    /// Bytes of the files that every shard has read: the position of the slowest. Those of a
    /// compressed file are its compressed bytes.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// What the first shard has read.
    #[cfg(test)]
    pub(super) fn first_read_bytes(&self) -> u64 {
        self.read_bytes.first().map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }

    /// The size of all files, if it is known.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }
}

/// A capture, open for every shard.
#[derive(Debug)]
pub struct Capture {
    /// One source per shard; each yields all frames.
    pub sources: Vec<CaptureSource>,
    /// How far the sources have read.
    pub progress: Progress,
}

impl Capture {
    /// Sources that may leave out frames of other shards, by `route`: shards walk mapped files for
    /// each other. Otherwise they are the same as [`Capture::sources`], which were not polled.
    pub fn walked(self, route: Arc<dyn Route>) -> Vec<WalkedSource> {
        let source = |source| WalkedSource::new(source, Arc::clone(&route));
        self.sources.into_iter().map(source).collect()
    }
}

/// A capture that is open. Nothing of it was read yet, so a program may give up its rights first.
#[derive(Debug)]
pub struct OpenCapture(Opened);

impl OpenCapture {
    /// Opens the capture files at `paths`, as [`open_files`] does.
    ///
    /// # Errors
    /// [`CaptureOpenError`], with the path of the file in it; [`CaptureOpenError::NoFile`] without
    /// `paths`.
    pub fn files(paths: &[PathBuf]) -> Result<OpenCapture, CaptureOpenError> {
        Opened::open(paths).map(OpenCapture)
    }

    /// The capture in `stream` (standard input, a FIFO). Errors call it `input`.
    pub fn stream(stream: File, input: &str) -> OpenCapture {
        OpenCapture(Opened::Stream { stream, input: input.to_string() })
    }

    /// Files that are opened while others are read, since there are too many to be all open.
    pub fn opened_later(&self) -> Vec<PathBuf> {
        self.0.opened_later()
    }

    /// Reads the first bytes, and recognises compression and format, for `shard_count` shards that
    /// read `read_bytes` at a time. Names of interfaces go to `names`.
    ///
    /// Waits for the first bytes of a stream; after that no shard waits longer than
    /// [`crate::capture::tee::WAIT_MS`]. One shard reads a stream itself, unless it is compressed;
    /// otherwise a thread does.
    ///
    /// # Errors
    /// [`CaptureOpenError`], with the name of the input in it.
    pub fn begin(
        self,
        read_bytes: usize,
        shard_count: u16,
        names: &IfaceNames,
    ) -> Result<Capture, CaptureOpenError> {
        let counters: Counters = (0..shard_count).map(|_| AtomicU64::new(0)).collect();
        let size_bytes = self.0.size_bytes();
        let sources = self.0.begin(read_bytes, &counters)?.sources(names);
        Ok(Capture { sources, progress: Progress { read_bytes: counters, size_bytes } })
    }
}

/// Size of one read of a [`CaptureFile`].
const READ_BYTES: usize = 1 << 20;

/// A capture file for one pipeline: pcap or pcapng, from any tool. With the feature `cli` it may be
/// compressed with gzip or zstd.
///
/// The file is read. If [`install_sigbus_handler`](super::install_sigbus_handler) was called
/// before, it is mapped, which is faster.
#[derive(Debug)]
pub struct CaptureFile {
    source: CaptureSource,
    names: IfaceNames,
}

impl CaptureFile {
    /// Opens the capture at `path`.
    ///
    /// # Errors
    /// [`CaptureOpenError`], with `path` in it.
    pub fn open(path: impl AsRef<Path>) -> Result<CaptureFile, CaptureOpenError> {
        let names = IfaceNames::default();
        let mut capture = open_file(path.as_ref(), READ_BYTES, 1, &names)?;
        match capture.sources.pop() {
            Some(source) => Ok(CaptureFile { source, names }),
            None => unreachable!("one shard has one source"),
        }
    }

    /// The names of its interfaces in the part that was read; only a pcapng has names.
    pub fn names(&self) -> IfaceNames {
        self.names.clone()
    }
}

impl FrameSource for CaptureFile {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        self.source.poll(visit)
    }

    fn poll_ahead(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        self.source.poll_ahead(ahead_count, visit)
    }
}

/// Opens the capture at `path` for `shard_count` shards: [`open_files`] with one file.
///
/// # Errors
/// [`CaptureOpenError`], with `path` in it.
pub fn open_file(
    path: &Path,
    read_bytes: usize,
    shard_count: u16,
    names: &IfaceNames,
) -> Result<Capture, CaptureOpenError> {
    open_files(&[path.to_path_buf()], read_bytes, shard_count, names)
}

/// Opens the capture files at `paths`, which are read one after the other as one capture, for
/// `shard_count` shards that read `read_bytes` at a time. Names of interfaces go to `names`.
///
/// All files are checked here: they exist, may be read, and begin like captures. They stay open
/// until they are read, if the limit on open files allows; else a file is open only while it is
/// read. With the feature `cli` a file may be compressed with gzip or zstd.
///
/// A file is opened once for all shards, and the size of a regular file is read then, so all shards
/// see the same frames even if a program still writes to the file. If the program has called
/// [`install_sigbus_handler`](super::install_sigbus_handler), the file is mapped; otherwise, or if
/// it cannot be mapped, it is read. One path may also be that of a stream, such as a FIFO, which is
/// read like one of [`OpenCapture::stream`].
///
/// # Errors
/// [`CaptureOpenError`], with the path of the file in it; [`CaptureOpenError::NoFile`] without
/// `paths`.
pub fn open_files(
    paths: &[PathBuf],
    read_bytes: usize,
    shard_count: u16,
    names: &IfaceNames,
) -> Result<Capture, CaptureOpenError> {
    OpenCapture::files(paths)?.begin(read_bytes, shard_count, names)
}
