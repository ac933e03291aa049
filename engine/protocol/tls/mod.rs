//! TLS. What is encrypted cannot be read. If anybody wants to know about it, the handshake is, as
//! far as it is in clear: RFC 8446 up to the ServerHello, RFC 5246 up to the first Finished.
//!
//! - `records` knows where a direction is among the records;
//! - a `side` for each direction collects the messages of the handshake;
//! - `parts`, `hello`, `certificate` and `fingerprint` read them;
//! - a `session` joins both sides, and reports the connection when it is over.
//!
//! The first 16 KiB of each direction are read, and no more of a message is kept than that, only
//! while the handshake lasts. Then the flow table only counts what passes, and tells the end
//! ([`Interest::End`]).

mod certificate;
mod fingerprint;
mod hello;
mod parts;
mod reader;
mod records;
mod session;
mod side;
mod start;
mod stats;
#[cfg(test)]
mod tests;

pub use stats::TlsStats;

pub(super) use start::hello_in;

use super::first_bytes::Opening;
use super::{
    Carried, Context, Copied, HandOver, Inheritance, Interest, Kind, Protocol, Shared, Step,
};
use crate::decode::SeqNumber;
use crate::flow::{self, End, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;
use crate::time::TimestampNs;
use session::Session;

/// A connection that began with a TLS record, or on which one may follow.
#[derive(Debug)]
pub enum Tls {
    /// It is only counted.
    Counted(CountedConnection),
    /// It is to be told.
    Followed(FollowedConnection),
}

/// A connection that is only counted.
#[derive(Debug, Default)]
pub struct CountedConnection(Opening);

/// A connection that is to be told.
#[derive(Debug)]
pub struct FollowedConnection(Box<Followed>);

#[derive(Debug, Default)]
struct Followed {
    opening: Opening,
    session: Option<Box<Session>>,
    /// It was opened by a proxy.
    tunnel: Option<Tunnel>,
}

/// Its memory, with the overhead of the allocator.
const FOLLOWED_BYTES: usize = size_of::<Followed>() + 16;

/// A connection that a proxy has opened (CONNECT). It may carry anything.
#[derive(Debug)]
struct Tunnel {
    /// The number of the exchange behind the one that opened it.
    next_n: u32,
    flow_id: Option<u64>,
    /// It carries something else than TLS.
    is_other: bool,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls::Counted(CountedConnection::default())
    }
}

impl Tls {
    fn opening(&self) -> &Opening {
        match self {
            Tls::Counted(CountedConnection(opening)) => opening,
            Tls::Followed(FollowedConnection(followed)) => &followed.opening,
        }
    }

    fn followed(&mut self) -> Option<&mut Followed> {
        match self {
            Tls::Counted(_) => None,
            Tls::Followed(FollowedConnection(followed)) => Some(followed),
        }
    }

    fn session(&mut self) -> Option<&mut Session> {
        self.followed()?.session.as_deref_mut()
    }

    /// From now on it is followed.
    #[cold]
    fn follow<S>(&mut self, shared: &mut Shared<S>) {
        if let Tls::Counted(CountedConnection(opening)) = self {
            shared.recorder.pool.hold(FOLLOWED_BYTES);
            let opening = std::mem::take(opening);
            let followed = Box::new(Followed { opening, ..Followed::default() });
            *self = Tls::Followed(FollowedConnection(followed));
        }
    }
}

impl Followed {
    /// Takes the next bytes of a direction.
    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        match &mut self.tunnel {
            None if self.opening.bytes(direction, bytes, meta) == Step::HandOver => {
                return Step::HandOver;
            }
            Some(tunnel) if self.session.is_none() => {
                tunnel.is_other |= !matches!(bytes, [0x16] | [0x16, 0x03, ..]);
                if tunnel.is_other {
                    return Step::Done;
                }
            }
            _ => {}
        }
        let session = self.session.get_or_insert_with(|| Session::begin(cx.shared, meta));
        session.bytes(cx.shared, direction, bytes, meta);
        if session.is_complete() && cx.shared.recorder.wants_tls_early() {
            self.report(cx, None);
        }
        Step::Done
    }

    fn report<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: Option<End>) {
        let Some(session) = &mut self.session else { return };
        let flow_id = self.tunnel.as_ref().and_then(|tunnel| tunnel.flow_id);
        let flow_id = flow_id.unwrap_or_else(|| cx.flow.handshake.flow_id(cx.flow.key));
        session.report(cx.shared, cx.flow, flow_id, end);
    }

    fn interest(&self) -> Interest {
        let nothing = if self.tunnel.is_some() { Interest::Foreign } else { Interest::Encrypted };
        let is_settled = self.tunnel.is_some() || self.opening.is_settled();
        match (&self.session, &self.tunnel) {
            (Some(session), _) if !session.is_over() => Interest::Undecided,
            _ if !is_settled => Interest::Undecided,
            (Some(session), _) if !session.is_reported() => Interest::End,
            (None, Some(tunnel)) if !tunnel.is_other => Interest::Undecided,
            _ => nothing,
        }
    }
}

