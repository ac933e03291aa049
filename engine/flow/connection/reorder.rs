//! What a connection keeps of what is out of order, and when it gives that back.

use super::Connection;
use crate::flow::ReorderPool;
use crate::flow::odd::{Hole, Odd};
use crate::flow::store::Store;
use crate::time::TimestampNs;

impl Connection {
    /// What is odd, to be added to.
    pub(in crate::flow) fn odd_mut(&mut self, pool: &mut ReorderPool) -> &mut Odd {
        self.odd.get_or_insert_with(|| pool.odd())
    }

    /// Gives the memory back where nothing is odd any more.
    #[inline]
    pub(in crate::flow) fn ease(&mut self, pool: &mut ReorderPool) {
        if let Some(odd) = self.odd.take_if(|odd| odd.is_blank()) {
            pool.give_odd_back(odd);
        }
    }

    /// Gives it back whatever is left in it.
    pub(in crate::flow) fn forget_oddities(&mut self, pool: &mut ReorderPool) {
        self.release(pool);
        if let Some(mut odd) = self.odd.take() {
            *odd = Odd::default();
            pool.give_odd_back(odd);
        }
    }

    /// What waits in a direction.
    pub(in crate::flow) fn store(&self, own: usize) -> Option<&Store> {
        self.odd.as_ref()?.stores[own].as_deref()
    }

    pub(in crate::flow) fn is_waiting(&self) -> bool {
        self.odd.as_ref().is_some_and(|odd| odd.stores.iter().any(Option::is_some))
    }

    pub(in crate::flow) fn hole(&self, own: usize) -> Option<Hole> {
        self.odd.as_ref()?.holes[own]
    }

    /// There is no hole any more; gives the one that was there.
    pub(in crate::flow) fn take_hole(&mut self, own: usize) -> Option<Hole> {
        self.odd.as_mut()?.holes[own].take()
    }

    /// After progress: a hole that is left is a new one, known from now on.
    pub(in crate::flow) fn refresh_hole(
        &mut self,
        own: usize,
        now: TimestampNs,
        pool: &mut ReorderPool,
    ) {
        let stream = &self.streams[own];
        let is_hole = stream.is_acked && stream.missing_until(stream.acked).is_some();
        let hole = is_hole.then_some(Hole { since: now, acked: stream.acked });
        if is_hole || self.odd.is_some() {
            self.odd_mut(pool).holes[own] = hole;
        }
    }

    pub(in crate::flow) fn forget_hole_if_passed(&mut self, own: usize) {
        let stream = &self.streams[own];
        if self.hole(own).is_some() && stream.missing_until(stream.acked).is_none() {
            self.take_hole(own);
        }
    }
}
