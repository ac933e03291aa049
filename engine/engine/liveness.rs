//! [`ShardWatch`]: which shards of a live capture no longer poll their rings.

use super::status::ShardStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What passes between two looks counts for no more than this. If it was more, the process was
/// stopped, frozen or starved, or its machine was: then the shards could not poll either. (The
/// clock itself does not count the time of a suspended machine: `CLOCK_MONOTONIC` of
/// clock_gettime(2).)
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// A shard that has not polled for this long no longer works.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What the run, its service manager and its metrics know of the shards of a live capture.
#[derive(Debug)]
pub(super) struct ShardWatch {
    liveness: Liveness,
    stalled: Vec<usize>,
}

impl ShardWatch {
    /// `shard_count` shards, which are taken to have polled just before `now`.
    pub(super) fn new(shard_count: usize, now: Instant) -> ShardWatch {
        ShardWatch { liveness: Liveness::new(shard_count, now), stalled: Vec::new() }
    }

    /// Looks at the shards ([`Liveness::look`]), and says which ones no longer poll.
    /// `has_watchdog`: a service manager acts on that.
    pub(super) fn look(&mut self, now: Instant, shards: &[Arc<ShardStatus>], has_watchdog: bool) {
        self.liveness.look(now, shards.iter().map(|shard| shard.poll_count()));
        let stalled = self.liveness.stalled(now, STALLED_AFTER);
        if stalled == self.stalled {
            return;
        }
        let acts = if has_watchdog {
            "; the service manager is left to act, unless that ends"
        } else {
            "; frames are dropped once a ring is full"
        };
        let why = if stalled.len() == 1 {
            "it hangs, or has no CPU"
        } else {
            "they hang, or have no CPU"
        };
        match not_polling(&stalled) {
            Some(sentence) => tracing::warn!("{sentence}: {why}{acts}"),
            None => tracing::warn!("all shards poll again"),
        }
        self.stalled = stalled;
    }

    /// The shards that did not poll at the last look for [`STALLED_AFTER`] or longer.
    pub(super) fn stalled(&self) -> &[usize] {
        &self.stalled
    }
}

/// That these shards do not poll, if there are any.
pub(super) fn not_polling(stalled: &[usize]) -> Option<String> {
    let plural = match stalled.len() {
        0 => return None,
        1 => "",
        _ => "s",
    };
    let numbers: Vec<String> = stalled.iter().map(usize::to_string).collect();
    let (numbers, seconds) = (numbers.join(", "), STALLED_AFTER.as_secs());
    Some(format!("shard{plural} {numbers} did not poll for {seconds} s"))
}

/// Remembers for each shard when its poll count was last seen to change. It is for live captures.
/// There a poll never takes long: a shard without frames wakes after a second at the latest
/// (`LiveSource::wait`), and lines that the writer cannot take are dropped, so that no disk, pipe
/// or terminal holds it up. A shard that reads a file may wait for either, as long as it takes.
#[derive(Debug)]
struct Liveness {
    /// For each shard its poll count, and at what time that was first seen.
    shards: Vec<(u64, Duration)>,
    /// The time that was looked at: that of the clock without what is left out.
    time: Duration,
    /// The last look.
    looked: Instant,
}

impl Liveness {
    /// `shard_count` shards, which are taken to have polled just before `now`.
    fn new(shard_count: usize, now: Instant) -> Liveness {
        let shards = vec![(0, Duration::ZERO); shard_count];
        Liveness { shards, time: Duration::ZERO, looked: now }
    }

    /// Looks at the poll counts of all shards, in order. To be called each second or so, and always
    /// before [`Liveness::stalled`]: a shard that polls is only known to if it was looked at.
    fn look(&mut self, now: Instant, poll_counts: impl IntoIterator<Item = u64>) {
        self.time += self.since_look(now);
        self.looked = now;
        for ((known, changed), count) in self.shards.iter_mut().zip(poll_counts) {
            if *known != count {
                (*known, *changed) = (count, self.time);
            }
        }
    }

    /// The indices of the shards that have not polled for `within`, as far as that is known at
    /// `now`. `within` should be 4 s or more: an idle shard polls each second, and a process that
    /// was stopped has its first look perhaps before the shards poll again.
    fn stalled(&self, now: Instant, within: Duration) -> Vec<usize> {
        let time = self.time + self.since_look(now);
        let shards = self.shards.iter().enumerate();
        let stalled = shards.filter(|(_, (_, changed))| time - *changed >= within);
        stalled.map(|(index, _)| index).collect()
    }

    fn since_look(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.looked).min(LOOK_TIME_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(5);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_shard_that_does_not_poll_is_stalled_until_it_does() {
        let begun = Instant::now();
        let at = |second: u64| begun + seconds(second);
        let mut liveness = Liveness::new(3, begun);
        assert!(liveness.stalled(at(0), WITHIN).is_empty());
        // The second shard polls up to the 4th second, and the third one never does.
        for second in 1..=20 {
            liveness.look(at(second), [second, second.min(4), 0]);
            let expected: &[usize] = match second {
                0..=4 => &[],
                5..=8 => &[2],
                _ => &[1, 2],
            };
            assert_eq!(liveness.stalled(at(second), WITHIN), expected, "second {second}");
        }
        // One poll is enough, and counts wrap around.
        liveness.look(at(21), [u64::MAX, 5, 0]);
        assert_eq!(liveness.stalled(at(21), WITHIN), [2]);
        liveness.look(at(22), [0, 5, 1]);
        assert!(liveness.stalled(at(22), WITHIN).is_empty());
    }

    #[test]
    fn the_time_since_the_last_look_counts() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(1, begun);
        for second in 1..=4 {
            liveness.look(begun + seconds(second), [0]);
        }
        assert!(liveness.stalled(begun + Duration::from_millis(4999), WITHIN).is_empty());
        assert_eq!(liveness.stalled(begun + seconds(5), WITHIN), [0]);
    }

    /// SIGSTOP, the freezer of cgroups, a virtual machine that was paused.
    #[test]
    fn nobody_is_stalled_because_all_were_stopped() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(2, begun);
        liveness.look(begun + seconds(1), [10, 10]);
        let later = begun + seconds(3600);
        assert!(liveness.stalled(later, WITHIN).is_empty());
        // The engine may run before the shards do.
        liveness.look(later, [10, 10]);
        assert!(liveness.stalled(later, WITHIN).is_empty());
        // The second one is stuck for good.
        for second in 1..=3 {
            liveness.look(later + seconds(second), [10 + second, 10]);
        }
        assert_eq!(liveness.stalled(later + seconds(3), WITHIN), [1]);
    }

    /// A clock that goes back is the same as none.
    #[test]
    fn a_look_at_an_earlier_time_takes_no_time() {
        let begun = Instant::now() + seconds(60);
        let mut liveness = Liveness::new(1, begun);
        liveness.look(begun - seconds(50), [0]);
        assert!(liveness.stalled(begun - seconds(50), seconds(1)).is_empty());
    }
}
