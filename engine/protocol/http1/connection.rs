//! [`Http1Connection`]: the messages on one connection. Takes what the two framers report to the
//! pairer, and what the pairer decides of a body back to the framer.

use super::body::{BodyFraming, Progress};
use super::framer::{Found, Framer, ParseState};
use super::head::{self, Expected, Head, Kind};
use super::loss_pairing::Cause;
use super::missing_body;
use super::pairer::Pairer;
use super::{Http1Context, ParsedHead};
use crate::decode::SeqNumber;
use crate::flow::{self, End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::{self, Context, HandOver, Interest, Kind as ProtocolKind, Shared, Step};
use crate::record::{EventSink, Exchange};
use crate::time::TimestampNs;

mod missing;

/// Of a connection that has sent so much, both ways together, without a message, nothing more is
/// expected. It is more than what stands before HTTP on some connections: SOCKS takes some tens of
/// bytes, the PROXY protocol some hundreds.
const UNCLEAR_BYTES_MAX: u64 = 4096;

/// What the connection has turned out to carry, so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Spoken {
    /// No payload yet.
    #[default]
    Nothing,
    /// Payload, and no message in it yet.
    Unclear,
    /// HTTP/1.
    Http1,
}

/// One connection on which something is under way.
#[derive(Debug, Default)]
pub(crate) struct Http1Connection {
    pub(super) framers: [Framer; 2],
    pub(super) pairer: Pairer,
    pub(super) spoken: Spoken,
    /// Bytes that have passed while no message was found.
    pub(super) unclear_bytes: u64,
    /// It turned out to speak another protocol.
    pub(super) successor: Option<Box<HandOver>>,
}

