//! Where figures come from: what a reader needs to reproduce them.

use httplines::sys::affinity;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::process::Command;

/// The machine and the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// httplines' version.
    pub version: String,
    /// The commit of the checkout that this program is in, with `-dirty` if it was changed.
    pub commit: Option<String>,
    /// uname(1) -r.
    pub kernel: String,
    /// The CPU's name.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpu_count: usize,
    /// Size of memory.
    pub memory_bytes: u64,
}

impl Machine {
    /// Describes this machine.
    pub fn look() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let meminfo = read("/proc/meminfo");
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kibibytes = total.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Machine {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: commit(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            cpu: model.map_or("unknown", |(_, name)| name).to_string(),
            cpu_count: affinity::allowed_cpus().len(),
            memory_bytes: kibibytes.unwrap_or(0) << 10,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "httplines {} ({}), Linux {}, {} CPUs: {}",
            self.version,
            self.commit.as_deref().unwrap_or("no commit"),
            self.kernel,
            self.cpu_count,
            self.cpu
        )
    }
}

fn commit() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let mut git = Command::new("git");
    git.arg("-C").arg(program.parent()?);
    let output =
        git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
}
