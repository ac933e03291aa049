//! [`append_line`]: writes a line into the unused capacity of a vector. A vector checks its
//! capacity for every piece and keeps its length in memory. A [`LineBuffer`] keeps its position in
//! a register, and copies whole words and blocks of which only the first bytes are wanted: the next
//! write overwrites the rest.

use crate::simd::{LANES, copy_plain, last_block, unplain};
use std::mem::MaybeUninit;

/// The length of the longest possible line.
pub const LINE_BYTES_MAX: usize = 1 << 14;

/// Bytes behind the longest line that may be written to. A single write is at most this long.
const MARGIN_BYTES: usize = 256;

/// The capacity that a line needs.
pub const LINE_SPARE_BYTES: usize = LINE_BYTES_MAX + MARGIN_BYTES;

/// A write position in the memory of a line. Beyond [`LINE_BYTES_MAX`] it wraps to the front, so
/// that no write needs a check; such a line is never appended.
///
/// Invariant: if `at` is at most [`LINE_BYTES_MAX`], that many bytes of `memory` have been written.
/// Every write begins at `at`, is at least as long as `at` grows by, and `at` only grows.
#[derive(Debug)]
pub struct LineBuffer<'a> {
    memory: &'a mut [MaybeUninit<u8>; LINE_SPARE_BYTES],
    at: usize,
}

/// Appends to `out` what `write` writes. The capacity grows if it has less than
/// [`LINE_SPARE_BYTES`] left.
///
/// # Panics
/// If the line is longer than [`LINE_BYTES_MAX`].
#[inline(always)]
pub fn append_line(out: &mut Vec<u8>, write: impl FnOnce(&mut LineBuffer<'_>)) {
    out.reserve(LINE_SPARE_BYTES);
    let memory = out.spare_capacity_mut().first_chunk_mut();
    let mut buffer = LineBuffer { memory: memory.unwrap_or_else(|| unreachable!()), at: 0 };
    write(&mut buffer);
    let len_bytes = buffer.at;
    assert!(len_bytes <= LINE_BYTES_MAX, "a line of {len_bytes} bytes");
    // SAFETY: the capacity is there, and so many bytes of it were written (see the invariant).
    unsafe { out.set_len(out.len() + len_bytes) };
}

impl LineBuffer<'_> {
    /// The memory from `ahead_bytes` behind the position on: at least a margin.
    #[inline(always)]
    fn rest(&mut self, ahead_bytes: usize) -> &mut [MaybeUninit<u8>] {
        debug_assert!(self.at + ahead_bytes < LINE_BYTES_MAX);
        &mut self.memory[(self.at + ahead_bytes) & (LINE_BYTES_MAX - 1)..]
    }

    /// Writes `N` bytes that are `ahead_bytes` behind the position.
    #[inline(always)]
    fn store<const N: usize>(&mut self, ahead_bytes: usize, bytes: &[u8; N]) {
        const { assert!(N <= MARGIN_BYTES) };
        // Never fails, and the compiler can tell.
        let place: &mut [MaybeUninit<u8>; N] =
            self.rest(ahead_bytes).first_chunk_mut().unwrap_or_else(|| unreachable!());
        // SAFETY: both have `N` bytes, and a unique reference overlaps with no other.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_mut_ptr().cast(), N) };
    }

    /// Appends bytes. Cheap if their number is known at compile time.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let place = &mut self.rest(0)[..bytes.len()];
        // SAFETY: as above.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_mut_ptr().cast(), bytes.len());
        }
        self.at += bytes.len();
    }

    /// Appends the first `len` bytes of `bytes`, which has so many.
    #[inline(always)]
    pub fn put_first<const N: usize>(&mut self, bytes: &[u8; N], len: usize) {
        debug_assert!(len <= N);
        self.store(0, bytes);
        self.at += len.min(N);
    }

    /// Appends the first `len` bytes of `rest` if all of them are plain. Otherwise appends nothing
    /// and returns false.
    #[inline(always)]
    pub fn put_plain(&mut self, rest: &[u8], len: usize) -> bool {
        let (mut last, mut done, mut odd) = (rest, 0, 0);
        if len > LANES {
            done = (len - 1) / LANES * LANES;
            let Some((blocks, behind)) = rest.split_at_checked(done) else { return false };
            let Some(place) = self.rest(0).get_mut(..done) else { return false };
            odd = copy_plain(blocks.as_chunks().0, place.as_chunks_mut().0);
            last = behind;
        }
        let padded;
        let block = match last.first_chunk() {
            Some(block) => block,
            None => {
                padded = last_block(last);
                &padded
            }
        };
        self.store(done, block);
        // Bytes behind the text do not count.
        let is_plain = odd | unplain(block) & ((1 << (len - done)) - 1) == 0;
        if is_plain {
            self.at += len;
        }
        is_plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_not_appended() {
        let mut out = b"before".to_vec();
        append_line(&mut out, |buffer| {
            (0..LINE_BYTES_MAX / 16).for_each(|_| buffer.put(&[b'a'; 16]));
        });
        assert_eq!(out.len(), 6 + LINE_BYTES_MAX);
        let long = std::panic::catch_unwind(move || {
            append_line(&mut out, |buffer| buffer.at = LINE_BYTES_MAX + 1);
        });
        assert!(long.is_err());
    }
}
