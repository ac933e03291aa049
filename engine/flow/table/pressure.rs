//! Which flow gives way when the table is full or memory runs short. Closed flows have nothing left
//! to report. Next come flows on which only one side has spoken: anybody can send one packet from
//! any address, but only a connection that exists is answered. The quietest and largest come first
//! among equals.

use super::{Flow, FlowIndex, FlowTable, memory_weight};
use crate::decode::Segment;
use crate::flow::slot_set::{SlotSet, Unanswered};
use crate::flow::slots::Slots;
use crate::flow::{Chunk, Handshake};
use crate::ids::{Direction, FlowKey};
use crate::time::TimestampNs;

/// The number of flows that are compared to find one to evict. The best of a few is nearly the best
/// of all.
const SAMPLE_COUNT: usize = 16;

/// A flow without payload is evicted as if it had been quiet for this many times as long. It is not
/// always evicted first: every connection begins without payload, and a flood that sends payload
/// would push out all new connections.
const UNUSED_WEIGHT: u64 = 8;
/// The same for a flow without an answer.
const UNANSWERED_WEIGHT: u64 = 1 << 10;
/// Closed flows have nothing left to report and are evicted first.
const CLOSED_WEIGHT: u64 = 1 << 40;

/// A search among the flows of a set looks at this many of them at most, and passes this many times
/// 64 slots.
const SET_FLOWS_MAX: usize = 64;
const SET_WORDS_MAX: usize = 1024;

/// If more than one flow in this many is without an answer, no answered flow is evicted. Fewer may
/// be connections that are just being opened, among idle ones that fill the table.
const UNANSWERED_SHARE: usize = 16;

impl<S> Flow<S> {
    /// Learns from the first segments of the flow in `slot` whether payload passes, and whether the
    /// other side answers: with any segment that may belong to the connection, except for a reset,
    /// which is what a host answers that knows of no connection.
    #[cold]
    pub(super) fn learn(
        &mut self,
        slot: usize,
        segment: &Segment<'_>,
        unanswered: &mut Unanswered,
    ) {
        let was_used = self.is_used;
        self.is_used |= segment.payload_wire_bytes > 0;
        if !self.handshake.is_answered() {
            let asked = &self.connection.streams[self.opener.index()];
            let is_answer = segment.direction != self.opener
                && !segment.flags.is_rst()
                && segment.ack.is_some_and(|ack| asked.may_be_acked(ack, asked.next));
            if is_answer {
                self.handshake.see_answer();
                unanswered.remove(slot, was_used);
            } else if self.is_used && !was_used {
                unanswered.asking.insert(slot);
            }
        }
        self.is_settled = self.is_used && self.handshake.is_answered();
    }
}

impl<S: Default> FlowTable<S> {
    /// The flow to evict when the table is full.
    pub(super) fn eviction_choice(&mut self, now: TimestampNs) -> FlowIndex {
        let quiet_weight = |flow: &Flow<S>| {
            let weight = match (flow.connection.is_closed(), flow.is_used) {
                (true, _) => CLOSED_WEIGHT,
                (false, true) => 1,
                (false, false) => UNUSED_WEIGHT,
            };
            memory_weight(weight, now, flow.last_seen)
        };
        let mut effort = self.slots.len();
        let choice = self.sample(&mut effort, quiet_weight).unwrap_or(FlowIndex(0));
        let is_closed = |flow: &Flow<S>| flow.connection.is_closed();
        if !self.has_unanswered_crowd()
            || self.slots[choice.0 as usize].as_ref().is_some_and(is_closed)
        {
            return choice;
        }
        let best = sample_of(&mut self.unanswered.all, &self.slots, quiet_weight);
        best.flow.unwrap_or(choice)
    }

    /// The flow with the greatest memory weight: among a few without an answer, or else among a few
    /// in the next `effort` slots. If many are without an answer, one of these will be found after
    /// the next frames, and only if it `is_urgent` an answered one is chosen.
    fn heaviest(
        &mut self,
        effort: &mut usize,
        is_urgent: bool,
        memory_weight: impl Fn(&Flow<S>) -> u64,
    ) -> Option<FlowIndex> {
        if self.has_answered()
            && self.unanswered.asking.count() > 0
            && let best = sample_of(&mut self.unanswered.asking, &self.slots, &memory_weight)
            && best.flow.is_some()
        {
            *effort = effort.saturating_sub(SAMPLE_COUNT);
            return best.flow;
        }
        if self.has_unanswered_crowd() && !is_urgent {
            return None;
        }
        self.sample(effort, memory_weight)
    }

    /// Whether so many are without an answer that this cannot be connections being opened.
    fn has_unanswered_crowd(&self) -> bool {
        self.unanswered.all.count() > self.len() / UNANSWERED_SHARE && self.has_answered()
    }

    /// Whether some flows are answered. If none is, only one direction is captured, and all are
    /// equal.
    fn has_answered(&self) -> bool {
        self.unanswered.all.count() < self.len()
    }

