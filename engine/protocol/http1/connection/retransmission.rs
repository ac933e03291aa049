//! Bytes that passed more than once: which exchange they belong to. Exchanges are told of bytes of
//! their own messages only, by sequence number, and only of those whose message is certain. Nothing
//! here is needed while every byte passes once.

use super::{Http1Connection, Spoken};
use crate::decode::SeqNumber;
use crate::flow::{self, Copies, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::http1::body::{BodyFraming, Progress};
use crate::protocol::http1::framer::ParseState;
use crate::protocol::http1::head::{self, Expected, Head, Parsed};
use crate::protocol::http1::pairer::Pairer;
use crate::protocol::http1::{Http1Context, missing_body};
use crate::protocol::pool::{Entry, ExchangeId};
use crate::protocol::{Context, Step};
use crate::record::EventSink;
use std::ops::Range;

/// A copy that is this far behind is not looked for: sequence numbers are ambiguous in messages of
/// gigabytes.
const BEHIND_BYTES_MAX: u32 = 1 << 28;

impl Http1Connection {
    /// Takes the next bytes of a direction, of which `copies` passed again while they waited. Their
    /// exchange may end with them, so they are counted before each piece.
    #[cold]
    pub fn bytes_with_copies<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        (data, copies): (&[u8], &Copies),
        meta: &SegmentMeta,
    ) -> Step {
        if self.spoken != Spoken::Http1
            && self.begin(cx, direction, Some(data), meta) == Step::HandOver
        {
            return Step::HandOver;
        }
        self.advance(cx, direction, data.len() as u32, meta);
        let mut done = 0;
        while done < data.len() {
            let is_frame_start = meta.is_frame_start && done == 0;
            let meta = SegmentMeta { seq: meta.seq.plus(done as u32), is_frame_start, ..*meta };
            let rest = &data[done..];
            let own_bytes = self.own_bytes(cx, direction, rest, &meta) as u32;
            self.charge_next(cx, direction, copies.bytes_in(meta.seq..meta.seq.plus(own_bytes)));
            done += self.piece(cx, direction, rest, &meta);
            let framer = &mut self.framers[direction.index()];
            if !matches!(framer.state, ParseState::Head { .. }) {
                framer.retransmitted_bytes = 0;
            }
        }
        if self.successor.is_some() { Step::HandOver } else { Step::Done }
    }

    /// How many of the next bytes belong to the message that is in progress or begins with them. 0
    /// if that is not known.
    fn own_bytes<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let is_request = self.pairer.is_client(direction);
        let (pairer, mut http1) = self.parts(cx, direction);
        let state = http1.framer().state;
        match state {
            ParseState::Off | ParseState::Search => 0,
            ParseState::Start => head::end_of_head(data, 0).unwrap_or(data.len()),
            ParseState::Head { .. } => {
                let partial = &http1.framer().partial;
                let mut text = partial[partial.len().saturating_sub(3)..].to_vec();
                let known = text.len();
                text.extend_from_slice(data);
                head::end_of_head(&text, known).map_or(data.len(), |end| end - known)
            }
            ParseState::LongHead(mut rest) => {
                let mut partial = http1.pool().take_buffer();
                let known = std::mem::take(&mut http1.framer().partial);
                http1.pool().extend(&mut partial, &known);
                http1.framer().partial = known;
                let end = rest.find_end(data, is_request, &mut partial, http1.pool());
                http1.pool().give_buffer_back(partial);
                end.unwrap_or(data.len())
            }
            ParseState::Body(_) if missing_body::is_absent(pairer, &mut http1, data, meta) => 0,
            ParseState::Body(mut framing) => {
                let fed = framing.feed(data);
                if fed.progress == Progress::Broken { 0 } else { fed.used }
            }
        }
    }

    /// Bytes of the message in progress, or of the one that begins next, passed again.
    fn charge_next<S>(&mut self, cx: &mut Context<'_, S>, direction: Direction, len_bytes: u64) {
        let framer = &mut self.framers[direction.index()];
        match framer.state {
            ParseState::Start | ParseState::Head { .. } => {
                framer.retransmitted_bytes =
                    framer.retransmitted_bytes.saturating_add(len_bytes as u32);
            }
            ParseState::Body(_) | ParseState::LongHead(_) => {
                if let Some(id) = self.pairer.open[direction.index()].id {
                    cx.shared.recorder.pool.exchange(id).retransmitted_bytes += len_bytes;
                }
            }
            ParseState::Search | ParseState::Off => {}
        }
    }

    /// The part `copy` of a direction passed once more.
    #[cold]
    pub fn retransmitted<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        copy: &Range<SeqNumber>,
    ) {
        let framer = &mut self.framers[direction.index()];
        let Some(passed_until) = framer.passed_until else { return };
        let head = framer.partial_meta.filter(|_| matches!(framer.state, ParseState::Head { .. }));
        // Where complete messages end.
        let end = head.map_or(passed_until, |first| first.seq);
        framer.retransmitted_bytes =
            framer.retransmitted_bytes.saturating_add(common_bytes(copy, &(end..passed_until)));
        if self.pairer.is_client(direction) {
            self.charge_requests(cx, direction, copy, end);
        } else {
            self.charge_response(cx, direction, copy, end);
        }
    }

    /// Charges the parts of `copy` to the requests that they belong to. Complete messages end
    /// before `end`.
    fn charge_requests<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        copy: &Range<SeqNumber>,
        end: SeqNumber,
    ) {
        let state = self.framers[direction.index()].state;
        let open = self.pairer.open[direction.index()].id;
        let mut waiting = self.pairer.pending.first();
        while let Some(id) = waiting {
            let pool = &mut cx.shared.recorder.pool;
            waiting = pool.entry(id).next;
            let next =
                waiting.map(|id| pool.entry(id)).map(|next| (next.start, next.is_after_loss));
            let entry = pool.entry(id);
            // Where it ends at the latest, if nothing unknown came behind it.
            let until = match next {
                Some((start, is_after_loss)) => (!is_after_loss).then_some(start),
                None => (state != ParseState::Search).then_some(end),
            };
            let end = match open == Some(id) {
                true => open_end(state, end),
                false => ended_end(entry, true, entry.start, until),
            };
            let end = end.unwrap_or(head_end(entry, true, entry.start));
            charge(entry, true, copy, (entry.start, end, rest_bytes(state, open == Some(id))));
        }
    }

    /// The same for the response in progress, and its interim responses.
    fn charge_response<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        copy: &Range<SeqNumber>,
        end: SeqNumber,
    ) {
        let Http1Connection { framers, pairer, .. } = self;
        let (framer, open) = (&framers[direction.index()], pairer.open[direction.index()].id);
        let Some(id) = open.or(pairer.pending.first()) else { return };
        let entry = cx.shared.recorder.pool.entry(id);
        let exchange = &entry.exchange;
        let start = match exchange.interim.is_empty() {
            true => framer.head_at,
            false => entry.interim_at,
        };
        let until = (framer.state != ParseState::Search).then_some(end);
        let end = match (exchange.response.is_seen, open) {
            (true, Some(_)) => open_end(framer.state, end),
            (true, None) => ended_end(entry, false, framer.head_at, until),
            // Nothing but interim responses so far.
            (false, _) => until.filter(|_| !exchange.interim.is_empty()),
        };
        let head_at = if exchange.response.is_seen { framer.head_at } else { start };
        let end = end.unwrap_or(head_end(entry, false, head_at));
        charge(entry, false, copy, (start, end, rest_bytes(framer.state, open.is_some())));
    }
}

