//! `HTTP2-Settings`: the client's SETTINGS in a request with `Upgrade: h2c`, as base64url (RFC 7540
//! section 3.2.1).

use memchr::memchr_iter;

/// The name of the header, in lower case.
const NAME: &[u8] = b"http2-settings";

/// A longer header is not read. There are six settings, of six bytes each.
const VALUE_BYTES_MAX: usize = 1024;

/// The payload of the SETTINGS in the head of a request of HTTP/1.1. Empty if there are none.
pub(super) fn settings(head: &[u8]) -> Vec<u8> {
    let mut start = 0;
    for end in memchr_iter(b'\n', head) {
        let line = &head[start..end];
        start = end + 1;
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let value = value.trim_ascii();
        if name.trim_ascii().eq_ignore_ascii_case(NAME) && value.len() <= VALUE_BYTES_MAX {
            return decode(value);
        }
    }
    Vec::new()
}

/// Base64url (RFC 4648 section 5), up to the first other character.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut bit_count) = (0_u32, 0);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(digit);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            out.push((bits >> bit_count) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::settings;

    #[test]
    fn the_settings_of_an_upgrade() {
        let head =
            |value: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: {value}\r\n\r\n");
        let expected = [0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 255, 255];
        assert_eq!(settings(head("AAMAAABkAAQAAP__").as_bytes()), expected);
        assert_eq!(settings(head("AAMAAABkAAQAAP//").as_bytes()), expected);
        assert_eq!(settings(head("").as_bytes()), [0_u8; 0]);
        assert_eq!(settings(head(&"A".repeat(1025)).as_bytes()), [0_u8; 0]);
        assert_eq!(settings(b"GET / HTTP/1.1\r\n\r\n"), [0_u8; 0]);
    }
}
