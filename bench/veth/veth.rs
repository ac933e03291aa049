//! `httplines-bench veth`: what can this machine capture? Trials of all kinds, in a sensible order.

use crate::canned::{self, Canned, Nowhere};
use crate::delay::Delay;
use crate::frame::{self, Checksum};
use crate::machine::Machine;
use crate::page;
use crate::peers::{PEERS, Peer};
use crate::receiver::{self, Kind};
use crate::report::{Report, is_of_generator};
use crate::results::{Cost, FrameCost, Highest, Latency, Parameters, Results, Searched};
use crate::round::Round;
use crate::search::{Found, LOSS_NONE, LOSS_PARTIAL, Point, Rules, Runner, Search, is_generators};
use crate::spread::Spread;
use crate::trial::{self, Cpus, Trial};
use crate::workload::Workload;
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use httplines::capture::{Frame, FrameSource, LinkType, Polled, SourceError};
use httplines::config::{CaptureConfig, Config, Input};
use httplines::ids::{IfaceId, IfaceNames};
use httplines::time::TimestampNs;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What can this machine capture? Rates without loss, delays, and what a frame costs
///
/// For each workload it looks for the highest rate at which nothing is lost, then measures how long
/// lines take at parts of that rate, and what a frame costs whom. It makes two network namespaces
/// and a veth pair for each trial, which are gone when it ends, and touches no other interface.
/// Needs root. Exit codes: 0 done; 1 not done; 2 wrong usage; 3 no permission.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Be done in a minute or two: six workloads, short trials, delays at half of the rate
    #[arg(long)]
    quick: bool,
    /// What traffic is made of; may be repeated [default: all]
    #[arg(short = 'w', long = "workload", value_enum, value_name = "WORKLOAD")]
    workloads: Vec<Workload>,
    /// Searches of each highest rate [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: Option<u32>,
    /// Length of a trial that closes in [default: 0.4; quick: 0.15]
    #[arg(long, value_name = "SECONDS", value_parser = trial::seconds)]
    short_s: Option<Duration>,
    /// Length of a trial that confirms or measures [default: 2; quick: 0.4]
    #[arg(long, value_name = "SECONDS", value_parser = trial::seconds)]
    long_s: Option<Duration>,
    /// What order of frames and sizes of messages come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Measure this program beside us, too: tcpdump, tcpflow, httpry, ngrep, tshark, suricata,
    /// zeek, all (that are installed), or a command with {iface} in it; may be repeated
    ///
    /// A command is what `httplines-bench trial --receiver` takes. Exchanges are counted whose
    /// request it prints or writes.
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<String>,
    /// What traffic peers take part in; may be repeated
    #[arg(long = "peer-workload", value_enum, value_name = "WORKLOAD", default_value = "small")]
    peer_workloads: Vec<Workload>,
    /// How long a command may take to begin, and must be idle at the end [default: 2,
    /// or what suits a peer that is known]
    #[arg(long, value_name = "SECONDS", value_parser = trial::seconds)]
    drain_s: Option<Duration>,
    /// Write all that was found here, with all that is needed to repeat it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write it as one page that needs nothing beside it
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write its curves as SVG files into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
    /// The program that is called httplines [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    httplines: Option<PathBuf>,
    /// The generator's CPU [default: the first]
    #[arg(long, value_name = "CPU")]
    generator_cpu: Option<usize>,
    /// The receiver's CPU [default: of two CPUs the other one, of more any]
    #[arg(long, value_name = "CPU")]
    receiver_cpu: Option<usize>,
    /// More arguments for httplines
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Shares of the highest rate without loss at which delays are measured.
const LATENCY_PERCENT: [u32; 3] = [10, 50, 90];
/// The same, where there is little time.
const QUICK_LATENCY_PERCENT: [u32; 1] = [50];
/// What is measured where there is little time and nothing was asked for.
const QUICK_WORKLOADS: [Workload; 6] = [
    Workload::Small,
    Workload::Pages,
    Workload::Bulk,
    Workload::Superpackets,
    Workload::Noise,
    Workload::Hostile,
];
/// At which share a frame's cost is.
const COST_PERCENT: u32 = 50;
/// What is measured without further arguments.
const DEFAULT: &str = "default";
/// Trials that measure at a rate the generator does not keep, before they are given up.
const ATTEMPTS: u32 = 3;
/// What allocations are counted on.
const CANNED_FRAMES: usize = 40_000;

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let is_interrupted = trial::interruption()?;
    let peers: Vec<Rival> =
        args.peers.iter().map(|text| rivals(text)).collect::<anyhow::Result<Vec<_>>>()?.concat();
    // Who cannot be given the result need not wait for it.
    [&args.json, &args.html].into_iter().flatten().try_for_each(|path| ensure_writable(path))?;
    let results = match Campaign::new(args, peers, is_interrupted)?.run() {
        Err(error) if trial::is_permission(&error) => return Ok(trial::without_permission(&error)),
        result => result?,
    };
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.json {
        write(path, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    if let Some(path) = &args.html {
        write(path, page::html(&results))?;
    }
    if let Some(folder) = &args.pictures {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, picture) in page::pictures(&results) {
            write(&folder.join(format!("{name}.svg")), picture)?;
        }
    }
    print!("{results}");
    Ok(ExitCode::SUCCESS)
}

