//! The rules of `connection.rs`, one by one, and against a naive twin: the streams as they were
//! sent.

use super::*;
use crate::config::FlowConfig;
use crate::decode::{Segment, TcpFlags, TunnelPath};
use crate::ids::Direction;
use proptest::prelude::*;

const FORWARD_ISN: u32 = u32::MAX - 20;
const REVERSE_ISN: u32 = 5_000;
const MS: u64 = 1_000_000;

/// A segment of the only connection of these tests. Offsets count from the first payload byte.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    direction: Direction,
    offset: u32,
    /// How far the other direction is acknowledged, as an offset.
    ack: u32,
    payload: Vec<u8>,
    flags: u8,
    pub(super) at_ms: u64,
    pub(super) cut_bytes: u32,
    /// The TCP header, if it matters.
    pub(super) header: Vec<u8>,
    port: u16,
}

impl Sent {
    pub(super) fn data(
        direction: Direction,
        offset: u32,
        ack: u32,
        payload: &[u8],
        at_ms: u64,
    ) -> Sent {
        let flags = TcpFlags::ACK;
        let payload = payload.to_vec();
        let header = Vec::new();
        Sent { direction, offset, ack, payload, flags, at_ms, cut_bytes: 0, header, port: 80 }
    }

    /// On another connection.
    pub(super) fn port(mut self, port: u16) -> Sent {
        self.port = port;
        self
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// The offset behind its payload.
    pub(super) fn end(&self) -> u32 {
        self.offset.wrapping_add(self.payload.len() as u32)
    }

    pub(super) fn flags(mut self, flags: u8) -> Sent {
        self.flags = flags;
        self
    }

    pub(super) fn segment(&self) -> Segment<'_> {
        let (own, peer) = match self.direction {
            Direction::Forward => (FORWARD_ISN, REVERSE_ISN),
            Direction::Reverse => (REVERSE_ISN, FORWARD_ISN),
        };
        let flags = TcpFlags(self.flags);
        let is_syn = u32::from(flags.is_syn());
        Segment {
            key: FlowKey { port: [self.port.to_be_bytes(), [1, 1]], ..FlowKey::default() },
            direction: self.direction,
            seq: SeqNumber(own).plus(self.offset.wrapping_add(1 - is_syn)),
            ack: flags.is_ack().then_some(SeqNumber(peer).plus(self.ack.wrapping_add(1))),
            flags,
            window: 65_535,
            header: &self.header,
            is_checksum_trusted: false,
            payload: &self.payload,
            payload_wire_bytes: self.payload.len() as u32 + self.cut_bytes,
            timestamp: TimestampNs(1_000 * MS + self.at_ms * MS),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Bytes(Direction, String),
    Elided(Direction, u64),
    Gap(Direction, u64),
    Fin(Direction),
    Reset,
}

pub(super) fn hear(heard: &mut Vec<Heard>, direction: Direction, chunk: Chunk<'_>) {
    match chunk {
        Chunk::Bytes(bytes, _) | Chunk::BytesWithCopies(bytes, ..) => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            match heard.last_mut() {
                Some(Heard::Bytes(last, before)) if *last == direction => before.push_str(&text),
                _ => heard.push(Heard::Bytes(direction, text)),
            }
        }
        Chunk::Copy(..) | Chunk::Retransmitted { .. } => {}
        Chunk::Elided { len_bytes, .. } => heard.push(Heard::Elided(direction, len_bytes.into())),
        Chunk::Gap { len_bytes, .. } => heard.push(Heard::Gap(direction, len_bytes)),
        Chunk::Fin => heard.push(Heard::Fin(direction)),
        Chunk::Closing(_) => {}
        Chunk::Reset => heard.push(Heard::Reset),
    }
}

pub(super) struct Run {
    pub(super) table: FlowTable<()>,
    pub(super) heard: Vec<Heard>,
}

pub(super) fn run_with(limits: FlowConfig, sent: &[Sent]) -> Run {
    let mut run = Run { table: FlowTable::new(limits), heard: Vec::new() };
    for one in sent {
        run.take(one);
    }
    run
}

pub(super) fn run(sent: &[Sent]) -> Run {
    run_with(FlowConfig::default(), sent)
}

/// Records what the table reports in addition.
pub(super) struct HeardEvents<'a>(pub(super) &'a mut Vec<Heard>);

