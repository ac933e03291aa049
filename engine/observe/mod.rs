//! What is reported about a run apart from its records: counters and gauges, for whoever watches
//! it.

pub mod metrics;
mod rates;
mod statistics;

pub use rates::{RateMeter, Rates, Traffic};
pub use statistics::{Observed, Run, ShardState};
