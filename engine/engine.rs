//! Open, pin, start together, drain, stop, join. The control plane: nothing here runs for a frame
//! or a line.

use crate::capture::live::{LiveCapture, LiveControl, LiveSource};
use crate::capture::pcap::open::{self as file, Progress};
use crate::capture::{self, FrameSource, SourceError, pcap};
use crate::config::{Config, ConfigError, Input, LineFormat, Output};
use crate::ids::{FlowHashKey, IfaceNames};
use crate::output::{
    BatchSender, Limits, Patience, Policy, Quota, RecordWriter, Writer, WriterError, open_sinks,
    output_paths,
};
use crate::pipeline::{Crossing, Part, Partition};
use crate::record::{Format, JsonFormat, TextFormat};
use crate::shard::{Shard, ShardStats, ShardView, StopSignal};
use crate::sys::{affinity, words_of};
use crate::totals::Totals;
use std::fs::{File, Metadata};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the engine moves a progress bar, and how long it waits for a shard's counters.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How often the engine looks at the interfaces and reads the kernel's counters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often it reads the counters of frames if connections are shed when frames were dropped.
const SHED_INTERVAL: Duration = Duration::from_millis(200);

/// How long frames that passed the filter may take to reach user space after the gate was closed.
/// They arrive within two retire timeouts; a machine that does not schedule us for seconds has
/// other problems.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// A command to a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Stop cleanly: drain, flush, add up.
    Stop,
    /// Report the totals so far ([`Notice::Report`]).
    Report,
    /// Reopen the output files.
    Reopen,
}

/// A notification from a run.
#[derive(Debug)]
pub enum Notice<'a> {
    /// The gate is open: from now on frames count.
    Capturing {
        /// The interfaces' names.
        interfaces: &'a [String],
        /// The number of shards.
        shard_count: u16,
    },
    /// Progress in a capture file.
    Progress(&'a Progress),
    /// The totals so far, requested by [`Command::Report`].
    Report(&'a Totals),
}

/// Why a run could not begin or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Input and output are the same file.
    #[error("the output is the input; name another file")]
    SameFile,
    /// The interfaces could not be opened.
    #[error(transparent)]
    Live(#[from] capture::live::LiveOpenError),
    /// The capture file could not be opened.
    #[error(transparent)]
    File(#[from] pcap::CaptureOpenError),
    /// The output could not be opened.
    #[error(transparent)]
    Output(#[from] WriterError),
    /// A thread could not be started.
    #[error(
        "cannot start a thread: {}; is there a limit on processes (ulimit -u, pids.max of a \
         container) or on the address space (ulimit -v)?",
        words_of(.0)
    )]
    Thread(std::io::Error),
}

/// How a run ended: its totals, and what went wrong. A capture that is cut off has both: the error,
/// and the totals of everything before.
#[derive(Debug)]
pub struct Ending {
    /// All counters.
    pub totals: Totals,
    /// The input failed.
    pub input_error: Option<SourceError>,
    /// The output failed.
    pub output_error: Option<WriterError>,
    /// A shard's thread panicked; its counters are missing.
    pub is_shard_lost: bool,
}

#[derive(Debug)]
enum Event {
    Command(Command),
    /// A shard needs no more lines.
    Enough,
    /// A shard's thread has ended.
    ShardEnded,
}

/// Sends commands to a run. It may be cloned into other threads.
#[derive(Clone, Debug)]
pub struct Handle {
    events: Sender<Event>,
    patience: Patience,
}

impl Handle {
    /// Sends a command. It has no effect once the run is over.
    pub fn send(&self, command: Command) {
        if command == Command::Stop {
            // Writers may be waiting for their readers.
            self.patience.limit();
        }
        let _ = self.events.send(Event::Command(command));
    }
}

/// The state that a shard publishes while it runs.
#[derive(Debug, Default)]
struct ShardStatus {
    frame_count: AtomicU64,
    is_wanted: AtomicBool,
    stats: Mutex<ShardStats>,
}

impl ShardStatus {
    fn show(&self, shard: &ShardView<'_>) {
        self.frame_count.store(shard.frame_count(), Ordering::Relaxed);
        if self.is_wanted.load(Ordering::Relaxed) {
            *self.stats.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = shard.stats();
            self.is_wanted.store(false, Ordering::Release);
        }
    }
}

type ShardResult = (ShardStats, Result<(), SourceError>);

/// A run that is open, but not started.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    names: IfaceNames,
    input: Opened,
    writer: Writer,
    senders: Vec<BatchSender>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    patience: Patience,
}

#[derive(Debug)]
enum Opened {
    Live { control: Box<LiveControl>, sources: Vec<LiveSource>, interfaces: Vec<String> },
    File(file::Capture),
}

