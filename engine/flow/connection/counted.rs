//! Connections of which only the end and the length are wanted. What the kernel filter lets through
//! of them is all that is looked at, so that the same is known with it and without it: the first
//! [`COUNTED_BYTES`] of each direction, what closes a direction, and a segment now and then, to
//! count how often sequence numbers wrap around. Nothing waits, and no hole is searched for.
//!
//! The windows are not known behind the first bytes, so an end is believed by less: two FINs if one
//! acknowledges the other, a reset if its numbers are ahead of what has passed; and, of a direction
//! that is still among its first bytes, if its numbers are near.

use super::bits::Bits;
use super::{Connection, Fate, ReassemblyContext, direction_of};
use crate::decode::{Segment, SeqNumber};
use crate::flow::stream::Fact;
use crate::flow::{Chunk, ReorderPool};
use crate::ids::Direction;

/// The first bytes of each direction that the filter lets through.
pub(crate) const COUNTED_BYTES: u32 = 16 << 10;

/// A segment this far ahead is taken, so that the distance to the next one is never ambiguous. The
/// filter lets one segment through for each GiB.
const STRIDE_BYTES: i32 = 1 << 28;

/// A FIN that does not acknowledge the other one is behind it by no more than was in flight.
const IN_FLIGHT_BYTES_MAX: i32 = 1 << 20;

/// An acknowledgment, or a reset, may be behind what has passed by no more than was in flight.
const BEHIND_BYTES_MAX: i32 = 1 << 20;

/// The first bytes of a direction, and a segment of the largest size that begins in them.
const FIRST_BYTES_MAX: i32 = COUNTED_BYTES as i32 + (1 << 16);

impl Connection {
    /// From now on only its end and its length are wanted. What waits has passed.
    pub(in crate::flow) fn begin_count(
        &mut self,
        pool: &mut ReorderPool,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        if self.fate.is_some() || self.bits.is_counted() {
            return;
        }
        self.bits.set(Bits::COUNTED, true);
        self.is_on_fast_path = false;
        for own in 0..2 {
            let is_long = !self.is_short(own, self.streams[own].next);
            self.bits.set(Bits::LONG << own, is_long);
            let Some(end) = self.buffer(own).and_then(|buffer| buffer.last()?.end().into()) else {
                continue;
            };
            self.pass_over_until(own, end, visit);
        }
        self.release(pool);
        if self.streams.iter().all(|stream| !stream.fin_at.is_none()) {
            self.end_count(visit);
        }
    }

    /// Whether only its end and its length are wanted, and it has not ended.
    pub(in crate::flow) fn is_counted(&self) -> bool {
        self.bits.is_counted() && self.fate.is_none()
    }

    /// Whether the last segment was passed over. Then it does not keep the connection from being
    /// idle either.
    pub(in crate::flow) fn has_passed_over(&self) -> bool {
        self.bits.has(Bits::PASSED_OVER)
    }

    /// Takes a segment of a connection that is only counted.
    pub(super) fn count(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let own = segment.direction.index();
        self.bits.set(Bits::PASSED_OVER, true);
        if segment.flags.is_syn() || !self.streams[own].is_started() {
            return;
        }
        if segment.flags.is_rst() {
            return self.count_reset(segment, context, visit);
        }
        if self.streams[own].has(Fact::Finished) || segment.ack.is_none() {
            return;
        }
        let (end, ack) = (segment.payload_end(), segment.ack);
        let ahead_bytes = end.distance(self.streams[own].next);
        if segment.flags.is_fin() {
            let may_be = ahead_bytes >= 0 && self.may_be_number(own, end);
            let may_be = may_be && ack.is_none_or(|ack| self.may_be_number(1 - own, ack));
            if may_be && !self.has_wrong_checksum(segment) {
                self.count_fin(segment, visit);
            }
            return;
        }
        let is_first = self.is_short(own, segment.payload_seq())
            && (1..=FIRST_BYTES_MAX).contains(&ahead_bytes);
        let is_far = self.bits.has(Bits::LONG << own) && ahead_bytes >= STRIDE_BYTES;
        if segment.payload_wire_bytes > 0 && (is_first || is_far) {
            self.bits.set(Bits::PASSED_OVER, false);
            self.pass_over_until(own, end, visit);
        }
    }

