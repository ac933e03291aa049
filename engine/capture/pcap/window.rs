//! The bytes of a capture that were read and not walked yet.

use std::io::{self, Read};

use super::RECORD_BYTES_MAX;

/// A window is never smaller, so that any record header fits.
const WINDOW_BYTES_MIN: usize = 64;

/// A buffer that is filled by large reads at its end and consumed at its front.
#[derive(Debug)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    /// A window for reads of `read_bytes` that begins with `unread`.
    pub(super) fn new(read_bytes: usize, unread: &[u8]) -> Window {
        let mut bytes = vec![0; read_bytes.clamp(WINDOW_BYTES_MIN, RECORD_BYTES_MAX)];
        bytes[..unread.len()].copy_from_slice(unread);
        Window { bytes, start: 0, end: unread.len() }
    }

    /// What was read and not consumed.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Gives up the first `count` bytes of what is unread.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more was consumed than was read");
    }

    /// Reads once, behind what is unread, and says how many bytes came; 0 is the reader's end.
    ///
    /// A window that is full of one unfinished record doubles. The walker refuses records beyond
    /// [`RECORD_BYTES_MAX`] before it asks for more, so it ends at twice that at the latest.
    pub(super) fn fill(&mut self, reader: &mut impl Read) -> io::Result<usize> {
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
        let count = reader.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }
}
