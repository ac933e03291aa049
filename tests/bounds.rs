//! Whatever arrives, memory is bounded, everything given up is counted, and honest traffic next to
//! the attack is reported as if it were alone.
//!
//! The tests attack one shard with small bounds, so that a few thousand frames are far more than it
//! may hold. `cargo test --release --test main bounds::full_size -- --ignored --nocapture` attacks
//! the program with its default bounds, and millions of frames.

use crate::support::attack_harness::{
    Attack, Counting, ETHERNET, Outcome, held_now, honest, run_attack, slow, small, storm,
    watch_attack,
};
use crate::support::attacks;
use crate::support::capture_file::WrittenFrame;
use httplines::config::{Config, Input};
use httplines::pipeline::Pipeline;
use httplines::protocol::ProtocolStats;
use httplines::record::Event;
use httplines::shard::ShardStats;
use httplines::stats::{DatagramStats, FlowStats};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HONEST_COUNT: u64 = 200;

/// The memory of an idle connection: its entry and its share of the index.
const IDLE_FLOW_BYTES: usize = 256 + 32;
/// The most it can take: 8 in the lists of free entries and of those to end; while its packets are
/// out of order or contradict each other, 96 for that state and 48 for the end of its grace.
const FLOW_BYTES: usize = IDLE_FLOW_BYTES + 8 + 96 + 48;
/// One part in this many of the memory for heads and exchanges is kept for reuse in addition.
const KEPT_SHARE: usize = 16;
/// Everything else in a shard: buffers of one frame or one line, rendered addresses, and spare
/// buffers, which are limited by their number.
const REST_BYTES: usize = 3 << 19;

/// The most that a shard may hold, as README computes it from its limits.
fn shard_bytes_max(config: &Config) -> usize {
    let batch_bytes = config.emit.batch_bytes + 2 * config.emit.line_bytes_max;
    config.flow.flow_count_max * FLOW_BYTES
        + config.flow.reorder_bytes_shard_max
        + config.http.held_bytes_shard_max / KEPT_SHARE * (KEPT_SHARE + 1)
        + config.decode.fragment_bytes_max
        + config.decode.crossing_bytes_max
        + (config.emit.batch_count_max + 33) * batch_bytes
        + REST_BYTES
}

/// The sum in README is the bound that the attacks are held to.
#[test]
fn readme_has_the_sum_of_the_limits() {
    let mib = shard_bytes_max(&Config::default()).div_ceil(1 << 20);
    let readme: Vec<&str> = include_str!("../README.md").split_whitespace().collect();
    assert!(readme.join(" ").contains(&format!("{mib} MiB in all")), "{mib} MiB");
}

