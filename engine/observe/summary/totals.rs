//! What is counted of all records of a kind together: [`Totals`], [`Talks`] and [`Tls`].

use super::facts::{Facts, TalkFacts, TlsFacts};
use super::histogram::Histogram;
use super::row::raise;
use super::top_k::{ROW_COUNT_MAX, TopK};
use crate::flow::End;
use crate::protocol::classes::{GRPC_CODES, METHODS, STATUSES, method_of};
use crate::record::Outcome;

/// Rows of a table whose keys are names from a list, such as versions.
pub(super) const NAME_COUNT_MAX: usize = 32;

/// The versions of HTTP, in the order of [`Totals::versions`]; `other` is unknown, too.
pub const VERSIONS: [&str; 3] = ["http1", "http2", "other"];

/// What is counted of all exchanges together. All of it is exact, but for the times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Exchanges that are over.
    pub exchanges: u64,
    /// Of them with a request.
    pub requests: u64,
    /// Their requests by method, as [`METHODS`].
    pub methods: [u64; METHODS.len()],
    /// Their final responses by the class of the status, as [`STATUSES`].
    pub statuses: [u64; STATUSES.len()],
    /// Exchanges without a status.
    pub without_status: u64,
    /// Exchanges that failed: see [`Facts::is_error`].
    pub errors: u64,
    /// Exchanges that were broken off: see [`Facts::is_broken`].
    pub broken: u64,
    /// By version, as [`VERSIONS`].
    pub versions: [u64; VERSIONS.len()],
    /// Calls of gRPC and gRPC-Web by status code, as [`GRPC_CODES`].
    pub grpc: [u64; GRPC_CODES.len()],
    /// By outcome, as [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Exchanges that are not complete, by the reason why they ended, as [`End::ALL`].
    pub ends: [u64; End::ALL.len()],
    /// Bytes in the bodies of requests, as far as they are known.
    pub request_body_bytes: u64,
    /// Bytes in the bodies of responses, as far as they are known.
    pub response_body_bytes: u64,
    /// Exchanges of which bytes were not captured.
    pub with_gap: u64,
    /// These bytes.
    pub gap_bytes: u64,
    /// Exchanges of which bytes passed again.
    pub with_retransmission: u64,
    /// These bytes, each time they passed again.
    pub retransmitted_bytes: u64,
    /// Exchanges of connections that were joined late.
    pub midstream: u64,
    /// From the last byte of the request to the first of the response.
    pub ttfb: Histogram,
    /// From the first byte of the request to the last of the response.
    pub duration: Histogram,
    /// From SYN to SYN-ACK, by connection.
    pub connect: Histogram,
}

/// What is counted of talks of WebSocket that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Talks {
    /// Talks.
    pub talks: u64,
    /// Messages of clients, as far as they are known.
    pub client_messages: u64,
    /// Messages of servers, likewise.
    pub server_messages: u64,
    /// Bytes of the clients' messages, likewise.
    pub client_message_bytes: u64,
    /// Bytes of the servers' messages, likewise.
    pub server_message_bytes: u64,
    /// By outcome, as [`Outcome::ALL`]; the sum may be less than all, since some are unknown.
    pub outcomes: [u64; Outcome::ALL.len()],
    /// By the reason why they ended, if they are not complete, as [`End::ALL`].
    pub ends: [u64; End::ALL.len()],
    /// Bytes that were not captured.
    pub gap_bytes: u64,
    /// How long they took.
    pub duration: Histogram,
}

/// What is counted of connections of TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Connections.
    pub connections: u64,
    /// By the name that the client asked for. `latency` is how long the handshakes took.
    pub names: TopK,
    /// By version.
    pub versions: TopK,
    /// By the protocol that was chosen.
    pub alpn: TopK,
    /// By alert.
    pub alerts: TopK,
    /// By outcome.
    pub outcomes: TopK,
    /// From ClientHello to ServerHello.
    pub hello: Histogram,
    /// From ClientHello to the end of the handshake.
    pub handshake: Histogram,
    /// Bytes of clients.
    pub client_bytes: u64,
    /// Bytes of servers.
    pub server_bytes: u64,
}

impl Default for Tls {
    fn default() -> Tls {
        let names = || TopK::new(NAME_COUNT_MAX);
        Tls {
            connections: 0,
            names: TopK::new(ROW_COUNT_MAX),
            versions: names(),
            alpn: names(),
            alerts: names(),
            outcomes: names(),
            hello: Histogram::default(),
            handshake: Histogram::default(),
            client_bytes: 0,
            server_bytes: 0,
        }
    }
}

