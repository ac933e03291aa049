//! [`ActiveVisit`]: a connection is asked now and then what has been under way for long
//! (`--active-timeout`). When it is asked depends only on its own packets and on what is under way,
//! so that the same traffic tells the same.

use crate::time::TimestampNs;

/// A connection is asked at most this many times within the timeout, however many exchanges it has.
/// So an exchange is told at most this part of the timeout later than it could be.
const VISITS_MAX: u64 = 16;

/// The timeout, and how far apart visits are at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActiveTimeout {
    timeout_ns: u64,
    step_ns: u64,
}

impl ActiveTimeout {
    /// `timeout_ms` is not 0.
    pub fn new(timeout_ms: u64) -> ActiveTimeout {
        let timeout_ns = timeout_ms.max(1).saturating_mul(1_000_000);
        ActiveTimeout { timeout_ns, step_ns: timeout_ns / VISITS_MAX }
    }

    /// When a connection is first visited that begins at `began`.
    pub fn first(&self, began: TimestampNs) -> TimestampNs {
        TimestampNs(began.0.saturating_add(self.timeout_ns))
    }

    /// The visit at `due`.
    pub fn visit(&self, due: TimestampNs) -> ActiveVisit {
        ActiveVisit {
            now: due,
            told_until: TimestampNs(due.0.saturating_sub(self.step_ns)),
            timeout_ns: self.timeout_ns,
            next: self.first(due),
            looked_at_count: 1,
        }
    }

    /// When the next visit is.
    pub fn next(&self, visit: &ActiveVisit) -> TimestampNs {
        // Never twice at the same moment.
        self.step_at(visit.now, visit.next.max(TimestampNs(visit.now.0.saturating_add(1))))
    }

    /// The first moment from `wanted` on that is a number of steps behind `due`.
    pub fn step_at(&self, due: TimestampNs, wanted: TimestampNs) -> TimestampNs {
        let behind_ns = wanted.since(due).div_ceil(self.step_ns).saturating_mul(self.step_ns);
        TimestampNs(due.0.saturating_add(behind_ns))
    }
}

/// A visit to a connection. What it carries is asked what has been under way for long.
#[derive(Debug)]
pub struct ActiveVisit {
    /// The moment that is told of. What passed until then has been delivered, and nothing else.
    now: TimestampNs,
    /// What was due until then was told at an earlier visit.
    told_until: TimestampNs,
    timeout_ns: u64,
    /// The earliest moment at which something is due again.
    next: TimestampNs,
    looked_at_count: usize,
}

impl ActiveVisit {
    /// Something has been under way since `began`; `None` if that is not known. If it is to be told
    /// now, returns for how long it has been under way. It is due when it has been under way for
    /// the timeout, and again each time this much later. To be called once in a visit for
    /// everything that is under way.
    pub fn due_ns(&mut self, began: Option<TimestampNs>) -> Option<u64> {
        self.looked_at_count += 1;
        let began = began?;
        let active_ns = self.now.since(began);
        let count = active_ns / self.timeout_ns;
        let next_ns = (count + 1).saturating_mul(self.timeout_ns);
        self.next = self.next.min(TimestampNs(began.0.saturating_add(next_ns)));
        (count > self.told_until.since(began) / self.timeout_ns).then_some(active_ns)
    }

    /// The number of things that were looked at, and one for the connection.
    pub(super) fn looked_at_count(&self) -> usize {
        self.looked_at_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: ActiveTimeout = ActiveTimeout { timeout_ns: 1_600, step_ns: 100 };

    /// What is told until `end` of something that is under way from `began` on, on a connection
    /// that begins at `start`, with other work that began at `others`.
    fn told(start: u64, began: u64, others: &[u64], end: u64) -> Vec<u64> {
        let mut due = TIMEOUT.first(TimestampNs(start));
        let mut told = Vec::new();
        while due.0 < end {
            let mut visit = TIMEOUT.visit(due);
            for other in others.iter().filter(|other| **other <= due.0) {
                visit.due_ns(Some(TimestampNs(*other)));
            }
            if began <= due.0 {
                told.extend(visit.due_ns(Some(TimestampNs(began))));
            }
            let next = TIMEOUT.next(&visit);
            assert!(due < next, "{due:?} {next:?}");
            due = next;
        }
        told
    }

    proptest! {
        /// Everything is told once in each timeout, at most a part of it too late; whatever else is
        /// under way.
        #[test]
        fn everything_is_told_once_in_each_timeout(
            start in 0..5_000_u64,
            after in 0..5_000_u64,
            others in prop::collection::vec(0..20_000_u64, 0..8),
        ) {
            let began = start + after;
            let told = told(start, began, &others, start + 40_000);
            for (count, active_ns) in told.iter().enumerate() {
                let due = (count as u64 + 1) * 1_600;
                prop_assert!((due..due + 100).contains(active_ns), "{told:?}");
            }
            let least = (40_000 - after - 100) / 1_600;
            prop_assert!((least..=least + 1).contains(&(told.len() as u64)), "{told:?}");
        }

        /// Timestamps may be anything: visits go on.
        #[test]
        fn no_timestamp_stalls_it(timeout_ms: u64, due: u64, now: u64, began: Vec<u64>) {
            let timeout = ActiveTimeout::new(timeout_ms);
            let mut visit = timeout.visit(TimestampNs(due));
            began.iter().for_each(|began| _ = visit.due_ns(Some(TimestampNs(*began))));
            visit.due_ns(None);
            let next = timeout.next(&visit);
            prop_assert!(TimestampNs(due) < next || next.0 == u64::MAX);
            prop_assert!(TimestampNs(now) <= timeout.step_at(TimestampNs(due), TimestampNs(now)));
            prop_assert_eq!(visit.looked_at_count(), began.len() + 2);
        }
    }

    #[test]
    fn what_began_a_little_later_is_told_a_step_later() {
        assert_eq!(told(0, 0, &[], 4_000), [1_600, 3_200]);
        assert_eq!(told(0, 10, &[], 4_500), [1_690, 3_290]);
        assert_eq!(told(0, 110, &[20, 100], 4_500), [1_690, 3_290]);
    }
}
