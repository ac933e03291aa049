//! The shards of a run: their threads start together, and are held back until the engine lets them
//! begin.

use super::error::EngineError;
use super::events::Event;
use super::format::line_format;
use super::reporter;
use super::start_line::StartLine;
use super::status::ShardStatus;
use crate::capture::pcap::open::Capture;
use crate::capture::{FrameSource, SourceError};
use crate::config::{Config, Input};
use crate::ids::{FlowHashKey, IfaceNames};
use crate::observe::{Counter, Counts, ShardState};
use crate::output::{BatchSender, Quota, RecordWriter};
use crate::pipeline::{Crossing, FileRoute, Part, Partition};
use crate::shard::{Shard, ShardStats, StopSignal};
use crate::sys::affinity;
use crate::sys::thread_clock::{self, ThreadClock};
use crate::sys::threads::{self, Ready};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the engine waits for a shard's counters.
const ANSWER_WAIT: Duration = Duration::from_millis(200);

/// What a shard has counted, how it ended, and the CPU time of its thread.
pub(super) type ShardResult = (ShardStats, Result<(), SourceError>, Duration);

/// Shards that have not started.
pub(super) struct Shards<'a> {
    config: &'a Config,
    names: IfaceNames,
    /// Whether lines go to a terminal.
    is_terminal: bool,
    /// What is counted in place of lines.
    counts: Option<Counts>,
    senders: Vec<BatchSender>,
    sender: Sender<Event>,
}

/// Shards that run.
pub(super) struct Running {
    pub(super) threads: Vec<JoinHandle<ShardResult>>,
    /// The CPU time of each.
    clocks: Vec<ThreadClock>,
    pub(super) statuses: Vec<Arc<ShardStatus>>,
    pub(super) stop: Arc<StopSignal>,
    sender: Sender<Event>,
    start_line: Arc<StartLine>,
}

impl<'a> Shards<'a> {
    pub(super) fn new(
        config: &'a Config,
        names: IfaceNames,
        is_terminal: bool,
        senders: Vec<BatchSender>,
        sender: Sender<Event>,
    ) -> Shards<'a> {
        Shards { config, names, is_terminal, counts: None, senders, sender }
    }

    /// Counts events, in place of making lines of them.
    pub(super) fn counting(mut self, counts: Option<Counts>) -> Shards<'a> {
        self.counts = counts;
        self
    }

    /// Starts a shard for each source of `capture`. Several shards have each a part of the flows,
    /// and walk mapped files for each other.
    pub(super) fn start_files(self, capture: Capture) -> Result<Running, EngineError> {
        let count = self.config.shard_count;
        if count == 1 {
            return self.start(capture.sources, Vec::new(), Vec::new(), false);
        }
        let hash_key = FlowHashKey::random();
        let route = Arc::new(FileRoute::new(count, hash_key, &self.config.decode));
        self.start(capture.walked(route), Part::all(count, hash_key), Vec::new(), false)
    }

    /// Starts a shard for each of `sources`, with its part of the flows if there are `parts`, and
    /// its end of the queues between shards if there are `crossings`. They wait for
    /// [`Running::begin`].
    pub(super) fn start<S: FrameSource + Send + 'static>(
        self,
        sources: Vec<S>,
        parts: Vec<Part>,
        crossings: Vec<Crossing>,
        is_pinned: bool,
    ) -> Result<Running, EngineError> {
        let cpus = if is_pinned { affinity::allowed_cpus() } else { Vec::new() };
        let quota = self.config.exchange_count_max.map(Quota::new);
        let is_prompt = !matches!(self.config.input, Input::Files(_));
        let stop = Arc::new(StopSignal::default());
        let mut running = Running {
            threads: Vec::new(),
            clocks: Vec::new(),
            statuses: Vec::new(),
            stop,
            sender: self.sender,
            start_line: Arc::default(),
        };
        let mut crossings = crossings.into_iter();
        for (number, (source, sender)) in sources.into_iter().zip(self.senders).enumerate() {
            let counted = self.counts.as_ref().map(|counts| counts.of_shard(number));
            let status = Arc::new(ShardStatus::new(counted.clone()));
            let counter = counted.map(Counter::new);
            let format = line_format(self.config, &self.names, self.is_terminal, counter);
            let records = RecordWriter::new(format, sender, quota.clone(), is_prompt)
                .with_kinds(self.config.emit.records)
                .with_selection(&self.config.emit.selection);
            let partition = parts.get(number).map_or(Partition::All, |part| Partition::Part(*part));
            let mut shard = Shard::new(self.config, source, partition, records);
            if let Some(crossing) = crossings.next() {
                shard = shard.with_crossing(crossing);
            }
            let cpu = cpus.get(number % cpus.len().max(1)).copied();
            if let Err(error) = running.spawn(number, shard, cpu, status) {
                // The threads that did start would wait forever.
                running.start_line.abandon();
                return Err(error);
            }
        }
        Ok(running)
    }
}

impl Running {
    fn spawn<S: FrameSource + Send + 'static>(
        &mut self,
        number: usize,
        shard: Shard<S>,
        cpu: Option<affinity::CpuId>,
        status: Arc<ShardStatus>,
    ) -> Result<(), EngineError> {
        self.statuses.push(status.clone());
        let (stop, sender) = (self.stop.clone(), self.sender.clone());
        let start_line = self.start_line.clone();
        let body = move |ready: Ready| {
            let _ended = SendOnDrop(sender.clone());
            if let Some(cpu) = cpu
                && !affinity::pin_to(cpu)
            {
                tracing::warn!(
                    "shard {number} cannot be pinned to CPU {}; it runs anywhere",
                    cpu.0
                );
            }
            drop(ready);
            if !start_line.wait() {
                return (ShardStats::default(), Ok(()), Duration::ZERO);
            }
            let mut has_said_enough = false;
            let (stats, result) = shard.run(&stop, |view| {
                status.show(view);
                if !has_said_enough && view.is_enough() {
                    has_said_enough = true;
                    let _ = sender.send(Event::Enough);
                }
            });
            (stats, result, thread_clock::own())
        };
        let thread = threads::start(format!("shard-{number}"), body);
        let thread = thread.map_err(EngineError::Thread)?;
        self.clocks.push(ThreadClock::of(&thread));
        self.threads.push(thread);
        Ok(())
    }

    /// Lets the shards read their sources.
    pub(super) fn begin(&self) {
        self.start_line.begin();
    }

    pub(super) fn frame_count(&self) -> u64 {
        self.statuses.iter().map(|status| status.frame_count()).sum()
    }

    pub(super) fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Whether a shard's thread panicked. The frames in its rings will never be read.
    pub(super) fn has_lost_one(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// The current counters of every shard that responds within a few polls.
    pub(super) fn stats(&self) -> ShardStats {
        self.statuses.iter().for_each(|status| status.ask());
        let until = Instant::now() + ANSWER_WAIT;
        let is_open = |status: &Arc<ShardStatus>| status.is_open();
        while self.statuses.iter().any(is_open) && Instant::now() < until && !self.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        reporter::sum(&self.states())
    }

    /// What the shards have published last.
    pub(super) fn states(&self) -> Vec<ShardState> {
        reporter::states(&self.statuses, &self.clocks)
    }
}

/// Reports the end of a shard to the engine, even if it panicked.
struct SendOnDrop(Sender<Event>);

impl Drop for SendOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Event::ShardEnded);
    }
}