impl FlowEvents<()> for HeardEvents<'_> {
    fn chunk(&mut self, _: &FlowKey, _: &Handshake, (): &mut (), way: Direction, chunk: Chunk<'_>) {
        hear(self.0, way, chunk);
    }

    fn ended(&mut self, _: &FlowKey, _: &Handshake, (): &mut (), _: End) {}
}

impl Run {
    pub(super) fn take(&mut self, sent: &Sent) {
        let segment = sent.segment();
        let mut heard = HeardEvents(&mut self.heard);
        let Some(index) = self.table.enter(&segment, &mut heard) else { return };
        self.table.accept(index, &segment, |_, _, (), way, chunk| {
            hear(&mut self.heard, way, chunk);
        });
    }

    /// Advances the clock without a segment.
    pub(super) fn look(&mut self, now_ms: u64) {
        let mut heard = HeardEvents(&mut self.heard);
        let now = TimestampNs((1_000 + now_ms) * MS);
        while self.table.settle_next(now, &mut 1, &mut heard) {}
    }

    /// Idle flows are removed.
    pub(super) fn expire(&mut self, now_ms: u64) {
        let now = TimestampNs((1_000 + now_ms) * MS);
        while let Some((index, end)) = self.table.next_expired(now, &mut 256) {
            self.table.end(index, end, &mut HeardEvents(&mut self.heard));
        }
    }

    /// The capture ends.
    pub(super) fn end(&mut self) {
        for index in self.table.indices() {
            self.table.end(index, End::Exit, &mut HeardEvents(&mut self.heard));
        }
    }

    /// How the only connection in the table began.
    pub(super) fn handshake(mut self) -> Handshake {
        let index = self.table.indices()[0];
        *self.table.parts(index).expect("a flow").1
    }

    pub(super) fn flushed(mut self) -> Vec<Heard> {
        let heard = &mut self.heard;
        for index in self.table.indices() {
            self.table.flush(index, |_, _, (), way, chunk| hear(heard, way, chunk));
            self.table.remove(index, End::Exit, None);
        }
        assert_eq!(self.table.buffered_bytes(), 0, "what waited was given back");
        self.heard
    }
}

use Direction::{Forward, Reverse};

pub(super) fn handshake() -> Vec<Sent> {
    vec![
        Sent::data(Forward, 0, 0, b"", 0).flags(TcpFlags::SYN),
        Sent::data(Reverse, 0, 0, b"", 0).flags(TcpFlags::SYN | TcpFlags::ACK),
        Sent::data(Forward, 0, 0, b"", 0),
    ]
}

pub(super) fn after_handshake(rest: &[Sent]) -> Vec<Sent> {
    let mut sent = handshake();
    sent.extend_from_slice(rest);
    sent
}

pub(super) fn bytes(direction: Direction, text: &str) -> Heard {
    Heard::Bytes(direction, text.to_string())
}

#[test]
fn reordered_segments_wait_for_the_hole_before_them() {
    let heard = run(&after_handshake(&[
        Sent::data(Forward, 20, 0, b"last", 1),
        Sent::data(Forward, 10, 0, b"middle....", 1),
        Sent::data(Forward, 0, 0, b"first.....", 1),
    ]));
    assert_eq!(heard.flushed(), [bytes(Forward, "first.....middle....last")]);
}

#[test]
fn the_first_copy_wins() {
    let run = run(&after_handshake(&[
        Sent::data(Forward, 4, 0, b"BBBB", 1),
        Sent::data(Forward, 2, 0, b"ccccccc", 1),
        Sent::data(Forward, 0, 0, b"aaaaaaaa", 1),
        Sent::data(Forward, 0, 0, b"zzzz", 1),
    ]));
    assert_eq!(run.table.stats().bytes_duplicate, 4 + 8 - 2 + 4);
    assert_eq!(run.flushed(), [bytes(Forward, "aaccBBBBc")]);
}

#[test]
fn a_response_waits_for_the_request_it_acknowledges() {
    let heard = run(&after_handshake(&[
        Sent::data(Reverse, 0, 7, b"response", 1),
        Sent::data(Forward, 0, 0, b"request", 2),
    ]));
    assert_eq!(heard.flushed(), [bytes(Forward, "request"), bytes(Reverse, "response")]);
}