    /// Whether `number` is among the first bytes of a direction.
    fn is_short(&self, own: usize, number: SeqNumber) -> bool {
        let begin = self.streams[own].isn.get().map(|isn| isn.plus(1));
        begin.is_some_and(|begin| (0..COUNTED_BYTES as i32).contains(&number.distance(begin)))
    }

    /// Whether a direction may have come to `number`. Of one that is short, all is let through, so
    /// that its numbers are known.
    fn may_be_number(&self, own: usize, number: SeqNumber) -> bool {
        let ahead_bytes = number.distance(self.streams[own].next);
        let is_long = self.bits.has(Bits::LONG << own);
        let most_bytes = if is_long { i32::MAX } else { FIRST_BYTES_MAX };
        (-BEHIND_BYTES_MAX..=most_bytes).contains(&ahead_bytes)
    }

    /// Takes a FIN. It counts once the other direction has one that agrees with it.
    fn count_fin(&mut self, segment: &Segment<'_>, visit: &mut impl FnMut(Direction, Chunk<'_>)) {
        let own = segment.direction.index();
        let stream = &mut self.streams[own];
        let is_news = stream.fin_at.get() != Some(segment.payload_end());
        stream.fin_at.set(Some(segment.payload_end()));
        self.bits.set(Bits::PASSED_OVER, !is_news);
        if is_news {
            visit(segment.direction, Chunk::Closing(segment.timestamp));
        }
        let other = self.streams[1 - own].fin_at.get();
        let (Some(other), Some(ack)) = (other, segment.ack) else { return };
        let behind_bytes = other.plus(1).distance(ack);
        let is_other_seen = self.streams[1 - own].has(Fact::Finished);
        if is_other_seen || (0..=IN_FLIGHT_BYTES_MAX).contains(&behind_bytes) {
            self.end_count(visit);
        }
    }

    fn count_reset(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let own = segment.direction.index();
        let ahead_bytes = segment.seq.distance(self.streams[own].next);
        let is_near = self.may_be_number(own, segment.seq)
            && segment.ack.is_none_or(|ack| self.may_be_number(1 - own, ack));
        if !is_near || self.has_wrong_checksum(segment) {
            context.stats.resets_ignored += 1;
            return;
        }
        self.bits.set(Bits::PASSED_OVER, false);
        // What has passed of the other direction is known if that was closed before.
        self.end_count(visit);
        if ahead_bytes > 0 && !self.streams[own].has(Fact::Finished) {
            self.pass_over_until(own, segment.seq, visit);
        }
        self.fate = Some(Fate::Reset);
        visit(segment.direction, Chunk::Closing(segment.timestamp));
        visit(segment.direction, Chunk::Reset);
    }

    /// Everything of a direction up to `end` has passed.
    fn pass_over_until(
        &mut self,
        own: usize,
        end: SeqNumber,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let stream = &mut self.streams[own];
        let at = std::mem::replace(&mut stream.next, end);
        stream.set(Fact::AtSyn, false);
        if !self.is_short(own, end) {
            self.bits.set(Bits::LONG << own, true);
        }
        let len_bytes = u64::from(end.distance(at).max(0).unsigned_abs());
        if len_bytes > 0 {
            visit(direction_of(own), Chunk::Gap { len_bytes, at });
        }
    }

    /// It ends: what has a FIN ends there.
    pub(super) fn end_count(&mut self, visit: &mut impl FnMut(Direction, Chunk<'_>)) {
        for own in 0..2 {
            let stream = &mut self.streams[own];
            let Some(fin_at) = stream.fin_at.get().filter(|_| !stream.has(Fact::Finished)) else {
                continue;
            };
            stream.set(Fact::Finished, true);
            self.pass_over_until(own, fin_at, visit);
            visit(direction_of(own), Chunk::Fin);
        }
    }
}
