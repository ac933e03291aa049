//! [`CounterPoll`]: asks the shards for their counters each interval, and waits for nobody.

use super::status::ShardStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a shard may take to publish its counters. An idle one wakes after a tenth of a second.
const ANSWER_WAIT: Duration = Duration::from_millis(300);

/// How often the engine looks whether they have.
pub(super) const ANSWER_INTERVAL: Duration = Duration::from_millis(10);

/// Whether all shards, which were asked at `asked`, have answered at `now`, or had time to.
pub(super) fn have_answered(asked: Instant, now: Instant, shards: &[Arc<ShardStatus>]) -> bool {
    now >= asked + ANSWER_WAIT || !shards.iter().any(|shard| shard.is_open())
}

/// When the shards are asked, and whether they have answered.
#[derive(Debug)]
pub(super) struct CounterPoll {
    interval: Duration,
    /// When they are asked next.
    due: Instant,
    /// When they were asked for the next report.
    asked: Option<Instant>,
}

impl CounterPoll {
    /// Asks first at `due`, and then each `interval`.
    pub(super) fn new(due: Instant, interval: Duration) -> CounterPoll {
        CounterPoll { interval, due, asked: None }
    }

    /// The time from `now` until there is something to do.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        match self.asked {
            Some(_) => ANSWER_INTERVAL,
            None => self.due.saturating_duration_since(now),
        }
    }

    /// Asks the shards for their counters if that is due at `now`. Returns whether all have
    /// answered, or had time to: then the report is to be made. Nothing waits here.
    pub(super) fn is_ready(&mut self, now: Instant, shards: &[Arc<ShardStatus>]) -> bool {
        let Some(asked) = self.asked else {
            if now >= self.due {
                shards.iter().for_each(|shard| shard.ask());
                self.asked = Some(now);
                self.due += self.interval;
                if self.due <= now {
                    // The process was stopped, or the machine was. What was missed is not made up.
                    self.due = now + self.interval;
                }
            }
            return false;
        };
        let is_ready = have_answered(asked, now, shards);
        if is_ready {
            self.asked = None;
        }
        is_ready
    }
}
