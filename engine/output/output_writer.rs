//! Appends batches to an output, and decides what follows when that fails. The writer's thread owns
//! it, or shards that may wait use it one at a time.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::output::batch::{Batch, Policy};
use crate::output::descriptor::is_given_up;
use crate::output::error::{LossCause, WriterError, why};
use crate::output::files::{FileStats, add};
use crate::output::shared::WriterLink;
use crate::output::sink::{Sink, SinkFault};

/// Counters of the writer. `lines_written + lines_lost` are all lines that senders handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct WriterStats {
    /// Bytes of the lines that were written.
    pub bytes_written: u64,
    /// Lines written.
    pub lines_written: u64,
    /// Lines that could not be written: the disk was full or failed, or the reader had gone.
    pub lines_lost: u64,
    /// Those of them that were lost because the disk or the quota was full, or the file had reached
    /// the size limit.
    pub lines_lost_disk_full: u64,
    /// Those of them that were lost because the reader had gone, or was too slow at the end.
    pub lines_lost_reader_gone: u64,
    /// Those of them that were lost for another reason.
    pub lines_lost_write_error: u64,
    /// Appends that were tried.
    pub appends: u64,
    /// Appends that failed.
    pub write_errors: u64,
    /// Times writing began to fail after it had succeeded; each is reported once.
    pub faults: u64,
    /// Times the outputs were reopened.
    pub reopens: u64,
    /// What became of files that were closed.
    pub files: FileStats,
}

/// [`WriterStats`] that can be read while the writer runs. Only the writer adds to them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    bytes_written: AtomicU64,
    lines_written: AtomicU64,
    lines_lost: AtomicU64,
    lines_lost_disk_full: AtomicU64,
    lines_lost_reader_gone: AtomicU64,
    lines_lost_write_error: AtomicU64,
    appends: AtomicU64,
    write_errors: AtomicU64,
    faults: AtomicU64,
    reopens: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> WriterStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriterStats {
            bytes_written: read(&self.bytes_written),
            lines_written: read(&self.lines_written),
            lines_lost: read(&self.lines_lost),
            lines_lost_disk_full: read(&self.lines_lost_disk_full),
            lines_lost_reader_gone: read(&self.lines_lost_reader_gone),
            lines_lost_write_error: read(&self.lines_lost_write_error),
            appends: read(&self.appends),
            write_errors: read(&self.write_errors),
            faults: read(&self.faults),
            reopens: read(&self.reopens),
            files: FileStats::default(),
        }
    }

    fn lose(&self, line_count: u64, cause: LossCause) {
        add(&self.lines_lost, line_count);
        let by_cause = match cause {
            LossCause::DiskFull => &self.lines_lost_disk_full,
            LossCause::ReaderGone => &self.lines_lost_reader_gone,
            LossCause::WriteError => &self.lines_lost_write_error,
        };
        add(by_cause, line_count);
    }
}

/// State shared by engine and writer.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) counters: Counters,
    /// How often a reopening of the outputs was requested.
    pub(super) reopens_wanted: AtomicU64,
    /// How many of these were carried out, all outputs together.
    pub(super) reopens_done: AtomicU64,
    /// CPU time of the writer's thread, once it has ended.
    pub(super) cpu_ns: AtomicU64,
    /// Outputs that cannot be written now.
    pub(super) failing_count: AtomicUsize,
    /// When the oldest line that is being written was handed over, in nanoseconds since `epoch`,
    /// and one more; 0 if none is.
    oldest_ns: AtomicU64,
    epoch: Epoch,
    /// Why lines are no longer written.
    closed_by: OnceLock<LossCause>,
    error: Mutex<Option<WriterError>>,
}

/// When the run's writer was made.
#[derive(Debug)]
struct Epoch(Instant);

impl Default for Epoch {
    fn default() -> Epoch {
        Epoch(Instant::now())
    }
}

impl Control {
    /// The lines that are written now were handed over at this time or later.
    pub(super) fn set_oldest(&self, oldest: Option<Instant>) {
        let since = |at: Instant| at.saturating_duration_since(self.epoch.0).as_nanos() as u64 + 1;
        self.oldest_ns.store(oldest.map_or(0, since), Ordering::Relaxed);
    }

    /// The age of the oldest line that is being written; zero if none is.
    pub(super) fn lag(&self) -> Duration {
        match self.oldest_ns.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.epoch.0.elapsed().saturating_sub(Duration::from_nanos(since)),
        }
    }

    /// Keeps the first error of a run.
    fn set_error(&self, error: WriterError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub(super) fn take_error(&self) -> Option<WriterError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One output of a run.
pub(super) struct OutputWriter {
    sink: Box<dyn Sink>,
    /// Why the last append failed, if it did.
    fault: Option<io::Error>,
    /// The number of reopenings requested, as of the last one that was carried out.
    reopens: u64,
    policy: Policy,
    shared: Arc<WriterLink>,
    control: Arc<Control>,
}

impl std::fmt::Debug for OutputWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputWriter").field("sink", &self.sink.name()).finish_non_exhaustive()
    }
}

