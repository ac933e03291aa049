//! Who sends the requests of a connection whose beginning is unknown.
//!
//! The first message that is found there may be text in the middle of a body. So it is only a
//! guess ([`Guess`]) which direction is the client's, and nothing is reported on its word alone.
//! The guess is
//! - confirmed by a message of the other direction that fits, by a second message of the same
//!   direction that was sent after more had been read, or by the end of the connection;
//! - withdrawn, with everything that rests on it, if the bytes behind its message do not begin
//!   another, or if a later message says the opposite.

use super::{Http1Connection, Spoken};
use crate::decode::SeqNumber;
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::Context;
use crate::protocol::first_bytes::FirstBytes;
use crate::protocol::http1::Http1Context;
use crate::protocol::http1::framer::{Framer, ParseState};
use crate::protocol::http1::head::{self, Expected};
use crate::protocol::http1::loss_pairing::{Cause, LossPairing};
use crate::protocol::http1::pairer::{OpenMessage, Pairer};
use crate::protocol::http1::pending::PendingRequests;
use crate::protocol::pool::ExchangeId;
use crate::record::{EventSink, Outcome};

/// What the guess rests on, and what waits for its confirmation.
#[derive(Debug)]
pub(in crate::protocol::http1) struct Guess {
    /// The client, if the guess is right.
    client: Direction,
    /// The direction of the first message.
    direction: Direction,
    /// The position of its first byte.
    start: SeqNumber,
    /// How far its sender had read the other direction.
    read_until: Option<SeqNumber>,
    /// The messages of that direction so far.
    message_count: u32,
    /// Exchanges that are over, in order. Their outcome is set.
    pub held: PendingRequests,
}

impl Http1Connection {
    /// Searches for a head while it is not certain who the client is. Returns whether `data` begins
    /// one that is believed.
    #[cold]
    pub(super) fn search_unsure<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> bool {
        if self.is_other_protocol(cx, direction, data, meta) {
            return false;
        }
        if !Framer::is_found(data, meta, Expected::Either) {
            if self.is_strange_answer(cx, direction, meta) {
                self.withdraw(cx);
            }
            return false;
        }
        let is_response = head::may_begin_response(data);
        let client = if is_response { direction.opposite() } else { direction };
        if let Some(guess) = &self.pairer.guess {
            let is_later = guess.direction == direction
                || meta.ack.is_none_or(|ack| guess.start.precedes(ack));
            if guess.client == client {
                return true;
            }
            if !is_later || cx.flow.handshake.client == Some(guess.client) {
                return false;
            }
            self.withdraw(cx);
        }
        self.pairer.guess = Some(Box::new(Guess {
            client,
            direction,
            start: meta.seq,
            read_until: meta.ack,
            message_count: 0,
            held: PendingRequests::default(),
        }));
        true
    }

    /// Whether `data` begins with a start line of another protocol that may carry messages of HTTP.
    /// If it is among the first that passed, the connection speaks that protocol.
    #[cold]
    pub(super) fn is_other_protocol<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> bool {
        if !meta.is_frame_start || !head::is_of_other_protocol(data) {
            return false;
        }
        if self.pairer.guess.is_some() {
            self.withdraw(cx);
        }
        if !cx.flow.handshake.is_midstream() {
            self.spoken = Spoken::Other;
            self.left_by = Some(FirstBytes::of(direction, data, meta));
            self.leave();
        }
        true
    }

