//! Capture files of every kind, written by the support library and by tcpdump, read back through
//! the source.

use std::io::Cursor;
use std::process::Command;

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap, pcapng};
use crate::support::conversation::{Conversation, Side};
use crate::support::lab;
use crate::support::records;
use crate::support::skip;
use httplines::capture::pcap::PcapSource;
use httplines::capture::pcap::open::open_file;
use httplines::capture::{Frame, FrameSource, Polled};
use httplines::ids::IfaceNames;
use proptest::collection::vec;
use proptest::prelude::*;

const START_NS: u64 = 1_700_000_000_123_456_000;
const ETHERNET: u32 = 1;
/// The first moment that the 32-bit seconds of a pcap cannot express.
const NS_END: u64 = (1 << 32) * 1_000_000_000;

/// All frames of a source.
fn read_all(mut source: impl FrameSource) -> Vec<WrittenFrame> {
    let mut frames = Vec::new();
    let mut visit = |frame: Frame<'_>| {
        frames.push(WrittenFrame {
            ns: frame.timestamp.0,
            bytes: frame.bytes.to_vec(),
            wire_bytes: frame.wire_bytes,
            interface: frame.iface.0,
        });
    };
    while source.poll(&mut visit).expect("the file is whole") != Polled::End {}
    frames
}

fn read_back(file: Vec<u8>) -> Vec<WrittenFrame> {
    read_all(PcapSource::new(Cursor::new(file), 4096, &IfaceNames::default()).unwrap())
}

/// A conversation over either address family, with all features.
fn dialogue(client: &str, server: &str) -> Vec<WrittenFrame> {
    let mut talk = Conversation::new(client, server)
        .isn(u32::MAX - 20, u32::MAX)
        .segment_bytes(100)
        .vlans(&[10, 20])
        .timestamps();
    talk.handshake().client(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").server(&[b'x'; 1000]);
    talk.delay(Side::Server, 2, 3).duplicate(Side::Server, 5).lose(Side::Server, 7);
    talk.finish();
    talk.frames(START_NS, 1_001_000)
}

/// Conversations over both address families.
fn dialogues() -> [Vec<WrittenFrame>; 2] {
    [dialogue("10.0.0.1:1234", "10.0.0.2:80"), dialogue("[fd00::1]:1234", "[fd00::2]:80")]
}

#[test]
fn every_kind_of_pcap_is_read_back() {
    for frames in dialogues() {
        for order in [Order::Little, Order::Big] {
            for unit in [Unit::Micro, Unit::Nano] {
                assert_eq!(read_back(pcap(order, unit, ETHERNET, &frames)), frames);
            }
        }
    }
}

#[test]
fn every_kind_of_pcapng_is_read_back() {
    let interfaces = [(1, "eth0"), (1, "eth1")];
    let [mut frames, mut second] = dialogues();
    second.iter_mut().for_each(|frame| frame.interface = 1);
    frames.append(&mut second);
    for order in [Order::Little, Order::Big] {
        assert_eq!(read_back(pcapng(order, &interfaces, &frames)), frames);
    }
    // Two sections of different byte order, as from concatenation; the second describes the same
    // interfaces anew.
    let little = pcapng(Order::Little, &interfaces, &frames);
    let big = pcapng(Order::Big, &interfaces, &frames);
    let expected = [&frames[..], &frames].concat();
    assert_eq!(read_back([little, big].concat()), expected);
}

#[test]
fn snapped_frames_keep_their_length_on_the_wire() {
    let [frames, _] = dialogues();
    let snapped: Vec<_> = frames.into_iter().map(|frame| frame.snapped(96)).collect();
    assert!(snapped.iter().any(|frame| frame.bytes.len() < frame.wire_bytes as usize));
    assert_eq!(read_back(pcap(Order::Little, Unit::Nano, ETHERNET, &snapped)), snapped);
    assert_eq!(read_back(pcapng(Order::Big, &[(1, "eth0")], &snapped)), snapped);
}

#[test]
fn a_conversation_is_what_its_script_says() {
    let mut talk = Conversation::new("10.0.0.1:1234", "10.0.0.2:80").segment_bytes(2);
    talk.handshake().client(b"abcdef").reset(Side::Server);
    let bytes = |talk: &Conversation| -> Vec<Vec<u8>> {
        // The SYNs have a word of options.
        let payload = |frame: WrittenFrame| {
            let header_bytes = usize::from(frame.bytes[46] >> 4) * 4;
            frame.bytes[34 + header_bytes..].to_vec()
        };
        talk.frames(0, 1).into_iter().map(payload).collect()
    };
    let empty: &[u8] = b"";
    assert_eq!(bytes(&talk), [empty, empty, empty, b"ab", b"cd", b"ef", empty, empty]);
    talk.delay(Side::Client, 0, 1).duplicate(Side::Client, 0).lose(Side::Client, 3);
    assert_eq!(bytes(&talk), [empty, empty, empty, b"cd", b"cd", b"ab", empty, empty]);
}

#[test]
fn records_are_compared_in_any_order() {
    let left = records::parse(b"{\"a\":1,\"t\":5}\n{\"a\":2}\n");
    let right = records::parse(b"{\"a\":2}\n{\"a\":1,\"t\":6}\n");
    records::assert_same(
        "all but t",
        &records::without(left.clone(), &["t"]),
        &records::without(right, &["t"]),
    );
    let differs = std::panic::catch_unwind(|| records::assert_same("one less", &left, &left[..1]));
    assert!(differs.is_err());
}

#[test]
fn tcpdump_reads_our_files_and_finds_every_checksum_right() {
    if Command::new("tcpdump").arg("--version").output().is_err() {
        skip!("needs tcpdump");
    }
    let directory = tempfile::tempdir().unwrap();
    for (index, frames) in dialogues().into_iter().enumerate() {
        for (kind, file) in [
            ("pcap", pcap(Order::Big, Unit::Nano, ETHERNET, &frames)),
            ("pcapng", pcapng(Order::Little, &[(1, "eth0")], &frames)),
        ] {
            let path = directory.path().join(format!("{index}.{kind}"));
            std::fs::write(&path, file).unwrap();
            let read = lab::run(Command::new("tcpdump").arg("-nnvvr").arg(&path));
            let text = String::from_utf8_lossy(&read.stdout).into_owned();
            assert_eq!(text.matches("(correct)").count(), frames.len(), "{text}");
            assert!(!text.contains("incorrect"), "{text}");
        }
    }
}

#[test]
fn a_fifo_is_read_once_for_all_shards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    lab::run(Command::new("mkfifo").arg(&path));
    let [frames, _] = dialogues();
    let file = pcap(Order::Little, Unit::Nano, ETHERNET, &frames);
    let writer = std::thread::spawn({
        let path = path.clone();
        move || std::fs::write(path, file)
    });
    let capture = open_file(&path, 1 << 16, 3, &IfaceNames::default()).unwrap();
    let shards: Vec<_> = capture
        .sources
        .into_iter()
        .map(|source| std::thread::spawn(move || read_all(source)))
        .collect();
    for shard in shards {
        assert_eq!(shard.join().unwrap(), frames);
    }
    writer.join().unwrap().unwrap();
}

