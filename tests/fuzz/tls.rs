//! Passes both directions of a connection that may be TLS, in pieces of any length, of which some
//! are lost. What is told is checked against what can be seen from outside.

use httplines::config::HttpConfig;
use httplines::decode::{SeqNumber, TunnelPath};
use httplines::flow::{Chunk, End, Handshake, SegmentMeta};
use httplines::ids::{Direction, FlowKey, IfaceId, IfaceNames};
use httplines::protocol::{ConnectionState, Context, FlowRef, Shared};
use httplines::record::{Event, EventSink, Format, JsonFormat};
use httplines::time::TimestampNs;

/// What is read of each direction.
const READ_BYTES_MAX: usize = 16 << 10;

/// Checks what is told.
#[derive(Debug)]
pub struct Watch {
    format: JsonFormat,
    passed_bytes: u64,
    lost_bytes: u64,
    told_count: usize,
}

impl EventSink for Watch {
    fn event(&mut self, event: Event<'_>) {
        let Event::Tls(tls) = event else { return };
        self.told_count += 1;
        assert!(tls.gap_bytes <= self.lost_bytes);
        let bytes = tls.client_bytes.unwrap_or(0) + tls.server_bytes.unwrap_or(0);
        assert!(bytes <= self.passed_bytes, "{bytes} of {}", self.passed_bytes);
        assert!(tls.sni.is_none_or(|name| !name.is_empty() && name.len() < READ_BYTES_MAX));
        assert!(tls.ja3.is_some() == tls.ja4.is_some());
        assert!(tls.client_hello_bytes.is_some() || tls.version.is_some());
        let mut line = Vec::new();
        self.format.line(&event, &mut line);
        serde_json::from_slice::<serde_json::Value>(&line).expect("a line of JSON");
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
    /// A connection without any byte.
    pub fn new() -> Script {
        let format = JsonFormat::new(&Default::default(), IfaceNames::default());
        let watch = Watch { format, passed_bytes: 0, lost_bytes: 0, told_count: 0 };
        Script {
            state: ConnectionState::default(),
            shared: Shared::new(HttpConfig::default(), watch),
            sent: [0; 2],
            is_over: false,
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
            2 => self.take(way, Chunk::Closing(TimestampNs(2))),
            3 => self.take(way, Chunk::Fin),
            4 => {
                self.is_over = true;
                self.take(way, Chunk::Reset);
            }
            _ => self.pass(way, bytes),
        }
    }

    fn pass(&mut self, way: usize, bytes: &[u8]) {
        let meta = SegmentMeta {
            timestamp: TimestampNs(1),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: Some(SeqNumber(self.sent[1 - way])),
            seq: SeqNumber(self.sent[way]),
            is_frame_start: true,
        };
        self.sent[way] = self.sent[way].wrapping_add(bytes.len() as u32);
        self.shared.recorder.sink.passed_bytes += bytes.len() as u64;
        self.take(way, Chunk::Bytes(bytes, &meta));
    }

    fn lose(&mut self, way: usize, len_bytes: u64) {
        if len_bytes > 0 {
            let at = SeqNumber(self.sent[way]);
            self.sent[way] = self.sent[way].wrapping_add(len_bytes as u32);
            self.shared.recorder.sink.passed_bytes += len_bytes;
            self.shared.recorder.sink.lost_bytes += len_bytes;
            self.take(way, Chunk::Gap { len_bytes, at });
        }
    }

    fn take(&mut self, way: usize, chunk: Chunk<'_>) {
        let (key, handshake) = (FlowKey::default(), handshake());
        let flow = FlowRef { key: &key, handshake: &handshake };
        let direction = if way == 0 { Direction::Forward } else { Direction::Reverse };
        let cx = &mut Context { flow, shared: &mut self.shared };
        self.state.chunk(cx, direction, chunk);
    }

    /// The end of the connection: what was told is counted, and nothing is held any more. (A proxy
    /// that was asked in TLS may refuse that in HTTP, and then open a tunnel with TLS.)
    pub fn finish(mut self) {
        let (key, handshake) = (FlowKey::default(), handshake());
        let flow = FlowRef { key: &key, handshake: &handshake };
        self.state.end(&mut Context { flow, shared: &mut self.shared }, End::Fin);
        self.state.leave(&mut self.shared);
        let told_count = self.shared.recorder.sink.told_count;
        assert_eq!((self.shared.held_bytes(), self.shared.exchanges_in_use()), (0, 0));
        assert_eq!(self.shared.stats().tls.connections, told_count as u64);
    }
}

impl Default for Script {
    fn default() -> Script {
        Script::new()
    }
}

fn handshake() -> Handshake {
    let mut handshake = Handshake::of_syn(Direction::Forward, SeqNumber(u32::MAX), TimestampNs(0));
    handshake.see_answer();
    handshake
}
