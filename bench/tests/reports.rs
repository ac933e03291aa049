//! `httplines-bench`: its reports on captures and on the filter are correct. Nothing here depends
//! on speed.

use crate::bench;
use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap, pcapng};
use crate::support::conversation::Conversation;
use crate::support::records;
use serde_json::Value;
use std::io::Write;

const START_NS: u64 = 1_700_000_000_000_000_000;

/// The one JSON object that a command prints.
fn report(args: &[&str]) -> Value {
    let output = bench(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let mut lines = records::parse(&output.stdout);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// Connections of many exchanges, one after the other, so that both halves are alike.
fn frames(connections: u8, exchanges: usize) -> Vec<WrittenFrame> {
    let mut frames = Vec::new();
    for number in 0..connections {
        let mut conversation = Conversation::new(&format!("10.0.0.{number}:4000"), "10.0.1.1:80");
        conversation.handshake();
        for _ in 0..exchanges {
            conversation.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            conversation.server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        conversation.finish();
        frames.extend(conversation.frames(START_NS + u64::from(number) * 1_000_000_000, 1_000_000));
    }
    frames
}

/// A temporary file with these bytes.
fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("enough disk space");
    file
}

fn path_of(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a path in UTF-8")
}

#[test]
fn replay_tells_what_the_capture_holds_on_any_number_of_shards() {
    let frames = frames(10, 30);
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    for capture in
        [pcap(Order::Little, Unit::Nano, 1, &frames), pcapng(Order::Big, &[(1, "eth0")], &frames)]
    {
        let capture = file(&capture);
        let args = ["replay", path_of(&capture), "--shards", "1,2,3", "--runs", "2", "--json"];
        let report = report(&args);
        assert_eq!(report["packets"], frames.len());
        assert_eq!(report["bytes"], bytes);
        assert_eq!(report["exchanges"], 300);
        assert_eq!(report["runs"], 2);
        let results = report["results"].as_array().expect("a row for each number of shards");
        let shards: Vec<_> = results.iter().map(|row| row["shards"].as_u64()).collect();
        assert_eq!(shards, [Some(1), Some(2), Some(3)]);
        for row in results {
            assert_eq!(row["lines"], 300);
            for rate in ["packets_per_s", "bytes_per_s", "exchanges_per_s"] {
                assert!(row[rate].as_f64().is_some_and(|rate| rate > 0.0), "{rate}");
            }
            for spread in [&row["ns_per_packet"], &row["cpu_ns_per_packet"]] {
                let number = |name: &str| spread[name].as_f64().expect("a number");
                assert!(0.0 < number("min") && number("min") <= number("median"));
                assert!(number("median") <= number("max"));
            }
        }
    }
}

#[test]
fn replay_counts_allocations_and_those_of_the_steady_state_apart() {
    let frames = frames(20, 50);
    let capture = file(&pcap(Order::Little, Unit::Nano, 1, &frames));
    let report = report(&["replay", path_of(&capture), "--shards", "1,2", "--runs", "1", "--json"]);
    for row in report["results"].as_array().expect("a row for each number of shards") {
        let (all, steady) = (&row["allocations"], &row["allocations_steady"]);
        let number = |part: &Value, name: &str| part[name].as_f64().expect("a number");
        assert_eq!(all["packets"], frames.len());
        assert_eq!(steady["packets"], frames.len() / 2);
        // Threads, tables and batches are allocated at the beginning.
        assert!(number(all, "count") >= 10.0, "{all}");
        assert!(number(steady, "count") < number(all, "count"), "{steady} of {all}");
        for part in [all, steady] {
            let count = number(part, "count");
            assert_eq!(number(part, "count_per_packet"), count / number(part, "packets"));
            assert_eq!(number(part, "bytes") > 0.0, count > 0.0);
        }
    }
}

/// Checks the allocations in the second half of a run over `frames`, which contain 3,000 exchanges:
/// they are only for batches of lines, of which there are three at most.
fn assert_allocates_for_batches_only(frames: &[WrittenFrame]) {
    let capture = file(&pcap(Order::Little, Unit::Nano, 1, frames));
    let report = report(&["replay", path_of(&capture), "--runs", "1", "--json"]);
    let row = &report["results"][0];
    let steady = &row["allocations_steady"];
    assert_eq!((&row["lines"], &steady["packets"]), (&3000.into(), &(frames.len() / 2).into()));
    assert!(steady["count"].as_u64().is_some_and(|count| count <= 6), "{steady}");
}

/// In steady state nothing is allocated per packet, or per exchange.
#[test]
fn the_engine_allocates_nothing_for_a_packet_in_the_steady_state() {
    assert_allocates_for_batches_only(&frames(1, 3000));
}

/// Nor for packets that overtake each other: buffers are reused.
#[test]
fn the_engine_allocates_nothing_for_what_is_out_of_order_in_the_steady_state() {
    let mut frames = frames(1, 3000);
    let end = frames.len() - 5;
    for at in (10..end).step_by(5) {
        frames.swap(at, at + 1);
    }
    assert_allocates_for_batches_only(&frames);
}

#[test]
fn replay_appends_the_lines_of_every_run() {
    let capture = file(&pcap(Order::Little, Unit::Nano, 1, &frames(2, 3)));
    let lines = file(b"");
    let args = ["replay", path_of(&capture), "--runs", "2", "-o", path_of(&lines), "--json"];
    assert_eq!(report(&args)["results"][0]["lines"], 6);
    // One counted run, and two timed ones.
    let written = std::fs::read(lines.path()).expect("it is there");
    assert_eq!(records::parse(&written).len(), 3 * 6);
}

#[test]
fn replay_prints_a_table_for_people() {
    let capture = file(&pcap(Order::Little, Unit::Nano, 1, &frames(2, 3)));
    let output = bench(&["replay", path_of(&capture), "--runs", "1", "--shards", "1,2"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("36 packets") && text.contains("6 exchanges"), "{text}");
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("     ")).count();
    assert_eq!(rows(&text), 2, "{text}");
}

#[test]
fn replay_refuses_what_it_cannot_replay_in_one_sentence() {
    let empty = file(&pcap(Order::Little, Unit::Nano, 1, &[]));
    let text = file(b"this is no capture at all, is it?");
    for (args, printed) in [
        (vec!["replay", "/nowhere/at.all"], "no such file"),
        (vec!["replay", path_of(&empty)], "holds no packet"),
        (vec!["replay", path_of(&text)], "not a capture"),
    ] {
        let output = bench(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("httplines-bench: ") && stderr.contains(printed), "{stderr}");
        assert!(output.stdout.is_empty());
    }
    for wrong in [["--shards", "0"], ["--runs", "0"], ["--shards", "x"]] {
        let output = bench(&[&["replay", path_of(&empty)], &wrong[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// Needs CAP_BPF, and a network namespace for the live part.
mod root {
    use super::{Value, bench, report};
    use httplines::sys::counters::Reason;
    use httplines::sys::privileges::may_load_programs;
    use std::collections::BTreeSet;

    const RUNS: u64 = 2;
    const REPEAT: u64 = 500;
    const PACKETS: u64 = 300;
    /// Frames of a path on which each belongs to another connection.
    const FRESH: u64 = 4096;

    const ARGS: [&str; 5] = ["filter", "--repeat", "500", "--packets", "300"];

    #[test]
    fn every_path_of_the_filter_ends_as_it_is_called() {
        if !may_load_programs() {
            crate::support::skip!("loading the filter needs CAP_BPF");
        }
        let report = report(&[&ARGS[..], &["--runs", "2", "--json"]].concat());
        let paths = report["paths"].as_array().expect("a list");
        let is_live = crate::support::lab::is_root();
        let mut reasons = BTreeSet::new();
        for path in paths {
            let name = path["path"].as_str().expect("a name");
            let reason = path["reason"].as_str().expect("a reason");
            let (word, _) = name.split_once(':').unwrap_or((name, ""));
            let expected = match word {
                "gate shut" => Reason::Gated,
                "other direction" => Reason::Direction,
                "not IP" => Reason::NotIp,
                "not TCP" => Reason::NotTcp,
                "unwanted port" => Reason::Unwanted,
                "not in the sample" => Reason::Sampled,
                "shed" => Reason::Shed,
                "elided" => Reason::Elided,
                "body" => Reason::BodyAck,
                "tunnel" => Reason::Tunnel,
                "no payload" => Reason::NoPayload,
                "QUIC" if name.contains("Initial") => Reason::QuicInitial,
                "QUIC" => Reason::Quic,
                "TLS" => Reason::Tls,
                "wanted TLS" => Reason::TlsWanted,
                "other" => Reason::Other,
                "filter off" => Reason::FilterOff,
                "session" => Reason::Session,
                "opening" => Reason::Opening,
                "new" if name.contains("request") => Reason::Admitted,
                "new" if name.contains("answer") => Reason::Session,
                "new" => Reason::Opening,
                "fragment" => Reason::Fragment,
                "too deep" => Reason::TooDeep,
                "unparsed" => Reason::Unparsed,
                other => panic!("what is {other}?"),
            };
            assert_eq!(reason, expected.name(), "{name}");
            let verdict = if expected.is_pass() { "pass" } else { "reject" };
            assert_eq!(path["verdict"], verdict, "{name}");
            // Every measured frame was counted under that reason: the program ensures that.
            let (in_memory, live) = if word == "new" { (FRESH, FRESH) } else { (REPEAT, PACKETS) };
            let live = if is_live { live } else { 0 };
            assert_eq!(path["frames"], RUNS * (in_memory + live), "{name}");
            check_cost(path, is_live);
            reasons.insert(reason);
        }
        let all: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(reasons, all, "every reason has a path");
        check_cost(&report["empty"], is_live);
        check_cost(&report["empty_new"], is_live);

        let output = bench(&[&ARGS[..], &["--runs", "1"]].concat());
        let table = String::from_utf8(output.stdout).expect("UTF-8");
        let names = paths.iter().filter_map(|path| path["path"].as_str());
        for name in names.chain(["empty program", "empty program, new"]) {
            let name = format!("{name:26} ");
            assert_eq!(table.lines().filter(|line| line.starts_with(&name)).count(), 1, "{table}");
        }
    }

    fn check_cost(cost: &Value, is_live: bool) {
        assert!(cost["test_run_ns"]["median"].is_number(), "{cost}");
        assert_eq!(cost["live_ns"]["median"].is_number(), is_live, "{cost}");
    }
}
