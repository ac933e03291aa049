//! Requests and their responses. In order, as RFC 9112 section 9.3.2 has it; after a loss, only
//! where the sequence numbers tell which request a response answers.

use super::body::BodyFraming;
use super::conversation::{Arrived, Conversation, Phase, Room, Wire};
use super::exchange::{Exchange, Outcome};
use super::head::{Head, Kind};
use super::places::Places;
use super::pool::ExchangeId;
use super::{Listener, Message};
use crate::flow::{End, Origin};
use crate::ids::Direction;
use crate::time::TimestampNs;

/// A connection with so many unanswered requests may keep them while the shard's memory is more
/// than half full.
const MODEST_PENDING_COUNT: usize = 8;

/// Interim responses that one record lists; more are not sent but by fools.
const INTERIM_COUNT_MAX: usize = 16;

/// Requests without their whole response, in order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    first: Option<ExchangeId>,
    last: Option<ExchangeId>,
    count: usize,
    /// Requests given up for want of room, whose answers are still to come, before those to the
    /// ones that wait.
    overflow_count: u64,
    /// What is known of the order where something was lost.
    pub places: Places,
}

impl Pending {
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether every response so far was found by its place in the order.
    pub(super) fn is_in_order(&self) -> bool {
        self.places.are_sure() && self.overflow_count == 0
    }

    /// The request that has waited longest.
    pub(super) fn first(&self) -> Option<ExchangeId> {
        self.first
    }

