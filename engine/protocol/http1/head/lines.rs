//! Iterates over the header lines of a head. Used only if all headers are wanted.

use crate::record::{Header, Span};
use memchr::memchr;

/// The name and value of each header line, in order, without the white space around them (RFC 9112
/// section 5). A value keeps its obs-folds. A line without a colon counts as a name without a
/// value, so that nothing is hidden.
#[derive(Clone, Debug)]
pub(in crate::protocol::http1) struct HeaderLines<'a> {
    head: &'a [u8],
    /// Where the next line begins.
    at: usize,
}

impl<'a> HeaderLines<'a> {
    /// The lines of `head` from `at` on, which is behind the start line. They end at the empty
    /// line, or where the bytes end.
    pub fn new(head: &'a [u8], at: usize) -> HeaderLines<'a> {
        HeaderLines { head, at }
    }
}

impl Iterator for HeaderLines<'_> {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        let rest = self.head.get(self.at..)?;
        let mut end = 0;
        loop {
            end += memchr(b'\n', &rest[end..]).map_or(rest.len() - end, |at| at + 1);
            // An empty line ends the head even if white space follows it.
            let is_empty = rest[..end].trim_ascii_end().is_empty();
            if is_empty || !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let line = trimmed(rest, 0, end);
        if line.is_empty() {
            self.at = self.head.len();
            return None;
        }
        let start = self.at;
        self.at += end;
        let span = |part: std::ops::Range<usize>| Span::new(start + part.start, start + part.end);
        let Some(colon) = memchr(b':', &rest[line.clone()]) else {
            return Some(Header { name: span(line.clone()), value: span(line.end..line.end) });
        };
        let colon = line.start + colon;
        let (name, value) = (trimmed(rest, line.start, colon), trimmed(rest, colon + 1, line.end));
        Some(Header { name: span(name), value: span(value) })
    }
}

/// The part `start..end` of `bytes` without the white space around it.
fn trimmed(bytes: &[u8], start: usize, end: usize) -> std::ops::Range<usize> {
    let part = &bytes[start..end];
    let front = part.len() - part.trim_ascii_start().len();
    let len = part.trim_ascii().len();
    start + front..start + front + len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap()).into_owned();
        HeaderLines::new(headers, 0)
            .map(|header| (text(header.name.of(headers)), text(header.value.of(headers))))
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn lines_of_all_kinds() {
        let headers =
            b"Host: a\r\nX:\r\nFold: one\r\n two\n\tthree\r\nbare lf: y\nnothing\r\n\r\nbody: no";
        let expected = [
            pair("Host", "a"),
            pair("X", ""),
            pair("Fold", "one\r\n two\n\tthree"),
            pair("bare lf", "y"),
            pair("nothing", ""),
        ];
        assert_eq!(lines(headers), expected);
    }

    #[test]
    fn a_head_that_was_cut() {
        assert_eq!(lines(b"A: 1\r\nB: 2"), [pair("A", "1"), pair("B", "2")]);
        assert_eq!(lines(b"A: 1\r"), [pair("A", "1")]);
        assert_eq!(lines(b"A: 1\r\n "), [pair("A", "1")]);
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\r\n"), []);
        assert_eq!(lines(b"A: 1\r\n\r\n B: 2"), [pair("A", "1")]);
    }
}
