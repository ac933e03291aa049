//! What a connection believes. Who knows the endpoints but not the numbers can change nothing: a
//! segment whose sequence or acknowledgment number the endpoints would not accept is refused (RFC
//! 9293 section 3.4, RFC 5961), and so is a handshake with other numbers, unless what follows shows
//! that the endpoints agree on it ([`Rival`]).

use super::{Connection, LATE_SYN_BYTES_MAX, ReassemblyContext};
use crate::decode::{Segment, SeqNumber, is_worth_joining};
use crate::flow::connection::{Bypassed, Fate};
use crate::flow::out_of_order::BufferedSegment;
use crate::flow::rival::{HeldSegment, Incumbent, Rival};
use crate::flow::stream::{Fact, Stream, WindowScale};
use crate::flow::{Chunk, Handshake, ReorderPool};
use crate::ids::Direction;
use crate::packed_option::PackedOption;
use crate::time::TimestampNs;

/// A SYN with the number of a connection that was reset opens another one, after this long. Before,
/// it is a late copy.
const SYN_AGAIN_MS: u64 = 1000;

/// A verdict about a connection of which only one direction is seen needs this much payload. The
/// filter has the same limit.
pub(crate) const ONE_SIDED_BYTES_MIN: i32 = 16 << 10;

/// Why a segment is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Its numbers are outside the windows.
    Numbers,
    /// It has data or a FIN, but acknowledges nothing, which no endpoint accepts.
    NoAcknowledgment,
    /// Its receiver discards it.
    Checksum,
}

/// Which connection on the endpoints a segment belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::flow) enum Ownership {
    /// This one.
    Own,
    /// It begins the next one, or shows that the next one has begun.
    Next,
    /// That is not known yet. It is held, or counted.
    Unclear,
}

impl Connection {
    /// Which connection `segment` belongs to. `over_at` is when this one ended.
    #[inline(always)]
    pub(in crate::flow) fn ownership(
        &mut self,
        segment: &Segment<'_>,
        handshake: &mut Handshake,
        over_at: TimestampNs,
        context: &mut ReassemblyContext,
    ) -> Ownership {
        match self.is_on_fast_path && !segment.flags.is_syn() {
            true => Ownership::Own,
            false => self.ownership_slow_path(segment, handshake, over_at, context),
        }
    }

    #[inline(never)]
    fn ownership_slow_path(
        &mut self,
        segment: &Segment<'_>,
        handshake: &mut Handshake,
        over_at: TimestampNs,
        context: &mut ReassemblyContext,
    ) -> Ownership {
        if self.streams.iter().any(|stream| stream.has(Fact::Disputed)) {
            self.believe_client(segment, handshake);
        }
        if self.is_closed() {
            return match self.is_next(segment, handshake, over_at) {
                true => Ownership::Next,
                false => Ownership::Own,
            };
        }
        if self.bits.is_counted() && !segment.flags.is_syn() {
            let is_of_rival =
                self.handshake_rival().is_some_and(|rival| rival.is_continued_by(segment));
            if !is_of_rival {
                return Ownership::Own;
            }
        }
        let is_own = match segment.flags.is_syn() {
            true => self.is_own_syn(segment, handshake) && self.refusal(segment).is_none(),
            false => {
                let rival = self.handshake_rival();
                // Its numbers may be inside the windows of this one.
                let is_exact = |rival: &Rival| {
                    let next = self.streams[segment.direction.index()].next;
                    next == segment.seq || !rival.is_continued_by(segment)
                };
                rival.is_none_or(is_exact) && (rival.is_none() || self.refusal(segment).is_none())
            }
        };
        if is_own {
            return Ownership::Own;
        }
        self.offer_to_rival(segment, context)
    }

    /// Whether a SYN or SYN-ACK belongs to this connection, whose handshake it repeats or
    /// completes.
    fn is_own_syn(&self, segment: &Segment<'_>, handshake: &Handshake) -> bool {
        let stream = &self.streams[segment.direction.index()];
        if stream.isn.get() == Some(segment.seq) {
            return true;
        }
        let Some(client) = handshake.client else {
            let has_begun =
                stream.is_started() || self.held_behind(segment.direction, segment.seq).is_some();
            let client = segment.direction.opposite();
            return self.is_near(segment)
                && match segment.ack {
                    Some(ack) => self.is_near_start(client, SeqNumber(ack.0.wrapping_sub(1))),
                    None => has_begun,
                };
        };
        match segment.ack {
            None => client == segment.direction && stream.isn.is_none() && self.is_near(segment),
            // The client decides between several answers, by what it acknowledges.
            Some(ack) => client != segment.direction && self.is_answer(ack, handshake),
        }
    }

