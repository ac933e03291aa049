//! [`Rates`]: what passed and what was lost between two looks at the totals, as a line for eyes and
//! grep, and shorter for a service manager.

use crate::totals::Totals;
use std::fmt;
use std::time::Duration;

/// What was counted up to a moment, or between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Time: since the start, or between the two moments.
    pub elapsed: Duration,
    /// Frames that the shards have processed.
    pub frames: u64,
    /// Bytes of these frames on the wire: those captured, and those of bodies that stayed in the
    /// kernel.
    pub bytes: u64,
    /// Heads of requests.
    pub requests: u64,
    /// Frames that the kernel dropped because a ring was full.
    pub frames_dropped: u64,
    /// Lines that were lost, whatever the cause.
    pub lines_lost: u64,
}

impl Traffic {
    /// What `totals` have counted. Where the kernel's counters could not be read, those of `before`
    /// stand for them.
    fn of(totals: &Totals, before: &Traffic) -> Traffic {
        let pipeline = &totals.shards.pipeline;
        let exchanges = &pipeline.protocol.exchanges;
        let live = totals.live.as_ref();
        let elided_bytes = live.map_or(0, |live| live.filter.elided_bytes);
        Traffic {
            elapsed: totals.elapsed,
            frames: pipeline.frames,
            bytes: (pipeline.frame_bytes + elided_bytes).max(before.bytes),
            requests: exchanges.requests.saturating_sub(exchanges.requests_withdrawn),
            frames_dropped: live.map_or(before.frames_dropped, |live| live.drops()),
            lines_lost: totals.lines_lost().iter().map(|(_, count)| count).sum(),
        }
    }

    /// What was counted since `before`.
    fn since(&self, before: &Traffic) -> Traffic {
        Traffic {
            elapsed: self.elapsed.saturating_sub(before.elapsed),
            frames: self.frames.saturating_sub(before.frames),
            bytes: self.bytes.saturating_sub(before.bytes),
            requests: self.requests.saturating_sub(before.requests),
            frames_dropped: self.frames_dropped.saturating_sub(before.frames_dropped),
            lines_lost: self.lines_lost.saturating_sub(before.lines_lost),
        }
    }

    /// `count` of them in a second.
    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }
}

/// What passed and what was lost since the measurement before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Since the start.
    pub total: Traffic,
    /// Since the measurement before; the first time since the start.
    pub delta: Traffic,
    /// Connections that are open now.
    pub connections: u64,
}

/// Measures [`Rates`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RateMeter {
    last: Traffic,
}

impl RateMeter {
    /// The rates from the last measurement until `totals`, which are read now, with `connections`
    /// open.
    pub fn measure(&mut self, totals: &Totals, connections: u64) -> Rates {
        let total = Traffic::of(totals, &self.last);
        let delta = total.since(&self.last);
        self.last = total;
        Rates { total, delta, connections }
    }
}

impl Rates {
    /// A few words for the status of a service.
    pub fn status(&self) -> String {
        let (requests, prefix) = scaled(self.delta.per_second(self.delta.requests));
        let Traffic { frames_dropped, lines_lost, .. } = self.total;
        format!(
            "{requests}{prefix} req/s, {frames_dropped} frames dropped, {lines_lost} lines lost"
        )
    }
}

impl fmt::Display for Rates {
    /// One line, without its end. Each number has its unit behind it and a width of its own. What
    /// was lost is a number, since a rate would hide a few.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rates { total, delta, connections } = self;
        let rate = |count: u64| {
            let (number, prefix) = scaled(delta.per_second(count));
            format!("{number}{prefix}")
        };
        let (bits, prefix) = scaled(delta.per_second(delta.bytes.saturating_mul(8)));
        write!(
            f,
            "{:>8.1} s {:>6} frames/s {:>6} req/s {bits:>5} {:<6} {:>5} dropped {:>5} lines lost \
             {connections:>6} connections",
            total.elapsed.as_secs_f64(),
            rate(delta.frames),
            rate(delta.requests),
            format!("{prefix}bit/s"),
            delta.frames_dropped,
            delta.lines_lost,
        )
    }
}