/// What the limits count is at least what the allocator gives out, at any moment of an attack.
#[test]
fn what_is_counted_is_what_is_held() {
    let mut config = small();
    config.flow.flow_count_max = 20_000;
    config.flow.reorder_bytes_max = 1 << 20;
    config.flow.reorder_bytes_shard_max = 16 << 20;
    config.http.held_bytes_shard_max = 16 << 20;
    let attacks: [(u64, Box<dyn Attack>); 12] = [
        (25_000, Box::new(attacks::requests())),
        (30_000, Box::new(attacks::exchanges(10_000))),
        (30_000, Box::new(attacks::slow_heads(8000, 600))),
        (1000, Box::new(attacks::pipelined(200))),
        (12_000, Box::new(attacks::bodies(4000, true))),
        (2000, Box::new(attacks::interim())),
        (10_000, Box::new(attacks::exchanges_then_heads(3000, "X: xxxxxxxxxxxxxxxxxxxxx\r\n"))),
        (10_000, Box::new(attacks::exchanges_then_heads(3000, "a:b\r\n"))),
        (40_000, Box::new(attacks::scattered(12_000))),
        (18_000, Box::new(attacks::drained(16))),
        (20_000, Box::new(attacks::drained(300))),
        (40_000, Box::new(attacks::tiny_in_large_buffers())),
    ];
    for (number, (frame_count, attack)) in attacks.into_iter().enumerate() {
        let before = held_now();
        let mut pipeline = Pipeline::new(&config, |_: Event<'_>| {});
        watch_attack(&mut pipeline, frame_count, attack, |pipeline| {
            let flow_count = (pipeline.stats().flow.flows as usize).min(20_000);
            let counted = pipeline.held_bytes().iter().sum::<usize>() + flow_count * FLOW_BYTES;
            let kept = config.http.held_bytes_shard_max / KEPT_SHARE;
            let held = (held_now() - before) as usize;
            let bound = counted + kept + REST_BYTES;
            assert!(held <= bound, "attack {number}: {held} bytes, {counted} counted");
        });
    }
}

/// Asserts that the attack leaves the shard within its bounds, and the honest traffic as if it were
/// alone.
fn hold(config: &Config, frame_count: u64, attack: impl Attack) -> Outcome {
    hold_beside(config, frame_count, attack, HONEST_COUNT, honest)
}

/// The same with other honest traffic, which makes a record for each of `count`.
fn hold_beside(
    config: &Config,
    frame_count: u64,
    attack: impl Attack,
    count: u64,
    honest: impl Fn(u64) -> Vec<WrittenFrame>,
) -> Outcome {
    let alone = run_attack(config, 0, attacks::syns(), honest(count));
    assert_eq!(alone.honest.len() as u64, count);
    let outcome = run_attack(config, frame_count, attack, honest(count));
    let bound = shard_bytes_max(config);
    assert!(outcome.peak_bytes <= bound, "{} bytes of {bound}", outcome.peak_bytes);
    let other = outcome.honest.iter().find(|line| !alone.honest.contains(line));
    let count = outcome.honest.len();
    assert!(outcome.honest == alone.honest, "{count} honest, {other:?}, {:?}", outcome.stats);
    assert!(outcome.longest_bytes <= config.emit.line_bytes_max);
    outcome
}

/// Asserts that `counter` counts what the attack made the shard give up, and returns it.
fn given_up<T>(outcome: &Outcome, counters: fn(&ShardStats) -> &T, counter: fn(&T) -> u64) -> u64 {
    let count = counter(counters(&outcome.stats));
    assert!(count > 0, "nothing was given up: {:?}", outcome.stats);
    count
}

fn of_flow(stats: &ShardStats) -> &FlowStats {
    &stats.pipeline.flow
}

fn of_protocol(stats: &ShardStats) -> &ProtocolStats {
    &stats.pipeline.protocol
}

fn of_datagrams(stats: &ShardStats) -> &DatagramStats {
    &stats.pipeline.datagrams
}

#[test]
fn a_flood_of_syns() {
    let outcome = hold(&small(), 60_000, attacks::syns());
    given_up(&outcome, of_flow, |flow| flow.flows_evicted);
}

#[test]
fn more_connections_than_the_table_holds() {
    let outcome = hold(&small(), 40_000, attacks::requests());
    given_up(&outcome, of_flow, |flow| flow.flows_evicted);
    assert!(outcome.other_count > 30_000, "requests without a response are reported, too");
}

/// Honest connections wait 12 s for their responses, and everything that nobody answered gives way
/// first: with the table of connections full, and with the memory of exchanges full.
#[test]
fn requests_from_everywhere_beside_connections_that_wait() {
    let mut roomy = small();
    roomy.flow.flow_count_max = 100_000;
    for config in [small(), roomy] {
        let beside_slow = |count| slow(count, 1);
        let outcome = hold_beside(&config, 40_000, attacks::requests(), 100, beside_slow);
        given_up(&outcome, of_flow, |flow| flow.flows_evicted);
        // Heads that never end, a piece of each.
        hold_beside(&config, 200_000, attacks::slow_heads(100_000, 100), 100, beside_slow);
        hold_beside(&config, 40_000, attacks::syns(), 100, beside_slow);
    }
}

/// A connection with many requests under way must give some up when half of the memory is used. It
/// is not used by requests that nobody answers.
#[test]
fn requests_from_everywhere_beside_busy_connections() {
    let mut config = small();
    config.flow.flow_count_max = 100_000;
    let busy = |count| slow(count / 40, 40);
    let outcome = hold_beside(&config, 40_000, attacks::requests(), 200, busy);
    assert_eq!(outcome.stats.pipeline.protocol.http1.pending_overflow, 0);
}

/// Between two exchanges, a connection keeps nothing but its table entry and its share of the
/// index.
#[test]
fn idle_connections() {
    const COUNT: u64 = 1 << 16;
    let mut config = small();
    config.flow.flow_count_max = 2 * COUNT as usize;
    let none = run_attack(&config, 2000, attacks::exchanges(1000), honest(0));
    let many = run_attack(&config, 4 * COUNT, attacks::exchanges(COUNT), honest(0));
    assert_eq!(many.stats.pipeline.protocol.exchanges.exchanges_complete, 2 * COUNT);
    let flow_bytes = (many.peak_bytes - none.peak_bytes) / COUNT as usize;
    assert!(flow_bytes <= IDLE_FLOW_BYTES, "{flow_bytes} bytes each");
}

/// A hole takes no more than is counted for it, even if nothing waits behind it.
#[test]
fn connections_with_a_hole() {
    const COUNT: u64 = 1 << 16;
    let mut config = small();
    config.flow.flow_count_max = 2 * COUNT as usize;
    let none = run_attack(&config, 3000, attacks::missing_before_fin(1000), honest(0));
    let many = run_attack(&config, 3 * COUNT, attacks::missing_before_fin(COUNT), honest(0));
    assert_eq!(many.stats.pipeline.flow.gaps, COUNT, "{:?}", many.stats.pipeline.flow);
    let flow_bytes = (many.peak_bytes - none.peak_bytes) / (COUNT as usize - 1000);
    assert!(flow_bytes <= FLOW_BYTES, "{flow_bytes} bytes each");
}

#[test]
fn endpoints_used_again_and_again() {
    let outcome = hold(&small(), 40_000, attacks::reuse());
    assert!(outcome.stats.pipeline.flow.flows > 13_000, "{:?}", outcome.stats.pipeline.flow);
}

#[test]
fn slow_heads() {
    let mut config = small();
    config.http.held_bytes_shard_max = 512 << 10;
    let outcome = hold(&config, 300_000, attacks::slow_heads(1500, 2));
    given_up(&outcome, of_flow, |flow| flow.flows_evicted);
}

#[test]
fn heads_without_end() {
    let outcome = hold(&small(), 60_000, attacks::slow_heads(1000, 100));
    given_up(&outcome, of_protocol, |it| it.http1.heads_cut + it.http1.exchanges_at_bound);
}

#[test]
fn pipelining_without_answers() {
    for flow_count in [1, 200] {
        let outcome = hold(&small(), 6000, attacks::pipelined(flow_count));
        given_up(&outcome, of_protocol, |it| it.http1.pending_overflow);
    }
}

#[test]
fn bodies_without_end() {
    for (flow_count, is_asked) in [(100_000, false), (1800, true)] {
        let outcome = hold(&small(), 12_000, attacks::bodies(flow_count, is_asked));
        let evicted = outcome.stats.pipeline.flow.flows_evicted;
        let count = outcome.stats.pipeline.protocol.http1.exchanges_at_bound + evicted;
        assert!(count > 0, "{:?}", outcome.stats);
    }
}

#[test]
fn segments_out_of_order() {
    // Of 200, some have much waiting; the others were evicted and have next to nothing.
    for flow_count in [1, 100, 200, 300, 1900] {
        let outcome = hold(&small(), 60_000, attacks::scattered(flow_count));
        given_up(&outcome, of_flow, |flow| flow.gaps);
    }
    let outcome = hold(&small(), 60_000, attacks::drained(300));
    assert!(
        outcome.stats.pipeline.flow.segments_out_of_order > 50_000,
        "{:?}",
        outcome.stats.pipeline.flow
    );
}

/// Buffers are counted with all that they hold, not only with what is in them.
#[test]
fn tiny_segments_in_the_buffers_of_large_ones() {
    let mut config = small();
    config.flow.reorder_bytes_max = 1 << 20;
    config.flow.reorder_bytes_shard_max = 4 << 20;
    let outcome = hold(&config, 66_000, attacks::tiny_in_large_buffers());
    given_up(&outcome, of_flow, |flow| flow.gaps_at_bound);
}

/// What exchanges leave behind for reuse is bounded, and so is everything that comes after them.
#[test]
fn memory_that_exchanges_leave_behind() {
    let mut config = small();
    config.flow.flow_count_max = 20_000;
    config.http.held_bytes_shard_max = 32 << 20;
    let attack = attacks::exchanges_then_heads(3000, "X: xxxxxxxxxxxxxxxxxxxxx\r\n");
    let outcome = hold(&config, 15_000, attack);
    assert!(outcome.stats.pipeline.protocol.exchanges.exchanges_complete >= 3000);
}

/// Many of the attack's segments share each timestamp with honest ones: a connection that is idle
/// this briefly must not be dropped first.
#[test]
fn holes_without_end() {
    for flow_count in [20, 60] {
        let outcome = hold(&small(), 200_000, attacks::holes(flow_count));
        given_up(&outcome, of_flow, |flow| flow.gaps_at_bound);
    }
}

#[test]
fn interim_answers_without_end() {
    let outcome = hold(&small(), 10_000, attacks::interim());
    assert!(
        outcome.stats.pipeline.protocol.exchanges.responses > 400_000,
        "{:?}",
        outcome.stats.pipeline.protocol
    );
}

#[test]
fn answers_that_may_be_to_any_request() {
    let outcome = hold(&small(), 6000, attacks::doubtful_answers());
    assert!(
        outcome.stats.pipeline.protocol.exchanges.responses > 300_000,
        "{:?}",
        outcome.stats.pipeline.protocol
    );
}

#[test]
fn bodies_in_crumbs() {
    let outcome = hold(&small(), 10_000, attacks::crumbled_bodies());
    assert_eq!(outcome.stats.pipeline.protocol.http1.resyncs, 0, "every chunk was understood");
}

#[test]
fn fragments_of_datagrams_that_never_end() {
    for bytes in [8, 1480] {
        let outcome = hold(&small(), 20_000, attacks::first_fragments(bytes));
        given_up(&outcome, of_datagrams, |datagrams| datagrams.datagrams_evicted);
    }
}

#[test]
fn fragments_in_crumbs_and_in_contradiction() {
    let outcome = hold(&small(), 20_000, attacks::crumbs());
    given_up(&outcome, of_datagrams, |datagrams| datagrams.datagrams_evicted);
    let outcome = hold(&small(), 20_000, attacks::overlapping());
    given_up(&outcome, of_datagrams, |datagrams| datagrams.datagrams_dropped);
}

/// Whoever chooses the endpoints cannot choose the buckets of the table: its hash has a key of its
/// own. Connections that share a shard and a hint under the run's other key are no slower to find.
#[test]
fn endpoints_of_one_hash_are_spread() {
    use httplines::ids::{FlowHashKey, FlowKey};
    let known = FlowHashKey::random();
    let collides = |number: u64| {
        let (address, port) = attacks::client(number);
        let mut client = [0; 16];
        client[..4].copy_from_slice(&address.to_be_bytes());
        let mut server = [0; 16];
        server[..4].copy_from_slice(&[10, 9, 0, 1]);
        let (client, server) = ((client, port.to_be_bytes()), (server, [0, 80]));
        FlowKey::new(client, server, [0; 4], 0).0.flow_hash(&known).is_multiple_of(256)
    };
    let chosen: Vec<u64> = (0..500_000).filter(|number| collides(*number)).take(1500).collect();
    assert_eq!(chosen.len(), 1500);
    let request = b"GET /one HTTP/1.1\r\n\r\n";
    let outcome = hold(&small(), 3000, move |number: u64, frame: &mut Vec<u8>| {
        let client = attacks::client(chosen[number as usize % chosen.len()]);
        let mut blow = crate::support::attack_harness::AttackSegment::from(
            client,
            crate::support::packet::ACK,
        );
        blow.seq = number as u32 / 1500 * request.len() as u32;
        blow.write(request, frame);
    });
    assert_eq!(outcome.stats.pipeline.protocol.exchanges.requests, 3000 + HONEST_COUNT);
}

/// The memory and time that full-size attacks take from the program with its default bounds. All
/// attacks run before a failure is reported.
#[test]
#[ignore = "measures; run it alone"]
fn full_size() {
    let bound_mib = shard_bytes_max(&Config::new(Input::Stdin)) as u64 >> 20;
    let alone = storm(&[], &[], 0, attacks::syns(), honest(HONEST_COUNT));
    assert_eq!(alone.honest.len() as u64, HONEST_COUNT);
    println!("| attack | frames | ns a frame | MiB, of {bound_mib} | honest exchanges |");
    println!("| --- | --- | --- | --- | --- |");
    let mut failed = Vec::new();
    for (name, frame_count, attack) in of_full_size() {
        let storm = storm(&[], &[], frame_count, attack, honest(HONEST_COUNT));
        let same = storm.honest.iter().filter(|line| alone.honest.contains(line)).count() as u64;
        let (ns, mib) = (storm.frame_ns, storm.peak_bytes.div_ceil(1 << 20));
        println!("| {name} | {frame_count} | {ns} | {mib} | {same} of {HONEST_COUNT} |");
        let is_accounted = storm.totals.contains("every frame, flow and line is accounted for");
        let is_same = same == HONEST_COUNT && storm.honest.len() as u64 == HONEST_COUNT;
        if !is_accounted || !is_same || mib > bound_mib {
            let other = storm.honest.iter().find(|line| !alone.honest.contains(line));
            failed.push(format!("{name}: {other:?}\n{}", storm.totals));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The cost of a packet with a million connections, compared with a thousand. Each round visits
/// them in an unrelated order.
#[test]
#[ignore = "measures; run it alone"]
fn many_connections() {
    println!("| connections | ns a frame | MiB |");
    println!("| --- | --- | --- |");
    for count in [1000, 1_000_000] {
        let exchanges = attacks::exchanges(count);
        let storm = storm(&["--shards", "1"], ETHERNET, 8_000_000, exchanges, honest(0));
        let mib = storm.peak_bytes.div_ceil(1 << 20);
        println!("| {count} | {} | {mib} |", storm.frame_ns);
        assert!(storm.totals.contains("every frame, flow and line is accounted for"));
        assert!(mib <= 512, "a million connections fit into 512 MiB");
    }
}

/// Name, number of frames and rule of each attack.
fn of_full_size() -> Vec<(&'static str, u64, Box<dyn Attack>)> {
    vec![
        ("SYNs", 10_000_000, Box::new(attacks::syns())),
        ("a million requests", 1_000_000, Box::new(attacks::requests())),
        ("ports reused", 3_000_000, Box::new(attacks::reuse())),
        ("100,000 heads by byte", 10_000_000, Box::new(attacks::slow_heads(100_000, 1))),
        ("100,000 heads by 100", 5_000_000, Box::new(attacks::slow_heads(100_000, 100))),
        ("pipelining on one", 100_000, Box::new(attacks::pipelined(1))),
        ("pipelining on 1000", 100_000, Box::new(attacks::pipelined(1000))),
        ("bodies", 2_000_000, Box::new(attacks::bodies(500_000, true))),
        ("out of order on one", 1_000_000, Box::new(attacks::scattered(1))),
        ("out of order on 1000", 5_000_000, Box::new(attacks::scattered(1000))),
        ("out of order on 10^6", 5_000_000, Box::new(attacks::scattered(1_000_000))),
        ("holes on 1000", 5_000_000, Box::new(attacks::holes(1000))),
        ("interim answers", 200_000, Box::new(attacks::interim())),
        ("doubtful answers", 100_000, Box::new(attacks::doubtful_answers())),
        ("chunks of a byte", 500_000, Box::new(attacks::crumbled_bodies())),
        ("first fragments", 2_000_000, Box::new(attacks::first_fragments(1480))),
        ("fragments of 8 bytes", 2_000_000, Box::new(attacks::crumbs())),
        ("fragments that differ", 1_000_000, Box::new(attacks::overlapping())),
    ]
}
