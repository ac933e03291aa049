//! [`Counts`]: what the shards of a run count in place of writing lines.

use super::summary::Summary;
use crate::record::{Event, Format, Wants};
use std::sync::{Arc, Mutex, PoisonError};

/// The counting of a run: a summary for each shard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Counts(Arc<[Mutex<Summary>]>);

impl Counts {
    /// Nothing was counted so far.
    pub fn new(shard_count: u16) -> Counts {
        Counts((0..shard_count).map(|_| Mutex::default()).collect())
    }

    /// What all shards have counted since the last call. A shard waits for no longer than it takes
    /// to exchange its summary for an empty one.
    pub fn take(&self) -> Summary {
        let mut all = Summary::default();
        for shard in self.0.iter() {
            let counted = shard.lock().unwrap_or_else(PoisonError::into_inner).take();
            all.merge(&counted);
        }
        all
    }

    /// The part of shard `number`, which must be one of the run.
    pub(crate) fn counter(&self, number: usize) -> Counter {
        Counter { counts: self.clone(), number }
    }
}

/// Counts the events of a shard. As a format, it has no lines.
#[derive(Debug)]
pub(crate) struct Counter {
    counts: Counts,
    number: usize,
}

impl Format for Counter {
    fn wants(&self) -> Wants {
        Wants { messages: false, headers: false, websockets: true }
    }

    fn line(&mut self, event: &Event<'_>, _: &mut Vec<u8>) {
        let counts = &self.counts.0[self.number];
        counts.lock().unwrap_or_else(PoisonError::into_inner).add(event);
    }
}
