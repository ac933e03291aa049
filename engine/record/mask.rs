//! The parts of a record that must not be shown: credentials and queries.

use memchr::memchr;

/// Replaces what is masked.
pub const MASK: &[u8] = b"***";

/// Headers whose values are credentials.
const SECRETS: [&[u8]; 4] = [b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"];
/// Headers whose values are URIs, which may have a query.
const URIS: [&[u8]; 2] = [b"referer", b"location"];

/// Whether `name` is one of Authorization, Cookie, Set-Cookie, Proxy-Authorization.
pub fn is_secret(name: &[u8]) -> bool {
    SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// The part of `target` that is shown before [`MASK`]: up to and including its `?`. `None` if there
/// is no query.
pub fn is_uri(name: &[u8]) -> bool {
    URIS.iter().any(|uri| uri.eq_ignore_ascii_case(name))
}

/// The part of `target` to be shown before [`MASK`]: up to its `?`, which is included. `None` where
/// there is no query.
pub fn before_query(target: &[u8]) -> Option<&[u8]> {
    memchr(b'?', target).map(|at| &target[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_queries() {
        assert!(is_secret(b"AUTHORIZATION") && is_secret(b"Set-Cookie") && !is_secret(b"Host"));
        assert!(is_uri(b"Referer") && !is_uri(b"Refererer"));
        assert_eq!(before_query(b"/a?b?c"), Some(&b"/a?"[..]));
        assert_eq!(before_query(b"/a"), None);
    }
}
