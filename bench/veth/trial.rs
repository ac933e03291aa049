//! `httplines-bench trial`: one workload, at one rate, for a time, into one receiver.

use crate::check::Check;
use crate::generator::{self, Means, Plan, Sent};
use crate::namespace::Namespace;
use crate::receiver::{self, Finished, Kind, Receiver};
use crate::recording;
use crate::report::{Cpu, Delay, Lost, Report, Setting, Wire};
use crate::round::Round;
use crate::workload::Workload;
use anyhow::{Context, bail, ensure};
use httplines::sys::affinity::{self, CpuId};
use httplines::sys::traffic::Traffic;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One workload at one rate into one receiver: what was lost, where, and at what cost
///
/// It makes two network namespaces and a veth pair of its own, which are gone when it ends, and
/// touches no other interface. Needs root. Exit codes: 0 the trial is valid, whatever was lost; 1
/// it is not, or could not be made; 2 wrong usage; 3 no permission.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What traffic is made of
    #[arg(short = 'w', long, value_enum, default_value = "small")]
    workload: Workload,
    /// Send the frames of a capture instead, with other clients in each round
    ///
    /// Of Ethernet frames, whole; in their order, at --rate. What httplines finds in the file is
    /// what it should find on the wire, as often as there are rounds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "seed"])]
    pcap: Option<PathBuf>,
    /// What the order of frames and the sizes of messages come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Frames a second [default: as many as the generator can]
    #[arg(short = 'r', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// For so long, up to the end of a round
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "2")]
    #[arg(value_parser = seconds)]
    time_s: Duration,
    /// Who receives: httplines, null, null-unfiltered, or a command with {iface} in it
    ///
    /// The command runs in the receiver's namespace, by sh. {iface} is the interface, {dir} a
    /// directory where it may write. Requests are counted whose number it prints or writes. It is
    /// ready once it has a packet socket, and over when it has been idle for --drain-s; SIGINT ends
    /// it.
    #[arg(long, value_name = "WHO", default_value = "httplines")]
    receiver: String,
    /// The program that is called httplines [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    httplines: Option<PathBuf>,
    /// How frames come onto the wire [default: kernel, where it can]
    ///
    /// The kernel's means need Linux 5.18 and make no superpackets.
    #[arg(long, value_enum)]
    means: Option<Means>,
    /// The generator's CPU [default: the first]
    #[arg(long, value_name = "CPU")]
    generator_cpu: Option<usize>,
    /// The receiver's CPU [default: of two CPUs the other one, of more any]
    #[arg(long, value_name = "CPU")]
    receiver_cpu: Option<usize>,
    /// How long a command may take to begin, and must be idle at the end
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    drain_s: Duration,
    /// Keep the receiver's output here, in a directory that is made
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// More arguments for httplines or the null reader
    #[arg(last = true, value_name = "ARGUMENTS")]
    receiver_arguments: Vec<String>,
}