/// Leaves the file as it was.
fn ensure_writable(path: &Path) -> anyhow::Result<()> {
    let is_new = !path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))?;
    if is_new {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// A program beside us.
#[derive(Clone, Debug)]
struct Rival {
    name: String,
    command: String,
    drain: Duration,
}

impl From<&Peer> for Rival {
    fn from(peer: &Peer) -> Rival {
        Rival {
            name: peer.name.into(),
            command: peer.command.into(),
            drain: Duration::from_secs_f64(peer.drain_s),
        }
    }
}

fn rivals(text: &str) -> anyhow::Result<Vec<Rival>> {
    if text == "all" {
        return Ok(PEERS.iter().filter(|peer| peer.is_installed()).map(Rival::from).collect());
    }
    if let Some(peer) = Peer::named(text) {
        ensure!(peer.is_installed(), "{text} is not installed");
        return Ok(vec![peer.into()]);
    }
    ensure!(
        text.contains("{iface}"),
        "--peer {text}: neither a program that is known nor a command with {{iface}} in it"
    );
    let words = text.split_whitespace().filter(|word| *word != "exec");
    let name = words.map(|word| word.rsplit('/').next().unwrap_or(word)).next().unwrap_or(text);
    Ok(vec![Rival { name: name.into(), command: text.into(), drain: Duration::from_secs(2) }])
}

/// All trials, in their order.
struct Campaign {
    workloads: Vec<Workload>,
    rivals: Vec<Rival>,
    peer_workloads: Vec<Workload>,
    is_quick: bool,
    rules: Rules,
    repeats: u32,
    /// In place of a peer's own.
    drain: Option<Duration>,
    /// What all trials have in common.
    base: Trial,
    bar: ProgressBar,
    is_interrupted: Arc<AtomicBool>,
}

impl Campaign {
    fn new(
        args: &Args,
        rivals: Vec<Rival>,
        is_interrupted: Arc<AtomicBool>,
    ) -> anyhow::Result<Campaign> {
        let time = |given: Option<Duration>, quick_s: f64, full_s: f64| {
            given.unwrap_or(Duration::from_secs_f64(if args.quick { quick_s } else { full_s }))
        };
        let workloads = match (args.workloads.is_empty(), args.quick) {
            (true, true) => QUICK_WORKLOADS.to_vec(),
            (true, false) => Workload::value_variants().to_vec(),
            (false, _) => args.workloads.clone(),
        };
        let searches = workloads.len() * 2 + rivals.len() * args.peer_workloads.len();
        let bar = ProgressBar::new((searches + workloads.len() * 2) as u64);
        let style = "{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
        Ok(Campaign {
            workloads,
            rivals,
            peer_workloads: args.peer_workloads.clone(),
            is_quick: args.quick,
            rules: Rules {
                short: time(args.short_s, 0.15, 0.4),
                long: time(args.long_s, 0.4, 2.0),
                resolution: if args.quick { 0.05 } else { 0.02 },
            },
            repeats: args.repeats.unwrap_or(3),
            drain: args.drain_s,
            base: Trial {
                workload: Workload::Small,
                pcap: None,
                seed: args.seed,
                rate: None,
                time: Duration::ZERO,
                receiver: Kind::Httplines,
                httplines: args.httplines.clone().map_or_else(trial::httplines_beside, Ok)?,
                arguments: args.arguments.clone(),
                means: None,
                cpus: Cpus::choose(args.generator_cpu, args.receiver_cpu),
                drain: Duration::from_secs(2),
                keep: None,
                times_filter: false,
            },
            bar,
            is_interrupted,
        })
    }

    fn run(&self) -> anyhow::Result<Results> {
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        let begun_s = begun_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut results = Results {
            machine: Machine::look(),
            parameters: self.parameters(),
            begun_s,
            seconds: 0.0,
            searches: Vec::new(),
            latencies: Vec::new(),
            costs: Vec::new(),
            allocations_per_exchange: BTreeMap::new(),
        };
        for workload in &self.workloads {
            let trial = Trial { workload: *workload, ..self.base.clone() };
            let searched = self.search("httplines", &trial)?;
            let rate = searched.ndr.rate.median;
            results.searches.push(searched);
            let null = Trial { receiver: Kind::Null, arguments: Vec::new(), ..trial.clone() };
            results.searches.push(self.search("null", &null)?);
            if rate > 0.0 {
                self.measure(&trial, rate, &mut results)?;
            }
        }
        for workload in &self.peer_workloads {
            for rival in &self.rivals {
                let trial = Trial {
                    workload: *workload,
                    receiver: Kind::Command(rival.command.clone()),
                    arguments: Vec::new(),
                    drain: self.drain.unwrap_or(rival.drain),
                    ..self.base.clone()
                };
                results.searches.push(self.search(&rival.name, &trial)?);
            }
        }
        self.bar.finish_and_clear();
        results.seconds = begun.elapsed().as_secs_f64();
        Ok(results)
    }

    fn parameters(&self) -> Parameters {
        let base = &self.base;
        Parameters {
            seed: base.seed,
            short_s: self.rules.short.as_secs_f64(),
            long_s: self.rules.long.as_secs_f64(),
            repeats: self.repeats,
            resolution: self.rules.resolution,
            retire_timeout_ms: retire_timeout_ms(&base.arguments),
            generator_cpu: base.cpus.generator.map(|cpu| cpu.0),
            receiver_cpu: base.cpus.receiver.map(|cpu| cpu.0),
            arguments: base.arguments.clone(),
            features: features(),
        }
    }

    /// Says what it is at.
    fn say(&self, what: String) {
        if self.bar.is_hidden() {
            eprintln!("httplines-bench: {what}");
        }
        self.bar.set_message(what);
    }

    fn search(&self, name: &str, trial: &Trial) -> anyhow::Result<Searched> {
        self.say(format!("{}: highest rate of {name}", trial.workload.name()));
        let mut bench =
            Bench { trial: trial.clone(), is_interrupted: &self.is_interrupted, last: None };
        let mut search = Search::new(&mut bench, self.rules)?;
        let mut ndr = vec![search.find(LOSS_NONE)?];
        // The null reader is looked at once where there is little time.
        let is_beside = self.is_quick && trial.receiver == Kind::Null;
        for _ in 1..if is_beside || ndr[0].rate == 0.0 { 1 } else { self.repeats } {
            ndr.push(search.again(LOSS_NONE, &ndr[0])?);
        }
        // Where the generator is the limit no more can be found out.
        let is_open = ndr.iter().all(|found| is_generators(&found.limit));
        let pdr = match is_open || !search.is_held(LOSS_PARTIAL) {
            true => ndr.clone(),
            false => {
                // Where nothing is lost, no more than some is.
                let partial = search.find(LOSS_PARTIAL)?;
                let more = |found: &Found| {
                    if found.rate > partial.rate { found.clone() } else { partial.clone() }
                };
                ndr.iter().map(more).collect()
            }
        };
        let points = search.points;
        self.bar.inc(1);
        let report = bench.last.context("a search has trials")?;
        let frames = report.sent.frames as f64;
        Ok(Searched {
            workload: trial.workload.name().into(),
            receiver: name.into(),
            command: match &trial.receiver {
                Kind::Command(command) => Some(command.clone()),
                _ => None,
            },
            ndr: highest(&ndr),
            pdr: highest(&pdr),
            frame_bytes: report.sent.bytes as f64 / frames,
            exchanges_per_frame: report.exchanges_sent as f64 / frames,
            points,
        })
    }

    /// Delays and costs at shares of `rate`.
    fn measure(&self, trial: &Trial, rate: f64, results: &mut Results) -> anyhow::Result<()> {
        let workload = trial.workload.name();
        self.say(format!("{workload}: delays"));
        let percents: &[u32] =
            if self.is_quick { &QUICK_LATENCY_PERCENT } else { &LATENCY_PERCENT };
        for percent in percents.iter().copied() {
            let reports = self.at(trial, rate * f64::from(percent) / 100.0, self.measurements())?;
            results.latencies.extend(latency(workload, percent, &reports));
        }
        self.bar.inc(1);
        self.say(format!("{workload}: what a frame costs"));
        for (variant, arguments) in self.variants(trial.workload) {
            let arguments = [&trial.arguments[..], &arguments].concat();
            let trial = Trial { arguments, times_filter: true, ..trial.clone() };
            let count = if variant == DEFAULT { self.measurements() } else { 1 };
            let reports = self.at(&trial, rate * f64::from(COST_PERCENT) / 100.0, count)?;
            results.costs.extend(cost(workload, variant, &reports));
        }
        let allocations = allocations_per_exchange(trial.workload, trial.seed)?;
        results.allocations_per_exchange.insert(workload.into(), allocations);
        self.bar.inc(1);
        Ok(())
    }

    /// What is measured beside the defaults.
    fn variants(&self, workload: Workload) -> Vec<(&'static str, Vec<String>)> {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let mut variants = vec![(DEFAULT, Vec::new())];
        if !self.is_quick {
            variants.push(("one shard", words("--shards 1")));
            variants.push(("--filter off", words("--filter off")));
            if workload.has_bodies() {
                variants.push(("--no-elide", words("--no-elide")));
            }
        }
        variants
    }

    /// How often delays and costs are measured.
    fn measurements(&self) -> u32 {
        if self.is_quick { 1 } else { self.repeats }
    }

    /// So many long trials at `rate`; fewer where the generator does not keep it.
    fn at(&self, trial: &Trial, rate: f64, count: u32) -> anyhow::Result<Vec<Report>> {
        let mut reports = Vec::new();
        for _ in 0..ATTEMPTS * count {
            let trial = Trial { rate: Some(rate as u64), time: self.rules.long, ..trial.clone() };
            let (report, point) = once(&trial, &self.is_interrupted)?;
            if !point.is_late {
                reports.push(report);
            }
            if reports.len() == count as usize {
                break;
            }
        }
        Ok(reports)
    }
}

/// Makes trials for a search.
struct Bench<'a> {
    trial: Trial,
    is_interrupted: &'a Arc<AtomicBool>,
    last: Option<Report>,
}

