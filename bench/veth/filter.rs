//! `httplines-bench filter`.

use crate::spread::Spread;
use crate::sys;
use anyhow::{Context, ensure};
use httplines::config::{CaptureConfig, DecodeConfig, FilterMode, PacketDirection, Sample};
use httplines::ids::Direction;
use httplines::sys::counters::Reason;
use httplines::sys::filter::{Filter, Gate};
use httplines::sys::flow_hints::HintFlags;
use httplines::sys::program::{self, LoadError};
use live::Wire;
use paths::{Path, Setting};
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

mod live;
#[path = "../../tests/support/kernel_packet.rs"]
mod packet;
mod paths;

/// The return value of a filter for a frame that passes whole.
const WHOLE: u32 = 0x7fff_ffff;
/// The same for a frame that is cut to its headers, of IP and TCP: a test run has no link header.
const HEADERS: u32 = 40;

/// The exit code for a missing privilege.
const NO_PERMISSION: u8 = 3;

/// Nanoseconds of the kernel filter for a packet, by path
///
/// Each path is run with BPF_PROG_TEST_RUN, on a frame in memory again and again; and live, on
/// frames that arrive through a veth pair in a network namespace of its own. Both are compared with
/// a program that does nothing. Every run is checked by the filter's own counters. Paths named
/// "new" change the filter's state, so each frame belongs to another connection. Needs root;
/// without the right to create a namespace nothing is measured live.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measurements of each path
    #[arg(long, default_value_t = 5, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Runs on a frame in one measurement in memory
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    repeat: u32,
    /// Frames of one live measurement
    #[arg(long, default_value_t = 16_384, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: String,
    runs: u32,
    /// The program that does nothing, on one frame again and again.
    empty: Cost,
    /// The same, on frames that are used once each.
    empty_new: Cost,
    paths: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Cost {
    /// In memory: BPF_PROG_TEST_RUN.
    test_run_ns: Spread,
    /// On arriving frames.
    live_ns: Option<Spread>,
}

#[derive(Debug, Serialize)]
struct Row {
    path: &'static str,
    reason: &'static str,
    verdict: &'static str,
    /// Frames that were counted under the reason, and under no other, in all measurements.
    frames: u64,
    #[serde(flatten)]
    cost: Cost,
    /// As a multiple of the program that does nothing, by the medians.
    test_run_ratio: f64,
    live_ratio: Option<f64>,
}

/// The loaded filters, by their setting.
struct Filters {
    http: Filter,
    off: Filter,
    out: Filter,
    excluding: Filter,
    sampling: Filter,
    shedding: Filter,
    granted: Filter,
    tls: Filter,
}

impl Filters {
    fn load() -> Result<Filters, LoadError> {
        let decode = DecodeConfig::default();
        let mut excluding = decode.clone();
        excluding.restrictions.ports.unwanted.push(packet::SERVER_PORT..=packet::SERVER_PORT);
        let mut sampling = decode.clone();
        // No connection of the paths is in it.
        sampling.restrictions.sample = Sample::one_in(u32::MAX).unwrap_or_default();
        let plain = CaptureConfig::default;
        let shedding = Filter::load(&plain(), &decode)?;
        shedding.set_share(0);
        Ok(Filters {
            http: Filter::load(&plain(), &decode)?,
            off: Filter::load(&CaptureConfig { filter: FilterMode::Off, ..plain() }, &decode)?,
            out: Filter::load(
                &CaptureConfig { direction: PacketDirection::Out, ..plain() },
                &decode,
            )?,
            excluding: Filter::load(&plain(), &excluding)?,
            sampling: Filter::load(&plain(), &sampling)?,
            shedding,
            granted: granted(Filter::load(&plain(), &decode)?),
            tls: Filter::load(&CaptureConfig { wants_tls: true, ..plain() }, &decode)?,
        })
    }

