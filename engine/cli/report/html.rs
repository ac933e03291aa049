//! The report as one page of HTML that needs nothing else: no script, no file beside it. Texts of
//! the wire are [`Escaped`].

use super::Report;
use super::json::rows_by_count;
use super::losses::Origin;
use super::units::{bytes, count, few_digits, percent, span, time_or_none};
use escape::Escaped;
use httplines::observe::summary::Dimension;
use httplines::record::rfc3339;
use std::fmt::{Result, Write};

mod chart;
mod escape;
mod tables;

const STYLE: &str = include_str!("html/style.css");

/// Sources that are named; of more, only their number is told.
const NAME_COUNT_MAX: usize = 8;

/// The page.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to memory does not fail.
    let _ = write_page(report, &mut out);
    out
}

fn write_page(report: &Report, out: &mut String) -> Result {
    let summary = &report.summary;
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"httplines {}\">\n<title>HTTP traffic, {}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n",
        env!("CARGO_PKG_VERSION"),
        when(report)
    )?;
    write_head(report, out)?;
    let has_exchanges = summary.totals.exchanges > 0;
    if has_exchanges {
        write_figures(report, out)?;
    }
    write_verdict(report, out)?;
    writeln!(out, "<main>")?;
    if has_exchanges {
        heading(out, "time", "Traffic and latency over time")?;
        chart::traffic(summary, out)?;
        chart::latency(summary, out)?;
        chart::spread("Time to first byte", &summary.totals.ttfb, out)?;
        tables::times(&summary.totals, out)?;
        heading(out, "hosts", "Hosts")?;
        tables::dimension(summary, Dimension::Hosts, out)?;
        heading(out, "targets", "Targets")?;
        tables::dimension(summary, Dimension::Targets, out)?;
        heading(out, "errors", "Errors and status")?;
        tables::errors(summary, out)?;
        if summary.totals.grpc_calls() > 0 {
            heading(out, "grpc", "gRPC")?;
            tables::grpc(summary, out)?;
        }
        heading(out, "peers", "Clients and servers")?;
        tables::dimension(summary, Dimension::Clients, out)?;
        tables::dimension(summary, Dimension::Servers, out)?;
    }
    if summary.talks.talks > 0 || summary.tls.connections > 0 {
        heading(out, "others", "WebSocket and TLS")?;
        tables::others(summary, out)?;
    }
    heading(out, "losses", "Losses, gaps and retransmissions")?;
    tables::losses(report, out)?;
    writeln!(out, "</main>")?;
    write_foot(report, out)?;
    write!(out, "</body>\n</html>\n")
}

fn heading(out: &mut String, id: &str, text: &str) -> Result {
    writeln!(out, "<h2 id=\"{id}\">{text}</h2>")
}

/// The time of the records, to the second.
fn when(report: &Report) -> String {
    let (Some(first), Some(last)) = (report.summary.first, report.summary.last) else {
        return "no records".into();
    };
    let (first, last) = (rfc3339(first), rfc3339(last));
    let from = first[..19].replace('T', " ");
    match first[..10] == last[..10] {
        true => format!("{from} to {} UTC", &last[11..19]),
        false => format!("{from} to {} UTC", last[..19].replace('T', " ")),
    }
}

fn write_head(report: &Report, out: &mut String) -> Result {
    let summary = &report.summary;
    write!(out, "<header>\n<h1>HTTP traffic</h1>\n<p>{}", when(report))?;
    if let (Some(first), Some(last)) = (summary.first, summary.last) {
        write!(out, " ({})", span(last.since(first)))?;
    }
    write!(out, "</p>\n<p class=\"quiet break\">{} records from ", count(summary.records()))?;
    let names = report.sources.iter().take(NAME_COUNT_MAX);
    let names: Vec<String> = names.map(|it| Escaped(&it.name).to_string()).collect();
    write!(out, "{}", names.join(", "))?;
    if report.sources.len() > NAME_COUNT_MAX {
        write!(out, " and {} more files", report.sources.len() - NAME_COUNT_MAX)?;
    }
    let sensors = rows_by_count(&summary.sensors);
    if !sensors.is_empty() {
        let sensors = sensors.into_iter();
        let told = sensors.map(|(key, row)| format!("{} ({})", Escaped(key), count(row.count)));
        write!(out, "; sensors {}", told.collect::<Vec<_>>().join(", "))?;
    }
    writeln!(out, "</p>")?;
    for source in report.sources.iter().filter(|it| it.is_torn || it.unrecognized > 0) {
        write!(out, "<p class=\"quiet break\">{}: ", Escaped(&source.name))?;
        if source.unrecognized > 0 {
            write!(out, "{} lines are no records. ", count(source.unrecognized))?;
        }
        if source.is_torn {
            write!(out, "It ends within a line, as a file does that is being written.")?;
        }
        writeln!(out, "</p>")?;
    }
    if summary.totals.exchanges > 0 {
        write_contents(report, out)?;
    }
    writeln!(out, "</header>")
}

