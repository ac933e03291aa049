//! The shapes of HTTP/2: each is read in whole segments and byte by byte, and gives the same
//! records.

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Side::{self, Client, Server};
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, Talk, WHOLE, fields, frame, get, padded,
};
use crate::support::records::without;
use crate::support::reported::{Reported, reported_of};
use crate::support::schema;
use serde_json::{Value, json};

const TIMES: [&str; 7] =
    ["ts", "connect_ns", "request_ns", "ttfb_ns", "response_ns", "duration_ns", "flow"];

/// The records of the talk.
pub fn told(talk: &Talk) -> Vec<Value> {
    let [whole, split] = [1 << 14, 1]
        .map(|segment_bytes| without(reported_of(&talk.frames(segment_bytes)).records, &TIMES));
    assert_eq!(whole, split, "in segments of one byte");
    whole
}

/// These fields of the only record.
fn only(talk: &Talk, names: &[&str]) -> Value {
    let records = told(talk);
    assert_eq!(records.len(), 1, "{records:?}");
    chosen(&records[0], names)
}

pub fn chosen(record: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| record[*name].clone()).collect()
}

pub fn stats(talk: &Talk) -> Reported {
    reported_of(&talk.frames(1 << 14))
}

#[test]
fn an_exchange_has_the_fields_of_http1_and_its_own() {
    let mut talk = Talk::new();
    let post = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a.example:8080"),
        (":path", "/up?x=1"),
        ("user-agent", "test/1"),
        ("referer", "http://a.example/"),
        ("content-type", "text/plain"),
    ]);
    talk.ask(1, END_HEADERS, &post).client(frame(DATA, END_STREAM, 1, b"12345"));
    talk.answer(
        1,
        END_HEADERS,
        &[
            (":status", "302"),
            ("server", "srv"),
            ("content-type", "text/html"),
            ("location", "/there"),
        ],
    );
    talk.server(frame(DATA, 0, 1, b"abc")).server(frame(DATA, END_STREAM, 1, b"defg"));
    let expected = json!([{
        "n": 0, "client_ip": "10.0.0.1", "client_port": 4000, "server_ip": "10.0.0.2",
        "server_port": 80, "stream": 1, "scheme": "https", "method": "POST", "target": "/up?x=1",
        "version": "HTTP/2", "host": "a.example:8080", "user_agent": "test/1",
        "referer": "http://a.example/", "request_content_type": "text/plain", "status": 302,
        "response_content_type": "text/html", "server": "srv", "location": "/there",
        "request_body_bytes": 5, "response_body_bytes": 7, "outcome": "complete",
    }]);
    assert_eq!(Value::from(told(&talk)), expected);
    let record = &reported_of(&talk.frames(1 << 14)).records[0];
    let times = ["connect_ns", "request_ns", "ttfb_ns", "response_ns", "duration_ns"];
    // The frames are 1 ms apart, with an acknowledgement between any two that one side sends.
    let ms = [1, 2, 2, 4, 8].map(|ms: u64| json!(ms * 1_000_000));
    assert_eq!(chosen(record, &times), Value::from(ms.to_vec()));
}

