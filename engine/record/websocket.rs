//! [`WebSocketTalk`]: everything that a record reports about a talk: a connection of WebSocket (RFC
//! 6455), or a stream of HTTP/2 that carries one (RFC 8441).

use super::Outcome;
use crate::decode::TunnelPath;
use crate::flow::End;
use crate::ids::IfaceId;
use crate::time::TimestampNs;

/// A talk that is over, or under way.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketTalk<'a> {
    /// The number of the exchange that opened it.
    pub n: u32,
    /// The method of that exchange: `GET`, or `CONNECT` over HTTP/2.
    pub method: &'static str,
    /// The status of that exchange: 101, or 2xx over HTTP/2.
    pub status: u16,
    /// The requested host, as sent.
    pub host: Option<&'a [u8]>,
    /// The request's target, as sent.
    pub target: Option<&'a [u8]>,
    /// The subprotocol that the server chose.
    pub subprotocol: Option<&'a [u8]>,
    /// Both sides may compress messages (permessage-deflate, RFC 7692).
    pub is_deflate: bool,
    /// What the client sent. `None` if that cannot be known: bytes were lost that may have held the
    /// head of a frame.
    pub client: Option<WebSocketCounts>,
    /// What the server sent, likewise.
    pub server: Option<WebSocketCounts>,
    /// Pings of both sides. `None` if the frames of one are not known.
    pub pings: Option<u64>,
    /// Pongs of both sides, likewise.
    pub pongs: Option<u64>,
    /// The first frame that closes the talk.
    pub close: Option<WebSocketClose<'a>>,
    /// When the talk began: when the last byte of the response's head passed.
    pub began_at: TimestampNs,
    /// From then to its last byte.
    pub duration_ns: u64,
    /// [`Outcome::Complete`] if both sides have closed it, [`Outcome::Truncated`] if not; `None` if
    /// that is not known.
    pub outcome: Option<Outcome>,
    /// Why it ended, if it is not complete.
    pub end: Option<End>,
    /// Bytes of the talk that were not captured.
    pub gap_bytes: u64,
    /// The connection is midstream: its beginning was not captured.
    pub is_midstream: bool,
    /// There were frames that RFC 6455 forbids.
    pub is_conflict: bool,
    /// The time from `began_at` to the moment that is told of, if the talk is under way: then this
    /// is what has passed so far, and the record of its end, with the same `n`, replaces it.
    pub active_ns: Option<u64>,
    /// Where the first frame of the exchange was captured.
    pub iface: IfaceId,
    /// The encapsulations around that frame.
    pub tunnel: TunnelPath,
}

/// What one side of a talk sent. What is not whole (a message, a frame) is not counted, but for its
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WebSocketCounts {
    /// Messages of text.
    pub text: u64,
    /// Messages of binary data.
    pub binary: u64,
    /// Bytes of messages on the wire: before they are inflated, and without the heads of frames.
    pub message_bytes: u64,
    /// Frames of all kinds.
    pub frames: u64,
}

impl WebSocketCounts {
    /// Messages of both kinds.
    pub fn messages(&self) -> u64 {
        self.text.saturating_add(self.binary)
    }
}

/// A frame that closes a talk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WebSocketClose<'a> {
    /// Whether the client sent it. `None` if it is not known that it was the first one.
    pub is_by_client: Option<bool>,
    /// Its code. `None` if it has none, or if that was lost.
    pub code: Option<u16>,
    /// Its reason, up to a hole.
    pub reason: &'a [u8],
    /// The length of the reason on the wire.
    pub reason_wire_bytes: usize,
}
