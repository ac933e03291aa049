//! A shard's end of the path to the writer. Lines gather in a buffer, and a full buffer is handed
//! over. If the shard must not wait, the buffer goes through a bounded queue to the writer's
//! thread, and an empty one comes back through another queue. If it may wait, the shard writes the
//! buffer itself. In the steady state neither route allocates.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rtrb::{Consumer, Producer, PushError};

use crate::ids::ShardId;
#[cfg(doc)]
use crate::output::batch::Policy;
use crate::output::batch::{Batch, Limits};
use crate::output::output_writer::OutputWriter;
use crate::output::shared::{Sleeper, WriterLink};
use crate::output::slow_watch::Dropped;
use crate::stats::EmitStats;
use crate::sys::mmap::leave_out_of_core_files;

/// The queues between a shard and the writer's thread.
#[derive(Debug)]
pub(super) struct Queue {
    /// Batches, and when each was handed over.
    pub(super) full: Producer<(Instant, Batch)>,
    pub(super) spares: Consumer<Vec<u8>>,
    /// Wakes this shard when it waits for space.
    pub(super) sleeper: Arc<Sleeper>,
    /// What was dropped because the queue was full.
    pub(super) dropped: Arc<Dropped>,
}

/// Where a full batch goes.
#[derive(Debug)]
pub(super) enum Route {
    /// To the writer's thread ([`Policy::Drop`]).
    Queue(Queue),
    /// Directly into the output ([`Policy::Wait`]).
    Direct(Arc<Mutex<OutputWriter>>),
}

/// Sends the lines of one shard to the writer. The shard's thread appends lines; nothing here is
/// shared with other shards.
#[derive(Debug)]
pub struct BatchSender {
    shard: ShardId,
    batch_bytes: usize,
    line_bytes_max: usize,
    route: Route,
    shared: Arc<WriterLink>,
    buffer: Vec<u8>,
    line_count: u64,
    /// Lines were dropped, and the queue has not been half empty since.
    is_dropping: bool,
}

impl BatchSender {
    pub(super) fn new(
        shard: ShardId,
        route: Route,
        limits: Limits,
        shared: Arc<WriterLink>,
    ) -> BatchSender {
        let line_bytes_max = limits.line_bytes_max;
        let batch_bytes = match &route {
            Route::Queue(_) => limits.batch_bytes,
            Route::Direct(_) => limits.direct_batch_bytes,
        };
        let mut sender = BatchSender {
            shard,
            batch_bytes,
            line_bytes_max,
            route,
            shared,
            buffer: Vec::new(),
            line_count: 0,
            is_dropping: false,
        };
        sender.buffer = sender.empty_buffer();
        sender
    }

