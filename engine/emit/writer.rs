//! The one thread that writes. It takes batches from all shards in turn, appends them to its sinks,
//! gives the buffers back, and deals with what disks do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::config::{EmitConfig, Output};
use crate::emit::outlet::{Batch, Outlet, Policy, Shared, Sleeper};
use crate::emit::sink::{FileSink, Sink, SinkFault, StdoutSink};
use crate::ids::ShardId;

/// Batches of one append at most. More wait for the next one, so that their buffers come back soon.
const APPEND_COUNT_MAX: usize = 32;

/// Why lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// An output could not be opened.
    #[error("{}", cannot_open(path, source))]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output could not be used.
    #[error("cannot use standard output: {0}")]
    Stdout(#[source] io::Error),
    /// An output could not be written, and the run does not go on without ([`Policy::Wait`]).
    #[error("cannot write {name}: {}", why(source))]
    Write {
        /// Which.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The writer thread could not be started.
    #[error("cannot start a thread: {0}; is there a limit on processes (ulimit -u)?")]
    Thread(#[source] io::Error),
    /// The writer thread panicked; lines may be missing.
    #[error("the writer thread panicked")]
    Panicked,
}

impl WriterError {
    /// Whether more privileges would help: exit code 3.
    pub fn is_permission(&self) -> bool {
        matches!(self, WriterError::Open { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Why an output cannot be opened, and what to do.
fn cannot_open(path: &Path, error: &io::Error) -> String {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (path, directory) = (path.display(), directory.display());
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("cannot write {path}: there is no directory {directory}; make it first")
        }
        io::ErrorKind::NotADirectory => {
            format!("cannot write {path}: {directory} is no directory; name another place")
        }
        io::ErrorKind::IsADirectory => {
            format!("{path} is a directory; name a file in it, such as {path}/http.jsonl")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{path}: this user may not write there; name a file elsewhere")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{path} is on a read-only file system; name a file elsewhere")
        }
        _ => format!("cannot write {path}: {}; name another file", why(error)),
    }
}

/// What the system said, in words where it has common causes.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full; make room for it".into(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up; make room for it".into(),
        io::ErrorKind::FileTooLarge => {
            "the file is as large as it may be (ulimit -f); name another".into()
        }
        _ => error.to_string(),
    }
}

/// What the writer did. `lines_written + lines_lost` are all lines that outlets handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct WriterStats {
    /// Bytes of the lines that were written.
    pub bytes_written: u64,
    /// Lines written.
    pub lines_written: u64,
    /// Lines that could not be written: the disk was full or failed, or the reader had gone.
    pub lines_lost: u64,
    /// Appends that came from the outlets and were tried.
    pub appends: u64,
    /// Appends that failed.
    pub write_errors: u64,
    /// Times writing began to fail after it had gone well; each is said once.
    pub faults: u64,
    /// Times the outputs were reopened.
    pub reopens: u64,
}

/// [`WriterStats`], to be read while the writer runs. Only the writer adds.
#[derive(Debug, Default)]
struct Counters {
    bytes_written: AtomicU64,
    lines_written: AtomicU64,
    lines_lost: AtomicU64,
    appends: AtomicU64,
    write_errors: AtomicU64,
    faults: AtomicU64,
    reopens: AtomicU64,
}

