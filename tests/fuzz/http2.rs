//! Passes both directions of a connection, frame by frame, through the state of HTTP/2. The frames
//! carry fields that tell where they belong, so that anything told can be checked.

use httplines::config::HttpConfig;
use httplines::decode::{SeqNumber, TunnelPath};
use httplines::flow::{Chunk, End, Handshake, SegmentMeta};
use httplines::ids::{Direction, FlowKey, IfaceId};
use httplines::protocol::{ConnectionState, Context, FlowRef, Shared};
use httplines::record::{Event, EventSink, Message};
use httplines::time::TimestampNs;
use std::collections::BTreeSet;

const MS: u64 = 1_000_000;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Checks what is told.
#[derive(Debug, Default)]
pub struct Watch {
    /// The input has frames that the script did not make.
    is_wild: bool,
    told: BTreeSet<u32>,
    /// Bytes of the bodies that were sent, by direction and stream.
    bodies: std::collections::BTreeMap<(usize, u32), u64>,
    events: Vec<String>,
}

impl EventSink for Watch {
    fn event(&mut self, event: Event<'_>) {
        let Event::Exchange(exchange) = event else { return };
        self.events.push(format!("{:?}", exchange.exchange));
        let Some(http2) = exchange.http2 else { return };
        for message in [&exchange.request, &exchange.response] {
            let lines = message.text.split(|byte| *byte == b'\n').count();
            assert!(lines <= message.headers.len() + 6, "a field that breaks the head");
        }
        if self.is_wild {
            return;
        }
        let id = http2.stream;
        assert!(self.told.insert(id), "stream {id} was told twice");
        assert!(id % 2 == 1, "stream {id} was not sent");
        let of_stream = |message: &Message, name: &str| {
            if let Some(value) = message.header(name) {
                assert_eq!(value, id.to_string().as_bytes(), "{name} of another stream");
            }
        };
        of_stream(&exchange.request, "x-request");
        of_stream(&exchange.response, "x-response");
        if let Some(target) = exchange.request.target() {
            assert_eq!(target, format!("/{id}").as_bytes());
        }
        assert!(matches!(exchange.response.status, 0 | 200 | 204), "{}", exchange.response.status);
        let client = exchange.flow.client.index();
        for (direction, message) in [(client, &exchange.request), (1 - client, &exchange.response)]
        {
            let sent = self.bodies.get(&(direction, id)).copied().unwrap_or(0);
            let told = message.body_bytes.unwrap_or(0);
            assert!(told <= sent, "{told} of {sent} bytes");
            if message.is_ended && message.body_bytes.is_some() {
                assert_eq!(told, sent, "the body of a message that has ended");
            }
        }
    }
}

/// One direction's encoder: every field that is inserted is counted, so that it can be referred to.
#[derive(Debug, Default)]
struct Sender {
    /// The streams whose fields are in the table, the newest first.
    inserted: Vec<u32>,
    position: u32,
}

/// A connection, step by step.
#[derive(Debug)]
pub struct Script {
    state: ConnectionState,
    shared: Shared<Watch>,
    handshake: Handshake,
    senders: [Sender; 2],
    /// The streams whose request, or response, goes on.
    open: [Vec<u32>; 2],
    next_stream: u32,
    now_ms: u64,
    segment_bytes: usize,
    is_over: bool,
}

impl Script {
    /// Bits of `mode`: the beginning is lost; narrow limits; the others give the length of
    /// segments.
    pub fn new(mode: u8) -> Script {
        let mut limits = HttpConfig::default();
        if mode & 2 != 0 {
            limits = HttpConfig {
                head_bytes_max: 1024,
                pending_count_max: 3,
                held_bytes_shard_max: 16_384,
                ..HttpConfig::default()
            };
        }
        let client_isn = (mode & 1 == 0).then_some(SeqNumber(u32::MAX)).into();
        let handshake = Handshake { client_isn, ..Handshake::default() };
        let mut script = Script {
            state: ConnectionState::default(),
            shared: Shared::new(limits, Watch::default()),
            handshake,
            senders: [Sender::default(), Sender::default()],
            open: [Vec::new(), Vec::new()],
            next_stream: 1,
            now_ms: 0,
            segment_bytes: if mode >> 2 == 0 { usize::MAX } else { usize::from(mode >> 2) * 8 },
            is_over: false,
        };
        if mode & 1 == 0 {
            script.pass(0, &[PREFACE, &frame(4, 0, 0, &[])].concat());
            script.pass(1, &frame(4, 0, 0, &[]));
        }
        script
    }

    /// A step: its first byte says what happens, the others how.
    pub fn step(&mut self, piece: &[u8]) {
        let Some((&what, rest)) = piece.split_first() else { return };
        if self.is_over {
            return;
        }
        let choice = usize::from(rest.first().copied().unwrap_or(0));
        let way = usize::from(what >> 7);
        let is_lost = what & 0x40 != 0;
        let bytes = match what & 7 {
            0 | 1 => self.request(rest),
            2 => self.response(choice, rest),
            3 => self.data(way, choice, rest),
            4 => frame(6, 0, 0, &[0; 8]),
            5 => return self.end(way, what & 0x20 != 0),
            6 if what & 0x20 != 0 => {
                // Whatever it is, it must be survived.
                self.shared.recorder.sink.is_wild = true;
                rest.to_vec()
            }
            _ => return,
        };
        let way = match what & 7 {
            0 | 1 => 0,
            2 => 1,
            _ => way,
        };
        if is_lost { self.lose(way, bytes.len()) } else { self.pass(way, &bytes) }
    }

