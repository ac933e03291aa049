//! Missing parts of messages: heads that are longer than the part that is kept, bytes that were
//! lost, and bytes that the filter cut off.

use super::{Http1Connection, Spoken};
use crate::decode::SeqNumber;
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::http1::ParsedHead;
use crate::protocol::http1::body::BodyFraming;
use crate::protocol::http1::framer::{Missing, ParseState};
use crate::protocol::http1::head::{self, Head, Kind};
use crate::protocol::http1::long_head::{self, LongHead};
use crate::protocol::http1::missing_body;
use crate::protocol::{Context, Copied, first_bytes};
use crate::record::EventSink;
use crate::time::TimestampNs;

impl Http1Connection {
    /// The head is longer than the part that is kept. Reports the message with that part.
    pub(super) fn cut_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        meta: &SegmentMeta,
    ) {
        let expected = self.pairer.expected(direction);
        let framer = &mut self.framers[direction.index()];
        let (kept, first) = framer.take_partial();
        framer.state = ParseState::Search;
        if let Some(head) = long_head::parse_kept(&kept, expected) {
            cx.shared.stats.http1.heads_cut += 1;
            let (first, last) = (first.unwrap_or(*meta), meta.timestamp);
            let head = ParsedHead { head: &head, bytes: &kept, first: &first, last };
            self.message(cx, direction, &head);
            let pool = &mut cx.shared.recorder.pool;
            self.framers[direction.index()].resume_after(&kept, meta, pool);
        }
        cx.shared.recorder.pool.give_buffer_back(kept);
    }

    /// A response passes while the head of its request is still incomplete: servers refuse a head
    /// that is too long for them before it ends. Reports the part of the head that there is. The
    /// rest is only scanned.
    pub(super) fn cut_head_of_answered_request<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        server: Direction,
        answer: &SegmentMeta,
    ) {
        let client = server.opposite();
        let Some(first) = self.framers[client.index()].head_with_line() else { return };
        let had_read = answer.ack.is_some_and(|read_until| first.seq.precedes(read_until));
        if had_read && self.pairer.is_next_first() {
            self.cut_head(cx, client, &first);
        }
    }

    /// Scans the part of a head that is not kept.
    #[inline(never)]
    pub(super) fn long_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let is_request = self.pairer.client == Some(direction);
        let framer = &mut self.framers[direction.index()];
        let pool = &mut cx.shared.recorder.pool;
        let Some((used, rest)) = framer.find_end_of_long_head(data, is_request, pool) else {
            return data.len();
        };
        self.end_long_head(cx, direction, &rest, meta.timestamp);
        used
    }

    /// The empty line of a long head passed at `last`.
    fn end_long_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        rest: &LongHead,
        last: TimestampNs,
    ) {
        let (pairer, mut cx) = self.parts(cx, direction);
        let is_request = pairer.client == Some(direction);
        let framing = match rest.is_bodiless {
            true => Some(BodyFraming::None),
            false if is_request => BodyFraming::of_request(&rest.fields),
            false => BodyFraming::of_response(&rest.fields, Kind::Response { status: 200 }, None),
        };
        pairer.end_long_head(&mut cx, &rest.fields, framing, last);
    }

    /// Takes the loss of `len_bytes`.
    pub fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
    ) {
        let framer = &mut self.framers[direction.index()];
        let missing = framer.skip(len_bytes, at, &mut cx.shared.recorder.pool);
        if missing == Missing::Head {
            return self.gap_in_head(cx, direction, len_bytes, at);
        }
        if matches!(missing, Missing::Messages | Missing::Framing) {
            self.count_resync(cx);
        }
        let (pairer, mut http1) = self.parts(cx, direction);
        match missing {
            Missing::Ignored | Missing::Head => {}
            Missing::Unknown | Missing::Messages => pairer.charge_gap(&mut http1, len_bytes, at),
            Missing::Framing => {
                pairer.forget_body(&mut http1);
                pairer.charge_gap(&mut http1, len_bytes, at);
            }
            Missing::Body { is_done } => {
                pairer.count_gap_in_body(&mut http1, len_bytes);
                if is_done {
                    missing_body::end_body(pairer, &mut http1, None);
                }
            }
            Missing::BodyAndMore { inside_bytes } => {
                pairer.count_gap_in_body(&mut http1, inside_bytes);
                pairer.end_message(&mut http1, None);
                self.lose_messages(
                    cx,
                    direction,
                    len_bytes - inside_bytes,
                    at.plus(inside_bytes as u32),
                );
            }
        }
    }

    /// A head with a hole is reported with the part before the hole, if that has a complete start
    /// line.
    fn gap_in_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
    ) {
        if self.report_partial(cx, direction, false) {
            self.gap(cx, direction, len_bytes, at);
        } else {
            cx.shared.stats.http1.heads_unfinished += 1;
            self.lose_messages(cx, direction, len_bytes, at);
        }
    }

    /// Reports the message whose head is in progress with what there is of it, if its start line is
    /// complete. Returns whether it is. The head is no longer in progress.
    fn report_partial<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        is_unfinished: bool,
    ) -> bool {
        let expected = self.pairer.expected(direction);
        let framer = &mut self.framers[direction.index()];
        let (partial, first) = framer.take_partial();
        framer.state = ParseState::Search;
        let found = first.zip(head::parse_cut(&partial, expected));
        if let Some((first, head)) = &found {
            let (head, last) = (&Head { is_unfinished, ..*head }, first.timestamp);
            self.message(cx, direction, &ParsedHead { head, bytes: &partial, first, last });
        } else {
            framer.retransmitted_bytes = 0;
        }
        cx.shared.recorder.pool.give_buffer_back(partial);
        found.is_some()
    }

    /// Bytes were lost, and it is unknown where the next message begins and which one it is.
    fn lose_messages<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
    ) {
        self.framers[direction.index()].state = ParseState::Search;
        self.count_resync(cx);
        let (pairer, mut cx) = self.parts(cx, direction);
        pairer.charge_gap(&mut cx, len_bytes, at);
    }

    /// Takes `len_bytes` that passed but were cut off by the filter. The filter cuts only bodies
    /// that we announced to it or that it follows itself, so these bytes count like any bytes that
    /// begin no message. If no body is known here, its head was lost before.
    pub fn elided<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u32,
        meta: &SegmentMeta,
    ) {
        if self.spoken == Spoken::Nothing {
            // Other protocols are detected by bytes, and there are none.
            let _ = self.begin(cx, direction, None, meta);
        }
        match self.framers[direction.index()].state {
            ParseState::Off => {}
            ParseState::Start => {
                self.advance(cx, direction, len_bytes, meta);
                self.framers[direction.index()].state = ParseState::Search;
                if !self.refute(cx, direction, meta) {
                    self.count_resync(cx);
                }
                self.skip_bytes(cx, direction, len_bytes as usize, meta);
            }
            ParseState::Search => {
                self.advance(cx, direction, len_bytes, meta);
                if self.is_strange_answer(cx, direction, meta) {
                    self.withdraw(cx, direction, meta);
                }
                self.skip_bytes(cx, direction, len_bytes as usize, meta);
            }
            ParseState::Body(framing) => {
                self.elided_of_body(cx, direction, (framing, len_bytes), meta)
            }
            ParseState::Head { .. } | ParseState::LongHead(_) => {
                self.gap(cx, direction, len_bytes.into(), meta.seq);
            }
        }
    }

    /// Elided bytes of the open message's body. If they do not fit into it, something was lost.
    fn elided_of_body<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        (mut framing, len_bytes): (BodyFraming, u32),
        meta: &SegmentMeta,
    ) {
        let body_bytes = len_bytes.into();
        let Some(is_done) = framing.skip_inside(body_bytes) else {
            return self.gap(cx, direction, body_bytes, meta.seq);
        };
        self.advance(cx, direction, len_bytes, meta);
        let (pairer, mut cx) = self.parts(cx, direction);
        missing_body::update_may_be_missing(pairer, &mut cx, || false);
        cx.framer().state = ParseState::Body(framing);
        pairer.count_body(&mut cx, body_bytes, body_bytes, meta);
        pairer.pass_body_unread(&mut cx);
        if is_done {
            missing_body::end_body(pairer, &mut cx, Some(meta.timestamp));
        }
    }

    /// Takes another copy of bytes that passed before. If it contradicts the head of a message
    /// whose body is in progress, or of one that has ended HTTP on the connection, somebody has
    /// forged one of the two. What follows is not guessed: the next certain head is searched for.
    #[cold]
    pub fn copy<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Copied {
        if self.left_by.is_some_and(|head| head.differ_from(direction, bytes, meta)) {
            (self.left_by, self.other_by) = (None, None);
            self.pairer.has_switched = false;
            if self.spoken == Spoken::Other {
                self.spoken = Spoken::Unclear;
            }
            let pool = &mut cx.shared.recorder.pool;
            self.framers.iter_mut().for_each(|framer| framer.restart(ParseState::Search, pool));
            cx.shared.stats.http1.heads_contradicted += 1;
            self.count_resync(cx);
            return Copied::Differs;
        }
        let framer = &self.framers[direction.index()];
        let is_open = matches!(framer.state, ParseState::Body(_) | ParseState::LongHead(_));
        let (Some(id), true) = (self.pairer.open[direction.index()].id, is_open) else {
            return Copied::Same;
        };
        let is_request = self.pairer.is_client(direction);
        let exchange = cx.shared.recorder.pool.exchange(id);
        let head = (&exchange.message(is_request).text[..], framer.head_at);
        if !first_bytes::differs(head, (bytes, meta.seq)) {
            return Copied::Same;
        }
        exchange.is_conflict = true;
        cx.shared.stats.http1.heads_contradicted += 1;
        let pool = &mut cx.shared.recorder.pool;
        self.framers[direction.index()].restart(ParseState::Search, pool);
        self.count_resync(cx);
        let (pairer, mut http1) = self.parts(cx, direction);
        pairer.forget_body(&mut http1);
        Copied::Differs
    }

    /// Nothing more of a head comes in `direction`: reports what there is of it, if its start line
    /// is complete. Otherwise frees and counts it. What may still come does not begin a head.
    pub(super) fn end_partial_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
    ) {
        let framer = &mut self.framers[direction.index()];
        let pool = &mut cx.shared.recorder.pool;
        match framer.state {
            ParseState::Head { .. } => {}
            // It was reported before.
            ParseState::LongHead(_) => return framer.restart(ParseState::Search, pool),
            // The other direction may have ended HTTP in the meantime.
            state => return framer.restart(state, pool),
        }
        if !self.report_partial(cx, direction, true) {
            let is_counted = self.spoken == Spoken::Http1;
            cx.shared.stats.http1.heads_unfinished += u64::from(is_counted);
        }
        self.framers[direction.index()].state = ParseState::Search;
    }
}
