//! What is reported, whatever protocol it came from: [`Event`]s, and the records in them with named
//! fields; and the formats that make lines of records.
//!
//! Formats see records only. To add a record is to add a variant of [`Event`] and its struct here.

use crate::ids::{Direction, FlowKey};
use crate::time::TimestampNs;
use std::ops::Deref;

mod digits;
mod escape;
mod exchange;
mod json;
mod line_buffer;
mod mask;
mod text;

pub use exchange::{Exchange, Fields, Header, Message, Outcome, Span};
pub use json::{FIXED_BYTES_MAX, JsonFormat, LINE_BYTES_MIN};
pub use text::TextFormat;

/// The connection that a record belongs to.
#[derive(Clone, Copy, Debug)]
pub struct FlowIdentity<'a> {
    /// Endpoints, VLANs, overlay network.
    pub key: &'a FlowKey,
    /// Which way requests go: the client is endpoint `client.index()` of the key.
    pub client: Direction,
    /// The record's `flow`.
    pub id: u64,
}

/// Something that was found on a connection. It lasts as long as the call that it is passed to.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The head of a message is complete. Its exchange follows once it is over.
    Message(MessageRecord<'a>),
    /// An exchange is over.
    Exchange(ExchangeRecord<'a>),
}

/// A message whose head is complete. Stands for its [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct MessageRecord<'a> {
    /// Its connection.
    pub flow: FlowIdentity<'a>,
    /// The message, so far.
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

/// An exchange that is over. Stands for its [`Exchange`].
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

/// What a sink makes use of. What it does not want is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    /// [`Event::Message`].
    pub messages: bool,
    /// All headers of a message, beside those that have fields of their own.
    pub headers: bool,
}

impl Wants {
    /// Everything.
    pub const ALL: Wants = Wants { messages: true, headers: true };
}

/// Where events go. A closure that takes an [`Event`] is one, and wants everything.
pub trait EventSink {
    /// What it makes use of. Asked once, before the first event.
    fn wants(&self) -> Wants {
        Wants::ALL
    }

    /// Something was found.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> EventSink for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// Makes lines. Appends at most one whole line, its line feed included, for an event.
pub trait Format: std::fmt::Debug {
    /// What it makes use of.
    fn wants(&self) -> Wants;

    /// Appends the line of `event`, if there is one, to `out`.
    fn line(&mut self, event: &Event<'_>, out: &mut Vec<u8>);
}
