//! Fragments may meet on another shard than that of their connection: the joined segment crosses to
//! it, and every exchange is told once and whole.

use crate::support::fragment::fragments;
use crate::support::packet::{ACK, FIN, Packet, SYN};
use crate::support::records;
use crate::support::tunnel::*;
use httplines::capture::{Frame, FrameSource, LinkType, Polled, SourceError};
use httplines::config::{Config, Input};
use httplines::ids::{FlowHashKey, IfaceId, IfaceNames};
use httplines::output::{Limits, MemorySink, Policy, RecordWriter, Writer};
use httplines::pipeline::{Crossing, Part, Partition};
use httplines::record::JsonFormat;
use httplines::shard::{Shard, ShardStats, StopSignal};
use httplines::time::TimestampNs;
use httplines::{Event, Pipeline};
use serde_json::Value;
use std::net::SocketAddr;

const EXCHANGES: u16 = 40;

/// The frames of an exchange on a connection of its own.
#[derive(Clone, Debug)]
struct Exchange {
    opening: Vec<Vec<u8>>,
    /// The request in three fragments.
    request: Vec<Vec<u8>>,
    ending: Vec<Vec<u8>>,
}

impl Exchange {
    /// Exchange number `n`. With `is_tunnelled`, all packets are in GRE, and the fragments are
    /// those of the tunnel.
    fn new(n: u16, is_tunnelled: bool) -> Exchange {
        let is_v6 = n % 2 == 1;
        let address = |host: &str, port: u16| -> SocketAddr {
            let text = if is_v6 {
                format!("[fd01::{host}]:{port}")
            } else {
                format!("10.1.0.{host}:{port}")
            };
            text.parse().expect("an address")
        };
        let (client, server) = (address("9", 40_000 + n), address("1", 80));
        let get = format!("GET /frag{n} HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(60));
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (asked, answered) = (1001 + get.len() as u32, 2001 + ok.len() as u32);
        let wrapped = |packet: &Packet| match is_tunnelled {
            true => gre(0, ethertype_of(&packet.ip()), &[], &packet.ip()),
            false => packet.ip(),
        };
        let ask = |seq, ack, flags| Packet::tcp(client, server).seq(seq).ack(ack).flags(flags);
        let answer = |seq, ack, flags| Packet::tcp(server, client).seq(seq).ack(ack).flags(flags);
        let framed = |packet: Packet| bridged(&wrapped(&packet));
        let request = wrapped(&ask(1001, 2001, ACK).payload(get.as_bytes()));
        Exchange {
            opening: [ask(1000, 0, SYN), answer(2000, 1001, SYN | ACK), ask(1001, 2001, ACK)]
                .map(framed)
                .to_vec(),
            request: fragments(&request, n, &[48, 96]).iter().map(|ip| bridged(ip)).collect(),
            ending: [
                answer(2001, asked, ACK).payload(ok),
                ask(asked, answered, ACK | FIN),
                answer(answered, asked + 1, ACK | FIN),
                ask(asked + 1, answered + 1, ACK),
            ]
            .map(framed)
            .to_vec(),
        }
    }
}

fn exchanges(is_tunnelled: bool) -> Vec<Exchange> {
    (0..EXCHANGES).map(|n| Exchange::new(n, is_tunnelled)).collect()
}

/// Asserts that each exchange is told once, and whole.
fn assert_whole(records: &[Value], what: &str) {
    let mut told: Vec<&str> = Vec::new();
    for record in records {
        assert_eq!(record["status"], 200, "{what}: {record}");
        assert_eq!(record["outcome"], "complete", "{what}: {record}");
        assert_eq!(record.get("gap_bytes"), None, "{what}: {record}");
        told.push(record["target"].as_str().expect("a target"));
    }
    let mut expected: Vec<String> = (0..EXCHANGES).map(|n| format!("/frag{n}")).collect();
    expected.sort();
    told.sort_unstable();
    assert_eq!(told, expected, "{what}");
}

/// Frames in memory, all of one moment.
struct Source<'a>(&'a [Vec<u8>], u64);