fn write_contents(report: &Report, out: &mut String) -> Result {
    let summary = &report.summary;
    let has_others = summary.talks.talks > 0 || summary.tls.connections > 0;
    let all = [
        ("time", "Over time", true),
        ("hosts", "Hosts", true),
        ("targets", "Targets", true),
        ("errors", "Errors", true),
        ("grpc", "gRPC", summary.totals.grpc_calls() > 0),
        ("peers", "Clients and servers", true),
        ("others", "WebSocket and TLS", has_others),
        ("losses", "Losses", true),
    ];
    write!(out, "<nav aria-label=\"Sections\">")?;
    for (id, name, _) in all.into_iter().filter(|(.., is_there)| *is_there) {
        write!(out, "<a href=\"#{id}\">{name}</a>")?;
    }
    writeln!(out, "</nav>")
}

fn write_figures(report: &Report, out: &mut String) -> Result {
    let summary = &report.summary;
    let totals = &summary.totals;
    let seconds = match (summary.first, summary.last) {
        (Some(first), Some(last)) => last.since(first) as f64 / 1e9,
        _ => 0.0,
    };
    let rate = match seconds >= 1.0 {
        true => format!("{}/s on average", few_digits(totals.exchanges as f64 / seconds)),
        false => String::new(),
    };
    let p90 = time_or_none(totals.ttfb.quantile_ns(0.9));
    let peak = summary.timeline.spans().map(|(_, span)| span.count).max().unwrap_or_default();
    // Of less than a second there is no rate.
    let peak = match seconds >= 1.0 {
        true => few_digits(peak as f64 * 1e9 / summary.timeline.width_ns() as f64) + "/s",
        false => "-".into(),
    };
    let errors = [percent(totals.errors, totals.exchanges), count(totals.errors)];
    let broken = [percent(totals.broken, totals.exchanges), count(totals.broken)];
    let figures = [
        ("Exchanges", few_digits(totals.exchanges as f64), rate),
        ("Peak", peak, "in one bar below".into()),
        (
            "Time to first byte",
            time_or_none(totals.ttfb.quantile_ns(0.5)),
            format!("median; p90 {p90}"),
        ),
        (
            "p99",
            time_or_none(totals.ttfb.quantile_ns(0.99)),
            format!("max {}", time_or_none(totals.ttfb.max_ns())),
        ),
        ("Server errors", errors[0].clone(), format!("{} with 5xx or a gRPC failure", errors[1])),
        ("Broken off", broken[0].clone(), format!("{} by an endpoint", broken[1])),
        (
            "Bodies of responses",
            bytes(totals.response_body_bytes),
            format!("requests {}", bytes(totals.request_body_bytes)),
        ),
        (
            "Not captured",
            percent(totals.with_gap, totals.exchanges),
            format!("{} exchanges with gaps", count(totals.with_gap)),
        ),
    ];
    writeln!(out, "<dl class=\"figures\">")?;
    for (name, value, note) in figures {
        writeln!(out, "<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>")?;
    }
    writeln!(out, "</dl>")
}

/// What is known about losses, where nobody overlooks it.
fn write_verdict(report: &Report, out: &mut String) -> Result {
    let losses = &report.losses;
    let has_lost = losses.lost().next().is_some();
    let (class, word) = match (losses.origin, has_lost) {
        (Origin::Statistics, false) if losses.is_partial || !losses.without.is_empty() => {
            ("unsure", "Losses known in part.")
        }
        (Origin::Statistics, false) => ("good", "Complete."),
        (Origin::Statistics, true) => ("bad", "Incomplete."),
        _ => ("unsure", "Losses unknown."),
    };
    let verdict = losses.verdict().trim_start_matches("Unknown: ");
    let mut sentence = verdict.chars();
    let first = sentence.next().map(|first| first.to_uppercase().to_string());
    write!(
        out,
        "<div class=\"verdict {class}\"><strong>{word}</strong> {}{}",
        first.unwrap_or_default(),
        sentence.as_str()
    )?;
    if has_lost {
        write!(out, "<ul>")?;
        for (cause, lost) in losses.lost() {
            write!(out, "<li>{} {}: {}</li>", count(lost), cause.unit, cause.words)?;
        }
        write!(out, "</ul>")?;
    }
    for error in &report.errors {
        write!(out, "<p>This report: {}</p>", Escaped(error))?;
    }
    writeln!(out, "</div>")
}

fn write_foot(report: &Report, out: &mut String) -> Result {
    write!(
        out,
        "<footer class=\"quiet\"><p>Times are of the wire, where the traffic was captured. \
         Percentiles are within 0.8% of the exact ones. Digits and long hex numbers in targets are \
         shown as *. A count with \u{2265} is a lower bound, where more keys came than a table has \
         rows.</p>\n<p>Made by httplines {}, {} UTC.</p></footer>\n",
        env!("CARGO_PKG_VERSION"),
        report.made[..19].replace('T', " ")
    )
}
