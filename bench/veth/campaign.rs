//! All trials of `httplines-bench veth`, in rounds. Each round runs every workload and every
//! receiver once, so that repeated measurements are spread over the whole run, and those that are
//! compared with each other are close together.

use crate::machine::Machine;
use crate::measured::{self, allocations_per_exchange};
use crate::namespace::Namespace;
use crate::receiver::{self, Kind};
use crate::report::{Report, is_of_generator};
use crate::results::{Highest, Parameters, Results, Searched};
use crate::search::{Found, LOSS_NONE, LOSS_PARTIAL, Point, Rules, Runner, Search, is_generators};
use crate::spread::Spread;
use crate::trial::Trial;
use crate::workload::Workload;
use anyhow::{Context, bail, ensure};
use httplines::config::CaptureConfig;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Percentages of the highest rate without loss at which delays are measured.
const LATENCY_PERCENT: [u32; 3] = [10, 50, 90];
/// The percentage at which a frame's cost is measured; with --quick delays, too.
const COST_PERCENT: u32 = 50;
/// Rounds of other programs with --quick: their trials take longer.
const QUICK_RIVAL_ROUNDS: u32 = 3;
/// The name of a measurement without further arguments.
pub const DEFAULT: &str = "default";
/// Trials in which the generator missed its rate before a measurement is given up.
const ATTEMPTS: u32 = 3;

/// A program to compare with.
#[derive(Clone, Debug)]
pub struct Rival {
    /// Its name in the results.
    pub name: String,
    /// As `httplines-bench trial --receiver` takes it.
    pub command: String,
    /// Time it may take to start, and must be idle at the end.
    pub drain: Duration,
    /// The rules of its searches.
    pub rules: Rules,
}

/// What to measure, and how.
#[derive(Debug)]
pub struct Campaign {
    /// Kinds of traffic.
    pub workloads: Vec<Workload>,
    /// Programs to compare with.
    pub rivals: Vec<Rival>,
    /// The workloads they take part in.
    pub rival_workloads: Vec<Workload>,
    /// Quick: delays at half of the rate, costs without further arguments only.
    pub is_quick: bool,
    /// The rules of a search.
    pub rules: Rules,
    /// Rounds of searches, and then of delays and costs.
    pub rounds: u32,
    /// The common part of all trials.
    pub base: Trial,
    /// Ends the run if set.
    pub is_interrupted: Arc<AtomicBool>,
}

/// A receiver and its workload: one search per round.
struct Entry {
    name: String,
    search: Search<Bench>,
    ndr: Vec<Found>,
    partial: Option<Found>,
}

/// Trials at a percentage of the highest rate, for delays; and at one percentage for a frame's
/// cost, too.
struct Measurement {
    workload: Workload,
    percent: u32,
    variant: &'static str,
    trial: Trial,
    reports: Vec<Report>,
}

impl Campaign {
    /// Runs all trials.
    pub fn run(&self) -> anyhow::Result<Results> {
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        let begun_s = begun_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let parameters = self.parameters()?;
        let mut entries = self.entries();
        let rounds_of = |entry: &Entry| match entry.search.runner.trial.receiver {
            Kind::Command(_) if self.is_quick => self.rounds.min(QUICK_RIVAL_ROUNDS),
            _ => self.rounds,
        };
        let progress = Progress::new(entries.iter().map(|it| u64::from(rounds_of(it))).sum())?;
        for round in 0..self.rounds {
            for entry in entries.iter_mut().filter(|entry| round < rounds_of(entry)) {
                let workload = entry.search.runner.trial.workload.name();
                let (name, of) = (&entry.name, self.rounds);
                progress
                    .advance(format!("round {} of {of}: {workload}, rate of {name}", round + 1));
                entry.search()?;
            }
        }
        let searches =
            entries.into_iter().map(Entry::searched).collect::<anyhow::Result<Vec<_>>>()?;
        let mut results = Results {
            machine: Machine::look(),
            parameters,
            begun_s,
            seconds: 0.0,
            searches,
            latencies: Vec::new(),
            costs: Vec::new(),
            allocations_per_exchange: BTreeMap::new(),
        };
        self.measure(&mut results, &progress)?;
        progress.bar.finish_and_clear();
        results.seconds = begun.elapsed().as_secs_f64();
        Ok(results)
    }

    fn parameters(&self) -> anyhow::Result<Parameters> {
        let base = &self.base;
        Ok(Parameters {
            seed: base.seed,
            short_s: self.rules.short.as_secs_f64(),
            long_s: self.rules.long.as_secs_f64(),
            repeats: self.rounds,
            resolution: self.rules.resolution,
            retire_timeout_ms: retire_timeout_ms(&base.arguments),
            generator_cpu: base.cpus.generator.map(|cpu| cpu.0),
            receiver_cpu: base.cpus.receiver.map(|cpu| cpu.0),
            arguments: base.arguments.clone(),
            features: features()?,
        })
    }

