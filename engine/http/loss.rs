//! What of a message is missing: heads that are longer than what is kept, and bytes that passed
//! unseen.

use super::Listener;
use super::body::{BodyFraming, Skipped};
use super::conversation::{Arrived, Conversation, Phase, Protocol, Room, Wire};
use super::exchange::message_of;
use super::head::{self, Expected};
use crate::decode::SeqNumber;
use crate::flow::Origin;
use crate::ids::Direction;
use crate::time::TimestampNs;

/// The rest of a head that is not kept, up to its empty line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LongHead {
    /// Nothing but CR stands in the line so far.
    is_line_empty: bool,
    /// How the body is framed, by the fields that were kept.
    framing: Option<BodyFraming>,
}

impl Conversation {
    /// The head is longer than what is kept: the message is reported with what there is.
    pub(super) fn cut_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        origin: Origin,
        room: &mut Room<L>,
    ) {
        let expected = self.expected(direction);
        let half = &mut self.halves[direction.index()];
        let partial = std::mem::take(&mut half.partial);
        let first = half.partial_origin.take().unwrap_or(origin);
        let is_line_empty = partial.ends_with(b"\n") || partial.ends_with(b"\n\r");
        half.phase = Phase::Search;
        let head = head::parse_cut(&partial, expected).or_else(|| {
            (expected != Expected::Response).then(|| head::parse_cut_request_line(&partial))?
        });
        if let Some(head) = head {
            room.stats.heads_cut += 1;
            let last = origin.timestamp;
            let arrived = Arrived { head: &head, bytes: &partial, first, last };
            self.message(wire, direction, &arrived, room);
            if let Phase::LongHead(rest) = &mut self.halves[direction.index()].phase {
                rest.is_line_empty = is_line_empty;
            }
        }
        room.pool.give_buffer_back(partial);
    }

    /// The part of a head that is not kept.
    pub(super) fn long_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        mut state: LongHead,
        data: &[u8],
        origin: Origin,
        room: &mut Room<L>,
    ) -> usize {
        for (index, byte) in data.iter().enumerate() {
            match byte {
                b'\n' if state.is_line_empty => {
                    self.end_long_head(wire, direction, state.framing, origin.timestamp, room);
                    return index + 1;
                }
                b'\n' => state.is_line_empty = true,
                b'\r' => {}
                _ => state.is_line_empty = false,
            }
        }
        self.halves[direction.index()].phase = Phase::LongHead(state);
        data.len()
    }

    /// The empty line of a long head passed at `last`.
    fn end_long_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        framing: Option<BodyFraming>,
        last: TimestampNs,
        room: &mut Room<L>,
    ) {
        let half = &mut self.halves[direction.index()];
        half.last_at = Some(last);
        half.is_body_sure = false;
        half.may_be_absent = half.open.is_some_and(|id| !room.pool.exchange(id).request.is_seen);
        half.phase = framing.map_or(Phase::Search, Phase::Body);
        if framing == Some(BodyFraming::None) {
            self.end_message(wire, direction, Some(last), room);
        } else if let Some(id) = half.open {
            message_of(room.pool.exchange(id), self.client == Some(direction)).last = Some(last);
        }
    }

    /// Behind the part of a head that there is: its message stays open until the rest has passed.
    /// Fields that say where the body ends may stand there; only those that were seen count.
    pub(super) fn begin_rest_of_head<L>(
        &mut self,
        direction: Direction,
        framing: Option<BodyFraming>,
        room: &mut Room<L>,
    ) {
        let framing = framing.filter(|framing| *framing != BodyFraming::UntilClose);
        let rest = LongHead { is_line_empty: false, framing };
        self.halves[direction.index()].phase = Phase::LongHead(rest);
        if framing.is_none() {
            self.forget_body(direction, room);
        }
    }

    /// Nobody can tell how long the body of the open message is.
    pub(super) fn forget_body<L>(&mut self, direction: Direction, room: &mut Room<L>) {
        if let Some(id) = self.halves[direction.index()].open {
            message_of(room.pool.exchange(id), self.client == Some(direction)).body_bytes = None;
        }
    }

    /// Bytes that passed unseen.
    pub(super) fn gap<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        let half = &mut self.halves[direction.index()];
        half.seen_until.get_or_insert(at);
        half.passed_until = Some(at.plus(len_bytes as u32));
        match half.phase {
            Phase::Off => {}
            Phase::Start => self.lose_place(wire, direction, len_bytes, at, room),
            Phase::Head { .. } => self.gap_in_head(wire, direction, len_bytes, at, room),
            Phase::Search => self.charge_gap(wire, direction, len_bytes, at, room),
            Phase::LongHead(rest) => {
                let is_bodiless = rest.framing == Some(BodyFraming::None);
                if !is_bodiless || self.client == Some(direction) {
                    self.forget_body(direction, room);
                }
                self.lose_place(wire, direction, len_bytes, at, room);
            }
            Phase::Body(mut framing) => {
                let skipped = framing.skip(len_bytes);
                half.phase = Phase::Body(framing);
                half.last_at = None;
                match skipped {
                    Skipped::Inside { is_done } => {
                        self.count_gap_in_body(direction, len_bytes, room);
                        if is_done {
                            self.end_body(wire, direction, None, room);
                        }
                    }
                    Skipped::Beyond { inside_bytes } => {
                        self.count_gap_in_body(direction, inside_bytes, room);
                        self.end_message(wire, direction, None, room);
                        let rest = len_bytes - inside_bytes;
                        self.lose_place(wire, direction, rest, at.plus(inside_bytes as u32), room);
                    }
                    Skipped::Lost => {
                        self.forget_body(direction, room);
                        self.lose_place(wire, direction, len_bytes, at, room);
                    }
                }
            }
        }
    }

    fn count_gap_in_body<L>(&mut self, direction: Direction, len_bytes: u64, room: &mut Room<L>) {
        let Some(id) = self.halves[direction.index()].open else { return };
        let exchange = room.pool.exchange(id);
        exchange.gap_bytes += len_bytes;
        let message = message_of(exchange, self.client == Some(direction));
        if let Some(body_bytes) = &mut message.body_bytes {
            *body_bytes += len_bytes;
        }
    }

    /// A head with a hole is reported with what came before the hole, if that has a whole start
    /// line.
    fn gap_in_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        let expected = self.expected(direction);
        let half = &mut self.halves[direction.index()];
        let partial = std::mem::take(&mut half.partial);
        let origin = half.partial_origin.take();
        half.phase = Phase::Search;
        if let (Some(origin), Some(head)) = (origin, head::parse_cut(&partial, expected)) {
            let last = origin.timestamp;
            let arrived = Arrived { head: &head, bytes: &partial, first: origin, last };
            self.message(wire, direction, &arrived, room);
            self.gap(wire, direction, len_bytes, at, room);
        } else {
            room.stats.heads_unfinished += 1;
            self.lose_place(wire, direction, len_bytes, at, room);
        }
        room.pool.give_buffer_back(partial);
    }

    /// Nothing tells which message comes next, and where.
    fn lose_place<L>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
        room: &mut Room<L>,
    ) {
        self.halves[direction.index()].phase = Phase::Search;
        if self.protocol == Protocol::Http1 {
            room.stats.resyncs += 1;
        }
        self.charge_gap(wire, direction, len_bytes, at, room);
    }
}
