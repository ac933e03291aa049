//! [`TopK`]: the most frequent keys of a stream, with bounded memory: the algorithm Space-Saving
//! (Metwally, Agrawal and El Abbadi, 2005), merged as by Cafaro, Pulimeno and Tempesta (2016).
//!
//! With k rows, after N keys:
//! - The count of a row is not less than the number of its keys, and exceeds it by at most its
//!   `error`.
//! - No `error` exceeds N/k. With up to k different keys all are 0, and everything is exact.
//! - Each key that came more than N/k times has a row.
//!
//! All of it holds after [`TopK::merge`] as well, where N is the sum: the counts of all rows add up
//! to at most N, before and after, so the least of k is at most N/k.

use super::row::Row;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of each table of a [`Summary`](super::Summary).
pub const ROW_COUNT_MAX: usize = 512;

/// Of a longer key, only the beginning is a key. Those with the same beginning share a row.
pub const KEY_BYTES_MAX: usize = 256;

/// The most frequent keys, and what is known of each since it got its row.
#[derive(Clone, Debug)]
pub struct TopK {
    rows: Vec<(Arc<str>, Row)>,
    places: HashMap<Arc<str>, u32, RandomState>,
    row_count_max: usize,
    /// Keys that came.
    count: u64,
    /// The least count of all rows when it was last looked for.
    floor: u64,
    /// Rows that had it then.
    least: Vec<u32>,
}

impl TopK {
    /// No keys, and room for `row_count_max` rows, at least one.
    pub fn new(row_count_max: usize) -> TopK {
        let row_count_max = row_count_max.max(1);
        TopK {
            rows: Vec::new(),
            places: HashMap::default(),
            row_count_max,
            count: 0,
            floor: 0,
            least: Vec::new(),
        }
    }

    /// Counts a key, and returns its row. If it has none, it takes over the one with the least
    /// count, of which only the count is kept.
    pub fn add(&mut self, key: &str) -> &mut Row {
        let key = beginning(key);
        self.count += 1;
        let place = match self.places.get(key) {
            Some(place) => *place,
            None if self.rows.len() < self.row_count_max => self.push(key.into(), Row::default()),
            None => self.take_over(key),
        };
        let row = &mut self.rows[place as usize].1;
        row.count += 1;
        row
    }

    fn push(&mut self, key: Arc<str>, row: Row) -> u32 {
        let place = self.rows.len() as u32;
        self.places.insert(key.clone(), place);
        self.rows.push((key, row));
        place
    }

    #[cold]
    fn take_over(&mut self, key: &str) -> u32 {
        let place = self.least_place();
        let key: Arc<str> = key.into();
        let (old, row) = &mut self.rows[place as usize];
        let count = row.count;
        row.start_over(count);
        self.places.remove(&std::mem::replace(old, key.clone()));
        self.places.insert(key, place);
        place
    }

    /// The place of a row with the least count. Counts only grow, so rows that had it and have not
    /// grown still have it.
    fn least_place(&mut self) -> u32 {
        loop {
            while let Some(place) = self.least.pop() {
                if self.rows[place as usize].1.count == self.floor {
                    return place;
                }
            }
            self.floor = self.least_count();
            let rows = self.rows.iter().zip(0..);
            let is_least = |((_, row), place): (&(Arc<str>, Row), u32)| {
                (row.count == self.floor).then_some(place)
            };
            self.least.extend(rows.filter_map(is_least));
        }
    }

    fn least_count(&self) -> u64 {
        self.rows.iter().map(|(_, row)| row.count).min().unwrap_or_default()
    }

    /// What a key that has no row may have been counted, at most.
    fn missed_max(&self) -> u64 {
        if self.rows.len() < self.row_count_max { 0 } else { self.least_count() }
    }

    /// Adds all keys of `other`, which has as much room. The bounds hold for all keys together.
    pub fn merge(&mut self, other: &TopK) {
        let (missed, missed_other) = (self.missed_max(), other.missed_max());
        let own_count = self.rows.len();
        self.count += other.count;
        self.least.clear();
        for (_, row) in &mut self.rows {
            row.miss(missed_other);
        }
        for (key, row) in &other.rows {
            match self.places.get(key) {
                Some(place) => {
                    let own = &mut self.rows[*place as usize].1;
                    if (*place as usize) < own_count {
                        own.unmiss(missed_other);
                    }
                    own.merge(row);
                }
                None => {
                    let mut row = row.clone();
                    row.miss(missed);
                    self.push(key.clone(), row);
                }
            }
        }
        self.shorten();
    }

