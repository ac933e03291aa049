//! Which request a response answers where something was lost.
//!
//! Without a loss responses come in the order of their requests, and this is not asked. With one,
//! sequence numbers tell. A request says how far its client had read the responses when it sent it,
//! and a client that waits for its answers, or sends batches of requests and waits for the answers
//! to all of them, had by then read the answers to all that it asked before. So the response stream
//! falls into windows, from one such place to the next, and in a window are the answers to the
//! requests that name its beginning, in their order, and no others. Who has asked for more before
//! it had all answers (`is_sliding`) does not show where a window begins.
//!
//! What cannot be told so is not paired.

use super::Listener;
use super::conversation::{Conversation, Phase, Room, Wire};
use super::pool::ExchangeId;
use crate::decode::SeqNumber;
use crate::flow::Origin;
use crate::ids::Direction;

/// Whether requests may have passed unseen whose answers come in the same window before this one's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Doubt {
    /// No.
    #[default]
    None,
    /// If the client turns out to send batches: it is the first request that was seen of a
    /// connection that was joined late.
    IfBatch,
    /// Yes.
    Sure,
}

/// Why messages may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Bytes were lost.
    Lost,
    /// Bytes were seen in which no message was found. Most likely there was none in them.
    NotUnderstood,
}

/// What is known of the order of a connection's messages.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// How far the client had read when it sent the last request that was seen.
    pub last_read: Option<SeqNumber>,
    /// The client asks on when it has read the answers to some of its requests, but not to all.
    pub is_sliding: bool,
    /// Responses may be missing before this place; until a response can be placed again.
    response_loss: Option<SeqNumber>,
    /// Requests may be missing before the next; until one passes whose answer cannot be behind
    /// theirs in one window.
    request_loss: Option<RequestLoss>,
}

/// Bytes of the client in which requests may have been.
#[derive(Clone, Copy, Debug)]
struct RequestLoss {
    /// They were lost, not only not understood.
    is_of_bytes: bool,
    /// Behind the last of them.
    until: SeqNumber,
    /// The first place seen in the response stream that was sent by a server that had received
    /// them.
    received_at: Option<SeqNumber>,
}

impl Places {
    /// Whether nothing is missing.
    pub fn are_sure(&self) -> bool {
        self.response_loss.is_none() && self.request_loss.is_none()
    }

    /// Whether responses may be missing since the last one that was placed.
    pub fn is_response_lost(&self) -> bool {
        self.response_loss.is_some()
    }

    /// The same, of responses behind `place`.
    pub fn is_response_lost_behind(&self, place: SeqNumber) -> bool {
        self.response_loss.is_some_and(|until| place.precedes(until))
    }

    /// A request was given up before its answer came; requests before it may be missing. How many
    /// answers are to be passed over then cannot be told.
    pub fn lose_count(&mut self, read_until: Option<SeqNumber>) {
        self.response_loss = self.response_loss.or(Some(read_until.unwrap_or_default()));
    }
}