impl Engine {
    /// Opens input and output. The output is touched only once the input is open.
    pub fn open(config: Config) -> Result<Engine, EngineError> {
        config.check()?;
        let names = IfaceNames::default();
        let shard_count = config.shard_count;
        let read_bytes = config.capture.read_bytes;
        let (input, policy) = match &config.input {
            Input::Live(interfaces) => {
                let (control, sources) = LiveCapture::open(
                    &config.capture,
                    &config.decode,
                    interfaces,
                    shard_count,
                    &names,
                )?;
                let (control, interfaces) = (Box::new(control), interfaces.clone());
                (Opened::Live { control, sources, interfaces }, Policy::Drop)
            }
            Input::Files(paths) => {
                for path in paths {
                    refuse_same_file(std::fs::metadata(path), &config)?;
                }
                let capture = file::open_files(paths, read_bytes, shard_count, &names)?;
                (Opened::File(capture), Policy::Wait)
            }
            Input::Stdin => {
                // A descriptor of its own, to bypass the buffer of `Stdin`.
                let input = "standard input";
                let stdin = duplicate(&std::io::stdin()).map_err(|source| {
                    pcap::CaptureOpenError::Read { input: input.into(), source }
                })?;
                refuse_same_file(stdin.metadata(), &config)?;
                let capture = file::open_stream(stdin, input, read_bytes, shard_count, &names)?;
                (Opened::File(capture), Policy::Wait)
            }
        };
        let patience = Patience::default();
        let outputs = open_sinks(&config.emit, shard_count, policy, &patience)?;
        let (senders, writer) =
            Writer::start_outputs(outputs, shard_count, Limits::from(&config.emit), policy)?;
        let (sender, events) = channel();
        Ok(Engine { config, names, input, writer, senders, events, sender, patience })
    }

    /// A handle that sends commands to the run from other threads.
    pub fn handle(&self) -> Handle {
        Handle { events: self.sender.clone(), patience: self.patience.clone() }
    }

    /// Runs to the end of the input, or until it is told to stop.
    pub fn run(self, notify: &mut dyn FnMut(Notice<'_>)) -> Result<Ending, EngineError> {
        let Engine { config, names, input, writer, senders, events, sender, .. } = self;
        let shards = Shards::new(&config, names, senders, sender);
        let begun = Instant::now();
        let is_shedding = config.capture.is_shedding;
        let look_interval = if is_shedding { SHED_INTERVAL } else { LOOK_INTERVAL };
        let run = Run { events, writer, begun, look_interval };
        match input {
            Opened::Live { control, sources, interfaces } => {
                let parts = control.fanout_key().map(|key| Part::all(config.shard_count, key));
                let bytes_max = config.decode.crossing_bytes_max;
                let crossings = Crossing::between(&parts.unwrap_or_default(), bytes_max);
                let shards = shards.start(sources, Vec::new(), crossings, true)?;
                control.open_gate();
                notify(Notice::Capturing {
                    interfaces: &interfaces,
                    shard_count: config.shard_count,
                });
                Ok(run.live(shards, *control, notify))
            }
            Opened::File(capture) => {
                let parts = match config.shard_count {
                    1 => Vec::new(),
                    count => Part::all(count, FlowHashKey::random()),
                };
                let shards = shards.start(capture.sources, parts, Vec::new(), false)?;
                Ok(run.file(shards, &capture.progress, notify))
            }
        }
    }
}

/// Refuses to read and append to the same file: the run would read its own output. Files are
/// compared by device and inode, not by name.
fn refuse_same_file(input: std::io::Result<Metadata>, config: &Config) -> Result<(), EngineError> {
    let Ok(input) = input else { return Ok(()) };
    let is_same = |output: Metadata| {
        input.is_file() && (input.dev(), input.ino()) == (output.dev(), output.ino())
    };
    let is_any = match &config.emit.output {
        Output::Stdout => {
            duplicate(&std::io::stdout()).and_then(|stdout| stdout.metadata()).is_ok_and(is_same)
        }
        Output::File(_) => output_paths(&config.emit, config.shard_count)
            .iter()
            .any(|path| std::fs::metadata(path).is_ok_and(is_same)),
    };
    if is_any {
        return Err(EngineError::SameFile);
    }
    Ok(())
}

/// Duplicates an open descriptor as a file of our own: the shell may have opened one for us.
fn duplicate(open: &impl AsFd) -> std::io::Result<File> {
    Ok(File::from(open.as_fd().try_clone_to_owned()?))
}

/// Shards that have not started.
struct Shards<'a> {
    config: &'a Config,
    names: IfaceNames,
    senders: Vec<BatchSender>,
    sender: Sender<Event>,
}

