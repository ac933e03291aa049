//! `httplines-bench trial`: one workload, at one rate, for a time, into one receiver.

use crate::arrivals::{Arrivals, Mark};
use crate::check::Check;
use crate::generator::{self, Means, Plan, Sent};
use crate::machine::Machine;
use crate::namespace::Namespace;
use crate::receiver::{self, Finished, Kind, Receiver};
use crate::recording;
use crate::report::{Cpu, Lost, Report, Setting, Wire};
use crate::round::Round;
use crate::stopwatch::Stopwatch;
use crate::traffic::Traffic;
use crate::workload::Workload;
use anyhow::{Context, bail, ensure};
use httplines::sys::affinity::{self, CpuId};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One workload at one rate into one receiver: what was lost, where, and at what cost
///
/// Creates two network namespaces and a veth pair, which disappear when it ends, and touches no
/// other interface. Needs root. Exit codes: 0 the trial is valid, whatever was lost; 1 it is not,
/// or could not run; 2 wrong usage; 3 no permission.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind of traffic
    #[arg(short = 'w', long, value_enum, default_value = "small")]
    workload: Workload,
    /// Send the frames of a capture instead, with other clients in each round
    ///
    /// The capture must have whole Ethernet frames. They are sent in their order, at --rate. Each
    /// round should give the records that httplines finds in the file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "seed"])]
    pcap: Option<PathBuf>,
    /// Seed for the order of frames and the sizes of messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Frames per second [default: as many as the generator can send]
    #[arg(short = 'r', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Duration, extended to the end of a round
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "2")]
    #[arg(value_parser = seconds)]
    time_s: Duration,
    /// The receiver: httplines, null, null-unfiltered, or a command with {iface} in it
    ///
    /// The command runs in the receiver's namespace, by sh. {iface} is the interface, {dir} a
    /// directory for its output. A request counts as found if its number is printed or written. The
    /// command is ready once it has a packet socket, and finished when it has been idle for
    /// --drain-s; SIGINT ends it.
    #[arg(long, value_name = "WHO", default_value = "httplines")]
    receiver: String,
    /// The program to use as httplines [default: the one next to this program]
    #[arg(long, value_name = "PATH")]
    httplines: Option<PathBuf>,
    /// How to put frames onto the wire [default: kernel, if possible]
    ///
    /// The kernel's generator needs Linux 5.18 and cannot send superpackets.
    #[arg(long, value_enum)]
    means: Option<Means>,
    /// The generator's CPU [default: the first]
    #[arg(long, value_name = "CPU")]
    generator_cpu: Option<usize>,
    /// The receiver's CPU [default: of two CPUs the other one, of more any]
    #[arg(long, value_name = "CPU")]
    receiver_cpu: Option<usize>,
    /// Time a command may take to start, and must be idle at the end
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    drain_s: Duration,
    /// Keep the receiver's output in this directory, which is created
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
    /// Let the kernel time the filter, which makes each of its runs more expensive
    #[arg(long)]
    time_filter: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// More arguments for httplines or the null reader
    #[arg(last = true, value_name = "ARGUMENTS")]
    receiver_arguments: Vec<String>,
}

/// Maximum number of frames in a round.
const ROUND_FRAMES: u64 = 1 << 17;
/// Without a rate, a round lasts as long as at this rate, or less.
const FLAT_OUT_RATE: u64 = 2_000_000;
const CLIENT_IFACE: &str = "veth0";
const MTU_MAX: u32 = 65_535;
const EXIT_PERMISSION: u8 = 3;

/// Parses a duration from the command line.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
    seconds.map(Duration::from_secs_f64).ok_or("more than 0 and at most 86400 seconds".into())
}

