//! [`Stream`]: one direction of a connection: what was delivered, what waits, and what is missing
//! in between.

use super::out_of_order::{BufferedSegment, Cut, OutOfOrderBuffer};
use super::{Chunk, Copies, SegmentMeta, overlap};
use crate::decode::{Segment, SeqNumber};
use crate::ids::Direction;
use crate::packed_option::PackedOption;
use crate::stats::FlowStats;
use std::cell::Cell;
use std::ops::Range;

/// The largest possible window: 65,535 bytes, scaled by 2^14 (RFC 7323 section 2.3).
const WINDOW_BYTES_MAX: i32 = 1 << 30;

/// How far ahead of what the peer has read the first captured payload may be; and the least window
/// where its scale is not known.
pub(super) const JOIN_WINDOW_BYTES: u32 = 1 << 20;

/// Segments this far behind are still retransmissions or late, whatever the window is.
const LATE_BYTES_MIN: u32 = 1 << 16;

/// How the windows for a stream are scaled. The shift counts of both SYNs are needed for that: RFC
/// 7323 section 2.2. In one byte, because streams exist a million times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WindowScale(u8);

impl WindowScale {
    /// Set while only the receiver's SYN was seen.
    const OFFERED: u8 = 0x80;
    const NONE: u8 = 0x1f;
    const UNKNOWN: WindowScale = WindowScale(u8::MAX);

    /// The receiver's SYN was seen, with this shift count or none.
    pub fn offered(shift: Option<u8>) -> WindowScale {
        WindowScale(WindowScale::OFFERED | shift.map_or(WindowScale::NONE, |shift| shift & 15))
    }

    /// Both SYNs were seen: windows are scaled if both had a shift count.
    pub fn agree(scales: [&mut WindowScale; 2]) {
        if scales.iter().any(|scale| **scale == WindowScale::UNKNOWN) {
            return;
        }
        let offered = WindowScale::offered(None);
        let is_none = scales.iter().any(|scale| **scale == offered);
        for scale in scales {
            scale.0 = if is_none { 0 } else { scale.0 & !WindowScale::OFFERED };
        }
    }

    /// Whether both SYNs were seen.
    pub fn is_known(self) -> bool {
        self.shift().is_some()
    }

    /// The shift count, if it is known.
    #[inline(always)]
    fn shift(self) -> Option<u8> {
        (self.0 & WindowScale::OFFERED == 0).then_some(self.0 & 15)
    }
}

impl Default for WindowScale {
    fn default() -> WindowScale {
        WindowScale::UNKNOWN
    }
}

/// What is known of a stream: yes or no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Fact {
    /// `next` is defined.
    Started = 1,
    /// It began behind its SYN, and nothing has been delivered yet.
    AtSyn = 2,
    /// The peer has acknowledged something.
    Acked = 4,
    /// A second acknowledgment agreed with the first.
    AckedAgain = 8,
    /// Its FIN was delivered.
    Finished = 16,
    /// The checksum of its SYN was right, so that a wrong one means something. (Whoever replaces
    /// addresses in a capture often leaves all checksums wrong.)
    Checksums = 32,
    /// SYN-ACKs with different numbers came, and the client has not acknowledged one yet.
    Disputed = 64,
    /// A segment of its sender was taken.
    Seen = 128,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The next byte to deliver. Undefined until `is_started`.
    pub next: SeqNumber,
    /// How far the peer has acknowledged, or, until `is_acked`, where the stream began. Undefined
    /// until one of them is known.
    pub acked: SeqNumber,
    /// How many bytes behind `acked` the peer accepts, according to its last acknowledgment; or, if
    /// the scale is not known, twice what was in flight at a time, at most.
    pub window_bytes: u32,
    /// How `window` in the peer's segments is scaled.
    pub scale: WindowScale,
    facts: u8,
    /// The position of the FIN, once it was seen.
    pub fin_at: PackedOption<SeqNumber>,
    /// The sequence number of its SYN, if that was seen.
    pub isn: PackedOption<SeqNumber>,
    /// The position up to which its data need not reach user space, once that was granted.
    pub granted: PackedOption<SeqNumber>,
    /// The last hole that was given up. Bytes of it that still arrive are late.
    pub lost: Range<SeqNumber>,
}

impl Stream {
    /// Whether `fact` is one.
    #[inline(always)]
    pub fn has(&self, fact: Fact) -> bool {
        self.facts & fact as u8 != 0
    }