    /// The flow with the greatest weight among a few in the next `effort` slots. With a weight of 0
    /// a flow is not eligible. Reduces `effort` by the slots it looked at. If the slots are nearly
    /// empty, nothing is chosen, because only the newest flow might be found there.
    fn sample(
        &mut self,
        effort: &mut usize,
        weight: impl Fn(&Flow<S>) -> u64,
    ) -> Option<FlowIndex> {
        let is_all = *effort >= self.slots.len();
        let mut best = Best::default();
        while best.seen_count < SAMPLE_COUNT && *effort > 0 && self.slots.len() > 0 {
            *effort -= 1;
            let slot = self.cursor % self.slots.len();
            self.cursor = slot + 1;
            let Some(flow) = &self.slots[slot] else { continue };
            let factor = if flow.handshake.is_answered() { 1 } else { UNANSWERED_WEIGHT };
            best.compare(slot, weight(flow).saturating_mul(factor));
        }
        best.flow.filter(|_| is_all || best.seen_count == SAMPLE_COUNT)
    }

    /// Whether memory for waiting segments is short: quiet flows should give up their holes
    /// ([`FlowTable::relieve`]) before the limit is reached, at which every flow must.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.context.pool.segments.used_bytes > self.context.pool.segments.max_bytes / 8 * 7
    }

    /// Gives up the holes of one flow: the one with the most and oldest waiting data, among a few
    /// in the next `effort` slots. Returns false if none has any, or if all of these have little:
    /// there is memory left for them, and the next call looks at others.
    pub fn relieve(
        &mut self,
        now: TimestampNs,
        effort: &mut usize,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) -> bool {
        let grace_ns = self.context.limits.reorder_grace_ms.saturating_mul(1_000_000);
        let pool = &self.context.pool.segments;
        let is_urgent = pool.used_bytes > pool.max_bytes / 16 * 15;
        let choice = self.heaviest(effort, is_urgent, |flow| {
            // Every flow is quiet for a moment while it waits. A flow that has just sent a lot must
            // not weigh less than one that was quiet for a few packets.
            let buffered_bytes = flow.connection.buffered_bytes() as u64;
            memory_weight(
                buffered_bytes,
                TimestampNs(now.0.saturating_add(grace_ns)),
                flow.last_seen,
            )
        });
        let Some(index) = choice else { return false };
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return false };
        let is_little =
            flow.connection.buffered_bytes() <= self.context.limits.reorder_bytes_max / 64;
        if is_little && !is_urgent {
            return false;
        }
        let (key, handshake, state) = (&flow.key, &flow.handshake, &mut flow.state);
        flow.connection.give_up_all_holes(now, &mut self.context, &mut |direction, chunk| {
            visit(key, handshake, state, direction, chunk);
        });
        true
    }

    /// The flow whose state has the greatest memory weight, among a few in the next `effort` slots.
    /// If it `is_urgent`, the flow need not be one without an answer, even if there are many. The
    /// second argument of `memory_weight` is the time since which the flow was quiet.
    pub fn heaviest_state(
        &mut self,
        effort: &mut usize,
        is_urgent: bool,
        memory_weight: impl Fn(&S, TimestampNs) -> u64,
    ) -> Option<FlowIndex> {
        self.heaviest(effort, is_urgent, |flow| memory_weight(&flow.state, flow.last_seen))
    }

    /// The same among the flows without an answer, unless there is no other flow. Nothing is chosen
    /// if only a few have any weight: these may be the newest connections, and it is not they who
    /// take the memory.
    pub fn heaviest_unanswered_state(
        &mut self,
        memory_weight: impl Fn(&S, TimestampNs) -> u64,
    ) -> Option<FlowIndex> {
        if !self.has_answered() || self.unanswered.asking.count() < SAMPLE_COUNT {
            return None;
        }
        let weight = |flow: &Flow<S>| memory_weight(&flow.state, flow.last_seen);
        let best = sample_of(&mut self.unanswered.asking, &self.slots, weight);
        best.flow.filter(|_| best.seen_count == SAMPLE_COUNT)
    }
}

/// The flow with the greatest weight among a few of `set`.
fn sample_of<S>(
    set: &mut SlotSet,
    slots: &Slots<Flow<S>>,
    weight: impl Fn(&Flow<S>) -> u64,
) -> Best {
    let mut best = Best::default();
    // At most one round, so that none is compared twice.
    let mut words_left = set.word_count().min(SET_WORDS_MAX);
    for _ in 0..SET_FLOWS_MAX {
        let Some(slot) = set.next(&mut words_left) else { break };
        best.compare(slot, slots[slot].as_ref().map_or(0, &weight));
        if best.seen_count == SAMPLE_COUNT {
            break;
        }
    }
    best
}

/// The heaviest of the flows that were compared.
#[derive(Default)]
struct Best {
    flow: Option<FlowIndex>,
    weight: u64,
    /// How many had any weight.
    seen_count: usize,
}

impl Best {
    fn compare(&mut self, slot: usize, weight: u64) {
        self.seen_count += usize::from(weight > 0);
        if weight > self.weight {
            (self.flow, self.weight) = (Some(FlowIndex(slot as u32)), weight);
        }
    }
}

#[cfg(test)]
mod tests;
