//! [`Connection`]: one TCP connection, both directions. Handles reordering, overlap, loss, and the
//! order between the two directions.
//!
//! Five rules decide everything. Each depends only on the connection's own packets, so that the
//! same traffic gives the same chunks however it is captured, filtered, or spread over shards:
//! 0. What the endpoints would not accept is refused (`trust.rs`): sequence and acknowledgment
//!    numbers outside the windows, data without an acknowledgment, handshakes with other numbers.
//! 1. The first copy wins.
//! 2. Data is delivered once all data before it in its direction has been delivered, and all data
//!    of the other direction that it acknowledges. (On mirrors and multi-queue captures a response
//!    may come before its request.)
//! 3. A hole is given up once the peer has acknowledged data behind it, something waits behind it,
//!    and `reorder_grace_ms` of packet time have passed; or when too much data waits.
//! 4. The first segments of a connection whose handshake was not captured wait as long, because
//!    nothing says where its streams begin (`joining.rs`); unless memory for that runs short.

use super::out_of_order::{BufferedSegment, OutOfOrderBuffer};
use super::reorder_state::{Hole, ReorderState};
use super::stream::{Fact, Stream};
use super::{Chunk, Handshake, ReorderPool};
use crate::config::FlowConfig;
use crate::decode::{Segment, SeqNumber};
use crate::ids::Direction;
use crate::packed_option::PackedOption;
use crate::stats::FlowStats;
use crate::time::TimestampNs;

mod bits;
mod bound;
mod counted;
mod fast_path;
mod joining;
mod old;
mod reorder;
mod trust;

use bits::Bits;
pub(crate) use counted::COUNTED_BYTES;
pub(crate) use trust::ONE_SIDED_BYTES_MIN;
pub(super) use trust::Ownership;

/// A SYN that is captured late is at most this far before the data captured so far.
const LATE_SYN_BYTES_MAX: i32 = 1 << 20;

/// One TCP connection.
#[derive(Debug, Default)]
pub struct Connection {
    pub(super) streams: [Stream; 2],
    /// `None` for nearly all connections.
    pub(super) reorder: Option<Box<ReorderState>>,
    /// `None` while it is open, or was closed by both sides.
    fate: Option<Fate>,
    /// The sequence number of the first captured segment, if the beginning of the connection was
    /// not captured.
    joined_at: PackedOption<SeqNumber>,
    /// Nothing waits, nothing is missing, and nothing is ending; see `fast_path.rs`.
    is_on_fast_path: bool,
    /// The direction of that segment; and whether only the end and the length are wanted, see
    /// `counted.rs`.
    bits: Bits,
}

/// Why a connection takes no more segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Reset,
    Bypassed(Bypassed),
}

/// How long a connection is remembered after its bytes are no longer wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bypassed {
    /// As long as a closed one, until the next handshake. No segment of it begins a connection.
    Closed,
    /// As long as an open one, until the next handshake.
    Living,
    /// As long as an open one, or until a segment begins like a message.
    Dormant,
}

/// What connections need in addition to their own state to take a segment. Shared by all
/// connections of a table.
#[derive(Debug)]
pub(super) struct ReassemblyContext {
    pub limits: FlowConfig,
    /// See [`FlowTable::set_filtered`](super::FlowTable::set_filtered).
    pub is_filtered: bool,
    /// See [`FlowTable::set_horizon`](super::FlowTable::set_horizon).
    pub horizon: TimestampNs,
    pub pool: ReorderPool,
    pub stats: FlowStats,
}

impl Connection {
    /// A connection whose first captured segment is `segment`.
    pub(super) fn joined_at(segment: &Segment<'_>) -> Connection {
        let joined_at = (!segment.flags.is_syn()).then_some(segment.seq);
        let bits = Bits::joined_by(segment.direction);
        Connection { joined_at: joined_at.into(), bits, ..Connection::default() }
    }

    /// Whether it was joined midstream: no SYN of it was seen.
    pub fn is_joined_late(&self) -> bool {
        !self.joined_at.is_none() && self.streams.iter().all(|stream| stream.isn.is_none())
    }

