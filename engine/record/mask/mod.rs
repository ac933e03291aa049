//! The parts of a record that must not be shown: credentials, and on request parts of URIs.

use super::escape::plain_len;
use crate::config::EmitConfig;
use memchr::memchr;

mod names;
mod uri;

use names::{is_credential, with_letters};
pub use uri::MASK;

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// The target of a request.
    Target,
    /// The value of a header.
    Header(&'a [u8]),
    /// The value of a header with a usual name, which is not that of a credential.
    Usual {
        /// The name.
        name: &'a [u8],
        /// Whether its values are URIs.
        is_uri: bool,
    },
    /// A method or a version, which hold no secrets.
    Token,
    /// Other text.
    Other,
}

/// What is masked.
#[derive(Clone, Debug)]
pub struct Masks {
    is_secrets_shown: bool,
    is_query_redacted: bool,
    /// The letters of further names.
    names: Vec<Vec<u8>>,
}

impl Masks {
    /// Masks as `config` demands.
    pub fn new(config: &EmitConfig) -> Masks {
        let letters = |name: &String| with_letters(name.as_bytes(), <[u8]>::to_vec);
        let names = config.masked_headers.iter().map(letters);
        Masks {
            is_secrets_shown: config.is_secrets_shown,
            is_query_redacted: config.is_query_redacted,
            names: names.filter(|letters| !letters.is_empty()).collect(),
        }
    }

    /// Whether usual values of the named fields may have to be masked, not only hidden lines.
    pub fn are_for_fields(&self) -> bool {
        self.is_query_redacted || !self.names.is_empty()
    }

    /// Whether parts of URIs are masked.
    pub fn are_for_uris(&self) -> bool {
        self.is_query_redacted
    }

    /// Whether the `value` of header `name` is a secret.
    pub fn is_secret(&self, name: &[u8], value: &[u8]) -> bool {
        let is_known = |letters: &[u8]| {
            !self.is_secrets_shown && is_credential(letters)
                || self.names.iter().any(|known| known == letters)
        };
        with_letters(name, |letters| {
            is_known(letters)
                || letters.is_empty() && self.leads(value)
                // What the user gave may be a part of other names: it is looked for only in texts.
                || !self.names.is_empty() && has_words(name) && self.names_secret(letters)
        })
    }

    /// Whether `value` begins with the name of a secret, as in the line `: Cookie: a`.
    #[cold]
    fn leads(&self, value: &[u8]) -> bool {
        let end = memchr(b':', value).unwrap_or(value.len());
        with_letters(&value[..end], |letters| self.names_secret(letters))
    }

    /// The name of a header as it is shown. If its value is a secret or URIs are masked, only what
    /// is surely a name is shown.
    pub fn shown_name<'a>(&self, name: &'a [u8], is_secret: bool) -> &'a [u8] {
        if (is_secret || self.is_query_redacted) && has_words(name) { MASK } else { name }
    }

    /// `value` as it is shown. If a part of it is masked, it is built in `memory`. `is_cut` is
    /// whether bytes behind the value are missing.
    pub fn shown<'a>(
        &self,
        kind: Kind<'_>,
        value: &'a [u8],
        is_cut: bool,
        memory: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        match kind {
            Kind::Header(name) if self.is_secret(name, value) => MASK,
            Kind::Usual { name, .. } if !self.names.is_empty() && self.is_secret(name, value) => {
                MASK
            }
            _ => self.shown_in_part(kind, value, is_cut, memory),
        }
    }

    /// [`Masks::shown`] for a value that is not a secret as a whole.
    pub fn shown_in_part<'a>(
        &self,
        kind: Kind<'_>,
        value: &'a [u8],
        is_cut: bool,
        memory: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        if let Kind::Token = kind {
            return value;
        }
        memory.clear();
        let hidden = self.hidden_line(value);
        let open = &value[..hidden.unwrap_or(value.len())];
        let is_redacted = self.is_query_redacted && redact(kind, open, is_cut, memory);
        if hidden.is_some() {
            if !is_redacted {
                memory.extend_from_slice(open);
            }
            if !memory.ends_with(MASK) {
                memory.extend_from_slice(MASK);
            }
        }
        if is_redacted || hidden.is_some() { memory } else { value }
    }

    /// Where a header line with a secret begins within `value`: a recipient may take a bare CR or
    /// another control character for a line end, or a folded line for a line of its own.
    pub fn hidden_line(&self, value: &[u8]) -> Option<usize> {
        let mut from = plain_len(value);
        while let Some(at) = line_end(value, from) {
            // All lines up to the next colon at once, so that the time is linear.
            let end = memchr(b':', &value[at..]).map_or(value.len(), |colon| at + colon);
            if with_letters(&value[at..end], |letters| self.names_secret(letters)) {
                let is_before_line = |byte: &&u8| byte.is_ascii_control() || **byte == b' ';
                let behind = at + 1;
                return Some(behind + value[behind..].iter().take_while(is_before_line).count());
            }
            from = end;
        }
        None
    }

    /// Whether a text with these letters contains the name of a secret.
    fn names_secret(&self, letters: &[u8]) -> bool {
        let contains = |name: &Vec<u8>| memchr::memmem::find(letters, name).is_some();
        !self.is_secrets_shown && is_credential(letters) || self.names.iter().any(contains)
    }
}

