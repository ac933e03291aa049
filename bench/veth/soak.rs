//! `httplines-bench soak`: a capture that nobody watches, with all that happens to one: does each
//! line reach a file, does every loss have a cause, and does nothing grow?

use crate::campaign;
use crate::machine::Machine;
use crate::namespace::Namespace;
use crate::receiver::Kind;
use crate::search::Rules;
use crate::sys::unshare_mounts;
use crate::totals::Totals;
use crate::trial::{self, Cpus, Directory, Trial};
use crate::veth::print_text;
use crate::workload::Workload;
use anyhow::{Context, bail};
use folder::Folder;
use ledger::Ledger;
use load::Load;
use report::Report;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use samples::Sample;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use subject::Subject;
use trouble::Trouble;

mod folder;
mod ledger;
mod load;
mod report;
mod samples;
mod sidecar;
mod subject;
mod trouble;

/// A capture that nobody watches: rotation, signals, a link that goes down, a full disk
///
/// Sends mixed traffic at half of the rate without loss, which it measures first, while files are
/// rotated, compressed and deleted each few seconds, and again and again: SIGHUP, files moved away,
/// the link down, interfaces that come and go, a full disk. Prints memory, descriptors, threads and
/// losses over time. Fails if one of these grows after the warm-up, a sum does not hold, or a loss
/// has no cause: each frame, exchange, line and file is accounted for.
///
/// Creates network namespaces and a file system in memory of its own, which disappear when it ends.
/// Needs root and Linux 5.18. Exit codes: 0 passed; 1 failed, or not done; 2 wrong usage; 3 no
/// permission.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long, in minutes
    #[arg(value_name = "MINUTES", default_value = "10", value_parser = minutes)]
    minutes: Duration,
    /// The kind of traffic
    #[arg(short = 'w', long, value_enum, default_value = "mixed")]
    workload: Workload,
    /// Frames per second [default: half of the rate without loss]
    #[arg(short = 'r', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Seed for the order of frames and the sizes of messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the report, its pictures, and what httplines said and counted into this directory
    #[arg(long, value_name = "DIRECTORY")]
    folder: Option<PathBuf>,
    /// The program to use as httplines [default: the one next to this program]
    #[arg(long, value_name = "PATH")]
    httplines: Option<PathBuf>,
    /// More arguments for httplines
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Rotation each few seconds, and all that goes with it. Connections that were cut are given up
/// within the warm-up.
const ARGUMENTS: &str = "--rotate-interval 3 --rotate-size 32M --keep-files 16 --compress zstd \
                         --stats-interval 1 --idle-timeout-s 30";