impl Pairer {
    /// Charges what passed again of a head, before it was complete, to its exchange.
    #[inline(always)]
    pub(in crate::protocol::http1) fn charge_retransmitted_head<S>(
        &self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
    ) {
        #[cold]
        fn charge<S>(cx: &mut Http1Context<'_, S>, id: ExchangeId) {
            let len_bytes = std::mem::take(&mut cx.framer().retransmitted_bytes);
            cx.pool().exchange(id).retransmitted_bytes += u64::from(len_bytes);
        }
        if cx.framer().retransmitted_bytes > 0 {
            charge(cx, id);
        }
    }

    /// The exchange at `id` has an interim response at `at`. Charges what passed again of its head.
    pub(in crate::protocol::http1) fn begin_interim<'a, S>(
        &self,
        cx: &'a mut Http1Context<'_, S>,
        id: ExchangeId,
        at: SeqNumber,
    ) -> &'a mut Entry {
        self.charge_retransmitted_head(cx, id);
        let entry = cx.pool().entry(id);
        if entry.exchange.interim.is_empty() {
            entry.interim_at = at;
        }
        entry
    }
}

/// Where an open message ends so far: at `end`, if everything since its head belongs to it. `None`
/// if that is not known.
fn open_end(state: ParseState, end: SeqNumber) -> Option<SeqNumber> {
    matches!(state, ParseState::Body(_) | ParseState::LongHead(_)).then_some(end)
}

