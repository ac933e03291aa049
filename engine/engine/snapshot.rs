//! [`Snapshot`]: the state of a run at one moment, for a scrape of its metrics.

use super::sandbox::Layers;
use crate::observe::ShardState;
use crate::output::WriterGauges;
use crate::totals::Totals;
use std::time::Instant;

/// The state of a run at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) totals: Totals,
    pub(super) shards: Vec<ShardState>,
    pub(super) writer: WriterGauges,
    /// The shards that no longer poll.
    pub(super) stalled: Vec<usize>,
    /// What the run is restricted by.
    pub(super) layers: Layers,
    pub(super) taken: Instant,
}
