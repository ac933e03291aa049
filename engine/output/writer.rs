//! The outputs and senders of a run, and the thread that writes if no shard may wait. It takes
//! batches from all shards in turn, appends them ([`OutputWriter`]), and returns the buffers.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::ids::ShardId;
use crate::output::batch::{Batch, Limits, Policy};
use crate::output::batch_sender::{BatchSender, Queue, Route};
use crate::output::error::WriterError;
use crate::output::files::{ClosedFiles, Files};
use crate::output::janitor::{Janitor, JanitorThread};
use crate::output::open::Outputs;
use crate::output::output_writer::{Control, OutputWriter, WriterStats};
use crate::output::shared::{Sleeper, WriterLink};
use crate::output::sidecar::{Sidecar, StatsRecord};
use crate::output::sink::Sink;
use crate::output::slow_watch::SlowWatch;
use crate::sys::thread_clock::{self, ThreadClock};
use crate::sys::threads;

/// Maximum number of batches in one append. More wait for the next one, so that buffers come back
/// soon.
const APPEND_COUNT_MAX: usize = 32;

/// The state of a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterGauges {
    /// The age of the oldest line that is being written; zero if none is.
    pub lag: Duration,
    /// An output cannot be written now: lines are dropped and counted.
    pub is_failing: bool,
    /// CPU time of the writer's thread.
    pub cpu: Duration,
    /// The closed files, if somebody looks after them.
    pub closed: Option<ClosedFiles>,
}

/// The engine's handle of the writer.
#[derive(Debug)]
pub struct Writer {
    /// The thread, unless shards write themselves.
    thread: Option<JoinHandle<()>>,
    output_count: u64,
    /// Its CPU time.
    cpu: Option<ThreadClock>,
    shared: Arc<WriterLink>,
    control: Arc<Control>,
    slow_watch: RefCell<SlowWatch>,
    /// If files are closed.
    files: Option<Arc<Files>>,
    janitor: Option<JanitorThread>,
}

impl Writer {
    /// Starts the writer. Returns one sender for each shard, in order. `sinks` has one sink for all
    /// shards, or one for each.
    pub fn start(
        sinks: Vec<Box<dyn Sink>>,
        shard_count: u16,
        limits: Limits,
        policy: Policy,
    ) -> Result<(Vec<BatchSender>, Writer), WriterError> {
        Writer::start_outputs(Outputs::from_sinks(sinks), shard_count, limits, policy)
    }

    /// The same for the outputs of [`open_sinks`](crate::output::open_sinks).
    pub fn start_outputs(
        outputs: Outputs,
        shard_count: u16,
        limits: Limits,
        policy: Policy,
    ) -> Result<(Vec<BatchSender>, Writer), WriterError> {
        let Outputs { sinks, files, janitor } = outputs;
        let janitor = janitor.map(Janitor::start).transpose()?;
        assert!(sinks.len() == 1 || sinks.len() == usize::from(shard_count));
        let shared = Arc::new(WriterLink::default());
        let control = Arc::new(Control::default());
        let names: Vec<String> = sinks.iter().map(|sink| sink.name()).collect();
        let output_count = names.len() as u64;
        let writers = sinks
            .into_iter()
            .map(|sink| OutputWriter::new(sink, policy, shared.clone(), control.clone()));
        let sender =
            |shard, route| BatchSender::new(ShardId(shard as u16), route, limits, shared.clone());
        if policy == Policy::Wait {
            let writers: Vec<_> = writers.map(|writer| Arc::new(Mutex::new(writer))).collect();
            let routes = writers.iter().cycle().cloned().map(Route::Direct);
            let senders = routes.take(shard_count.into()).enumerate();
            let senders = senders.map(|(shard, route)| sender(shard, route)).collect();
            let slow_watch = RefCell::default();
            let (thread, cpu) = (None, None);
            let writer =
                Writer { thread, output_count, cpu, shared, control, slow_watch, files, janitor };
            return Ok((senders, writer));
        }
        let (queues, receivers): (Vec<_>, _) = (0..shard_count).map(|_| connect(limits)).unzip();
        let dropped = queues.iter().map(|queue: &Queue| queue.dropped.clone()).collect();
        let slow_watch = RefCell::new(SlowWatch::new(names, dropped));
        let queues = queues.into_iter().enumerate();
        let senders = queues.map(|(shard, queue)| sender(shard, Route::Queue(queue))).collect();
        let thread_state = WriterThread {
            receivers,
            writers: writers.collect(),
            batches: Vec::with_capacity(APPEND_COUNT_MAX),
            next: 0,
            oldest: None,
            shared: shared.clone(),
            control: control.clone(),
        };
        let thread = threads::start("writer", move |ready| {
            drop(ready);
            thread_state.run();
        });
        let thread = thread.map_err(WriterError::Thread)?;
        let cpu = Some(ThreadClock::of(&thread));
        let thread = Some(thread);
        let writer =
            Writer { thread, output_count, cpu, shared, control, slow_watch, files, janitor };
        Ok((senders, writer))
    }

