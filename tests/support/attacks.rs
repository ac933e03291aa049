//! Attacks: each is a rule that generates frame after frame.

use super::attack_harness::{Attack, AttackSegment, SERVER};
use super::packet::{ACK, FIN, SYN};

/// A different client for each number, from 172.16.0.0 upwards.
pub fn client(number: u64) -> (u32, u16) {
    (0xac10_0000 + (number / 50_000) as u32, 1024 + (number % 50_000) as u16)
}

/// A head of about `bytes` with this start line.
fn head(start: &str, bytes: usize) -> Vec<u8> {
    format!("{start}\r\nX: {}\r\n\r\n", "x".repeat(bytes)).into_bytes()
}

/// SYNs, each from another client.
pub fn syns() -> impl Attack {
    |number: u64, frame: &mut Vec<u8>| AttackSegment::from(client(number), SYN).write(b"", frame)
}

/// Requests without a response, each from another client.
pub fn requests() -> impl Attack {
    let request = head("GET / HTTP/1.1", 20);
    move |number: u64, frame: &mut Vec<u8>| {
        AttackSegment::from(client(number), ACK).write(&request, frame)
    }
}

/// No attack: exchanges, one on each of `flow_count` connections in each round. Every other round
/// has another order.
pub fn exchanges(flow_count: u64) -> impl Attack {
    let (request, response) = (head("GET / HTTP/1.1", 20), head("HTTP/1.1 204 None", 20));
    move |number: u64, frame: &mut Vec<u8>| {
        let (round, place) = (number / 2 / flow_count, number / 2 % flow_count);
        // A prime that does not divide the count.
        let flow = if round % 2 == 0 { place } else { place * 611_953 % flow_count };
        let mut blow = AttackSegment::from(client(flow), ACK);
        blow.is_answer = number % 2 == 1;
        let (asked, answered) = (request.len() as u32, response.len() as u32);
        let asked_count = round as u32 + u32::from(blow.is_answer);
        let (own, peer) = (1 + asked * asked_count, 1 + answered * round as u32);
        (blow.seq, blow.ack) = if blow.is_answer { (peer, own) } else { (own, peer) };
        blow.write(if blow.is_answer { &response } else { &request }, frame);
    }
}

/// Handshake and end, over and over on the same endpoints.
pub fn reuse() -> impl Attack {
    |number: u64, frame: &mut Vec<u8>| {
        let mut blow = AttackSegment::from(
            client(number / 3 % 100),
            [SYN, FIN | ACK, FIN | ACK][(number % 3) as usize],
        );
        let isn = (number / 300) as u32 * 100_000;
        blow.seq = isn + u32::from(!number.is_multiple_of(3));
        blow.ack = isn + (number % 3) as u32;
        blow.is_answer = number % 3 == 2;
        blow.write(b"", frame);
    }
}

/// Heads that never end, of `flow_count` connections in turn, `bytes` in each segment.
pub fn slow_heads(flow_count: u64, bytes: usize) -> impl Attack {
    let text = head("GET / HTTP/1.1", 1 << 20);
    move |number: u64, frame: &mut Vec<u8>| {
        let (round, flow) = (number / flow_count, number % flow_count);
        let at = round as usize * bytes;
        let mut blow = AttackSegment::from(client(flow), ACK);
        match round {
            0 => blow.flags = SYN,
            _ => blow.seq = (at - bytes + 1) as u32,
        }
        let piece = text.get(at.wrapping_sub(bytes)..at).unwrap_or_default();
        blow.write(piece, frame);
    }
}

/// Requests without responses, many in a segment, on `flow_count` connections in turn.
pub fn pipelined(flow_count: u64) -> impl Attack {
    let requests = b"GET /many HTTP/1.1\r\n\r\n".repeat(60);
    move |number: u64, frame: &mut Vec<u8>| {
        let mut blow = AttackSegment::from(client(number % flow_count), ACK);
        blow.seq = (number / flow_count) as u32 * requests.len() as u32;
        blow.write(&requests, frame);
    }
}

