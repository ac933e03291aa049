//! No secret is shown where it must not be, in no field and no form; and nothing is shown that a
//! terminal obeys.

use httplines::config::EmitConfig;
use httplines::ids::{IfaceId, IfaceNames};
use httplines::record::{Exchange, JsonFormat, Span, is_unsafe};
use serde_json::{Value, json};
use std::process::Command;

use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;
use crate::support::exchange::{self, header, put, request_line, status_line, typical};
use crate::support::fields::{exchange_of, from_base64};
use crate::support::program::run;
use crate::support::{records, schema, skip};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const SECRET: &str = "SEKRET";

/// Header lines with credentials, under names and in places of all kinds.
const CREDENTIALS: [&[u8]; 32] = [
    b"Authorization: Basic SEKRET\r\nCookie: a=SEKRET\r\nProxy-Authorization: x SEKRET\r\n",
    b"aUTHORIZATION: SEKRET\r\nCOOKIE:SEKRET\r\nCookie2: SEKRET\r\n",
    b"Authorization : Basic SEKRET\r\nCookie\t: SEKRET\r\n",
    b"Authorization:\r\n Basic SEKRET\r\nCookie: a=1;\r\n\tb=SEKRET\r\n",
    b" Authorization: SEKRET\r\n",
    b"\tAuthorization SEKRET\r\n",
    b"X-A: 1\r\n Authorization: SEKRET\r\n",
    b"X-A: 1\r\n b\r\n Authorization: SEKRET\r\n",
    b"X-A\r\n Authorization: SEKRET\r\n",
    b"X-A: 1\rAuthorization: SEKRET\r\n",
    b"X-A: 1\r\rX-B: 2\rAuth\0orization\r: SEKRET\r\n",
    b"X-A: 1\x0bCookie: SEKRET\r\nX-A: 1\x0cCookie: SEKRET\r\nX-A: 1\x1cCookie: SEKRET\r\n",
    b"X-A: 1\x85Cookie: SEKRET\r\nX-A: 1\xc2\x85Cookie: SEKRET\r\n",
    b"X-A: \xe2\x80\xa8Cookie: SEKRET\r\nX-A: \xe2\x80\xa9Cookie: SEKRET\r\n",
    b"User-Agent: a\rCookie: SEKRET\r\nReferer: http://h/\rCookie: SEKRET\r\n",
    b"Content-Type: a\r\n Cookie: SEKRET\r\n",
    b"\rAuthorization: SEKRET\r\n",
    b"Authorization\x00: SEKRET\r\n",
    b"\x00Authorization: SEKRET\r\n",
    b"Author\x00ization: SEKRET\r\nAuthor\x7fization: SEKRET\r\n",
    b"Authorization\xa0: SEKRET\r\n\xa0Authorization\xa0: SEKRET\r\n",
    b"Authorization: SEKRET\nCookie: SEKRET\n",
    b"Authorization SEKRET\r\nCookie=SEKRET\r\n",
    b":Authorization: SEKRET\r\n: Authorization SEKRET\r\n",
    b"X-Api-Key: SEKRET\r\nX-Auth-Token: SEKRET\r\nX-Amz-Security-Token: SEKRET\r\n",
    b"Api-Key: SEKRET\r\nX_Api_Key: SEKRET\r\nX-CSRF-Token: SEKRET\r\n",
    b"X-XSRF-TOKEN: SEKRET\r\nPrivate-Token: SEKRET\r\n",
    b"X-Forwarded-Authorization: SEKRET\r\nX-Original-Authorization: SEKRET\r\n",
    b"Authentication: SEKRET\r\nX-Forwarded-Access-Token: SEKRET\r\nX-Auth: SEKRET\r\n",
    b"Authorization: \xffSEKRET\r\nCookie: \xffSEKRET\r\n",
    b"X-Secret: SEKRET\r\nX-Password: SEKRET\r\nX-Session-Id: SEKRET\r\nDPoP: SEKRET\r\n",
    b"\xff\rCookie: SEKRET\r\nX-A: \xff\rCookie: SEKRET\r\n",
];

