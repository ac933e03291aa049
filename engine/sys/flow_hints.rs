//! [`FlowHints`]: what user space reports to the kernel filter about connections, in shared memory.
//!
//! A hint is a cache line: the connection's key with its flags, and a grant for each direction. A
//! grant tells the filter up to which sequence number data need not reach user space. The filter
//! compares the whole key, and a grant is valid only with the initial sequence number in the same
//! word. So neither a collision nor a late hint can affect another connection. Writing one takes a
//! few stores and no system call.
//!
//! Shards share the table: each claims free slots only, and writes only to its own.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::mmap::Mapping;
use crate::ids::{Direction, FlowHashKey, FlowKey};

/// `struct hint` of `bpf/shared.h`, in words of eight bytes: the index of the key's last word,
/// which contains the flags, and of the grants after it.
const HINT_WORDS: usize = 8;
const LAST_KEY_WORD: usize = 5;
const GRANT_WORDS: usize = 6;
const HINT_BYTES: usize = HINT_WORDS * size_of::<u64>();
/// Number of slots in which a key's hint may be.
const WAYS: usize = 2;

/// The slot is free.
const FREE: u64 = 0;
/// The slot is being written. No key has this last word.
const TAKEN: u64 = u64::MAX;

/// How far a grant may reach beyond the data that have passed. The filter accepts grants for twice
/// that distance, which covers retransmissions and segments that overtook others.
pub const GRANT_AHEAD_BYTES_MAX: u32 = 1 << 29;

/// What a hint states about a connection, in bits of its realm that keys leave free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HintFlags(u8);

/// The lowest bit of a realm that keys leave free.
const FLAGS_SHIFT: u32 = 26;

impl HintFlags {
    /// The connection is not HTTP, whatever arrives, until the next SYN.
    pub const FOREIGN: HintFlags = HintFlags(1);
    /// The connection is not HTTP, until a segment begins like a message.
    pub const OTHER: HintFlags = HintFlags(2);
    /// The connection is TLS, until the next SYN. If records of TLS are wanted, the filter passes
    /// their part of it.
    pub const TLS: HintFlags = HintFlags(1 | 2);
    /// The connection was joined midstream: its beginning was not captured. The sequence number of
    /// the segment at which it was joined is used for both initial ones.
    pub const LATE: HintFlags = HintFlags(4);

    /// The initial sequence number of the sender of `direction` is known.
    pub fn isn(direction: Direction) -> HintFlags {
        HintFlags(8 << direction.index())
    }

    /// The flags of both.
    pub fn with(self, other: HintFlags) -> HintFlags {
        HintFlags(self.0 | other.0)
    }

