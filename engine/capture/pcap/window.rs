//! The bytes of a capture that came and were not walked yet.

use std::io::{self, Read};
use std::sync::Arc;

use super::step::RECORD_BYTES_MAX;
use crate::sys::file_map::FileMap;

/// A window is never smaller, so that any record header fits.
const WINDOW_BYTES_MIN: usize = 64;

/// Where a source has the bytes of its capture from.
pub trait RecordBuffer {
    /// What came and was not consumed.
    fn unread(&self) -> &[u8];

    /// Gives up the first `count` bytes of what is unread.
    fn consume(&mut self, count: usize);

    /// Brings more behind what is unread, and says how many bytes came; 0 is the end.
    ///
    /// # Errors
    /// Those of [`Read::read`].
    fn fill(&mut self) -> io::Result<usize>;

    /// What is unread cannot be trusted any more: the file was cut while it was looked at.
    fn is_cut(&self) -> bool {
        false
    }
}

/// A buffer that is filled by large reads at its end and consumed at its front.
#[derive(Debug)]
pub struct Window<R> {
    reader: R,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R> Window<R> {
    /// A window for reads of `read_bytes` from `reader` that begins with `unread`.
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
    /// A window that is full of one unfinished record doubles. The walker refuses records beyond
    /// [`RECORD_BYTES_MAX`] before it asks for more, so it ends at twice that at the latest.
    fn fill(&mut self) -> io::Result<usize> {
        // The unfinished record moves to the front: at most once a fill, and not at all while it
        // stands there.
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

/// A mapped file, of which a step more is looked at with each fill. Nothing is copied, and pages of
/// which nobody looks at a byte are not even mapped.
#[derive(Debug)]
pub struct MappedWindow {
    map: Arc<FileMap>,
    step_bytes: usize,
    start: usize,
    end: usize,
}

impl MappedWindow {
    /// From byte `start` of `map` on.
    pub(super) fn new(map: Arc<FileMap>, step_bytes: usize, start: usize) -> MappedWindow {
        MappedWindow { map, step_bytes: step_bytes.max(WINDOW_BYTES_MIN), start, end: start }
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
