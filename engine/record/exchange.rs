//! [`Exchange`]: a request and its response, with everything that records report about them, in any
//! protocol.

use super::grpc::GrpcFields;
use super::span::Span;
use crate::decode::TunnelPath;
use crate::flow::End;
use crate::ids::IfaceId;
use crate::time::TimestampNs;

/// The positions of the named fields in the text of a message. Fields that a kind of message does
/// not have are absent: a response has no method.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// The request's method.
    pub method: Span,
    /// The request's target, as sent.
    pub target: Span,
    /// The protocol's version, such as `HTTP/1.1`.
    pub version: Span,
    /// The response's reason phrase.
    pub reason: Span,
    /// The requested authority: the `Host` header.
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
}

impl Fields {
    /// No fields.
    pub const NONE: Fields = Fields {
        method: Span::ABSENT,
        target: Span::ABSENT,
        version: Span::ABSENT,
        reason: Span::ABSENT,
        host: Span::ABSENT,
        user_agent: Span::ABSENT,
        referer: Span::ABSENT,
        content_type: Span::ABSENT,
        server: Span::ABSENT,
        location: Span::ABSENT,
    };
}

/// The positions of the name and the value of a header in the text of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The name, as sent.
    pub name: Span,
    /// The value, without white space around it. An HTTP/1 value may contain an obsolete fold (line
    /// feed and white space), which is shown as one space.
    pub value: Span,
}

/// The fields behind the body of a message.
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    /// The bytes that `headers` are ranges of.
    pub text: Vec<u8>,
    /// The fields, in the order in which they were sent.
    pub headers: Vec<Header>,
}

impl Trailers {
    /// The name and value of each field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        pairs(&self.text, &self.headers)
    }

    /// Its memory, with the overhead of the allocator.
    pub(crate) fn held_bytes(&self) -> usize {
        let headers = self.headers.capacity() * size_of::<Header>();
        size_of::<Trailers>() + 48 + self.text.capacity() + headers
    }
}

/// Whether bytes behind `value`, a part of `text`, are missing; see [`Message::is_cut_behind`].
pub(crate) fn is_cut_behind(text: &[u8], value: &[u8]) -> bool {
    value.as_ptr_range().end == text.as_ptr_range().end
}

/// The names and values that `headers` are in `text`.
pub(crate) fn pairs<'a>(
    text: &'a [u8],
    headers: &'a [Header],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    headers.iter().filter_map(|header| Some((header.name.of(text)?, header.value.of(text)?)))
}

/// One message of an exchange: its fields, its times, and the length of its body.
#[derive(Clone, Debug)]
pub struct Message {
    /// Whether the message was seen at all. If not, the other fields are undefined.
    pub is_seen: bool,
    /// The bytes that `fields` and `headers` are ranges of, at most `head_bytes_max`. The start
    /// line is at the front. (HTTP/1 keeps the head here as it was on the wire.)
    pub text: Vec<u8>,
    /// The length of the start line at the front of `text`, including its line end.
    pub start_line_bytes: u32,
    /// The fields that records show by name.
    pub fields: Fields,
    /// All headers, in the order in which they were sent. Empty unless the sink wants them
    /// ([`Wants::headers`](super::Wants)).
    pub headers: Vec<Header>,
    /// The fields behind its body. `None` if there are none, or if the sink does not want headers
    /// ([`Wants::headers`](super::Wants)).
    pub trailers: Option<Box<Trailers>>,
    /// The response's status, 100 to 999; 0 for a request.
    pub status: u16,
    /// The length of the body after decoding of its framing; `None` if it cannot be known.
    pub body_bytes: Option<u64>,
    /// When its first byte was captured; `None` if that byte was lost.
    pub first: Option<TimestampNs>,
    /// When its last byte was captured; `None` if it was lost or never came.
    pub last: Option<TimestampNs>,
    /// Whether its last byte passed, seen or not.
    pub is_ended: bool,
}

