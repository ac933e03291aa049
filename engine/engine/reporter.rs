//! [`Reporter`]: reports statistics each interval: a record for the sidecar, and the last one at
//! the end; or, where there is no sidecar, rates for whoever runs the engine.

use super::counter_poll::CounterPoll;
use super::status::ShardStatus;
use crate::config::{Config, Input, Output};
use crate::observe::{Observed, RateMeter, Rates, Run, ShardState};
use crate::output::{
    Sidecar, StatsRecord, Writer, WriterError, WriterGauges, output_paths, sidecar_path,
};
use crate::shard::ShardStats;
use crate::sys::memory::ResidentMemory;
use crate::sys::thread_clock::ThreadClock;
use crate::totals::Totals;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reports statistics of a run.
#[derive(Debug)]
pub(super) struct Reporter {
    poll: CounterPoll,
    target: Target,
}

/// Where they go.
#[derive(Debug)]
enum Target {
    Sidecar { sidecar: Arc<Sidecar>, run: Run, resident: ResidentMemory },
    Records { run: Run, resident: ResidentMemory },
    Rates(RateMeter),
}

/// What whoever runs the engine is told.
#[derive(Debug)]
pub(super) enum Told {
    Record(StatsRecord),
    Rates(Rates),
}

impl Reporter {
    /// The reporter of a run. If records are wanted, it makes them. A live capture into a file of
    /// JSON lines it has a sidecar, which is opened;
    /// `writer` has opened its outputs, and writes the sidecar from now on. Else it has rates, if
    /// they are wanted.
    pub(super) fn open(
        config: &Config,
        writer: &Writer,
        resident: ResidentMemory,
    ) -> Result<Option<Reporter>, WriterError> {
        let now = Instant::now();
        if let Some(interval) = config.watch.records_interval_ms.map(Duration::from_millis) {
            let run = Run::new(String::new(), &config.emit);
            let (poll, target) =
                (CounterPoll::new(now, interval), Target::Records { run, resident });
            return Ok(Some(Reporter { poll, target }));
        }
        let outputs = output_paths(&config.emit, config.shard_count);
        // A FIFO or a device may not have a file beside it, and neither may a descriptor of the
        // shell, whose name is a link.
        let is_file = |path| std::fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
        if let Output::File(output) = &config.emit.output
            && config.has_statistics()
            && outputs.iter().all(is_file)
        {
            let sidecar = writer.open_sidecar(&sidecar_path(output), outputs.len())?;
            let run = Run::new(output.display().to_string(), &config.emit);
            let interval = Duration::from_millis(config.emit.stats_interval_ms);
            let target = Target::Sidecar { sidecar, run, resident };
            return Ok(Some(Reporter { poll: CounterPoll::new(now, interval), target }));
        }
        let is_live = matches!(config.input, Input::Live(_));
        let interval = config.watch.rates_interval_ms.filter(|_| is_live);
        let interval = interval.map(Duration::from_millis);
        Ok(interval.map(|interval| Reporter {
            poll: CounterPoll::new(now + interval, interval),
            target: Target::Rates(RateMeter::default()),
        }))
    }

    /// The time from `now` until there is something to do.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.poll.wait(now)
    }

    /// Whether a report is to be made ([`CounterPoll::is_ready`]).
    pub(super) fn is_ready(&mut self, now: Instant, shards: &[Arc<ShardStatus>]) -> bool {
        self.poll.is_ready(now, shards)
    }

    /// Hands a record over to the writer, or returns what is to be told.
    pub(super) fn report(
        &mut self,
        totals: &Totals,
        shards: &[ShardState],
        writer: &Writer,
    ) -> Option<Told> {
        match &mut self.target {
            Target::Sidecar { run, resident, .. } => {
                let record = run.record(&Observed {
                    totals,
                    shards,
                    writer: writer.gauges(),
                    resident_bytes: resident.bytes(),
                    errors: Vec::new(),
                });
                writer.write_stats(record);
                None
            }
            Target::Records { run, resident } => Some(Told::Record(run.record(&Observed {
                totals,
                shards,
                writer: writer.gauges(),
                resident_bytes: resident.bytes(),
                errors: Vec::new(),
            }))),
            Target::Rates(meter) => Some(Told::Rates(meter.measure(totals, connections(shards)))),
        }
    }

    /// Writes the last record of the run, whose writer has ended, or returns it.
    pub(super) fn finish(
        self,
        totals: &Totals,
        shards: &[ShardState],
        writer: WriterGauges,
        errors: Vec<String>,
    ) -> Option<StatsRecord> {
        let (sidecar, mut run, resident) = match self.target {
            Target::Sidecar { sidecar, run, resident } => (Some(sidecar), run, resident),
            Target::Records { run, resident } => (None, run, resident),
            Target::Rates(_) => return None,
        };
        let resident_bytes = resident.bytes();
        let record = run.record(&Observed { totals, shards, writer, resident_bytes, errors });
        match sidecar {
            Some(sidecar) => {
                sidecar.finish(record);
                None
            }
            None => Some(record),
        }
    }
}

/// Connections that are open now.
pub(super) fn connections(shards: &[ShardState]) -> u64 {
    shards.iter().map(|shard| shard.gauges.pipeline.connections).sum()
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
