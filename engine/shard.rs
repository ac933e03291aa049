//! One pinned thread: a source, and a pipeline into a batch of lines. Shards share nothing on this
//! path; datagrams joined from fragments may cross between them ([`Shard::with_crossing`]).

use crate::capture::{FrameSource, Polled, SourceError};
use crate::config::Config;
use crate::output::RecordWriter;
use crate::pipeline::{Crossing, Partition, Pipeline, PipelineGauges, PipelineStats};
use crate::stats::EmitStats;
use std::sync::atomic::{AtomicU8, Ordering};

/// The stop state that the engine requests. It only ever increases.
#[derive(Debug, Default)]
pub struct StopSignal(AtomicU8);

impl StopSignal {
    const DRAIN: u8 = 1;
    const STOP: u8 = 2;

    /// Requests the end once the source is empty.
    pub fn drain(&self) {
        self.0.fetch_max(Self::DRAIN, Ordering::Release);
    }

    /// Requests the end now.
    pub fn stop(&self) {
        self.0.fetch_max(Self::STOP, Ordering::Release);
    }

    /// Whether a shard whose source returned `polled` must end.
    pub fn is_over(&self, polled: Polled) -> bool {
        match self.0.load(Ordering::Acquire) {
            Self::STOP => true,
            Self::DRAIN => polled == Polled::Idle || polled == Polled::End,
            _ => polled == Polled::End,
        }
    }
}

/// All counters of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Counters from frames to events.
    pub pipeline: PipelineStats,
    /// Counters of lines.
    pub emit: EmitStats,
}

impl ShardStats {
    /// Adds every counter of `other`.
    pub fn add(&mut self, other: &ShardStats) {
        self.pipeline.add(&other.pipeline);
        self.emit.add(&other.emit);
    }
}

/// What a shard holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardGauges {
    /// What is in the pipeline.
    pub pipeline: PipelineGauges,
    /// Batches of lines that wait for the writer.
    pub queued_batches: u64,
}

/// A source and the pipeline behind it.
#[derive(Debug)]
pub struct Shard<F> {
    source: F,
    pipeline: Pipeline<RecordWriter>,
}

impl<F: FrameSource> Shard<F> {
    /// A shard that is ready to run.
    pub fn new(
        config: &Config,
        source: F,
        partition: Partition,
        records: RecordWriter,
    ) -> Shard<F> {
        let pipeline = Pipeline::new(config, records)
            .with_partition(partition)
            .with_filter(source.hints(), config.capture.elide_bytes_min)
            .with_share(source.share());
        Shard { source, pipeline }
    }

    /// Exchanges joined datagrams with the other shards.
    pub fn with_crossing(mut self, crossing: Crossing) -> Shard<F> {
        self.pipeline = self.pipeline.with_crossing(crossing);
        self
    }

    /// Runs until the source ends or the engine stops it. `report` is called with the shard after
    /// each poll.
    pub fn run(
        self,
        stop: &StopSignal,
        mut report: impl FnMut(&ShardView<'_>),
    ) -> (ShardStats, Result<(), SourceError>) {
        let Shard { mut source, mut pipeline } = self;
        let result = loop {
            let polled = match pipeline.poll(&mut source) {
                Ok(polled) => polled,
                Err(error) => break Err(error),
            };
            pipeline.sink_mut().rest(polled);
            report(&ShardView { pipeline: &pipeline });
            if stop.is_over(polled) {
                break Ok(());
            }
        };
        // If this source fails, the others run on until the engine learns of it.
        pipeline.end_crossing(result.is_ok());
        pipeline.finish();
        pipeline.sink_mut().close();
        (ShardView { pipeline: &pipeline }.stats(), result)
    }
}

/// A view of a shard between two polls.
#[derive(Debug)]
pub struct ShardView<'a> {
    pipeline: &'a Pipeline<RecordWriter>,
}

impl ShardView<'_> {
    /// Frames processed so far.
    pub fn frame_count(&self) -> u64 {
        self.pipeline.frame_count()
    }

    /// Whether no more lines are needed.
    pub fn is_enough(&self) -> bool {
        self.pipeline.sink().is_enough()
    }

    /// All counters of the shard.
    pub fn stats(&self) -> ShardStats {
        let emit = self.pipeline.sink().stats().clone();
        ShardStats { pipeline: self.pipeline.stats(), emit }
    }

    /// What the shard holds now.
    pub fn gauges(&self) -> ShardGauges {
        let queued_batches = self.pipeline.sink().queued_batches();
        ShardGauges { pipeline: self.pipeline.gauges(), queued_batches }
    }
}
