//! Bodies that are read: for the messages of gRPC in them, and for the trailers behind chunks.

use super::Pairer;
use crate::protocol::grpc::{self, GrpcHead};
use crate::protocol::http1::Http1Context;
use crate::protocol::http1::body::{BodyFraming, Part, Progress};
use crate::protocol::http1::head::HeaderLines;
use crate::protocol::pool::{ExchangeId, ExchangePool};
use crate::record::{EventSink, Header, Span};
use memchr::memrchr;

/// Of longer trailers, only the first lines are kept.
const TRAILERS_BYTES_MAX: usize = 8192;

const ENCODING: &[u8] = b"grpc-encoding";

/// Why a body is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::protocol::http1) enum Reading {
    /// It is not.
    #[default]
    Nothing,
    /// For the trailers behind it.
    Trailers,
    /// For the messages of gRPC in it, and the trailers.
    Messages,
}

impl Pairer {
    /// Chooses whether the body of the open message is read: if it is that of a call of gRPC, or if
    /// there may be trailers that are wanted.
    #[inline(always)]
    pub(super) fn choose_reading<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        framing: BodyFraming,
    ) {
        let (Some(id), is_request) =
            (self.open[cx.direction.index()].id, self.is_client(cx.direction))
        else {
            return;
        };
        let exchange = cx.shared.recorder.pool.exchange(id);
        let message = exchange.message(is_request);
        let may_be_call = grpc::may_be_grpc(message.fields.content_type, &message.text);
        if may_be_call || exchange.grpc.is_some() || cx.shared.recorder.wants_headers() {
            self.begin_reading(cx, id, framing);
        }
    }

    /// gRPC is POST: so of the bodies that the filter finds by itself, which are those of GET, none
    /// is read.
    #[cold]
    fn begin_reading<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        framing: BodyFraming,
    ) {
        let (wants_headers, is_request) =
            (cx.shared.recorder.wants_headers(), self.is_client(cx.direction));
        let is_chunked = matches!(framing, BodyFraming::Chunked(_));
        self.open[cx.direction.index()].reading = match begins_call(cx.pool(), id, is_request) {
            true => Reading::Messages,
            false if is_chunked && wants_headers => Reading::Trailers,
            false => Reading::Nothing,
        };
    }

    /// Reads a piece of the open message's body, before it is counted.
    #[cold]
    pub(in crate::protocol::http1) fn read_body<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        data: &[u8],
    ) {
        let is_request = self.is_client(cx.direction);
        let id = self.open[cx.direction.index()].id;
        let (Some(id), Some(mut framing)) = (id, cx.framer().body()) else { return };
        let pool = cx.pool();
        let fed = framing.feed_to(data, |part| match part {
            Part::Content(bytes) => grpc::take_body(pool, id, is_request, bytes),
            Part::Trailer(bytes) => keep_trailer(pool, id, is_request, bytes),
        });
        if fed.progress == Progress::Done {
            let wants_headers = cx.shared.recorder.wants_headers();
            end_trailers(cx.pool(), id, is_request, wants_headers);
        }
    }

    /// Bytes of a body passed that the filter has cut off.
    #[inline]
    pub(in crate::protocol::http1) fn pass_body_unread<S>(&mut self, cx: &mut Http1Context<'_, S>) {
        let is_request = self.is_client(cx.direction);
        if let Some(id) = self.open[cx.direction.index()].id {
            grpc::lose_body(cx.pool().exchange(id), is_request);
        }
    }
}

/// Whether the body of a message, whose head is known in its exchange, has messages of gRPC.
fn begins_call(pool: &mut ExchangePool, id: ExchangeId, is_request: bool) -> bool {
    let exchange = pool.exchange(id);
    let (request, message) = (&exchange.request, exchange.message(is_request));
    let is_post = !request.is_seen || request.method() == Some(b"POST");
    let may_be_call = grpc::may_be_grpc(message.fields.content_type, &message.text);
    if !is_post || !may_be_call && exchange.grpc.is_none() {
        return false;
    }
    let text = &message.text[..];
    let is_encoding = |header: &Header| {
        header.name.of(text).is_some_and(|name| name.eq_ignore_ascii_case(ENCODING))
    };
    let mut lines = HeaderLines::new(text, message.start_line_bytes as usize);
    let encoding = lines.find(is_encoding).map_or(Span::ABSENT, |header| header.value);
    // A type that is in no part of a long head that is kept is taken for none.
    let head = GrpcHead { is_partial: false, is_last: false, encoding };
    grpc::note_head(pool, id, is_request, head);
    let grpc = &pool.exchange(id).grpc;
    grpc.as_ref().is_some_and(|grpc| grpc.bodies[usize::from(is_request)].kind.is_grpc())
}

/// Keeps bytes of the trailer. Most are only the empty line that ends it.
fn keep_trailer(pool: &mut ExchangePool, id: ExchangeId, is_request: bool, bytes: &[u8]) {
    let message = pool.exchange(id).message(is_request);
    if message.trailers.is_none() && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
        return;
    }
    pool.change_trailers(id, is_request, |trailers| {
        let room = TRAILERS_BYTES_MAX - trailers.text.len();
        trailers.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    });
}

/// The trailer is complete.
fn end_trailers(pool: &mut ExchangePool, id: ExchangeId, is_request: bool, wants_headers: bool) {
    if pool.exchange(id).message(is_request).trailers.is_none() {
        return;
    }
    pool.change_trailers(id, is_request, |trailers| {
        let text = &mut trailers.text;
        if text.len() == TRAILERS_BYTES_MAX {
            // The last line may be cut.
            text.truncate(memrchr(b'\n', text).map_or(0, |at| at + 1));
        }
        trailers.headers = HeaderLines::new(text, 0).collect();
    });
    let taken = pool.exchange(id).message_mut(is_request).trailers.take();
    if let (Some(trailers), false) = (&taken, is_request) {
        grpc::note_trailers(pool, id, trailers.iter());
    }
    pool.exchange(id).message_mut(is_request).trailers = taken;
    if !wants_headers {
        pool.drop_trailers(id, is_request);
    }
}
