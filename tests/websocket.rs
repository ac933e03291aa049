//! Talks of WebSocket: what each side sent is counted by its frames, in whole segments and byte by
//! byte alike, and nothing is told that is not known.

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Conversation;
use crate::support::conversation::Side::{self, Client, Server};
use crate::support::http2::{
    self, DATA, END_HEADERS, END_STREAM, RST_STREAM, Talk, WHOLE, fields, get,
};
use crate::support::records::{self, without};
use crate::support::reported::{Reported, reported_with};
use crate::support::websocket::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, answer, close, frame, frame_of, request,
};
use crate::support::{program, schema};
use httplines::config::{EmitConfig, RecordKinds};
use serde_json::{Value, json};

const BOTH: RecordKinds =
    RecordKinds { http: true, websocket: true, tls: false, is_tls_early: false };

fn emit() -> EmitConfig {
    EmitConfig { records: BOTH, ..EmitConfig::default() }
}

/// What both sides send behind the handshake, in order.
type Sent = Vec<(Side, Vec<u8>)>;

/// The connection on which both sides send this, after the exchange that opens the talk.
fn conversation(opening: &[String; 2], sent: &Sent, segment_bytes: usize) -> Conversation {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80").segment_bytes(segment_bytes);
    talk.handshake().client(opening[0].as_bytes()).server(opening[1].as_bytes());
    for (side, bytes) in sent {
        match side {
            Client => talk.client(bytes),
            Server => talk.server(bytes),
        };
    }
    talk
}

fn frames(talk: &Conversation) -> Vec<WrittenFrame> {
    talk.frames(1_795_442_400_000_000_000, 1_000_000)
}

fn told(talk: &mut Conversation) -> Reported {
    let reported = reported_with(&frames(talk), &emit());
    reported
        .lines
        .split_inclusive(|byte| *byte == b'\n')
        .for_each(|line| drop(schema::check_line(line)));
    reported
}

/// The record of the talk, without its times, whatever the length of the segments.
fn talk_of(opening: &[String; 2], sent: &Sent) -> Value {
    let [whole, split] = [1 << 14, 1].map(|segment_bytes| {
        let mut records = told(conversation(opening, sent, segment_bytes).finish()).records;
        assert_eq!(records.len(), 2, "{records:?}");
        let mut record = records.pop().expect("the talk");
        assert_eq!(records[0]["status"], 101, "the exchange is told at once");
        assert_eq!((&records[0]["flow"], &records[0]["n"]), (&record["flow"], &record["n"]));
        let fields = record.as_object_mut().expect("an object");
        ["ts", "flow", "duration_ns"].iter().for_each(|name| drop(fields.remove(*name)));
        record
    });
    assert_eq!(whole, split, "in segments of one byte");
    whole
}

fn chosen(record: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| record[*name].clone()).collect()
}

/// The counts of a side.
fn counts(record: &Value, side: &str) -> Value {
    let names = ["messages", "text", "binary", "message_bytes", "frames"];
    names.iter().map(|name| record[format!("{side}_{name}")].clone()).collect()
}

/// The exchange that opens a talk.
fn opening(headers: &str) -> [String; 2] {
    [request().to_string(), answer(headers)]
}

fn usual() -> [String; 2] {
    opening("")
}

