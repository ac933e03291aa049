//! [`Copies`]: the parts of waiting data that passed more than once.

use crate::decode::SeqNumber;
use std::ops::Range;

/// Ranges beyond this many are not kept. Ranges that touch count as one, so even a capture in which
/// every packet comes twice needs few.
const RANGE_COUNT_MAX: usize = 64;

/// Ranges of positions, each for one more copy of the bytes there.
#[derive(Clone, Debug, Default)]
pub struct Copies(Vec<Range<SeqNumber>>);

impl Copies {
    /// The memory of a range, including the growth of the list.
    pub(super) const RANGE_BYTES: usize = 2 * size_of::<Range<SeqNumber>>();

    /// The number of ranges.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Another copy of `range` passed.
    pub(super) fn add(&mut self, range: Range<SeqNumber>) {
        if let Some(before) = self.0.iter_mut().find(|known| known.end == range.start) {
            before.end = range.end;
        } else if let Some(behind) = self.0.iter_mut().find(|known| known.start == range.end) {
            behind.start = range.start;
        } else if self.0.len() < RANGE_COUNT_MAX {
            self.0.push(range);
        }
    }

    /// Removes the parts in `range`, before which there is nothing, and returns them.
    pub(super) fn take(&mut self, range: &Range<SeqNumber>) -> Copies {
        let taken = self.0.iter().filter_map(|copy| overlap(copy, range)).collect();
        self.0.retain_mut(|copy| {
            if copy.start.precedes(range.end) {
                copy.start = range.end;
            }
            copy.start.precedes(copy.end)
        });
        Copies(taken)
    }

    /// The parts in `range`.
    pub(super) fn inside(&self, range: Range<SeqNumber>) -> impl Iterator<Item = Range<SeqNumber>> {
        self.0.iter().filter_map(move |copy| overlap(copy, &range))
    }

    /// How many bytes of `range` passed again. Bytes of several copies count for each.
    pub fn bytes_in(&self, range: Range<SeqNumber>) -> u64 {
        self.inside(range).map(|part| u64::from(part.end.0.wrapping_sub(part.start.0))).sum()
    }
}

/// The common part of two ranges. Both are shorter than half of all sequence numbers.
pub(crate) fn overlap(
    one: &Range<SeqNumber>,
    other: &Range<SeqNumber>,
) -> Option<Range<SeqNumber>> {
    let start = if one.start.precedes(other.start) { other.start } else { one.start };
    let end = if one.end.precedes(other.end) { one.end } else { other.end };
    start.precedes(end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGIN: SeqNumber = SeqNumber(u32::MAX - 20);

    fn range(start: u32, end: u32) -> Range<SeqNumber> {
        BEGIN.plus(start)..BEGIN.plus(end)
    }

    proptest! {
        /// The same as counting every position by itself.
        #[test]
        fn copies_are_counted_by_position(
            added in prop::collection::vec((0..50_u32, 1..20_u32), 0..RANGE_COUNT_MAX),
            cut in 0..60_u32,
            asked in (0..70_u32, 0..70_u32),
        ) {
            let (mut copies, mut counts) = (Copies::default(), [0_u64; 70]);
            for (start, len) in added {
                copies.add(range(start, start + len));
                counts[start as usize..(start + len) as usize].iter_mut().for_each(|at| *at += 1);
            }
            let sum = |from: u32, to: u32| -> u64 {
                counts[from as usize..to.max(from) as usize].iter().sum()
            };
            prop_assert_eq!(copies.bytes_in(range(0, 70)), sum(0, 70));
            prop_assert_eq!(copies.bytes_in(range(asked.0, asked.1)), sum(asked.0, asked.1));
            let taken = copies.take(&range(0, cut));
            prop_assert_eq!(taken.bytes_in(range(0, 70)), sum(0, cut));
            prop_assert_eq!(copies.bytes_in(range(0, 70)), sum(cut, 70));
        }
    }

    #[test]
    fn what_touches_is_one_and_the_number_is_bounded() {
        let mut copies = Copies::default();
        for start in 0..1000 {
            copies.add(range(10 * start, 10 * start + 10));
        }
        assert_eq!((copies.len(), copies.bytes_in(range(0, 10_000))), (1, 10_000));
        for start in 0..1000 {
            copies.add(range(20_000 + 10 * start, 20_000 + 10 * start + 9));
        }
        assert_eq!(copies.len(), RANGE_COUNT_MAX);
    }
}
