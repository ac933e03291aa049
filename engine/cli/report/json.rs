//! The report as one JSON object: `docs/report.schema.json`.

use super::Report;
use super::losses::{CAUSES, Losses, Origin};
use super::source::Found;
use httplines::flow::End;
use httplines::observe::summary::{
    Dimension, Histogram, Row, Span, Summary, Talks, Tls, TopK, Totals, VERSIONS,
};
use httplines::protocol::classes::{GRPC_CODES, METHODS, STATUSES};
use httplines::record::{Outcome, rfc3339};
use httplines::time::TimestampNs;
use serde_json::{Map, Value, json};

/// One line, with a line feed.
pub fn render(report: &Report) -> anyhow::Result<String> {
    let mut text = serde_json::to_string(&object(report))?;
    text.push('\n');
    Ok(text)
}

fn object(report: &Report) -> Value {
    let Report { summary, losses, sources, made, errors, .. } = report;
    let tables = Dimension::ALL.map(|it| (it.name(), table(summary.table(it), it)));
    let mut object = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "made": made,
        "sources": sources.iter().map(|it| source(it, report.is_capture)).collect::<Vec<_>>(),
        "sensors": names(&summary.sensors),
        "errors": errors,
        "records": records(summary),
        "exchanges": exchanges(&summary.totals),
        "websocket": talks(&summary.talks),
        "tls": tls(&summary.tls),
        "timeline": timeline(summary),
        "losses": told_losses(losses),
    });
    if let (Some(first), Some(last)) = (summary.first, summary.last) {
        object["from"] = rfc3339(first).into();
        object["to"] = rfc3339(last).into();
    }
    for (name, table) in tables {
        object[name] = table;
    }
    object
}

fn source(found: &Found, is_capture: bool) -> Value {
    if is_capture {
        return json!({"name": found.name});
    }
    json!({
        "name": found.name,
        "records": found.records,
        "unrecognized": found.unrecognized,
        "torn": found.is_torn,
        "statistics": found.has_statistics,
    })
}

fn records(summary: &Summary) -> Value {
    json!({
        "http": summary.totals.exchanges,
        "websocket": summary.talks.talks,
        "tls": summary.tls.connections,
        "partial": summary.partial,
        "unrecognized": summary.unrecognized,
    })
}

/// Counts by name.
fn counts<'a>(names: impl IntoIterator<Item = &'a str>, counts: &[u64]) -> Value {
    let pairs = names.into_iter().zip(counts);
    Value::Object(pairs.map(|(name, count)| (name.into(), (*count).into())).collect())
}

fn outcomes(of: &[u64]) -> Value {
    counts(Outcome::ALL.map(Outcome::name), of)
}

fn ends(of: &[u64]) -> Value {
    counts(End::ALL.map(End::name), of)
}

/// Statuses by class, and those that are absent.
fn statuses(of: &[u64; STATUSES.len()], without: u64) -> Value {
    let mut object = counts(STATUSES, of);
    object["none"] = without.into();
    object
}

fn times(histogram: &Histogram) -> Value {
    let mut object = Map::from_iter([("count".to_string(), histogram.count().into())]);
    for (name, value) in [
        ("min", histogram.min_ns()),
        ("mean", histogram.mean_ns()),
        ("p50", histogram.quantile_ns(0.5)),
        ("p90", histogram.quantile_ns(0.9)),
        ("p99", histogram.quantile_ns(0.99)),
        ("p999", histogram.quantile_ns(0.999)),
        ("max", histogram.max_ns()),
    ] {
        if let Some(value) = value {
            object.insert(format!("{name}_ns"), value.into());
        }
    }
    Value::Object(object)
}

fn exchanges(totals: &Totals) -> Value {
    let buckets = totals.ttfb.buckets().map(|it| json!([it.from_ns, it.to_ns, it.count]));
    json!({
        "exchanges": totals.exchanges,
        "requests": totals.requests,
        "errors": totals.errors,
        "broken": totals.broken,
        "methods": counts(METHODS, &totals.methods),
        "statuses": statuses(&totals.statuses, totals.without_status),
        "versions": counts(VERSIONS, &totals.versions),
        "grpc": counts(GRPC_CODES, &totals.grpc),
        "outcomes": outcomes(&totals.outcomes),
        "ends": ends(&totals.ends),
        "request_body_bytes": totals.request_body_bytes,
        "response_body_bytes": totals.response_body_bytes,
        "with_gap": totals.with_gap,
        "gap_bytes": totals.gap_bytes,
        "with_retransmission": totals.with_retransmission,
        "retransmitted_bytes": totals.retransmitted_bytes,
        "midstream": totals.midstream,
        "ttfb": times(&totals.ttfb),
        "ttfb_buckets": buckets.collect::<Vec<_>>(),
        "duration": times(&totals.duration),
        "connect": times(&totals.connect),
    })
}