#[test]
fn a_talk_has_the_counts_of_both_sides() {
    let sent = vec![
        (Client, frame(Client, FIN | TEXT, b"hello")),
        (Server, frame(Server, FIN | BINARY, &[0; 126])),
        (Server, frame(Server, FIN | BINARY, &vec![1; 70_000])),
        (Client, frame(Client, TEXT, b"in ")),
        (Client, frame(Client, FIN | PING, b"now")),
        (Server, frame(Server, FIN | PONG, b"now")),
        (Client, frame(Client, CONTINUATION, b"")),
        (Client, frame(Client, FIN | CONTINUATION, b"parts")),
        (Server, frame(Server, FIN | TEXT, b"")),
        (Server, close(Server, 1001, "going")),
        (Client, close(Client, 1000, "echo")),
    ];
    let record = talk_of(&opening("Sec-WebSocket-Protocol: chat.v2\r\n"), &sent);
    let expected = json!({
        "type": "websocket", "n": 0, "client_ip": "10.0.0.1", "client_port": 4000,
        "server_ip": "10.0.0.2", "server_port": 80, "host": "a.example", "target": "/chat?room=1",
        "subprotocol": "chat.v2", "client_messages": 2, "server_messages": 3, "client_text": 2,
        "server_text": 1, "client_binary": 0, "server_binary": 2, "client_message_bytes": 13,
        "server_message_bytes": 70_126, "client_frames": 6, "server_frames": 5, "pings": 1,
        "pongs": 1, "close_by": "server", "close_code": 1001, "close_reason": "going",
        "outcome": "complete",
    });
    assert_eq!(record, expected);
}

#[test]
fn times_are_those_of_the_answer_and_of_the_last_byte() {
    let sent = vec![(Client, frame(Client, FIN | TEXT, b"a")), (Server, close(Server, 1000, ""))];
    let records = told(conversation(&usual(), &sent, 1460).finish()).records;
    // The handshake has three packets, each message one and an acknowledgement.
    assert_eq!(records[1]["ts"], "2026-11-23T14:00:00.005000000Z");
    assert_eq!(records[1]["duration_ns"], 4_000_000);
}

#[test]
fn what_was_agreed_upon_is_told() {
    let compressed = vec![(Server, frame(Server, FIN | TEXT | 0x40, b"\xaa\x00"))];
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let record = talk_of(&opening(deflate), &compressed);
    let names = ["deflate", "server_message_bytes", "conflict"];
    assert_eq!(chosen(&record, &names), json!([true, 2, null]));
    // Without the extension, the bit is forbidden.
    assert_eq!(chosen(&talk_of(&usual(), &compressed), &names), json!([null, 2, true]));
}

#[test]
fn a_talk_is_complete_if_both_sides_have_closed_it() {
    let names = ["close_by", "close_code", "close_reason", "outcome", "end_reason"];
    for (sent, expected) in [
        (vec![], json!([null, null, null, "truncated", "fin"])),
        (
            vec![(Client, close(Client, 1000, ""))],
            json!(["client", 1000, null, "truncated", "fin"]),
        ),
        (
            vec![(Client, close(Client, 3000, "bye")), (Server, close(Server, 3001, "no"))],
            json!(["client", 3000, "bye", "complete", null]),
        ),
        (
            vec![
                (Server, frame(Server, FIN | CLOSE, b"")),
                (Client, frame(Client, FIN | CLOSE, b"")),
                (Client, b"what follows belongs to nothing".to_vec()),
            ],
            json!(["server", null, null, "complete", null]),
        ),
        // A code is two bytes.
        (
            vec![(Server, frame(Server, FIN | CLOSE, b"\x03"))],
            json!(["server", null, null, "truncated", "fin"]),
        ),
    ] {
        assert_eq!(chosen(&talk_of(&usual(), &sent), &names), expected);
    }
    let mut reset = conversation(&usual(), &vec![], 1460);
    let records = told(reset.reset(Server)).records;
    assert_eq!(chosen(&records[1], &names[3..]), json!(["truncated", "rst"]));
    let exit = told(&mut conversation(&usual(), &vec![], 1460)).records;
    assert_eq!(chosen(&exit[1], &names[3..]), json!(["truncated", "exit"]));
}

#[test]
fn a_reason_is_told_like_the_value_of_a_header() {
    let reason = |bytes: &[u8]| {
        let payload = [&[0x0b, 0xb8][..], bytes].concat();
        let sent = vec![(Server, frame(Server, FIN | CLOSE, &payload))];
        let record = talk_of(&usual(), &sent);
        chosen(&record, &["close_reason", "close_reason_b64", "close_reason_len", "conflict"])
    };
    assert_eq!(reason("\"ü\u{1b}".as_bytes()), json!(["\"ü\u{1b}", null, null, null]));
    assert_eq!(reason(b"a\xff"), json!(["a\u{fffd}", "Yf8=", null, null]));
    assert_eq!(reason(b"a\r\n b"), json!(["a b", null, null, null]));
    assert_eq!(reason(b"no\rCookie: secret"), json!(["no\r***", null, null, null]));
    // Longer than a frame that controls the talk may be: that is forbidden, and cut.
    let long = reason(&[b'r'; 300]);
    assert_eq!(long[0].as_str().map(str::len), Some(123));
    assert_eq!((&long[2], &long[3]), (&json!(300), &json!(true)));
}

