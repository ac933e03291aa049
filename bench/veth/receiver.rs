//! A receiver: a process that captures, from its start to its totals.

use crate::namespace::Namespace;
use crate::sys::{die_with_thread, send_signal_to_group};
use crate::totals::Totals;
use anyhow::{Context, bail};
use httplines::sys::affinity::{self, CpuId};
use rustix::process::Signal;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver as Lines, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The receiver's end of a trial's wire.
pub const IFACE: &str = "veth1";
/// A receiver that is not ready, idle or at its end by then never will be.
pub const WAIT: Duration = Duration::from_secs(30);
/// Pause between two checks while waiting.
const PAUSE: Duration = Duration::from_millis(5);
/// Time that output of an ended receiver may take to arrive.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// The kind of receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// httplines, whose records are checked one by one.
    Httplines,
    /// The null reader.
    Null,
    /// The null reader, with all TCP passed to user space.
    NullUnfiltered,
    /// Any command; its output and files are searched for the numbers of requests.
    Command(String),
}

impl Kind {
    /// From the command line.
    pub fn parse(text: &str) -> Kind {
        match text {
            "httplines" => Kind::Httplines,
            "null" => Kind::Null,
            "null-unfiltered" => Kind::NullUnfiltered,
            command => Kind::Command(command.to_string()),
        }
    }

    /// Whether its totals report what it received and lost.
    pub fn has_totals(&self) -> bool {
        !matches!(self, Kind::Command(_))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Httplines => "httplines",
            Kind::Null => "null",
            Kind::NullUnfiltered => "null-unfiltered",
            Kind::Command(command) => command,
        })
    }
}

/// How a receiver is started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The kind of receiver.
    pub kind: Kind,
    /// The program to use as httplines.
    pub httplines: PathBuf,
    /// More arguments for httplines or the null reader.
    pub arguments: Vec<String>,
    /// The interface it captures on.
    pub iface: String,
    /// Directory for its output.
    pub directory: PathBuf,
    /// The CPU it is pinned to; `None`: any.
    pub cpu: Option<CpuId>,
    /// How long the CPU time of a receiver without totals must stay low at the end.
    pub drain: Duration,
}

impl Setup {
    /// Where records, or other output, go.
    pub fn output(&self) -> PathBuf {
        self.directory.join("output")
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = match &self.kind {
            Kind::Httplines => {
                let mut command = Command::new(&self.httplines);
                command.args(["-i", &self.iface, "-o"]).arg(self.output());
                command
            }
            Kind::Null | Kind::NullUnfiltered => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["null-reader", "-i", &self.iface]);
                if self.kind == Kind::NullUnfiltered {
                    command.arg("--unfiltered");
                }
                command
            }
            Kind::Command(text) => {
                let directory = self.directory.display().to_string();
                let text = text.replace("{iface}", &self.iface).replace("{dir}", &directory);
                let mut command = Command::new("sh");
                command.args(["-c", &text]).stdout(File::create(self.output())?);
                command
            }
        };
        if self.kind.has_totals() {
            command.stdout(Stdio::null()).args(&self.arguments);
        }
        command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        Ok(command)
    }
}

/// A running receiver. If it is dropped before it was stopped, it is killed with everything it
/// started.
#[derive(Debug)]
pub struct Receiver {
    kind: Kind,
    drain: Duration,
    directory: PathBuf,
    child: Child,
    stderr: Lines<String>,
    stderr_lines: Vec<String>,
    /// CPU time before the trial.
    cpu_before: Vec<(String, u64)>,
    /// CPU time when the last frame had arrived.
    cpu_sent_ns: Option<u64>,
}

/// How a receiver ended.
#[derive(Debug)]
pub struct Finished {
    /// Its counters, if it reports them.
    pub totals: Option<Totals>,
    /// CPU time by its threads' names, since it was ready.
    pub cpu: Vec<(String, u64)>,
    /// The part of that which it used after the last frame had arrived: 0 to 1.
    pub left: f64,
    /// Its peak memory.
    pub memory_bytes_max: u64,
    /// Set if its exit code was not 0.
    pub failure: Option<String>,
}

impl Receiver {
    /// Starts it in `namespace` and waits until it captures.
    pub fn start(setup: &Setup, namespace: &Namespace) -> anyhow::Result<Receiver> {
        let (mut command, cpu) = (setup.command()?, setup.cpu);
        let sockets_before = namespace.run(packet_socket_count);
        let program = command.get_program().to_string_lossy().into_owned();
        // It is started on its CPU: the thread that starts it is pinned there only for that.
        let child = namespace.run(move || {
            let before = affinity::allowed_cpus();
            if let Some(cpu) = cpu {
                affinity::pin_to(cpu);
            }
            let child = die_with_thread(&mut command).spawn();
            if let (Some(_), Some(first)) = (cpu, before.first()) {
                affinity::pin_to(*first);
            }
            child
        });
        let mut child = child.with_context(|| format!("cannot start {program}"))?;
        let (send, stderr) = channel();
        let pipe = child.stderr.take().context("stderr is a pipe")?;
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut receiver = Receiver {
            kind: setup.kind.clone(),
            drain: setup.drain,
            directory: setup.directory.clone(),
            child,
            stderr,
            stderr_lines: Vec::new(),
            cpu_before: Vec::new(),
            cpu_sent_ns: None,
        };
        receiver.await_ready(namespace, sockets_before)?;
        receiver.cpu_before = receiver.cpu();
        Ok(receiver)
    }