    /// Sets whether `fact` is one.
    #[inline(always)]
    pub fn set(&mut self, fact: Fact, value: bool) {
        self.facts = self.facts & !(fact as u8) | if value { fact as u8 } else { 0 };
    }

    /// Whether `next` is defined.
    #[inline(always)]
    pub fn is_started(&self) -> bool {
        self.has(Fact::Started)
    }

    /// The stream begins at `seq` for us, unless it has begun.
    pub fn start(&mut self, seq: SeqNumber) {
        if !self.is_started() {
            self.set(Fact::Started, true);
            self.next = seq;
            if !self.has(Fact::Acked) || !self.is_near_acked(seq) {
                self.set(Fact::Acked, false);
                self.set(Fact::AckedAgain, false);
                self.acked = seq;
            }
        }
    }

    /// The stream begins behind the SYN with this number, unless it has begun.
    pub fn start_behind(&mut self, isn: SeqNumber) {
        if !self.is_started() {
            self.set(Fact::AtSyn, true);
            self.start(isn.plus(1));
        }
    }

    /// A SYN with this number was seen. It is before everything that was acknowledged.
    pub fn learn_isn(&mut self, isn: SeqNumber) {
        if !self.is_started() || !self.acked.precedes(isn) {
            self.isn.set_if_none(isn);
        }
    }

    /// The stream begins with a payload at `seq`, unless it has begun. If the peer has acknowledged
    /// less than that, the stream begins there: the first captured segment may have overtaken
    /// others.
    #[inline]
    pub fn join(&mut self, seq: SeqNumber) {
        if self.is_started() {
            return;
        }
        let is_near = self.has(Fact::Acked)
            && (0..JOIN_WINDOW_BYTES as i32).contains(&seq.distance(self.acked));
        self.start(if is_near { self.acked } else { seq });
    }

    /// Crafted captures give the first byte the same number as the SYN. A keep-alive probe looks
    /// like that as well, but has at most one byte.
    pub fn begin_at_syn(&mut self, seq: SeqNumber, wire_bytes: u32) {
        if self.has(Fact::AtSyn) && self.next.distance(seq) == 1 && wire_bytes > 1 {
            self.next = seq;
        }
    }

    /// The peer has acknowledged `ack`, and advertises `window`.
    pub fn update_acked(&mut self, ack: SeqNumber, window: u16) {
        if !self.has(Fact::Acked) || !ack.precedes(self.acked) {
            self.advance_acked(ack, window);
        }
    }

    /// The same, if `ack` is not behind what the peer has acknowledged before.
    #[inline(always)]
    pub fn advance_acked(&mut self, ack: SeqNumber, window: u16) {
        match self.scale.shift() {
            Some(shift) => self.window_bytes = u32::from(window) << shift,
            None => self.learn_window(),
        }
        self.acked = ack;
        if !self.has(Fact::AckedAgain) {
            self.set(Fact::AckedAgain, self.has(Fact::Acked));
            self.set(Fact::Acked, true);
        }
    }

    /// What is in flight fits into the window.
    #[cold]
    fn learn_window(&mut self) {
        if self.is_started() && self.has(Fact::Acked) {
            let in_flight_bytes = self.next.distance(self.acked).max(0) as u32;
            let least_bytes = (2 * in_flight_bytes).min(WINDOW_BYTES_MAX as u32);
            self.window_bytes = self.window_bytes.max(least_bytes);
        }
    }

    /// The window that the peer advertises, as far as is known.
    fn window(&self) -> i32 {
        let bytes = match self.scale.shift() {
            // Its end may retreat by what the scale cannot express (RFC 7323 section 2.4).
            Some(shift) => self.window_bytes.saturating_add((1 << shift) - 1),
            None => self.window_bytes.max(JOIN_WINDOW_BYTES),
        };
        bytes.min(WINDOW_BYTES_MAX as u32) as i32
    }

    /// How far behind a segment or an acknowledgment may be.
    fn late_bytes(&self) -> i32 {
        self.window().max(LATE_BYTES_MIN as i32)
    }

    pub fn is_near_acked(&self, seq: SeqNumber) -> bool {
        let reach = self.late_bytes().max(JOIN_WINDOW_BYTES as i32);
        (-reach..=reach).contains(&seq.distance(self.acked))
    }

