//! URIs without what may be secret in them: the userinfo, and everything from the first parameter
//! on.
//!
//! What is masked is chosen by what any recipient might take for userinfo or parameters, not by RFC
//! 3986 alone: `\` counts as `/`, `%3f` as `?`, and `/a&b=c` has parameters. In doubt too much is
//! masked.

use memchr::{memchr, memchr3_iter, memrchr};

/// Replaces what is masked.
pub const MASK: &[u8] = b"***";

/// Bytes from which on a URI may have to be masked, other than `/`.
static SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let special = b"?#;&=%@:[\\";
    let mut index = 0;
    while index < special.len() {
        table[special[index] as usize] = true;
        index += 1;
    }
    table
};

/// The longest port.
const PORT_DIGITS_MAX: usize = 5;

/// Appends `uri` to `out` with its userinfo and parameters masked. If there is nothing to mask,
/// appends nothing and returns false. `is_cut` is whether bytes behind the URI are missing.
pub(super) fn redact(uri: &[u8], is_cut: bool, out: &mut Vec<u8>) -> bool {
    // The usual case first: a path, with or without a query.
    let special = uri.iter().position(|byte| SPECIAL[usize::from(*byte)]);
    match special {
        Some(at) if matches!(uri[at], b'?' | b'#') => {
            out.extend_from_slice(&uri[..=at]);
            out.extend_from_slice(MASK);
            true
        }
        None if !is_cut => false,
        _ => redact_segments(uri, is_cut, out),
    }
}

/// [`redact`] for any URI.
fn redact_segments(uri: &[u8], is_cut: bool, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // Whether the segment may be an authority: it is the first one, or `//` or `:/` is before it.
    let mut is_authority = true;
    let mut is_masked = false;
    let last_at = memrchr(b'@', uri).unwrap_or(0);
    let mut rest = uri;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'\\' | b'?' | b'#'));
        let (segment, behind) = rest.split_at(end.unwrap_or(rest.len()));
        let is_plain = !segment.iter().any(|byte| SPECIAL[usize::from(*byte)]);
        let mut shown = segment;
        if !is_plain && let Some(len) = userinfo_len(segment, is_authority) {
            out.extend_from_slice(MASK);
            is_masked = true;
            shown = &segment[len..];
        }
        let is_unfinished = is_cut && end.is_none() && !segment.is_empty();
        // Some recipients take `\` for a part of the userinfo.
        let may_go_on = behind.starts_with(b"\\")
            && uri.len() - behind.len() < last_at
            && !segment.is_empty()
            && !ends_scheme(segment);
        if may_go_on || is_authority && (is_unfinished || !is_plain && !is_host(shown)) {
            if !out.ends_with(MASK) {
                out.extend_from_slice(MASK);
            }
            return true;
        }
        if !is_plain && let Some(len) = parameters_at(shown) {
            out.extend_from_slice(&shown[..len]);
            out.extend_from_slice(MASK);
            return true;
        }
        out.extend_from_slice(shown);
        let Some(&delimiter) = behind.first() else { break };
        out.push(delimiter);
        if matches!(delimiter, b'?' | b'#') {
            out.extend_from_slice(MASK);
            return true;
        }
        is_authority = match segment.trim_ascii() {
            [] => rest.len() < uri.len(),
            _ => !is_plain && ends_scheme(shown),
        };
        rest = &behind[1..];
    }
    if !is_masked {
        out.truncate(start);
    }
    is_masked
}

/// The byte at the start of `bytes`, percent-decoded as often as it was encoded, and its length.
fn decoded(bytes: &[u8]) -> Option<(u8, usize)> {
    let first = *bytes.first()?;
    if first != b'%' {
        return Some((first, 1));
    }
    let hex = |at: usize| {
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        Some((digit(at)? << 4 | digit(at + 1)?) as u8)
    };
    let mut len = 1;
    // `%253f` is an encoded `%3f`.
    while bytes[len..].starts_with(b"25") && hex(len + 2).is_some() {
        len += 2;
    }
    Some(hex(len).map_or((b'%', 1), |byte| (byte, len + 2)))
}

/// Each decoded byte of `bytes`, with where it begins and ends.
fn decoded_bytes(bytes: &[u8]) -> impl Iterator<Item = (u8, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (byte, len) = decoded(&bytes[at..])?;
        at += len;
        Some((byte, at - len, at))
    })
}

/// The length of the userinfo in a segment: what is before its last `@`. In a path, `@` may mean
/// something else, so there it must be preceded by a `:`.
fn userinfo_len(segment: &[u8], is_authority: bool) -> Option<usize> {
    let mut has_colon = false;
    let mut found = None;
    for (byte, start, _) in decoded_bytes(segment) {
        match byte {
            b':' => has_colon = true,
            b'@' if is_authority || has_colon => found = Some(start),
            _ => {}
        }
    }
    found
}