/// What an endpoint refuses is read as far as its length tells where it ends, and the record says
/// that it was there.
#[test]
fn forbidden_frames_are_counted_and_told() {
    for (what, bytes, [messages, frames]) in [
        ("a kind that is not defined", frame(Client, FIN | 3, b"abc"), [1, 2]),
        ("a control that is not defined", frame(Client, FIN | 11, b"abc"), [1, 2]),
        ("a reserved bit", frame(Client, FIN | TEXT | 0x10, b"abc"), [2, 2]),
        ("not masked", frame(Server, FIN | TEXT, b"abc"), [2, 2]),
        ("a ping in parts", frame(Client, PING, b"abc"), [1, 2]),
        ("a long ping", frame(Client, FIN | PING, &[0; 126]), [1, 2]),
        ("a message that never began goes on", frame(Client, FIN | CONTINUATION, b"a"), [1, 2]),
        (
            "a message within a message",
            [frame(Client, TEXT, b"a"), frame(Client, FIN | BINARY, b"b")].concat(),
            [2, 3],
        ),
    ] {
        let sent = vec![(Client, bytes), (Client, frame(Client, FIN | TEXT, b"then"))];
        let record = talk_of(&usual(), &sent);
        let names = ["client_messages", "client_frames", "conflict"];
        assert_eq!(chosen(&record, &names), json!([messages, frames, true]), "{what}");
    }
    let masked = vec![(Server, frame(Client, FIN | TEXT, b"abc"))];
    let record = talk_of(&usual(), &masked);
    assert_eq!(chosen(&record, &["server_text", "conflict"]), json!([1, true]));
    // A length that is none: nothing behind it is read, and what was before it counts.
    let sent = vec![
        (Server, frame(Server, FIN | TEXT, b"abc")),
        (Server, [&[0x82, 127][..], &[0xff; 8]].concat()),
        (Server, frame(Server, FIN | TEXT, b"abc")),
    ];
    let record = talk_of(&usual(), &sent);
    assert_eq!(counts(&record, "server"), json!([1, 1, 0, 3, 1]));
    assert_eq!(chosen(&record, &["conflict", "outcome"]), json!([true, "truncated"]));
}

#[test]
fn a_hole_inside_a_payload_changes_no_count() {
    let sent = vec![
        (Server, frame(Server, FIN | BINARY, &[0; 1000])),
        (Server, frame(Server, FIN | TEXT, b"then")),
        (Server, close(Server, 1000, "")),
        (Client, close(Client, 1000, "")),
    ];
    let whole = talk_of(&usual(), &sent);
    let mut talk = conversation(&usual(), &sent, 200);
    let mut records = told(talk.lose(Server, 3).finish()).records;
    let fields = records[1].as_object_mut().expect("an object");
    assert_eq!(fields.remove("gap_bytes"), Some(json!(200)));
    ["ts", "flow", "duration_ns"].iter().for_each(|name| drop(fields.remove(*name)));
    assert_eq!(records[1], whole);
}

