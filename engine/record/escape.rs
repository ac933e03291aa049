//! Bytes from the wire → the inside of a JSON string (RFC 8259 section 7), and base64 (RFC 4648).
//!
//! Nearly every value on the wire is plain ASCII without quotes. So only one question must be fast,
//! whether there is anything to escape: [`plain_len`] answers it sixteen bytes at a time.
//! Everything else is processed byte by byte with a table.

use crate::printable::is_unsafe;
use crate::simd::{LANES, unplain};

/// U+FFFD, which replaces bytes that are not UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Whether a byte needs an escape in a JSON string, or may be the first of an [unsafe](is_unsafe)
/// character.
const fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0x7f || is_unsafe_lead(byte)
}

/// Whether unsafe characters beyond ASCII begin with this byte: U+0080 to U+009F, U+061C, and those
/// from U+200E on.
const fn is_unsafe_lead(byte: u8) -> bool {
    matches!(byte, 0xc2 | 0xd8 | 0xe2)
}

/// [`is_escaped`] for each byte.
static ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_escaped(byte as u8);
        byte += 1;
    }
    table
};

/// The number of bytes at the start of `value` that are plain: ASCII, and unchanged in a JSON
/// string.
#[inline]
pub fn plain_len(value: &[u8]) -> usize {
    let (blocks, tail) = value.as_chunks::<LANES>();
    for (index, block) in blocks.iter().enumerate() {
        let odd = unplain(block);
        if odd != 0 {
            return index * LANES + odd.trailing_zeros() as usize;
        }
    }
    // The tail is read together with the bytes before it, which are known to be plain.
    if let Some(last) = value.last_chunk::<LANES>() {
        let odd = unplain(last);
        let plain = if odd == 0 { LANES } else { odd.trailing_zeros() as usize };
        return value.len() - LANES + plain;
    }
    if let (Some(first), Some(last)) = (tail.first_chunk::<8>(), tail.last_chunk::<8>()) {
        let mut block = [0; LANES];
        block[..8].copy_from_slice(first);
        block[8..].copy_from_slice(last);
        return match unplain(&block).trailing_zeros() as usize {
            at if at < 8 => at,
            at => value.len() + at.min(LANES) - LANES,
        };
    }
    let is_plain = |byte: &u8| !ESCAPED[*byte as usize] && *byte < 0x80;
    tail.iter().position(|byte| !is_plain(byte)).unwrap_or(value.len())
}

/// Whether line ends followed by white space are shown as one space (obs-fold, RFC 9112 section
/// 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fold {
    /// In header values.
    Space,
    /// In start lines, where obs-folds do not exist.
    Keep,
}

/// The length of the obs-fold at the start of `bytes`: CR LF or LF, then at least one space or tab.
fn fold_len(bytes: &[u8]) -> Option<usize> {
    let line_end = match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => return None,
    };
    let white = bytes[line_end..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    (white > 0).then_some(line_end + white)
}

/// Appends `value` to `out` as the inside of a JSON string, in at most `limit_bytes`. Cuts only
/// between characters, never inside an escape. U+FFFD replaces bytes that are not UTF-8. Returns
/// how many bytes of `value` are shown.
pub fn append_escaped(value: &[u8], fold: Fold, limit_bytes: usize, out: &mut Vec<u8>) -> usize {
    let stop = out.len() + limit_bytes;
    let mut shown = 0;
    for chunk in value.utf8_chunks() {
        let valid = chunk.valid();
        let taken = append_valid(valid, fold, stop - out.len(), out);
        shown += taken;
        if taken < valid.len() {
            return shown;
        }
        if !chunk.invalid().is_empty() {
            if stop - out.len() < REPLACEMENT.len() {
                return shown;
            }
            out.extend_from_slice(REPLACEMENT);
            shown += chunk.invalid().len();
        }
    }
    shown
}

