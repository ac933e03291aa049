//! [`Counts`]: what the shards of a run count in place of writing lines.

use super::summary::Summary;
use crate::record::{Event, Format, Wants};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The counting of a run: a part for each shard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Counts(Arc<[Arc<Counted>]>);

/// What a shard has handed over, and whether it is to hand over more.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    is_wanted: AtomicBool,
    handed_over: Mutex<Summary>,
}

impl Counted {
    /// Asks the shard to hand over, after its next poll, what it has counted.
    pub(crate) fn ask(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }
}

impl Counts {
    /// Nothing was counted so far.
    pub fn new(shard_count: u16) -> Counts {
        Counts((0..shard_count).map(|_| Arc::default()).collect())
    }

    /// What all shards have handed over since the last call. They do so whenever the engine asks
    /// for their counters, and at their ends.
    pub fn take(&self) -> Summary {
        let mut all = Summary::default();
        for shard in self.0.iter() {
            let handed_over =
                &mut *shard.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
            all.merge(&std::mem::take(handed_over));
        }
        all
    }

    /// The part of shard `number`, which must be one of the run.
    pub(crate) fn of_shard(&self, number: usize) -> Arc<Counted> {
        self.0[number].clone()
    }
}

/// Counts the events of a shard, and shares nothing until it is asked. As a format, it has no
/// lines.
#[derive(Debug)]
pub(crate) struct Counter {
    summary: Summary,
    counted: Arc<Counted>,
}

impl Counter {
    pub(crate) fn new(counted: Arc<Counted>) -> Counter {
        Counter { summary: Summary::default(), counted }
    }

    #[cold]
    fn hand_over(&mut self) {
        let handed_over =
            &mut *self.counted.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        if handed_over.is_empty() {
            std::mem::swap(handed_over, &mut self.summary);
        } else {
            handed_over.merge(&self.summary.take());
        }
    }
}

impl Format for Counter {
    fn wants(&self) -> Wants {
        Wants { messages: false, headers: false, ..Wants::ALL }
    }

    fn line(&mut self, event: &Event<'_>, _: &mut Vec<u8>) {
        self.summary.add(event);
    }

    fn rest(&mut self) {
        if self.counted.is_wanted.load(Ordering::Relaxed) {
            self.counted.is_wanted.store(false, Ordering::Relaxed);
            self.hand_over();
        }
    }
}

/// A shard ends, perhaps since it panicked.
impl Drop for Counter {
    fn drop(&mut self) {
        self.hand_over();
    }
}
