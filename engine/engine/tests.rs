//! A shard that panics, with real threads and files. No packet makes one panic, so its source does.

use super::*;
use crate::capture::pcap::open as file;
use crate::capture::{Frame, FrameSource, LinkType, Polled};
use crate::config::{Input, LineFormat};
use crate::ids::IfaceId;
use crate::output::{FileSink, Policy};
use crate::time::TimestampNs;
use etherparse::PacketBuilder;
use std::path::Path;

/// Delivers exchanges, one frame a poll, and then ends or panics.
struct Source {
    frames: std::vec::IntoIter<Vec<u8>>,
    panics: bool,
}

impl Source {
    fn new(client: u8, exchange_count: u16, panics: bool) -> Source {
        let (client, server) = ([10, 0, 0, client], [10, 0, 1, 1]);
        let mut frames = Vec::new();
        for number in 0..exchange_count {
            let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
            let (port, after) = (1024 + number, 1 + request.len() as u32);
            let up = |seq| PacketBuilder::ipv4(client, server, 64).tcp(port, 80, seq, 65_535);
            let down = |seq| PacketBuilder::ipv4(server, client, 64).tcp(80, port, seq, 65_535);
            for (builder, payload) in [
                (up(0).syn(), &b""[..]),
                (down(0).syn().ack(1), b""),
                (up(1).ack(1), request.as_bytes()),
                (down(1).ack(after), b"HTTP/1.1 204 No Content\r\n\r\n"),
            ] {
                let mut frame = Vec::new();
                builder.write(&mut frame, payload).unwrap();
                frames.push(frame);
            }
        }
        Source { frames: frames.into_iter(), panics }
    }
}

impl FrameSource for Source {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        let Some(bytes) = self.frames.next() else {
            assert!(!self.panics, "a panic that a test asks for");
            return Ok(Polled::End);
        };
        visit(Frame {
            bytes: &bytes,
            wire_bytes: bytes.len() as u32,
            timestamp: TimestampNs(1_700_000_000_000_000_000),
            link: LinkType::Raw,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted: false,
        });
        Ok(Polled::Frames(1))
    }
}

/// Runs `sources` as the shards of a run that reads a file, but with `policy`.
fn run(sources: Vec<Source>, policy: Policy, path: &Path) -> Ending {
    let capture = path.with_extension("pcap");
    let head = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1u32];
    std::fs::write(&capture, head.map(u32::to_ne_bytes).concat()).unwrap();
    let mut config = Config::new(Input::Files(vec![capture.clone()]));
    config.shard_count = sources.len() as u16;
    config.emit.format = LineFormat::Json;
    let names = IfaceNames::default();
    let progress = file::open_files(&[capture], 1 << 16, 1, &names).unwrap().progress;
    let sink = Box::new(FileSink::open_plain(path).unwrap());
    let limits = Limits::from(&config.emit);
    let (senders, writer) = Writer::start(vec![sink], config.shard_count, limits, policy).unwrap();
    let (sender, events) = channel();
    let shards = Shards::new(&config, names, false, senders, sender);
    let running = shards.start(sources, Vec::new(), Vec::new(), false).unwrap();
    running.begin();
    let (begun, look_interval) = (Instant::now(), LOOK_INTERVAL);
    let run = Run {
        events,
        writer,
        begun,
        look_interval,
        reporter: None,
        notifier: Notifier::default(),
        shard_watch: ShardWatch::new(0, Instant::now()),
        scrapes: Scrapes::new(None),
        settled: Settled::default(),
        directory: None,
        gone_since: None,
    };
    run.file(running, &progress, &mut |_| {})
}

#[test]
fn a_shard_that_panics_loses_no_line() {
    let directory = tempfile::tempdir().unwrap();
    for policy in [Policy::Drop, Policy::Wait] {
        let path = directory.path().join(format!("{policy:?}.jsonl"));
        let sources = vec![Source::new(1, 30, true), Source::new(2, 500, false)];
        let ending = run(sources, policy, &path);
        assert!(ending.is_shard_lost, "{policy:?}");
        let lines = std::fs::read_to_string(&path).unwrap();
        let of = |client: &str| lines.lines().filter(|line| line.contains(client)).count();
        assert_eq!((of("10.0.0.1\""), of("10.0.0.2\"")), (30, 500), "{policy:?}");
        assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        let totals = ending.totals;
        assert_eq!((totals.writer.lines_written, totals.writer.lines_lost), (530, 0));
        assert_eq!((totals.shards.panics, totals.exchanges()), (1, 530));
        // It did not come to end its connections.
        let said = totals.to_string();
        assert!(
            said.contains("DO NOT ADD UP, because a worker failed: flows 530 is not"),
            "{said}"
        );
    }
}
