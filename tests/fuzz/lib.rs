//! What the fuzz targets share: scripts of bytes, and what must hold whatever they say. A target
//! panics where it does not.

use httplines::capture::pcap::PcapSource;
use httplines::capture::{Frame, FrameSource, LinkType, Polled, VlanTag};
use httplines::config::{EmitConfig, FlowConfig, HttpConfig};
use httplines::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use httplines::emit::{Format, JsonFormat};
use httplines::flow::{Admission, Chunk, End, FlowIndex, FlowTable, Origin, Origins};
use httplines::http::{
    Conversation, Exchange, ExchangePool, FlowIdentity, Listener, Message, Room, Wire,
};
use httplines::ids::{Direction, FlowKey, IfaceId, IfaceNames};
use httplines::stats::HttpStats;
use httplines::time::TimestampNs;
use std::io::{ErrorKind, Read};

const MS: u64 = 1_000_000;

/// The pieces of an input. A mark and no lengths: what is cut or put in leaves the rest as it was.
pub fn pieces<'a>(data: &'a [u8], mark: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let piece = rest?;
        let at = piece.windows(mark.len()).position(|window| window == mark);
        rest = at.map(|at| &piece[at + mark.len()..]);
        Some(&piece[..at.unwrap_or(piece.len())])
    })
}

/// A reader that gives a few bytes at a time, and every now and then nothing yet.
#[derive(Debug)]
struct Trickle<'a>(&'a [u8], usize, bool);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.2 = !self.2;
        if self.2 && self.1 < 4 {
            return Err(ErrorKind::Interrupted.into());
        }
        let limit = self.1.min(into.len());
        self.0.read(&mut into[..limit])
    }
}

/// The frames of a capture and how it ended, as text; `None` where it is none.
pub fn capture_of(data: &[u8], read_bytes: usize) -> Option<(Vec<String>, String)> {
    let reader = Trickle(data, read_bytes, false);
    let names = IfaceNames::default();
    let mut source = PcapSource::new(reader, read_bytes.min(4096), &names).ok()?;
    let mut frames = Vec::new();
    loop {
        let polled = source.poll(&mut |frame| {
            assert!(frame.wire_bytes as usize >= frame.bytes.len());
            frames.push(format!("{frame:?}"));
        });
        match polled {
            Ok(Polled::End) => return Some((frames, String::new())),
            Err(error) => return Some((frames, error.to_string())),
            Ok(_) => {}
        }
    }
}

/// A frame of a script: its link type, bits (a tag that was taken out, what the snap length cut),
/// then its bytes.
pub fn frame_of(number: u64, piece: &[u8]) -> Option<Frame<'_>> {
    let [link, bits, bytes @ ..] = piece else { return None };
    let cut_bytes = if bits & 2 == 0 { 0 } else { 1 << (bits >> 3) };
    Some(Frame {
        bytes,
        wire_bytes: (bytes.len() as u32).saturating_add(cut_bytes),
        timestamp: TimestampNs(number * 7_000 * MS),
        link: LinkType::from_file(if *link == 255 { 276 } else { (*link).into() }),
        vlan: (bits & 1 != 0).then_some(VlanTag { tci: (*bits).into(), tpid: 0x8100 }),
        iface: IfaceId(0),
    })
}

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
            // Nothing is granted here.
            Chunk::Elided { .. } => panic!("bytes were elided that nobody granted"),
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

/// Hears of a conversation and counts.
#[derive(Debug, Default)]
struct Tally {
    request_heads: Vec<Vec<u8>>,
    exchange_heads: Vec<Vec<u8>>,
    exchanges: u64,
}

impl Listener for Tally {
    fn message(&mut self, _flow: &FlowIdentity<'_>, message: &Message, _when: TimestampNs) {
        assert!(message.is_seen);
        if message.status == 0 {
            self.request_heads.push(message.head.clone());
        }
    }

    fn exchange(&mut self, _flow: &FlowIdentity<'_>, exchange: &Exchange) {
        self.exchanges += 1;
        assert!(exchange.outcome.is_some());
        let (request, response) = (exchange.request.is_seen, exchange.response.is_seen);
        assert!(request || response || !exchange.interim.is_empty(), "an exchange of nothing");
        if exchange.request.is_seen {
            self.exchange_heads.push(exchange.request.head.clone());
        }
    }
}

/// A conversation, piece by piece.
#[derive(Debug)]
pub struct Talk {
    conversation: Conversation,
    room: Room<Tally>,
    origins: Origins,
    sent: [u32; 2],
    now_ms: u64,
}

impl Talk {
    /// Bits of `mode`: joined late; narrow bounds.
    pub fn new(mode: u8) -> Talk {
        let mut limits = HttpConfig::default();
        if mode & 2 != 0 {
            limits = HttpConfig {
                head_bytes_max: 1024,
                pending_count_max: 3,
                held_bytes_shard_max: 8192,
            };
        }
        let client_isn = (mode & 1 == 0).then_some(SeqNumber(0));
        let origins = Origins { client: None, client_isn, ..Origins::default() };
        let (pool, stats) = (ExchangePool::default(), HttpStats::default());
        let room = Room { limits, pool, stats, listener: Tally::default() };
        Talk { conversation: Conversation::default(), room, origins, sent: [0; 2], now_ms: 0 }
    }