#[test]
fn a_retransmission_of_what_we_missed_does_not_wait_for_its_own_answer() {
    // The first copy of the request was not captured; the second already acknowledges the response.
    let heard = run(&after_handshake(&[
        Sent::data(Reverse, 0, 7, b"response", 1),
        Sent::data(Forward, 0, 8, b"request", 2),
    ]));
    assert_eq!(heard.flushed(), [bytes(Forward, "request"), bytes(Reverse, "response")]);
}

#[test]
fn a_hole_is_given_up_once_acknowledged_and_after_the_grace() {
    let mut sent = after_handshake(&[
        Sent::data(Forward, 10, 0, b"behind", 1),
        Sent::data(Reverse, 0, 16, b"", 2),
        Sent::data(Reverse, 0, 16, b"", 12),
    ]);
    assert_eq!(run(&sent).heard, [], "the grace of 10 ms is not over");
    sent.push(Sent::data(Reverse, 0, 16, b"", 13));
    assert_eq!(run(&sent).heard, [Heard::Gap(Forward, 10), bytes(Forward, "behind")]);
    // What comes afterwards is late, even if it is the missing piece itself.
    sent.push(Sent::data(Forward, 0, 0, b"0123456789be", 14));
    sent.push(Sent::data(Forward, 8, 0, b"89behind", 15));
    let late = run(&sent);
    let stats = late.table.stats();
    assert_eq!((stats.gap_bytes, stats.bytes_late, stats.bytes_duplicate), (10, 10, 10));
    assert_eq!(late.flushed(), [Heard::Gap(Forward, 10), bytes(Forward, "behind")]);
}

#[test]
fn a_hole_that_is_not_acknowledged_is_kept_open() {
    let heard = run(&after_handshake(&[
        Sent::data(Forward, 10, 0, b"behind", 1),
        Sent::data(Reverse, 0, 0, b"", 5_000),
        Sent::data(Forward, 0, 0, b"0123456789", 9_000),
    ]));
    assert_eq!(heard.flushed(), [bytes(Forward, "0123456789behind")]);
}

#[test]
fn a_wild_acknowledgement_gives_nothing_up() {
    let heard = run(&after_handshake(&[
        Sent::data(Reverse, 0, 500_000, b"", 1),
        Sent::data(Reverse, 0, 500_000, b"", 50),
        Sent::data(Forward, 0, 0, b"request", 60),
        Sent::data(Reverse, 0, 7, b"response", 70),
        Sent::data(Forward, 7, 8, b"next", 80),
    ]));
    let expected = [bytes(Forward, "request"), bytes(Reverse, "response"), bytes(Forward, "next")];
    assert_eq!(heard.heard, expected);
}

#[test]
fn an_acknowledgement_half_the_numbers_away_is_no_hole() {
    let wild = Sent::data(Reverse, 0, 1 << 31, b"", 1);
    assert_eq!(run(&after_handshake(&[wild])).flushed(), []);
}

#[test]
fn a_segment_that_ends_half_the_numbers_away_does_not_wait() {
    let far = (1 << 31) - 4;
    let heard = run(&after_handshake(&[
        Sent::data(Forward, far, 0, b"forged", 1),
        Sent::data(Forward, 7, 0, b"behind", 2),
        Sent::data(Forward, 0, 0, b"request", 3),
    ]));
    assert_eq!(heard.flushed(), [bytes(Forward, "requestbehind")]);
}

#[test]
fn an_acknowledgement_ahead_of_its_data_leaves_it_the_grace() {
    // On a mirror the acknowledgement may come long before the data, and the data out of order.
    let heard = run(&after_handshake(&[
        Sent::data(Reverse, 0, 14, b"", 1),
        Sent::data(Forward, 7, 0, b"second.", 40),
        Sent::data(Forward, 0, 0, b"first..", 45),
    ]));
    assert_eq!(heard.heard, [bytes(Forward, "first..second.")]);
}