/// The parameters of a trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The kind of traffic.
    pub workload: Workload,
    /// A capture to send instead.
    pub pcap: Option<PathBuf>,
    /// Seed of order and sizes.
    pub seed: u64,
    /// Frames per second; `None`: as many as possible.
    pub rate: Option<u64>,
    /// Duration, extended to the end of a round.
    pub time: Duration,
    /// The receiver.
    pub receiver: Kind,
    /// The program to use as httplines.
    pub httplines: PathBuf,
    /// More arguments for httplines or the null reader.
    pub arguments: Vec<String>,
    /// How to put frames onto the wire; `None`: by the kernel, if possible.
    pub means: Option<Means>,
    /// The CPUs of generator and receiver.
    pub cpus: Cpus,
    /// Time a command may take to start, and must be idle at the end.
    pub drain: Duration,
    /// Where to keep the receiver's output.
    pub keep: Option<PathBuf>,
    /// Whether the kernel times the filter, which makes every run of it more expensive.
    pub times_filter: bool,
}

/// The httplines next to this program.
pub fn httplines_beside() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("httplines"))
}

impl Args {
    fn trial(&self) -> io::Result<Trial> {
        Ok(Trial {
            workload: self.workload,
            pcap: self.pcap.clone(),
            seed: self.seed,
            rate: self.rate,
            time: self.time_s,
            receiver: Kind::parse(&self.receiver),
            httplines: self.httplines.clone().map_or_else(httplines_beside, Ok)?,
            arguments: self.receiver_arguments.clone(),
            means: self.means,
            cpus: Cpus::choose(self.generator_cpu, self.receiver_cpu),
            drain: self.drain_s,
            keep: self.keep.clone(),
            times_filter: self.time_filter,
        })
    }
}

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let is_interrupted = interruption()?;
    let sending = || eprintln!("httplines-bench: sending");
    let report = match args.trial()?.run(&is_interrupted, sending) {
        Err(error) if is_permission(&error) => return Ok(without_permission(&error)),
        result => result?,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A flag that is set by SIGINT and SIGTERM.
pub fn interruption() -> io::Result<Arc<AtomicBool>> {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, is_interrupted.clone())?;
    }
    Ok(is_interrupted)
}