impl Runner for Bench<'_> {
    fn run(&mut self, rate: Option<u64>, time: Duration) -> anyhow::Result<Point> {
        let (report, point) =
            once(&Trial { rate, time, ..self.trial.clone() }, self.is_interrupted)?;
        self.last = Some(report);
        Ok(point)
    }
}

/// A trial that adds up.
fn once(trial: &Trial, is_interrupted: &Arc<AtomicBool>) -> anyhow::Result<(Report, Point)> {
    let report = trial.run(is_interrupted, || ())?;
    if is_interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    let (late, doubts): (Vec<_>, Vec<_>) =
        report.invalid.iter().partition(|doubt| is_of_generator(doubt));
    ensure!(
        doubts.is_empty(),
        "a trial of {} into {} cannot be believed: {}",
        report.setting.workload,
        report.setting.receiver,
        doubts.iter().map(|doubt| doubt.as_str()).collect::<Vec<_>>().join("; ")
    );
    let point = Point {
        rate: report.achieved_rate,
        asked: trial.rate,
        loss: report.loss(),
        is_late: !late.is_empty(),
        blamed: report.blamed.clone(),
        seconds: report.sent.elapsed_ns as f64 / 1e9,
    };
    Ok((report, point))
}

fn highest(found: &[Found]) -> Highest {
    let rate = Spread::of(found.iter().map(|found| found.rate));
    // That of the least: the others were stopped later.
    let least = found.iter().min_by(|one, other| one.rate.total_cmp(&other.rate));
    Highest { rate, limit: least.map(|found| found.limit.clone()).unwrap_or_default() }
}

