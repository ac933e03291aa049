//! [`Summary`]: what is counted over records. The same counting is done over the events of a run
//! and over lines that were written before, and it serves `httplines top` and `httplines report`.
//!
//! Whatever arrives, it takes bounded memory: tables have [`ROW_COUNT_MAX`] rows ([`TopK`] has the
//! error bounds), times are in [`Histogram`]s, and a [`Timeline`] has a bounded number of spans. In
//! all that is at most [`HELD_BYTES_MAX`], and a few MiB as a rule. Summaries of parts are added with
//! [`Summary::merge`].

use crate::record::Event;
use crate::time::TimestampNs;
use facts::Addresses;
pub use facts::{Facts, TalkFacts, TlsFacts};
pub use fold::fold_target;
pub use histogram::{Bucket, Histogram};
#[cfg(feature = "cli")]
pub use line::time_of;
pub use row::Row;
pub use timeline::{SPAN_COUNT_MAX, Span, Timeline};
pub use top_k::{KEY_BYTES_MAX, ROW_COUNT_MAX, TopK};
pub use totals::{Talks, Tls, Totals, VERSIONS};

mod facts;
mod fold;
mod histogram;
#[cfg(feature = "cli")]
mod line;
mod row;
mod timeline;
mod top_k;
mod totals;

/// The memory that a [`Summary`] takes at most: 3072 rows and 240 spans, each with a histogram of
/// 19 KiB, and keys.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// What is counted by key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dimension {
    /// The requested host in lower case, with its port if it was sent.
    Hosts,
    /// Method and folded path: see [`fold_target`].
    Targets,
    /// The client's address.
    Clients,
    /// The server's address and port.
    Servers,
    /// Service and method of calls of gRPC: the path without its slash.
    Grpc,
}

impl Dimension {
    /// All of them, in order.
    pub const ALL: [Dimension; 5] = [
        Dimension::Hosts,
        Dimension::Targets,
        Dimension::Clients,
        Dimension::Servers,
        Dimension::Grpc,
    ];

    /// The name in `docs/report.schema.json`.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Hosts => "hosts",
            Dimension::Targets => "targets",
            Dimension::Clients => "clients",
            Dimension::Servers => "servers",
            Dimension::Grpc => "grpc_methods",
        }
    }
}

/// What is counted over records.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Of all exchanges.
    pub totals: Totals,
    /// Of all talks of WebSocket.
    pub talks: Talks,
    /// Of all connections of TLS.
    pub tls: Tls,
    /// When exchanges began.
    pub timeline: Timeline,
    /// Records of what is under way. They are not counted otherwise: another one follows.
    pub partial: u64,
    /// Lines that httplines has not written, or not as a record.
    pub unrecognized: u64,
    /// Records by sensor.
    pub sensors: TopK,
    /// The first time of a record, if any has one.
    pub first: Option<TimestampNs>,
    /// The last time of a record: when it began.
    pub last: Option<TimestampNs>,
    tables: [TopK; Dimension::ALL.len()],
    /// Memory that is used again.
    key: String,
    addresses: Addresses,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary {
            totals: Totals::default(),
            talks: Talks::default(),
            tls: Tls::default(),
            timeline: Timeline::default(),
            partial: 0,
            unrecognized: 0,
            sensors: TopK::new(totals::NAME_COUNT_MAX),
            first: None,
            last: None,
            tables: std::array::from_fn(|_| TopK::new(ROW_COUNT_MAX)),
            key: String::new(),
            addresses: Addresses::default(),
        }
    }
}

