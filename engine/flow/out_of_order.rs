//! Waiting segments: those behind a hole, and those whose acknowledged bytes are missing. Bounded
//! by the connection's limit and by the shard's [`SegmentPool`].

use super::{Copies, SegmentMeta, overlap};
use crate::decode::SeqNumber;
use std::collections::VecDeque;
use std::ops::Range;

/// The memory of one waiting segment in addition to its bytes, at most, so that tiny segments are
/// bounded as well: 96 for itself, 32 for the allocator's overhead on its bytes, and 128 for the
/// buffer and its list if it is the only one. Of several, each has up to four slots in the list.
const ENTRY_COST_BYTES: usize = 256;

/// A list with up to this many slots does not shrink.
const KEPT_SLOT_COUNT: usize = 8;

/// The number of spare segments, and of spare lists, that are kept for reuse. Segments that were
/// swapped on their way wait for one packet only, so a few are enough.
pub(super) const SPARE_COUNT_MAX: usize = 64;

/// A segment with more capacity than this is freed. No frame of a common link needs more.
const SPARE_BYTES_MAX: usize = 2048;

/// The bytes that wait in all connections of a shard, and their limit. Keeps spare segments, so
/// that nothing is allocated in the steady state.
#[derive(Debug)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct SegmentPool {
    /// In use now, by the capacity of the buffers: a reused one may be larger than what it holds.
    pub used_bytes: usize,
    /// The limit.
    pub max_bytes: usize,
    spares: Vec<Box<BufferedSegment>>,
}

impl SegmentPool {
    /// Starts without any waiting segment.
    pub fn new(max_bytes: usize) -> SegmentPool {
        SegmentPool { used_bytes: 0, max_bytes, spares: Vec::new() }
    }

    /// A segment with a copy of `bytes`.
    fn take(&mut self, bytes: &[u8], cut: Cut, meta: SegmentMeta) -> Box<BufferedSegment> {
        let segment = match self.spares.pop() {
            Some(mut spare) => {
                spare.bytes.clear();
                spare.bytes.reserve_exact(bytes.len());
                spare.bytes.extend_from_slice(bytes);
                (spare.cut, spare.meta) = (cut, meta);
                spare
            }
            None => Box::new(BufferedSegment { bytes: bytes.to_vec(), cut, meta }),
        };
        self.used_bytes += segment.held_bytes();
        segment
    }

    /// Takes back a segment that no longer waits.
    pub(super) fn give_back(&mut self, segment: Box<BufferedSegment>) {
        self.used_bytes -= segment.held_bytes();
        if self.spares.len() < SPARE_COUNT_MAX && segment.bytes.capacity() <= SPARE_BYTES_MAX {
            self.spares.push(segment);
        }
    }
}

/// The part of a segment's payload, behind the captured part, that did not reach user space.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    pub bytes: u32,
    /// The filter cut off the whole payload on purpose. Otherwise the snap length cut it.
    pub is_elided: bool,
}

/// A copy of a segment's payload. `bytes` may be shorter than its length in the stream.
#[derive(Debug)]
pub(super) struct BufferedSegment {
    pub bytes: Vec<u8>,
    pub cut: Cut,
    pub meta: SegmentMeta,
}

impl BufferedSegment {
    pub fn start(&self) -> SeqNumber {
        self.meta.seq
    }

    pub fn end(&self) -> SeqNumber {
        self.meta.seq.plus(self.bytes.len() as u32).plus(self.cut.bytes)
    }

    /// What counts towards the connection's limit. It does not depend on what other connections
    /// left in the pool.
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + ENTRY_COST_BYTES
    }

    /// The memory it takes, which counts towards the shard's limit.
    fn held_bytes(&self) -> usize {
        self.bytes.capacity() + ENTRY_COST_BYTES
    }
}

/// The waiting segments of one direction, in stream order, without overlap. They are boxed, so that
/// an insertion among thousands moves little memory.
#[derive(Debug, Default)]
pub(super) struct OutOfOrderBuffer {
    entries: VecDeque<Box<BufferedSegment>>,
    /// The parts of the entries that passed again.
    copies: Option<Box<Copies>>,
    cost_bytes: usize,
}

impl OutOfOrderBuffer {
    pub fn first(&self) -> Option<&BufferedSegment> {
        self.entries.front().map(|first| &**first)
    }

