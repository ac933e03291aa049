//! What load generators print about themselves, in base units.
//!
//! Each parser is a pure function of the printed text. Of several runs in one text the last counts.

use serde::Serialize;
use serde_json::Value;

/// What a load printed. `None`: it did not print that.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Figures {
    /// The load generator, if its output is known.
    pub program: Option<&'static str>,
    /// Requests per second.
    pub requests_per_s: Option<f64>,
    /// Bits per second.
    pub bits_per_s: Option<f64>,
    /// The mean time of a request.
    pub mean_ns: Option<f64>,
    /// The median time of a request.
    pub p50_ns: Option<f64>,
    /// The time that one request in a hundred exceeds.
    pub p99_ns: Option<f64>,
    /// Requests that failed, by the load's own count.
    pub errors: u64,
}

/// Parses what a load printed. If no parser knows it, all is `None`.
pub fn parse(text: &str) -> Figures {
    let parsers = [wrk, h2load, ab, hey, iperf3_json, iperf];
    parsers.iter().find_map(|parser| parser(text)).unwrap_or_default()
}

/// wrk and wrk2. Percentiles are printed with `--latency`.
fn wrk(text: &str) -> Option<Figures> {
    let rate = last(text, "Requests/sec:")?;
    let transfer = last(text, "Transfer/sec:")?;
    let average = text.lines().filter_map(|line| line.trim_start().strip_prefix("Latency "));
    let average = average.filter_map(time).next_back();
    let socket_errors = last_indented(text, "Socket errors:").unwrap_or_default();
    let statuses = last_indented(text, "Non-2xx or 3xx responses:").unwrap_or_default();
    Some(Figures {
        program: Some("wrk"),
        requests_per_s: number(rate),
        bits_per_s: bytes(transfer).map(|bytes| 8.0 * bytes),
        mean_ns: average,
        p50_ns: percentile(text, 50.0),
        p99_ns: percentile(text, 99.0),
        errors: numbers(socket_errors).sum::<u64>() + numbers(statuses).sum::<u64>(),
    })
}

/// h2load. Newer versions have columns `median` and `p99`.
fn h2load(text: &str) -> Option<Figures> {
    let mut finished = last(text, "finished in ")?.split(", ").skip(1);
    let rate = finished.next()?.strip_suffix(" req/s")?;
    let transfer = finished.next().and_then(|word| word.trim().strip_suffix("/s"));
    let columns: Vec<&str> =
        text.lines().rfind(|line| line.trim().starts_with("min "))?.split_whitespace().collect();
    let row = text.lines().rfind(|line| {
        let name = line.split(':').next().unwrap_or_default().trim();
        name == "time for request" || name == "request"
    });
    let values = row.and_then(|row| row.split_once(':')).map_or("", |(_, values)| values);
    let column = |name: &str| {
        let index = columns.iter().position(|column| *column == name)?;
        time(values.split_whitespace().nth(index)?)
    };
    let counts = last(text, "requests:").unwrap_or_default().split(", ");
    let bad = [" failed", " errored", " timeout"];
    // What timed out or broke is contained in the failed.
    let failed = counts
        .filter_map(|count| bad.iter().find_map(|name| count.trim().strip_suffix(name)))
        .filter_map(|count| count.parse::<u64>().ok());
    Some(Figures {
        program: Some("h2load"),
        requests_per_s: number(rate),
        bits_per_s: transfer.and_then(bytes).map(|bytes| 8.0 * bytes),
        mean_ns: column("mean"),
        p50_ns: column("median"),
        p99_ns: column("p99"),
        errors: failed.max().unwrap_or(0),
    })
}

/// ab. Its percentiles are whole milliseconds.
fn ab(text: &str) -> Option<Figures> {
    let rate = last(text, "Requests per second:")?;
    let milliseconds = |rest: &str| number(rest).map(|value| value * 1e6);
    // The second line of this name is the mean across all concurrent requests.
    let means = text.lines().filter_map(|line| line.strip_prefix("Time per request:"));
    let mean = means.rev().find(|rest| rest.ends_with("(mean)"));
    let served = text.rfind("Percentage of the requests served").map_or("", |at| &text[at..]);
    let count = |name| last(text, name).and_then(number).unwrap_or(0.0) as u64;
    Some(Figures {
        program: Some("ab"),
        requests_per_s: number(rate),
        bits_per_s: last(text, "Transfer rate:").and_then(number).map(|kib| 8.0 * 1024.0 * kib),
        mean_ns: mean.and_then(milliseconds),
        p50_ns: last_indented(served, "50%").and_then(milliseconds),
        p99_ns: last_indented(served, "99%").and_then(milliseconds),
        errors: count("Failed requests:") + count("Non-2xx responses:"),
    })
}

