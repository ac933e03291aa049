//! Live, on a wire of our own. Needs root; otherwise each test reports that it was skipped.

use super::{is_partial, key, parted};
use crate::support::lab::{self, CAPTURE_DEPENDENT_FIELDS, End, Lab, Offload, SERVER};
use crate::support::lab::{Finished, SERVER_IFACE};
use crate::support::{records, schema, skip};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// A piece of a long upload.
const PIECE_BYTES: u64 = 256 << 10;

/// The lines so far.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|it| it.ends_with(b"\n"));
    whole.map(schema::check_line).collect()
}

/// Asserts that the sidecar counts `count` partial lines.
fn check_sidecar(path: &Path, count: usize) {
    let text = std::fs::read_to_string(path).expect("the sidecar");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["total"]["lines"]["partial"], count as u64, "{last}");
    assert_eq!(last["violations"], serde_json::json!([]));
}

/// The partial records and the others of a run.
fn of(lab: &Lab, name: &str, finished: &Finished) -> (Vec<Value>, Vec<Value>) {
    let parted = parted(&finished.records(&lab.path().join(format!("{name}.jsonl"))));
    check_sidecar(&lab.path().join(format!("{name}.stats")), parted.0.len());
    parted
}

#[test]
fn an_upload_is_told_live_with_elision_and_without() {
    if let Some(reason) = lab::missing() {
        skip!(reason);
    }
    let mut lab = Lab::new(Offload::Off);
    lab.start_nginx();
    let start = |name: &str, more: &[&str]| {
        let output = format!("{name}.jsonl");
        let args = ["-i", SERVER_IFACE, "-o", &output, "-B", "262144"];
        lab.start_httplines(End::Server, &[&args[..], more].concat())
    };
    let timeout = ["--active-timeout", "1"];
    let elided = start("elided", &[&timeout[..], &["--elide-min-bytes", "1"]].concat());
    let whole = start("whole", &[&timeout[..], &["--no-elide", "--shards", "1"]].concat());
    let without = start("without", &[]);
    let outputs = ["elided.jsonl", "whole.jsonl"].map(|name| lab.path().join(name));
    let script = format!("exec 3<> /dev/tcp/{}/80; cat >&3; head -n 1 <&3", SERVER[0]);
    let mut client = lab.command(End::Client, "bash");
    let client = client.args(["-c", &script]).stdin(Stdio::piped()).spawn();
    let mut client = client.expect("bash is there");
    let mut pipe = client.stdin.take().expect("a pipe");
    let mut send = |bytes: &[u8]| pipe.write_all(bytes).expect("the client takes it");
    let length = 3 * PIECE_BYTES;
    let head = format!("POST /small/up HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n");
    send(format!("{head}\r\n").as_bytes());
    for count in 1..=3 {
        send(&[b'x'; PIECE_BYTES as usize]);
        if count < 3 {
            lab::wait_until("it is told", || {
                outputs.iter().all(|output| lines(output).len() >= 2 * count)
            });
        }
    }
    drop(pipe);
    assert!(client.wait().expect("a child of ours").success());
    lab.curl(&["/1m", "/small/short"]);
    let ended = [elided, whole, without].map(|running| running.stop());
    assert!(ended[0].stderr.contains(" bytes of bodies left in the kernel"));
    let [elided, whole, without] = [("elided", 0), ("whole", 1), ("without", 2)]
        .map(|(name, at): (&str, usize)| of(&lab, name, &ended[at]));
    assert_eq!((without.0.len(), without.1.len()), (0, 3));
    for (partial, finals) in [&elided, &whole] {
        let strip = |all: &[Value]| records::without(all.to_vec(), &CAPTURE_DEPENDENT_FIELDS);
        records::assert_same("final records", &strip(finals), &strip(&without.1));
        let bytes: Vec<_> =
            partial.iter().map(|it| it["request_body_bytes"].as_u64().expect("known")).collect();
        assert!(partial.len() >= 4 && bytes.is_sorted(), "{bytes:?}");
        assert!(bytes.iter().all(|it| [PIECE_BYTES, 2 * PIECE_BYTES].contains(it)), "{bytes:?}");
        assert!(partial.iter().all(|record| key(record) == key(&finals[0])));
    }
}

/// The client sends half of a request. Nothing passes any more, and it is told each second.
#[test]
fn what_waits_on_a_quiet_link_is_told() {
    if let Some(reason) = lab::missing() {
        skip!(reason);
    }
    let mut lab = Lab::new(Offload::Off);
    lab.start_nginx();
    let args = ["-i", SERVER_IFACE, "-o", "quiet.jsonl", "--active-timeout", "1"];
    let running = lab.start_httplines(End::Server, &args);
    let request = "POST /small HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 9\\r\\n\\r\\nhalf";
    let script = format!("exec 3<> /dev/tcp/{}/80; printf '{request}' >&3; cat", SERVER[0]);
    let mut client = lab.command(End::Client, "bash");
    let client = client.args(["-c", &script]).stdin(Stdio::piped()).spawn();
    let mut client = client.expect("bash is there");
    let path = lab.path().join("quiet.jsonl");
    lab::wait_until("three seconds are told", || lines(&path).len() == 3);
    drop(client.stdin.take());
    client.wait().expect("a child of ours");
    let finished = running.stop();
    let (partial, whole) = of(&lab, "quiet", &finished);
    assert!(partial.iter().all(|it| is_partial(it) && it["request_body_bytes"] == 4));
    assert_eq!((whole.len(), &whole[0]["outcome"]), (1, &"truncated".into()));
    let second = |nth: usize| partial[nth]["active_ns"].as_u64().expect("a time") / 1_000_000_000;
    assert_eq!([second(0), second(1), second(2)], [1, 2, 3]);
}
