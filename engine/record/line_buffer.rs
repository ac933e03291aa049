//! The line of a record while it is written: a [`LineBuffer`], and numbers in it.

use crate::record::digits::{eight_digits, three_digits};

pub use crate::line_memory::{LINE_BYTES_MAX, LineBuffer, append_line};

/// The smallest number with more than eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

impl LineBuffer<'_> {
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
        let mut out = b"{".to_vec();
        append_line(&mut out, write);
        out.split_off(1)
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
