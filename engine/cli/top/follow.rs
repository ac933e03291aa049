//! Files that another process writes: its lines, and its statistics beside them.

mod tail;

use super::model::{Model, Sample, SourceKind};
use super::run_state::RunState;
use super::screen::{self, Screen};
use super::theme::Theme;
use crate::cli::{Args, stderr};
use anyhow::Context;
use httplines::engine::{EngineError, FileReader};
use httplines::observe::summary::Summary;
use httplines::output::sidecar_path;
use httplines::sys::threads;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tail::{Tail, TailState};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How often what was read is shown.
const SHOW_INTERVAL: Duration = Duration::from_secs(1);

/// A line has at most so many bytes; what is longer is none. Those of statistics are long if there
/// are many shards.
const LINE_BYTES_MAX: usize = 1 << 20;

/// So much of the end of the statistics is read at first: its last lines.
const STATISTICS_BYTES: u64 = 256 << 10;

const SIGNALS_FAILED: &str = "cannot listen for signals";

/// The interval of statistics, unless something else was asked for or seen.
const INTERVAL_USUAL: Duration = Duration::from_secs(10);

/// Statistics are late if there are none for so many intervals.
const LATE_INTERVALS: u32 = 3;

/// Shows the lines that come into the file at `path`, until the user quits.
pub fn run(path: &Path, args: &Args, theme: Theme) -> anyhow::Result<ExitCode> {
    stderr::start(args.quiet);
    if let Some(sentence) = refusal(path) {
        stderr::say(format_args!("httplines: {sentence}\n"));
        return Ok(ExitCode::from(super::EXIT_USAGE));
    }
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1]).context(SIGNALS_FAILED)?;
    let mut reader = FileReader::settle(&args.sandbox.config(), path)?;
    let (quit, quits) = channel::<()>();
    let quitter = |quit: std::sync::mpsc::Sender<()>| {
        move || {
            let _ = quit.send(());
        }
    };
    let model = Model::new(SourceKind::Lines, path.display().to_string());
    let screen = Screen::start(model, theme, Box::new(quitter(quit.clone())));
    let mut screen = screen.map_err(EngineError::Thread)?;
    let stop = quitter(quit.clone());
    let signals_thread = threads::start("signals", move |ready| {
        drop(ready);
        // There are no totals to be told.
        signals.forever().filter(|signal| *signal != SIGUSR1).for_each(|_| stop());
    });
    signals_thread.map_err(EngineError::Thread)?;
    if let Some(duration) = args.duration {
        let stop = quitter(quit);
        let thread = threads::start("duration", move |ready| {
            drop(ready);
            std::thread::sleep(duration);
            stop();
        });
        thread.map_err(EngineError::Thread)?;
    }
    reader.seal();
    screen.begin();
    let mut follower = Follower::new(path);
    // Nothing is sent but the wish to quit.
    while quits.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        if let Some(sample) = follower.look() {
            screen.show(sample);
        }
    }
    screen.end();
    Ok(screen::exit_code().unwrap_or(ExitCode::SUCCESS))
}

/// Why the file cannot be followed. One that is not there yet is waited for.
fn refusal(path: &Path) -> Option<String> {
    let name = path.display();
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    if directory.is_some_and(|it| !it.is_dir()) {
        return Some(format!("{name}: there is no such directory; check the path"));
    }
    let metadata = std::fs::metadata(path).ok()?;
    if metadata.is_dir() {
        return Some(format!("{name} is a directory; name a file of lines in it"));
    }
    if !metadata.is_file() {
        return Some(format!("{name} is no file: it can be followed only if it is one"));
    }
    let capture = is_capture(path)?;
    capture.then(|| format!("{name} is a capture: put -r before it"))
}

/// Whether a file begins as pcap and pcapng do.
fn is_capture(path: &Path) -> Option<bool> {
    use std::io::Read;
    let mut begin = [0; 4];
    std::fs::File::open(path).ok()?.read_exact(&mut begin).ok()?;
    let number = u32::from_be_bytes(begin);
    let known = [0xa1b2_c3d4, 0xd4c3_b2a1, 0xa1b2_3c4d, 0x4d3c_b2a1, 0x0a0d_0d0a];
    Some(known.contains(&number))
}

/// Reads what comes.
struct Follower {
    lines: Tail,
    statistics: Tail,
    summary: Summary,
    shown: Instant,
    /// The last state that was read, when, and the interval of its run.
    state: Option<(RunState, Instant, Duration)>,
    /// Lines that are none of httplines'.
    strange_count: u64,
}

impl Follower {
    fn new(path: &Path) -> Follower {
        let statistics: PathBuf = sidecar_path(path);
        Follower {
            lines: Tail::new(path, 0, LINE_BYTES_MAX),
            statistics: Tail::new(&statistics, STATISTICS_BYTES, LINE_BYTES_MAX),
            summary: Summary::default(),
            shown: Instant::now(),
            state: None,
            strange_count: 0,
        }
    }

    /// Reads what has come. If it is time, returns what is to be shown.
    fn look(&mut self) -> Option<Sample> {
        let (summary, mut strange_count) = (&mut self.summary, 0);
        self.lines.read(|line| strange_count += u64::from(!summary.add_line(line)));
        self.strange_count += strange_count;
        let elapsed = self.shown.elapsed();
        if elapsed < SHOW_INTERVAL {
            return None;
        }
        self.shown += elapsed;
        let mut states = Vec::new();
        self.statistics.read(|line| states.extend(RunState::of_line(line)));
        let mut run = states.pop();
        if let Some(run) = &run {
            // Two are needed for rates.
            let known = self.state.take();
            let before = states.pop().or_else(|| known.as_ref().map(|(state, ..)| state.clone()));
            let interval = before.as_ref().filter(|before| run.continues(before));
            let interval = interval.map(|before| run.elapsed - before.elapsed);
            let interval = interval.or(known.map(|(.., interval)| interval));
            let interval = interval.unwrap_or(INTERVAL_USUAL);
            self.state = Some((run.clone(), Instant::now(), interval));
        } else if let Some((state, ..)) = self.state.as_ref().filter(|_| self.has_stopped()) {
            // The same once more: then nothing grows any more.
            run = Some(state.clone());
        }
        let (problem, summary) = (self.problem(), self.summary.take());
        Some(Sample { elapsed, summary, run, problem, ..Sample::default() })
    }

    /// Whether no more statistics come, as far as can be seen.
    fn has_stopped(&self) -> bool {
        self.state.as_ref().is_some_and(|(state, since, interval)| {
            state.is_final || since.elapsed() > *interval * LATE_INTERVALS
        })
    }

    /// What is wrong with the files, a sentence.
    fn problem(&self) -> Option<String> {
        match self.lines.state() {
            TailState::Missing => {
                return Some("the file is not there; waiting until it is".to_string());
            }
            TailState::Failed(why) => return Some(format!("the file cannot be read: {why}")),
            TailState::Open => {}
        }
        if let Some((state, since, _)) = self.state.as_ref().filter(|_| self.has_stopped())
            && !state.is_final
        {
            let seconds = since.elapsed().as_secs();
            return Some(format!("no statistics for {seconds} s: is httplines still running?"));
        }
        let count = Some(self.strange_count).filter(|count| *count > 0)?;
        let lines = if count == 1 { "line was" } else { "lines were" };
        Some(format!("{count} {lines} not written by httplines"))
    }
}
