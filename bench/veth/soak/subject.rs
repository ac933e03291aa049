//! The program that soaks: its process, and what that holds.

use super::folder::ACTIVE;
use crate::namespace::Namespace;
use crate::receiver::{IFACE, WAIT};
use crate::sys::die_with_thread;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Pause between two checks while waiting.
const PAUSE: Duration = Duration::from_millis(20);

/// What a process holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// Memory of its own: heap and stacks, not the rings that it shares with the kernel, nor its
    /// program. `Anonymous` in smaps_rollup, proc_pid_smaps(5).
    pub memory_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time so far.
    pub cpu_ns: u64,
}

/// The running program. It is killed if this is dropped.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    said: PathBuf,
}

impl Subject {
    /// Starts `program` in `namespace` with these arguments and its output in `folder`, and waits
    /// until it captures. What it says goes to the file at `said`.
    pub fn start(
        program: &Path,
        arguments: &[String],
        namespace: &Namespace,
        folder: &Path,
        said: &Path,
    ) -> anyhow::Result<Subject> {
        let mut command = Command::new(program);
        command.args(["-i", IFACE, "-o"]).arg(folder.join(ACTIVE)).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(said)?);
        let child = namespace.run(move || die_with_thread(&mut command).spawn());
        let child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let mut subject = Subject { child, said: said.into() };
        let until = Instant::now() + WAIT;
        while !subject.said()?.contains("capturing on") {
            if let Some(status) = subject.ended()? {
                bail!("it ended before it captured, {status}: {}", subject.said()?);
            }
            if Instant::now() > until {
                bail!("it does not capture after {WAIT:?}: {}", subject.said()?);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(subject)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// All that it has said on standard error.
    pub fn said(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.said)?).into_owned())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        Ok(kill_process(pid, signal)?)
    }

    /// What it holds now.
    pub fn held(&self) -> anyhow::Result<Held> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let read = |name: &str| std::fs::read_to_string(process.join(name));
        let number = |text: &str, label: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(label));
            let word = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            word.with_context(|| format!("the kernel tells no {label}"))
        };
        let count = |name: &str| Ok::<_, std::io::Error>(process.join(name).read_dir()?.count());
        let mut cpu_ns = 0;
        for task in process.join("task").read_dir()?.flatten() {
            // A thread may end while we look.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            cpu_ns += text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        }
        Ok(Held {
            memory_bytes: number(&read("smaps_rollup")?, "Anonymous:")? << 10,
            descriptors: count("fd")? as u64,
            threads: count("task")? as u64,
            cpu_ns,
        })
    }

    /// Asks it to end, and returns how it did and what it said.
    pub fn stop(mut self) -> anyhow::Result<(ExitStatus, String)> {
        self.signal(Signal::INT)?;
        let until = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.ended()? {
                return Ok((status, self.said()?));
            }
            if Instant::now() > until {
                bail!("it does not end within {WAIT:?} of SIGINT");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
