//! [`Connection`]: one TCP connection, both directions. Handles reordering, overlap, loss, and the
//! order between the two directions.
//!
//! Three rules decide everything. Each depends only on the connection's own packets, so that the
//! same traffic gives the same chunks however it is captured, filtered, or spread over shards:
//! 1. The first copy wins.
//! 2. Data is delivered once all data before it in its direction has been delivered, and all data
//!    of the other direction that it acknowledges. (On mirrors and multi-queue captures a response
//!    may come before its request.)
//! 3. A hole is given up once the peer has acknowledged data behind it, something waits behind it,
//!    and `reorder_grace_ms` of packet time have passed; or when too much data waits.

use super::out_of_order::{BufferedSegment, OutOfOrderBuffer};
use super::reorder_state::{Hole, PendingSyn, ReorderState};
use super::stream::Stream;
use super::{Chunk, Handshake, ReorderPool};
use crate::config::FlowConfig;
use crate::decode::{Segment, SeqNumber, is_worth_joining};
use crate::ids::Direction;
use crate::packed_option::PackedOption;
use crate::stats::FlowStats;
use crate::time::TimestampNs;

mod bound;
mod fast_path;
mod reorder;

/// A reset counts if its sequence number is this close to the expected one. Others are forged or
/// stray. (RFC 5961 section 3 is stricter, but an endpoint knows its window.)
const RESET_WINDOW_BYTES: i32 = 1 << 20;

/// One TCP connection.
#[derive(Debug, Default)]
pub struct Connection {
    pub(super) streams: [Stream; 2],
    /// `None` for nearly all connections.
    pub(super) reorder: Option<Box<ReorderState>>,
    is_reset: bool,
    bypassed: Option<Bypassed>,
    /// The sequence number of the first captured segment, if the beginning of the connection was
    /// not captured.
    joined_at: PackedOption<SeqNumber>,
    /// Nothing waits, nothing is missing, and nothing is ending; see `fast_path.rs`.
    is_on_fast_path: bool,
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
    pub pool: ReorderPool,
    pub stats: FlowStats,
}

impl Connection {
    /// The connection that the pending SYN announced, and its handshake, if `segment` shows that it
    /// was established.
    pub(super) fn announced(&self, segment: &Segment<'_>) -> Option<(Connection, Handshake)> {
        let PendingSyn { client, isn, syn_at } =
            self.known_pending_syn().filter(|_| self.is_of_pending_syn(segment))?;
        let handshake = Handshake::of_syn(client, isn, syn_at);
        let mut connection = Connection::default();
        let stream = &mut connection.streams[client.index()];
        stream.start_behind(isn);
        stream.isn.set(Some(isn));
        Some((connection, handshake))
    }

    /// A connection whose first captured segment is `segment`.
    pub(super) fn joined_at(segment: &Segment<'_>) -> Connection {
        let joined_at = (!segment.flags.is_syn()).then_some(segment.seq);
        Connection { joined_at: joined_at.into(), ..Connection::default() }
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
        stream.is_started.then_some(stream.next)
    }

    /// The position up to which data of `direction` need not reach user space, if that was granted.
    pub fn granted(&self, direction: Direction) -> Option<SeqNumber> {
        self.streams[direction.index()].granted.get()
    }

    /// Data of `direction` up to `until` need not reach user space.
    pub fn grant(&mut self, direction: Direction, until: SeqNumber) {
        self.streams[direction.index()].granted.set(Some(until));
    }

    /// The connection that the pending SYN announced was not established in time.
    pub(super) fn forget_pending_syn(&mut self) {
        if let Some(reorder) = &mut self.reorder {
            reorder.pending_syn = None;
        }
    }

    /// Both directions are closed, or it was reset, or its bytes are not wanted.
    pub fn is_closed(&self) -> bool {
        self.is_reset
            || self.bypassed.is_some()
            || self.streams.iter().all(|stream| stream.is_finished)
    }

    /// Whether it is remembered no longer than a closed connection.
    pub(super) fn is_short_lived(&self) -> bool {
        match self.bypassed {
            Some(bypassed) => bypassed == Bypassed::Closed,
            None => self.is_closed(),
        }
    }

