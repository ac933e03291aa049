//! Passes segments of a few connections through a flow table.

use httplines::config::FlowConfig;
use httplines::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use httplines::flow::{Chunk, End, FlowEvents, FlowTable, Handshake};
use httplines::ids::{Direction, FlowKey, IfaceId};
use httplines::time::TimestampNs;
use std::collections::VecDeque;

const MS: u64 = 1_000_000;

/// How far behind the segment with which a connection is joined its others may lie.
const JOIN_WINDOW_BYTES: i32 = 1 << 20;

/// The byte at an offset of any honest stream: lines that begin like messages, each of them
/// different.
fn content(offset: u32) -> u8 {
    let line = (offset / 16) as u8;
    match offset % 16 {
        5 => line | 0x80,
        lane => b"GET / HTTP/1.1\r\n"[lane as usize],
    }
}

/// The header of a SYN whose windows are scaled by 2^14: they are wide enough for all steps.
const SCALED: [u8; 24] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 14, 0];

/// One end of an honest connection: how far it has sent, and whether it closed.
#[derive(Clone, Copy, Debug, Default)]
struct Sender {
    sent: u32,
    is_closed: bool,
}

impl Sender {
    /// The highest number that the other end may acknowledge.
    fn reach(self) -> u32 {
        self.sent + u32::from(self.is_closed)
    }
}

/// Offsets of a stream, from one to before another.
type Part = std::ops::Range<u32>;

/// The test's knowledge of one direction of a flow.
#[derive(Debug, Default)]
struct Passed {
    /// How far it was delivered, in bytes and gaps.
    next: Option<SeqNumber>,
    /// Parts that were captured, and parts that the snap length cut.
    taken: Vec<Part>,
    cut: Vec<Part>,
    is_reset: bool,
}

/// Passes segments of four connections through a flow table. Honest ends send each byte once or
/// repeat it unchanged, and acknowledge nothing that was not sent. Wild ends send anything.
#[derive(Debug)]
pub struct Segments {
    table: FlowTable<[Passed; 2]>,
    watch: Watch,
    mode: u8,
    is_tidied: bool,
    limits: FlowConfig,
    now_ms: u64,
}

/// A segment of an unknown connection.
#[derive(Debug)]
struct Unknown {
    key: FlowKey,
    way: Direction,
    at: SeqNumber,
    len_bytes: u64,
    /// Bytes behind them that the snap length cut.
    cut_bytes: u32,
    timestamp: TimestampNs,
}

/// What was sent, and what the flow table delivered.
#[derive(Debug)]
struct Watch {
    is_honest: bool,
    senders: [[Sender; 2]; 4],
    taken_bytes: u64,
    /// Segments of unknown connections that look like text.
    unknown: VecDeque<Unknown>,
    heard_bytes: u64,
    gap_bytes: u64,
    heard: [Vec<String>; 4],
}

impl Watch {
    const ISN: [u32; 2] = [u32::MAX - 600, 5_000];

    fn offset(seq: SeqNumber, way: Direction) -> u32 {
        seq.0.wrapping_sub(Self::ISN[way.index()]).wrapping_sub(1)
    }

