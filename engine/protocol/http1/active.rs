//! What is under way on a connection, while it is (`--active-timeout`).

use super::connection::Http1Connection;
use super::pairer::Pairer;
use crate::flow::ActiveVisit;
use crate::protocol::pool::ExchangeId;
use crate::protocol::recorder::UnknownBodies;
use crate::protocol::{Context, FlowRef};
use crate::record::{EventSink, FlowIdentity};

impl Http1Connection {
    /// Reports the exchanges that have been under way for long. What may still be withdrawn is not
    /// reported: what rests on a guess, and what a search after a loss has found, until it ends.
    pub(super) fn report_active<S: EventSink>(
        &self,
        cx: &mut Context<'_, S>,
        visit: &mut ActiveVisit,
    ) {
        let pairer = &self.pairer;
        if pairer.is_unsure() {
            return;
        }
        let mut next = pairer.pending.first();
        while let Some(id) = next {
            next = cx.shared.recorder.pool.entry(id).next;
            pairer.report_active(cx, id, UnknownBodies::default(), visit);
        }
        for open in &pairer.open {
            // The others are among those that wait.
            if let Some(id) = open.id
                && !cx.shared.recorder.pool.exchange(id).request.is_seen
            {
                // What was counted may have been other messages.
                let unknown = UnknownBodies { response: open.may_be_missing, request: false };
                pairer.report_active(cx, id, unknown, visit);
            }
        }
    }
}

impl Pairer {
    fn report_active<S: EventSink>(
        &self,
        cx: &mut Context<'_, S>,
        id: ExchangeId,
        unknown: UnknownBodies,
        visit: &mut ActiveVisit,
    ) {
        let entry = cx.shared.recorder.pool.entry(id);
        let exchange = &entry.exchange;
        let is_doubtful = entry.is_after_loss && !exchange.request.is_ended;
        if !is_doubtful && let Some(active_ns) = visit.due_ns(exchange.first_byte_at()) {
            let identity = self.identity_so_far(cx.flow);
            cx.shared.recorder.report_active(identity, cx.flow, id, active_ns, unknown);
        }
    }

    /// [`Pairer::identity`], without keeping the id: what is known at the end of the exchange
    /// decides about that.
    fn identity_so_far<'a>(&self, flow: FlowRef<'a>) -> FlowIdentity<'a> {
        let client = self.client.or(flow.handshake.client).unwrap_or_default();
        let id = self.flow_id.unwrap_or_else(|| flow.handshake.flow_id(flow.key));
        FlowIdentity { key: flow.key, client, id }
    }
}
