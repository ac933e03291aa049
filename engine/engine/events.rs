//! What the engine hears while a run goes on: commands, and the ends of shards.

use super::snapshot::Snapshot;
use crate::output::Patience;
use std::sync::mpsc::{Sender, SyncSender};

/// A command to a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Stop cleanly: drain, flush, add up.
    Stop,
    /// Report the totals so far (`Notice::Report`).
    Report,
    /// Reopen the output files.
    Reopen,
}

/// What the engine hears while a run goes on.
#[derive(Debug)]
pub(super) enum Event {
    Command(Command),
    /// A shard needs no more lines.
    Enough,
    /// A shard's thread has ended.
    ShardEnded,
    /// The metrics are scraped.
    Scrape(SyncSender<Snapshot>),
}

/// Sends commands to a run. It may be cloned into other threads.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) events: Sender<Event>,
    pub(super) patience: Patience,
}

impl Handle {
    /// Sends a command. It has no effect once the run is over.
    pub fn send(&self, command: Command) {
        if command == Command::Stop {
            // Writers may be waiting for their readers.
            self.patience.limit();
        }
        let _ = self.events.send(Event::Command(command));
    }
}
