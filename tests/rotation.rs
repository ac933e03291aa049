//! Files that the program closes: by size, interval and SIGHUP, and what becomes of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;
use crate::support::lab::wait_until;

/// A capture with this many exchanges on each of four connections.
fn capture(exchange_count: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    for port in 0..4 {
        let mut talk = Conversation::new(&format!("10.0.0.1:{}", 4000 + port), "10.0.0.2:80");
        talk.handshake();
        for number in 0..exchange_count {
            talk.client(format!("GET /{port}/{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
        talk.finish();
        frames.extend(talk.frames(1_700_000_000_000_000_000, 1000));
    }
    pcap(Order::Little, Unit::Nano, 1, &frames)
}

fn place(exchange_count: usize) -> TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    fs::write(place.path().join("good.pcap"), capture(exchange_count)).expect("a file");
    place
}

fn program(line: &str, place: &Path) -> Command {
    let mut command = Command::new(crate::httplines());
    command.args(line.split(' ')).current_dir(place).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn run(line: &str, place: &Path) -> Output {
    let output = program(line, place).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {told}");
    assert!(told.contains("every frame, flow and line is accounted for"), "{line}: {told}");
    output
}

/// The files of an output, in the order of their names, which begin with `http`, without those of
/// statistics, and those that are renamed or deleted meanwhile.
fn files(place: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = place.read_dir().expect("a directory").map(|entry| entry.expect("an entry"));
    let named = entries.map(|entry| (entry.file_name().into_string().expect("text"), entry.path()));
    let ours = named.filter(|(name, _)| name.starts_with("http") && !name.contains(".stats"));
    ours.filter_map(|(name, path)| Some((name, fs::read(path).ok()?))).collect()
}

/// Whether this is the name of a closed file: a stem, the time, and an extension.
fn is_closed(name: &str, stem: &str, extension: &str) -> bool {
    let stamp = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension));
    stamp.is_some_and(|stamp| {
        let shape: String =
            stamp.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
        shape == "-00000000T000000.000000Z"
    })
}

/// The lines of all plain files together.
fn joined(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    files.values().flatten().copied().collect()
}

#[test]
fn the_files_in_order_are_the_lines_without_rotation() {
    let place = place(300);
    run("-r good.pcap -o whole", place.path());
    let whole = fs::read(place.path().join("whole")).expect("lines");
    let output = run("-r good.pcap -o http.jsonl -C 16K", place.path());
    let files = files(place.path());
    assert!(files.len() > 10, "{:?}", files.keys());
    assert!(joined(&files) == whole, "lines are missing or in another order");
    for (name, bytes) in &files {
        assert!(is_closed(name, "http", ".jsonl") || name == "http.jsonl", "{name}");
        // A batch is larger than SIZE by less than one line.
        let last = 1 + bytes[..bytes.len() - 1].iter().rev().take_while(|it| **it != b'\n').count();
        assert!(bytes.len() - last < 16 << 10 && bytes.ends_with(b"\n"), "{name}: {}", bytes.len());
    }
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&format!("  files      {} closed\n", files.len() - 1)), "{told}");
}

#[test]
fn a_second_run_goes_on_in_the_file_of_the_first() {
    let place = place(10);
    let line = "-r good.pcap -o http.jsonl -C 1M";
    run(line, place.path());
    run(line, place.path());
    let files = files(place.path());
    assert_eq!(files.len(), 1);
    assert_eq!(joined(&files).split(|byte| *byte == b'\n').count(), 81);
    run("-r good.pcap -o http.jsonl -C 1K -W 3", place.path());
    assert_eq!(self::files(place.path()).len(), 4, "what was there is closed first");
}