/// Targets with secrets in the parts of a URI where they are.
const TARGETS: [&[u8]; 35] = [
    b"/a?token=SEKRET",
    b"/a?b?c=SEKRET",
    b"/a b?c=SEKRET",
    b"/\xff?c=SEKRET",
    b"/a;jsessionid=SEKRET",
    b"/a;x/b;jsessionid=SEKRET",
    b"/a#access_token=SEKRET",
    b"/a&token=SEKRET",
    b"/a/token=SEKRET/b",
    b"/a%3ftoken=SEKRET",
    b"/a%3Ftoken%3dSEKRET",
    b"/a%3bjsessionid%3DSEKRET",
    b"/a%23SEKRET",
    b"/a%26SEKRET",
    b"/a%253Ftoken%253DSEKRET",
    b"http://user:SEKRET@h/x",
    b"http://SEKRET@h/x",
    b"http://SEKRET:SEKRET@[2001:db8::1]:80/x",
    b"http://user:SEKRET@w@h/",
    b"http://user:p;SEKRET@h/",
    b"http://user:p/SEKRET@h/",
    b"http://user\\SEKRET@h/",
    b"http://user:p%2FSEKRET%40h/",
    b"HTTP:\\\\user:SEKRET@h/",
    b"http:/user:SEKRET@h/",
    b"http:user:SEKRET@h/",
    b"//user:SEKRET@h/x",
    b"///SEKRET@h/x",
    b"user:SEKRET@h:443",
    b"SEKRET@h:443",
    b"h?SEKRET",
    b"/proxy/http://user:SEKRET@h/",
    b"/proxy/http://SEKRET@h/",
    b"/proxy/http%3a%2f%2fSEKRET%40h%2f",
    b"\xff//user:SEKRET@h/?SEKRET",
];

/// Header names whose values hold URIs.
const URI_HEADERS: [&str; 12] = [
    "Host",
    "Referer",
    "Content-Location",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded-Uri",
    "X-Forwarded-Host",
    "Origin",
    "Link",
    "Refresh",
    "X-Envoy-Original-Path",
    "Destination",
];

/// A capture of these exchanges.
fn capture(exchanges: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut frames = Vec::new();
    for (number, (request, response)) in exchanges.iter().enumerate() {
        let client = format!("10.0.0.1:{}", 20_000 + number);
        let mut talk = Conversation::new(&client, "10.0.0.2:80");
        talk.handshake().client(request).server(response).finish();
        frames.extend(talk.frames(number as u64 * 1_000_000, 1_000));
    }
    pcap(Order::Little, Unit::Nano, 1, &frames)
}

/// The output for a capture on standard input.
fn output(capture: &[u8], arguments: &str) -> Vec<u8> {
    let arguments = format!("-r - -q {arguments}");
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let output = run(&arguments, Some(capture));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn request(target: &[u8], headers: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n", headers, b"\r\n"].concat()
}

/// Panics if a text within `value` shows the secret, plain or in base64.
fn check_hidden(value: &Value, key: &str) {
    match value {
        Value::String(text) => {
            assert!(!text.contains(SECRET), "{key}: {text}");
            if key.ends_with("b64") {
                let bytes = from_base64(text);
                assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{key}: {bytes:?}");
            }
        }
        Value::Array(list) => list.iter().for_each(|it| check_hidden(it, key)),
        Value::Object(members) => members.iter().for_each(|(key, it)| check_hidden(it, key)),
        _ => {}
    }
}

#[test]
fn credentials_are_masked_under_any_name_and_in_any_line() {
    let exchanges = CREDENTIALS.map(|lines| {
        // Named fields of requests exist in one form only, so lines of responses are tried, too.
        let response = [b"HTTP/1.1 200 OK\r\nServer: s\r\n", lines, b"Content-Length: 0\r\n\r\n"];
        (request(b"/", lines), response.concat())
    });
    let response: &[u8] = b"HTTP/1.1 200 OK\r\nSet-Cookie: SEKRET\r\nSet-Cookie2: SEKRET\r\n\
        Authentication-Info: SEKRET\r\nProxy-Authentication-Info: SEKRET\r\n\
        Location: /\rCookie: SEKRET\r\nContent-Length: 0\r\n\r\n";
    let bare_cr = (request(b"/a\rCookie: SEKRET", b""), response.to_vec());
    let exchanges = [&exchanges[..], &[bare_cr]].concat();
    let capture = capture(&exchanges);
    for options in [
        "",
        "--all-headers",
        "--all-headers --headers-as object",
        "--header Cookie --header X-A",
        "--all-headers --redact-query",
    ] {
        let records = records::parse(&output(&capture, &format!("-o - {options}")));
        assert_eq!(records.len(), exchanges.len(), "{options}");
        records.iter().for_each(|record| check_hidden(record, ""));
    }
    for options in ["", "-v", "--redact-query"] {
        let text = output(&capture, options);
        assert!(!String::from_utf8_lossy(&text).contains(SECRET), "{options}");
    }
    let shown = output(&capture, "-o - --all-headers --show-secrets");
    let count = String::from_utf8(shown).unwrap().matches(SECRET).count();
    assert!(count > 100, "{count}");
}

/// script(1) provides a terminal, under any of its names.
#[test]
fn a_terminal_is_safe_under_any_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("odd.pcap");
    let target = "/\x1b[2J\u{9b}\u{202e}\u{2028}".as_bytes();
    std::fs::write(&path, capture(&[(request(target, b""), OK.to_vec())])).expect("a file");
    for output in ["-", "/dev/stdout", "/dev/tty"] {
        let program = crate::httplines();
        let inner = format!("'{program}' -r {} -q --format text -o {output}", path.display());
        let script = Command::new("script").args(["-qefc", &inner, "/dev/null"]).output();
        let Ok(script) = script else { skip!("needs script(1)") };
        let screen = String::from_utf8(script.stdout).expect("text");
        let shown = r"GET /\x1b[2J\xc2\x9b\xe2\x80\xae\xe2\x80\xa8 HTTP/1.1";
        assert!(screen.contains(shown), "{output}: {screen:?}");
        let is_raw = |it: char| is_unsafe(it) && !"\r\n".contains(it);
        assert!(!screen.contains(is_raw), "{output}: {screen:?}");
    }
}

