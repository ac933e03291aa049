//! [`ReorderPool`]: memory for what is out of order in the connections of a shard.

use super::odd::Odd;
use super::store::{SPARE_COUNT_MAX, SegmentPool, Store};

/// Bytes that wait in all connections of a shard, and how many may; and memory that waited before,
/// so that in the steady state none is allocated for what is out of order.
#[derive(Debug)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct ReorderPool {
    /// What waits.
    pub segments: SegmentPool,
    odds: Vec<Box<Odd>>,
    stores: Vec<Box<Store>>,
}

impl ReorderPool {
    /// Nothing waits yet; at most `max_bytes` may.
    pub fn new(max_bytes: usize) -> ReorderPool {
        let (odds, stores) = (Vec::new(), Vec::new());
        ReorderPool { segments: SegmentPool::new(max_bytes), odds, stores }
    }

    /// Nothing odd yet.
    pub(super) fn odd(&mut self) -> Box<Odd> {
        self.odds.pop().unwrap_or_default()
    }

    /// Takes it back where nothing is odd.
    pub(super) fn give_odd_back(&mut self, odd: Box<Odd>) {
        if self.odds.len() < SPARE_COUNT_MAX {
            self.odds.push(odd);
        }
    }

    /// An empty store.
    pub(super) fn store(&mut self) -> Box<Store> {
        self.stores.pop().unwrap_or_default()
    }

    /// Takes a store back that is empty.
    pub(super) fn give_store_back(&mut self, store: Box<Store>) {
        debug_assert!(store.is_empty());
        if self.stores.len() < SPARE_COUNT_MAX {
            self.stores.push(store);
        }
    }
}
