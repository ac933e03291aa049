//! The out-of-order state of a connection: when it is allocated, and when it is given back.

use super::Connection;
use crate::flow::ReorderPool;
use crate::flow::out_of_order::OutOfOrderBuffer;
use crate::flow::reorder_state::{Hole, ReorderState};
use crate::flow::stream::Fact;
use crate::time::TimestampNs;

impl Connection {
    /// The out-of-order state. Allocates it if there is none.
    pub(in crate::flow) fn reorder_mut(&mut self, pool: &mut ReorderPool) -> &mut ReorderState {
        self.reorder.get_or_insert_with(|| pool.state())
    }

    /// Gives the state back to the pool, if nothing is out of order any more.
    #[inline]
    pub(in crate::flow) fn free_if_blank(&mut self, pool: &mut ReorderPool) {
        if let Some(reorder) = self.reorder.take_if(|reorder| reorder.is_blank()) {
            pool.give_state_back(reorder);
        }
    }

    /// Gives the state back, whatever is left in it.
    pub(in crate::flow) fn forget_reorder_state(&mut self, pool: &mut ReorderPool) {
        self.release(pool);
        if let Some(mut reorder) = self.reorder.take() {
            *reorder = ReorderState::default();
            pool.give_state_back(reorder);
        }
    }

    /// The segments that wait in a direction.
    pub(in crate::flow) fn buffer(&self, own: usize) -> Option<&OutOfOrderBuffer> {
        self.reorder.as_ref()?.buffers[own].as_deref()
    }

    pub(in crate::flow) fn is_waiting(&self) -> bool {
        self.reorder.as_ref().is_some_and(|reorder| reorder.buffers.iter().any(Option::is_some))
    }

    pub(in crate::flow) fn hole(&self, own: usize) -> Option<Hole> {
        self.reorder.as_ref()?.holes[own]
    }

    /// Removes the hole of a direction, and returns it.
    pub(in crate::flow) fn take_hole(&mut self, own: usize) -> Option<Hole> {
        self.reorder.as_mut()?.holes[own].take()
    }

    /// After progress: a remaining hole counts as a new one, known from now on.
    pub(in crate::flow) fn refresh_hole(
        &mut self,
        own: usize,
        now: TimestampNs,
        pool: &mut ReorderPool,
    ) {
        let stream = &self.streams[own];
        let is_hole = stream.has(Fact::Acked) && stream.missing_until(stream.acked).is_some();
        let hole = is_hole.then_some(Hole { since: now, acked: stream.acked });
        if is_hole || self.reorder.is_some() {
            self.reorder_mut(pool).holes[own] = hole;
        }
    }

    pub(in crate::flow) fn forget_hole_if_passed(&mut self, own: usize) {
        let stream = &self.streams[own];
        if self.hole(own).is_some() && stream.missing_until(stream.acked).is_none() {
            self.take_hole(own);
        }
    }
}