    /// Keeps the rows with the greatest counts, as many as there is room for.
    fn shorten(&mut self) {
        if self.rows.len() <= self.row_count_max {
            return;
        }
        self.rows.sort_by(|(key, row), (other_key, other)| {
            other.count.cmp(&row.count).then_with(|| key.cmp(other_key))
        });
        self.rows.truncate(self.row_count_max);
        self.places = self.rows.iter().zip(0..).map(|((key, _), at)| (key.clone(), at)).collect();
    }

    /// The rows and their keys, in no order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&str, &Row)> {
        self.rows.iter().map(|(key, row)| (&**key, row))
    }

    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<&Row> {
        let place = self.places.get(beginning(key))?;
        Some(&self.rows[*place as usize].1)
    }

    /// Keys that came.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether keys may have lost their rows to others.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.row_count_max
    }

    /// The memory that it takes.
    pub fn held_bytes(&self) -> usize {
        let of_row = |(key, row): &(Arc<str>, Row)| key.len() + 16 + row.held_bytes();
        let rows = self.rows.capacity() * size_of::<(Arc<str>, Row)>();
        let places = self.places.capacity() * (size_of::<(Arc<str>, u32)>() + 1);
        rows + places + self.rows.iter().map(of_row).sum::<usize>()
    }
}

/// Equal if they have counted the same; in which order is no matter.
impl PartialEq for TopK {
    fn eq(&self, other: &TopK) -> bool {
        self.count == other.count
            && self.rows.len() == other.rows.len()
            && self.rows().all(|(key, row)| other.row(key) == Some(row))
    }
}

fn beginning(key: &str) -> &str {
    let mut end = key.len().min(KEY_BYTES_MAX);
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    &key[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ROOM: usize = 8;

    fn of(keys: &[u8]) -> TopK {
        let mut top = TopK::new(ROOM);
        for key in keys {
            top.add(&key.to_string()).errors += 1;
        }
        top
    }

    fn check(top: &TopK, keys: &[u8]) -> Result<(), TestCaseError> {
        let mut exact: BTreeMap<String, u64> = BTreeMap::new();
        keys.iter().for_each(|key| *exact.entry(key.to_string()).or_default() += 1);
        let bound = keys.len() as u64 / ROOM as u64;
        prop_assert_eq!(top.count(), keys.len() as u64);
        prop_assert!(top.rows().len() <= ROOM);
        prop_assert!(top.rows().map(|(_, row)| row.count).sum::<u64>() <= top.count());
        for (key, row) in top.rows() {
            let count = exact.get(key).copied().unwrap_or_default();
            prop_assert!(row.certain() <= count && count <= row.count, "{key}: {count}, {row:?}");
            prop_assert!(row.error <= bound, "{key}: {} of {bound}", row.error);
            // All else is of records that were certainly of this key.
            prop_assert!(row.errors >= row.certain() && row.errors <= count);
            prop_assert_eq!(top.row(key), Some(row));
        }
        for (key, count) in &exact {
            prop_assert!(*count <= bound || top.row(key).is_some(), "{key} came {count} times");
            prop_assert!(exact.len() > ROOM || top.row(key).is_some_and(|row| row.error == 0));
        }
        Ok(())
    }

    /// Few keys, many keys, and some that come more often than others.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let key = (any::<u8>(), 0u32..8).prop_map(|(key, bits)| key >> bits);
        prop::collection::vec(key, 0..400)
    }

    proptest! {
        #[test]
        fn counts_are_within_their_bounds(keys in keys()) {
            check(&of(&keys), &keys)?;
        }

        #[test]
        fn the_bounds_hold_after_merging_and_on(parts in prop::collection::vec(keys(), 1..5)) {
            let mut top = TopK::new(ROOM);
            let mut all = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                if at % 2 == 0 {
                    top.merge(&of(part));
                } else {
                    part.iter().for_each(|key| top.add(&key.to_string()).errors += 1);
                }
                all.extend_from_slice(part);
                check(&top, &all)?;
            }
        }
    }

    #[test]
    fn long_keys_are_cut_between_characters() {
        let mut top = TopK::new(ROOM);
        let long = "\u{e9}".repeat(KEY_BYTES_MAX);
        top.add(&long);
        top.add(&format!("{long}x"));
        assert_eq!(top.row(&long).map(|row| row.count), Some(2));
        let key = "\u{20ac}".repeat(KEY_BYTES_MAX);
        top.add(&key);
        assert!(top.rows().all(|(key, _)| key.len() <= KEY_BYTES_MAX));
    }
}