#[test]
fn the_bound_gives_a_hole_up() {
    let limits = FlowConfig { reorder_bytes_max: 1000, ..FlowConfig::default() };
    let mut sent = handshake();
    for index in 0..20 {
        sent.push(Sent::data(Forward, 10 + index * 50, 0, &[b'x'; 50], 1));
    }
    let run = run_with(limits, &sent);
    assert_eq!(run.heard[0], Heard::Gap(Forward, 10));
    assert_eq!(run.table.stats().gaps_at_bound, 1);
    assert_eq!(run.flushed()[1], bytes(Forward, &"x".repeat(1000)));
}

#[test]
fn a_lost_fin_is_no_lost_byte() {
    let heard = run(&after_handshake(&[
        Sent::data(Forward, 0, 0, b"all", 1),
        Sent::data(Reverse, 0, 4, b"", 2),
        Sent::data(Reverse, 0, 4, b"", 100),
    ]));
    assert_eq!(heard.flushed(), [bytes(Forward, "all")]);
}

#[test]
fn a_frame_cut_by_the_snap_length_is_a_gap_behind_its_bytes() {
    let mut cut = Sent::data(Forward, 0, 0, b"head", 1);
    cut.cut_bytes = 96;
    let heard = run(&after_handshake(&[cut, Sent::data(Forward, 100, 0, b"next", 1)]));
    let expected = [bytes(Forward, "head"), Heard::Gap(Forward, 96), bytes(Forward, "next")];
    assert_eq!(heard.flushed(), expected);
}

#[test]
fn a_reset_far_outside_the_window_is_ignored() {
    let heard = run(&after_handshake(&[
        Sent::data(Forward, 0, 0, b"one", 1),
        Sent::data(Forward, 50_000_000, 0, b"", 2).flags(TcpFlags::RST),
        Sent::data(Forward, 3, 0, b"two", 3),
        Sent::data(Forward, 6, 0, b"", 4).flags(TcpFlags::RST),
        Sent::data(Forward, 6, 0, b"after", 5),
    ]));
    assert_eq!(heard.flushed(), [bytes(Forward, "onetwo"), Heard::Reset]);
}

#[test]
fn a_reset_half_the_numbers_away_is_ignored() {
    let forged = Sent::data(Forward, 1 << 31, 0, b"", 1).flags(TcpFlags::RST);
    assert_eq!(run(&after_handshake(&[forged])).heard, []);
}

#[test]
fn half_close_leaves_the_other_direction_open() {
    let heard = run(&after_handshake(&[
        Sent::data(Forward, 0, 0, b"ask", 1).flags(TcpFlags::ACK | TcpFlags::FIN),
        Sent::data(Reverse, 0, 4, b"answer", 2).flags(TcpFlags::ACK | TcpFlags::FIN),
    ]));
    let expected =
        [bytes(Forward, "ask"), Heard::Fin(Forward), bytes(Reverse, "answer"), Heard::Fin(Reverse)];
    assert_eq!(heard.flushed(), expected);
}

