//! TLS. It cannot be read, and is only counted.

use super::first_bytes::Opening;
use super::{Carried, Context, Copied, HandOver, Interest, Kind, Protocol, Step};
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;

/// A connection that began with a TLS record.
#[derive(Debug, Default)]
pub struct Tls(Opening);

impl Protocol for Tls {
    const NAME: &'static str = "TLS";
    const UNREAD: Option<&'static str> = Some("httplines cannot read encrypted traffic");
    type Stats = ();

    /// A record: handshake or alert, version 3.x (RFC 8446 section 5.1).
    fn probe(first: &[u8]) -> bool {
        matches!(first, [0x15 | 0x16, 0x03, ..])
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
        if self.0.is_settled() { Interest::Encrypted } else { Interest::Undecided }
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Tls)
    }
}
