//! The values of options. The errors complete a sentence that ends with "takes".

use clap::ValueEnum;
use httplines::sys::interface::{Interfaces, index_of};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A run that is to stop by itself stops within this time: a year.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The values of -Q.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DirectionArg {
    In,
    Out,
    Inout,
}

/// The values of --format.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum FormatArg {
    Text,
    Json,
}

/// The values of --headers-as.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum HeadersArg {
    List,
    Object,
}

/// The values of --records.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum RecordsArg {
    Http,
    Websocket,
    Tls,
}

/// The values of --filter.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FilterArg {
    Http,
    Off,
}

/// The values of --fanout.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FanoutArg {
    Flow,
    Hash,
    Cpu,
    Queue,
}

/// A number from `MIN` to `MAX`.
pub fn number<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match MAX {
        u64::MAX => format!("a whole number of at least {MIN}"),
        _ => format!("a whole number from {MIN} to {MAX}"),
    })
}

/// A time in seconds, which may have decimals.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds
        .filter(|duration| !duration.is_zero() && *duration <= DURATION_MAX)
        .ok_or_else(|| "a number of seconds, such as 60 or 0.5".to_string())
}

/// A port, or the first and the last of a range.
pub fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok().zip(last.parse().ok()).map(|(first, last)| first..=last);
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| "ports from 0 to 65535, such as 80 or 8000-8100".to_string())
}

/// The name of a header, a token of RFC 9110. The colon behind it may be typed.
pub fn header_name(text: &str) -> Result<String, String> {
    let name = without_colon(text);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_token);
    is_name.then(|| name.to_string()).ok_or_else(|| NAMES_WANTED.to_string())
}

/// The name of a header of which only letters and digits count.
pub fn masked_name(text: &str) -> Result<String, String> {
    let name = without_colon(text);
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = name.bytes().all(is_part) && name.bytes().any(|it| it.is_ascii_alphanumeric());
    is_name.then(|| name.to_string()).ok_or_else(|| NAMES_WANTED.to_string())
}

const NAMES_WANTED: &str = "names of headers, such as Via or Via,X-Request-Id";

fn without_colon(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix(':').unwrap_or(text).trim_end()
}

/// The name of an interface that was given by its name or its number. If there is none, it is what
/// was given.
pub fn interface(given: &str) -> String {
    let is_name = given.parse::<u32>().is_err() || index_of(given).is_some();
    if is_name { given.to_string() } else { named(given).unwrap_or_else(|| given.to_string()) }
}

/// The name of the interface with this number.
fn named(number: &str) -> Option<String> {
    let number: u32 = number.parse().ok()?;
    let present = Interfaces::open().and_then(|mut interfaces| interfaces.list()).ok()?;
    present.into_iter().find(|interface| interface.ifindex == number).map(|it| it.name)
}

#[test]
fn names_of_headers_are_taken_as_they_are_typed() {
    for text in ["Via", " Via", "Via:", "Via: ", " Via : "] {
        assert_eq!(header_name(text).as_deref(), Ok("Via"), "{text:?}");
        assert_eq!(masked_name(text).as_deref(), Ok("Via"), "{text:?}");
    }
    assert_eq!(header_name("x$y").as_deref(), Ok("x$y"));
    for text in ["", ":", "Via: 1.1", "Via::", "Via;X", "Ünicode", "a b"] {
        assert!(header_name(text).is_err() && masked_name(text).is_err(), "{text:?}");
    }
}

#[test]
fn seconds_may_have_decimals() {
    assert_eq!(seconds("60"), Ok(Duration::from_secs(60)));
    assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
    for text in ["", "0", "-1", "nan", "inf", "1e300", "10s", "31622401"] {
        assert!(seconds(text).is_err(), "{text}");
    }
}
