//! [`Guess`]: who the client is, while only one direction says so. What is reported until then
//! waits here. `connection/guess.rs` decides when it is confirmed or withdrawn.

use super::{OpenMessage, Pairer};
use crate::decode::SeqNumber;
use crate::flow::End;
use crate::ids::Direction;
use crate::protocol::http1::Http1Context;
use crate::protocol::http1::framer::ParseState;
use crate::protocol::http1::loss_pairing::LossPairing;
use crate::protocol::http1::pending::PendingRequests;
use crate::protocol::pool::ExchangeId;
use crate::record::{EventSink, Outcome};

/// What the guess rests on.
#[derive(Clone, Copy, Debug)]
pub(in crate::protocol::http1) struct Guess {
    /// The client, if the guess is right.
    pub client: Direction,
    /// The direction of the first message.
    pub direction: Direction,
    /// The position of its first byte.
    pub start: SeqNumber,
    /// How far its sender had read the other direction.
    pub read_until: Option<SeqNumber>,
    /// The messages of that direction so far.
    pub message_count: u32,
}

impl Pairer {
    /// Whether it is not certain who the client is, or which response is the first one's.
    #[inline(always)]
    pub fn is_unsure(&self) -> bool {
        self.guess.is_some() || self.batch.is_some()
    }

    /// The exchange is over. Returns whether it waits: for the guess to be confirmed, or for the
    /// other responses of a batch.
    #[cold]
    pub fn hold<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        outcome: Outcome,
        end: Option<End>,
    ) -> bool {
        let is_response = outcome == Outcome::NoRequest && end.is_none();
        if self.guess.is_none() && !is_response {
            return false;
        }
        let exchange = cx.pool().exchange(id);
        (exchange.outcome, exchange.end) = (Some(outcome), end);
        self.held.push(id, cx.pool());
        if self.pending.count() + self.held.count() > cx.shared.limits.pending_count_max {
            self.confirm(cx);
            self.end_batch(cx, false);
        }
        true
    }

    /// The request of `id`, the first in the queue, was none. Its response belongs to another one.
    #[cold]
    pub fn disown_request<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>, id: ExchangeId) {
        self.pending.pop(cx.pool());
        self.open[cx.direction.index()].id = None;
        cx.framer().state = ParseState::Start;
        cx.shared.recorder.stats.requests_withdrawn += 1;
        cx.shared.stats.http1.guesses_withdrawn += 1;
        cx.pool().clear_message(id, true);
        cx.pool().exchange(id).is_early = false;
        self.complete_if_ended(cx, id);
    }

    /// The guess is right, or its time is over: reports what has waited.
    #[cold]
    pub fn confirm<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>) {
        if self.guess.take().is_none() {
            return;
        }
        // The responses of a batch go on waiting, at the end of the list.
        for _ in 0..self.held.count() {
            let Some(id) = self.held.pop(cx.pool()) else { break };
            self.report_messages(cx, id);
            let exchange = cx.pool().exchange(id);
            let (outcome, end) = (exchange.outcome.take(), exchange.end.take());
            match outcome {
                Some(outcome) => self.report(cx, id, outcome, end),
                // An interim response is told as a message only.
                None => cx.pool().give_back(id),
            }
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

    /// The guess was wrong: forgets everything that rests on it.
    pub fn withdraw<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>) {
        self.guess = None;
        for open in &mut self.open {
            let id = std::mem::take(open).id;
            if let Some(id) = id.filter(|id| !cx.pool().exchange(*id).request.is_seen) {
                forget(cx, id);
            }
        }
        for list in [&mut self.held, &mut self.pending] {
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
    // Interim responses have exchanges of their own.
    let requests = u64::from(exchange.request.is_seen);
    let responses = u64::from(exchange.response.is_seen);
    let stats = &mut cx.shared.recorder.stats;
    stats.requests_withdrawn += requests;
    stats.responses_withdrawn += responses;
    cx.pool().give_back(id);
}