    /// A piece of the script. Its first byte says what it is, in letters: `@` and `A` are bytes of
    /// the one and the other direction, `D` and `E` gaps, `F` and `G` ends; 8 more: in the middle
    /// of a frame; 16 more: without acknowledgement; 32 more: it acknowledges half.
    /// False where the connection is over.
    pub fn step(&mut self, piece: &[u8]) -> bool {
        let Some((&what, bytes)) = piece.split_first() else { return true };
        self.now_ms += 1;
        let way = if what & 1 == 0 { Direction::Forward } else { Direction::Reverse };
        let at = SeqNumber(self.sent[way.index()]);
        let peer_sent = self.sent[way.opposite().index()];
        let acked = if what & 32 != 0 { peer_sent / 2 } else { peer_sent };
        let origin = Origin {
            timestamp: TimestampNs(self.now_ms * MS),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: (what & 16 == 0).then_some(SeqNumber(acked)),
            seq: at,
            is_frame_start: what & 8 == 0,
        };
        let is_reset = what & 6 == 6 && bytes == b"R";
        let (chunk, len) = match what >> 1 & 3 {
            0 | 1 if bytes.is_empty() => return true,
            0 | 1 => (Chunk::Bytes(bytes, origin), bytes.len() as u32),
            2 => {
                let len = bytes.iter().take(3).fold(0, |sum, byte| sum << 7 | u32::from(*byte));
                (Chunk::Gap { len_bytes: u64::from(len) + 1, at }, len + 1)
            }
            _ if is_reset => (Chunk::Reset, 0),
            _ => (Chunk::Fin, 0),
        };
        self.sent[way.index()] += len;
        let key = FlowKey::default();
        let wire = Wire { key: &key, origins: &self.origins };
        self.conversation.take(wire, way, chunk, &mut self.room);
        !is_reset
    }

    /// The end of the connection: nothing is held any more, and each request was told once.
    pub fn finish(mut self) {
        let key = FlowKey::default();
        let wire = Wire { key: &key, origins: &self.origins };
        self.conversation.finish(wire, End::Exit, &mut self.room);
        let (pool, stats, mut tally) = (&self.room.pool, &self.room.stats, self.room.listener);
        assert_eq!(pool.in_use(), 0, "an exchange was not given back");
        assert_eq!(pool.held_bytes(), 0, "bytes were not given back");
        assert_eq!(stats.requests, tally.request_heads.len() as u64);
        let outcomes = stats.exchanges_complete
            + stats.exchanges_no_response
            + stats.exchanges_no_request
            + stats.exchanges_truncated;
        assert_eq!(outcomes, tally.exchanges);
        tally.request_heads.sort();
        tally.exchange_heads.sort();
        assert_eq!(tally.request_heads, tally.exchange_heads, "requests and exchanges");
    }
}

/// Values out of an input; nothing but zeros behind its end.
#[derive(Debug)]
pub struct Values<'a>(pub &'a [u8]);

impl Values<'_> {
    fn number<const N: usize>(&mut self) -> [u8; N] {
        let count = N.min(self.0.len());
        let mut number = [0; N];
        number[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        number
    }

    /// Bytes of any length: a few of the input, and those again and again.
    pub fn bytes(&mut self) -> Vec<u8> {
        let [len, times] = self.number();
        let (own, rest) = self.0.split_at(usize::from(len).min(self.0.len()));
        self.0 = rest;
        own.repeat(1 + usize::from(times & 0x1f).pow(2) * usize::from(times >> 7))
    }
}

/// A line within its bound, of an exchange whose other fields are any values.
pub fn line_of(exchange: &mut Exchange, values: &mut Values<'_>) -> Vec<u8> {
    let [mode, interim, masks, port] = values.number();
    for time in [
        &mut exchange.request.first,
        &mut exchange.request.last,
        &mut exchange.response.first,
        &mut exchange.response.last,
    ] {
        *time = (mode & 1 == 0).then(|| TimestampNs(u64::from_be_bytes(values.number())));
    }
    exchange.interim = vec![u16::from(interim) * 257; usize::from(interim & 0x1f)];
    (exchange.n, exchange.response.status) = (mode.into(), u16::from(masks) * 257);
    exchange.gap_bytes = u64::from_be_bytes(values.number());
    exchange.request.body_bytes = (mode & 2 == 0).then_some(exchange.gap_bytes);
    exchange.connect_ns = (mode & 4 == 0).then_some(exchange.gap_bytes);
    exchange.is_midstream = mode & 8 != 0;
    let config = EmitConfig {
        is_all_headers: mode & 16 != 0,
        is_secrets_shown: mode & 32 != 0,
        extra_headers: if mode & 64 != 0 { vec!["host".to_string()] } else { Vec::new() },
        ..EmitConfig::default()
    };
    let names = IfaceNames::default();
    names.insert(IfaceId(0), &String::from_utf8_lossy(&values.bytes()));
    let mut key = FlowKey {
        port: [[port; 2]; 2],
        vlan: values.number().map(u16::from),
        realm: 0,
        ..FlowKey::default()
    };
    key.realm = u32::from_be_bytes(values.number());
    key.address[1] = values.number();
    let flow = FlowIdentity { key: &key, client: Direction::Reverse, id: exchange.gap_bytes };
    let mut line = Vec::new();
    JsonFormat::new(&config, names).exchange(&flow, exchange, &mut line);
    assert!(line.len() <= config.line_bytes_max, "a line of {} bytes", line.len());
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    line
}
