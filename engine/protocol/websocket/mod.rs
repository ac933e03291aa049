//! WebSocket (RFC 6455): what each side of a talk sends, counted by its frames. A connection comes
//! here from HTTP/1, with the 101 that switches it. Over HTTP/2 (RFC 8441), the stream of an
//! extended CONNECT has a `Talk` of its own.
//!
//! - `opening` is what is kept of the exchange, and what was agreed upon in it;
//! - `frame` reads the head of a frame;
//! - a `side` for each direction knows where it is among the frames, and counts;
//! - `talk` joins both sides, and reports the talk when it is over.
//!
//! Only the frame that closes a talk is unmasked. No other byte of a payload is looked at or kept.

mod frame;
mod opening;
mod side;
mod stats;
mod talk;
#[cfg(test)]
mod tests;

pub use stats::WebSocketStats;

pub(super) use opening::{Opening, switches};
pub(super) use talk::Talk;

use super::first_bytes::FirstBytes;
use super::{
    Carried, Context, Copied, Elidable, HandOver, Inheritance, Interest, Kind, Protocol, Shared,
    Step,
};
use crate::decode::SeqNumber;
use crate::flow::{self, ActiveVisit, End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;
use crate::time::TimestampNs;

/// A connection that speaks WebSocket.
#[derive(Debug, Default)]
pub struct WebSocket {
    /// `None` until it takes a connection over, and after it left.
    talk: Option<Box<Talk>>,
    /// The answer that switched the connection.
    answer: Option<Box<FirstBytes>>,
    /// The record's `flow`.
    flow_id: u64,
}

/// A switch from HTTP/1 to WebSocket.
#[derive(Debug)]
pub(crate) struct Switch {
    pub talk: Box<Talk>,
    /// The beginning of the answer.
    pub answer: FirstBytes,
}

impl WebSocket {
    /// What came may be the end of the talk.
    #[inline]
    fn settle<S: EventSink>(&mut self, cx: &mut Context<'_, S>, is_closed: bool) {
        if is_closed {
            self.finish(cx, None);
        }
    }

    #[cold]
    fn finish<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: Option<End>) {
        if let Some(talk) = &mut self.talk {
            talk.finish(cx.shared, cx.flow, self.flow_id, end);
        }
    }
}

impl Protocol for WebSocket {
    const NAME: &'static str = "WebSocket";
    type Stats = WebSocketStats;

    /// Never detected by its first bytes, which any others may look like.
    fn probe(_first: &[u8]) -> bool {
        false
    }

    fn take_over<S>(&mut self, _shared: &mut Shared<S>, inheritance: Inheritance) {
        self.flow_id = inheritance.flow_id.unwrap_or_default();
        if let Some(Switch { talk, answer }) = inheritance.websocket {
            (self.talk, self.answer) = (Some(talk), Some(Box::new(answer)));
        }
    }

    #[inline]
    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        if let Some(talk) = &mut self.talk {
            let is_closed = talk.bytes(cx.shared, direction, bytes, meta);
            self.settle(cx, is_closed);
        }
        Step::Done
    }

    fn elided<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u32,
        meta: &SegmentMeta,
    ) {
        if let Some(talk) = &mut self.talk {
            let is_closed = talk.elided(cx.shared, direction, len_bytes, meta);
            self.settle(cx, is_closed);
        }
    }

    /// If the answer was not the only one, it is open again what the connection speaks.
    fn copy<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Copied {
        match (&mut self.talk, &self.answer) {
            (Some(talk), Some(answer))
                if !talk.is_over() && answer.differ_from(direction, bytes, meta) =>
            {
                talk.withdraw(cx.shared);
                Copied::HandOver
            }
            _ => Copied::Same,
        }
    }

    fn hand_over(&mut self) -> Option<HandOver> {
        let (answer, talk) = (self.answer.take()?, self.talk.as_ref()?);
        let inheritance = Inheritance {
            next_n: talk.n().saturating_add(1),
            flow_id: Some(self.flow_id),
            ..Inheritance::default()
        };
        Some(HandOver { to: Kind::Http1, at: answer.at(), kept: None, inheritance })
    }

    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        _at: SeqNumber,
    ) {
        if let Some(talk) = &mut self.talk {
            let is_closed = talk.gap(cx.shared, direction, len_bytes);
            self.settle(cx, is_closed);
        }
    }

    fn report_active<S: EventSink>(&mut self, cx: &mut Context<'_, S>, visit: &mut ActiveVisit) {
        if let Some(talk) = &self.talk {
            talk.report_active(cx.shared, cx.flow, self.flow_id, [false; 2], visit);
        }
    }

    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        self.finish(cx, Some(end));
    }

    fn leave<S>(&mut self, shared: &mut Shared<S>) {
        if let Some(talk) = self.talk.take() {
            talk.leave(shared);
        }
    }

    fn has_open(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| !talk.is_over())
    }

    fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        let bytes = self.talk.as_ref().map_or(0, |talk| talk.held_bytes());
        flow::memory_weight(bytes as u64, now, quiet_since)
    }

    /// Its segments are wanted even after the talk: so few follow that it is not worth a verdict.
    fn interest(&self) -> Interest {
        Interest::Wanted
    }

    #[inline]
    fn elidable_until<S>(
        &self,
        _shared: &mut Shared<S>,
        direction: Direction,
        bytes_min: u64,
        ahead_bytes_max: u32,
    ) -> Option<Elidable> {
        self.talk.as_ref()?.elidable_until(direction, bytes_min, ahead_bytes_max)
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::WebSocket)
    }
}
