//! Segments of a few connections, through a flow table.

use httplines::config::FlowConfig;
use httplines::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use httplines::flow::{Admission, Chunk, End, FlowIndex, FlowTable};
use httplines::ids::{Direction, FlowKey, IfaceId};
use httplines::time::TimestampNs;

const MS: u64 = 1_000_000;

/// The byte at an offset of any honest stream: lines that begin like messages, each its own.
fn content(offset: u32) -> u8 {
    let line = (offset / 16) as u8;
    match offset % 16 {
        5 => line | 0x80,
        lane => b"GET / HTTP/1.1\r\n"[lane as usize],
    }
}

/// One end of a connection that keeps to the rules: how far it has sent, and whether it closed.
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

/// How far each direction of a flow went on, in bytes and gaps.
#[derive(Debug, Default)]
struct Passed([Option<SeqNumber>; 2]);

/// Segments of four connections on their way through a flow table. Honest ends send each byte once
/// or again the same, and acknowledge nothing that was not sent; wild ones say anything.
#[derive(Debug)]
pub struct Segments {
    table: FlowTable<Passed>,
    watch: Watch,
    now_ms: u64,
}

/// What is known of what was sent, and what was heard of it.
#[derive(Debug)]
struct Watch {
    is_honest: bool,
    senders: [[Sender; 2]; 4],
    heard_bytes: u64,
    gap_bytes: u64,
}

impl Watch {
    const ISN: [u32; 2] = [u32::MAX - 600, 5_000];

    fn hear(&mut self, key: &FlowKey, passed: &mut Passed, way: Direction, chunk: Chunk<'_>) {
        let (at, len) = match chunk {
            Chunk::Bytes(bytes, origin) => (origin.seq, bytes.len() as u64),
            Chunk::Gap { len_bytes, at } => (at, len_bytes),
            Chunk::Fin | Chunk::Reset => return,
        };
        assert!(len > 0, "an empty chunk");
        let next = &mut passed.0[way.index()];
        assert_eq!(next.unwrap_or(at), at, "a chunk is not behind the one before");
        *next = Some(at.plus(len as u32));
        let offset = at.0.wrapping_sub(Self::ISN[way.index()]).wrapping_sub(1);
        if self.is_honest {
            let sender = self.senders[usize::from(key.port[0][1]) - 1][way.index()];
            let end = u64::from(offset) + len;
            assert!(end <= u64::from(sender.reach()), "{end} passed of {sender:?}");
        }
        match chunk {
            Chunk::Bytes(bytes, _) => {
                let own =
                    (offset..).map(content).take(if self.is_honest { bytes.len() } else { 0 });
                assert!(own.zip(bytes).all(|(own, byte)| own == *byte), "bytes of elsewhere");
                self.heard_bytes += len;
            }
            _ => self.gap_bytes += len,
        }
    }
}

impl Segments {
    /// Bits of `mode`: wild ends; narrow bounds.
    pub fn new(mode: u8) -> Segments {
        let mut limits = FlowConfig { idle_timeout_ms: 2_000, ..FlowConfig::default() };
        limits.closed_timeout_ms = 100;
        if mode & 2 != 0 {
            limits.flow_count_max = 3;
            (limits.reorder_bytes_max, limits.reorder_bytes_shard_max) = (1_500, 2_500);
        }
        let senders = [[Sender::default(); 2]; 4];
        let watch = Watch { is_honest: mode & 1 == 0, senders, heard_bytes: 0, gap_bytes: 0 };
        Segments { table: FlowTable::new(limits), watch, now_ms: 1_000 }
    }

    /// A step of the script. The first byte says which way, whose and what; bits of the third
    /// say how.
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
        let is_ack = if is_syn { own == 1 } else { how & 2 == 0 };
        let flags = bit(is_syn, TcpFlags::SYN)
            | bit(is_fin, TcpFlags::FIN)
            | bit(is_rst, TcpFlags::RST)
            | bit(is_ack, TcpFlags::ACK);
        let payload: Vec<u8> = (start..start + len).map(content).collect();
        let captured = if how & 32 != 0 { payload.len() / 2 } else { payload.len() };
        let acked = if is_syn { 0 } else { peer_reach - (u32::from(lag) * 8).min(peer_reach) };
        let seq = SeqNumber(Watch::ISN[own]).plus(if is_syn { 0 } else { 1 + start });
        let back_ms = if how & 4 != 0 { u64::from(ms) } else { 0 };
        let mut segment = Segment {
            key: FlowKey { port: [[0, number + 1], [1, 1]], ..FlowKey::default() },
            direction: way,
            seq,
            ack: is_ack.then_some(SeqNumber(Watch::ISN[peer]).plus(1 + acked)),
            flags: TcpFlags(flags),
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
        }
        self.take(&segment);
        if how & 8 != 0 {
            self.tidy();
        }
    }

    fn take(&mut self, segment: &Segment<'_>) {
        let index = loop {
            match self.table.admit(segment) {
                Admission::Flow(index) => break index,
                Admission::Ended(index, end) => self.end(index, end, Some(segment)),
                Admission::Unknown => return,
            }
        };
        let watch = &mut self.watch;
        self.table.accept(index, segment, |key, _, passed, way, chunk| {
            watch.hear(key, passed, way, chunk);
        });
    }

    fn tidy(&mut self) {
        let (now, watch) = (TimestampNs(self.now_ms * MS), &mut self.watch);
        self.table.settle(now, |key, _, passed, way, chunk| watch.hear(key, passed, way, chunk));
        let mut effort = 8;
        while let Some((index, end)) = self.table.next_expired(now, &mut effort) {
            self.end(index, end, None);
        }
    }

    fn end(&mut self, index: FlowIndex, end: End, segment: Option<&Segment<'_>>) {
        let watch = &mut self.watch;
        self.table.flush(index, |key, _, passed, way, chunk| watch.hear(key, passed, way, chunk));
        self.table.remove(index, end, segment);
    }

    /// The end of the capture: nothing waits any more, and the counters tell what was heard.
    pub fn finish(mut self) {
        for index in self.table.indices() {
            self.end(index, End::Exit, None);
        }
        assert!(self.table.is_empty());
        assert_eq!(self.table.waiting_bytes(), 0, "what waited was not given back");
        let stats = &self.table.stats;
        assert_eq!(stats.bytes_in_order, self.watch.heard_bytes);
        assert_eq!(stats.gap_bytes + stats.bytes_cut, self.watch.gap_bytes);
    }
}
