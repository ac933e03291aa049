//! [`ShardStatus`]: what a shard publishes while it runs.

use crate::observe::Counted;
use crate::shard::{ShardGauges, ShardStats, ShardView};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The state that a shard publishes while it runs. Its counters are copied only when somebody asks
/// for them.
#[derive(Debug, Default)]
pub(super) struct ShardStatus {
    frame_count: AtomicU64,
    poll_count: AtomicU64,
    is_wanted: AtomicBool,
    published: Mutex<(ShardStats, ShardGauges)>,
    /// If the shard counts events: it is asked for those, too.
    counted: Option<Arc<Counted>>,
}

impl ShardStatus {
    /// Of a shard that counts events, if there is `counted`.
    pub(super) fn new(counted: Option<Arc<Counted>>) -> ShardStatus {
        ShardStatus { counted, ..ShardStatus::default() }
    }

    /// Called by the shard after each poll.
    pub(super) fn show(&self, shard: &ShardView<'_>) {
        self.frame_count.store(shard.frame_count(), Ordering::Relaxed);
        // No other thread changes it.
        let poll_count = self.poll_count.load(Ordering::Relaxed).wrapping_add(1);
        self.poll_count.store(poll_count, Ordering::Relaxed);
        if self.is_wanted.load(Ordering::Relaxed) {
            let published = (shard.stats(), shard.gauges());
            *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
            self.is_wanted.store(false, Ordering::Release);
        }
    }

    pub(super) fn frame_count(&self) -> u64 {
        self.frame_count.load(Ordering::Relaxed)
    }

    /// How often the shard has polled its source. That it changes tells that the shard runs
    /// ([`ShardWatch`](super::liveness::ShardWatch)).
    pub(super) fn poll_count(&self) -> u64 {
        self.poll_count.load(Ordering::Relaxed)
    }

    /// Asks the shard to publish its counters after its next poll.
    pub(super) fn ask(&self) {
        // Before, so that with the counters its events are there.
        self.counted.iter().for_each(|counted| counted.ask());
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether the shard has not published them since.
    pub(super) fn is_open(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// What was published last.
    pub(super) fn published(&self) -> (ShardStats, ShardGauges) {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