/// Responses without requests or, with `is_asked`, requests and their responses. No body ends.
pub fn bodies(flow_count: u64, is_asked: bool) -> impl Attack {
    let request = head("POST / HTTP/1.1\r\nContent-Length: 100000", 900);
    let response = head("HTTP/1.1 200 OK\r\nContent-Length: 100000", 900);
    move |number: u64, frame: &mut Vec<u8>| {
        let (round, flow) = (number / flow_count, number % flow_count);
        let mut blow = AttackSegment::from(client(flow), ACK);
        blow.is_answer = !is_asked || round % 2 == 1;
        blow.write(if blow.is_answer { &response } else { &request }, frame);
    }
}

/// One byte in each segment, no two of them adjacent, in no order, on `flow_count` connections in
/// turn.
pub fn scattered(flow_count: u64) -> impl Attack {
    move |number: u64, frame: &mut Vec<u8>| {
        let (round, flow) = (number / flow_count, number % flow_count);
        let mut blow = AttackSegment::from(client(flow), ACK);
        match round {
            0 => blow.flags = SYN,
            _ => blow.seq = 10 + 2 * (round.wrapping_mul(7919) % 20_011) as u32,
        }
        blow.write(if round == 0 { b"" } else { b"x" }, frame);
    }
}

/// One byte in each segment after a missing one, on `flow_count` connections in turn: all of them
/// wait.
pub fn holes(flow_count: u64) -> impl Attack {
    move |number: u64, frame: &mut Vec<u8>| {
        let (round, flow) = (number / flow_count, number % flow_count);
        let mut blow = AttackSegment::from(client(flow), if round == 0 { SYN } else { ACK });
        blow.seq = 2 * round as u32;
        blow.write(if round == 0 { b"" } else { b"x" }, frame);
    }
}

/// Many segments wait, and then all but one are delivered, on one connection after the other.
pub fn drained(waiting_count: u64) -> impl Attack {
    let filler = vec![b'x'; 2 * waiting_count as usize];
    move |number: u64, frame: &mut Vec<u8>| {
        let (flow, step) = (number / (waiting_count + 2), number % (waiting_count + 2));
        let mut blow = AttackSegment::from(client(flow), if step == 0 { SYN } else { ACK });
        match step {
            0 => blow.write(b"", frame),
            step if step <= waiting_count => {
                blow.seq = 1 + 2 * step as u32;
                blow.write(b"x", frame);
            }
            _ => {
                blow.seq = 1;
                blow.write(&filler, frame);
            }
        }
    }
}

/// Large segments wait and are delivered on one connection; then as many tiny ones wait on the
/// next, in the buffers that the large ones have left.
pub fn tiny_in_large_buffers() -> impl Attack {
    const COUNT: u64 = 64;
    const LARGE_BYTES: usize = 1460;
    let bytes = [b'x'; LARGE_BYTES];
    move |number: u64, frame: &mut Vec<u8>| {
        let (flow, step) = (number / (COUNT + 2), number % (COUNT + 2));
        let is_large = flow.is_multiple_of(2);
        let (piece_bytes, distance) =
            if is_large { (LARGE_BYTES, LARGE_BYTES as u32) } else { (1, 2) };
        let mut blow = AttackSegment::from(client(flow), if step == 0 { SYN } else { ACK });
        let (seq, len) = match step as u32 {
            0 => (0, 0),
            // The byte that all of the large ones wait for.
            step if u64::from(step) > COUNT && is_large => (1, 1),
            step => (2 + (step - 1) * distance, piece_bytes),
        };
        blow.seq = seq;
        blow.write(&bytes[..len], frame);
    }
}

/// Connections of which each misses data before its FIN. The peer has them.
pub fn missing_before_fin(flow_count: u64) -> impl Attack {
    move |number: u64, frame: &mut Vec<u8>| {
        let (round, flow) = (number / flow_count, number % flow_count);
        let mut blow =
            AttackSegment::from(client(flow), [SYN, FIN | ACK, ACK][round.min(2) as usize]);
        match round {
            0 => {}
            1 => blow.seq = 100,
            _ => (blow.is_answer, blow.seq, blow.ack) = (true, 1, 50),
        }
        blow.write(b"", frame);
    }
}