/// Frames of a round at most, and where there is no rate.
const ROUND_FRAMES: u64 = 1 << 17;
const CLIENT_IFACE: &str = "veth0";
const MTU_MAX: u32 = 65_535;
const EXIT_PERMISSION: u8 = 3;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
    seconds.map(Duration::from_secs_f64).ok_or("more than 0 and at most 86400 seconds".into())
}

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, is_interrupted.clone())?;
    }
    let report = match trial(args, &is_interrupted) {
        Err(error) if is_permission(&error) => {
            eprintln!("httplines-bench: {error:#}; a trial needs root");
            return Ok(ExitCode::from(EXIT_PERMISSION));
        }
        result => result?,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn is_permission(error: &anyhow::Error) -> bool {
    let root = error.root_cause().downcast_ref::<io::Error>();
    root.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn trial(args: &Args, is_interrupted: &Arc<AtomicBool>) -> anyhow::Result<Report> {
    let round = Arc::new(match &args.pcap {
        Some(path) => recording::round(path)?,
        None => args.workload.round(args.seed, round_frames(args)),
    });
    let (client, server) = Namespace::pair().context("cannot make a wire of our own")?;
    let directory = Directory::new(args.keep.as_deref())?;
    let load = load(args, &round)?;
    if args.pcap.is_some() {
        // Superpackets go as one frame each, and not as something to be cut.
        client.ip(&format!("link set {CLIENT_IFACE} mtu {MTU_MAX}"))?;
        server.ip(&format!("link set {} mtu {MTU_MAX}", receiver::IFACE))?;
    }
    let cpus = Cpus::choose(args);
    let setup = receiver::Setup {
        kind: Kind::parse(&args.receiver),
        httplines: match &args.httplines {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("httplines"),
        },
        arguments: args.receiver_arguments.clone(),
        directory: directory.receiver.clone(),
        cpu: cpus.receiver,
        drain: args.drain_s,
    };
    let mut receiver = Receiver::start(&setup, &server)?;
    let before = Seen::look(&server);
    eprintln!("httplines-bench: sending");
    let plan = Plan { rate: args.rate, duration: args.time_s };
    let means = load.means();
    let sent = send(load, &client, &server, &round, plan, cpus.generator, is_interrupted)?;
    let after = Seen::look(&server);
    receiver.await_idle();
    let finished = receiver.stop()?;
    let wire = Wire {
        received: (means == Means::Socket).then(|| after.received - before.received),
        backlog_dropped: after.backlog_dropped - before.backlog_dropped,
    };
    let setting = setting(args, &round, means, &cpus);
    let mut report = report(setting, sent, wire, &finished);
    let round_count = sent.frames / round.steps.len() as u64;
    report.http_frames = round.http_frame_count * round_count;
    examine(args, &setup, &directory, &round, round_count, &mut report)?;
    report.invalid.extend(finished.failure);
    if is_interrupted.load(Ordering::Relaxed) {
        report.invalid.push("interrupted".into());
    }
    report.judge();
    Ok(report)
}

/// Holds the receiver's output against what was sent.
fn examine(
    args: &Args,
    setup: &receiver::Setup,
    directory: &Directory,
    round: &Round,
    round_count: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let check = Check::new(round, round_count);
    match (&setup.kind, &args.pcap) {
        (Kind::Httplines, None) => {
            let (exchanges, delay) = check.records(&setup.output())?;
            report.exchanges = Some(exchanges);
            report.delay = (!delay.is_empty()).then(|| Delay {
                p50_ns: delay.value_at_quantile(0.5),
                p99_ns: delay.value_at_quantile(0.99),
                max_ns: delay.max(),
            });
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
        // A null reader finds nothing; what others find in a capture of any kind is not known.
        (Kind::Null | Kind::NullUnfiltered | Kind::Command(_), _) => {}
    }
    Ok(())
}

/// A round is as long as the trial, or one of several that are equally long.
fn round_frames(args: &Args) -> usize {
    let Some(rate) = args.rate else { return ROUND_FRAMES as usize };
    let frames = (rate as f64 * args.time_s.as_secs_f64()) as u64;
    frames.div_ceil(frames.div_ceil(ROUND_FRAMES).max(1)).max(1) as usize
}

/// The generator, ready.
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

/// The kernel's generator where it can make the frames; otherwise, or where that was asked for, a
/// packet socket.
fn load(args: &Args, round: &Round) -> anyhow::Result<Load> {
    let is_super = round.has_superpackets();
    match args.means {
        Some(Means::Kernel) if is_super => {
            bail!("the kernel's means make no superpackets; leave --means out")
        }
        Some(Means::Socket) => return Ok(Load::Socket),
        None if is_super => return Ok(Load::Socket),
        _ => {}
    }
    match Traffic::load(&round.steps, &round.templates) {
        Ok(traffic) => Ok(Load::Kernel(traffic)),
        Err(error) if args.means.is_some() => {
            Err(error).context("the kernel does not take the generator (it needs Linux 5.18)")
        }
        Err(error) => {
            eprintln!("httplines-bench: {error:#}; frames come from a packet socket");
            Ok(Load::Socket)
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
    let pin = move || cpu.is_none_or(affinity::pin_to);
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

/// Who runs where.
struct Cpus {
    generator: Option<CpuId>,
    receiver: Option<CpuId>,
}

impl Cpus {
    /// Generator and receiver apart, where there are two CPUs.
    fn choose(args: &Args) -> Cpus {
        let allowed = affinity::allowed_cpus();
        let generator = args.generator_cpu.map(CpuId).or(allowed.first().copied());
        let other = allowed.iter().copied().find(|cpu| Some(*cpu) != generator);
        let receiver = args.receiver_cpu.map(CpuId);
        // With more than two CPUs the receiver may have all of them.
        let receiver = receiver.or(if allowed.len() == 2 { other } else { None });
        Cpus { generator, receiver }
    }
}

/// The kernel's counters at a moment.
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
            backlog_dropped: httplines::capture::live::softnet_dropped(),
        }
    }
}

fn setting(args: &Args, round: &Round, means: Means, cpus: &Cpus) -> Setting {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Setting {
        workload: match &args.pcap {
            Some(path) => path.display().to_string(),
            None => args.workload.name().into(),
        },
        seed: args.seed,
        receiver: args.receiver.clone(),
        receiver_arguments: args.receiver_arguments.clone(),
        means: means.name(),
        rate: args.rate,
        round_frames: round.steps.len() as u64,
        connections_open_max: round.concurrency_max,
        generator_cpu: cpus.generator.map(|cpu| cpu.0),
        receiver_cpu: cpus.receiver.map(|cpu| cpu.0),
        version: env!("CARGO_PKG_VERSION"),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
        cpu: model.map_or("unknown", |(_, name)| name).to_string(),
        cpu_count: affinity::allowed_cpus().len(),
    }
}

fn report(setting: Setting, sent: Sent, wire: Wire, finished: &Finished) -> Report {
    Report {
        setting,
        sent,
        achieved_rate: sent.frames as f64 / (sent.elapsed_ns.max(1) as f64 / 1e9),
        http_frames: 0,
        wire,
        totals: finished.totals.clone(),
        exchanges: None,
        delay: None,
        cpu: Cpu::new(&sent, &finished.cpu),
        memory_bytes_max: finished.memory_bytes_max,
        lost: Lost::default(),
        blamed: Vec::new(),
        invalid: Vec::new(),
    }
}

/// A directory of the trial, gone with this unless it is to be kept.
struct Directory {
    path: PathBuf,
    /// In it, where the receiver may write.
    receiver: PathBuf,
    is_kept: bool,
}

impl Directory {
    fn new(keep: Option<&Path>) -> anyhow::Result<Directory> {
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
