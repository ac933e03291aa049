//! [`ExchangeClasses`]: what the exchanges that were reported are, in classes of which there are
//! few, whatever is sent.

use crate::record::{Exchange, Message};

/// The methods of RFC 9110 and RFC 5789, in the order of [`ExchangeClasses::methods`].
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// The classes of statuses, in the order of [`ExchangeClasses::statuses`].
pub const STATUSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// The status codes of gRPC, in the order of [`ExchangeClasses::grpc`]: `other` is a number that
/// gRPC does not define, and of a call with `none` no status was seen.
pub const GRPC_CODES: [&str; 19] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
    "other",
    "none",
];

/// The upper bounds of the buckets of [`Ttfb`] but the last, in nanoseconds. No two of them have
/// the same number of binary digits, which `bucket_of` uses.
pub const TTFB_BOUNDS_NS: [u64; 14] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The times to the first byte: a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttfb {
    /// By bucket; the one at the end is never used, and saves a check.
    buckets: [u64; 16],
    /// The sum of all times in nanoseconds. It wraps around.
    pub sum_ns: u64,
}

impl Ttfb {
    #[inline]
    fn add_one(&mut self, ttfb_ns: u64) {
        self.buckets[bucket_of(ttfb_ns) % 16] += 1;
        self.sum_ns = self.sum_ns.wrapping_add(ttfb_ns);
    }

    /// The number of times in each bucket: up to each of [`TTFB_BOUNDS_NS`], and above the last.
    pub fn buckets(&self) -> &[u64] {
        &self.buckets[..=TTFB_BOUNDS_NS.len()]
    }

    /// The number of all times.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Counts of exchanges that were reported, by what they were. An exchange counts when it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeClasses {
    /// Requests by method, as [`METHODS`].
    pub methods: [u64; METHODS.len()],
    /// Responses by the first digit of their status.
    statuses: [u64; 16],
    /// From the last byte of the request to the first byte of the final response: `ttfb_ns` of the
    /// records that have it.
    pub ttfb: Ttfb,
    /// Calls of gRPC and gRPC-Web by status code, as [`GRPC_CODES`].
    pub grpc: [u64; GRPC_CODES.len()],
    /// Exchanges that were streams of HTTP/2.
    pub http2_streams: u64,
}

impl ExchangeClasses {
    /// Counts an exchange that is over.
    #[inline]
    pub(super) fn count(&mut self, exchange: &Exchange) {
        let Exchange { request, response, .. } = exchange;
        let is_plain = request.is_seen
            && response.is_seen
            && exchange.http2.is_none()
            && exchange.grpc.is_none()
            && exchange.interim.is_empty();
        if !is_plain {
            return self.count_other(exchange);
        }
        match request.text.starts_with(b"GET ") {
            true => self.methods[0] += 1,
            false => self.count_method(request),
        }
        self.count_response(exchange);
    }

    /// An exchange of which something else is to be counted, or less.
    #[inline(never)]
    fn count_other(&mut self, exchange: &Exchange) {
        if exchange.request.is_seen {
            self.count_method(&exchange.request);
        }
        if exchange.response.is_seen {
            self.count_response(exchange);
        }
        self.statuses[1] += exchange.interim.len() as u64 + u64::from(exchange.interim_omitted);
        self.http2_streams += u64::from(exchange.http2.is_some());
        if let Some(call) = &exchange.grpc {
            self.grpc[grpc_code_of(call.status)] += 1;
        }
    }

    #[inline(never)]
    fn count_method(&mut self, request: &Message) {
        self.methods[method_of(request.method().unwrap_or_default())] += 1;
    }

    #[inline]
    fn count_response(&mut self, exchange: &Exchange) {
        let Exchange { request, response, .. } = exchange;
        self.statuses[usize::from(response.status / 100) % 16] += 1;
        // A request that has not ended has no time of its last byte any more.
        if let (Some(asked), Some(answered)) = (request.last, response.first)
            && request.is_seen
            && !exchange.is_early
        {
            self.ttfb.add_one(answered.since(asked));
        }
    }

