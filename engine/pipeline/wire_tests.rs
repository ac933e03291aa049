//! From segments to exchanges, whatever is lost, reordered or swept in between: an exchange that
//! the loss did not touch is reported as it happened, and one that it touched says so.

use crate::config::Config;
use crate::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use crate::ids::{Direction, FlowKey, IfaceId};
use crate::pipeline::Pipeline;
use crate::protocol::http1::tests::Reported;
use crate::time::TimestampNs;
use Direction::{Forward, Reverse};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// One data segment; sequence numbers begin at 1.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) direction: Direction,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) payload: Vec<u8>,
    /// Bytes behind the payload that were not captured.
    pub(super) cut_bytes: u32,
    pub(super) flags: u8,
    pub(super) at_ms: u64,
    /// The exchanges that it carries a piece of.
    pub(super) exchanges: Vec<usize>,
    /// The exchange of each byte.
    pub(super) owners: Vec<usize>,
}

impl Sent {
    pub(super) fn new(direction: Direction, seq: u32, ack: u32, payload: &[u8]) -> Sent {
        let (payload, flags) = (payload.to_vec(), TcpFlags::ACK);
        Sent {
            direction,
            seq,
            ack,
            payload,
            cut_bytes: 0,
            flags,
            at_ms: 0,
            exchanges: Vec::new(),
            owners: Vec::new(),
        }
    }

    pub(super) fn flags(self, flags: u8) -> Sent {
        Sent { flags, ..self }
    }
}

/// A pipeline without its decoder.
pub(super) struct Wire(pub(super) Pipeline<Reported>);

impl Wire {
    pub(super) fn new() -> Wire {
        Wire(Pipeline::new(&Config::default(), Reported::default()))
    }

    pub(super) fn take(&mut self, sent: &Sent) {
        let flags = TcpFlags(sent.flags);
        self.0.segment(&Segment {
            key: FlowKey { port: [[0, 80], [1, 1]], ..FlowKey::default() },
            direction: sent.direction,
            seq: SeqNumber(sent.seq),
            ack: flags.is_ack().then_some(SeqNumber(sent.ack)),
            flags,
            window: 65_535,
            header: &[],
            is_checksum_trusted: false,
            payload: &sent.payload,
            payload_wire_bytes: sent.payload.len() as u32 + sent.cut_bytes,
            timestamp: TimestampNs((1_000 + sent.at_ms) * MS),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
        });
    }

    fn look(&mut self, now_ms: u64) {
        self.0.sweep(TimestampNs((1_000 + now_ms) * MS));
    }

    pub(super) fn notes(mut self) -> Vec<String> {
        self.0.finish();
        assert_eq!(self.0.exchanges_in_use(), 0, "every exchange was given back");
        assert_eq!(self.0.held_bytes()[0], 0, "what waited was given back");
        std::mem::take(&mut self.0.sink_mut().exchanges)
    }
}

/// A batch of exchanges: all requests, then all responses. Bodies are framed by length or in
/// chunks.
pub(super) fn batches() -> impl Strategy<Value = Vec<Vec<(usize, usize, bool)>>> {
    let exchange = (0usize..200, 0usize..400, any::<bool>());
    prop::collection::vec(prop::collection::vec(exchange, 1..4), 1..6)
}

fn body(len: usize, is_chunked: bool) -> String {
    let bytes = "b".repeat(len);
    match is_chunked {
        true if len > 0 => {
            format!("Transfer-Encoding: chunked\r\n\r\n{len:x}\r\n{bytes}\r\n0\r\n\r\n")
        }
        true => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_string(),
        false => format!("Content-Length: {len}\r\n\r\n{bytes}"),
    }
}

/// The segments of the batches, and the expected report of each exchange.
pub(super) fn held(
    batches: &[Vec<(usize, usize, bool)>],
    cuts: &[usize],
) -> (Vec<Sent>, Vec<String>) {
    let syn = |direction, ack, flags| Sent::new(direction, 0, ack, b"").flags(flags);
    let mut sent =
        vec![syn(Forward, 0, TcpFlags::SYN), syn(Reverse, 1, TcpFlags::SYN | TcpFlags::ACK)];
    let mut next = [1u32; 2];
    let mut cuts = cuts.iter().cycle();
    let (mut notes, mut at_ms, mut number) = (Vec::new(), 0, 0);
    for batch in batches {
        for direction in [Forward, Reverse] {
            let mut bytes: Vec<(u8, usize)> = Vec::new();
            for (index, (asked, got, is_chunked)) in batch.iter().enumerate() {
                let exchange = number + index;
                let text = match direction {
                    Forward => {
                        notes.push(format!("POST /{exchange} {asked} 200 {got}"));
                        format!("POST /{exchange} HTTP/1.1\r\n{}", body(*asked, *is_chunked))
                    }
                    Reverse => format!("HTTP/1.1 200 {exchange}\r\n{}", body(*got, !*is_chunked)),
                };
                bytes.extend(text.bytes().map(|byte| (byte, exchange)));
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let mut size = (*cuts.next().unwrap_or(&1)).clamp(1, rest.len());
                // No sender splits a method across segments; the rest of one could look like
                // another.
                while is_torn(&rest[size..]) {
                    size += 1;
                }
                let (piece, behind) = rest.split_at(size);
                let owners: Vec<usize> = piece.iter().map(|(_, number)| *number).collect();
                let mut exchanges = owners.clone();
                exchanges.dedup();
                let own = direction.index();
                at_ms += 1;
                let payload: Vec<u8> = piece.iter().map(|(byte, _)| *byte).collect();
                let one = Sent::new(direction, next[own], next[1 - own], &payload);
                sent.push(Sent { at_ms, exchanges, owners, ..one });
                next[own] += size as u32;
                rest = behind;
            }
        }
        number += batch.len();
        // A client that waits: holes are given up between batches.
        at_ms += 20;
    }
    for own in [Forward, Reverse] {
        let mut last = syn(own, next[1 - own.index()], TcpFlags::ACK);
        (last.seq, last.at_ms) = (next[own.index()], at_ms + 20);
        sent.push(last);
    }
    (sent, notes)
}