/// Accessors of named fields.
macro_rules! accessors {
    ($($(#[$doc:meta])* $field:ident)*) => {
        $($(#[$doc])* pub fn $field(&self) -> Option<&[u8]> {
            self.fields.$field.of(&self.text)
        })*
    };
}

impl Message {
    accessors! {
        /// The request's method.
        method
        /// The request's target, as sent.
        target
        /// The protocol's version, such as `HTTP/1.1`.
        version
        /// The response's reason phrase.
        reason
        /// The `Host` header, or its equivalent.
        host
        /// The `User-Agent` header.
        user_agent
        /// The `Referer` header.
        referer
        /// The `Content-Type` header.
        content_type
        /// The `Server` header.
        server
        /// The `Location` header.
        location
    }

    /// Whether it is a response.
    pub fn is_response(&self) -> bool {
        self.status != 0
    }

    /// Resets to a message that was not seen. `text` and `headers` keep their memory for the next
    /// message; `trailers` stay: they are counted where they are held.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.is_seen = false;
        self.text.clear();
        self.start_line_bytes = 0;
        self.fields = Fields::NONE;
        self.headers.clear();
        self.status = 0;
        self.body_bytes = None;
        self.first = None;
        self.last = None;
        self.is_ended = false;
    }

    /// The name and value of each header, in order; see
    /// [`Message::headers`](field@Message::headers).
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        pairs(&self.text, &self.headers)
    }

    /// The value of the first header with this `name`, in upper or lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let is_it = |(known, _): &(&[u8], _)| known.eq_ignore_ascii_case(name.as_bytes());
        self.headers().find(is_it).map(|(_, value)| value)
    }

    /// Whether bytes behind `value`, a part of the text, are missing. Behind a value there is at
    /// least a line end, unless the head was cut within the value.
    pub(crate) fn is_cut_behind(&self, value: &[u8]) -> bool {
        is_cut_behind(&self.text, value)
    }

    /// The start line as it was sent, without its line end.
    pub fn start_line(&self) -> &[u8] {
        let line = &self.text[..(self.start_line_bytes as usize).min(self.text.len())];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

impl Default for Message {
    fn default() -> Message {
        Message {
            is_seen: false,
            text: Vec::new(),
            start_line_bytes: 0,
            fields: Fields::NONE,
            headers: Vec::new(),
            trailers: None,
            status: 0,
            body_bytes: None,
            first: None,
            last: None,
            is_ended: false,
        }
    }
}

/// Who reset a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetBy {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl ResetBy {
    /// The name used in records.
    pub fn name(self) -> &'static str {
        match self {
            ResetBy::Client => "client",
            ResetBy::Server => "server",
        }
    }
}

/// The names of the error codes of HTTP/2 (RFC 9113 section 7), from 0 on.
const RESET_NAMES: [&str; 14] = [
    "no_error",
    "protocol_error",
    "internal_error",
    "flow_control_error",
    "settings_timeout",
    "stream_closed",
    "frame_size_error",
    "refused_stream",
    "cancel",
    "compression_error",
    "connect_error",
    "enhance_your_calm",
    "inadequate_security",
    "http_1_1_required",
];

/// What only exchanges of HTTP/2 have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Http2Fields {
    /// The number of the stream.
    pub stream: u32,
    /// `:scheme`, a range of the request's text.
    pub scheme: Span,
    /// `:protocol` of an extended CONNECT (RFC 8441), a range of the request's text.
    pub connect_protocol: Span,
    /// Header fields, trailers included, that are not told: the connection was joined late, or a
    /// header block was lost, so that what they refer to is not known.
    pub headers_unknown: u32,
    /// Who reset the stream.
    pub reset_by: Option<ResetBy>,
    /// The error code of the reset. `None` if it was lost.
    pub reset_code: Option<u32>,
    /// It began as a request of HTTP/1.1 with `Upgrade: h2c`.
    pub is_upgraded: bool,
    /// The server has pushed it: the request came in PUSH_PROMISE.
    pub is_pushed: bool,
}

impl Http2Fields {
    /// The name of the reset's error code, if it has one.
    pub fn reset_name(&self) -> Option<&'static str> {
        RESET_NAMES.get(self.reset_code? as usize).copied()
    }
}

impl Default for Http2Fields {
    fn default() -> Http2Fields {
        Http2Fields {
            stream: 0,
            scheme: Span::ABSENT,
            connect_protocol: Span::ABSENT,
            headers_unknown: 0,
            reset_by: None,
            reset_code: None,
            is_upgraded: false,
            is_pushed: false,
        }
    }
}

/// The outcome of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Both messages passed completely, except for gaps that the record reports.
    Complete,
    /// The request has no response.
    NoResponse,
    /// The response has no request.
    NoRequest,
    /// A message was cut off by the end of its connection.
    Truncated,
}

