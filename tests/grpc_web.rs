//! Calls of gRPC-Web, over HTTP/1 and HTTP/2: their trailers are a last message in the body.

use crate::grpc::message;
use crate::http2::chosen;
use crate::support::conversation::Conversation;
use crate::support::conversation::Side::{Client, Server};
use crate::support::http2::{DATA, END_HEADERS, END_STREAM, Talk, fields, frame};
use crate::support::records::without;
use crate::support::reported::reported_of;
use proptest::prelude::*;
use serde_json::{Value, json};

const TOLD: [&str; 5] = [
    "grpc_status",
    "grpc_message",
    "grpc_request_messages",
    "grpc_response_messages",
    "grpc_encoding",
];
const NONE: [Value; 5] = [const { Value::Null }; 5];

const TRAILERS: &[u8] = b"grpc-status: 5\r\ngrpc-message:no%20such%20thing\r\n";

/// A message of the client, and two with trailers of the server.
fn bodies() -> [Vec<u8>; 2] {
    let answer = [message(0, b"one"), message(1, &[2; 300]), message(0x80, TRAILERS)];
    [message(0, b"ask"), answer.concat()]
}

fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    [body.chunks(chunk_bytes).flat_map(chunk).collect(), b"0\r\n\r\n".to_vec()].concat()
}

fn to_base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for part in bytes.chunks(3) {
        let at = |at: usize| usize::from(part.get(at).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digit = |at: usize| match at <= part.len() {
            true => DIGITS[bits >> (18 - 6 * at) & 63],
            false => b'=',
        };
        out.extend((0..4).map(digit));
    }
    out
}

/// A call over HTTP/1.
struct Call {
    method: &'static str,
    kind: [&'static str; 2],
    head: &'static str,
    request: Vec<u8>,
    response: Vec<u8>,
    chunk_bytes: Option<usize>,
}

impl Call {
    fn new() -> Call {
        let [request, response] = bodies();
        let kind = ["application/grpc-web+proto"; 2];
        let head = "grpc-encoding: gzip\r\n";
        Call { method: "POST", kind, head, request, response, chunk_bytes: None }
    }

