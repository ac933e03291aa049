//! What is under way on a connection, while it is (`--active-timeout`).

use super::connection::Http2Connection;
use crate::flow::ActiveVisit;
use crate::protocol::Context;
use crate::protocol::recorder::UnknownBodies;
use crate::record::{EventSink, FlowIdentity};

impl Http2Connection {
    /// Reports the streams that have been under way for long, once it is certain who the client is.
    pub(super) fn report_active<S: EventSink>(
        &self,
        cx: &mut Context<'_, S>,
        visit: &mut ActiveVisit,
    ) {
        if !self.is_client_known || !self.is_believed {
            return;
        }
        for stream in self.streams.iter() {
            let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
            let Some(active_ns) = visit.due_ns(exchange.first_byte_at()) else { continue };
            // As at the end of the stream.
            let is_unknown = |is_request: bool| {
                let sender = if is_request { self.client } else { self.client.opposite() };
                !exchange.message(is_request).is_ended && stream.may_have_lost(&self.sides, sender)
            };
            let unknown = UnknownBodies { request: is_unknown(true), response: is_unknown(false) };
            let id = self.flow_id.unwrap_or_else(|| cx.flow.handshake.flow_id(cx.flow.key));
            let identity = FlowIdentity { key: cx.flow.key, client: self.client, id };
            let recorder = &mut cx.shared.recorder;
            recorder.report_active(identity, cx.flow, stream.exchange, active_ns, unknown);
        }
        self.report_active_talks(cx, visit);
    }
}