    /// Whether a SYN-ACK that acknowledges `ack` answers the SYN, or the SYN and its data.
    pub(super) fn is_answer(&self, ack: SeqNumber, handshake: &Handshake) -> bool {
        let is_of_syn = handshake.client_isn.get().is_some_and(|isn| ack == isn.plus(1));
        let data = self.reorder.as_ref().and_then(|reorder| reorder.syn_data.as_ref());
        is_of_syn || data.is_some_and(|data| data.segment().payload_end() == ack)
    }

    /// A SYN directly before the data captured so far in its direction (the SYN was captured late).
    fn is_near(&self, segment: &Segment<'_>) -> bool {
        self.is_near_start(segment.direction, segment.seq)
    }

    /// The same for the number of a SYN in `direction`.
    fn is_near_start(&self, direction: Direction, isn: SeqNumber) -> bool {
        let stream = &self.streams[direction.index()];
        let known = stream.is_started().then(|| stream.next.distance(isn));
        let behind = self.held_behind(direction, isn).or(known);
        behind.is_none_or(|behind| (0..LATE_SYN_BYTES_MAX).contains(&behind))
    }

    /// Whether `segment` comes after the end of this closed connection. Either it belongs to the
    /// next one, whose SYN may have been missed, or the end was forged or belonged to another
    /// connection, and this one continues.
    fn is_next(&self, segment: &Segment<'_>, handshake: &Handshake, over_at: TimestampNs) -> bool {
        let end = self.streams[segment.direction.index()].next;
        match (segment.flags.is_syn(), segment.ack) {
            (true, None) => {
                let is_again = self.fate == Some(Fate::Reset)
                    && over_at.plus_ms(SYN_AGAIN_MS) <= segment.timestamp;
                let is_own = match handshake.client_isn.get() {
                    Some(isn) => handshake.client == Some(segment.direction) && isn == segment.seq,
                    None => self.is_started_near(segment),
                };
                !is_own || is_again
            }
            (true, Some(ack)) => !self.is_answer(ack, handshake) && !self.is_started_near(segment),
            (false, _) => {
                let may_go_on = match self.fate {
                    Some(Fate::Bypassed(bypassed)) => bypassed == Bypassed::Dormant,
                    _ => !segment.seq.precedes(end),
                };
                may_go_on && is_worth_joining(segment.payload)
            }
        }
    }

    fn is_started_near(&self, segment: &Segment<'_>) -> bool {
        self.streams[segment.direction.index()].is_started() && self.is_near(segment)
    }

    /// How far a direction has passed: what waits only for the other direction included.
    fn passed_until(&self, own: usize) -> SeqNumber {
        let next = self.streams[own].next;
        let waiting = self.in_order(own).and_then(|_| self.buffer(own)?.last());
        let end = waiting.map_or(next, BufferedSegment::end);
        if next.precedes(end) { end } else { next }
    }

    /// Why the endpoints would not accept `segment`, if they would not.
    pub(super) fn refusal(&self, segment: &Segment<'_>) -> Option<Refusal> {
        let own = segment.direction.index();
        let (stream, peer) = (&self.streams[own], &self.streams[1 - own]);
        let Some(ack) = segment.ack else {
            let carries = segment.payload_wire_bytes > 0 || segment.flags.is_fin();
            return (carries && !segment.flags.is_syn()).then_some(Refusal::NoAcknowledgment);
        };
        let may_be_sent =
            segment.flags.is_syn() || stream.may_be_sent(segment.seq, self.passed_until(own));
        let is_other_syn = segment.flags.is_syn()
            && stream.isn.get().is_some_and(|isn| isn != segment.seq)
            && segment.payload_wire_bytes > 0;
        // Nothing comes behind a FIN.
        let is_behind_fin = stream.has(Fact::Finished)
            && segment.payload_wire_bytes > 0
            && stream.next.precedes(segment.payload_end());
        if !may_be_sent
            || is_other_syn
            || is_behind_fin
            || !peer.may_be_acked(ack, self.passed_until(1 - own))
        {
            return Some(Refusal::Numbers);
        }
        // What waits, and what ends a direction, is verified. To verify everything would read every
        // byte of every payload.
        let is_ahead = stream.next.precedes(segment.seq) || peer.next.precedes(ack);
        let waits = segment.payload_wire_bytes > 0 && stream.is_started() && is_ahead;
        let is_verified = waits || segment.flags.is_fin();
        (is_verified && self.has_wrong_checksum(segment)).then_some(Refusal::Checksum)
    }

