//! Bodies that are announced and may not come: of an answer to a HEAD that was not seen, and of a
//! request whose client waits for `100 Continue`.

use super::Listener;
use super::conversation::{Conversation, Phase, Room, Wire};
use super::head;
use super::places::Cause;
use crate::decode::SeqNumber;
use crate::flow::Origin;
use crate::ids::Direction;
use crate::time::TimestampNs;

impl Conversation {
    /// Whether a body that was announced does not come, though nothing of it was seen yet: the
    /// answer to a lost HEAD has none, and a client that waits for `100 Continue` keeps it back
    /// when it reads another answer. What stands in its place is the next head.
    pub(super) fn is_body_absent<L>(
        &self,
        direction: Direction,
        data: &[u8],
        origin: &Origin,
        room: &mut Room<L>,
    ) -> bool {
        let half = &self.halves[direction.index()];
        let (true, Some(id), Phase::Body(framing)) =
            (origin.is_frame_start, half.open, &half.phase)
        else {
            return false;
        };
        let entry = room.pool.entry(id);
        let exchange = &entry.exchange;
        let is_request = self.client == Some(direction);
        let may_be = if is_request {
            entry.is_body_withheld
                && exchange.response.is_seen
                && exchange.request.body_bytes == Some(0)
                && self.has_read_all(direction, origin)
        } else {
            !exchange.request.is_seen && exchange.response.body_bytes == Some(0)
        };
        may_be && framing.is_untouched() && head::is_certain(data, self.expected(direction))
    }

    /// Whether who sent this had read all that came before. What a client sends without having read
    /// the answer is the body, whatever it looks like.
    fn has_read_all(&self, direction: Direction, origin: &Origin) -> bool {
        let answered_until = self.halves[direction.opposite().index()].seen_until;
        let read = origin.ack.zip(answered_until);
        read.is_some_and(|(read_until, until)| !read_until.precedes(until))
    }

    /// Behind an answer to a HEAD stands another answer or nothing: what begins otherwise is the
    /// body that the head tells of.
    #[inline]
    pub(super) fn tell_absent<L>(
        &mut self,
        direction: Direction,
        room: &mut Room<L>,
        may_begin_answer: impl FnOnce() -> bool,
    ) {
        let half = &mut self.halves[direction.index()];
        if half.may_be_absent
            && let Phase::Body(framing) = &half.phase
            && framing.is_untouched()
            && let Some(id) = half.open
            && room.pool.exchange(id).response.body_bytes == Some(0)
        {
            half.may_be_absent = may_begin_answer();
        }
    }

    /// The body of the open message has ended, as far as its head tells. If it may not have been
    /// sent, what passed for it may have been messages.
    pub(super) fn end_body<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        last: Option<TimestampNs>,
        room: &mut Room<L>,
    ) {
        self.end_message(wire, direction, last, room);
        let half = &mut self.halves[direction.index()];
        if half.may_be_absent
            && let Some(until) = half.passed_until
        {
            half.phase = Phase::Search;
            self.lose_messages(wire, direction, until, Cause::Lost);
        }
    }

    /// A request passes whose client had read up to `read_until`. If it had read all that it asked
    /// for, then no body goes on behind that place: a response whose request was lost was to a
    /// HEAD, and what it says of its body is not sent.
    #[cold]
    pub(super) fn end_absent_body<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        server: Direction,
        read_until: Option<SeqNumber>,
        room: &mut Room<L>,
    ) {
        let half = &self.halves[server.index()];
        let (Phase::Body(framing), Some(id)) = (half.phase, half.open) else { return };
        let Some((until, passed_until)) = read_until.zip(half.passed_until) else { return };
        let entry = room.pool.entry(id);
        let is_read = entry.start.precedes(until);
        let goes_on = framing.goes_beyond(until.distance(passed_until));
        if !is_read || !goes_on || self.pending.places.is_sliding {
            return;
        }
        let response = &entry.exchange.response;
        if response.body_bytes == Some(0) && framing.is_untouched() && half.seen_until == read_until
        {
            let last = response.last;
            return self.end_message(wire, server, last, room);
        }
        self.halves[server.index()].phase = Phase::Search;
        self.forget_body(server, room);
        self.lose_messages(wire, server, until, Cause::Lost);
    }
}