#[test]
fn unknown_segments_make_no_flow_unless_they_begin_a_message() {
    let mut one = run(&[Sent::data(Forward, 0, 0, b"\x16\x03\x01 not ours", 1)]);
    assert_eq!((one.table.len(), one.table.stats().segments_unknown), (0, 1));
    one.take(&Sent::data(Forward, 12, 0, b"GET / HTTP/1.1\r\n", 2));
    assert_eq!(one.table.len(), 1);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn the_table_never_holds_more_than_it_may() {
    let limits = FlowConfig { flow_count_max: 100, ..FlowConfig::default() };
    let mut table: FlowTable<()> = FlowTable::new(limits);
    for number in 0..5_000u16 {
        let sent = Sent::data(Forward, 0, 0, b"", 1).flags(TcpFlags::SYN);
        let mut segment = sent.segment();
        segment.key.port[1] = number.to_be_bytes();
        let mut heard = Vec::new();
        let index =
            table.enter(&segment, &mut HeardEvents(&mut heard)).expect("a SYN begins a flow");
        table.accept(index, &segment, |_, _, (), _, _| {});
        assert!(table.len() <= 100);
    }
    assert_eq!(table.stats().flows_evicted, 4_900);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn a_stamp_from_the_future_holds_up_no_other_flow_and_no_memory() {
    let mut table: FlowTable<()> = FlowTable::new(FlowConfig::default());
    for number in 0..1_000u16 {
        let at_ms = if number == 0 { 1_000_000_000 } else { 1 };
        for sent in [
            Sent::data(Forward, 0, 0, b"GET / ", at_ms),
            Sent::data(Forward, 10, 0, b"behind", at_ms),
            Sent::data(Reverse, 0, 16, b"", at_ms),
        ] {
            let mut segment = sent.segment();
            segment.key.port[1] = number.to_be_bytes();
            let mut heard = Vec::new();
            let entered = table.enter(&segment, &mut HeardEvents(&mut heard));
            let Some(index) = entered else { continue };
            table.accept(index, &segment, |_, _, (), _, _| {});
        }
    }
    let mut heard = Vec::new();
    while table.settle_next(TimestampNs(2_000 * MS), &mut 1, &mut HeardEvents(&mut heard)) {}
    assert_eq!(heard.iter().filter(|it| matches!(it, Heard::Gap(..))).count(), 999);
    for index in table.indices() {
        table.remove(index, End::Evicted, None);
    }
    assert_eq!(table.watched_count(), 0);
}

#[test]
fn a_closed_connection_gives_way_to_one_whose_syn_was_not_seen() {
    let closed = after_handshake(&[
        Sent::data(Forward, 0, 0, b"ask", 1).flags(TcpFlags::ACK | TcpFlags::FIN),
        Sent::data(Reverse, 0, 4, b"answer", 2).flags(TcpFlags::ACK | TcpFlags::FIN),
    ]);
    let heard = |rest: &[Sent]| {
        let mut all = closed.clone();
        all.extend_from_slice(rest);
        let run = run(&all);
        let flows = run.table.stats().flows;
        (flows, run.flushed()[4..].to_vec())
    };
    let message = Sent::data(Forward, 900_000, 700_000, b"GET / HTTP/1.1", 5);
    assert_eq!(heard(std::slice::from_ref(&message)), (2, vec![bytes(Forward, "GET / HTTP/1.1")]));
    let answer = Sent::data(Reverse, 700_000, 900_000, b"", 4);
    let answered = [answer.flags(TcpFlags::SYN | TcpFlags::ACK), message];
    assert_eq!(heard(&answered), (2, vec![bytes(Forward, "GET / HTTP/1.1")]));
    let late = Sent::data(Reverse, 0, 4, b"answer", 6).flags(TcpFlags::ACK | TcpFlags::FIN);
    let late_syn_ack = Sent::data(Reverse, 0, 0, b"", 6).flags(TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(heard(&[late, late_syn_ack]), (1, vec![]));
}

#[test]
fn a_syn_before_the_last_fin_begins_the_next_connection() {
    let run = run(&after_handshake(&[
        Sent::data(Forward, 0, 0, b"ask", 1).flags(TcpFlags::ACK | TcpFlags::FIN),
        Sent::data(Forward, 900_000, 0, b"", 2).flags(TcpFlags::SYN),
        Sent::data(Reverse, 0, 4, b"answer", 2).flags(TcpFlags::ACK | TcpFlags::FIN),
        Sent::data(Reverse, 700_000, 900_000, b"", 3).flags(TcpFlags::SYN | TcpFlags::ACK),
    ]));
    assert_eq!(run.table.stats().flows, 2);
    let handshake = run.handshake();
    assert_eq!(handshake.client_isn.get(), Some(SeqNumber(FORWARD_ISN).plus(900_000)));
    assert_eq!(handshake.connect_ns(), Some(MS));
}

/// A dialogue as it was sent: turns of bytes, alternating between the directions.
fn dialogue() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(b'a'..=b'z', 1..200), 1..12)
}

/// Cuts each turn into segments of arbitrary size, with the acknowledgements a real endpoint would
/// send.
fn segments_of(turns: &[Vec<u8>], cuts: &[usize]) -> Vec<Sent> {
    let mut offsets = [0u32; 2];
    let mut cuts = cuts.iter().cycle();
    let mut sent = Vec::new();
    for (turn, bytes) in turns.iter().enumerate() {
        let direction = if turn.is_multiple_of(2) { Forward } else { Reverse };
        let own = direction.index();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let size = (*cuts.next().unwrap_or(&1)).clamp(1, rest.len());
            let (piece, behind) = rest.split_at(size);
            sent.push(Sent::data(direction, offsets[own], offsets[1 - own], piece, 1));
            offsets[own] += size as u32;
            rest = behind;
        }
    }
    sent
}

