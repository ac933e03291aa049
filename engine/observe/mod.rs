//! What is counted: about a run, counters and gauges for whoever watches it; and over records, for
//! who looks at the traffic ([`summary`]).

mod counting;
pub mod metrics;
mod rates;
mod statistics;
pub mod summary;

pub use counting::Counts;
pub(crate) use counting::{Counted, Counter};
pub use rates::{RateMeter, Rates, Traffic};
pub use statistics::{Observed, Run, ShardState};