    pub fn last(&self) -> Option<&BufferedSegment> {
        self.entries.back().map(|last| &**last)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    /// Removes the first segment. The caller gives it back to the pool.
    pub fn pop_first(&mut self) -> Option<Box<BufferedSegment>> {
        let first = self.entries.pop_front()?;
        self.cost_bytes -= first.cost_bytes();
        // Otherwise a list that was long once would keep its memory for the few segments that wait
        // now.
        let (len, capacity) = (self.entries.len(), self.entries.capacity());
        if capacity > KEPT_SLOT_COUNT && capacity > 4 * len {
            self.entries.shrink_to(2 * len);
        }
        Some(first)
    }

    /// Copies the parts of `payload` (and of the `cut` behind it) that no earlier copy holds: the
    /// first copy wins. The others have passed again, if `is_taken`. Returns the number of new
    /// bytes.
    pub fn insert(
        &mut self,
        payload: &[u8],
        cut: Cut,
        meta: SegmentMeta,
        is_taken: impl Fn() -> bool,
        pool: &mut SegmentPool,
    ) -> usize {
        let end = meta.seq.plus(payload.len() as u32).plus(cut.bytes);
        let mut start = meta.seq;
        let mut new_bytes = 0;
        let mut index = self.entries.partition_point(|waiting| !meta.seq.precedes(waiting.end()));
        while start.precedes(end) {
            let free_until = match self.entries.get(index) {
                Some(next) if next.start().precedes(end) => next.start(),
                _ => end,
            };
            if start.precedes(free_until) {
                let piece = piece_of(payload, cut, meta, start, free_until, pool);
                new_bytes += piece.bytes.len();
                self.cost_bytes += piece.cost_bytes();
                self.entries.insert(index, piece);
                index += 1;
            }
            let Some(next) = self.entries.get(index) else { break };
            if !next.start().precedes(end) {
                break;
            }
            let next = next.start()..next.end();
            self.note_copy(&(start..end), &next, &is_taken, pool);
            start = next.end;
            index += 1;
        }
        new_bytes
    }

    /// Remembers that the common part of `again` and of `waiting`, an entry, has passed again.
    #[cold]
    fn note_copy(
        &mut self,
        again: &Range<SeqNumber>,
        waiting: &Range<SeqNumber>,
        is_taken: &impl Fn() -> bool,
        pool: &mut SegmentPool,
    ) {
        if let Some(copy) = overlap(again, waiting).filter(|_| is_taken()) {
            self.change_copies(pool, |copies| copies.add(copy));
        }
    }

    /// Removes the copies of a segment that was removed. `None` if there are none.
    pub fn take_copies(
        &mut self,
        waiting: &BufferedSegment,
        pool: &mut SegmentPool,
    ) -> Option<Copies> {
        self.copies.as_ref()?;
        let range = waiting.start()..waiting.end();
        Some(self.change_copies(pool, |copies| copies.take(&range))).filter(|taken| taken.len() > 0)
    }

    #[cold]
    fn change_copies<T>(
        &mut self,
        pool: &mut SegmentPool,
        change: impl FnOnce(&mut Copies) -> T,
    ) -> T {
        let copies = self.copies.get_or_insert_default();
        let before_bytes = copies.len() * Copies::RANGE_BYTES;
        let result = change(copies);
        let bytes = copies.len() * Copies::RANGE_BYTES;
        self.cost_bytes = self.cost_bytes + bytes - before_bytes;
        pool.used_bytes = pool.used_bytes + bytes - before_bytes;
        if bytes == 0 {
            self.copies = None;
        }
        result
    }

    /// Drops all waiting segments. Returns their bytes.
    pub fn clear(&mut self, pool: &mut SegmentPool) -> usize {
        let mut bytes = 0;
        while let Some(waiting) = self.pop_first() {
            bytes += waiting.bytes.len();
            self.take_copies(&waiting, pool);
            pool.give_back(waiting);
        }
        bytes
    }
}

/// The part of a segment that lies in `start..end`.
fn piece_of(
    payload: &[u8],
    cut: Cut,
    meta: SegmentMeta,
    start: SeqNumber,
    end: SeqNumber,
    pool: &mut SegmentPool,
) -> Box<BufferedSegment> {
    let skip = start.distance(meta.seq) as usize;
    let stop = end.distance(meta.seq) as usize;
    let bytes = &payload[skip.min(payload.len())..stop.min(payload.len())];
    let cut = Cut { bytes: (stop - skip - bytes.len()) as u32, ..cut };
    let is_frame_start = meta.is_frame_start && skip == 0;
    pool.take(bytes, cut, SegmentMeta { seq: start, is_frame_start, ..meta })
}