#[test]
fn a_hole_across_a_head_ends_the_counts_of_its_side() {
    let sent = vec![
        (Client, frame(Client, FIN | TEXT, b"hi")),
        (Server, frame(Server, FIN | BINARY, &[0; 300])),
        (Client, close(Client, 1000, "done")),
        (Server, frame(Server, FIN | TEXT, b"then")),
        (Server, close(Server, 1001, "")),
    ];
    // The second segment of the frame holds its end; the third, the next head.
    let mut talk = conversation(&usual(), &sent, 160);
    let told = told(talk.lose(Server, 3).finish());
    let record = &told.records[1];
    assert_eq!(counts(record, "client"), json!([1, 1, 0, 2, 2]));
    assert_eq!(counts(record, "server"), json!([null, null, null, null, null]));
    // The server may have closed it first, and may not have closed it.
    let names = ["pings", "pongs", "close_by", "close_code", "close_reason", "outcome"];
    let expected = json!([null, null, null, 1000, "done", null]);
    assert_eq!(chosen(record, &names), expected);
    assert_eq!(record["gap_bytes"], 6);
    let stats = &told.stats.protocol.websocket;
    assert_eq!((stats.talks, stats.talks_unclear, stats.places_lost), (1, 1, 1));
}

#[test]
fn a_close_behind_a_loss_of_the_other_side_may_not_be_the_first() {
    let sent = vec![
        (Server, frame(Server, FIN | TEXT, b"lost")),
        (Server, close(Server, 1001, "")),
        (Client, close(Client, 1000, "echo")),
    ];
    let mut talk = conversation(&usual(), &sent, 1460);
    let record = &told(talk.lose(Server, 1).finish()).records[1];
    assert_eq!(chosen(record, &["close_by", "close_code", "outcome"]), json!([null, 1000, null]));
}

#[test]
fn a_hole_in_a_close_cuts_its_reason() {
    let sent = vec![(Server, close(Server, 1000, "the reason")), (Client, close(Client, 1000, ""))];
    let mut talk = conversation(&usual(), &sent, 4);
    // The answer is in segments of four bytes, too.
    let before = answer("").len().div_ceil(4);
    let record = &told(talk.lose(Server, before + 2).finish()).records[1];
    let names = ["close_code", "close_reason", "close_reason_len", "gap_bytes", "outcome"];
    assert_eq!(chosen(record, &names), json!([1000, "the ", 10, 4, "complete"]));
}

/// Text lines and exchanges are the same whether talks are told or not.
#[test]
fn only_who_asks_is_told() {
    let sent = vec![(Client, frame(Client, FIN | TEXT, b"hello"))];
    let frames = frames(conversation(&usual(), &sent, 1460).finish());
    let with = reported_with(&frames, &emit());
    let without = reported_with(&frames, &EmitConfig::default());
    assert_eq!((with.records.len(), without.records.len()), (2, 1));
    assert_eq!(with.records[0], without.records[0]);
    assert_eq!(with.stats.protocol.websocket.talks, 1);
    assert_eq!(without.stats.protocol.websocket.talks, 0);
}

#[test]
fn what_does_not_switch_to_websocket_is_no_talk() {
    let sent = vec![(Client, frame(Client, FIN | TEXT, b"hello"))];
    let other = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\n\r\n";
    let refused = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for response in [other, refused] {
        let opening = [request().to_string(), response.to_string()];
        let told = told(conversation(&opening, &sent, 1460).finish());
        assert_eq!((told.records.len(), told.stats.protocol.websocket.talks), (1, 0));
    }
    // Joined late: frames alone are not recognised.
    let mut late = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    late.client(&frame(Client, FIN | TEXT, b"hello")).server(&frame(Server, FIN | TEXT, b"hi"));
    assert_eq!(told(late.finish()).records, Vec::<Value>::new());
}

/// Frames in any length are counted, however long the payload that they announce.
#[test]
fn lengths_of_all_forms() {
    for (bytes, [frames, message_bytes]) in [
        (frame_of(FIN | BINARY, None, 7, &[0; 5]), [1, 5]),
        (frame_of(FIN | BINARY, None, 16, &[0; 5]), [1, 5]),
        (frame_of(FIN | BINARY, None, 64, &[0; 5]), [1, 5]),
        ([&[0x82, 127, 0x7f][..], &[0xff; 7], &[0; 50]].concat(), [0, 50]),
    ] {
        let record = talk_of(&usual(), &vec![(Server, bytes)]);
        let names = ["server_frames", "server_message_bytes", "conflict"];
        assert_eq!(chosen(&record, &names), json!([frames, message_bytes, null]));
    }
}

