//! Bodies that need not come up: up to where they are certain, and what passes of them then. And
//! connections of which nothing need come up.

use super::Listener;
use super::body::{BodyFraming, Skipped};
use super::conversation::{Conversation, Phase, Protocol, Room, Wire};
use crate::decode::SeqNumber;
use crate::flow::Origin;
use crate::ids::Direction;

/// Of a connection that has sent so much, both ways together, without a message, nothing more is
/// expected. It is more than what stands before HTTP on some connections: SOCKS takes some tens of
/// bytes, the PROXY protocol some hundreds.
const UNCLEAR_BYTES_MAX: u64 = 4096;

/// What is still to be expected on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prospect {
    /// That is not told yet.
    Open,
    /// HTTP/1.
    Http1,
    /// TLS, from the first byte on.
    Tls,
    /// Nothing for us, whatever comes: it has begun as HTTP/2, or has left HTTP.
    Foreign,
    /// It has carried so much else that nothing is expected until something begins like a message.
    Other,
}

/// What is to be expected on a connection where no head is under way.
#[inline]
pub(super) fn prospect_of(protocol: Protocol, has_left: bool, unclear_bytes: u64) -> Prospect {
    match protocol {
        Protocol::Empty => Prospect::Open,
        Protocol::Tls => Prospect::Tls,
        Protocol::Http2 => Prospect::Foreign,
        Protocol::Http1 if has_left => Prospect::Foreign,
        Protocol::Http1 => Prospect::Http1,
        Protocol::Other if unclear_bytes < UNCLEAR_BYTES_MAX => Prospect::Open,
        Protocol::Other => Prospect::Other,
    }
}

impl Conversation {
    /// What is still to be expected. Once it is neither [`Prospect::Open`] nor
    /// [`Prospect::Http1`] it does not change, and the connection need not be followed.
    #[inline]
    pub fn prospect(&self) -> Prospect {
        let has_left = self.has_switched && self.pending.is_empty();
        let prospect = prospect_of(self.protocol, has_left, self.unclear_bytes);
        let may_begin = |phase| matches!(phase, Phase::Head { .. } | Phase::LongHead(_));
        match prospect {
            Prospect::Other if self.halves.iter().any(|half| may_begin(half.phase)) => {
                Prospect::Open
            }
            _ => prospect,
        }
    }

    /// Up to where all of `direction` is the body of the message under way, if that is
    /// `bytes_min` or more: no head begins before. `None` also where anything speaks against it.
    #[inline]
    pub fn body_until<L>(
        &self,
        direction: Direction,
        bytes_min: u64,
        ahead_bytes_max: u32,
        room: &mut Room<L>,
    ) -> Option<SeqNumber> {
        let half = &self.halves[direction.index()];
        let Phase::Body(framing) = half.phase else { return None };
        let rest_bytes = framing.rest_bytes();
        if rest_bytes < bytes_min || !half.is_body_sure {
            return None;
        }
        let entry = room.pool.entry(half.open?);
        if entry.is_body_withheld && entry.exchange.request.body_bytes == Some(0) {
            // It may not come at all.
            return None;
        }
        Some(half.passed_until?.plus(rest_bytes.min(u64::from(ahead_bytes_max)) as u32))
    }

    /// Whether nothing speaks against what a head says of the body behind it: its fields do not
    /// contradict each other, and which request a response answers is certain.
    pub(super) fn is_body_sure<L>(
        &self,
        direction: Direction,
        framing: Option<BodyFraming>,
        room: &mut Room<L>,
    ) -> bool {
        let Some(id) = self.halves[direction.index()].open else { return false };
        let exchange = room.pool.exchange(id);
        let is_request = self.client == Some(direction);
        !exchange.is_conflict
            && exchange.request.is_seen
            && if is_request {
                framing != Some(BodyFraming::UntilClose)
            } else {
                self.pending.is_in_order()
            }
    }

    /// Bytes passed that the filter cut off. It does so only where they are a body's, as far as we
    /// have told it or it has read itself: so they count as any would that begin no message. Where
    /// we know of no body, the head was lost before.
    pub(super) fn elided<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: u32,
        origin: &Origin,
        room: &mut Room<L>,
    ) {
        if self.protocol == Protocol::Empty {
            self.begin(wire, Protocol::Other);
        }
        match self.halves[direction.index()].phase {
            Phase::Off => {}
            Phase::Start => {
                self.go_on(wire, direction, len_bytes, origin, room);
                self.not_a_head(wire, direction, len_bytes as usize, origin, room);
            }
            Phase::Search => {
                self.go_on(wire, direction, len_bytes, origin, room);
                self.pass_over(wire, direction, len_bytes as usize, origin, room);
            }
            Phase::Body(framing) => {
                self.elided_of_body(wire, direction, framing, len_bytes, origin, room);
            }
            Phase::Head { .. } | Phase::LongHead(_) => {
                self.gap(wire, direction, len_bytes.into(), origin.seq, room);
            }
        }
    }

    /// The same of the open message's body; where they do not fit into that, something was lost.
    fn elided_of_body<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        mut framing: BodyFraming,
        len_bytes: u32,
        origin: &Origin,
        room: &mut Room<L>,
    ) {
        let body_bytes = len_bytes.into();
        let Skipped::Inside { is_done } = framing.skip(body_bytes) else {
            return self.gap(wire, direction, body_bytes, origin.seq, room);
        };
        self.go_on(wire, direction, len_bytes, origin, room);
        self.tell_absent(direction, room, || false);
        self.halves[direction.index()].phase = Phase::Body(framing);
        self.count_body(direction, body_bytes, body_bytes, origin, room);
        if is_done {
            self.end_body(wire, direction, Some(origin.timestamp), room);
        }
    }
}
