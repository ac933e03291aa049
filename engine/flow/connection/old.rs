//! Bytes that were delivered or given up before: retransmissions, packets that were captured twice,
//! and what is late.

use super::{Connection, ReassemblyContext};
use crate::decode::Segment;
use crate::flow::Chunk;
use crate::flow::out_of_order::{BufferedSegment, OutOfOrderBuffer};
use crate::ids::Direction;

impl Connection {
    /// Takes the part of a segment that lies before what comes next. `captured_bytes` of it were
    /// captured.
    #[cold]
    #[inline(never)]
    pub(super) fn take_old(
        &mut self,
        segment: &Segment<'_>,
        captured_bytes: usize,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let is_taken = !self.is_probe(segment) && !self.has_wrong_checksum(segment);
        let stream = &mut self.streams[segment.direction.index()];
        let (start, next) = (segment.payload_seq(), stream.next);
        let end = if segment.payload_end().precedes(next) { segment.payload_end() } else { next };
        stream.count_old(start, captured_bytes, &mut context.stats);
        let differs = stream.pass_copy(segment, visit);
        if is_taken && !differs && start.precedes(end) {
            stream.pass_retransmitted(start..end, segment.direction, visit);
        }
    }

    /// Whether `segment` looks like a probe, which is sent to be acknowledged: a single byte, the
    /// last one that has passed. Such are keep-alives (RFC 9293 section 3.8.4), and probes of a
    /// closed window that are repeated (section 3.8.6.1).
    pub(super) fn is_probe(&self, segment: &Segment<'_>) -> bool {
        if segment.payload_wire_bytes != 1 {
            return false;
        }
        let own = segment.direction.index();
        let last = self.buffer(own).and_then(OutOfOrderBuffer::last).map(BufferedSegment::end);
        segment.payload_end() == last.unwrap_or(self.streams[own].next)
    }
}