    /// Requests that the outputs are reopened (SIGHUP, after the file was renamed). Lines in flight
    /// may land in either file. If shards write themselves, each output is reopened with its next
    /// batch.
    pub fn reopen(&self) {
        self.control.reopens_wanted.fetch_add(1, Ordering::Release);
        self.shared.writer.wake();
    }

    /// Whether all outputs were reopened, or could not be, as often as that was requested. If
    /// shards write themselves, that comes with their lines, and nobody waits for it.
    pub fn is_reopened(&self) -> bool {
        let wanted = self.control.reopens_wanted.load(Ordering::Relaxed) * self.output_count;
        self.thread.is_none() || self.control.reopens_done.load(Ordering::Acquire) >= wanted
    }

    /// Reports that lines are dropped because an output is too slow, if that has begun or ended
    /// since the last call. The engine calls it once a second.
    pub fn report_slowness(&self) {
        if let Some(said) = self.slow_watch.borrow_mut().look(Instant::now()) {
            tracing::warn!("{said}");
        }
    }

    /// Opens the file of statistics at `path`. From now on the writer's thread writes what is put
    /// into it, and closes it whenever it closes the first of `output_count` outputs. A run has one
    /// such file at most.
    pub fn open_sidecar(
        &self,
        path: &Path,
        output_count: usize,
    ) -> Result<Arc<Sidecar>, WriterError> {
        let sidecar = match &self.files {
            Some(files) => Sidecar::open_rotated(path, output_count, files.clone())?,
            None => Sidecar::open(path)?,
        };
        Ok(self.shared.sidecar.get_or_init(|| Arc::new(sidecar)).clone())
    }

    /// Has a record of statistics written, and waits for nothing.
    pub fn write_stats(&self, record: StatsRecord) {
        if let Some(sidecar) = self.shared.sidecar.get() {
            sidecar.put(record);
            self.shared.writer.wake();
        }
    }

    /// The state of the writer now.
    pub fn gauges(&self) -> WriterGauges {
        let running = self.cpu.as_ref().map(ThreadClock::elapsed).unwrap_or_default();
        let looked_after = self.files.as_ref().filter(|_| self.janitor.is_some());
        WriterGauges {
            closed: looked_after.map(|files| files.present()),
            lag: self.control.lag(),
            is_failing: self.control.failing_count.load(Ordering::Relaxed) > 0,
            cpu: running.max(Duration::from_nanos(self.control.cpu_ns.load(Ordering::Relaxed))),
        }
    }

    /// The counters so far.
    pub fn stats(&self) -> WriterStats {
        let files = self.files.as_ref().map(|files| files.stats()).unwrap_or_default();
        WriterStats { files, ..self.control.counters.snapshot() }
    }

    /// Whether lines are no longer written: the reader of standard output has gone, or, with
    /// [`Policy::Wait`], an output failed ([`Writer::finish`] returns the error).
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Relaxed)
    }

    /// Waits until all senders are closed and all lines are written or lost. A closed pipe is no
    /// error. Lines that were lost are one if the last ones were among them.
    pub fn finish(mut self) -> (WriterStats, Result<(), WriterError>) {
        let joined = self.thread.take().map_or(Ok(()), JoinHandle::join);
        let is_janitor_lost = self.janitor.as_mut().is_some_and(JanitorThread::stop);
        let stats = self.stats();
        if joined.is_err() {
            return (stats, Err(WriterError::Panicked));
        }
        if is_janitor_lost {
            return (stats, Err(WriterError::JanitorPanicked));
        }
        let slow = || self.slow_watch.borrow().slow_until_the_end();
        let error = self
            .control
            .take_error()
            .or_else(|| slow().map(|name| WriterError::TooSlowUntilTheEnd { name }));
        (stats, error.map_or(Ok(()), Err))
    }
}

/// The writer's end of a shard's queues.
struct BatchReceiver {
    queue: Consumer<(Instant, Batch)>,
    spares: Producer<Vec<u8>>,
    sleeper: Arc<Sleeper>,
}

