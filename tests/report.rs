//! `httplines report`: what it tells of small files is exact, and the same of lines, of captures
//! and of events.

use crate::support::capture_file::WrittenFrame;
use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;
use crate::support::conversation::Side::Server;
use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, RST_STREAM, Talk, WHOLE, fields, frame, get,
};
use crate::support::program::run;
use crate::support::reported::reported_with;
use crate::support::schema::validator_of;
use crate::support::traffic;
use httplines::capture::LinkType;
use httplines::config::{EmitConfig, RecordKinds};
use httplines::observe::summary::{Dimension, Summary};
use httplines::record::Event;
use httplines::{Config, Pipeline};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A line as httplines writes it, with these fields in place of the usual ones.
fn line(fields: Value) -> String {
    let mut line = json!({
        "ts": "2026-12-01T10:00:00.000000000Z", "flow": "0123456789abcdef", "n": 0,
        "client_ip": "10.0.0.1", "client_port": 4000, "server_ip": "10.0.0.2", "server_port": 80,
        "method": "GET", "target": "/", "version": "HTTP/1.1", "host": "a.example",
        "status": 200, "request_body_bytes": 0, "response_body_bytes": 10,
        "request_ns": 1000, "ttfb_ns": 1_000_000, "response_ns": 1000, "outcome": "complete",
    });
    for (key, value) in fields.as_object().expect("fields") {
        line[key] = value.clone();
        if value.is_null() {
            line.as_object_mut().expect("fields").remove(key);
        }
    }
    line.to_string() + "\n"
}

/// Exchanges that have the same shape, but for what a report counts.
fn lines() -> String {
    let mut lines = String::new();
    for number in 0..30u64 {
        let second = format!("2026-12-01T10:00:{:02}.500000000Z", number % 60);
        lines += &line(json!({
            "ts": second, "target": format!("/orders/{number}?x={number}"),
            "host": if number % 3 == 0 { "B.example" } else { "a.example" },
            "status": if number % 10 == 0 { 503 } else { 200 },
            "ttfb_ns": (number + 1) * 1_000_000,
        }));
    }
    lines += &line(json!({"status": null, "ttfb_ns": null, "response_ns": null,
        "response_body_bytes": null, "outcome": "no_response", "end_reason": "rst"}));
    lines += &line(json!({"gap_bytes": 1000, "retransmitted_bytes": 1460, "connect_ns": 500}));
    lines += &line(json!({"method": "POST", "target": "/shop.Cart/Add", "version": "HTTP/2",
        "grpc_status": 14, "duration_ns": 7_000_000, "sensor": "edge"}));
    lines += &line(json!({"type": "websocket", "status": null, "client_messages": 3,
        "server_messages": 4, "duration_ns": 1, "sensor": "edge"}));
    lines += &line(json!({"type": "tls", "sni": "secure.example", "alpn": "h2",
        "tls_version": "TLS 1.3", "handshake_ns": 2_000_000, "client_bytes": 10,
        "server_bytes": 20, "outcome": "complete"}));
    lines += &line(json!({"partial": true, "active_ns": 5, "outcome": null}));
    lines
}

fn validator() -> &'static jsonschema::Validator {
    static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let schema = include_str!("../docs/report.schema.json");
        validator_of(&serde_json::from_str(schema).expect("the schema is JSON"))
    });
    &VALIDATOR
}

/// The report of these arguments, which the schema allows.
fn report(args: &[&str], stdin: Option<&[u8]>) -> Value {
    let done = run(&[&["report", "--json"], args].concat(), stdin);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{told}");
    let text = String::from_utf8(done.stdout).expect("JSON is UTF-8");
    assert_eq!(text.matches('\n').count(), 1, "one line");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let errors: Vec<String> = validator()
        .iter_errors(&report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    report
}

fn row<'a>(report: &'a Value, table: &str, key: &str) -> &'a Value {
    let rows = report[table]["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key} in {rows:#?}"))
}

