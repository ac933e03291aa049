//! Open, pin, start together, drain, stop, join. The control plane: nothing here runs for a frame
//! or a line.

use crate::capture::live::{LiveCapture, LiveControl, LiveSource};
use crate::capture::pcap::open::{self as file, Progress};
use crate::capture::{self, FrameSource, SourceError, pcap};
use crate::config::{Config, ConfigError, Input};
use crate::ids::{FlowHashKey, IfaceNames};
use crate::observe::ShardState;
use crate::output::{
    BatchSender, Limits, Patience, Policy, Quota, RecordWriter, Writer, WriterError, open_sinks,
};
use crate::pipeline::{Crossing, Part, Partition};
use crate::shard::{Shard, ShardStats, StopSignal};
use crate::sys::thread_clock::{self, ThreadClock};
use crate::sys::{affinity, words_of};
use crate::totals::Totals;
use format::line_format;
use reporter::Reporter;
use same_file::{duplicate, is_output};
use status::ShardStatus;
use std::fs::Metadata;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod format;
mod reporter;
mod same_file;
mod status;

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
    /// A shard's thread panicked ([`ShardStats::panics`]).
    pub is_shard_lost: bool,
}

impl Ending {
    /// What went wrong, each a sentence.
    pub fn errors(&self) -> Vec<String> {
        let lost = "a worker failed, which is a bug in httplines; the connections it held are lost";
        let mut errors: Vec<String> = self.is_shard_lost.then(|| lost.into()).into_iter().collect();
        errors.extend(self.input_error.as_ref().map(ToString::to_string));
        errors.extend(self.output_error.as_ref().map(ToString::to_string));
        errors
    }
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

/// What a shard has counted, how it ended, and the CPU time of its thread.
type ShardResult = (ShardStats, Result<(), SourceError>, Duration);

/// A run that is open, but not started.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    names: IfaceNames,
    input: Opened,
    writer: Writer,
    reporter: Option<Reporter>,
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
        let reporter = Reporter::open(&config, &writer)?;
        let (sender, events) = channel();
        Ok(Engine { config, names, input, writer, reporter, senders, events, sender, patience })
    }

    /// A handle that sends commands to the run from other threads.
    pub fn handle(&self) -> Handle {
        Handle { events: self.sender.clone(), patience: self.patience.clone() }
    }

    /// Runs to the end of the input, or until it is told to stop.
    pub fn run(self, notify: &mut dyn FnMut(Notice<'_>)) -> Result<Ending, EngineError> {
        let Engine { config, names, input, writer, reporter, senders, events, sender, .. } = self;
        let shards = Shards::new(&config, names, senders, sender);
        let begun = Instant::now();
        let is_shedding = config.capture.is_shedding;
        let look_interval = if is_shedding { SHED_INTERVAL } else { LOOK_INTERVAL };
        let run = Run { events, writer, reporter, begun, look_interval };
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

fn refuse_same_file(input: std::io::Result<Metadata>, config: &Config) -> Result<(), EngineError> {
    if is_output(input, config) { Err(EngineError::SameFile) } else { Ok(()) }
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
    /// The CPU time of each.
    clocks: Vec<ThreadClock>,
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
        let mut running = Running {
            threads: Vec::new(),
            clocks: Vec::new(),
            statuses: Vec::new(),
            stop,
            sender: self.sender,
        };
        let mut crossings = crossings.into_iter();
        for (number, (source, sender)) in sources.into_iter().zip(self.senders).enumerate() {
            let format = line_format(self.config, &self.names);
            let records = RecordWriter::new(format, sender, quota.clone(), is_prompt)
                .with_kinds(self.config.emit.records)
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
            let (stats, result) = shard.run(&stop, |view| {
                status.show(view);
                if !has_said_enough && view.is_enough() {
                    has_said_enough = true;
                    let _ = sender.send(Event::Enough);
                }
            });
            (stats, result, thread_clock::own())
        };
        let thread = std::thread::Builder::new().name(format!("shard-{number}")).spawn(body);
        let thread = thread.map_err(EngineError::Thread)?;
        self.clocks.push(ThreadClock::of(&thread));
        self.threads.push(thread);
        Ok(())
    }

    fn frame_count(&self) -> u64 {
        self.statuses.iter().map(|status| status.frame_count()).sum()
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
        self.statuses.iter().for_each(|status| status.ask());
        let until = Instant::now() + PROGRESS_INTERVAL;
        let is_open = |status: &Arc<ShardStatus>| status.is_open();
        while self.statuses.iter().any(is_open) && Instant::now() < until && !self.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        reporter::sum(&self.states())
    }

    /// What the shards have published last.
    fn states(&self) -> Vec<ShardState> {
        reporter::states(&self.statuses, &self.clocks)
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
    reporter: Option<Reporter>,
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
    /// Waits for an event, but for no longer than `wait`.
    fn next_turn(&self, wait: Duration) -> Turn {
        match self.events.recv_timeout(wait) {
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

    /// The totals of `shards`, which are read first: the kernel counts a frame before we do.
    fn totals_so_far(&self, shards: ShardStats, control: Option<&mut LiveControl>) -> Totals {
        Totals {
            shards,
            live: control.and_then(|control| control.totals().cloned().ok()),
            writer: self.writer.stats(),
            elapsed: self.begun.elapsed(),
            is_running: true,
        }
    }

    /// Looks at the interfaces and reads the kernel's counters: all of them, or only those of
    /// frames.
    fn look(&self, control: &mut LiveControl, is_whole: bool) {
        self.writer.report_slowness();
        // The kernel's counters have 32 bits. They are read long before they could wrap around.
        let _ = if is_whole { control.totals() } else { control.counts() };
        control.adapt_share(self.begun.elapsed());
    }

    /// Reports statistics, if they are due.
    fn report(&mut self, shards: &Running, control: &mut LiveControl) {
        let is_ready = |it: &mut Reporter| it.is_ready(Instant::now(), &shards.statuses);
        if !self.reporter.as_mut().is_some_and(is_ready) {
            return;
        }
        let states = shards.states();
        let totals = self.totals_so_far(reporter::sum(&states), Some(control));
        if let Some(reporter) = &mut self.reporter {
            reporter.report(&totals, &states, &self.writer);
        }
        control.forget_fullest();
    }

    fn live(
        mut self,
        shards: Running,
        mut control: LiveControl,
        notify: &mut dyn FnMut(Notice<'_>),
    ) -> Ending {
        let mut gone = None;
        // When it looks at everything, and when at anything.
        let [mut look_at, mut next_look] = [Instant::now(); 2];
        loop {
            let now = Instant::now();
            if now >= next_look {
                self.look(&mut control, now >= look_at);
                if now >= look_at {
                    look_at = now + LOOK_INTERVAL;
                }
                next_look = now + self.look_interval;
            }
            if let Some(names) = control.all_gone() {
                gone = Some(SourceError::Gone { names });
                break;
            }
            self.report(&shards, &mut control);
            let look_wait = next_look.saturating_duration_since(now);
            let wait = self.reporter.as_ref().map_or(look_wait, |it| it.wait(now).min(look_wait));
            match self.next_turn(wait) {
                Turn::Continue => {}
                Turn::Report => {
                    let stats = shards.stats();
                    notify(Notice::Report(&self.totals_so_far(stats, Some(&mut control))));
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
                    notify(Notice::Report(&self.totals_so_far(shards.stats(), None)));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            notify(Notice::Progress(progress));
        }
        self.finish(shards, None)
    }

    fn finish(self, shards: Running, control: Option<LiveControl>) -> Ending {
        let mut states = Vec::with_capacity(shards.threads.len());
        let mut input_error = None;
        let mut is_shard_lost = false;
        for thread in shards.threads {
            let (stats, cpu, is_responding) = match thread.join() {
                Ok((stats, result, cpu)) => {
                    input_error = input_error.or(result.err());
                    is_shard_lost |= stats.panics > 0;
                    (stats, cpu, true)
                }
                Err(_) => {
                    is_shard_lost = true;
                    (ShardStats::default(), Duration::ZERO, false)
                }
            };
            states.push(ShardState { stats, cpu, is_responding, ..ShardState::default() });
        }
        let live = control.and_then(|mut control| control.totals().cloned().ok());
        let gauges = self.writer.gauges();
        let (writer, result) = self.writer.finish();
        let (shards, elapsed) = (reporter::sum(&states), self.begun.elapsed());
        let totals = Totals { shards, live, writer, elapsed, is_running: false };
        let ending = Ending { totals, input_error, output_error: result.err(), is_shard_lost };
        if let Some(reporter) = self.reporter {
            reporter.finish(&ending.totals, &states, gauges, ending.errors());
        }
        ending
    }
}

#[cfg(test)]
mod tests;
