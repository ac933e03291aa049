//! [`FragmentTable`]: datagrams that are still incomplete. Their number, bytes and age are bounded.

use super::Reject;
use super::cursor::EncapsulationStack;
use super::ip::{Fragment, Packet};
use crate::config::DecodeConfig;
use crate::ids::{REALM_IPV6, VLAN_DEPTH_MAX};
use crate::stats::DatagramStats;
use crate::time::TimestampNs;
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};

/// The maximum end of an IP packet's payload; a jumbogram is never fragmented (RFC 2675 section 4).
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Maximum number of buffered pieces of one datagram: enough for 64 KiB in pieces of an IPv4
/// minimum MTU of 68 bytes.
const PIECE_COUNT_MAX: usize = 2048;
/// Maximum overhead of a piece: its slot in a list that doubles, and the allocator's share.
const PIECE_OVERHEAD_BYTES: usize = 64;
/// Overhead of a datagram without its pieces: the set itself, its key in the map, and unused slots
/// in both.
const SET_OVERHEAD_BYTES: usize = 512;

/// Identifies the datagram of a fragment: RFC 791 section 3.2, RFC 8200 section 4.5, and the
/// network it was captured in, even if the key of connections ignores networks. All fragments of a
/// datagram travel in one network. Copies in another one, from the other side of a router, are
/// joined apart: what is left over of them would mix with a later datagram of the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    source: [u8; 16],
    destination: [u8; 16],
    id: u32,
    /// 0 for IPv6, where the first fragment determines the protocol.
    protocol: u8,
    vlans: [u16; VLAN_DEPTH_MAX],
    realm: u32,
}

impl Key {
    fn of(packet: &Packet, id: u32, encapsulations: &EncapsulationStack) -> Key {
        Key {
            source: packet.source,
            destination: packet.destination,
            id,
            protocol: if packet.is_v6 { 0 } else { packet.protocol },
            vlans: encapsulations.vlans.ids,
            realm: encapsulations.realm | if packet.is_v6 { REALM_IPV6 } else { 0 },
        }
    }
}

#[derive(Debug)]
struct Piece {
    start: usize,
    bytes: Box<[u8]>,
}

impl Piece {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }

    /// Whether the piece equals `bytes`, which begin at `start`, in their common range.
    fn agrees(&self, start: usize, bytes: &[u8]) -> bool {
        let (from, to) = (self.start.max(start), self.end().min(start + bytes.len()));
        self.bytes.get(from - self.start..to - self.start) == bytes.get(from - start..to - start)
    }
}

/// The fragments received of one datagram.
#[derive(Debug)]
struct Set {
    key: Key,
    since: TimestampNs,
    /// In order and without overlaps.
    pieces: Vec<Piece>,
    /// Bytes in `pieces`.
    held_bytes: usize,
    /// Length of the datagram, once its last fragment has arrived.
    total_bytes: Option<usize>,
    /// The protocol of the datagram, according to its first fragment.
    protocol: u8,
    /// Why the datagram was dropped. Its later fragments are rejected for the same reason.
    dropped: Option<Reject>,
}

impl Set {
    fn cost_bytes(&self) -> usize {
        SET_OVERHEAD_BYTES + self.held_bytes + self.pieces.len() * PIECE_OVERHEAD_BYTES
    }

    /// Adds the new bytes of a fragment. Fragments that overlap must agree on the common bytes, and
    /// all must agree on the end of the datagram.
    fn add(&mut self, fragment: Fragment, bytes: &[u8]) -> Result<(), Reject> {
        let (start, end) = (fragment.offset, fragment.offset + bytes.len());
        let last_end = self.pieces.last().map_or(0, Piece::end);
        let is_beyond = self.total_bytes.is_some_and(|total| end > total);
        let is_other_end =
            fragment.is_last && (last_end > end || self.total_bytes.is_some_and(|t| t != end));
        if is_beyond || is_other_end {
            return Err(Reject::FragmentOverlap);
        }
        if fragment.is_last {
            self.total_bytes = Some(end);
        }
        // Fragments mostly arrive in order: then this is the end of the list, and one iteration
        // suffices.
        let mut index = self.pieces.partition_point(|piece| piece.end() <= start);
        let mut at = start;
        while at < end {
            let next = self.pieces.get(index).filter(|piece| piece.start < end);
            let free_until = next.map_or(end, |piece| piece.start.max(at));
            if next.is_some_and(|piece| !piece.agrees(start, bytes)) {
                return Err(Reject::FragmentOverlap);
            }
            let after = next.map_or(end, Piece::end);
            if at < free_until {
                if self.pieces.len() == PIECE_COUNT_MAX {
                    return Err(Reject::FragmentAtBound);
                }
                let new = bytes.get(at - start..free_until - start).unwrap_or_default();
                self.held_bytes += new.len();
                self.pieces.insert(index, Piece { start: at, bytes: new.into() });
                index += 1;
            }
            at = after;
            index += 1;
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.total_bytes == Some(self.held_bytes)
    }

    fn join(&self) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(self.held_bytes);
        for piece in &self.pieces {
            datagram.extend_from_slice(&piece.bytes);
        }
        datagram
    }

    fn drop_pieces(&mut self, reason: Reject) {
        self.pieces = Vec::new();
        self.held_bytes = 0;
        self.dropped = Some(reason);
    }
}

