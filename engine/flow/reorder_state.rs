//! [`ReorderState`]: the part of a connection's state that exists only while something is out of
//! order, missing or contradictory. Most connections have a null pointer instead.

use super::joining::Joining;
use super::out_of_order::OutOfOrderBuffer;
use super::rival::{HeldSegment, Rival};
use crate::decode::SeqNumber;
use crate::time::TimestampNs;

#[derive(Debug, Default)]
pub(super) struct ReorderState {
    /// The segments that wait in each direction.
    pub buffers: [Option<Box<OutOfOrderBuffer>>; 2],
    pub holes: [Option<Hole>; 2],
    /// Segments with other numbers.
    pub rival: Option<Box<Rival>>,
    /// Data on a SYN that is not acknowledged yet.
    pub syn_data: Option<Box<HeldSegment>>,
    /// The first segments of a connection that was joined late.
    pub joining: Option<Box<Joining>>,
}

/// Since when something waits for bytes that the peer has acknowledged, and how far the peer had
/// acknowledged then. While nothing waits, an acknowledgement alone gives up nothing: it may have
/// overtaken its data, or be arbitrary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub since: TimestampNs,
    pub acked: SeqNumber,
}

impl ReorderState {
    /// The memory of what is held apart from the streams.
    pub fn held_bytes(&self) -> usize {
        let rival_bytes = self.rival.as_ref().map_or(0, |rival| rival.cost_bytes());
        let joining_bytes = self.joining.as_ref().map_or(0, |joining| joining.cost_bytes());
        let data_bytes = self.syn_data.as_ref().map_or(0, |data| data.cost_bytes());
        rival_bytes + data_bytes + joining_bytes
    }

    pub fn is_blank(&self) -> bool {
        self.buffers.iter().all(Option::is_none)
            && self.holes.iter().all(Option::is_none)
            && self.rival.is_none()
            && self.syn_data.is_none()
            && self.joining.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure that tests/bounds.rs and README use for it, including one word of the allocator.
    #[test]
    fn it_takes_what_is_counted_for_it() {
        assert!(size_of::<ReorderState>() <= 88, "{}", size_of::<ReorderState>());
    }
}