/// Whether a trial failed for lack of permission.
pub fn is_permission(error: &anyhow::Error) -> bool {
    let root = error.root_cause().downcast_ref::<io::Error>();
    root.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Reports that on standard error.
pub fn without_permission(error: &anyhow::Error) -> ExitCode {
    eprintln!("httplines-bench: {error:#}; a trial needs root");
    ExitCode::from(EXIT_PERMISSION)
}

impl Trial {
    /// Runs it, and reports when all is ready. An error is a trial that could not run.
    pub fn run(
        &self,
        is_interrupted: &Arc<AtomicBool>,
        sending: impl FnOnce(),
    ) -> anyhow::Result<Report> {
        let round = Arc::new(match &self.pcap {
            Some(path) => recording::round(path)?,
            None => self.workload.round(self.seed, self.round_frames()),
        });
        let (client, server) =
            Namespace::pair().context("cannot create network namespaces with a veth pair")?;
        let directory = Directory::new(self.keep.as_deref())?;
        let load = self.load(&round)?;
        if self.pcap.is_some() {
            // Superpackets are sent as one frame each, and not segmented.
            client.ip(&format!("link set {CLIENT_IFACE} mtu {MTU_MAX}"))?;
            server.ip(&format!("link set {} mtu {MTU_MAX}", receiver::IFACE))?;
        }
        let mut arguments = self.arguments.clone();
        if self.receiver == Kind::Httplines && round.has_talks() {
            arguments.extend(["--records", "http,websocket"].map(String::from));
        }
        if self.receiver == Kind::Httplines && round.has_tls() {
            arguments.extend(["--records", "tls"].map(String::from));
        }
        let setup = receiver::Setup {
            kind: self.receiver.clone(),
            httplines: self.httplines.clone(),
            arguments,
            iface: receiver::IFACE.into(),
            directory: directory.receiver.clone(),
            cpu: self.cpus.receiver,
            drain: self.drain,
        };
        let stopwatch = self.times_filter.then(Stopwatch::start).transpose()?;
        let mut receiver = Receiver::start(&setup, &server)?;
        let follows = self.receiver == Kind::Httplines && self.rate.is_some();
        let arrivals = follows.then(|| Arrivals::follow(&setup.output())).flatten();
        let before = Seen::look(&server);
        sending();
        let plan = Plan { rate: self.rate, duration: self.time };
        let means = load.means();
        let sent = send(load, &client, &server, &round, plan, self.cpus.generator, is_interrupted)?;
        receiver.note_sent();
        let after = Seen::look(&server);
        receiver.await_idle(receiver::WAIT);
        let filter = stopwatch.map(|stopwatch| stopwatch.read());
        let finished = receiver.stop()?;
        let wire = Wire {
            received: (means == Means::Socket).then(|| after.received - before.received),
            backlog_dropped: after.backlog_dropped - before.backlog_dropped,
        };
        let mut report = report(self.setting(&round, means), sent, wire, &finished);
        report.cpu.filter_ns = filter;
        let round_count = round.count_in(sent.frames);
        report.http_frames = round.http_frame_count * round_count;
        report.exchanges_sent = round.expected.len() as u64 * round_count;
        let marks = arrivals.map(Arrivals::finish).unwrap_or_default();
        self.examine(&setup, &directory, &round, &marks, &mut report)?;
        report.invalid.extend(finished.failure);
        if is_interrupted.load(Ordering::Relaxed) {
            report.invalid.push("interrupted".into());
        }
        report.judge();
        Ok(report)
    }

    /// Compares the receiver's output with what was sent.
    fn examine(
        &self,
        setup: &receiver::Setup,
        directory: &Directory,
        round: &Round,
        marks: &[Mark],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let round_count = round.count_in(report.sent.frames);
        let check = Check::new(round, round_count);
        match (&self.receiver, &self.pcap) {
            (Kind::Httplines, None) => {
                let (exchanges, delays) = check.records(&setup.output(), &report.sent, marks)?;
                (report.exchanges, report.delay) = (Some(exchanges), delays);
            }
            (Kind::Httplines, Some(path)) => {
                let expected = directory.path.join("expected");
                let mut httplines = Command::new(&setup.httplines);
                let read = httplines.arg("-r").arg(path).arg("-o").arg(&expected).output()?;
                ensure!(
                    read.status.success(),
                    "httplines cannot read {}: {}",
                    path.display(),
                    String::from_utf8_lossy(&read.stderr).trim_end()
                );
                report.exchanges = Some(check.recorded(&setup.output(), &expected, round_count)?);
            }
            (Kind::Command(_), None) => {
                report.exchanges = Some(check.mentions(&directory.receiver)?);
            }
            // A null reader finds nothing; what other receivers should find in an arbitrary capture
            // is not known.
            (Kind::Null | Kind::NullUnfiltered | Kind::Command(_), _) => {}
        }
        Ok(())
    }

    /// A round is as long as the trial, or one of several of equal length.
    fn round_frames(&self) -> usize {
        let rate = self.rate.unwrap_or(FLAT_OUT_RATE);
        let frames = (rate as f64 * self.time.as_secs_f64()) as u64;
        frames.div_ceil(frames.div_ceil(ROUND_FRAMES).max(1)).max(1) as usize
    }

    /// The kernel's generator if it can make the frames; otherwise, or on request, a packet socket.
    fn load(&self, round: &Round) -> anyhow::Result<Load> {
        let is_super = round.has_superpackets();
        match self.means {
            Some(Means::Kernel) if is_super => {
                bail!("the kernel's means make no superpackets; leave --means out")
            }
            Some(Means::Socket) => return Ok(Load::Socket),
            None if is_super => return Ok(Load::Socket),
            _ => {}
        }
        match Traffic::load(&round.steps, &round.templates) {
            Ok(traffic) => Ok(Load::Kernel(traffic)),
            Err(error) if self.means.is_some() => Err(error),
            Err(error) => {
                eprintln!("httplines-bench: {error:#}; frames come from a packet socket");
                Ok(Load::Socket)
            }
        }
    }

    fn setting(&self, round: &Round, means: Means) -> Setting {
        Setting {
            workload: match &self.pcap {
                Some(path) => path.display().to_string(),
                None => self.workload.name().into(),
            },
            seed: self.seed,
            receiver: self.receiver.to_string(),
            receiver_arguments: self.arguments.clone(),
            means: means.name(),
            rate: self.rate,
            round_frames: round.steps.len() as u64,
            connections_open_max: round.concurrency_max,
            generator_cpu: self.cpus.generator.map(|cpu| cpu.0),
            receiver_cpu: self.cpus.receiver.map(|cpu| cpu.0),
            machine: Machine::look(),
        }
    }
}

/// The loaded generator.
enum Load {
    Kernel(Traffic),
    Socket,
}

impl Load {
    fn means(&self) -> Means {
        match self {
            Load::Kernel(_) => Means::Kernel,
            Load::Socket => Means::Socket,
        }
    }
}

fn send(
    load: Load,
    client: &Namespace,
    server: &Namespace,
    round: &Arc<Round>,
    plan: Plan,
    cpu: Option<CpuId>,
    is_interrupted: &Arc<AtomicBool>,
) -> anyhow::Result<Sent> {
    let (round, is_interrupted) = (round.clone(), is_interrupted.clone());
    let pin = move || {
        // Only a thread that gets the CPU when it wants it can keep a schedule.
        crate::sys::outrank();
        cpu.is_none_or(affinity::pin_to)
    };
    let sent = match load {
        Load::Kernel(traffic) => server.run(move || {
            pin();
            generator::kernel::send(&traffic, &round, &plan, receiver::IFACE, &is_interrupted)
        }),
        Load::Socket => client.run(move || {
            pin();
            generator::socket::send(&round, &plan, CLIENT_IFACE, &is_interrupted)
        }),
    };
    sent.context("the generator broke off")
}

/// Where generator and receiver run; `None`: anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// The generator, and the part of the receive path that runs with it.
    pub generator: Option<CpuId>,
    /// The receiver.
    pub receiver: Option<CpuId>,
}

