//! The option for what is under way.

use clap::Args;
use httplines::config::FlowConfig;
use std::time::Duration;

/// The answer if there is no line that could be partial.
pub const NEEDS_JSON: &str = "--active-timeout is for JSON lines, because a text line is written \
     as soon as the head of its message is complete: add -o FILE, or -o - for standard output";

/// The option for what is under way.
#[derive(Debug, Args)]
pub struct ActiveArgs {
    /// Also report what is under way for S seconds, and again each S (JSON)
    ///
    /// Downloads, uploads and streams of events may last for hours. With this option an exchange
    /// that has been under way for S seconds has a line with `partial` and what has passed so far,
    /// and another one after each further S seconds. The line of the whole exchange comes at its
    /// end, as without the option, and has the same flow and n. Partial lines are no exchanges: -c
    /// and the totals do not count them as such. From 1 to 604800, such as 60 or 2.5.
    #[arg(long, value_name = "S", value_parser = timeout, help_heading = "Output")]
    #[arg(hide_short_help = true)]
    active_timeout: Option<Duration>,
}

impl ActiveArgs {
    /// Whether the option is given.
    pub fn is_given(&self) -> bool {
        self.active_timeout.is_some()
    }

    /// Sets the timeout.
    pub fn configure(&self, flow: &mut FlowConfig) {
        flow.active_timeout_ms = self.active_timeout.map(|timeout| timeout.as_millis() as u64);
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let [least, most] = [FlowConfig::ACTIVE_TIMEOUT_MS_MIN, FlowConfig::ACTIVE_TIMEOUT_MS_MAX]
        .map(Duration::from_millis);
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds.filter(|it| (least..=most).contains(it)).ok_or_else(|| {
        format!(
            "a number of seconds from {} to {}, such as 60 or 2.5",
            least.as_secs(),
            most.as_secs()
        )
    })
}

#[test]
fn a_timeout_is_from_a_second_to_a_week() {
    assert_eq!(timeout("60"), Ok(Duration::from_secs(60)));
    assert_eq!(timeout("2.5"), Ok(Duration::from_millis(2_500)));
    assert_eq!(timeout("1"), Ok(Duration::from_secs(1)));
    assert_eq!(timeout("604800"), Ok(Duration::from_secs(604_800)));
    for text in ["", "0", "-1", "nan", "inf", "0.9", "604801", "60s"] {
        let error = "a number of seconds from 1 to 604800, such as 60 or 2.5";
        assert_eq!(timeout(text), Err(error.to_string()), "{text}");
    }
}
