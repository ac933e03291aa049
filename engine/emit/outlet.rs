//! One shard's end of the way to the writer: lines gather in a buffer, and a full buffer is handed
//! over. Where the shard may not wait, it goes through a bounded queue to the writer's thread, and
//! an empty one comes back through another; where it may, the shard writes it itself. In the steady
//! state nothing is allocated either way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, PushError};

use crate::emit::desk::Desk;
use crate::emit::writer::Limits;
use crate::ids::ShardId;
use crate::stats::EmitStats;

/// What an outlet does where the writer is behind and the queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Drops the batch and counts its lines; never waits (live capture). A thread of its own
    /// writes.
    Drop,
    /// Waits until the batch is written (file input), and so may write it itself: what was just
    /// made is in its CPU's caches, and not in those of the writer's.
    Wait,
}

/// Whole lines of one shard.
#[derive(Debug)]
pub struct Batch {
    /// The lines, each with its line feed.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub line_count: u64,
    /// Whose they are.
    pub shard: ShardId,
}

/// At most so long a thread sleeps before it looks again. Whoever has news wakes it; this is the
/// net beneath.
pub(super) const PARK: Duration = Duration::from_millis(100);

/// At the end of a live run an outlet waits at most so long for room for its last batch.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// A thread that sleeps until there is something for it to do.
///
/// The sleeper says that it sleeps, then looks once more; the waker makes its news, then looks
/// whether somebody sleeps. The fences order each pair, so at least one sees the other.
#[derive(Debug, Default)]
pub(super) struct Sleeper {
    is_asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Sleeper {
    /// Sleeps at most `PARK`, unless `has_news`.
    pub(super) fn sleep_unless(&self, has_news: impl FnOnce() -> bool) {
        *self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some(thread::current());
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_news() {
            thread::park_timeout(PARK);
        }
        self.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps; costs a fence and a load if it does not.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some(thread) = thread.as_ref() {
                thread.unpark();
            }
        }
    }
}

/// What outlets and writer tell each other beside batches.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The writer, where it waits for batches.
    pub(super) writer: Sleeper,
    /// Nobody takes lines any more.
    pub(super) is_closed: AtomicBool,
    /// Outlets that will hand over nothing more.
    pub(super) outlets_closed: AtomicUsize,
}

/// The way of a shard's batches to the writer's thread.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) full: Producer<Batch>,
    pub(super) spares: Consumer<Vec<u8>>,
    /// This shard, where it waits for room.
    pub(super) seat: Arc<Sleeper>,
}

/// Where a full batch goes.
#[derive(Debug)]
pub(super) enum Way {
    /// To the writer's thread ([`Policy::Drop`]).
    Queue(Queue),
    /// Into the output, now ([`Policy::Wait`]).
    Desk(Arc<Mutex<Desk>>),
}

/// One shard's end. Its thread appends lines; nothing here is shared with other shards.
#[derive(Debug)]
pub struct Outlet {
    shard: ShardId,
    batch_bytes: usize,
    line_bytes_max: usize,
    way: Way,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    line_count: u64,
}

impl Outlet {
    pub(super) fn new(shard: ShardId, way: Way, limits: Limits, shared: Arc<Shared>) -> Outlet {
        let line_bytes_max = limits.line_bytes_max;
        let batch_bytes = match &way {
            Way::Queue(_) => limits.batch_bytes,
            Way::Desk(_) => limits.desk_batch_bytes,
        };
        let (buffer, line_count) = (Vec::new(), 0);
        let mut outlet =
            Outlet { shard, batch_bytes, line_bytes_max, way, shared, buffer, line_count };
        outlet.buffer = outlet.empty_buffer();
        outlet
    }

    /// Lets `append` add at most one whole line in place, counts it, and hands the batch over when
    /// it is full. This is what a [`Format`](crate::emit::Format) is called in.
    #[inline]
    pub fn line(&mut self, stats: &mut EmitStats, append: impl FnOnce(&mut Vec<u8>)) {
        let before = self.buffer.len();
        append(&mut self.buffer);
        let bytes = self.buffer.len().saturating_sub(before);
        if bytes == 0 {
            return;
        }
        debug_assert_eq!(self.buffer.last(), Some(&b'\n'));
        stats.lines += 1;
        stats.line_bytes += bytes as u64;
        self.line_count += 1;
        if self.buffer.len() >= self.batch_bytes {
            self.hand_over(stats);
        }
    }

    /// Hands over what is there. With [`Policy::Drop`] and a full queue the lines stay where they
    /// are, since the batch has room for more.
    pub fn flush(&mut self, stats: &mut EmitStats) {
        if self.line_count > 0 && !self.is_queue_full() {
            self.hand_over(stats);
        }
    }

    /// Hands over the last lines and ends. With [`Policy::Drop`] it waits up to 5 s for room, since
    /// nothing is captured any more. An outlet that is only dropped loses the lines that were not
    /// flushed.
    pub fn close(mut self, stats: &mut EmitStats) {
        let until = Instant::now() + CLOSE_WAIT;
        while let Way::Queue(queue) = &self.way
            && queue.full.is_full()
            && !self.is_closed()
            && Instant::now() < until
        {
            queue.seat.sleep_unless(|| !queue.full.is_full() || self.is_closed());
        }
        if self.line_count > 0 {
            self.hand_over(stats);
        }
    }

    /// Whether nobody takes lines any more: the reader of standard output has gone, or a file could
    /// not be written and the run waits for the writer. Lines are dropped and counted from then on;
    /// the shard may as well stop.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Relaxed)
    }

    /// Whose outlet it is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    fn is_queue_full(&self) -> bool {
        matches!(&self.way, Way::Queue(queue) if queue.full.is_full())
    }

    #[cold]
    fn hand_over(&mut self, stats: &mut EmitStats) {
        let bytes = std::mem::take(&mut self.buffer);
        let line_count = std::mem::take(&mut self.line_count);
        let mut batch = Batch { bytes, line_count, shard: self.shard };
        let is_closed = self.is_closed();
        match &mut self.way {
            Way::Desk(desk) => {
                let batches = std::slice::from_mut(&mut batch);
                desk.lock().unwrap_or_else(PoisonError::into_inner).append(batches);
            }
            Way::Queue(queue) => {
                let pushed = if is_closed { Err(batch) } else { queue.push(batch) };
                let Err(dropped) = pushed else {
                    self.shared.writer.wake();
                    self.buffer = queue.spares.pop().unwrap_or_else(|_| self.empty_buffer());
                    return;
                };
                batch = dropped;
                stats.lines_dropped += batch.line_count;
                stats.batches_dropped += 1;
            }
        }
        self.buffer = batch.bytes;
        self.buffer.clear();
    }

    /// A batch grows past `batch_bytes` by less than one line, and a format may reserve one more.
    fn empty_buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.batch_bytes + 2 * self.line_bytes_max)
    }
}

impl Queue {
    fn push(&mut self, batch: Batch) -> Result<(), Batch> {
        self.full.push(batch).map_err(|PushError::Full(batch)| batch)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.outlets_closed.fetch_add(1, Ordering::Release);
        self.shared.writer.wake();
    }
}
