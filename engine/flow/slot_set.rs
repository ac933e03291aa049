//! [`SlotSet`]: a set of flows that can be searched from where the last search ended.

/// A set of flows: a bit for each slot of the table.
#[derive(Debug, Default)]
pub(super) struct SlotSet {
    words: Vec<u64>,
    count: usize,
    /// The slot where the next search begins.
    cursor: usize,
}

impl SlotSet {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of words of 64 slots: a search of this many is a round.
    pub fn word_count(&self) -> usize {
        self.words.len()
    }

    /// Adds the flow in `slot`, which is not in the set.
    pub fn insert(&mut self, slot: usize) {
        if slot / 64 >= self.words.len() {
            self.words.resize(slot / 64 + 1, 0);
        }
        self.words[slot / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Removes the flow in `slot`, which is in the set.
    pub fn remove(&mut self, slot: usize) {
        self.words[slot / 64] &= !(1 << (slot % 64));
        self.count -= 1;
    }

    /// The slot of the next flow, in the next `words_left` words.
    pub fn next(&mut self, words_left: &mut usize) -> Option<usize> {
        while *words_left > 0 {
            let (at, bit) = (self.cursor / 64 % self.words.len(), self.cursor % 64);
            let rest = self.words[at] >> bit;
            let found = (rest != 0).then(|| at * 64 + bit + rest.trailing_zeros() as usize);
            self.cursor = found.map_or((at + 1) * 64, |slot| slot + 1);
            *words_left -= usize::from(self.cursor.is_multiple_of(64));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// The flows on which only one side has spoken.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    pub all: SlotSet,
    /// Those on which payload has passed. Only these can hold memory.
    pub asking: SlotSet,
}

impl Unanswered {
    /// Removes a flow, on which payload has passed if it `is_used`.
    pub fn remove(&mut self, slot: usize, is_used: bool) {
        self.all.remove(slot);
        if is_used {
            self.asking.remove(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Compared with a naive twin: an ordered set.
        #[test]
        fn a_round_finds_every_flow_once(
            steps in prop::collection::vec(0..300_usize, 0..200),
        ) {
            let (mut set, mut twin) = (SlotSet::default(), BTreeSet::new());
            for slot in steps {
                if twin.insert(slot) {
                    set.insert(slot);
                } else {
                    twin.remove(&slot);
                    set.remove(slot);
                }
                prop_assert_eq!(set.count(), twin.len());
                // A search begins somewhere; from the first slot on it finds all, in order.
                set.next(&mut 1);
                set.cursor = 0;
                let mut words_left = set.words.len();
                let found: Vec<usize> = std::iter::from_fn(|| set.next(&mut words_left)).collect();
                prop_assert_eq!(found, twin.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
