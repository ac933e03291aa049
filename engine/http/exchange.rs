//! [`Exchange`]: a request and its response, and all that a record says of them.

use crate::decode::TunnelPath;
use crate::flow::End;
use crate::ids::{Direction, FlowKey, IfaceId};
use crate::time::TimestampNs;

/// Bytes of a head, as a range: `head[start..start + len]`. Absent where nothing was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// No such field.
    pub const ABSENT: Span = Span { start: u32::MAX, len: 0 };

    /// The range `start..end`; heads are bounded by `head_bytes_max`, far below 4 GiB.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    /// `len` bytes from `start` on; the same bound.
    pub(super) fn at(start: usize, len: usize) -> Span {
        Span { start: start as u32, len: len as u32 }
    }

    /// Whether there is no such field.
    #[inline(always)]
    pub(super) fn is_absent(self) -> bool {
        self.start == u32::MAX
    }

    /// The bytes of the span in `head`, or `None` where the field is absent.
    pub fn of(self, head: &[u8]) -> Option<&[u8]> {
        if self.is_absent() {
            return None;
        }
        head.get(self.start as usize..)?.get(..self.len as usize)
    }

    /// All bytes of `head` from the beginning of the span on, and how many of them it has.
    #[inline(always)]
    pub fn with_rest(self, head: &[u8]) -> Option<(&[u8], usize)> {
        // What is absent begins behind every head.
        let rest = head.get(self.start as usize..)?;
        (rest.len() >= self.len as usize).then_some((rest, self.len as usize))
    }
}

/// Where the parts of a head are that records name. For a request `third` is the version and
/// `second` the target; for a response `first` is the version, `second` the status and `third` the
/// reason.
#[derive(Clone, Copy, Debug)]
pub struct HeadFields {
    /// Method, or the response's version.
    pub first: Span,
    /// Target, or status.
    pub second: Span,
    /// The request's version, or the reason phrase.
    pub third: Span,
    /// `Host`.
    pub host: Span,
    /// `User-Agent`.
    pub user_agent: Span,
    /// `Referer`.
    pub referer: Span,
    /// `Content-Type`.
    pub content_type: Span,
    /// `Server`.
    pub server: Span,
    /// `Location`.
    pub location: Span,
    /// Where the header lines begin: after the start line's line feed.
    pub headers_start: u32,
}

impl HeadFields {
    /// Nothing known.
    pub const NONE: HeadFields = HeadFields {
        first: Span::ABSENT,
        second: Span::ABSENT,
        third: Span::ABSENT,
        host: Span::ABSENT,
        user_agent: Span::ABSENT,
        referer: Span::ABSENT,
        content_type: Span::ABSENT,
        server: Span::ABSENT,
        location: Span::ABSENT,
        headers_start: 0,
    };
}

/// One message of an exchange: its head's bytes, the places of its fields, its times and its body's
/// length.
#[derive(Clone, Debug)]
pub struct Message {
    /// Whether the message was seen at all. The other fields mean nothing where it was not.
    pub is_seen: bool,
    /// The head as on the wire, start line first, up to `head_bytes_max`; leading empty lines are
    /// left out. A header value may hold an obsolete fold (line feed and white space), to be shown
    /// as one space.
    pub head: Vec<u8>,
    /// Places in `head`.
    pub fields: HeadFields,
    /// The response's status, 0 for a request.
    pub status: u16,
    /// Body bytes after framing; `None` where they cannot be known.
    pub body_bytes: Option<u64>,
    /// When its first byte was captured; `None` where that byte was lost.
    pub first: Option<TimestampNs>,
    /// When its last byte was captured; `None` where it was lost or never came.
    pub last: Option<TimestampNs>,
    /// Whether its last byte passed, seen or not.
    pub is_ended: bool,
}

impl Message {
    /// Not seen yet. `head` keeps its memory for the next message.
    pub fn clear(&mut self) {
        self.is_seen = false;
        self.head.clear();
        self.fields = HeadFields::NONE;
        self.status = 0;
        self.body_bytes = None;
        self.first = None;
        self.last = None;
        self.is_ended = false;
    }

    /// The bytes of `span` in this message's head.
    pub fn field(&self, span: Span) -> Option<&[u8]> {
        span.of(&self.head)
    }

    /// The start line as it was sent, without its line end.
    pub fn start_line(&self) -> &[u8] {
        let line = &self.head[..(self.fields.headers_start as usize).min(self.head.len())];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

impl Default for Message {
    fn default() -> Message {
        Message {
            is_seen: false,
            head: Vec::new(),
            fields: HeadFields::NONE,
            status: 0,
            body_bytes: None,
            first: None,
            last: None,
            is_ended: false,
        }
    }
}

/// What became of an exchange (DESIGN.md section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Both messages passed whole, but for gaps that the record tells.
    Complete,
    /// The request has no response.
    NoResponse,
    /// The response has no request.
    NoRequest,
    /// A message was cut by the end of its connection.
    Truncated,
}

impl Outcome {
    /// As in the record.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::NoResponse => "no_response",
            Outcome::NoRequest => "no_request",
            Outcome::Truncated => "truncated",
        }
    }
}

/// A request and its response; at least one of them `is_seen`.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The exchange's number on its connection, from 0.
    pub n: u32,
    /// The request.
    pub request: Message,
    /// The final response.
    pub response: Message,
    /// Statuses of the 1xx answers before the final one, in order.
    pub interim: Vec<u16>,
    /// Bytes of this exchange that were lost on the way to us.
    pub gap_bytes: u64,
    /// From SYN to SYN-ACK, on the connection's first exchange.
    pub connect_ns: Option<u64>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// Why it ended, where it is not complete.
    pub end: Option<End>,
    /// The connection was joined late.
    pub is_midstream: bool,
    /// The connection left HTTP with this exchange (CONNECT, Upgrade).
    pub is_switched: bool,
    /// Framing headers of one of its messages contradict each other.
    pub is_conflict: bool,
    /// The response began before the request had ended.
    pub is_early: bool,
    /// Where its first frame was captured.
    pub iface: IfaceId,
    /// The encapsulations around its first frame.
    pub tunnel: TunnelPath,
}

impl Exchange {
    /// Ready for the next exchange; keeps the memory of its buffers.
    pub fn clear(&mut self) {
        self.request.clear();
        self.response.clear();
        self.interim.clear();
        self.n = 0;
        self.gap_bytes = 0;
        self.connect_ns = None;
        self.outcome = None;
        self.end = None;
        self.is_midstream = false;
        self.is_switched = false;
        self.is_conflict = false;
        self.is_early = false;
        self.iface = IfaceId::default();
        self.tunnel = TunnelPath::default();
    }
}

/// The request or the response of an exchange.
pub(super) fn message_of(exchange: &mut Exchange, is_request: bool) -> &mut Message {
    if is_request { &mut exchange.request } else { &mut exchange.response }
}

/// The connection that a message or an exchange belongs to.
#[derive(Clone, Copy, Debug)]
pub struct FlowIdentity<'a> {
    /// Endpoints, VLANs, overlay network.
    pub key: &'a FlowKey,
    /// Which way requests go: the client is endpoint `client.index()` of the key.
    pub client: Direction,
    /// The record's `flow`.
    pub id: u64,
}