    /// httplines and the null reader report that they capture; for others we wait for a packet
    /// socket.
    fn await_ready(&mut self, namespace: &Namespace, sockets_before: usize) -> anyhow::Result<()> {
        let until = Instant::now() + WAIT;
        while Instant::now() < until {
            if self.kind.has_totals() {
                match self.stderr.recv_timeout(PAUSE) {
                    Ok(line) => self.stderr_lines.push(line),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PAUSE),
                }
                if self.stderr_lines.iter().any(|line| line.contains("capturing on")) {
                    return Ok(());
                }
            } else if namespace.run(packet_socket_count) > sockets_before {
                // The socket exists before its filter and ring do.
                std::thread::sleep(self.drain);
                return Ok(());
            } else {
                std::thread::sleep(PAUSE);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the receiver ended before it began, {status}: {}", self.said());
            }
        }
        bail!("the receiver does not capture after {WAIT:?}: {}", self.stderr_lines.join("; "))
    }

    /// Records that the last frame has arrived: what it does from now on was left.
    pub fn note_sent(&mut self) {
        self.cpu_sent_ns = Some(self.cpu_ns());
    }

    /// How it ended, if it already has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it has printed on standard error, the last of which may still be on its way.
    pub fn said(&mut self) -> String {
        self.stderr_lines
            .extend(std::iter::from_fn(|| self.stderr.recv_timeout(LAST_OUTPUT_WAIT).ok()));
        self.stderr_lines.join("; ")
    }

    /// Waits until it has finished its work, at most for `wait`. httplines and the null reader do
    /// that by themselves when they are asked to end; others must have been idle for a while.
    pub fn await_idle(&mut self, wait: Duration) {
        let window = match self.kind.has_totals() {
            true => Duration::from_millis(30),
            false => self.drain,
        };
        let until = Instant::now() + wait;
        let look = |receiver: &Receiver| (receiver.cpu_ns(), bytes_in(&receiver.directory));
        let mut before = look(self);
        while Instant::now() < until {
            std::thread::sleep(window);
            let now = look(self);
            let share = (now.0.saturating_sub(before.0)) as f64 / window.as_nanos() as f64;
            // On a busy machine it may be ready to run without getting a CPU.
            if share < 0.1 && now.1 == before.1 && !self.is_running() {
                return;
            }
            before = now;
        }
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) -> anyhow::Result<Finished> {
        let (mut cpu, memory_bytes_max) = (self.cpu(), self.memory_bytes_max());
        let total_ns: u64 = cpu.iter().map(|(_, ns)| ns).sum();
        for (name, ns) in &mut cpu {
            let before = self.cpu_before.iter().find(|(known, _)| known == name);
            *ns = ns.saturating_sub(before.map_or(0, |(_, ns)| *ns));
        }
        let own_ns: u64 = cpu.iter().map(|(_, ns)| ns).sum();
        let left_ns = total_ns.saturating_sub(self.cpu_sent_ns.unwrap_or(total_ns));
        let left = (left_ns as f64 / own_ns.max(1) as f64).min(1.0);
        send_signal_to_group(self.child.id(), Signal::INT)?;
        let until = Instant::now() + WAIT;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                bail!("the receiver does not end within {WAIT:?} of SIGINT");
            }
            std::thread::sleep(PAUSE);
        };
        while let Ok(line) = self.stderr.recv_timeout(WAIT) {
            self.stderr_lines.push(line);
        }
        let totals =
            self.kind.has_totals().then(|| Totals::parse(&self.stderr_lines)).transpose()?;
        let failure = (self.kind.has_totals() && !status.success())
            .then(|| format!("the receiver ended with {status}: {}", self.stderr_lines.join("; ")));
        Ok(Finished { totals, cpu, left, memory_bytes_max, failure })
    }

    /// The directories in /proc of all threads of its group.
    fn threads(&self) -> Vec<PathBuf> {
        let processes = processes_of(self.child.id());
        processes.iter().flat_map(|process| entries(&process.join("task"))).collect()
    }

    /// Whether one of its threads is running, or waits for a CPU or a disk.
    fn is_running(&self) -> bool {
        self.threads().iter().any(|thread| {
            let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'D']))
        })
    }

    /// CPU time so far by the names of threads.
    fn cpu(&self) -> Vec<(String, u64)> {
        let mut found: Vec<(String, u64)> = Vec::new();
        for thread in self.threads() {
            let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
            let schedstat = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
            let ns = schedstat.split(' ').next().and_then(|word| word.parse().ok());
            let (name, ns) = (name.trim_end().to_string(), ns.unwrap_or(0));
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += ns,
                None => found.push((name, ns)),
            }
        }
        found
    }

    fn cpu_ns(&self) -> u64 {
        self.cpu().iter().map(|(_, ns)| ns).sum()
    }

    fn memory_bytes_max(&self) -> u64 {
        let peak = |process: PathBuf| {
            let status = std::fs::read_to_string(process.join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        processes_of(self.child.id()).into_iter().filter_map(peak).sum::<u64>() << 10
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // After `stop` the group is gone, unless a process of it was left behind.
        let _ = send_signal_to_group(self.child.id(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The directories in /proc of the processes of a group.
fn processes_of(group: u32) -> Vec<PathBuf> {
    let is_member = |process: &PathBuf| {
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        // The name in brackets may contain anything; after it: state, parent, group.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(2).and_then(|word| word.parse().ok()) == Some(group)
    };
    entries(Path::new("/proc")).into_iter().filter(is_member).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_number = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.iter().all(u8::is_ascii_digit)
    };
    entries.map(|entry| entry.path()).filter(is_number).collect()
}

/// Bytes of all files below `directory`.
fn bytes_in(directory: &Path) -> u64 {
    files_in(directory).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum()
}

/// All files below `directory`.
pub fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_in(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// The packet sockets in this thread's namespace: the lines below the heading.
fn packet_socket_count() -> usize {
    let text = std::fs::read_to_string("/proc/thread-self/net/packet").unwrap_or_default();
    text.lines().count().saturating_sub(1)
}
