//! [`Timeline`]: what passed when, in a bounded number of spans of equal width.

use super::facts::Facts;
use super::histogram::Histogram;
use super::row::raise;
use crate::protocol::classes::STATUSES;
use crate::time::TimestampNs;
use std::collections::VecDeque;

/// Spans that a timeline has at most.
pub const SPAN_COUNT_MAX: usize = 240;

/// The first width: 1/512 s. Nine times doubled, it is a second.
const WIDTH_NS_MIN: u64 = 1_953_125;

/// What passed in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Exchanges that began in it.
    pub count: u64,
    /// Of them by the class of their final status, as [`STATUSES`].
    pub statuses: [u64; STATUSES.len()],
    /// Of them without a status.
    pub without_status: u64,
    /// Of them that failed.
    pub errors: u64,
    /// Bytes in the bodies of their requests.
    pub request_body_bytes: u64,
    /// Bytes in the bodies of their responses.
    pub response_body_bytes: u64,
    /// Bytes of them that were not captured.
    pub gap_bytes: u64,
    /// Their times to the first byte.
    pub ttfb: Histogram,
}

impl Span {
    fn add(&mut self, facts: &Facts<'_>) {
        self.count += 1;
        match facts.status_class() {
            Some(class) => self.statuses[class] += 1,
            None => self.without_status += 1,
        }
        self.errors += u64::from(facts.is_error());
        raise(&mut self.request_body_bytes, facts.request_body_bytes.unwrap_or_default());
        raise(&mut self.response_body_bytes, facts.response_body_bytes.unwrap_or_default());
        raise(&mut self.gap_bytes, facts.gap_bytes);
        if let Some(ttfb_ns) = facts.ttfb_ns {
            self.ttfb.add(ttfb_ns);
        }
    }

    fn merge(&mut self, other: &Span) {
        self.count += other.count;
        self.statuses.iter_mut().zip(other.statuses).for_each(|(sum, count)| *sum += count);
        self.without_status += other.without_status;
        self.errors += other.errors;
        raise(&mut self.request_body_bytes, other.request_body_bytes);
        raise(&mut self.response_body_bytes, other.response_body_bytes);
        raise(&mut self.gap_bytes, other.gap_bytes);
        self.ttfb.merge(&other.ttfb);
    }
}

/// Spans of equal width, at most [`SPAN_COUNT_MAX`]. When more would be needed, the width doubles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    width_ns: u64,
    /// The number of the first span: its beginning, in widths since 1970.
    first: u64,
    spans: VecDeque<Span>,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { width_ns: WIDTH_NS_MIN, first: 0, spans: VecDeque::new() }
    }
}

impl Timeline {
    /// Adds an exchange that began at `at`.
    #[inline]
    pub(super) fn add(&mut self, at: TimestampNs, facts: &Facts<'_>) {
        self.span_at(at.0).add(facts);
    }

    /// The span of a time.
    fn span_at(&mut self, at_ns: u64) -> &mut Span {
        self.make_room(at_ns, at_ns);
        let number = at_ns / self.width_ns;
        &mut self.spans[(number - self.first) as usize]
    }

    /// Makes the spans from one time to a later one.
    fn make_room(&mut self, from_ns: u64, to_ns: u64) {
        if self.spans.is_empty() {
            self.first = from_ns / self.width_ns;
            self.spans.push_back(Span::default());
        }
        loop {
            let first = self.first.min(from_ns / self.width_ns);
            let last = (self.first + self.spans.len() as u64 - 1).max(to_ns / self.width_ns);
            if last - first < SPAN_COUNT_MAX as u64 {
                for _ in first..self.first {
                    self.spans.push_front(Span::default());
                }
                self.first = first;
                let count = (last - first + 1) as usize;
                self.spans.resize_with(count, Span::default);
                return;
            }
            self.double();
        }
    }

    fn double(&mut self) {
        let old = std::mem::take(&mut self.spans);
        let numbers = self.first..;
        (self.width_ns, self.first) = (self.width_ns * 2, self.first / 2);
        for (number, span) in numbers.zip(old) {
            let at = (number / 2 - self.first) as usize;
            match self.spans.get_mut(at) {
                Some(same) => same.merge(&span),
                None => self.spans.push_back(span),
            }
        }
    }

    /// Adds all of `other`. The result has the greater width, or more.
    pub fn merge(&mut self, other: &Timeline) {
        let Some(last) = other.spans.len().checked_sub(1) else { return };
        while self.width_ns < other.width_ns {
            self.double();
        }
        let begin = |at: usize| (other.first + at as u64).saturating_mul(other.width_ns);
        self.make_room(begin(0), begin(last));
        for (at, span) in other.spans.iter().enumerate() {
            self.span_at(begin(at)).merge(span);
        }
    }

    /// The width of each span.
    pub fn width_ns(&self) -> u64 {
        self.width_ns
    }

    /// The spans in order, without holes, and when each began.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = (TimestampNs, &Span)> {
        let begin = |at: usize| (self.first + at as u64).saturating_mul(self.width_ns);
        self.spans.iter().enumerate().map(move |(at, span)| (TimestampNs(begin(at)), span))
    }

    /// The memory that it takes.
    pub fn held_bytes(&self) -> usize {
        let spans = self.spans.capacity() * size_of::<Span>();
        spans + self.spans.iter().map(|span| span.ttfb.held_bytes()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(times: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        let facts = Facts { status: Some(200), ..Facts::default() };
        times.iter().for_each(|at| timeline.add(TimestampNs(*at), &facts));
        timeline
    }

    fn times() -> impl Strategy<Value = Vec<u64>> {
        let time = (0u32..64, any::<u64>()).prop_map(|(bits, any)| any >> bits);
        prop::collection::vec(time, 0..60)
    }

    proptest! {
        #[test]
        fn each_is_in_its_span_whatever_the_order(times in times(), split in 0usize..60) {
            let timeline = of(&times);
            prop_assert!(timeline.spans().len() <= SPAN_COUNT_MAX);
            for (from, span) in timeline.spans() {
                let to = from.0.saturating_add(timeline.width_ns());
                let is_in = |at: &&u64| {
                    (from.0..to).contains(*at) || **at == u64::MAX && to == **at
                };
                prop_assert_eq!(span.count, times.iter().filter(is_in).count() as u64);
            }
            let total: u64 = timeline.spans().map(|(_, span)| span.count).sum();
            prop_assert_eq!(total, times.len() as u64);
            let (one, other) = times.split_at(split.min(times.len()));
            let mut merged = of(one);
            merged.merge(&of(other));
            prop_assert_eq!(merged, timeline);
        }
    }
}
