//! gRPC and gRPC-Web on an exchange, whatever version of HTTP carries it: the messages in its
//! bodies are counted, and its status is read.
//!
//! A call is found by a `content-type` that begins with `application/grpc`. Where that was lost,
//! its bodies are followed nevertheless: the other side's type may show what they are.

use super::pool::{ExchangeId, ExchangePool};
use crate::record::{Exchange, GrpcBody, GrpcFields, GrpcKind, Message, Span};

mod body;
mod text;

/// The fields that say how a call has ended.
const STATUS: &[u8] = b"grpc-status";
const MESSAGE: &[u8] = b"grpc-message";

/// Of longer trailers in a body, only the beginning is read.
const WEB_TRAILERS_BYTES_MAX: usize = 8192;

/// The headers of a message, as far as they concern gRPC.
#[derive(Clone, Copy, Debug)]
pub(super) struct GrpcHead {
    /// Fields of the head are missing, so what is absent in it may have been sent.
    pub is_partial: bool,
    /// Nothing of the message follows.
    pub is_last: bool,
    /// `grpc-encoding`, a range of the message's text.
    pub encoding: Span,
}

/// Whether a `content-type`, which is a range of `text`, may be one of gRPC.
#[inline(always)]
pub(super) fn may_be_grpc(content_type: Span, text: &[u8]) -> bool {
    // `application/grpc` has a G there; hardly any other type does.
    content_type.byte_at(12, text).is_some_and(|byte| byte | 0x20 == b'g')
}

/// The head of a message is known, in its exchange.
#[inline]
pub(super) fn note_head(pool: &mut ExchangePool, id: ExchangeId, is_request: bool, head: GrpcHead) {
    let exchange = pool.exchange(id);
    let message = exchange.message(is_request);
    let content_type = message.fields.content_type;
    let is_unknown = content_type.is_absent() && head.is_partial && !head.is_last;
    if may_be_grpc(content_type, &message.text) || is_unknown || exchange.grpc.is_some() {
        note_call_head(pool, id, is_request, head);
    }
}

/// The same if it may be that of a call.
#[inline(never)]
fn note_call_head(pool: &mut ExchangePool, id: ExchangeId, is_request: bool, head: GrpcHead) {
    let exchange = pool.exchange(id);
    let kind = kind_of(exchange.message(is_request), head.is_partial);
    if exchange.grpc.is_none() && kind == GrpcKind::Other {
        return;
    }
    let Some(grpc) = begin_call(pool, id) else { return };
    let body = &mut grpc.bodies[usize::from(is_request)];
    (body.kind, body.encoding) = (kind, head.encoding);
}

/// What the body behind a head is. If the head `is_partial`, what is absent may have been sent.
fn kind_of(head: &Message, is_partial: bool) -> GrpcKind {
    match head.content_type() {
        Some(text) => GrpcKind::of(text),
        None if is_partial => GrpcKind::Unknown,
        None => GrpcKind::Other,
    }
}

/// The call of an exchange. It begins if it has not.
fn begin_call(pool: &mut ExchangePool, id: ExchangeId) -> Option<&mut GrpcFields> {
    if pool.exchange(id).grpc.is_none() {
        pool.begin_call(id);
        let Exchange { request, response, grpc, http2, .. } = pool.exchange(id);
        let is_whole = http2.is_none_or(|http2| http2.headers_unknown == 0);
        for (body, message) in grpc.as_mut()?.bodies.iter_mut().zip([response, request]) {
            if message.is_seen && message.first.is_some() {
                // Had its head been partial, the call would have begun before its body.
                let has_passed = http2.is_some() && message.body_bytes != Some(0);
                body.kind = kind_of(message, !is_whole && !has_passed);
                body.is_lost = has_passed;
            }
        }
    }
    pool.exchange(id).grpc.as_deref_mut()
}

/// Bytes of a body pass.
#[inline]
pub(super) fn take_body(pool: &mut ExchangePool, id: ExchangeId, is_request: bool, bytes: &[u8]) {
    let Some(grpc) = &mut pool.exchange(id).grpc else { return };
    let body = &mut grpc.bodies[usize::from(is_request)];
    if matches!(body.kind, GrpcKind::Grpc | GrpcKind::Unknown) {
        return body.take(bytes, &mut |_| {});
    }
    pool.change_call(id, |grpc| {
        let GrpcFields { bodies, web_trailers, .. } = grpc;
        bodies[usize::from(is_request)].take(bytes, &mut |part| {
            // Only a response has trailers.
            let room = WEB_TRAILERS_BYTES_MAX - web_trailers.len();
            let room = if is_request { 0 } else { room };
            web_trailers.extend_from_slice(&part[..part.len().min(room)]);
        });
    });
}

/// Bytes of a body were lost: its messages cannot be counted any more.
#[inline]
pub(super) fn lose_body(exchange: &mut Exchange, is_request: bool) {
    if let Some(grpc) = &mut exchange.grpc {
        grpc.bodies[usize::from(is_request)].is_lost = true;
    }
}

