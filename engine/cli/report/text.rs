//! The report on a terminal, 80 columns wide.

use super::Report;
use super::json::rows_by_count;
use super::losses::Origin;
use super::units::{self, NONE, bytes, count, few_digits, percent, span, time_or_none};
use httplines::flow::End;
use httplines::observe::summary::{Dimension, Histogram, Row, Summary, TopK};
use httplines::printable::{is_invisible, is_unsafe};
use httplines::protocol::classes::{GRPC_CODES, METHODS, STATUSES};
use httplines::record::{Outcome, rfc3339};
use std::fmt::Write;

const COLUMNS: usize = 80;
/// Rows that are shown of each table.
const ROWS: usize = 10;
/// Columns of the curve of the traffic.
const CURVE_COLUMNS: usize = 60;
/// Of rows with fewer times, the 99th percentile says little: it is the greatest time, or nearly.
pub fn slow_count_min(summary: &Summary) -> u64 {
    if summary.totals.ttfb.count() < 10_000 { 10 } else { 100 }
}

/// All lines.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to memory does not fail.
    let _ = write_all(report, &mut out);
    out
}

fn write_all(report: &Report, out: &mut String) -> std::fmt::Result {
    write_head(report, out)?;
    let summary = &report.summary;
    if summary.totals.exchanges > 0 {
        write_totals(summary, out)?;
        write_curve(summary, out)?;
        for dimension in [Dimension::Hosts, Dimension::Targets, Dimension::Clients] {
            write_table(summary, dimension, out)?;
        }
        write_slowest(summary, out)?;
    }
    if summary.totals.grpc_calls() > 0 {
        write_table(summary, Dimension::Grpc, out)?;
        let codes = parts(GRPC_CODES.into_iter().zip(summary.totals.grpc));
        write_row(out, "grpc codes", &codes)?;
    }
    write_others(summary, out)?;
    write_losses(report, out)
}

fn write_head(report: &Report, out: &mut String) -> std::fmt::Result {
    let Report { summary, sources, .. } = report;
    let inputs = match &sources[..] {
        [one] => shown(&one.name, 50),
        many => format!("{} files", many.len()),
    };
    writeln!(out, "httplines report  {inputs}  {} records", count(summary.records()))?;
    if let (Some(first), Some(last)) = (summary.first, summary.last) {
        let second = |time| rfc3339(time)[..19].replace('T', " ");
        let length = span(last.since(first));
        writeln!(out, "{} to {} UTC ({length})", second(first), second(last))?;
    } else {
        writeln!(out, "no record has a time: there is nothing to tell")?;
    }
    let sensors = rows_by_count(&summary.sensors);
    if !sensors.is_empty() {
        let sensors = sensors
            .into_iter()
            .map(|(key, row)| format!("{} {}", shown(key, 30), count(row.count)));
        write_row(out, "sensors", &sensors.collect::<Vec<_>>())?;
    }
    for source in sources.iter().filter(|it| it.is_torn || it.unrecognized > 0) {
        let mut what = Vec::new();
        if source.unrecognized > 0 {
            what.push(format!("{} lines are no records", count(source.unrecognized)));
        }
        if source.is_torn {
            what.push("it ends within a line, as a file does that is being written".into());
        }
        writeln!(out, "note: {}: {}", shown(&source.name, 30), what.join("; "))?;
    }
    writeln!(out)
}

/// The counts that are not zero, with their names.
fn parts<'a>(counted: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<String> {
    let counted = counted.into_iter().filter(|(_, number)| *number > 0);
    counted.map(|(name, number)| format!("{name} {}", count(number))).collect()
}

/// A name, and parts that are wrapped below each other.
fn write_row(out: &mut String, name: &str, parts: &[String]) -> std::fmt::Result {
    const INDENT: usize = 13;
    let mut line = format!("{name:<INDENT$}");
    let mut is_first = true;
    for part in parts {
        let gap = if is_first { "" } else { "   " };
        if !is_first && line.chars().count() + gap.len() + part.chars().count() > COLUMNS {
            writeln!(out, "{line}")?;
            line = format!("{:INDENT$}{part}", "");
        } else {
            line += gap;
            line += part;
        }
        is_first = false;
    }
    writeln!(out, "{}", line.trim_end())
}

