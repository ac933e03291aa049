//! `httplines-bench impact`: the user's own load, with and without a capture beside it.

use crate::machine::Machine;
use crate::namespace::Namespace;
use crate::receiver::{Kind, Receiver, Setup};
use crate::totals::Totals;
use crate::trial::{Directory, httplines_beside, interruption, seconds};
use crate::veth::print_text;
use anyhow::{Context, bail};
use load::Run;
use report::{Pair, Report};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

mod figures;
mod load;
mod report;

/// What a capture costs your own load: throughput, latency and CPU, with and without it
///
/// Runs the load, for example wrk against a server at the other end of a veth pair of yours, in the
/// current network namespace: in each round once without and once with the capture, in alternating
/// order. Throughput, p50 and p99 are read from the output of wrk, wrk2, h2load, ab, hey, oha,
/// iperf and iperf3; of any other load only time and CPU count. Changes are those within a round. A
/// capture needs root. Exit codes: 0 measured, whatever was lost; 1 the load or the capture failed;
/// 2 wrong usage.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The interface to capture on, or `any`
    #[arg(short = 'i', long, value_name = "IFACE")]
    interface: Option<String>,
    /// The capture: httplines or null, with arguments of yours, or a command
    ///
    /// `httplines --all-headers` runs httplines with that argument. `null` is the null reader of
    /// `trial`. A command is run by sh; {iface} in it is the interface and {dir} a directory for
    /// its output, which is removed. It is ready once it has a packet socket; SIGINT ends it.
    #[arg(long, value_name = "CMD", default_value = "httplines")]
    receiver: String,
    /// The program to use as httplines [default: the one next to this program, or in PATH]
    #[arg(long, value_name = "PATH")]
    httplines: Option<PathBuf>,
    /// Rounds, of one run without and one with the capture
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Time a command may take to start, and must be idle at the end
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    drain_s: Duration,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// The load and its arguments
    #[arg(last = true, required = true, value_name = "LOAD")]
    load: Vec<String>,
}

const EXIT_USAGE: u8 = 2;
/// Time the capture may take to finish its work after the load; on an interface with other traffic
/// it never does.
const IDLE_WAIT: Duration = Duration::from_secs(10);

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let capture = Capture::new(args);
    if args.interface.is_none() && capture.needs_iface() {
        eprintln!("httplines-bench: the capture needs an interface: -i IFACE");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let is_interrupted = interruption()?;
    let namespace = Namespace::current()?;
    // A capture that cannot start is known before the first run of the load.
    let directory = Directory::new(None)?;
    drop(Receiver::start(&capture.setup(&directory), &namespace)?);
    drop(directory);
    let (mut rounds, mut totals) = (Vec::new(), Vec::new());
    for number in 1..=args.rounds {
        let mut pair = Pair::default();
        // Without and with, with and without: what changes steadily falls upon both.
        for has_capture in [number % 2 == 0, number % 2 == 1] {
            let side = if has_capture { "with" } else { "without" };
            let at = || format!("round {number} of {}, {side} the capture", args.rounds);
            if has_capture {
                let run = capture.run(&args.load, &namespace, &is_interrupted);
                let (run, reported) = run.with_context(at)?;
                pair.with = run;
                totals.push(reported);
            } else {
                let directory = Directory::new(None)?;
                let output = directory.path.join("load");
                pair.without = Run::of(&args.load, &output, &is_interrupted).with_context(at)?;
            }
        }
        eprintln!("httplines-bench: round {number} of {}: {}", args.rounds, progress(&pair));
        rounds.push(pair);
    }
    let report = Report {
        machine: Machine::look(),
        load: args.load.clone(),
        receiver: args.receiver.clone(),
        iface: args.interface.clone(),
        quantities: report::rows(&rounds),
        capture: sum(totals),
        rounds,
    };
    match args.json {
        true => print_text(&(serde_json::to_string(&report)? + "\n"))?,
        false => print_text(&report.to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The capture, as it is started in each round.
struct Capture {
    kind: Kind,
    arguments: Vec<String>,
    httplines: PathBuf,
    iface: Option<String>,
    drain: Duration,
}

impl Capture {
    fn new(args: &Args) -> Capture {
        let mut words = args.receiver.split_whitespace().map(String::from);
        let first = words.next().unwrap_or_default();
        // `httplines -i {iface} ...` is a command like any other.
        let (kind, arguments) = match Kind::parse(&first) {
            Kind::Command(_) => (Kind::Command(args.receiver.clone()), Vec::new()),
            _ if args.receiver.contains("{iface}") => {
                (Kind::Command(args.receiver.clone()), Vec::new())
            }
            kind => (kind, words.collect()),
        };
        let beside = httplines_beside().ok().filter(|path| path.exists());
        let httplines = args.httplines.clone().or(beside).unwrap_or("httplines".into());
        let (iface, drain) = (args.interface.clone(), args.drain_s);
        Capture { kind, arguments, httplines, iface, drain }
    }

    fn needs_iface(&self) -> bool {
        match &self.kind {
            Kind::Command(command) => command.contains("{iface}"),
            _ => true,
        }
    }

    fn setup(&self, directory: &Directory) -> Setup {
        Setup {
            kind: self.kind.clone(),
            httplines: self.httplines.clone(),
            arguments: self.arguments.clone(),
            iface: self.iface.clone().unwrap_or_default(),
            directory: directory.receiver.clone(),
            cpu: None,
            drain: self.drain,
        }
    }

    /// Runs the load while this captures.
    fn run(
        &self,
        load: &[String],
        namespace: &Namespace,
        is_interrupted: &AtomicBool,
    ) -> anyhow::Result<(Run, Option<Totals>)> {
        let directory = Directory::new(None)?;
        let mut receiver = Receiver::start(&self.setup(&directory), namespace)?;
        let mut run = Run::of(load, &directory.path.join("load"), is_interrupted)?;
        receiver.await_idle(IDLE_WAIT);
        if let Some(status) = receiver.ended()? {
            bail!("the capture ended by itself, {status}: {}", receiver.said());
        }
        let finished = receiver.stop()?;
        if let Some(failure) = finished.failure {
            bail!(failure);
        }
        let violation = finished.totals.as_ref().and_then(|totals| totals.violation.clone());
        if let Some(violation) = violation {
            bail!("the totals of the capture are wrong: {violation}");
        }
        run.capture_cpu_ns = Some(finished.cpu.iter().map(|(_, ns)| ns).sum());
        Ok((run, finished.totals))
    }
}

/// The totals of all rounds, if all have some.
fn sum(totals: Vec<Option<Totals>>) -> Option<Totals> {
    let totals: Option<Vec<Totals>> = totals.into_iter().collect();
    totals?.into_iter().reduce(|sum, totals| sum.add(&totals))
}

/// The most important figure of a round.
fn progress(pair: &Pair) -> String {
    let figures = |run: &Run| match (run.figures.requests_per_s, run.figures.bits_per_s) {
        (Some(rate), _) => format!("{rate:.0} requests/s"),
        (None, Some(rate)) => format!("{:.0} Mbit/s", rate / 1e6),
        (None, None) => format!("{:.2} s", run.duration_ns as f64 / 1e9),
    };
    format!("{} without, {} with", figures(&pair.without), figures(&pair.with))
}
