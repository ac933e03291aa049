//! Which headers hold credentials, and which hold URIs. Names are compared by their letters and
//! digits, in either case. So `Cookie`, `COOKIE`, `Coo\0kie` and `\xa0Cookie` are one name, as are
//! `X-Api-Key` and `X_Api_Key`: recipients differ in what they skip or replace.

/// The letters and digits of a name up to this length need no allocation.
const SHORT_BYTES: usize = 64;

/// What the names of headers end with whose values are URIs, parts of URIs, or begin with one, of
/// those that end with `letters`.
fn uri_ends(letters: &[u8; 3]) -> &'static [&'static str] {
    match letters {
        b"ams" => &["params"],
        b"ath" => &["path"],
        b"ect" => &["redirect"],
        b"ery" => &["query"],
        b"esh" => &["refresh"],
        b"gin" => &["origin"],
        b"ing" => &["querystring"],
        b"ink" => &["link"],
        b"ion" => &["destination", "location"],
        b"map" => &["sourcemap"],
        b"ost" => &["host"],
        b"rer" => &["referer", "referrer"],
        b"rgs" => &["args"],
        b"rls" => &["urls"],
        b"uri" => &["uri"],
        b"url" => &["url"],
        _ => &[],
    }
}

/// The words that make a name that of a credential, of those that begin with `letters`.
#[inline(always)]
fn words(letters: &[u8; 3]) -> &'static [&'static str] {
    match letters {
        b"acc" => &["accesskey", "accountkey"],
        b"adm" => &["adminkey"],
        b"api" => &["apikey"],
        b"app" => &["appkey", "applicationkey"],
        b"aut" => &["authentication", "authkey", "authorisation", "authorization", "authpass"],
        b"bea" => &["bearer"],
        b"cli" => &["clickhousekey"],
        b"coo" => &["cookie"],
        b"cre" => &["credential"],
        b"csr" => &["csrf"],
        b"dpo" => &["dpop"],
        b"fun" => &["functionskey"],
        b"jwt" => &["jwt"],
        b"mac" => &["macaroon"],
        b"mas" => &["masterkey"],
        b"oid" => &["oidcdata"],
        b"pas" => &["passcode", "passkey", "passphrase", "passw"],
        b"pri" => &["privatekey"],
        b"pwd" => &["pwd"],
        b"sam" => &["saml"],
        b"sec" => &["secret"],
        b"ser" => &["servicekey"],
        b"ses" => &["sessid", "session"],
        b"sha" => &["sharedkey"],
        b"sub" => &["subscriptionkey"],
        b"tok" => &["token"],
        b"use" => &["userkey"],
        b"xsr" => &["xsrf"],
        _ => &[],
    }
}

/// A byte's letter or digit, in lower case; 0 if it is neither.
static LETTERS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// Calls `check` with the letters and digits of `name`, in lower case.
pub(super) fn with_letters<R>(name: &[u8], check: impl FnOnce(&[u8]) -> R) -> R {
    let letters = name.iter().map(|byte| LETTERS[usize::from(*byte)]);
    if name.len() > SHORT_BYTES {
        return check(&letters.filter(|letter| *letter != 0).collect::<Vec<u8>>());
    }
    let mut short = [0; SHORT_BYTES];
    let mut len = 0;
    for letter in letters {
        // Overwritten by the next one if it is none.
        short[len % SHORT_BYTES] = letter;
        len += usize::from(letter != 0);
    }
    check(&short[..len])
}

/// Whether `letters` are those of a credential's name, or of a text that contains such a name.
pub(super) fn is_credential(letters: &[u8]) -> bool {
    // The end of `X-Auth` and `X-Registry-Auth`, of `X-OTP` and `X-GitHub-OTP`.
    if letters.ends_with(b"auth") || letters.ends_with(b"otp") {
        return true;
    }
    let mut rest = letters;
    while let Some(begin) = rest.first_chunk() {
        if words(begin).iter().any(|word| rest.starts_with(word.as_bytes())) {
            // The one usual header that contains such a word and is none.
            return letters != b"accesscontrolallowcredentials";
        }
        rest = &rest[1..];
    }
    false
}