    /// In the order of a round: receivers of the same workload one after the other.
    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for workload in &self.workloads {
            let ours = Trial { workload: *workload, ..self.base.clone() };
            let null = Trial { receiver: Kind::Null, arguments: Vec::new(), ..ours.clone() };
            let is_theirs = self.rival_workloads.contains(workload);
            // Next to other programs our trials are as long as theirs; slow programs need the
            // longer trials.
            let theirs = self.rivals.iter().filter(|_| is_theirs).map(|rival| &rival.rules);
            let rules = theirs.min_by_key(|rules| rules.long).map_or(self.rules, |theirs| Rules {
                short: theirs.short.max(self.rules.short),
                long: theirs.long.max(self.rules.long),
                ..self.rules
            });
            entries.push(self.entry("httplines", ours.clone(), rules));
            entries.push(self.entry("null", null, rules));
            for rival in self.rivals.iter().filter(|_| is_theirs) {
                let trial = Trial {
                    receiver: Kind::Command(rival.command.clone()),
                    arguments: Vec::new(),
                    drain: rival.drain,
                    ..ours.clone()
                };
                entries.push(self.entry(&rival.name, trial, rival.rules));
            }
        }
        entries
    }

    fn entry(&self, name: &str, trial: Trial, rules: Rules) -> Entry {
        let bench = Bench { trial, is_interrupted: self.is_interrupted.clone(), last: None };
        let search = Search::new(bench, rules);
        Entry { name: name.into(), search, ndr: Vec::new(), partial: None }
    }

    /// Measures delays and costs at percentages of the rates found, in rounds, too.
    fn measure(&self, results: &mut Results, progress: &Progress) -> anyhow::Result<()> {
        let mut all = self.wanted(results);
        progress.bar.inc_length(all.len() as u64 * u64::from(self.rounds));
        for round in 0..self.rounds {
            for it in &mut all {
                let (what, of) = (it.what(), self.rounds);
                progress.advance(format!("round {} of {of}: {what}", round + 1));
                // One trial is enough to show the effect of other arguments.
                if round == 0 || it.variant == DEFAULT {
                    it.reports.extend(self.attempt(&it.trial)?);
                }
            }
        }
        for it in all {
            let workload = it.workload.name();
            if it.variant == DEFAULT {
                results.latencies.extend(measured::latency(workload, it.percent, &it.reports));
            }
            if it.percent == COST_PERCENT {
                results.costs.extend(measured::cost(workload, it.variant, &it.reports));
            }
        }
        for workload in &self.workloads {
            let count = allocations_per_exchange(*workload, self.base.seed)?;
            results.allocations_per_exchange.insert(workload.name().into(), count);
        }
        Ok(())
    }

    fn wanted(&self, results: &Results) -> Vec<Measurement> {
        let mut all = Vec::new();
        for workload in &self.workloads {
            let searched = results.searched(workload.name(), "httplines");
            let rate = searched.map_or(0.0, |it| it.ndr.rate.median);
            let mut want = |percent: u32, variant, arguments: Vec<String>| {
                let asked = (rate * f64::from(percent) / 100.0) as u64;
                let trial = Trial {
                    workload: *workload,
                    rate: Some(asked),
                    time: self.rules.long,
                    arguments: [&self.base.arguments[..], &arguments].concat(),
                    times_filter: percent == COST_PERCENT,
                    ..self.base.clone()
                };
                let workload = *workload;
                if asked > 0 {
                    all.push(Measurement { workload, percent, variant, trial, reports: vec![] });
                }
            };
            let percents: &[u32] = if self.is_quick { &[COST_PERCENT] } else { &LATENCY_PERCENT };
            for percent in percents {
                want(*percent, DEFAULT, Vec::new());
            }
            for (variant, arguments) in self.variants(*workload) {
                want(COST_PERCENT, variant, arguments);
            }
        }
        all
    }

    /// Arguments to measure in addition to the defaults.
    fn variants(&self, workload: Workload) -> Vec<(&'static str, Vec<String>)> {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let mut variants = Vec::new();
        if !self.is_quick {
            variants.push(("one shard", words("--shards 1")));
            variants.push(("--filter off", words("--filter off")));
            if workload.has_bodies() {
                variants.push(("--no-elide", words("--no-elide")));
            }
        }
        variants
    }

    /// A measuring trial; `None` if the generator missed its rate.
    fn attempt(&self, trial: &Trial) -> anyhow::Result<Option<Report>> {
        for _ in 0..ATTEMPTS {
            let (report, point) = once(trial, &self.is_interrupted)?;
            if !point.is_late {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn search(&mut self) -> anyhow::Result<()> {
        // A receiver that handled no rate at all need not be tried again.
        if self.ndr.last().is_some_and(|found| found.rate == 0.0) {
            return Ok(());
        }
        let search = &mut self.search;
        let found = search.find(LOSS_NONE, self.ndr.last())?;
        // If the generator is the limit, there is no more to find out. Nor is there if the rate
        // above already exceeded this loss, too.
        let is_known = is_generators(&found.limit) || search.is_last(LOSS_PARTIAL, &found);
        if self.ndr.is_empty() && !is_known && search.is_held(LOSS_PARTIAL) {
            self.partial = Some(search.find(LOSS_PARTIAL, Some(&found))?);
        }
        self.ndr.push(found);
        Ok(())
    }

    fn searched(self) -> anyhow::Result<Searched> {
        let Bench { trial, last, .. } = self.search.runner;
        let report = last.context("a search has trials")?;
        let frames = report.sent.frames as f64;
        // A rate without loss is also a rate with at most partial loss.
        let pdr: Vec<Found> = match self.partial {
            None => self.ndr.clone(),
            Some(partial) => {
                let more = |found: &Found| {
                    if found.rate > partial.rate { found } else { &partial }.clone()
                };
                self.ndr.iter().map(more).collect()
            }
        };
        Ok(Searched {
            workload: trial.workload.name().into(),
            receiver: self.name,
            command: match trial.receiver {
                Kind::Command(command) => Some(command),
                _ => None,
            },
            rounds: self.ndr.iter().map(|found| found.rate).collect(),
            ndr: highest(&self.ndr),
            pdr: highest(&pdr),
            frame_bytes: report.sent.bytes as f64 / frames,
            exchanges_per_frame: report.exchanges_sent as f64 / frames,
            points: self.search.points,
        })
    }
}

impl Measurement {
    fn what(&self) -> String {
        let (workload, percent) = (self.workload.name(), self.percent);
        match self.variant {
            DEFAULT => format!("{workload}, delays and costs at {percent}%"),
            variant => format!("{workload}, costs with {variant}"),
        }
    }
}

/// Shows the current step, on a terminal as a bar.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(steps: u64) -> anyhow::Result<Progress> {
        let bar = ProgressBar::new(steps);
        let style = "{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
        // A trial takes a while, in which the clock keeps running.
        bar.enable_steady_tick(Duration::from_millis(500));
        Ok(Progress { bar })
    }

    /// Advances by one step, and shows the next.
    fn advance(&self, what: String) {
        if self.bar.is_hidden() {
            eprintln!("httplines-bench: {what}");
        }
        self.bar.set_message(what);
        self.bar.inc(1);
    }
}

