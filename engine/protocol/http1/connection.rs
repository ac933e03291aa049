//! [`Http1Connection`]: the messages on one connection. Passes what the two framers report to the
//! pairer, and the framing that the pairer chooses for a body back to the framer.

use super::body::{BodyFraming, Progress};
use super::framer::{Found, Framer, ParseState};
use super::head::{self, Expected, Head, Kind};
use super::loss_pairing::Cause;
use super::missing_body;
use super::pairer::{Pairer, Reading};
use super::{Http1Context, ParsedHead};
use crate::flow::{self, End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::first_bytes::FirstBytes;
use crate::protocol::{Context, Elidable, HandOver, Interest, Kind as ProtocolKind, Shared, Step};
use crate::record::{EventSink, Exchange};
use crate::time::TimestampNs;

mod guess;
mod leaving;
mod missing;
mod retransmission;

/// Bytes without a message, both directions together, after which no message is expected any more.
/// More than precedes HTTP on some connections: SOCKS takes some tens of bytes, the PROXY protocol
/// some hundreds.
const UNCLEAR_BYTES_MAX: u64 = 4096;

/// The first line of the preface of HTTP/2, for a connection whose handshake was not captured.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What the connection has carried so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Spoken {
    /// No payload yet.
    #[default]
    Nothing,
    /// Payload, but no message in it yet.
    Unclear,
    /// Another protocol, which may carry messages of HTTP.
    Other,
    /// HTTP/1.
    Http1,
}

/// A connection with unfinished work.
#[derive(Debug, Default)]
pub(crate) struct Http1Connection {
    pub(super) framers: [Framer; 2],
    pub(super) pairer: Pairer,
    pub(super) spoken: Spoken,
    /// Bytes that passed before the first message was found.
    pub(super) unclear_bytes: u64,
    /// The head that switched the connection to another protocol, or the line that shows that it
    /// speaks one.
    pub(super) left_by: Option<FirstBytes>,
    /// Who sent the last start line of another protocol, on a connection that was joined late. It
    /// may have been text, unless the other side sends one as well.
    pub(super) other_by: Option<Direction>,
    /// Set if the connection turned out to speak another protocol.
    pub(super) successor: Option<Box<HandOver>>,
}