/// How many bytes are to follow, if it is the message in progress.
fn rest_bytes(state: ParseState, is_open: bool) -> u32 {
    match state {
        ParseState::Body(framing) if is_open => {
            framing.rest_bytes().min(BEHIND_BYTES_MAX.into()) as u32
        }
        _ => 0,
    }
}

/// Where the kept part of a message's head ends. If the end of the message is not known, what is
/// behind that belongs to no message for certain.
fn head_end(entry: &Entry, is_request: bool, head_at: SeqNumber) -> SeqNumber {
    head_at.plus(entry.exchange.message(is_request).text.len() as u32)
}

/// Where a message ends that has ended, whose head is at `head_at`. Its length tells that, except
/// for chunks and for a head that was not kept whole: then it ends where the next one begins.
fn ended_end(
    entry: &Entry,
    is_request: bool,
    head_at: SeqNumber,
    until: Option<SeqNumber>,
) -> Option<SeqNumber> {
    let message = entry.exchange.message(is_request);
    let (mut head, expected) = match is_request {
        true => (Head::BLANK, Expected::Request),
        false => (Head::BLANK, Expected::Response),
    };
    if head::parse(&message.text, expected, &mut head) != Parsed::Complete {
        return until;
    }
    if matches!(BodyFraming::of_request(&head.framing), Some(BodyFraming::Chunked(_))) {
        return until;
    }
    let body_bytes = message.body_bytes.unwrap_or(0);
    Some(head_end(entry, is_request, head_at).plus(body_bytes as u32))
}

/// Charges what `copy` has in common with a message of the exchange, which has passed from `start`
/// to `end` and of which `rest_bytes` follow.
fn charge(
    entry: &mut Entry,
    is_request: bool,
    copy: &Range<SeqNumber>,
    (start, end, rest_bytes): (SeqNumber, SeqNumber, u32),
) {
    let message = entry.exchange.message(is_request);
    let is_long = message.body_bytes.is_some_and(|bytes| bytes >= BEHIND_BYTES_MAX.into());
    let start = if is_long { SeqNumber(end.0.wrapping_sub(BEHIND_BYTES_MAX)) } else { start };
    let charged_bytes = common_bytes(copy, &(start..end.plus(rest_bytes)));
    entry.exchange.retransmitted_bytes += u64::from(charged_bytes);
}

fn common_bytes(one: &Range<SeqNumber>, other: &Range<SeqNumber>) -> u32 {
    flow::overlap(one, other).map_or(0, |part| part.end.0.wrapping_sub(part.start.0))
}
