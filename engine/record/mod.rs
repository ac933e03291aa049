//! What is reported, for every protocol: [`Event`]s, the records in them with named fields, and the
//! formats that turn records into lines.
//!
//! Formats see only records. To add a record, add a variant of [`Event`] and its struct here.

use crate::ids::{Direction, FlowKey};
use crate::time::TimestampNs;
use std::ops::Deref;

mod community_id;
pub(crate) mod digits;
mod escape;
mod exchange;
mod grpc;
mod json;
mod line_buffer;
mod mask;
mod span;
mod text;
mod tls;
mod websocket;

pub use crate::printable::is_unsafe;
pub use digits::rfc3339;
pub(crate) use escape::append_json_text;
pub use exchange::{
    Exchange, Fields, Header, Http2Fields, INTERIM_COUNT_MAX, Message, Outcome, ResetBy, Trailers,
};
pub use grpc::GrpcFields;
pub(crate) use grpc::{GrpcBody, GrpcKind};
pub use json::{FIXED_BYTES_MAX, JsonFormat, LINE_BYTES_MIN};
pub use span::Span;
pub use text::TextFormat;
pub use tls::{
    CIPHER_NAME_BYTES_MAX, JA4_BYTES, NAME_BYTES_MAX, TlsAlert, TlsCertificate, TlsConnection,
    TlsOutcome, alert_name, cipher_name, group_name, version_name,
};
pub use websocket::{WebSocketClose, WebSocketCounts, WebSocketTalk};

/// The connection that a record belongs to.
#[derive(Clone, Copy, Debug)]
pub struct FlowIdentity<'a> {
    /// Its endpoints, VLANs and overlay network.
    pub key: &'a FlowKey,
    /// The direction of requests: the client is endpoint `client.index()` of the key.
    pub client: Direction,
    /// The record's `flow`.
    pub id: u64,
}

/// Something that was found on a connection. Valid only during the call that it is passed to.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The head of a message is complete. Its exchange is reported when it is over.
    Message(MessageRecord<'a>),
    /// An exchange is over.
    Exchange(ExchangeRecord<'a>),
    /// An exchange has been under way for long
    /// ([`FlowConfig::active_timeout_ms`](crate::config::FlowConfig)). It is reported again when it
    /// is over.
    Partial(PartialRecord<'a>),
    /// A talk of WebSocket is over, or has been under way for long
    /// ([`WebSocketTalk::active_ns`]). The exchange that opened it has the same `n`.
    WebSocket(WebSocketRecord<'a>),
    /// A connection of TLS is over, or its handshake is ([`Wants::tls_early`]).
    Tls(TlsRecord<'a>),
}

/// A message whose head is complete. Dereferences to its [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct MessageRecord<'a> {
    /// Its connection.
    pub flow: FlowIdentity<'a>,
    /// The message, as far as it is known.
    pub message: &'a Message,
    /// When the last byte of its head passed.
    pub when: TimestampNs,
}

impl Deref for MessageRecord<'_> {
    type Target = Message;

    fn deref(&self) -> &Message {
        self.message
    }
}

/// An exchange that is over. Dereferences to its [`Exchange`].
#[derive(Clone, Copy, Debug)]
pub struct ExchangeRecord<'a> {
    /// Its connection.
    pub flow: FlowIdentity<'a>,
    /// The exchange.
    pub exchange: &'a Exchange,
}

impl Deref for ExchangeRecord<'_> {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        self.exchange
    }
}

/// A talk of WebSocket. Dereferences to its [`WebSocketTalk`].
#[derive(Clone, Copy, Debug)]
pub struct WebSocketRecord<'a> {
    /// Its connection.
    pub flow: FlowIdentity<'a>,
    /// The talk.
    pub talk: &'a WebSocketTalk<'a>,
}

impl<'a> Deref for WebSocketRecord<'a> {
    type Target = WebSocketTalk<'a>;

    fn deref(&self) -> &WebSocketTalk<'a> {
        self.talk
    }
}

/// A connection of TLS. Dereferences to its [`TlsConnection`].
#[derive(Clone, Copy, Debug)]
pub struct TlsRecord<'a> {
    /// The connection that carries it.
    pub flow: FlowIdentity<'a>,
    /// What is told of it.
    pub tls: &'a TlsConnection<'a>,
}

impl<'a> Deref for TlsRecord<'a> {
    type Target = TlsConnection<'a>;

    fn deref(&self) -> &TlsConnection<'a> {
        self.tls
    }
}

/// An exchange that is under way, with what is known of it so far. It has no outcome yet.
/// Dereferences to its [`Exchange`].
#[derive(Clone, Copy, Debug)]
pub struct PartialRecord<'a> {
    /// Its connection.
    pub flow: FlowIdentity<'a>,
    /// The exchange.
    pub exchange: &'a Exchange,
    /// The time from [`Exchange::began_at`] to the moment that is told of.
    pub active_ns: u64,
}

impl Deref for PartialRecord<'_> {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        self.exchange
    }
}

/// What a sink uses. Anything else is not produced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    /// [`Event::Message`].
    pub messages: bool,
    /// All headers of a message, in addition to those with fields of their own.
    pub headers: bool,
    /// [`Event::WebSocket`]. If it is not wanted, nothing of a connection is that has switched to
    /// WebSocket.
    pub websockets: bool,
    /// [`Event::Tls`]. If it is not wanted, connections of TLS are only counted.
    pub tls: bool,
    /// A connection of TLS is reported when its handshake has ended, instead of at its end.
    pub tls_early: bool,
}

impl Wants {
    /// Everything.
    pub const ALL: Wants =
        Wants { messages: true, headers: true, websockets: true, tls: true, tls_early: false };
}

/// Receives events. A closure that takes an [`Event`] is a sink, and wants everything.
pub trait EventSink {
    /// What the sink uses. Asked once, before the first event.
    fn wants(&self) -> Wants {
        Wants::ALL
    }

    /// Takes an event.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> EventSink for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// Turns events into lines. Appends at most one complete line per event, including its line feed.
pub trait Format: std::fmt::Debug {
    /// What the format uses.
    fn wants(&self) -> Wants;

    /// Appends the line of `event` to `out`, if it has one.
    fn line(&mut self, event: &Event<'_>, out: &mut Vec<u8>);

    /// Called after each poll of the source, for what need not be done with each event.
    fn rest(&mut self) {}
}
