//! Capture files that several shards walk for each other: each shard tells and counts what it does
//! if it walks the whole file by itself.

use std::sync::Arc;

use httplines::capture::pcap::install_sigbus_handler;
use httplines::capture::pcap::open::open_file;
use httplines::capture::{FrameSource, Polled};
use httplines::config::{Config, Input, LineFormat};
use httplines::ids::{FlowHashKey, IfaceNames};
use httplines::output::{Limits, MemorySink, Policy, RecordWriter, Writer};
use httplines::pipeline::{FileRoute, Part, Partition, Pipeline, PipelineStats};
use httplines::record::JsonFormat;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap, pcapng};
use crate::support::conversation::{Conversation, Side};
use crate::support::fragment::fragments;
use crate::support::tunnel::{ethernet, vxlan};

const START_NS: u64 = 1_700_000_000_000_000_000;

/// A connection of a capture.
#[derive(Clone, Debug)]
struct Plan {
    vlan: Option<u16>,
    /// 0: as it is, 1: in fragments, 2: in a tunnel, 3: in a tunnel in fragments.
    carrier: u8,
    exchange_count: usize,
    body_bytes: usize,
    /// Bodies hold records of a capture.
    is_hostile: bool,
    lost: Option<usize>,
    start_ns: u64,
    step_ns: u64,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let steps =
        prop_oneof![6 => 1..50_000_u64, 1 => Just(40_000_000_000), 1 => Just(700_000_000_000)];
    (
        proptest::option::weighted(0.2, 1..5_u16),
        prop_oneof![5 => Just(0), 1 => 1..4_u8],
        1..4_usize,
        0..3000_usize,
        any::<bool>(),
        proptest::option::weighted(0.2, 0..6_usize),
        (0..300_000_u64, steps),
    )
        .prop_map(
            |(vlan, carrier, exchange_count, body_bytes, is_hostile, lost, (start, step_ns))| {
                let start_ns = START_NS + start;
                Plan {
                    vlan,
                    carrier,
                    exchange_count,
                    body_bytes,
                    is_hostile,
                    lost,
                    start_ns,
                    step_ns,
                }
            },
        )
}

/// A body, of bytes that look like records of a pcap on request.
fn body(plan: &Plan) -> Vec<u8> {
    let frames: Vec<_> = (0..60).map(|n| WrittenFrame::new(START_NS + n, &[n as u8; 30])).collect();
    let file = pcap(Order::Little, Unit::Nano, 1, &frames);
    let bytes = if plan.is_hostile { &file[24..] } else { &[b'x'; 100][..] };
    bytes.iter().copied().cycle().take(plan.body_bytes).collect()
}

