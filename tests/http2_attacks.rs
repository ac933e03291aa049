//! Attacks by HTTP/2: memory is bounded and counted, and what is told stays true.

use crate::support::attack_harness::{Attack, held_now, small, watch_attack};
use crate::support::capture_file::WrittenFrame;
use crate::support::http2::{PREFACE, SETTINGS, Talk, frame};
use crate::support::http2_attacks as attacks;
use crate::support::reported::reported_of;
use httplines::config::Config;
use httplines::pipeline::{Pipeline, PipelineStats};
use httplines::record::Event;
use std::net::IpAddr;

/// As in `bounds.rs`.
const FLOW_BYTES: usize = 256 + 32 + 8 + 96 + 48;
/// See [`FLOW_BYTES`].
const KEPT_SHARE: usize = 16;
/// Everything else in a shard.
const REST_BYTES: usize = 3 << 19;

/// Asserts that the attack never takes more memory than is counted, nor more than is allowed.
fn hold(config: &Config, frame_count: u64, attack: impl Attack) -> PipelineStats {
    let before = held_now();
    let mut pipeline = Pipeline::new(config, |_: Event<'_>| {});
    let limit = config.http.held_bytes_shard_max;
    watch_attack(&mut pipeline, frame_count, attack, |pipeline| {
        let flow_count = (pipeline.stats().flow.flows as usize).min(config.flow.flow_count_max);
        let counted = pipeline.held_bytes()[1];
        assert!(counted <= limit + (1 << 18), "{counted} bytes are counted");
        let bound = counted + flow_count * FLOW_BYTES + limit / KEPT_SHARE + REST_BYTES;
        let held = (held_now() - before) as usize;
        assert!(held <= bound, "{held} bytes, {counted} counted");
    });
    let stats = pipeline.stats();
    pipeline.finish();
    assert_eq!((pipeline.exchanges_in_use(), pipeline.held_bytes()), (0, [0, 0]));
    stats
}

fn config() -> Config {
    let mut config = small();
    config.flow.flow_count_max = 20_000;
    config.http.held_bytes_shard_max = 16 << 20;
    config
}

#[test]
fn a_bomb_of_indices() {
    for flow_count in [1, 300] {
        let http2 = hold(&config(), 1200, attacks::bombs(flow_count)).protocol.http2;
        match flow_count {
            1 => assert_eq!(http2.blocks_cut, 1199, "one for each bomb"),
            _ => assert!(http2.blocks_cut > 300, "{http2:?}"),
        }
        assert_eq!((http2.fields_unknown, http2.blocks_faulty), (0, 0));
    }
}

#[test]
fn continuation_without_end() {
    for len_bytes in [0, 1, 900] {
        for flow_count in [1, 300] {
            let http2 =
                hold(&config(), 1200, attacks::continuations(flow_count, len_bytes)).protocol.http2;
            assert_eq!(http2.connections, flow_count);
            assert_eq!(http2.places_lost, 0);
            let is_cut = http2.blocks_cut > 0;
            // Empty frames move no bound.
            assert_eq!(is_cut, len_bytes > 0, "{http2:?}");
        }
    }
}

#[test]
fn rapid_resets() {
    for flow_count in [1, 20] {
        let protocol = hold(&config(), 80, attacks::rapid_resets(flow_count)).protocol;
        match flow_count {
            1 => assert_eq!(protocol.exchanges.requests, 79_000),
            _ => assert!(protocol.exchanges.requests > 10_000, "{protocol:?}"),
        }
        assert_eq!(protocol.http2.streams_given_up, 0);
    }
}

#[test]
fn tables_that_are_said_to_be_huge() {
    for flow_count in [1, 300] {
        let http2 = hold(&config(), 3000, attacks::greedy_tables(flow_count)).protocol.http2;
        // Where memory is short, a few of them give way, and are found again.
        let expected = flow_count..=flow_count + flow_count / 10;
        assert!(expected.contains(&http2.connections), "{http2:?}");
    }
}

#[test]
fn streams_that_never_end() {
    for flow_count in [1, 20] {
        let http2 = hold(&config(), 80, attacks::open_streams(flow_count)).protocol.http2;
        assert!(http2.streams_given_up > 0, "{http2:?}");
    }
}

/// What was told of connections with full tables.
struct Told {
    /// Messages with the field of their connection, and exchanges with unknown fields.
    known: u64,
    unknown: u64,
    stats: PipelineStats,
}

/// Connections with full tables, of one value of `VALUE_BYTES`, that are idle after each exchange.
/// `frame_count` frames come from them in turn. Quiet ones lose their tables where memory runs
/// short. Then what refers to them is unknown, and never wrong.
fn hold_idle<const VALUE_BYTES: usize>(
    config: &Config,
    connection_count: u64,
    frame_count: u64,
) -> Told {
    let before = held_now();
    let (mut known, mut unknown) = (0_u64, 0_u64);
    let sink = |event: Event<'_>| {
        let exchange = match event {
            Event::Exchange(exchange) => exchange,
            _ => return,
        };
        let http2 = exchange.http2.expect("it is HTTP/2");
        unknown += u64::from(http2.headers_unknown > 0);
        let client = exchange.flow.client.index();
        let ip = match exchange.flow.key.ip(client) {
            IpAddr::V4(ip) => u32::from(ip),
            IpAddr::V6(ip) => panic!("{ip}"),
        };
        let place =
            u64::from(ip - 0xac10_0000) * 50_000 + u64::from(exchange.flow.key.port(client) - 1024);
        let mark = b'a' + (place % 26) as u8;
        for message in [&exchange.request, &exchange.response] {
            if let Some(value) = message.header("x") {
                assert!(value == [mark; VALUE_BYTES], "of another connection");
                known += 1;
            }
        }
    };
    let limit = config.http.held_bytes_shard_max;
    let mut pipeline = Pipeline::new(config, sink);
    let attack = attacks::full_tables(connection_count, VALUE_BYTES);
    watch_attack(&mut pipeline, frame_count, attack, |pipeline| {
        let counted = pipeline.held_bytes()[1];
        assert!(counted <= limit, "{counted}");
        let bound = counted + connection_count as usize * FLOW_BYTES + limit / KEPT_SHARE;
        let held = (held_now() - before) as usize;
        assert!(held <= bound + REST_BYTES, "{held} bytes, {counted} counted");
    });
    pipeline.finish();
    assert_eq!((pipeline.exchanges_in_use(), pipeline.held_bytes()), (0, [0, 0]));
    let stats = pipeline.stats();
    drop(pipeline);
    assert_eq!(stats.protocol.http2.connections, connection_count, "{stats:?}");
    assert_eq!(stats.protocol.exchanges.exchanges_complete, frame_count / 2);
    Told { known, unknown, stats }
}