/// Shards that run.
struct Running {
    threads: Vec<JoinHandle<ShardResult>>,
    statuses: Vec<Arc<ShardStatus>>,
    stop: Arc<StopSignal>,
    sender: Sender<Event>,
}

impl<'a> Shards<'a> {
    fn new(
        config: &'a Config,
        names: IfaceNames,
        senders: Vec<BatchSender>,
        sender: Sender<Event>,
    ) -> Shards<'a> {
        Shards { config, names, senders, sender }
    }

    /// Starts a shard for each of `sources`, with its part of the flows if there are `parts`, and
    /// its end of the queues between shards if there are `crossings`.
    fn start<S: FrameSource + Send + 'static>(
        self,
        sources: Vec<S>,
        parts: Vec<Part>,
        crossings: Vec<Crossing>,
        is_pinned: bool,
    ) -> Result<Running, EngineError> {
        let cpus = if is_pinned { affinity::allowed_cpus() } else { Vec::new() };
        let quota = self.config.exchange_count_max.map(Quota::new);
        let is_prompt = !matches!(self.config.input, Input::Files(_));
        let stop = Arc::new(StopSignal::default());
        let mut running =
            Running { threads: Vec::new(), statuses: Vec::new(), stop, sender: self.sender };
        let mut crossings = crossings.into_iter();
        for (number, (source, sender)) in sources.into_iter().zip(self.senders).enumerate() {
            let format = line_format(self.config, &self.names);
            let records = RecordWriter::new(format, sender, quota.clone(), is_prompt)
                .with_selection(&self.config.emit.selection);
            let partition = parts.get(number).map_or(Partition::All, |part| Partition::Part(*part));
            let mut shard = Shard::new(self.config, source, partition, records);
            if let Some(crossing) = crossings.next() {
                shard = shard.with_crossing(crossing);
            }
            let cpu = cpus.get(number % cpus.len().max(1)).copied();
            if let Err(error) = running.spawn(number, shard, cpu) {
                // The threads that did start would run forever.
                running.stop.stop();
                return Err(error);
            }
        }
        Ok(running)
    }
}

fn line_format(config: &Config, names: &IfaceNames) -> Box<dyn Format + Send> {
    match config.emit.format {
        LineFormat::Json => Box::new(JsonFormat::new(&config.emit, names.clone())),
        LineFormat::Text { is_verbose } => {
            let is_terminal = match &config.emit.output {
                Output::Stdout => std::io::stdout().is_terminal(),
                Output::File(path) => is_terminal(path),
            };
            Box::new(TextFormat::new(&config.emit, is_verbose, is_terminal))
        }
    }
}

/// Whether a file is a terminal, as `/dev/tty` is, and `/dev/stdout` may be.
fn is_terminal(path: &Path) -> bool {
    // Nothing else is opened: of a pipe, that would be noticed at its other end.
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device())
        && File::options()
            .append(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .is_ok_and(|file| file.is_terminal())
}

impl Running {
    fn spawn<S: FrameSource + Send + 'static>(
        &mut self,
        number: usize,
        shard: Shard<S>,
        cpu: Option<affinity::CpuId>,
    ) -> Result<(), EngineError> {
        let status = Arc::new(ShardStatus::default());
        self.statuses.push(status.clone());
        let (stop, sender) = (self.stop.clone(), self.sender.clone());
        let body = move || {
            let _ended = SendOnDrop(sender.clone());
            if let Some(cpu) = cpu
                && !affinity::pin_to(cpu)
            {
                tracing::warn!(
                    "shard {number} cannot be pinned to CPU {}; it runs anywhere",
                    cpu.0
                );
            }
            let mut has_said_enough = false;
            shard.run(&stop, |view| {
                status.show(view);
                if !has_said_enough && view.is_enough() {
                    has_said_enough = true;
                    let _ = sender.send(Event::Enough);
                }
            })
        };
        let thread = std::thread::Builder::new().name(format!("shard-{number}")).spawn(body);
        self.threads.push(thread.map_err(EngineError::Thread)?);
        Ok(())
    }

    fn frame_count(&self) -> u64 {
        self.statuses.iter().map(|status| status.frame_count.load(Ordering::Relaxed)).sum()
    }

    fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Whether a shard's thread panicked. The frames in its rings will never be read.
    fn has_lost_one(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// The current counters of every shard that responds within a few polls.
    fn stats(&self) -> ShardStats {
        for status in &self.statuses {
            status.is_wanted.store(true, Ordering::Relaxed);
        }
        let until = Instant::now() + PROGRESS_INTERVAL;
        let is_open = |status: &Arc<ShardStatus>| status.is_wanted.load(Ordering::Acquire);
        while self.statuses.iter().any(is_open) && Instant::now() < until && !self.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut sum = ShardStats::default();
        for status in &self.statuses {
            sum.add(&status.stats.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
        sum
    }
}

/// Reports the end of a shard to the engine, even if it panicked.
struct SendOnDrop(Sender<Event>);

impl Drop for SendOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Event::ShardEnded);
    }
}