#[test]
fn small_files_are_counted_exactly() {
    let report = report(&["-"], Some(lines().as_bytes()));
    let of = |pointer: &str| report.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone();
    for (pointer, wanted) in [
        ("/records/http", 33),
        ("/records/websocket", 1),
        ("/records/tls", 1),
        ("/records/partial", 1),
        ("/records/unrecognized", 0),
        ("/exchanges/errors", 4),
        ("/exchanges/broken", 1),
        ("/exchanges/statuses/5xx", 3),
        ("/exchanges/statuses/2xx", 29),
        ("/exchanges/statuses/none", 1),
        ("/exchanges/methods/POST", 1),
        ("/exchanges/versions/http2", 1),
        ("/exchanges/grpc/UNAVAILABLE", 1),
        ("/exchanges/outcomes/no_response", 1),
        ("/exchanges/ends/rst", 1),
        ("/exchanges/response_body_bytes", 320),
        ("/exchanges/with_gap", 1),
        ("/exchanges/gap_bytes", 1000),
        ("/exchanges/retransmitted_bytes", 1460),
        ("/exchanges/ttfb/count", 32),
        ("/exchanges/ttfb/max_ns", 30_000_000),
        ("/exchanges/ttfb/min_ns", 1_000_000),
        ("/exchanges/connect/count", 1),
        ("/websocket/client_messages", 3),
        ("/tls/connections", 1),
        ("/tls/handshake/p50_ns", 2_000_000),
        ("/hosts/count", 33),
    ] {
        assert_eq!(of(pointer), wanted, "{pointer}");
    }
    assert_eq!(of("/sensors"), json!([{"key": "edge", "count": 2, "error": 0}]));
    assert_eq!(of("/from"), "2026-12-01T10:00:00.000000000Z");
    assert_eq!(of("/to"), "2026-12-01T10:00:29.500000000Z");
    assert_eq!(of("/losses"), json!({"origin": "unknown"}));
    assert_eq!(row(&report, "hosts", "b.example")["count"], 10);
    let orders = row(&report, "targets", "GET /orders/*");
    assert_eq!(
        (&orders["count"], &orders["error"], &orders["errors"]),
        (&30.into(), &0.into(), &3.into())
    );
    // The 15th of 30, with the error of the histogram.
    let median = orders["ttfb"]["p50_ns"].as_f64().expect("a time");
    assert!((median / 15e6 - 1.0).abs() <= 1.0 / 128.0, "{median}");
    assert_eq!(row(&report, "servers", "10.0.0.2:80")["count"], 33);
    let call = row(&report, "grpc_methods", "shop.Cart/Add");
    assert_eq!(call["grpc"]["UNAVAILABLE"], 1);
    assert_eq!(call["duration"]["max_ns"], 7_000_000);
    let spans = report["timeline"]["spans"].as_array().expect("spans");
    let counted: u64 = spans.iter().filter_map(|span| span["exchanges"].as_u64()).sum();
    assert_eq!(counted, 33);
}

/// A connection with several exchanges, one of which has no answer.
fn talk(number: usize) -> Conversation {
    let mut talk = Conversation::new(&format!("10.0.0.{}:4000", number + 1), "10.0.1.1:80");
    talk.handshake();
    for request in 0..number + 1 {
        talk.client(format!("GET /a/{request} HTTP/1.1\r\nHost: H{number}\r\n\r\n").as_bytes());
        talk.server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc");
    }
    talk.client(b"PUT /b\xff%20 HTTP/1.1\r\nHost: <b>\r\n\r\n").reset(Server);
    talk
}

fn talks_of(count: usize) -> Vec<WrittenFrame> {
    (0..count)
        .flat_map(|at| {
            talk(at).frames(1_795_442_400_000_000_000 + at as u64 * 1_000_000_000, 70_000)
        })
        .collect()
}

