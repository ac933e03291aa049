//! What is done on a flow at a certain time, whether packets come or not: holes whose grace has
//! ended are given up, and what has been under way for long is told.

use super::{Due, Flow, FlowIndex, FlowTable, NEVER, late_ns, timeout_ns};
use crate::flow::connection::ReassemblyContext;
use crate::flow::{Chunk, FlowEvents, Handshake};
use crate::ids::{Direction, FlowKey};
use crate::time::TimestampNs;

impl<S> Flow<S> {
    /// Gives up the holes whose grace has ended at `now`.
    fn settle(
        &mut self,
        now: TimestampNs,
        context: &mut ReassemblyContext,
        events: &mut impl FlowEvents<S>,
    ) {
        let (key, handshake, state) = (&self.key, &self.handshake, &mut self.state);
        self.connection.settle(now, context, &mut |direction, chunk| {
            events.chunk(key, handshake, state, direction, chunk);
        });
    }
}

impl<S: Default> FlowTable<S> {
    /// From now on only the end and the length of this flow are wanted.
    #[cold]
    pub fn begin_count(
        &mut self,
        index: FlowIndex,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return };
        let (key, handshake, state) = (&flow.key, &flow.handshake, &mut flow.state);
        flow.connection.begin_count(&mut self.context.pool, &mut |direction, chunk| {
            visit(key, handshake, state, direction, chunk);
        });
    }

    /// A segment did not take the fast path. The flow was `last_seen` before, which counts if the
    /// endpoint refuses the segment, or if it was passed over. Returns whether the connection is
    /// closed now.
    #[inline(never)]
    pub(super) fn look_after(
        &mut self,
        index: FlowIndex,
        last_seen: TimestampNs,
        is_refused: bool,
    ) -> bool {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return false };
        if is_refused || flow.connection.has_passed_over() {
            // The segment does not keep the flow from being idle.
            flow.last_seen = last_seen;
        }
        if flow.over_at == NEVER && flow.connection.is_over() {
            flow.over_at = flow.last_seen;
        }
        let is_closed = flow.connection.is_closed();
        let watches_hole = match self.active_timeout {
            None => !flow.watched_until.is_none(),
            Some(_) => self.visited_with_hole.contains_key(&index.0),
        };
        if !watches_hole && let Some(deadline) = flow.connection.deadline(&self.context.limits) {
            self.watch_hole(index, deadline);
        }
        is_closed
    }

    /// Does what is due at `now` on the first of the flows that receive no packet of their own.
    /// Returns false if there is none. What is looked at to tell of it uses up `effort`; without
    /// any left, only holes are given up, and the rest waits, but no longer than until the next
    /// packet of its flow.
    pub fn settle_next(
        &mut self,
        now: TimestampNs,
        effort: &mut usize,
        events: &mut impl FlowEvents<S>,
    ) -> bool {
        let visit = self.visits.first().filter(|_| *effort > 0);
        let first = self.holes.first().into_iter().chain(visit).min();
        let is_due =
            |(deadline, _): &&(TimestampNs, u32)| *deadline < now.min(self.context.horizon);
        let Some(&(_, slot)) = first.filter(is_due) else { return false };
        let looked_at_count = self.catch_up(FlowIndex(slot), now, events);
        *effort = effort.saturating_sub(looked_at_count);
        true
    }

    /// The same for one flow, on which more may be due afterwards. Returns how much was looked at
    /// to tell of it.
    pub fn catch_up(
        &mut self,
        index: FlowIndex,
        now: TimestampNs,
        events: &mut impl FlowEvents<S>,
    ) -> usize {
        let Some(flow) = self.slots[index.0 as usize].as_ref() else { return 0 };
        let now = now.min(self.context.horizon);
        let (mut visit, mut looked_at_count) = (self.due(index.0, flow).visit, 0);
        if visit < now {
            (visit, looked_at_count) = self.visit_active(index, visit, now, events);
        }
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return 0 };
        flow.settle(now, &mut self.context, events);
        let hole = flow.connection.deadline(&self.context.limits).unwrap_or(NEVER);
        self.watch(index, Due { hole, visit });
        looked_at_count
    }

    /// When something is due on the flow in `slot`.
    pub(super) fn due(&self, slot: u32, flow: &Flow<S>) -> Due {
        let watched_until = flow.watched_until.get().unwrap_or(NEVER);
        if self.active_timeout.is_none() {
            return Due { hole: watched_until, visit: NEVER };
        }
        let both = self.visited_with_hole.get(&slot).copied();
        both.unwrap_or(Due { hole: NEVER, visit: watched_until })
    }

    /// What has been under way for long on a flow is told, as of `due`, which is before `now`.
    /// Returns when it is visited next, which may be before `now` as well, and how much was looked
    /// at.
    #[cold]
    fn visit_active(
        &mut self,
        index: FlowIndex,
        due: TimestampNs,
        now: TimestampNs,
        events: &mut impl FlowEvents<S>,
    ) -> (TimestampNs, usize) {
        let (Some(timeout), Some(flow)) =
            (self.active_timeout, self.slots[index.0 as usize].as_mut())
        else {
            return (NEVER, 0);
        };
        flow.settle(due, &mut self.context, events);
        let idle_ns = timeout_ns(flow, &self.context.limits, late_ns(flow));
        if due.since(flow.last_seen) > idle_ns {
            // The connection was over before.
            return (timeout.step_at(due, now), 1);
        }
        let mut visit = timeout.visit(due);
        events.active(&flow.key, &flow.handshake, &mut flow.state, &mut visit);
        (timeout.next(&visit), visit.looked_at_count())
    }

    /// Whether what is under way is told.
    pub fn tells_active(&self) -> bool {
        self.active_timeout.is_some()
    }

    /// A new flow, whose first segment came at `began`: what will be under way on it is watched.
    #[cold]
    pub(super) fn watch_active(&mut self, index: FlowIndex, began: TimestampNs) {
        if let Some(timeout) = self.active_timeout {
            self.watch(index, Due { hole: NEVER, visit: timeout.first(began) });
        }
    }

    /// The grace of a hole in the flow ends at `deadline`.
    #[cold]
    fn watch_hole(&mut self, index: FlowIndex, deadline: TimestampNs) {
        let Some(flow) = self.slots[index.0 as usize].as_ref() else { return };
        self.watch(index, Due { hole: deadline, ..self.due(index.0, flow) });
    }

    /// From now on, this is due on the flow.
    fn watch(&mut self, index: FlowIndex, due: Due) {
        let Some(flow) = self.slots[index.0 as usize].as_ref() else { return };
        self.unwatch(index.0, self.due(index.0, flow));
        let is_set = |at: &TimestampNs| *at < NEVER;
        self.holes.extend(Some(due.hole).filter(is_set).map(|at| (at, index.0)));
        self.visits.extend(Some(due.visit).filter(is_set).map(|at| (at, index.0)));
        if self.active_timeout.is_some() && is_set(&due.hole) {
            self.visited_with_hole.insert(index.0, due);
        }
        if let Some(flow) = self.slots[index.0 as usize].as_mut() {
            flow.watched_until.set(Some(due.hole.min(due.visit)).filter(is_set));
        }
    }

    /// Nothing is due on the flow any more.
    pub(super) fn unwatch(&mut self, slot: u32, due: Due) {
        self.holes.remove(&(due.hole, slot));
        self.visits.remove(&(due.visit, slot));
        if self.active_timeout.is_some() {
            self.visited_with_hole.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FlowConfig;
    use crate::decode::TcpFlags;
    use crate::flow::tests::{Heard, HeardEvents, Sent};
    use crate::ids::Direction::{Forward, Reverse};

    /// However much is due on others.
    #[test]
    fn holes_are_given_up_without_effort() {
        let limits = FlowConfig { active_timeout_ms: Some(60_000), ..FlowConfig::default() };
        let mut table: FlowTable<()> = FlowTable::new(limits);
        let mut heard = Vec::new();
        let mut enter = |sent: Sent| {
            let segment = sent.segment();
            let entered = table.enter(&segment, &mut HeardEvents(&mut heard));
            table.accept(entered.expect("a flow"), &segment, |_, _, (), _, _| {});
        };
        let syn = |at_ms| Sent::data(Forward, 0, 0, b"", at_ms).flags(TcpFlags::SYN);
        (0..100).for_each(|port| enter(syn(0).port(port)));
        let answer = Sent::data(Reverse, 0, 0, b"", 30_000).flags(TcpFlags::SYN | TcpFlags::ACK);
        [syn(30_000), answer].into_iter().for_each(|sent| enter(sent.port(100)));
        for (offset, payload, at_ms) in [(0, "GET / ", 30_001), (10, "behind", 61_000)] {
            enter(Sent::data(Forward, offset, 0, payload.as_bytes(), at_ms).port(100));
        }
        enter(Sent::data(Reverse, 0, 16, b"", 61_000).port(100));
        let now = Sent::data(Forward, 0, 0, b"", 80_000).segment().timestamp;
        let (mut effort, mut count) = (1, 0);
        while table.settle_next(now, &mut effort, &mut HeardEvents(&mut heard)) {
            count += 1;
        }
        assert_eq!((effort, count), (0, 2), "one visit, one hole");
        assert!(heard.iter().any(|it| matches!(it, Heard::Gap(..))), "{heard:?}");
        assert_eq!(table.watched_count(), 101);
    }
}
