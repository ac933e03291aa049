//! Which bytes count as `retransmitted_bytes`, and of which exchange: case by case, and against a
//! naive twin, which keeps every position that has passed.

use super::wire_tests::{Sent, Wire, batches, held};
use crate::decode::TcpFlags;
use crate::ids::Direction::{self, Forward, Reverse};
use proptest::prelude::*;
use std::collections::BTreeSet;

const GET_A: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const GET_B: &[u8] = b"GET /b HTTP/1.1\r\n\r\n";

/// A connection on which every new segment acknowledges everything that the other side has sent.
struct Talk {
    wire: Wire,
    next: [u32; 2],
}

fn talk() -> Talk {
    let mut wire = Wire::new();
    wire.take(&Sent::new(Forward, 0, 0, b"").flags(TcpFlags::SYN));
    wire.take(&Sent::new(Reverse, 0, 1, b"").flags(TcpFlags::SYN | TcpFlags::ACK));
    Talk { wire, next: [1, 1] }
}

impl Talk {
    fn say(&mut self, direction: Direction, bytes: &[u8]) -> &mut Talk {
        let at = self.next[direction.index()];
        self.send(direction, at, bytes)
    }

    fn ask(&mut self, text: &[u8]) -> &mut Talk {
        self.say(Forward, text)
    }

    fn answer(&mut self, text: &[u8]) -> &mut Talk {
        self.say(Reverse, text)
    }

    /// Sends `bytes` at `seq`, wherever that is.
    fn send(&mut self, direction: Direction, seq: u32, bytes: &[u8]) -> &mut Talk {
        let own = direction.index();
        self.wire.take(&Sent::new(direction, seq, self.next[1 - own], bytes));
        self.next[own] = self.next[own].max(seq + bytes.len() as u32);
        self
    }

    fn ends(self, expected: &[&str]) {
        assert_eq!(self.wire.notes(), expected);
    }
}

#[test]
fn a_request_that_is_sent_again_while_its_response_is_awaited() {
    let mut talk = talk();
    talk.ask(GET_A).send(Forward, 1, GET_A).send(Forward, 1, GET_A);
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    talk.ends(&["GET /a 0 200 0 again=38"]);
}

/// Another protocol takes the connection over, and the request stays open.
#[test]
fn a_request_that_is_sent_again_behind_a_change_of_protocol() {
    let mut talk = talk();
    talk.ask(GET_A).ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").send(Forward, 1, GET_A);
    talk.ends(&["GET /a 0 - - no_response exit again=19"]);
}

#[test]
fn a_segment_of_a_response_that_is_sent_again_before_and_after_its_end() {
    let mut talk = talk();
    talk.ask(GET_A).answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
    let body_at = talk.next[1] - 3;
    // A copy of the body, one of the head and the body, and one that goes on behind it.
    talk.send(Reverse, body_at, b"abc").send(Reverse, body_at - 2, b"\r\nabc");
    talk.send(Reverse, body_at + 1, b"bcdef").send(Reverse, body_at, b"abcdef");
    talk.ends(&["GET /a 0 200 6 again=10"]);
}

