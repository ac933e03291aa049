//! Open, pin, start together, drain, stop, join. The control plane: nothing here runs for a frame
//! or a line.

use crate::capture::SourceError;
use crate::capture::live::LiveControl;
use crate::capture::pcap::open::{Capture, Progress};
use crate::config::{Config, Output};
use crate::ids::IfaceNames;
use crate::observe::{Counts, Rates, ShardState};
use crate::output::{BatchSender, Limits, Patience, StatsRecord, Writer, WriterError, open_sinks};
use crate::pipeline::{Crossing, Part};
use crate::shard::ShardStats;
#[cfg(debug_assertions)]
use crate::sys::intruder;
use crate::sys::memory::ResidentMemory;
use crate::sys::seccomp::{Descriptors, Work};
use crate::totals::Totals;
use directory::DirectoryWatch;
pub use error::{EngineError, SandboxError};
use events::Event;
pub use events::{Command, Handle};
use input::OpenInput;
use liveness::ShardWatch;
use metrics::Listener;
use notify::Notifier;
pub use preflight::Preflight;
pub use reader::FileReader;
use reporter::{Reporter, Told};
use sandbox::Settled;
pub use sandbox::{confine, files_of, user_for};
use scrapes::Scrapes;
use shards::{Running, Shards};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

mod counter_poll;
mod directory;
mod error;
mod events;
mod format;
mod input;
mod liveness;
mod metrics;
mod notify;
mod preflight;
mod reader;
mod reporter;
mod same_file;
mod sandbox;
mod scrapes;
mod shards;
mod snapshot;
mod start_line;
mod status;

/// How often the engine moves a progress bar.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How often the engine looks at the interfaces and reads the kernel's counters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often it reads the counters of frames if connections are shed when frames were dropped.
const SHED_INTERVAL: Duration = Duration::from_millis(200);

/// A run whose interfaces are all gone ends after this time.
const GONE_WAIT: Duration = Duration::from_secs(10);