    /// While there is a guess: a message passes in `direction`, whose first byte came in `first`.
    #[cold]
    pub(super) fn weigh_message<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        first: &SegmentMeta,
    ) {
        let Some(guess) = &mut self.pairer.guess else { return };
        guess.message_count += 1;
        let has_read_more =
            guess.read_until.zip(first.ack).is_some_and(|(before, now)| before.precedes(now));
        if direction != guess.direction || guess.message_count > 1 && has_read_more {
            self.confirm(cx);
        }
    }

    /// The guess is right, or its time is over: reports what has waited.
    pub(super) fn confirm<S: EventSink>(&mut self, cx: &mut Context<'_, S>) {
        let (pairer, mut http1) = self.parts(cx, Direction::Forward);
        pairer.confirm(&mut http1);
    }

    /// In `direction`, the bytes where a message must begin do not begin one. Returns whether this
    /// refutes the guess, which is then withdrawn.
    pub(super) fn is_refuted<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
    ) -> bool {
        let Some(guess) = &self.pairer.guess else { return false };
        if guess.direction != direction || guess.message_count > 1 {
            return false;
        }
        self.withdraw(cx);
        true
    }

    /// While there is a guess: whether what may still become a head is more likely text.
    #[cold]
    pub(super) fn is_text(&self, direction: Direction) -> bool {
        let framer = &self.framers[direction.index()];
        let is_line_begun = matches!(framer.state, ParseState::Head { has_line: false });
        is_line_begun
            && framer.partial.contains(&b' ')
            && !head::is_certain(&framer.partial, Expected::Either)
    }

    /// Whether bytes that begin no message, in `direction`, are the answer to the request that the
    /// guess rests on, on a connection that did not begin with HTTP.
    pub(super) fn is_strange_answer<S>(
        &self,
        cx: &Context<'_, S>,
        direction: Direction,
        meta: &SegmentMeta,
    ) -> bool {
        self.pairer.guess.as_ref().is_some_and(|guess| {
            guess.direction != direction
                && guess.client == guess.direction
                && guess.read_until == Some(meta.seq)
                && meta.ack.is_some_and(|ack| guess.start.precedes(ack))
                && !cx.flow.handshake.is_midstream()
        })
    }

    /// The guess was wrong: forgets everything that rests on it. Both directions are searched
    /// again.
    #[cold]
    pub(super) fn withdraw<S: EventSink>(&mut self, cx: &mut Context<'_, S>) {
        for framer in &mut self.framers {
            framer.drop_partial(&mut cx.shared.recorder.pool);
            framer.state = ParseState::Search;
        }
        self.spoken = Spoken::Unclear;
        cx.shared.stats.http1.guesses_withdrawn += 1;
        let passed_until = [0, 1].map(|direction: usize| self.framers[direction].passed_until);
        let (pairer, mut http1) = self.parts(cx, Direction::Forward);
        pairer.withdraw(&mut http1);
        for direction in [Direction::Forward, Direction::Reverse] {
            if let Some(until) = passed_until[direction.index()] {
                self.pairer.lose_messages(cx.flow, direction, until, Cause::NotUnderstood);
            }
        }
    }
}

impl Pairer {
    /// See [`Http1Connection::confirm`].
    #[cold]
    pub fn confirm<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>) {
        let Some(mut guess) = self.guess.take() else { return };
        while let Some(id) = guess.held.pop(cx.pool()) {
            self.report_messages(cx, id);
            let exchange = cx.pool().exchange(id);
            let (outcome, end) = (exchange.outcome.take(), exchange.end.take());
            self.report(cx, id, outcome.unwrap_or(Outcome::NoRequest), end);
        }
        let mut next = self.pending.first();
        while let Some(id) = next {
            self.report_messages(cx, id);
            next = cx.pool().entry(id).next;
        }
        for id in self.open.each_ref().map(|open| open.id).into_iter().flatten() {
            if !cx.pool().exchange(id).request.is_seen {
                self.report_messages(cx, id);
            }
        }
    }

    /// Reports the messages of an exchange that has waited, if the sink wants single messages.
    fn report_messages<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>, id: ExchangeId) {
        if !cx.shared.recorder.wants_messages() {
            return;
        }
        for is_request in [true, false] {
            let message = cx.pool().exchange(id).message_mut(is_request);
            if let (true, Some(when)) = (message.is_seen, message.first) {
                cx.shared.recorder.message(self.identity(cx.flow), id, is_request, when);
            }
        }
    }

    /// See [`Http1Connection::withdraw`].
    fn withdraw<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>) {
        let mut held = self.guess.take().map(|guess| guess.held).unwrap_or_default();
        for open in &mut self.open {
            let id = std::mem::take(open).id;
            if let Some(id) = id.filter(|id| !cx.pool().exchange(*id).request.is_seen) {
                forget(cx, id);
            }
        }
        for list in [&mut held, &mut self.pending] {
            while let Some(id) = list.pop(cx.pool()) {
                forget(cx, id);
            }
        }
        self.pending = PendingRequests::default();
        self.open = [OpenMessage::default(), OpenMessage::default()];
        self.loss = LossPairing::default();
        (self.client, self.next_n) = (None, 0);
    }
}

/// Takes an exchange back that was none.
fn forget<S>(cx: &mut Http1Context<'_, S>, id: ExchangeId) {
    let exchange = cx.pool().exchange(id);
    let (requests, responses) =
        (u64::from(exchange.request.is_seen), u64::from(exchange.response.is_seen));
    let stats = &mut cx.shared.recorder.stats;
    stats.requests -= requests;
    stats.responses -= responses;
    cx.pool().give_back(id);
}