fn is_torn(rest: &[(u8, usize)]) -> bool {
    let begin: Vec<u8> = rest.iter().take(6).map(|(byte, _)| *byte).collect();
    [&b"OST /"[..], b"ST /", b"T /"].iter().any(|tail| begin.starts_with(tail))
}

fn is_told(note: &str) -> bool {
    note.contains("gap=") || note.contains("no_re") || note.contains("truncated")
}

/// A connection that was captured midstream is reset, and another handshake follows on its
/// endpoints. The bytes that the client had acknowledged belong to the old connection and are no
/// loss.
#[test]
fn a_handshake_behind_a_reset_tells_no_loss() {
    let sent = |direction, seq, ack, payload: &[u8], flags| {
        Sent::new(direction, seq, ack, payload).flags(flags)
    };
    let mut wire = Wire::new();
    wire.take(&sent(Forward, 1, 5_000, b"GET / HTTP/1.1\r\n\r\n", TcpFlags::ACK));
    wire.take(&sent(Forward, 19, 5_000, b"", TcpFlags::RST));
    wire.take(&sent(Forward, 0, 0, b"", TcpFlags::SYN));
    wire.take(&sent(Reverse, 0, 1, b"", TcpFlags::SYN | TcpFlags::ACK));
    wire.take(&sent(Reverse, 5_000, 1, b"HTTP/1.1 200 OK\r\n\r\n", TcpFlags::ACK));
    assert_eq!(wire.0.stats().flow.gap_bytes, 0);
}

proptest! {
    /// One segment is lost. Exchanges that this did not touch are reported as they happened.
    /// Whatever is reported as complete is true.
    #[test]
    fn losses_are_told_and_touch_nothing_else(
        batches in batches(),
        cuts in prop::collection::vec(20usize..300, 1..20),
        lost in any::<usize>(),
    ) {
        let (sent, expected) = held(&batches, &cuts);
        let is_lost = |index: usize| {
            !sent[index].exchanges.is_empty() && index == lost % sent.len()
        };
        let mut wire = Wire::new();
        let mut touched = Vec::new();
        for (index, one) in sent.iter().enumerate() {
            if is_lost(index) {
                touched.extend_from_slice(&one.exchanges);
            } else {
                wire.take(one);
            }
        }
        let notes = wire.notes();
        for note in notes.iter().filter(|note| !is_told(note)) {
            prop_assert!(expected.contains(note), "invented: {note}\n{notes:#?}");
        }
        for (number, note) in expected.iter().enumerate() {
            if touched.contains(&number) {
                prop_assert!(!notes.contains(note), "not reported: {note}\n{notes:#?}");
            }
        }
        // A batch with no touched exchange is complete.
        let mut number = 0;
        for batch in &batches {
            let own = number..number + batch.len();
            number = own.end;
            let is_touched = own.clone().any(|exchange| touched.contains(&exchange));
            if !is_touched {
                for exchange in own {
                    let note = &expected[exchange];
                    prop_assert!(notes.contains(note), "missing: {note}\n{notes:#?}");
                }
            }
        }
    }

    /// The moments at which a sweep looks for expired holes change nothing.
    #[test]
    fn looks_change_nothing(
        batches in batches(),
        cuts in prop::collection::vec(20usize..300, 1..20),
        lost in prop::collection::vec(prop::bool::weighted(0.15), 1..60),
        delays in prop::collection::vec(0u64..30, 1..40),
        looks in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let (mut sent, _) = held(&batches, &cuts);
        for (index, one) in sent.iter_mut().enumerate() {
            one.at_ms = one.at_ms * 2 + delays[index % delays.len()];
        }
        sent[2..].sort_by_key(|one| one.at_ms);
        let mut index = 0;
        sent.retain(|one| {
            index += 1;
            one.exchanges.is_empty() || !lost[index % lost.len()]
        });
        let (mut plain, mut looked) = (Wire::new(), Wire::new());
        for (index, one) in sent.iter().enumerate() {
            plain.take(one);
            if looks[index % looks.len()] {
                looked.look(one.at_ms);
            }
            looked.take(one);
        }
        prop_assert_eq!(plain.notes(), looked.notes());
    }
}

/// Copies of a preface that differ, again and again: one succession replaces the one before.
#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn copies_that_differ_pile_up_nothing() {
    let mut wire = Wire::new();
    let mut take = |direction, seq, ack, flags, payload: &[u8]| {
        wire.take(&Sent::new(direction, seq, ack, payload).flags(flags));
    };
    take(Forward, 99, 0, TcpFlags::SYN, b"");
    take(Reverse, 999, 100, TcpFlags::SYN | TcpFlags::ACK, b"");
    let (get, preface) = (b"GET /a HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut at = 100;
    for _ in 0..100_000 {
        take(Forward, at, 1000, TcpFlags::ACK, get);
        at += get.len() as u32;
        take(Forward, at, 1000, TcpFlags::ACK, preface);
        take(Forward, at, 1000, TcpFlags::ACK, &[b'x'; 24]);
        at += preface.len() as u32;
    }
    assert!(wire.0.exchanges_in_use() <= 1100, "{}", wire.0.exchanges_in_use());
    wire.notes();
}