impl Conversation {
    /// A request passes whose first byte came with `first`: whether requests before it may be
    /// missing, and whether their answers come before its own.
    pub(super) fn place_request<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        client: Direction,
        first: &Origin,
        room: &mut Room<L>,
    ) -> (bool, Doubt) {
        // Of a connection that was joined late, the first request may have passed unseen.
        let is_joined = self.pending.places.last_read.is_none() && wire.origins.is_midstream();
        self.learn_habit(client, first.ack, room);
        let server = client.opposite();
        if self.halves[server.index()].may_be_absent {
            self.end_absent_body(wire, server, first.ack, room);
        }
        let places = &mut self.pending.places;
        let doubt = if is_joined { Doubt::IfBatch } else { Doubt::None };
        let Some(loss) = places.request_loss else { return (is_joined, doubt) };
        // Who has read something that was said after the loss has read all the answers to it.
        let read = loss.received_at.zip(first.ack);
        let has_read = read.is_some_and(|(place, until)| place.precedes(until));
        if loss.is_of_bytes && (places.is_sliding || !has_read) {
            return (true, Doubt::Sure);
        }
        places.request_loss = None;
        (true, doubt)
    }

    /// What a request shows of when its client asks.
    fn learn_habit<L>(
        &mut self,
        client: Direction,
        read_until: Option<SeqNumber>,
        room: &mut Room<L>,
    ) {
        let Some(read_until) = read_until else { return };
        let places = &mut self.pending.places;
        let last_read = places.last_read.replace(read_until);
        let has_read_more = last_read.is_some_and(|last| last.precedes(read_until));
        if !has_read_more || places.is_sliding {
            return;
        }
        let server = &self.halves[client.opposite().index()];
        let Some(seen_until) = server.seen_until else { return };
        let is_unread = read_until.precedes(seen_until);
        let is_known =
            read_until == seen_until && !matches!(server.phase, Phase::Search) && places.are_sure();
        let is_waiting = |first| !room.pool.entry(first).is_after_loss;
        self.pending.places.is_sliding =
            is_unread || is_known && self.pending.first().is_some_and(is_waiting);
    }

    /// The pending request that a response answers whose head stands in `head`; `None` where that
    /// cannot be told.
    pub(super) fn place_response<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        head: &Origin,
        room: &mut Room<L>,
    ) -> Option<ExchangeId> {
        let first = self.pending.first()?;
        if !self.pending.places.is_response_lost() && !room.pool.entry(first).is_after_loss {
            return Some(first);
        }
        self.place_by_numbers(wire, head, room)
    }

    /// The same behind a loss.
    #[cold]
    fn place_by_numbers<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        head: &Origin,
        room: &mut Room<L>,
    ) -> Option<ExchangeId> {
        if !self.pending.places.is_sliding {
            self.give_up_ended_windows(wire, head.seq, room);
        }
        let first = self.pending.first()?;
        if !may_answer(first, head, room) || is_in_doubt(first, room) {
            return None;
        }
        let begin = room.pool.entry(first).read_until;
        let places = &self.pending.places;
        let is_window_whole =
            !places.is_sliding && begin.is_some_and(|begin| !places.is_response_lost_behind(begin));
        let is_sure = !places.is_response_lost() || is_window_whole;
        if !is_sure && !self.is_only_choice(first, head, room) {
            return None;
        }
        self.pending.places.response_loss = None;
        Some(first)
    }

    /// Whether the response in `head` can answer no other request than the first, neither a pending
    /// one nor one that was lost behind it.
    fn is_only_choice<L>(&self, first: ExchangeId, head: &Origin, room: &mut Room<L>) -> bool {
        match room.pool.entry(first).next {
            Some(next) => !room.pool.entry(next).is_after_loss && !may_answer(next, head, room),
            None => !self.pending.places.request_loss.is_some_and(|loss| loss.is_of_bytes),
        }
    }

    /// Gives up requests whose windows have ended before `at`: a later request shows it.
    fn give_up_ended_windows<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        let (mut place, mut ended_count) = (0, 0);
        let mut id = self.pending.first();
        let mut begin = id.and_then(|id| room.pool.entry(id).read_until);
        while let Some(next) = id.and_then(|id| room.pool.entry(id).next) {
            place += 1;
            let next_begin = room.pool.entry(next).read_until;
            if let (Some(before), Some(after)) = (begin, next_begin)
                && before.precedes(after)
                && !at.precedes(after)
            {
                ended_count = place;
            }
            (id, begin) = (Some(next), next_begin.or(begin));
        }
        for _ in 0..ended_count {
            self.give_up_first(wire, None, room);
        }
    }

    /// The first message tells who sends the requests.
    pub(super) fn know_client(&mut self, client: Direction) {
        if self.client.is_none() {
            self.client = Some(client);
            let lost_until = self.halves[client.opposite().index()].lost_until;
            let response_loss = &mut self.pending.places.response_loss;
            *response_loss = response_loss.or(lost_until);
        }
    }

    /// The stream of `direction` goes on with what came in `origin`.
    #[inline]
    pub(super) fn note_answer(&mut self, wire: Wire<'_>, direction: Direction, origin: &Origin) {
        if self.pending.places.request_loss.is_some() {
            self.note_receipt(wire, direction, origin);
        }
    }

    /// Whether the server shows with it that it has received what was lost of the client.
    #[cold]
    fn note_receipt(&mut self, wire: Wire<'_>, direction: Direction, origin: &Origin) {
        let is_server = self.is_server(wire, direction) == Some(true);
        if let Some(loss) = &mut self.pending.places.request_loss
            && loss.received_at.is_none()
            && is_server
            && origin.ack.is_some_and(|ack| !ack.precedes(loss.until))
        {
            loss.received_at = Some(origin.seq);
        }
    }

    /// Whether `direction` is the server's; `None` where nothing tells yet.
    fn is_server(&self, wire: Wire<'_>, direction: Direction) -> Option<bool> {
        Some(self.client.or(wire.origins.client)? != direction)
    }

    /// Messages of `direction` may have passed up to `until` that were lost, or not understood.
    #[cold]
    pub(super) fn lose_messages(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        until: SeqNumber,
        cause: Cause,
    ) {
        let is_server = self.is_server(wire, direction);
        let places = &mut self.pending.places;
        let was_of_bytes = places.request_loss.is_some_and(|loss| loss.is_of_bytes);
        let is_of_bytes = was_of_bytes || cause == Cause::Lost;
        match is_server {
            Some(true) => places.response_loss = Some(until),
            Some(false) => {
                places.request_loss = Some(RequestLoss { is_of_bytes, until, received_at: None });
            }
            None => self.halves[direction.index()].lost_until = Some(until),
        }
    }

    /// Notes whose bytes were lost, as far as that can be told.
    pub(super) fn charge_gap<L>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        self.lose_messages(wire, direction, at.plus(len_bytes as u32), Cause::Lost);
        let is_server = self.is_server(wire, direction);
        let open = self.halves[direction.index()].open;
        let waiting = self
            .pending
            .first()
            .filter(|id| is_server == Some(true) && !room.pool.exchange(*id).response.is_seen);
        if let Some(id) = open.or(waiting) {
            room.pool.exchange(id).gap_bytes += len_bytes;
        }
    }

    /// A direction is first seen at `at`, behind what the client had read when it sent its first
    /// request: what lies between passed unseen, and may hold the answers to requests that wait.
    pub(super) fn charge_unseen_beginning<L>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        let read_until = self.pending.first().and_then(|id| room.pool.entry(id).read_until);
        if let Some(begin) = read_until
            && begin.precedes(at)
        {
            self.charge_gap(wire, direction, at.distance(begin) as u64, begin, room);
        }
    }
}

/// Whether the answers to requests that passed unseen may come first in the request's window.
fn is_in_doubt<L>(id: ExchangeId, room: &mut Room<L>) -> bool {
    let entry = room.pool.entry(id);
    let (doubt, next, begin) = (entry.doubt, entry.next, entry.read_until);
    match doubt {
        Doubt::None => false,
        Doubt::IfBatch => next.is_some_and(|next| room.pool.entry(next).read_until == begin),
        Doubt::Sure => true,
    }
}

/// Whether nothing speaks against a response in `head` to the request: it has none, it had been
/// received when the response was sent, and its client had not read that before it sent it.
fn may_answer<L>(id: ExchangeId, head: &Origin, room: &mut Room<L>) -> bool {
    let entry = room.pool.entry(id);
    !entry.exchange.response.is_seen
        && entry.read_until.is_some_and(|read_until| !head.seq.precedes(read_until))
        && head.ack.is_none_or(|ack| entry.start.precedes(ack))
}