/// `value` with three digits, and the prefix of its unit. 0 is 0.
fn scaled(value: f64) -> (String, &'static str) {
    let mut value = value;
    let mut prefixes = ["", "k", "M", "G", "T"].into_iter();
    let mut prefix = prefixes.next().unwrap_or_default();
    // So much is shown as 1000.
    while value >= 999.5
        && let Some(next) = prefixes.next()
    {
        (value, prefix) = (value / 1000.0, next);
    }
    let number = match value {
        0.0 => "0".to_string(),
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    (number, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::live::{InterfaceTotals, LiveTotals};

    fn totals(seconds: u64, factor: u64) -> Totals {
        let mut totals = Totals { elapsed: Duration::from_secs(seconds), ..Totals::default() };
        let pipeline = &mut totals.shards.pipeline;
        (pipeline.frames, pipeline.frame_bytes) = (123_456 * factor, 1_000_000 * factor);
        let exchanges = &mut pipeline.protocol.exchanges;
        (exchanges.requests, exchanges.requests_withdrawn) = (104_003 * factor, 3 * factor);
        totals.shards.emit.lines_dropped = 2 * factor;
        totals.writer.lines_lost_disk_full = 3 * factor;
        let interface = InterfaceTotals { drops: 7 * factor, ..InterfaceTotals::default() };
        let live = LiveTotals { interfaces: vec![interface], ..LiveTotals::default() };
        totals.live.insert(live).filter.elided_bytes = 1_499_000_000 * factor;
        totals
    }

    #[test]
    fn a_line_has_the_differences_over_the_time_between() {
        let mut meter = RateMeter::default();
        let first = meter.measure(&totals(10, 1), 318);
        assert_eq!(
            first.to_string(),
            "    10.0 s  12.3k frames/s  10.4k req/s  1.20 Gbit/s     7 dropped     5 lines lost  \
            \x20 318 connections"
        );
        assert_eq!(first.status(), "10.4k req/s, 7 frames dropped, 5 lines lost");
        // Twice as much passed in twice the time, and a second more.
        let second = meter.measure(&totals(31, 3), 0);
        assert_eq!(
            second.to_string(),
            "    31.0 s  11.8k frames/s  9.90k req/s  1.14 Gbit/s    14 dropped    10 lines lost  \
            \x20   0 connections"
        );
        assert_eq!(second.status(), "9.90k req/s, 21 frames dropped, 15 lines lost");
        let idle = meter.measure(&totals(32, 3), 0);
        assert_eq!(
            idle.to_string(),
            "    32.0 s      0 frames/s      0 req/s     0 bit/s      0 dropped     0 lines lost  \
            \x20   0 connections"
        );
    }

    /// Neither counters that could not be read nor a shard that takes its counters with it give a
    /// rate that nobody saw.
    #[test]
    fn what_cannot_be_read_is_not_counted_twice() {
        let mut meter = RateMeter::default();
        meter.measure(&totals(1, 5), 0);
        let unread = Totals { live: None, ..totals(2, 5) };
        let rates = meter.measure(&unread, 0);
        assert_eq!((rates.delta.frames_dropped, rates.total.frames_dropped), (0, 35));
        let rates = meter.measure(&totals(3, 6), 0);
        assert_eq!((rates.delta.frames_dropped, rates.delta.bytes), (7, 1_500_000_000));
        let rates = meter.measure(&totals(4, 1), 0);
        assert_eq!((rates.delta.frames, rates.delta.requests, rates.delta.bytes), (0, 0, 0));
        let rates = meter.measure(&totals(4, 9), 0);
        assert!(rates.to_string().contains("     0 frames/s"), "no time has passed: {rates}");
    }

    #[test]
    fn three_digits_are_shown() {
        let shown = |value| {
            let (number, prefix) = scaled(value);
            number + prefix
        };
        for (value, expected) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (999_600.0, "1.00M"),
            (1.5e9, "1.50G"),
            (2e12, "2.00T"),
            (2e15, "2000T"),
        ] {
            assert_eq!(shown(value), expected);
        }
    }
}
