//! Passes both directions of a connection, piece by piece, through an HTTP/1 connection state.

use httplines::config::HttpConfig;
use httplines::decode::{SeqNumber, TunnelPath};
use httplines::flow::{Chunk, End, Handshake, SegmentMeta};
use httplines::ids::{Direction, FlowKey, IfaceId};
use httplines::protocol::{ConnectionState, Context, FlowRef, Shared};
use httplines::record::{Event, EventSink, ExchangeRecord, MessageRecord};
use httplines::time::TimestampNs;

const MS: u64 = 1_000_000;

/// Marks lost bytes; no piece of a script contains it.
const LOST: u8 = 0xff;

/// Counts the events of a connection.
#[derive(Debug, Default)]
struct Tally {
    /// The bytes of each direction, and when they began.
    streams: [Vec<u8>; 2],
    began: [Option<TimestampNs>; 2],
    /// When the first byte of each direction's first message passed.
    first: [Option<TimestampNs>; 2],
    request_heads: Vec<Vec<u8>>,
    exchange_heads: Vec<Vec<u8>>,
    /// Reported bytes of heads and bodies, by direction.
    told_bytes: [u64; 2],
    exchanges: Vec<String>,
    is_request_missing: bool,
    has_interim: bool,
    has_conflict: bool,
    /// A head did not end, as far as can be told.
    is_head_open: bool,
    /// The connection went on in HTTP/2, whose heads are no bytes of the wire. The fuzz target
    /// `http2` checks those.
    has_http2: bool,
}

impl EventSink for Tally {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Message(message) => self.message(message),
            Event::Exchange(exchange) => self.exchange(exchange),
            Event::Partial(_) | Event::WebSocket(_) | Event::Tls(_) => {}
        }
    }
}

impl Tally {
    fn message(&mut self, message: MessageRecord<'_>) {
        let flow = message.flow;
        assert!(message.is_seen);
        if message.version() == Some(b"HTTP/2") {
            self.has_http2 = true;
            return;
        }
        let is_request = message.status == 0;
        let sender = if is_request { flow.client } else { flow.client.opposite() };
        let stream = &self.streams[sender.index()];
        let is_there = stream.windows(message.text.len().max(1)).any(|part| part == message.text);
        assert!(is_there, "a head of bytes that did not pass");
        if self.first[sender.index()].is_none() {
            self.first[sender.index()] = message.first;
        }
        if is_request {
            self.request_heads.push(message.text.clone());
        }
    }

    fn exchange(&mut self, exchange: ExchangeRecord<'_>) {
        let flow = exchange.flow;
        self.exchanges.push(format!("{:?}", exchange.exchange));
        assert!(exchange.outcome.is_some());
        if exchange.http2.is_some() {
            self.has_http2 = true;
            return;
        }
        let (request, response) = (&exchange.request, &exchange.response);
        let is_seen = request.is_seen || response.is_seen || !exchange.interim.is_empty();
        assert!(is_seen, "an exchange of nothing");
        for (sender, message) in [(flow.client, request), (flow.client.opposite(), response)] {
            if message.is_seen {
                let is_bare = matches!(message.body_bytes, None | Some(0));
                self.is_head_open |= is_bare && !message.is_ended;
                let bytes = message.text.len() as u64 + message.body_bytes.unwrap_or(0);
                self.told_bytes[sender.index()] += bytes;
            }
        }
        if request.is_seen {
            self.exchange_heads.push(request.text.clone());
        }
        self.is_request_missing |= !request.is_seen;
        self.has_interim |= !exchange.interim.is_empty();
        self.has_conflict |= exchange.exchange.is_conflict;
    }
}

/// A connection, piece by piece.
#[derive(Debug)]
pub struct Script {
    state: ConnectionState,
    shared: Shared<Tally>,
    handshake: Handshake,
    sent: [u32; 2],
    now_ms: u64,
    mode: u8,
    is_split: bool,
    has_gap: bool,
    /// A direction has ended, and whether bytes came all the same.
    has_ended: [bool; 2],
    has_bytes_behind_end: bool,
}

impl Script {
    /// Bits of `mode`: captured midstream; narrow bounds, and pauses between exchanges; parts are
    /// frames of their own; the others give the length of parts. With `is_split`, bytes come in
    /// parts.
    pub fn new(mode: u8, is_split: bool) -> Script {
        let mut limits = HttpConfig::default();
        if mode & 2 != 0 {
            limits = HttpConfig {
                head_bytes_max: 1024,
                pending_count_max: 3,
                held_bytes_shard_max: 8192,
                ..HttpConfig::default()
            };
        }
        let client_isn = (mode & 1 == 0).then_some(SeqNumber(0)).into();
        let handshake = Handshake { client: None, client_isn, ..Handshake::default() };
        let shared = Shared::new(limits, Tally::default());
        Script {
            state: ConnectionState::default(),
            shared,
            handshake,
            sent: [0; 2],
            now_ms: 0,
            mode,
            is_split,
            has_gap: false,
            has_ended: [false; 2],
            has_bytes_behind_end: false,
        }
    }

