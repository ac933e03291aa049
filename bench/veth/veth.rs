//! `httplines-bench veth`: what can this machine capture? Trials of all kinds, in a sensible order.

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
/// For each workload it looks for the highest rate at which nothing is lost, then measures how long
/// lines take at parts of that rate, and what a frame costs whom. It makes two network namespaces
/// and a veth pair for each trial, which are gone when it ends, and touches no other interface.
/// Needs root. Exit codes: 0 done; 1 not done; 2 wrong usage; 3 no permission.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Be done in about a minute: five workloads, short trials, delays at half of the rate
    #[arg(long)]
    quick: bool,
    /// What traffic is made of; may be repeated [default: all]
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
    /// What order of frames and sizes of messages come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Measure this program beside us, too: tcpdump, tcpflow, httpry, ngrep, tshark, suricata,
    /// zeek, all (that are installed), or a command with {iface} in it; may be repeated
    ///
    /// With --quick all are tcpdump, tcpflow, httpry and ngrep: the others take longer. A command
    /// is what `httplines-bench trial --receiver` takes. Exchanges are counted whose
    /// request it prints or writes.
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<String>,
    /// What traffic peers take part in; may be repeated [default: the first]
    #[arg(long = "peer-workload", value_enum, value_name = "WORKLOAD")]
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
    /// Measure nothing: tell again what --json wrote here
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "workloads", "peers", "json"])]
    from: Option<PathBuf>,
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

/// What is measured where there is little time and nothing was asked for.
const QUICK_WORKLOADS: [Workload; 5] =
    [Workload::Small, Workload::Bulk, Workload::Superpackets, Workload::Noise, Workload::Hostile];
/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let is_interrupted = trial::interruption()?;
    let campaign = args.campaign(is_interrupted)?;
    // Who cannot be given the result need not wait for it.
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
    tell(&results.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints it; who reads may have seen enough before its end.
pub fn tell(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
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

/// Who is meant: peers that are known, or a command with what suits most.
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
        // Peers are seen beside us.
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
