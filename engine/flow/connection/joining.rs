//! The first moments of a connection that was joined late. Its first segments may have been
//! captured in another order than they were sent, and without a handshake nothing says where its
//! streams begin. So everything is held for the grace that holes have; then each stream begins with
//! its lowest byte.

use super::{Connection, ReassemblyContext, direction_of};
use crate::config::FlowConfig;
use crate::decode::{Segment, SeqNumber};
use crate::flow::Chunk;
use crate::flow::out_of_order::SegmentPool;
use crate::flow::rival::HeldSegment;
use crate::flow::stream;
use crate::ids::Direction;
use crate::time::TimestampNs;

/// The held segments, and their bytes, at most. With more, the grace ends early.
const HELD_COUNT_MAX: usize = 64;
const HELD_BYTES_MAX: usize = 256 << 10;

const JOIN_WINDOW_BYTES: i32 = stream::JOIN_WINDOW_BYTES as i32;

/// The memory in addition to the segments, with the allocator's overhead.
const JOINING_COST_BYTES: usize = size_of::<Joining>() + 32;

/// The segments of the first moments, in the order in which they came.
#[derive(Debug)]
pub(in crate::flow) struct Joining {
    since: TimestampNs,
    held: Vec<HeldSegment>,
    held_bytes: usize,
}

impl Joining {
    /// Memory, as it is counted in the pool.
    pub fn cost_bytes(&self) -> usize {
        JOINING_COST_BYTES + self.held_bytes
    }

    /// When the grace ends.
    pub fn deadline(&self, limits: &FlowConfig) -> TimestampNs {
        self.since.plus_ms(limits.reorder_grace_ms)
    }

    /// Holds a copy of `segment`, if there is room.
    fn hold(&mut self, held: HeldSegment, pool: &mut SegmentPool) {
        self.since = self.since.min(held.segment().timestamp);
        pool.used_bytes += held.cost_bytes();
        self.held_bytes += held.cost_bytes();
        self.held.push(held);
    }

    fn has_room(&self, segment: &Segment<'_>, pool: &SegmentPool) -> bool {
        self.held.len() < HELD_COUNT_MAX
            && self.held_bytes < HELD_BYTES_MAX
            && HeldSegment::has_room(segment, pool)
    }

    /// Gives the memory back. Returns the segments.
    pub fn release(self, pool: &mut SegmentPool) -> Vec<HeldSegment> {
        pool.used_bytes -= self.cost_bytes();
        self.held
    }

    /// Where the stream of `direction` begins: at the lowest byte near the first payload that came,
    /// or where the other side had read until then. `None` without payload.
    fn start(&self, direction: Direction) -> Option<SeqNumber> {
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
    fn agrees(&self, direction: Direction, start: SeqNumber) -> bool {
        let mut others =
            self.held.iter().map(HeldSegment::segment).filter(|it| it.direction != direction);
        others.all(|it| it.ack.is_none_or(|ack| is_near(ack.distance(start))))
    }
}

fn is_near(distance: i32) -> bool {
    (-JOIN_WINDOW_BYTES..=JOIN_WINDOW_BYTES).contains(&distance)
}

impl Connection {
    /// Whether a segment must wait for what may have come before it.
    pub(super) fn is_joining(&self) -> bool {
        match &self.reorder {
            Some(reorder) if reorder.joining.is_some() => true,
            _ => {
                !self.joined_at.is_none() && self.streams.iter().all(|stream| !stream.is_started())
            }
        }
    }

    /// Holds a segment. If there is no room for it, the streams begin with what there is, and false
    /// is returned.
    #[cold]
    pub(super) fn hold_for_join(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        let pool = &mut context.pool.segments;
        let joining = self.reorder.as_ref().and_then(|reorder| reorder.joining.as_ref());
        let has_room = match joining {
            Some(joining) => joining.has_room(segment, pool),
            None => HeldSegment::has_room(segment, pool),
        };
        if has_room {
            self.keep_for_join(HeldSegment::of(segment), context);
            return true;
        }
        self.begin_streams(context, visit);
        false
    }

    /// Holds a segment that is known to belong to this connection, whose streams have not begun.
    pub(in crate::flow) fn keep_for_join(
        &mut self,
        held: HeldSegment,
        context: &mut ReassemblyContext,
    ) {
        let joining = &mut self.reorder.get_or_insert_with(|| context.pool.state()).joining;
        let pool = &mut context.pool.segments;
        let joining = joining.get_or_insert_with(|| {
            pool.used_bytes += JOINING_COST_BYTES;
            let since = held.segment().timestamp;
            Box::new(Joining { since, held: Vec::new(), held_bytes: 0 })
        });
        joining.hold(held, pool);
    }

    /// The streams begin: delivers what was held.
    pub(super) fn begin_streams(
        &mut self,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let Some(joining) = self.reorder.as_mut().and_then(|reorder| reorder.joining.take()) else {
            return;
        };
        let starts = [0, 1].map(|own| joining.start(direction_of(own)));
        for (own, start) in starts.iter().enumerate() {
            if let Some(start) = start.filter(|it| joining.agrees(direction_of(own), *it)) {
                self.streams[own].start(start);
            }
        }
        for held in joining.release(&mut context.pool.segments) {
            let segment = held.segment();
            let own = segment.direction.index();
            if let (Some(start), 1..) = (starts[own], segment.payload_wire_bytes) {
                self.streams[own].start(start);
            }
            self.accept_slow_path(&segment, context, visit);
        }
        self.free_if_blank(&mut context.pool);
    }

    /// How far the first payload of a direction that is held lies behind `seq`.
    pub(super) fn held_behind(&self, direction: Direction, seq: SeqNumber) -> Option<i32> {
        let joining = self.reorder.as_ref()?.joining.as_ref()?;
        Some(joining.start(direction)?.distance(seq))
    }
}
