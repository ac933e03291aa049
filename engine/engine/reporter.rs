//! [`Reporter`]: makes a record of statistics each interval, and the last one at the end.

use super::status::ShardStatus;
use crate::config::{Config, Output};
use crate::observe::{Observed, Run, ShardState};
use crate::output::{Sidecar, Writer, WriterError, WriterGauges, output_paths, sidecar_path};
use crate::shard::ShardStats;
use crate::sys::memory::ResidentMemory;
use crate::sys::thread_clock::ThreadClock;
use crate::totals::Totals;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a shard may take to publish its counters. An idle one wakes after a tenth of a second.
const ANSWER_WAIT: Duration = Duration::from_millis(300);

/// How often the engine looks whether they have.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);

/// Reports statistics to the sidecar of a run.
#[derive(Debug)]
pub(super) struct Reporter {
    sidecar: Arc<Sidecar>,
    run: Run,
    interval: Duration,
    /// When the shards are asked next.
    due: Instant,
    /// When they were asked for the next record.
    asked: Option<Instant>,
    resident: ResidentMemory,
}

impl Reporter {
    /// Opens the sidecar of a run that has one: a live capture into a file of JSON lines. `writer`
    /// has opened its outputs, and writes the sidecar from now on.
    pub(super) fn open(
        config: &Config,
        writer: &Writer,
        resident: ResidentMemory,
    ) -> Result<Option<Reporter>, WriterError> {
        let Output::File(output) = &config.emit.output else { return Ok(None) };
        let interval = Duration::from_millis(config.emit.stats_interval_ms);
        let outputs = output_paths(&config.emit, config.shard_count);
        // A FIFO or a device may not have a file beside it, and neither may a descriptor of the
        // shell, whose name is a link.
        let is_file = |path| std::fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
        if !config.has_statistics() || !outputs.iter().all(is_file) {
            return Ok(None);
        }
        let sidecar = writer.open_sidecar(&sidecar_path(output), outputs.len())?;
        Ok(Some(Reporter {
            sidecar,
            run: Run::new(output.display().to_string(), config.emit.batch_count_max),
            interval,
            due: Instant::now(),
            asked: None,
            resident,
        }))
    }

    /// The time from `now` until there is something to do.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        match self.asked {
            Some(_) => ANSWER_INTERVAL,
            None => self.due.saturating_duration_since(now),
        }
    }

    /// Asks the shards for their counters if a record is due at `now`. Returns whether all have
    /// answered, or had time to: then the record is to be made. Nothing waits here.
    pub(super) fn is_ready(&mut self, now: Instant, shards: &[Arc<ShardStatus>]) -> bool {
        let Some(asked) = self.asked else {
            if now >= self.due {
                shards.iter().for_each(|shard| shard.ask());
                self.asked = Some(now);
                self.due += self.interval;
                if self.due <= now {
                    // The process was stopped, or the machine was. What was missed is not made up.
                    self.due = now + self.interval;
                }
            }
            return false;
        };
        let is_ready = now >= asked + ANSWER_WAIT || !shards.iter().any(|shard| shard.is_open());
        if is_ready {
            self.asked = None;
        }
        is_ready
    }

    /// Hands a record over to the writer.
    pub(super) fn report(&mut self, totals: &Totals, shards: &[ShardState], writer: &Writer) {
        let record = self.run.record(&Observed {
            totals,
            shards,
            writer: writer.gauges(),
            resident_bytes: self.resident.bytes(),
            errors: Vec::new(),
        });
        writer.write_stats(record);
    }

    /// Writes the last record of the run, whose writer has ended.
    pub(super) fn finish(
        mut self,
        totals: &Totals,
        shards: &[ShardState],
        writer: WriterGauges,
        errors: Vec<String>,
    ) {
        let resident_bytes = self.resident.bytes();
        self.sidecar.finish(self.run.record(&Observed {
            totals,
            shards,
            writer,
            resident_bytes,
            errors,
        }));
    }
}

/// What each shard has published last.
pub(super) fn states(statuses: &[Arc<ShardStatus>], clocks: &[ThreadClock]) -> Vec<ShardState> {
    let shards = statuses.iter().zip(clocks);
    let state = |(status, clock): (&Arc<ShardStatus>, &ThreadClock)| {
        let (stats, gauges) = status.published();
        ShardState { stats, gauges, cpu: clock.elapsed(), is_responding: !status.is_open() }
    };
    shards.map(state).collect()
}

/// The sum of all counters.
pub(super) fn sum(shards: &[ShardState]) -> ShardStats {
    let mut sum = ShardStats::default();
    for shard in shards {
        sum.add(&shard.stats);
    }
    sum
}
