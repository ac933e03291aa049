//! What is done on a flow at a certain time, whether packets come or not: holes whose grace has
//! ended are given up, and what has been under way for long is told.

use super::{Flow, FlowIndex, FlowTable, NEVER, late_ns, timeout_ns};
use crate::flow::FlowEvents;
use crate::flow::connection::ReassemblyContext;
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
    /// A segment did not take the fast path. If the endpoint refuses it, the flow was `last_seen`
    /// before. Returns whether the connection is closed now.
    #[inline(never)]
    pub(super) fn look_after(&mut self, index: FlowIndex, last_seen: Option<TimestampNs>) -> bool {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return false };
        if let Some(last_seen) = last_seen {
            // The segment does not keep the flow from being idle.
            flow.last_seen = last_seen;
        }
        if flow.over_at == NEVER && flow.connection.is_over() {
            flow.over_at = flow.last_seen;
        }
        let is_closed = flow.connection.is_closed();
        let watches_hole = match self.active_timeout {
            None => !flow.watched_until.is_none(),
            Some(_) => self.active_behind.contains_key(&index.0),
        };
        if !watches_hole && let Some(deadline) = flow.connection.deadline(&self.context.limits) {
            self.watch_hole(index, deadline);
        }
        is_closed
    }

    /// Does what is due at `now` on the first of the flows that receive no packet of their own.
    /// Returns false if there is none. What is looked at to tell of it uses up `effort`; without
    /// any left, the rest waits, but no longer than until the next packet of its flow.
    pub fn settle_next(
        &mut self,
        now: TimestampNs,
        effort: &mut usize,
        events: &mut impl FlowEvents<S>,
    ) -> bool {
        let Some(&(deadline, slot)) = self.overdue.first() else { return false };
        let is_due = deadline < now.min(self.context.horizon) && *effort > 0;
        if is_due {
            self.overdue.pop_first();
            let looked_at_count = self.catch_up(FlowIndex(slot), now, events);
            *effort = effort.saturating_sub(looked_at_count);
        }
        is_due
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
        let (mut active_at, mut looked_at_count) = (self.active_at(index.0, flow), 0);
        if active_at < now {
            (active_at, looked_at_count) = self.visit_active(index, active_at, now, events);
        }
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return 0 };
        flow.settle(now, &mut self.context, events);
        let hole = flow.connection.deadline(&self.context.limits).unwrap_or(NEVER);
        self.watch(index, hole, active_at);
        looked_at_count
    }

    /// When the flow in `slot` is visited next; [`NEVER`] if it is not.
    pub(super) fn active_at(&self, slot: u32, flow: &Flow<S>) -> TimestampNs {
        if self.active_timeout.is_none() {
            return NEVER;
        }
        let behind = self.active_behind.get(&slot).copied();
        behind.or(flow.watched_until.get()).unwrap_or(NEVER)
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
            self.watch(index, NEVER, timeout.first(began));
        }
    }

    /// The grace of a hole in the flow ends at `deadline`.
    #[cold]
    fn watch_hole(&mut self, index: FlowIndex, deadline: TimestampNs) {
        let Some(flow) = self.slots[index.0 as usize].as_ref() else { return };
        self.watch(index, deadline, self.active_at(index.0, flow));
    }

    /// The grace of a hole in the flow ends at `hole`, and it is visited at `active_at`; [`NEVER`]
    /// stands for none.
    fn watch(&mut self, index: FlowIndex, hole: TimestampNs, active_at: TimestampNs) {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return };
        if let Some(before) = flow.watched_until.get() {
            self.overdue.remove(&(before, index.0));
        }
        if self.active_timeout.is_some() {
            match hole < active_at {
                true => self.active_behind.insert(index.0, active_at),
                false => self.active_behind.remove(&index.0),
            };
        }
        let next = Some(hole.min(active_at)).filter(|next| *next < NEVER);
        flow.watched_until.set(next);
        self.overdue.extend(next.map(|deadline| (deadline, index.0)));
    }
}