/// What seemed to be the request is the response, and the other way around.
pub(super) fn swap_sides(pool: &mut ExchangePool, id: ExchangeId) {
    pool.change_call(id, |grpc| {
        grpc.bodies.swap(0, 1);
        // Only a response has a status.
        (grpc.status, grpc.message) = (None, None);
        (grpc.has_status, grpc.is_status_unclear) = (false, false);
    });
}

/// A response has ended with these fields.
pub(super) fn note_end(
    pool: &mut ExchangePool,
    id: ExchangeId,
    status: Option<&[u8]>,
    message: Option<&[u8]>,
) {
    if status.is_none() && message.is_none() {
        return;
    }
    let Some(grpc) = begin_call(pool, id) else { return };
    if !may_be_call(grpc) {
        return pool.end_call(id);
    }
    pool.change_call(id, |grpc| {
        if let Some(status) = status {
            note_status(grpc, text::status_of(status));
        }
        if let Some(message) = message.filter(|_| grpc.message.is_none()) {
            grpc.message = Some(text::percent_decoded(message));
            grpc.message_wire_bytes = message.len();
        }
    });
}

/// Whether one side is known to be of gRPC, or neither is known not to be.
fn may_be_call(grpc: &GrpcFields) -> bool {
    let kinds = [grpc.bodies[0].kind, grpc.bodies[1].kind];
    kinds.iter().any(|kind| kind.is_grpc()) || !kinds.contains(&GrpcKind::Other)
}

fn note_status(grpc: &mut GrpcFields, status: Option<u32>) {
    grpc.is_status_unclear |= grpc.has_status && grpc.status != status;
    grpc.status = status.filter(|_| !grpc.is_status_unclear);
    grpc.has_status = true;
}

/// The same with the fields of trailers in HTTP/1, or in a body.
pub(super) fn note_trailers<'a>(
    pool: &mut ExchangePool,
    id: ExchangeId,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) {
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(STATUS) {
            note_end(pool, id, Some(value), None);
        } else if name.eq_ignore_ascii_case(MESSAGE) {
            note_end(pool, id, None, Some(value));
        }
    }
}

/// Sets what a record of the exchange tells of a call, as far as it has passed. If it `is_over` and
/// turned out to be none, takes that away.
#[inline(never)]
pub(super) fn tell(pool: &mut ExchangePool, id: ExchangeId, is_over: bool) {
    let Some(grpc) = &mut pool.exchange(id).grpc else { return };
    if grpc.bodies[0].has_readable_trailers() {
        let text = std::mem::take(&mut grpc.web_trailers);
        let is_whole = text.len() < WEB_TRAILERS_BYTES_MAX;
        note_trailers(pool, id, text::web_trailers(&text, is_whole));
        pool.release(text.capacity());
    }
    tell_trailers_only(pool, id);
    let Exchange { request, response, grpc, is_conflict, .. } = pool.exchange(id);
    let Some(call) = grpc else { return };
    let [answer, ask] = call.bodies;
    let has_end = call.status.is_some() || call.message.is_some();
    let is_shown = ask.kind.is_grpc() || answer.kind.is_grpc() || has_end;
    if is_over && !(is_shown && may_be_call(call)) {
        return pool.end_call(id);
    }
    *is_conflict |= call.is_status_unclear;
    let is_ask_counted = match ask.kind {
        GrpcKind::Unknown => answer.kind.is_grpc() && response.status == 200,
        kind => kind.is_grpc(),
    };
    let is_answer_counted = match answer.kind {
        GrpcKind::Unknown if response.is_seen => call.status.is_some(),
        GrpcKind::Unknown => ask.kind.is_grpc(),
        kind => kind.is_grpc(),
    };
    let count = |body: &GrpcBody, message: &Message| {
        message.body_bytes.filter(|_| !body.is_lost).map(|_| body.message_count)
    };
    let is_ask_counted = is_ask_counted && request.is_seen;
    call.request_messages = count(&ask, request).filter(|_| is_ask_counted);
    call.response_messages = count(&answer, response).filter(|_| is_answer_counted);
    let encoding = |body: &GrpcBody, message: &Message, count: Option<u64>| {
        count.filter(|_| body.is_compressed)?;
        body.encoding.of(&message.text).map(<[u8]>::to_vec)
    };
    let encoding = encoding(&answer, response, call.response_messages)
        .or_else(|| encoding(&ask, request, call.request_messages));
    if encoding.is_some() {
        pool.change_call(id, |call| call.encoding = encoding);
    }
}

/// A response of HTTP/1 without a body has its status in its head. (With HTTP/2, the frame shows
/// that nothing follows.)
fn tell_trailers_only(pool: &mut ExchangePool, id: ExchangeId) {
    let Exchange { response, grpc, http2, .. } = pool.exchange(id);
    let (Some(grpc), None, true) = (grpc, http2, response.is_seen) else { return };
    if grpc.bodies[0].kind == GrpcKind::Unknown {
        grpc.bodies[0].kind = kind_of(response, false);
    }
    if grpc.has_status || !response.is_ended || response.body_bytes != Some(0) {
        return;
    }
    let text = std::mem::take(&mut response.text);
    note_trailers(pool, id, text::web_trailers(&text, false));
    pool.exchange(id).response.text = text;
}