impl FrameSource for Source<'_> {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        for bytes in std::mem::take(&mut self.0) {
            visit(Frame {
                bytes,
                wire_bytes: bytes.len() as u32,
                timestamp: TimestampNs::from_parts(0, self.1 * 1_000_000),
                link: LinkType::Ethernet,
                vlan: None,
                iface: IfaceId(1),
                is_checksum_trusted: false,
            });
        }
        Ok(Polled::End)
    }
}

/// Runs a shard for each list of frames. Returns the records, and the counters of the shards.
fn run(config: &Config, frames: &[Vec<Vec<u8>>], parts: &[Part]) -> (Vec<Value>, Vec<ShardStats>) {
    let sink = MemorySink::new();
    let count = frames.len() as u16;
    let limits = Limits::from(&config.emit);
    let (senders, writer) =
        Writer::start(vec![Box::new(sink.clone())], count, limits, Policy::Wait).expect("a thread");
    let crossings = Crossing::between(parts, config.decode.crossing_bytes_max);
    let shards = frames.iter().zip(senders).zip(crossings).map(|((frames, sender), crossing)| {
        let format = Box::new(JsonFormat::new(&config.emit, IfaceNames::default()));
        let records = RecordWriter::new(format, sender, None, false);
        Shard::new(config, Source(frames, 1), Partition::All, records).with_crossing(crossing)
    });
    let shards: Vec<_> = shards.collect();
    let stats = std::thread::scope(|scope| {
        let threads = shards.into_iter().map(|shard| {
            scope.spawn(move || {
                let (stats, result) = shard.run(&StopSignal::default(), |_| {});
                result.expect("the source has no faults");
                stats
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().expect("no shard panics")).collect()
    });
    writer.finish().1.expect("the sink has no faults");
    (records::parse(&sink.bytes()), stats)
}

fn sum(stats: &[ShardStats]) -> ShardStats {
    stats.iter().fold(ShardStats::default(), |mut sum, stats| {
        sum.add(stats);
        sum
    })
}

/// The connections are on one shard, and all of their fragments meet on the other: whichever of
/// them runs first, the records are those of a single shard that gets everything.
#[test]
fn what_meets_on_another_shard_is_told_as_if_there_were_one() {
    let config = Config::new(Input::Stdin);
    for is_tunnelled in [false, true] {
        let exchanges = exchanges(is_tunnelled);
        let whole: Vec<_> = exchanges.iter().flat_map(in_order).collect();
        let single = Part::all(1, FlowHashKey::random());
        let (expected, alone) = run(&config, &[whole], &single);
        assert_whole(&expected, "a single shard");
        assert_eq!(alone[0].pipeline.decode.fragment_passed_on, 0);

        let parts = Part::all(2, FlowHashKey::random());
        let mut frames = vec![Vec::new(), Vec::new()];
        for (n, exchange) in exchanges.iter().enumerate() {
            let own = owner(n as u16, &parts);
            frames[own].extend(exchange.opening.iter().cloned());
            frames[own].extend(exchange.ending.iter().cloned());
            frames[1 - own].extend(exchange.request.iter().rev().cloned());
        }
        let (records, stats) = run(&config, &frames, &parts);
        records::assert_same("one shard and two", &expected, &records);
        let sum = sum(&stats);
        assert_eq!(sum.pipeline.frames, alone[0].pipeline.frames);
        assert_eq!(sum.pipeline.decode.fragment_passed_on, u64::from(EXCHANGES));
        assert_eq!(sum.pipeline.segments_taken_over, u64::from(EXCHANGES));
        assert_eq!(sum.pipeline.decode.fragment_held, 2 * u64::from(EXCHANGES));
        assert!(stats.iter().all(|stats| stats.pipeline.segments_taken_over > 0), "both ways");
    }
}

/// The shard that the connection of exchange `n` belongs to.
fn owner(n: u16, parts: &[Part]) -> usize {
    let plain = Exchange::new(n, false);
    let mut decoder = httplines::decode::Decoder::new(Default::default());
    let frame = Frame {
        bytes: &plain.opening[0],
        wire_bytes: plain.opening[0].len() as u32,
        timestamp: TimestampNs(1),
        link: LinkType::Ethernet,
        vlan: None,
        iface: IfaceId(1),
        is_checksum_trusted: false,
    };
    let key = decoder.decode(&frame).expect("a segment").key;
    key.flow_hash(&parts[0].hash_key) as usize % parts.len()
}

/// While its shard does not look, a bounded number of segments waits; all others are counted.
#[test]
fn segments_beyond_the_bound_are_dropped_and_counted() {
    let mut config = Config::new(Input::Stdin);
    config.decode.crossing_bytes_max = 128 << 10;
    let parts = Part::all(2, FlowHashKey::random());
    let foreign = (0..EXCHANGES).find(|n| owner(*n, &parts) == 1).expect("half of them");
    let flood: Vec<_> = vec![Exchange::new(foreign, false).request; 2000].concat();
    let mut pipelines = Crossing::between(&parts, config.decode.crossing_bytes_max)
        .into_iter()
        .map(|crossing| Pipeline::new(&config, |_: Event<'_>| {}).with_crossing(crossing));
    let mut first = pipelines.next().expect("two shards");
    let mut second = pipelines.next().expect("two shards");
    first.read(Source(&flood, 1)).expect("the source has no faults");
    let sent = first.stats().decode;
    assert_eq!(sent.fragment_passed_on + sent.fragment_not_passed_on, 2000);
    assert!((300..1000).contains(&sent.fragment_passed_on), "{sent:?}");
    assert_eq!(second.stats().segments_taken_over, 0);
    second.read(Source(&[], 1)).expect("the source has no faults");
    assert_eq!(second.stats().segments_taken_over, sent.fragment_passed_on);
    assert_eq!(second.stats().frames, 0, "the frames are those of the first");
}

/// The shard of a connection is far ahead of the one where the fragments met: it gives the hole up
/// only when the other has passed on everything from before, or has ended.
#[test]
fn a_hole_waits_for_what_other_shards_have_not_read_yet() {
    let config = Config::new(Input::Stdin);
    for (is_read, is_ended) in [(false, false), (true, false), (false, true)] {
        let parts = Part::all(2, FlowHashKey::random());
        let mut foreign = (0..EXCHANGES).filter(|n| owner(*n, &parts) == 1);
        let exchanges = [0, 1].map(|_| Exchange::new(foreign.next().expect("half"), false));
        let [exchange, other] = exchanges;
        let mut pipelines = Crossing::between(&parts, config.decode.crossing_bytes_max)
            .into_iter()
            .map(|crossing| Pipeline::new(&config, |_: Event<'_>| {}).with_crossing(crossing));
        let mut first = pipelines.next().expect("two shards");
        let mut second = pipelines.next().expect("two shards");
        let around = [&exchange.opening[..], &exchange.ending].concat();
        second.read(Source(&around, 10)).expect("the source has no faults");
        if is_read {
            first.read(Source(&other.opening, 100)).expect("the source has no faults");
        }
        if is_ended {
            drop(first);
        } else {
            // Much later, and then at last the fragments.
            second.read(Source(&other.opening, 200)).expect("the source has no faults");
            first.read(Source(&exchange.request, 9)).expect("the source has no faults");
        }
        second.read(Source(&other.ending, 201)).expect("the source has no faults");
        second.finish();
        let stats = second.stats();
        let is_given_up = is_read || is_ended;
        assert_eq!(stats.segments_taken_over, u64::from(!is_ended));
        assert_eq!(stats.protocol.exchanges.exchanges_complete, u64::from(!is_given_up));
        assert_eq!(stats.flow.bytes_late > 0, is_read, "{:?}", stats.flow);
    }
}

fn in_order(exchange: &Exchange) -> Vec<Vec<u8>> {
    [&exchange.opening[..], &exchange.request, &exchange.ending].concat()
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::{EXCHANGES, Exchange, assert_whole, exchanges, in_order};
    use crate::support::attack_harness::Attack;
    use crate::support::attacks;
    use crate::support::lab::{self, Finished, Running};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;
    use crate::support::tunnel::bridged;
    use std::process::{Command, Stdio};

    /// Frames of the attacker between two frames of an exchange.
    const JUNK_COUNT: u64 = 40;

    /// Captures `frames` with two shards at the other end of a wire. All exchanges must be told
    /// once and whole, and every frame must be accounted for.
    fn told(what: &str, frames: Vec<Vec<u8>>) -> Option<Finished> {
        let (client, server) = Namespace::pair()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = directory.path().join("lines.jsonl");
        let path = output.clone();
        let child = server.run(move || {
            let mut command = Command::new(crate::httplines());
            command.args(["-i", "veth1", "-i", "lo", "--shards", "2", "-o"]).arg(path);
            command.stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        });
        let running = Running::new(child.expect("httplines starts"), "capturing");
        client.run(move || {
            let injector = Injector::new("veth0");
            frames.iter().for_each(|frame| injector.send(frame));
        });
        let line_count = || std::fs::read_to_string(&output).map_or(0, |text| text.lines().count());
        lab::wait_until(&format!("{what}: all is told"), || line_count() >= usize::from(EXCHANGES));
        let finished = running.stop();
        assert_whole(&finished.records(&output), what);
        Some(finished)
    }

    fn fragment_count(finished: &Finished) -> u64 {
        let before = finished.stderr.split(" fragment\n").next().expect("a first part");
        before.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count")
    }

    #[test]
    fn fragments_in_order_need_no_crossing() {
        let frames = exchanges(false).iter().flat_map(in_order).collect();
        let Some(finished) = told("in order", frames) else { skip!("needs root") };
        finished.told("40 reassembled from fragments");
        assert_eq!(fragment_count(&finished), 3 * u64::from(EXCHANGES));
        assert!(!finished.stderr.contains("taken over"), "{}", finished.stderr);
    }

    #[test]
    fn fragments_in_reverse_cross_to_their_connections() {
        let reversed = |mut exchange: Exchange| {
            exchange.request.reverse();
            in_order(&exchange)
        };
        let frames = exchanges(false).into_iter().flat_map(reversed).collect();
        let Some(finished) = told("reversed", frames) else { skip!("needs root") };
        finished.told("40 reassembled from fragments");
        finished.told("taken over from another shard");
    }

    /// Every other request is reversed, and the fragments of all of them are mixed.
    #[test]
    fn fragments_of_many_datagrams_interleaved() {
        let mut exchanges = exchanges(false);
        exchanges.iter_mut().step_by(2).for_each(|exchange| exchange.request.reverse());
        let fragments =
            (0..3).flat_map(|at| exchanges.iter().map(move |it| it.request[at].clone()));
        let frames = [
            exchanges.iter().flat_map(|exchange| exchange.opening.clone()).collect(),
            fragments.collect(),
            exchanges.iter().flat_map(|exchange| exchange.ending.clone()).collect::<Vec<_>>(),
        ];
        let Some(_) = told("interleaved", frames.concat()) else { skip!("needs root") };
    }

    #[test]
    fn fragments_of_tunnels_cross_to_their_connections() {
        let frames = exchanges(true).iter().flat_map(in_order).collect();
        let Some(finished) = told("tunnelled", frames) else { skip!("needs root") };
        finished.told("taken over from another shard");
    }

    /// More junk than the kernel would hold, in datagrams that never end: before it, and between
    /// any two frames of the exchanges.
    #[test]
    fn junk_takes_nothing_from_honest_fragments() {
        for bytes in [8, 1400] {
            let mut attack = attacks::first_fragments(bytes);
            let mut number = 0;
            let mut junk = move |count| {
                let mut frames = Vec::new();
                for _ in 0..count {
                    let mut frame = Vec::new();
                    attack.frame(number, &mut frame);
                    frames.push(bridged(&frame));
                    number += 1;
                }
                frames
            };
            let mut frames = junk(4000);
            for frame in exchanges(false).iter().flat_map(in_order) {
                frames.push(frame);
                frames.extend(junk(JUNK_COUNT));
            }
            // Without the honest frames that are no fragments.
            let count = frames.len() as u64 - 7 * u64::from(EXCHANGES);
            let Some(finished) = told("junk", frames) else { skip!("needs root") };
            // Those after the last honest frame may come after the end.
            let expected = count - JUNK_COUNT..=count;
            assert!(expected.contains(&fragment_count(&finished)), "{}", finished.stderr);
            finished.told("40 reassembled from fragments");
        }
    }
}
