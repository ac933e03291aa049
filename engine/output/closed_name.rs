//! The names of closed files: `http.jsonl` becomes `http-20261129T184507.123456Z.jsonl`, by the
//! time in UTC at which it was opened. All stamps have the same length, so names sort by time.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::record::digits::civil_from_days;

const DAY_S: u64 = 24 * 3600;

/// The length of a stamp, as in the module's example.
const STAMP_BYTES: usize = 23;

/// The last microsecond that a stamp can tell: the end of the year 9999.
const LAST: UtcMicros = UtcMicros(253_402_300_799_999_999);

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct UtcMicros(pub(super) u64);

impl UtcMicros {
    /// The time of the clock.
    pub(super) fn now() -> UtcMicros {
        SystemTime::now().into()
    }

    /// The next microsecond.
    pub(super) fn next(self) -> UtcMicros {
        UtcMicros(self.0 + 1).min(LAST)
    }

    /// As `20261129T184507.123456Z`.
    fn stamp(self) -> String {
        let time = self.min(LAST).0;
        let (second, microsecond) = (time / 1_000_000, time % 1_000_000);
        let (year, month, day) = civil_from_days(second / DAY_S);
        let of_day = second % DAY_S;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{microsecond:06}Z")
    }

    /// The time of exactly what [`UtcMicros::stamp`] makes.
    fn from_stamp(stamp: &[u8]) -> Option<UtcMicros> {
        let number = |from: usize, to: usize| {
            let digits = stamp.get(from..to)?;
            digits.iter().try_fold(0_u64, |number, digit| {
                digit.is_ascii_digit().then(|| 10 * number + u64::from(digit - b'0'))
            })
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let of_day = hour * 3600 + minute * 60 + second;
        let seconds = days_from_civil(year, month, day)? * DAY_S + of_day;
        let time = UtcMicros(seconds * 1_000_000 + number(16, 22)?);
        // Everything that is no date or no time ends here: the 30th of February is another day.
        (time.stamp().as_bytes() == stamp).then_some(time)
    }
}

impl From<SystemTime> for UtcMicros {
    fn from(time: SystemTime) -> UtcMicros {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        UtcMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)).min(LAST)
    }
}

/// The days from 1970-01-01 to a Gregorian date: the inverse of [`civil_from_days`].
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = 365 * (year % 400) + year % 400 / 4 - year % 400 / 100 + day_of_year;
    (year / 400 * 146_097 + day_of_era).checked_sub(719_468)
}

/// What a closed file is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Lines.
    Plain,
    /// Compressed lines.
    Compressed,
    /// Compressed lines that are still being written. The name begins with a dot: no glob takes it.
    Part,
}

/// The name of an output file without its directory, in two parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileName {
    stem: Vec<u8>,
    /// With its dot; empty if there is none.
    extension: Vec<u8>,
}

impl FileName {
    /// The name of the file at `path`. `None`: the path ends with no name.
    pub(super) fn of(path: &Path) -> Option<FileName> {
        path.file_name()?;
        let extension =
            path.extension().map_or(Vec::new(), |extension| [b".", extension.as_bytes()].concat());
        Some(FileName { stem: path.file_stem()?.as_bytes().to_vec(), extension })
    }

    /// The name of another file that is opened and closed with this one: `http.stats`.
    pub(super) fn with_extension(&self, extension: &str) -> FileName {
        FileName { stem: self.stem.clone(), extension: format!(".{extension}").into_bytes() }
    }

    /// The name while lines are appended: `http.jsonl`.
    pub(super) fn active(&self) -> OsString {
        OsString::from_vec([&self.stem[..], &self.extension].concat())
    }

    /// The name of the file that was opened at this time, once it is closed.
    pub(super) fn closed(&self, opened: UtcMicros) -> OsString {
        let stamp = opened.stamp();
        OsString::from_vec([&self.stem[..], b"-", stamp.as_bytes(), &self.extension].concat())
    }

    /// The same in another form: `http-20261129T184507.123456Z.jsonl.zst`.
    pub(super) fn in_form(&self, opened: UtcMicros, form: Form) -> OsString {
        let closed = self.closed(opened).into_vec();
        OsString::from_vec(match form {
            Form::Plain => closed,
            Form::Compressed => [&closed[..], b".zst"].concat(),
            Form::Part => [b".", &closed[..], b".zst.part"].concat(),
        })
    }

