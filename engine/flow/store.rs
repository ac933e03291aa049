//! What waits: segments ahead of a hole, or of the bytes they acknowledge. Bounded by the
//! connection's limit and by the shard's [`Budget`].

use super::Origin;
use crate::decode::SeqNumber;

/// What one waiting segment costs beside its bytes, so that tiny segments are bounded, too.
const ENTRY_COST_BYTES: usize = 128;

/// Bytes that wait in all connections of a shard, and how many may.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// In use now.
    pub used_bytes: usize,
    /// The bound.
    pub max_bytes: usize,
}

/// A copy of a segment's payload. `bytes` may be shorter than the place it takes in the stream: the
/// rest was cut by the snap length.
#[derive(Debug)]
pub(super) struct Waiting {
    pub bytes: Vec<u8>,
    pub cut_bytes: u32,
    pub origin: Origin,
}

impl Waiting {
    pub fn start(&self) -> SeqNumber {
        self.origin.seq
    }

    pub fn end(&self) -> SeqNumber {
        self.origin.seq.plus(self.bytes.len() as u32).plus(self.cut_bytes)
    }

    fn cost_bytes(&self) -> usize {
        self.bytes.len() + ENTRY_COST_BYTES
    }
}

/// The waiting segments of one direction, in stream order, without overlap.
#[derive(Debug, Default)]
pub(super) struct Store {
    entries: std::collections::VecDeque<Waiting>,
    cost_bytes: usize,
}

impl Store {
    pub fn first(&self) -> Option<&Waiting> {
        self.entries.front()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    pub fn pop_first(&mut self, budget: &mut Budget) -> Option<Waiting> {
        let first = self.entries.pop_front()?;
        self.cost_bytes -= first.cost_bytes();
        budget.used_bytes -= first.cost_bytes();
        Some(first)
    }

    /// Copies what of `payload` (and of the `cut_bytes` behind it) no earlier copy holds: the first
    /// copy wins. Returns how many bytes were new.
    pub fn insert(
        &mut self,
        payload: &[u8],
        cut_bytes: u32,
        origin: Origin,
        budget: &mut Budget,
    ) -> usize {
        let end = origin.seq.plus(payload.len() as u32).plus(cut_bytes);
        let mut start = origin.seq;
        let mut new_bytes = 0;
        // Segments mostly come after all that waits, so the place is looked for from the back.
        let mut index = self.entries.len();
        while index > 0 && origin.seq.precedes(self.entries[index - 1].end()) {
            index -= 1;
        }
        while start.precedes(end) {
            let free_until = match self.entries.get(index) {
                Some(next) if next.start().precedes(end) => next.start(),
                _ => end,
            };
            if start.precedes(free_until) {
                let piece = piece_of(payload, origin, start, free_until);
                new_bytes += piece.bytes.len();
                self.cost_bytes += piece.cost_bytes();
                budget.used_bytes += piece.cost_bytes();
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
    pub fn clear(&mut self, budget: &mut Budget) -> usize {
        let mut bytes = 0;
        while let Some(waiting) = self.pop_first(budget) {
            bytes += waiting.bytes.len();
        }
        bytes
    }
}

/// The part of a segment that lies in `start..end`.
fn piece_of(payload: &[u8], origin: Origin, start: SeqNumber, end: SeqNumber) -> Waiting {
    let skip = start.distance(origin.seq) as usize;
    let stop = end.distance(origin.seq) as usize;
    let bytes = &payload[skip.min(payload.len())..stop.min(payload.len())];
    Waiting {
        cut_bytes: (stop - skip - bytes.len()) as u32,
        bytes: bytes.to_vec(),
        origin: Origin { seq: start, is_frame_start: origin.is_frame_start && skip == 0, ..origin },
    }
}
