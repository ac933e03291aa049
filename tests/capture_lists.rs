//! Several capture files as one capture, and compressed ones: the same lines as from one plain
//! file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap, pcapng};
use crate::support::conversation::Conversation;
use crate::support::{lab, program, records};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::Value;

const START_NS: u64 = 1_700_000_000_123_456_000;
const STEP_NS: u64 = 10_000_000;
const ETHERNET: u32 = 1;

/// A whole gzip file.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A whole zstd file, of many blocks.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    for block in bytes.chunks(4096) {
        encoder.write_all(block).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

/// A frame of zstd that readers skip, as pzstd writes them.
fn skippable() -> Vec<u8> {
    [&0x184d_2a50u32.to_le_bytes()[..], &4u32.to_le_bytes(), b"skip"].concat()
}

/// Connections that overlap in time, with bodies that do not compress well.
fn frames() -> Vec<WrittenFrame> {
    let mut frames = Vec::new();
    for number in 0..12u16 {
        let (client, server) = (format!("10.0.0.{number}:4000"), "10.1.0.2:80");
        let mut talk = Conversation::new(&client, server).segment_bytes(300);
        talk.handshake();
        for turn in 0..3 {
            let request = format!("GET /{number}/{turn} HTTP/1.1\r\nHost: h\r\n\r\n");
            let body: Vec<u8> =
                (0..900u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            talk.client(request.as_bytes()).server(&[head.as_bytes(), &body].concat());
        }
        talk.finish();
        frames.extend(talk.frames(START_NS + u64::from(number) * 1_000, STEP_NS));
    }
    frames.sort_by_key(|frame| frame.ns);
    frames
}

fn plain(frames: &[WrittenFrame]) -> Vec<u8> {
    pcap(Order::Little, Unit::Nano, ETHERNET, frames)
}

fn ng(frames: &[WrittenFrame]) -> Vec<u8> {
    pcapng(Order::Big, &[(1, "eth0")], frames)
}

/// A directory with files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs httplines in the directory.
    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(crate::httplines());
        command.current_dir(self.path()).args(line.split(' ')).output().unwrap()
    }
}

/// The records in the output, in any order.
fn lines(output: &Output) -> Vec<Value> {
    records::parse(&output.stdout)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Reads `files`, on one shard and on three.
fn read(files: &[PathBuf]) -> Vec<Value> {
    let mut results = Vec::new();
    for shards in ["1", "3"] {
        let mut args = vec!["-o", "-", "--shards", shards, "-r"];
        args.extend(files.iter().map(|path| path.to_str().unwrap()));
        let output = program::run(&args, None);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains("every frame, flow and line is accounted for"), "{told}");
        assert!(!told.contains("before the end of"), "{told}");
        results.push(lines(&output));
    }
    records::assert_same("one shard and three", &results[0], &results[1]);
    results.swap_remove(0)
}

/// A function that makes a capture file of frames.
type Format = fn(&[WrittenFrame]) -> Vec<u8>;
const FORMATS: [Format; 2] = [plain, ng];

#[test]
fn compressed_captures_give_the_same_records() {
    let place = Place::new();
    for format in FORMATS {
        let file = format(&frames());
        let expected = read(&[place.write("plain", &file)]);
        assert_eq!(expected.len(), 36);
        let (front, back) = file.split_at(file.len() / 3);
        for (kind, packed) in [
            ("gzip", gzip(&file)),
            ("gzip of two members", [gzip(front), gzip(back)].concat()),
            ("gzip with an empty member", [gzip(b""), gzip(&file), gzip(b"")].concat()),
            ("zstd", zstd(&file)),
            ("zstd of two frames", [zstd(front), zstd(back)].concat()),
            ("zstd with skipped frames", [skippable(), zstd(&file), skippable()].concat()),
        ] {
            // The name says nothing.
            let got = read(&[place.write("packed.pcap", &packed)]);
            records::assert_same(kind, &expected, &got);
            for shards in ["1", "2"] {
                let args = ["-r", "-", "-o", "-", "--shards", shards];
                let got = lines(&program::run(&args, Some(&packed)));
                records::assert_same(&format!("{kind} on standard input"), &expected, &got);
            }
        }
    }
}

#[test]
fn a_capture_in_several_files_gives_the_same_records() {
    let place = Place::new();
    let frames = frames();
    for format in FORMATS {
        let expected = read(&[place.write("all", &format(&frames))]);
        let parts = frames.chunks(frames.len() / 3 + 1).map(format).enumerate();
        let parts: Vec<_> = parts
            .map(|(number, part)| match number {
                0 => place.write("a", &part),
                1 => place.write("b", &gzip(&part)),
                _ => place.write("c", &zstd(&part)),
            })
            .collect();
        assert_eq!(parts.len(), 3);
        records::assert_same("three files", &expected, &read(&parts));
        for line in ["-o - -r a b c", "-r a -r b -r c -o -", "-r a b -o - -r c"] {
            let output = place.run(line);
            assert_eq!(output.status.code(), Some(0), "{line}: {}", told(&output));
            records::assert_same(line, &expected, &lines(&output));
        }
    }
}

