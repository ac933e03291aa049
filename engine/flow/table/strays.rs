//! Segments that came before the one with which a connection is joined.

use super::{FlowIndex, FlowTable};
use crate::decode::Segment;
use crate::time::TimestampNs;

impl<S: Default> FlowTable<S> {
    /// A segment of an unknown connection passes.
    pub(super) fn keep_stray(&mut self, segment: &Segment<'_>) {
        let since = self.grace_begin(segment.timestamp);
        self.strays.keep(segment, since);
    }

    fn grace_begin(&self, now: TimestampNs) -> TimestampNs {
        let grace_ns = self.context.limits.reorder_grace_ms.saturating_mul(1_000_000);
        TimestampNs(now.0.saturating_sub(grace_ns))
    }

    /// The rest of the message with which a connection is joined may have come before it.
    pub(super) fn adopt_strays(&mut self, index: FlowIndex, joined: &Segment<'_>) {
        let since = self.grace_begin(joined.timestamp);
        while let Some(stray) = self.strays.take(joined, since) {
            let Some(flow) = self.slots[index.0 as usize].as_mut() else { return };
            self.context.stats.segments_adopted += 1;
            flow.connection.keep_for_join(stray, &mut self.context);
        }
    }
}
