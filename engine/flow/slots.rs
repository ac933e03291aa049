//! [`Slots`]: a list that grows without moving its elements. Copying a table of a hundred thousand
//! flows takes milliseconds, in which the capture ring fills up.

use std::ops::{Index, IndexMut};

/// The slots in one piece.
const PIECE_SLOTS: usize = 1024;

/// Slots, each with a value or none, in pieces.
#[derive(Debug)]
pub(super) struct Slots<T> {
    pieces: Vec<Box<[Option<T>; PIECE_SLOTS]>>,
    len: usize,
}

impl<T> Slots<T> {
    pub fn new() -> Slots<T> {
        Slots { pieces: Vec::new(), len: 0 }
    }

    /// The number of slots, with values or without.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a slot with a value.
    pub fn push(&mut self, value: T) {
        if self.len == self.pieces.len() * PIECE_SLOTS {
            let piece: Box<[Option<T>]> = (0..PIECE_SLOTS).map(|_| None).collect();
            self.pieces.extend(piece.try_into().ok());
        }
        self.len += 1;
        let last = self.len - 1;
        self[last] = Some(value);
    }

    /// The slot, if there is one.
    #[inline(always)]
    pub fn get(&self, slot: usize) -> Option<&Option<T>> {
        self.pieces.get(slot / PIECE_SLOTS).map(|piece| &piece[slot % PIECE_SLOTS])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Option<T>> {
        self.pieces.iter().flat_map(|piece| piece.iter()).take(self.len)
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = Option<T>;

    #[inline(always)]
    fn index(&self, slot: usize) -> &Option<T> {
        &self.pieces[slot / PIECE_SLOTS][slot % PIECE_SLOTS]
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    #[inline(always)]
    fn index_mut(&mut self, slot: usize) -> &mut Option<T> {
        &mut self.pieces[slot / PIECE_SLOTS][slot % PIECE_SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_stays_where_it_is() {
        let mut slots = Slots::new();
        slots.push(0);
        let first = std::ptr::from_ref(&slots[0]);
        let count = 3 * PIECE_SLOTS + 7;
        (1..count).for_each(|value| slots.push(value));
        assert_eq!(first, std::ptr::from_ref(&slots[0]));
        assert_eq!((slots.len(), slots.iter().count()), (count, count));
        assert!(slots.iter().enumerate().all(|(at, value)| *value == Some(at)));
        assert_eq!(slots[2000].take(), Some(2000));
        assert_eq!((slots.get(2000), slots.get(4 * PIECE_SLOTS)), (Some(&None), None));
    }
}