    /// The position behind which the window lies. Everything up to `passed` has passed. If that is
    /// more than the peer has allowed, acknowledgments were missed.
    fn window_begin(&self, passed: SeqNumber) -> SeqNumber {
        let is_stale = !self.has(Fact::Acked) || passed.distance(self.acked) > self.window();
        if is_stale { passed } else { self.acked }
    }

    /// Whether `number` is not before the SYN. Unknown, and true, for a stream that is longer than
    /// a window.
    fn is_behind_syn(&self, number: SeqNumber) -> bool {
        let Some(isn) = self.isn.get() else { return true };
        let is_short = (0..WINDOW_BYTES_MAX).contains(&self.next.distance(isn));
        !is_short || !number.precedes(isn)
    }

    /// Whether its sender may send a segment at `seq` (RFC 9293 section 3.4), after everything up
    /// to `passed`: it is inside the window, or so little behind that it may be a retransmission.
    pub fn may_be_sent(&self, seq: SeqNumber, passed: SeqNumber) -> bool {
        if !self.is_started() {
            return !self.has(Fact::AckedAgain) || self.is_near_acked(seq);
        }
        match seq.distance(passed) {
            0 => true,
            1.. => seq.distance(self.window_begin(passed)) <= self.window(),
            behind => {
                // What is in flight may be sent again, also after the window has shrunk.
                let is_near = behind >= -self.late_bytes()
                    || (-self.late_bytes()..=WINDOW_BYTES_MAX).contains(&seq.distance(self.acked));
                is_near && self.is_behind_syn(seq)
            }
        }
    }

    /// Whether the peer may acknowledge `ack` (RFC 5961 section 5), after everything up to
    /// `passed`: at most what its window allows to be sent, and at least what it has acknowledged,
    /// less a window.
    pub fn may_be_acked(&self, ack: SeqNumber, passed: SeqNumber) -> bool {
        if !self.is_started() {
            return !self.has(Fact::Acked) || self.is_near_acked(ack);
        }
        // A FIN has a number of its own.
        if ack.distance(passed) > 1 {
            return ack.distance(self.window_begin(passed)) <= self.window() + 1;
        }
        ack.distance(self.acked) >= -self.late_bytes() && self.is_behind_syn(ack)
    }

    /// The end of missing data that, according to `ack`, has passed; `None` if nothing is missing.
    /// The sequence number of a FIN is not data, and no acknowledgement can be more than a window
    /// ahead of what we have.
    pub fn missing_until(&self, ack: SeqNumber) -> Option<SeqNumber> {
        if !self.is_started()
            || self.has(Fact::Finished)
            || ack.distance(self.next) > WINDOW_BYTES_MAX
        {
            return None;
        }
        let until = match self.fin_at.get() {
            Some(fin_at) if fin_at.precedes(ack) => fin_at,
            _ => ack,
        };
        self.next.precedes(until).then_some(until)
    }