fn quantiles(times: &Histogram) -> Vec<String> {
    let of = |name: &str, value| format!("{name} {}", time_or_none(value));
    vec![
        of("p50", times.quantile_ns(0.5)),
        of("p90", times.quantile_ns(0.9)),
        of("p99", times.quantile_ns(0.99)),
        of("p99.9", times.quantile_ns(0.999)),
        of("max", times.max_ns()),
    ]
}

fn write_totals(summary: &Summary, out: &mut String) -> std::fmt::Result {
    let totals = &summary.totals;
    let all = totals.exchanges;
    let seconds = match (summary.first, summary.last) {
        (Some(first), Some(last)) => last.since(first) as f64 / 1e9,
        _ => 0.0,
    };
    let mut exchanges = vec![count(all)];
    if seconds >= 1.0 {
        exchanges.push(format!("{}/s", few_digits(all as f64 / seconds)));
    }
    write_row(out, "exchanges", &exchanges)?;
    let in_and_out = [
        format!("requests {}", bytes(totals.request_body_bytes)),
        format!("responses {}", bytes(totals.response_body_bytes)),
    ];
    write_row(out, "bodies", &in_and_out)?;
    let share = |name: &str, part: u64| format!("{name} {} ({})", count(part), percent(part, all));
    let failures = [share("5xx or gRPC", totals.errors), share("broken off", totals.broken)];
    write_row(out, "errors", &failures)?;
    let statuses = STATUSES.into_iter().zip(totals.statuses);
    let statuses = statuses.chain([("none", totals.without_status)]);
    let statuses = statuses.filter(|(_, number)| *number > 0);
    let statuses: Vec<_> = statuses.map(|(name, number)| share(name, number)).collect();
    write_row(out, "status", &statuses)?;
    write_row(out, "methods", &parts(METHODS.into_iter().zip(totals.methods)))?;
    let versions = ["HTTP/1", "HTTP/2", "unknown"].into_iter().zip(totals.versions);
    write_row(out, "versions", &parts(versions))?;
    let outcomes = Outcome::ALL.map(Outcome::name).into_iter().zip(totals.outcomes);
    write_row(out, "outcomes", &parts(outcomes))?;
    let ends = parts(End::ALL.map(End::name).into_iter().zip(totals.ends));
    if !ends.is_empty() {
        write_row(out, "ended by", &ends)?;
    }
    for (name, times) in
        [("connect", &totals.connect), ("first byte", &totals.ttfb), ("whole", &totals.duration)]
    {
        if times.count() > 0 {
            write_row(out, name, &quantiles(times))?;
        }
    }
    writeln!(out)
}

/// The number of exchanges over time.
fn write_curve(summary: &Summary, out: &mut String) -> std::fmt::Result {
    let spans: Vec<u64> = summary.timeline.spans().map(|(_, span)| span.count).collect();
    let together = spans.len().div_ceil(CURVE_COLUMNS).max(1);
    let columns: Vec<u64> = spans.chunks(together).map(|chunk| chunk.iter().sum()).collect();
    let Some(most) = columns.iter().max().copied().filter(|most| *most > 0) else { return Ok(()) };
    let width_ns = summary.timeline.width_ns() * together as u64;
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |number: u64| match number {
        0 => ' ',
        number => LEVELS[((number * 8 - 1) / most).min(7) as usize],
    };
    let curve: String = columns.iter().map(|number| level(*number)).collect();
    writeln!(out, "{:<13}{curve}", "over time")?;
    let (width, most) = (units::time(width_ns), few_digits(most as f64 * 1e9 / width_ns as f64));
    // Of less than a second there is no rate.
    let is_long = columns.len() as u64 * width_ns >= 1_000_000_000;
    let most = if is_long { format!("; the highest {most}/s") } else { String::new() };
    writeln!(out, "{:<13}each column {width}{most}", "")?;
    writeln!(out)
}