impl Counters {
    fn snapshot(&self) -> WriterStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriterStats {
            bytes_written: read(&self.bytes_written),
            lines_written: read(&self.lines_written),
            lines_lost: read(&self.lines_lost),
            appends: read(&self.appends),
            write_errors: read(&self.write_errors),
            faults: read(&self.faults),
            reopens: read(&self.reopens),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Bounds of the way from outlets to writer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes at which a batch is handed over.
    pub batch_bytes: usize,
    /// Batches of one shard that may wait for the writer.
    pub batch_count_max: usize,
    /// Bytes of one line, for the room a buffer keeps.
    pub line_bytes_max: usize,
}

impl From<&EmitConfig> for Limits {
    fn from(config: &EmitConfig) -> Limits {
        Limits {
            batch_bytes: config.batch_bytes,
            batch_count_max: config.batch_count_max,
            line_bytes_max: config.line_bytes_max,
        }
    }
}

/// The outputs of a run, open: standard output, or what [`output_paths`] names.
///
/// A run that waits for its writer gains nothing by a ring: the kernel hands each write to a file
/// to a thread of its own, which costs more than the system call.
pub fn open_sinks(
    config: &EmitConfig,
    shard_count: u16,
    policy: Policy,
) -> Result<Vec<Box<dyn Sink>>, WriterError> {
    let open_file = match policy {
        Policy::Drop => FileSink::open,
        Policy::Wait => FileSink::open_plain,
    };
    let open = |path: PathBuf| match open_file(&path) {
        Ok(sink) => Ok(Box::new(sink) as Box<dyn Sink>),
        Err(source) => Err(WriterError::Open { path, source }),
    };
    match &config.output {
        Output::Stdout => {
            Ok(vec![Box::new(StdoutSink::new().map_err(WriterError::Stdout)?) as Box<dyn Sink>])
        }
        Output::File(_) => output_paths(config, shard_count).into_iter().map(open).collect(),
    }
}

/// The files a run writes: none, one, or one for each shard where `is_per_shard` is set.
pub fn output_paths(config: &EmitConfig, shard_count: u16) -> Vec<PathBuf> {
    match &config.output {
        Output::Stdout => Vec::new(),
        Output::File(path) if config.is_per_shard => {
            (0..shard_count).map(|shard| shard_path(path, shard)).collect()
        }
        Output::File(path) => vec![path.clone()],
    }
}

/// `http.jsonl` → `http.0.jsonl`: the number stands before the extension, where log rotation does
/// not put one of its own.
fn shard_path(path: &Path, shard: u16) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{shard}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The writer thread, seen from the engine.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
    control: Arc<Control>,
}

/// What engine and writer tell each other.
#[derive(Debug, Default)]
struct Control {
    counters: Counters,
    is_reopen_wanted: AtomicBool,
    error: Mutex<Option<WriterError>>,
}

impl Writer {
    /// Starts the thread, with one outlet for each shard, in order. `sinks` are one for all shards
    /// or one for each.
    pub fn start(
        sinks: Vec<Box<dyn Sink>>,
        shard_count: u16,
        limits: Limits,
        policy: Policy,
    ) -> Result<(Vec<Outlet>, Writer), WriterError> {
        assert!(sinks.len() == 1 || sinks.len() == usize::from(shard_count));
        let shared = Arc::new(Shared::default());
        let control = Arc::new(Control::default());
        let (outlets, inlets) =
            (0..shard_count).map(|shard| connect(ShardId(shard), limits, policy, &shared)).unzip();
        let writing = Writing {
            inlets,
            outputs: sinks.into_iter().map(|sink| SinkState { sink, is_faulty: false }).collect(),
            batches: Vec::with_capacity(APPEND_COUNT_MAX),
            policy,
            next: 0,
            shared: shared.clone(),
            control: control.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || writing.run())
            .map_err(WriterError::Thread)?;
        Ok((outlets, Writer { thread, shared, control }))
    }

    /// Asks for the outputs to be opened anew (SIGHUP, after the file was renamed). Lines that are
    /// under way may land in either.
    pub fn reopen(&self) {
        self.control.is_reopen_wanted.store(true, Ordering::Release);
        self.shared.writer.wake();
    }

    /// What was done so far.
    pub fn stats(&self) -> WriterStats {
        self.control.counters.snapshot()
    }

