//! [`ReorderPool`]: memory for out-of-order data in the connections of a shard.

use super::out_of_order::{OutOfOrderBuffer, SPARE_COUNT_MAX, SegmentPool};
use super::reorder_state::ReorderState;

/// The bytes that wait in all connections of a shard, and their limit. Also keeps spare memory, so
/// that nothing is allocated for out-of-order data in the steady state.
#[derive(Debug)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct ReorderPool {
    /// The waiting segments.
    pub segments: SegmentPool,
    states: Vec<Box<ReorderState>>,
    buffers: Vec<Box<OutOfOrderBuffer>>,
}

impl ReorderPool {
    /// Starts without any waiting segment; at most `max_bytes` may wait.
    pub fn new(max_bytes: usize) -> ReorderPool {
        let (states, buffers) = (Vec::new(), Vec::new());
        ReorderPool { segments: SegmentPool::new(max_bytes), states, buffers }
    }

    /// A state with nothing out of order.
    pub(super) fn state(&mut self) -> Box<ReorderState> {
        self.states.pop().unwrap_or_default()
    }

    /// Takes back a state with nothing out of order.
    pub(super) fn give_state_back(&mut self, reorder: Box<ReorderState>) {
        if self.states.len() < SPARE_COUNT_MAX {
            self.states.push(reorder);
        }
    }

    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Box<OutOfOrderBuffer> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes back an empty buffer.
    pub(super) fn give_buffer_back(&mut self, buffer: Box<OutOfOrderBuffer>) {
        debug_assert!(buffer.is_empty());
        if self.buffers.len() < SPARE_COUNT_MAX {
            self.buffers.push(buffer);
        }
    }
}
