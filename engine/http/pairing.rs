//! Requests and their responses. In order, as RFC 9112 section 9.3.2 has it; after a loss, only
//! where the sequence numbers tell which request a response answers.

use super::body::BodyFraming;
use super::conversation::{Arrived, Conversation, Phase, Room, Wire};
use super::exchange::{Exchange, Outcome};
use super::head::{Head, Kind};
use super::pool::ExchangeId;
use super::{Listener, Message};
use crate::decode::SeqNumber;
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
    /// The client sends requests while others wait for their answers.
    is_pipelined: bool,
    /// It does so when it has read the answers to some of them. Else what it has read when it sends
    /// a request holds the answers to all before.
    is_sliding: bool,
    /// Where the response stream lost its place, until a response can be placed again.
    lost_at: Option<SeqNumber>,
    /// The request stream lost its place, so that a response may belong to a request that nobody
    /// saw; until a request passes that was sent after the answers to those had been read.
    request_loss: Option<RequestLoss>,
}

/// What is known of requests that nobody saw.
#[derive(Clone, Copy, Debug, Default)]
struct RequestLoss {
    /// Bytes were lost, not only not understood.
    is_of_bytes: bool,
    /// How far we had seen the response stream.
    seen_until: Option<SeqNumber>,
    /// How far it had passed: where it had a loss, too, nobody knows which came first.
    passed_until: Option<SeqNumber>,
}

impl Pending {
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether every response so far was found by its place in the order.
    pub(super) fn is_in_order(&self) -> bool {
        self.lost_at.is_none() && self.request_loss.is_none() && self.overflow_count == 0
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
        let is_after_loss = self.pending.request_loss.is_some();
        let is_doubtful = self.may_follow_lost_request(direction, first.ack);
        if !is_doubtful {
            self.pending.request_loss = None;
        }
        if let (Some(last), Some(read_until)) = (self.pending.last, first.ack)
            && self.pending.lost_at.is_none()
            && !is_after_loss
        {
            self.pending.is_pipelined = true;
            let before = room.pool.entry(last).read_until;
            self.pending.is_sliding |= before.is_some_and(|before| before.precedes(read_until));
        }
        let id = self.new_exchange(first, room);
        let entry = room.pool.entry(id);
        entry.read_until = first.ack;
        (entry.is_after_loss, entry.is_doubtful) = (is_after_loss, is_doubtful);
        room.pool.fill_head(id, true, bytes);
        let entry = room.pool.entry(id);
        let exchange = &mut entry.exchange;
        fill(&mut exchange.request, arrived);
        exchange.is_conflict |= head.framing.is_conflict();
        let framing = BodyFraming::of_request(&head.framing);
        entry.is_body_withheld =
            head.framing.expects_continue && framing.is_some_and(|it| it != BodyFraming::None);
        let identity = self.identity(wire);
        room.listener.message(&identity, &room.pool.exchange(id).request, last);
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
        let open = self.halves[direction.index()].open.take();
        let id = match open.or_else(|| self.pair(wire, first.seq, room)) {
            Some(id) => id,
            None => self.new_exchange(first, room),
        };
        if matches!(status, 100..=199) && status != 101 {
            return self.interim(wire, direction, id, arrived, status, room);
        }
        self.end_lost_request(direction.opposite(), id, room);
        room.pool.fill_head(id, false, bytes);
        let exchange = room.pool.exchange(id);
        fill(&mut exchange.response, arrived);
        exchange.is_conflict |= head.framing.is_conflict();
        let request = &exchange.request;
        exchange.is_early = request.is_seen && !request.is_ended;
        let method = request.is_seen.then(|| request.field(request.fields.first)).flatten();
        let is_tunnel = status == 101 || method == Some(b"CONNECT") && matches!(status, 200..=299);
        let framing = BodyFraming::of_response(&head.framing, head.kind, method);
        let identity = self.identity(wire);
        room.listener.message(&identity, &room.pool.exchange(id).response, last);
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
        let identity = self.identity(wire);
        room.listener.message(&identity, &room.pool.exchange(scratch).response, arrived.last);
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
            self.begin_rest_of_head(direction, Some(BodyFraming::None), room);
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

    fn new_exchange<L>(&mut self, first: Origin, room: &mut Room<L>) -> ExchangeId {
        let id = room.pool.take();
        let exchange = room.pool.exchange(id);
        exchange.n = self.next_n;
        exchange.iface = first.iface;
        exchange.tunnel = first.tunnel;
        self.next_n = self.next_n.saturating_add(1);
        id
    }

    /// The phase behind a head, by the framing of its body.
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
            return self.begin_rest_of_head(direction, framing, room);
        }
        let is_body_sure = self.is_body_sure(direction, framing, room);
        let half = &mut self.halves[direction.index()];
        half.last_at = Some(last);
        half.is_body_sure = is_body_sure;
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
        if half.phase == Phase::Search && half.open == Some(id) {
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

    /// The request that a response answers whose head stands at `at` in the server's stream. The
    /// first pending one, unless something was lost: then a request counts only if the sequence
    /// numbers say so.
    fn pair<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        at: SeqNumber,
        room: &mut Room<L>,
    ) -> Option<ExchangeId> {
        if self.pending.overflow_count > 0 {
            // After a loss nobody can tell how many of those answers have passed, and nothing is
            // paired any more.
            self.pending.overflow_count -= u64::from(self.pending.lost_at.is_none());
            return None;
        }
        if let Some(id) = self.pending.first
            && room.pool.entry(id).is_doubtful
        {
            // The answers to the lost requests come first, and nobody knows how many they are.
            let since = room.pool.entry(id).read_until.unwrap_or(at);
            self.pending.lost_at.get_or_insert(since);
        }
        if let Some(lost_at) = self.pending.lost_at {
            self.skip_lost_responses(wire, lost_at, at, room);
            let first = self.pending.first;
            let is_doubtful = first.is_some_and(|id| room.pool.entry(id).is_doubtful);
            if is_doubtful || !self.had_read_all(at, room) && self.may_answer_second(at, room) {
                return None;
            }
            self.pending.lost_at = None;
        }
        let first = self.pending.first?;
        let entry = room.pool.entry(first);
        if entry.exchange.response.is_seen {
            return None;
        }
        if entry.is_after_loss && entry.read_until.is_some_and(|read_until| at.precedes(read_until))
        {
            // The client had read past this response before it sent the request.
            return None;
        }
        Some(first)
    }