/// Whether a segment without its userinfo can be a host and a port, or a scheme. Else it may be the
/// beginning of a userinfo whose `@` is missing.
fn is_host(segment: &[u8]) -> bool {
    let host = segment.strip_prefix(b"@").unwrap_or(segment).trim_ascii();
    let behind = if host.starts_with(b"[") {
        let is_address = |end: &usize| parameters_at(&host[..*end]).is_none();
        let Some(bracket) = memchr(b']', host).filter(is_address) else { return false };
        &host[bracket + 1..]
    } else {
        let colon = decoded_bytes(host).find(|(byte, ..)| *byte == b':');
        colon.map_or(&host[host.len()..], |(_, start, _)| &host[start..])
    };
    if behind.is_empty() {
        return true;
    }
    let Some((b':', len)) = decoded(behind) else { return false };
    behind.len() - len <= PORT_DIGITS_MAX && behind[len..].iter().all(u8::is_ascii_digit)
}

/// Where the parameters of a segment begin.
fn parameters_at(segment: &[u8]) -> Option<usize> {
    let is_delimiter = |byte: u8| matches!(byte, b'?' | b'#' | b';' | b'&' | b'=');
    decoded_bytes(segment).find(|(byte, ..)| is_delimiter(*byte)).map(|(_, _, end)| end)
}

/// Whether a segment ends with the `:` of a scheme. Browsers skip white space there.
fn ends_scheme(segment: &[u8]) -> bool {
    decoded_bytes(segment.trim_ascii()).last().is_some_and(|(byte, ..)| byte == b':')
}

