//! [`Odd`]: what a connection keeps only while something of it is out of order, missing or
//! contradicted. Most have none of that, and a pointer to nothing in its place.

use super::connection::Connection;
use super::store::{Budget, Store};
use crate::decode::SeqNumber;
use crate::ids::Direction;
use crate::time::TimestampNs;

#[derive(Debug, Default)]
pub(super) struct Odd {
    /// What waits in each direction.
    pub stores: [Option<Box<Store>>; 2],
    holes: [Option<Hole>; 2],
    pub rival: Option<Rival>,
}

/// Since when something waits for bytes that the peer has acknowledged, and how far it had
/// acknowledged then. While nothing waits, an acknowledgement alone gives up nothing: it may be
/// ahead of its data, or wild.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub since: TimestampNs,
    pub acked: SeqNumber,
}

/// A SYN with another initial sequence number that came while the connection lived. It may be a new
/// connection or a forgery: what follows tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    pub client: Direction,
    pub isn: SeqNumber,
    pub syn_at: TimestampNs,
}

impl Odd {
    fn is_blank(&self) -> bool {
        self.stores.iter().all(Option::is_none)
            && self.holes.iter().all(Option::is_none)
            && self.rival.is_none()
    }
}

impl Connection {
    /// What is odd, to be added to.
    pub(super) fn odd_mut(&mut self, budget: &mut Budget) -> &mut Odd {
        self.odd.get_or_insert_with(|| budget.odd())
    }

    /// Gives the memory back where nothing is odd any more.
    #[inline]
    pub(super) fn ease(&mut self, budget: &mut Budget) {
        if let Some(odd) = self.odd.take_if(|odd| odd.is_blank()) {
            budget.give_odd_back(odd);
        }
    }

    /// Gives it back whatever is left in it.
    pub(super) fn forget_oddities(&mut self, budget: &mut Budget) {
        self.release(budget);
        if let Some(mut odd) = self.odd.take() {
            *odd = Odd::default();
            budget.give_odd_back(odd);
        }
    }

    /// What waits in a direction.
    pub(super) fn store(&self, own: usize) -> Option<&Store> {
        self.odd.as_ref()?.stores[own].as_deref()
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.odd.as_ref().is_some_and(|odd| odd.stores.iter().any(Option::is_some))
    }

    pub(super) fn hole(&self, own: usize) -> Option<Hole> {
        self.odd.as_ref()?.holes[own]
    }

    /// There is no hole any more; gives the one that was there.
    pub(super) fn take_hole(&mut self, own: usize) -> Option<Hole> {
        self.odd.as_mut()?.holes[own].take()
    }

    /// After progress: a hole that is left is a new one, known from now on.
    pub(super) fn refresh_hole(&mut self, own: usize, now: TimestampNs, budget: &mut Budget) {
        let stream = &self.streams[own];
        let is_hole = stream.is_acked && stream.missing_until(stream.acked).is_some();
        let hole = is_hole.then_some(Hole { since: now, acked: stream.acked });
        if is_hole || self.odd.is_some() {
            self.odd_mut(budget).holes[own] = hole;
        }
    }

    pub(super) fn forget_hole_if_passed(&mut self, own: usize) {
        let stream = &self.streams[own];
        if self.hole(own).is_some() && stream.missing_until(stream.acked).is_none() {
            self.take_hole(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tests/bounds.rs and README count for it, with a word of the allocator's.
    #[test]
    fn it_takes_what_is_counted_for_it() {
        assert!(size_of::<Odd>() <= 88, "{}", size_of::<Odd>());
    }
}
