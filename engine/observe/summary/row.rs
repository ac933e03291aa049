//! [`Row`]: what is known of the records with one key.

use super::facts::Facts;
use super::histogram::Histogram;
use crate::protocol::classes::{GRPC_CODES, STATUSES};
use crate::time::TimestampNs;

/// The records with one key, such as a host. `count` is an upper bound; all else is of the records
/// since the key got its row, of which there were `count - error`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Records, and at most `error` that were not of this key.
    pub count: u64,
    /// By how much `count` may be too great. 0 unless there are more keys than rows.
    pub error: u64,
    /// Records by the class of their final status, as [`STATUSES`].
    pub statuses: [u64; STATUSES.len()],
    /// Records without a status.
    pub without_status: u64,
    /// Records that failed: see [`Facts::is_error`].
    pub errors: u64,
    /// Records that were broken off: see [`Facts::is_broken`].
    pub broken: u64,
    /// Bytes in the bodies of requests, as far as they are known.
    pub request_body_bytes: u64,
    /// Bytes in the bodies of responses, as far as they are known.
    pub response_body_bytes: u64,
    /// The times to the first byte, of the records that have one. In a table of methods of gRPC:
    /// how long the calls took; in one of TLS: how long the handshakes did.
    pub latency: Histogram,
    /// Calls by status code, as [`GRPC_CODES`]; only in a table of methods of gRPC.
    pub grpc: Option<Box<[u64; GRPC_CODES.len()]>>,
    /// The latest time of a record.
    pub last_seen: TimestampNs,
}

impl Row {
    /// Adds an exchange. Its `latency` is apart, since tables differ in what they measure.
    pub(super) fn exchange(&mut self, facts: &Facts<'_>, latency_ns: Option<u64>) {
        match facts.status_class() {
            Some(class) => self.statuses[class] += 1,
            None => self.without_status += 1,
        }
        self.errors += u64::from(facts.is_error());
        self.broken += u64::from(facts.is_broken());
        raise(&mut self.request_body_bytes, facts.request_body_bytes.unwrap_or_default());
        raise(&mut self.response_body_bytes, facts.response_body_bytes.unwrap_or_default());
        self.seen(facts.began_at, latency_ns);
    }

    pub(super) fn seen(&mut self, at: Option<TimestampNs>, latency_ns: Option<u64>) {
        if let Some(latency_ns) = latency_ns {
            self.latency.add(latency_ns);
        }
        self.last_seen = self.last_seen.max(at.unwrap_or_default());
    }

    /// Records of this key, at least.
    pub fn certain(&self) -> u64 {
        self.count - self.error
    }

    /// A new key takes it over, with its `count`.
    pub(super) fn start_over(&mut self, count: u64) {
        *self = Row { count, error: count, ..Row::default() };
    }

    /// There may be so many more.
    pub(super) fn miss(&mut self, count: u64) {
        self.count += count;
        self.error += count;
    }

    /// There are not.
    pub(super) fn unmiss(&mut self, count: u64) {
        self.count -= count;
        self.error -= count;
    }

    /// Adds a row of the same key.
    pub(super) fn merge(&mut self, other: &Row) {
        self.count += other.count;
        self.error += other.error;
        for (sum, count) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += count;
        }
        self.without_status += other.without_status;
        self.errors += other.errors;
        self.broken += other.broken;
        raise(&mut self.request_body_bytes, other.request_body_bytes);
        raise(&mut self.response_body_bytes, other.response_body_bytes);
        self.latency.merge(&other.latency);
        if let Some(codes) = &other.grpc {
            let own = self.grpc.get_or_insert_default();
            own.iter_mut().zip(codes.iter()).for_each(|(sum, count)| *sum += count);
        }
        self.last_seen = self.last_seen.max(other.last_seen);
    }

    /// The memory that it takes beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let codes = self.grpc.as_ref().map_or(0, |codes| size_of_val(&**codes));
        self.latency.held_bytes() + codes
    }
}

/// Adds a number of bytes. Lines may claim any.
pub(super) fn raise(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}
