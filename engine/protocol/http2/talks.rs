//! Talks of WebSocket on streams (RFC 8441): the stream of an extended CONNECT that was accepted
//! carries one in its DATA.

use super::connection::Http2Connection;
use crate::flow::{ActiveVisit, End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::Context;
use crate::protocol::pool::ExchangePool;
use crate::protocol::websocket::{Opening, Talk};
use crate::record::{EventSink, Outcome};
use crate::time::TimestampNs;

/// What `:protocol` is in a request for a talk.
const PROTOCOL: &[u8] = b"websocket";

/// The talks of a connection, each with the number of its stream, sorted by that.
#[derive(Debug, Default)]
pub(super) struct Talks {
    open: Vec<(u32, Box<Talk>)>,
}

impl Talks {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn find(&self, stream: u32) -> Option<usize> {
        self.open.binary_search_by_key(&stream, |(stream, _)| *stream).ok()
    }

    /// Whether the stream carries a talk.
    pub fn has(&self, stream: u32) -> bool {
        self.find(stream).is_some()
    }

    /// The streams that carry talks, in order.
    pub fn streams(&self) -> impl Iterator<Item = u32> {
        self.open.iter().map(|(stream, _)| *stream)
    }

    fn get(&mut self, stream: u32) -> Option<&mut Talk> {
        let at = self.find(stream)?;
        self.open.get_mut(at).map(|(_, talk)| &mut **talk)
    }

    fn begin(&mut self, stream: u32, talk: Box<Talk>, pool: &mut ExchangePool) {
        let before = self.open.capacity();
        let at = self.open.partition_point(|(other, _)| *other < stream);
        self.open.insert(at, (stream, talk));
        pool.hold((self.open.capacity() - before) * size_of::<(u32, Box<Talk>)>());
    }

    fn take(&mut self, stream: u32, pool: &mut ExchangePool) -> Option<Box<Talk>> {
        let (_, talk) = self.open.remove(self.find(stream)?);
        if self.open.is_empty() {
            pool.release(self.open.capacity() * size_of::<(u32, Box<Talk>)>());
            self.open = Vec::new();
        }
        Some(talk)
    }

    /// The memory of all talks.
    pub fn held_bytes(&self) -> usize {
        self.open.iter().map(|(_, talk)| talk.held_bytes()).sum()
    }
}

impl Http2Connection {
    /// The head of a final response has passed, at `when`: a talk begins, if it was asked for and
    /// accepted.
    pub(super) fn begin_talk<S>(&mut self, cx: &mut Context<'_, S>, at: usize, when: TimestampNs) {
        let Some(stream) = self.streams.get(at).copied() else { return };
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        let (request, response) = (&exchange.request, &exchange.response);
        let protocol = exchange.http2.and_then(|it| it.connect_protocol.of(&request.text));
        let is_asked = request.is_seen
            && request.method() == Some(b"CONNECT")
            && protocol.is_some_and(|it| it.eq_ignore_ascii_case(PROTOCOL));
        if !is_asked || !(200..300).contains(&response.status) || self.talks.has(stream.id) {
            return;
        }
        let mut opening = Opening::new(exchange, &response.text, when);
        let unread = [request, response].map(|message| message.body_bytes != Some(0));
        let head = &cx.shared.http2.head;
        if head.unknown_count > 0 || head.is_cut {
            opening.allow_any_extension();
        }
        let talk = Talk::open(cx.shared, opening, self.client);
        self.talks.begin(stream.id, talk, &mut cx.shared.recorder.pool);
        for (direction, is_unread) in [self.client, self.client.opposite()].into_iter().zip(unread)
        {
            if is_unread || stream.may_have_lost(&self.sides, direction) {
                self.lose_talk(cx, stream.id, direction);
            }
        }
    }

    /// Bytes of the body of a stream that may carry a talk.
    pub(super) fn talk_bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        stream: u32,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        let talk = self.talks.get(stream);
        if talk.is_some_and(|talk| talk.bytes(cx.shared, direction, bytes, meta)) {
            self.end_talk(cx, stream, None);
        }
    }

    /// Bytes of such a body were lost.
    pub(super) fn talk_gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        stream: u32,
        direction: Direction,
        len_bytes: u32,
    ) {
        let talk = self.talks.get(stream);
        if talk.is_some_and(|talk| talk.gap(cx.shared, direction, len_bytes.into())) {
            self.end_talk(cx, stream, None);
        }
    }

    /// It is not known how many bytes of such a body were lost.
    pub(super) fn lose_talk<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        stream: u32,
        direction: Direction,
    ) {
        if let Some(talk) = self.talks.get(stream) {
            talk.lose_place(cx.shared, direction);
        }
    }

    /// Reports the talks that have been under way for long.
    pub(super) fn report_active_talks<S: EventSink>(
        &self,
        cx: &mut Context<'_, S>,
        visit: &mut ActiveVisit,
    ) {
        for (stream, talk) in &self.talks.open {
            let is_lost = |direction: Direction| {
                let stream = self.streams.find(*stream).and_then(|at| self.streams.get(at));
                stream.is_none_or(|stream| stream.may_have_lost(&self.sides, direction))
            };
            // As at the end of the stream.
            let lost = [Direction::Forward, Direction::Reverse].map(is_lost);
            let id = self.flow_id.unwrap_or_else(|| cx.flow.handshake.flow_id(cx.flow.key));
            talk.report_active(cx.shared, cx.flow, id, lost, visit);
        }
    }

    /// The stream is over, and so is its talk, if it has one: by `end`, or because both sides have
    /// ended the stream. Without either, it was given up, and the talk may go on.
    pub(super) fn end_talk_of_stream<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        stream: u32,
        outcome: Outcome,
        end: Option<End>,
    ) {
        let is_ended = outcome == Outcome::Complete;
        self.end_talk(cx, stream, end.or(is_ended.then_some(End::Fin)));
    }

    fn end_talk<S: EventSink>(&mut self, cx: &mut Context<'_, S>, stream: u32, end: Option<End>) {
        if let Some(mut talk) = self.talks.take(stream, &mut cx.shared.recorder.pool) {
            let flow_id = self.identity(cx.flow).id;
            talk.finish(cx.shared, cx.flow, flow_id, end);
            talk.leave(cx.shared);
        }
    }
}