/// hey and oha.
fn hey(text: &str) -> Option<Figures> {
    let rate = last_indented(text, "Requests/sec:")?;
    last_indented(text, "Slowest:")?;
    let is_oha = last_indented(text, "Success rate:").is_some();
    let transfer = last_indented(text, "Size/sec:");
    Some(Figures {
        program: Some(if is_oha { "oha" } else { "hey" }),
        requests_per_s: number(rate),
        bits_per_s: transfer.and_then(bytes).map(|bytes| 8.0 * bytes),
        mean_ns: last_indented(text, "Average:").and_then(time),
        p50_ns: percentile(text, 50.0),
        p99_ns: percentile(text, 99.0),
        errors: statuses(text).filter(|(status, _)| *status >= 400).map(|(_, count)| count).sum(),
    })
}

/// Lines of hey and oha such as `[404] 10 responses`.
fn statuses(text: &str) -> impl Iterator<Item = (u64, u64)> {
    text.lines().filter(|line| line.ends_with(" responses")).filter_map(|line| {
        let mut numbers = numbers(line);
        Some((numbers.next()?, numbers.next()?))
    })
}

/// iperf3 with `-J`: what the receiver received.
fn iperf3_json(text: &str) -> Option<Figures> {
    let report: Value = serde_json::from_str(text).ok()?;
    let end = report.get("end")?;
    let sum = end.get("sum_received").or_else(|| end.get("sum"))?;
    let bits_per_s = sum.get("bits_per_second")?.as_f64();
    Some(Figures { program: Some("iperf3"), bits_per_s, ..Figures::default() })
}

/// iperf and iperf3: the last rate that is printed. It is the sum of the connections, if there are
/// several, and of iperf3 what the receiver received.
fn iperf(text: &str) -> Option<Figures> {
    let rate = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.ends_with("/sec"))?;
        let value: f64 = words.get(at.checked_sub(1)?)?.parse().ok()?;
        if let Some(prefix) = words[at].strip_suffix("bits/sec") {
            return Some(value * decimal(prefix)?);
        }
        let prefix = words[at].strip_suffix("Bytes/sec")?;
        Some(8.0 * value * binary(prefix)?)
    };
    let bits_per_s = Some(text.lines().rev().find_map(rate)?);
    Some(Figures { program: Some("iperf"), bits_per_s, ..Figures::default() })
}

/// The rest of the last line that begins with `label`.
fn last<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().rev().find_map(|line| line.strip_prefix(label))
}

/// The same for lines that are indented.
fn last_indented<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let indented = text.lines().rev().filter(|line| line.starts_with([' ', '\t']));
    indented.filter_map(|line| line.trim_start().strip_prefix(label)).map(str::trim).next()
}

/// The time in the last line that begins with this percentage: `50%  218.00us`, `50.000%  1.05ms`,
/// `50% in 0.0003 secs`.
fn percentile(text: &str, percent: f64) -> Option<f64> {
    text.lines().rev().find_map(|line| {
        let (share, rest) = line.trim().split_once('%')?;
        let is_it = share.parse() == Ok(percent);
        is_it.then(|| time(rest.trim().trim_start_matches("in ")))?
    })
}

/// The first number of the text.
fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The whole numbers in the text.
fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok())
}

/// A number and its unit, with or without a space between them.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = text[end..].split_whitespace().next().unwrap_or_default();
    Some((text[..end].parse().ok()?, unit))
}

/// A time in nanoseconds.
fn time(text: &str) -> Option<f64> {
    let (value, unit) = quantity(text)?;
    let unit_ns = match unit {
        "ns" => 1.0,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
        "ms" => 1e6,
        "s" | "sec" | "secs" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return None,
    };
    Some(value * unit_ns)
}

/// A size in bytes. All load generators here mean powers of 1024.
fn bytes(text: &str) -> Option<f64> {
    let (value, unit) = quantity(text)?;
    Some(value * binary(unit.strip_suffix('B')?.trim_end_matches('i'))?)
}

fn binary(prefix: &str) -> Option<f64> {
    Some(1024_f64.powi(power(prefix)?))
}

fn decimal(prefix: &str) -> Option<f64> {
    Some(1000_f64.powi(power(prefix)?))
}

fn power(prefix: &str) -> Option<i32> {
    let prefixes = ["", "K", "M", "G", "T"];
    prefixes.iter().position(|known| known.eq_ignore_ascii_case(prefix)).map(|at| at as i32)
}

#[cfg(test)]
mod tests;