/// The summary of the events of these frames.
fn of_events(frames: &[WrittenFrame]) -> Summary {
    let mut summary = Summary::default();
    let mut pipeline = Pipeline::new(&Config::default(), |event: Event<'_>| summary.add(&event));
    frames.iter().for_each(|it| pipeline.frame(&it.as_frame(LinkType::Ethernet)));
    pipeline.finish();
    drop(pipeline);
    summary
}

/// The summary of the lines of these frames.
fn of_lines(frames: &[WrittenFrame]) -> Summary {
    let records = RecordKinds { http: true, websocket: true, ..RecordKinds::default() };
    let told = reported_with(frames, &EmitConfig { records, ..EmitConfig::default() });
    let mut summary = Summary::default();
    for line in told.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(summary.add_line(line), "{}", String::from_utf8_lossy(line));
    }
    summary
}

#[test]
fn events_and_lines_are_counted_alike() {
    let frames = talks_of(5);
    let (events, lines) = (of_events(&frames), of_lines(&frames));
    assert_eq!(events.totals.exchanges, 20);
    assert_eq!(events.totals.ttfb.count(), 15);
    assert_eq!(events.table(Dimension::Hosts).row("h4").map(|row| row.count), Some(5));
    let put = events.table(Dimension::Targets).row("PUT /b\u{fffd}%20");
    assert_eq!(put.map(|row| (row.count, row.broken)), Some((5, 5)));
    assert_eq!(events, lines);
}

/// Calls of gRPC, with and without a status, and a stream that is reset.
fn calls() -> Vec<WrittenFrame> {
    let head = |path| {
        fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "A.example:50051"),
            ("content-type", "application/grpc+proto"),
        ])
    };
    let message = [0, 0, 0, 0, 2, 1, 2];
    let mut talk = Talk::new();
    talk.ask(1, END_HEADERS, &head("/a.B/C")).client(frame(DATA, END_STREAM, 1, &message));
    talk.answer(1, END_HEADERS, &[(":status", "200"), ("content-type", "application/grpc")]);
    talk.server(frame(DATA, 0, 1, &message)).answer(1, WHOLE, &[("grpc-status", "14")]);
    talk.ask(3, END_HEADERS, &head("/a.B/C")).client(frame(DATA, END_STREAM, 3, &message));
    talk.server(frame(RST_STREAM, 0, 3, &8u32.to_be_bytes()));
    talk.ask(5, WHOLE, &get("/plain")).answer(5, WHOLE, &[(":status", "204")]);
    talk.frames(1 << 14)
}

#[test]
fn calls_of_grpc_are_counted_alike() {
    let (events, lines) = (of_events(&calls()), of_lines(&calls()));
    let row = events.table(Dimension::Grpc).row("a.B/C").expect("a row");
    assert_eq!((row.count, row.errors, row.broken), (2, 1, 1), "{row:?}");
    assert_eq!(events.totals.grpc_calls(), 2);
    assert_eq!(events.totals.versions, [0, 3, 0]);
    assert_eq!(events, lines);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn events_and_lines_of_any_traffic_are_counted_alike(plan in traffic::plan()) {
        let talk = plan.talk();
        let frames = talk.frames_of(&talk.sent, 1_795_442_400_000_000_000, 1000);
        prop_assert_eq!(of_events(&frames), of_lines(&frames));
    }
}

/// A file with these bytes in a directory of its own.
fn file(place: &Path, name: &str, bytes: &[u8]) -> String {
    let path = place.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path.display().to_string()
}

/// The report without what depends on where the records are from.
fn told(mut report: Value) -> Value {
    for key in ["made", "sources", "losses"] {
        report.as_object_mut().expect("an object").remove(key);
    }
    report
}