/// The title of a table, and of the column of its times.
fn title(dimension: Dimension) -> (&'static str, bool) {
    match dimension {
        Dimension::Hosts => ("BUSIEST HOSTS", false),
        Dimension::Targets => ("BUSIEST TARGETS", false),
        Dimension::Clients => ("BUSIEST CLIENTS", false),
        Dimension::Servers => ("BUSIEST SERVERS", false),
        Dimension::Grpc => ("GRPC METHODS", true),
    }
}

fn write_heading(out: &mut String, title: &str, latency: &str) -> std::fmt::Result {
    let p99 = format!("{latency} p99");
    writeln!(out, "{title:<32}{:>10}{:>8}{:>7}{:>9}{p99:>14}", "count", "share", "err", "p50")
}

fn write_entry(out: &mut String, key: &str, row: &Row, all: u64) -> std::fmt::Result {
    let certain = row.certain();
    // A lower bound is marked.
    let mark = if row.error > 0 { "\u{2265}" } else { "" };
    writeln!(
        out,
        "{:<32}{:>10}{:>8}{:>7}{:>9}{:>14}",
        shown(key, 31),
        format!("{mark}{}", fit(certain)),
        percent(certain, all),
        percent(row.errors, certain),
        time_or_none(row.latency.quantile_ns(0.5)),
        time_or_none(row.latency.quantile_ns(0.99)),
    )
}

/// A count that takes nine columns at most.
fn fit(number: u64) -> String {
    if number < 10_000_000 { count(number) } else { few_digits(number as f64) }
}

fn write_table(summary: &Summary, dimension: Dimension, out: &mut String) -> std::fmt::Result {
    let table = summary.table(dimension);
    let rows = by_certainty(table);
    if rows.is_empty() {
        return Ok(());
    }
    let (title, is_duration) = title(dimension);
    write_heading(out, title, if is_duration { "call" } else { "ttfb" })?;
    for (key, row) in rows.iter().take(ROWS) {
        write_entry(out, key, row, summary.totals.exchanges)?;
    }
    if table.is_full() {
        let most = count(table.count() / rows.len() as u64);
        writeln!(
            out,
            "  too many for a row each: \u{2265} may be {most} more, and what has no row came at \
             most {most} times"
        )?;
    }
    if rows.len() > ROWS {
        writeln!(out, "  and {} more", count((rows.len() - ROWS) as u64))?;
    }
    writeln!(out)
}

/// The rows of a table, those first of which it is certain that they came most often.
pub fn by_certainty(table: &TopK) -> Vec<(&str, &Row)> {
    let mut rows: Vec<_> = table.rows().collect();
    rows.sort_by_key(|(key, row)| (std::cmp::Reverse(row.certain()), *key));
    rows
}

/// The rows with the highest 99th percentile, of those with enough records, slowest first.
pub fn slowest(summary: &Summary, dimension: Dimension) -> Vec<(&str, &Row)> {
    let rows = summary.table(dimension).rows();
    let least = slow_count_min(summary);
    let mut rows: Vec<_> = rows.filter(|(_, row)| row.latency.count() >= least).collect();
    rows.sort_by_key(|(key, row)| (std::cmp::Reverse(row.latency.quantile_ns(0.99)), *key));
    rows
}

fn write_slowest(summary: &Summary, out: &mut String) -> std::fmt::Result {
    let rows = slowest(summary, Dimension::Targets);
    if rows.is_empty() {
        return Ok(());
    }
    write_heading(out, "SLOWEST TARGETS", "ttfb")?;
    for (key, row) in rows.iter().take(ROWS) {
        write_entry(out, key, row, summary.totals.exchanges)?;
    }
    writeln!(out)
}