    /// Whether lines are no longer written: the reader of standard output has gone, or, with
    /// [`Policy::Wait`], an output failed ([`Writer::finish`] tells).
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Relaxed)
    }

    /// Waits until all outlets are closed and all lines are written or lost. A reader that has gone
    /// is no error.
    pub fn finish(self) -> (WriterStats, Result<(), WriterError>) {
        let result = match self.thread.join() {
            Ok(()) => {
                let error = self.control.error.lock();
                error.unwrap_or_else(|poisoned| poisoned.into_inner()).take().map_or(Ok(()), Err)
            }
            Err(_) => Err(WriterError::Panicked),
        };
        (self.control.counters.snapshot(), result)
    }
}

/// The writer's end of one shard's queues.
struct Inlet {
    queue: Consumer<Batch>,
    spares: Producer<Vec<u8>>,
    seat: Arc<Sleeper>,
}

fn connect(
    shard: ShardId,
    limits: Limits,
    policy: Policy,
    shared: &Arc<Shared>,
) -> (Outlet, Inlet) {
    let batch_count_max = limits.batch_count_max.max(1);
    let (producer, queue) = RingBuffer::new(batch_count_max);
    // All buffers of a shard: those in the queue, those being written, and the one in hand.
    let (spares, spare_consumer) = RingBuffer::new(batch_count_max + APPEND_COUNT_MAX + 1);
    let seat = Arc::new(Sleeper::default());
    let mut outlet = Outlet {
        shard,
        policy,
        batch_bytes: limits.batch_bytes,
        line_bytes_max: limits.line_bytes_max,
        queue: producer,
        spares: spare_consumer,
        shared: shared.clone(),
        seat: seat.clone(),
        buffer: Vec::new(),
        line_count: 0,
    };
    outlet.buffer = outlet.empty_buffer();
    (outlet, Inlet { queue, spares, seat })
}

/// A sink, and whether its last append failed.
struct SinkState {
    sink: Box<dyn Sink>,
    is_faulty: bool,
}

/// All that the thread owns.
struct Writing {
    inlets: Vec<Inlet>,
    outputs: Vec<SinkState>,
    /// Of one append.
    batches: Vec<Batch>,
    policy: Policy,
    /// The shard whose turn it is.
    next: usize,
    shared: Arc<Shared>,
    control: Arc<Control>,
}

impl Writing {
    fn run(mut self) {
        // However this ends, even by a panic, no shard may wait for a writer that is gone.
        let _closer = Closer { shared: self.shared.clone(), seats: self.seats() };
        loop {
            // Read before the queues are: what an outlet handed over before it closed is seen
            // below.
            let closed = self.shared.outlets_closed.load(Ordering::Acquire);
            self.reopen_if_wanted();
            if self.round() {
                continue;
            }
            if closed == self.inlets.len() {
                return;
            }
            let (inlets, control, shared) = (&self.inlets, &self.control, &self.shared);
            shared.writer.sleep_unless(|| {
                inlets.iter().any(|inlet| !inlet.queue.is_empty())
                    || control.is_reopen_wanted.load(Ordering::Relaxed)
                    || shared.outlets_closed.load(Ordering::Relaxed) != closed
            });
        }
    }

    fn seats(&self) -> Vec<Arc<Sleeper>> {
        self.inlets.iter().map(|inlet| inlet.seat.clone()).collect()
    }

    /// One append to each output that has batches; whether there were any.
    fn round(&mut self) -> bool {
        let mut is_any = false;
        for output in 0..self.outputs.len() {
            if self.outputs.len() == 1 {
                self.take_in_turn();
            } else {
                take(&mut self.inlets[output], APPEND_COUNT_MAX, &mut self.batches);
            }
            if !self.batches.is_empty() {
                is_any = true;
                self.append(output);
                self.give_back();
            }
        }
        is_any
    }

    /// Takes one batch of each shard, and again, until the append is full or all queues are empty.
    fn take_in_turn(&mut self) {
        let mut empty_count = 0;
        while self.batches.len() < APPEND_COUNT_MAX && empty_count < self.inlets.len() {
            let is_taken = take(&mut self.inlets[self.next], 1, &mut self.batches);
            empty_count = if is_taken { 0 } else { empty_count + 1 };
            self.next = (self.next + 1) % self.inlets.len();
        }
    }