#[test]
fn a_file_of_each_format_keeps_its_interfaces() {
    let place = Place::new();
    let named = |names: &[&str], from: u16| {
        let interfaces: Vec<_> = names.iter().map(|name| (1, *name)).collect();
        let mut frames = Vec::new();
        for number in 0..names.len() as u16 {
            let client = format!("10.0.{from}.{number}:4000");
            let mut talk = Conversation::new(&client, "10.1.0.2:80");
            talk.client(format!("GET /{from}/{number} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            let start_ns = START_NS + u64::from(from) * 1_000_000_000;
            let mut sent = talk.frames(start_ns, STEP_NS);
            sent.iter_mut().for_each(|frame| frame.interface = number.into());
            frames.extend(sent);
        }
        match names {
            [""] => plain(&frames),
            _ => pcapng(Order::Little, &interfaces, &frames),
        }
    };
    place.write("0", &named(&["eth0", "eth1"], 0));
    place.write("1", &named(&[""], 1));
    place.write("2", &named(&["eth1", "eth2", "eth0"], 2));
    for shards in ["1", "2"] {
        let output = place.run(&format!("-r 0 1 2 -o - --shards {shards}"));
        let mut found: Vec<_> = lines(&output)
            .iter()
            .map(|line| (line["target"].as_str().unwrap().to_string(), line["iface"].clone()))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("/0/0", "eth0".into()),
            ("/0/1", "eth1".into()),
            ("/1/0", Value::Null),
            ("/2/0", "eth1".into()),
            ("/2/1", "eth2".into()),
            ("/2/2", "eth0".into()),
        ];
        assert_eq!(found, expected.map(|(target, iface)| (target.to_string(), iface)));
    }
}

#[test]
fn hundreds_of_files_need_few_descriptors() {
    let place = Place::new();
    let frames = frames();
    let names: Vec<_> = (0..frames.len()).map(|number| format!("{number:04}.pcap")).collect();
    for (number, (name, frame)) in names.iter().zip(&frames).enumerate() {
        let file = plain(std::slice::from_ref(frame));
        place.write(name, &if number % 3 == 0 { gzip(&file) } else { file });
    }
    assert!(names.len() > 300);
    let expected = read(&[place.write("all", &plain(&frames))]);
    for shards in ["1", "4"] {
        let mut command = Command::new("sh");
        let line = format!("ulimit -n 40; exec \"$0\" -o - --shards {shards} -r *.pcap");
        let output = command.current_dir(place.path()).args(["-c", &line]).arg(crate::httplines());
        let output = output.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        records::assert_same(shards, &expected, &lines(&output));
    }
}

#[test]
fn files_that_cannot_be_read_are_told_before_anything_is_written() {
    let place = Place::new();
    let frames = frames();
    place.write("good", &plain(&frames));
    place.write("empty", b"");
    place.write("text", b"this is no capture at all, and longer than a header");
    place.write("header", &plain(&frames)[..10]);
    place.write("gz.of.text", &gzip(b"this is no capture at all, and longer than a header"));
    place.write("gz.of.gz", &gzip(&gzip(&plain(&frames))));
    place.write("cut.gz", &gzip(&plain(&frames))[..12]);
    place.write("xz", b"\xfd7zXZ\x00 and more, so that it is longer than a header");
    // Its window has 256 MiB.
    place.write("wide.zst", b"\x28\xb5\x2f\xfd\x00\x90\x29\x00\x00hello");
    std::fs::create_dir(place.path().join("dir")).unwrap();
    lab::run(Command::new("mkfifo").arg(place.path().join("fifo")));
    std::fs::hard_link(place.path().join("good"), place.path().join("twin")).unwrap();
    for (input, code, says) in [
        ("none", 1, "none: no such file"),
        ("empty", 1, "empty is empty"),
        ("text", 1, "text is not a capture"),
        ("header", 1, "header is cut off inside its file header"),
        ("dir", 1, "dir is a directory"),
        ("gz.of.text", 1, "gz.of.text is not a capture"),
        ("gz.of.gz", 1, "gz.of.gz is gzip compressed; decompress it: `zcat"),
        ("cut.gz", 1, "cannot read cut.gz: the gzip data ends too early"),
        ("xz", 1, "xz is xz compressed; decompress it: `xzcat FILE | httplines -r -`"),
        ("wide.zst", 1, "its zstd window is larger than 128 MiB"),
        ("fifo", 1, "fifo is no regular file"),
        ("-", 2, "- is standard input, and -r reads it alone"),
        ("out", 2, "the output is the input"),
    ] {
        for line in [format!("-r good {input}"), format!("-r {input} good")] {
            if input == "out" {
                std::fs::copy(place.path().join("good"), place.path().join("out")).unwrap();
            }
            let output = place.run(&format!("{line} -o out"));
            assert_eq!(output.status.code(), Some(code), "{line}: {}", told(&output));
            assert!(told(&output).contains(says), "{line}: {}", told(&output));
            let is_there = place.path().join("out").exists();
            assert_eq!(is_there, input == "out", "{line}");
        }
    }
}

#[test]
fn a_file_that_is_cut_or_damaged_is_told_and_the_next_one_is_read() {
    let place = Place::new();
    let frames = frames();
    let third = frames.len() / 3;
    let parts: Vec<_> = frames.chunks(third + 1).map(plain).collect();
    let damaged = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let half = bytes.len() / 2;
        bytes[half..half + 64].fill(0xff);
        bytes
    };
    let gz = gzip(&parts[1]);
    let zst = zstd(&parts[1]);
    place.write("a", &parts[0]);
    place.write("c", &parts[2]);
    for (kind, bytes, says) in [
        ("pcap", &parts[1][..parts[1].len() - 3], "the capture is cut off after"),
        ("gzip", &gz[..gz.len() * 2 / 3], "the gzip data ends too early"),
        ("gzip without its trailer", &gz[..gz.len() - 4], "the gzip data ends too early"),
        ("zstd", &zst[..zst.len() * 2 / 3], "the zstd data ends too early"),
        ("damaged gzip", &damaged(&gz), "the capture is damaged after"),
        ("damaged zstd", &damaged(&zst), "the capture is damaged after"),
    ] {
        place.write("b", bytes);
        for shards in ["1", "3"] {
            let output = place.run(&format!("-r a b c -o - --shards {shards}"));
            let told = told(&output);
            assert_eq!(output.status.code(), Some(1), "{kind}: {told}");
            assert_eq!(told.matches("httplines: b: the capture is").count(), 1, "{kind}: {told}");
            assert!(told.contains(says), "{kind}: {told}");
            assert!(told.contains("1 of 3 capture files could not be read to the end"), "{told}");
            assert!(told.contains("every frame, flow and line is accounted for"), "{told}");
            // Some of every connection is in the last file.
            assert!(lines(&output).len() >= 12, "{kind}: {told}");
            let alone = place.run(&format!("-r b -o - --shards {shards}"));
            assert_eq!(alone.status.code(), Some(1), "{kind}");
            assert!(self::told(&alone).contains(says), "{kind}: {}", self::told(&alone));
        }
    }
}

