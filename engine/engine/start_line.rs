//! [`StartLine`]: holds the threads of shards back until everything is ready for frames.

use std::sync::{Condvar, Mutex, PoisonError};

/// What the threads are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Begun,
    Abandoned,
}

/// Threads wait here until the run begins or is abandoned.
#[derive(Debug)]
pub(super) struct StartLine {
    state: Mutex<State>,
    changed: Condvar,
}

impl Default for StartLine {
    fn default() -> StartLine {
        StartLine { state: Mutex::new(State::Waiting), changed: Condvar::new() }
    }
}

impl StartLine {
    /// Waits. Returns whether the run begins.
    pub(super) fn wait(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.changed.wait_while(state, |state| *state == State::Waiting);
        *state.unwrap_or_else(PoisonError::into_inner) == State::Begun
    }

    /// Lets the threads go.
    pub(super) fn begin(&self) {
        self.set(State::Begun);
    }

    /// Ends the threads that wait: the run cannot begin.
    pub(super) fn abandon(&self) {
        self.set(State::Abandoned);
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }
}

#[test]
fn threads_wait_and_learn_whether_the_run_begins() {
    for begins in [true, false] {
        let line = StartLine::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| line.wait())).collect();
            if begins {
                line.begin()
            } else {
                line.abandon()
            }
            threads.into_iter().for_each(|it| assert_eq!(it.join().expect("no panic"), begins));
        });
    }
}