    /// Whether the receiver discards `segment` because of its checksum, as far as can be known.
    pub fn has_wrong_checksum(&self, segment: &Segment<'_>) -> bool {
        self.streams[segment.direction.index()].discards(segment)
    }

    /// Whether a reset may be from an endpoint: its numbers are inside the windows. (RFC 5961
    /// section 3 is stricter, but an endpoint knows what we may have missed.)
    pub(super) fn may_reset(&self, segment: &Segment<'_>) -> bool {
        let own = segment.direction.index();
        let (stream, peer) = (&self.streams[own], &self.streams[1 - own]);
        // Who has not answered a SYN yet refuses it with its acknowledgment.
        let is_bare_allowed = match stream.is_started() {
            // What is to come is known, so nothing but that number is right (RFC 5961 section 3).
            true => {
                let fin = u32::from(stream.has(Fact::Finished));
                let exact = [stream.next, stream.next.plus(fin), stream.acked];
                self.reorder.is_some() || exact.contains(&segment.seq)
            }
            false => peer.isn.is_none(),
        };
        let is_near =
            stream.is_started() || !stream.has(Fact::Acked) || stream.is_near_acked(segment.seq);
        let is_ack = segment
            .ack
            .map_or(is_bare_allowed, |ack| peer.may_be_acked(ack, self.passed_until(1 - own)));
        stream.may_be_sent(segment.seq, self.passed_until(own))
            && is_ack
            && is_near
            && !self.has_wrong_checksum(segment)
    }

    /// Whether a verdict about the connection may rest on what has passed up to `evidence`: of each
    /// direction that carried payload, the peer has acknowledged some, and of the one with the
    /// evidence, all of that. If only one direction was seen, it must be so much that nobody would
    /// forge it.
    pub fn is_proven(&self, evidence: Option<(Direction, SeqNumber)>) -> bool {
        let passed_bytes = |own: usize| {
            let stream = &self.streams[own];
            let joined_at = self.joined_at.get().filter(|_| self.bits.joined_by_index() == own);
            let begin = stream.isn.get().or(joined_at).unwrap_or(stream.next);
            (stream.is_started() && !stream.has(Fact::AtSyn)).then(|| stream.next.distance(begin))
        };
        let is_read = |own: usize| {
            let stream = &self.streams[own];
            let is_begin = |isn: SeqNumber| stream.acked == isn.plus(1);
            stream.has(Fact::Acked) && !stream.isn.get().is_some_and(is_begin)
        };
        let carries = [passed_bytes(0), passed_bytes(1)];
        let is_much = |own: usize| {
            let is_alone = carries[1 - own].is_none() && !self.streams[own].has(Fact::Acked);
            is_alone && carries[own].is_some_and(|bytes| bytes >= ONE_SIDED_BYTES_MIN)
        };
        let is_read_all = (0..2).all(|own| carries[own].is_none() || is_read(own))
            && evidence.is_none_or(|(direction, end)| self.is_read_until(direction, end));
        is_read_all || is_much(0) || is_much(1)
    }