    /// A piece of the script. Its first byte is a letter that gives its kind: `@` and `A` are bytes
    /// of either direction, `D` and `E` gaps, `F` and `G` ends; plus 8: in the middle of a frame;
    /// plus 16: without acknowledgement; plus 32: it acknowledges half. Returns false if the
    /// connection is over.
    pub fn step(&mut self, piece: &[u8]) -> bool {
        let Some((&what, bytes)) = piece.split_first() else { return true };
        self.now_ms += 1;
        let way = if what & 1 == 0 { Direction::Forward } else { Direction::Reverse };
        let at = SeqNumber(self.sent[way.index()]);
        let peer_sent = self.sent[way.opposite().index()];
        let acked = if what & 32 != 0 { peer_sent / 2 } else { peer_sent };
        let meta = SegmentMeta {
            timestamp: TimestampNs(self.now_ms * MS),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: (what & 16 == 0).then_some(SeqNumber(acked)),
            seq: at,
            is_frame_start: what & 8 == 0,
        };
        let is_reset = what & 6 == 6 && bytes == b"R";
        match what >> 1 & 3 {
            0 | 1 => self.bytes(way, bytes, meta),
            2 => {
                let len = bytes.iter().take(3).fold(0, |sum, byte| sum << 7 | u32::from(*byte)) + 1;
                self.has_gap = true;
                self.sent[way.index()] += len;
                self.shared.recorder.sink.streams[way.index()].push(LOST);
                self.take(way, Chunk::Gap { len_bytes: len.into(), at });
            }
            _ => {
                self.has_ended[way.index()] = true;
                self.take(way, if is_reset { Chunk::Reset } else { Chunk::Fin });
            }
        }
        !is_reset
    }

    fn bytes(&mut self, way: Direction, bytes: &[u8], mut meta: SegmentMeta) {
        let tally = &mut self.shared.recorder.sink;
        tally.streams[way.index()].extend_from_slice(bytes);
        if !bytes.is_empty() {
            tally.began[way.index()].get_or_insert(meta.timestamp);
        }
        self.sent[way.index()] += bytes.len() as u32;
        self.has_bytes_behind_end |= self.has_ended[way.index()];
        let part_bytes = if self.is_split { usize::from(self.mode >> 3) + 1 } else { usize::MAX };
        for part in bytes.chunks(part_bytes) {
            self.take(way, Chunk::Bytes(part, &meta));
            meta.seq = meta.seq.plus(part.len() as u32);
            meta.is_frame_start &= self.mode & 4 != 0;
        }
    }

    fn take(&mut self, way: Direction, chunk: Chunk<'_>) {
        let key = FlowKey::default();
        let flow = FlowRef { key: &key, handshake: &self.handshake };
        self.state.chunk(&mut Context { flow, shared: &mut self.shared }, way, chunk);
        let (limits, count) = (&self.shared.limits, self.shared.exchanges_in_use());
        // Two states of HTTP/1 are there if it goes on after a preface of HTTP/2.
        let state_count = if matches!(self.state, ConnectionState::Http1(_)) { 1 } else { 2 };
        assert!(count <= state_count * (limits.pending_count_max + 2), "{count} exchanges");
        let slack_bytes = 2 * limits.head_bytes_max + 2048;
        assert!(self.shared.held_bytes() <= limits.held_bytes_shard_max + slack_bytes);
    }

    /// The end of the connection: nothing is held any more, and each request was reported once.
    /// Returns the exchanges, if they do not depend on how the bytes were split.
    pub fn finish(mut self) -> Option<Vec<String>> {
        let key = FlowKey::default();
        let flow = FlowRef { key: &key, handshake: &self.handshake };
        // The first piece of an answer decides whether it is one in HTTP/1.
        let has_changed = !matches!(self.state, ConnectionState::Http1(_));
        self.state.end(&mut Context { flow, shared: &mut self.shared }, End::Exit);
        self.state.leave(&mut self.shared);
        let now = TimestampNs(self.now_ms * MS);
        assert_eq!(self.state.memory_weight(now, now), 0, "something is still in progress");
        assert_eq!(self.shared.exchanges_in_use(), 0, "an exchange was not given back");
        assert_eq!(self.shared.held_bytes(), 0, "bytes were not given back");
        let stats = self.shared.stats();
        let (exchanges, stats) = (stats.exchanges, stats.http1);
        let mut tally = self.shared.recorder.sink;
        // The line of a request may be told before it turns out to be text in a body.
        let is_disowned = stats.guesses_withdrawn > 0 || tally.has_http2;
        if !is_disowned {
            assert_eq!(exchanges.requests, tally.request_heads.len() as u64);
        }
        assert_eq!(exchanges.exchanges(), tally.exchanges.len() as u64);
        tally.request_heads.sort();
        tally.exchange_heads.sort();
        if !is_disowned {
            assert_eq!(tally.request_heads, tally.exchange_heads, "requests and exchanges");
        }
        for (told_bytes, sent_bytes) in tally.told_bytes.into_iter().zip(self.sent) {
            assert!(told_bytes <= sent_bytes.into(), "{told_bytes} reported of {sent_bytes}");
        }
        // After a loss, or when the parser has lost synchronisation, heads are only accepted at the
        // start of frames. The same holds for a head in place of a body that the client withheld or
        // that the response to HEAD did not have, and for a head after one that was cut and whose
        // rest did not arrive, and for a response behind a body whose length is contradicted. (Of
        // an interim response that an end cut, only the status is told.)
        let is_interim_cut = tally.has_interim && self.has_bytes_behind_end;
        let is_in_place = stats.resyncs + stats.bytes_skipped == 0
            && stats.heads_unfinished + stats.heads_cut == 0
            && tally.began == tally.first
            && !tally.is_request_missing
            && !tally.is_head_open
            && !is_interim_cut
            && !tally.has_conflict
            && !tally.request_heads.iter().any(|head| contains(head, b"expect"));
        let is_plain = self.mode & 3 == 0 && !self.has_gap && !has_changed && !tally.has_http2;
        (is_in_place && is_plain).then_some(tally.exchanges)
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}
