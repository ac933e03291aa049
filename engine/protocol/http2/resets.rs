//! Streams that the client has reset. What the server sent before it read the reset still belongs to
//! them: so they stay open until the server sends something that acknowledges the reset.

use super::connection::Http2Connection;
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::Context;
use crate::protocol::pool::ExchangePool;
use crate::record::EventSink;
use crate::time::TimestampNs;
use std::collections::VecDeque;

/// After this much packet time, nothing more of the stream is expected.
const WAIT_NS: u64 = 1_000_000_000;

/// The resets that the server may not have read, in their order.
#[derive(Debug, Default)]
pub(super) struct Resets {
    waiting: VecDeque<Reset>,
}

#[derive(Clone, Copy, Debug)]
struct Reset {
    stream: u32,
    /// The position behind the segment that held it.
    until: SeqNumber,
    at: TimestampNs,
}

impl Resets {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, reset: Reset, pool: &mut ExchangePool) {
        let before = self.waiting.capacity();
        self.waiting.push_back(reset);
        pool.hold((self.waiting.capacity() - before) * size_of::<Reset>());
    }

    /// Forgets all, and frees their memory.
    pub fn free(&mut self, pool: &mut ExchangePool) {
        pool.release(self.waiting.capacity() * size_of::<Reset>());
        self.waiting = VecDeque::new();
    }
}

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
        let read_until = meta.ack.filter(|_| !self.is_client(direction));
        while let Some(reset) = self.resets.waiting.front().copied() {
            let is_read = read_until.is_some_and(|ack| !ack.precedes(reset.until));
            let is_over = self.streams.find(reset.stream).is_none();
            if !is_read && !is_over && meta.timestamp.since(reset.at) < WAIT_NS {
                return;
            }
            self.resets.waiting.pop_front();
            if let Some(at) = self.streams.find(reset.stream) {
                self.give_up(cx, at, Some(End::StreamReset));
            }
        }
        self.resets.free(&mut cx.shared.recorder.pool);
    }
}
