//! `--active-timeout`: what is under way for long is told while it is, and nothing else changes.

use std::collections::BTreeMap;

use httplines::capture::LinkType;
use httplines::config::{Config, EmitConfig, FlowConfig};
use httplines::ids::IfaceNames;
use httplines::pipeline::Pipeline;
use httplines::record::{Event, EventSink, Format, JsonFormat, Wants};
use httplines::time::TimestampNs;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Conversation;
use crate::support::conversation::Side::{Client, Server};
use crate::support::http2::{DATA, END_HEADERS, END_STREAM, PING, Talk, WHOLE, frame, get};
use crate::support::packet::{ACK, Packet, SYN};
use crate::support::traffic::plan;
use crate::support::websocket::{self, FIN, TEXT};
use crate::support::{program, records, schema};

mod root;

const SECOND_NS: u64 = 1_000_000_000;
/// 2023-11-14T22:13:20Z.
const START_NS: u64 = 1_700_000_000 * SECOND_NS;

/// The lines of a run on these frames, checked against the schema, and the totals.
fn run(frames: &[WrittenFrame], options: &str) -> (Vec<Value>, String) {
    let arguments = format!("-r - -o - {options}");
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let output = program::run(&arguments, Some(&pcap(Order::Little, Unit::Nano, 1, frames)));
    let totals = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{totals}");
    assert!(totals.contains("every frame, flow and line is accounted for"), "{totals}");
    let lines = output.stdout.split_inclusive(|byte| *byte == b'\n');
    (lines.map(schema::check_line).collect(), totals)
}

fn is_partial(record: &Value) -> bool {
    record["partial"] == true
}

/// What identifies a record.
fn key(record: &Value) -> (String, u64) {
    (record["flow"].as_str().expect("a flow").to_string(), record["n"].as_u64().expect("a number"))
}

/// Partial records, and whole ones. Asserts that each partial one is followed by later ones of its
/// exchange, and these by the whole one.
fn parted(lines: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let mut latest = BTreeMap::new();
    for line in lines {
        match line["active_ns"].as_u64() {
            Some(active_ns) => {
                let before = latest.insert(key(line), active_ns);
                assert!(before.is_none_or(|before| before < active_ns), "{line}");
            }
            None => _ = latest.remove(&key(line)),
        }
    }
    assert!(latest.is_empty(), "these were never told whole: {latest:?}");
    lines.iter().cloned().partition(is_partial)
}

/// The whole and partial records of these frames with a timeout of 10 s. Asserts that without the
/// option the whole ones are the same.
fn told(frames: &[WrittenFrame]) -> (Vec<Value>, Vec<Value>) {
    let (partial, whole) = parted(&run(frames, "--active-timeout 10").0);
    assert_eq!(whole, run(frames, "").0);
    (partial, whole)
}

/// The second of the capture that a partial record tells of, as far as it is whole.
fn second(record: &Value) -> u64 {
    let ts = record["ts"].as_str().expect("a time");
    let seconds = |from: usize| ts[from..from + 2].parse::<u64>().expect("digits");
    let began = seconds(11) * 3600 + seconds(14) * 60 + seconds(17);
    began - (22 * 3600 + 13 * 60 + 20) + record["active_ns"].as_u64().expect("a time") / SECOND_NS
}

/// Asserts that `field` is the number of bytes that were sent until the moment that the record
/// tells of, if these many pass at these seconds; and that a record comes each 10 s.
fn check_counts(records: &[Value], field: &str, bytes_at: &[(u64, u64)]) {
    assert!(records.len() > 2, "{records:?}");
    for (number, record) in records.iter().enumerate() {
        let second = second(record);
        let expected: u64 =
            bytes_at.iter().filter(|(at, _)| *at <= second).map(|(_, bytes)| bytes).sum();
        assert_eq!(record[field], expected, "at {second} s: {record}");
        let due_ns = (number as u64 + 1) * 10 * SECOND_NS;
        let active_ns = record["active_ns"].as_u64().expect("a time");
        assert!((due_ns..due_ns + 10 * SECOND_NS / 16).contains(&active_ns), "{record}");
    }
}