#[test]
fn header_blocks_come_in_frames_of_all_forms() {
    let mut talk = Talk::new();
    let block = talk.block(Client, &get("/padded"));
    let priority = [&[0, 0, 0, 0, 15][..], &block].concat();
    talk.client(frame(HEADERS, WHOLE | PADDED | PRIORITY, 1, &padded(&priority, 200)));
    talk.answer(1, WHOLE, &[(":status", "204")]);
    let block = talk.block(Client, &get("/continued"));
    talk.client(frame(HEADERS, END_STREAM | PADDED, 3, &padded(&block[..1], 3)));
    talk.client(frame(CONTINUATION, 0, 3, &[]));
    for byte in &block[1..] {
        talk.client(frame(CONTINUATION, 0, 3, &[*byte]));
    }
    talk.client(frame(CONTINUATION, END_HEADERS, 3, &[]));
    // Frames of connections and of extensions may come between any two messages.
    talk.server(frame(PING, 0, 0, &[7; 8])).server(frame(0xfa, 0xff, 3, b"extension"));
    talk.server(frame(2, 0, 3, &[0, 0, 0, 0, 1])).server(frame(8, 0, 0, &[0, 0, 1, 0]));
    talk.answer(3, END_HEADERS, &[(":status", "200")]);
    talk.server(frame(DATA, PADDED, 3, &padded(b"abc", 255)));
    talk.server(frame(DATA, END_STREAM | PADDED, 3, &padded(b"", 0)));
    let records = told(&talk);
    let names = ["n", "stream", "target", "status", "response_body_bytes", "outcome"];
    assert_eq!(chosen(&records[0], &names), json!([0, 1, "/padded", 204, 0, "complete"]));
    assert_eq!(chosen(&records[1], &names), json!([1, 3, "/continued", 200, 3, "complete"]));
}

#[test]
fn streams_are_interleaved_and_answered_in_any_order() {
    let mut talk = Talk::new();
    for stream in [1, 3, 5] {
        talk.ask(stream, END_HEADERS, &get(&format!("/{stream}")));
    }
    for stream in [3, 1, 5, 1, 3] {
        talk.client(frame(DATA, 0, stream, &[0; 10]));
    }
    for stream in [5, 1, 3] {
        talk.client(frame(DATA, END_STREAM, stream, b""));
        talk.answer(stream, WHOLE, &[(":status", "200")]);
    }
    let records = told(&talk);
    let names = ["n", "stream", "target", "request_body_bytes", "outcome"];
    let all: Vec<_> = records.iter().map(|record| chosen(record, &names)).collect();
    assert_eq!(
        Value::from(all),
        json!([
            [2, 5, "/5", 10, "complete"],
            [0, 1, "/1", 20, "complete"],
            [1, 3, "/3", 20, "complete"]
        ])
    );
}

#[test]
fn interim_responses_and_trailers_are_no_responses() {
    let mut talk = Talk::new();
    talk.ask(1, END_HEADERS, &get("/a"));
    talk.answer(1, END_HEADERS, &[(":status", "100")]);
    talk.answer(1, END_HEADERS, &[(":status", "103"), ("link", "</a.css>")]);
    talk.client(frame(DATA, 0, 1, b"1234"));
    talk.ask(1, WHOLE, &fields(&[("content-type", "x/trailer")]));
    talk.answer(1, END_HEADERS, &[(":status", "200"), ("content-type", "a/b")]);
    talk.server(frame(DATA, 0, 1, b"12"));
    talk.answer(1, WHOLE, &[("content-type", "x/trailer"), ("server", "no")]);
    let names = [
        "interim",
        "status",
        "request_content_type",
        "response_content_type",
        "server",
        "request_body_bytes",
        "response_body_bytes",
        "outcome",
    ];
    assert_eq!(only(&talk, &names), json!([[100, 103], 200, null, "a/b", null, 4, 2, "complete"]));
}