/// Bytes of the client that came before the answer were read as HTTP: where its frames begin is not
/// known.
#[test]
fn a_client_that_does_not_wait_is_not_counted() {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    talk.handshake().client(request().as_bytes());
    talk.client(&frame(Client, FIN | TEXT, b"too early"));
    talk.server(answer("").as_bytes()).server(&frame(Server, FIN | TEXT, b"hi"));
    let record = &told(talk.finish()).records[1];
    assert_eq!(counts(record, "client"), json!([null, null, null, null, null]));
    assert_eq!(counts(record, "server"), json!([1, 1, 0, 2, 1]));
}

/// Floods of what costs a sender least: nothing of them is kept.
#[test]
fn floods_cost_no_memory() {
    let empty = frame(Client, FIN | TEXT, b"").repeat(200_000);
    let pings = frame(Client, FIN | PING, b"").repeat(200_000);
    let endless = [frame(Server, TEXT, b"a"), frame(Server, CONTINUATION, b"b").repeat(200_000)];
    let sent = vec![(Client, empty), (Client, pings), (Server, endless.concat())];
    let record = &told(conversation(&usual(), &sent, 60_000).finish()).records[1];
    assert_eq!(counts(record, "client"), json!([200_000, 200_000, 0, 0, 400_000]));
    assert_eq!(counts(record, "server"), json!([0, 0, 0, 200_001, 200_001]));
    assert_eq!(record["pings"], 200_000);
}

/// The talk of an extended CONNECT over HTTP/2, and the exchange that opens it.
fn over_http2(sent: &Sent, data_bytes: usize, end: impl FnOnce(&mut Talk)) -> Vec<Value> {
    let mut talk = Talk::new();
    let connect = fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/chat?room=1"),
    ]);
    talk.ask(1, END_HEADERS, &connect);
    talk.answer(1, END_HEADERS, &[(":status", "200"), ("sec-websocket-protocol", "chat")]);
    // Another stream goes on beside it.
    talk.ask(3, WHOLE, &get("/other"));
    talk.answer(3, END_HEADERS, &[(":status", "200")]);
    for (side, bytes) in sent {
        for part in bytes.chunks(data_bytes) {
            let data = http2::frame(DATA, 0, 1, part);
            match side {
                Client => talk.client(data),
                Server => talk.server(data),
            };
            talk.server(http2::frame(DATA, 0, 3, b"other"));
        }
    }
    end(&mut talk);
    let [whole, split] = [1 << 14, 1].map(|segment_bytes| {
        let frames = talk.frames(segment_bytes);
        let with = reported_with(&frames, &emit()).records;
        let without = reported_with(&frames, &EmitConfig::default()).records;
        let is_talk = |record: &Value| record["type"] == "websocket";
        let exchanges: Vec<_> = with.iter().filter(|it| !is_talk(it)).cloned().collect();
        assert_eq!(exchanges, without, "exchanges are the same whether talks are told or not");
        without_times(with.into_iter().filter(is_talk).collect())
    });
    assert_eq!(whole, split, "in segments of one byte");
    whole
}

fn without_times(records: Vec<Value>) -> Vec<Value> {
    without(records, &["ts", "flow", "duration_ns"])
}

fn end_stream(talk: &mut Talk) {
    talk.client(http2::frame(DATA, END_STREAM, 1, b""))
        .server(http2::frame(DATA, END_STREAM, 1, b""));
}

