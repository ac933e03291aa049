//! The text fields of a line: builds exchanges from them, and checks that a line reproduces them.

use super::exchange::{header, put, typical};
use httplines::record::Exchange;
use serde_json::Value;

/// The text fields of a line, except `iface`.
pub const FIELDS: [&str; 11] = [
    "method",
    "target",
    "version",
    "host",
    "user_agent",
    "referer",
    "request_content_type",
    "reason",
    "response_content_type",
    "server",
    "location",
];

/// An exchange whose text fields are `values`, in the order of [`FIELDS`].
pub fn exchange_of(values: &[Vec<u8>]) -> Exchange {
    let mut exchange = typical();
    let request = &mut exchange.request;
    request.fields.method = put(request, &values[0]);
    request.fields.target = put(request, &values[1]);
    request.fields.version = put(request, &values[2]);
    for (name, value) in ["Host", "User-Agent", "Referer", "Content-Type"].iter().zip(&values[3..])
    {
        header(request, name, value);
    }
    let response = &mut exchange.response;
    response.fields.reason = put(response, &values[7]);
    for (name, value) in ["Content-Type", "Server", "Location"].iter().zip(&values[8..]) {
        header(response, name, value);
    }
    exchange
}

/// A base64 decoder, written as plainly as possible.
pub fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{byte} in base64"),
    };
    assert_eq!(text.len() % 4, 0);
    let bits: Vec<u8> = text
        .trim_end_matches('=')
        .bytes()
        .flat_map(|byte| (0..6).rev().map(move |bit| digit(byte) >> bit & 1))
        .collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

/// A header value as it is shown: folds become one space.
fn unfolded(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < value.len() {
        let line_end = match value[at..] {
            [b'\r', b'\n', b' ' | b'\t', ..] => 2,
            [b'\n', b' ' | b'\t', ..] => 1,
            _ => 0,
        };
        if line_end == 0 {
            out.push(value[at]);
            at += 1;
            continue;
        }
        at += line_end;
        at += value[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        out.push(b' ');
    }
    out
}

/// A text as a record shows it, with the bytes in base64 if it is not UTF-8, and the length on the
/// wire if it was cut.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub text: &'a Value,
    pub b64: Option<&'a Value>,
    pub len: Option<&'a Value>,
}

impl Shown<'_> {
    /// Panics unless it yields `value`, or a prefix of it if it was cut. In a header's value a fold
    /// is shown as a space.
    pub fn check(self, name: &str, value: &[u8], is_header: bool) {
        let shown = self.text.as_str().unwrap_or_else(|| panic!("{name} is not there"));
        let expected = if is_header { unfolded(value) } else { value.to_vec() };
        let lossy = String::from_utf8_lossy(&expected).into_owned();
        let len = self.len.map(|len| len.as_u64().unwrap() as usize);
        let coded = self.b64.map(|text| from_base64(text.as_str().unwrap()));
        assert_eq!(coded.is_some(), std::str::from_utf8(value).is_err(), "{name}_b64");
        assert!(lossy.starts_with(shown), "{name}");
        match (len, &coded) {
            (None, None) => assert_eq!(shown.as_bytes(), expected, "{name}"),
            (None, Some(coded)) => {
                assert_eq!(coded, value, "{name}_b64");
                assert_eq!(shown, lossy, "{name}");
            }
            (Some(len), coded) => {
                assert_eq!(len, value.len(), "{name}_len");
                assert!(coded.as_ref().is_none_or(|coded| value.starts_with(coded)), "{name}_b64");
            }
        }
    }
}

/// Panics unless the record yields the field's bytes, or a prefix of them if it was cut.
pub fn check_field(record: &Value, name: &str, value: &[u8]) {
    let beside = |what: &str| record.get(format!("{name}_{what}"));
    let shown = Shown { text: &record[name], b64: beside("b64"), len: beside("len") };
    shown.check(name, value, !matches!(name, "iface" | "method" | "target" | "version" | "reason"));
}