    /// Whether it has all of `other`.
    pub fn has(self, other: HintFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The slot of a hint, plus 1: this makes an `Option` of it no larger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HintId(NonZeroU32);

impl HintId {
    fn at(slot: usize) -> HintId {
        HintId(NonZeroU32::MIN.saturating_add(slot as u32))
    }

    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The table, shared by its clones.
#[derive(Clone, Debug)]
pub struct FlowHints {
    memory: Arc<Mapping>,
    hash_key: FlowHashKey,
}

impl FlowHints {
    /// The number of slot pairs for `session_count` sessions: at least one hint for each, and a
    /// power of two.
    pub fn pair_count(session_count: u32) -> u32 {
        session_count.next_power_of_two().max(WAYS as u32) / WAYS as u32
    }

    /// The table in a map of the filter.
    pub(super) fn of_map(
        map: BorrowedFd<'_>,
        pair_count: u32,
        hash_key: FlowHashKey,
    ) -> io::Result<FlowHints> {
        let bytes = pair_count as usize * WAYS * HINT_BYTES;
        Ok(FlowHints { memory: Arc::new(Mapping::of_file(map, bytes)?), hash_key })
    }

    /// A table that no filter reads, for tests.
    pub fn on_heap(pair_count: u32, hash_key: FlowHashKey) -> FlowHints {
        let memory = Arc::new(Mapping::on_heap(pair_count as usize * WAYS * HINT_BYTES));
        FlowHints { memory, hash_key }
    }

    /// The key of the hash that chooses the slots, the same as the filter's.
    pub fn hash_key(&self) -> FlowHashKey {
        self.hash_key
    }

    /// Claims a slot for the connection `key`. The filter finds the hint once it is shown. `None`:
    /// both slots of the key are taken.
    pub fn take(&self, key: &FlowKey) -> Option<HintId> {
        let words = key.words();
        let pair_count = self.memory.len() / (WAYS * HINT_BYTES);
        let pair = key.flow_hash(&self.hash_key) as usize & (pair_count - 1);
        let id = (0..WAYS).map(|way| HintId::at(pair * WAYS + way)).find(|id| {
            let word = self.word(*id, LAST_KEY_WORD);
            word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })?;
        for (at, word) in words[..LAST_KEY_WORD].iter().enumerate() {
            self.word(id, at).store(*word, Ordering::Relaxed);
        }
        Some(id)
    }

    /// Grants the data of `direction` up to `until`: they need not reach user space. The grant is
    /// for the connection in which the initial sequence number of that direction is `isn`. It must
    /// be written before the hint is shown with [`HintFlags::isn`], and again before `until` is
    /// 2^31 behind, where sequence numbers wrap.
    pub fn grant(&self, id: HintId, direction: Direction, isn: u32, until: u32) {
        let word = u64::from(isn) << 32 | u64::from(until);
        self.word(id, GRANT_WORDS + direction.index()).store(word, Ordering::Release);
    }

    /// Makes the hint visible to the filter, or changes its flags.
    pub fn show(&self, id: HintId, key: &FlowKey, flags: HintFlags) {
        let marked = FlowKey { realm: key.realm | u32::from(flags.0) << FLAGS_SHIFT, ..*key };
        self.word(id, LAST_KEY_WORD).store(marked.words()[LAST_KEY_WORD], Ordering::Release);
    }

    /// Frees the slot.
    pub fn erase(&self, id: HintId) {
        self.word(id, LAST_KEY_WORD).store(TAKEN, Ordering::Relaxed);
        fence(Ordering::Release);
        self.word(id, GRANT_WORDS).store(0, Ordering::Relaxed);
        self.word(id, GRANT_WORDS + 1).store(0, Ordering::Relaxed);
        self.word(id, LAST_KEY_WORD).store(FREE, Ordering::Release);
    }

    /// Number of taken slots. It reads every slot: for tests and totals.
    pub fn taken_count(&self) -> usize {
        let slots = 0..self.memory.len() / HINT_BYTES;
        let word = |slot: usize| self.word(HintId::at(slot), LAST_KEY_WORD);
        slots.filter(|slot| word(*slot).load(Ordering::Relaxed) != FREE).count()
    }

    /// The hint that the filter finds for `key`: the flags, and for each direction the initial
    /// sequence number in the upper half and the end of the grant in the lower.
    #[cfg(test)]
    pub(crate) fn find(&self, key: &FlowKey) -> Option<(HintFlags, [u64; 2])> {
        let words = key.words();
        let slots = 0..self.memory.len() / HINT_BYTES;
        slots.map(HintId::at).find_map(|id| {
            let word = |at| self.word(id, at).load(Ordering::Relaxed);
            let is_same = (0..LAST_KEY_WORD).all(|at| word(at) == words[at]);
            // On little-endian machines the realm is the upper half of the last word.
            let flags = HintFlags(
                (((word(LAST_KEY_WORD) ^ words[LAST_KEY_WORD]) >> 32) as u32 >> FLAGS_SHIFT) as u8,
            );
            (is_same && flags != HintFlags::default()).then(|| (flags, [word(6), word(7)]))
        })
    }

    fn word(&self, id: HintId, at: usize) -> &AtomicU64 {
        self.memory.word64(id.slot() * HINT_BYTES + at * size_of::<u64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey { port: [port.to_be_bytes(), [0, 80]], ..FlowKey::default() }
    }

    #[test]
    fn a_place_is_nobodys_until_it_is_taken_and_after_it_was_given_back() {
        let hints = FlowHints::on_heap(1, FlowHashKey::random());
        let (first, second) = (hints.take(&key(1)), hints.take(&key(2)));
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!(hints.take(&key(3)), None, "both slots are taken");
        hints.show(second.unwrap(), &key(2), HintFlags::LATE);
        hints.erase(second.unwrap());
        assert_eq!(hints.taken_count(), 1);
        assert_eq!(hints.take(&key(3)), second);
    }

    #[test]
    fn notes_spread_over_the_table() {
        // Connections of two hosts, as between a proxy and its server.
        let hints = FlowHints::on_heap(1 << 12, FlowHashKey::random());
        let taken = (0..4096u16).filter(|port| hints.take(&key(port * 2)).is_some()).count();
        // With random keys and one key per pair, 10.4% find both of their slots taken.
        assert!(taken > 3500, "{taken} of 4096 keys have a slot in a table of 8192");
    }

    #[test]
    fn words_mean_the_same_on_both_sides() {
        let shared = include_str!("../../bpf/shared.h");
        let value = |flags: HintFlags| flags.0.trailing_zeros() + FLAGS_SHIFT;
        let lines = [
            ("HINT_FOREIGN", value(HintFlags::FOREIGN)),
            ("HINT_OTHER", value(HintFlags::OTHER)),
            ("HINT_LATE", value(HintFlags::LATE)),
            ("HINT_ISN_0", value(HintFlags::isn(Direction::Forward))),
            ("HINT_ISN_1", value(HintFlags::isn(Direction::Reverse))),
        ];
        for (name, bit) in lines {
            let line = format!("#define {name} (1u << {bit})");
            assert!(shared.lines().any(|theirs| theirs.starts_with(&line)), "{line}");
        }
        assert!(shared.contains("#define HINT_TLS (HINT_FOREIGN | HINT_OTHER)"));
        assert_eq!(HintFlags::TLS, HintFlags::FOREIGN.with(HintFlags::OTHER));
        assert!(shared.contains("#define GRANT_BYTES_MAX (1u << 30)"));
        assert_eq!(GRANT_AHEAD_BYTES_MAX, 1 << 29);
    }
}
