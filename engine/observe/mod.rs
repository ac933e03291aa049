//! What is reported about a run apart from its records: counters and gauges, for whoever watches
//! it.

mod statistics;

pub use statistics::{Observed, Run, ShardState};