#[test]
fn captures_are_counted_as_their_lines_are() {
    let place = tempfile::tempdir().expect("a directory");
    let frames = talks_of(4);
    let capture = file(place.path(), "a.pcap", &pcap(Order::Little, Unit::Nano, 1, &frames));
    let lines = run(&["-q", "-r", &capture, "-o", "-", "--records", "http,websocket"], None).stdout;
    let of_lines = report(&["-"], Some(&lines));
    assert_eq!(of_lines["records"]["http"], 14);
    for shards in ["1", "3"] {
        let of_capture = report(&["-r", &capture, "--shards", shards], None);
        assert_eq!(of_capture["losses"]["origin"], "capture");
        assert_eq!(told(of_capture), told(of_lines.clone()));
    }
    let piped = report(&["-r", "-"], Some(&std::fs::read(&capture).expect("a file")));
    assert_eq!(told(piped), told(of_lines));
}

#[test]
fn several_files_are_one_report_packed_or_not() {
    let place = tempfile::tempdir().expect("a directory");
    let lines = lines();
    let plain = file(place.path(), "http.jsonl", lines.as_bytes());
    let packed = zstd::encode_all(lines.as_bytes(), 0).expect("it is packed");
    let packed = file(place.path(), "http-20261201T100000.000000Z.jsonl.zst", &packed);
    let both = report(&[&plain, &packed], None);
    assert_eq!(both["records"]["http"], 66);
    assert_eq!(both["sources"][1]["records"], 36);
    let cut = file(place.path(), "cut.zst", &std::fs::read(&packed).expect("a file")[..200]);
    let done = run(&["report", &plain, &cut], None);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("cut.zst: the zstd data ends too early"), "{said}");
    assert!(String::from_utf8_lossy(&done.stdout).contains("exchanges"), "what was read is told");
}

#[test]
fn a_file_that_is_being_written_may_end_within_a_line() {
    let lines = lines();
    let torn = report(&["-"], Some(&lines.as_bytes()[..lines.len() - 20]));
    assert_eq!(
        (&torn["sources"][0]["torn"], &torn["records"]["unrecognized"]),
        (&true.into(), &0.into())
    );
    assert_eq!(torn["records"]["http"], 33);
    let whole = report(&["-"], Some(lines.trim_end().as_bytes()));
    assert_eq!(told(whole), told(report(&["-"], Some(lines.as_bytes()))));
    let foreign = lines.replace("/shop.Cart/Add\",", "/\",\n{\"level\":\"info\"}\nx\n\n");
    let mixed = report(&["-"], Some(foreign.as_bytes()));
    assert_eq!(mixed["records"]["http"], 32);
    assert!(mixed["records"]["unrecognized"].as_u64() >= Some(3), "{}", mixed["records"]);
}

