//! The tables of a page.

use super::chart::{LAYERS, all_of_layer};
use super::escape::Escaped;
use crate::cli::report::Report;
use crate::cli::report::json::rows_by_count;
use crate::cli::report::losses::{CAUSES, Origin};
use crate::cli::report::text::{by_certainty, slow_count_min, slowest};
use crate::cli::report::units::{NONE, bytes, count, percent, time_or_none};
use httplines::flow::End;
use httplines::observe::summary::{Dimension, Histogram, Row, Summary, TopK, Totals, VERSIONS};
use httplines::protocol::classes::{GRPC_CODES, METHODS};
use httplines::record::{Outcome, rfc3339};
use std::fmt::{Result, Write};

/// Rows that are shown of each table.
const ROWS: usize = 15;

/// Percentiles of the times of all exchanges.
pub fn times(totals: &Totals, out: &mut String) -> Result {
    writeln!(
        out,
        "<div class=\"scroll\"><table><caption>Times on the wire</caption><thead><tr>\
         <th class=\"key\" scope=\"col\"></th><th scope=\"col\" class=\"wide\">count</th>\
         <th scope=\"col\" class=\"wide\">min</th><th scope=\"col\">p50</th>\
         <th scope=\"col\">p90</th>\
         <th scope=\"col\">p99</th><th scope=\"col\" class=\"wide\">p99.9</th>\
         <th scope=\"col\">max</th></tr></thead><tbody>"
    )?;
    for (name, histogram) in [
        ("Connect: SYN to SYN-ACK", &totals.connect),
        ("First byte: end of request to response", &totals.ttfb),
        ("Whole exchange", &totals.duration),
    ] {
        if histogram.count() > 0 {
            write_times(name, histogram, out)?;
        }
    }
    writeln!(out, "</tbody></table></div>")
}

fn write_times(name: &str, times: &Histogram, out: &mut String) -> Result {
    let of = |quantile| time_or_none(times.quantile_ns(quantile));
    writeln!(
        out,
        "<tr><th class=\"key\" scope=\"row\">{name}</th><td class=\"wide\">{}</td>\
         <td class=\"wide\">{}</td>\
         <td>{}</td><td>{}</td><td>{}</td><td class=\"wide\">{}</td><td>{}</td></tr>",
        count(times.count()),
        time_or_none(times.min_ns()),
        of(0.5),
        of(0.9),
        of(0.99),
        of(0.999),
        time_or_none(times.max_ns())
    )
}

/// The rows of a table: the busiest, and the slowest.
pub fn dimension(summary: &Summary, dimension: Dimension, out: &mut String) -> Result {
    let table = summary.table(dimension);
    let (name, is_ranked) = match dimension {
        Dimension::Hosts => ("host", true),
        Dimension::Targets => ("target", true),
        Dimension::Clients => ("client", false),
        Dimension::Servers => ("server", false),
        Dimension::Grpc => ("method", true),
    };
    if table.count() == 0 {
        return writeln!(out, "<p class=\"quiet\">No exchange has a known {name}.</p>");
    }
    let rows = by_certainty(table);
    let shown = &rows[..rows.len().min(ROWS)];
    write_table(summary, &format!("Busiest {name}s"), name, shown, out)?;
    write_rest(table, name, rows.len(), out)?;
    if is_ranked {
        let rows = slowest(summary, dimension);
        let least = slow_count_min(summary);
        let title = format!("Slowest {name}s, by p99, of those with {least} times or more");
        let shown = &rows[..rows.len().min(ROWS)];
        if !shown.is_empty() && table.rows().len() > 1 {
            write_table(summary, &title, name, shown, out)?;
        }
    }
    Ok(())
}