/// The one in the middle by `key`; none of none.
fn middle<T>(all: &[T], key: impl Fn(&T) -> f64) -> Option<&T> {
    let mut sorted: Vec<&T> = all.iter().collect();
    sorted.sort_by(|one, other| key(one).total_cmp(&key(other)));
    sorted.get(sorted.len() / 2).copied()
}

fn latency(workload: &str, percent: u32, reports: &[Report]) -> Option<Latency> {
    let lines = |report: &Report| report.delay.as_ref()?.to_line.clone();
    let of = |key: fn(&Delay) -> u64| {
        Spread::of(reports.iter().filter_map(lines).map(|delay| key(&delay) as f64))
    };
    let report = middle(reports, |report| lines(report).map_or(f64::MAX, |it| it.p99_ns as f64))?;
    lines(report)?;
    Some(Latency {
        workload: workload.into(),
        percent,
        rate: report.achieved_rate,
        delays: report.delay.clone()?,
        p50_ns: of(|delay| delay.p50_ns),
        p99_ns: of(|delay| delay.p99_ns),
    })
}

fn cost(workload: &str, variant: &str, reports: &[Report]) -> Option<Cost> {
    let of = |report: &Report| FrameCost::new(&report.cpu, report.sent.frames);
    let report = middle(reports, |report| of(report).total_ns())?;
    let (sent, totals) = (&report.sent, report.totals.clone().unwrap_or_default());
    let exchanges = report.exchanges.unwrap_or_default();
    let part = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    Some(Cost {
        workload: workload.into(),
        variant: variant.into(),
        rate: report.achieved_rate,
        frame: of(report),
        total_ns: Spread::of(reports.iter().map(|report| of(report).total_ns())),
        ring_frames: part(totals.captured, sent.frames),
        ring_bytes: part(totals.captured_bytes, sent.bytes),
        not_right: part(exchanges.sent - exchanges.right, exchanges.sent),
        memory_bytes_max: report.memory_bytes_max,
    })
}