/// A run in progress.
struct Run {
    events: Receiver<Event>,
    writer: Writer,
    begun: Instant,
    look_interval: Duration,
}

/// What the engine does after an event.
enum Turn {
    Continue,
    Report,
    End,
}

impl Run {
    fn next_turn(&self) -> Turn {
        self.writer.report_slowness();
        match self.events.recv_timeout(self.look_interval) {
            Ok(Event::Command(Command::Report)) => Turn::Report,
            Ok(Event::Command(Command::Reopen)) => {
                self.writer.reopen();
                Turn::Continue
            }
            Ok(Event::Command(Command::Stop) | Event::Enough | Event::ShardEnded) => Turn::End,
            Err(RecvTimeoutError::Timeout) => Turn::Continue,
            Err(RecvTimeoutError::Disconnected) => Turn::End,
        }
    }

    fn totals_so_far(&self, shards: &Running, control: Option<&mut LiveControl>) -> Totals {
        // The shards are read first: the kernel counts a frame before we do.
        let shards = shards.stats();
        Totals {
            shards,
            live: control.and_then(|control| control.totals().cloned().ok()),
            writer: self.writer.stats(),
            elapsed: self.begun.elapsed(),
            is_running: true,
        }
    }

    fn live(
        self,
        shards: Running,
        mut control: LiveControl,
        notify: &mut dyn FnMut(Notice<'_>),
    ) -> Ending {
        let mut gone = None;
        let mut looked_at: Option<Instant> = None;
        loop {
            // The kernel's counters have 32 bits. They are read long before they could wrap around.
            let _ = if looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL) {
                looked_at = Some(Instant::now());
                control.totals()
            } else {
                control.counts()
            };
            control.adapt_share(self.begun.elapsed());
            if let Some(names) = control.all_gone() {
                gone = Some(SourceError::Gone { names });
                break;
            }
            match self.next_turn() {
                Turn::Continue => {}
                Turn::Report => {
                    notify(Notice::Report(&self.totals_so_far(&shards, Some(&mut control))));
                }
                Turn::End => break,
            }
        }
        control.shut_gate();
        let until = Instant::now() + DRAIN_WAIT;
        let is_drained = |control: &mut LiveControl| {
            control.counts().is_ok_and(|totals| {
                totals.filter.passed() == totals.packets()
                    && totals.packets() == shards.frame_count() + totals.drops()
            })
        };
        while !is_drained(&mut control) && Instant::now() < until && !shards.has_lost_one() {
            std::thread::sleep(Duration::from_millis(1));
        }
        shards.stop.drain();
        let mut ending = self.finish(shards, Some(control));
        ending.input_error = gone.or(ending.input_error);
        ending
    }

    fn file(
        self,
        shards: Running,
        progress: &Progress,
        notify: &mut dyn FnMut(Notice<'_>),
    ) -> Ending {
        let mut ended_count = 0;
        while ended_count < shards.threads.len() {
            match self.events.recv_timeout(PROGRESS_INTERVAL) {
                Ok(Event::ShardEnded) => ended_count += 1,
                Ok(Event::Command(Command::Stop) | Event::Enough) => shards.stop.stop(),
                Ok(Event::Command(Command::Reopen)) => self.writer.reopen(),
                Ok(Event::Command(Command::Report)) => {
                    notify(Notice::Report(&self.totals_so_far(&shards, None)));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            notify(Notice::Progress(progress));
        }
        self.finish(shards, None)
    }

    fn finish(self, shards: Running, control: Option<LiveControl>) -> Ending {
        let mut sum = ShardStats::default();
        let mut input_error = None;
        let mut is_shard_lost = false;
        for thread in shards.threads {
            match thread.join() {
                Ok((stats, result)) => {
                    sum.add(&stats);
                    input_error = input_error.or(result.err());
                }
                Err(_) => is_shard_lost = true,
            }
        }
        let live = control.and_then(|mut control| control.totals().cloned().ok());
        let (writer, result) = self.writer.finish();
        let elapsed = self.begun.elapsed();
        let totals = Totals { shards: sum, live, writer, elapsed, is_running: false };
        Ending { totals, input_error, output_error: result.err(), is_shard_lost }
    }
}
