//! [`ReorderPool`]: memory for what is out of order in the connections of a shard.

use super::out_of_order::{OutOfOrderBuffer, SPARE_COUNT_MAX, SegmentPool};
use super::reorder_state::ReorderState;

/// Bytes that wait in all connections of a shard, and how many may; and memory that waited before,
/// so that in the steady state none is allocated for what is out of order.
#[derive(Debug)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct ReorderPool {
    /// What waits.
    pub segments: SegmentPool,
    states: Vec<Box<ReorderState>>,
    buffers: Vec<Box<OutOfOrderBuffer>>,
}

impl ReorderPool {
    /// Nothing waits yet; at most `max_bytes` may.
    pub fn new(max_bytes: usize) -> ReorderPool {
        let (states, buffers) = (Vec::new(), Vec::new());
        ReorderPool { segments: SegmentPool::new(max_bytes), states, buffers }
    }

    /// Nothing out of order yet.
    pub(super) fn state(&mut self) -> Box<ReorderState> {
        self.states.pop().unwrap_or_default()
    }

    /// Takes it back where nothing is out of order.
    pub(super) fn give_state_back(&mut self, reorder: Box<ReorderState>) {
        if self.states.len() < SPARE_COUNT_MAX {
            self.states.push(reorder);
        }
    }

    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Box<OutOfOrderBuffer> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back that is empty.
    pub(super) fn give_buffer_back(&mut self, buffer: Box<OutOfOrderBuffer>) {
        debug_assert!(buffer.is_empty());
        if self.buffers.len() < SPARE_COUNT_MAX {
            self.buffers.push(buffer);
        }
    }
}
