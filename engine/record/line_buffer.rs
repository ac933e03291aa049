//! [`LineBuffer`]: writes a line into preallocated memory. A vector checks its capacity for every
//! piece and keeps its length in memory. This buffer keeps its position in a register, and copies
//! whole words and blocks of which only the first bytes are wanted: the next write overwrites the
//! rest.

use crate::record::digits::{eight_digits, three_digits};
use crate::simd::{LANES, last_block, unplain};

/// The length of the longest possible line.
pub const LINE_BYTES_MAX: usize = 1 << 15;

/// Bytes behind the longest line that may be written to. A single write is at most this long.
const MARGIN_BYTES: usize = 256;

/// The memory of a line.
pub type LineMemory = [u8; LINE_BYTES_MAX + MARGIN_BYTES];

/// Allocates the memory of a line.
#[cold]
pub fn blank_line() -> Box<LineMemory> {
    Box::new([0; LINE_BYTES_MAX + MARGIN_BYTES])
}

/// The smallest number with more than eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

/// A write position in the memory of a line. After more than [`LINE_BYTES_MAX`] bytes it wraps to
/// the front. That would produce a wrong line, but the byte budget of the JSON format rules it out,
/// and no write needs a check.
#[derive(Debug)]
pub struct LineBuffer<'a> {
    memory: &'a mut LineMemory,
    at: usize,
}

impl<'a> LineBuffer<'a> {
    /// Starts at the beginning of `memory`.
    #[inline(always)]
    pub fn new(memory: &'a mut LineMemory) -> LineBuffer<'a> {
        LineBuffer { memory, at: 0 }
    }

    /// The line so far.
    #[inline(always)]
    pub fn line(&self) -> &[u8] {
        &self.memory[..self.at]
    }

    /// The `N` bytes of memory that are `ahead_bytes` behind the position.
    #[inline(always)]
    fn place<const N: usize>(&mut self, ahead_bytes: usize) -> &mut [u8; N] {
        const { assert!(N <= MARGIN_BYTES) };
        debug_assert!(self.at + ahead_bytes < LINE_BYTES_MAX);
        let at = (self.at + ahead_bytes) & (LINE_BYTES_MAX - 1);
        // Never fails, and the compiler can tell.
        self.memory[at..].first_chunk_mut().unwrap_or_else(|| unreachable!())
    }

    /// Appends bytes. Cheap if their number is known at compile time.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let at = self.at & (LINE_BYTES_MAX - 1);
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Appends the first `len` bytes of `bytes`.
    #[inline(always)]
    pub fn put_first<const N: usize>(&mut self, bytes: &[u8; N], len: usize) {
        *self.place(0) = *bytes;
        self.at += len;
    }

    /// Appends the first `len` bytes of `rest` if all of them are plain. Otherwise appends nothing
    /// and returns false.
    #[inline(always)]
    pub fn put_plain(&mut self, mut rest: &[u8], len: usize) -> bool {
        let mut done = 0;
        while let Some((block, behind)) = rest.split_first_chunk::<LANES>() {
            *self.place(done) = *block;
            let odd = unplain(block);
            if len - done <= LANES {
                return self.end_plain(odd, done, len);
            }
            if odd != 0 {
                return false;
            }
            (rest, done) = (behind, done + LANES);
        }
        let block = last_block(rest);
        *self.place(done) = block;
        self.end_plain(unplain(&block), done, len)
    }

    /// Ends a plain text of `len` bytes. Its last block begins after `done` of them; the bits of
    /// `odd` mark bytes of that block that are not plain. Those behind the text do not count.
    #[inline(always)]
    fn end_plain(&mut self, odd: u32, done: usize, len: usize) -> bool {
        let is_plain = odd & ((1 << (len - done)) - 1) == 0;
        if is_plain {
            self.at += len;
        }
        is_plain
    }

    /// Appends `value` in decimal.
    #[inline(always)]
    pub fn decimal(&mut self, value: u64) {
        if value < 1000 {
            let (digits, len) = three_digits(value as u32);
            self.put_first(&digits, len);
        } else if value < EIGHT_DIGITS {
            self.leading_digits(value as u32);
        } else {
            let (high, middle) = above_eight_digits(value);
            self.leading_digits(high);
            if let Some(middle) = middle {
                self.put(&eight_digits(middle).to_le_bytes());
            }
            self.put(&eight_digits((value % EIGHT_DIGITS) as u32).to_le_bytes());
        }
    }

    /// Appends up to eight digits, without leading zeros.
    #[inline(always)]
    fn leading_digits(&mut self, value: u32) {
        let digits = eight_digits(value);
        // '0' is 0x30, so the low four bits of a digit are its value.
        let zeros = ((digits & 0x0f0f_0f0f_0f0f_0f0f).trailing_zeros() / 8).min(7);
        self.put_first(&(digits >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize);
    }
}

/// The digits above the last eight. If these are more than eight, they are split: the highest ones,
/// and the eight below.
#[cold]
#[inline(never)]
fn above_eight_digits(value: u64) -> (u32, Option<u32>) {
    let high = value / EIGHT_DIGITS;
    if high < EIGHT_DIGITS {
        (high as u32, None)
    } else {
        ((high / EIGHT_DIGITS) as u32, Some((high % EIGHT_DIGITS) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::escape::plain_len;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut LineBuffer<'_>)) -> Vec<u8> {
        let mut memory = [0xaa; LINE_BYTES_MAX + MARGIN_BYTES];
        let mut buffer = LineBuffer::new(&mut memory);
        write(&mut buffer);
        buffer.line().to_vec()
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_std(value: u64, shift in 0..64_u32) {
            let value = value >> shift;
            let found = written(|buffer| buffer.decimal(value));
            prop_assert_eq!(String::from_utf8(found).unwrap(), value.to_string());
        }

        #[test]
        fn plain_texts_are_copied_and_others_are_not(
            text in prop::collection::vec(
                prop_oneof![20 => 0x20..0x7f_u8, 1 => any::<u8>()], 0..80),
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let rest = [&text[..], &behind[..]].concat();
            let mut is_plain = false;
            let found = written(|buffer| {
                buffer.put(b"<");
                is_plain = buffer.put_plain(&rest, text.len());
                buffer.put(b">");
            });
            prop_assert_eq!(is_plain, plain_len(&text) == text.len());
            let wanted = if is_plain { &text[..] } else { &[] };
            prop_assert_eq!(found, [b"<", wanted, b">"].concat());
        }
    }

    #[test]
    fn numbers_at_each_bound() {
        for digits in 0..20 {
            let bound = 10_u64.pow(digits);
            for value in [bound - 1, bound, bound + 1] {
                assert_eq!(written(|buffer| buffer.decimal(value)), value.to_string().as_bytes());
            }
        }
        assert_eq!(written(|buffer| buffer.decimal(u64::MAX)), u64::MAX.to_string().as_bytes());
    }
}
