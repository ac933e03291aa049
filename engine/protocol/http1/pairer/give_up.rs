//! Which exchanges of a connection are given up, and when.

use super::{MODEST_PENDING_COUNT, Pairer};
use crate::flow::End;
use crate::protocol::http1::Http1Context;
use crate::protocol::http1::framer::ParseState;
use crate::protocol::pool::ExchangeId;
use crate::record::{EventSink, Outcome};

impl Pairer {
    /// Gives up requests while a limit is exceeded: that of this connection, a lower one for
    /// connections with many requests if the shard's memory runs short, and finally everything in
    /// progress.
    #[inline(always)]
    pub(super) fn enforce_limits<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>) {
        if !self.is_within_limits(cx) {
            self.give_up_some(cx);
        }
    }

    #[inline(always)]
    fn is_within_limits<S>(&self, cx: &mut Http1Context<'_, S>) -> bool {
        let (count, limits) = (self.pending.count() + self.held.count(), &cx.shared.limits);
        let share = limits.held_share(count <= MODEST_PENDING_COUNT);
        count <= limits.pending_count_max && cx.shared.recorder.pool.held_bytes() <= share
    }

    #[cold]
    fn give_up_some<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>) {
        self.confirm(cx);
        self.end_batch(cx, false);
        while !self.is_within_limits(cx) {
            let count = self.pending.count();
            self.give_up_unanswered(cx);
            if self.pending.count() == count {
                break;
            }
        }
        if cx.shared.recorder.pool.held_bytes() > cx.shared.limits.held_share(true) {
            let before = cx.pool().in_use();
            self.give_up_all(cx, None);
            cx.shared.stats.http1.exchanges_at_bound += (before - cx.pool().in_use()) as u64;
        }
    }

    /// Gives up the first pending request that has no response yet.
    fn give_up_unanswered<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>) {
        let Some(first) = self.pending.first() else { return };
        let is_answered = cx.pool().exchange(first).response.is_seen;
        let id = match is_answered {
            true => match self.pending.pop_second(cx.pool()) {
                Some(second) => second,
                None => return,
            },
            false => self.pending.pop(cx.pool()).unwrap_or(first),
        };
        cx.shared.stats.http1.pending_overflow += 1;
        self.pending.overflow_count += 1;
        let entry = cx.pool().entry(id);
        if entry.is_after_loss {
            let read_until = entry.read_until;
            self.loss.lose_count(read_until);
        }
        self.give_up(cx, id, None);
    }

    /// Gives up the first pending request.
    pub(super) fn give_up_first<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        end: Option<End>,
    ) {
        if let Some(id) = self.pending.pop(cx.pool()) {
            self.give_up(cx, id, end);
        }
    }

    fn give_up<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        end: Option<End>,
    ) {
        let entry = cx.pool().entry(id);
        let exchange = &mut entry.exchange;
        let may_be_withheld = entry.is_body_withheld && exchange.request.body_bytes == Some(0);
        exchange.request.is_ended |= may_be_withheld && exchange.response.is_ended;
        let is_cut =
            !exchange.request.is_ended || exchange.response.is_seen && !exchange.response.is_ended;
        let (outcome, end) = match (is_cut, exchange.response.is_seen) {
            (true, _) => (Outcome::Truncated, end),
            (false, true) => (Outcome::Complete, None),
            (false, false) => (Outcome::NoResponse, end),
        };
        for (open, framer) in self.open.iter_mut().zip(&mut *cx.framers) {
            if open.id == Some(id) {
                open.id = None;
                // Otherwise the rest of the message comes first, and is followed.
                if may_be_withheld && framer.state != ParseState::Off {
                    framer.state = ParseState::Search;
                }
            }
        }
        self.report(cx, id, outcome, end);
    }

    /// The server has closed: gives up all exchanges in progress, except for one whose request goes
    /// on and is only waiting for its own end.
    pub fn give_up_answers<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>, end: End) {
        self.end_batch_at_end(cx, Some(end));
        let uploading = self.open[cx.direction.opposite().index()].id;
        let goes_on = uploading.filter(|id| {
            let response = &cx.pool().exchange(*id).response;
            response.is_ended || !response.is_seen
        });
        self.give_up_unanswerable(cx, Some(end));
        while self.pending.first().is_some_and(|first| Some(first) != goes_on) {
            self.give_up_first(cx, Some(end));
        }
    }

    /// Gives up all exchanges in progress.
    pub fn give_up_all<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>, end: Option<End>) {
        self.end_batch_at_end(cx, end);
        self.give_up_unanswerable(cx, end);
        while self.pending.first().is_some() {
            self.give_up_first(cx, end);
        }
    }

    /// Gives up responses without a request, which are not in the queue.
    fn give_up_unanswerable<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        end: Option<End>,
    ) {
        for direction in 0..2 {
            let Some(id) = self.open[direction].id else { continue };
            let exchange = cx.pool().exchange(id);
            if exchange.request.is_seen {
                continue;
            }
            let is_cut = exchange.response.is_seen;
            self.open[direction].id = None;
            let outcome = if is_cut { Outcome::Truncated } else { Outcome::NoRequest };
            self.report(cx, id, outcome, end);
        }
    }
}