/// Appends all of `text` as the inside of a JSON string.
pub fn append_json_text(text: &str, out: &mut Vec<u8>) {
    // The longest escape, `\u001f`, is for one byte.
    let limit_bytes = 6 * text.len();
    append_valid(text, Fold::Keep, limit_bytes, out);
}

/// [`append_escaped`] for UTF-8.
fn append_valid(text: &str, fold: Fold, limit_bytes: usize, out: &mut Vec<u8>) -> usize {
    let bytes = text.as_bytes();
    let stop = out.len() + limit_bytes;
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let mut run = plain_len(rest);
        run += rest[run..].iter().take_while(|byte| !ESCAPED[**byte as usize]).count();
        let free_bytes = stop - out.len();
        if run > free_bytes {
            let mut cut = at + free_bytes;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            out.extend_from_slice(&bytes[at..cut]);
            return cut;
        }
        out.extend_from_slice(&rest[..run]);
        at += run;
        let Some(&byte) = bytes.get(at) else { return at };
        let free_bytes = free_bytes - run;
        let (escape, taken): (&[u8], usize) = match (byte, fold) {
            (b'"', _) => (b"\\\"", 1),
            (b'\\', _) => (b"\\\\", 1),
            (b'\r' | b'\n', Fold::Space) => match fold_len(&bytes[at..]) {
                Some(folded) => (b" ", folded),
                None => (&unicode_escape(char::from(byte)), 1),
            },
            (0x80.., _) => match text[at..].chars().next() {
                Some(unsafe_one) if is_unsafe(unsafe_one) => {
                    (&unicode_escape(unsafe_one), unsafe_one.len_utf8())
                }
                other => {
                    let len = other.map_or(1, char::len_utf8);
                    (&bytes[at..at + len], len)
                }
            },
            _ => (&unicode_escape(char::from(byte)), 1),
        };
        if escape.len() > free_bytes {
            return at;
        }
        out.extend_from_slice(escape);
        at += taken;
    }
}

/// `\uXXXX`. No unsafe character is beyond U+FFFF.
fn unicode_escape(character: char) -> [u8; 6] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u32| DIGITS[(u32::from(character) >> shift & 15) as usize];
    [b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]
}

