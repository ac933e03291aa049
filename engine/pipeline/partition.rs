//! Which flows are a pipeline's own. A ring brings a shard its own flows only; of a file each shard
//! reads all.

use crate::decode::{Reject, Segment};
use crate::ids::{FlowKey, ShardId};

/// Which flows are a pipeline's own.
#[derive(Clone, Copy, Debug)]
pub enum Partition {
    /// All that comes.
    All,
    /// All that comes, which should be this part: what is of another was sent to the wrong shard.
    Sent(Part),
    /// This part.
    Part(Part),
}

/// One part of all flows, by the hash that the fanout program takes, too.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Whose.
    pub shard: ShardId,
    /// Of how many.
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

    /// Whether the segment should have gone to another shard.
    #[inline]
    pub(super) fn is_misplaced(&self, segment: &Segment<'_>) -> bool {
        matches!(self, Partition::Sent(part) if !part.holds(&segment.key))
    }

    /// Somebody must count what belongs to no flow: where each shard reads all, the first does.
    pub(super) fn counts_strays(&self) -> bool {
        !matches!(self, Partition::Part(part) if part.shard != ShardId(0))
    }
}