    /// Final and interim responses by the class of their status, as [`STATUSES`].
    pub fn statuses(&self) -> [u64; STATUSES.len()] {
        let known = &self.statuses[1..=5];
        let other = self.statuses[0] + self.statuses[6..].iter().sum::<u64>();
        std::array::from_fn(|class| known.get(class).copied().unwrap_or(other))
    }

    /// Adds every counter of `other`.
    pub fn add(&mut self, other: &ExchangeClasses) {
        fn add(sums: &mut [u64], others: &[u64]) {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
        add(&mut self.methods, &other.methods);
        add(&mut self.statuses, &other.statuses);
        add(&mut self.ttfb.buckets, &other.ttfb.buckets);
        self.ttfb.sum_ns = self.ttfb.sum_ns.wrapping_add(other.ttfb.sum_ns);
        add(&mut self.grpc, &other.grpc);
        self.http2_streams += other.http2_streams;
    }
}

/// The place in [`GRPC_CODES`] of the status of a call.
pub(crate) fn grpc_code_of(status: Option<u32>) -> usize {
    let [other, none] = [GRPC_CODES.len() - 2, GRPC_CODES.len() - 1];
    status.map_or(none, |status| other.min(status as usize))
}

/// The place in [`STATUSES`].
#[cfg(feature = "live")]
pub(crate) fn status_class_of(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class) - 1,
        _ => STATUSES.len() - 1,
    }
}

/// The place in [`METHODS`]. Methods are told apart by upper and lower case: RFC 9110 section 9.1.
#[inline]
pub(crate) fn method_of(method: &[u8]) -> usize {
    match method {
        b"GET" => 0,
        b"HEAD" => 1,
        b"POST" => 2,
        b"PUT" => 3,
        b"DELETE" => 4,
        b"CONNECT" => 5,
        b"OPTIONS" => 6,
        b"TRACE" => 7,
        b"PATCH" => 8,
        _ => 9,
    }
}

/// The same bounds, and above them none that could be exceeded.
const BOUNDS_NS: [u64; 16] = {
    let mut bounds = [u64::MAX; 16];
    let mut bucket = 0;
    while bucket < TTFB_BOUNDS_NS.len() {
        bounds[bucket] = TTFB_BOUNDS_NS[bucket];
        bucket += 1;
    }
    bounds
};

/// For each number of leading zeros, the first bucket whose bound has no more of them.
const FIRST_BUCKETS: [u8; 64] = {
    let mut firsts = [0; 64];
    let mut zeros = 0;
    while zeros < firsts.len() {
        let mut bucket = 0;
        while bucket < TTFB_BOUNDS_NS.len()
            && TTFB_BOUNDS_NS[bucket].leading_zeros() as usize > zeros
        {
            bucket += 1;
        }
        firsts[zeros] = bucket as u8;
        zeros += 1;
    }
    firsts
};

/// The bucket of a time: that with the smallest bound which is not less.
#[inline]
fn bucket_of(time_ns: u64) -> usize {
    let first = usize::from(FIRST_BUCKETS[(time_ns | 1).leading_zeros() as usize]);
    first + usize::from(time_ns > BOUNDS_NS[first % BOUNDS_NS.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_with_the_smallest_bound_above() {
        let plain = |time: u64| TTFB_BOUNDS_NS.iter().filter(|bound| time > **bound).count();
        let near = TTFB_BOUNDS_NS.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]);
        let powers = (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits]);
        for time in near.chain(powers).chain([u64::MAX]) {
            assert_eq!(bucket_of(time), plain(time), "{time}");
        }
    }

    #[test]
    fn each_method_has_its_place() {
        for (place, method) in METHODS.iter().enumerate() {
            assert_eq!(method_of(method.as_bytes()), place);
        }
        for other in ["", "get", "GETS", "PROPFIND", "\u{fffd}"] {
            assert_eq!(METHODS[method_of(other.as_bytes())], "other");
        }
    }
}