impl Outcome {
    /// All, in the order in which they are declared.
    pub const ALL: [Outcome; 4] =
        [Outcome::Complete, Outcome::NoResponse, Outcome::NoRequest, Outcome::Truncated];

    /// The name used in records.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::NoResponse => "no_response",
            Outcome::NoRequest => "no_request",
            Outcome::Truncated => "truncated",
        }
    }
}

/// The number of interim responses whose status is kept. Real servers send a few.
pub const INTERIM_COUNT_MAX: usize = 32;

/// A request and its response; at least one of them `is_seen`.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The exchange's number on its connection, from 0.
    pub n: u32,
    /// The request.
    pub request: Message,
    /// The final response.
    pub response: Message,
    /// The statuses of the 1xx responses before the final one, in order: the first
    /// [`INTERIM_COUNT_MAX`].
    pub interim: Vec<u16>,
    /// The number of further 1xx responses.
    pub interim_omitted: u32,
    /// Bytes of this exchange that were not captured.
    pub gap_bytes: u64,
    /// Bytes of this exchange that passed again before it was over: each time they did.
    pub retransmitted_bytes: u64,
    /// The time from SYN to SYN-ACK, on the connection's first exchange.
    pub connect_ns: Option<u64>,
    /// Its outcome.
    pub outcome: Option<Outcome>,
    /// Why it ended, if it is not complete.
    pub end: Option<End>,
    /// The connection is midstream: its beginning was not captured.
    pub is_midstream: bool,
    /// The side that did not speak first on the connection has sent something, if only an
    /// acknowledgement.
    pub is_answered: bool,
    /// The connection left HTTP with this exchange (CONNECT, Upgrade).
    pub is_switched: bool,
    /// Framing headers of one of its messages contradict each other.
    pub is_conflict: bool,
    /// The response began before the request had ended.
    pub is_early: bool,
    /// Further fields of an exchange of HTTP/2.
    pub http2: Option<Http2Fields>,
    /// Further fields of a call of gRPC or gRPC-Web.
    pub grpc: Option<Box<GrpcFields>>,
    /// Where its first frame was captured.
    pub iface: IfaceId,
    /// The encapsulations around its first frame.
    pub tunnel: TunnelPath,
}

impl Exchange {
    /// Resets it for the next exchange. The buffers keep their memory. `grpc` and the
    /// trailers stay: they are counted where they are held.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.request.clear();
        self.response.clear();
        self.interim.clear();
        self.interim_omitted = 0;
        self.n = 0;
        self.gap_bytes = 0;
        self.retransmitted_bytes = 0;
        self.connect_ns = None;
        self.outcome = None;
        self.end = None;
        self.is_midstream = false;
        self.is_answered = false;
        self.is_switched = false;
        self.is_conflict = false;
        self.is_early = false;
        self.http2 = None;
        self.iface = IfaceId::default();
        self.tunnel = TunnelPath::default();
    }

    /// The time at which its record begins: that of the first byte of the request, or else the
    /// first known time in this order: request's last byte, response's first, response's last.
    #[inline(always)]
    pub fn began_at(&self) -> Option<TimestampNs> {
        let of = |message: &Message| {
            if message.is_seen { message.first.or(message.last) } else { None }
        };
        of(&self.request).or_else(|| of(&self.response))
    }

    /// When its first byte passed, if it is known.
    pub(crate) fn first_byte_at(&self) -> Option<TimestampNs> {
        let message = if self.request.is_seen { &self.request } else { &self.response };
        message.first.filter(|_| message.is_seen)
    }

    /// Adds the status of a 1xx response. Beyond [`INTERIM_COUNT_MAX`] they are only counted.
    pub fn add_interim(&mut self, status: u16) {
        if self.interim.len() < INTERIM_COUNT_MAX {
            self.interim.push(status);
        } else {
            self.interim_omitted = self.interim_omitted.saturating_add(1);
        }
    }

    /// The requested host, as sent. Empty if the request does not name it or was not seen.
    pub fn host(&self) -> &[u8] {
        self.request.host().unwrap_or_default()
    }

    /// The request or the response.
    pub fn message(&self, is_request: bool) -> &Message {
        if is_request { &self.request } else { &self.response }
    }

    /// The request or the response.
    pub fn message_mut(&mut self, is_request: bool) -> &mut Message {
        if is_request { &mut self.request } else { &mut self.response }
    }
}