    fn hear(&mut self, key: &FlowKey, passed: &mut [Passed; 2], way: Direction, chunk: Chunk<'_>) {
        let number = usize::from(key.port[0][1]) - 1;
        self.heard[number].push(match chunk {
            Chunk::Bytes(bytes, meta) | Chunk::BytesWithCopies(bytes, meta, _) => {
                let sum =
                    bytes.iter().fold(0u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
                format!("{way:?} {} bytes {sum} {meta:?}", bytes.len())
            }
            other => format!("{way:?} {other:?}"),
        });
        let passed = &mut passed[way.index()];
        let (at, len) = match chunk {
            Chunk::Bytes(bytes, meta) | Chunk::BytesWithCopies(bytes, meta, _) => {
                (meta.seq, bytes.len() as u64)
            }
            Chunk::Gap { len_bytes, at } => (at, len_bytes),
            Chunk::Copy(..) | Chunk::Retransmitted { .. } => return,
            Chunk::Elided { .. } => panic!("bytes were elided that nobody granted"),
            Chunk::Reset => return passed.is_reset = true,
            Chunk::Closing(_) | Chunk::Fin => return,
        };
        if len == 0 && !self.is_honest {
            // Both sides have confirmed numbers that are behind: the stream begins again there.
            return passed.next = None;
        }
        assert!(len > 0, "an empty chunk");
        assert_eq!(passed.next.unwrap_or(at), at, "a chunk is not behind the one before");
        passed.next = Some(at.plus(len as u32));
        match chunk {
            Chunk::Bytes(..) | Chunk::BytesWithCopies(..) => self.heard_bytes += len,
            _ => self.gap_bytes += len,
        }
        if self.is_honest {
            let start = Self::offset(at, way);
            let sender = self.senders[number][way.index()];
            let end = u64::from(start) + len;
            assert!(end <= u64::from(sender.reach()), "{end} passed of {sender:?}");
            Self::check_honest(passed, start..end as u32, chunk);
        }
    }

    /// Delivered bytes are those that were sent, and a gap covers no captured bytes.
    fn check_honest(passed: &Passed, part: Part, chunk: Chunk<'_>) {
        let overlaps = |other: &Part| other.start < part.end && part.start < other.end;
        if let Chunk::Bytes(bytes, _) | Chunk::BytesWithCopies(bytes, ..) = chunk {
            assert!((part.start..).map(content).zip(bytes).all(|(own, byte)| own == *byte));
        } else if !passed.cut.iter().any(overlaps) {
            assert!(!passed.taken.iter().any(overlaps), "{part:?} was captured, not lost");
        }
    }

    /// At the end of a flow, everything that was captured has been delivered.
    fn check_whole(&self, passed: &[Passed; 2]) {
        if !self.is_honest || passed.iter().any(|passed| passed.is_reset) {
            return;
        }
        for (way, passed) in [Direction::Forward, Direction::Reverse].into_iter().zip(passed) {
            // If nothing was delivered, nothing was captured after the start of tracking.
            let Some(next) = passed.next else { continue };
            let end = Self::offset(next, way);
            assert!(passed.taken.iter().all(|part| part.end <= end), "not all passed: {passed:?}");
        }
    }
}

impl FlowEvents<[Passed; 2]> for Watch {
    fn chunk(
        &mut self,
        key: &FlowKey,
        _: &Handshake,
        passed: &mut [Passed; 2],
        way: Direction,
        chunk: Chunk<'_>,
    ) {
        self.hear(key, passed, way, chunk);
    }

    fn ended(&mut self, _: &FlowKey, _: &Handshake, passed: &mut [Passed; 2], _: End) {
        self.check_whole(passed);
    }
}

impl Segments {
    /// Bits of `mode`: wild ends; narrow bounds; timestamps in order. With `is_tidied`, holes and
    /// timeouts are also swept now and then between segments.
    pub fn new(mode: u8, is_tidied: bool) -> Segments {
        let mut limits = FlowConfig { idle_timeout_ms: 2_000, ..FlowConfig::default() };
        limits.closed_timeout_ms = 100;
        if mode & 2 != 0 {
            limits.flow_count_max = 3;
            (limits.reorder_bytes_max, limits.reorder_bytes_shard_max) = (1_500, 2_500);
        }
        let senders = [[Sender::default(); 2]; 4];
        let watch = Watch {
            is_honest: mode & 1 == 0,
            senders,
            taken_bytes: 0,
            unknown: VecDeque::new(),
            heard_bytes: 0,
            gap_bytes: 0,
            heard: Default::default(),
        };
        let table = FlowTable::new(limits.clone());
        Segments { table, watch, mode, is_tidied, limits, now_ms: 1_000 }
    }

    /// Whether the result depends on each connection's own packets only: nothing is given up for
    /// lack of memory, and packet time does not run backwards.
    pub fn is_independent(mode: u8) -> bool {
        mode & 6 == 4
    }