    /// Whether a request that acknowledges `read_until` was sent together with requests that were
    /// lost, before their answers: the client had read nothing that came after the loss.
    fn may_follow_lost_request(&self, client: Direction, read_until: Option<SeqNumber>) -> bool {
        let (Some(loss), Some(read_until)) = (self.pending.request_loss, read_until) else {
            return false;
        };
        let until = if self.pending.is_pipelined { loss.passed_until } else { loss.seen_until };
        let has_read_more = match until {
            Some(until) => until.precedes(read_until),
            None => self.halves[client.opposite().index()].seen_until.is_some(),
        };
        loss.is_of_bytes && !has_read_more
    }

    /// Gives up requests whose responses lie in the loss, as a later request shows that was sent
    /// after the client had read beyond its beginning.
    fn skip_lost_responses<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        lost_at: SeqNumber,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        let Some(first) = self.pending.first else { return };
        let (mut place, mut skipped_count) = (0, 0);
        let mut entry = room.pool.entry(first);
        while let (Some(before), Some(next)) = (entry.read_until, entry.next) {
            entry = room.pool.entry(next);
            place += 1;
            let shows = |until: SeqNumber| {
                before.precedes(until) && lost_at.precedes(until) && !at.precedes(until)
            };
            if entry.read_until.is_some_and(shows) {
                skipped_count = place;
            } else if self.pending.is_sliding {
                break;
            }
        }
        for _ in 0..skipped_count {
            self.give_up_first(wire, None, room);
        }
    }

    /// Whether the client had read all before `at` when it sent the first pending request: then no
    /// response to it lies in a loss before `at`.
    fn had_read_all<L>(&self, at: SeqNumber, room: &mut Room<L>) -> bool {
        let read_until = self.pending.first.and_then(|id| room.pool.entry(id).read_until);
        read_until.is_some_and(|read_until| !read_until.precedes(at))
    }

    /// Whether a response at `at` may as well answer the second pending request as the first, or
    /// one that was lost behind it.
    fn may_answer_second<L>(&mut self, at: SeqNumber, room: &mut Room<L>) -> bool {
        let second = self.pending.first.and_then(|id| room.pool.entry(id).next);
        let is_second_lost = self.pending.request_loss.is_some_and(|loss| loss.is_of_bytes);
        second.map_or(is_second_lost, |id| {
            room.pool.entry(id).read_until.is_none_or(|read_until| !at.precedes(read_until))
        })
    }

    /// What the client sends behind a loss was not understood: a request may be in it, as well.
    pub(super) fn note_unread(&mut self, client: Direction) {
        let peer = &self.halves[client.opposite().index()];
        if let Some(loss) = &mut self.pending.request_loss {
            (loss.seen_until, loss.passed_until) = (peer.seen_until, peer.passed_until);
        }
    }

    /// Notes whose bytes were lost, as far as that can be told.
    pub(super) fn charge_gap<L>(
        &mut self,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        let is_server = self.client.is_some_and(|client| client != direction);
        let open = self.halves[direction.index()].open;
        if is_server {
            self.pending.lost_at.get_or_insert(at);
        } else {
            let loss = self.pending.request_loss.get_or_insert_default();
            loss.is_of_bytes |= len_bytes > 0;
            self.note_unread(direction);
        }
        let waiting =
            self.pending.first.filter(|id| is_server && !room.pool.exchange(*id).response.is_seen);
        if let Some(id) = open.or(waiting) {
            room.pool.exchange(id).gap_bytes += len_bytes;
        }
    }

    /// A direction is first seen at `at`, behind what the client had read when it sent its first
    /// request: what lies between passed unseen, and may hold the answers to requests that wait.
    pub(super) fn charge_unseen_beginning<L>(
        &mut self,
        direction: Direction,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        let read_until = self.pending.first.and_then(|id| room.pool.entry(id).read_until);
        if let Some(begin) = read_until
            && begin.precedes(at)
        {
            self.charge_gap(direction, at.distance(begin) as u64, begin, room);
        }
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
    fn make_room<L: Listener>(&mut self, wire: Wire<'_>, room: &mut Room<L>) {
        loop {
            let count = self.pending.count;
            let share = room.limits.held_share(count <= MODEST_PENDING_COUNT);
            if count <= room.limits.pending_count_max && room.pool.held_bytes() <= share {
                return;
            }
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
            self.give_up(wire, id, None, room);
        }
    }

    /// Gives up the first pending request.
    fn give_up_first<L: Listener>(&mut self, wire: Wire<'_>, end: Option<End>, room: &mut Room<L>) {
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
