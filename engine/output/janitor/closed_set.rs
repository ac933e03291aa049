//! [`ClosedSet`]: the closed files of a run, oldest first.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::output::closed_name::{Form, UtcMicros};

/// A closed file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Whose file it is.
    pub(super) output: usize,
    pub(super) opened: UtcMicros,
    pub(super) bytes: u64,
    pub(super) is_compressed: bool,
    /// It could not be deleted or compressed; when that is tried again.
    pub(super) retry_at: Option<Instant>,
}

impl Entry {
    pub(super) fn new(output: usize, opened: UtcMicros, bytes: u64, form: Form) -> Entry {
        let is_compressed = form == Form::Compressed;
        Entry { output, opened, bytes, is_compressed, retry_at: None }
    }

    pub(super) fn form(&self) -> Form {
        if self.is_compressed { Form::Compressed } else { Form::Plain }
    }

    fn is(&self, output: usize, opened: UtcMicros) -> bool {
        (self.output, self.opened) == (output, opened)
    }

    /// Whether something may be done with it at the time `now`.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }
}

/// The closed files in the order in which they were closed. Files from before the start are in the
/// order of their names; what this run closes is newer, whatever the clock says.
#[derive(Debug, Default)]
pub(super) struct ClosedSet {
    entries: Vec<Entry>,
}

impl ClosedSet {
    /// All files, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds a file that was closed just now.
    pub(super) fn push(&mut self, entry: Entry) {
        if !self.entries.iter().any(|known| known.is(entry.output, entry.opened)) {
            self.entries.push(entry);
        }
    }

    /// Takes over what is in the directory: files that are known keep their places, and others get
    /// one by their time.
    pub(super) fn update(&mut self, present: Vec<Entry>) {
        let key = |entry: &Entry| (entry.opened, entry.output);
        let mut present: BTreeMap<_, _> =
            present.into_iter().map(|entry| (key(&entry), entry)).collect();
        self.entries.retain_mut(|known| {
            let found = present.remove(&key(known));
            if let Some(found) = &found {
                (known.bytes, known.is_compressed) = (found.bytes, found.is_compressed);
            }
            found.is_some()
        });
        for entry in present.into_values() {
            let later = self.entries.iter().position(|known| known.opened > entry.opened);
            self.entries.insert(later.unwrap_or(self.entries.len()), entry);
        }
    }

    /// Removes a file and returns it.
    pub(super) fn remove(&mut self, output: usize, opened: UtcMicros) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.is(output, opened))?;
        Some(self.entries.remove(at))
    }

    pub(super) fn get_mut(&mut self, output: usize, opened: UtcMicros) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.is(output, opened))
    }

    /// The bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// The number of files of an output.
    pub(super) fn count_of(&self, output: usize) -> u64 {
        self.entries.iter().filter(|entry| entry.output == output).count() as u64
    }

    /// The oldest plain file that is not the newest one of its output.
    #[cfg(feature = "cli")]
    pub(super) fn next_to_compress(&self, now: Instant) -> Option<&Entry> {
        let is_newest = |at: usize, entry: &Entry| {
            !self.entries[at + 1..].iter().any(|later| later.output == entry.output)
        };
        let mut entries = self.entries.iter().enumerate();
        let next = entries.find(|(at, entry)| {
            !entry.is_compressed && entry.is_ready(now) && !is_newest(*at, entry)
        });
        next.map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(output: usize, opened: u64) -> Entry {
        Entry::new(output, UtcMicros(opened), 10, Form::Plain)
    }

    fn order(set: &ClosedSet) -> Vec<(usize, u64)> {
        set.entries().iter().map(|entry| (entry.output, entry.opened.0)).collect()
    }

    #[test]
    fn what_this_run_closes_is_the_newest_whatever_the_clock_says() {
        let mut set = ClosedSet::default();
        set.update(vec![entry(0, 500), entry(1, 400), entry(0, 100)]);
        // The clock was set back.
        set.push(entry(0, 200));
        set.push(entry(0, 200));
        assert_eq!(order(&set), [(0, 100), (1, 400), (0, 500), (0, 200)]);
        // It stays so when the directory is listed again; others get places by their time.
        let found = [(0, 100), (0, 200), (0, 500), (1, 450), (0, 600)];
        set.update(found.map(|(output, opened)| entry(output, opened)).into());
        assert_eq!(order(&set), [(0, 100), (1, 450), (0, 500), (0, 200), (0, 600)]);
        assert_eq!((set.bytes(), set.count_of(0), set.count_of(1)), (50, 4, 1));
    }

    #[test]
    #[cfg(feature = "cli")]
    fn the_newest_file_of_each_output_is_not_compressed() {
        let (mut set, now) = (ClosedSet::default(), Instant::now());
        set.update(vec![entry(0, 1), entry(1, 2), entry(0, 3), entry(1, 4)]);
        let mut compressed = Vec::new();
        while let Some(next) = set.next_to_compress(now) {
            let (output, opened) = (next.output, next.opened);
            compressed.push((output, opened.0));
            set.get_mut(output, opened).unwrap().is_compressed = true;
        }
        assert_eq!(compressed, [(0, 1), (1, 2)]);
        set.push(entry(0, 5));
        assert_eq!(set.next_to_compress(now).unwrap().opened, UtcMicros(3));
        set.get_mut(0, UtcMicros(3)).unwrap().retry_at =
            Some(now + std::time::Duration::from_secs(1));
        assert_eq!(set.next_to_compress(now), None, "not yet again");
    }
}