impl OutputWriter {
    pub(super) fn new(
        sink: Box<dyn Sink>,
        policy: Policy,
        shared: Arc<WriterLink>,
        control: Arc<Control>,
    ) -> OutputWriter {
        OutputWriter { sink, fault: None, reopens: 0, policy, shared, control }
    }

    /// Appends batches, which are the same afterwards, and counts the outcome of their lines.
    pub(super) fn append(&mut self, batches: &mut [Batch]) {
        self.reopen_if_wanted();
        let mut rest = batches;
        while !rest.is_empty() {
            let is_closed = self.shared.is_closed.load(Ordering::Relaxed);
            let count = if is_closed { rest.len() } else { self.sink.make_room(rest) };
            let (fitting, others) = rest.split_at_mut(count.clamp(1, rest.len()));
            self.append_to_one_file(fitting);
            rest = others;
        }
    }

    fn append_to_one_file(&mut self, batches: &mut [Batch]) {
        let line_count: u64 = batches.iter().map(|batch| batch.line_count).sum();
        let byte_count: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        let counters = &self.control.counters;
        if self.shared.is_closed.load(Ordering::Relaxed) {
            let cause = self.control.closed_by.get().copied();
            return counters.lose(line_count, cause.unwrap_or(LossCause::ReaderGone));
        }
        add(&counters.appends, 1);
        match self.sink.append(batches) {
            Ok(()) => {
                add(&counters.lines_written, line_count);
                add(&counters.bytes_written, byte_count as u64);
                if self.fault.take().is_some() {
                    self.control.failing_count.fetch_sub(1, Ordering::Relaxed);
                    let lost = counters.lines_lost.load(Ordering::Relaxed);
                    let name = self.sink.name();
                    tracing::warn!("{name}: writing again; {lost} lines were lost so far");
                }
            }
            Err(fault) => {
                let lines_written = count_lines(batches, fault.written_bytes).min(line_count);
                add(&counters.lines_written, lines_written);
                add(&counters.bytes_written, fault.written_bytes as u64);
                counters.lose(line_count - lines_written, LossCause::of(&fault.error));
                self.fault(fault);
            }
        }
    }

    /// Handles a fault: a clean end, the end of the run with an error, or a warning and another try
    /// with the next batches.
    fn fault(&mut self, fault: SinkFault) {
        let counters = &self.control.counters;
        add(&counters.write_errors, 1);
        let cause = LossCause::of(&fault.error);
        if fault.error.kind() == io::ErrorKind::BrokenPipe {
            self.control.closed_by.get_or_init(|| cause);
            self.shared.is_closed.store(true, Ordering::Relaxed);
            return;
        }
        let (name, error) = (self.sink.name(), fault.error);
        if self.policy == Policy::Wait {
            self.control.set_error(WriterError::Write { name, source: error });
            self.control.closed_by.get_or_init(|| cause);
            self.shared.is_closed.store(true, Ordering::Relaxed);
            return;
        }
        if self.fault.is_none() {
            add(&counters.faults, 1);
            self.control.failing_count.fetch_add(1, Ordering::Relaxed);
        }
        // What is given up ends the run, which then says so.
        if self.fault.is_none() && !is_given_up(&error) {
            let why = why(&error);
            tracing::warn!("cannot write {name}: {why}; until then lines are dropped and counted");
        }
        self.fault = Some(error);
    }

    /// Whether a reopening of the output was requested.
    pub(super) fn is_reopen_wanted(&self) -> bool {
        self.reopens != self.control.reopens_wanted.load(Ordering::Relaxed)
    }

    /// Does what there is to do without new lines.
    pub(super) fn idle(&mut self) {
        self.reopen_if_wanted();
        self.sink.idle();
    }

    /// Reopens the output, if that was requested.
    fn reopen_if_wanted(&mut self) {
        if !self.is_reopen_wanted() {
            return;
        }
        let before = self.reopens;
        self.reopens = self.control.reopens_wanted.load(Ordering::Acquire);
        let reopened = self.sink.reopen();
        self.control.reopens_done.fetch_add(self.reopens - before, Ordering::Release);
        match reopened {
            Ok(()) => add(&self.control.counters.reopens, 1),
            Err(error) => {
                let name = self.sink.name();
                tracing::warn!("cannot reopen {name}: {error}; continuing with the old file");
            }
        }
    }
}

impl Drop for OutputWriter {
    /// The end of the run.
    fn drop(&mut self) {
        let counters = &self.control.counters;
        if let Err(error) = self.sink.finish() {
            // Its line had been counted in advance.
            counters.lines_written.fetch_sub(1, Ordering::Relaxed);
            counters.lose(1, LossCause::of(&error));
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.fault.get_or_insert(error);
            }
        }
        if let Some(source) = self.fault.take() {
            self.control.set_error(WriterError::LostUntilTheEnd { name: self.sink.name(), source });
        }
    }
}

/// Counts the line feeds in the first `bytes` of `batches`.
fn count_lines(batches: &[Batch], bytes: usize) -> u64 {
    let mut left = bytes;
    let mut lines = 0;
    for batch in batches {
        let part = &batch.bytes[..batch.bytes.len().min(left)];
        lines += memchr::memchr_iter(b'\n', part).count() as u64;
        left -= part.len();
    }
    lines
}
