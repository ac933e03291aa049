//! How targets are folded, so that those of one resource have one row: [`fold_target`].

/// Appends the path of a target with what varies replaced by `*`:
///
/// 1. Scheme and authority of an absolute target are left out, and all from the first `?` or `#`
///    on.
/// 2. A UUID (hex digits in groups of 8, 4, 4, 4 and 12) becomes `*`.
/// 3. Else, each longest run of 8 or more hex digits becomes `*`.
/// 4. Each word that is decimal digits only becomes `*`. A word is a longest run of ASCII letters,
///    ASCII digits, `%` and non-ASCII characters, so `v1` and `%20` stay as they are.
pub fn fold_target(target: &str, out: &mut String) {
    let path = path_of(target);
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = at + bytes[at..].iter().take_while(|byte| is_of_word(**byte)).count();
        if end == at {
            out.push(char::from(bytes[at]));
            at += 1;
        } else if is_uuid(&bytes[at..]) {
            out.push('*');
            at += UUID_BYTES;
        } else {
            fold_word(&path[at..end], out);
            at = end;
        }
    }
}

/// The path of a target: of `http://host/path?query`, `/path`.
fn path_of(target: &str) -> &str {
    let end = target.bytes().position(|byte| matches!(byte, b'?' | b'#'));
    let target = &target[..end.unwrap_or(target.len())];
    if target.starts_with('/') {
        return target;
    }
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |path| &rest[path..])
        }
        _ => target,
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'%' || !byte.is_ascii()
}

const UUID_BYTES: usize = 36;

/// Whether a UUID begins here, and ends with its word.
fn is_uuid(bytes: &[u8]) -> bool {
    let Some(uuid) = bytes.first_chunk::<UUID_BYTES>() else { return false };
    let is_right = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    uuid.iter().enumerate().all(is_right)
        && !bytes.get(UUID_BYTES).is_some_and(|it| is_of_word(*it))
}

const HEX_RUN_BYTES_MIN: usize = 8;

fn fold_word(word: &str, out: &mut String) {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return out.push('*');
    }
    if word.len() < HEX_RUN_BYTES_MIN {
        return out.push_str(word);
    }
    let bytes = word.as_bytes();
    let (mut at, mut kept) = (0, 0);
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if run >= HEX_RUN_BYTES_MIN {
            out.push_str(&word[kept..at]);
            out.push('*');
            kept = at + run;
        }
        at += run.max(1);
    }
    out.push_str(&word[kept..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folded(target: &str) -> String {
        let mut out = String::new();
        fold_target(target, &mut out);
        out
    }

    #[test]
    fn what_varies_is_folded_and_what_names_stays() {
        for (target, wanted) in [
            ("/", "/"),
            ("*", "*"),
            ("/v1/orders/4711?x=1#y", "/v1/orders/*"),
            ("/v1/orders/4711/items/0", "/v1/orders/*/items/*"),
            ("/u/550e8400-e29b-41d4-a716-446655440000/feed", "/u/*/feed"),
            ("/u/550e8400-e29b-41d4-a716-4466554400001", "/u/*-e29b-41d4-a716-*"),
            ("/app.3f2a9c1b.js", "/app.*.js"),
            ("/chunk3f2a9c1b7d.js", "/chunk*.js"),
            ("/h264/x86_64/img_20261201.png", "/h264/x86_*/img_*.png"),
            ("/deadbee/deadbeef", "/deadbee/*"),
            ("/a%20b/%C3%A9/\u{e9}1", "/a%20b/%C3%A9/\u{e9}1"),
            ("http://user@example.com:80/a/1?b", "/a/*"),
            ("http://example.com?b", "/"),
            ("/redirect/http://example.com/7", "/redirect/http://example.com/*"),
            ("example.com:443", "example.com:*"),
            ("", ""),
        ] {
            assert_eq!(folded(target), wanted, "{target}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_folded_once_and_for_all(target in "[ -~/0-9a-f\u{e9}]{0,80}") {
            let once = folded(&target);
            prop_assert!(once.len() <= target.len() + 1);
            prop_assert!(!once.contains('?') && !once.contains('#'));
        }
    }
}