#[test]
fn an_empty_file_has_a_report_and_a_foreign_one_has_none() {
    let place = tempfile::tempdir().expect("a directory");
    let empty = file(place.path(), "http.jsonl", b"");
    assert_eq!(report(&[&empty], None)["records"]["http"], 0);
    for form in [&[][..], &["--html"]] {
        let done = run(&[&["report", &empty], form].concat(), None);
        assert_eq!(done.status.code(), Some(0));
        assert!(!done.stdout.is_empty());
    }
    let foreign = file(place.path(), "other.jsonl", b"{\"a\":1}\n");
    let capture = file(place.path(), "a.pcap", &pcap(Order::Little, Unit::Nano, 1, &talks_of(1)));
    let page = place.path().join("page.html").display().to_string();
    for (args, code, says) in [
        (vec![&*foreign], 1, "has no records of httplines"),
        (vec![&*capture], 1, "a capture is read with -r"),
        (vec!["-r", &*foreign], 1, "other.jsonl"),
        (vec!["/absent/http.jsonl"], 1, "cannot read /absent/http.jsonl: No such file"),
        (vec![place.path().to_str().expect("text")], 1, "is a directory"),
        (vec![], 2, "no file is named"),
        (vec!["-", "-"], 2, "only once"),
        (vec![&*empty, "-Z", "nobody", "--no-sandbox"], 2, "leave one out"),
        (vec![&*empty, "-o", &*empty], 1, "the output is the input"),
        (vec![&*empty, "-o", "/absent/page.html"], 1, "cannot write /absent/page.html"),
    ] {
        let mut args = [&["report"], &args[..]].concat();
        if !args.contains(&"-o") {
            args.extend(["-o", &*page]);
        }
        let done = run(&args, None);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
        let names: Vec<PathBuf> = std::fs::read_dir(place.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(names.len(), 3, "nothing is left behind: {names:?}");
    }
}

/// Texts that would be markup, or that a terminal would obey.
const HOSTILE: &str = "</style><script>alert(1)</script>\"'&\u{1b}]0;x\u{7}\u{202e}\u{9b}2J";

#[test]
fn texts_of_the_wire_are_only_shown() {
    let lines = line(json!({"host": HOSTILE, "target": format!("/{HOSTILE}"), "method": HOSTILE,
        "version": HOSTILE, "sensor": HOSTILE, "client_ip": HOSTILE, "server_ip": HOSTILE}))
        + &line(json!({"target": format!("/{HOSTILE}"), "grpc_status": 2}))
        + &line(json!({"type": "tls", "sni": HOSTILE, "alpn": HOSTILE, "tls_version": HOSTILE,
            "alert": HOSTILE, "outcome": HOSTILE}));
    let page = run(&["report", "-", "--html"], Some(lines.as_bytes()));
    let page = String::from_utf8(page.stdout).expect("UTF-8");
    let text = run(&["report", "-"], Some(lines.as_bytes()));
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    assert!(page.matches("&lt;script&gt;alert").count() > 5, "they are in the page");
    assert!(text.matches("<script>").count() > 3, "they are in the text");
    for told in [&page, &text] {
        let is_obeyed = |it: char| it.is_control() && it != '\n' || it == '\u{202e}';
        assert_eq!(told.chars().find(|it| is_obeyed(*it)), None);
    }
    assert_eq!(page.matches("<style>").count(), 1);
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains("<script"));
    let tags = page.split('<').skip(1).filter_map(|it| it.split(['>', ' ', '\n']).next());
    let ours = ["!DOCTYPE", "html", "head", "meta", "title", "style", "body", "header", "h1", "h2"]
        .into_iter()
        .chain(["p", "nav", "a", "dl", "div", "dt", "dd", "small", "strong", "ul", "li", "i"])
        .chain(["main", "figure", "figcaption", "b", "span", "svg", "path", "rect", "table"])
        .chain(["caption", "thead", "tbody", "tr", "th", "td", "footer"])
        .collect::<Vec<_>>();
    for tag in tags {
        let name = tag.trim_start_matches('/').trim_end_matches('/');
        assert!(ours.contains(&name), "{tag}");
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn a_page_is_replaced_as_a_whole() {
    let place = tempfile::tempdir().expect("a directory");
    let page = file(place.path(), "page.html", b"old");
    let lines = file(place.path(), "http.jsonl", lines().as_bytes());
    let done = run(&["report", &lines, "--html", "-o", &page], None);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.stdout.is_empty());
    let text = std::fs::read_to_string(&page).expect("a page");
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
    assert_eq!(std::fs::read_dir(place.path()).expect("a directory").count(), 2);
    for needs in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!text.contains(needs), "{needs}: it needs nothing else");
    }
}

/// A line of a file of statistics.
fn stats(seq: u64, ts: &str, dropped: u64, written: u64, errors: &[&str]) -> String {
    let delta = json!({"lines": {"written": written},
        "frames": {"offered": 1000, "dropped": dropped},
        "before_us": {"rx_missed": 1}, "lines_lost": {"disk_full": 2},
        "flow": {"gaps": 3, "gap_bytes": 4}});
    let line = json!({"ts": ts, "started": "2026-12-01T09:00:00.000000000Z", "seq": seq,
        "run": "0123456789abcdef", "delta": delta, "errors": errors});
    line.to_string() + "\n"
}