impl Cpus {
    /// Different CPUs for generator and receiver, if there are two.
    pub fn choose(generator: Option<usize>, receiver: Option<usize>) -> Cpus {
        let allowed = affinity::allowed_cpus();
        let generator = generator.map(CpuId).or(allowed.first().copied());
        let other = allowed.iter().copied().find(|cpu| Some(*cpu) != generator);
        let receiver = receiver.map(CpuId);
        // With more than two CPUs the receiver may have all of them.
        let receiver = receiver.or(if allowed.len() == 2 { other } else { None });
        Cpus { generator, receiver }
    }
}

/// A snapshot of the kernel's counters.
struct Seen {
    received: u64,
    backlog_dropped: u64,
}

impl Seen {
    fn look(server: &Namespace) -> Seen {
        let devices = server.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
        let devices = devices.unwrap_or_default();
        let prefix = format!("{}:", receiver::IFACE);
        let line = devices.lines().find_map(|line| line.trim().strip_prefix(prefix.as_str()));
        let received = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        Seen {
            received: received.unwrap_or(0),
            backlog_dropped: httplines::capture::live::Softnet::open().dropped(),
        }
    }
}

fn report(setting: Setting, sent: Sent, wire: Wire, finished: &Finished) -> Report {
    Report {
        setting,
        sent,
        achieved_rate: sent.frames as f64 / (sent.elapsed_ns.max(1) as f64 / 1e9),
        http_frames: 0,
        exchanges_sent: 0,
        wire,
        totals: finished.totals.clone(),
        exchanges: None,
        delay: None,
        cpu: Cpu::new(&sent, &finished.cpu),
        left: finished.left,
        memory_bytes_max: finished.memory_bytes_max,
        lost: Lost::default(),
        blamed: Vec::new(),
        invalid: Vec::new(),
    }
}

/// The directory of a trial, removed on drop unless it is to be kept.
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Inside it, for the receiver's output.
    pub receiver: PathBuf,
    is_kept: bool,
}

impl Directory {
    /// Makes it: at `keep`, or in the directory for temporary files.
    pub fn new(keep: Option<&Path>) -> anyhow::Result<Directory> {
        let own = || std::env::temp_dir().join(format!("httplines-bench-{}", std::process::id()));
        let path = keep.map_or_else(own, Path::to_path_buf);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = std::fs::canonicalize(path)?;
        let directory =
            Directory { receiver: path.join("receiver"), path, is_kept: keep.is_some() };
        std::fs::create_dir(&directory.receiver)?;
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