/// Runs the trials of a search.
struct Bench {
    trial: Trial,
    is_interrupted: Arc<AtomicBool>,
    last: Option<Report>,
}

impl Runner for Bench {
    fn run(&mut self, rate: Option<u64>, time: Duration) -> anyhow::Result<Point> {
        let trial = Trial { rate, time, ..self.trial.clone() };
        let (report, point) = once(&trial, &self.is_interrupted)?;
        self.last = Some(report);
        Ok(point)
    }
}

/// The highest rate of this kind of trial without loss: the rate and time of `trial` are not used.
pub fn lossless_rate(
    trial: Trial,
    rules: Rules,
    is_interrupted: &Arc<AtomicBool>,
) -> anyhow::Result<Found> {
    let bench = Bench { trial, is_interrupted: is_interrupted.clone(), last: None };
    Search::new(bench, rules).find(LOSS_NONE, None)
}

/// One trial; fails if its counters do not add up.
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
        left: report.left,
        seconds: report.sent.elapsed_ns as f64 / 1e9,
    };
    Ok((report, point))
}

fn highest(found: &[Found]) -> Highest {
    let rate = Spread::of(found.iter().map(|found| found.rate));
    // The limit of the lowest rate: the others were stopped later.
    let least = found.iter().min_by(|one, other| one.rate.total_cmp(&other.rate));
    Highest { rate, limit: least.map(|found| found.limit.clone()).unwrap_or_default() }
}

/// The value that httplines uses with these arguments.
fn retire_timeout_ms(arguments: &[String]) -> u32 {
    let is_it = |word: &String| word == "--retire-timeout-ms";
    let at = arguments.iter().position(is_it);
    let given = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    given.unwrap_or(CaptureConfig::default().retire_timeout_ms)
}

/// The features of a veth pair like those of the trials, from ethtool(8).
fn features() -> anyhow::Result<BTreeMap<String, String>> {
    let (_client, server) =
        Namespace::pair().context("cannot create network namespaces with a veth pair")?;
    let output = server.run(|| Command::new("ethtool").args(["-k", receiver::IFACE]).output());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with(['\t', ' ']));
    let pairs = lines.filter_map(|line| line.split_once(": "));
    Ok(pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect())
}
