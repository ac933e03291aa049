//! Headers as an object: the same as the list, by name, and no name twice.

use httplines::config::{EmitConfig, HeaderShape};
use httplines::ids::IfaceNames;
use httplines::record::{Exchange, JsonFormat};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::conversation::{Conversation, Side};
use crate::support::exchange::{self, header, put, typical};
use crate::support::keys::key_order;
use crate::support::reported::reported_with;
use crate::support::{program, schema};

fn object() -> EmitConfig {
    EmitConfig { is_all_headers: true, header_shape: HeaderShape::Object, ..EmitConfig::default() }
}

fn line(config: &EmitConfig, exchange: &Exchange) -> Vec<u8> {
    let mut line = Vec::new();
    let mut format = JsonFormat::new(config, IfaceNames::default());
    exchange::line(&mut format, &exchange::flow(&exchange::key_v4()), exchange, &mut line);
    line
}

/// The headers of the request as an object, with its keys in their order. Panics if one comes
/// twice.
fn members(line: &[u8]) -> Vec<(String, Value)> {
    #[derive(serde::Deserialize)]
    struct Headers<'a> {
        #[serde(borrow)]
        request_headers: Option<&'a serde_json::value::RawValue>,
    }
    let headers: Headers<'_> = serde_json::from_slice(line).expect("a record");
    let Some(headers) = headers.request_headers.map(|headers| headers.get()) else {
        return Vec::new();
    };
    let values: Value = serde_json::from_str(headers).expect("an object");
    key_order(headers).into_iter().map(|key| (key.clone(), values[&key].clone())).collect()
}

/// The same from a list, as plainly as possible.
fn members_of(list: &[Value]) -> Vec<(String, Value)> {
    let mut members: Vec<(String, Vec<Value>)> = Vec::new();
    for header in list {
        let name = header[0].as_str().expect("a name").to_ascii_lowercase();
        let value = match header.get(2) {
            None => header[1].clone(),
            Some(more) => {
                let mut value = more.clone();
                value["value"] = header[1].clone();
                value
            }
        };
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => members.push((name, vec![value])),
        }
    }
    let one_or_list = |mut values: Vec<Value>| match values.len() {
        1 => values.remove(0),
        _ => Value::from(values),
    };
    members.into_iter().map(|(name, values)| (name, one_or_list(values))).collect()
}

