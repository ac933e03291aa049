//! The options for those who watch a run: statistics, and what counts as a failure.

use super::Args;
use httplines::config::Config;
use std::time::Duration;

/// The shortest interval. Each line costs the shards a copy of their counters.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

/// The answer if no capture is live.
pub const NEEDS_LIVE: &str = "--stats-interval is for live captures, with -i; reading a file has \
     its totals at the end: leave it out";

/// The options for those who watch a run.
#[derive(Debug, clap::Args)]
pub struct StatisticsArgs {
    /// Report statistics each S seconds, 0: never [default: 10 into http.stats]
    ///
    /// Beside the file of JSON lines of a live capture, such as http.jsonl, httplines writes
    /// http.stats: a JSON line at the start, each interval and at the end, with all counters, what
    /// was lost and why, and the state of rings, shards and output. It has the name of the file
    /// with another extension. docs/stats.schema.json describes it. Where no such file is written,
    /// as with lines on standard output, this option prints a line of rates on standard error each
    /// interval, unless -q is given; without the option there is none.
    #[arg(long, value_name = "S", value_parser = interval, help_heading = "Output")]
    #[arg(hide_short_help = true)]
    stats_interval: Option<Duration>,

    /// Exit with 1 if the kernel dropped frames, or lines were lost
    ///
    /// For tests of performance, and wherever a result with holes is worth nothing. What counts
    /// are frames that the kernel dropped because a ring was full, and lines that were made and
    /// not written, whatever the reason. Frames that a NIC or the kernel lost before the filter
    /// saw them are in the totals and do not count.
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    fail_on_drop: bool,
}

impl StatisticsArgs {
    /// Whether statistics are asked for.
    pub fn is_wanted(&self) -> bool {
        self.stats_interval.is_some_and(|interval| !interval.is_zero())
    }
}

impl Args {
    /// Whether the run captures on interfaces.
    pub fn is_live(&self) -> bool {
        !self.interfaces.is_empty()
    }

    /// Whether a run has failed that dropped a frame or lost a line.
    pub fn is_failing_on_drop(&self) -> bool {
        self.statistics.fail_on_drop
    }

    /// Sets the intervals of statistics.
    pub(super) fn configure_statistics(&self, config: &mut Config) {
        if let Some(interval) = self.statistics.stats_interval {
            let interval_ms = interval.as_millis() as u64;
            config.emit.stats_interval_ms = interval_ms;
            let is_shown = interval_ms > 0 && !self.quiet;
            config.watch.rates_interval_ms = is_shown.then_some(interval_ms);
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds
        .filter(|it| it.is_zero() || (INTERVAL_MIN..=INTERVAL_MAX).contains(it))
        .ok_or_else(|| "a number of seconds from 0.1 to 86400, or 0 for no statistics".to_string())
}

#[test]
fn an_interval_is_a_time_or_none() {
    assert_eq!(interval("10"), Ok(Duration::from_secs(10)));
    assert_eq!(interval("0.1"), Ok(INTERVAL_MIN));
    assert_eq!(interval("0"), Ok(Duration::ZERO));
    for text in ["", "-1", "nan", "inf", "0.01", "86401", "10s"] {
        assert!(interval(text).is_err(), "{text}");
    }
}
