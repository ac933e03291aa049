//! Passes both directions of a connection that switches to WebSocket, in pieces of any length, of
//! which some are lost and some stay in the kernel. What is told is checked against what can be
//! seen from outside.

use httplines::config::HttpConfig;
use httplines::decode::{SeqNumber, TunnelPath};
use httplines::flow::{Chunk, End, Handshake, SegmentMeta};
use httplines::ids::{Direction, FlowKey, IfaceId};
use httplines::protocol::{ConnectionState, Context, FlowRef, Kind, Shared};
use httplines::record::{Event, EventSink};
use httplines::time::TimestampNs;

const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n";

/// Checks what is told.
#[derive(Debug, Default)]
pub struct Watch {
    /// Bytes of the talk that passed or were lost, by side, and those that were lost.
    bytes: [u64; 2],
    lost_bytes: u64,
    told_count: usize,
}

impl EventSink for Watch {
    fn event(&mut self, event: Event<'_>) {
        let Event::WebSocket(talk) = event else { return };
        self.told_count += 1;
        assert!(talk.gap_bytes <= self.lost_bytes);
        for (counts, bytes) in [talk.client, talk.server].into_iter().zip(self.bytes) {
            let Some(counts) = counts else { continue };
            // A frame has two bytes at least.
            assert!(counts.message_bytes + 2 * counts.frames <= bytes, "{counts:?} of {bytes}");
            assert!(counts.messages() <= counts.frames);
        }
        if let Some(close) = talk.close {
            assert!(close.reason.len() <= 123);
            assert!(close.reason.len() <= close.reason_wire_bytes);
        }
        assert_eq!(talk.target, Some(&b"/chat"[..]));
    }
}

/// A connection, step by step.
#[derive(Debug)]
pub struct Script {
    state: ConnectionState,
    shared: Shared<Watch>,
    sent: [u32; 2],
    is_over: bool,
}

impl Script {
    /// The answer agrees to `extensions`, unless that would end its head.
    pub fn new(extensions: &[u8]) -> Script {
        let mut script = Script {
            state: ConnectionState::default(),
            shared: Shared::new(HttpConfig::default(), Watch::default()),
            sent: [0; 2],
            is_over: false,
        };
        let is_line = extensions.iter().all(|byte| (b' '..0x7f).contains(byte));
        let line = if is_line { extensions } else { b"" };
        script.pass(0, REQUEST);
        script.pass(1, &[ANSWER, b"Sec-WebSocket-Extensions: ", line, b"\r\n\r\n"].concat());
        assert_eq!(script.carried(), Some(Kind::WebSocket));
        script.shared.recorder.sink.bytes = [0; 2];
        script
    }

    fn carried(&self) -> Option<Kind> {
        match self.state.carried() {
            httplines::protocol::Carried::Protocol(kind) => Some(kind),
            _ => None,
        }
    }

    /// A step: its first byte says what happens, the others are what passes.
    pub fn step(&mut self, piece: &[u8]) {
        let Some((&what, bytes)) = piece.split_first() else { return };
        if self.is_over || bytes.is_empty() {
            return;
        }
        let way = usize::from(what >> 7);
        match what & 0x0f {
            0 => self.lose(way, bytes.len() as u64),
            1 => self.lose(way, u64::from(bytes[0]) << 16),
            2 => self.elide(way, bytes.len() as u32),
            3 => self.take(way, Chunk::Fin),
            4 => {
                self.is_over = true;
                self.take(way, Chunk::Reset);
            }
            _ => self.pass(way, bytes),
        }
    }

    fn meta(&mut self, way: usize, len_bytes: u32) -> SegmentMeta {
        let seq = SeqNumber(self.sent[way]);
        self.sent[way] = self.sent[way].wrapping_add(len_bytes);
        self.shared.recorder.sink.bytes[way] += u64::from(len_bytes);
        SegmentMeta {
            timestamp: TimestampNs(1),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: Some(SeqNumber(self.sent[1 - way])),
            seq,
            is_frame_start: true,
        }
    }

    fn pass(&mut self, way: usize, bytes: &[u8]) {
        let meta = self.meta(way, bytes.len() as u32);
        self.take(way, Chunk::Bytes(bytes, &meta));
    }

    fn lose(&mut self, way: usize, len_bytes: u64) {
        if len_bytes > 0 {
            let at = self.meta(way, len_bytes as u32).seq;
            self.shared.recorder.sink.lost_bytes += len_bytes;
            self.take(way, Chunk::Gap { len_bytes, at });
        }
    }

    fn elide(&mut self, way: usize, len_bytes: u32) {
        let meta = self.meta(way, len_bytes);
        self.take(way, Chunk::Elided { len_bytes, meta: &meta });
    }

    fn take(&mut self, way: usize, chunk: Chunk<'_>) {
        let (key, handshake) = (FlowKey::default(), handshake());
        let flow = FlowRef { key: &key, handshake: &handshake };
        let direction = if way == 0 { Direction::Forward } else { Direction::Reverse };
        let cx = &mut Context { flow, shared: &mut self.shared };
        self.state.chunk(cx, direction, chunk);
        assert!(self.shared.held_bytes() < 4096 + REQUEST.len(), "what is held does not grow");
        for direction in [Direction::Forward, Direction::Reverse] {
            let elidable = self.state.elidable_until(&mut self.shared, direction, 1, 1 << 29);
            if let Some(elidable) = elidable {
                let sent = SeqNumber(self.sent[direction.index()]);
                assert!(sent.precedes(elidable.until));
                assert!(!sent.precedes(elidable.head_end));
            }
        }
    }

    /// The end of the connection: the talk was told once, and nothing is held any more.
    pub fn finish(mut self) {
        let (key, handshake) = (FlowKey::default(), handshake());
        let flow = FlowRef { key: &key, handshake: &handshake };
        self.state.end(&mut Context { flow, shared: &mut self.shared }, End::Exit);
        self.state.leave(&mut self.shared);
        assert_eq!(self.shared.recorder.sink.told_count, 1);
        assert_eq!((self.shared.held_bytes(), self.shared.exchanges_in_use()), (0, 0));
        let stats = self.shared.stats().websocket;
        let ended = stats.talks_complete + stats.talks_truncated + stats.talks_unclear;
        assert_eq!((stats.talks, ended), (1, 1));
    }
}

fn handshake() -> Handshake {
    Handshake { client_isn: Some(SeqNumber(u32::MAX)).into(), ..Handshake::default() }
}
