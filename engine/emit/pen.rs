//! [`Pen`]: writes a line into memory that is there already. A vector asks for room with every
//! piece and keeps its length in memory; a pen keeps its place in a register, and copies whole
//! words and blocks of which only the first bytes are meant: what it writes next covers the rest.

use crate::emit::digits::{eight_digits, eight_hex_digits, ipv4_text};
use crate::lanes::{LANES, unplain};

/// Bytes behind the longest line that a pen may write to.
pub const MARGIN_BYTES: usize = 2 * LANES;

/// The least number that has more than eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

/// A place in a page.
#[derive(Debug)]
pub struct Pen<'a> {
    /// From the place on.
    rest: &'a mut [u8],
    page_bytes: usize,
}

impl<'a> Pen<'a> {
    /// At the beginning of `page`, which has [`MARGIN_BYTES`] more than the line can have.
    #[inline(always)]
    pub fn new(page: &'a mut [u8]) -> Pen<'a> {
        Pen { page_bytes: page.len(), rest: page }
    }

    /// How many bytes of the page were written.
    #[inline(always)]
    pub fn written_bytes(&self) -> usize {
        self.page_bytes - self.rest.len()
    }

    /// Bytes as they are. Cheap where their number is known when this is compiled.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let (place, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.rest = rest;
    }

    /// The first `len` bytes of `bytes`.
    #[inline(always)]
    pub fn put_first<const N: usize>(&mut self, bytes: [u8; N], len: usize) {
        self.rest[..N].copy_from_slice(&bytes);
        self.advance(len);
    }

    #[inline(always)]
    fn advance(&mut self, len: usize) {
        self.rest = &mut std::mem::take(&mut self.rest)[len..];
    }

    /// The first `len` bytes of `rest`, all of them plain; else nothing is written, and the answer
    /// is false.
    #[inline(always)]
    pub fn put_plain(&mut self, mut rest: &[u8], len: usize) -> bool {
        let (mut page, mut left) = (&mut *self.rest, len);
        loop {
            let (block, behind) = match rest.split_first_chunk::<LANES>() {
                Some((block, behind)) => (*block, behind),
                None => (last_block(rest), &[][..]),
            };
            let Some((place, page_behind)) = page.split_first_chunk_mut::<LANES>() else {
                return false;
            };
            *place = block;
            if left <= LANES {
                // Bytes behind the value do not count.
                let is_plain = unplain(&block) & ((1 << left) - 1) == 0;
                if is_plain {
                    self.advance(len);
                }
                return is_plain;
            }
            if unplain(&block) != 0 {
                return false;
            }
            (rest, page, left) = (behind, page_behind, left - LANES);
        }
    }

    /// `value` in decimal.
    #[inline(always)]
    pub fn decimal(&mut self, value: u64) {
        if value < EIGHT_DIGITS {
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
        self.put_first((digits >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize);
    }

    /// `value` as 16 hexadecimal digits.
    #[inline(always)]
    pub fn hex(&mut self, value: u64) {
        self.put(&eight_hex_digits((value >> 32) as u32).to_le_bytes());
        self.put(&eight_hex_digits(value as u32).to_le_bytes());
    }

    /// An IPv4 address.
    #[inline(always)]
    pub fn ipv4(&mut self, octets: [u8; 4]) {
        let (text, len) = ipv4_text(octets);
        self.put_first(text, len);
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

/// A block that begins with `rest`, which is shorter.
#[cold]
#[inline(never)]
fn last_block(rest: &[u8]) -> [u8; LANES] {
    let mut block = [0; LANES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::escape::plain_len;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Pen<'_>)) -> Vec<u8> {
        let mut page = [0xaa; 256];
        let mut pen = Pen::new(&mut page);
        write(&mut pen);
        let len = pen.written_bytes();
        page[..len].to_vec()
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_std(value: u64, shift in 0..64_u32, octets: [u8; 4]) {
            let value = value >> shift;
            let wanted = format!("{value}|{value:016x}|{}", std::net::Ipv4Addr::from(octets));
            let found = written(|pen| {
                pen.decimal(value);
                pen.put(b"|");
                pen.hex(value);
                pen.put(b"|");
                pen.ipv4(octets);
            });
            prop_assert_eq!(String::from_utf8(found).unwrap(), wanted);
        }

        #[test]
        fn plain_texts_are_copied_and_others_are_not(
            text in prop::collection::vec(
                prop_oneof![20 => 0x20..0x7f_u8, 1 => any::<u8>()], 0..80),
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let rest = [&text[..], &behind[..]].concat();
            let mut is_plain = false;
            let found = written(|pen| {
                pen.put(b"<");
                is_plain = pen.put_plain(&rest, text.len());
                pen.put(b">");
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
                assert_eq!(written(|pen| pen.decimal(value)), value.to_string().as_bytes());
            }
        }
        assert_eq!(written(|pen| pen.decimal(u64::MAX)), u64::MAX.to_string().as_bytes());
    }
}
