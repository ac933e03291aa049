//! The fields behind bodies, of HTTP/2 and of chunked bodies.

use crate::support::conversation::Conversation;
use crate::support::http2::{DATA, END_HEADERS, Talk, WHOLE, fields, frame, get};
use crate::support::reported::records_as;
use httplines::config::{EmitConfig, HeaderShape};
use serde_json::{Value, json};

const START_NS: u64 = 1_795_442_400_000_000_000;

fn all() -> EmitConfig {
    EmitConfig { is_all_headers: true, ..EmitConfig::default() }
}

fn named(names: &[&str]) -> EmitConfig {
    let extra_headers = names.iter().map(|name| name.to_string()).collect();
    EmitConfig { extra_headers, ..EmitConfig::default() }
}

/// An exchange of HTTP/2 with trailers of both sides.
fn talk() -> Talk {
    let mut talk = Talk::new();
    talk.ask(1, END_HEADERS, &get("/a")).client(frame(DATA, 0, 1, b"body"));
    talk.ask(1, WHOLE, &fields(&[("x-sum", "12"), ("authorization", "Bearer abc")]));
    talk.answer(1, END_HEADERS, &[(":status", "200"), ("server", "srv")]);
    talk.server(frame(DATA, 0, 1, b"answer"));
    talk.answer(
        1,
        WHOLE,
        &[("x-sum", "34"), ("set-cookie", "a=b"), ("X-Sum", "56"), ("x\n", "\r")],
    );
    talk
}

/// A connection of HTTP/1 with a chunked body, whose trailer is `trailer`, in both directions.
fn conversation(trailer: &str, segment_bytes: usize) -> Conversation {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80").segment_bytes(segment_bytes);
    let body = format!("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0;last\r\n{trailer}\r\n");
    talk.handshake().client(format!("POST /a HTTP/1.1\r\n{body}").as_bytes());
    talk.server(format!("HTTP/1.1 200 OK\r\n{body}").as_bytes());
    talk.client(b"GET /b HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
    talk
}

/// The trailers of both sides.
fn both(records: &[Value]) -> Value {
    json!([records[0]["request_trailers"], records[0]["response_trailers"]])
}

#[test]
fn of_http2() {
    let frames = talk().frames(1 << 14);
    let expected = json!([
        [["x-sum", "12"], ["authorization", "***"]],
        [["x-sum", "34"], ["set-cookie", "***"], ["X-Sum", "56"], ["x\u{240a}", "\u{240d}"]],
    ]);
    let records = records_as(&all(), &frames);
    assert_eq!(both(&records), expected);
    assert_eq!(records, records_as(&all(), &frames), "again");
    let heads = ["host", "user-agent"];
    let request = records[0]["request_headers"].as_array().expect("headers");
    assert_eq!(request.iter().map(|pair| pair[0].clone()).collect::<Vec<_>>(), heads);
    let split = records_as(&all(), &talk().frames(1));
    assert_eq!(both(&split), expected);
    assert_eq!(both(&records_as(&EmitConfig::default(), &frames)), json!([null, null]));
}

#[test]
fn by_name_masked_and_as_objects() {
    let frames = talk().frames(1 << 14);
    let chosen = both(&records_as(&named(&["X-SUM"]), &frames));
    assert_eq!(chosen, json!([[["x-sum", "12"]], [["x-sum", "34"], ["X-Sum", "56"]]]));
    let shown = EmitConfig { is_secrets_shown: true, ..named(&["authorization"]) };
    let shown = both(&records_as(&shown, &frames));
    assert_eq!(shown, json!([[["authorization", "Bearer abc"]], null]));
    let masked_headers = vec!["x-sum".to_string()];
    let masked = EmitConfig { masked_headers, ..named(&["x-sum"]) };
    let masked = both(&records_as(&masked, &frames));
    assert_eq!(masked, json!([[["x-sum", "***"]], [["x-sum", "***"], ["X-Sum", "***"]]]));
    let object = EmitConfig { header_shape: HeaderShape::Object, ..all() };
    let object = both(&records_as(&object, &frames));
    assert_eq!(object[0], json!({"x-sum": "12", "authorization": "***"}));
    assert_eq!(object[1]["x-sum"], json!(["34", "56"]));
}

#[test]
fn of_chunked_bodies() {
    let trailer = "X-Sum: 12\r\nAuthorization:Bearer abc\r\nFold: a\r\n  b\r\n";
    let list = json!([["X-Sum", "12"], ["Authorization", "***"], ["Fold", "a b"]]);
    for segment_bytes in [1, 7, 1460] {
        let frames = conversation(trailer, segment_bytes).frames(START_NS, 1_000_000);
        let records = records_as(&all(), &frames);
        assert_eq!(both(&records), json!([list, list]), "{segment_bytes}");
        assert_eq!(records[1].get("request_trailers"), None);
        let records = records_as(&EmitConfig::default(), &frames);
        assert_eq!(both(&records), json!([null, null]));
    }
    let frames = conversation("", 1460).frames(START_NS, 1_000_000);
    assert_eq!(both(&records_as(&all(), &frames)), json!([null, null]));
}

#[test]
fn long_ones_are_cut_and_counted() {
    let trailer = "a: 1\r\n".repeat(2000);
    let frames = conversation(&trailer, 1460).frames(START_NS, 1_000_000);
    let records = records_as(&named(&["a"]), &frames);
    let shown = both(&records)
        .as_array()
        .expect("two")
        .iter()
        .map(|list| list.as_array().map_or(0, Vec::len))
        .sum::<usize>();
    let omitted = records[0]["headers_omitted"].as_u64().expect("a number") as usize;
    // The first 8 KiB of each are kept.
    assert_eq!(shown + omitted, 2 * (8192 / 6));
    assert_eq!(records[1]["target"], "/b");
}
