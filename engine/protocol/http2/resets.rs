//! Streams that the client has reset. What the server sent before it read the reset still belongs
//! to them: so they stay open until the server sends something that acknowledges the reset.

use super::connection::Http2Connection;
use super::streams::Reset;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::Context;
use crate::record::EventSink;
use crate::time::TimestampNs;

/// After this much packet time, nothing more of the stream is expected.
const WAIT_NS: u64 = 1_000_000_000;

impl Http2Connection {
    /// The client has reset a stream whose response has not ended.
    pub(super) fn await_reset<S>(&mut self, cx: &mut Context<'_, S>, stream: u32, at: TimestampNs) {
        let reset = Reset { stream, until: self.segment_end, at };
        self.resets.push(reset, &mut cx.shared.recorder.pool);
    }

    /// A segment of `direction` has passed. Ends the streams whose reset the server has read.
    #[cold]
    pub(super) fn settle_resets<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        meta: &SegmentMeta,
    ) {
        let side = self.side(direction);
        // What has begun belongs to what it acknowledges with.
        let is_between = side.framer.is_between_frames() && side.block.is_none();
        let read_until = meta.ack.filter(|_| is_between && !self.is_client(direction));
        while let Some(reset) = self.resets.first() {
            let is_read = read_until.is_some_and(|ack| !ack.precedes(reset.until));
            let is_over = self.streams.find(reset.stream).is_none();
            if !is_read && !is_over && meta.timestamp.since(reset.at) < WAIT_NS {
                return;
            }
            self.resets.pop();
            if let Some(at) = self.streams.find(reset.stream) {
                self.give_up(cx, at, Some(End::StreamReset));
            }
        }
        self.resets.free(&mut cx.shared.recorder.pool);
    }
}