/// Appends `value` with the secret parts of its URI masked. If there is nothing to mask, appends
/// nothing and returns false.
fn redact(kind: Kind<'_>, value: &[u8], is_cut: bool, out: &mut Vec<u8>) -> bool {
    let is_uri = match kind {
        Kind::Target => true,
        Kind::Header(name) => names::is_uri(name),
        Kind::Usual { is_uri, .. } => is_uri,
        Kind::Token | Kind::Other => false,
    };
    let start = if is_uri { Some(0) } else { uri::uri_in(value) };
    let Some(start) = start else { return false };
    out.extend_from_slice(&value[..start]);
    let is_redacted = uri::redact(&value[start..], is_cut, out);
    if !is_redacted {
        out.clear();
    }
    is_redacted
}

/// Where the first byte that may end a line is, from `from` on: a control character, one of the
/// line ends of Unicode (U+0085, also as a single byte, U+2028, U+2029), or a picture of one
/// (U+2400, U+240A, U+240D).
fn line_end(value: &[u8], from: usize) -> Option<usize> {
    let before = |at: usize, count: usize| &value[at.saturating_sub(count)..at];
    (from..value.len()).find(|&at| match value[at] {
        0x85 => before(at, 1).iter().all(|byte| byte.is_ascii() || *byte == 0xc2),
        0xa8 | 0xa9 => before(at, 2) == b"\xe2\x80",
        0x80 | 0x8a | 0x8d => before(at, 2) == b"\xe2\x90",
        byte => byte.is_ascii_control(),
    })
}

/// Whether there are odd bytes within `name`, not only around it. It may hold more than a name
/// then: a line without a colon counts as one.
fn has_words(name: &[u8]) -> bool {
    let mut words = name.split(|byte| !is_token_byte(*byte)).filter(|word| !word.is_empty());
    words.nth(1).is_some()
}

