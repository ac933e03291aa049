//! Frames in memory, and runs of the whole engine on them: without file, kernel, or clock to wait
//! for.

use crate::allocations::Allocations;
use crate::clock::process_cpu_ns;
use httplines::capture::{Frame, FrameSource, Polled, SourceError};
use httplines::config::Config;
use httplines::ids::{FlowHashKey, IfaceNames, ShardId};
use httplines::output::{Batch, Limits, Policy, RecordWriter, Sink, SinkFault, Writer};
use httplines::pipeline::{Part, Partition};
use httplines::record::JsonFormat;
use httplines::shard::{Shard, ShardStats, StopSignal};
use httplines::totals::Totals;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Frames per poll: as many as fit into a ring block of the default size.
const POLL_BYTES: usize = 1 << 20;

/// The frames of a capture, one after the other.
#[derive(Debug, Default)]
pub struct Fixture {
    bytes: Vec<u8>,
    /// Each frame without its bytes, and the begin and end of these.
    frames: Vec<(Frame<'static>, usize, usize)>,
    names: IfaceNames,
}

impl Fixture {
    /// All frames of `source`, whose interfaces are called `names`.
    pub fn new(source: &mut impl FrameSource, names: &IfaceNames) -> Result<Fixture, SourceError> {
        let mut fixture = Fixture { names: names.clone(), ..Fixture::default() };
        while source.poll(&mut |frame| fixture.push(&frame))? != Polled::End {}
        Ok(fixture)
    }

    fn push(&mut self, frame: &Frame<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame.bytes);
        self.frames.push((Frame { bytes: &[], ..*frame }, start, self.bytes.len()));
    }

    /// How many frames there are.
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Bytes of all frames.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }
}

/// Barriers for the shards of a run, halfway and at the end. They ensure that allocations between
/// them belong to the second half of the frames only.
#[derive(Debug, Default)]
struct Meetings {
    state: Mutex<Arrived>,
    all_there: Condvar,
}

#[derive(Debug, Default)]
struct Arrived {
    count: usize,
    /// The counts when the last shard had arrived at each barrier.
    marks: [Allocations; 2],
    is_broken: bool,
}

impl Meetings {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn attend(&self, meeting: usize, shard_count: usize) {
        let mut state = self.lock();
        state.count += 1;
        state.marks[meeting] = Allocations::so_far();
        self.all_there.notify_all();
        while state.count < (meeting + 1) * shard_count && !state.is_broken {
            state = self.all_there.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

/// A shard's source of fixture frames.
#[derive(Debug)]
struct FixtureSource {
    fixture: Arc<Fixture>,
    next: usize,
    /// Barriers passed so far; `None` in a run without barriers.
    attended: usize,
    meetings: Arc<Meetings>,
    shard_count: usize,
}

impl FixtureSource {
    fn attend(&mut self, meeting: usize) {
        if self.attended == meeting {
            self.attended += 1;
            self.meetings.attend(meeting, self.shard_count);
        }
    }
}

impl FrameSource for FixtureSource {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        let fixture = Arc::clone(&self.fixture);
        let (all, half) = (fixture.frames.len(), fixture.frames.len() / 2);
        if self.next >= half {
            self.attend(0);
        }
        if self.next == all {
            self.attend(1);
            return Ok(Polled::End);
        }
        let (first, until) = (self.next, if self.next < half { half } else { all });
        let bytes_end = fixture.frames[first].1 + POLL_BYTES;
        while self.next < until && fixture.frames[self.next].1 < bytes_end {
            let (frame, start, end) = &fixture.frames[self.next];
            self.next += 1;
            visit(Frame { bytes: &fixture.bytes[*start..*end], ..*frame });
        }
        Ok(Polled::Frames(self.next - first))
    }
}

impl Drop for FixtureSource {
    /// A shard that ends early must not block the others.
    fn drop(&mut self) {
        self.meetings.lock().is_broken |= self.attended < 2;
        self.meetings.all_there.notify_all();
    }
}

/// A sink that discards lines.
#[derive(Debug)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn append(&mut self, _batches: &mut [Batch]) -> Result<(), SinkFault> {
        Ok(())
    }

    fn name(&self) -> String {
        "nowhere".into()
    }
}

/// What a run took.
#[derive(Debug)]
pub struct Ran {
    /// All counters, and the time from before the first thread to after the last.
    pub totals: Totals,
    /// CPU time of all threads.
    pub cpu: Duration,
    /// In the whole run.
    pub allocations: Allocations,
    /// During the second half of the frames.
    pub allocations_steady: Allocations,
}

/// Runs the engine that `config` describes, from decoding to `sink`, on `fixture`: one thread for
/// each shard, and the writer's. Fails if the run fails or its counters do not add up.
pub fn run(fixture: &Arc<Fixture>, config: &Config, sink: Box<dyn Sink>) -> anyhow::Result<Ran> {
    let (allocated, begun, cpu_ns) = (Allocations::so_far(), Instant::now(), process_cpu_ns());
    let count = config.shard_count;
    let (senders, writer) =
        Writer::start(vec![sink], count, Limits::from(&config.emit), Policy::Wait)?;
    let meetings = Arc::new(Meetings::default());
    let hash_key = FlowHashKey::random();
    let mut threads = Vec::new();
    for (number, sender) in (0..count).zip(senders) {
        let format = Box::new(JsonFormat::new(&config.emit, fixture.names.clone()));
        let records = RecordWriter::new(format, sender, None, false);
        let source = FixtureSource {
            fixture: Arc::clone(fixture),
            next: 0,
            attended: 0,
            meetings: Arc::clone(&meetings),
            shard_count: count.into(),
        };
        let partition = match count {
            1 => Partition::All,
            _ => Partition::Part(Part { shard: ShardId(number), count, hash_key }),
        };
        let shard = Shard::new(config, source, partition, records);
        threads.push(thread::spawn(move || shard.run(&StopSignal::default(), |_| {})));
    }
    let mut shards = ShardStats::default();
    for thread in threads {
        let (stats, result) = thread.join().map_err(|_| anyhow::anyhow!("a shard panicked"))?;
        result?;
        shards.add(&stats);
    }
    let (writer, result) = writer.finish();
    result?;
    let totals = Totals { shards, live: None, writer, elapsed: begun.elapsed(), is_running: false };
    let violations = totals.violations();
    anyhow::ensure!(violations.is_empty(), "the run does not add up: {}", violations.join("; "));
    let [halfway, end] = meetings.lock().marks;
    Ok(Ran {
        totals,
        cpu: Duration::from_nanos(process_cpu_ns() - cpu_ns),
        allocations: Allocations::so_far() - allocated,
        allocations_steady: end - halfway,
    })
}