/// Whether the values of header `name` are URIs.
pub(super) fn is_uri(name: &[u8]) -> bool {
    with_letters(name, |letters| {
        let ends = letters.last_chunk().map_or(&[][..], uri_ends);
        ends.iter().any(|end| letters.ends_with(end.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_secret(name: &[u8]) -> bool {
        with_letters(name, is_credential)
    }

    #[test]
    fn credentials() {
        let secret = "Authorization, Proxy-Authorization, X-Forwarded-Authorization, \
            X-Original-Authorization, Authentication, Authentication-Info, \
            Proxy-Authentication-Info, Cookie, Cookie2, Set-Cookie, Set-Cookie2, X-Api-Key, \
            x_api_key, Api-Key, ApiKey, X-Goog-Api-Key, X-Auth-Token, X-Amz-Security-Token, \
            X-CSRF-Token, X-CSRFToken, X-XSRF-Token, Private-Token, X-Vault-Token, X-Auth, \
            X-Registry-Auth, X-GitHub-OTP, DPoP, X-Client-Secret, X-Password, X-Session-Id, \
            Cf-Access-Jwt-Assertion, X-Amzn-Oidc-Data, Ocp-Apim-Subscription-Key, DD-API-KEY, \
            DD-APPLICATION-KEY, X-ClickHouse-Key, x-functions-key";
        for name in secret.split(", ") {
            assert!(is_secret(name.as_bytes()), "{name}");
            assert!(is_secret(name.to_ascii_uppercase().as_bytes()), "{name}");
        }
        for name in [&b"\0Author\0ization\xa0"[..], b"Cookie\t", b"\rCookie", b"Cookie SEKRET"] {
            assert!(is_secret(name), "{name:?}");
        }
    }

    #[test]
    fn no_credentials() {
        let shown = "Host, User-Agent, Accept, Accept-Encoding, Referer, Content-Type, \
            Content-Length, WWW-Authenticate, Proxy-Authenticate, Sec-WebSocket-Key, \
            Sec-WebSocket-Accept, Access-Control-Allow-Credentials, Access-Control-Allow-Headers, \
            X-Request-Id, Idempotency-Key, ETag, If-None-Match, X-Forwarded-For, Via, Date, \
            Transfer-Encoding, Keep-Alive, Digest, X-Authenticated-User, Sec-CH-UA, :authority, \
            Location, Server, Origin, X-Cache-Key, Surrogate-Key, traceparent";
        for name in shown.split(", ") {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
        assert!(!is_secret(b""));
    }

    #[test]
    fn uris() {
        let uris = "Referer, Location, Content-Location, Host, X-Forwarded-Host, Origin, Link, \
            Refresh, X-Original-URL, X-Rewrite-URL, X-Forwarded-Uri, X-Envoy-Original-Path, \
            X-Accel-Redirect, Destination";
        for name in uris.split(", ") {
            assert!(is_uri(name.as_bytes()), "{name}");
        }
        for name in ["User-Agent", "Accept", "Server", "Content-Type", "Refererer"] {
            assert!(!is_uri(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn letters_are_those_of_std(name in prop::collection::vec(any::<u8>(), 0..200)) {
            let text: String = name.iter().map(|byte| char::from(*byte)).collect();
            let naive: String =
                text.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
            prop_assert_eq!(with_letters(&name, <[u8]>::to_vec), naive.as_bytes());
        }

        #[test]
        fn a_credential_is_found_within_anything(
            front in "[ -~]{0,80}", behind in "[ -~]{0,80}",
            word in prop::sample::select(vec!["authorization", "Cookie", "TOKEN", "Api-Key"]),
        ) {
            prop_assert!(is_secret([&front, word, &behind].concat().as_bytes()));
        }
    }
}
