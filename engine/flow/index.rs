//! [`Index`]: finds the slot of a flow in the table by the hash of its key. A look-up nearly always
//! needs one cache line, and that line can be prefetched. With a million flows, neither the index
//! nor the flows are in the CPU's caches.

use crate::simd;

/// The buckets of an empty index. Their number is always a power of two.
const BUCKET_COUNT_MIN: usize = 16;

/// The slot of a flow, with the hash of its key. With the hash, a look-up skips other flows without
/// reading them, and growing the index reads no flow at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bucket {
    slot: u32,
    hash: u32,
}

/// An empty bucket.
const FREE: Bucket = Bucket { slot: u32::MAX, hash: 0 };

/// A hash table with linear probing. At most three of four buckets are in use. Removal leaves no
/// tombstone: later entries move up.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Vec<Bucket>,
    len: usize,
}

impl Index {
    pub fn new() -> Index {
        Index { buckets: vec![FREE; BUCKET_COUNT_MIN], len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The bucket where the search for `hash` begins.
    #[inline(always)]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    #[inline(always)]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len() - 1)
    }

    /// Prefetches what [`Index::find`] will read.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        simd::prefetch_item(&self.buckets[self.home(hash)]);
    }

    /// The slot with this `hash` for which `is_it` is true.
    #[inline]
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.bucket_of(hash, is_it).map(|at| self.buckets[at].slot)
    }

    #[inline]
    fn bucket_of(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let bucket = self.buckets[at];
            if bucket.hash == hash && is_it(bucket.slot) && bucket != FREE {
                return Some(at);
            }
            if bucket == FREE {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Adds a slot that is not in the index.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        if (self.len + 1) * 4 > self.buckets.len() * 3 {
            let twice = vec![FREE; self.buckets.len() * 2];
            let buckets = std::mem::replace(&mut self.buckets, twice);
            buckets
                .into_iter()
                .filter(|bucket| *bucket != FREE)
                .for_each(|bucket| self.put(bucket));
        }
        self.put(Bucket { slot, hash });
        self.len += 1;
    }

    fn put(&mut self, bucket: Bucket) {
        let mut at = self.home(bucket.hash);
        while self.buckets[at] != FREE {
            at = self.next(at);
        }
        self.buckets[at] = bucket;
    }

    /// Removes a slot.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let Some(mut gap) = self.bucket_of(hash, |it| it == slot) else { return };
        self.len -= 1;
        let mut at = self.next(gap);
        while self.buckets[at] != FREE {
            // An entry may move up to the gap unless the gap is before the bucket where its search
            // begins.
            let way = |from: usize| at.wrapping_sub(from) & (self.buckets.len() - 1);
            if way(self.home(self.buckets[at].hash)) >= way(gap) {
                self.buckets[gap] = self.buckets[at];
                gap = at;
            }
            at = self.next(at);
        }
        self.buckets[gap] = FREE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// It behaves like a list of pairs that is searched from its beginning.
        #[test]
        fn it_finds_what_a_list_finds(
            steps in prop::collection::vec((0..4_u8, 0..40_u32, any::<bool>()), 0..300),
        ) {
            let (mut index, mut list) = (Index::new(), Vec::new());
            for (number, (what, hash, is_high)) in steps.into_iter().enumerate() {
                // Hashes around the end of the buckets, few enough to collide.
                let hash = if is_high { u32::MAX - hash } else { hash };
                if what > 0 {
                    index.insert(hash, number as u32);
                    list.push((hash, number as u32));
                } else if let Some(at) = list.iter().position(|(known, _)| *known == hash) {
                    let (hash, slot) = list.swap_remove(at);
                    index.remove(hash, slot);
                    index.remove(hash, slot);
                }
                prop_assert_eq!(index.len(), list.len());
            }
            for (hash, slot) in &list {
                prop_assert_eq!(index.find(*hash, |it| it == *slot), Some(*slot));
                index.prefetch(*hash);
            }
            for hash in (0..41).chain(u32::MAX - 41..=u32::MAX) {
                let is_known = list.iter().any(|(known, _)| *known == hash);
                prop_assert_eq!(index.find(hash, |_| true).is_some(), is_known);
            }
            let taken = index.buckets.iter().filter(|bucket| **bucket != FREE).count();
            prop_assert_eq!(taken, list.len());
        }
    }
}
