//! What breaks a line: HTTP/2 could carry CR, LF and NUL in a name or value, and must not (RFC 9113
//! section 8.2.1).

use super::buffer::Buffer;
use super::hpack::has_control;
use memchr::memchr3;

/// Appends `value` so that it can break neither a line nor a head. Returns whether anything in it
/// would.
#[inline]
pub(super) fn append_line_safe(value: &[u8], out: &mut Buffer) -> bool {
    if has_break(value) {
        append_without_breaks(value, out);
        return true;
    }
    out.put(value);
    false
}

#[cold]
fn append_without_breaks(value: &[u8], out: &mut Buffer) {
    let mut rest = value;
    while let Some(at) = memchr3(b'\r', b'\n', 0, rest) {
        out.put(&rest[..at]);
        // The Unicode block of control pictures has their order.
        out.put(&[0xe2, 0x90, 0x80 + rest[at]]);
        rest = &rest[at + 1..];
    }
    out.put(rest);
}

/// Whether it is a binary field of gRPC: peers that have agreed on it send the bytes as they are,
/// with a NUL in front.
pub(super) fn is_binary(name: &[u8], value: &[u8]) -> bool {
    name.ends_with(b"-bin") && value.starts_with(&[0])
}

/// Whether a name or value has a CR, LF or NUL.
#[inline]
pub(super) fn has_break(text: &[u8]) -> bool {
    has_control(text) && memchr3(b'\r', b'\n', 0, text).is_some()
}

#[cfg(test)]
mod tests {
    use super::has_break;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn breaks_are_found_wherever_they_are(
            mut text in prop::collection::vec(0x20..=0xff_u8, 0..40),
            at: prop::sample::Index,
            byte in 0..0x21_u8,
        ) {
            prop_assert!(!has_break(&text));
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = byte;
                prop_assert_eq!(has_break(&text), [b'\r', b'\n', 0].contains(&byte));
            }
        }
    }
}