    /// It has ended on the wire.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed() && self.bypassed.is_none()
    }

    /// Its bytes are no longer wanted. It is only remembered, so that they do not begin a new
    /// connection.
    pub(super) fn bypass(&mut self, bypassed: Bypassed, pool: &mut ReorderPool) {
        self.bypassed = Some(bypassed);
        self.is_on_fast_path = false;
        self.release(pool);
    }

    /// When the oldest hole may be given up, if there is one.
    pub(super) fn deadline(&self, limits: &FlowConfig) -> Option<TimestampNs> {
        let holes = [self.hole(0), self.hole(1)].into_iter().flatten();
        Some(holes.map(|hole| hole.since).min()?.plus_ms(limits.reorder_grace_ms))
    }

    /// Whether `segment` shows that a new connection on the same endpoints has replaced this one. A
    /// SYN alone does not, while this one is open: anybody can send a SYN. The SYN-ACK to it, or
    /// data behind it, does.
    #[inline(always)]
    pub(super) fn is_replaced_by(
        &mut self,
        segment: &Segment<'_>,
        handshake: &Handshake,
        pool: &mut ReorderPool,
    ) -> bool {
        let is_plain = self.is_on_fast_path && !segment.flags.is_syn();
        !is_plain && self.is_replaced_by_slow_path(segment, handshake, pool)
    }

    fn is_replaced_by_slow_path(
        &mut self,
        segment: &Segment<'_>,
        handshake: &Handshake,
        pool: &mut ReorderPool,
    ) -> bool {
        let is_opening = segment.flags.is_syn() && segment.ack.is_none();
        if is_opening {
            let is_own = match handshake.client_isn.get() {
                Some(isn) => handshake.client == Some(segment.direction) && isn == segment.seq,
                None => self.is_near(segment),
            };
            if is_own {
                return false;
            }
            if !self.is_closed() {
                let (client, isn, syn_at) = (segment.direction, segment.seq, segment.timestamp);
                self.reorder_mut(pool).pending_syn = Some(PendingSyn { client, isn, syn_at });
                self.is_on_fast_path = false;
            }
            return self.is_closed();
        }
        self.is_of_pending_syn(segment) || self.is_closed() && self.is_next(segment, handshake)
    }

    fn known_pending_syn(&self) -> Option<PendingSyn> {
        self.reorder.as_ref()?.pending_syn
    }

    /// Whether `segment` belongs to the connection that the pending SYN announced.
    fn is_of_pending_syn(&self, segment: &Segment<'_>) -> bool {
        let Some(PendingSyn { client, isn, .. }) = self.known_pending_syn() else { return false };
        if segment.direction == client {
            !segment.flags.is_rst() && !segment.flags.is_syn() && segment.seq == isn.plus(1)
        } else {
            segment.flags.is_syn() && segment.ack == Some(isn.plus(1))
        }
    }

    /// Whether `segment` comes after the end of this closed connection. Either it belongs to the
    /// next one, whose SYN was missed, or the end was forged or belonged to another connection, and
    /// this one continues.
    fn is_next(&self, segment: &Segment<'_>, handshake: &Handshake) -> bool {
        if segment.flags.is_syn() {
            let isn = segment.ack.map(|ack| SeqNumber(ack.0.wrapping_sub(1)));
            return handshake.client_isn.get() != isn && !self.is_near(segment);
        }
        let end = self.streams[segment.direction.index()].next;
        let may_go_on = match self.bypassed {
            None => !segment.seq.precedes(end),
            Some(bypassed) => bypassed == Bypassed::Dormant,
        };
        may_go_on && is_worth_joining(segment.payload)
    }

    /// A SYN directly before the data captured so far in its direction (the SYN was captured late).
    fn is_near(&self, segment: &Segment<'_>) -> bool {
        let stream = &self.streams[segment.direction.index()];
        stream.is_started && (0..RESET_WINDOW_BYTES).contains(&stream.next.distance(segment.seq))
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
        if self.bypassed.is_some() {
            return;
        }
        if self.is_reset {
            context.stats.bytes_late += segment.payload.len() as u64;
            return;
        }
        self.settle(segment.timestamp, context, visit);
        if segment.flags.is_rst() {
            return self.reset(segment, context, visit);
        }
        let may_ack = |ack| self.streams[1 - own].may_be_acked(ack);
        if !self.streams[own].is_started && !segment.ack.is_none_or(may_ack) {
            // It is a late segment of the previous connection on the same endpoints.
            context.stats.bytes_late += segment.payload.len() as u64;
            return;
        }
        if segment.payload_wire_bytes > 0 {
            self.streams[own].join(segment.payload_seq());
            self.streams[own].begin_at_syn(segment.payload_seq(), segment.payload_wire_bytes);
            self.take_payload(segment, context, visit);
        }
        if segment.flags.is_fin() {
            self.streams[own].start(segment.payload_seq());
            self.streams[own].fin_at.set_if_none(segment.payload_end());
        }
        if let Some(ack) = segment.ack {
            self.streams[1 - own].update_acked(ack);
        }
        self.advance(segment.timestamp, context, visit);
        self.relieve(segment.timestamp, context, visit);
        self.watch_holes(segment.timestamp, &mut context.pool);
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
                    self.streams[own].isn.set_if_none(segment.seq);
                    handshake.client = Some(segment.direction);
                    handshake.client_isn.set_if_none(segment.seq);
                    handshake.see_syn(segment.timestamp);
                }
            }
            Some(ack) => {
                let isn = SeqNumber(ack.0.wrapping_sub(1));
                let client = segment.direction.opposite();
                if handshake.client_isn.get().is_none_or(|known| known == isn) {
                    self.streams[own].start_behind(segment.seq);
                    self.streams[own].isn.set_if_none(segment.seq);
                    self.streams[client.index()].start_behind(isn);
                    handshake.client = Some(client);
                    handshake.client_isn.set(Some(isn));
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
        let stream = &mut self.streams[own];
        let seen_bytes = stream.next.distance(segment.payload_seq());
        let unseen_bytes = i64::from(segment.payload_wire_bytes) - i64::from(seen_bytes);
        // Half of all sequence numbers are behind what was delivered, half before it. A segment at
        // the border, which only a forger sends, counts as old: waiting segments need a defined
        // order.
        if !(1..=i64::from(i32::MAX)).contains(&unseen_bytes) || stream.is_finished {
            stream.count_old(segment.payload_seq(), segment.payload.len(), &mut context.stats);
            return;
        }
        let skip = seen_bytes.max(0) as usize;
        if skip > 0 {
            stream.count_old(
                segment.payload_seq(),
                skip.min(segment.payload.len()),
                &mut context.stats,
            );
        }
        let (bytes, cut, meta) = Stream::piece_of(segment, skip, context.is_filtered);
        if seen_bytes >= 0 && !is_waiting && !is_held {
            stream.pass(bytes, cut, &meta, segment.direction, &mut context.stats, visit);
            if self.hole(own).is_some() {
                self.refresh_hole(own, segment.timestamp, &mut context.pool);
            }
            return;
        }
        let buffer = self.reorder_mut(&mut context.pool).buffers[own]
            .get_or_insert_with(|| context.pool.buffer());
        let new_bytes = buffer.insert(bytes, cut, meta, &mut context.pool.segments);
        context.stats.segments_out_of_order += 1;
        context.stats.bytes_duplicate += (bytes.len() - new_bytes) as u64;
    }

    /// Whether a segment that acknowledges `ack` must wait for bytes of the other direction.
    fn is_ahead_of_peer(&self, own: usize, ack: Option<SeqNumber>) -> bool {
        let peer = &self.streams[1 - own];
        let Some(ack) = ack else { return false };
        peer.is_started && !peer.is_finished && peer.missing_until(ack).is_some()
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
            let Some(waiting) = buffer.pop_first(&mut context.pool.segments) else { break };
            if let Some(empty) = reorder.buffers[own].take_if(|buffer| buffer.is_empty()) {
                context.pool.give_buffer_back(empty);
            }
            let (stream, cut, meta) = (&mut self.streams[own], waiting.cut, &waiting.meta);
            stream.pass(&waiting.bytes, cut, meta, direction, &mut context.stats, visit);
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
        if self.is_reset || self.bypassed.is_some() {
            // Everything was delivered then, or is not wanted. Earlier acknowledgements belong to
            // what came before, whatever begins behind it.
            return;
        }
        let now = TimestampNs(u64::MAX);
        self.settle(now, context, visit);
        while self.force(0, now, context, visit) || self.force(1, now, context, visit) {}
        for own in 0..2 {
            let may_be_fin = self.may_be_fin(own);
            let (is_acked, acked) = (self.streams[own].is_acked, self.streams[own].acked);
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
        let stream = &self.streams[segment.direction.index()];
        let is_in_window = !stream.is_started
            || segment.seq.distance(stream.next).unsigned_abs() <= RESET_WINDOW_BYTES as u32;
        if !is_in_window || self.is_reset {
            context.stats.resets_ignored += u64::from(!self.is_reset);
            return;
        }
        self.flush(context, visit);
        self.is_reset = true;
        visit(segment.direction, Chunk::Reset);
    }

    /// Frees what waits, without delivering it.
    pub(super) fn release(&mut self, pool: &mut ReorderPool) {
        let buffers = self.reorder.iter_mut().flat_map(|reorder| &mut reorder.buffers);
        for mut buffer in buffers.filter_map(Option::take) {
            buffer.clear(&mut pool.segments);
            pool.give_buffer_back(buffer);
        }
        self.free_if_blank(pool);
    }
}

fn direction_of(index: usize) -> Direction {
    if index == 0 { Direction::Forward } else { Direction::Reverse }
}
