//! The header lines of a head, walked only when somebody asks for more headers than records name;
//! and what of a header is not to be shown.

use memchr::memchr;

/// Stands for what is masked.
pub const MASK: &[u8] = b"***";

/// Headers whose values are credentials.
const SECRETS: [&[u8]; 4] = [b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"];
/// Headers whose values are URIs, with a query perhaps.
const URIS: [&[u8]; 2] = [b"referer", b"location"];

/// Whether `name` is one of Authorization, Cookie, Set-Cookie, Proxy-Authorization.
pub fn is_secret(name: &[u8]) -> bool {
    SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// Whether `name` is one of Referer, Location.
pub fn is_uri(name: &[u8]) -> bool {
    URIS.iter().any(|uri| uri.eq_ignore_ascii_case(name))
}

/// The part of `target` to be shown before [`MASK`]: up to its `?`, which is included. `None` where
/// there is no query.
pub fn before_query(target: &[u8]) -> Option<&[u8]> {
    memchr(b'?', target).map(|at| &target[..=at])
}

/// Name and value of each header line, in order, white space around both taken off (RFC 9112
/// section 5). A value keeps its obs-folds. A line without a colon is a name without a value, so
/// that nothing is hidden.
#[derive(Clone, Debug)]
pub struct HeaderLines<'a> {
    rest: &'a [u8],
}

impl<'a> HeaderLines<'a> {
    /// The lines in `headers`, which begins after the start line; ends at the empty line or where
    /// the bytes end.
    pub fn new(headers: &'a [u8]) -> HeaderLines<'a> {
        HeaderLines { rest: headers }
    }
}

impl<'a> Iterator for HeaderLines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut end = 0;
        loop {
            end += memchr(b'\n', &self.rest[end..]).map_or(self.rest.len() - end, |at| at + 1);
            // An empty line ends the head even if white space follows it.
            let is_empty = self.rest[..end].trim_ascii_end().is_empty();
            if is_empty || !matches!(self.rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (line, rest) = self.rest.split_at(end);
        let line = line.trim_ascii();
        if line.is_empty() {
            self.rest = &[];
            return None;
        }
        self.rest = rest;
        match memchr(b':', line) {
            Some(colon) => Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii())),
            None => Some((line, b"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        HeaderLines::new(headers).map(|(name, value)| (text(name), text(value))).collect()
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

    #[test]
    fn secrets_and_queries() {
        assert!(is_secret(b"AUTHORIZATION") && is_secret(b"Set-Cookie") && !is_secret(b"Host"));
        assert!(is_uri(b"Referer") && !is_uri(b"Refererer"));
        assert_eq!(before_query(b"/a?b?c"), Some(&b"/a?"[..]));
        assert_eq!(before_query(b"/a"), None);
    }
}
