//! Numbers as the screen shows them: short, with a unit, and never wider than a column.

pub use crate::cli::numbers::grouped as exact;
use std::time::Duration;

/// Symbols that need UTF-8, or what stands for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// The levels of a history, from nothing to full.
    pub levels: [&'static str; 9],
    /// What a bar is made of.
    pub bar: &'static str,
    /// Before the selected row.
    pub cursor: &'static str,
    /// Between the two tables.
    pub rule: &'static str,
    /// The end of a text that was cut.
    pub cut: &'static str,
    /// The unit of a millionth of a second.
    pub micro: &'static str,
    /// Frames are drawn with lines, not with `+`, `-` and `|`.
    pub has_lines: bool,
}

/// For terminals that show UTF-8.
pub const UNICODE: Symbols = Symbols {
    levels: [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    bar: "█",
    cursor: "▶",
    rule: "│",
    cut: "…",
    micro: "µs",
    has_lines: true,
};

/// For all others.
pub const ASCII: Symbols = Symbols {
    levels: [" ", "_", ".", ":", "-", "=", "+", "*", "#"],
    bar: "#",
    cursor: ">",
    rule: "|",
    cut: "~",
    micro: "us",
    has_lines: false,
};

impl Symbols {
    /// Those of the locale: the first of these variables that is set decides, locale(7).
    pub fn of_environment() -> Symbols {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        Symbols::of_locale(&locale.unwrap_or_default())
    }

    fn of_locale(locale: &str) -> Symbols {
        let locale = locale.to_ascii_lowercase();
        let is_utf8 = locale.contains("utf-8") || locale.contains("utf8");
        if is_utf8 { UNICODE } else { ASCII }
    }

    /// A time, in at most 6 columns.
    pub fn time(&self, time: Duration) -> String {
        let nanoseconds = time.as_nanos() as f64;
        match nanoseconds {
            0.0 => "0".to_string(),
            ..999_500.0 => format!("{}{}", digits(nanoseconds / 1e3), self.micro),
            ..999_500_000.0 => format!("{}ms", digits(nanoseconds / 1e6)),
            ..99.95e9 => format!("{}s", digits(nanoseconds / 1e9)),
            ..5_999.5e9 => format!("{:.0}min", nanoseconds / 60e9),
            _ => format!("{:.0}h", nanoseconds / 3600e9),
        }
    }
}

/// A number with two digits at least: 0.25, 2.8, 17, 212.
fn digits(value: f64) -> String {
    match value {
        ..0.995 => format!("{value:.2}"),
        ..9.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A count or a rate, in at most 6 columns: 0, 0.3, 7, 812, 10.4k, 1.2M.
pub fn count(value: f64) -> String {
    match value {
        0.0 => "0".to_string(),
        ..0.095 => "<0.1".to_string(),
        ..9.95 if value.fract().abs() > 0.049 => format!("{value:.1}"),
        ..9_999.5 => format!("{value:.0}"),
        _ => {
            let mut value = value;
            let mut prefix = "";
            for next in ["k", "M", "G", "T"] {
                if value < 999.5 {
                    break;
                }
                (value, prefix) = (value / 1e3, next);
            }
            if value < 99.95 {
                format!("{value:.1}{prefix}")
            } else {
                format!("{value:.0}{prefix}")
            }
        }
    }
}

/// A number of bytes, in at most 7 columns: 812 B, 4.1 kB, 212 MB.
pub fn bytes(value: f64) -> String {
    let mut value = value;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1e3, next);
    }
    match value {
        _ if unit == "B" => format!("{value:.0} B"),
        ..9.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A part of a whole, in percent, in at most 5 columns; nothing of nothing is `-`.
pub fn percent(part: f64, whole: f64) -> String {
    let share = part / whole * 100.0;
    match share {
        _ if whole <= 0.0 => "-".to_string(),
        0.0 => "0%".to_string(),
        ..0.05 => "<0.1%".to_string(),
        99.95.. => "100%".to_string(),
        _ => format!("{share:.1}%"),
    }
}

/// How long something has been running: 42 s, 12:07, 2:11:05, 3d 02:11.
pub fn uptime(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes}:{rest:02}"),
        (0, _, _) => format!("{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{days}d {hours:02}:{minutes:02}"),
    }
}

#[test]
fn numbers_are_short_and_fit_their_columns() {
    let shown: Vec<_> =
        [0.0, 0.04, 0.3, 7.0, 9.96, 812.4, 9_999.0, 10_444.0, 99_960.0, 1.24e6].map(count).to_vec();
    let expected = ["0", "<0.1", "0.3", "7", "10", "812", "9999", "10.4k", "100k", "1.2M"];
    assert_eq!(shown, expected);
    assert_eq!(
        [812, 4_100, 41_000_000, 999_600].map(|it| bytes(it as f64)),
        ["812 B", "4.1 kB", "41 MB", "1.0 MB"]
    );
    assert_eq!([0, 7, 1_234, 9_871_000].map(exact), ["0", "7", "1,234", "9,871,000"]);
    assert_eq!(percent(597.0, 1000.0), "59.7%");
    assert_eq!(percent(1.0, 1e6), "<0.1%");
    assert_eq!([percent(0.0, 0.0), percent(0.0, 9.0), percent(9.0, 9.0)], ["-", "0%", "100%"]);
    for value in [0.0, 0.5, 9.949, 9.951, 99.9, 999.4, 9_999.4, 99_949.0, 999_499.0, 9.9e8, 9e14] {
        assert!(count(value).len() <= 6, "{}", count(value));
        assert!(bytes(value).len() <= 7, "{}", bytes(value));
        let time = ASCII.time(Duration::from_nanos(value as u64));
        assert!(time.len() <= 6, "{time}");
    }
}

#[test]
fn times_have_their_unit() {
    let shown = [2_500, 850_000, 2_800_000, 212_000_000, 4_200_000_000, 999_900, 600_000_000_000];
    let shown = shown.map(|it| UNICODE.time(Duration::from_nanos(it)));
    assert_eq!(shown, ["2.5µs", "850µs", "2.8ms", "212ms", "4.2s", "1.0ms", "10min"]);
    assert_eq!(ASCII.time(Duration::from_micros(850)), "850us");
    let shown = [42, 727, 7_865, 267_060].map(|it| uptime(Duration::from_secs(it)));
    assert_eq!(shown, ["42 s", "12:07", "2:11:05", "3d 02:11"]);
}

#[test]
fn the_locale_decides_what_can_be_drawn() {
    for locale in ["C.UTF-8", "de_DE.utf8", "en_US.UTF-8@euro"] {
        assert_eq!(Symbols::of_locale(locale), UNICODE, "{locale}");
    }
    for locale in ["", "C", "POSIX", "de_DE.ISO-8859-1"] {
        assert_eq!(Symbols::of_locale(locale), ASCII, "{locale}");
    }
}