impl Protocol for Tls {
    const NAME: &'static str = "TLS";
    const UNREAD: Option<&'static str> = Some("httplines cannot read encrypted traffic");
    type Stats = TlsStats;

    /// A record: handshake or alert, version 3.x (RFC 8446 section 5.1).
    fn probe(first: &[u8]) -> bool {
        matches!(first, [0x15 | 0x16, 0x03, ..])
    }

    fn take_over<S>(&mut self, shared: &mut Shared<S>, inheritance: Inheritance) {
        if let Some(answer) = inheritance.tunnel {
            let Inheritance { next_n, flow_id, .. } = inheritance;
            self.follow(shared);
            if let Some(followed) = self.followed() {
                followed.opening = Opening::by(answer);
                followed.tunnel = Some(Tunnel { next_n, flow_id, is_other: false });
            }
        }
    }

    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        if cx.shared.recorder.wants_tls() {
            self.follow(cx.shared);
        }
        match self {
            Tls::Counted(CountedConnection(opening)) => opening.bytes(direction, bytes, meta),
            Tls::Followed(FollowedConnection(followed)) => {
                followed.bytes(cx, direction, bytes, meta)
            }
        }
    }

    fn copy<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Copied {
        let opening = match self {
            Tls::Counted(CountedConnection(opening)) => opening,
            Tls::Followed(FollowedConnection(followed)) => &mut followed.opening,
        };
        let copied = opening.copy(direction, bytes, meta);
        if let (Copied::HandOver, Some(session)) = (copied, self.session()) {
            session.withdraw(cx.shared);
        }
        copied
    }

    fn hand_over(&mut self) -> Option<HandOver> {
        let mut hand_over = self.opening().hand_over()?;
        if let Some(tunnel) = self.followed().and_then(|followed| followed.tunnel.as_ref()) {
            (hand_over.inheritance.next_n, hand_over.inheritance.flow_id) =
                (tunnel.next_n, tunnel.flow_id);
        }
        Some(hand_over)
    }

    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        _at: SeqNumber,
    ) {
        let Some(Followed { session, tunnel, .. }) = self.followed() else { return };
        match (session, tunnel) {
            (Some(session), _) => session.gap(cx.shared, direction, len_bytes),
            // What it carries is not known.
            (None, Some(tunnel)) => tunnel.is_other = true,
            (None, None) => {}
        }
    }

    fn closing(&mut self, direction: Direction, at: TimestampNs) {
        if let Some(session) = self.session() {
            session.closing(direction, at);
        }
    }

    fn fin<S: EventSink>(&mut self, _cx: &mut Context<'_, S>, direction: Direction) {
        if let Some(session) = self.session() {
            session.fin(direction);
        }
    }

    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        if let Some(followed) = self.followed() {
            followed.report(cx, Some(end));
        }
    }

    fn leave<S>(&mut self, shared: &mut Shared<S>) {
        if let Tls::Followed(FollowedConnection(followed)) = std::mem::take(self) {
            if let Some(session) = followed.session {
                session.leave(shared);
            }
            shared.recorder.pool.release(FOLLOWED_BYTES);
        }
    }

    fn has_open(&self) -> bool {
        let Tls::Followed(FollowedConnection(followed)) = self else { return false };
        followed.session.as_ref().is_some_and(|session| !session.is_reported())
    }

    fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        let Tls::Followed(FollowedConnection(followed)) = self else { return 0 };
        let bytes = followed.session.as_ref().map_or(0, |session| session.held_bytes());
        flow::memory_weight((FOLLOWED_BYTES + bytes) as u64, now, quiet_since)
    }

    fn evidence(&self) -> Option<(Direction, SeqNumber)> {
        self.opening().evidence()
    }

    fn interest(&self) -> Interest {
        match self {
            Tls::Followed(FollowedConnection(followed)) => followed.interest(),
            Tls::Counted(CountedConnection(opening)) if opening.is_settled() => Interest::Encrypted,
            Tls::Counted(_) => Interest::Undecided,
        }
    }

    fn carried(&self) -> Carried {
        // The request that opened a tunnel was one of HTTP.
        let is_tunnel = matches!(self, Tls::Followed(it) if it.0.tunnel.is_some());
        Carried::Protocol(if is_tunnel { Kind::Http1 } else { Kind::Tls })
    }
}
