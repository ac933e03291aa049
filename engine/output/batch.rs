//! [`Batch`]: whole lines on their way to an output, and the limits on batches.

use crate::config::EmitConfig;
use crate::ids::ShardId;

/// What a sender does when the writer is behind and the queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Drops the batch and counts its lines; never waits (live capture). A separate thread writes.
    Drop,
    /// Waits until the batch is written (file input). The shard writes it itself, because the new
    /// lines are in its own CPU's caches.
    Wait,
}

/// Whole lines of one shard.
#[derive(Debug)]
pub struct Batch {
    /// The lines, each with its line feed.
    pub bytes: Vec<u8>,
    /// The number of lines.
    pub line_count: u64,
    /// The shard that they come from.
    pub shard: ShardId,
}

/// Limits of the queues from senders to writer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes at which a batch is handed over.
    pub batch_bytes: usize,
    /// Bytes at which a shard that writes itself writes a batch.
    pub direct_batch_bytes: usize,
    /// Batches of one shard that may wait for the writer.
    pub batch_count_max: usize,
    /// Maximum bytes of one line, for the spare capacity of a buffer.
    pub line_bytes_max: usize,
}

impl From<&EmitConfig> for Limits {
    fn from(config: &EmitConfig) -> Limits {
        // A file that is closed by its size is too large by one batch at most.
        let rotate_bytes = config.files.rotate_bytes.unwrap_or(u64::MAX);
        let bytes_max = usize::try_from(rotate_bytes).unwrap_or(usize::MAX);
        Limits {
            batch_bytes: config.batch_bytes.min(bytes_max),
            direct_batch_bytes: config.direct_batch_bytes.min(bytes_max),
            batch_count_max: config.batch_count_max,
            line_bytes_max: config.line_bytes_max,
        }
    }
}