    /// A step of the script. The first byte selects direction, connection and action; bits of the
    /// third modify it.
    pub fn step(&mut self, step: [u8; 6]) {
        let [what, back, how, len, lag, ms] = step;
        self.now_ms += u64::from(ms) * if how & 16 != 0 { 16 } else { 1 };
        let way = if what & 1 == 0 { Direction::Forward } else { Direction::Reverse };
        let number = what >> 1 & 3;
        let (own, peer) = (way.index(), way.opposite().index());
        let senders = &mut self.watch.senders[usize::from(number)];
        let peer_reach = senders[peer].reach();
        let sender = &mut senders[own];
        let start = sender.sent - (u32::from(back) * 8).min(sender.sent);
        let (is_syn, is_rst) = (what & 16 != 0, what & 64 != 0);
        let mut len = u32::from(len) * if how & 1 != 0 { 40 } else { 1 };
        if sender.is_closed {
            len = len.min(sender.sent - start);
        }
        len = if is_syn || is_rst { 0 } else { len };
        sender.sent = sender.sent.max(start + len);
        let is_fin = what & 32 != 0 && !is_syn && !is_rst && start + len == sender.sent;
        sender.is_closed |= is_fin;
        if what & 8 != 0 {
            return; // It was lost.
        }
        let bit = |is_set, flag| if is_set { flag } else { 0 };
        let is_ack = if is_syn { own == 1 } else { how & 2 == 0 || self.watch.is_honest };
        let flags = bit(is_syn, TcpFlags::SYN)
            | bit(is_fin, TcpFlags::FIN)
            | bit(is_rst, TcpFlags::RST)
            | bit(is_ack, TcpFlags::ACK);
        let payload: Vec<u8> = (start..start + len).map(content).collect();
        let captured = if how & 32 != 0 { payload.len() / 2 } else { payload.len() };
        let acked = if is_syn { 0 } else { peer_reach - (u32::from(lag) * 8).min(peer_reach) };
        let seq = SeqNumber(Watch::ISN[own]).plus(if is_syn { 0 } else { 1 + start });
        let back_ms = if how & 4 != 0 && self.mode & 4 == 0 { u64::from(ms) } else { 0 };
        let mut segment = Segment {
            key: FlowKey { port: [[0, number + 1], [1, 1]], ..FlowKey::default() },
            direction: way,
            seq,
            ack: is_ack.then_some(SeqNumber(Watch::ISN[peer]).plus(1 + acked)),
            flags: TcpFlags(flags),
            window: 65_535,
            header: if is_syn { &SCALED } else { &[] },
            is_checksum_trusted: false,
            payload: &payload[..captured],
            payload_wire_bytes: len,
            timestamp: TimestampNs((self.now_ms - back_ms) * MS),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
        };
        if !self.watch.is_honest && how & 64 != 0 {
            segment.seq = SeqNumber(u32::from_be_bytes([back, lag, how, what]));
            segment.ack = segment.ack.map(|ack| ack.plus(u32::from_be_bytes([lag, back, ms, 0])));
            segment.flags = TcpFlags(flags ^ ms);
            segment.payload_wire_bytes += u32::from(ms) << (how & 31);
            if segment.flags.is_rst() {
                segment.payload = &[];
            }
        }
        self.take(&segment);
        let (watch, mut effort) = (&mut self.watch, 8);
        while self.table.is_short()
            && self.table.relieve(segment.timestamp, &mut effort, |key, _, passed, way, chunk| {
                watch.hear(key, passed, way, chunk);
            })
        {}
        if how & 8 != 0 && self.is_tidied {
            self.tidy();
        }
        assert!(self.table.len() <= self.limits.flow_count_max);
        assert!(self.table.buffered_bytes() <= self.limits.reorder_bytes_shard_max);
    }