fn connect(limits: Limits) -> (Queue, BatchReceiver) {
    let batch_count_max = limits.batch_count_max.max(1);
    let (full, queue) = RingBuffer::new(batch_count_max);
    // All buffers of a shard: those in the queue, those being written, and the one being filled.
    let (producer, spares) = RingBuffer::new(batch_count_max + APPEND_COUNT_MAX + 1);
    let (sleeper, dropped) = (Arc::new(Sleeper::default()), Arc::default());
    (
        Queue { full, spares, sleeper: sleeper.clone(), dropped },
        BatchReceiver { queue, spares: producer, sleeper },
    )
}

/// The state of the thread.
struct WriterThread {
    receivers: Vec<BatchReceiver>,
    writers: Vec<OutputWriter>,
    /// The batches of one append.
    batches: Vec<Batch>,
    /// The shard whose turn it is.
    next: usize,
    /// When the oldest of the batches was handed over.
    oldest: Option<Instant>,
    shared: Arc<WriterLink>,
    control: Arc<Control>,
}

impl WriterThread {
    fn run(self) {
        let control = self.control.clone();
        self.write_all();
        control.cpu_ns.store(thread_clock::own().as_nanos() as u64, Ordering::Relaxed);
    }

    fn write_all(mut self) {
        // No shard may wait for a writer that has ended, even by a panic.
        let _closer = Closer { shared: self.shared.clone(), sleepers: self.sleepers() };
        loop {
            // Read before the queues, so that everything a sender handed over before it closed is
            // seen below.
            let closed = self.shared.senders_closed.load(Ordering::Acquire);
            self.writers.iter_mut().for_each(OutputWriter::idle);
            self.write_stats();
            if self.round() {
                continue;
            }
            if closed == self.receivers.len() {
                return;
            }
            let (receivers, writers, shared) = (&self.receivers, &self.writers, &self.shared);
            shared.writer.sleep_unless(|| {
                receivers.iter().any(|receiver| !receiver.queue.is_empty())
                    || writers.iter().any(OutputWriter::is_reopen_wanted)
                    || shared.sidecar.get().is_some_and(|sidecar| sidecar.is_waiting())
                    || shared.senders_closed.load(Ordering::Relaxed) != closed
            });
        }
    }

    /// Writes the statistics that wait, if there are any.
    fn write_stats(&self) {
        if let Some(sidecar) = self.shared.sidecar.get() {
            sidecar.write_waiting(self.control.reopens_wanted.load(Ordering::Acquire));
        }
    }

    fn sleepers(&self) -> Vec<Arc<Sleeper>> {
        self.receivers.iter().map(|receiver| receiver.sleeper.clone()).collect()
    }

    /// Appends once to each output that has batches. Returns whether there were any.
    fn round(&mut self) -> bool {
        let mut is_any = false;
        for output in 0..self.writers.len() {
            if self.writers.len() == 1 {
                self.take_in_turn();
            } else {
                self.take(output, APPEND_COUNT_MAX);
            }
            if !self.batches.is_empty() {
                is_any = true;
                self.control.set_oldest(self.oldest.take());
                self.writers[output].append(&mut self.batches);
                self.control.set_oldest(None);
                self.give_back();
            }
        }
        is_any
    }

    /// Takes up to `count_max` batches from a shard's queue. Returns whether there were any.
    fn take(&mut self, shard: usize, count_max: usize) -> bool {
        let before = self.batches.len();
        while self.batches.len() - before < count_max {
            let Ok((since, batch)) = self.receivers[shard].queue.pop() else { break };
            self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
            self.batches.push(batch);
        }
        self.batches.len() > before
    }

    /// Takes one batch of each shard in turn, until the append is full or all queues are empty.
    fn take_in_turn(&mut self) {
        let mut empty_count = 0;
        while self.batches.len() < APPEND_COUNT_MAX && empty_count < self.receivers.len() {
            let is_taken = self.take(self.next, 1);
            empty_count = if is_taken { 0 } else { empty_count + 1 };
            self.next = (self.next + 1) % self.receivers.len();
        }
    }

    /// Returns the buffers of the last append to their shards, and wakes shards that wait for
    /// space.
    fn give_back(&mut self) {
        for batch in self.batches.drain(..) {
            let Some(receiver) = self.receivers.get_mut(usize::from(batch.shard.0)) else {
                continue;
            };
            let mut buffer = batch.bytes;
            buffer.clear();
            // The queue has space for every buffer. One too many would just be freed.
            let _ = receiver.spares.push(buffer);
            receiver.sleeper.wake();
        }
    }
}

/// Releases waiting shards when the writer ends.
struct Closer {
    shared: Arc<WriterLink>,
    sleepers: Vec<Arc<Sleeper>>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        for sleeper in &self.sleepers {
            sleeper.wake();
        }
    }
}

#[cfg(test)]
mod tests;
