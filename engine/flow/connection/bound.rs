//! Gives up holes when too much data waits behind them.

use super::{Connection, OutOfOrderBuffer, ReassemblyContext, direction_of};
use crate::flow::Chunk;
use crate::ids::Direction;
use crate::time::TimestampNs;

impl Connection {
    /// The memory of all waiting segments, in both directions.
    pub(in crate::flow) fn buffered_bytes(&self) -> usize {
        let held_bytes = self.reorder.as_ref().map_or(0, |reorder| reorder.held_bytes());
        self.buffered_bytes_of(0) + self.buffered_bytes_of(1) + held_bytes
    }

    fn buffered_bytes_of(&self, own: usize) -> usize {
        self.buffer(own).map_or(0, OutOfOrderBuffer::cost_bytes)
    }

    /// The direction in which more data waits.
    fn fuller(&self) -> usize {
        usize::from(self.buffered_bytes_of(1) > self.buffered_bytes_of(0))
    }

    /// Gives up holes while more data waits behind them than the limits allow.
    pub(super) fn relieve(
        &mut self,
        now: TimestampNs,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        loop {
            let own = self.fuller();
            let cost_bytes = self.buffered_bytes_of(own);
            let is_over = cost_bytes > context.limits.reorder_bytes_max
                || cost_bytes > 0
                    && context.pool.segments.used_bytes > context.pool.segments.max_bytes;
            if !is_over {
                return;
            }
            context.stats.gaps_at_bound += 1;
            if !self.force(own, now, context, visit) {
                return;
            }
        }
    }

    /// Gives up all holes, because the shard needs the memory.
    pub(in crate::flow) fn give_up_all_holes(
        &mut self,
        now: TimestampNs,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        self.begin_streams(context, visit);
        self.drop_held(context);
        while self.buffered_bytes() > 0 {
            context.stats.gaps_at_bound += 1;
            if !self.force(self.fuller(), now, context, visit) {
                break;
            }
        }
        self.free_if_blank(&mut context.pool);
    }

    /// Delivers the first waiting segment of a direction, whatever it waits for, or what must be
    /// delivered before it. Returns false if nothing changed.
    pub(super) fn force(
        &mut self,
        own: usize,
        now: TimestampNs,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        let Some(first) = self.buffer(own).and_then(OutOfOrderBuffer::first) else { return false };
        let (start, ack) = (first.start(), first.meta.ack);
        let mut has_moved = false;
        if self.streams[own].next.precedes(start) {
            let until = self.until_due(own, start);
            self.streams[own].skip_to(until, direction_of(own), &mut context.stats, visit);
            has_moved = true;
        } else if let Some(ack) = ack {
            has_moved = self.skip_hole(1 - own, ack, &mut context.stats, visit);
        }
        self.advance(now, context, visit) || has_moved
    }
}
