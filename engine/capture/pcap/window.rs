//! The bytes of a capture that were read and not walked yet.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::format::Format;
use super::step::RECORD_BYTES_MAX;
use super::walk::Walk;
use crate::sys::file_map::FileMap;

/// The minimum size of a window, so that any record header fits.
const WINDOW_BYTES_MIN: usize = 64;

/// How much of a map is unmapped at a time.
const RELEASE_BYTES: usize = 1 << 20;

/// Where a source gets the bytes of its capture from.
pub trait RecordBuffer {
    /// The bytes that were read and not consumed.
    fn unread(&self) -> &[u8];

    /// Consumes the first `count` unread bytes.
    fn consume(&mut self, count: usize);

    /// Appends more bytes to the unread ones and returns how many; 0 is the end.
    ///
    /// # Errors
    /// Those of [`Read::read`].
    fn fill(&mut self) -> io::Result<usize>;

    /// Whether the unread bytes cannot be trusted any more: the file was cut while it was read.
    fn is_cut(&self) -> bool {
        false
    }
}

/// A buffer that large reads fill at its end and that is consumed at its front.
#[derive(Debug)]
pub struct Window<R> {
    reader: R,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R> Window<R> {
    /// A window that begins with `unread` and continues with reads of `read_bytes` from `reader`.
    pub(super) fn new(reader: R, read_bytes: usize, unread: &[u8]) -> Window<R> {
        let mut bytes = vec![0; read_bytes.clamp(WINDOW_BYTES_MIN, RECORD_BYTES_MAX)];
        bytes[..unread.len()].copy_from_slice(unread);
        Window { reader, bytes, start: 0, end: unread.len() }
    }
}

impl<R: Read> RecordBuffer for Window<R> {
    #[inline]
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more was consumed than was read");
    }

    /// Reads once.
    ///
    /// If one unfinished record fills the window, the window doubles. The walker refuses records
    /// beyond [`RECORD_BYTES_MAX`] before it asks for more, so the window grows to twice that at
    /// most.
    fn fill(&mut self) -> io::Result<usize> {
        // The unfinished record moves to the front: at most once per fill, and not if it is already
        // there.
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(2 * self.bytes.len(), 0);
        }
        let count = self.reader.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }
}

/// A mapped file; each fill makes one more step of it visible. Nothing is copied, and pages that
/// are never read are not even mapped.
#[derive(Debug)]
pub struct MappedWindow {
    map: Arc<FileMap>,
    step_bytes: usize,
    start: usize,
    end: usize,
    /// Where the pages begin that are still mapped; `None` if others read the map, too.
    released_until: Option<usize>,
}

impl MappedWindow {
    /// A window that begins at byte `start` of `map`. With `is_alone` nobody else reads the map,
    /// and what was consumed is unmapped.
    pub(super) fn new(
        map: Arc<FileMap>,
        step_bytes: usize,
        start: usize,
        is_alone: bool,
    ) -> MappedWindow {
        let step_bytes = step_bytes.max(WINDOW_BYTES_MIN);
        let released_until = is_alone.then_some(0);
        MappedWindow { map, step_bytes, start, end: start, released_until }
    }

    /// The walk of `shard_count` shards over the map, of which this is a new window; each fill
    /// makes one chunk of it visible. `None` if the steps are too large for it.
    pub(super) fn walk(&self, format: &Format, shard_count: usize) -> Option<Arc<Walk>> {
        let map = Arc::clone(&self.map);
        u32::try_from(self.step_bytes).ok()?;
        Some(Walk::new(map, self.step_bytes, self.start, format, shard_count))
    }

    /// The map, from its first byte on.
    pub(super) fn map(&self) -> &[u8] {
        self.map.bytes()
    }

    /// The first byte of the map that was not consumed, and the one behind the last that was made
    /// visible.
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Consumes everything before `byte` of the map, which was made visible.
    pub(super) fn consume_until(&mut self, byte: usize) {
        self.start = byte.min(self.end);
    }
}

impl RecordBuffer for MappedWindow {
    #[inline]
    fn unread(&self) -> &[u8] {
        self.map.bytes().get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more was consumed than was there");
        if let Some(until) = self.released_until
            && self.start - until >= RELEASE_BYTES
        {
            self.map.release(until, self.start);
            self.released_until = Some(self.start);
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let there = self.map.bytes().len();
        let until = self.map.cut_bytes().map_or(there, |bytes| there.min(bytes as usize));
        let count = until.saturating_sub(self.end).min(self.step_bytes);
        self.end += count;
        Ok(count)
    }

    #[inline]
    fn is_cut(&self) -> bool {
        self.map.is_cut()
    }
}
