//! One capture file or stream, opened once for all shards of a run.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::CaptureOpenError;
use super::format::{Format, read_prefix};
use super::walk::Walk;
use super::{MappedWindow, RecordBuffer, Window};
use crate::capture::direct::DirectReader;
use crate::capture::tee::{self, TeeReader};
use crate::sys::file_map::FileMap;

/// How many bytes of the input each shard has read.
pub(super) type Counters = Arc<[AtomicU64]>;

/// One shard's window on a capture. It counts for [`super::open::Progress`].
#[derive(Debug)]
pub struct CaptureWindow {
    input: Input,
    counters: Counters,
    shard: usize,
}

#[derive(Debug)]
enum Input {
    Mapped(MappedWindow),
    File(Window<SharedFile>),
    Direct(Window<DirectReader>),
    Tee(Window<TeeReader>),
    /// Its compressed bytes are counted by the thread that reads them.
    #[cfg(feature = "cli")]
    Decompressed(Window<TeeReader>),
}

impl CaptureWindow {
    /// The window on a mapped file.
    pub(super) fn mapped(&mut self) -> Option<&mut MappedWindow> {
        match &mut self.input {
            Input::Mapped(window) => Some(window),
            _ => None,
        }
    }
}

impl RecordBuffer for CaptureWindow {
    #[inline]
    fn unread(&self) -> &[u8] {
        match &self.input {
            Input::Mapped(window) => window.unread(),
            Input::File(window) => window.unread(),
            Input::Direct(window) => window.unread(),
            Input::Tee(window) => window.unread(),
            #[cfg(feature = "cli")]
            Input::Decompressed(window) => window.unread(),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.input {
            Input::Mapped(window) => window.consume(count),
            Input::File(window) => window.consume(count),
            Input::Direct(window) => window.consume(count),
            Input::Tee(window) => window.consume(count),
            #[cfg(feature = "cli")]
            Input::Decompressed(window) => window.consume(count),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let count = match &mut self.input {
            Input::Mapped(window) => window.fill()?,
            Input::File(window) => window.fill()?,
            Input::Direct(window) => window.fill()?,
            Input::Tee(window) => window.fill()?,
            #[cfg(feature = "cli")]
            Input::Decompressed(window) => return window.fill(),
        };
        self.counters[self.shard].fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    #[inline]
    fn is_cut(&self) -> bool {
        matches!(&self.input, Input::Mapped(window) if window.is_cut())
    }
}

/// A reader of a file that others read, too.
#[derive(Debug)]
struct SharedFile {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let here = self.end.saturating_sub(self.at).min(buffer.len() as u64) as usize;
        let count = self.file.read_at(&mut buffer[..here], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// An input of which the first bytes were read.
#[derive(Debug)]
pub(super) struct Begun {
    bytes: Bytes,
    /// The first bytes of the capture.
    prefix: Vec<u8>,
    format: Format,
    /// The size of a regular file; `None` for a stream.
    size_bytes: Option<u64>,
    counters: Counters,
}

/// Where the rest of the capture is.
#[derive(Debug)]
enum Bytes {
    Plain(File),
    #[cfg(feature = "cli")]
    Compressed(super::decompress::Decompressor<Box<dyn Read + Send>>),
}

/// Reads the first bytes of `file`, a regular file of `size_bytes` or a stream, and recognises
/// compression and format. Errors call it `input`.
pub(super) fn begin(
    mut file: File,
    size_bytes: Option<u64>,
    input: &str,
    counters: &Counters,
) -> Result<Begun, CaptureOpenError> {
    let prefix = read_prefix(&mut file, input)?;
    let counters = Arc::clone(counters);
    #[cfg(feature = "cli")]
    if let Some(compression) = super::decompress::Compression::detect(&prefix) {
        let rest_bytes =
            size_bytes.map_or(u64::MAX, |size| size.saturating_sub(prefix.len() as u64));
        let packed = io::Cursor::new(prefix).chain(file.take(rest_bytes));
        let packed: Box<dyn Read + Send> =
            Box::new(Counted { reader: packed, counters: Arc::clone(&counters) });
        let mut bytes = super::decompress::Decompressor::new(compression, packed)
            .map_err(|error| CaptureOpenError::io(input, error))?;
        let prefix = read_prefix(&mut bytes, input)?;
        let format = Format::detect(&prefix, input)?;
        return Ok(Begun { bytes: Bytes::Compressed(bytes), prefix, format, size_bytes, counters });
    }
    let format = Format::detect(&prefix, input)?;
    Ok(Begun { bytes: Bytes::Plain(file), prefix, format, size_bytes, counters })
}

/// Counts bytes that were read for all shards.
fn count(counters: &[AtomicU64], bytes: usize) {
    for counter in counters {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A reader that counts for all shards.
#[cfg(feature = "cli")]
struct Counted<R> {
    reader: R,
    counters: Counters,
}

#[cfg(feature = "cli")]
impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read_count = self.reader.read(buffer)?;
        count(&self.counters, read_count);
        Ok(read_count)
    }
}

impl Begun {
    /// A window for every shard, each behind the file header, and the format of the capture.
    ///
    /// A regular file is mapped, or read if it cannot be mapped. Several shards may walk a map for
    /// each other. A stream is read by the shard
    /// itself if there is only one. Otherwise a thread reads it for all shards. A thread
    /// decompresses, too: it does so once for all shards, and beside them.
    pub(super) fn split(
        self,
        read_bytes: usize,
    ) -> (Vec<CaptureWindow>, Format, Option<Arc<Walk>>) {
        let Begun { bytes, prefix, format, size_bytes, counters } = self;
        let shard_count = counters.len();
        let header_bytes = format.header_bytes().min(prefix.len());
        let unread = &prefix[header_bytes..];
        let tees = |reader: Box<dyn Read + Send>| {
            let tees = tee::split(reader, read_bytes, shard_count as u16);
            tees.into_iter().map(|tee| Window::new(tee, read_bytes, unread))
        };
        let mut walk = None;
        let inputs: Vec<Input> = match (bytes, size_bytes) {
            #[cfg(feature = "cli")]
            (Bytes::Compressed(bytes), _) => {
                tees(Box::new(bytes)).map(Input::Decompressed).collect()
            }
            (Bytes::Plain(file), Some(size)) => {
                if let Ok(map) = file.try_clone().and_then(|file| FileMap::new(file, size)) {
                    count(&counters, header_bytes);
                    let map = Arc::new(map);
                    let is_alone = shard_count == 1;
                    let window =
                        || MappedWindow::new(Arc::clone(&map), read_bytes, header_bytes, is_alone);
                    let windows: Vec<_> = (0..shard_count).map(|_| window()).collect();
                    let windows_alike = windows.first().filter(|_| !is_alone);
                    walk = windows_alike.and_then(|window| window.walk(&format, shard_count));
                    windows.into_iter().map(Input::Mapped).collect()
                } else {
                    count(&counters, prefix.len());
                    let (file, at) = (Arc::new(file), prefix.len() as u64);
                    let reader = || SharedFile { file: Arc::clone(&file), at, end: size };
                    let window = || Window::new(reader(), read_bytes, unread);
                    (0..shard_count).map(|_| Input::File(window())).collect()
                }
            }
            (Bytes::Plain(file), None) if shard_count == 1 => {
                count(&counters, prefix.len());
                vec![Input::Direct(Window::new(DirectReader::new(file), read_bytes, unread))]
            }
            (Bytes::Plain(file), None) => {
                count(&counters, prefix.len());
                tees(Box::new(file)).map(Input::Tee).collect()
            }
        };
        let windows = inputs.into_iter().enumerate();
        let windows = windows.map(|(shard, input)| CaptureWindow {
            input,
            counters: Arc::clone(&counters),
            shard,
        });
        (windows.collect(), format, walk)
    }
}