fn heard_of(turns: &[Vec<u8>]) -> Vec<Heard> {
    let way = |turn: usize| if turn.is_multiple_of(2) { Forward } else { Reverse };
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    turns.iter().enumerate().map(|(turn, bytes)| Heard::Bytes(way(turn), text(bytes))).collect()
}

proptest! {
    /// In whatever order and number of copies the segments arrive, the dialogue is delivered as it
    /// was held: turn after turn, both directions in order.
    #[test]
    fn any_order_and_duplication_gives_the_dialogue(
        turns in dialogue(),
        cuts in prop::collection::vec(1usize..80, 1..20),
        keys in prop::collection::vec(any::<u32>(), 1..400),
        copies in prop::collection::vec(0usize..3, 1..50),
    ) {
        let original = segments_of(&turns, &cuts);
        let mut sent: Vec<(u32, Sent)> = Vec::new();
        for (index, one) in original.iter().enumerate() {
            for copy in 0..=copies[index % copies.len()] {
                sent.push((keys[(index * 7 + copy * 3) % keys.len()], one.clone()));
            }
        }
        sent.sort_by_key(|(key, _)| *key);
        let shuffled: Vec<Sent> = sent.into_iter().map(|(_, one)| one).collect();
        let run = run(&after_handshake(&shuffled));
        prop_assert_eq!(run.heard.clone(), heard_of(&turns));
        prop_assert_eq!(run.flushed(), heard_of(&turns));
    }

    /// Overlaps with equal data, but other borders, change nothing.
    #[test]
    fn overlaps_by_equal_data_change_nothing(
        stream in prop::collection::vec(b'a'..=b'z', 1..400),
        pieces in prop::collection::vec((0usize..400, 1usize..120), 0..60),
    ) {
        let mut sent: Vec<Sent> = Vec::new();
        for (start, len) in pieces {
            let start = start.min(stream.len() - 1);
            let end = (start + len).min(stream.len());
            sent.push(Sent::data(Forward, start as u32, 0, &stream[start..end], 1));
        }
        sent.push(Sent::data(Forward, 0, 0, &stream, 1));
        let run = run(&after_handshake(&sent));
        prop_assert_eq!(run.table.stats().bytes_in_order, stream.len() as u64);
        prop_assert_eq!(run.flushed(), heard_of(&[stream]));
    }

    /// With losses, the stream is delivered in order, with gaps of exactly the lost bytes.
    #[test]
    fn losses_are_told_to_the_byte(
        turns in dialogue(),
        cuts in prop::collection::vec(1usize..80, 1..20),
        lost in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let original = segments_of(&turns, &cuts);
        let mut totals = [0u32; 2];
        for one in &original {
            totals[one.direction.index()] = one.offset + one.payload.len() as u32;
        }
        let kept = original.iter().enumerate().filter(|(index, _)| !lost[index % lost.len()]);
        let mut sent = after_handshake(&kept.map(|(_, one)| one.clone()).collect::<Vec<_>>());
        sent.push(Sent::data(Forward, totals[0], totals[1], b"", 100));
        sent.push(Sent::data(Reverse, totals[1], totals[0], b"", 100));
        let mut seen = [0u64; 2];
        for heard in run(&sent).flushed() {
            match heard {
                Heard::Bytes(way, text) => {
                    let offset = seen[way.index()] as usize;
                    let mut all = Vec::new();
                    for (turn, bytes) in turns.iter().enumerate() {
                        if turn % 2 == way.index() {
                            all.extend_from_slice(bytes);
                        }
                    }
                    prop_assert_eq!(text.as_bytes(), &all[offset..offset + text.len()]);
                    seen[way.index()] += text.len() as u64;
                }
                Heard::Gap(way, len_bytes) | Heard::Elided(way, len_bytes) => {
                    seen[way.index()] += len_bytes;
                }
                Heard::Fin(_) | Heard::Reset => {}
            }
        }
        // A single byte at the very end may as well have been a FIN, and is not reported.
        for way in 0..2 {
            prop_assert!(u64::from(totals[way]) - seen[way] <= 1);
        }
    }
}