    /// The filter of a setting, with no state of any connection.
    fn set(&self, setting: Setting) -> anyhow::Result<&Filter> {
        let filter = match setting {
            Setting::Http | Setting::Shut => &self.http,
            Setting::Off => &self.off,
            Setting::Out => &self.out,
            Setting::Excluding => &self.excluding,
            Setting::Sampling => &self.sampling,
            Setting::Shedding => &self.shedding,
            Setting::Granted => &self.granted,
            Setting::Tls => &self.tls,
        };
        for map in [filter.sessions(), filter.openings()] {
            let known: Vec<Vec<u8>> = map.keys().collect();
            for key in known {
                map.delete(&key).context("the filter's maps cannot be emptied")?;
            }
        }
        filter.gate(if setting == Setting::Shut { Gate::Shut } else { Gate::Open });
        Ok(filter)
    }
}

/// The filter with a grant: the client's data of the connection are a body.
fn granted(filter: Filter) -> Filter {
    let (key, client) = (packet::key_v4(&[]), Direction::Reverse);
    if let Some(hint) = filter.hints().take(&key) {
        filter.hints().grant(hint, client, packet::SEQ, packet::SEQ + 4096);
        filter.hints().show(hint, &key, HintFlags::isn(client));
    }
    filter
}

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let filters = match Filters::load() {
        // The verifier's refusal is EACCES.
        Err(error) if error.errno() == Some(libc::EPERM) => {
            eprintln!("httplines-bench: loading the filter needs CAP_BPF; run it as root");
            return Ok(ExitCode::from(NO_PERMISSION));
        }
        result => result.context("cannot load the filter")?,
    };
    let wire = Wire::new();
    if let Err(error) = &wire {
        eprintln!("httplines-bench: nothing is measured live: {error:#}");
    }
    let mut bench = Bench { args, filters, wire: wire.ok() };
    let paths = paths::all();
    let empty = sys::load_empty().context("cannot load the empty program")?;
    let mut baseline = |is_fresh| {
        let path = paths.iter().find(|path| path.is_fresh() == is_fresh);
        bench.baseline(empty.as_fd(), path.context("there are paths of both kinds")?)
    };
    let (empty, empty_new) = (baseline(false)?, baseline(true)?);
    let mut rows = Vec::new();
    for path in &paths {
        let wrong = || format!("path \"{}\"", path.name);
        let base = if path.is_fresh() { &empty_new } else { &empty };
        rows.push(bench.row(path, base).with_context(wrong)?);
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim_end().to_string();
    let report = Report { kernel, runs: args.runs, empty, empty_new, paths: rows };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

struct Bench<'a> {
    args: &'a Args,
    filters: Filters,
    wire: Option<Wire>,
}

impl Bench<'_> {
    /// Frames of one live measurement.
    fn live_count(&self, path: &Path) -> usize {
        if path.is_fresh() { path.frames.len() } else { self.args.packets as usize }
    }

    /// Runs on each frame of one measurement in memory.
    fn repeat(&self, path: &Path) -> u32 {
        if path.is_fresh() { 1 } else { self.args.repeat }
    }

    /// The time of the empty program for the frames of `path`.
    fn baseline(&mut self, empty: BorrowedFd<'_>, path: &Path) -> anyhow::Result<Cost> {
        let (count, repeat) = (self.live_count(path), self.repeat(path));
        let (mut test_run_ns, mut live_ns) = (Vec::new(), Vec::new());
        for _ in 0..self.args.runs {
            test_run_ns.push(in_memory(empty, path, repeat, WHOLE)?);
            if let Some(wire) = &mut self.wire {
                let ran = wire.measure(empty, &path.frames, count)?;
                live_ns.push(ran.total_ns as f64 / ran.runs as f64);
            }
        }
        Ok(cost(test_run_ns, live_ns))
    }

    /// The time of the filter for the frames of `path`, all of which must take that path.
    fn row(&mut self, path: &Path, empty: &Cost) -> anyhow::Result<Row> {
        let (count, repeat) = (self.live_count(path), self.repeat(path));
        let (mut test_run_ns, mut live_ns, mut frames) = (Vec::new(), Vec::new(), 0);
        let verdict = match path.reason {
            Reason::Elided => HEADERS,
            reason if reason.is_pass() => WHOLE,
            _ => 0,
        };
        for _ in 0..self.args.runs {
            let filter = self.filters.set(path.setting)?;
            for frame in &path.before {
                program::test_run(filter.program(), frame, 1)?;
            }
            frames += counted(filter, path.reason, || {
                test_run_ns.push(in_memory(filter.program(), path, repeat, verdict)?);
                Ok(path.frames.len() as u64 * u64::from(repeat))
            })?;
            let Some(wire) = &mut self.wire else { continue };
            let filter = self.filters.set(path.setting)?;
            for frame in &path.before {
                program::test_run(filter.program(), frame, 1)?;
            }
            frames += counted(filter, path.reason, || {
                let ran = wire.measure(filter.program(), &path.frames, count)?;
                live_ns.push(ran.total_ns as f64 / ran.runs as f64);
                Ok(ran.runs)
            })?;
        }
        let cost = cost(test_run_ns, live_ns);
        let live_ratio =
            cost.live_ns.zip(empty.live_ns).map(|(own, base)| own.median / base.median);
        Ok(Row {
            path: path.name,
            reason: path.reason.name(),
            verdict: if path.reason.is_pass() { "pass" } else { "reject" },
            frames,
            test_run_ratio: cost.test_run_ns.median / empty.test_run_ns.median,
            live_ratio,
            cost,
        })
    }
}