    /// Whether no request waits for its answer.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Conversation {
    pub(super) fn request<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        arrived: &Arrived<'_>,
        room: &mut Room<L>,
    ) {
        let Arrived { head, bytes, first, last } = *arrived;
        room.stats.requests += 1;
        let (is_after_loss, doubt) = self.place_request(wire, direction, first, room);
        let id = self.new_exchange(first, room);
        let entry = room.pool.fill_head(id, true, bytes);
        entry.read_until = first.ack;
        (entry.is_after_loss, entry.doubt) = (is_after_loss, doubt);
        let exchange = &mut entry.exchange;
        fill(&mut exchange.request, arrived);
        exchange.is_conflict |= head.framing.is_conflict();
        let framing = BodyFraming::of_request(&head.framing);
        entry.is_body_withheld =
            head.framing.expects_continue && framing.is_some_and(|it| it != BodyFraming::None);
        if room.listener.hears_messages() {
            room.listener.message(&self.identity(wire), &exchange.request, last);
        }
        self.push_pending(id, room);
        self.halves[direction.index()].open = Some(id);
        self.begin_body(wire, direction, head, framing, last, room);
        self.make_room(wire, room);
    }

    pub(super) fn response<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        arrived: &Arrived<'_>,
        status: u16,
        room: &mut Room<L>,
    ) {
        let Arrived { head, bytes, first, last } = *arrived;
        room.stats.responses += 1;
        let mut open = self.halves[direction.index()].open.take();
        if let Some(id) = open
            && self.pending.places.is_response_lost_behind(room.pool.entry(id).start)
        {
            // Interim answers came, and then what may have been the final one.
            self.report(wire, id, Outcome::NoRequest, None, room);
            open = None;
        }
        if open.is_none() {
            self.cut_answered_head(wire, direction, first, room);
        }
        let id = match open.or_else(|| self.pair(wire, first, room)) {
            Some(id) => id,
            None => self.new_exchange(first, room),
        };
        if matches!(status, 100..=199) && status != 101 {
            return self.interim(wire, direction, id, arrived, status, room);
        }
        self.end_lost_request(direction.opposite(), id, room);
        let exchange = &mut room.pool.fill_head(id, false, bytes).exchange;
        fill(&mut exchange.response, arrived);
        exchange.is_conflict |= head.framing.is_conflict();
        let request = &exchange.request;
        exchange.is_early = request.is_seen && !request.is_ended;
        let method = request.is_seen.then(|| request.field(request.fields.first)).flatten();
        let is_tunnel = status == 101 || method == Some(b"CONNECT") && matches!(status, 200..=299);
        let framing = BodyFraming::of_response(&head.framing, head.kind, method);
        if room.listener.hears_messages() {
            room.listener.message(&self.identity(wire), &exchange.response, last);
        }
        self.halves[direction.index()].open = Some(id);
        if is_tunnel {
            self.switch(wire, direction, id, last, room);
        } else {
            self.begin_body(wire, direction, head, framing, last, room);
            self.make_room(wire, room);
        }
    }

    /// A 1xx answer: noted on its exchange, whose final response is still to come.
    fn interim<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        id: ExchangeId,
        arrived: &Arrived<'_>,
        status: u16,
        room: &mut Room<L>,
    ) {
        let scratch = room.pool.take();
        room.pool.fill_head(scratch, false, arrived.bytes);
        fill(&mut room.pool.exchange(scratch).response, arrived);
        if room.listener.hears_messages() {
            let response = &room.pool.exchange(scratch).response;
            room.listener.message(&self.identity(wire), response, arrived.last);
        }
        room.pool.give_back(scratch);
        let entry = room.pool.entry(id);
        entry.is_body_withheld &= status != 100;
        let exchange = &mut entry.exchange;
        if exchange.interim.len() < INTERIM_COUNT_MAX {
            exchange.interim.push(status);
        }
        // An exchange without a request is known only here until its final response comes.
        if !exchange.request.is_seen {
            self.halves[direction.index()].open = Some(id);
        }
        if arrived.head.is_whole {
            self.halves[direction.index()].phase = Phase::Start;
        } else {
            let framing = Some(BodyFraming::None);
            self.begin_rest_of_head(direction, arrived.head.framing, framing, room);
        }
    }

    /// The connection leaves HTTP: the exchange is complete, and nothing that follows is looked at.
    fn switch<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        id: ExchangeId,
        last: TimestampNs,
        room: &mut Room<L>,
    ) {
        self.has_switched = true;
        let exchange = room.pool.exchange(id);
        exchange.is_switched = true;
        if exchange.request.is_seen && !exchange.request.is_ended {
            exchange.request.is_ended = true;
        }
        self.halves[direction.opposite().index()].open = None;
        self.end_message(wire, direction, Some(last), room);
        self.leave_http();
    }

    #[inline(always)]
    fn new_exchange<L>(&mut self, first: &Origin, room: &mut Room<L>) -> ExchangeId {
        let id = room.pool.take();
        let entry = room.pool.entry(id);
        entry.start = first.seq;
        let exchange = &mut entry.exchange;
        exchange.n = self.next_n;
        exchange.iface = first.iface;
        exchange.tunnel = first.tunnel;
        self.next_n = self.next_n.saturating_add(1);
        id
    }

    /// The phase behind a head, by the framing of its body.
    #[inline(always)]
    fn begin_body<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        head: &Head,
        framing: Option<BodyFraming>,
        last: TimestampNs,
        room: &mut Room<L>,
    ) {
        if !head.is_whole {
            return self.begin_rest_of_head(direction, head.framing, framing, room);
        }
        let is_body_sure = self.is_body_sure(direction, framing, room);
        let half = &mut self.halves[direction.index()];
        half.last_at = Some(last);
        half.is_body_sure = is_body_sure;
        half.may_be_absent = half.open.is_some_and(|id| !room.pool.exchange(id).request.is_seen);
        self.enter_body(wire, direction, framing, last, room);
    }

    /// A head that ended at `last` has passed whole, seen or not.
    #[inline]
    pub(super) fn enter_body<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        framing: Option<BodyFraming>,
        last: TimestampNs,
        room: &mut Room<L>,
    ) {
        let half = &mut self.halves[direction.index()];
        match framing {
            Some(BodyFraming::None) => self.end_message(wire, direction, Some(last), room),
            Some(framing) => half.phase = Phase::Body(framing),
            None => {
                // Nobody can tell where this body ends: the next certain head does.
                half.phase = Phase::Search;
                room.stats.resyncs += 1;
                self.forget_body(direction, room);
            }
        }
    }

    /// The response has come, so the request is over, though nobody saw where it ended.
    fn end_lost_request<L>(&mut self, client: Direction, id: ExchangeId, room: &mut Room<L>) {
        let half = &mut self.halves[client.index()];
        if matches!(half.phase, Phase::Search) && half.open == Some(id) {
            half.open = None;
            room.pool.exchange(id).request.is_ended = true;
        }
    }

    fn push_pending<L>(&mut self, id: ExchangeId, room: &mut Room<L>) {
        match self.pending.last {
            Some(last) => room.pool.entry(last).next = Some(id),
            None => self.pending.first = Some(id),
        }
        self.pending.last = Some(id);
        self.pending.count += 1;
    }

    fn pop_pending<L>(&mut self, room: &mut Room<L>) -> Option<ExchangeId> {
        let first = self.pending.first?;
        self.pending.first = room.pool.entry(first).next.take();
        if self.pending.first.is_none() {
            self.pending.last = None;
        }
        self.pending.count -= 1;
        Some(first)
    }

    /// The request that a response answers whose head stands in `head`: the first pending one,
    /// unless something was lost.
    fn pair<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        head: &Origin,
        room: &mut Room<L>,
    ) -> Option<ExchangeId> {
        if self.pending.overflow_count > 0 {
            // After a loss nobody can tell how many of those answers have passed, and nothing is
            // paired any more.
            self.pending.overflow_count -= u64::from(!self.pending.places.is_response_lost());
            return None;
        }
        self.place_response(wire, head, room).filter(|id| !room.pool.exchange(*id).response.is_seen)
    }

    /// Reports the exchange if both of its messages have ended.
    pub(super) fn complete_if_ended<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        id: ExchangeId,
        room: &mut Room<L>,
    ) {
        let exchange = room.pool.exchange(id);
        if !exchange.response.is_ended {
            return;
        }
        if !exchange.request.is_seen {
            self.report(wire, id, Outcome::NoRequest, None, room);
        } else if exchange.request.is_ended {
            self.pop_pending(room);
            self.report(wire, id, Outcome::Complete, None, room);
        }
    }

    /// Gives up requests while there are more than may be: on this connection, or, where the
    /// shard's memory runs short, for a connection with many, and at last all that is under way on
    /// any.
    #[inline(always)]
    fn make_room<L: Listener>(&mut self, wire: Wire<'_>, room: &mut Room<L>) {
        if !self.has_room(room) {
            self.give_up_some(wire, room);
        }
    }

    #[inline(always)]
    fn has_room<L>(&self, room: &Room<L>) -> bool {
        let count = self.pending.count;
        let share = room.limits.held_share(count <= MODEST_PENDING_COUNT);
        count <= room.limits.pending_count_max && room.pool.held_bytes() <= share
    }

    #[cold]
    fn give_up_some<L: Listener>(&mut self, wire: Wire<'_>, room: &mut Room<L>) {
        while !self.has_room(room) {
            let count = self.pending.count;
            self.give_up_unanswered(wire, room);
            if self.pending.count == count {
                break;
            }
        }
        if room.pool.held_bytes() > room.limits.held_share(true) {
            let before = room.pool.in_use();
            self.give_up_all(wire, None, room);
            room.stats.exchanges_at_bound += (before - room.pool.in_use()) as u64;
        }
    }

    /// Gives up the first pending request that has no answer yet, to make room.
    fn give_up_unanswered<L: Listener>(&mut self, wire: Wire<'_>, room: &mut Room<L>) {
        let Some(first) = self.pending.first else { return };
        let id = if room.pool.exchange(first).response.is_seen {
            let Some(second) = room.pool.entry(first).next else { return };
            room.pool.entry(first).next = room.pool.entry(second).next.take();
            if self.pending.last == Some(second) {
                self.pending.last = Some(first);
            }
            self.pending.count -= 1;
            Some(second)
        } else {
            self.pop_pending(room)
        };
        room.stats.pending_overflow += 1;
        self.pending.overflow_count += 1;
        if let Some(id) = id {
            let entry = room.pool.entry(id);
            if entry.is_after_loss {
                self.pending.places.lose_count(entry.read_until);
            }
            self.give_up(wire, id, None, room);
        }
    }

    /// Gives up the first pending request.
    pub(super) fn give_up_first<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        end: Option<End>,
        room: &mut Room<L>,
    ) {
        if let Some(id) = self.pop_pending(room) {
            self.give_up(wire, id, end, room);
        }
    }

    fn give_up<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        id: ExchangeId,
        end: Option<End>,
        room: &mut Room<L>,
    ) {
        let entry = room.pool.entry(id);
        let exchange = &mut entry.exchange;
        let may_be_withheld = entry.is_body_withheld && exchange.request.body_bytes == Some(0);
        exchange.request.is_ended |= may_be_withheld && exchange.response.is_ended;
        for half in &mut self.halves {
            if half.open == Some(id) {
                half.open = None;
                // Else what is left of the message comes first, and is followed.
                if may_be_withheld && half.phase != Phase::Off {
                    half.phase = Phase::Search;
                }
            }
        }
        let is_cut =
            !exchange.request.is_ended || exchange.response.is_seen && !exchange.response.is_ended;
        let (outcome, end) = match (is_cut, exchange.response.is_seen) {
            (true, _) => (Outcome::Truncated, end),
            (false, true) => (Outcome::Complete, None),
            (false, false) => (Outcome::NoResponse, end),
        };
        self.report(wire, id, outcome, end, room);
    }

    /// Ends all that is under way on the connection.
    pub fn finish<L: Listener>(&mut self, wire: Wire<'_>, end: End, room: &mut Room<L>) {
        self.drop_partial_heads(room);
        self.give_up_all(wire, Some(end), room);
        if end != End::Fin {
            self.leave_http();
        }
    }

    /// Gives up the exchanges that are under way.
    fn give_up_all<L: Listener>(&mut self, wire: Wire<'_>, end: Option<End>, room: &mut Room<L>) {
        for half in 0..2 {
            let Some(id) = self.halves[half].open else { continue };
            if room.pool.exchange(id).request.is_seen {
                continue;
            }
            // A response without a request; it stands in no queue.
            self.halves[half].open = None;
            let is_cut = room.pool.exchange(id).response.is_seen;
            let outcome = if is_cut { Outcome::Truncated } else { Outcome::NoRequest };
            self.report(wire, id, outcome, end, room);
        }
        while self.pending.first.is_some() {
            self.give_up_first(wire, end, room);
        }
    }

    fn report<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        id: ExchangeId,
        outcome: Outcome,
        end: Option<End>,
        room: &mut Room<L>,
    ) {
        let identity = self.identity(wire);
        let exchange = room.pool.exchange(id);
        exchange.outcome = Some(outcome);
        exchange.end = end;
        exchange.is_midstream = wire.origins.is_midstream();
        exchange.connect_ns = (exchange.n == 0).then(|| wire.origins.connect_ns()).flatten();
        forget_unended_times(exchange);
        let stats = &mut room.stats;
        *match outcome {
            Outcome::Complete => &mut stats.exchanges_complete,
            Outcome::NoResponse => &mut stats.exchanges_no_response,
            Outcome::NoRequest => &mut stats.exchanges_no_request,
            Outcome::Truncated => &mut stats.exchanges_truncated,
        } += 1;
        stats.exchanges_with_gap += u64::from(exchange.gap_bytes > 0);
        room.listener.exchange(&identity, room.pool.exchange(id));
        room.pool.give_back(id);
    }
}

/// A message that did not end has no last byte.
fn forget_unended_times(exchange: &mut Exchange) {
    for message in [&mut exchange.request, &mut exchange.response] {
        if !message.is_ended {
            message.last = None;
        }
    }
}

fn fill(message: &mut Message, arrived: &Arrived<'_>) {
    let Arrived { head, first, last, .. } = *arrived;
    message.is_seen = true;
    message.fields = head.fields;
    message.status = match head.kind {
        Kind::Request => 0,
        Kind::Response { status } => status,
    };
    message.body_bytes = Some(0);
    message.first = Some(first.timestamp);
    message.last = Some(last);
}
