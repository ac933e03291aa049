//! What senders and writer share in addition to batches, and how they wait for each other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::output::sidecar::Sidecar;

/// A thread sleeps at most this long before it checks again. Normally it is woken; this is a safety
/// net.
const PARK: Duration = Duration::from_secs(1);

/// Lets a thread sleep until there is something for it to do.
///
/// The sleeper announces that it sleeps, then checks once more. The waker publishes its news, then
/// checks whether a thread sleeps. The fences order each pair, so at least one sees the other.
#[derive(Debug, Default)]
pub(super) struct Sleeper {
    is_asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Sleeper {
    /// Sleeps at most `PARK`, unless `has_news`.
    pub(super) fn sleep_unless(&self, has_news: impl FnOnce() -> bool) {
        *self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some(thread::current());
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_news() {
            thread::park_timeout(PARK);
        }
        self.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps; costs a fence and a load if it does not.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some(thread) = thread.as_ref() {
                thread.unpark();
            }
        }
    }
}

/// What senders and writer share in addition to batches.
#[derive(Debug, Default)]
pub(super) struct WriterLink {
    /// Wakes the writer when it waits for batches.
    pub(super) writer: Sleeper,
    /// Lines are no longer written.
    pub(super) is_closed: AtomicBool,
    /// Senders that will hand over nothing more.
    pub(super) senders_closed: AtomicUsize,
    /// The file of statistics, if there is one.
    pub(super) sidecar: OnceLock<Arc<Sidecar>>,
}
