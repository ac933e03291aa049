//! Messages whose heads are longer than the part that is kept.

use super::{Pairer, Reading};
use crate::protocol::http1::Http1Context;
use crate::protocol::http1::body::BodyFraming;
use crate::protocol::http1::framer::ParseState;
use crate::protocol::http1::head::FramingFields;
use crate::protocol::http1::long_head::LongHead;
use crate::record::EventSink;
use crate::time::TimestampNs;

impl Pairer {
    /// The rest of a head will not be kept. The message stays open until the rest has passed. Until
    /// then its body is unknown, unless there can be none.
    pub(super) fn begin_rest_of_head<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        fields: FramingFields,
        framing: Option<BodyFraming>,
    ) {
        let is_bodiless = framing == Some(BodyFraming::None) && !self.is_client(cx.direction);
        self.open[cx.direction.index()].reading = Reading::Nothing;
        cx.framer().state = ParseState::LongHead(LongHead::new(fields, is_bodiless));
        if !is_bodiless {
            self.forget_body(cx);
        }
    }

    /// The rest of a head has passed at `last`. Its framing fields are `fields`.
    pub(in crate::protocol::http1) fn end_long_head<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        fields: &FramingFields,
        framing: Option<BodyFraming>,
        last: TimestampNs,
    ) {
        let is_request = self.is_client(cx.direction);
        cx.framer().last_at = Some(last);
        let open = &mut self.open[cx.direction.index()];
        open.is_body_certain = false;
        if let Some(id) = open.id {
            let entry = cx.pool().entry(id);
            open.may_be_missing = !entry.exchange.request.is_seen;
            entry.is_body_withheld |=
                is_request && fields.expects_continue && framing != Some(BodyFraming::None);
            entry.exchange.is_conflict |= fields.is_conflict();
            let message = entry.exchange.message_mut(is_request);
            message.last = Some(last);
            message.body_bytes = Some(0);
        }
        self.enter_body(cx, framing, last);
    }
}