impl Http1Connection {
    /// The pairer, and what it needs beside itself to take something that came in `direction`.
    #[inline(always)]
    fn parts<'a, S>(
        &'a mut self,
        cx: &'a mut Context<'_, S>,
        direction: Direction,
    ) -> (&'a mut Pairer, Http1Context<'a, S>) {
        let (flow, shared, framers) = (cx.flow, &mut *cx.shared, &mut self.framers);
        (&mut self.pairer, Http1Context { flow, shared, framers, direction })
    }

    /// The next bytes of one direction.
    #[inline]
    pub fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        if self.spoken == Spoken::Nothing && self.begin(cx, Some(data), meta) == Step::HandOver {
            return Step::HandOver;
        }
        self.go_on(cx, direction, data.len() as u32, meta);
        if data.is_empty() {
            return Step::Done;
        }
        let used = self.piece(cx, direction, data, meta);
        if used < data.len() {
            self.pieces_behind(cx, direction, (data, used), meta);
        }
        if self.successor.is_some() { Step::HandOver } else { Step::Done }
    }

    /// The first payload passes. `first` is what is there of it.
    #[cold]
    fn begin<S>(&mut self, cx: &Context<'_, S>, first: Option<&[u8]>, meta: &SegmentMeta) -> Step {
        if let Some(to) = first.and_then(protocol::detect) {
            self.leave_to(to, meta.seq, None);
            return Step::HandOver;
        }
        self.spoken = Spoken::Unclear;
        if cx.flow.handshake.is_midstream() {
            // Nobody knows what stood before: this may be the middle of a body.
            self.framers.iter_mut().for_each(|framer| framer.state = ParseState::Search);
        }
        Step::Done
    }

    /// From `at` on the connection speaks another protocol.
    #[cold]
    fn leave_to(&mut self, to: ProtocolKind, at: SeqNumber, kept: Option<(Vec<u8>, SegmentMeta)>) {
        self.successor = Some(Box::new(HandOver { to, at, kept }));
        self.leave();
    }

    /// What follows is not HTTP/1.
    fn leave(&mut self) {
        self.framers.iter_mut().for_each(|framer| framer.state = ParseState::Off);
    }

    /// Who goes on from here, once [`Step::HandOver`] was said.
    pub fn take_successor(&mut self) -> Option<Box<HandOver>> {
        self.successor.take()
    }

    /// So many bytes of a direction pass that are not lost.
    #[inline(always)]
    fn go_on<S>(
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
        self.pairer.note_answer(cx.flow, direction, meta);
        let until = Some(meta.seq.plus(len_bytes));
        let framer = &mut self.framers[direction.index()];
        (framer.seen_until, framer.passed_until) = (until, until);
    }

    /// What is behind the first `done` bytes of a chunk. Apart, since nearly all chunks are one
    /// piece, for which nothing need be kept.
    #[inline(never)]
    fn pieces_behind<S: EventSink>(
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

    /// Takes what `data` begins with, and says how much that was. It may be nothing, where another
    /// state began.
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

    /// In a head that comes in pieces.
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

    /// What is not a head in one piece.
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
            Found::Partial => data.len(),
            Found::NotAHead => self.not_a_head(cx, direction, data.len(), meta),
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
                let (partial, first) = self.framers[direction.index()].take_partial();
                let kept = first.map(|first| (partial, first));
                let at = kept
                    .as_ref()
                    .map_or(meta.seq, |(bytes, first)| first.seq.plus(bytes.len() as u32));
                self.leave_to(ProtocolKind::Http2, at, kept);
                data.len()
            }
        }
    }

    /// A message's head has come.
    fn message<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        head: &ParsedHead<'_>,
    ) {
        self.spoken = Spoken::Http1;
        self.framers[direction.index()].state = ParseState::Start;
        match head.head.kind {
            Kind::Request => {
                let (pairer, mut cx) = self.parts(cx, direction);
                pairer.know_client(direction);
                let is_joined = pairer.learn_habit(&mut cx, head.first);
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
                    self.cut_answered_head(cx, direction, head.first);
                }
                let (pairer, mut http1) = self.parts(cx, direction);
                pairer.response(&mut http1, open, head, status);
            }
        }
    }

    /// A piece of a body, or the head behind it.
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
            let last = pairer.last_of_open_message(&mut http1);
            pairer.end_message(&mut http1, last);
            return 0;
        }
        missing_body::tell_absent(pairer, &mut http1, || head::may_begin_answer(data));
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
                self.not_a_head(cx, direction, data.len(), meta)
            }
        }
    }

    /// In search of a head.
    #[inline(never)]
    fn search<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        if !Framer::is_found(data, meta, self.pairer.expected(direction)) {
            return self.pass_over(cx, direction, data.len(), meta);
        }
        let (pairer, mut cx) = self.parts(cx, direction);
        pairer.end_message(&mut cx, None);
        0
    }

    /// What should be a head is none. So many bytes are passed over.
    #[inline(never)]
    fn not_a_head<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: usize,
        meta: &SegmentMeta,
    ) -> usize {
        let framer = &mut self.framers[direction.index()];
        framer.drop_partial(&mut cx.shared.recorder.pool);
        framer.state = ParseState::Search;
        self.count_resync(cx);
        self.pass_over(cx, direction, len_bytes, meta)
    }

    /// Passes over so many bytes. There may have been messages in them, that did not begin where a
    /// frame did.
    fn pass_over<S>(
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
            self.finish(cx, End::Fin);
        }
    }

    /// Ends all that is under way on the connection.
    pub fn finish<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        self.drop_partial_heads(cx);
        let (pairer, mut http1) = self.parts(cx, Direction::Forward);
        pairer.give_up_all(&mut http1, Some(end));
        if end != End::Fin {
            self.leave();
        }
    }

    /// How much memory is under way here, and for how long; 0 where nothing is. A head counts from
    /// its first byte on, however often a piece of it comes.
    pub fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        let head = |framer: &Framer| {
            let since = framer.partial_meta.map_or(quiet_since, |meta| meta.timestamp);
            flow::memory_weight(framer.partial.capacity() as u64, now, since)
        };
        let exchanges = self.pairer.open_count() * size_of::<Exchange>();
        let heads = head(&self.framers[0]).saturating_add(head(&self.framers[1]));
        heads.saturating_add(flow::memory_weight(exchanges as u64, now, quiet_since))
    }

    /// What is still wanted. Once it is neither [`Interest::Undecided`] nor [`Interest::Wanted`] it
    /// does not change, and the connection need not be followed.
    #[inline]
    pub fn interest(&self) -> Interest {
        let has_left = self.pairer.has_switched && self.pairer.pending.is_empty();
        match interest(self.spoken, has_left, self.unclear_bytes) {
            Interest::Dormant if self.framers.iter().any(Framer::is_in_head) => Interest::Undecided,
            interest => interest,
        }
    }

    /// Up to where all of `direction` is the body of the message under way, if that is
    /// `bytes_min` or more: no head begins before. `None` also where anything speaks against it.
    #[inline]
    pub fn elidable_until<S>(
        &self,
        shared: &mut Shared<S>,
        direction: Direction,
        bytes_min: u64,
        ahead_bytes_max: u32,
    ) -> Option<SeqNumber> {
        let framer = &self.framers[direction.index()];
        let rest_bytes = framer.body()?.rest_bytes();
        let open = &self.pairer.open[direction.index()];
        if rest_bytes < bytes_min || !open.is_body_certain {
            return None;
        }
        let entry = shared.recorder.pool.entry(open.id?);
        if entry.is_body_withheld && entry.exchange.request.body_bytes == Some(0) {
            // It may not come at all.
            return None;
        }
        Some(framer.passed_until?.plus(rest_bytes.min(u64::from(ahead_bytes_max)) as u32))
    }
}

/// What is wanted of a connection where no head is under way.
#[inline]
pub(super) fn interest(spoken: Spoken, has_left: bool, unclear_bytes: u64) -> Interest {
    match spoken {
        Spoken::Nothing => Interest::Undecided,
        Spoken::Http1 if has_left => Interest::Foreign,
        Spoken::Http1 => Interest::Wanted,
        Spoken::Unclear if unclear_bytes < UNCLEAR_BYTES_MAX => Interest::Undecided,
        Spoken::Unclear => Interest::Dormant,
    }
}

impl Pairer {
    /// Which messages `direction` may carry.
    #[inline(always)]
    pub(super) fn expected(&self, direction: Direction) -> Expected {
        match self.client {
            None => Expected::Either,
            Some(client) if client == direction => Expected::Request,
            Some(_) => Expected::Response,
        }
    }
}
