//! `httplines-bench veth`: what can this machine capture? It runs trials of all kinds, in a
//! sensible order.

use crate::campaign::{Campaign, Rival};
use crate::page;
use crate::peers::{self, PEERS, Peer};
use crate::receiver::Kind;
use crate::results;
use crate::search::Rules;
use crate::trial::{self, Cpus, Trial};
use crate::workload::Workload;
use anyhow::{Context, ensure};
use clap::ValueEnum;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What can this machine capture? Rates without loss, delays, and what a frame costs
///
/// For each workload it searches for the highest rate without loss, then measures the delay of
/// lines at parts of that rate, and the cost of a frame by component. It creates two network
/// namespaces and a veth pair for each trial, which disappear when it ends, and touches no other
/// interface. Needs root. Exit codes: 0 done; 1 not done; 2 wrong usage; 3 no permission.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Be done in about a minute: five workloads, short trials, delays at half of the rate
    #[arg(long)]
    quick: bool,
    /// The kind of traffic; may be repeated [default: all]
    #[arg(short = 'w', long = "workload", value_enum, value_name = "WORKLOAD")]
    workloads: Vec<Workload>,
    /// Rounds, each with a search of every highest rate [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: Option<u32>,
    /// Length of a trial that closes in [default: 0.4; quick: 0.15]
    #[arg(long, value_name = "SECONDS", value_parser = trial::seconds)]
    short_s: Option<Duration>,
    /// Length of a trial that confirms or measures [default: 2; quick: 0.3]
    #[arg(long, value_name = "SECONDS", value_parser = trial::seconds)]
    long_s: Option<Duration>,
    /// Seed for the order of frames and the sizes of messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Measure this program for comparison, too: tcpdump, tcpflow, httpry, ngrep, tshark, suricata,
    /// zeek, all (that are installed), or a command with {iface} in it; may be repeated
    ///
    /// With --quick, all means tcpdump, tcpflow, httpry and ngrep: the others take longer. For
    /// commands see `httplines-bench trial --receiver`. An exchange counts as found if its request
    /// is printed or written.
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<String>,
    /// The workload that peers take part in; may be repeated [default: the first]
    #[arg(long = "peer-workload", value_enum, value_name = "WORKLOAD")]
    peer_workloads: Vec<Workload>,
    /// Time a command may take to start, and must be idle at the end [default: 2, or a known peer's
    /// own]
    #[arg(long, value_name = "SECONDS", value_parser = trial::seconds)]
    drain_s: Option<Duration>,
    /// Write all results to this file, with everything needed to repeat the run
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write them as one self-contained page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the charts as SVG files into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
    /// Measure nothing: report the results that --json wrote to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "workloads", "peers", "json"])]
    from: Option<PathBuf>,
    /// The program to use as httplines [default: the one next to this program]
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

/// The workloads of --quick if none is given.
const QUICK_WORKLOADS: [Workload; 5] =
    [Workload::Small, Workload::Bulk, Workload::Superpackets, Workload::Noise, Workload::Hostile];
/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let is_interrupted = trial::interruption()?;
    let campaign = args.campaign(is_interrupted)?;
    // Check first whether the results can be written.
    [&args.json, &args.html].into_iter().flatten().try_for_each(|path| ensure_writable(path))?;
    let results = match args.from.as_deref().map_or_else(|| campaign.run(), results::read) {
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
    print_text(&results.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints it; the reader may close the pipe before the end.
pub fn print_text(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Checks that the file can be written, without changing it.
fn ensure_writable(path: &Path) -> anyhow::Result<()> {
    let is_new = !path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))?;
    if is_new {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// The peers of that name: known programs, or a command with the usual settings.
fn peers(text: &str, is_quick: bool) -> anyhow::Result<Vec<Peer<'_>>> {
    if text == "all" {
        let is_in_time = |peer: &Peer<'_>| !is_quick || peer.trial_s <= peers::TRIAL_S;
        let all = PEERS.into_iter().filter(Peer::is_installed);
        return Ok(all.filter(is_in_time).collect());
    }
    if let Some(peer) = Peer::named(text) {
        ensure!(peer.is_installed(), "{text} is not installed");
        return Ok(vec![*peer]);
    }
    ensure!(
        text.contains("{iface}"),
        "--peer {text}: neither a program that is known nor a command with {{iface}} in it"
    );
    let words = text.split_whitespace().filter(|word| *word != "exec");
    let name = words.map(|word| word.rsplit('/').next().unwrap_or(word)).next().unwrap_or(text);
    Ok(vec![Peer { name, command: text, drain_s: 2.0, trial_s: peers::TRIAL_S }])
}

impl Args {
    fn campaign(&self, is_interrupted: Arc<AtomicBool>) -> anyhow::Result<Campaign> {
        let seconds = |given: Option<Duration>, quick_s: f64, full_s: f64| {
            given.unwrap_or(Duration::from_secs_f64(if self.quick { quick_s } else { full_s }))
        };
        let rules = Rules {
            short: seconds(self.short_s, 0.15, 0.4),
            long: seconds(self.long_s, 0.3, 2.0),
            resolution: if self.quick { 0.1 } else { 0.02 },
        };
        let rivals = self.rivals(rules)?;
        let mut workloads = match (self.workloads.is_empty(), self.quick) {
            (true, true) => QUICK_WORKLOADS.to_vec(),
            (true, false) => Workload::value_variants().to_vec(),
            (false, _) => self.workloads.clone(),
        };
        let rival_workloads = match self.peer_workloads.is_empty() {
            true => workloads[..1].to_vec(),
            false => self.peer_workloads.clone(),
        };
        // Peers are compared with httplines.
        for workload in rival_workloads.iter().filter(|_| !rivals.is_empty()) {
            if !workloads.contains(workload) {
                workloads.push(*workload);
            }
        }
        Ok(Campaign {
            workloads,
            rivals,
            rival_workloads,
            is_quick: self.quick,
            rules,
            rounds: self.repeats.unwrap_or(5),
            base: Trial {
                workload: Workload::Small,
                pcap: None,
                seed: self.seed,
                rate: None,
                time: Duration::ZERO,
                receiver: Kind::Httplines,
                httplines: self.httplines.clone().map_or_else(trial::httplines_beside, Ok)?,
                arguments: self.arguments.clone(),
                means: None,
                cpus: Cpus::choose(self.generator_cpu, self.receiver_cpu),
                drain: Duration::from_secs(2),
                keep: None,
                times_filter: false,
            },
            is_interrupted,
        })
    }

    fn rivals(&self, rules: Rules) -> anyhow::Result<Vec<Rival>> {
        let peers = self.peers.iter().map(|text| peers(text, self.quick));
        let peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
        let rival = |peer: Peer<'_>| {
            let least = Duration::from_secs_f64(peer.trial_s);
            Rival {
                name: peer.name.into(),
                command: peer.command.into(),
                drain: self.drain_s.unwrap_or(Duration::from_secs_f64(peer.drain_s)),
                rules: Rules {
                    short: self.short_s.unwrap_or(rules.short.max(least)),
                    long: self.long_s.unwrap_or(rules.long.max(least)),
                    ..rules
                },
            }
        };
        Ok(peers.concat().into_iter().map(rival).collect())
    }
}
