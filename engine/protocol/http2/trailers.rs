//! The header block that ends a message: its trailers, or all of it.

use super::connection::Http2Connection;
use super::head::Role;
use crate::protocol::pool::ExchangeId;
use crate::protocol::{Context, Shared, grpc};
use crate::record::EventSink;

impl Http2Connection {
    /// The block that was decoded ends a message of the exchange.
    pub(super) fn note_last_block<S: EventSink>(
        &self,
        cx: &mut Context<'_, S>,
        id: ExchangeId,
        is_request: bool,
    ) {
        let Shared { recorder, http2, .. } = &mut *cx.shared;
        let (head, wants_headers) = (&http2.head, recorder.wants_headers());
        let pool = &mut recorder.pool;
        if pool.exchange(id).message(is_request).is_ended {
            return;
        }
        if wants_headers && head.role() == Role::Trailers && !head.headers.is_empty() {
            pool.change_trailers(id, is_request, |trailers| {
                trailers.text.extend_from_slice(&head.text);
                trailers.headers.extend_from_slice(&head.headers);
            });
        }
        if !is_request {
            let (status, message) = (head.grpc.status, head.grpc.message);
            grpc::note_end(pool, id, status.of(&head.text), message.of(&head.text));
        }
    }
}