#[test]
fn files_out_of_order_are_told() {
    let place = Place::new();
    let frames = frames();
    let parts: Vec<_> = frames.chunks(frames.len() / 3 + 1).map(plain).collect();
    let names = ["a", "b", "c"];
    names.iter().zip(&parts).for_each(|(name, part)| drop(place.write(name, part)));
    place.write("none", &plain(&[]));
    for (line, says) in [
        ("a b c", None),
        ("a none b", None),
        ("b a c", Some(("a", "b"))),
        ("a c none b", Some(("b", "c"))),
        ("a a", Some(("a", "a"))),
    ] {
        for shards in ["1", "2"] {
            let output = place.run(&format!("-r {line} -o - --shards {shards}"));
            let told = told(&output);
            assert_eq!(output.status.code(), Some(0), "{line}: {told}");
            let count = told.matches("before the end of").count();
            assert_eq!(count, usize::from(says.is_some()), "{line}: {told}");
            if let Some((late, early)) = says {
                assert!(told.contains(&format!("httplines: {late} begins 0.")), "{line}: {told}");
                let before = format!("before the end of {early}, ");
                assert!(told.contains(&before), "{line}: {told}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever a capture is split into files, of whatever kind, the lines are the same.
    #[test]
    fn a_capture_may_be_split_at_any_record(
        cuts in proptest::collection::vec((0usize..400, 0usize..6), 0..12),
        shards in 1..4u32,
    ) {
        let place = Place::new();
        let frames = frames();
        let mut ends: Vec<_> = cuts.iter().map(|(at, _)| at % (frames.len() + 1)).collect();
        ends.push(frames.len());
        ends.sort();
        let mut args = format!("-q -o - --shards {shards} -r");
        let mut start = 0;
        for (number, end) in ends.into_iter().enumerate() {
            let kind = cuts.get(number).map_or(0, |(_, kind)| *kind);
            let part = FORMATS[kind % 2](&frames[start..end]);
            place.write(&number.to_string(), &match kind / 2 {
                0 => part,
                1 => gzip(&part),
                _ => zstd(&part),
            });
            args += &format!(" {number}");
            start = end;
        }
        place.write("all", &plain(&frames));
        let expected = records::without(lines(&place.run("-q -o - -r all")), &["iface"]);
        let output = place.run(&args);
        prop_assert_eq!(told(&output), "");
        let got = records::without(lines(&output), &["iface"]);
        records::assert_same(&args, &expected, &got);
    }

    /// Compressed data with random damage ends, without a panic.
    #[test]
    fn any_damage_to_compressed_data_ends_the_file(
        is_zstd: bool,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let place = Place::new();
        let file = plain(&frames());
        let mut packed = if is_zstd { zstd(&file) } else { gzip(&file) };
        for (at, value) in damage {
            let at = at.index(packed.len());
            packed[at] = value;
        }
        place.write("damaged", &packed);
        let output = place.run("-o - -r damaged");
        let told = told(&output);
        prop_assert!(matches!(output.status.code(), Some(0 | 1)), "{}", told);
        prop_assert!(!told.contains("panicked") && !told.contains("failed"), "{}", told);
    }
}
