//! TLS. It cannot be read, and is only counted.

use super::{Carried, Context, Interest, Kind, Protocol, Step};
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;

/// A connection that began with a TLS record.
#[derive(Debug, Default)]
pub struct Tls;

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
        _direction: Direction,
        _bytes: &[u8],
        _meta: &SegmentMeta,
    ) -> Step {
        Step::Done
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

    fn interest(&self) -> Interest {
        Interest::Encrypted
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Tls)
    }
}