    /// The number that tells this connection from others on the same endpoints in flow hints for
    /// `direction`: the sequence number of its SYN, or the one at which a midstream connection was
    /// joined. `None` if it is not known.
    pub fn number(&self, direction: Direction) -> Option<SeqNumber> {
        match self.is_joined_late() {
            true => self.joined_at.get(),
            false => self.streams[direction.index()].isn.get(),
        }
    }

    /// The position of the next byte of `direction`, once something has passed.
    pub fn next(&self, direction: Direction) -> Option<SeqNumber> {
        let stream = &self.streams[direction.index()];
        stream.is_started().then_some(stream.next)
    }

    /// Whether the peer has acknowledged everything of `direction` before `position`.
    pub fn is_read_until(&self, direction: Direction, position: SeqNumber) -> bool {
        let stream = &self.streams[direction.index()];
        stream.has(Fact::Acked) && !stream.acked.precedes(position)
    }

    /// The position up to which data of `direction` need not reach user space, if that was granted.
    pub fn granted(&self, direction: Direction) -> Option<SeqNumber> {
        self.streams[direction.index()].granted.get()
    }

    /// Data of `direction` up to `until` need not reach user space.
    pub fn grant(&mut self, direction: Direction, until: SeqNumber) {
        self.streams[direction.index()].granted.set(Some(until));
    }

    /// Both directions are closed, or it was reset, or its bytes are not wanted.
    pub fn is_closed(&self) -> bool {
        self.fate.is_some() || self.streams.iter().all(|stream| stream.has(Fact::Finished))
    }

    /// Whether it is remembered no longer than a closed connection.
    pub(super) fn is_short_lived(&self) -> bool {
        match self.fate {
            Some(Fate::Bypassed(bypassed)) => bypassed == Bypassed::Closed,
            _ => self.is_closed(),
        }
    }