#[test]
fn a_talk_over_http2_is_counted_by_the_same_code() {
    let sent = vec![
        (Client, frame(Client, FIN | TEXT, b"hello")),
        (Server, frame(Server, FIN | BINARY, &[0; 300])),
        (Client, frame(Client, FIN | PING, b"")),
    ];
    let mut closed = sent.clone();
    closed.push((Client, close(Client, 1000, "done")));
    closed.push((Server, close(Server, 1000, "")));
    for data_bytes in [1, 7, 1 << 14] {
        let talks = over_http2(&closed, data_bytes, end_stream);
        let over_http1 = talk_of(&opening("Sec-WebSocket-Protocol: chat\r\n"), &closed);
        assert_eq!(talks, [over_http1]);
    }
    let end_of = |end: fn(&mut Talk)| {
        let talks = over_http2(&sent, 100, end);
        assert_eq!(counts(&talks[0], "client"), json!([1, 1, 0, 5, 2]));
        chosen(&talks[0], &["outcome", "end_reason"])
    };
    assert_eq!(end_of(end_stream), json!(["truncated", "fin"]));
    let reset = |talk: &mut Talk| {
        talk.server(http2::frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    };
    assert_eq!(end_of(reset), json!(["truncated", "reset"]));
    assert_eq!(end_of(|_| ()), json!(["truncated", "fin"]));
}

#[test]
fn a_connect_that_is_refused_or_for_something_else_is_no_talk() {
    for (protocol, status) in [("websocket", "403"), ("other", "200")] {
        let mut talk = Talk::new();
        let connect = fields(&[
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/"),
        ]);
        talk.ask(1, END_HEADERS, &connect).answer(1, END_HEADERS, &[(":status", status)]);
        end_stream(&mut talk);
        let told = reported_with(&talk.frames(1460), &emit());
        assert_eq!((told.records.len(), told.stats.protocol.websocket.talks), (1, 0));
    }
}

/// Bytes lost in DATA are bytes of the talk; where a frame of HTTP/2 may have been lost, so may one
/// of the talk.
#[test]
fn losses_in_http2_are_losses_of_the_talk() {
    let payload = frame(Server, FIN | BINARY, &[0; 3000]);
    let record = |lost: usize| {
        let mut talk = Talk::new();
        let connect = fields(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", "/"),
        ]);
        talk.ask(1, END_HEADERS, &connect).answer(1, END_HEADERS, &[(":status", "200")]);
        talk.server(http2::frame(DATA, 0, 1, &payload));
        talk.server(http2::frame(DATA, 0, 1, &frame(Server, FIN | TEXT, b"then")));
        talk.client(http2::frame(DATA, 0, 1, &frame(Client, FIN | TEXT, b"hi")));
        let mut frames = talk.frames(1000);
        // The segments of the server: SETTINGS, HEADERS, four of the payload, and the last one.
        let of_server: Vec<usize> = (0..frames.len())
            .filter(|at| frames[*at].bytes.len() > 60 && frames[*at].bytes[29] == 2)
            .collect();
        frames.remove(of_server[lost]);
        let told = reported_with(&frames, &emit());
        told.records.into_iter().find(|it| it["type"] == "websocket").expect("a talk")
    };
    let inside = record(3);
    assert_eq!(counts(&inside, "server"), json!([2, 1, 1, 3004, 2]));
    assert_eq!(inside["gap_bytes"], 1000);
    let head = record(2);
    assert_eq!(counts(&head, "server"), json!([null, null, null, null, null]));
    assert_eq!(counts(&head, "client"), json!([1, 1, 0, 2, 1]));
}

