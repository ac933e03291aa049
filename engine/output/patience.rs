//! [`Patience`]: how long a run that was told to stop still waits for the readers of its outputs.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A reader that takes nothing for this long is no longer waited for.
pub(super) const READER_WAIT: Duration = Duration::from_secs(5);

/// After this long no reader is waited for, not even a slow one.
pub(super) const END_WAIT: Duration = Duration::from_secs(30);

/// How long writers wait for readers: without end, until the run is told to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Patience(Arc<OnceLock<Instant>>);

impl Patience {
    /// The run was told to stop: from now on a reader that takes nothing is given up after 5 s, and
    /// any reader after 30 s.
    pub fn limit(&self) {
        // If it was told before, the first time counts.
        let _ = self.0.set(Instant::now());
    }

    /// Whether the run was told to stop.
    pub(super) fn is_limited(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether to give up a reader that has taken nothing since `since`.
    pub(super) fn is_over(&self, since: Instant) -> bool {
        self.0.get().is_some_and(|stopped| {
            let now = Instant::now();
            now >= since.max(*stopped) + READER_WAIT || now >= *stopped + END_WAIT
        })
    }
}

#[test]
fn only_a_run_that_was_told_to_stop_loses_patience() {
    let long_ago = Instant::now().checked_sub(END_WAIT).expect("the machine is up that long");
    let (unlimited, limited) = (Patience::default(), Patience::default());
    limited.clone().limit();
    assert!(!unlimited.is_limited() && !unlimited.is_over(long_ago));
    assert!(limited.is_limited() && !limited.is_over(long_ago), "5 s begin with the stop");
    let stopped_at = |ago| Patience(Arc::new(OnceLock::from(Instant::now() - ago)));
    assert!(stopped_at(READER_WAIT).is_over(long_ago));
    assert!(!stopped_at(READER_WAIT).is_over(Instant::now()), "the reader took something");
    assert!(stopped_at(END_WAIT).is_over(Instant::now()));
}