#[test]
fn a_name_is_in_lower_case_and_has_all_its_values() {
    let mut exchange = typical();
    header(&mut exchange.response, "X-A", b"1");
    header(&mut exchange.response, "set-COOKIE", b"b");
    header(&mut exchange.response, "x-a", b"\xff");
    header(&mut exchange.response, "X-A", b"");
    let line = line(&object(), &exchange);
    let record = schema::check_line(&line);
    let names = ["host", "user-agent", "accept", "referer", "cookie"].map(String::from);
    assert_eq!(members(&line).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    assert_eq!(record["request_headers"]["accept"], "*/*");
    assert_eq!(record["request_headers"]["cookie"], "***");
    let answered = &record["response_headers"];
    assert_eq!(answered["set-cookie"], json!(["***", "***"]));
    assert_eq!(answered["x-a"], json!(["1", {"value": "\u{fffd}", "b64": "/w=="}, ""]));
    let named = EmitConfig {
        is_all_headers: false,
        extra_headers: vec!["Accept".into(), "x-A".into()],
        ..object()
    };
    let record = schema::check_line(&self::line(&named, &exchange));
    assert_eq!(record["request_headers"], json!({"accept": "*/*"}));
    assert_eq!(record["response_headers"].as_object().expect("an object").len(), 1);
}

/// Names of which the same is shown, although they differ, are one key.
#[test]
fn no_key_comes_twice() {
    let mut exchange = typical();
    exchange.request.headers.clear();
    let long = "n".repeat(300);
    for name in ["X\u{1f}", "x\u{1f}", "Cookie a", "Cookie b", &long, &format!("{long}m"), ""] {
        header(&mut exchange.request, name, b"v");
    }
    put(&mut exchange.request, b"\r\n");
    let line = line(&object(), &exchange);
    schema::check_line(&line);
    let names: Vec<String> = members(&line).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x\u{1f}", "***", &"n".repeat(256), ""]);
}

/// Thousands of names take no more than a fixed part of a line, and the rest is counted.
#[test]
fn names_without_room_are_counted() {
    let mut exchange = typical();
    exchange.request.headers.clear();
    (0..5_000).for_each(|number| header(&mut exchange.request, &format!("N{number}"), b"v"));
    put(&mut exchange.request, b"\r\n");
    let line = line(&object(), &exchange);
    let record = schema::check_line(&line);
    let members = members(&line);
    assert_eq!(members.last().expect("some").0, format!("n{}", members.len() - 1));
    assert_eq!(record["headers_omitted"], 5_000 - members.len());
    assert!(members.len() > 800, "{}", members.len());
}

#[test]
fn the_option_is_for_headers_in_json_lines() {
    for (options, sentence) in [
        ("-o - --headers-as object", "add --header NAME or --all-headers"),
        ("--headers-as object --all-headers", "are for JSON lines: add -o FILE"),
        ("-o - --all-headers --headers-as map", "--headers-as takes list or object, not map"),
    ] {
        let arguments: Vec<&str> = ["-r", "x"].into_iter().chain(options.split(' ')).collect();
        let output = program::run(&arguments, None);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(sentence), "{options}: {told}");
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[abAB]{0,2}",
        "[aA]{250,260}",
        "\\PC{0,4}",
        prop::sample::select(vec!["X\n\tb", "x b", "Cookie", "COOKIE x", "\u{1}\"\\", "İ", "i̇"])
            .prop_map(String::from),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ -~]{0,20}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..30),
        (0..5_000_usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

proptest! {
    #[test]
    fn an_object_is_the_list_by_name(
        headers in prop::collection::vec((name(), value()), 0..60),
        line_bytes_max in prop::sample::select(vec![0_usize, 9 << 10, 12 << 10, 16 << 10]),
        is_secrets_shown: bool,
        is_query_redacted: bool,
    ) {
        let mut exchange = typical();
        exchange.response.clear();
        exchange.request.headers.clear();
        for (name, value) in &headers {
            header(&mut exchange.request, name, value);
        }
        put(&mut exchange.request, b"\r\n");
        let config =
            EmitConfig { line_bytes_max, is_secrets_shown, is_query_redacted, ..object() };
        let by_name = line(&config, &exchange);
        let record = schema::check_line(&by_name);
        let omitted = record.get("headers_omitted").map_or(0, |count| count.as_u64().unwrap());
        // Each header alone, so that the list has room for it.
        let list = headers.iter().map(|(name, value)| {
            let mut exchange = typical();
            exchange.response.clear();
            exchange.request.headers.clear();
            header(&mut exchange.request, name, value);
            put(&mut exchange.request, b"\r\n");
            let config = EmitConfig { header_shape: HeaderShape::List, ..config.clone() };
            let line = line(&config, &exchange);
            serde_json::from_slice::<Value>(&line).unwrap()["request_headers"][0].take()
        });
        let list: Vec<Value> = list.take(headers.len() - omitted as usize).collect();
        if list.iter().all(|header| header.is_array()) {
            prop_assert_eq!(members(&by_name), members_of(&list));
        }
    }
}

#[test]
fn trailers_of_a_request_that_was_none_are_given_back() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80").segment_bytes(16_000);
    let head = b"POST /u HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
    talk.client(&[&head[..], b"x: ", &[b'a'; 8400]].concat()).server(answer);
    talk.client(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").server(answer).reset(Side::Client);
    // All is given back, which is checked there.
    reported_with(&talk.frames(1_795_442_400_000_000_000, 1_000), &object());
}
