//! One run of the user's load: its time, its CPU time and that of the machine, what it printed.

use super::figures::{self, Figures};
use crate::sys::{children_cpu, die_with_thread, send_signal_to_group};
use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde::Serialize;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How often we look whether we were interrupted, if no signal woke us.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Lines of a failed load's output that are repeated.
const LAST_LINES: usize = 10;

/// A run of the load, with or without the capture.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Run {
    /// How long it took.
    pub duration_ns: u64,
    /// CPU time of the load and of the processes that it started and waited for.
    pub load_cpu_ns: u64,
    /// CPU time of the capture, from its start on; `None`: without.
    pub capture_cpu_ns: Option<u64>,
    /// CPU time of the whole machine in softirq, where packets are received and copied.
    pub softirq_ns: u64,
    /// CPU time of the whole machine.
    pub machine_cpu_ns: u64,
    /// What it printed.
    pub figures: Figures,
}

/// The load, in a process group of its own. When it is dropped, all of the group is killed.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        // Before the child is waited for: afterwards its number may be another's.
        let _ = send_signal_to_group(self.0.id(), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Run {
    /// Runs `command`, the output of which goes to the file `output`. An error if it fails.
    pub fn of(
        command: &[String],
        output: &Path,
        is_interrupted: &AtomicBool,
    ) -> anyhow::Result<Run> {
        let (program, arguments) = command.split_first().context("a load has a program")?;
        let file = File::create(output)?;
        let mut load = Command::new(program);
        load.args(arguments).stdin(Stdio::null()).process_group(0);
        load.stdout(file.try_clone()?).stderr(file);
        let (machine, children) = (Machine::look()?, children_cpu()?);
        let start = Instant::now();
        let spawned = die_with_thread(&mut load).spawn();
        let mut load = Load(spawned.with_context(|| format!("cannot start {program}"))?);
        load.await_end(is_interrupted)?;
        let duration = start.elapsed();
        let machine_after = Machine::look()?;
        // What it left in the background does not run on beside the next run.
        send_signal_to_group(load.0.id(), Signal::KILL)?;
        let status = load.0.wait()?;
        let load_cpu = children_cpu()?.saturating_sub(children);
        let text = std::fs::read(output)?;
        let text = String::from_utf8_lossy(&text);
        if !status.success() {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
            let last = if last.is_empty() { "nothing".into() } else { format!("\n  {last}") };
            bail!("the load ended with {status}; the end of its output: {last}");
        }
        Ok(Run {
            duration_ns: duration.as_nanos() as u64,
            load_cpu_ns: load_cpu.as_nanos() as u64,
            capture_cpu_ns: None,
            softirq_ns: machine_after.softirq_ns.saturating_sub(machine.softirq_ns),
            machine_cpu_ns: machine_after.busy_ns.saturating_sub(machine.busy_ns),
            figures: figures::parse(&text),
        })
    }

    /// The machine's CPU time for a request.
    pub fn cpu_ns_per_request(&self) -> Option<f64> {
        self.cpu_ns_per(self.figures.requests_per_s?)
    }

    /// The machine's CPU time for a bit.
    pub fn cpu_ns_per_bit(&self) -> Option<f64> {
        self.cpu_ns_per(self.figures.bits_per_s?)
    }

    fn cpu_ns_per(&self, per_s: f64) -> Option<f64> {
        let count = per_s * self.duration_ns as f64 / 1e9;
        (count > 0.0).then(|| self.machine_cpu_ns as f64 / count)
    }
}

impl Load {
    /// Waits until it ended, without waiting for it as its parent.
    fn await_end(&mut self, is_interrupted: &AtomicBool) -> anyhow::Result<()> {
        let id = Pid::from_child(&self.0);
        let ended = pidfd_open(id, PidfdFlags::empty())?;
        loop {
            match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&LOOK)) {
                Ok(1..) => return Ok(()),
                Ok(0) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if is_interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
        }
    }
}

/// The CPU time of the machine so far.
struct Machine {
    softirq_ns: u64,
    busy_ns: u64,
}

impl Machine {
    fn look() -> anyhow::Result<Machine> {
        let text = std::fs::read_to_string("/proc/stat")?;
        Machine::parse(&text, 1_000_000_000 / clock_ticks_per_second())
            .context("/proc/stat has an unknown format")
    }

    /// From the first line of /proc/stat: proc_stat(5).
    fn parse(text: &str, tick_ns: u64) -> Option<Machine> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // Guests are contained in `user` and `nice`.
        let [user, nice, system, _idle, _iowait, irq, softirq] = *ticks.first_chunk()?;
        let busy = user + nice + system + irq + softirq;
        Some(Machine { softirq_ns: softirq * tick_ns, busy_ns: busy * tick_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_busy_when_it_is_neither_idle_nor_waits_nor_is_stolen() {
        let text = "cpu  100 20 3000 400000 50000 600 7000 80000 90 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let machine = Machine::parse(text, 10).unwrap();
        assert_eq!((machine.softirq_ns, machine.busy_ns), (70_000, 107_200));
        assert!(Machine::parse("cpu 1 2 3\n", 10).is_none());
        let now = Machine::look().unwrap();
        assert!(now.busy_ns >= now.softirq_ns && now.busy_ns > 0);
    }

    #[test]
    fn cpu_time_for_a_request_needs_their_number() {
        let mut run = Run { duration_ns: 2e9 as u64, machine_cpu_ns: 3e9 as u64, ..Run::default() };
        assert_eq!(run.cpu_ns_per_request(), None);
        run.figures.requests_per_s = Some(500.0);
        assert_eq!(run.cpu_ns_per_request(), Some(3e6));
        run.figures.bits_per_s = Some(0.0);
        assert_eq!(run.cpu_ns_per_bit(), None);
    }

    #[test]
    fn a_load_is_measured_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("load");
        let load = |script: &str| {
            let command = ["sh", "-c", script].map(String::from);
            Run::of(&command, &output, &AtomicBool::new(false))
        };
        let busy = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
        let run = load(&format!("sh -c '{busy}'; sleep 60 & echo 3 Gbits/sec")).unwrap();
        assert!(run.load_cpu_ns > 0, "{run:?}");
        assert!(run.duration_ns < 60_000_000_000, "what it leaves behind is not waited for");
        assert_eq!(run.figures.bits_per_s, Some(3e9));
        let error = load("seq 30; echo last words >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("last words"), "{error}");
        assert!(error.contains("22") && !error.contains("21"), "{error}");
        let error = Run::of(&["/no/such".into()], &output, &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("cannot start /no/such"), "{error}");
    }
}
