//! Which payloads look like the beginning of a message. The kernel filter has the same rule.

use super::looks_like_frames;

/// CR and LF bytes that may precede a message (RFC 9112 section 2.2 asks for tolerance).
const LEADING_BREAKS_MAX: usize = 4;
/// Maximum length of a method. The longest registered one, `UPDATEREDIRECTREF`, has 17 bytes.
const TOKEN_BYTES_MAX: usize = 24;

/// Whether `payload` begins like an HTTP/1 message: up to four CR or LF bytes, and then either
/// `HTTP/` in any case, or 1 to 24 token characters (RFC 9110 section 5.6.2), one space, and a byte
/// from 0x21 on, the first of a target.
///
/// The rule is loose on purpose: a false positive costs some frames, a false negative loses an
/// exchange. A payload that ends before the rule is met does not match; the segments of an opening
/// connection pass without the rule.
///
/// The kernel filter applies this rule to connections whose SYN it saw, and the stricter one of
/// [`is_worth_joining`] to all others: `bpf/message.h`. `tests/filter.rs` compares the two.
pub fn begins_like_message(payload: &[u8]) -> bool {
    message_start(payload).is_some()
}

/// Whether to join an unknown connection at `payload`: the payload looks like frames of HTTP/2
/// ([`looks_like_frames`]), or begins like a message, and its method, if it has one, begins with
/// three capital letters or hyphens, or its target with a slash or a star. In random bytes, such as
/// encrypted ones, one segment in 600 begins with a token and a space, and one in 50,000 with such
/// a method or target as well.
pub fn is_worth_joining(payload: &[u8]) -> bool {
    let is_usual = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    let is_message = message_start(payload).is_some_and(|text| {
        is_version(text) || text.iter().take(3).all(is_usual) || is_target(text)
    });
    is_message || looks_like_frames(payload)
}

/// Whether the word behind the first space begins like a target.
fn is_target(text: &[u8]) -> bool {
    let begin = text.iter().position(|byte| *byte == b' ').and_then(|space| text.get(space + 1));
    matches!(begin, Some(b'/' | b'*'))
}

fn is_version(text: &[u8]) -> bool {
    text.get(..5).is_some_and(|version| version.eq_ignore_ascii_case(b"HTTP/"))
}

/// The payload after its leading line breaks, if it begins like a message.
fn message_start(payload: &[u8]) -> Option<&[u8]> {
    let breaks = payload.iter().take(LEADING_BREAKS_MAX).take_while(|b| is_break(**b)).count();
    let text = &payload[breaks..];
    let token_bytes = text.iter().take_while(|byte| is_token_byte(**byte)).count();
    let is_request_line = (1..=TOKEN_BYTES_MAX).contains(&token_bytes)
        && text.get(token_bytes) == Some(&b' ')
        && text.get(token_bytes + 1).is_some_and(|byte| *byte > b' ');
    (is_version(text) || is_request_line).then_some(text)
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_begin_like_messages() {
        for payload in [
            "GET / HTTP/1.1\r\n",
            "G /",
            "M-SEARCH * HTTP/1.1",
            "\r\n\r\nPOST /",
            "HTTP/",
            "http/1.0 200",
            "\nHTTP/1.1 200",
            "abcdefghijklmnopqrstuvwx /",
            "CONNECT [::1]:443",
        ] {
            assert!(begins_like_message(payload.as_bytes()), "{payload:?}");
        }
        assert!(begins_like_message(b"GET \xff"));
    }

    #[test]
    fn where_nothing_is_known_a_method_looks_like_one() {
        for payload in [
            "GET /",
            "\r\nPOST x",
            "M-SEARCH * HTTP/1.1",
            "http/1.0 200",
            "EHLO a",
            "get / HTTP/1.1",
            "g /",
            "BITS_POST /a",
            "x *",
            "abcdefghijklmnopqrstuvwx /",
        ] {
            assert!(is_worth_joining(payload.as_bytes()), "{payload:?}");
        }
        for payload in
            ["G x", "PU x", "get a HTTP/1.1", "220 ready", "GETS", "+OK ready", "", "Get http://"]
        {
            assert!(!is_worth_joining(payload.as_bytes()), "{payload:?}");
        }
    }

    #[test]
    fn other_payloads_do_not() {
        for payload in [
            "",
            "P",
            "GE",
            "GET",
            "GET ",
            "GET  /",
            "GET \t/",
            " GET /",
            "\r\n",
            "\r\n\r\n\nGET /",
            "HTTP",
            "HTTP:",
            "abcdefghijklmnopqrstuvwxy /",
            "GET(/ x",
            "\x16\x03\x01\x02",
        ] {
            assert!(!begins_like_message(payload.as_bytes()), "{payload:?}");
        }
        assert!(!begins_like_message(b"G\xc3\x89T /"));
    }
}
