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

    /// The visit that was to be at `due`, before `now`. It is told as of the last step before
    /// `until`, which is `now` or earlier; `None` if that is before the visit.
    pub fn visit(&self, due: TimestampNs, until: TimestampNs) -> Option<ActiveVisit> {
        let now = self.last_step(due, until)?;
        Some(ActiveVisit {
            now,
            told_until: TimestampNs(due.0.saturating_sub(self.step_ns)),
            timeout_ns: self.timeout_ns,
            next: TimestampNs(now.0.saturating_add(self.timeout_ns)),
            looked_at_count: 1,
        })
    }

    /// When the next visit is, after the one that was to be at `due`, before `now`. It is not before
    /// `now`.
    pub fn next(
        &self,
        due: TimestampNs,
        now: TimestampNs,
        visit: Option<&ActiveVisit>,
    ) -> TimestampNs {
        let Some(last) = self.last_step(due, now) else { return due };
        let wanted = visit.map_or(self.first(last), |visit| visit.next);
        let steps = wanted.since(last).div_ceil(self.step_ns).max(1);
        TimestampNs(last.0.saturating_add(steps.saturating_mul(self.step_ns)))
    }

    /// The last step from `due` on that is before `until`.
    fn last_step(&self, due: TimestampNs, until: TimestampNs) -> Option<TimestampNs> {
        let behind_ns = until.since(due).checked_sub(1)?;
        Some(TimestampNs(due.0 + behind_ns / self.step_ns * self.step_ns))
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

    /// What is told of something that is under way from `began` on, on a connection that begins at
    /// `start`, if visits are carried out before the packets at `packets`, and there is other work
    /// that began at `others`.
    fn told(timeout_ns: u64, start: u64, began: u64, others: &[u64], packets: &[u64]) -> Vec<u64> {
        let timeout = ActiveTimeout { timeout_ns, step_ns: timeout_ns / VISITS_MAX };
        let mut due = timeout.first(TimestampNs(start));
        let mut told = Vec::new();
        for at in packets.iter().map(|at| TimestampNs(*at)) {
            if due < at {
                let mut visit = timeout.visit(due, at).expect("it is due");
                let now = visit.now;
                for other in others.iter().filter(|other| TimestampNs(**other) <= now) {
                    visit.due_ns(Some(TimestampNs(*other)));
                }
                if TimestampNs(began) <= visit.now {
                    told.extend(visit.due_ns(Some(TimestampNs(began))));
                }
                due = timeout.next(due, at, Some(&visit));
                assert!(at <= due, "{at:?} {due:?}");
            }
        }
        told
    }

    proptest! {
        /// If packets come often, everything is told once in each timeout, at most a part of it too
        /// late; whatever else is under way.
        #[test]
        fn everything_is_told_once_in_each_timeout(
            start in 0..5_000_u64,
            after in 0..5_000_u64,
            others in prop::collection::vec(0..20_000_u64, 0..8),
        ) {
            let (timeout, began) = (1_600, start + after);
            let packets: Vec<u64> = (start..start + 40_000).collect();
            let told = told(timeout, start, began, &others, &packets);
            let step = timeout / VISITS_MAX;
            for (count, active_ns) in told.iter().enumerate() {
                let due = (count as u64 + 1) * timeout;
                prop_assert!((due..due + step).contains(active_ns), "{told:?}");
            }
            let whole = (40_000 - 1 - after - step) / timeout;
            prop_assert!((whole..=whole + 1).contains(&(told.len() as u64)), "{told:?}");
        }

        /// Timestamps may be anything. Visits go on, and none is before the packet that caused it.
        #[test]
        fn no_timestamp_stalls_it(
            timeout_ms: u64,
            start: u64,
            began: u64,
            mut packets in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            packets.sort_unstable();
            let timeout = ActiveTimeout::new(timeout_ms);
            told(timeout.timeout_ns, start, began, &[start], &packets);
        }
    }

    #[test]
    fn what_is_visited_late_is_told_as_of_the_last_step() {
        let packets = [100, 1_599, 1_601, 3_000, 100_000];
        // Nothing at 1,600, since it began a little later; then all that was missed at once.
        assert_eq!(told(1_600, 0, 10, &[], &packets), [2_900 - 10, 99_900 - 10]);
        // Without other packets in between, one visit is enough.
        assert_eq!(told(1_600, 0, 0, &[], &[1_601, 1_602]), [1_600]);
    }
}