#[test]
fn a_copy_of_several_requests_is_split_among_them() {
    let mut talk = talk();
    let both = [GET_A, b"POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", GET_B].concat();
    talk.ask(&both).send(Forward, 1 + 9, &both[9..both.len() - 3]);
    talk.answer(b"HTTP/1.1 204 No\r\n\r\n");
    // The first one is no longer open.
    talk.send(Forward, 1, &both[..GET_A.len() + 1]);
    talk.answer(b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 204 No\r\n\r\n");
    let post_bytes = both.len() - 2 * GET_A.len() + 1;
    talk.ends(&[
        &format!("GET /a 0 204 0 again={}", GET_A.len() - 9),
        &format!("POST /b 4 204 0 again={post_bytes}"),
        &format!("GET /b 0 204 0 again={}", GET_B.len() - 3),
    ]);
}

#[test]
fn a_piece_of_a_head_that_is_sent_again_before_the_rest_of_it() {
    let mut talk = talk();
    talk.ask(&GET_A[..7]).send(Forward, 1, &GET_A[..7]).send(Forward, 1 + 5, &GET_A[5..]);
    talk.answer(b"HTTP/1.1 304 Not").send(Reverse, 1, b"HTTP").answer(b"\r\nA: b\r\n");
    talk.send(Reverse, 1, b"HTTP/1.1 304 Not\r\n").answer(b"\r\n");
    talk.ends(&["GET /a 0 304 0 again=31"]);
}

#[test]
fn interim_responses_and_chunks_that_are_sent_again() {
    let mut talk = talk();
    talk.ask(b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    talk.answer(interim).send(Reverse, 1, interim);
    talk.ask(b"3\r\nabc\r\n0\r\n\r\n");
    let end = talk.next[0];
    talk.send(Forward, end - 10, b"abc\r\n0\r\n\r\n").send(Reverse, 1, interim);
    talk.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy");
    talk.send(Reverse, 1, interim).answer(b"\r\n0\r\n");
    let end = talk.next[1];
    talk.send(Reverse, end - 5, b"\r\n0\r\n").answer(b"\r\n");
    let again = 3 * interim.len() + 10 + 5;
    talk.ends(&[&format!("PUT /a 3 200 2 again={again} [100]")]);
}

#[test]
fn a_response_that_ended_before_its_request() {
    let mut talk = talk();
    talk.ask(b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nab");
    let response = b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno";
    talk.answer(response).send(Reverse, 1, response).ask(b"cd");
    let again = response.len();
    talk.ends(&[&format!("POST /a 4 413 2 again={again} early")]);
}

/// What waits for a hole has passed, too. Its exchange ends the moment that the hole is filled.
#[test]
fn what_waits_counts_for_the_exchange_that_it_turns_out_to_belong_to() {
    let mut talk = talk();
    let asked = [GET_A, GET_B].concat();
    talk.send(Forward, 1 + 10, &asked[10..]).send(Forward, 1 + 15, &asked[15..]);
    talk.send(Forward, 1 + 15, &asked[15..30]).send(Forward, 1, &asked[..10]);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let answered = [&chunked[..], b"HTTP/1.1 204 No\r\n\r\n"].concat();
    talk.send(Reverse, 1 + 4, &answered[4..]).send(Reverse, 1 + 4, &answered[4..]);
    talk.send(Reverse, 1, &answered);
    // Of the first request, and of its response: all but the first 4 bytes, twice.
    let first = 2 * (GET_A.len() - 15) + 2 * (chunked.len() - 4);
    let second = (asked.len() - GET_A.len()) + (30 - GET_A.len()) + 2 * 19;
    talk.ends(&[
        &format!("GET /a 0 200 2 again={first}"),
        &format!("GET /b 0 204 0 again={second}"),
    ]);
}

#[test]
fn probes_and_what_fills_a_hole_count_for_nothing() {
    let mut talk = talk();
    talk.ask(GET_A).send(Forward, GET_A.len() as u32, b"\n").send(Forward, 19, b"\0");
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    let at = talk.next[1];
    talk.send(Reverse, at - 1, b"c").send(Reverse, at + 3, b"ghi");
    talk.send(Reverse, at + 5, b"i").send(Reverse, at, b"def");
    talk.ends(&["GET /a 0 200 9"]);
    // A single byte that is not the last one is no probe.
    let mut talk = super::retransmission_tests::talk();
    talk.ask(GET_A).send(Forward, 1, b"G").answer(b"HTTP/1.1 204 No\r\n\r\n");
    talk.ends(&["GET /a 0 204 0 again=1"]);
}

#[test]
fn what_is_late_counts_when_it_comes_again() {
    let mut talk = talk();
    talk.ask(GET_A).answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    let at = talk.next[1];
    talk.send(Reverse, at + 3, b"gh");
    for at_ms in [1, 20] {
        let read = Sent::new(Forward, talk.next[0], at + 5, b"");
        talk.wire.take(&Sent { at_ms, ..read });
    }
    talk.send(Reverse, at, b"def").send(Reverse, at, b"def").send(Reverse, at + 5, b"i");
    talk.ends(&["GET /a 0 200 9 gap=3 again=3"]);
}

/// Bytes that were not captured, because the snap length or the filter cut them off, count as well.
#[test]
fn copies_count_by_their_length_on_the_wire() {
    let mut talk = talk();
    talk.ask(GET_A).answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
    let at = talk.next[1];
    let cut = |seq, payload: &[u8], cut_bytes| Sent {
        cut_bytes,
        ..Sent::new(Reverse, seq, 1 + GET_A.len() as u32, payload)
    };
    talk.wire.take(&cut(at, b"ab", 998));
    talk.wire.take(&cut(at, b"ab", 998));
    talk.wire.take(&cut(at + 500, b"", 1000));
    // Behind a hole, and again.
    talk.wire.take(&cut(at + 2000, b"ab", 2998));
    talk.wire.take(&cut(at + 2000, b"", 2000));
    talk.wire.take(&cut(at + 1500, b"", 500));
    let gap = 998 + 500 + 500 + 2998;
    talk.ends(&[&format!("GET /a 0 200 5000 gap={gap} again=3500")]);
}

/// Copies of unknown parts of a stream are told of nobody.
#[test]
fn what_belongs_to_no_message_is_told_of_none() {
    let mut talk = talk();
    talk.ask(GET_A).ask(b"\0\0 no head at all").ask(b"no head either");
    let at = talk.next[0];
    talk.send(Forward, at - 14, b"no head either").send(Forward, at - 31, b"\0\0 no head");
    talk.answer(b"HTTP/1.1 204 No\r\n\r\n");
    talk.send(Forward, 1, GET_A);
    talk.ends(&["GET /a 0 204 0"]);
    // Before the first position that is known.
    let mut wire = Wire::new();
    wire.take(&Sent::new(Forward, 1000, 1, GET_A));
    let mut later = |sent| wire.take(&Sent { at_ms: 20, ..sent });
    later(Sent::new(Forward, 900, 1, &[b'x'; 110]));
    later(Sent::new(Reverse, 1, 1019, b"HTTP/1.1 204 No\r\n\r\n"));
    assert_eq!(wire.notes(), ["GET /a 0 204 0 again=10"]);
}

/// A body of gigabytes: sequence numbers are used again within it.
#[test]
fn sequence_numbers_that_come_again_in_a_long_body() {
    let mut talk = talk();
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 5_u64 << 30);
    talk.ask(GET_A).answer(text.as_bytes());
    let mut at = talk.next[1];
    let ack = 1 + GET_A.len() as u32;
    let mut copied_bytes = 0;
    for number in 0..5_u32 << 10 {
        if number.is_multiple_of(7) && number > 0 {
            talk.wire.take(&Sent::new(Reverse, at.wrapping_sub(100), ack, &[0; 100]));
            talk.wire.take(&Sent::new(Forward, 1, at, GET_A));
            copied_bytes += 100 + GET_A.len();
        }
        talk.wire.take(&Sent { cut_bytes: 1 << 20, ..Sent::new(Reverse, at, ack, b"") });
        at = at.wrapping_add(1 << 20);
        talk.wire.take(&Sent::new(Forward, ack, at, b""));
    }
    let expected = format!("GET /a 0 200 {} gap={} again={copied_bytes}", 5_u64 << 30, 5_u64 << 30);
    assert_eq!(talk.wire.notes(), [expected]);
}

/// A head of which no more comes is reported with what there is of it.
#[test]
fn a_piece_of_a_head_that_is_sent_again_and_never_ends() {
    let mut talk = talk();
    let half = &b"GET /a HTTP/1.1\r\nHost: h\r\n"[..];
    talk.ask(half).send(Forward, 1, half);
    talk.ends(&["GET /a ? - - truncated exit again=26"]);
}

/// A segment of the other side that a stranger, or a broken link, made.
#[test]
fn what_the_receiver_discards_counts_for_nothing() {
    let mut talk = talk();
    talk.ask(GET_A);
    // Outside the windows, and without an acknowledgment.
    talk.send(Forward, 1_u32.wrapping_sub(200_000), &[b'x'; 100]);
    talk.wire.take(&Sent::new(Forward, 1, 0, GET_A).flags(0));
    talk.answer(b"HTTP/1.1 204 No\r\n\r\n");
    talk.ends(&["GET /a 0 204 0"]);
}

/// Counts by hand: keeps the positions that have passed, and which exchange each belongs to.
struct Twin {
    /// The exchange of each position, by direction.
    owners: [Vec<usize>; 2],
    passed: [BTreeSet<u32>; 2],
    again: Vec<u64>,
}

impl Twin {
    fn take(&mut self, sent: &Sent, is_reported: impl Fn(usize) -> bool) {
        let own = sent.direction.index();
        let passed = &mut self.passed[own];
        let is_probe = sent.payload.len() == 1 && passed.last() == Some(&sent.seq);
        for at in sent.seq..sent.seq + sent.payload.len() as u32 {
            let exchange = self.owners[own][at as usize - 1];
            if !passed.insert(at) && !is_probe && !is_reported(exchange) {
                self.again[exchange] += 1;
            }
        }
    }
}

proptest! {
    /// Segments come in any order, again, and cut differently.
    #[test]
    fn the_same_as_counting_by_hand(
        batches in batches(),
        cuts in prop::collection::vec(1usize..300, 1..20),
        delays in prop::collection::vec(0u32..9, 1..40),
        copies in prop::collection::vec(
            (any::<usize>(), 0u32..40, 0..300usize, 0..300usize),
            0..60,
        ),
    ) {
        let (sent, expected) = held(&batches, &cuts);
        let mut owners = [Vec::new(), Vec::new()];
        let mut order: Vec<(u32, Sent)> = Vec::new();
        for (index, one) in sent.iter().enumerate() {
            let delay = if index < 2 { 0 } else { 10 + delays[index % delays.len()] };
            order.push((4 * index as u32 + delay, one.clone()));
            owners[one.direction.index()].extend_from_slice(&one.owners);
        }
        for (index, delay, skip, len) in copies {
            let index = 2 + index % (sent.len() - 2);
            let one = &sent[index];
            let start = skip.min(one.payload.len());
            let end = (start + len).min(one.payload.len());
            let mut copy =
                Sent::new(one.direction, one.seq + start as u32, one.ack, &one.payload[start..end]);
            copy.at_ms = one.at_ms;
            order.push((4 * index as u32 + 10 + delay, copy));
        }
        order.sort_by_key(|(key, _)| *key);
        let (mut wire, again) = (Wire::new(), vec![0; expected.len()]);
        let mut twin = Twin { owners, passed: Default::default(), again };
        for (_, one) in &mut order {
            one.at_ms = 0;
            let reported = &wire.0.sink().exchanges;
            twin.take(one, |exchange| {
                reported.iter().any(|note| note.starts_with(&format!("POST /{exchange} ")))
            });
            wire.take(one);
        }
        let told = wire.notes();
        for (exchange, note) in expected.iter().enumerate() {
            let note = match twin.again[exchange] {
                0 => note.clone(),
                again => format!("{note} again={again}"),
            };
            prop_assert!(told.contains(&note), "{note} is not among {told:#?}");
        }
    }
}