    /// Counts `segment` as refused. If its numbers are the reason, it may show that the connection
    /// goes on elsewhere, after an outage of the capture.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        segment: &Segment<'_>,
        refusal: Refusal,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let payload_bytes = segment.payload.len() as u64;
        match refusal {
            Refusal::NoAcknowledgment => {
                context.stats.segments_without_ack += 1;
                context.stats.bytes_refused += payload_bytes;
            }
            Refusal::Checksum => {
                context.stats.checksums_wrong += 1;
                context.stats.bytes_refused += payload_bytes;
            }
            // What may belong to another handshake was offered to it before.
            Refusal::Numbers if self.handshake_rival().is_some() => {
                context.stats.refuse(segment.payload.len());
            }
            Refusal::Numbers => {
                if self.offer_to_rival(segment, context) == Ownership::Next {
                    self.anchor_anew(context, visit);
                }
            }
        }
    }

    /// Holds a segment that is not this connection's, as one of its rival. Returns
    /// [`Ownership::Next`] if the rival has won.
    #[cold]
    fn offer_to_rival(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
    ) -> Ownership {
        context.stats.refuse(segment.payload.len());
        let incumbent = self.incumbent();
        self.is_on_fast_path = false;
        let rival = &mut self.reorder.get_or_insert_with(|| context.pool.state()).rival;
        let pool = &mut context.pool.segments;
        match rival {
            Some(rival) if rival.fits(segment) => rival.hold(segment, pool),
            Some(rival) if rival.is_followed_by(segment, incumbent) => {
                context.stats.take_back_refusal(segment.payload.len());
                return Ownership::Next;
            }
            Some(rival) if !rival.may_be_replaced(segment) => return Ownership::Unclear,
            _ => {
                if let Some(before) = rival.take() {
                    context.stats.handshakes_refused += u64::from(before.is_handshake);
                    before.release(pool);
                }
                if Rival::has_room(pool) {
                    *rival = Some(Box::new(Rival::new(segment, pool)));
                }
            }
        }
        let Some(rival) = rival else { return Ownership::Unclear };
        if !rival.has_won(segment.timestamp, incumbent) {
            return Ownership::Unclear;
        }
        if rival.is_handshake {
            // It begins another flow, which takes this segment itself.
            rival.give_back_last(segment, pool);
            context.stats.take_back_refusal(segment.payload.len());
        }
        Ownership::Next
    }

    fn incumbent(&self) -> Incumbent {
        let next = [0, 1].map(|own: usize| {
            let stream = &self.streams[own];
            let fin = u32::from(stream.has(Fact::Finished));
            stream.has(Fact::Seen).then_some(stream.next.plus(fin))
        });
        let is_closing = |stream: &Stream| stream.has(Fact::Finished) || !stream.fin_at.is_none();
        let is_complete = self.streams.iter().all(|stream| !stream.isn.is_none());
        let has_talked =
            self.streams.iter().any(|stream| stream.is_started() && !stream.has(Fact::AtSyn));
        let is_closing = self.streams.iter().any(is_closing);
        Incumbent { next, is_opening: !is_complete && !has_talked, is_closing }
    }

    /// Whether this connection may have been a segment of a stranger, or some: it was joined late,
    /// and the other side has never taken part.
    fn may_be_strangers(&self) -> bool {
        self.is_joined_late() && !self.streams.iter().all(|stream| stream.has(Fact::Seen))
    }

    fn handshake_rival(&self) -> Option<&Rival> {
        let rival = self.reorder.as_ref()?.rival.as_deref()?;
        rival.is_handshake.then_some(rival)
    }

    fn take_rival(&mut self) -> Option<Rival> {
        Some(*self.reorder.as_mut()?.rival.take()?)
    }

    /// The segments of the connection that has replaced this one, if `segment` shows that it has,
    /// or that probably has. If this one ends by itself and `was_burst`, they may be the only ones
    /// of the endpoints. Gives their memory back.
    #[cold]
    pub(in crate::flow) fn take_next(
        &mut self,
        segment: Option<&Segment<'_>>,
        was_burst: bool,
        pool: &mut ReorderPool,
    ) -> Vec<HeldSegment> {
        let incumbent = self.incumbent();
        let may_be_strangers = segment.is_none() && was_burst && self.may_be_strangers();
        let Some(rival) = self.take_rival() else { return Vec::new() };
        let is_shown = segment.is_some_and(|segment| rival.fits(segment));
        let is_next = rival.is_handshake && is_shown
            || rival.is_likely_next(incumbent)
            || may_be_strangers && rival.is_agreed();
        let held = rival.release(&mut pool.segments);
        if is_next { held } else { Vec::new() }
    }

    /// Forgets the rival and data on a SYN, because memory is short or the connection ends.
    pub(super) fn drop_held(&mut self, context: &mut ReassemblyContext) {
        if let Some(rival) = self.take_rival() {
            context.stats.handshakes_refused += u64::from(rival.is_handshake);
            rival.release(&mut context.pool.segments);
        }
        self.drop_data_of_syn(context);
    }

    /// Forgets data on a SYN that nobody has acknowledged.
    pub(super) fn drop_data_of_syn(&mut self, context: &mut ReassemblyContext) {
        if let Some(data) = self.reorder.as_mut().and_then(|reorder| reorder.syn_data.take()) {
            context.pool.segments.used_bytes -= data.cost_bytes();
        }
    }

    /// What changes when a segment continues the connection.
    pub(super) fn progress(&self) -> [SeqNumber; 4] {
        let [forward, reverse] = &self.streams;
        [forward.next, forward.acked, reverse.next, reverse.acked]
    }

    /// The connection goes on as it was. What was held as another one is forged, or is now inside
    /// the windows.
    pub(super) fn refuse_rival(
        &mut self,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let is_closing = self.streams.iter().any(|stream| !stream.fin_at.is_none());
        if is_closing && self.handshake_rival().is_some() {
            // Late segments of the connection before are no surprise.
            return;
        }
        let Some(rival) = self.take_rival() else { return };
        let is_handshake = rival.is_handshake;
        context.stats.handshakes_refused += u64::from(is_handshake);
        let held = rival.release(&mut context.pool.segments);
        for held in held.iter().filter(|_| !is_handshake) {
            let segment = held.segment();
            if self.refusal(&segment).is_none() {
                context.stats.take_back_refusal(segment.payload.len());
                self.accept_slow_path(&segment, context, visit);
            }
        }
    }

    /// Both sides confirm other numbers: the connection continues there, after a gap.
    fn anchor_anew(
        &mut self,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let Some(rival) = self.take_rival() else { return };
        context.stats.anchors += 1;
        let now = TimestampNs(u64::MAX);
        while self.force(0, now, context, visit) || self.force(1, now, context, visit) {}
        if let Some(reorder) = &mut self.reorder {
            reorder.holes = [None; 2];
        }
        for direction in [Direction::Forward, Direction::Reverse] {
            let stream = &mut self.streams[direction.index()];
            match (rival.start(direction.index()), rival.ack(1 - direction.index())) {
                (Some(start), _) => stream.anchor(start, direction, &mut context.stats, visit),
                (None, Some(ack)) if !stream.is_started() => stream.acked = ack,
                _ => {}
            }
        }
        for held in rival.release(&mut context.pool.segments) {
            let segment = held.segment();
            if self.refusal(&segment).is_none() {
                context.stats.take_back_refusal(segment.payload.len());
                self.accept_slow_path(&segment, context, visit);
            }
        }
    }

    /// After several SYN-ACKs with different numbers, only the client knows which one it has
    /// received. It says so with its next acknowledgment.
    fn believe_client(&mut self, segment: &Segment<'_>, handshake: &mut Handshake) {
        let Some((ack, client)) = segment.ack.zip(handshake.client) else { return };
        let is_clients = segment.direction == client && !segment.flags.is_syn();
        let is_exact = self.streams[client.index()].next == segment.seq;
        if !is_clients || !is_exact {
            return;
        }
        let server = &mut self.streams[1 - client.index()];
        server.set(Fact::Disputed, false);
        if server.has(Fact::AtSyn) && !server.may_be_acked(ack, server.next) {
            server.begin_as_acknowledged(ack);
            handshake.server_isn = server.isn;
            handshake.syn_ack_at = PackedOption::NONE;
        }
    }

    /// A SYN may carry data, which the server may accept or not (RFC 7413). They wait until the
    /// server acknowledges them, or the client continues behind them.
    pub(super) fn hold_data_of_syn(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
    ) {
        let is_own = self.streams[segment.direction.index()].isn.get() == Some(segment.seq);
        let may_hold = is_own && HeldSegment::has_room(segment, &context.pool.segments);
        let held = HeldSegment::of_data(segment);
        context.stats.bytes_refused += segment.payload.len() as u64;
        let reorder = self.reorder_mut(&mut context.pool);
        if reorder.syn_data.is_none() && may_hold {
            context.pool.segments.used_bytes += held.cost_bytes();
            reorder.syn_data = Some(Box::new(held));
        }
    }

    /// Whether `segment` shows what became of the data on the SYN.
    pub(super) fn settle_data_of_syn(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) {
        let Some(reorder) = self.reorder.as_mut().filter(|_| segment.ack.is_some()) else { return };
        let Some(data) = &reorder.syn_data else { return };
        let data = data.segment();
        let (is_sender, end) = (data.direction == segment.direction, data.payload_end());
        if is_sender && segment.flags.is_syn() {
            return;
        }
        let read_until = if is_sender { Some(segment.seq) } else { segment.ack };
        let Some(data) = reorder.syn_data.take() else { return };
        context.pool.segments.used_bytes -= data.cost_bytes();
        if read_until.is_some_and(|until| !until.precedes(end)) {
            let data = data.segment();
            context.stats.bytes_readmitted += data.payload.len() as u64;
            self.take_payload(&data, context, visit);
        }
    }

    /// Learns from a SYN or SYN-ACK which windows its sender will advertise, and from both by how
    /// much they are scaled (RFC 7323 section 2.2: only if both have the option).
    pub(super) fn learn_scale(&mut self, segment: &Segment<'_>) {
        let own = segment.direction.index();
        let is_right = segment.is_checksum_known() && !segment.is_checksum_wrong();
        self.streams[own].set(Fact::Checksums, is_right);
        if self.streams[1 - own].scale.is_known() {
            return;
        }
        let [forward, reverse] = &mut self.streams;
        let peer = if own == 0 { &mut *reverse } else { &mut *forward };
        // The window in a SYN itself is not scaled.
        peer.window_bytes = segment.window.into();
        peer.scale = WindowScale::offered(segment.window_shift());
        WindowScale::agree([&mut forward.scale, &mut reverse.scale]);
    }
}