/// Where a URI begins in a value that is no URI by its name: at its first byte, or at the `:` of an
/// absolute URI. What may be encoded, or a userinfo, counts as a URI.
pub(super) fn uri_in(value: &[u8]) -> Option<usize> {
    if value.starts_with(b"/") {
        return Some(0);
    }
    let mut has_colon = false;
    for at in memchr3_iter(b':', b'%', b'@', value) {
        match value[at..] {
            [b':', b'/', b'/', ..] => return Some(at),
            [b':', ..] => has_colon = true,
            [b'%', b'3', ..] => return Some(0),
            [b'@', ..] if has_colon => return Some(0),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redacted(uri: &[u8]) -> String {
        let mut out = Vec::new();
        let is_masked = redact(uri, false, &mut out);
        assert!(is_masked || out.is_empty());
        String::from_utf8_lossy(if is_masked { &out } else { uri }).into_owned()
    }

    #[test]
    fn userinfo_is_masked() {
        for (uri, shown) in [
            ("http://user:pw@h/", "http://***@h/"),
            ("https://token@h:8443/a/b", "https://***@h:8443/a/b"),
            ("user:pw@h:443", "***@h:443"),
            ("user@h", "***@h"),
            ("//user:pw@h/", "//***@h/"),
            ("//user@h/", "//***@h/"),
            ("///user@h/", "///***@h/"),
            ("\\\\user:pw@h\\a", "\\\\***@h\\a"),
            ("http:/\\user@h/", "http:/\\***@h/"),
            ("http:/user:pw@h/", "http:/***@h/"),
            ("http:user:pw@h/", "***@h/"),
            ("http:\t/user@h/", "http:\t/***@h/"),
            ("http:/\t/user@h/", "http:/\t/***@h/"),
            ("http://u:p@w@h/", "http://***@h/"),
            ("http://u:p;w&x=y@h/", "http://***@h/"),
            ("http://u%3Apw%40h/", "http://***%40h/"),
            ("http://us%2Fer:pw@h/", "http://***@h/"),
            ("http://user:pw@[2001:db8::1]:80/", "http://***@[2001:db8::1]:80/"),
            ("http://user:pw@[2001:db8::1]", "http://***@[2001:db8::1]"),
            ("/proxy/http://user@h/", "/proxy/http://***@h/"),
            ("/proxy/http:/user@h/", "/proxy/http:/***@h/"),
            ("/proxy/http%3A%2F%2Fuser%3Apw%40h%2F", "/proxy/***%40h%2F"),
            ("/user:pw@h/x", "/***@h/x"),
            ("<http://user:pw@h/>", "<http://***@h/>"),
            ("view-source:http://user:pw@h/", "***"),
            ("http://user:pw@h/?a#b", "http://***@h/?***"),
        ] {
            assert_eq!(redacted(uri.as_bytes()), shown, "{uri}");
        }
    }

    #[test]
    fn a_userinfo_without_its_end_is_masked() {
        for (uri, shown) in [
            ("http://user:pa/ss@h/", "http://***"),
            ("http://user:pa?ss@h/", "http://***"),
            ("http://user\\pw@h/", "http://***"),
            ("http://user:pa#ss@h/", "http://***"),
            ("http://user:pw", "http://***"),
            ("user:pw", "***"),
            ("h:123456", "***"),
            ("[::1", "***"),
            ("[;]", "***"),
        ] {
            assert_eq!(redacted(uri.as_bytes()), shown, "{uri}");
        }
        for (uri, shown) in [("http://use", "http://***"), ("use", "***"), ("//use", "//***")] {
            let mut out = Vec::new();
            assert!(redact(uri.as_bytes(), true, &mut out), "{uri}");
            assert_eq!(out, shown.as_bytes());
        }
        for uri in ["http://h/a", "/a", "/", "http://h/", ""] {
            assert!(!redact(uri.as_bytes(), true, &mut Vec::new()), "{uri}");
        }
    }

    #[test]
    fn parameters_are_masked() {
        for (uri, shown) in [
            ("/a?b=c", "/a?***"),
            ("/a?b?c", "/a?***"),
            ("/a?", "/a?***"),
            ("?a", "?***"),
            ("/a#b", "/a#***"),
            ("/a;b=c/d", "/a;***"),
            ("/a&b=c", "/a&***"),
            ("/a/b=c", "/a/b=***"),
            ("/a%3fb", "/a%3f***"),
            ("/a%3Fb", "/a%3F***"),
            ("/a%253Fb", "/a%253F***"),
            ("/a%25253bb", "/a%25253b***"),
            ("/a%23b", "/a%23***"),
            ("/a%26b", "/a%26***"),
            ("/a b?c", "/a b?***"),
            ("/%2?b", "/%2?***"),
            ("/%25?b", "/%25?***"),
            ("http://h?b", "http://h?***"),
            ("http://h;b/", "http://h;***"),
            ("http://[::1]/a;b", "http://[::1]/a;***"),
            ("0; url=http://h/", "0;***"),
        ] {
            assert_eq!(redacted(uri.as_bytes()), shown, "{uri}");
        }
    }

    #[test]
    fn all_else_is_shown() {
        for uri in [
            "/",
            "*",
            "",
            "h",
            "h:80",
            "h:",
            "[::1]",
            "[::1]:80",
            "[fe80::1%25eth0]:80",
            "/@user/x",
            "/npm/@scope/name@1.2.3",
            "/user@example.com",
            "/a:b",
            "/a%20b",
            "/a%",
            "/a//b",
            "http://h",
            "http://h/",
            "http://h:80/a/b",
            "https://[::1]:80/",
            "../a",
            "a/b@c",
            "android-app://com.example/",
            "/proxy/http://h/a",
            "/maps/@52.5,13.4,15z",
            "/%252",
        ] {
            assert_eq!(redacted(uri.as_bytes()), uri);
        }
    }

    #[test]
    fn uris_are_found_in_values() {
        assert_eq!(uri_in(b"/a?b"), Some(0));
        assert_eq!(uri_in(b"bot (+http://h/)"), Some(10));
        assert_eq!(uri_in(b"for=1.2.3.4;host=u:p@h"), Some(0));
        assert_eq!(uri_in(b"http%3A%2F%2Fh"), Some(0));
        for value in [&b"Mozilla/5.0"[..], b"*/*", b"?1", b"\"Not?A_Brand\";v=\"99\"", b"a@b:c"] {
            assert_eq!(uri_in(value), None);
        }
    }

    /// Pieces of which URIs, and what looks like them, are made.
    fn uri() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&[u8]> = vec![
            b"http", b":", b"/", b"//", b"\\", b"@", b"?", b"#", b";", b"&", b"=", b"[", b"]",
            b"%3f", b"%40", b"%3A", b"%2F", b"%25", b"%", b"25", b"80", b"h", b"a b", b"\xff",
            b"\t",
        ];
        prop::collection::vec(prop::sample::select(pieces), 0..16).prop_map(|them| them.concat())
    }

    proptest! {
        /// The fast path for plain paths changes nothing.
        #[test]
        fn redaction_matches_that_of_segments(
            uri in prop_oneof![uri(), "/[a-z/]{0,8}[?#]?[a-z@:]{0,8}".prop_map(Into::into)],
            is_cut: bool,
        ) {
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            let is_masked = redact(&uri, is_cut, &mut fast);
            prop_assert_eq!(is_masked, redact_segments(&uri, is_cut, &mut slow));
            prop_assert_eq!(fast, slow);
        }

        /// Whatever is in front, neither parameters nor userinfo are shown.
        #[test]
        fn no_secret_is_shown(
            front in uri(), behind in uri(),
            open in prop::sample::select(vec![
                "?", "#", ";", "&", "=", "%3f", "%3B", "%23", "%2526", "/u:", "//", "://", "\\\\",
            ]),
        ) {
            let is_userinfo = open.ends_with(['/', ':', '\\']);
            let close = if is_userinfo { "@" } else { "" };
            let uri = [&front, open.as_bytes(), b"SEKRET", close.as_bytes(), &behind].concat();
            prop_assert!(!redacted(&uri).contains("SEKRET"), "{}", redacted(&uri));
        }

        /// A redacted URI has nothing more to redact.
        #[test]
        fn redaction_is_stable(uri in uri()) {
            let once = redacted(&uri);
            let twice = redacted(once.as_bytes());
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn bytes_are_decoded_one_by_one(bytes in uri()) {
            let mut at = 0;
            for (_, start, end) in decoded_bytes(&bytes) {
                prop_assert!(start == at && end > at);
                at = end;
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}
