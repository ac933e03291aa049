//! [`Histogram`]: how long things took, as a histogram of the layout that HdrHistogram has: the
//! buckets of an octave have equal widths, and each octave has the same number of them.
//!
//! It differs from the crate of that name in two things: memory is taken for those parts of it
//! that are used, since there is one for each row of each table; and a bucket stands for its
//! middle, so half as many buckets give the same error.

use std::fmt;

/// Buckets for each octave. A value is told as the middle of its bucket, which is wrong by at most
/// 1 in 128: two significant digits.
const OCTAVE_BUCKETS: usize = 1 << OCTAVE_BITS;
const OCTAVE_BITS: u32 = 6;
/// Values from 2^42 ns (73 minutes) on share the last bucket.
const VALUE_BITS_MAX: u32 = 42;
const BUCKET_COUNT: usize = (VALUE_BITS_MAX - OCTAVE_BITS + 1) as usize * OCTAVE_BUCKETS;

/// Buckets whose memory is taken together.
const PAGE_BUCKETS: usize = 32;
const PAGE_COUNT: usize = BUCKET_COUNT / PAGE_BUCKETS;

const _: () = assert!(PAGE_COUNT < u8::MAX as usize);

/// Times in nanoseconds. Each is told with an error of at most 1/128 of itself, up to 73 minutes;
/// above, only the number of times and the greatest one are known. Takes at most 19 KiB.
#[derive(Clone)]
pub struct Histogram {
    /// For each page its number in `counts`, from 1 on, or 0.
    pages: [u8; PAGE_COUNT],
    counts: Vec<[u64; PAGE_BUCKETS]>,
    count: u64,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let (counts, pages) = (Vec::new(), [0; PAGE_COUNT]);
        Histogram { pages, counts, count: 0, sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
    }
}

/// Times between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// The least time in it.
    pub from_ns: u64,
    /// The least time above it.
    pub to_ns: u64,
    /// How many there were.
    pub count: u64,
}

impl Histogram {
    /// The greatest error of a time that is told, as a share of it, up to [`Self::EXACT_NS_MAX`].
    pub const ERROR_MAX: f64 = 1.0 / (2 * OCTAVE_BUCKETS) as f64;
    /// The greatest time that is told with this error.
    pub const EXACT_NS_MAX: u64 = (1 << VALUE_BITS_MAX) - 1;
    /// The memory that one takes at most, beside itself.
    pub const BYTES_MAX: usize = BUCKET_COUNT * 8;

    /// Counts a time.
    #[inline]
    pub fn add(&mut self, time_ns: u64) {
        self.count += 1;
        self.sum_ns += u128::from(time_ns);
        self.min_ns = self.min_ns.min(time_ns);
        self.max_ns = self.max_ns.max(time_ns);
        *self.bucket_mut(bucket_of(time_ns)) += 1;
    }

    #[inline]
    fn bucket_mut(&mut self, bucket: usize) -> &mut u64 {
        let page = &mut self.pages[bucket / PAGE_BUCKETS];
        if *page == 0 {
            let count = self.counts.len();
            if count == self.counts.capacity() {
                self.counts.reserve_exact(count.clamp(1, PAGE_COUNT - count));
            }
            self.counts.push([0; PAGE_BUCKETS]);
            *page = self.counts.len() as u8;
        }
        &mut self.counts[usize::from(*page) - 1][bucket % PAGE_BUCKETS]
    }

    /// Adds all times of `other`. The error stays the same.
    pub fn merge(&mut self, other: &Histogram) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        for (bucket, count) in other.filled() {
            *self.bucket_mut(bucket) += count;
        }
    }

    /// The buckets that are not empty, in order, and their counts.
    fn filled(&self) -> impl Iterator<Item = (usize, u64)> {
        let pages = self.pages.iter().enumerate().filter(|(_, at)| **at != 0);
        let buckets = pages.flat_map(|(page, at)| {
            let counts = self.counts[usize::from(*at) - 1].iter().enumerate();
            counts.map(move |(bucket, count)| (page * PAGE_BUCKETS + bucket, *count))
        });
        buckets.filter(|(_, count)| *count > 0)
    }

    /// The number of times.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The least time.
    pub fn min_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min_ns)
    }

    /// The greatest time.
    pub fn max_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max_ns)
    }

    /// The mean of all times. It is exact.
    pub fn mean_ns(&self) -> Option<u64> {
        let mean = self.sum_ns.checked_div(u128::from(self.count))?;
        u64::try_from(mean).ok()
    }

    /// The time that a share of `quantile` (0 to 1) of all times do not exceed: the least such one,
    /// with the error of the histogram. `None` without any.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let max_ns = self.max_ns()?;
        let rank = (quantile * self.count as f64).ceil().clamp(1.0, self.count as f64) as u64;
        let mut passed = 0;
        for (bucket, count) in self.filled() {
            passed += count;
            if passed >= rank {
                let (from, to) = bounds_of(bucket);
                let is_last = bucket == BUCKET_COUNT - 1;
                let middle = if is_last { max_ns } else { from + (to - from) / 2 };
                return Some(middle.clamp(self.min_ns, max_ns));
            }
        }
        Some(max_ns)
    }

    /// The buckets that are not empty, in order.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        self.filled().map(|(bucket, count)| {
            let (from_ns, to_ns) = bounds_of(bucket);
            Bucket { from_ns, to_ns, count }
        })
    }

    /// The memory that it takes beside itself.
    pub fn held_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<[u64; PAGE_BUCKETS]>()
    }
}