fn write_others(summary: &Summary, out: &mut String) -> std::fmt::Result {
    let (talks, tls) = (&summary.talks, &summary.tls);
    if talks.talks > 0 {
        let (client, server) = (count(talks.client_messages), count(talks.server_messages));
        let sizes = (bytes(talks.client_message_bytes), bytes(talks.server_message_bytes));
        let parts = [
            format!("talks {}", count(talks.talks)),
            format!("client {client} messages, {}", sizes.0),
            format!("server {server} messages, {}", sizes.1),
        ];
        write_row(out, "websocket", &parts)?;
    }
    if tls.connections > 0 {
        let mut parts = vec![format!("connections {}", count(tls.connections))];
        for table in [&tls.outcomes, &tls.versions, &tls.alerts] {
            let rows = rows_by_count(table).into_iter();
            parts.extend(rows.map(|(key, row)| format!("{} {}", shown(key, 30), count(row.count))));
        }
        write_row(out, "tls", &parts)?;
        write_row(out, "handshakes", &quantiles(&tls.handshake))?;
        for (key, row) in rows_by_count(&tls.names).into_iter().take(ROWS) {
            let p99 = time_or_none(row.latency.quantile_ns(0.99));
            writeln!(out, "  {:<48}{:>12}  p99 {p99}", shown(key, 47), count(row.count))?;
        }
    }
    if summary.partial > 0 {
        let partial =
            format!("{} records of what was under way, not counted", count(summary.partial));
        write_row(out, "partial", &[partial])?;
    }
    Ok(())
}

fn write_losses(report: &Report, out: &mut String) -> std::fmt::Result {
    let (losses, totals) = (&report.losses, &report.summary.totals);
    let share = |part| percent(part, totals.exchanges);
    let gaps = format!(
        "{} in {} exchanges ({})",
        bytes(totals.gap_bytes),
        count(totals.with_gap),
        share(totals.with_gap)
    );
    write_row(out, "not captured", &[gaps])?;
    let again = format!(
        "{} in {} exchanges ({})",
        bytes(totals.retransmitted_bytes),
        count(totals.with_retransmission),
        share(totals.with_retransmission)
    );
    write_row(out, "sent again", &[again])?;
    write_wrapped(out, "losses", losses.verdict())?;
    for (cause, lost) in losses.lost() {
        let share = match cause.unit {
            "frames" if losses.offered > 0 => {
                format!(" ({})", percent(lost, losses.offered + lost))
            }
            _ => String::new(),
        };
        write_wrapped(out, "", &format!("{} {}{share}: {}", count(lost), cause.unit, cause.words))?;
    }
    if losses.origin != Origin::Unknown && losses.gaps > 0 {
        let gaps =
            format!("{} holes in connections: {}", count(losses.gaps), bytes(losses.gap_bytes));
        write_wrapped(out, "", &gaps)?;
    }
    for remark in &losses.remarks {
        write_wrapped(out, "", &format!("the run says: {}", shown(remark, 400)))?;
    }
    if !losses.without.is_empty() {
        let names: Vec<_> = losses.without.iter().map(|name| shown(name, 60)).collect();
        write_wrapped(out, "", &format!("nothing is known about {}", names.join(", ")))?;
    }
    Ok(())
}

/// A name, and a sentence that is wrapped.
fn write_wrapped(out: &mut String, name: &str, sentence: &str) -> std::fmt::Result {
    let mut line = format!("{name:<13}");
    let mut is_first = true;
    for word in sentence.split(' ') {
        if !is_first && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            writeln!(out, "{line}")?;
            line = format!("{:13}{word}", "");
        } else {
            if !is_first {
                line.push(' ');
            }
            line += word;
        }
        is_first = false;
    }
    writeln!(out, "{line}")
}

/// A text of the wire: no more than `columns` characters, and none that a terminal would obey.
fn shown(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut width = 0;
    for character in text.chars() {
        let escaped = match is_unsafe(character) || is_invisible(character) {
            true => character.escape_unicode().to_string(),
            false => character.to_string(),
        };
        width += escaped.chars().count();
        if width > columns {
            while out.chars().count() >= columns {
                out.pop();
            }
            out.push('\u{2026}');
            return out;
        }
        out += &escaped;
    }
    if out.is_empty() { NONE.into() } else { out }
}