    fn append(&mut self, output: usize) {
        let line_count: u64 = self.batches.iter().map(|batch| batch.line_count).sum();
        let byte_count: usize = self.batches.iter().map(|batch| batch.bytes.len()).sum();
        let counters = &self.control.counters;
        if self.shared.is_closed.load(Ordering::Relaxed) {
            return add(&counters.lines_lost, line_count);
        }
        add(&counters.appends, 1);
        let state = &mut self.outputs[output];
        match state.sink.append(&mut self.batches) {
            Ok(()) => {
                add(&counters.lines_written, line_count);
                add(&counters.bytes_written, byte_count as u64);
                if state.is_faulty {
                    state.is_faulty = false;
                    let lost = counters.lines_lost.load(Ordering::Relaxed);
                    let name = state.sink.name();
                    tracing::warn!("{name}: writing again; {lost} lines are lost so far");
                }
            }
            Err(fault) => {
                let lines_written = count_lines(&self.batches, fault.written_bytes).min(line_count);
                add(&counters.lines_written, lines_written);
                add(&counters.bytes_written, fault.written_bytes as u64);
                add(&counters.lines_lost, line_count - lines_written);
                self.fault(output, fault);
            }
        }
    }

    /// What follows from a fault: an orderly end, the end of the run, or a word and another try
    /// with the next batches.
    fn fault(&mut self, output: usize, fault: SinkFault) {
        let counters = &self.control.counters;
        add(&counters.write_errors, 1);
        let state = &mut self.outputs[output];
        if fault.error.kind() == io::ErrorKind::BrokenPipe {
            self.shared.is_closed.store(true, Ordering::Relaxed);
            return;
        }
        let name = state.sink.name();
        if self.policy == Policy::Wait {
            let error = WriterError::Write { name, source: fault.error };
            *self.control.error.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                Some(error);
            self.shared.is_closed.store(true, Ordering::Relaxed);
        } else if !state.is_faulty {
            state.is_faulty = true;
            add(&counters.faults, 1);
            let error = fault.error;
            let why = why(&error);
            tracing::warn!("cannot write {name}: {why}; until then lines are lost and counted");
        }
    }

    /// Returns the buffers of the last append to their shards, and wakes those that wait for room.
    fn give_back(&mut self) {
        for batch in self.batches.drain(..) {
            let Some(inlet) = self.inlets.get_mut(usize::from(batch.shard.0)) else { continue };
            let mut buffer = batch.bytes;
            buffer.clear();
            // The queue has room for every buffer there is; a buffer too many would just be freed.
            let _ = inlet.spares.push(buffer);
            inlet.seat.wake();
        }
    }

    fn reopen_if_wanted(&mut self) {
        if !self.control.is_reopen_wanted.load(Ordering::Relaxed)
            || !self.control.is_reopen_wanted.swap(false, Ordering::Acquire)
        {
            return;
        }
        for state in &mut self.outputs {
            match state.sink.reopen() {
                Ok(()) => add(&self.control.counters.reopens, 1),
                Err(error) => {
                    let name = state.sink.name();
                    tracing::warn!("cannot reopen {name}: {error}; going on with the old file");
                }
            }
        }
    }
}

/// Moves up to `count_max` batches from a shard's queue to `batches`; whether there were any.
fn take(inlet: &mut Inlet, count_max: usize, batches: &mut Vec<Batch>) -> bool {
    let before = batches.len();
    while batches.len() - before < count_max {
        let Ok(batch) = inlet.queue.pop() else { break };
        batches.push(batch);
    }
    batches.len() > before
}

/// Line feeds in the first `bytes` of `batches`.
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

/// Lets the shards go when the writer ends.
struct Closer {
    shared: Arc<Shared>,
    seats: Vec<Arc<Sleeper>>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        for seat in &self.seats {
            seat.wake();
        }
    }
}

#[cfg(test)]
mod tests;
