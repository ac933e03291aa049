//! Frames of HTTP/2 (RFC 9113), and a conversation that consists of them.

use super::capture_file::WrittenFrame;
use super::conversation::{Conversation, Side};
use super::hpack::Pair;
use super::hpack::encoder::{Encoder, Habit};

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PUSH_PROMISE: u8 = 5;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// Flags of frames.
pub const END_STREAM: u8 = 0x1;
/// See [`END_STREAM`].
pub const END_HEADERS: u8 = 0x4;
/// See [`END_STREAM`].
pub const PADDED: u8 = 0x8;
/// See [`END_STREAM`].
pub const PRIORITY: u8 = 0x20;
/// A whole message in one frame of HEADERS.
pub const WHOLE: u8 = END_HEADERS | END_STREAM;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let head = [len[1], len[2], len[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// The payload of a frame with padding.
pub fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    [&[padding][..], payload, &vec![0; padding.into()]].concat()
}

/// Fields from text.
pub fn fields(pairs: &[(&str, &str)]) -> Vec<Pair> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// The fields of a GET for `path`.
pub fn get(path: &str) -> Vec<Pair> {
    fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", path),
        ("user-agent", "test/1"),
    ])
}

/// What both sides of a connection send, in order.
#[derive(Debug)]
pub struct Talk {
    encoders: [Encoder; 2],
    pub sent: Vec<(Side, Vec<u8>)>,
    has_handshake: bool,
}

impl Talk {
    /// A connection with prior knowledge: its preface, and the SETTINGS of both sides.
    pub fn new() -> Talk {
        let mut talk = Talk::bare();
        talk.client([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        talk.server(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
        talk
    }

    /// Nothing yet.
    pub fn bare() -> Talk {
        let encoders = [1, 2].map(|seed| Encoder::new(Habit::Usual, seed));
        Talk { encoders, sent: Vec::new(), has_handshake: true }
    }

    /// The capture began after the handshake, and after the first `count` sends.
    pub fn joined_after(&mut self, count: usize) -> &mut Talk {
        self.has_handshake = false;
        self.sent.drain(..count);
        self
    }

    /// The client sends these bytes, in segments of their own.
    pub fn client(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Talk {
        self.sent.push((Side::Client, bytes.into()));
        self
    }

    /// So does the server.
    pub fn server(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Talk {
        self.sent.push((Side::Server, bytes.into()));
        self
    }

    /// A header block of one side.
    pub fn block(&mut self, side: Side, fields: &[Pair]) -> Vec<u8> {
        self.encoders[side as usize].block(fields)
    }

    /// The encoder of one side.
    pub fn encoder(&mut self, side: Side) -> &mut Encoder {
        &mut self.encoders[side as usize]
    }

    /// The client sends HEADERS.
    pub fn ask(&mut self, stream: u32, flags: u8, fields: &[Pair]) -> &mut Talk {
        let block = self.block(Side::Client, fields);
        self.client(frame(HEADERS, flags, stream, &block))
    }

    /// So does the server.
    pub fn answer(&mut self, stream: u32, flags: u8, pairs: &[(&str, &str)]) -> &mut Talk {
        let block = self.block(Side::Server, &fields(pairs));
        self.server(frame(HEADERS, flags, stream, &block))
    }

    /// The frames of the connection, in segments of at most `segment_bytes`.
    pub fn frames(&self, segment_bytes: usize) -> Vec<WrittenFrame> {
        let mut talk =
            Conversation::new("10.0.0.1:4000", "10.0.0.2:80").segment_bytes(segment_bytes);
        if self.has_handshake {
            talk.handshake();
        }
        for (side, bytes) in &self.sent {
            match side {
                Side::Client => talk.client(bytes),
                Side::Server => talk.server(bytes),
            };
        }
        talk.finish().frames(1_795_442_400_000_000_000, 1_000_000)
    }
}
