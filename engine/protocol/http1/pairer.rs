//! [`Pairer`]: decides which response belongs to which request, and when an exchange is over. It
//! pairs in order, as RFC 9112 section 9.3.2 defines; after a loss, only if the sequence numbers
//! show which request a response belongs to ([`LossPairing`]).

use super::body::BodyFraming;
use super::framer::ParseState;
use super::head::Head;
use super::loss_pairing::{Cause, LossPairing};
use super::pending::PendingRequests;
use super::{Http1Context, ParsedHead};
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::pool::ExchangeId;
use crate::protocol::{FlowRef, grpc};
use crate::record::{EventSink, FlowIdentity, Message, Outcome};
use crate::time::TimestampNs;

mod batch;
mod give_up;
mod guess;
mod long_heads;
mod reading;
mod switch;

pub(super) use guess::Guess;
pub(super) use reading::Reading;
pub(super) use switch::Switch;

/// A connection may keep this many unanswered requests while more than half of the shard's memory
/// is used.
const MODEST_PENDING_COUNT: usize = 8;

/// How far behind the client's last acknowledgment a direction may begin for us, for the bytes in
/// between to be lost ones. Further behind, the acknowledgment was wrong.
const UNSEEN_BYTES_MAX: i32 = 1 << 20;

/// The message of one direction that is in progress.
#[derive(Debug, Default)]
pub(super) struct OpenMessage {
    /// Its exchange.
    pub id: Option<ExchangeId>,
    /// There is no doubt about the framing of its body.
    pub is_body_certain: bool,
    /// Why its body is read, if it is.
    pub reading: Reading,
    /// It is the response to an unseen request, which may have been a HEAD. Then there is no body.
    pub may_be_missing: bool,
}

/// The exchanges of one connection.
#[derive(Debug, Default)]
pub(super) struct Pairer {
    /// The direction that sends the requests. The first message determines it, not the handshake.
    pub client: Option<Direction>,
    /// By direction.
    pub open: [OpenMessage; 2],
    pub pending: PendingRequests,
    /// What is known about the order of messages after a loss.
    pub loss: LossPairing,
    /// The number of the next exchange.
    pub next_n: u32,
    /// The record's `flow`, once it was needed.
    pub flow_id: Option<u64>,
    /// What the connection goes on in, if that is read.
    pub upgraded: Option<Switch>,
    /// An exchange switched the connection to another protocol (CONNECT, Upgrade). For one that is
    /// read, only until the connection is handed over.
    pub has_switched: bool,
    /// Set while it is not certain who the client is.
    pub guess: Option<Guess>,
    /// Set while it is not certain which response is the first one's: where the responses begin.
    batch: Option<SeqNumber>,
    /// The exchanges that are over and wait for one of the two, in order.
    held: PendingRequests,
}