/// How long frames that passed the filter may take to reach user space after the gate was closed.
/// They arrive within two retire timeouts; a machine that does not schedule us for seconds has
/// other problems.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

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
    /// What passes now, each `WatchConfig::rates_interval_ms`. The run waits meanwhile.
    Rates(&'a Rates),
    /// What the run has counted and holds now, each `WatchConfig::records_interval_ms`, and at its
    /// end. The run waits meanwhile.
    Record(&'a StatsRecord),
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

/// A run that is open, but not started.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    names: IfaceNames,
    input: OpenInput<Capture>,
    settled: Settled,
    /// Whether lines go to a terminal.
    is_terminal: bool,
    /// If events are counted.
    counts: Option<Counts>,
    writer: Writer,
    reporter: Option<Reporter>,
    notifier: Notifier,
    listener: Option<Listener>,
    senders: Vec<BatchSender>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    patience: Patience,
}

impl Engine {
    /// Opens the input, gives up the rights that are no longer needed, and opens the output, in
    /// this order. No packet is read. A run that reads files is sealed before the output is opened:
    /// it begins to read, and an input that is no capture leaves no output.
    pub fn open(mut config: Config) -> Result<Engine, EngineError> {
        config.check()?;
        config.http.is_classified = config.watch.metrics.is_some() || config.has_statistics();
        let names = IfaceNames::default();
        let input = OpenInput::open(&config, &names)?;
        let resident = ResidentMemory::open();
        let notifier = Notifier::open(config.watch.service.as_ref());
        let listener = Listener::open(&config)?;
        let patience = Patience::default();
        let (shard_count, policy) = (config.shard_count, input.policy());
        let open_outputs = || open_sinks(&config.emit, shard_count, policy, &patience);
        let is_terminal = format::is_terminal(&config);
        let passed = sandbox::is_output_passed(&config).then(open_outputs).transpose()?;
        let mut settled = sandbox::settle(&config, &input.opened_later())?;
        if matches!(input, OpenInput::File(_)) {
            let work = match &config.emit.output {
                _ if config.watch.is_on_screen => Work::TopFiles,
                Output::Counted(_) => Work::Report,
                Output::Stdout | Output::File(_) => Work::Files,
            };
            settled.seal(work, Descriptors { packet_sockets: u32::MAX, listener: None });
        }
        let input = input.begin(&config, &names)?;
        let outputs = passed.map_or_else(open_outputs, Ok);
        let outputs = outputs.map_err(|error| settled.explain(error))?;
        let (senders, writer) =
            Writer::start_outputs(outputs, shard_count, Limits::from(&config.emit), policy)?;
        let reporter = Reporter::open(&config, &writer, resident);
        let reporter = reporter.map_err(|error| settled.explain(error))?;
        let (sender, events) = channel();
        let is_counting = matches!(config.emit.output, Output::Counted(_));
        let counts = is_counting.then(|| Counts::new(shard_count));
        Ok(Engine {
            config,
            names,
            input,
            settled,
            is_terminal,
            counts,
            writer,
            reporter,
            notifier,
            listener,
            senders,
            events,
            sender,
            patience,
        })
    }

    /// A handle that sends commands to the run from other threads.
    pub fn handle(&self) -> Handle {
        Handle { events: self.sender.clone(), patience: self.patience.clone() }
    }

    /// What the run counts, if its output is [`Output::Counted`].
    pub fn counts(&self) -> Option<Counts> {
        self.counts.clone()
    }

    /// Runs to the end of the input, or until it is told to stop.
    pub fn run(self, notify: &mut dyn FnMut(Notice<'_>)) -> Result<Ending, EngineError> {
        let Engine { config, names, input, settled, is_terminal, senders, events, sender, .. } =
            self;
        // A run that reads files asks nothing of it.
        let is_live = matches!(input, OpenInput::Live { .. });
        let watched = settled.directory().or(self.listener.as_ref().and_then(Listener::directory));
        let watched = watched.filter(|_| is_live);
        let directory = watched.map(|it| DirectoryWatch::start(it.try_clone()?)).transpose();
        let directory = directory.map_err(EngineError::Thread)?;
        let state = directory.as_ref().map(|watch| watch.state().clone());
        let listener = self.listener.as_ref().map(Listener::descriptor);
        let start = |listener: Listener| listener.start(sender.clone(), state);
        let metrics = self.listener.map(start).transpose()?;
        let shards = Shards::new(&config, names, is_terminal, senders, sender);
        let shards = shards.counting(self.counts);
        let begun = Instant::now();
        let is_shedding = config.capture.is_shedding;
        let look_interval = if is_shedding { SHED_INTERVAL } else { LOOK_INTERVAL };
        let mut run = Run {
            events,
            writer: self.writer,
            reporter: self.reporter,
            notifier: self.notifier,
            shard_watch: ShardWatch::new(config.shard_count.into(), begun),
            scrapes: Scrapes::new(metrics),
            begun,
            look_interval,
            settled,
            directory,
            gone_since: None,
        };
        match input {
            OpenInput::Live { control, sources, interfaces } => {
                let parts = control.fanout_key().map(|key| Part::all(config.shard_count, key));
                let bytes_max = config.decode.crossing_bytes_max;
                let crossings = Crossing::between(&parts.unwrap_or_default(), bytes_max);
                let shards = shards.start(sources, Vec::new(), crossings, true)?;
                #[cfg(debug_assertions)]
                let mut intruder = intruder::Intruder::prepare();
                let packet_sockets = control.lowest_packet_descriptor();
                let is_on_screen = config.watch.is_on_screen;
                let work = if is_on_screen { Work::TopCapture } else { Work::Capture };
                run.settled.seal(work, Descriptors { packet_sockets, listener });
                shards.begin();
                control.open_gate();
                // Before anything is printed, which nobody may read.
                run.notifier.ready(shards.statuses.len(), "capturing");
                notify(Notice::Capturing {
                    interfaces: &interfaces,
                    shard_count: config.shard_count,
                });
                run.say_notes();
                #[cfg(debug_assertions)]
                if let Some(intruder) = &mut intruder {
                    intruder::tell(&intruder.try_all(control.lowest_packet_descriptor()));
                }
                Ok(run.live(shards, *control, notify))
            }
            OpenInput::File(capture) => {
                let progress = capture.progress.clone();
                let shards = shards.start_files(capture)?;
                run.say_notes();
                shards.begin();
                Ok(run.file(shards, &progress, notify))
            }
        }
    }
}

/// A run in progress.
struct Run {
    events: Receiver<Event>,
    writer: Writer,
    reporter: Option<Reporter>,
    notifier: Notifier,
    shard_watch: ShardWatch,
    scrapes: Scrapes,
    begun: Instant,
    look_interval: Duration,
    settled: Settled,
    directory: Option<DirectoryWatch>,
    /// Since when no interface is left.
    gone_since: Option<Instant>,
}

/// What the engine does after an event.
enum Turn {
    Continue,
    Report,
    End,
}

impl Run {
    /// Waits for an event, but for no longer than `wait`.
    fn next_turn(&mut self, shards: &Running, wait: Duration) -> Turn {
        match self.events.recv_timeout(wait) {
            Ok(Event::Command(Command::Report)) => Turn::Report,
            Ok(Event::Command(Command::Reopen)) => {
                self.reopen();
                Turn::Continue
            }
            Ok(Event::Scrape(reply)) => {
                self.scrapes.ask(reply, &shards.statuses);
                Turn::Continue
            }
            Ok(Event::Command(Command::Stop) | Event::Enough | Event::ShardEnded) => Turn::End,
            Err(RecvTimeoutError::Timeout) => Turn::Continue,
            Err(RecvTimeoutError::Disconnected) => Turn::End,
        }
    }

    fn reopen(&mut self) {
        self.notifier.reloading();
        self.writer.reopen();
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
    fn look(&mut self, control: &mut LiveControl, is_whole: bool) {
        self.writer.report_slowness();
        // The kernel's counters have 32 bits. They are read long before they could wrap around.
        let looked = if is_whole { control.totals() } else { control.counts() };
        if let Ok(totals) = looked {
            self.scrapes.look_at_rings(totals);
        }
        control.adapt_share(self.begun.elapsed());
    }

    /// Reports statistics to everybody to whom they are due.
    fn report(
        &mut self,
        shards: &Running,
        control: &mut LiveControl,
        notify: &mut dyn FnMut(Notice<'_>),
    ) {
        let now = Instant::now();
        let is_status_due = self.notifier.is_ready(now, &shards.statuses);
        let is_ready = |it: &mut Reporter| it.is_ready(now, &shards.statuses);
        let is_report_due = self.reporter.as_mut().is_some_and(is_ready);
        if !is_status_due && !is_report_due {
            return;
        }
        let states = shards.states();
        let totals = self.totals_so_far(reporter::sum(&states), Some(control));
        if is_status_due {
            self.notifier.status(&totals, reporter::connections(&states));
        }
        if let Some(reporter) = self.reporter.as_mut().filter(|_| is_report_due) {
            match reporter.report(&totals, &states, &self.writer) {
                Some(Told::Rates(rates)) => notify(Notice::Rates(&rates)),
                Some(Told::Record(record)) => notify(Notice::Record(&record)),
                None => {}
            }
            control.forget_fullest();
        }
    }

    /// The same of a run that reads files.
    fn report_reading(&mut self, shards: &Running, notify: &mut dyn FnMut(Notice<'_>)) {
        let is_ready = |it: &mut Reporter| it.is_ready(Instant::now(), &shards.statuses);
        if !self.reporter.as_mut().is_some_and(is_ready) {
            return;
        }
        let states = shards.states();
        let totals = self.totals_so_far(reporter::sum(&states), None);
        let report = |it: &mut Reporter| it.report(&totals, &states, &self.writer);
        if let Some(Told::Record(record)) = self.reporter.as_mut().and_then(report) {
            notify(Notice::Record(&record));
        }
    }

    /// Answers a scrape, if the shards have answered or had time to.
    fn answer_scrape(&mut self, now: Instant, shards: &Running, control: &mut LiveControl) {
        let Some(reply) = self.scrapes.due(now, &shards.statuses) else { return };
        let states = shards.states();
        let totals = self.totals_so_far(reporter::sum(&states), Some(control));
        let (writer, layers) = (self.writer.gauges(), self.settled.layers());
        let stalled = self.shard_watch.stalled().to_vec();
        let snapshot = self.scrapes.snapshot(totals, states, writer, stalled, layers);
        // Whoever asked may have given up.
        let _ = reply.try_send(snapshot);
    }

    /// Says what is to be said at the start.
    fn say_notes(&self) {
        self.settled.say_notes();
        if let Some(address) = self.scrapes.address() {
            tracing::info!("metrics at http://{address}/metrics");
        }
    }

    /// How long the engine may wait for an event, at `now`, if nothing else is due before `wait`.
    fn wait(&self, now: Instant, wait: Duration) -> Duration {
        let wait = self.reporter.as_ref().map_or(wait, |it| it.wait(now).min(wait));
        wait.min(self.notifier.wait(now)).min(self.scrapes.wait())
    }

    /// The names of the interfaces, if all are gone and it is time to end: one of them is back, and
    /// can be captured by a new run only, or they have been gone for a while.
    fn gone_for_good(&mut self, control: &mut LiveControl, now: Instant) -> Option<String> {
        let names = control.all_gone()?;
        if self.gone_since.is_none() {
            let seconds = GONE_WAIT.as_secs();
            tracing::warn!(
                "{names} has gone; the run ends when it is back, or after {seconds} s, since only \
                 a new run can capture on it"
            );
        }
        let since = *self.gone_since.get_or_insert(now);
        (now >= since + GONE_WAIT || control.is_one_back()).then_some(names)
    }

    fn live(
        mut self,
        shards: Running,
        mut control: LiveControl,
        notify: &mut dyn FnMut(Notice<'_>),
    ) -> Ending {
        let (mut gone, mut removed) = (None, None);
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
            if let Some(names) = self.gone_for_good(&mut control, now) {
                gone = Some(SourceError::Gone { names });
                break;
            }
            let is_removed = self.directory.as_ref().is_some_and(|it| it.state().is_removed());
            removed = self.settled.removed_directory(now, is_removed);
            if removed.is_some() {
                break;
            }
            self.shard_watch.look(now, &shards.statuses, self.notifier.has_watchdog());
            self.notifier.look(now, self.shard_watch.stalled(), self.writer.is_reopened());
            self.report(&shards, &mut control, notify);
            self.answer_scrape(now, &shards, &mut control);
            match self.next_turn(&shards, self.wait(now, next_look.saturating_duration_since(now)))
            {
                Turn::Continue => {}
                Turn::Report => {
                    let stats = shards.stats();
                    notify(Notice::Report(&self.totals_so_far(stats, Some(&mut control))));
                }
                Turn::End => break,
            }
        }
        self.notifier.stopping();
        self.scrapes.end();
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
        let mut ending = self.finish(shards, Some(control), notify);
        ending.input_error = gone.or(ending.input_error);
        ending.output_error = removed.map(WriterError::DirectoryRemoved).or(ending.output_error);
        ending
    }

    fn file(
        mut self,
        shards: Running,
        progress: &Progress,
        notify: &mut dyn FnMut(Notice<'_>),
    ) -> Ending {
        self.notifier.ready(0, "reading");
        let mut ended_count = 0;
        while ended_count < shards.threads.len() {
            let now = Instant::now();
            self.notifier.look(now, &[], self.writer.is_reopened());
            match self.events.recv_timeout(self.wait(now, PROGRESS_INTERVAL)) {
                Ok(Event::ShardEnded) => ended_count += 1,
                Ok(Event::Command(Command::Stop) | Event::Enough) => shards.stop.stop(),
                Ok(Event::Command(Command::Reopen)) => self.reopen(),
                Ok(Event::Command(Command::Report)) => {
                    notify(Notice::Report(&self.totals_so_far(shards.stats(), None)));
                }
                // There is no port.
                Ok(Event::Scrape(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.report_reading(&shards, notify);
            notify(Notice::Progress(progress));
        }
        self.finish(shards, None, notify)
    }

    fn finish(
        mut self,
        shards: Running,
        control: Option<LiveControl>,
        notify: &mut dyn FnMut(Notice<'_>),
    ) -> Ending {
        self.notifier.stopping();
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
            let last = reporter.finish(&ending.totals, &states, gauges, ending.errors());
            last.iter().for_each(|record| notify(Notice::Record(record)));
        }
        ending
    }
}

#[cfg(test)]
mod tests;
