//! [`Exposition`]: Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};
use std::time::Duration;

/// What the values of a family are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It only grows. The name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of values up to each of some bounds.
    Histogram,
}

/// A name, a kind and a sentence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

impl Family {
    pub(super) const fn counter(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: Kind::Counter, help }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: Kind::Gauge, help }
    }

    pub(super) const fn histogram(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: Kind::Histogram, help }
    }
}

/// A label's name and its value.
pub(super) type Label<'a> = (&'a str, &'a str);

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
    /// The family of the last sample.
    last: &'static str,
}

impl Exposition {
    /// The whole text.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Adds a sample. All samples of a family must follow each other, and their labels must differ.
    pub(super) fn add(&mut self, family: &Family, labels: &[Label<'_>], value: impl Display) {
        self.head(family);
        self.sample(family.name, "", labels, value);
    }

    /// Adds a time in seconds, with all its digits.
    pub(super) fn add_time(&mut self, family: &Family, labels: &[Label<'_>], time: Duration) {
        self.add(family, labels, Seconds(time.as_secs(), time.subsec_nanos()));
    }

    /// Adds a share of the whole: `part` of `whole` is a number from 0 to 1.
    pub(super) fn add_ratio(
        &mut self,
        family: &Family,
        labels: &[Label<'_>],
        part: u64,
        whole: u64,
    ) {
        self.add(family, labels, part as f64 / whole.max(1) as f64);
    }

    /// Adds a sample for each of `counts`: the value of the label, and its count.
    pub(super) fn add_each<'a>(
        &mut self,
        family: &Family,
        label: &str,
        counts: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        for (value, count) in counts {
            self.add(family, &[(label, value)], count);
        }
    }

    /// Adds the buckets, the sum and the count of a histogram. `buckets` has one element more than
    /// `bounds_ns`: what is above all of them.
    pub(super) fn add_histogram_ns(
        &mut self,
        family: &Family,
        bounds_ns: &[u64],
        buckets: &[u64],
        sum_ns: u64,
    ) {
        self.head(family);
        let (mut count, mut bounds) = (0, bounds_ns.iter());
        for bucket in buckets {
            count += bucket;
            let bound = bounds.next().map_or_else(
                || "+Inf".to_string(),
                |bound_ns| (*bound_ns as f64 / 1e9).to_string(),
            );
            self.sample(family.name, "_bucket", &[("le", &bound)], count);
        }
        let sum = Duration::from_nanos(sum_ns);
        self.sample(family.name, "_sum", &[], Seconds(sum.as_secs(), sum.subsec_nanos()));
        self.sample(family.name, "_count", &[], count);
    }

    fn head(&mut self, family: &Family) {
        let Family { name, kind, help } = *family;
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        if self.last == name {
            return;
        }
        self.last = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        self.write(format_args!("{name}{suffix}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{open}{label}=\"{}\"", Escaped(text)));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{close} {value}\n"));
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(arguments);
    }
}

/// Seconds and nanoseconds, as a decimal number.
struct Seconds(u64, u32);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seconds(seconds, 0) => write!(f, "{seconds}"),
            Seconds(seconds, nanoseconds) => {
                let digits = format!("{nanoseconds:09}");
                write!(f, "{seconds}.{}", digits.trim_end_matches('0'))
            }
        }
    }
}

/// The value of a label: backslash, double quote and line feed are escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Family = Family::counter("a_total", "What it counts.");
    const TIME: Family = Family::histogram("time_seconds", "Times.");

    #[test]
    fn samples_follow_the_head_of_their_family() {
        let mut out = Exposition::default();
        out.add(&TOTAL, &[("interface", "a\"b\\c\nd\u{fffd}"), ("shard", "0")], 7);
        out.add_time(&TOTAL, &[], Duration::new(3, 50_000_000));
        out.add_histogram_ns(&TIME, &[500_000, 2_500_000_000], &[1, 2, 4], 1_000_000_007);
        let expected = "# HELP a_total What it counts.\n\
            # TYPE a_total counter\n\
            a_total{interface=\"a\\\"b\\\\c\\nd\u{fffd}\",shard=\"0\"} 7\n\
            a_total 3.05\n\
            # HELP time_seconds Times.\n\
            # TYPE time_seconds histogram\n\
            time_seconds_bucket{le=\"0.0005\"} 1\n\
            time_seconds_bucket{le=\"2.5\"} 3\n\
            time_seconds_bucket{le=\"+Inf\"} 7\n\
            time_seconds_sum 1.000000007\n\
            time_seconds_count 7\n";
        assert_eq!(out.into_text(), expected);
    }
}
