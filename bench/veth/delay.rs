//! Delays of exchanges: from where to where they are measured, and their percentiles.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The percentiles of a curve.
const PERCENTILES: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];

/// A delay, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delay {
    /// Half of them were shorter.
    pub p50_ns: u64,
    /// 90 of 100 were shorter.
    pub p90_ns: u64,
    /// 99 of 100 were shorter.
    pub p99_ns: u64,
    /// 999 of 1000 were shorter.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Percentile and nanoseconds, up to the last percentile that the number of exchanges supports.
    pub curve: Vec<(f64, u64)>,
}

impl Delay {
    fn of(Samples(histogram): &Samples) -> Option<Delay> {
        let count = histogram.len();
        let at = |percentile: f64| histogram.value_at_quantile(percentile / 100.0);
        // With less than one exchange beyond it, a percentile only repeats the maximum.
        let is_told = |percentile: &f64| {
            *percentile == 100.0 || count as f64 * (1.0 - percentile / 100.0) >= 1.0
        };
        let told = PERCENTILES.into_iter().filter(is_told);
        (count > 0).then(|| Delay {
            p50_ns: at(50.0),
            p90_ns: at(90.0),
            p99_ns: at(99.0),
            p999_ns: at(99.9),
            max_ns: histogram.max(),
            curve: told.map(|percentile| (percentile, at(percentile))).collect(),
        })
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
        let Delay { p50_ns, p90_ns, p99_ns, p999_ns, max_ns, .. } = *self;
        write!(
            f,
            "p50 {} us, p90 {}, p99 {}, p99.9 {}, max {}",
            us(p50_ns),
            us(p90_ns),
            us(p99_ns),
            us(p999_ns),
            us(max_ns)
        )
    }
}

/// The delays of a trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delays {
    /// From the time that a request was due to its record's `ts`.
    pub to_timestamp: Delay,
    /// From the time that the last frame of an exchange was due to its line in the file.
    pub to_line: Option<Delay>,
    /// From the kernel's timestamp of that frame to the line.
    pub from_timestamp: Option<Delay>,
}

/// Collects delays, each to three digits.
#[derive(Debug)]
pub struct Samples(Histogram<u64>);

impl Samples {
    /// Adds a delay.
    pub fn record(&mut self, ns: u64) {
        // The histogram resizes itself, so every number fits.
        let _ = self.0.record(ns);
    }
}

impl Default for Samples {
    fn default() -> Samples {
        Samples(Histogram::new(3).expect("three digits are possible"))
    }
}

/// Collects the [`Delays`] of a trial.
#[derive(Debug, Default)]
pub struct Delaying {
    /// See [`Delays::to_timestamp`].
    pub to_timestamp: Samples,
    /// See [`Delays::to_line`].
    pub to_line: Samples,
    /// See [`Delays::from_timestamp`].
    pub from_timestamp: Samples,
}

impl Delaying {
    /// Their percentiles; `None` if no exchange was found.
    pub fn sum(&self) -> Option<Delays> {
        Some(Delays {
            to_timestamp: Delay::of(&self.to_timestamp)?,
            to_line: Delay::of(&self.to_line),
            from_timestamp: Delay::of(&self.from_timestamp),
        })
    }
}