/// The datagrams that are still incomplete.
///
/// Policy: overlapping fragments of one datagram that agree on the common bytes are harmless,
/// whether they are exact duplicates or not. If they disagree, the whole datagram is dropped, as
/// RFC 5722 demands for IPv6 and as Linux does for both versions: nobody can know which bytes the
/// receiver used. Datagrams older than `fragment_age_ms_max` of packet time are evicted, and so is
/// the oldest one if a bound is reached.
#[derive(Debug)]
pub(super) struct FragmentTable {
    datagram_count_max: usize,
    bytes_max: usize,
    age_ms_max: u64,
    /// In the order in which they began; `None` for completed ones. The first has number
    /// `first_number`.
    sets: VecDeque<Option<Set>>,
    first_number: u64,
    /// The number of each set. The hash has a random seed, so that a sender who chooses addresses
    /// cannot choose the buckets.
    numbers: HashMap<Key, u64, RandomState>,
    used_bytes: usize,
}

impl FragmentTable {
    pub fn new(limits: &DecodeConfig) -> FragmentTable {
        FragmentTable {
            datagram_count_max: limits.fragmented_count_max,
            bytes_max: limits.fragment_bytes_max,
            age_ms_max: limits.fragment_age_ms_max,
            sets: VecDeque::new(),
            first_number: 0,
            numbers: HashMap::default(),
            used_bytes: 0,
        }
    }

    /// Accepts a fragment with its `bytes`, of which `wire_bytes` were sent. If it completes a
    /// datagram, returns the whole payload and the protocol in it; otherwise the fate of the
    /// fragment.
    pub fn accept(
        &mut self,
        (packet, fragment): (&Packet, Fragment),
        encapsulations: &EncapsulationStack,
        (bytes, wire_bytes): (&[u8], usize),
        now: TimestampNs,
        stats: &mut DatagramStats,
    ) -> Result<(Vec<u8>, u8), Reject> {
        if bytes.len() < wire_bytes {
            return Err(Reject::Truncated);
        }
        // All but the last end on a multiple of 8; none is empty, and none ends beyond the IP
        // maximum.
        let is_odd = !fragment.is_last && bytes.len() % 8 != 0;
        if is_odd || bytes.is_empty() || fragment.offset + bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Reject::BadHeader);
        }
        self.expire(now, stats);
        let number = self.number_of(Key::of(packet, fragment.id, encapsulations), now, stats);
        let index = (number - self.first_number) as usize;
        let Some(Some(set)) = self.sets.get_mut(index) else { return Err(Reject::FragmentAtBound) };
        if let Some(reason) = set.dropped {
            return Err(reason);
        }
        if fragment.offset == 0 {
            set.protocol = packet.protocol;
        }
        let cost_bytes = set.cost_bytes();
        let added = set.add(fragment, bytes);
        if let Err(reason) = added {
            stats.datagrams_dropped += 1;
            set.drop_pieces(reason);
        }
        let whole = set.is_whole().then(|| (set.join(), set.protocol));
        self.used_bytes = self.used_bytes + set.cost_bytes() - cost_bytes;
        added?;
        let Some(whole) = whole else {
            self.relieve(stats);
            return Err(Reject::FragmentHeld);
        };
        stats.datagrams_joined += 1;
        self.remove(number);
        Ok(whole)
    }

    /// Memory of all fragments, including overhead.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// The number of the set with `key`; creates the set if there is none.
    fn number_of(&mut self, key: Key, now: TimestampNs, stats: &mut DatagramStats) -> u64 {
        if let Some(&number) = self.numbers.get(&key) {
            if !self.is_old(number, now) {
                return number;
            }
            stats.datagrams_expired += 1;
            self.remove(number);
        }
        if self.sets.len() == self.datagram_count_max {
            self.evict(stats);
        }
        let number = self.first_number + self.sets.len() as u64;
        let set = Set {
            key,
            since: now,
            pieces: Vec::new(),
            held_bytes: 0,
            total_bytes: None,
            protocol: 0,
            dropped: None,
        };
        self.used_bytes += set.cost_bytes();
        self.sets.push_back(Some(set));
        self.numbers.insert(key, number);
        number
    }

    fn is_old(&self, number: u64, now: TimestampNs) -> bool {
        let index = (number - self.first_number) as usize;
        let set = self.sets.get(index).and_then(Option::as_ref);
        set.is_some_and(|set| set.since.plus_ms(self.age_ms_max) < now)
    }

    /// Evicts the sets that are too old. Those before them in the queue are older still, unless the
    /// capture's times run backwards; the bounds hold even then.
    fn expire(&mut self, now: TimestampNs, stats: &mut DatagramStats) {
        while self.is_old(self.first_number, now) {
            stats.datagrams_expired += u64::from(!self.is_first_dropped());
            self.remove(self.first_number);
        }
    }

    fn is_first_dropped(&self) -> bool {
        self.sets.front().and_then(Option::as_ref).is_some_and(|set| set.dropped.is_some())
    }

    /// Evicts the oldest sets until the bytes are within their bound.
    fn relieve(&mut self, stats: &mut DatagramStats) {
        while self.used_bytes > self.bytes_max && !self.sets.is_empty() {
            self.evict(stats);
        }
    }

    fn evict(&mut self, stats: &mut DatagramStats) {
        stats.datagrams_evicted += u64::from(!self.is_first_dropped());
        self.remove(self.first_number);
    }

    fn remove(&mut self, number: u64) {
        let index = (number - self.first_number) as usize;
        if let Some(set) = self.sets.get_mut(index).and_then(Option::take) {
            self.numbers.remove(&set.key);
            self.used_bytes -= set.cost_bytes();
        }
        while let Some(None) = self.sets.front() {
            self.sets.pop_front();
            self.first_number += 1;
        }
    }
}
