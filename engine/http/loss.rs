//! What of a message is missing: heads that are longer than what is kept, bytes that passed unseen,
//! and bytes in which no message is found.

use super::Listener;
use super::body::{BodyFraming, Skipped};
use super::conversation::{Arrived, Conversation, Phase, Protocol, Room, Wire};
use super::exchange::message_of;
use super::head::{self, Expected, FramingFields, Kind};
use super::places::Cause;
use crate::decode::SeqNumber;
use crate::flow::Origin;
use crate::ids::Direction;
use crate::time::TimestampNs;
use memchr::memrchr;

/// Of a field behind the part of a head that is kept, so much is looked at: those that tell where
/// a body ends are shorter.
const REST_FIELD_BYTES_MAX: usize = 256;

/// The rest of a head that is not kept, up to its empty line. Its fields are read for what they say
/// of the body; the one that is not whole yet begins in the direction's `partial`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LongHead {
    /// What the fields say so far.
    fields: FramingFields,
    /// It is a response without body, whatever they say.
    is_bodiless: bool,
    /// Nothing but CR stands in the line so far.
    is_line_empty: bool,
}

impl Conversation {
    /// The head is longer than what is kept: the message is reported with what there is.
    pub(super) fn cut_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        origin: &Origin,
        room: &mut Room<L>,
    ) {
        let expected = self.expected(direction);
        let half = &mut self.halves[direction.index()];
        let partial = std::mem::take(&mut half.partial);
        let first = half.partial_origin.take().unwrap_or(*origin);
        half.phase = Phase::Search;
        let head = head::parse_cut(&partial, expected).or_else(|| {
            (expected != Expected::Response).then(|| head::parse_cut_request_line(&partial))?
        });
        if let Some(mut head) = head {
            let field = last_field(&partial);
            // The one that is not whole counts once it is: it may be folded.
            let known = head::parse_cut(&partial[..partial.len() - field.len()], expected);
            head.framing = known.map_or(FramingFields::NONE, |head| head.framing);
            room.stats.heads_cut += 1;
            let last = origin.timestamp;
            let arrived = Arrived { head: &head, bytes: &partial, first: &first, last };
            self.message(wire, direction, &arrived, room);
            let half = &mut self.halves[direction.index()];
            if let Phase::LongHead(rest) = &mut half.phase {
                rest.is_line_empty = partial.ends_with(b"\n") || partial.ends_with(b"\n\r");
                half.partial_origin = Some(*origin);
                let kept = &field[..field.len().min(REST_FIELD_BYTES_MAX)];
                room.pool.extend(&mut half.partial, kept);
            }
        }
        room.pool.give_buffer_back(partial);
    }

    /// An answer passes to a request whose head is under way: servers refuse heads that are too
    /// long for them before they end. What there is of the head is reported, and the rest read
    /// over.
    pub(super) fn cut_answered_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        server: Direction,
        answer: &Origin,
        room: &mut Room<L>,
    ) {
        let half = &self.halves[server.opposite().index()];
        let Some(first) = half.partial_origin else { return };
        let had_read = answer.ack.is_some_and(|read_until| first.seq.precedes(read_until));
        let is_next = self.pending.is_empty() && self.pending.is_in_order();
        if half.phase == (Phase::Head { has_line: true }) && had_read && is_next {
            self.cut_head(wire, server.opposite(), &first, room);
        }
    }

    /// The part of a head that is not kept.
    #[inline(never)]
    pub(super) fn long_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        mut state: LongHead,
        data: &[u8],
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        let is_request = self.client == Some(direction);
        let half = &mut self.halves[direction.index()];
        for (index, byte) in data.iter().enumerate() {
            let is_blank = matches!(byte, b' ' | b'\t');
            if state.is_line_empty && !is_blank && *byte != b'\r' {
                // That was no fold: the field before is whole.
                head::note_framing(&half.partial, is_request, &mut state.fields);
                half.partial.clear();
            }
            match byte {
                b'\n' if state.is_line_empty => {
                    self.end_long_head(wire, direction, state, origin.timestamp, room);
                    return index + 1;
                }
                b'\n' => state.is_line_empty = true,
                b'\r' => {}
                _ => state.is_line_empty = false,
            }
            if half.partial.len() < REST_FIELD_BYTES_MAX {
                room.pool.extend(&mut half.partial, &[*byte]);
            }
        }
        half.phase = Phase::LongHead(state);
        data.len()
    }

    /// The empty line of a long head passed at `last`.
    fn end_long_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        rest: LongHead,
        last: TimestampNs,
        room: &mut Room<L>,
    ) {
        self.drop_rest_of_head(direction, room);
        let is_request = self.client == Some(direction);
        let framing = match rest.is_bodiless {
            true => Some(BodyFraming::None),
            false if is_request => BodyFraming::of_request(&rest.fields),
            false => BodyFraming::of_response(&rest.fields, Kind::Response { status: 200 }, None),
        };
        let half = &mut self.halves[direction.index()];
        half.last_at = Some(last);
        half.is_body_sure = false;
        if let Some(id) = half.open {
            let entry = room.pool.entry(id);
            half.may_be_absent = !entry.exchange.request.is_seen;
            entry.is_body_withheld |=
                is_request && rest.fields.expects_continue && framing != Some(BodyFraming::None);
            entry.exchange.is_conflict |= rest.fields.is_conflict();
            let message = message_of(&mut entry.exchange, is_request);
            message.last = Some(last);
            message.body_bytes = Some(0);
        }
        self.enter_body(wire, direction, framing, last, room);
    }

    /// Gives the memory of unfinished heads back and counts them. What may still come of one is no
    /// beginning of a head.
    pub(super) fn drop_partial_heads<L>(&mut self, room: &mut Room<L>) {
        for half in &mut self.halves {
            if half.partial_origin.take().is_some() {
                let is_told = matches!(half.phase, Phase::LongHead(_));
                let is_http = self.protocol == Protocol::Http1;
                room.stats.heads_unfinished += u64::from(is_http && !is_told);
                half.phase = Phase::Search;
                room.pool.give_buffer_back(std::mem::take(&mut half.partial));
            }
        }
    }

    /// Gives the memory back that the rest of a long head took.
    fn drop_rest_of_head<L>(&mut self, direction: Direction, room: &mut Room<L>) {
        let half = &mut self.halves[direction.index()];
        half.partial_origin = None;
        room.pool.give_buffer_back(std::mem::take(&mut half.partial));
    }

    /// Behind the part of a head that there is: its message stays open until the rest has passed.
    /// Until then nobody can tell of a body, unless there can be none.
    pub(super) fn begin_rest_of_head<L>(
        &mut self,
        direction: Direction,
        fields: FramingFields,
        framing: Option<BodyFraming>,
        room: &mut Room<L>,
    ) {
        let is_request = self.client == Some(direction);
        let is_bodiless = framing == Some(BodyFraming::None) && !is_request;
        let rest = LongHead { fields, is_bodiless, is_line_empty: false };
        self.halves[direction.index()].phase = Phase::LongHead(rest);
        if !is_bodiless {
            self.forget_body(direction, room);
        }
    }

    /// Nobody can tell how long the body of the open message is.
    pub(super) fn forget_body<L>(&mut self, direction: Direction, room: &mut Room<L>) {
        if let Some(id) = self.halves[direction.index()].open {
            message_of(room.pool.exchange(id), self.client == Some(direction)).body_bytes = None;
        }
    }

    /// In search of a head: only the start of a frame may be one.
    #[inline(never)]
    pub(super) fn search<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        data: &[u8],
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        let empty = head::empty_lines(data);
        let is_head =
            origin.is_frame_start && head::is_certain(&data[empty..], self.expected(direction));
        if !is_head {
            return self.pass_over(wire, direction, data.len(), origin, room);
        }
        self.end_message(wire, direction, None, room);
        0
    }

    /// What should be a head is none. So many bytes are passed over.
    #[inline(never)]
    pub(super) fn not_a_head<L>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: usize,
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        let half = &mut self.halves[direction.index()];
        half.partial_origin = None;
        room.pool.give_buffer_back(std::mem::take(&mut half.partial));
        half.phase = Phase::Search;
        if self.protocol == Protocol::Http1 {
            room.stats.resyncs += 1;
        }
        self.pass_over(wire, direction, len_bytes, origin, room)
    }

    /// Passes over so many bytes. There may have been messages in them, that did not begin where a
    /// frame did.
    pub(super) fn pass_over<L>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: usize,
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        if self.protocol == Protocol::Http1 {
            room.stats.bytes_skipped += len_bytes as u64;
        }
        let until = origin.seq.plus(len_bytes as u32);
        self.lose_messages(wire, direction, until, Cause::NotUnderstood);
        len_bytes
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
            Phase::LongHead(_) => {
                self.drop_rest_of_head(direction, room);
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
            let arrived = Arrived { head: &head, bytes: &partial, first: &origin, last };
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

/// The last field of what there is of a head, with the lines that it is folded over; its end may be
/// missing.
fn last_field(bytes: &[u8]) -> &[u8] {
    let mut start = bytes.len();
    loop {
        // A line that is empty so far belongs to the one before it: that may be folded.
        let behind = start.saturating_sub(1);
        start = memrchr(b'\n', &bytes[..behind]).map_or(0, |at| at + 1);
        if start == 0 || !matches!(bytes[start], b' ' | b'\t' | b'\r') {
            return &bytes[start..];
        }
    }
}