/// The answer that switches the connection is believed until another copy of it differs.
#[test]
fn an_answer_that_another_copy_contradicts_opens_no_talk() {
    let forged = answer("");
    let real = "HTTP/1.1 200 OK\r\nContent-Length: 120\r\n\r\n";
    let real = format!("{real}{}", "x".repeat(forged.len() - real.len()));
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    talk.handshake().client(request().as_bytes()).server(forged.as_bytes());
    talk.client(b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n");
    talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
    let mut frames = frames(talk.finish());
    // The server's own segment, with the same numbers, right behind the forged one.
    let at =
        frames.iter().position(|it| it.bytes.ends_with(forged.as_bytes())).expect("it is there");
    let mut own = frames[at].clone();
    let start = own.bytes.len() - forged.len();
    own.bytes[start..].copy_from_slice(real.as_bytes());
    frames.insert(at + 1, own);
    let told = reported_with(&frames, &emit());
    assert!(told.records.iter().all(|it| it["type"].is_null()), "{:?}", told.records);
    let stats = &told.stats.protocol.websocket;
    assert_eq!((stats.talks, stats.talks_withdrawn), (1, 1));
    let is_next = |record: &Value| record["target"] == "/next" && record["status"] == 204;
    assert!(told.records.iter().any(is_next), "{:?}", told.records);
}

/// What the program prints of a capture with a talk on `/chat?room=1` and an exchange on `/other`.
fn printed(options: &[&str]) -> std::process::Output {
    let sent = vec![
        (Client, frame(Client, FIN | TEXT, b"hello")),
        (Server, close(Server, 1000, "see http://u:p@h/?q")),
        (Client, close(Client, 1000, "")),
    ];
    let mut talk = conversation(&usual(), &sent, 1460);
    let mut frames = frames(talk.finish());
    let mut other = Conversation::new("10.0.0.1:4001", "10.0.0.2:80");
    other.handshake().client(b"GET /other HTTP/1.1\r\nHost: b.example\r\n\r\n");
    other.server(b"HTTP/1.1 204 No Content\r\n\r\n");
    frames.extend(other.finish().frames(1_795_442_401_000_000_000, 1_000_000));
    let capture = pcap(Order::Little, Unit::Nano, 1, &frames);
    program::run(&[&["-r", "-"], options].concat(), Some(&capture))
}

#[test]
fn options_act_on_a_talk_as_on_its_exchange() {
    const KINDS: [&str; 4] = ["-o", "-", "--records", "http,websocket"];
    let lines = |options: &[&str]| {
        let output = printed(&[&KINDS, options].concat());
        let totals = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(totals.contains("every frame, flow and line is accounted for"), "{totals}");
        records::parse(&output.stdout)
    };
    let kinds = |options: &[&str]| -> Value {
        let told = lines(options);
        told.iter().map(|record| json!([record["type"], record["target"]])).collect()
    };
    let (talk, its, other) = (
        json!(["websocket", "/chat?room=1"]),
        json!([null, "/chat?room=1"]),
        json!([null, "/other"]),
    );
    assert_eq!(kinds(&[]), json!([its, talk, other]));
    for condition in ["status=101", "host=A.example", "method=GET", "target=/chat*", "client=10.*"]
    {
        let told = kinds(&["--only", condition, "--except", "target=/other"]);
        assert_eq!(told, json!([its, talk]), "{condition}");
    }
    assert_eq!(kinds(&["--except", "status=101"]), json!([other]));
    // Exchanges count, talks do not.
    assert_eq!(kinds(&["-c", "2"]), json!([its, talk, other]));
    let masked = &lines(&["--redact-query"])[1];
    assert_eq!(masked["target"], "/chat?***");
    assert_eq!(masked["close_reason"], "see http://***@h/?***");
    let hidden = &lines(&["--mask-header", "close-reason"])[1];
    assert_eq!(hidden["close_reason"], "***");
    let alone = printed(&["-o", "-", "--records", "websocket"]);
    let alone = records::parse(&alone.stdout);
    assert_eq!((alone.len(), &alone[0]["type"]), (1, &json!("websocket")));
    let none = printed(&["-o", "-", "--records", "websocket", "--only", "host=b.example"]);
    let totals = String::from_utf8_lossy(&none.stderr).into_owned();
    let counts = "1 exchanges withheld, 1 exchanges that --records does not name, \
                  1 talks of WebSocket withheld";
    assert!(totals.contains(counts) && !totals.contains("all exchanges"), "{totals}");
}

#[test]
fn options_that_have_no_talks_say_so() {
    for (options, answer) in [
        (&["--records", "http,websocket"][..], "have JSON lines only: add -o FILE"),
        (&["-o", "-", "--records", "websocket", "-c", "1"], "-c counts exchanges: add http"),
    ] {
        let output = program::run(&[&["-r", "-"], options].concat(), None);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(answer), "{stderr}");
    }
    let text = printed(&[]);
    let lines = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(lines.lines().count(), 4, "{lines}");
}
