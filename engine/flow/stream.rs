//! [`Stream`]: one direction of a connection: what was delivered, what waits, and what is missing
//! in between.

use super::out_of_order::{Cut, OutOfOrderBuffer};
use super::{Chunk, SegmentMeta};
use crate::decode::{Segment, SeqNumber};
use crate::ids::Direction;
use crate::packed_option::PackedOption;
use crate::stats::FlowStats;
use std::ops::Range;

/// The largest possible window: 65,535 bytes, scaled by 2^14 (RFC 7323 section 2.3).
const WINDOW_BYTES_MAX: i32 = 1 << 30;

/// How far ahead of what the peer has read the first captured payload may be.
const JOIN_WINDOW_BYTES: i32 = 1 << 20;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The next byte to deliver. Undefined until `is_started`.
    pub next: SeqNumber,
    /// How far the peer has acknowledged. Undefined until `is_acked`.
    pub acked: SeqNumber,
    /// The position of the FIN, once it was seen.
    pub fin_at: PackedOption<SeqNumber>,
    /// The sequence number of its SYN, if that was seen.
    pub isn: PackedOption<SeqNumber>,
    /// The position up to which its data need not reach user space, once that was granted.
    pub granted: PackedOption<SeqNumber>,
    /// The last hole that was given up. Bytes of it that still arrive are late.
    pub lost: Range<SeqNumber>,
    pub is_started: bool,
    /// It began behind its SYN, and nothing has been delivered yet.
    pub is_at_syn: bool,
    pub is_acked: bool,
    pub is_finished: bool,
}

impl Stream {
    /// The stream begins at `seq` for us, unless it has begun.
    pub fn start(&mut self, seq: SeqNumber) {
        if !self.is_started {
            self.is_started = true;
            self.next = seq;
        }
    }

    /// The stream begins behind the SYN with this number, unless it has begun.
    pub fn start_behind(&mut self, isn: SeqNumber) {
        if !self.is_started {
            self.is_at_syn = true;
            self.start(isn.plus(1));
        }
    }

    /// The stream begins with a payload at `seq`, unless it has begun. If the peer has acknowledged
    /// less than that, the stream begins there: the first captured segment may have overtaken
    /// others.
    #[inline]
    pub fn join(&mut self, seq: SeqNumber) {
        if self.is_started {
            return;
        }
        let is_near = self.is_acked && (0..JOIN_WINDOW_BYTES).contains(&seq.distance(self.acked));
        self.start(if is_near { self.acked } else { seq });
    }

    /// Crafted captures give the first byte the same number as the SYN. A keep-alive probe looks
    /// like that as well, but has at most one byte.
    pub fn begin_at_syn(&mut self, seq: SeqNumber, wire_bytes: u32) {
        if self.is_at_syn && self.next.distance(seq) == 1 && wire_bytes > 1 {
            self.next = seq;
        }
    }

    pub fn update_acked(&mut self, ack: SeqNumber) {
        if !self.is_acked || self.acked.precedes(ack) {
            self.acked = ack;
            self.is_acked = true;
        }
    }

    /// Whether `ack` can belong to this connection: it is behind the SYN, if that was seen, and at
    /// most one window ahead. For a stream that is longer than a window this is unknown, and true.
    pub fn may_be_acked(&self, ack: SeqNumber) -> bool {
        let Some(isn) = self.isn.get() else { return true };
        let is_short = (0..WINDOW_BYTES_MAX).contains(&self.next.distance(isn));
        !is_short || isn.precedes(ack) && ack.distance(self.next) <= WINDOW_BYTES_MAX
    }

    /// The end of missing data that, according to `ack`, has passed; `None` if nothing is missing.
    /// The sequence number of a FIN is not data, and no acknowledgement can be more than a window
    /// ahead of what we have.
    pub fn missing_until(&self, ack: SeqNumber) -> Option<SeqNumber> {
        if !self.is_started || self.is_finished || ack.distance(self.next) > WINDOW_BYTES_MAX {
            return None;
        }
        let until = match self.fin_at.get() {
            Some(fin_at) if fin_at.precedes(ack) => fin_at,
            _ => ack,
        };
        self.next.precedes(until).then_some(until)
    }