#[test]
fn other_headers_are_shown() {
    let lines =
        b"User-Agent: a (b; c)\r\nSec-WebSocket-Key: a\r\nX-Request-Id: b\r\nX: y\r\n z\r\n";
    let response = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n\
        Access-Control-Allow-Credentials: true\r\nContent-Length: 0\r\n\r\n";
    let capture = capture(&[(request(b"/a?b", lines), response.to_vec())]);
    for options in ["", "--redact-query"] {
        let text = output(&capture, &format!("-o - --all-headers {options}"));
        let record = &records::parse(&text)[0];
        let requested = json!([
            ["Host", "h"],
            ["User-Agent", "a (b; c)"],
            ["Sec-WebSocket-Key", "a"],
            ["X-Request-Id", "b"],
            ["X", "y z"]
        ]);
        assert_eq!(record["request_headers"], requested);
        let answered = json!([
            ["WWW-Authenticate", "Basic"],
            ["Access-Control-Allow-Credentials", "true"],
            ["Content-Length", "0"]
        ]);
        assert_eq!(record["response_headers"], answered);
    }
}

#[test]
fn uris_are_redacted_in_all_fields_and_forms() {
    let exchanges: Vec<_> = TARGETS
        .iter()
        .map(|uri| {
            let mut lines = Vec::new();
            for name in URI_HEADERS {
                lines.extend([name.as_bytes(), b": ", uri, b"\r\n"].concat());
            }
            // Not a URI by its name; and a line without a colon.
            lines.extend([b"X-A: http:", *uri, b"\r\nLocation ", uri, b"\r\n"].concat());
            let response =
                [b"HTTP/1.1 302 F\r\nLocation: ", *uri, b"\r\nContent-Length: 0\r\n\r\n"];
            let target = [b"GET ", *uri, b" HTTP/1.1\r\n", &lines, b"\r\n"].concat();
            (target, response.concat())
        })
        .collect();
    let capture = capture(&exchanges);
    let named: String = URI_HEADERS.iter().map(|name| format!(" --header {name}")).collect();
    for options in ["", &named, &format!("{named} --headers-as object")] {
        let records = records::parse(&output(&capture, &format!("-o - --redact-query{options}")));
        assert_eq!(records.len(), exchanges.len());
        records.iter().for_each(|record| check_hidden(record, ""));
    }
    for options in ["", "-v"] {
        let text = output(&capture, &format!("--redact-query {options}"));
        assert!(!String::from_utf8_lossy(&text).contains(SECRET));
    }
}

fn line_of(config: &EmitConfig, exchange: &Exchange) -> Vec<u8> {
    let names = IfaceNames::default();
    names.insert(IfaceId(0), "eth\u{202e}0\u{2028}");
    let mut line = Vec::new();
    let key = exchange::key_v4();
    exchange::line(&mut JsonFormat::new(config, names), &exchange::flow(&key), exchange, &mut line);
    line
}

fn redacting() -> EmitConfig {
    EmitConfig { is_query_redacted: true, is_all_headers: true, ..EmitConfig::default() }
}