/// The bytes of names (RFC 9110 section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    match byte {
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~' => true,
        _ => byte.is_ascii_alphanumeric(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masks(names: &[&str], is_secrets_shown: bool, is_query_redacted: bool) -> Masks {
        let masked_headers = names.iter().map(|name| name.to_string()).collect();
        let config = EmitConfig {
            masked_headers,
            is_secrets_shown,
            is_query_redacted,
            ..EmitConfig::default()
        };
        Masks::new(&config)
    }

    fn shown(masks: &Masks, kind: Kind<'_>, value: &[u8]) -> String {
        let mut memory = b"from before".to_vec();
        String::from_utf8_lossy(masks.shown(kind, value, false, &mut memory)).into_owned()
    }

    #[test]
    fn secrets_of_all_kinds() {
        let plain = masks(&[], false, false);
        let header = |name: &str, value: &[u8]| shown(&plain, Kind::Header(name.as_bytes()), value);
        assert_eq!(header("aUTHORIZATION", b"a"), "***");
        assert_eq!(header("X-A", b"1\rAuthorization: SEKRET"), "1\r***");
        assert_eq!(header("X-A", b"1\r\n Authorization: SEKRET"), "1\r\n ***");
        assert_eq!(header("X-A", b"1\rX-B: 2\rCook\0ie: SEKRET"), "1\rX-B: 2\r***");
        assert_eq!(header("X-A", b"1\r\n\tCookie SEKRET"), "1\r\n\t***");
        let ends = ["\x0b", "\x0c", "\0", "\x1c", "\x7f", "\u{85}", "\u{2028}", "\u{2029}"];
        for end in ends.into_iter().chain(["\u{2400}", "\u{240a}", "\u{240d}"]) {
            let value = format!("1{end}Set-Cookie: SEKRET");
            assert!(!header("X-A", value.as_bytes()).contains("SEKRET"), "{end:?}");
        }
        assert!(!header("X-A", b"1\x85Cookie: SEKRET").contains("SEKRET"));
        assert_eq!(header("X-A", "1\u{2028}\rCookie: a".as_bytes()), "1\u{2028}\r***");
        for value in [&b"Basic token: a"[..], b"a\r\n b", "\u{c5}token: a".as_bytes()] {
            assert_eq!(header("X-A", value).as_bytes(), value);
        }
        assert_eq!(shown(&plain, Kind::Target, b"/a?b=c"), "/a?b=c");
        assert_eq!(shown(&plain, Kind::Target, b"/a\rCookie: SEKRET"), "/a\r***");
        for (name, value) in [("", "Cookie: SEKRET"), ("", "Cookie SEKRET"), ("\0", "Cookie:a")] {
            assert_eq!(header(name, value.as_bytes()), "***");
        }
        assert_eq!(header("", b"a: Cookie"), "a: Cookie");
        let open = masks(&[], true, false);
        assert_eq!(shown(&open, Kind::Header(b"Cookie"), b"a"), "a");
        assert_eq!(shown(&open, Kind::Other, b"1\rCookie: a"), "1\rCookie: a");
    }

    #[test]
    fn further_names() {
        // Names that the user gives are masked whatever is shown.
        for is_secrets_shown in [false, true] {
            let masks = masks(&["X-Foo", "-"], is_secrets_shown, false);
            let is_secret = |name: &[u8]| masks.is_secret(name, b"a");
            assert!(is_secret(b"x_foo") && is_secret(b"\0X-Foo\xa0") && is_secret(b"X-Foo SEKRET"));
            assert!(is_secret(b"X-A\rX-F\0oo") && is_secret(b"X-A\r\n X\x7f-Foo"));
            assert!(!is_secret(b"X-Food") && !is_secret(b"X-A") && !is_secret(b""));
            assert_eq!(is_secret(b"Cookie"), !is_secrets_shown);
            assert_eq!(shown(&masks, Kind::Other, b"1\rX-Foo: SEKRET"), "1\r***");
        }
    }

    #[test]
    fn names_that_hold_more_than_a_name_are_masked() {
        let masks = masks(&[], false, false);
        for name in [&b"Cookie"[..], b"\0Cookie", b"Cookie\xa0\0"] {
            assert_eq!(masks.shown_name(name, true), name);
        }
        for name in [&b"Cookie SEKRET"[..], b"X-A\r\n Cookie", b"a\rCookie"] {
            assert_eq!(masks.shown_name(name, true), MASK);
        }
    }

    #[test]
    fn uris_by_name_and_by_value() {
        let masks = masks(&[], false, true);
        let header = |name: &str, value: &str| {
            shown(&masks, Kind::Header(name.as_bytes()), value.as_bytes())
        };
        for (name, value, expected) in [
            ("Location", "a?b", "a?***"),
            ("X-Original-URL", "/a;b", "/a;***"),
            ("X-Forwarded-Host", "u:p@h", "***@h"),
            ("Link", "<http://u@h/?a>; rel=next", "<http://***@h/?***"),
            ("User-Agent", "bot (+http://u@h/?a)", "bot (+http://***@h/?***"),
            ("User-Agent", "bot/1.0 (+http://h/a.html)", "bot/1.0 (+http://h/a.html)"),
            ("Forwarded", "for=1.2.3.4;host=u:p@h", "***@h"),
            ("Forwarded", "for=1.2.3.4;host=h", "for=1.2.3.4;host=h"),
            ("Accept", "text/html;q=0.9", "text/html;q=0.9"),
            ("Sec-Fetch-User", "?1", "?1"),
            ("Host", "h\r\n Cookie: a", "h\r\n ***"),
            ("Host", "u:p@h\r\n Cookie: a", "***@h\r\n ***"),
            ("Referer", "/?a\rCookie: a", "/?***"),
        ] {
            assert_eq!(header(name, value), expected, "{name}");
        }
        assert_eq!(shown(&masks, Kind::Target, b"u:p@h:443"), "***@h:443");
        assert_eq!(shown(&masks, Kind::Other, b"see http://u@h/"), "see http://***@h/");
        assert_eq!(shown(&masks, Kind::Other, b"Found?"), "Found?");
    }

    proptest! {
        /// Wherever a line with a credential is hidden, it is masked.
        #[test]
        fn hidden_lines_are_found(
            front in "[ -~\r\n\tà]{0,40}", end in "[\r\n\x00\x0b\u{85}\u{2028}]",
            odd in "[\r\n\x00 \u{a0}]{0,3}", more in "[ -9;-~\r\n]{0,20}",
            behind in "[:= ]SEKRET[ -~\r\n]{0,20}",
        ) {
            let value = [&front, &end, &odd, "Cook", &odd, "ie", &more, &behind].concat();
            let shown = shown(&masks(&[], false, false), Kind::Other, value.as_bytes());
            prop_assert!(!shown.contains("SEKRET"), "{:?}", shown);
        }

        #[test]
        fn without_a_line_end_nothing_is_hidden(value in "[ -~à-ÿ]{0,80}") {
            prop_assert_eq!(masks(&[], false, false).hidden_line(value.as_bytes()), None);
        }
    }
}
