//! HTTP/2 in clear text. It is not read yet, only counted.

pub mod hpack;

use super::first_bytes::Opening;
use super::{Carried, Context, Copied, HandOver, Interest, Kind, Protocol, Step};
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;

/// A connection that began with the preface of HTTP/2 (RFC 9113 section 3.4).
#[derive(Debug, Default)]
pub struct Http2(Opening);

impl Protocol for Http2 {
    const NAME: &'static str = "HTTP/2";
    const UNREAD: Option<&'static str> = Some("httplines does not read HTTP/2");
    type Stats = ();

    /// Never detected by its first bytes. HTTP/1 finds the preface wherever a request line may be,
    /// also behind a PROXY header or in pieces, and hands the connection over.
    fn probe(_first: &[u8]) -> bool {
        false
    }

    fn bytes<S: EventSink>(
        &mut self,
        _cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        self.0.bytes(direction, bytes, meta)
    }

    fn copy<S: EventSink>(
        &mut self,
        _cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Copied {
        self.0.copy(direction, bytes, meta)
    }

    fn hand_over(&mut self) -> Option<HandOver> {
        self.0.hand_over()
    }

    fn gap<S: EventSink>(
        &mut self,
        _cx: &mut Context<'_, S>,
        _direction: Direction,
        _len_bytes: u64,
        _at: SeqNumber,
    ) {
    }

    fn end<S: EventSink>(&mut self, _cx: &mut Context<'_, S>, _end: End) {}

    fn evidence(&self) -> Option<(Direction, SeqNumber)> {
        self.0.evidence()
    }

    fn interest(&self) -> Interest {
        if self.0.is_settled() { Interest::Foreign } else { Interest::Undecided }
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Http2)
    }
}