impl Summary {
    /// Adds an event. Heads of messages are no records, and are ignored.
    #[inline]
    pub fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Exchange(record) => {
                let mut addresses = std::mem::take(&mut self.addresses);
                addresses.set(&record.flow);
                self.exchange(&Facts::of_exchange(record, &addresses));
                self.addresses = addresses;
            }
            Event::WebSocket(record) if record.active_ns.is_none() => {
                self.talk(&TalkFacts::of(record));
            }
            Event::Tls(record) => self.tls(&TlsFacts::of(record)),
            Event::Partial(_) | Event::WebSocket(_) => self.partial += 1,
            Event::Message(_) => {}
        }
    }

    /// Adds a line as httplines writes it. Any other is counted as `unrecognized`, and answered by
    /// `false`.
    #[cfg(feature = "cli")]
    pub fn add_line(&mut self, line: &[u8]) -> bool {
        let Some((read, sensor)) = line::read(line) else {
            self.unrecognized += 1;
            return false;
        };
        let at = match &read {
            line::Line::Exchange(facts) => facts.began_at,
            line::Line::Talk(facts) => facts.began_at,
            line::Line::Tls(facts) => facts.began_at,
            line::Line::Partial => None,
        };
        if let Some(sensor) = sensor {
            self.sensors.add(&sensor).seen(at, None);
        }
        match read {
            line::Line::Exchange(facts) => self.exchange(&facts),
            line::Line::Talk(facts) => self.talk(&facts),
            line::Line::Tls(facts) => self.tls(&facts),
            line::Line::Partial => self.partial += 1,
        }
        true
    }

    /// Adds an exchange.
    pub fn exchange(&mut self, facts: &Facts<'_>) {
        self.see(facts.began_at);
        self.totals.add(facts);
        if let Some(at) = facts.began_at {
            self.timeline.add(at, facts);
        }
        for dimension in Dimension::ALL {
            if write_key(dimension, facts, &mut self.key) {
                let row = self.tables[dimension as usize].add(&self.key);
                if dimension == Dimension::Grpc {
                    row.grpc.get_or_insert_default()[facts.grpc_code()] += 1;
                    row.exchange(facts, facts.duration_ns);
                } else {
                    row.exchange(facts, facts.ttfb_ns);
                }
            }
        }
    }

    /// Adds a talk of WebSocket that is over.
    pub fn talk(&mut self, facts: &TalkFacts) {
        self.see(facts.began_at);
        self.talks.add(facts);
    }

    /// Adds a connection of TLS.
    pub fn tls(&mut self, facts: &TlsFacts<'_>) {
        self.see(facts.began_at);
        self.tls.add(facts);
    }

    fn see(&mut self, at: Option<TimestampNs>) {
        if at.is_some() {
            self.first = at.min(self.first.or(at));
            self.last = at.max(self.last);
        }
    }

    /// What was counted by a key.
    pub fn table(&self, dimension: Dimension) -> &TopK {
        &self.tables[dimension as usize]
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.records() + self.partial + self.unrecognized == 0
    }

    /// Records that are counted.
    pub fn records(&self) -> u64 {
        self.totals.exchanges + self.talks.talks + self.tls.connections
    }

    /// What was counted so far; counting begins anew.
    pub fn take(&mut self) -> Summary {
        std::mem::take(self)
    }

    /// Adds all that `other` has counted. All error bounds hold for the sum.
    pub fn merge(&mut self, other: &Summary) {
        self.totals.merge(&other.totals);
        self.talks.merge(&other.talks);
        self.tls.merge(&other.tls);
        self.timeline.merge(&other.timeline);
        self.partial += other.partial;
        self.unrecognized += other.unrecognized;
        self.sensors.merge(&other.sensors);
        self.see(other.first);
        self.see(other.last);
        for (table, other) in self.tables.iter_mut().zip(&other.tables) {
            table.merge(other);
        }
    }

    /// The memory that it takes.
    pub fn held_bytes(&self) -> usize {
        let histograms = [&self.totals.ttfb, &self.totals.duration, &self.totals.connect];
        let tls = [&self.tls.hello, &self.tls.handshake, &self.talks.duration];
        let histograms = histograms.into_iter().chain(tls);
        let tables = self.tables.iter().chain([&self.tls.names, &self.sensors]);
        size_of::<Summary>()
            + histograms.map(Histogram::held_bytes).sum::<usize>()
            + tables.map(TopK::held_bytes).sum::<usize>()
            + self.timeline.held_bytes()
    }
}

/// Equal if they have counted the same records.
impl PartialEq for Summary {
    fn eq(&self, other: &Summary) -> bool {
        self.totals == other.totals
            && self.talks == other.talks
            && self.tls == other.tls
            && self.timeline == other.timeline
            && (self.partial, self.unrecognized) == (other.partial, other.unrecognized)
            && self.sensors == other.sensors
            && (self.first, self.last) == (other.first, other.last)
            && self.tables == other.tables
    }
}

/// Writes the key that `facts` have in a table; false if they have none.
fn write_key(dimension: Dimension, facts: &Facts<'_>, key: &mut String) -> bool {
    key.clear();
    match dimension {
        Dimension::Hosts => {
            let Some(host) = facts.host.as_deref().filter(|host| !host.is_empty()) else {
                return false;
            };
            key.push_str(host);
            key.make_ascii_lowercase();
        }
        Dimension::Targets => {
            let Some(target) = facts.target.as_deref() else { return false };
            key.push_str(facts.method.as_deref().unwrap_or("-"));
            key.push(' ');
            fold_target(target, key);
        }
        Dimension::Clients => key.push_str(facts.client),
        Dimension::Servers => {
            let is_ipv6 = facts.server.contains(':');
            let (open, close) = if is_ipv6 { ("[", "]:") } else { ("", ":") };
            key.push_str(open);
            key.push_str(facts.server);
            key.push_str(close);
            key.push_str(itoa::Buffer::new().format(facts.server_port));
        }
        Dimension::Grpc => {
            let Some(target) = facts.target.as_deref().filter(|_| facts.is_grpc) else {
                return false;
            };
            key.push_str(target.strip_prefix('/').unwrap_or(target));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    /// Each row and each span gets a time for each part of its histogram.
    #[test]
    fn memory_is_bounded_whatever_arrives() {
        let mut summary = Summary::default();
        for key in 0..ROW_COUNT_MAX as u64 + 50 {
            // Letters, which are not folded.
            let letters = |digit: char| char::from(b'k' + digit as u8 - b'0');
            let text: String = key.to_string().chars().map(letters).collect();
            let text = text.repeat(100);
            for part in 0..84 {
                let time_ns = (1u64 << (part / 2)) * (2 + part % 2) / 2;
                let facts = Facts {
                    began_at: Some(TimestampNs(key << 40 | part)),
                    client: &text,
                    server: &text,
                    host: Some(Cow::Borrowed(&text)),
                    method: Some(Cow::Borrowed("POST")),
                    target: Some(Cow::Borrowed(&text)),
                    is_grpc: true,
                    ttfb_ns: Some(time_ns),
                    duration_ns: Some(time_ns),
                    ..Facts::default()
                };
                summary.exchange(&facts);
                summary.tls(&TlsFacts {
                    sni: facts.host.clone(),
                    handshake_ns: facts.ttfb_ns,
                    ..TlsFacts::default()
                });
            }
        }
        let held = summary.held_bytes();
        assert!((HELD_BYTES_MAX / 2..HELD_BYTES_MAX).contains(&held), "{held}");
        let once = summary.clone();
        summary.merge(&once);
        assert!(summary.held_bytes() < HELD_BYTES_MAX, "{}", summary.held_bytes());
        assert_eq!(summary.take().records(), 2 * once.records());
        assert_eq!(summary, Summary::default());
    }
}
