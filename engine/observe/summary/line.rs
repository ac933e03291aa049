//! Lines as httplines writes them (`docs/schema.json`), as facts.

use super::facts::{Facts, TalkFacts, TlsFacts, is_grpc_type, sum_of};
use crate::flow::End;
use crate::record::Outcome;
use crate::time::TimestampNs;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;

/// A line.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// An exchange that is over.
    Exchange(Facts<'a>),
    /// A talk of WebSocket that is over.
    Talk(TalkFacts),
    /// A connection of TLS.
    Tls(TlsFacts<'a>),
    /// Something that is under way, and gets another line when it is over.
    Partial,
}

/// The fields of all kinds of lines that are counted. Others are skipped.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    ts: Option<&'a str>,
    #[serde(borrow)]
    sensor: Option<Cow<'a, str>>,
    flow: &'a str,
    client_ip: &'a str,
    server_ip: &'a str,
    server_port: u16,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    host: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request_content_type: Option<Cow<'a, str>>,
    status: Option<u16>,
    #[serde(borrow)]
    response_content_type: Option<Cow<'a, str>>,
    grpc_status: Option<u32>,
    grpc_message: Option<IgnoredAny>,
    grpc_request_messages: Option<u64>,
    grpc_response_messages: Option<u64>,
    request_body_bytes: Option<u64>,
    response_body_bytes: Option<u64>,
    connect_ns: Option<u64>,
    request_ns: Option<u64>,
    ttfb_ns: Option<u64>,
    response_ns: Option<u64>,
    duration_ns: Option<u64>,
    #[serde(borrow)]
    outcome: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    gap_bytes: u64,
    #[serde(default)]
    retransmitted_bytes: u64,
    #[serde(default)]
    midstream: bool,
    #[serde(default)]
    partial: bool,
    client_messages: Option<u64>,
    server_messages: Option<u64>,
    client_message_bytes: Option<u64>,
    server_message_bytes: Option<u64>,
    #[serde(borrow)]
    sni: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alpn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tls_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alert: Option<Cow<'a, str>>,
    hello_ns: Option<u64>,
    handshake_ns: Option<u64>,
    client_bytes: Option<u64>,
    server_bytes: Option<u64>,
}

/// What a line tells, and its sensor. `None` if httplines has not written it.
pub(super) fn read(line: &[u8]) -> Option<(Line<'_>, Option<Cow<'_, str>>)> {
    // Checked as a whole, which takes less time than text by text.
    let line = std::str::from_utf8(line).ok()?;
    let mut fields: Fields<'_> = serde_json::from_str(line).ok()?;
    let sensor = fields.sensor.take();
    if fields.flow.len() != 16 {
        return None;
    }
    let read = match fields.kind.as_deref() {
        _ if fields.partial => Line::Partial,
        None => Line::Exchange(exchange(fields)?),
        Some("websocket") => Line::Talk(talk(&fields)),
        Some("tls") => Line::Tls(tls(fields)),
        Some(_) => return None,
    };
    Some((read, sensor))
}

fn outcome_of(name: Option<&str>) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| Some(outcome.name()) == name)
}

fn end_of(name: Option<&str>) -> Option<End> {
    End::ALL.into_iter().find(|end| Some(end.name()) == name)
}

fn exchange(fields: Fields<'_>) -> Option<Facts<'_>> {
    let is_typed = |content_type: &Option<Cow<'_, str>>| {
        content_type.as_deref().is_some_and(|it| is_grpc_type(it.as_bytes()))
    };
    let is_grpc = fields.grpc_status.is_some()
        || fields.grpc_message.is_some()
        || fields.grpc_request_messages.is_some()
        || fields.grpc_response_messages.is_some()
        || is_typed(&fields.request_content_type)
        || is_typed(&fields.response_content_type);
    let Fields { request_ns, ttfb_ns, response_ns, .. } = fields;
    Some(Facts {
        began_at: fields.ts.and_then(time_of),
        client: fields.client_ip,
        server: fields.server_ip,
        server_port: fields.server_port,
        host: fields.host,
        method: fields.method,
        target: fields.target,
        version: fields.version,
        status: fields.status,
        is_grpc,
        grpc_status: fields.grpc_status,
        request_body_bytes: fields.request_body_bytes,
        response_body_bytes: fields.response_body_bytes,
        connect_ns: fields.connect_ns,
        ttfb_ns,
        duration_ns: fields.duration_ns.or_else(|| sum_of(request_ns, ttfb_ns, response_ns)),
        outcome: Some(outcome_of(fields.outcome.as_deref())?),
        end: end_of(fields.end_reason.as_deref()),
        gap_bytes: fields.gap_bytes,
        retransmitted_bytes: fields.retransmitted_bytes,
        is_midstream: fields.midstream,
    })
}

fn talk(fields: &Fields<'_>) -> TalkFacts {
    TalkFacts {
        began_at: fields.ts.and_then(time_of),
        client_messages: fields.client_messages,
        server_messages: fields.server_messages,
        client_message_bytes: fields.client_message_bytes,
        server_message_bytes: fields.server_message_bytes,
        duration_ns: fields.duration_ns,
        outcome: outcome_of(fields.outcome.as_deref()),
        end: end_of(fields.end_reason.as_deref()),
        gap_bytes: fields.gap_bytes,
    }
}

fn tls(fields: Fields<'_>) -> TlsFacts<'_> {
    TlsFacts {
        began_at: fields.ts.and_then(time_of),
        sni: fields.sni,
        alpn: fields.alpn,
        version: fields.tls_version,
        alert: fields.alert,
        outcome: fields.outcome,
        hello_ns: fields.hello_ns,
        handshake_ns: fields.handshake_ns,
        client_bytes: fields.client_bytes,
        server_bytes: fields.server_bytes,
    }
}

/// The time of a text of RFC 3339 in UTC, with nanoseconds, as httplines writes it.
pub fn time_of(text: &str) -> Option<TimestampNs> {
    let bytes: &[u8; 30] = text.as_bytes().try_into().ok()?;
    let is_separated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')];
    if bytes[29] != b'Z' || is_separated.iter().any(|(at, byte)| bytes[*at] != *byte) {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0u64, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
        })
    };
    let days = days_of(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(TimestampNs::from_parts(seconds, number(20, 29)?))
}

/// Days from 1970 to a date of the Gregorian calendar.
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (century, of_century) = (year / 100, year % 100);
    let days = century * 146_097 / 4 + of_century * 1461 / 4 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::rfc3339;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_are_read_as_they_are_written(time: u64) {
            let time = TimestampNs(time);
            prop_assert_eq!(time_of(&rfc3339(time)), Some(time));
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9TZ:.-]{0,31}") {
            let _ = time_of(&text);
        }
    }
}
