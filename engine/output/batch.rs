//! [`Batch`]: whole lines on their route to an output, and how many may be.

use crate::config::EmitConfig;
use crate::ids::ShardId;

/// What an sender does where the writer is behind and the queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Drops the batch and counts its lines; never waits (live capture). A thread of its own
    /// writes.
    Drop,
    /// Waits until the batch is written (file input), and so may write it itself: what was just
    /// made is in its CPU's caches, and not in those of the writer's.
    Wait,
}

/// Whole lines of one shard.
#[derive(Debug)]
pub struct Batch {
    /// The lines, each with its line feed.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub line_count: u64,
    /// Whose they are.
    pub shard: ShardId,
}

/// Bounds of the route from senders to writer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes at which a batch is handed over.
    pub batch_bytes: usize,
    /// Bytes at which a batch is written by the shard itself.
    pub direct_batch_bytes: usize,
    /// Batches of one shard that may wait for the writer.
    pub batch_count_max: usize,
    /// Bytes of one line, for the room a buffer keeps.
    pub line_bytes_max: usize,
}

impl From<&EmitConfig> for Limits {
    fn from(config: &EmitConfig) -> Limits {
        Limits {
            batch_bytes: config.batch_bytes,
            direct_batch_bytes: config.direct_batch_bytes,
            batch_count_max: config.batch_count_max,
            line_bytes_max: config.line_bytes_max,
        }
    }
}