#[test]
fn a_reset_says_who_and_why() {
    let reset = |talk: &mut Talk, side: Side, stream: u32, code: u32| {
        let bytes = frame(RST_STREAM, 0, stream, &code.to_be_bytes());
        if side == Client {
            talk.client(bytes)
        } else {
            talk.server(bytes)
        };
    };
    let mut talk = Talk::new();
    talk.ask(1, WHOLE, &get("/1"));
    reset(&mut talk, Server, 1, 7);
    // The request goes on.
    talk.ask(3, END_HEADERS, &get("/3"));
    reset(&mut talk, Client, 3, 8);
    // The response goes on.
    talk.ask(5, WHOLE, &get("/5")).answer(5, END_HEADERS, &[(":status", "200")]);
    talk.server(frame(DATA, 0, 5, b"abc"));
    reset(&mut talk, Server, 5, 4242);
    // What the server sent before it read the reset is its answer, nevertheless.
    talk.ask(7, WHOLE, &get("/7"));
    reset(&mut talk, Client, 7, 8);
    talk.answer(7, END_HEADERS, &[(":status", "200")]);
    // A server that answers early may ask for no more of the request.
    talk.ask(9, END_HEADERS, &get("/9")).answer(9, WHOLE, &[(":status", "413")]);
    reset(&mut talk, Server, 9, 0);
    let names = ["stream", "status", "outcome", "end_reason", "reset_by", "reset_code"];
    let mut all: Vec<_> = told(&talk).iter().map(|record| chosen(record, &names)).collect();
    all.sort_by_key(|record| record[0].as_u64());
    assert_eq!(
        Value::from(all),
        json!([
            [1, null, "no_response", "reset", "server", "refused_stream"],
            [3, null, "truncated", "reset", "client", "cancel"],
            [5, 200, "truncated", "reset", "server", "4242"],
            [7, 200, "truncated", "reset", "client", "cancel"],
            [9, 413, "complete", null, "server", "no_error"]
        ])
    );
    let early = told(&talk).into_iter().find(|record| record["stream"] == 9);
    assert_eq!(early.expect("a record")["early_response"], true);
}

#[test]
fn a_goaway_ends_the_streams_above_its_last() {
    let mut talk = Talk::new();
    talk.ask(1, WHOLE, &get("/1")).ask(3, WHOLE, &get("/3"));
    talk.server(frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'b', b'y', b'e']));
    talk.ask(5, WHOLE, &get("/5"));
    talk.answer(1, WHOLE, &[(":status", "200")]);
    let names = ["stream", "outcome", "end_reason"];
    let all: Vec<_> = told(&talk).iter().map(|record| chosen(record, &names)).collect();
    assert_eq!(
        Value::from(all),
        json!([[3, "no_response", "goaway"], [5, "no_response", "goaway"], [1, "complete", null]])
    );
}

#[test]
fn a_push_has_the_request_of_its_promise() {
    let mut talk = Talk::new();
    talk.ask(1, WHOLE, &get("/page"));
    let promise = talk.block(Server, &get("/style.css"));
    let payload = padded(&[&[0, 0, 0, 2][..], &promise].concat(), 5);
    talk.server(frame(PUSH_PROMISE, END_HEADERS | PADDED, 1, &payload));
    talk.answer(1, WHOLE, &[(":status", "200")]);
    talk.answer(2, END_HEADERS, &[(":status", "200")]).server(frame(DATA, END_STREAM, 2, b"css"));
    let names = ["n", "stream", "pushed", "target", "response_body_bytes", "outcome"];
    let all: Vec<_> = told(&talk).iter().map(|record| chosen(record, &names)).collect();
    assert_eq!(
        Value::from(all),
        json!([[0, 1, null, "/page", 0, "complete"], [1, 2, true, "/style.css", 3, "complete"]])
    );
}

#[test]
fn connect_and_extended_connect() {
    let mut talk = Talk::new();
    let plain = fields(&[(":method", "CONNECT"), (":authority", "far.example:443")]);
    talk.ask(1, END_HEADERS, &plain).answer(1, END_HEADERS, &[(":status", "200")]);
    talk.client(frame(DATA, END_STREAM, 1, b"hello")).server(frame(DATA, END_STREAM, 1, b"hi"));
    let extended = fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a.example"),
    ]);
    talk.ask(3, END_HEADERS, &extended).answer(3, WHOLE, &[(":status", "403")]);
    let names = [
        "stream",
        "method",
        "target",
        "host",
        "connect_protocol",
        "status",
        "request_body_bytes",
        "switched",
    ];
    let all: Vec<_> = told(&talk).iter().map(|record| chosen(record, &names)).collect();
    assert_eq!(
        Value::from(all),
        json!([
            [1, "CONNECT", null, "far.example:443", null, 200, 5, null],
            [3, "CONNECT", "/chat", "a.example", "websocket", 403, 0, null]
        ])
    );
}