/// The disk: for as many files as are kept, even if none was compressed yet.
const SIZE: &std::ffi::CStr = c"size=1g,mode=700";
/// Frames of a round.
const ROUND_FRAMES: usize = 1 << 17;
/// How often somebody looks at the folder, and whether something is to happen.
const LOOK: Duration = Duration::from_millis(200);
const STEP: Duration = Duration::from_millis(20);
/// Samples of a soak, and the least time between two.
const SAMPLES: u32 = 60;
const SAMPLE_MIN: Duration = Duration::from_secs(1);
/// At the end nothing happens for a while, and then no frame comes.
const QUIET: Duration = Duration::from_secs(2);

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().ok().filter(|it| *it >= 0.2 && *it <= 100_000.0);
    let minutes = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    minutes.ok_or("0.2 to 100000 minutes".into())
}

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let is_interrupted = trial::interruption()?;
    let report = match args.soak(&is_interrupted) {
        Err(error) if trial::is_permission(&error) => return Ok(trial::without_permission(&error)),
        report => report?,
    };
    print_text(&format!("\n{}", report.summary()))?;
    if let Some(folder) = &args.folder {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("soak.json", serde_json::to_string_pretty(&report)? + "\n")?;
        write("soak.txt", report.to_string())?;
        write("http.stats", report.sidecar.join("\n") + "\n")?;
        write("soak.html", report.html())?;
        for (name, picture) in report.pictures() {
            write(&format!("{name}.svg"), picture)?;
        }
    }
    Ok(if report.is_passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl Args {
    fn soak(&self, is_interrupted: &Arc<AtomicBool>) -> anyhow::Result<Report> {
        // Before any thread is started: all of them are to see the same files.
        let disk = |error: std::io::Error| anyhow::Error::new(error);
        unshare_mounts().map_err(disk).context("cannot make a file system of our own")?;
        if let Some(folder) = &self.folder {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let httplines = self.httplines.clone().map_or_else(trial::httplines_beside, Ok)?;
        let lossless_rate = match self.rate {
            Some(_) => None,
            None => Some(self.lossless_rate(&httplines, is_interrupted)?),
        };
        let directory = Directory::new(None)?;
        let _disk = Disk::mount(&directory.receiver)?;
        let half = |rate: f64| (rate / 2.0) as u64;
        let rate = self.rate.or(lossless_rate.map(half)).unwrap_or(0).max(1);
        let round = Arc::new(self.workload.round(self.seed, ROUND_FRAMES));
        let (_client, server) =
            Namespace::pair().context("cannot create network namespaces with a veth pair")?;
        let arguments: Vec<String> =
            ARGUMENTS.split_whitespace().map(String::from).chain(self.arguments.clone()).collect();
        let said = match &self.folder {
            Some(folder) => folder.join("httplines.txt"),
            None => directory.path.join("httplines.txt"),
        };
        let folder = directory.receiver.clone();
        let subject = Subject::start(&httplines, &arguments, &server, &folder, &said)?;
        let follower = Follower::start(Folder::new(&folder, Ledger::new(round.clone())));
        let load = Load::start(&server, &round, rate)?;
        let mut soak = Soak {
            server,
            subject,
            load,
            trouble: Trouble::new(&folder),
            samples: Vec::new(),
            begun: Instant::now(),
        };
        println!(
            "httplines-bench: {rate} frames/s of {}\n{}",
            self.workload.name(),
            report::HEADING
        );
        soak.run(self.minutes, &folder, is_interrupted)?;
        let mut report = soak.finish(follower, &round)?;
        (report.rate, report.lossless_rate) = (rate, lossless_rate);
        (report.workload, report.arguments) = (self.workload.name().into(), arguments);
        if is_interrupted.load(Ordering::Relaxed) {
            report.faults.push("interrupted".into());
        }
        report.judge();
        Ok(report)
    }

    fn lossless_rate(
        &self,
        httplines: &Path,
        is_interrupted: &Arc<AtomicBool>,
    ) -> anyhow::Result<f64> {
        eprintln!("httplines-bench: measuring the rate without loss");
        let trial = Trial {
            workload: self.workload,
            pcap: None,
            seed: self.seed,
            rate: None,
            time: Duration::ZERO,
            receiver: Kind::Httplines,
            httplines: httplines.into(),
            arguments: self.arguments.clone(),
            means: None,
            cpus: Cpus::choose(None, None),
            drain: QUIET,
            keep: None,
            times_filter: false,
        };
        let rules = Rules {
            short: Duration::from_millis(300),
            long: Duration::from_secs(1),
            resolution: 0.1,
        };
        let found = campaign::lossless_rate(trial, rules, is_interrupted)?;
        if found.rate == 0.0 {
            bail!("there is no rate without loss here; give one with --rate");
        }
        Ok(found.rate)
    }
}

/// A file system in memory, which only this process and its children see.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> anyhow::Result<Disk> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).context("cannot keep a file system to ourselves")?;
        mount("httplines-soak", at, "tmpfs", MountFlags::empty(), SIZE)
            .with_context(|| format!("cannot mount a file system at {}", at.display()))?;
        Ok(Disk(at.into()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If it stays, it goes with this process.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A soak while it runs.
struct Soak {
    server: Namespace,
    subject: Subject,
    load: Load,
    trouble: Trouble,
    samples: Vec<Sample>,
    begun: Instant,
}

impl Soak {
    fn run(
        &mut self,
        time: Duration,
        folder: &Path,
        is_interrupted: &AtomicBool,
    ) -> anyhow::Result<()> {
        let interval = (time / SAMPLES).max(SAMPLE_MIN);
        while self.begun.elapsed() < time && !is_interrupted.load(Ordering::Relaxed) {
            if let Some(status) = self.subject.ended()? {
                bail!("httplines ended, {status}: {}", self.subject.said()?);
            }
            if self.load.has_ended() {
                bail!("the generator ended");
            }
            let elapsed = self.begun.elapsed();
            if elapsed + QUIET + trouble::LONGEST < time {
                self.trouble.make(elapsed, &self.server, &self.load, &self.subject)?;
            } else {
                self.trouble.end(&self.server, &self.load, &self.subject)?;
            }
            if elapsed >= interval * (self.samples.len() as u32 + 1) {
                self.sample(folder)?;
            }
            std::thread::sleep(STEP);
        }
        self.trouble.end(&self.server, &self.load, &self.subject)
    }

    fn sample(&mut self, folder: &Path) -> anyhow::Result<()> {
        let before = self.samples.last().cloned().unwrap_or_default();
        let sample = Sample {
            at_s: self.begun.elapsed().as_secs_f64(),
            frames: self.load.frame_count(),
            frames_unseen: self.trouble.frames_unseen(self.load.frame_count()),
            held: self.subject.held()?,
            told: sidecar::latest(folder).unwrap_or(before.told.clone()),
        };
        println!("{}", report::row(&before, &sample));
        self.samples.push(sample);
        Ok(())
    }

    /// Ends it, reads what is left, and reports.
    fn finish(self, follower: Follower, round: &crate::round::Round) -> anyhow::Result<Report> {
        let frames = self.load.stop()?;
        let seconds = self.begun.elapsed().as_secs_f64();
        // Frames may still be in the rings.
        std::thread::sleep(QUIET);
        let (status, said) = self.subject.stop()?;
        let lines: Vec<String> = said.lines().map(String::from).collect();
        let totals = Totals::parse(&lines)?;
        let folder = follower.stop()?;
        let ledger = &folder.ledger;
        let mut faults = folder.faults.clone();
        if !status.success() {
            faults.push(format!("httplines ended with {status}"));
        }
        let (broken, twice) = (ledger.broken_count, ledger.twice_count);
        if broken + twice > 0 {
            let examples = ledger.examples.join("; ");
            faults.push(format!(
                "{broken} lines are no records, {twice} are there twice: {examples}"
            ));
        }
        faults.extend(sidecar::faults(&folder.sidecar, &totals));
        let mut exchanges = vec![0u64; round.connection_count as usize];
        ledger.connections().iter().for_each(|it| exchanges[*it as usize] += 1);
        Ok(Report {
            machine: Machine::look(),
            workload: String::new(),
            rate: 0,
            lossless_rate: None,
            arguments: Vec::new(),
            seconds,
            frames,
            frames_unseen: self.trouble.frames_unseen(frames),
            exchanges_of_connection_max: exchanges.into_iter().max().unwrap_or(0),
            fates: ledger.fates(frames, &self.trouble.outages),
            lines: folder.line_count,
            files: folder.counts,
            troubles: self.trouble.counts,
            totals,
            samples: self.samples,
            sidecar: folder.sidecar,
            faults,
        })
    }
}

/// A thread that follows the folder.
struct Follower {
    thread: JoinHandle<anyhow::Result<Folder>>,
    is_over: Arc<AtomicBool>,
}

impl Follower {
    fn start(mut folder: Folder) -> Follower {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                folder.look()?;
                std::thread::sleep(LOOK);
            }
            folder.finish()?;
            Ok(folder)
        });
        Follower { thread, is_over }
    }

    /// Reads all that is left.
    fn stop(self) -> anyhow::Result<Folder> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the follower panicked"))?
    }
}
