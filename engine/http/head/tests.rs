//! The fast ways through a head beside their naive twins.

use super::*;
use memchr::memchr_iter;
use proptest::prelude::*;

/// What the careful way says of the same lines.
fn careful(bytes: &[u8], kind: Kind) -> (Option<usize>, Head) {
    let (fields, framing) = (HeadFields::NONE, FramingFields::default());
    let mut head = Head { kind, is_whole: true, len_bytes: 0, fields, framing };
    (header_lines(bytes, 0, &mut head), head)
}

/// Whether the short way took the lines; then the careful way must say the same.
fn is_plain(bytes: &[u8], kind: Kind) -> bool {
    let Some((end, values)) = plain::header_lines(bytes, 0, kind) else { return false };
    let (wanted_end, wanted) = careful(bytes, kind);
    let mut found = Head { fields: HeadFields::NONE, framing: FramingFields::default(), ..wanted };
    found.note_values(bytes, &values);
    assert_eq!(Some(end), wanted_end);
    assert_eq!(format!("{found:?}"), format!("{wanted:?}"));
    true
}

const REQUEST: Kind = Kind::Request;
const RESPONSE: Kind = Kind::Response { status: 200 };

/// Any of these, in any case.
fn word(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(words), any::<u64>()).prop_map(|(word, cases)| {
        let upper = |(n, byte): (usize, u8)| match cases >> (n % 64) & 1 {
            1 => byte.to_ascii_uppercase(),
            _ => byte,
        };
        word.bytes().enumerate().map(upper).collect()
    })
}

/// Header lines, plain or odd, and now and then a byte changed.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let name = word(&[
        "host",
        "user-agent",
        "referer",
        "server",
        "location",
        "content-type",
        "content-length",
        "transfer-encoding",
        "expect",
        "date",
        "x",
        "",
        "transfer-encodings",
        "transfer-encodin",
        "content-security-policy",
        "accept",
    ]);
    let colon = prop_oneof![4 => Just(": "), 1 => prop::sample::select(vec![
        ":", " : ", ":\t", "\t:", ":  ", "", "                : "])];
    let value = prop::sample::select(vec![
        "a",
        "",
        "12",
        "12, 12",
        "100-continue",
        "chunked",
        "x y",
        "a ",
        "a\t",
        "\r",
        "a: b",
        "a longer value than a block holds",
    ]);
    let end = prop_oneof![8 => Just("\r\n"), 1 => prop::sample::select(vec![
        "\n", "\r\r\n", "\r\n ", "\n\t", ""])];
    let line = (name, colon, value, end).prop_map(|(name, colon, value, end)| {
        [&name[..], colon.as_bytes(), value.as_bytes(), end.as_bytes()].concat()
    });
    let last = prop::sample::select(vec!["\r\n", "\n", "\r\r\n", "", "\r\nbody: is\r\n\r\nlong"]);
    let change = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(line, 0..12), last, change).prop_map(|(lines, last, change)| {
        let mut bytes = [&lines.concat()[..], last.as_bytes()].concat();
        if let Some((at, byte)) = change.filter(|_| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_short_way_says_what_the_careful_way_says(bytes in lines(), is_request: bool) {
        is_plain(&bytes, if is_request { REQUEST } else { RESPONSE });
    }
}

/// A space before the colon makes some names as long as others.
#[test]
fn a_space_before_the_colon_is_odd() {
    for (kind, lines) in [
        (REQUEST, "expect : 100-continue\r\n\r\n"),
        (REQUEST, "host  : a\r\n\r\n"),
        (RESPONSE, "server  : a\r\n\r\n"),
    ] {
        assert!(!is_plain(lines.as_bytes(), kind), "{lines}");
    }
}

/// What is common goes the short way, or it would be short for nobody.
#[test]
fn common_heads_go_the_short_way() {
    for (kind, lines) in [
        (REQUEST, "\r\n"),
        (REQUEST, "Host: a\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"),
        (REQUEST, "host: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhello"),
        (REQUEST, "Host: a\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Mode: navigate\r\n\r\n"),
        (RESPONSE, "Server: nginx\r\nDate: Wed, 25 Nov 2026 13:16:06 GMT\r\n\r\n"),
        (RESPONSE, "Transfer-Encoding: chunked\r\nContent-Type: text/html\r\n\r\n5\r\nhello"),
        (RESPONSE, "Access-Control-Allow-Credentials: true\r\nX-Content-Type-Options: no\r\n\r\n"),
        (RESPONSE, "Location: http://b/\r\nContent-Length: 0\r\n\r\n"),
    ] {
        assert!(is_plain(lines.as_bytes(), kind), "{lines}");
    }
}

proptest! {
    #[test]
    fn lines_end_where_memchr_says(
        bytes in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n')], 0..300),
        at in 0..300_usize,
    ) {
        let at = at.min(bytes.len());
        let mut ends = plain::LineEnds::new(&bytes, at);
        let found: Vec<usize> = std::iter::from_fn(|| ends.next()).collect();
        let wanted: Vec<usize> = memchr_iter(b'\n', &bytes[at..]).map(|end| at + end).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn lengths_are_read(value in "[0-9, x]{0,12}") {
        let mut framing = FramingFields::default();
        framing.note_length(value.as_bytes());
        let parts = value.split(',').map(|part| part.trim().parse().ok());
        let parts: Option<Vec<u64>> = parts.collect();
        match parts {
            Some(parts) if parts.iter().all(|part| *part == parts[0]) => {
                prop_assert_eq!(framing.content_length, Some(parts[0]));
                prop_assert!(!framing.is_length_invalid);
            }
            _ => prop_assert!(framing.is_length_invalid),
        }
    }
}
