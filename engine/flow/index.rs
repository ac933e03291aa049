//! [`Index`]: where in the table a flow is, by the hash of its key. A bucket is found in one cache
//! line nearly always, and the line can be asked for before it is looked at: where there are a
//! million flows, neither is in the CPU's caches.

use crate::simd;

/// Places of an index without flows. A power of two, as their number always is.
const BUCKET_COUNT_MIN: usize = 16;

/// Where a flow is found. With its key's hash, so that neither the wrong flow is looked at, nor all
/// of them where the index grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bucket {
    slot: u32,
    hash: u32,
}

/// Nobody's bucket.
const FREE: Bucket = Bucket { slot: u32::MAX, hash: 0 };

/// A hash table with the next bucket for the one that is taken; at most three of four are. What is
/// removed leaves no mark: what stands behind it moves up.
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

    /// The first bucket that is looked at for `hash`.
    #[inline(always)]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    #[inline(always)]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len() - 1)
    }

    /// Asks the CPU for what [`Index::find`] will look at.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        simd::prefetch_item(&self.buckets[self.home(hash)]);
    }

    /// The slot under `hash` of which `is_it` holds.
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

    /// Adds a slot that is not there.
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

    /// Takes a slot out.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let Some(mut gap) = self.bucket_of(hash, |it| it == slot) else { return };
        self.len -= 1;
        let mut at = self.next(gap);
        while self.buckets[at] != FREE {
            // It may move up to the gap if that is not before the bucket where its search begins.
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
        /// As a list of pairs that is searched from its beginning.
        #[test]
        fn it_finds_what_a_list_finds(
            steps in prop::collection::vec((0..4_u8, 0..40_u32, any::<bool>()), 0..300),
        ) {
            let (mut index, mut list) = (Index::new(), Vec::new());
            for (number, (what, hash, is_high)) in steps.into_iter().enumerate() {
                // Around the end of the buckets, and few enough to meet.
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
