//! The fast paths through a head, compared with their naive twins.

use super::fields::few_digits;
use super::*;
use memchr::memchr_iter;
use proptest::prelude::*;

/// Whether the fast path accepted the head. The slow path must then return the same.
fn is_plain(bytes: &[u8], expected: Expected) -> bool {
    let (mut found, mut wanted) = (Head::BLANK, Head::BLANK);
    let is_taken = fast_path::parse(bytes, expected, &mut found).is_some();
    if is_taken {
        assert_eq!(parse_slow_path(bytes, expected, &mut wanted), Parsed::Complete);
        assert_eq!(format!("{found:?}"), format!("{wanted:?}"));
    }
    is_taken
}

const REQUEST: &str = "GET / HTTP/1.1\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\n";

/// One of these words, in any mix of cases.
fn word(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(words), any::<u64>()).prop_map(|(word, cases)| {
        let upper = |(n, byte): (usize, u8)| match cases >> (n % 64) & 1 {
            1 => byte.to_ascii_uppercase(),
            _ => byte,
        };
        word.bytes().enumerate().map(upper).collect()
    })
}

/// Header lines, usual or unusual, sometimes with a changed byte.
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
        "content-language",
        "server-timing",
        "hosts",
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
    (prop::collection::vec(line, 0..12), last)
        .prop_map(|(lines, last)| [&lines.concat()[..], last.as_bytes()].concat())
}

#[test]
fn methods_of_every_length() {
    for method_bytes in 0..70 {
        let head = format!("{} /a b HTTP/1.1\r\n\r\n", "M".repeat(method_bytes));
        assert_eq!(is_plain(head.as_bytes(), Expected::Either), (1..16).contains(&method_bytes));
    }
}

/// Start lines, usual or unusual.
fn start_lines() -> impl Strategy<Value = Vec<u8>> {
    let usual = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "PROPFIND /a?b HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404 Not Found\r\n",
    ]);
    let odd = prop::sample::select(vec![
        "GET / HTTP/1.1\n",
        "get / HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET / HTTP/1.1\r\r\n",
        "GET  HTTP/1.1\r\n",
        " / HTTP/1.1\r\n",
        "GET / HTTP/1.10\r\n",
        "GET / HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n",
        "G@T / HTTP/1.1\r\n",
        "GET /a b HTTP/1.1\r\n",
        "ABCDEFGHIJKLMNOPQ / HTTP/1.1\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 200 \r\n",
        "HTTP/1.1 200 O\r\n",
        "HTTP/1.1 200 OK\r\r\n",
        "HTTP/1.1 099 a\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.x 200 OK\r\n",
        "HTTP/1.1 20x OK\r\n",
        "HTTP/1.1 200 \r\r\n",
        "http/1.1 200 OK\r\n",
        "HTTP/2 200 a\r\n",
        "HTTP/1.1 200 HTTP/1.1\r\n",
        "\r\n",
        "",
    ]);
    prop_oneof![2 => usual, 1 => odd].prop_map(|line| line.as_bytes().to_vec())
}

proptest! {
    #[test]
    fn the_short_way_says_what_the_careful_way_says(
        start in start_lines(),
        lines in lines(),
        change in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = [start, lines].concat();
        if let Some((at, byte)) = change.filter(|_| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for expected in [Expected::Request, Expected::Response, Expected::Either] {
            is_plain(&bytes, expected);
        }
    }
}

/// A space before the colon makes some names as long as others.
#[test]
fn a_space_before_the_colon_is_odd() {
    for (start, lines) in [
        (REQUEST, "expect : 100-continue\r\n\r\n"),
        (REQUEST, "host  : a\r\n\r\n"),
        (RESPONSE, "server  : a\r\n\r\n"),
    ] {
        assert!(!is_plain([start, lines].concat().as_bytes(), Expected::Either), "{lines}");
    }
}

/// Common heads take the fast path; otherwise it would be useless.
#[test]
fn common_heads_go_the_short_way() {
    for (start, lines) in [
        (REQUEST, "\r\n"),
        (REQUEST, "Host: a\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"),
        (REQUEST, "host: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhello"),
        (REQUEST, "Host: a\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Mode: navigate\r\n\r\n"),
        (RESPONSE, "Server: nginx\r\nDate: Wed, 25 Nov 2026 13:16:06 GMT\r\n\r\n"),
        (RESPONSE, "Transfer-Encoding: chunked\r\nContent-Type: text/html\r\n\r\n5\r\nhello"),
        (RESPONSE, "Access-Control-Allow-Credentials: true\r\nX-Content-Type-Options: no\r\n\r\n"),
        (RESPONSE, "Server-Timing: a\r\nContent-Encoding: br\r\nContent-Language: en\r\n\r\n"),
        (RESPONSE, "Location: http://b/\r\nContent-Length: 0\r\n\r\n"),
    ] {
        assert!(is_plain([start, lines].concat().as_bytes(), Expected::Either), "{lines}");
    }
}

proptest! {
    #[test]
    fn a_few_digits_are_the_number_that_std_reads(
        value in prop_oneof!["[0-9]{0,10}", "[0-9+ ,-]{0,9}"],
    ) {
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = is_number && (1..=8).contains(&value.len());
        let wanted = if is_plain { value.parse().ok() } else { None };
        prop_assert_eq!(few_digits(value.as_bytes()), wanted);
    }

    #[test]
    fn lines_end_where_memchr_says(
        bytes in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n')], 0..300),
    ) {
        let mut ends = fast_path::LineEnds::new(&bytes);
        let found: Vec<usize> = std::iter::from_fn(|| ends.next()).collect();
        let wanted: Vec<usize> = memchr_iter(b'\n', &bytes).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn lengths_are_read(value in "[0-9, x]{0,12}") {
        let mut framing = FramingFields::NONE;
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

proptest! {
    /// We accept every head that httparse accepts, with the same parts.
    #[test]
    fn heads_agree_with_httparse(
        text in "(GET|POST|x-y) /[!-~]{0,20} HTTP/1\\.[01]\r\n\
                 ((Host|Server|X|content-type):[ -~]{0,12}\r\n){0,6}\r\n",
    ) {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut oracle = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(len)) = oracle.parse(text.as_bytes()) else {
            return Ok(());
        };
        let mut head = Head::BLANK;
        let Parsed::Complete = parse(text.as_bytes(), Expected::Request, &mut head) else {
            return Err(TestCaseError::fail("not taken for a head"));
        };
        prop_assert_eq!(head.kind, Kind::Request);
        prop_assert_eq!(head.len_bytes, len);
        let field = |span: Span| span.of(text.as_bytes());
        prop_assert_eq!(field(head.fields.method), oracle.method.map(str::as_bytes));
        prop_assert_eq!(field(head.fields.target), oracle.path.map(str::as_bytes));
        let host = oracle.headers.iter().find(|header| header.name == "Host");
        prop_assert_eq!(field(head.fields.host), host.map(|header| header.value));
    }

    /// Whether a head is complete never depends on the bytes behind it, and a part of a head is not
    /// a head.
    #[test]
    fn a_part_of_a_head_is_partial(cut in 0usize..60) {
        let whole = b"GET /path HTTP/1.1\r\nHost: a.test\r\nX: folded\r\n  on\r\n\r\n";
        let cut = cut.min(whole.len() - 1);
        let parsed = parse(&whole[..cut], Expected::Either, &mut { Head::BLANK });
        prop_assert_eq!(parsed, Parsed::Partial);
        prop_assert!(end_of_head(&whole[..cut], 0).is_none());
        prop_assert_eq!(end_of_head(whole, cut), Some(whole.len()));
    }
}
