//! Numbers with their units, as a person reads them.

pub use crate::cli::numbers::grouped as count;

/// A number with one digit behind the point if it is below ten.
fn digits(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The value in the first unit in which it has three digits at most; each unit is 1000 times the
/// one before.
fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let text = if value.fract() == 0.0 { format!("{value}") } else { digits(value) };
    format!("{text}{}", units[unit])
}

/// `12 kB`: units of 1000 bytes.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, &[" B", " kB", " MB", " GB", " TB", " PB", " EB"])
}

/// `1.2k`: a count or a rate with few digits.
pub fn few_digits(number: f64) -> String {
    scaled(number, &["", "k", "M", "G", "T"])
}

/// `3.1 ms`: a time with two or three digits, which is what histograms know.
pub fn time(time_ns: u64) -> String {
    match time_ns {
        0..60_000_000_000 => scaled(time_ns as f64, &[" ns", " \u{b5}s", " ms", " s"]),
        _ => span(time_ns),
    }
}

/// `2 h 5 min`: a long time, in its two greatest units.
pub fn span(time_ns: u64) -> String {
    let seconds = time_ns / 1_000_000_000;
    let of = |unit: u64, count: u64| seconds / unit % count;
    let (days, hours, minutes) = (seconds / 86_400, of(3600, 24), of(60, 60));
    match (days, hours, minutes) {
        (0, 0, 0) => time(time_ns.min(59_999_999_999)),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// `1.2%`: a share of a whole, or a dash without one. What is not zero is not shown as zero.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NONE.into();
    }
    let share = 100.0 * part as f64 / whole as f64;
    match share {
        0.0 => "0%".into(),
        share if share < 0.01 => "<0.01%".into(),
        share if share < 0.1 => format!("{share:.2}%"),
        share if part < whole && share > 99.94 => ">99.9%".into(),
        100.0 => "100%".into(),
        share => format!("{share:.1}%"),
    }
}

/// What is shown for what is not known.
pub const NONE: &str = "\u{2013}";

/// A time that may not be known.
pub fn time_or_none(time_ns: Option<u64>) -> String {
    time_ns.map_or_else(|| NONE.into(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(count)[..]);
        assert_eq!(
            ["0 B", "999 B", "1 kB", "1.2 kB", "12 kB", "1.0 MB", "18 EB"],
            [0, 999, 1000, 1234, 12_345, 999_900, u64::MAX].map(bytes)[..]
        );
        assert_eq!(
            ["3.1 ms", "212 ms", "1.2 s", "950 ns", "1 min 5 s", "2 h 5 min", "3 d 0 h"],
            [
                3_141_592,
                212_000_000,
                1_234_000_000,
                950,
                65_000_000_000,
                7_500_000_000_000,
                259_200_000_000_000
            ]
            .map(time)[..]
        );
        assert_eq!(["7", "7.3", "12", "1.2k"], [7.0, 7.31, 12.4, 1234.0].map(few_digits)[..]);
        assert_eq!(percent(1, 100_000), "<0.01%");
        assert_eq!(percent(99_999, 100_000), ">99.9%");
        assert_eq!([percent(0, 5), percent(5, 5), percent(0, 0)], ["0%", "100%", NONE]);
    }
}