fn add(sums: &mut [u64], counts: &[u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// Counts an outcome and an end, as far as they are known.
fn count_end(
    outcomes: &mut [u64; Outcome::ALL.len()],
    ends: &mut [u64; End::ALL.len()],
    (outcome, end): (Option<Outcome>, Option<End>),
) {
    if let Some(outcome) = outcome {
        outcomes[outcome as usize] += 1;
    }
    if let Some(end) = end {
        ends[end as usize] += 1;
    }
}

impl Totals {
    pub(super) fn add(&mut self, facts: &Facts<'_>) {
        self.exchanges += 1;
        if let Some(method) = &facts.method {
            self.requests += 1;
            self.methods[method_of(method.as_bytes())] += 1;
        }
        match facts.status_class() {
            Some(class) => self.statuses[class] += 1,
            None => self.without_status += 1,
        }
        self.errors += u64::from(facts.is_error());
        self.broken += u64::from(facts.is_broken());
        let version = facts.version.as_deref().unwrap_or_default().as_bytes();
        self.versions[match version.strip_prefix(b"HTTP/") {
            Some([b'1', ..]) => 0,
            Some([b'2', ..]) => 1,
            _ => 2,
        }] += 1;
        if facts.is_grpc {
            self.grpc[facts.grpc_code()] += 1;
        }
        count_end(&mut self.outcomes, &mut self.ends, (facts.outcome, facts.end));
        raise(&mut self.request_body_bytes, facts.request_body_bytes.unwrap_or_default());
        raise(&mut self.response_body_bytes, facts.response_body_bytes.unwrap_or_default());
        self.with_gap += u64::from(facts.gap_bytes > 0);
        raise(&mut self.gap_bytes, facts.gap_bytes);
        self.with_retransmission += u64::from(facts.retransmitted_bytes > 0);
        raise(&mut self.retransmitted_bytes, facts.retransmitted_bytes);
        self.midstream += u64::from(facts.is_midstream);
        for (histogram, time_ns) in [
            (&mut self.ttfb, facts.ttfb_ns),
            (&mut self.duration, facts.duration_ns),
            (&mut self.connect, facts.connect_ns),
        ] {
            if let Some(time_ns) = time_ns {
                histogram.add(time_ns);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Totals) {
        self.exchanges += other.exchanges;
        self.requests += other.requests;
        add(&mut self.methods, &other.methods);
        add(&mut self.statuses, &other.statuses);
        self.without_status += other.without_status;
        self.errors += other.errors;
        self.broken += other.broken;
        add(&mut self.versions, &other.versions);
        add(&mut self.grpc, &other.grpc);
        add(&mut self.outcomes, &other.outcomes);
        add(&mut self.ends, &other.ends);
        raise(&mut self.request_body_bytes, other.request_body_bytes);
        raise(&mut self.response_body_bytes, other.response_body_bytes);
        self.with_gap += other.with_gap;
        raise(&mut self.gap_bytes, other.gap_bytes);
        self.with_retransmission += other.with_retransmission;
        raise(&mut self.retransmitted_bytes, other.retransmitted_bytes);
        self.midstream += other.midstream;
        self.ttfb.merge(&other.ttfb);
        self.duration.merge(&other.duration);
        self.connect.merge(&other.connect);
    }

    /// Calls of gRPC and gRPC-Web.
    pub fn grpc_calls(&self) -> u64 {
        self.grpc.iter().sum()
    }
}

impl Talks {
    pub(super) fn add(&mut self, facts: &TalkFacts) {
        self.talks += 1;
        raise(&mut self.client_messages, facts.client_messages.unwrap_or_default());
        raise(&mut self.server_messages, facts.server_messages.unwrap_or_default());
        raise(&mut self.client_message_bytes, facts.client_message_bytes.unwrap_or_default());
        raise(&mut self.server_message_bytes, facts.server_message_bytes.unwrap_or_default());
        count_end(&mut self.outcomes, &mut self.ends, (facts.outcome, facts.end));
        raise(&mut self.gap_bytes, facts.gap_bytes);
        if let Some(duration_ns) = facts.duration_ns {
            self.duration.add(duration_ns);
        }
    }

    pub(super) fn merge(&mut self, other: &Talks) {
        self.talks += other.talks;
        self.client_messages += other.client_messages;
        self.server_messages += other.server_messages;
        raise(&mut self.client_message_bytes, other.client_message_bytes);
        raise(&mut self.server_message_bytes, other.server_message_bytes);
        add(&mut self.outcomes, &other.outcomes);
        add(&mut self.ends, &other.ends);
        raise(&mut self.gap_bytes, other.gap_bytes);
        self.duration.merge(&other.duration);
    }
}

impl Tls {
    pub(super) fn add(&mut self, facts: &TlsFacts<'_>) {
        self.connections += 1;
        for (table, key) in [
            (&mut self.names, &facts.sni),
            (&mut self.versions, &facts.version),
            (&mut self.alpn, &facts.alpn),
            (&mut self.alerts, &facts.alert),
            (&mut self.outcomes, &facts.outcome),
        ] {
            if let Some(key) = key {
                let row = table.add(key);
                row.errors += u64::from(facts.is_failed());
                raise(&mut row.request_body_bytes, facts.client_bytes.unwrap_or_default());
                raise(&mut row.response_body_bytes, facts.server_bytes.unwrap_or_default());
                row.seen(facts.began_at, facts.handshake_ns);
            }
        }
        for (histogram, time_ns) in
            [(&mut self.hello, facts.hello_ns), (&mut self.handshake, facts.handshake_ns)]
        {
            if let Some(time_ns) = time_ns {
                histogram.add(time_ns);
            }
        }
        raise(&mut self.client_bytes, facts.client_bytes.unwrap_or_default());
        raise(&mut self.server_bytes, facts.server_bytes.unwrap_or_default());
    }

    pub(super) fn merge(&mut self, other: &Tls) {
        self.connections += other.connections;
        self.names.merge(&other.names);
        self.versions.merge(&other.versions);
        self.alpn.merge(&other.alpn);
        self.alerts.merge(&other.alerts);
        self.outcomes.merge(&other.outcomes);
        self.hello.merge(&other.hello);
        self.handshake.merge(&other.handshake);
        raise(&mut self.client_bytes, other.client_bytes);
        raise(&mut self.server_bytes, other.server_bytes);
    }
}
