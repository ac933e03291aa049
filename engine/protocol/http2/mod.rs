//! HTTP/2 in clear text (RFC 9113): from its preface, after `Upgrade: h2c`, or joined late.
//!
//! The data goes one way:
//! - a `framer` for each direction knows where it is among the frames, also after a loss;
//! - `block` joins the fragments of a header block, and `hpack` decodes it;
//! - `head` writes its fields as the head of a message in text, so that everything behind it reads
//!   heads of HTTP/1 and HTTP/2 alike;
//! - `exchanges` finds the stream of a message, and reports the exchange when it is over.
//!
//! Nothing is guessed. What a header block refers to may be unknown, because the connection was
//! joined late or a header block was lost: then the field is absent, and counted.
//!
//! What is inside the body of a stream is read where it is counted: `count_data` and `whole_data`
//! see every byte of DATA, in order. These are messages of gRPC, and in `talks` those of WebSocket.

mod active;
mod block;
mod breaks;
mod buffer;
mod connection;
mod connection_error;
mod exchanges;
mod frame;
mod framer;
mod head;
#[cfg(test)]
mod head_tests;
pub mod hpack;
mod open_block;
mod resets;
mod search;
mod side;
mod stats;
mod streams;
mod talks;
mod trailers;
mod upgrade;
mod whole_frame;

pub use stats::Http2Stats;

pub(super) use block::Scratch;

use super::first_bytes::Opening;
use super::{
    Carried, Context, Copied, HandOver, Inheritance, Interest, Kind, Protocol, Shared, Step,
};
use crate::decode::SeqNumber;
use crate::flow::{ActiveVisit, End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;
use crate::time::TimestampNs;
use connection::{CONNECTION_BYTES, Http2Connection};

/// A connection that speaks HTTP/2. `None` until it takes a connection over, and after it left.
#[derive(Debug, Default)]
pub struct Http2(Option<Box<Http2Connection>>);

impl Protocol for Http2 {
    const NAME: &'static str = "HTTP/2";
    type Stats = Http2Stats;

    /// Never detected by its first bytes. HTTP/1 finds the preface wherever a request line may be,
    /// also behind a PROXY header or in pieces, and hands the connection over.
    fn probe(_first: &[u8]) -> bool {
        false
    }

    fn take_over<S>(&mut self, shared: &mut Shared<S>, inheritance: Inheritance) {
        shared.recorder.pool.hold(CONNECTION_BYTES);
        let mut connection = Box::new(Http2Connection::new(&inheritance));
        if let Some(upgraded) = inheritance.upgraded {
            connection.upgrade(upgraded.client, Opening::by(upgraded.answer));
            connection.adopt(shared, upgraded.exchange);
        }
        self.0 = Some(connection);
    }

    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        match &mut self.0 {
            Some(connection) => connection.bytes(cx, direction, bytes, meta),
            None => Step::Done,
        }
    }

    fn copy<S: EventSink>(
        &mut self,
        _cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Copied {
        match &mut self.0 {
            Some(connection) => connection.copy(direction, bytes, meta),
            None => Copied::Same,
        }
    }

    fn hand_over(&mut self) -> Option<HandOver> {
        self.0.as_mut()?.hand_over()
    }

    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        _at: SeqNumber,
    ) {
        if let Some(connection) = &mut self.0 {
            connection.gap(cx, direction, len_bytes);
        }
    }

    fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        if let Some(connection) = &mut self.0 {
            connection.fin(cx, direction);
        }
    }

    fn report_active<S: EventSink>(&mut self, cx: &mut Context<'_, S>, visit: &mut ActiveVisit) {
        if let Some(connection) = &mut self.0 {
            connection.report_active(cx, visit);
        }
    }

    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        if let Some(connection) = &mut self.0 {
            connection.finish(cx, end);
        }
    }

    fn leave<S>(&mut self, shared: &mut Shared<S>) {
        if let Some(mut connection) = self.0.take() {
            connection.leave(&mut shared.recorder.pool);
            shared.recorder.pool.release(CONNECTION_BYTES);
        }
    }

    fn has_open(&self) -> bool {
        self.0.as_ref().is_some_and(|connection| connection.has_open())
    }

    fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        self.0.as_ref().map_or(0, |connection| connection.memory_weight(now, quiet_since))
    }

    fn relieve<S: EventSink>(&mut self, cx: &mut Context<'_, S>) -> bool {
        self.0.as_mut().is_some_and(|connection| connection.relieve(cx))
    }

    fn interest(&self) -> Interest {
        self.0.as_ref().map_or(Interest::Wanted, |connection| connection.interest())
    }

    fn evidence(&self) -> Option<(Direction, SeqNumber)> {
        self.0.as_ref()?.evidence()
    }

    fn carried(&self) -> Carried {
        match &self.0 {
            Some(connection) if !connection.is_believed() => Carried::Unknown,
            _ => Carried::Protocol(Kind::Http2),
        }
    }
}