#[test]
fn an_exchange_of_http1_before_the_preface_keeps_its_number() {
    let mut talk = Talk::bare();
    talk.client("GET /one HTTP/1.1\r\n\r\n").server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    talk.client([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    talk.server(frame(SETTINGS, 0, 0, &[]));
    talk.ask(1, WHOLE, &get("/two")).answer(1, WHOLE, &[(":status", "200")]);
    let records = reported_of(&talk.frames(1 << 14)).records;
    assert_eq!(records[0]["flow"], records[1]["flow"]);
    let numbers: Vec<_> = records.iter().map(|record| chosen(record, &["n", "version"])).collect();
    assert_eq!(Value::from(numbers), json!([[0, "HTTP/1.1"], [1, "HTTP/2"]]));
}

#[test]
fn fields_that_contradict_each_other_are_a_conflict() {
    let request = |more: &[(&str, &str)]| {
        let all = [&get("/a")[..], &fields(more)].concat();
        let mut talk = Talk::new();
        talk.ask(1, WHOLE, &all).answer(1, WHOLE, &[(":status", "200")]);
        only(&talk, &["method", "host", "conflict"])
    };
    assert_eq!(request(&[("host", "a.example")]), json!(["GET", "a.example", null]));
    assert_eq!(request(&[("host", "b.example")]), json!(["GET", "a.example", true]));
    assert_eq!(request(&[(":method", "PUT")]), json!(["GET", "a.example", true]));
    assert_eq!(request(&[("x", "a\r\nb: c")]), json!(["GET", "a.example", true]));
    let mut talk = Talk::new();
    let host_only = fields(&[(":method", "GET"), (":path", "/"), ("host", "h.example")]);
    talk.ask(1, WHOLE, &host_only).answer(1, WHOLE, &[(":status", "no")]);
    assert_eq!(
        only(&talk, &["host", "scheme", "status", "conflict", "outcome"]),
        json!(["h.example", null, null, true, "complete"])
    );
    // A block that is not encoded as it must be ends with what is wrong.
    let mut talk = Talk::new();
    let block = [&talk.block(Client, &get("/b"))[..], &[0x80]].concat();
    talk.client(frame(HEADERS, WHOLE, 1, &block)).answer(1, WHOLE, &[(":status", "200")]);
    assert_eq!(only(&talk, &["target", "conflict"]), json!(["/b", true]));
    assert_eq!(stats(&talk).stats.protocol.http2.blocks_faulty, 1);
}

/// The lines of the program.
fn lines(frames: &[WrittenFrame], options: &[&str]) -> Vec<String> {
    let capture = pcap(Order::Little, Unit::Nano, 1, frames);
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("talk.pcap");
    std::fs::write(&path, capture).expect("a file");
    let output = std::process::Command::new(crate::httplines())
        .args(["-q", "-r", &path.display().to_string()])
        .args(options)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_string).collect()
}

#[test]
fn line_breaks_in_values_break_neither_a_line_nor_a_head() {
    let mut talk = Talk::new();
    let hostile = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a\r\nCookie: SEKRET"),
        (":path", "/a HTTP/1.1\r\nHost: b\r\n\r\nGET /c"),
        ("x-a", "1\nAuthorization: SEKRET"),
        ("x-b\r\ny", "2\x003"),
    ]);
    talk.ask(1, WHOLE, &hostile).answer(1, WHOLE, &[(":status", "200"), ("server", "a\n b")]);
    let frames = talk.frames(1 << 14);
    let text = lines(&frames, &[]);
    assert_eq!(text, ["GET /a HTTP/1.1␍␊Host: b␍␊␍␊GET /c HTTP/2", "HTTP/2 200"]);
    let json = lines(&frames, &["-o", "-", "--all-headers"]);
    assert_eq!(json.len(), 1);
    let record = schema::check_line(format!("{}\n", json[0]).as_bytes());
    assert!(!json[0].contains("SEKRET"), "{}", json[0]);
    assert_eq!(record["target"], "/a HTTP/1.1␍␊Host: b␍␊␍␊GET /c");
    assert_eq!((&record["server"], &record["conflict"]), (&json!("a␊ b"), &json!(true)));
    let names: Vec<_> =
        record["request_headers"].as_array().expect("a list").iter().map(|pair| &pair[0]).collect();
    assert_eq!(names, ["host", "x-a", "x-b␍␊y"]);
}

