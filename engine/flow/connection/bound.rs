//! What is given up where more waits than may.

use super::{Connection, Store, Tools, direction_of};
use crate::flow::Chunk;
use crate::ids::Direction;
use crate::time::TimestampNs;

impl Connection {
    /// What all that waits costs, in both directions.
    pub(in crate::flow) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes_of(0) + self.waiting_bytes_of(1)
    }

    fn waiting_bytes_of(&self, own: usize) -> usize {
        self.store(own).map_or(0, Store::cost_bytes)
    }

    /// The direction in which more waits.
    fn fuller(&self) -> usize {
        usize::from(self.waiting_bytes_of(1) > self.waiting_bytes_of(0))
    }

    /// Gives up holes while more waits behind them than may.
    pub(super) fn relieve(
        &mut self,
        now: TimestampNs,
        tools: &mut Tools,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        loop {
            let own = self.fuller();
            let cost_bytes = self.waiting_bytes_of(own);
            let is_over = cost_bytes > tools.limits.reorder_bytes_max
                || cost_bytes > 0 && tools.pool.segments.used_bytes > tools.pool.segments.max_bytes;
            if !is_over {
                return;
            }
            tools.stats.gaps_at_bound += 1;
            if !self.force(own, now, tools, visit) {
                return;
            }
        }
    }

    /// Gives up all holes: the shard needs the memory.
    pub(in crate::flow) fn give_way(
        &mut self,
        now: TimestampNs,
        tools: &mut Tools,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        while self.waiting_bytes() > 0 {
            tools.stats.gaps_at_bound += 1;
            if !self.force(self.fuller(), now, tools, visit) {
                break;
            }
        }
        self.ease(&mut tools.pool);
    }

    /// Lets the first waiting segment of a direction go on, whatever it waits for, or what goes on
    /// before it. False where nothing moved.
    pub(super) fn force(
        &mut self,
        own: usize,
        now: TimestampNs,
        tools: &mut Tools,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        let Some(first) = self.store(own).and_then(Store::first) else { return false };
        let (start, ack) = (first.start(), first.origin.ack);
        let mut has_moved = false;
        if self.streams[own].next.precedes(start) {
            let until = self.until_due(own, start);
            self.streams[own].skip_to(until, direction_of(own), &mut tools.stats, visit);
            has_moved = true;
        } else if let Some(ack) = ack {
            has_moved = self.skip_hole(1 - own, ack, &mut tools.stats, visit);
        }
        self.advance(now, tools, visit) || has_moved
    }
}