/// As httplines will have it with these arguments.
fn retire_timeout_ms(arguments: &[String]) -> u32 {
    let is_it = |word: &String| word == "--retire-timeout-ms";
    let at = arguments.iter().position(is_it);
    let given = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    given.unwrap_or(CaptureConfig::default().retire_timeout_ms)
}

/// The features of a veth pair like those of the trials, by ethtool(8).
fn features() -> BTreeMap<String, String> {
    let Ok((_client, server)) = crate::namespace::Namespace::pair() else { return BTreeMap::new() };
    let output = server.run(|| Command::new("ethtool").args(["-k", receiver::IFACE]).output());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with(['\t', ' ']));
    let pairs = lines.filter_map(|line| line.split_once(": "));
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// The frames of a round, in memory.
struct Made {
    round: Round,
    next: usize,
}

impl FrameSource for Made {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        let Some(step) = self.round.steps.get(self.next) else { return Ok(Polled::End) };
        let mut bytes = self.round.templates[step.template as usize].clone();
        let time_ns = 1_000_000_000 + self.next as u64 * 1000;
        frame::finish(&mut bytes, step, &self.round.turn(0), time_ns, Checksum::Whole);
        self.next += 1;
        visit(Frame {
            bytes: &bytes,
            wire_bytes: bytes.len() as u32,
            timestamp: TimestampNs(time_ns),
            link: LinkType::Ethernet,
            vlan: None,
            iface: IfaceId(0),
        });
        Ok(Polled::Frames(1))
    }
}

/// What the engine allocates for an exchange, once it is warm, on frames in memory.
fn allocations_per_exchange(workload: Workload, seed: u64) -> anyhow::Result<f64> {
    let mut made = Made { round: workload.round(seed, CANNED_FRAMES), next: 0 };
    let canned = Arc::new(Canned::new(&mut made, &IfaceNames::default())?);
    let mut config = Config::new(Input::File(PathBuf::new()));
    config.shard_count = 1;
    let ran = canned::run(&canned, &config, Box::new(Nowhere))?;
    // Counted for the second half of the frames.
    let half = made.round.steps.len() / 2;
    let exchanges = made.round.expected.iter().filter(|exchange| exchange.last_step >= half);
    Ok(ran.allocations_steady.count as f64 / exchanges.count().max(1) as f64)
}
