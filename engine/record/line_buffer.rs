//! [`LineBuffer`]: writes a line into memory that is there already. A vector asks for room with
//! every piece and keeps its length in memory; a buffer keeps its place in a register, and copies
//! whole words and blocks of which only the first bytes are meant: what it writes next covers the
//! rest.

use crate::record::digits::{eight_digits, three_digits};
use crate::simd::{LANES, last_block, unplain};

/// Bytes of the longest line there can be.
pub const LINE_BYTES_MAX: usize = 1 << 15;

/// Bytes behind the longest line that a buffer may write to: no more than so many at once.
const MARGIN_BYTES: usize = 256;

/// What a line is written on.
pub type LineMemory = [u8; LINE_BYTES_MAX + MARGIN_BYTES];

/// Memory for a line.
#[cold]
pub fn blank_line() -> Box<LineMemory> {
    Box::new([0; LINE_BYTES_MAX + MARGIN_BYTES])
}

/// The least number that has more than eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

/// A place in a memory. Who writes more than [`LINE_BYTES_MAX`] begins at the front again: that
/// makes a wrong line, which the account of `json.rs` rules out, but needs no check with every
/// piece.
#[derive(Debug)]
pub struct LineBuffer<'a> {
    memory: &'a mut LineMemory,
    at: usize,
}

impl<'a> LineBuffer<'a> {
    /// At the beginning of `memory`.
    #[inline(always)]
    pub fn new(memory: &'a mut LineMemory) -> LineBuffer<'a> {
        LineBuffer { memory, at: 0 }
    }

    /// What was written.
    #[inline(always)]
    pub fn line(&self) -> &[u8] {
        &self.memory[..self.at]
    }

    /// The next `N` bytes of the memory, to be written on.
    #[inline(always)]
    fn place<const N: usize>(&mut self, ahead_bytes: usize) -> &mut [u8; N] {
        const { assert!(N <= MARGIN_BYTES) };
        debug_assert!(self.at + ahead_bytes < LINE_BYTES_MAX);
        let at = (self.at + ahead_bytes) & (LINE_BYTES_MAX - 1);
        // Never fails, which the compiler sees.
        self.memory[at..].first_chunk_mut().unwrap_or_else(|| unreachable!())
    }

    /// Bytes as they are. Cheap where their number is known when this is compiled.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let at = self.at & (LINE_BYTES_MAX - 1);
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// The first `len` bytes of `bytes`.
    #[inline(always)]
    pub fn put_first<const N: usize>(&mut self, bytes: &[u8; N], len: usize) {
        *self.place(0) = *bytes;
        self.at += len;
    }

    /// The first `len` bytes of `rest`, all of them plain; else nothing is written, and the answer
    /// is false.
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

    /// The last block of a plain text of `len` bytes begins behind `done` of them, and of its bytes
    /// `odd` are not plain. Those behind the text do not count.
    #[inline(always)]
    fn end_plain(&mut self, odd: u32, done: usize, len: usize) -> bool {
        let is_plain = odd & ((1 << (len - done)) - 1) == 0;
        if is_plain {
            self.at += len;
        }
        is_plain
    }

    /// `value` in decimal.
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

    /// Up to eight digits, without the zeros before the first other one.
    #[inline(always)]
    fn leading_digits(&mut self, value: u32) {
        let digits = eight_digits(value);
        // '0' is 0x30: what is left of a digit is its value.
        let zeros = ((digits & 0x0f0f_0f0f_0f0f_0f0f).trailing_zeros() / 8).min(7);
        self.put_first(&(digits >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize);
    }
}

/// The digits above the last eight, and those between them and the last eight.
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