fn talks(talks: &Talks) -> Value {
    json!({
        "talks": talks.talks,
        "client_messages": talks.client_messages,
        "server_messages": talks.server_messages,
        "client_message_bytes": talks.client_message_bytes,
        "server_message_bytes": talks.server_message_bytes,
        "outcomes": outcomes(&talks.outcomes),
        "ends": ends(&talks.ends),
        "gap_bytes": talks.gap_bytes,
        "duration": times(&talks.duration),
    })
}

fn tls(tls: &Tls) -> Value {
    let rows = rows_by_count(&tls.names);
    let names: Vec<Value> = rows.into_iter().map(|(key, row)| tls_row(key, row)).collect();
    json!({
        "connections": tls.connections,
        "names": names,
        "versions": self::names(&tls.versions),
        "alpn": self::names(&tls.alpn),
        "alerts": self::names(&tls.alerts),
        "outcomes": self::names(&tls.outcomes),
        "hello": times(&tls.hello),
        "handshake": times(&tls.handshake),
        "client_bytes": tls.client_bytes,
        "server_bytes": tls.server_bytes,
    })
}

fn tls_row(key: &str, row: &Row) -> Value {
    json!({
        "key": key,
        "count": row.count,
        "error": row.error,
        "failed": row.errors,
        "client_bytes": row.request_body_bytes,
        "server_bytes": row.response_body_bytes,
        "handshake": times(&row.latency),
        "last_seen": rfc3339(row.last_seen),
    })
}

/// The rows of a table, those with the greatest counts first.
pub fn rows_by_count(table: &TopK) -> Vec<(&str, &Row)> {
    let mut rows: Vec<_> = table.rows().collect();
    rows.sort_by(|(key, row), (other_key, other)| {
        other.count.cmp(&row.count).then_with(|| key.cmp(other_key))
    });
    rows
}

/// The counts of a table whose keys are names from a list.
fn names(table: &TopK) -> Value {
    let rows = rows_by_count(table).into_iter();
    let told =
        |(key, row): (&str, &Row)| json!({"key": key, "count": row.count, "error": row.error});
    Value::Array(rows.map(told).collect())
}

fn table(table: &TopK, dimension: Dimension) -> Value {
    let rows = rows_by_count(table).into_iter();
    let rows: Vec<Value> = rows.map(|(key, row)| row_of(key, row, dimension)).collect();
    json!({"count": table.count(), "full": table.is_full(), "rows": rows})
}

fn row_of(key: &str, row: &Row, dimension: Dimension) -> Value {
    let mut object = json!({
        "key": key,
        "count": row.count,
        "error": row.error,
        "statuses": statuses(&row.statuses, row.without_status),
        "errors": row.errors,
        "broken": row.broken,
        "request_body_bytes": row.request_body_bytes,
        "response_body_bytes": row.response_body_bytes,
        "last_seen": rfc3339(row.last_seen),
    });
    let latency = if dimension == Dimension::Grpc { "duration" } else { "ttfb" };
    object[latency] = times(&row.latency);
    if let Some(codes) = &row.grpc {
        object["grpc"] = counts(GRPC_CODES, &**codes);
    }
    object
}

fn timeline(summary: &Summary) -> Value {
    let spans = summary.timeline.spans().map(span);
    json!({"width_ns": summary.timeline.width_ns(), "spans": spans.collect::<Vec<_>>()})
}

fn span((from, span): (TimestampNs, &Span)) -> Value {
    json!({
        "from": rfc3339(from),
        "exchanges": span.count,
        "statuses": statuses(&span.statuses, span.without_status),
        "errors": span.errors,
        "request_body_bytes": span.request_body_bytes,
        "response_body_bytes": span.response_body_bytes,
        "gap_bytes": span.gap_bytes,
        "ttfb": times(&span.ttfb),
    })
}

fn told_losses(losses: &Losses) -> Value {
    let origin = match losses.origin {
        Origin::Unknown => "unknown",
        Origin::Statistics => "statistics",
        Origin::Capture => "capture",
    };
    let mut object = json!({"origin": origin});
    if losses.origin == Origin::Statistics {
        for (cause, count) in CAUSES.iter().zip(losses.counts) {
            let (group, name) = cause.key;
            object[group][name] = count.into();
        }
        object["frames"]["offered"] = losses.offered.into();
        object["partial"] = losses.is_partial.into();
        object["errors"] = json!(losses.remarks);
        object["without_statistics"] = json!(losses.without);
    }
    if losses.origin != Origin::Unknown {
        object["flow"] = json!({"gaps": losses.gaps, "gap_bytes": losses.gap_bytes});
    }
    if let Some((from, to)) = losses.span {
        object["from"] = rfc3339(from).into();
        object["to"] = rfc3339(to).into();
    }
    object
}