impl Http1Connection {
    /// The pairer, and the context it needs to process input of `direction`.
    #[inline(always)]
    fn parts<'a, S>(
        &'a mut self,
        cx: &'a mut Context<'_, S>,
        direction: Direction,
    ) -> (&'a mut Pairer, Http1Context<'a, S>) {
        let (flow, shared, framers) = (cx.flow, &mut *cx.shared, &mut self.framers);
        (&mut self.pairer, Http1Context { flow, shared, framers, direction })
    }

    /// Takes the next bytes of a direction.
    #[inline]
    pub fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        if self.spoken != Spoken::Http1
            && self.begin(cx, direction, Some(data), meta) == Step::HandOver
        {
            return Step::HandOver;
        }
        self.advance(cx, direction, data.len() as u32, meta);
        if data.is_empty() {
            return Step::Done;
        }
        let used = self.piece(cx, direction, data, meta);
        if used < data.len() {
            self.more_pieces(cx, direction, (data, used), meta);
        }
        if self.successor.is_some() { Step::HandOver } else { Step::Done }
    }

    /// What follows is not HTTP/1.
    fn leave(&mut self) {
        self.framers.iter_mut().for_each(|framer| framer.state = ParseState::Off);
    }

    /// The protocol that takes over, after [`Step::HandOver`].
    pub fn take_successor(&mut self) -> Option<Box<HandOver>> {
        self.successor.take()
    }

    /// Records that `len_bytes` of a direction passed and were not lost.
    #[inline(always)]
    fn advance<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u32,
        meta: &SegmentMeta,
    ) {
        if self.framers[direction.index()].seen_until.is_none() {
            let (pairer, mut cx) = self.parts(cx, direction);
            pairer.charge_unseen_beginning(&mut cx, meta.seq);
        }
        if self.spoken == Spoken::Unclear {
            self.unclear_bytes += u64::from(len_bytes);
        }
        self.pairer.note_response_bytes(cx.flow, direction, meta);
        let until = Some(meta.seq.plus(len_bytes));
        let framer = &mut self.framers[direction.index()];
        (framer.seen_until, framer.passed_until) = (until, until);
    }

    /// Takes the rest of a chunk, after its first `done` bytes. In a function of its own, because
    /// nearly every chunk is a single piece and needs no loop.
    #[inline(never)]
    fn more_pieces<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        (data, mut done): (&[u8], usize),
        from: &SegmentMeta,
    ) {
        while done < data.len() {
            let is_frame_start = from.is_frame_start && done == 0;
            let meta = SegmentMeta { seq: from.seq.plus(done as u32), is_frame_start, ..*from };
            done += self.piece(cx, direction, &data[done..], &meta);
        }
    }

    /// Takes the first part of `data` and returns its length. This is 0 if only the state changed.
    #[inline(always)]
    fn piece<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        match self.framers[direction.index()].state {
            ParseState::Start => self.head(cx, direction, data, meta),
            ParseState::Head { .. } => self.more_head(cx, direction, data, meta),
            ParseState::Body(_) => self.body(cx, direction, data, meta),
            ParseState::LongHead(_) => self.long_head(cx, direction, data, meta),
            ParseState::Search => self.search(cx, direction, data, meta),
            ParseState::Off => data.len(),
        }
    }

    /// Between messages.
    #[inline]
    fn head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let expected = self.pairer.expected(direction);
        let framer = &mut self.framers[direction.index()];
        let (limits, pool) = (&cx.shared.limits, &mut cx.shared.recorder.pool);
        let mut head = Head::BLANK;
        let found = framer.find_head((data, meta), expected, limits, pool, &mut head);
        if found == Found::Head {
            let bytes = &data[..head.len_bytes];
            let last = meta.timestamp;
            self.message(cx, direction, &ParsedHead { head: &head, bytes, first: meta, last });
            return head.len_bytes;
        }
        self.uncommon_head(cx, direction, (data, meta), found, &head)
    }

    /// Inside a head that arrives in pieces.
    #[inline(never)]
    fn more_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let expected = self.pairer.expected(direction);
        let framer = &mut self.framers[direction.index()];
        let (limits, pool) = (&cx.shared.limits, &mut cx.shared.recorder.pool);
        let mut head = Head::BLANK;
        let found = framer.find_end_of_head(data, expected, limits, pool, &mut head);
        self.uncommon_head(cx, direction, (data, meta), found, &head)
    }

    /// Anything other than a head in one piece.
    #[inline(never)]
    fn uncommon_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        (data, meta): (&[u8], &SegmentMeta),
        found: Found,
        head: &Head,
    ) -> usize {
        match found {
            Found::Nothing(len_bytes) => len_bytes,
            Found::Partial if self.pairer.guess.is_some() && self.is_text(direction) => {
                self.not_a_head(cx, direction, data, meta)
            }
            Found::Partial => data.len(),
            Found::NotAHead => self.not_a_head(cx, direction, data, meta),
            Found::Head => head.len_bytes,
            Found::HeadInPieces(used) => {
                let (partial, first) = self.framers[direction.index()].take_partial();
                let (bytes, first) = (&partial[..head.len_bytes], first.unwrap_or(*meta));
                let last = meta.timestamp;
                self.message(cx, direction, &ParsedHead { head, bytes, first: &first, last });
                cx.shared.recorder.pool.give_buffer_back(partial);
                used
            }
            Found::TooLong(used) => {
                self.cut_head(cx, direction, meta);
                used
            }
            Found::Http2 => {
                let (mut partial, first) = self.framers[direction.index()].take_partial();
                // This piece is passed on as it is, with its own time.
                partial.truncate(partial.len().saturating_sub(data.len()));
                let kept = first.map(|first| (partial, first));
                self.leave_to(ProtocolKind::Http2, meta.seq, kept);
                data.len()
            }
        }
    }

    /// Handles the head of a message.
    fn message<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        head: &ParsedHead<'_>,
    ) {
        self.spoken = Spoken::Http1;
        if self.pairer.guess.is_some() {
            self.weigh_message(cx, direction, head.first);
        }
        let framer = &mut self.framers[direction.index()];
        (framer.state, framer.head_at) = (ParseState::Start, head.first.seq);
        match head.head.kind {
            Kind::Request => {
                let (pairer, mut cx) = self.parts(cx, direction);
                pairer.know_client(direction);
                let is_joined = pairer.learn_pipelining(&mut cx, head.first);
                if pairer.open[direction.opposite().index()].may_be_missing {
                    missing_body::end_absent_body(pairer, &mut cx.turned(), head.first.ack);
                }
                pairer.request(&mut cx, head, is_joined);
            }
            Kind::Response { status } => {
                let (pairer, mut http1) = self.parts(cx, direction);
                pairer.know_client(direction.opposite());
                let open = pairer.take_open_response(&mut http1);
                if open.is_none() {
                    self.cut_head_of_answered_request(cx, direction, head.first);
                }
                let (pairer, mut http1) = self.parts(cx, direction);
                if open.is_none() {
                    missing_body::end_answered_body(pairer, &mut http1.turned());
                }
                pairer.response(&mut http1, open, head, status);
                if pairer.has_switched {
                    self.note_switch(direction, head);
                }
            }
        }
    }

    /// Takes a piece of a body, or the head that follows it.
    #[inline]
    fn body<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let (pairer, mut http1) = self.parts(cx, direction);
        if missing_body::is_absent(pairer, &mut http1, data, meta) {
            missing_body::end_absent(pairer, &mut http1);
            return 0;
        }
        missing_body::update_may_be_missing(pairer, &mut http1, || head::may_begin_response(data));
        if pairer.open[direction.index()].reading != Reading::Nothing {
            pairer.read_body(&mut http1, data);
        }
        let Some(fed) = http1.framer().feed(data) else { return 0 };
        pairer.count_body(&mut http1, fed.used as u64, fed.body_bytes, meta);
        match fed.progress {
            Progress::More => fed.used,
            Progress::Done => {
                missing_body::end_body(pairer, &mut http1, Some(meta.timestamp));
                fed.used
            }
            Progress::Broken => {
                pairer.forget_body(&mut http1);
                self.not_a_head(cx, direction, data, meta)
            }
        }
    }

    /// Searches for a head.
    #[inline(never)]
    fn search<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let is_sure = self.pairer.client.is_some() && self.pairer.guess.is_none();
        let is_found = match is_sure {
            true => Framer::is_found(data, meta, self.pairer.expected(direction)),
            false => self.search_unsure(cx, direction, data, meta),
        };
        if !is_found {
            return self.skip_bytes(cx, direction, data.len(), meta);
        }
        let (pairer, mut cx) = self.parts(cx, direction);
        pairer.end_message(&mut cx, None);
        0
    }

    /// A head was expected, but `data` begins none. Skips it.
    #[inline(never)]
    fn not_a_head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let framer = &mut self.framers[direction.index()];
        framer.restart(ParseState::Search, &mut cx.shared.recorder.pool);
        if self.refute(cx, direction, meta) {
            // It is searched again, for messages of either kind.
            return 0;
        }
        self.count_resync(cx);
        if self.spoken == Spoken::Unclear
            && (self.note_other_protocol(cx, direction, data, meta)
                || self.leaves_to_frames(data, meta))
        {
            return data.len();
        }
        self.skip_bytes(cx, direction, data.len(), meta)
    }

    /// Skips `len_bytes`. They may have contained messages that did not begin at the start of a
    /// frame.
    fn skip_bytes<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: usize,
        meta: &SegmentMeta,
    ) -> usize {
        if self.spoken == Spoken::Http1 {
            cx.shared.stats.http1.bytes_skipped += len_bytes as u64;
        }
        let until = meta.seq.plus(len_bytes as u32);
        self.pairer.lose_messages(cx.flow, direction, until, Cause::NotUnderstood);
        len_bytes
    }

    fn count_resync<S>(&self, cx: &mut Context<'_, S>) {
        cx.shared.stats.http1.resyncs += u64::from(self.spoken == Spoken::Http1);
    }

    /// The sender closed its direction.
    pub fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        let (pairer, mut http1) = self.parts(cx, direction);
        match http1.framer().state {
            ParseState::Body(BodyFraming::UntilClose) => {
                let last = http1.framer().last_at;
                pairer.end_message(&mut http1, last);
            }
            ParseState::Search if pairer.open[direction.index()].id.is_some() => {
                pairer.end_message(&mut http1, None);
            }
            _ => {}
        }
        if pairer.client.is_some_and(|client| client != direction) {
            self.end_partial_head(cx, direction);
            let (pairer, mut http1) = self.parts(cx, direction);
            pairer.give_up_answers(&mut http1, End::Fin);
        }
    }

    /// Ends everything that is open on the connection.
    pub fn finish<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        // A request comes before its response.
        let client = self.pairer.client.unwrap_or_default();
        self.end_partial_head(cx, client);
        self.end_partial_head(cx, client.opposite());
        let (pairer, mut http1) = self.parts(cx, Direction::Forward);
        pairer.give_up_all(&mut http1, Some(end));
        pairer.confirm(&mut http1);
        if end != End::Fin {
            self.leave();
        }
    }

    /// How much memory unfinished work takes, weighted by its age; 0 if there is none. The age of a
    /// head counts from its first byte, even if further pieces keep arriving.
    pub fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        let head = |framer: &Framer| {
            let since = framer.partial_meta.map_or(quiet_since, |meta| meta.timestamp);
            flow::memory_weight(framer.partial.capacity() as u64, now, since)
        };
        let exchanges = self.pairer.open_count() * size_of::<Exchange>();
        let heads = head(&self.framers[0]).saturating_add(head(&self.framers[1]));
        heads.saturating_add(flow::memory_weight(exchanges as u64, now, quiet_since))
    }

    /// What is still wanted. Any value other than [`Interest::Undecided`] and [`Interest::Wanted`]
    /// is final, and the connection need not be followed any more. A head that has begun is wanted:
    /// the filter must not lose the rest of it, whatever else arrives in between.
    #[inline]
    pub fn interest(&self) -> Interest {
        if self.pairer.guess.is_some() {
            return Interest::Undecided;
        }
        let has_left = self.pairer.has_switched && self.pairer.pending.is_empty();
        match interest(self.spoken, has_left, self.unclear_bytes) {
            Interest::Undecided | Interest::Dormant
                if self.framers.iter().any(Framer::is_in_head) =>
            {
                Interest::Wanted
            }
            interest => interest,
        }
    }

    /// The position up to which `direction` carries only the body of the current message, so that
    /// no head begins before it. `None` if that is less than `bytes_min`, or if there is any doubt.
    #[inline]
    pub fn elidable_until<S>(
        &self,
        shared: &mut Shared<S>,
        direction: Direction,
        bytes_min: u64,
        ahead_bytes_max: u32,
    ) -> Option<Elidable> {
        let framer = &self.framers[direction.index()];
        let rest_bytes = framer.body()?.rest_bytes();
        let open = &self.pairer.open[direction.index()];
        let has_messages = open.reading == Reading::Messages;
        if rest_bytes < bytes_min || !open.is_body_certain || has_messages {
            return None;
        }
        let entry = shared.recorder.pool.entry(open.id?);
        let is_client = self.pairer.is_client(direction);
        // The client may withhold the body, or what a search has found was no request.
        let is_withheld = entry.is_body_withheld && entry.exchange.request.body_bytes == Some(0);
        let is_doubtful = is_client && entry.is_after_loss && entry.exchange.response.is_seen;
        if is_withheld || is_doubtful {
            return None;
        }
        let head = &entry.exchange.message(is_client).text;
        Some(Elidable {
            head_end: framer.head_at.plus(head.len() as u32),
            until: framer.passed_until?.plus(rest_bytes.min(u64::from(ahead_bytes_max)) as u32),
        })
    }
}

/// What is wanted of a connection while no head is in progress.
#[inline]
pub(super) fn interest(spoken: Spoken, has_left: bool, unclear_bytes: u64) -> Interest {
    match spoken {
        Spoken::Nothing => Interest::Undecided,
        Spoken::Other => Interest::Foreign,
        Spoken::Http1 if has_left => Interest::Foreign,
        Spoken::Http1 => Interest::Wanted,
        Spoken::Unclear if unclear_bytes < UNCLEAR_BYTES_MAX => Interest::Undecided,
        Spoken::Unclear => Interest::Dormant,
    }
}

impl Pairer {
    /// The kind of message that `direction` may carry.
    #[inline(always)]
    pub(super) fn expected(&self, direction: Direction) -> Expected {
        match self.client {
            None => Expected::Either,
            Some(client) if client == direction => Expected::Request,
            Some(_) => Expected::Response,
        }
    }
}