/// A connection, with a packet each second.
fn conversation() -> Conversation {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    talk.handshake();
    talk
}

/// The second at which the `nth` piece of the server's body passes, if each is acknowledged, behind
/// a request and a head.
fn piece_at(nth: u64) -> u64 {
    7 + 2 * nth
}

/// A request, the head of a response, and `count` pieces, with a packet each second.
fn download(head: &str, pieces: &[Vec<u8>], has_end: bool) -> Vec<WrittenFrame> {
    let mut talk = conversation();
    talk.client(b"GET /long HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eDp5\r\n\r\n");
    talk.server(head.as_bytes());
    pieces.iter().for_each(|piece| _ = talk.server(piece));
    if has_end {
        talk.finish();
    }
    talk.frames(START_NS, SECOND_NS)
}

#[test]
fn a_long_download_is_told_with_what_has_passed() {
    let pieces = vec![vec![b'x'; 1000]; 20];
    let frames =
        download("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\nServer: s\r\n\r\n", &pieces, true);
    let (partial, whole) = told(&frames);
    let bytes_at: Vec<_> = (0..20).map(|nth| (piece_at(nth), 1000)).collect();
    check_counts(&partial, "response_body_bytes", &bytes_at);
    assert_eq!((partial.len(), whole.len()), (4, 1));
    let shared = ["ts", "flow", "n", "client_ip", "method", "target", "host", "status", "server"];
    for field in shared.into_iter().chain(["connect_ns", "request_ns", "ttfb_ns"]) {
        assert_eq!(partial[0][field], whole[0][field], "{field}");
    }
    for field in ["outcome", "end_reason", "response_ns"] {
        assert_eq!(partial[0].get(field), None, "{field}");
    }
    assert_eq!(whole[0]["response_body_bytes"], 20_000);
}

#[test]
fn events_of_a_server_are_told_while_they_come() {
    let event = |nth: u64| format!("data: {nth}\n\n").into_bytes();
    let pieces: Vec<_> = (0..30).map(event).collect();
    let bytes_at: Vec<_> = (0..30).map(|nth| (piece_at(nth), event(nth).len() as u64)).collect();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    let frames = download(&format!("{head}\r\n"), &pieces, true);
    check_counts(&told(&frames).0, "response_body_bytes", &bytes_at);
    let in_chunk =
        |piece: &Vec<u8>| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    let chunks: Vec<_> = pieces.iter().map(in_chunk).chain([b"0\r\n\r\n".to_vec()]).collect();
    let frames = download(&format!("{head}Transfer-Encoding: chunked\r\n\r\n"), &chunks, true);
    let (partial, whole) = told(&frames);
    check_counts(&partial, "response_body_bytes", &bytes_at);
    assert_eq!(whole[0]["outcome"], "complete");
    // If the capture ends before the stream does.
    let frames = download(&format!("{head}\r\n"), &pieces, false);
    let (partial, whole) = told(&frames);
    assert!(partial.len() > 4);
    assert_eq!(
        (&whole[0]["outcome"], &whole[0]["end_reason"]),
        (&json!("truncated"), &json!("exit"))
    );
}

