//! Whatever arrives, memory is bounded.

mod support;

use httplines::config::Config;
use support::packet::{ACK, SYN};
use support::siege::{Attack, Blow, Counting, Outcome, besiege, client, honest, small};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FLOW_BYTES: usize = 768;

fn shard_bytes_max(config: &Config) -> usize {
    let lines = (config.emit.batch_count_max + 33)
        * (config.emit.batch_bytes + 2 * config.emit.line_bytes_max);
    config.flow.flow_count_max * FLOW_BYTES
        + config.flow.reorder_bytes_shard_max
        + config.http.held_bytes_shard_max
        + config.decode.fragment_bytes_max
        + lines
        + (1 << 20)
}

fn hold(config: &Config, frame_count: u64, attack: impl Attack) -> Outcome {
    let outcome = besiege(config, frame_count, attack, honest(200));
    let alone = besiege(config, 0, |_: u64, _: &mut Vec<u8>| {}, honest(200));
    assert_eq!(alone.honest.len(), 200);
    let bound = shard_bytes_max(config);
    eprintln!(
        "peak {} bound {} honest same {} other {} longest {}\n  {:?}\n  {:?}\n  {:?}",
        outcome.peak_bytes,
        bound,
        outcome.honest == alone.honest,
        outcome.other_count,
        outcome.longest_bytes,
        outcome.stats.flow.each().into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(),
        outcome.stats.http.each().into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(),
        outcome.stats.datagrams.each().into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(),
    );
    let mut bad = Vec::new();
    if outcome.peak_bytes > bound {
        bad.push(format!("peak {} > {bound}", outcome.peak_bytes));
    }
    let missing = alone.honest.iter().filter(|line| !outcome.honest.contains(line)).count();
    if missing > 0 || outcome.honest.len() != 200 {
        bad.push(format!(
            "{missing} honest missing, {} lines; {:?}",
            outcome.honest.len(),
            outcome.honest.iter().find(|line| !alone.honest.contains(line))
        ));
    }
    assert!(bad.is_empty(), "{bad:?}");
    outcome
}

#[test]
fn syn_flood() {
    hold(&small(), 100_000, |number: u64, frame: &mut Vec<u8>| {
        Blow::from(client(number), SYN).write(b"", frame);
    });
}

#[test]
fn million_flows() {
    hold(&small(), 60_000, |number: u64, frame: &mut Vec<u8>| {
        Blow::from(client(number), ACK).write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", frame);
    });
}

#[test]
fn slow_heads() {
    const COUNT: u64 = 1500;
    let mut config = small();
    config.http.held_bytes_shard_max = 256 << 10;
    hold(&config, 400 * COUNT, |number: u64, frame: &mut Vec<u8>| {
        let (round, flow) = (number / COUNT, number % COUNT);
        let mut blow = Blow::from(client(flow), if round == 0 { SYN } else { ACK });
        let head = b"GET / HTTP/1.1\r\nX: ";
        blow.seq = round as u32;
        let at = round.saturating_sub(1) as usize;
        let byte = [*head.get(at).unwrap_or(&b'x')];
        blow.write(if round == 0 { b"" } else { &byte }, frame);
    });
}

#[test]
fn pipelining() {
    for count in [1, 200] {
        let request = b"GET /many HTTP/1.1\r\n\r\n".repeat(20);
        hold(&small(), 10_000, |number: u64, frame: &mut Vec<u8>| {
            let (round, flow) = (number / count, number % count);
            let mut blow = Blow::from(client(flow), ACK);
            blow.seq = round as u32 * request.len() as u32;
            blow.write(&request, frame);
        });
    }
}

#[test]
fn answers_without_end() {
    let head =
        [&b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nX: "[..], &[b'x'; 1000], b"\r\n\r\n"]
            .concat();
    hold(&small(), 20_000, |number: u64, frame: &mut Vec<u8>| {
        let mut blow = Blow::from(client(number % 1800), ACK);
        blow.is_answer = true;
        blow.seq = (number / 1800) as u32 * head.len() as u32;
        blow.write(&head, frame);
    });
}

#[test]
fn bodies_without_end() {
    let head =
        [&b"POST / HTTP/1.1\r\nContent-Length: 100000\r\nX: "[..], &[b'x'; 500], b"\r\n\r\n"]
            .concat();
    let answer =
        [&b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nX: "[..], &[b'x'; 500], b"\r\n\r\n"]
            .concat();
    hold(&small(), 20_000, |number: u64, frame: &mut Vec<u8>| {
        let (round, flow) = (number / 1800, number % 1800);
        let mut blow = Blow::from(client(flow), ACK);
        blow.is_answer = round % 2 == 1;
        blow.write(if round % 2 == 1 { &answer } else { &head }, frame);
    });
}

#[test]
fn order_bombs() {
    for (count, stride) in [(1u64, 7919u32), (1, 1), (100, 7919), (1900, 7919)] {
        hold(&small(), 60_000, |number: u64, frame: &mut Vec<u8>| {
            let (round, flow) = (number / count, number % count);
            let mut blow = Blow::from(client(flow), if round == 0 { SYN } else { ACK });
            let place = (round as u32).wrapping_mul(stride) % 20_000;
            blow.seq = if round == 0 { 0 } else { 10 + 2 * place };
            blow.write(if round == 0 { b"" } else { b"x" }, frame);
        });
    }
}

#[test]
fn order_bombs_drained_to_one() {
    let config = small();
    hold(&config, 1000 * 300, |number: u64, frame: &mut Vec<u8>| {
        let (flow, step) = (number / 300, number % 300);
        let mut blow = Blow::from(client(flow), if step == 0 { SYN } else { ACK });
        let filler = [b'x'; 2 * 200 + 9];
        blow.seq = match step {
            0 => 0,
            299 => 1,
            step => 10 + 2 * step as u32,
        };
        blow.write(
            match step {
                0 => b"",
                299 => &filler[..2 * 297 + 9 - 200],
                _ => b"x",
            },
            frame,
        );
    });
}
