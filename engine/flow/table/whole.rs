//! The usual case of a segment.

use super::{FlowIndex, FlowTable};
use crate::decode::Segment;
use crate::flow::{Handshake, SegmentMeta};
use crate::ids::FlowKey;

impl<S: Default> FlowTable<S> {
    /// Passes `segment` to its flow, if it is the next one of its stream, whole, and nothing of the
    /// flow waits or ends. Returns the flow and the origin of the payload, which is in order: the
    /// usual case of [`FlowTable::accept`], without its callback.
    #[inline(always)]
    pub fn take_whole(
        &mut self,
        index: FlowIndex,
        segment: &Segment<'_>,
    ) -> Option<(&FlowKey, &Handshake, &mut S, SegmentMeta)> {
        let flow = self.slots[index.0 as usize].as_mut().filter(|flow| flow.is_settled)?;
        let meta = flow.connection.take_whole(segment, &mut self.context.stats)?;
        flow.last_seen = flow.last_seen.max(segment.timestamp);
        Some((&flow.key, &flow.handshake, &mut flow.state, meta))
    }
}
