//! The dynamic table (RFC 7541 section 2.3.2) of which the older part may be unknown.
//!
//! An index counts from the newest entry. So the entries that are here are exact, whatever is not
//! known of those before them. An encoder never refers to an entry that was evicted, so it is
//! harmless to keep one for too long.

use super::field::{Field, Name};
use std::collections::VecDeque;

/// The size that entries kept may have together, by the rule of RFC 7541 section 4.1, whatever the
/// maximum size is.
pub(super) const KEPT_BYTES_MAX: usize = 64 << 10;

/// What an entry counts in addition to its name and value (RFC 7541 section 4.1).
const ENTRY_BYTES: usize = 32;

/// The least capacity of the text.
const TEXT_BYTES_MIN: usize = 512;

/// An entry; its name and value are in the text of the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The position of its name, followed by its value. It wraps.
    at: u32,
    /// The length of its name; 0 if that is unknown.
    name_bytes: u16,
    /// The length of its value.
    value_bytes: u16,
    /// As in [`Field`]. [`Name::Unknown`] if its name is unknown; its value never is.
    known: Name,
    /// As in [`Field`].
    has_control: bool,
}

impl Entry {
    /// The length of the text.
    #[inline(always)]
    fn len(self) -> usize {
        usize::from(self.name_bytes) + usize::from(self.value_bytes)
    }
}

/// The entries that are known.
#[derive(Debug)]
pub(super) struct Table {
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// Their names and values, one entry after the other.
    text: Vec<u8>,
    /// The position of the first byte of `text`. It wraps.
    base: u32,
    /// How many bytes at the beginning of `text` belong to entries that are gone.
    gone_bytes: usize,
    /// The size of the entries (RFC 7541 section 4.1). A name that is unknown counts nothing, so it
    /// may be too small; then entries are kept for too long.
    size_bytes: usize,
    /// The maximum size that the encoder has chosen, if it is known.
    size_bytes_max: Option<u32>,
    /// Whether the encoder's table has no other entries.
    is_whole: bool,
}

impl Table {
    /// Empty, with this maximum size.
    pub(super) fn new(size_bytes_max: u32) -> Table {
        Table {
            entries: VecDeque::new(),
            text: Vec::new(),
            base: 0,
            gone_bytes: 0,
            size_bytes: 0,
            size_bytes_max: Some(size_bytes_max),
            is_whole: true,
        }
    }

    /// Whether the encoder's table has no entry that is missing here.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Allocated memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// The field of an entry; 0 is the newest. The name may be unknown. `None` if there is no such
    /// entry here.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<Field<'_>> {
        // Wraps to a place that no entry has, if there are not so many.
        let entry = self.entries.get(self.entries.len().wrapping_sub(age).wrapping_sub(1))?;
        let start = entry.at.wrapping_sub(self.base) as usize;
        let text = &self.text[start..start + entry.len()];
        let (name, value) = text.split_at(entry.name_bytes.into());
        let Entry { known, has_control, .. } = *entry;
        Some(Field { name, value, known, has_control, has_value: true })
    }

    /// Adds the newest entry, and evicts old ones for it (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, field: Field<'_>) {
        let Field { name, value, known, has_control, .. } = field;
        let text_bytes = name.len() + value.len();
        let size_bytes = ENTRY_BYTES + text_bytes;
        let kept_bytes_max = self.kept_bytes_max();
        if size_bytes > kept_bytes_max {
            // Too large for the encoder's table, which is empty then; or for this one.
            self.clear();
            self.is_whole = self.size_bytes_max.is_some_and(|max| size_bytes > max as usize);
            return;
        }
        self.evict(kept_bytes_max - size_bytes);
        self.make_room(text_bytes);
        self.entries.push_back(Entry {
            at: self.base.wrapping_add(self.text.len() as u32),
            name_bytes: name.len() as u16,
            value_bytes: value.len() as u16,
            known,
            has_control,
        });
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.size_bytes += size_bytes;
        self.notice_if_full();
    }

    /// The encoder changes the maximum size (RFC 7541 section 4.3).
    pub(super) fn set_size_max(&mut self, bytes: u32) {
        self.size_bytes_max = Some(bytes);
        self.evict(self.kept_bytes_max());
        self.notice_if_full();
    }

    /// From now on the entries are unknown, and also the maximum size.
    pub(super) fn lose(&mut self) {
        self.lose_entries();
        self.size_bytes_max = None;
        self.is_whole = false;
    }

    /// From now on the entries are unknown.
    pub(super) fn lose_entries(&mut self) {
        self.clear();
        self.is_whole = false;
        self.notice_if_full();
    }

    /// Frees the memory. The entries become unknown.
    pub(super) fn relieve(&mut self) {
        let is_whole = self.is_whole && self.entries.is_empty();
        self.lose_entries();
        self.is_whole |= is_whole;
        self.entries = VecDeque::new();
        self.text = Vec::new();
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        (self.gone_bytes, self.size_bytes) = (0, 0);
    }

    /// The size that the entries here may have.
    fn kept_bytes_max(&self) -> usize {
        self.size_bytes_max.map_or(KEPT_BYTES_MAX, |max| KEPT_BYTES_MAX.min(max as usize))
    }

    /// Removes the oldest entries until the others have at most `bytes`.
    fn evict(&mut self, bytes: usize) {
        while self.size_bytes > bytes {
            let Some(entry) = self.entries.pop_front() else { return };
            self.size_bytes -= ENTRY_BYTES + entry.len();
            self.gone_bytes += entry.len();
            // The encoder has evicted it as well, and all before it; but not if only the limit of
            // this table asks for it.
            self.is_whole = self.size_bytes_max.is_some_and(|max| max as usize <= KEPT_BYTES_MAX);
        }
    }

    /// With this little room left, the encoder's table has no entry that is missing here.
    fn notice_if_full(&mut self) {
        let is_full = |max| self.size_bytes + ENTRY_BYTES > max as usize;
        self.is_whole |= self.size_bytes_max.is_some_and(is_full);
    }

    /// Makes sure that the text can take `bytes` more. A move costs less than three times what was
    /// added since the last one.
    fn make_room(&mut self, bytes: usize) {
        if self.text.len() + bytes <= self.text.capacity() {
            return;
        }
        self.text.drain(..self.gone_bytes);
        self.base = self.base.wrapping_add(self.gone_bytes as u32);
        self.gone_bytes = 0;
        let capacity = (self.text.len() + bytes) * 4 / 3;
        if capacity > self.text.capacity() {
            self.text.reserve_exact(capacity.max(TEXT_BYTES_MIN) - self.text.len());
        }
    }
}