    /// Lets `append` add at most one whole line in place, counts it, and hands the batch over when
    /// it is full. A [`Format`](crate::record::Format) is called here.
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
            self.hand_over_full(before, stats);
        }
    }

    /// Hands over a full buffer whose last line begins at `last`. If that line made the buffer
    /// grow, as a long line of text may, it gets a buffer of its own: no batch takes more than is
    /// counted for it.
    #[cold]
    fn hand_over_full(&mut self, last: usize, stats: &mut EmitStats) {
        if self.buffer.capacity() > self.buffer_bytes() && self.line_count > 1 {
            let line = self.buffer.split_off(last);
            self.buffer.shrink_to(self.buffer_bytes());
            self.line_count -= 1;
            self.hand_over(stats);
            self.buffer.extend_from_slice(&line);
            self.line_count = 1;
        }
        self.hand_over(stats);
    }

    /// Whether the writer is behind: more than half of the queue is full.
    pub fn is_behind(&self) -> bool {
        matches!(&self.route, Route::Queue(queue)
            if 2 * queue.full.slots() < queue.full.buffer().capacity())
    }

    /// Batches that wait for the writer.
    pub fn queued_batches(&self) -> u64 {
        match &self.route {
            Route::Queue(queue) => (queue.full.buffer().capacity() - queue.full.slots()) as u64,
            Route::Direct(_) => 0,
        }
    }

    /// Counts a line that is dropped instead of being formatted.
    pub fn drop_line(&mut self, stats: &mut EmitStats) {
        stats.lines += 1;
        self.count_dropped(1, stats);
    }

    fn count_dropped(&mut self, lines: u64, stats: &mut EmitStats) {
        stats.lines_dropped += lines;
        if let Route::Queue(queue) = &self.route {
            self.is_dropping = true;
            queue.dropped.lines.store(stats.lines_dropped, Ordering::Relaxed);
        }
    }

    /// Hands over the lines that are there. If the writer is behind, they stay in the buffer, which
    /// has space for more: the rest of the queue is for full batches.
    pub fn flush(&mut self, stats: &mut EmitStats) {
        if self.line_count > 0 && !self.is_behind() {
            self.hand_over(stats);
        }
    }

    /// Hands over the last lines and ends. With [`Policy::Drop`] it waits for space, since nothing
    /// is captured any more. A sender that is only dropped loses the lines that were not flushed.
    pub fn close(mut self, stats: &mut EmitStats) {
        // If the shard panicked, it did so perhaps within a line.
        let whole = memchr::memrchr(b'\n', &self.buffer).map_or(0, |at| at + 1);
        self.buffer.truncate(whole);
        let is_slow = self.is_dropping && self.is_behind();
        while let Route::Queue(queue) = &self.route
            && queue.full.is_full()
            && !self.is_closed()
        {
            queue.sleeper.sleep_unless(|| !queue.full.is_full() || self.is_closed());
        }
        if self.line_count > 0 {
            self.hand_over(stats);
        }
        if let Route::Queue(queue) = &self.route {
            let is_until_the_end = is_slow && !self.is_closed();
            queue.dropped.is_until_the_end.store(is_until_the_end, Ordering::Relaxed);
        }
    }

    /// Whether lines are no longer written: the reader of standard output has gone, or a file could
    /// not be written and the run waits for the writer. From then on lines are dropped and counted;
    /// the shard may as well stop.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Relaxed)
    }

    /// The shard of this sender.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    #[cold]
    fn hand_over(&mut self, stats: &mut EmitStats) {
        let bytes = std::mem::take(&mut self.buffer);
        let line_count = std::mem::take(&mut self.line_count);
        let mut batch = Batch { bytes, line_count, shard: self.shard };
        let is_closed = self.is_closed();
        match &mut self.route {
            Route::Direct(writer) => {
                let batches = std::slice::from_mut(&mut batch);
                writer.lock().unwrap_or_else(PoisonError::into_inner).append(batches);
            }
            Route::Queue(queue) => {
                let pushed = if is_closed { Err(batch) } else { queue.push(batch) };
                let Err(dropped) = pushed else {
                    self.shared.writer.wake();
                    self.buffer = queue.spares.pop().unwrap_or_else(|_| self.empty_buffer());
                    self.is_dropping &= self.is_behind();
                    return;
                };
                batch = dropped;
                stats.batches_dropped += 1;
                // If the reader has gone, that is no news.
                match is_closed {
                    true => {
                        stats.lines_dropped += batch.line_count;
                        stats.lines_dropped_closed += batch.line_count;
                    }
                    false => self.count_dropped(batch.line_count, stats),
                }
            }
        }
        self.buffer = batch.bytes;
        self.buffer.clear();
    }

    /// A batch exceeds `batch_bytes` by less than one line, and a format may reserve one more.
    fn buffer_bytes(&self) -> usize {
        self.batch_bytes + 2 * self.line_bytes_max
    }

    fn empty_buffer(&self) -> Vec<u8> {
        let buffer = Vec::with_capacity(self.buffer_bytes());
        leave_out_of_core_files(&buffer);
        buffer
    }
}

impl Queue {
    fn push(&mut self, batch: Batch) -> Result<(), Batch> {
        self.full.push((Instant::now(), batch)).map_err(|PushError::Full((_, batch))| batch)
    }
}

impl Drop for BatchSender {
    fn drop(&mut self) {
        self.shared.senders_closed.fetch_add(1, Ordering::Release);
        self.shared.writer.wake();
    }
}
