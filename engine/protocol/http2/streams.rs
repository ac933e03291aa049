//! [`Streams`]: the open streams of a connection, which stream numbers were seen, and which streams
//! were reset.

use super::side::Side;
use crate::decode::SeqNumber;
use crate::ids::Direction;
use crate::protocol::pool::{ExchangeId, ExchangePool};
use crate::time::TimestampNs;
use std::collections::VecDeque;

/// So many streams in a row are never lost, on a connection of which something else is seen.
const NEAR_COUNT: u32 = 1 << 14;

/// An open stream: one of its messages is not complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// Its number.
    pub id: u32,
    /// The exchange of its two messages.
    pub exchange: ExchangeId,
    /// By direction: the message's head has passed, seen or lost.
    pub has_head: [bool; 2],
    /// By direction: how often the place in the direction had been lost when all of the stream that
    /// had passed was known ([`super::framer::Framer::losses`]).
    pub losses: [u32; 2],
}

impl Stream {
    /// Whether something of `direction` may have passed on it that is not known.
    #[inline]
    pub fn may_have_lost(&self, sides: &[Side; 2], direction: Direction) -> bool {
        self.losses[direction.index()] != sides[direction.index()].framer.losses
    }
}

/// The open streams, sorted by their numbers. A client's numbers grow, so new ones are mostly added
/// at the end.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
    /// Streams that clients began have odd numbers, those that servers promised have even ones.
    seen: [SeenNumbers; 2],
}

impl Streams {
    pub fn count(&self) -> usize {
        self.open.len()
    }

    pub fn get(&self, index: usize) -> Option<&Stream> {
        self.open.get(index)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut Stream> {
        self.open.get_mut(index)
    }

    /// Where the stream `id` is among the open ones.
    #[inline]
    pub fn find(&self, id: u32) -> Option<usize> {
        match self.open.last() {
            Some(last) if last.id == id => Some(self.open.len() - 1),
            Some(last) if last.id < id => None,
            _ => self.open.binary_search_by_key(&id, |stream| stream.id).ok(),
        }
    }

    /// Whether nothing of the stream `id` has been seen, so that it may begin now.
    pub fn is_new(&self, id: u32) -> bool {
        self.seen[id as usize % 2].is_new(id / 2)
    }

    /// Whether the number is near those that were seen, or lower. If none was, the client's first
    /// one may be any, if the connection `is_late`. If none was promised, promises are near the
    /// client's.
    pub fn is_near(&self, id: u32, is_late: bool) -> bool {
        let [even, odd] = [self.seen[0].next, self.seen[1].next];
        let is_promise = id.is_multiple_of(2);
        let next = if is_promise && even > 0 { even } else { odd };
        let is_first = next == 0 && is_late && !is_promise;
        is_first || id / 2 <= next.saturating_add(NEAR_COUNT)
    }

    /// The stream begins.
    pub fn begin(&mut self, stream: Stream, pool: &mut ExchangePool) -> usize {
        self.seen[stream.id as usize % 2].see(stream.id / 2);
        let before = self.open.capacity();
        let at = if self.open.last().is_none_or(|last| last.id < stream.id) {
            self.open.push(stream);
            self.open.len() - 1
        } else {
            let at = self.open.partition_point(|other| other.id < stream.id);
            self.open.insert(at, stream);
            at
        };
        pool.hold((self.open.capacity() - before) * size_of::<Stream>());
        at
    }

    /// The stream is over.
    pub fn remove(&mut self, index: usize, pool: &mut ExchangePool) -> Option<Stream> {
        let stream = match self.open.len().checked_sub(index + 1)? {
            0 => self.open.pop(),
            _ => Some(self.open.remove(index)),
        };
        if self.open.is_empty() && self.open.capacity() > 16 {
            self.free(pool);
        }
        stream
    }

    /// The open streams.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.open.iter()
    }

    /// Frees the memory of the list, which is empty.
    pub fn free(&mut self, pool: &mut ExchangePool) {
        pool.release(self.open.capacity() * size_of::<Stream>());
        self.open = Vec::new();
    }
}

/// Numbers that are used in order, of which some may have been missed: the greatest one so far, and
/// which of the 512 before it were not seen. What is further behind counts as seen.
#[derive(Debug, Default)]
struct SeenNumbers {
    /// The number behind the greatest one.
    next: u32,
    /// Bit `n` of the whole, from the lowest one of the first word, is `next - 1 - n`.
    missed: [u64; 8],
}

impl SeenNumbers {
    const WINDOW: u32 = 512;

    fn is_new(&self, number: u32) -> bool {
        match (self.next).checked_sub(number) {
            None | Some(0) => true,
            Some(behind) => {
                let bit = behind - 1;
                bit < Self::WINDOW && self.missed[bit as usize / 64] >> (bit % 64) & 1 != 0
            }
        }
    }

    fn see(&mut self, number: u32) {
        let Some(behind @ 1..) = self.next.checked_sub(number) else {
            self.shift(number - self.next);
            self.next = number + 1;
            return;
        };
        let bit = behind - 1;
        if bit < Self::WINDOW {
            self.missed[bit as usize / 64] &= !(1 << (bit % 64));
        }
    }

    /// Makes place for a number that comes after `missed_count` others that were not seen.
    fn shift(&mut self, missed_count: u32) {
        if missed_count == 0 && self.missed == [0; 8] {
            return;
        }
        let before = self.missed;
        let was_missed = |bit: u32| before[bit as usize / 64] >> (bit % 64) & 1 != 0;
        self.missed = [0; 8];
        // The new number itself is bit 0, those that were missed are behind it.
        for bit in 1..Self::WINDOW {
            let is_missed = match bit.checked_sub(missed_count + 1) {
                None => true,
                Some(old) => was_missed(old),
            };
            self.missed[bit as usize / 64] |= u64::from(is_missed) << (bit % 64);
        }
    }
}

/// The resets that the server may not have read, in their order.
#[derive(Debug, Default)]
pub(super) struct Resets {
    waiting: VecDeque<Reset>,
}

/// A stream was reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reset {
    pub stream: u32,
    /// The position behind the segment that held it.
    pub until: SeqNumber,
    pub at: TimestampNs,
}

impl Resets {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, reset: Reset, pool: &mut ExchangePool) {
        let before = self.waiting.capacity();
        self.waiting.push_back(reset);
        pool.hold((self.waiting.capacity() - before) * size_of::<Reset>());
    }

    pub fn first(&self) -> Option<Reset> {
        self.waiting.front().copied()
    }

    pub fn pop(&mut self) {
        self.waiting.pop_front();
    }

    /// Forgets all, and frees their memory.
    pub fn free(&mut self, pool: &mut ExchangePool) {
        pool.release(self.waiting.capacity() * size_of::<Reset>());
        self.waiting = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::SeenNumbers;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// It agrees with a set of all numbers seen.
        #[test]
        fn numbers_are_new_once(
            steps in prop::collection::vec((0..700_u32, any::<bool>()), 0..60),
        ) {
            let (mut numbers, mut seen) = (SeenNumbers::default(), BTreeSet::new());
            let mut greatest = 0;
            for (step, is_ahead) in steps {
                let number = match is_ahead {
                    true => greatest + step % 40,
                    false => u32::saturating_sub(greatest, step),
                };
                let is_in_window = number + SeenNumbers::WINDOW > greatest;
                prop_assert_eq!(numbers.is_new(number), !seen.contains(&number) && is_in_window);
                if numbers.is_new(number) {
                    numbers.see(number);
                    seen.insert(number);
                    greatest = greatest.max(number);
                }
            }
        }
    }
}
