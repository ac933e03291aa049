//! The flows that a pipeline processes. A ring delivers to a shard its own flows only. Of a file,
//! each shard gets at least its own flows.

use crate::capture::{Frame, Route};
use crate::config::DecodeConfig;
use crate::decode::{FastDecoder, Reject, Segment};
use crate::ids::{FlowHashKey, FlowKey, ShardId};

/// The flows that a pipeline processes.
#[derive(Clone, Copy, Debug)]
pub enum Partition {
    /// All flows that arrive.
    All,
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
    /// The key of the hash, the same for all shards.
    pub hash_key: FlowHashKey,
}

impl Part {
    /// The parts of `count` shards, in order.
    pub fn all(count: u16, hash_key: FlowHashKey) -> Vec<Part> {
        (0..count).map(|shard| Part { shard: ShardId(shard), count, hash_key }).collect()
    }

    /// The shard that `key` belongs to.
    pub(super) fn owner(self, key: &FlowKey) -> ShardId {
        ShardId((key.flow_hash(&self.hash_key) % u32::from(self.count.max(1))) as u16)
    }
}

/// Which shard a frame of a file belongs to, for shards that have the [`Part`]s of a run. A frame
/// that only the slow path decodes may be part of a tunnel or a datagram in fragments, so every
/// shard gets it.
#[derive(Debug)]
pub struct FileRoute {
    part: Part,
    decoder: FastDecoder,
}

impl FileRoute {
    /// For the shards of [`Part::all`] that decode with `limits`.
    pub fn new(count: u16, hash_key: FlowHashKey, limits: &DecodeConfig) -> FileRoute {
        let part = Part { shard: ShardId(0), count, hash_key };
        FileRoute { part, decoder: FastDecoder::new(limits) }
    }
}

impl Route for FileRoute {
    #[inline]
    fn owner(&self, frame: &Frame<'_>) -> Option<ShardId> {
        match self.decoder.key(frame)? {
            Ok(key) => Some(self.part.owner(&key)),
            // The shard that counts what belongs to no flow.
            Err(_) => Some(ShardId(0)),
        }
    }
}

impl Partition {
    #[inline]
    pub(super) fn holds(&self, outcome: &Result<Segment<'_>, Reject>) -> bool {
        match (self, outcome) {
            (Partition::All, _) => true,
            (Partition::Part(part), Ok(segment)) => part.owner(&segment.key) == part.shard,
            (Partition::Part(_), Err(_)) => self.counts_strays(),
        }
    }

    /// One shard must count the frames that belong to no flow. If each shard reads everything, the
    /// first one does.
    pub(super) fn counts_strays(&self) -> bool {
        !matches!(self, Partition::Part(part) if part.shard != ShardId(0))
    }
}