#[test]
fn a_long_upload_is_told_before_its_response() {
    let mut talk = conversation();
    talk.client(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n");
    (0..20).for_each(|_| _ = talk.client(&[b'x'; 1000]));
    talk.server(b"HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n").finish();
    let frames = talk.frames(START_NS, SECOND_NS);
    let (partial, whole) = told(&frames);
    let bytes_at: Vec<_> = (0..20).map(|nth| (5 + 2 * nth, 1000)).collect();
    check_counts(&partial, "request_body_bytes", &bytes_at);
    for field in ["status", "request_ns", "ttfb_ns", "response_body_bytes", "outcome"] {
        assert_eq!(partial[0].get(field), None, "{field}");
    }
    assert_eq!(
        (&whole[0]["status"], &whole[0]["request_body_bytes"]),
        (&json!(201), &json!(20_000))
    );
}

/// A request that waits is told, also one behind another one. A head that is not complete is not.
#[test]
fn requests_that_wait_are_told_and_incomplete_heads_are_not() {
    let mut talk = conversation();
    talk.client(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.client(b"GET /c HTTP/1.1\r\nHo");
    let mut frames = talk.frames(START_NS, SECOND_NS);
    let mut later = Conversation::new("10.0.0.3:4000", "10.0.0.2:80");
    later.handshake().client(b"GET /d HTTP/1.1\r\nHost: a\r\n\r\n");
    later.server(b"HTTP/1.1 204 No\r\n\r\n").finish();
    frames.extend(later.frames(START_NS + 15 * SECOND_NS, SECOND_NS));
    let (partial, whole) = told(&frames);
    let targets = |records: &[Value]| {
        records.iter().map(|it| it["target"].as_str().expect("one").to_string()).collect::<Vec<_>>()
    };
    assert_eq!(targets(&partial), ["/a", "/b", "/a", "/b"]);
    assert_eq!(whole.len(), 4);
    assert!(partial.iter().all(|record| record.get("status").is_none()));
}

#[test]
fn an_exchange_that_ends_before_the_timeout_has_no_partial_record() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    // The request comes after 3 s, the last piece of the body after 7 + 2 * 3 s: 10 s later.
    let pieces: Vec<_> = (0..4).map(|_| b"x".to_vec()).collect();
    let frames = download(answer, &pieces, true);
    assert!(told(&frames).0.is_empty());
    let timeout_at = |options: &str| run(&frames, options).0.len();
    assert_eq!(timeout_at("--active-timeout 10"), 1);
    assert_eq!(timeout_at("--active-timeout 9"), 2);
    // Many short ones on a connection that lasts are no long one.
    let mut talk = conversation();
    for _ in 0..20 {
        talk.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    }
    let (partial, whole) = told(&talk.frames(START_NS, SECOND_NS));
    assert_eq!((partial.len(), whole.len()), (0, 20));
}

/// The frames of a talk in HTTP/2, with a packet each second.
fn slowly(talk: &Talk) -> Vec<WrittenFrame> {
    let mut frames = talk.frames(1460);
    frames.iter_mut().zip(0..).for_each(|(frame, at)| frame.ns = START_NS + at * SECOND_NS);
    frames
}

#[test]
fn streams_of_http2_are_told_each_for_itself() {
    let mut talk = Talk::new();
    talk.ask(1, WHOLE, &get("/events")).answer(1, END_HEADERS, &[(":status", "200")]);
    talk.ask(3, WHOLE, &get("/short")).answer(3, END_HEADERS, &[(":status", "204")]);
    talk.server(frame(DATA, END_STREAM, 3, b""));
    for _ in 0..15 {
        talk.server(frame(DATA, 0, 1, &[b'x'; 100]));
    }
    talk.ask(5, END_HEADERS, &get("/up"));
    for _ in 0..15 {
        talk.client(frame(DATA, 0, 5, &[b'y'; 10]));
    }
    talk.server(frame(DATA, END_STREAM, 1, b""));
    let frames = slowly(&talk);
    let (partial, whole) = told(&frames);
    let of = |stream: u64| -> Vec<Value> {
        partial.iter().filter(|record| record["stream"] == stream).cloned().collect()
    };
    assert_eq!((of(3).len(), whole.len()), (0, 3));
    // The packets of the handshake, of SETTINGS and of what precedes come first.
    let sent_at = |payload: &[u8]| -> Vec<(u64, u64)> {
        let holds = |frame: &WrittenFrame| frame.bytes.ends_with(payload);
        let at = frames.iter().enumerate().filter(|(_, frame)| holds(frame));
        at.map(|(at, _)| (at as u64, payload.len() as u64)).collect()
    };
    check_counts(&of(1), "response_body_bytes", &sent_at(&[b'x'; 100]));
    check_counts(&of(5), "request_body_bytes", &sent_at(&[b'y'; 10]));
    assert_eq!(of(1)[0].get("duration_ns"), None, "it has not ended");
    assert_eq!(of(5)[0].get("status"), None);
}

#[test]
fn partial_lines_are_no_exchanges_in_totals_and_counts() {
    let pieces = vec![vec![b'x'; 1000]; 20];
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\nX: y\r\n\r\n";
    let frames = download(head, &pieces, true);
    let (lines, totals) = run(&frames, "--active-timeout 10");
    assert_eq!(lines.len(), 5);
    assert!(totals.contains("httplines: 1 exchange in"), "{totals}");
    assert!(totals.contains("  written    5 lines,"), "{totals}");
    assert!(totals.contains(", 4 partial records"), "{totals}");
    assert!(!run(&frames, "").1.contains("partial"));
    // Of two connections, the first one to end is the one that counts.
    let mut two = frames.clone();
    let mut other = Conversation::new("10.0.0.7:1", "10.0.0.2:80");
    other.handshake().client(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    other.server(b"HTTP/1.1 204 No\r\n\r\n").finish();
    two.extend(other.frames(START_NS + 40 * SECOND_NS, SECOND_NS / 10));
    two.sort_by_key(|frame| frame.ns);
    let (lines, totals) = run(&two, "--active-timeout 10 -c 1");
    let (partial, whole): (Vec<_>, Vec<_>) = lines.iter().partition(|line| is_partial(line));
    assert_eq!((partial.len(), whole.len()), (3, 1), "{totals}");
    assert_eq!(whole[0]["target"], "/other");
}

/// What is chosen, masked and added is so in partial lines, too.
#[test]
fn options_act_as_for_exchanges() {
    let pieces = vec![vec![b'x'; 1000]; 20];
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\nX-Note: y\r\nSet-Cookie: a=b\r\n\r\n";
    let frames = download(head, &pieces, true);
    let count = |options: &str| {
        let (lines, totals) = run(&frames, &format!("--active-timeout 10 {options}"));
        let (partial, whole): (Vec<_>, Vec<_>) = lines.iter().partition(|line| is_partial(line));
        assert_eq!(totals.contains("1 exchanges withheld"), whole.is_empty(), "{totals}");
        assert_eq!(partial.len(), if whole.is_empty() { 0 } else { 4 }, "{options}: {totals}");
        whole.len()
    };
    for (options, whole) in [
        ("--only target=/long", 1),
        ("--only target=/short", 0),
        ("--except status=200", 0),
        ("--only status=2xx", 1),
        ("--only status=none", 0),
        ("--except client=10.0.0.0/8", 0),
    ] {
        assert_eq!(count(options), whole, "{options}");
    }
    let (lines, _) = run(&frames, "--active-timeout 10 --all-headers --headers-as object");
    assert_eq!(lines[0]["response_headers"], lines[4]["response_headers"]);
    assert_eq!(lines[0]["request_headers"]["authorization"], "***");
    assert_eq!(lines[0]["response_headers"]["set-cookie"], "***");
}

/// While the status is not known, a condition on it is not decided. So no partial record is told
/// whose exchange is withheld later.
#[test]
fn nothing_is_told_that_would_be_withheld_at_the_end() {
    let mut talk = conversation();
    talk.client(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut frames = talk.frames(START_NS, SECOND_NS);
    let mut whole = talk.clone();
    whole.server(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").finish();
    let mut rest = whole.frames(START_NS + 40 * SECOND_NS, SECOND_NS).split_off(frames.len());
    frames.append(&mut rest);
    for (options, partial_count, whole_count) in [
        ("", 4, 1),
        ("--only status=none", 0, 0),
        ("--only status=5xx", 0, 1),
        ("--except status=5xx", 0, 0),
        ("--only target=/slow", 4, 1),
    ] {
        let (lines, _) = run(&frames, &format!("--active-timeout 10 {options}"));
        let (partial, whole) = parted(&lines);
        assert_eq!((partial.len(), whole.len()), (partial_count, whole_count), "{options}");
    }
    // Nobody has answered.
    let alone = [0, 3].map(|at: usize| frames[at].clone());
    let end = Conversation::new("10.0.0.7:1", "10.0.0.2:80").handshake().frames(START_NS, 1);
    let late = WrittenFrame::new(START_NS + 50 * SECOND_NS, &end[0].bytes);
    let unanswered = [&alone[..], &[late]].concat();
    assert_eq!(run(&unanswered, "--active-timeout 10").0.len(), 5);
    assert_eq!(run(&unanswered, "--active-timeout 10 --answered-only").0.len(), 0);
}

/// Whether an exchange is a call of gRPC is known with both heads. What is none has no status.
#[test]
fn a_condition_on_grpc_status_is_open_only_of_what_may_be_a_call() {
    let pieces = vec![vec![0; 100]; 20];
    for (kind, has_answer, open_count) in
        [("text/plain", true, 4), ("application/grpc-web", true, 0), ("text/plain", false, 0)]
    {
        let fields = format!("Content-Type: {kind}\r\n");
        let ask = format!("POST /long HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 0\r\n\r\n");
        let mut talk = conversation();
        talk.client(ask.as_bytes());
        talk.server(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes());
        pieces.iter().for_each(|piece| _ = talk.server(piece));
        let mut frames = talk.finish().frames(START_NS, SECOND_NS);
        if !has_answer {
            frames.retain(|frame| frame.bytes.get(29) != Some(&2) || frame.bytes[47] & SYN != 0);
        }
        for (options, count, whole_count) in [
            ("--except grpc_status=0", open_count, 1),
            ("--only grpc_status=none", open_count, 1),
            ("--only grpc_status=0", 0, 0),
        ] {
            let (lines, _) = run(&frames, &format!("--active-timeout 10 {options}"));
            let (partial, whole) = parted(&lines);
            assert_eq!((partial.len(), whole.len()), (count, whole_count), "{kind} {options}");
        }
    }
}

/// A talk and an exchange are told at the moment of their ends. Behind the end of `-c`, what is
/// under way is not.
#[test]
fn behind_the_count_no_talk_is_told_that_is_under_way() {
    let mut talk = conversation();
    talk.client(websocket::request().as_bytes()).server(websocket::answer("").as_bytes());
    (0..20).for_each(|_| _ = talk.server(&websocket::frame(Server, FIN | TEXT, b"hello")));
    let frames = talk.finish().frames(START_NS, SECOND_NS);
    let records = "--active-timeout 10 --records http,websocket";
    assert_eq!(parted(&run(&frames, records).0).0.len(), 4);
    let lines = run(&frames, &format!("{records} -c 1")).0;
    assert!(!lines.iter().any(is_partial), "{lines:?}");
}

/// Of a request whose head was lost nothing is told: its stream begins with the response.
#[test]
fn a_stream_without_a_request_is_told_since_its_response() {
    let mut talk = Talk::new();
    talk.ask(1, END_HEADERS, &get("/up"));
    for _ in 0..5 {
        talk.client(frame(DATA, 0, 1, b"up"));
    }
    talk.answer(1, END_HEADERS, &[(":status", "200")]);
    for _ in 0..20 {
        talk.server(frame(DATA, 0, 1, b"down"));
    }
    assert!(!told(&slowly(&talk)).0.is_empty());
    // The preface, the SETTINGS of both sides, and HEADERS.
    let ping = [0; 8];
    let begin = [frame(PING, 0, 0, &ping), frame(PING, 1, 0, &ping)].concat();
    talk.joined_after(4);
    talk.sent.insert(0, (Server, begin.clone()));
    talk.sent.insert(0, (Client, begin));
    let (partial, whole) = told(&slowly(&talk));
    assert!(!partial.is_empty() && whole.len() == 1, "{whole:?}");
    for record in partial.iter().chain(&whole) {
        assert_eq!(record["ts"], whole[0]["ts"], "{record}");
        assert_eq!(record.get("request_body_bytes"), None, "{record}");
    }
}

#[test]
fn what_may_be_withdrawn_is_not_told() {
    let pieces = vec![vec![b'x'; 1000]; 20];
    let frames = download("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", &pieces, false);
    // Without the handshake, and without the response: on the word of the client alone.
    let alone: Vec<_> = frames.iter().skip(3).cloned().collect();
    let (partial, _) = told(&alone);
    assert_eq!(partial.len(), 4, "the response has confirmed the request");
    let is_of_server = |frame: &WrittenFrame| frame.bytes.get(29) == Some(&2);
    let client: Vec<_> = alone.into_iter().filter(|frame| !is_of_server(frame)).collect();
    let (partial, whole) = told(&client);
    assert_eq!((partial.len(), whole.len()), (0, 1));
}

#[test]
fn the_same_partial_records_on_any_number_of_shards() {
    let mut frames = Vec::new();
    for number in 0..20u64 {
        let pieces = vec![vec![b'x'; 100 + number as usize]; 10 + number as usize];
        let mut talk = Conversation::new(&format!("10.0.1.{number}:4000"), "10.0.0.2:80");
        talk.handshake().client(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
        talk.server(b"HTTP/1.1 200 OK\r\n\r\n");
        pieces.iter().for_each(|piece| _ = talk.server(piece));
        frames.extend(talk.finish().frames(START_NS + number * 777, SECOND_NS + number * 1_001));
    }
    frames.sort_by_key(|frame| frame.ns);
    let of_one = run(&frames, "--active-timeout 3 --shards 1").0;
    assert!(of_one.iter().filter(|line| is_partial(line)).count() > 100);
    for shards in [2, 3] {
        let of_many = run(&frames, &format!("--active-timeout 3 --shards {shards}")).0;
        parted(&of_many);
        records::assert_same(&format!("1 shard and {shards}"), &of_one, &of_many);
    }
}

#[test]
fn the_option_takes_seconds_and_needs_json() {
    let refusal = |arguments: &str| {
        let output = program::run(&arguments.split_whitespace().collect::<Vec<_>>(), None);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).expect("text")
    };
    let refused = refusal("-r x.pcap --active-timeout 60");
    assert!(
        refused.contains("--active-timeout is for JSON lines, because a text line"),
        "{refused}"
    );
    for seconds in ["0", "0.5", "604801", "a"] {
        let refused = refusal(&format!("-r x.pcap -o - --active-timeout {seconds}"));
        assert!(refused.contains("takes a number of seconds from 1 to 604800"), "{refused}");
    }
}

/// An event sink that keeps lines.
struct Lines(JsonFormat, Vec<u8>);

impl EventSink for Lines {
    fn wants(&self) -> Wants {
        self.0.wants()
    }

    fn event(&mut self, event: Event<'_>) {
        self.0.line(&event, &mut self.1);
    }
}

/// The lines of a pipeline that is swept behind every `nth` frame.
fn lines_of(frames: &[WrittenFrame], active_timeout_ms: Option<u64>, nth: usize) -> Vec<Value> {
    let flow = FlowConfig { active_timeout_ms, ..FlowConfig::default() };
    let format = JsonFormat::new(&EmitConfig::default(), IfaceNames::default());
    let config = Config { flow, ..Config::default() };
    let mut pipeline = Pipeline::new(&config, Lines(format, Vec::new()));
    for (at, frame) in frames.iter().enumerate() {
        pipeline.frame(&frame.as_frame(LinkType::Ethernet));
        if at % nth == 0 {
            pipeline.sweep(TimestampNs(frame.ns));
        }
    }
    pipeline.finish();
    assert_eq!(pipeline.exchanges_in_use(), 0);
    let lines = pipeline.sink().1.split_inclusive(|byte| *byte == b'\n');
    lines.map(schema::check_line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Any traffic, with losses and pauses, swept often or seldom: without its partial lines, the
    /// output is that of a run without the option. How often the table is swept changes nothing.
    #[test]
    fn without_its_partial_lines_the_output_is_the_same(
        plan in plan(),
        lost in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ns_per_us in prop::sample::select(vec![1_000_000_u64, 50_000_000, 1_000_000_000]),
        timeout_ms in prop::sample::select(vec![1_000_u64, 7_000, 60_000]),
    ) {
        let talk = plan.talk();
        let mut sent = talk.sent.clone();
        for index in lost.iter().filter(|_| talk.sent.len() > 8) {
            sent.remove(index.index(sent.len()));
        }
        let frames = talk.frames_of(&sent, START_NS, ns_per_us);
        let with = lines_of(&frames, Some(timeout_ms), 1);
        let (partial, whole) = parted(&with);
        records::assert_same("whole lines", &whole, &lines_of(&frames, None, 1));
        let seldom = lines_of(&frames, Some(timeout_ms), 1_000_000);
        records::assert_same("sweeps", &with, &seldom);
        for record in &partial {
            let last = whole.iter().find(|it| key(it) == key(record)).expect("it was told whole");
            for field in ["request_body_bytes", "response_body_bytes", "gap_bytes"] {
                let [so_far, all] = [record, last].map(|it| it[field].as_u64());
                let is_more = so_far.zip(all).is_some_and(|(so_far, all)| so_far > all);
                prop_assert!(!is_more, "{}", field);
            }
            for field in ["method", "target", "host", "ts"] {
                prop_assert_eq!(&record[field], &last[field]);
            }
        }
    }
}

/// An event sink that counts partial records.
struct Count(usize);

impl EventSink for Count {
    fn event(&mut self, event: Event<'_>) {
        self.0 += usize::from(matches!(event, Event::Partial(_)));
    }
}

/// A hundred thousand connections whose exchanges are due at the same moment: a sweep does a
/// bounded part of the work, and a connection whose next packet comes is told first.
#[test]
fn many_that_are_due_at_once_are_told_bit_by_bit() {
    const COUNT: u32 = 100_000;
    let flow = FlowConfig { active_timeout_ms: Some(60_000), ..FlowConfig::default() };
    let mut pipeline = Pipeline::new(&Config { flow, ..Config::default() }, Count(0));
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    let send = |pipeline: &mut Pipeline<Count>, number: u32, seq, flags, payload: &[u8], ns| {
        let client =
            format!("10.1.{}.{}:{}", number / 256 % 256, number % 256, number / 65_536 + 1);
        let addresses = [client.as_str(), "10.255.0.2:80"].map(|it| it.parse().expect("one"));
        let packet = Packet::tcp(addresses[0], addresses[1]);
        let packet = packet.seq(seq).flags(flags).payload(payload).ethernet();
        pipeline.frame(&WrittenFrame::new(ns, &packet).as_frame(LinkType::Ethernet));
    };
    for number in 0..COUNT {
        let ns = START_NS + u64::from(number);
        send(&mut pipeline, number, 0, SYN, b"", ns);
        send(&mut pipeline, number, 1, ACK, request, ns);
    }
    let now = START_NS + 61 * SECOND_NS;
    send(&mut pipeline, COUNT - 1, 1 + request.len() as u32, ACK, b"x", now);
    assert_eq!(pipeline.sink().0, 1, "the connection of this packet");
    loop {
        let before = pipeline.sink().0;
        pipeline.sweep(TimestampNs(now));
        let told = pipeline.sink().0 - before;
        assert!(told <= 256, "{told} at once");
        if told == 0 {
            break;
        }
    }
    assert_eq!(pipeline.sink().0, COUNT as usize, "each once");
    assert_eq!(pipeline.exchanges_in_use(), COUNT as usize);
}