#[inline]
fn bucket_of(time_ns: u64) -> usize {
    let time = time_ns.min(Histogram::EXACT_NS_MAX);
    if time < OCTAVE_BUCKETS as u64 {
        return time as usize;
    }
    let shift = time.ilog2() - OCTAVE_BITS;
    shift as usize * OCTAVE_BUCKETS + (time >> shift) as usize
}

/// The least time of a bucket, and the least one above it.
fn bounds_of(bucket: usize) -> (u64, u64) {
    if bucket < OCTAVE_BUCKETS {
        return (bucket as u64, bucket as u64 + 1);
    }
    let shift = bucket / OCTAVE_BUCKETS - 1;
    let from = ((bucket % OCTAVE_BUCKETS + OCTAVE_BUCKETS) as u64) << shift;
    (from, from + (1 << shift))
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        (self.count, self.sum_ns, self.min_ns, self.max_ns)
            == (other.count, other.sum_ns, other.min_ns, other.max_ns)
            && self.filled().eq(other.filled())
    }
}

impl Eq for Histogram {}

impl fmt::Debug for Histogram {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |quantile| self.quantile_ns(quantile);
        write!(formatter, "Histogram({} times", self.count)?;
        write!(formatter, ", p50 {:?}, p99 {:?}, max {:?})", of(0.5), of(0.99), self.max_ns())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other() {
        let mut next = 0;
        for bucket in 0..BUCKET_COUNT {
            let (from, to) = bounds_of(bucket);
            assert_eq!(from, next);
            assert_eq!((bucket_of(from), bucket_of(to - 1)), (bucket, bucket));
            next = to;
        }
        assert_eq!(next, Histogram::EXACT_NS_MAX + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKET_COUNT - 1);
    }

    fn times() -> impl Strategy<Value = Vec<u64>> {
        // All magnitudes are as likely.
        let time = (0u32..42, any::<u64>()).prop_map(|(bits, any)| any >> (63 - bits) >> 1);
        prop::collection::vec(time, 1..300)
    }

    fn of(times: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        times.iter().for_each(|time| histogram.add(*time));
        histogram
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_error(mut times in times(), quantile in 0.0..=1.0f64) {
            let histogram = of(&times);
            times.sort_unstable();
            let rank = ((quantile * times.len() as f64).ceil() as usize).max(1);
            let (exact, told) = (times[rank - 1], histogram.quantile_ns(quantile).unwrap());
            let error = exact.abs_diff(told) as f64;
            prop_assert!(error <= exact as f64 * Histogram::ERROR_MAX, "{exact} told as {told}");
            let sum: u128 = times.iter().map(|time| u128::from(*time)).sum();
            prop_assert_eq!(histogram.mean_ns(), Some((sum / times.len() as u128) as u64));
            prop_assert_eq!(histogram.max_ns(), times.last().copied());
            prop_assert!(histogram.held_bytes() <= Histogram::BYTES_MAX);
        }

        #[test]
        fn merging_is_adding_all(first in times(), second in times()) {
            let mut merged = of(&first);
            merged.merge(&of(&second));
            prop_assert_eq!(merged, of(&[first, second].concat()));
        }
    }

    #[test]
    fn beyond_the_last_bucket_the_greatest_is_told() {
        let histogram = of(&[1, u64::MAX]);
        assert_eq!(histogram.quantile_ns(0.99), Some(u64::MAX));
        assert_eq!(Histogram::default().quantile_ns(0.5), None);
    }
}