#[test]
fn text_lines_masks_and_headers_by_name() {
    let mut talk = Talk::new();
    let secret = fields(&[("authorization", "Basic SEKRET"), ("via", "1.1 proxy"), ("host", "x")]);
    let request = [&get("/a?token=SEKRET")[..], &secret].concat();
    talk.ask(1, WHOLE, &request).answer(1, END_HEADERS, &[(":status", "103")]);
    talk.answer(
        1,
        WHOLE,
        &[(":status", "404"), ("set-cookie", "id=SEKRET"), ("x-long", &"y".repeat(5000))],
    );
    let frames = talk.frames(1 << 14);
    assert_eq!(
        lines(&frames, &["--redact-query"]),
        ["GET /a?*** HTTP/2", "HTTP/2 103", "HTTP/2 404"]
    );
    let json = lines(&frames, &["-o", "-", "--redact-query", "--all-headers", "--records", "http"]);
    assert!(!json[0].contains("SEKRET"), "{}", json[0]);
    let record = schema::check_line(format!("{}\n", json[0]).as_bytes());
    assert_eq!(
        record["request_headers"],
        json!([
            ["host", "a.example"],
            ["user-agent", "test/1"],
            ["authorization", "***"],
            ["via", "1.1 proxy"],
            ["host", "x"]
        ])
    );
    assert_eq!(record["response_headers"][1][2], json!({"len": 5000}));
    let via = lines(&frames, &["-o", "-", "--header", "Via", "--only", "status=404"]);
    let record = schema::check_line(format!("{}\n", via[0]).as_bytes());
    assert_eq!(record["request_headers"], json!([["via", "1.1 proxy"]]));
}

#[test]
fn what_is_not_utf8_is_shown_with_its_bytes() {
    let mut talk = Talk::new();
    let mut odd = get("/a");
    odd[3].1 = b"/\xff".to_vec();
    talk.ask(1, WHOLE, &odd).answer(1, WHOLE, &[(":status", "200")]);
    assert_eq!(only(&talk, &["target", "target_b64"]), json!(["/\u{fffd}", "L/8="]));
}

#[test]
fn header_blocks_beyond_the_limit_are_cut() {
    // Compressed.
    let mut talk = Talk::new();
    let long = [&get("/long")[..], &fields(&[("x-long", &"~".repeat(70_000))])].concat();
    let block = talk.block(Client, &long);
    talk.client(frame(HEADERS, END_STREAM, 1, &block[..16_000]));
    for part in block[16_000..].chunks(16_000) {
        talk.client(frame(CONTINUATION, 0, 1, part));
    }
    talk.client(frame(CONTINUATION, END_HEADERS, 1, b""));
    talk.answer(1, WHOLE, &[(":status", "431")]);
    talk.ask(3, WHOLE, &get("/next")).answer(3, WHOLE, &[(":status", "200")]);
    let reported = stats(&talk);
    let names = ["target", "status", "outcome"];
    assert_eq!(chosen(&reported.records[0], &names), json!(["/long", 431, "complete"]));
    assert_eq!(chosen(&reported.records[1], &names), json!(["/next", 200, "complete"]));
    assert_eq!(reported.stats.protocol.http2.blocks_cut, 1);
    // Decoded: an index costs a byte, and stands for 3,000.
    let mut talk = Talk::new();
    let entry = fields(&[("x-bomb", &"z".repeat(3000))]);
    talk.ask(1, WHOLE, &[&get("/fuse")[..], &entry].concat());
    let block = talk.block(Client, &[&get("/bomb")[..], &entry].concat());
    let bomb = [&block[..], &vec![0xbe; 10_000]].concat();
    talk.client(frame(HEADERS, WHOLE, 3, &bomb));
    talk.ask(5, WHOLE, &[&get("/after")[..], &entry].concat());
    let reported = stats(&talk);
    let targets: Vec<_> = reported.records.iter().map(|record| &record["target"]).collect();
    assert_eq!(targets, ["/fuse", "/bomb", "/after"]);
    assert_eq!(reported.stats.protocol.http2.blocks_cut, 1);
    assert_eq!(reported.stats.protocol.http2.fields_unknown, 0);
}

