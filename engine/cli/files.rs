//! The options for closing files, and for what becomes of closed ones.

use clap::ValueEnum;
use httplines::config::{FilesConfig, KeepFree};
use std::time::Duration;

use super::values::number;

/// A file is closed within this time: a year.
const INTERVAL_S_MAX: u64 = 366 * 24 * 3600;

/// The values of --compress.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompressArg {
    Zstd,
}

#[derive(Debug, clap::Args)]
pub struct FilesArgs {
    /// Close the file before it is larger than SIZE, open a new one
    ///
    /// The closed file gets the time in its name at which it was opened, in UTC:
    /// http-20261129T184507.123456Z.jsonl. No file is overwritten. SIZE is a number with K, M, G or
    /// T (powers of 1024); a number alone is millions of bytes, as for tcpdump. With -C or -G,
    /// SIGHUP closes the file, too. Needs -o FILE.
    #[arg(short = 'C', long, value_name = "SIZE", help_heading = "Files", hide_short_help = true)]
    #[arg(value_parser = size)]
    rotate_size: Option<u64>,

    /// Close the file at multiples of TIME, and open a new one: 1h
    ///
    /// The multiples are counted in UTC: with 1h at the full hour, with 1d at midnight. TIME is a
    /// number with s, m, h or d; a number alone is seconds. A file without lines stays open.
    #[arg(short = 'G', long, value_name = "TIME", help_heading = "Files", hide_short_help = true)]
    #[arg(value_parser = interval)]
    rotate_interval: Option<Duration>,

    /// Keep N closed files, and delete older ones
    ///
    /// With --output-per-shard, N of each shard.
    #[arg(short = 'W', long, value_name = "N", help_heading = "Files", hide_short_help = true)]
    #[arg(value_parser = number::<u64, 1, { u64::MAX }>)]
    keep_files: Option<u64>,

    /// Keep all files together below SIZE: delete the oldest closed ones
    ///
    /// The file that is open and compressed ones count.
    #[arg(long, value_name = "SIZE", help_heading = "Files", hide_short_help = true)]
    #[arg(value_parser = size)]
    keep_size: Option<u64>,

    /// Keep space free in the file system: 5% or SIZE
    ///
    /// If there is less, the oldest closed files are deleted, whoever fills the file system.
    #[arg(long, value_name = "SPACE", help_heading = "Files", hide_short_help = true)]
    #[arg(value_parser = space)]
    keep_free: Option<KeepFree>,

    /// Compress closed files except the newest one: zstd
    #[arg(long, value_name = "zstd", hide_possible_values = true)]
    #[arg(help_heading = "Files", hide_short_help = true)]
    compress: Option<CompressArg>,
}

impl FilesArgs {
    /// The requested configuration.
    pub fn config(&self) -> FilesConfig {
        FilesConfig {
            rotate_bytes: self.rotate_size,
            rotate_interval: self.rotate_interval,
            keep_file_count: self.keep_files,
            keep_bytes: self.keep_size,
            keep_free: self.keep_free,
            is_compressed: self.compress.is_some(),
        }
    }
}

/// A size in bytes. A number alone is millions, as for tcpdump -C.
fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        Some(b'T') => (&text[..text.len() - 1], 1 << 40),
        _ => (text, 1_000_000),
    };
    positive(number).and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        "a size, such as 500M or 1G; a number alone is millions of bytes".to_string()
    })
}

/// A time. A number alone is seconds.
fn interval(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        Some(b'd') => (&text[..text.len() - 1], 24 * 3600),
        _ => (text, 1),
    };
    let seconds = positive(number).and_then(|number| number.checked_mul(unit));
    seconds
        .filter(|seconds| *seconds <= INTERVAL_S_MAX)
        .map(Duration::from_secs)
        .ok_or_else(|| "a time of at most 366d, such as 10m, 1h or 1d".to_string())
}

/// A part of a file system, or a size.
fn space(text: &str) -> Result<KeepFree, String> {
    let wanted = || "a part from 1% to 99%, or a size such as 10G".to_string();
    match text.strip_suffix('%') {
        Some(percent) => positive(percent)
            .filter(|percent| *percent < 100)
            .map(|percent| KeepFree::Percent(percent as u8))
            .ok_or_else(wanted),
        None => size(text).map(KeepFree::Bytes).map_err(|_| wanted()),
    }
}

/// A number that is not zero, in digits alone.
fn positive(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_digits && *number > 0)
}

#[test]
fn a_number_alone_is_millions_of_bytes_or_seconds() {
    for (text, bytes) in [
        ("1", 1_000_000),
        ("250", 250_000_000),
        ("1K", 1 << 10),
        ("2m", 2 << 20),
        ("1G", 1 << 30),
        ("3T", 3 << 40),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
        assert_eq!(space(text), Ok(KeepFree::Bytes(bytes)), "{text}");
    }
    for text in
        ["", "0", "K", "0G", "-1", "+1", "1.5G", "1 G", "1GB", "1k1", "18446744073709551615"]
    {
        assert!(size(text).is_err() && space(text).is_err(), "{text}");
    }
    for (text, seconds) in
        [("1", 1), ("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("7d", 604_800)]
    {
        assert_eq!(interval(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "0", "h", "0h", "-1", "1.5h", "1w", "1H", "367d", "18446744073709551615d"] {
        assert!(interval(text).is_err(), "{text}");
    }
    assert_eq!(space("5%"), Ok(KeepFree::Percent(5)));
    for text in ["%", "0%", "100%", "5.5%", "5 %", "-5%"] {
        assert!(space(text).is_err(), "{text}");
    }
}
