//! What waits: segments ahead of a hole, or of the bytes they acknowledge. Bounded by the
//! connection's limit and by the shard's [`SegmentPool`].

use super::SegmentMeta;
use crate::decode::SeqNumber;
use std::collections::VecDeque;

/// What one waiting segment takes beside its bytes, at most, so that tiny ones are bounded, too:
/// itself 88, up to four places in the list 32, the allocator's share of its bytes 32, and, where
/// it is the only one, the buffer 96.
const ENTRY_COST_BYTES: usize = 256;

/// A list with less room than this does not shrink.
const KEPT_PLACE_COUNT: usize = 16;

/// Segments and lists that wait to be used again, each at most so many. What is swapped on its way
/// waits for one packet; so few serve all that comes and goes.
pub(super) const SPARE_COUNT_MAX: usize = 64;

/// A segment with more room than this gives it back: no frame of a common link has more.
const SPARE_BYTES_MAX: usize = 2048;

/// Bytes that wait in all connections of a shard, and how many may; and segments that waited
/// before, so that in the steady state none is allocated.
#[derive(Debug)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct SegmentPool {
    /// In use now.
    pub used_bytes: usize,
    /// The bound.
    pub max_bytes: usize,
    spares: Vec<Box<BufferedSegment>>,
}

impl SegmentPool {
    /// Nothing waits yet.
    pub fn new(max_bytes: usize) -> SegmentPool {
        SegmentPool { used_bytes: 0, max_bytes, spares: Vec::new() }
    }

    /// A segment that waits, with a copy of `bytes`.
    fn take(&mut self, bytes: &[u8], cut: Cut, meta: SegmentMeta) -> Box<BufferedSegment> {
        match self.spares.pop() {
            Some(mut spare) => {
                spare.bytes.clear();
                spare.bytes.extend_from_slice(bytes);
                (spare.cut, spare.meta) = (cut, meta);
                spare
            }
            None => Box::new(BufferedSegment { bytes: bytes.to_vec(), cut, meta }),
        }
    }

    /// Takes a segment back that waits no more.
    pub(super) fn give_back(&mut self, segment: Box<BufferedSegment>) {
        if self.spares.len() < SPARE_COUNT_MAX && segment.bytes.capacity() <= SPARE_BYTES_MAX {
            self.spares.push(segment);
        }
    }
}

/// What of a segment's payload did not come up, behind what did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    pub bytes: u32,
    /// We asked for it, and it is all of the payload; else the snap length did it.
    pub is_elided: bool,
}

/// A copy of a segment's payload. `bytes` may be shorter than the place it takes in the stream.
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

    fn cost_bytes(&self) -> usize {
        self.bytes.len() + ENTRY_COST_BYTES
    }
}

/// The waiting segments of one direction, in stream order, without overlap. Boxed, so that making
/// room among thousands moves little.
#[derive(Debug, Default)]
pub(super) struct OutOfOrderBuffer {
    entries: VecDeque<Box<BufferedSegment>>,
    cost_bytes: usize,
}

impl OutOfOrderBuffer {
    pub fn first(&self) -> Option<&BufferedSegment> {
        self.entries.front().map(|first| &**first)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    pub fn pop_first(&mut self, pool: &mut SegmentPool) -> Option<Box<BufferedSegment>> {
        let first = self.entries.pop_front()?;
        self.cost_bytes -= first.cost_bytes();
        pool.used_bytes -= first.cost_bytes();
        // A list that was long once would keep its room for the few that wait now.
        let (len, room) = (self.entries.len(), self.entries.capacity());
        if room > KEPT_PLACE_COUNT && room > 4 * len {
            self.entries.shrink_to(2 * len);
        }
        Some(first)
    }

    /// Copies what of `payload` (and of what was `cut` behind it) no earlier copy holds: the first
    /// copy wins. Returns how many bytes were new.
    pub fn insert(
        &mut self,
        payload: &[u8],
        cut: Cut,
        meta: SegmentMeta,
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
                pool.used_bytes += piece.cost_bytes();
                self.entries.insert(index, piece);
                index += 1;
            }
            let Some(next) = self.entries.get(index) else { break };
            if !next.start().precedes(end) {
                break;
            }
            start = next.end();
            index += 1;
        }
        new_bytes
    }

    /// Gives up all that waits; returns its bytes.
    pub fn clear(&mut self, pool: &mut SegmentPool) -> usize {
        let mut bytes = 0;
        while let Some(waiting) = self.pop_first(pool) {
            bytes += waiting.bytes.len();
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