proptest! {
    #[test]
    fn any_frames_are_read_back_from_any_file(
        contents in vec((0..NS_END, vec(any::<u8>(), 0..300)), 0..20),
        is_big: bool,
    ) {
        let frames: Vec<_> =
            contents.iter().map(|(ns, bytes)| WrittenFrame::new(*ns, bytes)).collect();
        let order = if is_big { Order::Big } else { Order::Little };
        prop_assert_eq!(&read_back(pcap(order, Unit::Nano, ETHERNET, &frames)), &frames);
        prop_assert_eq!(&read_back(pcapng(order, &[(1, "a")], &frames)), &frames);
    }
}

/// Tests that need root.
mod root {
    use super::*;
    use crate::support::lab::{End, Lab, Offload, SERVER_IFACE};

    /// How many requests of wrk or curl begin in `bytes`.
    fn heads(bytes: &[u8]) -> usize {
        let word = b" HTTP/1.1\r\nHost";
        bytes.windows(word.len()).filter(|window| window == word).count()
    }

    /// A capture by tcpdump of a real server's traffic contains every request that the server
    /// logged.
    #[test]
    fn what_tcpdump_wrote_in_the_lab_is_read() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        for offload in [Offload::On, Offload::Off] {
            let mut lab = Lab::new(offload);
            lab.start_nginx();
            let file = lab.path().join("wire.pcap");
            let path = file.display().to_string();
            let args = ["-i", SERVER_IFACE, "-U", "-B", "65536", "-Z", "root", "-w", &path];
            let tcpdump = lab.start(lab.command(End::Server, "tcpdump"), &args, "listening on");
            lab.wrk(lab::SERVER[0], 4, 500);
            assert_eq!(lab.curl(&["/1m"]).stdout.len(), 1 << 20);
            let chunked = lab.curl(&["-i", "/chunked"]).stdout;
            assert!(String::from_utf8_lossy(&chunked).contains("Transfer-Encoding: chunked"));
            lab.curl(&["-X", "POST", "-d", "a=b", "/small/post"]);
            lab.curl(&["-6", "-g", &format!("http://[{}]/small/six", lab::SERVER[1])]);
            let log = lab.access_log();
            assert_eq!(log.len(), 504);
            // At SIGINT tcpdump loses its last, unfinished ring block; so it is stopped late
            // enough.
            lab::wait_until("every request is in the file", || {
                heads(&std::fs::read(&file).unwrap_or_default()) == log.len()
            });
            let finished = tcpdump.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);

            let capture = open_file(&file, 1 << 20, 2, &IfaceNames::default()).unwrap();
            for source in capture.sources {
                let frames = read_all(source);
                let count = format!("{} packets captured", frames.len());
                assert!(finished.stderr.contains(&count), "{count}, not {}", finished.stderr);
                let requests: usize = frames.iter().map(|frame| heads(&frame.bytes)).sum();
                assert_eq!(requests, log.len());
                let longest = frames.iter().map(|frame| frame.wire_bytes).max().unwrap();
                assert_eq!(longest > 1514, offload == Offload::On, "{offload:?}: {longest}");
            }
        }
    }
}