/// When a disk is full, records end before the losses do.
#[test]
fn what_was_lost_while_nothing_was_written_is_told() {
    let place = tempfile::tempdir().expect("a directory");
    let path = file(place.path(), "http.jsonl", lines().as_bytes());
    let sidecar = stats(0, "2026-12-01T10:59:00.000000000Z", 5, 9, &[])
        + &stats(1, "2026-12-01T10:59:10.000000000Z", 6, 0, &[])
        + &stats(2, "2026-12-01T10:59:20.000000000Z", 7, 0, &[])
        + &stats(3, "2026-12-01T10:59:30.000000000Z", 8, 1, &[])
        + &stats(4, "2026-12-01T10:59:40.000000000Z", 9, 0, &[]);
    file(place.path(), "http.stats", sidecar.as_bytes());
    let losses = &report(&[&path], None)["losses"];
    assert_eq!(losses["frames"]["dropped"], 5 + 6 + 7);
    assert_eq!(losses["partial"], false);
}

/// Nothing was lost, as far as is known.
#[test]
fn statistics_of_a_part_of_the_time_are_no_proof() {
    let place = tempfile::tempdir().expect("a directory");
    let path = file(place.path(), "http.jsonl", lines().as_bytes());
    let whole = |seq, ts: &str| {
        let line = stats(seq, ts, 0, 1, &[]);
        line.replace("\"rx_missed\":1", "\"rx_missed\":0")
            .replace("\"disk_full\":2", "\"disk_full\":0")
    };
    let begin = "2026-12-01T10:00:00.500000000Z";
    let end = "2026-12-01T10:59:00.000000000Z";
    for (sidecar, is_partial) in [
        (whole(0, end), false),
        (whole(0, begin), true),
        (whole(0, begin) + &whole(1, end), false),
        // What was before is in another file.
        (whole(7, begin) + &whole(8, end), true),
    ] {
        file(place.path(), "http.stats", sidecar.as_bytes());
        assert_eq!(report(&[&path], None)["losses"]["partial"], is_partial, "{sidecar}");
        let told = String::from_utf8(run(&["report", &path], None).stdout).expect("text");
        assert_eq!(told.contains("Nothing was lost in the kernel"), !is_partial, "{told}");
        let page = String::from_utf8(run(&["report", &path, "--html"], None).stdout);
        assert_eq!(page.expect("a page").contains("Complete."), !is_partial);
    }
}

#[test]
fn losses_are_those_of_the_time_of_the_records() {
    let place = tempfile::tempdir().expect("a directory");
    let path = file(place.path(), "http.jsonl", lines().as_bytes());
    let stats = |ts: &str, dropped, errors: &[&str]| stats(0, ts, dropped, 1, errors);
    let sidecar = stats("2026-12-01T09:59:00.000000000Z", 1000, &[])
        + &stats("2026-12-01T10:00:10.000000000Z", 7, &[])
        + "torn\n"
        + &stats("2026-12-01T10:00:40.000000000Z", 5, &["the disk <is> full"])
        + &stats("2026-12-01T10:00:50.000000000Z", 1000, &[]);
    file(place.path(), "http.stats", sidecar.as_bytes());
    let report = report(&[&path], None);
    let losses = &report["losses"];
    assert_eq!(losses["origin"], "statistics");
    assert_eq!(losses["frames"], json!({"dropped": 12, "offered": 2000}));
    assert_eq!(losses["before_us"]["rx_missed"], 2);
    assert_eq!(losses["lines_lost"]["disk_full"], 4);
    assert_eq!(losses["flow"], json!({"gaps": 6, "gap_bytes": 8}));
    assert_eq!(losses["errors"], json!(["the disk <is> full"]));
    assert_eq!(losses["from"], "2026-12-01T09:59:00.000000000Z");
    assert_eq!(losses["to"], "2026-12-01T10:00:40.000000000Z");
    let page = run(&["report", &path, "--html"], None).stdout;
    assert!(String::from_utf8_lossy(&page).contains("the disk &lt;is&gt; full"));
}