/// `exchange_count` requests with long heads wait for their responses at the same time, and get
/// them, with long heads, too; then long heads begin and do not end. `extra` is repeated in the
/// heads.
pub fn exchanges_then_heads(exchange_count: u64, extra: &str) -> impl Attack {
    let fill = extra.repeat(3900 / extra.len());
    let request = format!("GET / HTTP/1.1\r\n{fill}\r\n").into_bytes();
    let response = format!("HTTP/1.1 204 None\r\n{fill}\r\n").into_bytes();
    move |number: u64, frame: &mut Vec<u8>| {
        let mut blow = AttackSegment::from(client(number), ACK);
        (blow.seq, blow.ack) = (1, 1);
        match number / exchange_count {
            0 => blow.write(&request, frame),
            1 => {
                blow.client = client(number - exchange_count);
                blow.is_answer = true;
                blow.ack = 1 + request.len() as u32;
                blow.write(&response, frame);
            }
            _ => blow.write(&request[..request.len() - 2], frame),
        }
    }
}

/// Endless interim responses, to one request after the other.
pub fn interim() -> impl Attack {
    let answers = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50);
    move |number: u64, frame: &mut Vec<u8>| {
        let mut blow = AttackSegment::from(client(number / 100), ACK);
        if number.is_multiple_of(100) {
            return blow.write(b"GET / HTTP/1.1\r\n\r\n", frame);
        }
        blow.is_answer = true;
        blow.seq = (number % 100) as u32 * answers.len() as u32;
        blow.write(&answers, frame);
    }
}

/// A thousand requests on each connection, then small responses after a loss. Each response may
/// belong to any of the requests.
pub fn doubtful_answers() -> impl Attack {
    let requests = b"GET / HTTP/1.1\r\n\r\n".repeat(50);
    let answers = b"HTTP/1.1 204\r\n\r\n".repeat(80);
    move |number: u64, frame: &mut Vec<u8>| {
        let (flow, step) = (number / 120, (number % 120) as u32);
        let mut blow = AttackSegment::from(client(flow), ACK);
        blow.ack = 1;
        match step {
            0..20 => {
                blow.seq = 1 + step * requests.len() as u32;
                blow.write(&requests, frame);
            }
            20 => {
                blow.is_answer = true;
                blow.seq = 1;
                blow.write(b"HTTP/1.1 204\r\n\r\n", frame);
            }
            step => {
                blow.is_answer = true;
                blow.seq = 1000 + (step - 20) * (1 + answers.len() as u32);
                blow.write(&answers, frame);
            }
        }
    }
}

/// Chunks of one byte, and trailers of one line after the other.
pub fn crumbled_bodies() -> impl Attack {
    let chunks = b"1\r\nx\r\n".repeat(200);
    move |number: u64, frame: &mut Vec<u8>| {
        let mut blow = AttackSegment::from(client(number / 1000), ACK);
        if number.is_multiple_of(1000) {
            return blow.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", frame);
        }
        blow.seq = 47 + ((number % 1000) as u32 - 1) * chunks.len() as u32;
        blow.write(&chunks, frame);
    }
}

/// A fragment of `bytes` at `offset`, of datagram `id`, each from another host.
fn fragment(id: u32, offset: usize, bytes: &[u8], frame: &mut Vec<u8>) {
    frame.extend([0x45, 0]);
    frame.extend((20 + bytes.len() as u16).to_be_bytes());
    frame.extend((id as u16).to_be_bytes());
    frame.extend((0x2000 | (offset / 8) as u16).to_be_bytes());
    frame.extend([64, 6, 0, 0]);
    frame.extend((0xac20_0000 + (id >> 16)).to_be_bytes());
    frame.extend(SERVER.0.to_be_bytes());
    frame.extend_from_slice(bytes);
}

/// First fragments of `bytes` bytes, each of another datagram.
pub fn first_fragments(bytes: usize) -> impl Attack {
    let bytes = vec![0; bytes];
    move |number: u64, frame: &mut Vec<u8>| fragment(number as u32, 0, &bytes, frame)
}

/// Eight bytes in each fragment, at every other offset, from back to front: as many pieces as
/// possible.
pub fn crumbs() -> impl Attack {
    |number: u64, frame: &mut Vec<u8>| {
        let place = 2000 - (number % 2000) as usize;
        fragment((number / 2000) as u32, 16 * place, &[0; 8], frame);
    }
}

/// Fragments that contradict each other on the same bytes, after many that agree.
pub fn overlapping() -> impl Attack {
    |number: u64, frame: &mut Vec<u8>| {
        let (id, step) = ((number / 100) as u32, (number % 100) as usize);
        let bytes = [if step == 99 { 1 } else { 0 }; 1400];
        fragment(id, 8 * step, &bytes, frame);
    }
}
