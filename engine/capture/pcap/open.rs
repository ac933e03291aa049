//! Opening a capture for all shards of a run.
//!
//! Every shard reads all frames and keeps only its own flows, so a file is opened once per shard.
//! An input that can be read only once (standard input, a FIFO) is read by a thread and shared:
//! [`crate::capture::tee`].

use std::fs::File;
use std::io::{self, Read, Take};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::CaptureOpenError;
use super::format::{Format, read_prefix};
use super::step::PREFIX_BYTES;
use super::{MappedWindow, PcapSource, RecordBuffer, Window};
use crate::capture::direct::DirectReader;
use crate::capture::tee::{self, TeeReader};
use crate::capture::{Frame, FrameSource, Lookahead, Polled, SourceError};
use crate::ids::IfaceNames;
use crate::sys::file_map::FileMap;

/// How far the shards have read; cheap to clone and to query.
#[derive(Clone, Debug)]
pub struct Progress {
    /// One counter per shard.
    read_bytes: Arc<[AtomicU64]>,
    size_bytes: Option<u64>,
}

impl Progress {
    /// Bytes that every shard has read: the position of the slowest.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// The size of the input, if it is known.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }
}

/// A capture, open for every shard.
#[derive(Debug)]
pub struct Capture {
    /// One source per shard; each yields all frames.
    pub sources: Vec<PcapSource<CaptureWindow>>,
    /// How far the sources have read.
    pub progress: Progress,
}

/// One shard's window on a capture. It counts for [`Progress`].
#[derive(Debug)]
pub struct CaptureWindow {
    input: Input,
    progress: Arc<[AtomicU64]>,
    shard: usize,
}

#[derive(Debug)]
enum Input {
    Mapped(MappedWindow),
    File(Window<Take<File>>),
    Direct(Window<DirectReader>),
    Tee(Window<TeeReader>),
}

impl RecordBuffer for CaptureWindow {
    #[inline]
    fn unread(&self) -> &[u8] {
        match &self.input {
            Input::Mapped(window) => window.unread(),
            Input::File(window) => window.unread(),
            Input::Direct(window) => window.unread(),
            Input::Tee(window) => window.unread(),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.input {
            Input::Mapped(window) => window.consume(count),
            Input::File(window) => window.consume(count),
            Input::Direct(window) => window.consume(count),
            Input::Tee(window) => window.consume(count),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let count = match &mut self.input {
            Input::Mapped(window) => window.fill()?,
            Input::File(window) => window.fill()?,
            Input::Direct(window) => window.fill()?,
            Input::Tee(window) => window.fill()?,
        };
        // One store per fill, to a word that only this shard writes.
        self.progress[self.shard].fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    #[inline]
    fn is_cut(&self) -> bool {
        matches!(&self.input, Input::Mapped(window) if window.is_cut())
    }
}

/// Size of one read of a [`CaptureFile`].
const READ_BYTES: usize = 1 << 20;

/// A capture file for one pipeline: pcap or pcapng, from any tool.
///
/// The file is read. If [`install_sigbus_handler`](super::install_sigbus_handler) was called
/// before, it is mapped, which is faster.
#[derive(Debug)]
pub struct CaptureFile {
    source: PcapSource<CaptureWindow>,
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

/// Opens the capture at `path` for `shard_count` shards that read `read_bytes` at a time. Names of
/// interfaces go to `names`.
///
/// The size of a regular file is read here, once, so all shards see the same frames even if a
/// program still writes to the file. If the program has called
/// [`install_sigbus_handler`](super::install_sigbus_handler), the file is mapped once for all
/// shards; otherwise, or if it cannot be mapped, it is read. Any other readable file is read like
/// in [`open_stream`].
///
/// # Errors
/// [`CaptureOpenError`], with `path` in it.
pub fn open_file(
    path: &Path,
    read_bytes: usize,
    shard_count: u16,
    names: &IfaceNames,
) -> Result<Capture, CaptureOpenError> {
    let input = path.display().to_string();
    let io = |source| CaptureOpenError::io(&input, source);
    let mut first = File::open(path).map_err(io)?;
    let metadata = first.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(CaptureOpenError::IsDirectory { input });
    }
    if !metadata.is_file() {
        return open_stream(first, &input, read_bytes, shard_count, names);
    }
    let prefix = read_prefix(&mut first, &input)?;
    let format = Format::detect(&prefix, &input)?;
    let header_bytes = format.header_bytes().min(prefix.len());
    let unread = &prefix[header_bytes..];
    let mut inputs = Vec::new();
    if let Ok(map) = first.try_clone().and_then(|file| FileMap::new(file, metadata.len())) {
        let map = Arc::new(map);
        for _ in 0..shard_count {
            let window = MappedWindow::new(Arc::clone(&map), read_bytes, header_bytes);
            inputs.push(Input::Mapped(window));
        }
    } else {
        let rest_bytes = metadata.len().saturating_sub(prefix.len() as u64);
        inputs.push(Input::File(Window::new(first.take(rest_bytes), read_bytes, unread)));
        for _ in 1..shard_count {
            let mut file = File::open(path).map_err(io)?;
            let again = read_prefix(&mut file, &input)?;
            if again != prefix {
                let source = io::Error::other("it was replaced while it was being opened");
                return Err(CaptureOpenError::Read { input, source });
            }
            inputs.push(Input::File(Window::new(file.take(rest_bytes), read_bytes, unread)));
        }
    }
    Ok(capture(inputs, &format, Some(metadata.len()), names))
}

/// Opens the capture in `stream` (standard input, a FIFO) for `shard_count` shards. Errors call it
/// `input`. Waits for the first bytes; after that no shard waits longer than
/// [`crate::capture::tee::WAIT_MS`]. One shard reads the stream itself; for several shards a thread
/// does.
///
/// # Errors
/// [`CaptureOpenError`], with `input` in it.
pub fn open_stream(
    mut stream: File,
    input: &str,
    read_bytes: usize,
    shard_count: u16,
    names: &IfaceNames,
) -> Result<Capture, CaptureOpenError> {
    let prefix = read_prefix(&mut stream, input)?;
    let format = Format::detect(&prefix, input)?;
    let unread = &prefix[format.header_bytes().min(prefix.len())..];
    let inputs = if shard_count == 1 {
        vec![Input::Direct(Window::new(DirectReader::new(stream), read_bytes, unread))]
    } else {
        let tees = tee::split(stream, read_bytes, shard_count)
            .map_err(|source| CaptureOpenError::Read { input: input.to_string(), source })?;
        tees.into_iter().map(|tee| Input::Tee(Window::new(tee, read_bytes, unread))).collect()
    };
    Ok(capture(inputs, &format, None, names))
}

/// A source for each of `inputs`, which are all positioned after the header.
fn capture(
    inputs: Vec<Input>,
    format: &Format,
    size_bytes: Option<u64>,
    names: &IfaceNames,
) -> Capture {
    let begun = |input: &Input| match input {
        Input::Mapped(_) => format.header_bytes(),
        Input::File(_) | Input::Direct(_) | Input::Tee(_) => PREFIX_BYTES,
    };
    let progress: Arc<[AtomicU64]> =
        inputs.iter().map(|input| AtomicU64::new(begun(input) as u64)).collect();
    let sources = inputs.into_iter().enumerate().map(|(shard, input)| {
        let window = CaptureWindow { input, progress: Arc::clone(&progress), shard };
        PcapSource::resume(window, format.clone(), names)
    });
    Capture {
        sources: sources.collect(),
        progress: Progress { read_bytes: Arc::clone(&progress), size_bytes },
    }
}
