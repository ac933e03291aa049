//! The option for the file of statistics.

use clap::Args;
use httplines::config::EmitConfig;
use std::time::Duration;

/// The shortest interval. Each line costs the shards a copy of their counters.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

/// The answer if there is no file of statistics that could have an interval.
pub const NEEDS_FILE: &str = "--stats-interval is for the file of statistics beside the JSON lines \
     of a live capture: add -i IFACE and -o FILE, or leave it out";

/// The option for the file of statistics.
#[derive(Debug, Args)]
pub struct StatisticsArgs {
    /// Add a line to http.stats each S seconds, 0: never [default: 10]
    ///
    /// Beside the file of a live capture, such as http.jsonl, httplines writes http.stats: a JSON
    /// line at the start, each interval and at the end, with all counters, what was lost and why,
    /// and the state of rings, shards and output. It has the name of the file with another
    /// extension. docs/stats.schema.json describes it.
    #[arg(long, value_name = "S", value_parser = interval, help_heading = "Output")]
    #[arg(hide_short_help = true)]
    stats_interval: Option<Duration>,
}

impl StatisticsArgs {
    /// Whether the file is asked for.
    pub fn is_wanted(&self) -> bool {
        self.stats_interval.is_some_and(|interval| !interval.is_zero())
    }

    /// Sets the interval.
    pub fn configure(&self, emit: &mut EmitConfig) {
        if let Some(interval) = self.stats_interval {
            emit.stats_interval_ms = interval.as_millis() as u64;
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
