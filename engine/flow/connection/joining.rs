//! The first moments of a connection that was joined late. Its first segments may have been
//! captured in another order than they were sent, and without a handshake nothing says where its
//! streams begin. So everything is held for the grace that holes have; then each stream begins with
//! its lowest byte.

use super::{Connection, ReassemblyContext, direction_of};
use crate::decode::{Segment, SeqNumber};
use crate::flow::Chunk;
use crate::flow::joining::Joining;
use crate::flow::rival::HeldSegment;
use crate::ids::Direction;

impl Connection {
    /// Whether the first segments wait.
    pub(super) fn is_joining(&self) -> bool {
        self.reorder.as_ref().is_some_and(|reorder| reorder.joining.is_some())
    }

    /// Whether `segment` must wait for what may have come before it.
    pub(super) fn must_wait_to_join(&self, segment: &Segment<'_>) -> bool {
        let is_first = segment.payload_wire_bytes > 0
            && !self.joined_at.is_none()
            && self.streams.iter().all(|stream| !stream.is_started());
        is_first || self.is_joining()
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
        if segment.flags.is_rst() {
            // Nothing comes behind it.
            self.begin_streams(context, visit);
            return false;
        }
        let pool = &mut context.pool.segments;
        let joining = self.reorder.as_ref().and_then(|reorder| reorder.joining.as_ref());
        let has_room = match joining {
            Some(joining) => joining.has_room(segment, pool),
            None => Joining::may_begin(segment, pool),
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
        let since = held.segment().timestamp;
        let joining = joining.get_or_insert_with(|| Box::new(Joining::new(since, pool)));
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