    /// When the closed file with this name was opened, and its form. `None`: the name is not
    /// exactly one that this file may get.
    pub(super) fn parse(&self, name: &OsStr) -> Option<(UtcMicros, Form)> {
        let name = name.as_bytes();
        let rest = name.strip_prefix(b".").unwrap_or(name).strip_prefix(&self.stem[..])?;
        let opened = UtcMicros::from_stamp(rest.strip_prefix(b"-")?.get(..STAMP_BYTES)?)?;
        let forms = [Form::Plain, Form::Compressed, Form::Part];
        let form = forms.into_iter().find(|form| self.in_form(opened, *form).as_bytes() == name)?;
        Some((opened, form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: UtcMicros = UtcMicros(1_795_977_907_123_456);

    fn name(path: &str) -> FileName {
        FileName::of(Path::new(path)).unwrap()
    }

    #[test]
    fn names_of_closed_files() {
        let closed = |path: &str| name(path).closed(EXAMPLE).into_string().unwrap();
        assert_eq!(closed("/var/log/http.jsonl"), "http-20261129T184507.123456Z.jsonl");
        assert_eq!(closed("http.3.jsonl"), "http.3-20261129T184507.123456Z.jsonl");
        assert_eq!(closed("http"), "http-20261129T184507.123456Z");
        assert_eq!(closed(".http"), ".http-20261129T184507.123456Z");
        let name = name("http.jsonl");
        let form = |form| name.in_form(EXAMPLE, form).into_string().unwrap();
        assert_eq!(form(Form::Compressed), "http-20261129T184507.123456Z.jsonl.zst");
        assert_eq!(form(Form::Part), ".http-20261129T184507.123456Z.jsonl.zst.part");
        assert_eq!(name.active(), "http.jsonl");
        assert_eq!(name.with_extension("stats").active(), "http.stats");
        assert_eq!(FileName::of(Path::new("/")), None);
    }

    #[test]
    fn only_exact_names_are_ours() {
        let http = name("http.jsonl");
        for form in [Form::Plain, Form::Compressed, Form::Part] {
            assert_eq!(http.parse(&http.in_form(EXAMPLE, form)), Some((EXAMPLE, form)));
        }
        for other in [
            "http.jsonl",
            "http-20261129T184507.123456Z.json",
            "http-20261129T184507.123456Z.jsonl.gz",
            "http-20261129T184507.123456Z.jsonl.zst.part",
            ".http-20261129T184507.123456Z.jsonl",
            ".http-20261129T184507.123456Z.jsonl.zst",
            "http-20261129T184507.12345Z.jsonl",
            "http-20261129T184507,123456Z.jsonl",
            "http-20261129t184507.123456Z.jsonl",
            "http-20260230T184507.123456Z.jsonl",
            "http-20261129T246507.123456Z.jsonl",
            "http-20261300T184507.123456Z.jsonl",
            "http-20261129T184507.+23456Z.jsonl",
            "http.3-20261129T184507.123456Z.jsonl",
            "xhttp-20261129T184507.123456Z.jsonl",
            "http-19691231T235959.000000Z.jsonl",
            "http-",
            "",
        ] {
            assert_eq!(http.parse(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn stamps_end_with_the_year_9999() {
        assert_eq!(LAST.stamp(), "99991231T235959.999999Z");
        assert_eq!(UtcMicros(u64::MAX).stamp(), LAST.stamp());
        assert_eq!(LAST.next(), LAST);
        assert_eq!(UtcMicros(0).stamp(), "19700101T000000.000000Z");
    }

    proptest! {
        #[test]
        fn stamps_sort_by_time(one in 0..=LAST.0, other in 0..=LAST.0) {
            let (one, other) = (UtcMicros(one), UtcMicros(other));
            prop_assert_eq!(one.stamp().len(), STAMP_BYTES);
            prop_assert_eq!(one.stamp().cmp(&other.stamp()), one.cmp(&other));
            prop_assert_eq!(UtcMicros::from_stamp(one.stamp().as_bytes()), Some(one));
        }

        #[test]
        fn any_name_can_be_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let http = name("http.jsonl");
            if let Some((opened, form)) = http.parse(OsStr::from_bytes(&bytes)) {
                prop_assert_eq!(http.in_form(opened, form).into_vec(), bytes);
            }
        }
    }
}
