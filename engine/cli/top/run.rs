//! Interfaces and capture files: the engine counts in place of writing lines.

use super::model::{Model, Sample, SourceKind};
use super::run_state::RunState;
use super::screen::{self, Screen};
use super::theme::Theme;
use crate::cli::{Args, ending, stderr};
use anyhow::Context;
use httplines::capture::pcap::install_sigbus_handler;
use httplines::capture::pcap::open::Progress;
use httplines::config::{Config, Input, Output};
use httplines::engine::{Command, Engine, EngineError, Handle, Notice};
use httplines::observe::Counts;
use httplines::output::StatsRecord;
use httplines::sys::threads;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the shards hand over what they have counted.
const INTERVAL_MS: u64 = 1000;

/// Shows a run until the user quits. If its input ends, the screen stays.
pub fn run(args: &Args, theme: Theme) -> anyhow::Result<ExitCode> {
    stderr::start(args.quiet);
    // If it cannot be installed, files are read instead of mapped.
    let _ = install_sigbus_handler();
    let signals = Signals::new([0; 0]).context("cannot listen for signals")?;
    let config = configured(args);
    let (kind, name) = named(&config);
    let engine = Engine::open(config)?;
    let counts = engine.counts().context("nothing is counted")?;
    let has_quit = Arc::new(AtomicBool::new(false));
    let quit = quitter(engine.handle(), has_quit.clone());
    let screen = Screen::start(Model::new(kind, name), theme, Box::new(quit.clone()));
    let mut screen = screen.map_err(EngineError::Thread)?;
    let (quit, end) = (quit.clone(), screen.ender());
    let stop = move || {
        quit();
        end();
    };
    heed_signals(signals, engine.handle(), stop.clone()).map_err(EngineError::Thread)?;
    if let Some(duration) = args.duration {
        stop_after(duration, stop).map_err(EngineError::Thread)?;
    }
    let mut samples = Samples::new(counts);
    if kind == SourceKind::Capture {
        screen.begin();
    }
    let ending = engine.run(&mut |notice| match notice {
        Notice::Capturing { .. } => screen.begin(),
        Notice::Progress(progress) => samples.note(progress),
        Notice::Record(record) => screen.show(samples.next(Some(record), false)),
        Notice::Report(totals) => stderr::say(format_args!("{totals}")),
        Notice::Rates(_) => {}
    })?;
    if kind == SourceKind::Capture && !has_quit.load(Ordering::SeqCst) {
        let problem = ending.errors().into_iter().next();
        screen.show(Sample { problem, ..samples.next(None, true) });
        screen.wait();
    }
    screen.end();
    let fail_on_drop = args.is_failing_on_drop().then(|| args.is_live());
    let code = ending::tell(&ending, args.quiet, fail_on_drop);
    Ok(screen::exit_code().unwrap_or(code))
}

/// The configuration of a run that counts, and is shown.
fn configured(args: &Args) -> Config {
    let mut config = args.config();
    config.emit.output = Output::Counted(None);
    config.capture.wants_tls = true;
    config.watch.records_interval_ms = Some(INTERVAL_MS);
    config.watch.rates_interval_ms = None;
    config.watch.is_on_screen = true;
    config
}

fn named(config: &Config) -> (SourceKind, String) {
    let names = |paths: &[std::path::PathBuf]| {
        let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        if paths.len() > 1 { format!("{first} and {} more", paths.len() - 1) } else { first }
    };
    match &config.input {
        Input::Live(interfaces) => (SourceKind::Interfaces, interfaces.join(", ")),
        Input::Files(paths) => (SourceKind::Capture, names(paths)),
        Input::Stdin => (SourceKind::Capture, "-".to_string()),
    }
}

/// What ends run and screen.
fn quitter(handle: Handle, has_quit: Arc<AtomicBool>) -> impl Fn() + Send + Clone + 'static {
    move || {
        has_quit.store(true, Ordering::SeqCst);
        handle.send(Command::Stop);
    }
}

/// SIGUSR1 asks for the totals so far, which are printed after the screen. The others end it.
fn heed_signals(
    mut signals: Signals,
    handle: Handle,
    quit: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1] {
        signals.add_signal(signal)?;
    }
    threads::start("signals", move |ready| {
        drop(ready);
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => handle.send(Command::Report),
                _ => quit(),
            }
        }
    })
    .map(drop)
}

fn stop_after(duration: Duration, quit: impl Fn() + Send + 'static) -> std::io::Result<()> {
    threads::start("duration", move |ready| {
        drop(ready);
        std::thread::sleep(duration);
        quit();
    })
    .map(drop)
}

/// Makes samples of what the engine tells.
struct Samples {
    counts: Counts,
    last: Instant,
    doing: String,
}

impl Samples {
    fn new(counts: Counts) -> Samples {
        Samples { counts, last: Instant::now(), doing: String::new() }
    }

    /// How far a file was read.
    fn note(&mut self, progress: &Progress) {
        let size = progress.size_bytes().filter(|size| *size > 0);
        let percent = size.map(|size| progress.read_bytes().min(size) * 100 / size);
        self.doing = match percent {
            Some(percent) => format!("reading: {percent}%"),
            None => "reading".to_string(),
        };
    }

    /// What was counted since the last one.
    fn next(&mut self, record: Option<&StatsRecord>, is_over: bool) -> Sample {
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.last, now);
        let doing = if is_over { "read to the end".to_string() } else { self.doing.clone() };
        let run = record.and_then(|record| RunState::of_line(&record.line()));
        Sample { elapsed, summary: self.counts.take(), run, doing, is_over, problem: None }
    }
}
