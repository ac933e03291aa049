//! [`Schedule`]: when an output file is closed.

use crate::config::FilesConfig;
use crate::output::batch::Batch;
use crate::output::closed_name::UtcMicros;

/// A clock that is set back by no more than this is taken as if it stood still.
pub(super) const SMALL_STEP_US: u64 = 1_000_000;

/// When an output file is closed: by its size, and by the time of the clock.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    bytes_max: u64,
    interval_us: Option<u64>,
    /// The number of the interval that the lines of the file belong to.
    interval: u64,
}

impl Schedule {
    pub(super) fn new(config: &FilesConfig) -> Schedule {
        let us = |interval: std::time::Duration| interval.as_micros().clamp(1, u64::MAX.into());
        Schedule {
            bytes_max: config.rotate_bytes.unwrap_or(u64::MAX),
            interval_us: config.rotate_interval.map(|interval| us(interval) as u64),
            interval: 0,
        }
    }

    /// From now on lines belong to the interval of `time`.
    pub(super) fn begin(&mut self, time: UtcMicros) {
        self.interval = self.interval_us.map_or(0, |interval_us| time.0 / interval_us);
    }

    /// Whether the interval is over. If the clock was set, the time is in another interval, earlier
    /// or later: then that one begins. So a step of the clock closes a file once, and none stays
    /// open until a clock that was set back is where it was before.
    pub(super) fn is_over(&self, now: UtcMicros) -> bool {
        self.interval_us.is_some_and(|interval_us| {
            let begin = self.interval.saturating_mul(interval_us);
            let end = begin.saturating_add(interval_us);
            now.0 >= end || now.0.saturating_add(SMALL_STEP_US) < begin
        })
    }

    /// Whether there is an interval, so that the time counts.
    pub(super) fn has_interval(&self) -> bool {
        self.interval_us.is_some()
    }

    /// Whether a file of `bytes` has no space for `next_bytes`. An empty file always has.
    pub(super) fn is_full(&self, bytes: u64, next_bytes: u64) -> bool {
        bytes > 0 && bytes.saturating_add(next_bytes) > self.bytes_max
    }

    /// The number of `batches`, at least one, that a file of `bytes` has space for.
    pub(super) fn fitting(&self, bytes: u64, batches: &[Batch]) -> usize {
        let mut bytes = bytes;
        let fitting = batches.iter().take_while(|batch| {
            let next_bytes = batch.bytes.len() as u64;
            let is_full = self.is_full(bytes, next_bytes);
            bytes += next_bytes;
            !is_full
        });
        fitting.count().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use std::time::Duration;

    const HOUR_US: u64 = 3_600_000_000;
    const NOON: u64 = 20_000 * 24 * HOUR_US + 12 * HOUR_US;

    fn hourly() -> Schedule {
        let rotate_interval = Some(Duration::from_secs(3600));
        Schedule::new(&FilesConfig { rotate_interval, ..FilesConfig::default() })
    }

    /// The times of `clock` at which a file is closed.
    fn closings(schedule: &mut Schedule, clock: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut closings = Vec::new();
        for time in clock {
            if schedule.is_over(UtcMicros(time)) {
                closings.push(time);
                schedule.begin(UtcMicros(time));
            }
        }
        closings
    }

    #[test]
    fn intervals_begin_at_multiples_in_utc() {
        let mut schedule = hourly();
        schedule.begin(UtcMicros(NOON + HOUR_US / 2));
        assert!(!schedule.is_over(UtcMicros(NOON)));
        assert!(!schedule.is_over(UtcMicros(NOON + HOUR_US - 1)));
        assert!(schedule.is_over(UtcMicros(NOON + HOUR_US)));
        let minutes = (30..300).map(|minute| NOON + minute * HOUR_US / 60);
        let hours: Vec<_> = (1..5).map(|hour| NOON + hour * HOUR_US).collect();
        assert_eq!(closings(&mut schedule, minutes), hours);
    }

    #[test]
    fn a_clock_that_is_set_closes_one_file() {
        let seconds =
            |from: u64| (0..HOUR_US / 1_000_000).map(move |second| from + second * 1_000_000);
        for step_us in [24 * HOUR_US, HOUR_US, 365 * 24 * HOUR_US, NOON] {
            for (before, after) in [(NOON, NOON - step_us), (NOON - step_us, NOON)] {
                let mut schedule = hourly();
                schedule.begin(UtcMicros(before));
                let clock = seconds(before).chain(seconds(after)).chain(seconds(after + HOUR_US));
                let expected = vec![after, after + HOUR_US];
                assert_eq!(closings(&mut schedule, clock), expected, "by {step_us}");
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_at_a_boundary_closes_none() {
        let mut schedule = hourly();
        schedule.begin(UtcMicros(NOON));
        let back = NOON - SMALL_STEP_US;
        let clock = [NOON + 10, back, back + 500, NOON - 1, NOON, NOON + HOUR_US - 1];
        assert_eq!(closings(&mut schedule, clock), Vec::<u64>::new());
        assert_eq!(closings(&mut schedule, [NOON - SMALL_STEP_US - 1]), [NOON - SMALL_STEP_US - 1]);
    }

    #[test]
    fn without_an_interval_time_does_not_count() {
        let mut schedule = Schedule::new(&FilesConfig::default());
        schedule.begin(UtcMicros(NOON));
        assert!(!schedule.has_interval() && !schedule.is_over(UtcMicros(u64::MAX)));
        assert!(!schedule.is_full(u64::MAX, u64::MAX));
    }

    #[test]
    fn a_file_is_too_large_by_one_batch_at_most() {
        let rotate_bytes = Some(100);
        let schedule = Schedule::new(&FilesConfig { rotate_bytes, ..FilesConfig::default() });
        let batches: Vec<Batch> = [40, 60, 1, 200, 5]
            .map(|bytes| Batch { bytes: vec![b'\n'; bytes], line_count: 1, shard: ShardId(0) })
            .into();
        assert_eq!(schedule.fitting(0, &batches), 2);
        assert_eq!(schedule.fitting(0, &batches[3..]), 1);
        assert_eq!(schedule.fitting(60, &batches), 1);
        assert_eq!(schedule.fitting(100, &batches), 1, "at least one");
        assert!(!schedule.is_full(0, 200) && schedule.is_full(1, 100) && !schedule.is_full(1, 99));
    }
}