fn frames_of(number: usize, plan: &Plan) -> Vec<WrittenFrame> {
    let vlans: Vec<u16> = plan.vlan.into_iter().collect();
    let talk = Conversation::new(&format!("10.1.0.9:{}", 4000 + number), "10.0.0.1:80");
    let mut talk = talk.segment_bytes(700).vlans(&vlans);
    talk.handshake();
    let body = body(plan);
    for nth in 0..plan.exchange_count {
        talk.client(format!("GET /{number}/{nth} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        talk.server(&[head.as_bytes(), &body].concat());
    }
    talk.finish();
    if let Some(lost) = plan.lost {
        talk.lose(Side::Server, lost % plan.exchange_count);
    }
    let frames = talk.frames(plan.start_ns, plan.step_ns).into_iter().enumerate();
    let carried = frames.flat_map(|(nth, frame)| {
        let tunnel = |bytes: &[u8]| ethernet(0x0800, &vxlan(4789, 7, bytes));
        let whole = if plan.carrier < 2 { frame.bytes.clone() } else { tunnel(&frame.bytes) };
        let is_split = plan.carrier % 2 == 1 && whole.len() > 150 && plan.vlan.is_none();
        let pieces = match is_split {
            true => fragments(&whole[14..], (number * 100 + nth) as u16, &[40])
                .into_iter()
                .map(|piece| ethernet(0x0800, &piece))
                .collect(),
            false => vec![whole],
        };
        pieces.into_iter().map(move |piece| WrittenFrame::new(frame.ns, &piece)).collect::<Vec<_>>()
    });
    carried.collect()
}

/// The frames of all connections in the order of time, and others that belong to none.
fn frames(plans: &[Plan]) -> Vec<WrittenFrame> {
    let mut frames: Vec<_> =
        plans.iter().enumerate().flat_map(|(number, plan)| frames_of(number, plan)).collect();
    let arp = (0..plans.len() as u64).map(|n| WrittenFrame::new(START_NS + n * 40_000, &[8; 60]));
    frames.extend(arp);
    frames.sort_by_key(|frame| frame.ns);
    frames
}

/// What a shard has told, sorted, and counted.
type Told = (Vec<String>, PipelineStats);

fn read(config: &Config, mut source: impl FrameSource, partition: Partition) -> Told {
    let memory = MemorySink::new();
    let limits = Limits::from(&config.emit);
    let (mut senders, _writer) =
        Writer::start(vec![Box::new(memory.clone())], 1, limits, Policy::Wait).expect("it starts");
    let format = Box::new(JsonFormat::new(&config.emit, IfaceNames::default()));
    let records = RecordWriter::new(format, senders.remove(0), None, false);
    let mut pipeline = Pipeline::new(config, records).with_partition(partition);
    // Polls that wait for other shards do nothing.
    while pipeline.poll(&mut source).expect("the file is whole") != Polled::End {}
    pipeline.finish();
    pipeline.sink_mut().close();
    let stats = pipeline.stats();
    drop(pipeline);
    let lines = String::from_utf8(memory.bytes()).expect("text");
    (lines.lines().map(str::to_string).collect(), stats)
}

/// Reads the file on `parts`, each in a thread. With `is_walked`, they walk it for each other.
fn read_parts(
    config: &Config,
    path: &std::path::Path,
    chunk_bytes: usize,
    hash_key: FlowHashKey,
    is_walked: bool,
) -> Vec<Told> {
    let count = config.shard_count;
    let parts = Part::all(count, hash_key).into_iter().map(Partition::Part);
    let capture = open_file(path, chunk_bytes, count, &IfaceNames::default()).expect("a capture");
    std::thread::scope(|scope| {
        let threads: Vec<_> = if is_walked {
            let route = Arc::new(FileRoute::new(count, hash_key, &config.decode));
            let sources = capture.walked(route).into_iter().zip(parts);
            sources.map(|(it, part)| scope.spawn(move || read(config, it, part))).collect()
        } else {
            let sources = capture.sources.into_iter().zip(parts);
            sources.map(|(it, part)| scope.spawn(move || read(config, it, part))).collect()
        };
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Everything that is told, and counted, of all shards.
fn together(parts: &[Told]) -> Told {
    let mut all = (Vec::new(), PipelineStats::default());
    for (lines, stats) in parts {
        all.0.extend(lines.iter().cloned());
        all.1.add(stats);
    }
    all.0.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn shards_tell_the_same_whether_or_not_they_walk_for_each_other(
        plans in vec(any_plan(), 1..12),
        chunk_bytes in prop_oneof![64..900_usize, 900..20_000_usize],
        shard_count in 2..5_u16,
        order in prop_oneof![Just(Order::Little), Just(Order::Big)],
        is_ng: bool,
        port in proptest::option::weighted(0.2, Just(4001_u16)),
    ) {
        install_sigbus_handler().unwrap();
        let frames = frames(&plans);
        let file = match is_ng {
            true => pcapng(order, &[(1, "eth0")], &frames),
            false => pcap(order, Unit::Nano, 1, &frames),
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        std::fs::write(&path, file).unwrap();
        let mut config = Config::new(Input::Files(vec![path.clone()]));
        config.emit.format = LineFormat::Json;
        config.shard_count = shard_count;
        config.decode.restrictions.ports.wanted.extend(port.map(|port| port..=port + 3));
        let hash_key = FlowHashKey::random();
        let alone = read_parts(&config, &path, chunk_bytes, hash_key, false);
        let walked = read_parts(&config, &path, chunk_bytes, hash_key, true);
        for (shard, (alone, walked)) in alone.iter().zip(&walked).enumerate() {
            prop_assert_eq!(&walked.0, &alone.0, "lines of shard {}", shard);
            prop_assert_eq!(&walked.1, &alone.1, "counters of shard {}", shard);
        }
        // And what one shard tells and counts.
        let capture = open_file(&path, chunk_bytes, 1, &IfaceNames::default()).unwrap();
        let one = read(&config, capture.sources.into_iter().next().unwrap(), Partition::All);
        let (lines, stats) = together(&walked);
        let (one_lines, one_stats) = together(&[one]);
        prop_assert_eq!(lines, one_lines);
        prop_assert_eq!(stats.frames, frames.len() as u64);
        prop_assert_eq!(
            (stats.frames, stats.frame_bytes, stats.decode, stats.datagrams),
            (one_stats.frames, one_stats.frame_bytes, one_stats.decode, one_stats.datagrams)
        );
    }
}
