//! Announced bodies that may never come: the body of a response whose request was not seen and may
//! have been a HEAD, the body of a request whose client waits for `100 Continue`, and that of the
//! first request at a late start, which may have been text in the body of another one.

use super::Http1Context;
use super::body::BodyFraming;
use super::framer::{Framer, ParseState};
use super::head;
use super::loss_pairing::Cause;
use super::pairer::Pairer;
use crate::decode::SeqNumber;
use crate::flow::SegmentMeta;
use crate::protocol::pool::ExchangeId;
use crate::record::EventSink;
use crate::time::TimestampNs;

/// Whether an announced body does not come: the next head follows instead. The response to a lost
/// HEAD has none, and a client that waits for `100 Continue` withholds it if it reads another
/// response. What was found at a late start may have been no request ([`end_absent`]).
#[inline(always)]
pub(super) fn is_absent<S>(
    pairer: &Pairer,
    cx: &mut Http1Context<'_, S>,
    data: &[u8],
    meta: &SegmentMeta,
) -> bool {
    let (true, Some(id), Some(framing)) =
        (meta.is_frame_start, pairer.open[cx.direction.index()].id, cx.framer().body())
    else {
        return false;
    };
    let entry = cx.shared.recorder.pool.entry(id);
    let exchange = &entry.exchange;
    let is_request = pairer.is_client(cx.direction);
    let may_be = if is_request {
        let is_withheld = entry.is_body_withheld
            && exchange.request.body_bytes == Some(0)
            && framing.is_untouched();
        // A server that refuses does not wait for the body.
        let is_doubtful = pairer.guess.is_some() && exchange.response.status < 400;
        (is_withheld || is_doubtful)
            && exchange.response.is_seen
            && has_read_all(&cx.framers[cx.direction.opposite().index()], meta)
    } else {
        let is_seen = exchange.request.is_seen;
        let is_begun = exchange.response.body_bytes != Some(0) || !framing.is_untouched();
        // Until the server closes, or so one reading of contradictory fields says.
        let is_open_end = exchange.is_conflict && framing == BodyFraming::UntilClose;
        let next = if is_seen { entry.next } else { pairer.pending.first() };
        let is_waiting = !is_seen && !pairer.loss.is_sliding;
        (!is_seen && !is_begun) || (is_waiting || is_open_end) && answers(next, cx, meta)
    };
    may_be && head::is_certain(data, pairer.expected(cx.direction))
}

/// The body of the open message does not come ([`is_absent`]). If its client does not withhold it,
/// then the request was text in the body of another one, whose response is the one that came.
#[cold]
pub(super) fn end_absent<S: EventSink>(pairer: &mut Pairer, cx: &mut Http1Context<'_, S>) {
    let id = pairer.open[cx.direction.index()].id.filter(|_| pairer.is_client(cx.direction));
    match id.filter(|id| !cx.shared.recorder.pool.entry(*id).is_body_withheld) {
        Some(id) => pairer.disown_request(cx, id),
        None => {
            let last = cx.framer().last_at;
            pairer.end_message(cx, last);
        }
    }
}

/// The server responds again; the context is that of the client. If the body of the only request
/// goes on, although that one was answered, then the server has found other requests in it. So what
/// a search has found was text in the body of another one.
#[inline(always)]
pub(super) fn end_answered_body<S: EventSink>(pairer: &mut Pairer, cx: &mut Http1Context<'_, S>) {
    if let (Some(id), Some(_)) = (pairer.open[cx.direction.index()].id, cx.framer().body()) {
        end_body_if_answered(pairer, cx, id);
    }
}

#[cold]
fn end_body_if_answered<S: EventSink>(
    pairer: &mut Pairer,
    cx: &mut Http1Context<'_, S>,
    id: ExchangeId,
) {
    let entry = cx.pool().entry(id);
    let is_answered = entry.is_after_loss && entry.exchange.response.is_ended;
    if is_answered && pairer.pending.first() == Some(id) {
        pairer.disown_request(cx, id);
        cx.framer().state = ParseState::Search;
        if let Some(until) = cx.framer().passed_until {
            pairer.lose_messages(cx.flow, cx.direction, until, Cause::NotUnderstood);
        }
    }
}

/// Whether this segment begins where the client of the next request had read to, and its sender had
/// received that request. If the client waits for each response, the one before has ended there. So
/// what has a longer body was text in it, or is framed otherwise.
#[cold]
fn answers<S>(next: Option<ExchangeId>, cx: &mut Http1Context<'_, S>, meta: &SegmentMeta) -> bool {
    let Some(id) = next else { return false };
    let request = cx.pool().entry(id);
    request.read_until == Some(meta.seq) && meta.ack.is_some_and(|ack| request.start.precedes(ack))
}

/// Whether the sender of this segment had read everything before it. What a client sends without
/// having read the response is the body, whatever it looks like.
fn has_read_all(peer: &Framer, meta: &SegmentMeta) -> bool {
    let read = meta.ack.zip(peer.seen_until);
    read.is_some_and(|(read_until, until)| !read_until.precedes(until))
}

/// A response to a HEAD is followed by another response or by nothing. Anything else is the body
/// that the head announces.
#[inline(always)]
pub(super) fn update_may_be_missing<S>(
    pairer: &mut Pairer,
    cx: &mut Http1Context<'_, S>,
    may_begin_response: impl FnOnce() -> bool,
) {
    let open = &mut pairer.open[cx.direction.index()];
    if open.may_be_missing
        && let Some(framing) = cx.framer().body()
        && framing.is_untouched()
        && let Some(id) = open.id
        && cx.pool().exchange(id).response.body_bytes == Some(0)
    {
        open.may_be_missing = may_begin_response();
    }
}

/// The body of the open message has ended, according to its head. If it may never have been sent,
/// the bytes counted as body may have been messages.
pub(super) fn end_body<S: EventSink>(
    pairer: &mut Pairer,
    cx: &mut Http1Context<'_, S>,
    last: Option<TimestampNs>,
) {
    pairer.end_message(cx, last);
    let framer = cx.framer();
    if let Some(until) = framer.passed_until
        && pairer.open[cx.direction.index()].may_be_missing
    {
        cx.framer().state = ParseState::Search;
        pairer.lose_messages(cx.flow, cx.direction, until, Cause::Lost);
    }
}

/// A request passes whose client had read up to `read_until`; the context is that of the server. If
/// the client had read everything it asked for, then no body continues past that position: a
/// response whose request was lost was to a HEAD, and its announced body is not sent.
#[cold]
pub(super) fn end_absent_body<S: EventSink>(
    pairer: &mut Pairer,
    cx: &mut Http1Context<'_, S>,
    read_until: Option<SeqNumber>,
) {
    let (framing, id) = (cx.framer().body(), pairer.open[cx.direction.index()].id);
    let (Some(framing), Some(id)) = (framing, id) else { return };
    let (passed_until, seen_until) = (cx.framer().passed_until, cx.framer().seen_until);
    let Some((until, passed_until)) = read_until.zip(passed_until) else { return };
    let entry = cx.pool().entry(id);
    let is_read = entry.start.precedes(until);
    let goes_on = framing.goes_beyond(until.distance(passed_until));
    if !is_read || !goes_on || pairer.loss.is_sliding {
        return;
    }
    let response = &entry.exchange.response;
    if response.body_bytes == Some(0) && framing.is_untouched() && seen_until == read_until {
        let last = response.last;
        return pairer.end_message(cx, last);
    }
    cx.framer().state = ParseState::Search;
    pairer.forget_body(cx);
    pairer.lose_messages(cx.flow, cx.direction, until, Cause::Lost);
}
