//! HTTP/2 in clear text. It is not read yet, only counted.

use super::first_bytes::FirstBytes;
use super::{Carried, Context, Copied, HandOver, Interest, Kind, Protocol, Step};
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;

/// A connection that began with the preface of HTTP/2 (RFC 9113 section 3.4).
#[derive(Debug, Default)]
pub struct Http2 {
    /// What shows it.
    first: Option<FirstBytes>,
}

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
        Interest::Foreign
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Http2)
    }
}