/// What the rows that are shown leave out.
fn write_rest(table: &TopK, name: &str, row_count: usize, out: &mut String) -> Result {
    if table.is_full() {
        let most = table.rows().map(|(_, row)| row.error).max().unwrap_or_default();
        writeln!(
            out,
            "<p class=\"quiet\">There were too many {name}s for a row each: a count with \u{2265} \
             may be too low by up to {}, and a {name} without one came {} times at most.</p>",
            count(most),
            count(table.count() / row_count as u64)
        )?;
    }
    if row_count > ROWS {
        writeln!(out, "<p class=\"quiet\">{} more {name}s.</p>", count((row_count - ROWS) as u64))?;
    }
    Ok(())
}

fn write_table(
    summary: &Summary,
    title: &str,
    name: &str,
    rows: &[(&str, &Row)],
    out: &mut String,
) -> Result {
    let latency = if name == "method" { "" } else { "ttfb " };
    writeln!(
        out,
        "<div class=\"scroll\"><table><caption>{title}</caption><thead><tr>\
         <th class=\"key\" scope=\"col\">{name}</th><th scope=\"col\">count</th>\
         <th scope=\"col\" class=\"wide\">share</th><th scope=\"col\">errors</th>\
         <th scope=\"col\" class=\"wide\">broken</th>\
         <th scope=\"col\" class=\"wide\">{latency}p50</th>\
         <th scope=\"col\" class=\"wide\">p90</th>\
         <th scope=\"col\">{latency}p99</th>\
         <th scope=\"col\" class=\"wide\">out</th></tr></thead><tbody>"
    )?;
    for (key, row) in rows {
        write_row(key, row, summary.totals.exchanges, out)?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// From this share of errors on, a row stands out.
fn is_hot(errors: u64, all: u64) -> bool {
    errors * 20 >= all && errors > 0
}

fn write_row(key: &str, row: &Row, all: u64, out: &mut String) -> Result {
    let certain = row.certain();
    let mark = if row.error > 0 { "\u{2265}" } else { "" };
    let of = |quantile| time_or_none(row.latency.quantile_ns(quantile));
    let class = if is_hot(row.errors, certain) { " class=\"hot\"" } else { "" };
    let part = 100.0 * certain as f64 / all.max(1) as f64;
    writeln!(
        out,
        "<tr><th class=\"key\" scope=\"row\">{}</th><td>{mark}{}</td>\
         <td class=\"share wide\" style=\"--part:{part:.1}\">{}</td><td{class}>{}</td>\
         <td class=\"wide\">{}</td><td class=\"wide\">{}</td><td class=\"wide\">{}</td>\
         <td>{}</td><td class=\"wide\">{}</td></tr>",
        shown_key(key),
        count(certain),
        percent(certain, all),
        percent(row.errors, certain),
        percent(row.broken, certain),
        of(0.5),
        of(0.9),
        of(0.99),
        bytes(row.response_body_bytes)
    )
}

fn shown_key(key: &str) -> String {
    if key.is_empty() { NONE.into() } else { Escaped(key).to_string() }
}

/// Counts with their names, and the share of the whole.
fn write_counts<'a>(
    title: &str,
    all: u64,
    counts: impl IntoIterator<Item = (&'a str, u64)>,
    out: &mut String,
) -> Result {
    let counts: Vec<_> = counts.into_iter().filter(|(_, number)| *number > 0).collect();
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<table class=\"narrow\"><caption>{title}</caption><thead><tr><th class=\"key\" \
         scope=\"col\"></th><th scope=\"col\">count</th><th scope=\"col\">share</th></tr></thead>\
         <tbody>"
    )?;
    for (name, number) in counts {
        let part = 100.0 * number as f64 / all.max(1) as f64;
        writeln!(
            out,
            "<tr><th class=\"key\" scope=\"row\">{}</th><td>{}</td><td class=\"share\" \
             style=\"--part:{part:.1}\">{}</td></tr>",
            shown_key(name),
            count(number),
            percent(number, all)
        )?;
    }
    writeln!(out, "</tbody></table>")
}

/// What failed, where, and how exchanges ended.
pub fn errors(summary: &Summary, out: &mut String) -> Result {
    let totals = &summary.totals;
    writeln!(
        out,
        "<p>{} of {} exchanges failed by their status (5xx, or a code of gRPC that is a server's \
         failure), and {} were broken off: closed, reset or left silent by an endpoint before they \
         were complete, although nothing of them was lost here.</p>",
        count(totals.errors),
        count(totals.exchanges),
        count(totals.broken)
    )?;
    let rows = summary.table(Dimension::Targets).rows();
    let mut rows: Vec<_> = rows.filter(|(_, row)| row.errors + row.broken > 0).collect();
    rows.sort_by_key(|(key, row)| (std::cmp::Reverse(row.errors + row.broken), *key));
    rows.truncate(ROWS);
    if !rows.is_empty() {
        write_table(summary, "Targets with the most failures", "target", &rows, out)?;
    }
    write!(out, "<div class=\"columns\">\n<div>")?;
    let all = totals.exchanges;
    let statuses = LAYERS.iter().map(|(_, name, it)| (*name, all_of_layer(summary, it)));
    write_counts("Status", all, statuses, out)?;
    write!(out, "</div><div>")?;
    write_counts("Methods", totals.requests, METHODS.into_iter().zip(totals.methods), out)?;
    write!(out, "</div><div>")?;
    let outcomes = Outcome::ALL.map(Outcome::name).into_iter().zip(totals.outcomes);
    write_counts("Outcomes", all, outcomes, out)?;
    write!(out, "</div><div>")?;
    let ends = End::ALL.map(End::name).into_iter().zip(totals.ends);
    write_counts("Why the others ended", totals.ends.iter().sum(), ends, out)?;
    write!(out, "</div><div>")?;
    write_counts("Versions", all, VERSIONS.into_iter().zip(totals.versions), out)?;
    write!(out, "</div>\n</div>\n")
}

/// Calls by method and code.
pub fn grpc(summary: &Summary, out: &mut String) -> Result {
    let totals = &summary.totals;
    dimension(summary, Dimension::Grpc, out)?;
    writeln!(out, "<p class=\"quiet\">Times of calls are of whole ones.</p>")?;
    let calls = totals.grpc_calls();
    write_counts("Status codes", calls, GRPC_CODES.into_iter().zip(totals.grpc), out)?;
    let table = summary.table(Dimension::Grpc);
    let mut rows: Vec<_> = table.rows().filter(|(_, row)| row.errors > 0).collect();
    rows.sort_by_key(|(key, row)| (std::cmp::Reverse(row.errors), *key));
    rows.truncate(ROWS);
    if rows.is_empty() {
        return Ok(());
    }
    let has = |code: &usize| rows.iter().any(|(_, row)| of_code(row, *code) > 0);
    let codes: Vec<usize> = (0..GRPC_CODES.len()).filter(has).collect();
    write!(
        out,
        "<div class=\"scroll\"><table><caption>Codes of the methods with the most failures\
         </caption><thead><tr><th class=\"key\" scope=\"col\">method</th>"
    )?;
    for code in &codes {
        write!(out, "<th scope=\"col\">{}</th>", GRPC_CODES[*code])?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    for (key, row) in rows {
        write!(out, "<tr><th class=\"key\" scope=\"row\">{}</th>", shown_key(key))?;
        for code in &codes {
            write!(out, "<td>{}</td>", count(of_code(row, *code)))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")
}

fn of_code(row: &Row, code: usize) -> u64 {
    row.grpc.as_ref().map_or(0, |codes| codes[code])
}

/// Talks of WebSocket, and connections of TLS.
pub fn others(summary: &Summary, out: &mut String) -> Result {
    let (talks, tls) = (&summary.talks, &summary.tls);
    if talks.talks > 0 {
        writeln!(
            out,
            "<p>{} talks of WebSocket: {} messages ({}) of clients, {} ({}) of servers.</p>",
            count(talks.talks),
            count(talks.client_messages),
            bytes(talks.client_message_bytes),
            count(talks.server_messages),
            bytes(talks.server_message_bytes)
        )?;
        let ends = End::ALL.map(End::name).into_iter().zip(talks.ends);
        write_counts("Why talks ended that were not closed", talks.talks, ends, out)?;
    }
    if tls.connections == 0 {
        return Ok(());
    }
    write!(
        out,
        "<p>{} connections of TLS: {} of clients, {} of servers. Handshakes: median {}, p99 {}.\
         </p>\n<div class=\"columns\">\n",
        count(tls.connections),
        bytes(tls.client_bytes),
        bytes(tls.server_bytes),
        time_or_none(tls.handshake.quantile_ns(0.5)),
        time_or_none(tls.handshake.quantile_ns(0.99))
    )?;
    for (title, table) in [
        ("Server names", &tls.names),
        ("Versions", &tls.versions),
        ("ALPN", &tls.alpn),
        ("Outcomes", &tls.outcomes),
        ("Alerts", &tls.alerts),
    ] {
        let rows = rows_by_count(table);
        let rows = rows.into_iter().take(ROWS).map(|(key, row)| (key, row.certain()));
        write!(out, "<div>")?;
        write_counts(title, tls.connections, rows, out)?;
        write!(out, "</div>")?;
    }
    write!(out, "\n</div>\n")
}

/// What is missing, and what passed again.
pub fn losses(report: &Report, out: &mut String) -> Result {
    let (losses, totals) = (&report.losses, &report.summary.totals);
    writeln!(
        out,
        "<p>{} exchanges ({}) have gaps: {} of them were not captured. Of {} exchanges ({}), {} \
         passed again (retransmissions). {} are of connections that were joined late.</p>",
        count(totals.with_gap),
        percent(totals.with_gap, totals.exchanges),
        bytes(totals.gap_bytes),
        count(totals.with_retransmission),
        percent(totals.with_retransmission, totals.exchanges),
        bytes(totals.retransmitted_bytes),
        count(totals.midstream)
    )?;
    if losses.origin != Origin::Unknown {
        writeln!(
            out,
            "<p>{} holes in connections: {}.</p>",
            count(losses.gaps),
            bytes(losses.gap_bytes)
        )?;
    }
    if losses.origin == Origin::Statistics {
        writeln!(
            out,
            "<div class=\"scroll\"><table><caption>Lost, by cause, as the runs have told</caption>\
             <thead><tr><th class=\"key\" scope=\"col\">cause</th><th scope=\"col\">lost</th>\
             <th scope=\"col\"></th></tr></thead><tbody>"
        )?;
        for (cause, lost) in CAUSES.iter().zip(losses.counts) {
            let class = if lost > 0 { " class=\"hot\"" } else { "" };
            writeln!(
                out,
                "<tr><th class=\"key\" scope=\"row\">{}</th><td{class}>{}</td><td>{}</td></tr>",
                cause.words,
                count(lost),
                cause.unit
            )?;
        }
        writeln!(out, "</tbody></table></div>")?;
    }
    if let Some((from, to)) = losses.span {
        let second = |time| rfc3339(time)[..19].replace('T', " ");
        writeln!(
            out,
            "<p class=\"quiet\">The statistics are of {} to {} UTC.</p>",
            second(from),
            second(to)
        )?;
    }
    for remark in &losses.remarks {
        writeln!(out, "<p class=\"break\">A run says: {}</p>", Escaped(remark))?;
    }
    if !losses.without.is_empty() {
        let names: Vec<_> = losses.without.iter().map(|it| Escaped(it).to_string()).collect();
        writeln!(
            out,
            "<p class=\"quiet break\">Without statistics, so that nothing is known about their \
             losses: {}.</p>",
            names.join(", ")
        )?;
    }
    Ok(())
}
