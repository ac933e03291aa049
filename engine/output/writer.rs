//! The outputs and senders of a run, and the thread that writes if no shard may wait. It takes
//! batches from all shards in turn, appends them ([`OutputWriter`]), and returns the buffers.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::ids::ShardId;
use crate::output::batch::{Batch, Limits, Policy};
use crate::output::batch_sender::{BatchSender, Queue, Route};
use crate::output::error::WriterError;
use crate::output::files::Files;
use crate::output::janitor::{Janitor, JanitorThread};
use crate::output::open::Outputs;
use crate::output::output_writer::{Control, OutputWriter, WriterStats};
use crate::output::shared::{Sleeper, WriterLink};
use crate::output::sink::Sink;
use crate::output::slow_watch::SlowWatch;

/// Maximum number of batches in one append. More wait for the next one, so that buffers come back
/// soon.
const APPEND_COUNT_MAX: usize = 32;

/// The engine's handle of the writer.
#[derive(Debug)]
pub struct Writer {
    /// The thread, unless shards write themselves.
    thread: Option<JoinHandle<()>>,
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
        let names = sinks.iter().map(|sink| sink.name()).collect();
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
            return Ok((
                senders,
                Writer { thread: None, shared, control, slow_watch, files, janitor },
            ));
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
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || thread_state.run())
            .map_err(WriterError::Thread)?;
        Ok((senders, Writer { thread: Some(thread), shared, control, slow_watch, files, janitor }))
    }

    /// Requests that the outputs are reopened (SIGHUP, after the file was renamed). Lines in flight
    /// may land in either file. If shards write themselves, each output is reopened with its next
    /// batch.
    pub fn reopen(&self) {
        self.control.reopens_wanted.fetch_add(1, Ordering::Release);
        self.shared.writer.wake();
    }

    /// Reports that lines are dropped because an output is too slow, if that has begun or ended
    /// since the last call. The engine calls it once a second.
    pub fn report_slowness(&self) {
        if let Some(said) = self.slow_watch.borrow_mut().look(Instant::now()) {
            tracing::warn!("{said}");
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
    queue: Consumer<Batch>,
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
    shared: Arc<WriterLink>,
}

impl WriterThread {
    fn run(mut self) {
        // No shard may wait for a writer that has ended, even by a panic.
        let _closer = Closer { shared: self.shared.clone(), sleepers: self.sleepers() };
        loop {
            // Read before the queues, so that everything a sender handed over before it closed is
            // seen below.
            let closed = self.shared.senders_closed.load(Ordering::Acquire);
            self.writers.iter_mut().for_each(OutputWriter::idle);
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
                    || shared.senders_closed.load(Ordering::Relaxed) != closed
            });
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
                take(&mut self.receivers[output], APPEND_COUNT_MAX, &mut self.batches);
            }
            if !self.batches.is_empty() {
                is_any = true;
                self.writers[output].append(&mut self.batches);
                self.give_back();
            }
        }
        is_any
    }

    /// Takes one batch of each shard in turn, until the append is full or all queues are empty.
    fn take_in_turn(&mut self) {
        let mut empty_count = 0;
        while self.batches.len() < APPEND_COUNT_MAX && empty_count < self.receivers.len() {
            let is_taken = take(&mut self.receivers[self.next], 1, &mut self.batches);
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

/// Moves up to `count_max` batches from a shard's queue to `batches`. Returns whether there were
/// any.
fn take(receiver: &mut BatchReceiver, count_max: usize, batches: &mut Vec<Batch>) -> bool {
    let before = batches.len();
    while batches.len() - before < count_max {
        let Ok(batch) = receiver.queue.pop() else { break };
        batches.push(batch);
    }
    batches.len() > before
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
