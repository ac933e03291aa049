//! [`Joining`]: the first segments of a connection that was joined late, until its streams begin.

use super::out_of_order::SegmentPool;
use super::rival::HeldSegment;
use super::stream;
use crate::config::FlowConfig;
use crate::decode::{Segment, SeqNumber};
use crate::ids::Direction;
use crate::time::TimestampNs;

/// The held segments, and their bytes, at most. With more, the grace ends early.
const HELD_COUNT_MAX: usize = 64;
const HELD_BYTES_MAX: usize = 256 << 10;

const JOIN_WINDOW_BYTES: i32 = stream::JOIN_WINDOW_BYTES as i32;

/// The share of the pool (one part in so many) beyond which nothing is held.
const POOL_SHARE: usize = 16;

/// The memory in addition to the segments, with the allocator's overhead.
const JOINING_COST_BYTES: usize = size_of::<Joining>() + 32;

/// The segments of the first moments, in the order in which they came.
#[derive(Debug)]
pub(super) struct Joining {
    since: TimestampNs,
    held: Vec<HeldSegment>,
    held_bytes: usize,
}

impl Joining {
    /// Nothing is held yet. It begins at `since`.
    pub fn new(since: TimestampNs, pool: &mut SegmentPool) -> Joining {
        pool.used_bytes += JOINING_COST_BYTES;
        Joining { since, held: Vec::with_capacity(1), held_bytes: 0 }
    }

    /// Memory, as it is counted in the pool.
    pub fn cost_bytes(&self) -> usize {
        JOINING_COST_BYTES + self.held_bytes
    }

    /// When the grace ends.
    pub fn deadline(&self, limits: &FlowConfig) -> TimestampNs {
        self.since.plus_ms(limits.reorder_grace_ms)
    }

    /// Holds a copy of `segment`, if there is room.
    pub fn hold(&mut self, held: HeldSegment, pool: &mut SegmentPool) {
        self.since = self.since.min(held.segment().timestamp);
        pool.used_bytes += held.cost_bytes();
        self.held_bytes += held.cost_bytes();
        self.held.push(held);
    }

    pub fn has_room(&self, segment: &Segment<'_>, pool: &SegmentPool) -> bool {
        self.held.len() < HELD_COUNT_MAX
            && self.held_bytes < HELD_BYTES_MAX
            && Joining::may_begin(segment, pool)
    }

    /// Whether there is memory to wait. Under a flood of connections that are joined late, their
    /// requests must not hide here from what drops them when memory runs short.
    pub fn may_begin(segment: &Segment<'_>, pool: &SegmentPool) -> bool {
        HeldSegment::has_room(segment, pool) && pool.used_bytes <= pool.max_bytes / POOL_SHARE
    }

    /// Gives the memory back. Returns the segments.
    pub fn release(self, pool: &mut SegmentPool) -> Vec<HeldSegment> {
        pool.used_bytes -= self.cost_bytes();
        self.held
    }

    /// Where the stream of `direction` begins: at the lowest byte near the first payload that came,
    /// or where the other side had read until then. `None` without payload.
    pub fn start(&self, direction: Direction) -> Option<SeqNumber> {
        let (mut first, mut read_until) = (None, None);
        let mut ahead = 0;
        for segment in self.held.iter().map(HeldSegment::segment) {
            if segment.direction != direction {
                read_until = if first.is_none() { segment.ack } else { read_until };
            } else if segment.payload_wire_bytes > 0 {
                let first = *first.get_or_insert(segment.payload_seq());
                let distance = segment.payload_seq().distance(first);
                ahead = if is_near(distance) { ahead.min(distance) } else { ahead };
            }
        }
        let lowest = SeqNumber(first?.0.wrapping_add_signed(ahead));
        let is_behind = |read: &SeqNumber| (0..JOIN_WINDOW_BYTES).contains(&lowest.distance(*read));
        Some(read_until.filter(is_behind).unwrap_or(lowest))
    }

    /// Whether the other side acknowledges nothing that contradicts this start of a stream.
    pub fn agrees(&self, direction: Direction, start: SeqNumber) -> bool {
        let mut others =
            self.held.iter().map(HeldSegment::segment).filter(|it| it.direction != direction);
        others.all(|it| it.ack.is_none_or(|ack| is_near(ack.distance(start))))
    }
}

fn is_near(distance: i32) -> bool {
    (-JOIN_WINDOW_BYTES..=JOIN_WINDOW_BYTES).contains(&distance)
}