    /// A block: pseudo-fields, then a field of the stream's own that is inserted, and references to
    /// fields of other kinds.
    fn block(&mut self, way: usize, id: u32, start: &[u8]) -> Vec<u8> {
        let name: &[u8] = if way == 0 { b"x-request" } else { b"x-response" };
        let value = id.to_string();
        let mut block = start.to_vec();
        block.extend([0x40, name.len() as u8]);
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
        self.senders[way].inserted.insert(0, id);
        block
    }

    fn request(&mut self, rest: &[u8]) -> Vec<u8> {
        let id = self.next_stream;
        self.next_stream += 2;
        let path = format!("/{id}");
        let start = [&[0x82, 0x86, 0x04, path.len() as u8][..], path.as_bytes()].concat();
        let block = self.block(0, id, &start);
        let is_whole = rest.first().is_some_and(|byte| byte & 1 != 0);
        if !is_whole {
            self.open[0].push(id);
        } else {
            self.open[1].push(id);
        }
        headers(id, is_whole, &block, rest)
    }

    fn response(&mut self, choice: usize, rest: &[u8]) -> Vec<u8> {
        // Each stream is answered once, and only after its request.
        let Some(at) = choice.checked_rem(self.open[1].len()) else { return Vec::new() };
        let id = self.open[1].remove(at);
        let block = self.block(1, id, &[0x89]);
        headers(id, true, &block, rest)
    }

    fn data(&mut self, way: usize, choice: usize, rest: &[u8]) -> Vec<u8> {
        let Some(at) = choice.checked_rem(self.open[0].len()).filter(|_| way == 0) else {
            return Vec::new();
        };
        let id = self.open[0][at];
        let is_last = rest.get(1).is_some_and(|byte| byte & 1 != 0);
        if is_last {
            self.open[0].remove(at);
            self.open[1].push(id);
        }
        *self.shared.recorder.sink.bodies.entry((0, id)).or_default() += rest.len() as u64;
        frame(0, u8::from(is_last), id, &vec![b'd'; rest.len()])
    }

    fn pass(&mut self, way: usize, bytes: &[u8]) {
        self.now_ms += 1;
        for part in bytes.chunks(self.segment_bytes.max(1)) {
            let meta = SegmentMeta {
                timestamp: TimestampNs(self.now_ms * MS),
                iface: IfaceId(0),
                tunnel: TunnelPath::default(),
                ack: Some(SeqNumber(self.senders[1 - way].position)),
                seq: SeqNumber(self.senders[way].position),
                is_frame_start: true,
            };
            self.senders[way].position += part.len() as u32;
            self.take(way, Chunk::Bytes(part, &meta));
        }
    }

    fn lose(&mut self, way: usize, len: usize) {
        if len > 0 {
            let at = SeqNumber(self.senders[way].position);
            self.senders[way].position += len as u32;
            self.take(way, Chunk::Gap { len_bytes: len as u64, at });
        }
    }

    fn end(&mut self, way: usize, is_reset: bool) {
        self.is_over = is_reset;
        self.take(way, if is_reset { Chunk::Reset } else { Chunk::Fin });
        self.is_over |= way == 1;
    }

    fn take(&mut self, way: usize, chunk: Chunk<'_>) {
        let key = FlowKey::default();
        let flow = FlowRef { key: &key, handshake: &self.handshake };
        let direction = if way == 0 { Direction::Forward } else { Direction::Reverse };
        self.state.chunk(&mut Context { flow, shared: &mut self.shared }, direction, chunk);
        let (limits, count) = (&self.shared.limits, self.shared.exchanges_in_use());
        assert!(count <= 2 * (limits.pending_count_max + 2), "{count} exchanges");
        let slack_bytes = 6 * limits.head_bytes_max + (128 << 10);
        assert!(self.shared.held_bytes() <= limits.held_bytes_shard_max + slack_bytes);
    }

    /// The end of the connection: nothing is held any more.
    pub fn finish(mut self) {
        let key = FlowKey::default();
        let flow = FlowRef { key: &key, handshake: &self.handshake };
        self.state.end(&mut Context { flow, shared: &mut self.shared }, End::Exit);
        self.state.leave(&mut self.shared);
        assert_eq!(self.shared.exchanges_in_use(), 0, "an exchange was not given back");
        assert_eq!(self.shared.held_bytes(), 0, "bytes were not given back");
        let stats = self.shared.stats();
        assert_eq!(stats.exchanges.exchanges(), self.shared.recorder.sink.events.len() as u64);
    }
}

/// HEADERS, in two frames if the script says so.
fn headers(id: u32, is_whole: bool, block: &[u8], rest: &[u8]) -> Vec<u8> {
    let end_stream = u8::from(is_whole);
    let Some(cut) = rest.get(1).map(|at| usize::from(*at) % block.len()) else {
        return frame(1, 4 | end_stream, id, block);
    };
    [frame(1, end_stream, id, &block[..cut]), frame(9, 4, id, &block[cut..])].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let head = [len[1], len[2], len[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}
