//! The flows that a pipeline processes. A ring delivers to a shard its own flows only. A file is
//! read by each shard as a whole.

use crate::decode::{Reject, Segment};
use crate::ids::{FlowKey, ShardId};

/// The flows that a pipeline processes.
#[derive(Clone, Copy, Debug)]
pub enum Partition {
    /// All flows.
    All,
    /// All flows that arrive, which should be this part. Those of another part were sent to the
    /// wrong shard.
    Sent(Part),
    /// This part only.
    Part(Part),
}

/// One part of all flows, by the hash that the fanout program uses, too.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The shard that this part belongs to.
    pub shard: ShardId,
    /// The number of shards.
    pub count: u16,
}

impl Part {
    fn holds(self, key: &FlowKey) -> bool {
        key.flow_hash() % u32::from(self.count.max(1)) == u32::from(self.shard.0)
    }
}

impl Partition {
    #[inline]
    pub(super) fn holds(&self, outcome: &Result<Segment<'_>, Reject>) -> bool {
        match (self, outcome) {
            (Partition::All | Partition::Sent(_), _) => true,
            (Partition::Part(part), Ok(segment)) => part.holds(&segment.key),
            (Partition::Part(_), Err(_)) => self.counts_strays(),
        }
    }

    /// Whether the segment should have been sent to another shard.
    #[inline]
    pub(super) fn is_misplaced(&self, segment: &Segment<'_>) -> bool {
        matches!(self, Partition::Sent(part) if !part.holds(&segment.key))
    }

    /// One shard must count the frames that belong to no flow. If each shard reads everything, the
    /// first one does.
    pub(super) fn counts_strays(&self) -> bool {
        !matches!(self, Partition::Part(part) if part.shard != ShardId(0))
    }
}