    fn take(&mut self, segment: &Segment<'_>) {
        let unknown_count = self.table.stats().left_unknown();
        let entered = self.table.enter(segment, &mut self.watch);
        let watch = &mut self.watch;
        let len_bytes = segment.payload.len() as u64;
        let grace_ns = self.limits.reorder_grace_ms * MS;
        let since = TimestampNs(segment.timestamp.0.saturating_sub(grace_ns));
        let mut adopted_cuts: Vec<Part> = Vec::new();
        match self.table.stats().left_unknown().checked_sub(unknown_count) {
            Some(0) => watch.taken_bytes += len_bytes,
            Some(_) => {
                let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
                let begin = &segment.payload[..segment.payload.len().min(16)];
                if (1..=2048).contains(&len_bytes) && begin.iter().all(is_text) {
                    let is_old = |it: &Unknown| it.timestamp < since;
                    while watch.unknown.len() == 256 || watch.unknown.front().is_some_and(is_old) {
                        watch.unknown.pop_front();
                    }
                    watch.unknown.push_back(Unknown {
                        key: segment.key,
                        way: segment.direction,
                        at: segment.payload_seq(),
                        len_bytes,
                        cut_bytes: segment.payload_wire_bytes - len_bytes as u32,
                        timestamp: segment.timestamp,
                    });
                }
            }
            // It begins a connection to which earlier ones belong: those that came within the grace
            // and lie behind it, not too far.
            None => {
                let mut adopted = unknown_count - self.table.stats().left_unknown();
                watch.taken_bytes += len_bytes;
                watch.unknown.retain(|it| {
                    let distance = it.at.distance(segment.payload_end());
                    let is_adopted = adopted > 0
                        && it.key == segment.key
                        && it.way == segment.direction
                        && it.timestamp >= since
                        && (0..JOIN_WINDOW_BYTES).contains(&distance);
                    adopted -= u64::from(is_adopted);
                    if is_adopted {
                        watch.taken_bytes += it.len_bytes;
                        let start = Watch::offset(it.at, it.way).wrapping_add(it.len_bytes as u32);
                        let cut = start..start.wrapping_add(it.cut_bytes);
                        adopted_cuts.extend((it.cut_bytes > 0).then_some(cut));
                    }
                    !is_adopted
                });
                assert_eq!(adopted, 0, "segments were adopted that did not fit");
            }
        }
        let Some(index) = entered else { return };
        if let Some((_, _, passed)) = self.table.parts(index) {
            passed[segment.direction.index()].cut.extend(adopted_cuts);
        }
        self.table.accept(index, segment, |key, _, passed, way, chunk| {
            watch.hear(key, passed, way, chunk);
        });
        // This comes last, because the segment may first have shown that the grace period of a hole
        // was over.
        if let Some((_, _, passed)) = self.table.parts(index) {
            let start = Watch::offset(segment.payload_seq(), segment.direction);
            let middle = start.wrapping_add(segment.payload.len() as u32);
            let passed = &mut passed[segment.direction.index()];
            let end = start.wrapping_add(segment.payload_wire_bytes);
            passed.taken.extend((start < middle).then_some(start..middle));
            passed.cut.extend((middle < end).then_some(middle..end));
        }
    }

    fn tidy(&mut self) {
        let (now, watch) = (TimestampNs(self.now_ms * MS), &mut self.watch);
        while self.table.settle_next(now, &mut 1, watch) {}
        let mut effort = 8;
        while let Some((index, end)) = self.table.next_expired(now, &mut effort) {
            self.table.end(index, end, &mut self.watch);
        }
    }

    /// The end of the capture: nothing waits any more, and the counters match the delivered data.
    /// Returns the deliveries by connection.
    pub fn finish(mut self) -> [Vec<String>; 4] {
        for index in self.table.indices() {
            self.table.end(index, End::Exit, &mut self.watch);
        }
        assert!(self.table.is_empty());
        assert_eq!(self.table.buffered_bytes(), 0, "what waited was not given back");
        let stats = self.table.stats();
        assert_eq!(stats.bytes_in_order, self.watch.heard_bytes);
        assert_eq!(stats.gap_bytes + stats.bytes_cut, self.watch.gap_bytes);
        let told = stats.bytes_in_order + stats.bytes_duplicate + stats.bytes_late;
        let told = told + stats.bytes_refused - stats.bytes_readmitted;
        assert_eq!(told, self.watch.taken_bytes, "in order, duplicate, late and refused");
        self.watch.heard
    }
}