#[test]
fn many_idle_connections_with_full_tables() {
    const COUNT: u64 = 10_000;
    let mut config = config();
    config.http.held_bytes_shard_max = 32 << 20;
    let Told { known, unknown, .. } = hold_idle::<3900>(&config, COUNT, 6 * COUNT);
    assert!(known >= 2 * COUNT && unknown > COUNT, "{known} known, {unknown} with unknown fields");
}

/// All of them stay: what gives way are tables, which are small here, so that a test without
/// optimisation takes seconds.
#[test]
fn a_hundred_thousand_idle_connections_with_full_tables() {
    const COUNT: u64 = 100_000;
    const AGAIN: u64 = 1000;
    let mut config = config();
    config.flow.flow_count_max = COUNT as usize;
    config.http.held_bytes_shard_max = 128 << 20;
    let told = hold_idle::<470>(&config, COUNT, 2 * (COUNT + AGAIN));
    assert_eq!((told.stats.flow.flows_evicted, told.stats.flow.flows), (0, COUNT));
    // Of those that have lost their tables, as nearly all of the oldest, that is told.
    assert_eq!(told.known, 2 * (COUNT + AGAIN - told.unknown));
    assert!(told.unknown > AGAIN / 10 * 9, "{}", told.unknown);
}

/// A connection that begins with `first`, goes on in another protocol for `count` times 2000 bytes,
/// and ends with an exchange of HTTP/1.
fn another_protocol(first: &[u8], count: usize) -> Talk {
    let mut talk = Talk::bare();
    talk.client(first).server(frame(SETTINGS, 0, 0, &[]));
    for _ in 0..count {
        talk.client([0xee; 1000]).server([0xdd; 1000]);
    }
    talk.client("GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    talk
}

/// Whether the connection was given up, so that what begins like a message began another one.
fn is_given_up(frames: &[WrittenFrame]) -> bool {
    let reported = reported_of(frames);
    let targets: Vec<_> = reported.records.iter().map(|record| &record["target"]).collect();
    match reported.stats.flow.flows {
        1 => assert!(targets.is_empty(), "{targets:?}"),
        _ => assert_eq!((reported.stats.flow.flows, targets[0].as_str()), (2, Some("/behind"))),
    }
    reported.stats.flow.flows == 2
}

#[test]
fn a_preface_in_front_of_another_protocol() {
    let wrong_preface = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n";
    let wrong_frame = [PREFACE, &frame(SETTINGS, 0, 1, &[])].concat();
    for first in [&wrong_preface[..], &wrong_frame, PREFACE] {
        for segment_bytes in [7, 1448] {
            let frames = |count| another_protocol(first, count).frames(segment_bytes);
            assert!(is_given_up(&frames(20)), "{first:?} {segment_bytes}");
            // A few bytes are no proof. What has another preface goes back to HTTP/1.
            let is_http2 = first.starts_with(PREFACE);
            assert!(!is_http2 || !is_given_up(&frames(8)), "{first:?} {segment_bytes}");
        }
    }
}

/// Where something was lost or sent differently again, the connection may still speak HTTP/2.
#[test]
fn a_connection_is_not_given_up_without_proof() {
    let frames = another_protocol(PREFACE, 20).frames(1448);
    assert!(is_given_up(&frames));
    let of_payload = |byte: u8| {
        let holds = |it: &&WrittenFrame| it.bytes.ends_with(&[byte; 500]);
        frames.iter().position(|it| holds(&it)).expect("it is there")
    };
    // The wrong head, from another sender; and what comes before it.
    for is_lost in [false, true] {
        let mut frames = frames.clone();
        if is_lost {
            let settings = |it: &WrittenFrame| it.bytes.ends_with(&frame(SETTINGS, 0, 0, &[]));
            frames.retain(|it| !settings(it));
        } else {
            let at = of_payload(0xee);
            let mut other = frames[at].clone();
            other.bytes.iter_mut().filter(|byte| **byte == 0xee).for_each(|byte| *byte = 0);
            frames.insert(at + 1, other);
        }
        assert!(!is_given_up(&frames), "{is_lost}");
    }
}