#[test]
fn the_oldest_of_too_many_streams_is_given_up() {
    let mut talk = Talk::new();
    for number in 0..1030_u32 {
        talk.ask(2 * number + 1, WHOLE, &get("/a"));
    }
    talk.answer(1, WHOLE, &[(":status", "200")]).answer(2059, WHOLE, &[(":status", "200")]);
    let reported = stats(&talk);
    assert_eq!(reported.records.len(), 1030);
    assert_eq!(reported.stats.protocol.http2.streams_given_up, 6);
    let names = ["stream", "outcome", "end_reason"];
    assert_eq!(chosen(&reported.records[0], &names), json!([1, "no_response", null]));
    assert_eq!(chosen(&reported.records[6], &names), json!([2059, "complete", null]));
}

#[test]
fn the_server_may_speak_first() {
    let mut talk = Talk::bare();
    talk.server(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0x20, 0]));
    talk.client([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    talk.encoder(Client).set_size_max(8192);
    talk.ask(1, WHOLE, &get("/a")).answer(1, WHOLE, &[(":status", "200")]);
    let reported = stats(&talk);
    let names = ["target", "status", "midstream", "conflict"];
    assert_eq!(chosen(&reported.records[0], &names), json!(["/a", 200, null, null]));
    let http2 = &reported.stats.protocol.http2;
    assert_eq!((http2.joined_late, http2.lost_header_blocks), (0, 0));
}

#[test]
fn what_breaks_the_framing_is_skipped_to_the_next_segment_with_frames() {
    for broken in [
        frame(PING, 0, 0, &[0; 7]),
        frame(SETTINGS, 0, 1, &[]),
        frame(RST_STREAM, 0, 1, &[0; 5]),
        frame(DATA, 0, 0, b"abc"),
        frame(0xfe, 0, 0, &[0; 16_385]),
    ] {
        let mut talk = Talk::new();
        talk.ask(1, WHOLE, &get("/a")).answer(1, WHOLE, &[(":status", "200")]);
        talk.client(broken);
        talk.ask(3, WHOLE, &get("/b")).answer(3, WHOLE, &[(":status", "200")]);
        let reported = stats(&talk);
        assert_eq!(reported.stats.protocol.http2.places_lost, 1);
        let known: Vec<_> =
            reported.records.iter().map(|record| chosen(record, &["stream", "status"])).collect();
        assert_eq!(Value::from(known), json!([[1, 200], [3, 200]]));
        assert_eq!(reported.records[1]["method"], "GET");
        // It referred to the fields before.
        assert_eq!(reported.records[1]["headers_unknown"], 2);
        assert_eq!(reported.records[1].get("host"), None);
    }
}

#[test]
fn joined_late_only_what_is_certain_is_told() {
    let mut talk = Talk::new();
    let request = |path: &str| {
        let more = fields(&[("x-request", "same")]);
        [&get(path)[..], &more].concat()
    };
    talk.ask(1, WHOLE, &request("/1")).answer(
        1,
        END_HEADERS,
        &[(":status", "200"), ("server", "s")],
    );
    let count = talk.sent.len();
    talk.server(frame(DATA, END_STREAM, 1, &[0; 100]));
    talk.ask(3, WHOLE, &request("/3")).answer(3, WHOLE, &[(":status", "404"), ("server", "s")]);
    let renewed = [&request("/5")[..], &fields(&[("user-agent", "new/1")])].concat();
    talk.ask(5, WHOLE, &renewed).answer(5, WHOLE, &[(":status", "200")]);
    talk.ask(7, WHOLE, &get("/7")).answer(7, WHOLE, &[(":status", "200")]);
    talk.joined_after(count);
    let reported = stats(&talk);
    let names = ["stream", "method", "target", "host", "status", "server", "headers_unknown"];
    let all: Vec<_> = reported.records.iter().map(|record| chosen(record, &names)).collect();
    assert_eq!(
        Value::from(all),
        json!([
            [3, "GET", "/3", null, 404, null, 4],
            [5, "GET", "/5", null, 200, null, 3],
            [7, "GET", "/7", null, 200, null, 2]
        ])
    );
    assert!(reported.records.iter().all(|record| record["midstream"] == true));
    let http2 = &reported.stats.protocol.http2;
    assert_eq!((http2.connections, http2.joined_late, http2.fields_unknown), (1, 1, 9));
}

#[test]
fn what_only_looks_like_a_frame_is_no_connection_of_http2() {
    // A protocol whose messages begin with their length, and one that goes on in HTTP/1.
    let like = frame(SETTINGS, 0, 0, &[0; 12]);
    for next in [&b"\0\0\0\x20other"[..], b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut talk = Talk::bare();
        talk.client(like.clone())
            .client(next)
            .server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        talk.joined_after(0);
        let reported = stats(&talk);
        assert_eq!(reported.stats.protocol.http2.connections, 0);
        let is_http1 = next.starts_with(b"GET");
        assert_eq!(reported.records.len(), 1);
        assert_eq!(reported.records[0]["target"], if is_http1 { json!("/a") } else { Value::Null });
    }
}

/// A client that knows the numbers cannot make a whole connection vanish by a preface in front of
/// what the endpoint sends.
#[test]
fn a_forged_preface_is_taken_back_by_the_endpoints_own_bytes() {
    let mut talk = Talk::bare();
    let real = "GET /real HTTP/1.1\r\nHost: a.example\r\n\r\n";
    talk.client(real).server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let mut frames = talk.frames(1 << 14);
    let mut forged = Talk::bare();
    forged.client([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    // In front of the client's first segment, which is the fourth packet.
    frames.insert(3, forged.frames(1 << 14)[3].clone());
    let records = reported_of(&frames).records;
    assert!(records.iter().any(|record| record["status"] == 200), "{records:?}");
}

/// What a server allows is not known if nothing of it is captured, nor what it has answered.
#[test]
fn of_a_client_alone_nothing_is_said_about_its_server() {
    let mut talk = Talk::new();
    talk.server(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0x27, 0x10]));
    talk.encoder(Client).set_size_max(10_000);
    talk.ask(1, WHOLE, &get("/a")).answer(1, END_HEADERS, &[(":status", "200")]);
    talk.server(frame(DATA, END_STREAM, 1, b"abc"));
    let names = ["target", "conflict", "response_body_bytes"];
    let both = talk.frames(1448);
    assert_eq!(chosen(&reported_of(&both).records[0], &names), json!(["/a", null, 3]));
    let is_of_client = |it: &&WrittenFrame| it.bytes[26..30] == [10, 0, 0, 1];
    let alone: Vec<_> = both.iter().filter(is_of_client).cloned().collect();
    assert_eq!(chosen(&reported_of(&alone).records[0], &names), json!(["/a", null, null]));
}