    fn talk(&self, segment_bytes: usize) -> Conversation {
        let mut talk =
            Conversation::new("10.0.0.1:4000", "10.0.0.2:80").segment_bytes(segment_bytes);
        let framed = |body: &[u8]| match self.chunk_bytes {
            Some(bytes) => {
                let head = b"transfer-encoding: chunked\r\n\r\n".to_vec();
                [head, chunked(body, bytes)].concat()
            }
            None => [format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
        };
        let [ask, answer] = self.kind;
        let method = self.method;
        let request = format!("{method} /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: {ask}\r\n");
        talk.handshake().client(&[request.as_bytes(), &framed(&self.request)].concat());
        let response = format!("HTTP/1.1 200 OK\r\ncontent-type: {answer}\r\n{}", self.head);
        talk.server(&[response.as_bytes(), &framed(&self.response)].concat());
        // The connection goes on.
        talk.client(b"GET /next HTTP/1.1\r\n\r\n");
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
        talk
    }

    /// The record of the call; the next exchange is no call.
    fn record(&self, segment_bytes: usize) -> Value {
        let frames = self.talk(segment_bytes).frames(1_795_442_400_000_000_000, 1_000_000);
        let mut records = reported_of(&frames).records;
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!(chosen(&records[1], &["target", "status"]), json!(["/next", 204]));
        assert_eq!(chosen(&records[1], &TOLD), Value::from(NONE.to_vec()));
        records.remove(0)
    }

    fn told(&self) -> Value {
        let told = chosen(&self.record(1460), &TOLD);
        assert_eq!(told, chosen(&self.record(1), &TOLD), "byte by byte");
        told
    }
}

fn expected() -> Value {
    json!([5, "no such thing", 1, 2, "gzip"])
}

#[test]
fn a_call_over_http1() {
    for chunk_bytes in [None, Some(1), Some(7), Some(4096)] {
        let call = Call { chunk_bytes, ..Call::new() };
        assert_eq!(call.told(), expected(), "{chunk_bytes:?}");
        assert!(call.record(1460)["duration_ns"].is_u64());
    }
}

#[test]
fn a_call_in_base64() {
    let [request, response] = bodies().map(|body| to_base64(&body));
    let kind = ["application/grpc-web-text", "application/grpc-web-text+proto"];
    let whole = Call { kind, request: request.clone(), response, ..Call::new() };
    assert_eq!(whole.told(), expected());
    // A server that encodes each message as it comes: there is padding between them.
    let [_, plain] = bodies();
    let response = plain.chunks(13).flat_map(to_base64).collect();
    let parts = Call { kind, request, response, chunk_bytes: Some(5), ..Call::new() };
    assert_eq!(parts.told(), expected());
    let line_ends = Call { response: b"AAAA\r\nAAAA".to_vec(), ..parts };
    assert_eq!(line_ends.told(), json!([null, null, 1, null, null]));
}

#[test]
fn each_side_may_have_its_own_form() {
    let [request, _] = bodies().map(|body| to_base64(&body));
    let kind = ["application/grpc-web-text", "application/grpc-web+proto"];
    assert_eq!(Call { kind, request, ..Call::new() }.told(), expected());
    let page = Call { kind: ["application/grpc-web", "text/html"], ..Call::new() };
    assert_eq!(page.told(), json!([null, null, 1, null, null]));
}

#[test]
fn gets_and_other_types_are_no_calls() {
    // The filter itself finds the bodies of downloads.
    let get = Call { method: "GET", ..Call::new() };
    assert_eq!(get.told(), Value::from(NONE.to_vec()));
    let typed = Call { kind: ["application/json"; 2], ..Call::new() };
    assert_eq!(typed.told(), Value::from(NONE.to_vec()));
}

#[test]
fn a_response_without_a_body_has_its_status_in_the_head() {
    let head = "grpc-status: 16\r\ngrpc-message: who%3F\r\n";
    for chunk_bytes in [None, Some(100)] {
        let call = Call { head, response: Vec::new(), chunk_bytes, ..Call::new() };
        assert_eq!(call.told(), json!([16, "who?", 1, 0, null]));
    }
    // With a body, it is not the end of the call.
    let call = Call { head, response: message(0, b"one"), ..Call::new() };
    assert_eq!(call.told(), json!([null, null, 1, 1, null]));
    let folded = "x: 1\r\n grpc-status: 3\r\n";
    let call = Call { head: folded, response: Vec::new(), ..Call::new() };
    assert_eq!(call.told(), json!([null, null, 1, 0, null]));
}

#[test]
fn odd_trailers() {
    let ended = |more: &[Vec<u8>]| {
        let response = [&[message(0, b"one")], more].concat().concat();
        Call { response, head: "", ..Call::new() }.told()
    };
    assert_eq!(ended(&[]), json!([null, null, 1, 1, null]));
    assert_eq!(ended(&[message(0x80, b"")]), json!([null, null, 1, 1, null]));
    assert_eq!(ended(&[message(0x80, b"GRPC-Status:0")]), json!([0, null, 1, 1, null]));
    let twice = message(0x80, b"grpc-status: 0\r\ngrpc-status: 3\r\n");
    assert_eq!(ended(&[twice]), json!([null, null, 1, 1, null]));
    // Compressed ones cannot be read.
    assert_eq!(ended(&[message(0x81, TRAILERS)]), json!([null, null, 1, 1, null]));
    // Nor with a byte behind them.
    let stray = [message(0x81, b"\ngrpc-status: 7\n"), vec![0]];
    assert_eq!(ended(&stray), json!([null, null, 1, null, null]));
    // They are cut off.
    assert_eq!(ended(&[message(0x80, TRAILERS)[..20].to_vec()]), json!([null, null, 1, 1, null]));
    // They are the last message.
    let behind = [message(0x80, TRAILERS), message(0, b"")];
    assert_eq!(ended(&behind), json!([5, "no such thing", 1, null, null]));
    let long = [b"x: ".to_vec(), vec![b'x'; 9000], b"\r\ngrpc-status: 0\r\n".to_vec()].concat();
    assert_eq!(ended(&[message(0x80, &long)]), json!([null, null, 1, 1, null]));
}

#[test]
fn statuses_that_differ_are_a_conflict() {
    for (status, expected) in [("0", Value::Null), ("3", json!(true))] {
        let text = format!("grpc-status: 0\r\ngrpc-status: {status}\r\n");
        let call = Call { response: message(0x80, text.as_bytes()), ..Call::new() };
        assert_eq!(call.record(1460)["conflict"], expected, "{status}");
    }
}

#[test]
fn lost_bytes_end_the_count() {
    let response = [message(0, &[1; 5000]), message(0x80, TRAILERS)].concat();
    let call = Call { response, ..Call::new() };
    let mut talk = call.talk(1000);
    talk.lose(Server, 2);
    let records = reported_of(&talk.frames(1_795_442_400_000_000_000, 20_000_000)).records;
    assert_eq!(records[0]["gap_bytes"], 1000);
    assert_eq!(chosen(&records[0], &TOLD), json!([null, null, 1, null, null]));
    let mut talk = Call { request: message(0, &[1; 5000]), ..Call::new() }.talk(1000);
    talk.lose(Client, 2);
    let records = reported_of(&talk.frames(1_795_442_400_000_000_000, 20_000_000)).records;
    assert_eq!(chosen(&records[0], &TOLD), json!([5, "no such thing", null, 2, "gzip"]));
}

#[test]
fn a_call_over_http2() {
    let [request, response] = bodies();
    let mut talk = Talk::new();
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a.B/C"),
        (":authority", "a.example"),
        ("content-type", "application/grpc-web"),
    ]);
    talk.ask(1, END_HEADERS, &head).client(frame(DATA, END_STREAM, 1, &request));
    let head =
        [(":status", "200"), ("content-type", "application/grpc-web"), ("grpc-encoding", "gzip")];
    talk.answer(1, END_HEADERS, &head);
    for part in response.chunks(9) {
        talk.server(frame(DATA, 0, 1, part));
    }
    talk.server(frame(DATA, END_STREAM, 1, b""));
    assert_eq!(chosen(&crate::http2::told(&talk)[0], &TOLD), expected());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes are cut, the records are the same.
    #[test]
    fn segments_and_chunks_change_nothing(
        sizes in prop::collection::vec(0..400_usize, 0..6),
        chunk_bytes in prop::option::of(1..700_usize),
        segment_bytes in prop_oneof![1..50_usize, Just(1460)],
        is_text: bool,
    ) {
        let messages = sizes.iter().map(|size| message(0, &vec![b'x'; *size]));
        let response: Vec<u8> = messages.chain([message(0x80, TRAILERS)]).flatten().collect();
        let count = sizes.len();
        let call = match is_text {
            false => Call { response, chunk_bytes, ..Call::new() },
            true => Call {
                kind: ["application/grpc-web-text"; 2],
                request: to_base64(&bodies()[0]),
                response: to_base64(&response),
                chunk_bytes,
                ..Call::new()
            },
        };
        let record = call.record(segment_bytes);
        let expected = json!([5, "no such thing", 1, count, null]);
        prop_assert_eq!(chosen(&record, &TOLD), expected);
        let times =
            ["ts", "flow", "connect_ns", "request_ns", "ttfb_ns", "response_ns", "duration_ns"];
        let both = [record, call.record(1460)].map(|record| without(vec![record], &times));
        prop_assert_eq!(&both[0], &both[1]);
    }
}