    /// The payload of `segment` from its byte `skip` on, the part that was cut off behind it, and
    /// its origin.
    #[inline(always)]
    pub fn piece_of<'a>(
        segment: &Segment<'a>,
        skip: usize,
        is_filtered: bool,
    ) -> (&'a [u8], Cut, SegmentMeta) {
        let bytes = segment.payload.get(skip..).unwrap_or_default();
        let cut = Cut {
            bytes: segment.payload_wire_bytes - (skip + bytes.len()) as u32,
            is_elided: is_filtered && segment.payload.is_empty(),
        };
        let meta = SegmentMeta {
            timestamp: segment.timestamp,
            iface: segment.iface,
            tunnel: segment.tunnel,
            ack: segment.ack,
            seq: segment.payload_seq().plus(skip as u32),
            is_frame_start: skip == 0,
        };
        (bytes, cut, meta)
    }

    /// Delivers bytes.
    pub fn pass(
        &mut self,
        bytes: &[u8],
        cut: Cut,
        meta: &SegmentMeta,
        direction: Direction,
        stats: &mut FlowStats,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        self.next = meta.seq.plus(bytes.len() as u32);
        self.is_at_syn = false;
        stats.bytes_in_order += bytes.len() as u64;
        if !bytes.is_empty() {
            visit(direction, Chunk::Bytes(bytes, meta));
        }
        let at = self.next;
        self.next = at.plus(cut.bytes);
        let len_bytes = u64::from(cut.bytes);
        if cut.is_elided {
            stats.bytes_elided += len_bytes;
            visit(direction, Chunk::Elided { len_bytes: cut.bytes, meta });
        } else if len_bytes > 0 {
            stats.bytes_cut += len_bytes;
            visit(direction, Chunk::Gap { len_bytes, at });
        }
    }

    /// Skips the hole at the front: up to the first waiting segment, and no further than `ack`,
    /// which the peer has seen. Returns false if there is no hole.
    pub fn skip_hole(
        &mut self,
        ack: SeqNumber,
        buffer: Option<&OutOfOrderBuffer>,
        direction: Direction,
        stats: &mut FlowStats,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        let Some(until) = self.missing_until(ack) else { return false };
        let target = match buffer.and_then(OutOfOrderBuffer::first) {
            Some(first) if first.start().precedes(until) => first.start(),
            _ => until,
        };
        if !self.next.precedes(target) {
            return false;
        }
        self.skip_to(target, direction, stats, visit);
        true
    }

    /// The bytes before `target` are lost.
    pub fn skip_to(
        &mut self,
        target: SeqNumber,
        direction: Direction,
        stats: &mut FlowStats,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let at = self.next;
        let len_bytes = target.distance(at).max(0) as u64;
        let from = if self.lost.end == at { self.lost.start } else { at };
        self.lost = from..target;
        self.next = target;
        self.is_at_syn = false;
        stats.gaps += 1;
        stats.gap_bytes += len_bytes;
        visit(direction, Chunk::Gap { len_bytes, at });
    }

    /// Counts bytes that were delivered or given up before.
    #[cold]
    pub fn count_old(&self, from: SeqNumber, len_bytes: usize, stats: &mut FlowStats) {
        let len = i32::try_from(len_bytes).unwrap_or(i32::MAX);
        let place = |seq: SeqNumber| seq.distance(from).clamp(0, len);
        let is_near = self.lost.end.distance(from).unsigned_abs() < WINDOW_BYTES_MAX as u32;
        let late_bytes = match is_near {
            true => (place(self.lost.end) - place(self.lost.start)).max(0) as u64,
            false => 0,
        };
        stats.bytes_late += late_bytes;
        stats.bytes_duplicate += len_bytes as u64 - late_bytes;
    }

    pub fn finish_if_due(
        &mut self,
        direction: Direction,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let Some(fin_at) = self.fin_at.get() else { return };
        if !self.is_finished && fin_at == self.next {
            self.is_finished = true;
            visit(direction, Chunk::Fin);
        }
        if !self.is_finished && fin_at.precedes(self.next) {
            // Data was delivered beyond it, so the FIN did not belong to this stream.
            self.fin_at.set(None);
        }
    }
}