fn cost(test_run_ns: Vec<f64>, live_ns: Vec<f64>) -> Cost {
    let live_ns = (!live_ns.is_empty()).then(|| Spread::of(live_ns));
    Cost { test_run_ns: Spread::of(test_run_ns), live_ns }
}

/// Mean nanoseconds of `program` for the frames of `path`, each `repeat` times, in memory.
fn in_memory(
    program: BorrowedFd<'_>,
    path: &Path,
    repeat: u32,
    verdict: u32,
) -> anyhow::Result<f64> {
    let mut sum_ns = 0.0;
    for frame in &path.frames {
        let ran = program::test_run(program, frame, repeat).context("BPF_PROG_TEST_RUN")?;
        ensure!(ran.passed_bytes == verdict, "{} bytes passed, not {verdict}", ran.passed_bytes);
        sum_ns += f64::from(ran.mean_ns);
    }
    Ok(sum_ns / path.frames.len() as f64)
}

/// Runs `measure`, in which the filter judges `expected` frames, and ensures that each of them was
/// counted under `reason`.
fn counted(
    filter: &Filter,
    reason: Reason,
    measure: impl FnOnce() -> anyhow::Result<u64>,
) -> anyhow::Result<u64> {
    let before = filter.counters();
    let expected = measure()?;
    let after = filter.counters();
    for other in Reason::ALL {
        let (count, name) = (after.of(*other) - before.of(*other), other.name());
        let due = if *other == reason { expected } else { 0 };
        ensure!(count == due, "of {expected} frames {count} were counted as {name}, not {due}");
    }
    Ok(expected)
}

fn print(report: &Report) {
    println!(
        "Linux {}; {} measurements each; nanoseconds for a frame, medians, with least and",
        report.kernel, report.runs
    );
    println!("greatest, and how often that is the empty program's\n");
    let row = |name: &str, verdict: &str, cost: &Cost, ratios: (f64, Option<f64>)| {
        let live = cost.live_ns.map_or("not measured".into(), |ns| ns.to_string());
        let live_ratio = ratios.1.map_or(String::new(), |ratio| format!("x{ratio:.1}"));
        let test_run = cost.test_run_ns.to_string();
        println!("{name:26} {verdict:8} {test_run:>26} x{:<6.1} {live:>26} {live_ratio}", ratios.0);
    };
    println!("{:26} {:8} {:>26} {:7} {:>26}", "path", "verdict", "test run", "", "live");
    row("empty program", "pass", &report.empty, (1.0, Some(1.0)));
    row("empty program, new", "pass", &report.empty_new, (1.0, Some(1.0)));
    for path in &report.paths {
        row(path.path, path.verdict, &path.cost, (path.test_run_ratio, path.live_ratio));
    }
}