#[test]
fn what_is_left_of_a_uri_is_shown() {
    let mut exchange = typical();
    exchange.request.clear();
    request_line(&mut exchange.request, b"GET", b"/a\xff?secret", b"HTTP/1.1");
    header(&mut exchange.request, "Host", b"u:secret@h:80");
    header(&mut exchange.request, "Referer", b"http://u:secret@x/?secret");
    exchange.response.clear();
    status_line(&mut exchange.response, b"HTTP/1.1", 302, b"Found");
    header(&mut exchange.response, "Location", b"//u@x/;secret#\xff");
    let record = schema::check_line(&line_of(&redacting(), &exchange));
    assert_eq!(record["target"], "/a\u{fffd}?***");
    assert_eq!(record["target_b64"], "L2H/PyoqKg==");
    assert_eq!(record["host"], "***@h:80");
    assert_eq!(record["referer"], "http://***@x/?***");
    assert_eq!(record["location"], "//***@x/;***");
    let requested = json!([["Host", "***@h:80"], ["Referer", "http://***@x/?***"]]);
    assert_eq!(record["request_headers"], requested);
    assert_eq!(record["response_headers"], json!([["Location", "//***@x/;***"]]));
}

#[test]
fn a_uri_that_was_cut_shows_no_userinfo() {
    let mut exchange = typical();
    let request = &mut exchange.request;
    request.clear();
    put(request, b"GET ");
    request.fields.target = put(request, b"http://SEKRET");
    (request.is_seen, request.start_line_bytes) = (true, request.text.len() as u32);
    let record = schema::check_line(&line_of(&redacting(), &exchange));
    assert_eq!(record["target"], "http://***");
}

#[test]
fn headers_that_the_user_names_are_masked_everywhere() {
    let named = ["user-agent", "X_FOO", "Referer", "Location"].map(String::from);
    for is_secrets_shown in [false, true] {
        let config = EmitConfig {
            masked_headers: named.to_vec(),
            is_all_headers: true,
            is_secrets_shown,
            ..EmitConfig::default()
        };
        let mut exchange = typical();
        header(&mut exchange.request, "X-Foo", b"a");
        header(&mut exchange.request, "X-Food", b"a");
        header(&mut exchange.response, "Location", b"/a");
        let record = schema::check_line(&line_of(&config, &exchange));
        for (field, value) in [("user_agent", "***"), ("referer", "***"), ("location", "***")] {
            assert_eq!(record[field], value);
        }
        assert_eq!(record["host"], "www.example.com");
        let cookie = if is_secrets_shown { "session=0123456789abcdef" } else { "***" };
        let requested = json!([
            ["Host", "www.example.com"],
            ["User-Agent", "***"],
            ["Accept", "*/*"],
            ["Referer", "***"],
            ["Cookie", cookie],
            ["X-Foo", "***"],
            ["X-Food", "a"]
        ]);
        assert_eq!(record["request_headers"], requested);
    }
    let capture = capture(&[(request(b"/", b"X-Foo: a\r\n"), OK.to_vec())]);
    let options = "-o - --all-headers --mask-header x-foo --mask-header Host";
    let record = &records::parse(&output(&capture, options))[0];
    assert_eq!(record["request_headers"], json!([["Host", "***"], ["X-Foo", "***"]]));
    assert_eq!(record["host"], "***");
}

#[test]
fn no_character_that_breaks_or_turns_a_line_is_in_the_output() {
    let is_unsafe = |c: char| {
        c.is_control() && c != '\n'
            || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\
                \u{2066}\u{2067}\u{2068}\u{2069}"
                .contains(c)
    };
    let all: Vec<char> = ('\0'..='\u{ffff}').filter(|c| is_unsafe(*c)).collect();
    assert_eq!(all.len(), 31 + 33 + 14);
    let text: String = all.iter().collect();
    let mut exchange = exchange_of(&vec![text.clone().into_bytes(); 11]);
    header(&mut exchange.request, &text, text.as_bytes());
    header(&mut exchange.response, &text, text.as_bytes());
    let config = EmitConfig { is_all_headers: true, ..EmitConfig::default() };
    let line = String::from_utf8(line_of(&config, &exchange)).unwrap();
    assert!(!line.contains(is_unsafe), "{line}");
    let record = schema::check_line(line.as_bytes());
    for field in ["method", "target", "reason"] {
        assert_eq!(record[field], text, "{field}");
    }
    assert_eq!(record["iface"], "eth\u{202e}0\u{2028}");
    // Spans that are wrong make no difference.
    exchange.request.fields.target = Span::new(1, exchange.request.text.len());
    assert!(!String::from_utf8(line_of(&config, &exchange)).unwrap().contains(is_unsafe));
}

#[test]
fn messages_show_no_control_characters_of_a_name() {
    let output = run(&["-r", "/nowhere/\u{1b}[2J\u{202e}.pcap"], None);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(r"/nowhere/\u{1b}[2J\u{202e}.pcap"), "{stderr}");
}