    /// Whether the receiver discards `segment` because of its checksum, as far as can be known.
    pub fn discards(&self, segment: &Segment<'_>) -> bool {
        self.has(Fact::Checksums) && segment.is_checksum_wrong()
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

    /// The next `len_bytes` are delivered.
    #[inline(always)]
    pub fn advance(&mut self, meta: &SegmentMeta, len_bytes: usize, stats: &mut FlowStats) {
        self.next = meta.seq.plus(len_bytes as u32);
        self.set(Fact::AtSyn, false);
        stats.bytes_in_order += len_bytes as u64;
    }

    /// Delivers bytes.
    #[inline(always)]
    pub fn pass(
        &mut self,
        bytes: &[u8],
        cut: Cut,
        meta: &SegmentMeta,
        direction: Direction,
        stats: &mut FlowStats,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        self.advance(meta, bytes.len(), stats);
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

    /// Delivers a segment that waited, and of which `copies` passed again meanwhile.
    #[cold]
    pub fn pass_with_copies(
        &mut self,
        (waiting, copies): (&BufferedSegment, &Copies),
        direction: Direction,
        stats: &mut FlowStats,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let BufferedSegment { bytes, cut, meta } = waiting;
        let cut_at = meta.seq.plus(bytes.len() as u32);
        if !bytes.is_empty() {
            self.next = cut_at;
            self.set(Fact::AtSyn, false);
            stats.bytes_in_order += bytes.len() as u64;
            visit(direction, Chunk::BytesWithCopies(bytes, meta, copies));
        }
        for copy in copies.inside(cut_at..waiting.end()) {
            visit(direction, retransmitted(&copy));
        }
        if cut.bytes > 0 {
            let meta = SegmentMeta { seq: cut_at, ..*meta };
            self.pass(&[], *cut, &meta, direction, stats, visit);
        }
    }

    /// Passes the part of a segment that was passed before on once more, as a copy. Returns whether
    /// it differs where that matters.
    pub fn pass_copy(
        &mut self,
        segment: &Segment<'_>,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        let (bytes, _, meta) = Stream::piece_of(segment, 0, false);
        let old_bytes = self.next.distance(meta.seq).max(0) as usize;
        let (bytes, differs) = (bytes.get(..old_bytes).unwrap_or(bytes), Cell::new(false));
        if !bytes.is_empty() {
            visit(segment.direction, Chunk::Copy(bytes, &meta, &differs));
        }
        if differs.get() && segment.payload_end().precedes(self.next) {
            self.next = segment.payload_end();
        }
        differs.get()
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
        self.set(Fact::AtSyn, false);
        stats.gaps += 1;
        stats.gap_bytes += len_bytes;
        visit(direction, Chunk::Gap { len_bytes, at });
    }

    /// Counts captured bytes that were delivered or given up before.
    pub fn count_old(&self, from: SeqNumber, len_bytes: usize, stats: &mut FlowStats) {
        let late = self.late_part(&(from..from.plus(len_bytes as u32)));
        let late_bytes = late.map_or(0, |late| late.end.distance(late.start) as u64);
        stats.bytes_late += late_bytes;
        stats.bytes_duplicate += len_bytes as u64 - late_bytes;
    }

    /// The part of `range` that lies in the last hole that was given up.
    fn late_part(&self, range: &Range<SeqNumber>) -> Option<Range<SeqNumber>> {
        let is_near = self.lost.end.distance(range.start).unsigned_abs() < WINDOW_BYTES_MAX as u32;
        overlap(&self.lost, range).filter(|_| is_near)
    }

    /// Passes on that `range`, which was delivered or given up before, passed once more. What is
    /// late has passed for the first time, and is missing no more.
    pub fn pass_retransmitted(
        &mut self,
        range: Range<SeqNumber>,
        direction: Direction,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let late = self.late_part(&range).unwrap_or(range.end..range.end);
        if late.start == self.lost.start {
            self.lost.start = late.end;
        } else if late.end == self.lost.end {
            self.lost.end = late.start;
        }
        for part in [range.start..late.start, late.end..range.end] {
            if part.start.precedes(part.end) {
                visit(direction, retransmitted(&part));
            }
        }
    }

    /// The stream goes on at `start`, wherever it was.
    pub fn anchor(
        &mut self,
        start: SeqNumber,
        direction: Direction,
        stats: &mut FlowStats,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        self.fin_at.set(None);
        if self.has(Fact::Finished) && start == self.next.plus(1) {
            return;
        }
        self.set(Fact::Finished, false);
        if self.is_started() && start != self.next {
            self.skip_to(start, direction, stats, visit);
        }
        (self.next, self.acked) = (start, start);
        self.set(Fact::Started, true);
        for fact in [Fact::AtSyn, Fact::Acked, Fact::AckedAgain] {
            self.set(fact, false);
        }
        self.granted.set(None);
    }

    /// The peer's first acknowledgment is for `ack`. If nothing but SYN-ACKs came so far, that is
    /// where the stream begins.
    pub fn begin_as_acknowledged(&mut self, ack: SeqNumber) {
        if self.has(Fact::AtSyn) && !self.has(Fact::Acked) && ack != self.next {
            (self.next, self.acked) = (ack, ack);
            self.isn.set(Some(SeqNumber(ack.0.wrapping_sub(1))));
        }
    }

    pub fn finish_if_due(
        &mut self,
        direction: Direction,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let Some(fin_at) = self.fin_at.get() else { return };
        if !self.has(Fact::Finished) && fin_at == self.next {
            self.set(Fact::Finished, true);
            visit(direction, Chunk::Fin);
        }
        if !self.has(Fact::Finished) && fin_at.precedes(self.next) {
            // Data was delivered beyond it, so the FIN did not belong to this stream.
            self.fin_at.set(None);
        }
    }
}

fn retransmitted<'a>(part: &Range<SeqNumber>) -> Chunk<'a> {
    Chunk::Retransmitted { at: part.start, len_bytes: part.end.distance(part.start) as u32 }
}