#[test]
fn each_shard_closes_its_own_file() {
    let place = place(100);
    run("-r good.pcap -o whole", place.path());
    let sorted = |bytes: Vec<u8>| {
        let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    let whole = sorted(fs::read(place.path().join("whole")).expect("lines"));
    run("-r good.pcap -o http.jsonl -C 4K --output-per-shard --shards 2", place.path());
    let files = files(place.path());
    let of_shard = |stem| files.keys().filter(|name| is_closed(name, stem, ".jsonl")).count();
    let closed = of_shard("http.0") + of_shard("http.1");
    assert!(closed > 10 && closed + 2 == files.len(), "{:?}", files.keys());
    assert!(sorted(joined(&files)) == whole);
}

#[test]
fn what_is_kept_is_the_end() {
    let place = place(300);
    run("-r good.pcap -o whole", place.path());
    let whole = fs::read(place.path().join("whole")).expect("lines");
    for (keep, is_enough) in [
        ("-W 2", (|files| files.len() == 3) as fn(&BTreeMap<String, Vec<u8>>) -> bool),
        ("--keep-size 40K", |files| joined(files).len() <= 40 << 10),
    ] {
        let line = format!("-r good.pcap -o http.jsonl -C 16K {keep}");
        let output = run(&line, place.path());
        let files = files(place.path());
        assert!(is_enough(&files), "{keep}: {:?}", files.keys());
        assert!(whole.ends_with(&joined(&files)) && files.len() > 1, "{keep}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(" deleted"), "{told}");
        files
            .keys()
            .for_each(|name| fs::remove_file(place.path().join(name)).expect("it is there"));
    }
}

/// Lines come from a pipe, which stays open until the closed files are compressed.
#[test]
fn closed_files_are_compressed_except_the_newest() {
    let place = place(300);
    run("-r good.pcap -o whole", place.path());
    let whole = fs::read(place.path().join("whole")).expect("lines");
    let line = "-r - -o http.jsonl -C 16K --compress zstd";
    let mut child = program(line, place.path()).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let bytes = fs::read(place.path().join("good.pcap")).expect("a capture");
    pipe.write_all(&bytes).expect("it reads");
    pipe.flush().expect("it reads");
    let is_compressed = |name: &String| is_closed(name, "http", ".jsonl.zst");
    let plain = |files: &BTreeMap<String, Vec<u8>>| {
        files.keys().filter(|name| is_closed(name, "http", ".jsonl")).count()
    };
    wait_until("all but the newest closed file are compressed", || {
        let files = files(place.path());
        files.keys().any(is_compressed) && plain(&files) == 1
    });
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains(" compressed\n"), "{told}");
    let files = files(place.path());
    let mut lines: Vec<u8> = Vec::new();
    for (name, bytes) in &files {
        let is_compressed = is_compressed(name);
        let text = if is_compressed { zstd::decode_all(&bytes[..]).ok() } else { None };
        lines.extend(text.as_ref().unwrap_or(bytes));
    }
    assert!(lines == whole, "{:?}", files.keys());
}

#[test]
fn only_json_lines_in_files_are_rotated() {
    let place = place(1);
    let no_file = "standard output and text lines are not rotated: ";
    for (line, says) in [
        ("-r good.pcap -C 1", no_file),
        ("-r good.pcap -o - -G 1h", no_file),
        ("-r good.pcap -o http.txt --format text -C 1", no_file),
        ("-r good.pcap -o - -W 3", no_file),
        ("-r good.pcap -o http.jsonl -W 3", "-W, --keep-size, --keep-free and --compress are for"),
        ("-r good.pcap -o http.jsonl --compress zstd", "for closed files: add -C SIZE or -G TIME"),
        ("-r good.pcap -o /dev/null -C 1", "/dev/null is no file, and only files are rotated"),
        ("-r good.pcap -o /dev/stdout -C 1", "/dev/stdout is no file, and only files are rotated"),
        ("-r good.pcap -o http.jsonl -C 1.5G", "--rotate-size takes a size, such as 500M or 1G"),
        ("-r good.pcap -o http.jsonl -G 1w", "--rotate-interval takes a time of at most 366d"),
        ("-r good.pcap -o http.jsonl -C 1 -W 0", "--keep-files takes a whole number of at least 1"),
        ("-r good.pcap -o http.jsonl -C 1 --keep-free 100%", "--keep-free takes a part from 1%"),
        ("-r good.pcap -o http.jsonl -C 1 --compress gzip", "--compress takes zstd, not gzip"),
    ] {
        let stdout = fs::File::create(place.path().join("stdout")).expect("a file");
        let output = program(line, place.path()).stdout(stdout).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {told}");
        assert!(told.contains(says) && told.lines().count() == 1, "{line}: {told}");
    }
    assert!(files(place.path()).values().all(Vec::is_empty));
}

#[test]
fn two_runs_do_not_close_each_others_file() {
    let place = place(3);
    let mut first = program("-r - -o http.jsonl -C 1M", place.path());
    let mut child = first.stdin(Stdio::piped()).spawn().expect("it starts");
    // It opens its output once it sees what the input is.
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&capture(3)).expect("it reads");
    wait_until("it writes", || place.path().join("http.jsonl").exists());
    for line in ["-r good.pcap -o http.jsonl", "-r good.pcap -o http.jsonl -G 1h"] {
        let output = program(line, place.path()).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        let says = "cannot write http.jsonl: another httplines writes to it";
        assert!(output.status.code() == Some(1) && told.contains(says), "{told}");
    }
    drop(pipe);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(joined(&files(place.path())).split(|byte| *byte == b'\n').count(), 13);
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::support::lab::{self, End, Lab, Offload, SERVER_IFACE};
    use crate::support::skip;
    use serde_json::Value;

    /// How often this target was requested, in the plain files of an output.
    fn count(place: &Path, target: &str) -> usize {
        let lines = joined(&files(place));
        let records = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let records = records.map(|line| serde_json::from_slice::<Value>(line).expect("a record"));
        records.filter(|record| record["target"] == target).count()
    }

    fn ask(lab: &Lab, target: &str) {
        lab.curl(&[target]);
        wait_until("the line is there", || count(lab.path(), target) == 1);
    }

    #[test]
    fn a_live_capture_closes_files_by_time_and_at_sighup() {
        if let Some(reason) = lab::missing() {
            skip!(reason)
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let args = ["-i", SERVER_IFACE, "-o", "http.jsonl", "-C", "1G", "-G", "366d"];
        let running = lab.start_httplines(End::Server, &args);
        ask(&lab, "/small1");
        running.signal("HUP");
        wait_until("the file is closed", || files(lab.path()).len() == 2);
        ask(&lab, "/small2");
        // Somebody else renames it, as logrotate does: it keeps that name.
        let [active, moved] = ["http.jsonl", "http.jsonl.1"].map(|name| lab.path().join(name));
        fs::rename(&active, &moved).expect("it is there");
        running.signal("HUP");
        wait_until("a new file is opened", || active.exists());
        ask(&lab, "/small3");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("2 closed");
        assert_eq!(files(lab.path()).len(), 3);

        // By time, also while there is no traffic.
        let args = ["-i", SERVER_IFACE, "-o", "http.jsonl", "-G", "1"];
        let running = lab.start_httplines(End::Server, &args);
        ask(&lab, "/small4");
        wait_until("an idle capture closes the file", || {
            fs::read(&active).is_ok_and(|bytes| bytes.is_empty())
        });
        let before = files(lab.path()).len();
        ask(&lab, "/small5");
        wait_until("and does so again", || files(lab.path()).len() > before);
        let finished = running.stop();
        finished.told("every frame, flow and line is accounted for");
        for target in ["/small1", "/small2", "/small3", "/small4", "/small5"] {
            assert_eq!(count(lab.path(), target), 1, "{target}");
        }
    }
}