    /// It has ended on the wire.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed() && !matches!(self.fate, Some(Fate::Bypassed(_)))
    }

    /// Its bytes are no longer wanted. It is only remembered, so that they do not begin a new
    /// connection.
    pub(super) fn bypass(&mut self, bypassed: Bypassed, pool: &mut ReorderPool) {
        self.fate = Some(Fate::Bypassed(bypassed));
        self.is_on_fast_path = false;
        self.release(pool);
    }

    /// When the oldest hole may be given up, if there is one.
    pub(super) fn deadline(&self, limits: &FlowConfig) -> Option<TimestampNs> {
        let reorder = self.reorder.as_ref()?;
        if let Some(joining) = &reorder.joining {
            return Some(joining.deadline(limits));
        }
        let holes = reorder.holes.iter().flatten();
        Some(holes.map(|hole| hole.since).min()?.plus_ms(limits.reorder_grace_ms))
    }

    /// Takes `segment`, and passes what is in order now to `visit`.
    #[inline(always)]
    pub(super) fn accept(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        if !self.take_fast_path(segment, context, visit) {
            self.accept_slow_path(segment, context, visit);
            self.free_if_blank(&mut context.pool);
            self.is_on_fast_path = self.has_nothing_open();
        }
    }

    /// The same, for any state of the connection and any segment.
    #[inline(never)]
    fn accept_slow_path(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let own = segment.direction.index();
        if let Some(fate) = self.fate {
            let is_late = fate == Fate::Reset;
            context.stats.bytes_late += if is_late { segment.payload.len() as u64 } else { 0 };
            return;
        }
        if self.bits.is_counted() {
            return self.count(segment, context, visit);
        }
        self.settle(segment.timestamp.min(context.horizon), context, visit);
        if self.must_wait_to_join(segment) && self.hold_for_join(segment, context, visit) {
            return;
        }
        if segment.flags.is_rst() {
            return self.reset(segment, context, visit);
        }
        if let Some(refusal) = self.refusal(segment) {
            return self.refuse(segment, refusal, context, visit);
        }
        self.streams[own].set(Fact::Seen, true);
        self.settle_data_of_syn(segment, context, visit);
        let before = self.progress();
        if segment.flags.is_syn() && segment.ack.is_none() && segment.payload_wire_bytes > 0 {
            self.hold_data_of_syn(segment, context);
        } else if segment.payload_wire_bytes > 0 {
            self.streams[own].join(segment.payload_seq());
            self.streams[own].begin_at_syn(segment.payload_seq(), segment.payload_wire_bytes);
            self.take_payload(segment, context, visit);
        }
        if segment.flags.is_fin() {
            self.streams[own].start(segment.payload_seq());
            if self.streams[own].fin_at.is_none() {
                self.streams[own].fin_at.set(Some(segment.payload_end()));
                visit(segment.direction, Chunk::Closing(segment.timestamp));
            }
        }
        if let Some(ack) = segment.ack {
            self.streams[1 - own].update_acked(ack, segment.window);
        }
        self.advance(segment.timestamp, context, visit);
        self.relieve(segment.timestamp, context, visit);
        self.watch_holes(segment.timestamp, &mut context.pool);
        if before != self.progress() {
            self.refuse_rival(context, visit);
        }
    }

    /// Starts the grace of holes that something waits for.
    fn watch_holes(&mut self, now: TimestampNs, pool: &mut ReorderPool) {
        let is_waiting = self.is_waiting();
        for own in 0..2 {
            if self.hole(own).is_none() && (is_waiting || !self.streams[own].fin_at.is_none()) {
                self.refresh_hole(own, now, pool);
            }
        }
    }

    /// Learns from a SYN or SYN-ACK where the streams begin and who opened the connection.
    pub(super) fn learn_handshake(&mut self, segment: &Segment<'_>, handshake: &mut Handshake) {
        if !segment.flags.is_syn() {
            return;
        }
        let own = segment.direction.index();
        match segment.ack {
            None => {
                if handshake.client.is_none_or(|client| client == segment.direction) {
                    self.streams[own].start_behind(segment.seq);
                    self.streams[own].learn_isn(segment.seq);
                    self.learn_scale(segment);
                    handshake.client = Some(segment.direction);
                    handshake.client_isn.set_if_none(segment.seq);
                    handshake.see_syn(segment.timestamp);
                }
            }
            Some(ack) => {
                let client = segment.direction.opposite();
                let known = handshake.client_isn.get();
                let isn = known.unwrap_or(SeqNumber(ack.0.wrapping_sub(1)));
                if known.is_none() || self.is_answer(ack, handshake) {
                    let server = &self.streams[own];
                    if server.isn.get().is_some_and(|known| known != segment.seq) {
                        if server.has(Fact::AtSyn) && !server.has(Fact::Acked) {
                            self.streams[own].set(Fact::Disputed, true);
                            self.is_on_fast_path = false;
                        }
                        return;
                    }
                    self.streams[own].start_behind(segment.seq);
                    self.streams[own].learn_isn(segment.seq);
                    self.learn_scale(segment);
                    self.streams[client.index()].start_behind(isn);
                    handshake.client = Some(client);
                    handshake.client_isn.set(Some(isn));
                    handshake.server_isn.set_if_none(segment.seq);
                    handshake.syn_ack_at.set_if_none(segment.timestamp);
                }
            }
        }
    }

    /// Payload is delivered immediately, borrowed, if nothing is missing before it. Otherwise a
    /// copy waits.
    fn take_payload(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let own = segment.direction.index();
        let is_held = self.is_ahead_of_peer(own, segment.ack);
        let is_waiting = self.buffer(own).is_some();
        let stream = &self.streams[own];
        let seen_bytes = stream.next.distance(segment.payload_seq());
        let unseen_bytes = i64::from(segment.payload_wire_bytes) - i64::from(seen_bytes);
        // Half of all sequence numbers are behind what was delivered, half before it. A segment at
        // the border, which only a forger sends, counts as old: waiting segments need a defined
        // order.
        if !(1..=i64::from(i32::MAX)).contains(&unseen_bytes) || stream.has(Fact::Finished) {
            return self.take_old(segment, segment.payload.len(), context, visit);
        }
        let skip = seen_bytes.max(0) as usize;
        if skip > 0 {
            self.take_old(segment, skip.min(segment.payload.len()), context, visit);
        }
        let stream = &mut self.streams[own];
        let (bytes, cut, meta) = Stream::piece_of(segment, skip, context.is_filtered);
        if seen_bytes >= 0 && !is_waiting && !is_held {
            stream.pass(bytes, cut, &meta, segment.direction, &mut context.stats, visit);
            if self.hole(own).is_some() {
                self.refresh_hole(own, segment.timestamp, &mut context.pool);
            }
            return;
        }
        let is_probe = self.is_probe(segment);
        let is_taken = || !is_probe && !self.streams[own].discards(segment);
        let buffer = self.reorder.get_or_insert_with(|| context.pool.state()).buffers[own]
            .get_or_insert_with(|| context.pool.buffer());
        let new_bytes = buffer.insert(bytes, cut, meta, is_taken, &mut context.pool.segments);
        context.stats.segments_out_of_order += 1;
        context.stats.bytes_duplicate += (bytes.len() - new_bytes) as u64;
    }

    /// Whether a segment that acknowledges `ack` must wait for bytes of the other direction.
    fn is_ahead_of_peer(&self, own: usize, ack: Option<SeqNumber>) -> bool {
        let peer = &self.streams[1 - own];
        let Some(ack) = ack else { return false };
        peer.is_started() && !peer.has(Fact::Finished) && peer.missing_until(ack).is_some()
    }

    /// Delivers waiting segments that have become due, in both directions, until there are no more.
    /// Returns whether any was delivered.
    fn advance(
        &mut self,
        now: TimestampNs,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        let mut has_moved = false;
        while let Some(own) = self.due() {
            has_moved = true;
            let direction = direction_of(own);
            let Some(reorder) = &mut self.reorder else { break };
            let Some(buffer) = &mut reorder.buffers[own] else { break };
            let Some(waiting) = buffer.pop_first() else { break };
            let copies = buffer.take_copies(&waiting, &mut context.pool.segments);
            if let Some(empty) = reorder.buffers[own].take_if(|buffer| buffer.is_empty()) {
                context.pool.give_buffer_back(empty);
            }
            let (stream, cut, meta) = (&mut self.streams[own], waiting.cut, &waiting.meta);
            let stats = &mut context.stats;
            match copies {
                None => stream.pass(&waiting.bytes, cut, meta, direction, stats, visit),
                Some(copies) => {
                    stream.pass_with_copies((&waiting, &copies), direction, stats, visit);
                }
            }
            context.pool.segments.give_back(waiting);
            self.refresh_hole(own, now, &mut context.pool);
        }
        for own in 0..2 {
            self.forget_hole_if_passed(own);
            self.streams[own].finish_if_due(direction_of(own), visit);
        }
        has_moved
    }

    /// The direction whose first waiting segment may be delivered. If both are in order and each
    /// acknowledges the other, one of them retransmits bytes that were missed. That is the later
    /// one, and its bytes are the older ones.
    fn due(&self) -> Option<usize> {
        let ready = |own: usize| {
            self.in_order(own).is_some_and(|first| !self.is_ahead_of_peer(own, first.meta.ack))
        };
        if let Some(own) = (0..2).find(|own| ready(*own)) {
            return Some(own);
        }
        let (forward, reverse) = (self.in_order(0)?, self.in_order(1)?);
        Some(usize::from(reverse.meta.timestamp > forward.meta.timestamp))
    }

    /// The first waiting segment of a direction, if nothing before it is missing in that direction.
    fn in_order(&self, own: usize) -> Option<&BufferedSegment> {
        let first = self.buffer(own)?.first()?;
        (first.start().distance(self.streams[own].next) <= 0).then_some(first)
    }

    /// Gives up holes whose grace has ended at `now`. The consequences are dated to the moment at
    /// which the grace ended. The moment at which that is noticed also depends on packets of other
    /// connections.
    pub(super) fn settle(
        &mut self,
        now: TimestampNs,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        while let Some(deadline) = self.deadline(&context.limits).filter(|deadline| *deadline < now)
        {
            if self.is_joining() {
                self.begin_streams(context, visit);
                continue;
            }
            let since = |own: usize| self.hole(own).map(|hole| hole.since);
            let own = match (since(0), since(1)) {
                (Some(forward), Some(reverse)) => usize::from(reverse < forward),
                (None, _) => 1,
                (_, None) => 0,
            };
            let Some(Hole { acked, .. }) = self.take_hole(own) else { return };
            let mut has_moved = false;
            while !self.may_be_fin(own) && self.skip_hole(own, acked, &mut context.stats, visit) {
                has_moved = true;
                self.advance(deadline, context, visit);
            }
            if has_moved {
                self.watch_holes(deadline, &mut context.pool);
            }
        }
        self.free_if_blank(&mut context.pool);
    }

    /// Skips the hole at the front of a direction ([`Stream::skip_hole`]), as far as is due.
    fn skip_hole(
        &mut self,
        own: usize,
        ack: SeqNumber,
        stats: &mut FlowStats,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        let ack = self.until_due(own, ack);
        let buffer = self.reorder.as_ref().and_then(|reorder| reorder.buffers[own].as_deref());
        self.streams[own].skip_hole(ack, buffer, direction_of(own), stats, visit)
    }

    /// How much of a hole that ends at `until` is given up now. Data of the other direction that
    /// waits only for a part of it, and has acknowledged that part, is delivered before what is
    /// behind the part.
    fn until_due(&self, own: usize, until: SeqNumber) -> SeqNumber {
        let next = self.streams[own].next;
        let read = self.in_order(1 - own).and_then(|first| first.meta.ack);
        read.filter(|read| next.precedes(*read) && read.precedes(until)).unwrap_or(until)
    }

    /// Whether the hole of a direction is a single sequence number that nothing waits for. That is
    /// more likely a missed FIN, which takes a number of its own, than a byte.
    fn may_be_fin(&self, own: usize) -> bool {
        let stream = &self.streams[own];
        stream.fin_at.is_none() && stream.acked.distance(stream.next) == 1 && !self.is_waiting()
    }

    /// The connection is ending for us: gives up all holes and delivers everything that waits.
    pub(super) fn flush(
        &mut self,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        if self.fate.is_some() {
            // Everything was delivered then, or is not wanted. Earlier acknowledgements belong to
            // what came before, whatever begins behind it.
            return;
        }
        if self.bits.is_counted() {
            return self.end_count(visit);
        }
        let now = TimestampNs(u64::MAX);
        self.begin_streams(context, visit);
        self.settle(now, context, visit);
        while self.force(0, now, context, visit) || self.force(1, now, context, visit) {}
        for own in 0..2 {
            let may_be_fin = self.may_be_fin(own);
            let (is_acked, acked) = (self.streams[own].has(Fact::Acked), self.streams[own].acked);
            if is_acked && !may_be_fin {
                self.skip_hole(own, acked, &mut context.stats, visit);
            }
        }
        self.advance(now, context, visit);
        self.free_if_blank(&mut context.pool);
    }

    fn reset(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        if !self.may_reset(segment) {
            context.stats.resets_ignored += 1;
            return;
        }
        self.flush(context, visit);
        self.drop_data_of_syn(context);
        self.fate = Some(Fate::Reset);
        visit(segment.direction, Chunk::Closing(segment.timestamp));
        visit(segment.direction, Chunk::Reset);
    }

    /// Frees what waits, without delivering it.
    pub(super) fn release(&mut self, pool: &mut ReorderPool) {
        let buffers = self.reorder.iter_mut().flat_map(|reorder| &mut reorder.buffers);
        for mut buffer in buffers.filter_map(Option::take) {
            buffer.clear(&mut pool.segments);
            pool.give_buffer_back(buffer);
        }
        if let Some(reorder) = &mut self.reorder {
            let data_bytes = reorder.syn_data.take().map_or(0, |data| data.cost_bytes());
            pool.segments.used_bytes -= data_bytes;
            reorder.rival.take().map(|rival| rival.release(&mut pool.segments));
            reorder.joining.take().map(|joining| joining.release(&mut pool.segments));
        }
        self.free_if_blank(pool);
    }
}

fn direction_of(index: usize) -> Direction {
    if index == 0 { Direction::Forward } else { Direction::Reverse }
}