impl Pairer {
    /// Handles the head of a request. `is_joined` is the result of [`Pairer::learn_pipelining`].
    pub fn request<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        parsed: &ParsedHead<'_>,
        is_joined: bool,
    ) {
        let ParsedHead { head, bytes, first, last } = *parsed;
        let direction = cx.direction;
        if self.batch.is_some() {
            self.note_read(cx, first.ack);
        }
        cx.shared.recorder.stats.requests += 1;
        let (is_after_loss, confidence) = self.loss.place_request(is_joined, first.ack);
        let id = self.new_exchange(cx, first);
        let entry = cx.pool().set_text(id, true, bytes);
        entry.read_until = first.ack;
        (entry.is_after_loss, entry.confidence) = (is_after_loss, confidence);
        let exchange = &mut entry.exchange;
        parsed.fill(&mut exchange.request);
        exchange.is_conflict |= head.framing.is_conflict();
        let framing = BodyFraming::of_request(&head.framing);
        entry.is_body_withheld =
            head.framing.expects_continue && framing.is_some_and(|it| it != BodyFraming::None);
        self.store_headers_and_report(cx, id, true, parsed);
        self.pending.push(id, cx.pool());
        self.open[direction.index()].id = Some(id);
        self.begin_body(cx, head, framing, last);
        self.enforce_limits(cx);
    }

    /// Before the head of a response is handled: returns the exchange of preceding interim
    /// responses whose request was not seen, if the response belongs to it.
    pub fn take_open_response<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
    ) -> Option<ExchangeId> {
        cx.shared.recorder.stats.responses += 1;
        let id = self.open[cx.direction.index()].id.take()?;
        if self.loss.is_response_lost_behind(cx.pool().entry(id).start) {
            // Interim responses came, and after them bytes were lost that may have contained the
            // final one.
            self.report(cx, id, Outcome::NoRequest, None);
            return None;
        }
        Some(id)
    }

    /// Handles the head of a response. It belongs to the exchange `open`, or to one that is to be
    /// found.
    pub fn response<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        open: Option<ExchangeId>,
        parsed: &ParsedHead<'_>,
        status: u16,
    ) {
        let ParsedHead { head, bytes, first, last } = *parsed;
        let id = match open.or_else(|| self.pair(cx, first)) {
            Some(id) => id,
            None => self.new_exchange(cx, first),
        };
        if matches!(status, 100..=199) && (status != 101 || self.upgrades(cx, id, parsed)) {
            self.interim(cx, id, parsed, status);
            if status == 101 {
                switch::keep_switch(cx, id, parsed);
            }
            return;
        }
        self.end_lost_request(cx, id);
        let exchange = &mut cx.pool().set_text(id, false, bytes).exchange;
        parsed.fill(&mut exchange.response);
        exchange.is_conflict |= head.framing.is_conflict();
        let request = &exchange.request;
        exchange.is_early = request.is_seen && !request.is_ended;
        let method = request.is_seen.then(|| request.method()).flatten();
        let is_tunnel = status == 101 || method == Some(b"CONNECT") && matches!(status, 200..=299);
        let framing = BodyFraming::of_response(&head.framing, head.kind, method);
        self.store_headers_and_report(cx, id, false, parsed);
        self.open[cx.direction.index()].id = Some(id);
        if is_tunnel && !head.is_unfinished {
            self.switch(cx, id, parsed);
        } else {
            self.begin_body(cx, head, framing, last);
            self.enforce_limits(cx);
        }
    }

    /// A 1xx response. Adds it to its exchange, whose final response is still to come.
    fn interim<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        parsed: &ParsedHead<'_>,
        status: u16,
    ) {
        let entry = self.begin_interim(cx, id, parsed.first.seq);
        entry.is_body_withheld &= status != 100;
        let exchange = &mut entry.exchange;
        exchange.add_interim(status);
        // An exchange without a request is only referenced here until its final response comes.
        if !exchange.request.is_seen {
            self.open[cx.direction.index()].id = Some(id);
        }
        let scratch = cx.pool().take();
        parsed.fill(&mut cx.pool().set_text(scratch, false, parsed.bytes).exchange.response);
        self.store_headers_and_report(cx, scratch, false, parsed);
        match self.guess {
            Some(_) => self.held.push(scratch, cx.pool()),
            None => cx.pool().give_back(scratch),
        }
        if parsed.head.is_whole {
            cx.framer().state = ParseState::Start;
        } else {
            self.begin_rest_of_head(cx, parsed.head.framing, Some(BodyFraming::None));
        }
        self.enforce_limits(cx);
    }

    /// Stores the headers of a message in its exchange, and reports the message, if the sink wants
    /// these.
    #[inline(always)]
    fn store_headers_and_report<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        is_request: bool,
        parsed: &ParsedHead<'_>,
    ) {
        self.charge_retransmitted_head(cx, id);
        let recorder = &mut cx.shared.recorder;
        if recorder.wants_headers() {
            recorder.pool.set_headers(id, is_request, parsed.header_lines());
        }
        if recorder.wants_messages() && self.guess.is_none() {
            recorder.message(self.identity(cx.flow), id, is_request, parsed.last);
        }
    }

    #[inline(always)]
    pub(super) fn new_exchange<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        first: &SegmentMeta,
    ) -> ExchangeId {
        let id = cx.shared.recorder.begin(self.next_n, first);
        self.next_n = self.next_n.saturating_add(1);
        id
    }

    /// Enters the body behind a head, according to its framing.
    #[inline(always)]
    fn begin_body<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        head: &Head,
        framing: Option<BodyFraming>,
        last: TimestampNs,
    ) {
        if !head.is_whole {
            return self.begin_rest_of_head(cx, head.framing, framing);
        }
        let is_body_certain = self.is_body_certain(cx, framing);
        let open = &mut self.open[cx.direction.index()];
        open.is_body_certain = is_body_certain;
        open.may_be_missing = open.id.is_some_and(|id| !cx.pool().exchange(id).request.is_seen);
        cx.framer().last_at = Some(last);
        self.enter_body(cx, framing, last);
    }

    /// A head has passed completely, seen or not. It ended at `last`.
    #[inline(always)]
    fn enter_body<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        framing: Option<BodyFraming>,
        last: TimestampNs,
    ) {
        match framing {
            Some(BodyFraming::None) => self.end_message(cx, Some(last)),
            Some(framing) => {
                self.choose_reading(cx, framing);
                cx.framer().state = ParseState::Body(framing);
            }
            None => {
                // It is unknown where this body ends. The next certain head ends it.
                cx.framer().state = ParseState::Search;
                cx.shared.stats.http1.resyncs += 1;
                self.forget_body(cx);
            }
        }
    }

    /// Whether `direction` sends the requests.
    #[inline(always)]
    pub fn is_client(&self, direction: Direction) -> bool {
        self.client == Some(direction)
    }

    /// The length of the open message's body is unknown.
    pub fn forget_body<S>(&mut self, cx: &mut Http1Context<'_, S>) {
        if let Some(message) = self.open_message(cx) {
            message.body_bytes = None;
        }
    }

    /// The open message in the context's direction, if its exchange is known.
    #[inline(always)]
    fn open_message<'a, S>(&self, cx: &'a mut Http1Context<'_, S>) -> Option<&'a mut Message> {
        let (id, is_request) = (self.open[cx.direction.index()].id?, self.is_client(cx.direction));
        Some(cx.pool().exchange(id).message_mut(is_request))
    }

    /// Counts `used_bytes` of the open message behind its head, including `body_bytes` of the body
    /// itself.
    #[inline(always)]
    pub fn count_body<S>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        used_bytes: u64,
        body_bytes: u64,
        meta: &SegmentMeta,
    ) {
        cx.framer().last_at = Some(meta.timestamp);
        let Some(message) = self.open_message(cx) else {
            // The message was given up before its end. It is still followed, to find the next head.
            cx.shared.stats.http1.bytes_skipped += used_bytes;
            return;
        };
        if let Some(so_far) = &mut message.body_bytes {
            *so_far += body_bytes;
        }
    }

    /// Counts `len_bytes` of the open message's body that were lost.
    pub fn count_gap_in_body<S>(&mut self, cx: &mut Http1Context<'_, S>, len_bytes: u64) {
        let Some(id) = self.open[cx.direction.index()].id else { return };
        let is_request = self.is_client(cx.direction);
        let exchange = cx.pool().exchange(id);
        exchange.gap_bytes += len_bytes;
        grpc::lose_body(exchange, is_request);
        if let Some(body_bytes) = &mut exchange.message_mut(is_request).body_bytes {
            *body_bytes += len_bytes;
        }
    }

    /// The open message has ended.
    pub fn end_message<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        last: Option<TimestampNs>,
    ) {
        cx.framer().state = ParseState::Start;
        self.open[cx.direction.index()].reading = Reading::Nothing;
        let open = &mut self.open[cx.direction.index()].id;
        let (Some(id), is_request) = (*open, self.client == Some(cx.direction)) else { return };
        let message = cx.pool().exchange(id).message_mut(is_request);
        if !message.is_seen {
            // Only interim responses came. The final one belongs to the same exchange.
            return;
        }
        *open = None;
        message.is_ended = true;
        message.last = last;
        self.complete_if_ended(cx, id);
    }

    /// The response has come, so the request is over, although its end was not seen.
    fn end_lost_request<S>(&mut self, cx: &mut Http1Context<'_, S>, id: ExchangeId) {
        let client = cx.direction.opposite().index();
        if cx.framers[client].is_searching() && self.open[client].id == Some(id) {
            self.open[client].id = None;
            cx.pool().exchange(id).request.is_ended = true;
        }
    }

    /// The request that the response in `head` belongs to: the first pending one, unless something
    /// was lost.
    fn pair<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        head: &SegmentMeta,
    ) -> Option<ExchangeId> {
        if self.pending.overflow_count > 0 {
            // After a loss it is unknown how many of those responses have passed, and nothing is
            // paired any more.
            self.pending.overflow_count -= u64::from(!self.loss.is_response_lost());
            return None;
        }
        self.place_response(cx, head).filter(|id| !cx.pool().exchange(*id).response.is_seen)
    }

    /// A request passes whose first byte came in `first`. Learns from it whether the client
    /// pipelines. Returns true if earlier requests may have passed unseen, because the beginning of
    /// the connection was not captured.
    pub fn learn_pipelining<S>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        first: &SegmentMeta,
    ) -> bool {
        let is_joined = self.loss.last_read.is_none() && cx.flow.handshake.is_midstream();
        let server = &cx.framers[cx.direction.opposite().index()];
        let stream = (server.seen_until, server.is_searching());
        let (waiting, pool) = (self.pending.first(), &mut cx.shared.recorder.pool);
        self.loss.learn_pipelining(first.ack, stream, || {
            waiting.is_some_and(|id| !pool.entry(id).is_after_loss)
        });
        is_joined
    }

    /// The pending request that the response in `head` belongs to, or `None` if that is unknown.
    fn place_response<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        head: &SegmentMeta,
    ) -> Option<ExchangeId> {
        let first = self.pending.first()?;
        if !self.loss.is_response_lost() && !cx.pool().entry(first).is_after_loss {
            return Some(first);
        }
        self.place_by_numbers(cx, head)
    }

    /// The same after a loss.
    #[cold]
    fn place_by_numbers<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        head: &SegmentMeta,
    ) -> Option<ExchangeId> {
        for _ in 0..self.loss.ended_windows(&self.pending, head.seq, cx.pool()) {
            self.give_up_first(cx, None);
        }
        let chosen = self.loss.choose(&self.pending, head, cx.pool());
        if chosen.is_none() {
            self.begin_batch(cx, head);
        }
        chosen
    }

    /// Sets the direction that sends the requests, which the first message shows.
    #[inline(always)]
    pub fn know_client(&mut self, client: Direction) {
        if self.client.is_none() {
            self.client = Some(client);
            self.loss.know_server(client.opposite());
        }
    }

    /// The stream of `direction` continues with `meta`.
    #[inline(always)]
    pub fn note_response_bytes(
        &mut self,
        flow: FlowRef<'_>,
        direction: Direction,
        meta: &SegmentMeta,
    ) {
        if self.loss.is_request_lost() && self.is_server(flow, direction) == Some(true) {
            self.loss.note_receipt(meta);
        }
    }

    /// Whether `direction` is that of the server. `None` if that is not known yet.
    fn is_server(&self, flow: FlowRef<'_>, direction: Direction) -> Option<bool> {
        Some(self.client.or(flow.handshake.client)? != direction)
    }

    /// Messages of `direction` may have passed up to `until` that were lost or not understood.
    #[cold]
    pub fn lose_messages(
        &mut self,
        flow: FlowRef<'_>,
        direction: Direction,
        until: SeqNumber,
        cause: Cause,
    ) {
        match self.is_server(flow, direction) {
            Some(true) => self.loss.lose_responses(until),
            Some(false) => self.loss.lose_requests(until, cause),
            None => self.loss.lose_messages_of(direction, until),
        }
    }

    /// Charges lost bytes to the exchange that they belonged to, as far as that is known.
    pub fn charge_gap<S>(&mut self, cx: &mut Http1Context<'_, S>, len_bytes: u64, at: SeqNumber) {
        self.lose_messages(cx.flow, cx.direction, at.plus(len_bytes as u32), Cause::Lost);
        let is_server = self.is_server(cx.flow, cx.direction) == Some(true);
        let open = self.open[cx.direction.index()].id;
        let waiting = self
            .pending
            .first()
            .filter(|id| is_server && !cx.pool().exchange(*id).response.is_seen);
        if let Some(id) = open.or(waiting) {
            cx.pool().exchange(id).gap_bytes += len_bytes;
        }
    }

    /// A direction is first seen at `at`, behind the position that the client had read when it sent
    /// its first request. The bytes in between passed unseen, and may contain the responses to
    /// waiting requests.
    pub fn charge_unseen_beginning<S>(&mut self, cx: &mut Http1Context<'_, S>, at: SeqNumber) {
        let read_until = self.pending.first().and_then(|id| cx.pool().entry(id).read_until);
        if let Some(begin) = read_until
            && (1..=UNSEEN_BYTES_MAX).contains(&at.distance(begin))
        {
            self.charge_gap(cx, at.distance(begin) as u64, begin);
        }
    }

    /// Whether the framing that a head announces is beyond doubt: its fields do not contradict each
    /// other, and it is certain which request a response belongs to.
    fn is_body_certain<S>(
        &self,
        cx: &mut Http1Context<'_, S>,
        framing: Option<BodyFraming>,
    ) -> bool {
        let Some(id) = self.open[cx.direction.index()].id else { return false };
        let exchange = cx.pool().exchange(id);
        !exchange.is_conflict
            && exchange.request.is_seen
            && if self.is_client(cx.direction) {
                framing != Some(BodyFraming::UntilClose)
            } else {
                self.is_in_order()
            }
    }

    /// Whether every response so far was paired by its order.
    pub fn is_in_order(&self) -> bool {
        self.loss.is_sure() && self.pending.overflow_count == 0
    }

    /// Whether the next response belongs to the next request.
    pub fn is_next_first(&self) -> bool {
        self.pending.is_empty() && self.is_in_order() && !self.is_unsure()
    }

    /// The number of exchanges in progress.
    pub fn open_count(&self) -> usize {
        let open_count = self.open.iter().filter(|open| open.id.is_some()).count();
        self.pending.count() + open_count + self.held.count()
    }

    /// The connection that its records describe.
    #[inline(always)]
    pub fn identity<'a>(&mut self, flow: FlowRef<'a>) -> FlowIdentity<'a> {
        let client = self.client.or(flow.handshake.client).unwrap_or(Direction::Forward);
        let id = *self.flow_id.get_or_insert_with(|| flow.handshake.flow_id(flow.key));
        FlowIdentity { key: flow.key, client, id }
    }

    /// Reports the exchange if both of its messages have ended.
    #[inline(always)]
    fn complete_if_ended<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>, id: ExchangeId) {
        let exchange = cx.pool().exchange(id);
        if !exchange.response.is_ended {
            return;
        }
        if !exchange.request.is_seen {
            self.report(cx, id, Outcome::NoRequest, None);
        } else if exchange.request.is_ended {
            self.pending.pop(cx.pool());
            self.report(cx, id, Outcome::Complete, None);
        }
    }

    pub(super) fn report<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        outcome: Outcome,
        end: Option<End>,
    ) {
        if self.is_unsure() && self.hold(cx, id, outcome, end) {
            return;
        }
        let identity = self.identity(cx.flow);
        cx.shared.recorder.report(identity, cx.flow, id, outcome, end);
    }
}
