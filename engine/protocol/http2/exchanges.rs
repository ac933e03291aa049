//! The exchanges of a connection: which stream a message belongs to, and when its exchange is over.

use super::connection::Http2Connection;
use super::head::{self, Role};
use super::open_block::BlockInfo;
use super::streams::Stream;
use super::upgrade;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::grpc::{self, GrpcHead};
use crate::protocol::pool::{Entry, ExchangeId};
use crate::protocol::{Context, FlowRef, Shared};
use crate::record::{EventSink, FlowIdentity, Http2Fields, Message, Outcome, ResetBy};
use crate::time::TimestampNs;

/// A connection may keep this many open streams while more than half of the shard's memory is used.
const MODEST_STREAM_COUNT: usize = 8;

/// NO_ERROR: after a complete response, the rest of the request is not needed.
const NO_ERROR: u32 = 0;

impl Http2Connection {
    /// The message of `direction` on a stream.
    fn message_of<'a, S>(
        &self,
        cx: &'a mut Context<'_, S>,
        stream: &Stream,
        direction: Direction,
    ) -> &'a mut Message {
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        exchange.message_mut(self.is_client(direction))
    }

    /// A header block was decoded, which ended at `when`. Its stream is at `at`, if it is open.
    pub(super) fn message<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        info: &BlockInfo,
        at: Option<usize>,
        when: TimestampNs,
    ) {
        if self.sides[direction.index()].framer.is_doubtful {
            let is_shown = self.is_place_shown(cx, direction, info);
            self.framer(direction).is_doubtful = !is_shown;
            if !is_shown && at.is_none() {
                return;
            }
        }
        let role = cx.shared.http2.head.role();
        if !self.is_client_known {
            match role {
                _ if info.is_promise => self.know_client(cx, direction.opposite()),
                Role::Request => self.know_client(cx, direction),
                Role::Response => self.know_client(cx, direction.opposite()),
                Role::Trailers | Role::Unclear => {}
            }
        }
        let sender = if info.is_promise { direction.opposite() } else { direction };
        let is_request = self.is_client(sender);
        let is_contrary = match role {
            Role::Request => !is_request,
            Role::Response => is_request,
            Role::Trailers | Role::Unclear => false,
        };
        // What a server sends without a request begins with a promise, and has an even number.
        let is_first = info.is_promise == info.stream.is_multiple_of(2);
        let at = match at {
            None if is_first => self.begin_stream(cx, info.stream, sender, &info.first),
            _ => at,
        };
        let Some(at) = at else { return };
        let Some(stream) = self.streams.get(at).copied() else { return };
        let unknown_count = cx.shared.http2.head.unknown_count;
        let is_conflict = cx.shared.http2.head.is_conflict || is_contrary;
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        exchange.is_conflict |= is_conflict;
        if let Some(http2) = &mut exchange.http2 {
            http2.headers_unknown = http2.headers_unknown.saturating_add(unknown_count);
        }
        match role {
            Role::Request | Role::Response if !is_contrary => {
                let status = cx.shared.http2.head.status;
                if role == Role::Response && (100..200).contains(&status) && !info.is_end_stream {
                    self.interim(cx, &stream, status, info, when);
                } else {
                    self.head(cx, at, sender, info, when);
                }
            }
            _ => self.see_headless(cx, at, sender),
        }
        if info.is_end_stream {
            self.note_last_block(cx, stream.exchange, is_request);
        }
        if info.is_promise {
            self.end_message(cx, sender, info.stream, Some(when));
        }
    }

    /// The client is found. If it is another one than was guessed, what was seen changes sides.
    #[cold]
    fn know_client<S>(&mut self, cx: &mut Context<'_, S>, client: Direction) {
        self.is_client_known = true;
        if std::mem::replace(&mut self.client, client) == client {
            return;
        }
        for stream in self.streams.iter() {
            let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
            std::mem::swap(&mut exchange.request, &mut exchange.response);
            grpc::swap_sides(&mut cx.shared.recorder.pool, stream.exchange);
        }
    }

    /// A stream that is not open begins, with `first`, in `direction`. Returns where it is; `None`
    /// if it is over.
    fn begin_stream<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        id: u32,
        direction: Direction,
        first: &SegmentMeta,
    ) -> Option<usize> {
        if id == 0 || !self.streams.is_new(id) {
            return None;
        }
        let exchange = cx.shared.recorder.begin(self.next_n, first);
        self.next_n = self.next_n.saturating_add(1);
        let http2 = Http2Fields { stream: id, ..Http2Fields::default() };
        cx.shared.recorder.pool.exchange(exchange).http2 = Some(http2);
        // What the server sends comes behind the request. Without it, the client's part is not
        // known; and nothing is known of a direction in which the place is being looked for.
        let is_request = self.is_client(direction);
        let is_midstream = cx.flow.handshake.is_midstream();
        let losses = [Direction::Forward, Direction::Reverse].map(|side| {
            let framer = &self.sides[side.index()].framer;
            let is_known = side == direction || is_request && framer.is_sure(is_midstream);
            if is_known { framer.losses } else { u32::MAX }
        });
        let stream = Stream { id, exchange, has_head: [false; 2], losses };
        self.streams.begin(stream, &mut cx.shared.recorder.pool);
        self.enforce_limits(cx, id);
        self.streams.find(id)
    }

    /// The exchange of an upgraded connection goes on as stream 1.
    pub(super) fn adopt<S>(&mut self, shared: &mut Shared<S>, exchange: ExchangeId) {
        let http2 = Http2Fields { stream: 1, is_upgraded: true, ..Http2Fields::default() };
        shared.recorder.pool.exchange(exchange).http2 = Some(http2);
        let settings = upgrade::settings(&shared.recorder.pool.exchange(exchange).request.text);
        self.settings(self.client, &settings);
        self.side(self.client).framer.partial_len = 0;
        let mut has_head = [false; 2];
        has_head[self.client.index()] = true;
        let stream = Stream { id: 1, exchange, has_head, losses: [0; 2] };
        self.streams.begin(stream, &mut shared.recorder.pool);
    }

    /// An interim response.
    fn interim<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        stream: &Stream,
        status: u16,
        info: &BlockInfo,
        when: TimestampNs,
    ) {
        cx.shared.recorder.stats.responses += 1;
        cx.shared.recorder.pool.exchange(stream.exchange).add_interim(status);
        if cx.shared.recorder.wants_messages() {
            let scratch = cx.shared.recorder.pool.take();
            self.fill(cx, scratch, false, info, when);
            self.report_message(cx, scratch, false, when);
            cx.shared.recorder.pool.give_back(scratch);
        }
    }

    /// The head of a request or of a final response.
    fn head<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        at: usize,
        sender: Direction,
        info: &BlockInfo,
        when: TimestampNs,
    ) {
        let is_request = self.is_client(sender);
        let losses = [0, 1].map(|side: usize| self.sides[side].framer.losses);
        let Some(stream) = self.streams.get_mut(at) else { return };
        stream.has_head[sender.index()] = true;
        stream.losses[sender.index()] = losses[sender.index()];
        let (id, client) = (stream.exchange, self.client.index());
        let is_request_known = stream.losses[client] == losses[client];
        let counts = &mut cx.shared.recorder.stats;
        *(if is_request { &mut counts.requests } else { &mut counts.responses }) += 1;
        self.fill(cx, id, is_request, info, when);
        let head = &cx.shared.http2.head;
        let (scheme, connect_protocol) = (head.scheme, head.connect_protocol);
        let is_partial = head.unknown_count > 0 || head.is_cut;
        let (is_last, encoding) = (info.is_end_stream, head.grpc.encoding);
        let grpc = GrpcHead { is_partial, is_last, encoding };
        grpc::note_head(&mut cx.shared.recorder.pool, id, is_request, grpc);
        let exchange = cx.shared.recorder.pool.exchange(id);
        if is_request {
            if let Some(http2) = &mut exchange.http2 {
                (http2.scheme, http2.connect_protocol) = (scheme, connect_protocol);
                http2.is_pushed = info.is_promise;
            }
        } else {
            let request = &exchange.request;
            exchange.is_early = request.is_seen && !request.is_ended && is_request_known;
        }
        let is_told = is_request || exchange.response.status != 0;
        if is_told && cx.shared.recorder.wants_messages() {
            self.report_message(cx, id, is_request, when);
        }
        if !is_request && cx.shared.recorder.wants_websockets() {
            self.begin_talk(cx, at, when);
        }
    }

    /// Copies the head that was decoded into its message.
    fn fill<S: EventSink>(
        &self,
        cx: &mut Context<'_, S>,
        id: ExchangeId,
        is_request: bool,
        info: &BlockInfo,
        when: TimestampNs,
    ) {
        let head = &cx.shared.http2.head;
        let pool = &mut cx.shared.recorder.pool;
        let Entry { exchange, .. } = pool.set_text(id, is_request, &head.text);
        let message = exchange.message_mut(is_request);
        // Without its head, it was seen already if what preceded this was lost.
        message.body_bytes = if message.is_seen { message.body_bytes } else { Some(0) };
        message.is_seen = true;
        message.start_line_bytes = head.start_line_bytes;
        message.fields = head.fields;
        message.status = head.status;
        message.first = Some(info.first.timestamp);
        message.last = Some(when);
        if cx.shared.recorder.wants_headers() {
            let headers = head.headers.iter().copied();
            cx.shared.recorder.pool.set_headers(id, is_request, headers);
        }
    }

    fn report_message<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        id: ExchangeId,
        is_request: bool,
        when: TimestampNs,
    ) {
        let identity = self.identity(cx.flow);
        cx.shared.recorder.message(identity, id, is_request, when);
    }

    /// A part of a message passes whose head was lost, or what shows that it is one.
    fn see_headless<S>(&mut self, cx: &mut Context<'_, S>, at: usize, direction: Direction) {
        let Some(stream) = self.streams.get(at).copied() else { return };
        let is_request = self.is_client(direction);
        let message = self.message_of(cx, &stream, direction);
        if message.is_seen {
            return;
        }
        cx.shared.recorder.pool.clear_message(stream.exchange, is_request);
        let (text, fields) = head::headless();
        let entry = cx.shared.recorder.pool.set_text(stream.exchange, is_request, text);
        let message = entry.exchange.message_mut(is_request);
        message.is_seen = true;
        message.fields = fields;
        message.start_line_bytes = text.len() as u32;
    }

    /// A frame with a part of a body begins.
    #[inline]
    pub(super) fn begin_data<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        id: u32,
    ) {
        let losses = self.side(direction).framer.losses;
        if let Some(at) = self.streams.find(id)
            && let Some(stream) = self.streams.get(at)
            && stream.has_head[direction.index()]
            && stream.losses[direction.index()] == losses
        {
            return;
        }
        self.begin_data_after_loss(cx, direction, id);
    }

    /// The same if a part of the message may have been lost.
    #[cold]
    fn begin_data_after_loss<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        id: u32,
    ) {
        let side = &self.sides[direction.index()];
        let Some(first) = side.framer.first else { return };
        let losses = side.framer.losses;
        let at = match self.streams.find(id) {
            // Its head must have passed before: the stream is over, or never began.
            None if side.framer.is_doubtful || side.has_all() => None,
            // A promise begins it (RFC 9113 section 5.1.1), and tells what it is.
            None if id.is_multiple_of(2) => None,
            None => self.begin_stream(cx, id, direction, &first),
            at => at,
        };
        let Some(at) = at else { return };
        self.see_headless(cx, at, direction);
        if let Some(stream) = self.streams.get_mut(at) {
            stream.losses[direction.index()] = losses;
        }
        self.forget_body(cx, id, direction);
        self.lose_talk(cx, id, direction);
    }

    /// The length of a body is unknown from now on.
    pub(super) fn forget_body<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        id: u32,
        direction: Direction,
    ) {
        if let Some(stream) = self.streams.find(id).and_then(|at| self.streams.get(at)).copied() {
            self.message_of(cx, &stream, direction).body_bytes = None;
        }
    }

    /// Bytes of a body pass. Without `content`, they were lost.
    #[inline]
    pub(super) fn count_data<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        id: u32,
        direction: Direction,
        (len_bytes, content): (usize, Option<&[u8]>),
    ) {
        let Some(stream) = self.streams.find(id).and_then(|at| self.streams.get(at)).copied()
        else {
            return;
        };
        if let Some(body_bytes) = &mut self.message_of(cx, &stream, direction).body_bytes {
            *body_bytes += len_bytes as u64;
        }
        let is_request = self.is_client(direction);
        let pool = &mut cx.shared.recorder.pool;
        match content {
            Some(content) => grpc::take_body(pool, stream.exchange, is_request, content),
            None if len_bytes > 0 => grpc::lose_body(pool.exchange(stream.exchange), is_request),
            None => {}
        }
    }

    /// Bytes of a stream's frame were lost.
    pub(super) fn charge_gap<S>(&mut self, cx: &mut Context<'_, S>, id: u32, len_bytes: u64) {
        if let Some(stream) = self.streams.find(id).and_then(|at| self.streams.get(at)) {
            cx.shared.recorder.pool.exchange(stream.exchange).gap_bytes += len_bytes;
        }
    }

    /// The message of `direction` on the stream has ended.
    pub(super) fn end_message<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        id: u32,
        last: Option<TimestampNs>,
    ) {
        let Some(at) = self.streams.find(id) else { return };
        let Some(stream) = self.streams.get(at).copied() else { return };
        let may_have_lost = stream.may_have_lost(&self.sides, direction);
        let message = self.message_of(cx, &stream, direction);
        message.is_ended = message.is_seen;
        message.last = last;
        if may_have_lost {
            message.body_bytes = None;
        }
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        let is_request_over = exchange.request.is_ended || !exchange.request.is_seen;
        let is_end_lost = stream.may_have_lost(&self.sides, self.client);
        if exchange.response.is_ended && (is_request_over || is_end_lost) {
            let outcome = match exchange.request.is_seen {
                false => Outcome::NoRequest,
                true if is_request_over => Outcome::Complete,
                true => Outcome::Truncated,
            };
            self.report(cx, at, outcome, None);
        } else if self.is_refused(id) && !exchange.response.is_seen {
            self.report(cx, at, Outcome::NoResponse, Some(End::GoAway));
        }
    }

    /// A stream was reset by the sender of `direction`. The `code` may have been lost.
    pub(super) fn reset<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        id: u32,
        code: Option<u32>,
        when: Option<TimestampNs>,
    ) {
        let Some(at) = self.streams.find(id) else { return };
        let Some(stream) = self.streams.get(at).copied() else { return };
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        if let Some(http2) = exchange.http2.as_mut().filter(|http2| http2.reset_by.is_none()) {
            let is_client = self.client == direction;
            http2.reset_by = Some(if is_client { ResetBy::Client } else { ResetBy::Server });
            http2.reset_code = code;
        }
        if code == Some(NO_ERROR) && exchange.response.is_ended && exchange.request.is_seen {
            return self.report(cx, at, Outcome::Complete, None);
        }
        match when {
            Some(when) if self.is_client(direction) && !exchange.response.is_ended => {
                self.await_reset(cx, id, when);
            }
            _ => self.give_up(cx, at, Some(End::StreamReset)),
        }
    }

    /// The sender of `direction` handles no stream of its peer above `last_stream`.
    pub(super) fn go_away<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        last_stream: u32,
    ) {
        self.side(direction).last_stream = Some(last_stream);
        let refused: Vec<u32> =
            self.streams.iter().map(|stream| stream.id).filter(|id| self.is_refused(*id)).collect();
        for id in refused {
            let Some(at) = self.streams.find(id) else { continue };
            let Some(stream) = self.streams.get(at).copied() else { continue };
            if !cx.shared.recorder.pool.exchange(stream.exchange).response.is_seen {
                self.report(cx, at, Outcome::NoResponse, Some(End::GoAway));
            }
        }
    }

    /// Whether the peer has said that it does not handle this stream.
    fn is_refused(&self, id: u32) -> bool {
        let opener = if id % 2 == 1 { self.client } else { self.client.opposite() };
        let refuser = &self.sides[opener.opposite().index()];
        refuser.last_stream.is_some_and(|last_stream| id > last_stream)
    }

    /// Gives up streams while a limit is exceeded: that of this connection, a lower one for
    /// connections with many streams if the shard's memory runs short, and finally all. The stream
    /// `newest` goes last.
    #[inline]
    fn enforce_limits<S: EventSink>(&mut self, cx: &mut Context<'_, S>, newest: u32) {
        if !self.is_within_limits(cx) {
            self.give_up_some(cx, newest);
        }
    }

    fn is_within_limits<S>(&self, cx: &Context<'_, S>) -> bool {
        let (count, limits) = (self.streams.count(), &cx.shared.limits);
        let share = limits.held_share(count <= MODEST_STREAM_COUNT);
        count <= limits.pending_count_max && cx.shared.recorder.pool.held_bytes() <= share
    }

    #[cold]
    fn give_up_some<S: EventSink>(&mut self, cx: &mut Context<'_, S>, newest: u32) {
        while !self.is_within_limits(cx) && self.streams.count() > 1 {
            let at = self.first_to_give_up(newest);
            let Some(stream) = self.streams.get(at).copied() else { break };
            let http2 = cx.shared.recorder.pool.exchange(stream.exchange).http2;
            let is_reset = http2.is_some_and(|http2| http2.reset_by.is_some());
            cx.shared.stats.http2.streams_given_up += u64::from(!is_reset);
            self.give_up(cx, at, None);
        }
        if cx.shared.recorder.pool.held_bytes() > cx.shared.limits.held_share(true) {
            self.relieve(cx);
            cx.shared.stats.http2.streams_at_bound += self.streams.count() as u64;
            self.give_up_all(cx, None);
        }
    }

    /// The oldest stream, but if possible none with a talk, which may last long. `newest` is none.
    fn first_to_give_up(&self, newest: u32) -> usize {
        let mut talks = self.talks.streams().peekable();
        let mut ids = self.streams.iter().map(|stream| stream.id);
        let is_other = |id: u32| talks.next_if_eq(&id).is_none() && id != newest;
        let is_newest = self.streams.get(0).is_some_and(|stream| stream.id == newest);
        ids.position(is_other).unwrap_or(usize::from(is_newest))
    }

    /// Gives up the exchange of a stream, with what is known of it.
    pub(super) fn give_up<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        at: usize,
        end: Option<End>,
    ) {
        let Some(stream) = self.streams.get(at).copied() else { return };
        if end == Some(End::Fin) && self.is_unanswered_upgrade(cx, &stream) {
            return self.end_with_switch(cx, at);
        }
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        let (request, response) = (&exchange.request, &exchange.response);
        let is_reset = exchange.http2.is_some_and(|http2| http2.reset_by.is_some());
        let end = if is_reset { Some(End::StreamReset) } else { end };
        let is_refused =
            !is_reset && end.is_some() && self.is_refused(stream.id) && !response.is_seen;
        let is_cut = request.is_seen && !request.is_ended || response.is_seen && !response.is_ended;
        let (outcome, end) = match (request.is_seen, response.is_seen) {
            (true, false) if is_refused => (Outcome::NoResponse, Some(End::GoAway)),
            _ if is_cut => (Outcome::Truncated, end),
            (true, true) => (Outcome::Complete, None),
            (true, false) => (Outcome::NoResponse, end),
            (false, _) => (Outcome::NoRequest, end),
        };
        self.report(cx, at, outcome, end);
    }

    /// Whether nothing followed the 101 of `Upgrade: h2c` on stream 1, and nothing was lost.
    fn is_unanswered_upgrade<S>(&self, cx: &mut Context<'_, S>, stream: &Stream) -> bool {
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        exchange.http2.is_some_and(|http2| http2.is_upgraded && http2.reset_by.is_none())
            && !exchange.response.is_seen
            && exchange.interim.last() == Some(&101)
            && exchange.interim_omitted == 0
            && !self.is_refused(stream.id)
            && self.sides[self.client.opposite().index()].has_all()
    }

    /// The 101 is the final response of the exchange.
    #[cold]
    fn end_with_switch<S: EventSink>(&mut self, cx: &mut Context<'_, S>, at: usize) {
        let Some(stream) = self.streams.get(at).copied() else { return };
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        exchange.interim.pop();
        (exchange.response.is_seen, exchange.response.is_ended) = (true, true);
        exchange.response.body_bytes = Some(0);
        exchange.is_switched = true;
        self.report(cx, at, Outcome::Complete, None);
    }

    /// Gives up all open streams.
    pub(super) fn give_up_all<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: Option<End>) {
        while self.streams.count() > 0 {
            self.give_up(cx, 0, end);
        }
    }

    /// The exchange of a stream is over.
    fn report<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        at: usize,
        outcome: Outcome,
        end: Option<End>,
    ) {
        let pool = &mut cx.shared.recorder.pool;
        let Some(stream) = self.streams.remove(at, pool) else { return };
        if !self.is_client_known {
            cx.shared.stats.http2.streams_unclear += 1;
            return pool.give_back(stream.exchange);
        }
        let exchange = pool.exchange(stream.exchange);
        let is_reset = exchange.http2.is_some_and(|http2| http2.reset_by.is_some());
        let is_whole = exchange.request.is_ended && exchange.response.is_ended;
        let may_go_on = end.is_none() && !exchange.response.is_ended;
        let directions = [Direction::Forward, Direction::Reverse];
        for direction in directions.into_iter().filter(|_| !is_whole) {
            let message = exchange.message_mut(direction == self.client);
            if !message.is_ended && stream.may_have_lost(&self.sides, direction) {
                message.body_bytes = None;
            } else if !message.is_seen && self.sides[direction.index()].has_all() {
                // Nothing came, and nothing was lost. Of a stream that is given up, it may come.
                message.body_bytes = (!may_go_on).then_some(0);
            }
        }
        if !self.talks.is_empty() {
            for direction in directions {
                if stream.may_have_lost(&self.sides, direction) {
                    self.lose_talk(cx, stream.id, direction);
                }
            }
        }
        let identity = self.identity(cx.flow);
        cx.shared.recorder.report(identity, cx.flow, stream.exchange, outcome, end);
        let end = if is_reset { Some(End::StreamReset) } else { end };
        self.end_talk_of_stream(cx, stream.id, outcome, end);
    }

    pub(super) fn identity<'a>(&mut self, flow: FlowRef<'a>) -> FlowIdentity<'a> {
        let id = *self.flow_id.get_or_insert_with(|| flow.handshake.flow_id(flow.key));
        FlowIdentity { key: flow.key, client: self.client, id }
    }
}
