//! TLS. It cannot be read, and is only counted.

use super::first_bytes::FirstBytes;
use super::{Carried, Context, Copied, HandOver, Interest, Kind, Protocol, Step};
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;

/// A connection that began with a TLS record.
#[derive(Debug, Default)]
pub struct Tls {
    /// What shows it.
    first: Option<FirstBytes>,
}

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
        self.first.get_or_insert_with(|| FirstBytes::of(direction, bytes, meta));
        Step::Done
    }

    fn copy<S: EventSink>(
        &mut self,
        _cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Copied {
        let is_other = self.first.is_some_and(|it| it.differ_from(direction, bytes, meta));
        if is_other { Copied::HandOver } else { Copied::Same }
    }

    /// The bytes that showed it were not the only ones: what the connection speaks is open again.
    fn hand_over(&mut self) -> Option<HandOver> {
        self.first.map(|first| HandOver { to: Kind::Http1, at: first.at(), kept: None })
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
        self.first.map(|first| first.end())
    }

    fn interest(&self) -> Interest {
        Interest::Encrypted
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Tls)
    }
}
