//! Segments that came before the one with which a connection is joined.

use super::{FlowIndex, FlowTable};
use crate::decode::Segment;
use crate::time::TimestampNs;

impl<S: Default> FlowTable<S> {
    /// The rest of the message with which a connection is joined may have come before it.
    pub(super) fn adopt_strays(&mut self, index: FlowIndex, joined: &Segment<'_>) {
        let grace_ns = self.context.limits.reorder_grace_ms.saturating_mul(1_000_000);
        let since = TimestampNs(joined.timestamp.0.saturating_sub(grace_ns));
        while let Some(stray) = self.strays.take(joined, since) {
            let Some(flow) = self.slots[index.0 as usize].as_mut() else { return };
            self.context.stats.segments_unknown -= 1;
            flow.connection.keep_for_join(stray, &mut self.context);
        }
    }
}