/// Appends `value` in standard base64 with padding (RFC 4648 section 4), in at most `limit_bytes`.
/// A longer value is cut to whole groups of three bytes. Returns how many bytes of `value` are
/// encoded.
pub fn append_base64(value: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> usize {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32, shift: u32| ALPHABET[(bits >> shift & 63) as usize];
    let taken = value.len().min(limit_bytes / 4 * 3);
    let (groups, rest) = value[..taken].as_chunks::<3>();
    for &[a, b, c] in groups {
        let bits = u32::from_be_bytes([0, a, b, c]);
        out.extend_from_slice(&[digit(bits, 18), digit(bits, 12), digit(bits, 6), digit(bits, 0)]);
    }
    match *rest {
        [a] => {
            let bits = u32::from_be_bytes([0, a, 0, 0]);
            out.extend_from_slice(&[digit(bits, 18), digit(bits, 12), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, a, b, 0]);
            out.extend_from_slice(&[digit(bits, 18), digit(bits, 12), digit(bits, 6), b'=']);
        }
        _ => {}
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Characters beyond the controls that are escaped.
    const NOT_SHOWN: &str = "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\
        \u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";

    /// The obvious implementation: character by character, without limit or runs.
    fn naive(value: &[u8], fold: Fold) -> String {
        let text = String::from_utf8_lossy(value);
        let characters: Vec<char> = text.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        while at < characters.len() {
            let line_end = match characters[at..] {
                ['\r', '\n', ' ' | '\t', ..] => 2,
                ['\n', ' ' | '\t', ..] => 1,
                _ => 0,
            };
            if line_end > 0 && fold == Fold::Space {
                at += line_end;
                while matches!(characters.get(at), Some(' ' | '\t')) {
                    at += 1;
                }
                out.push(' ');
                continue;
            }
            match characters[at] {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                control @ ('\0'..='\x1f' | '\x7f'..='\u{9f}') => {
                    out.push_str(&format!("\\u{:04x}", control as u32));
                }
                unsafe_one if NOT_SHOWN.contains(unsafe_one) => {
                    out.push_str(&format!("\\u{:04x}", unsafe_one as u32));
                }
                other => out.push(other),
            }
            at += 1;
        }
        out
    }

    /// Bytes in which all special cases are frequent.
    fn mixed_bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => "[ -~]{0,20}".prop_map(String::into_bytes),
            1 => Just(b"\r\n ".to_vec()),
            1 => Just(b"\n\t  ".to_vec()),
            1 => Just("\u{80}\u{9f}\u{a0}\u{bf}".as_bytes().to_vec()),
            1 => Just("é漢\u{1f600}\u{2028}\u{d8}\u{e2}€–\u{61b}\u{2010}".as_bytes().to_vec()),
            1 => prop::sample::select(NOT_SHOWN.chars().collect::<Vec<_>>())
                .prop_map(|it| it.to_string().into_bytes()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn plain_len_matches_naive(value in mixed_bytes()) {
            let is_plain = |byte: &u8| byte.is_ascii() && !is_escaped(*byte);
            let naive = value.iter().take_while(|byte| is_plain(byte)).count();
            prop_assert_eq!(plain_len(&value), naive);
        }

        #[test]
        fn escaping_matches_naive(value in mixed_bytes(), is_folded in any::<bool>()) {
            let fold = if is_folded { Fold::Space } else { Fold::Keep };
            let mut out = Vec::new();
            prop_assert_eq!(append_escaped(&value, fold, usize::MAX >> 1, &mut out), value.len());
            prop_assert_eq!(String::from_utf8(out).unwrap(), naive(&value, fold));
        }

        #[test]
        fn a_cut_is_a_prefix_within_its_limit(value in mixed_bytes(), limit_bytes in 0_usize..80) {
            let mut whole = Vec::new();
            append_escaped(&value, Fold::Space, usize::MAX >> 1, &mut whole);
            let mut cut = Vec::new();
            let shown = append_escaped(&value, Fold::Space, limit_bytes, &mut cut);
            prop_assert!(cut.len() <= limit_bytes);
            prop_assert!(whole.starts_with(&cut));
            prop_assert_eq!(shown == value.len(), whole.len() <= limit_bytes);
            let quoted = format!("\"{}\"", std::str::from_utf8(&cut).unwrap());
            prop_assert!(serde_json::from_str::<String>(&quoted).is_ok());
            // Nothing is cut that would fit: no escape or character is longer than 6 bytes.
            prop_assert!(shown == value.len() || cut.len() + 6 > limit_bytes);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes under Miri")]
    fn each_character_is_escaped_as_by_the_naive() {
        for character in '\0'..='\u{ffff}' {
            let value = character.to_string();
            let mut out = Vec::new();
            append_escaped(value.as_bytes(), Fold::Keep, usize::MAX >> 1, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), naive(value.as_bytes(), Fold::Keep));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes under Miri")]
    fn plain_len_finds_each_special_byte_at_each_place() {
        for len in 0..40 {
            for place in 0..len {
                for byte in 0..=255_u8 {
                    let mut value = vec![b'a'; len];
                    value[place] = byte;
                    let is_plain = byte.is_ascii() && !is_escaped(byte);
                    assert_eq!(plain_len(&value), if is_plain { len } else { place });
                }
            }
        }
    }

    #[test]
    fn base64_of_rfc_4648_section_10() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in vectors {
            let mut out = Vec::new();
            assert_eq!(append_base64(plain.as_bytes(), 100, &mut out), plain.len());
            assert_eq!(out, coded.as_bytes());
        }
        let mut out = Vec::new();
        assert_eq!(append_base64(b"foobarbaz", 10, &mut out), 6);
        assert_eq!(out, b"Zm9vYmFy");
    }
}
