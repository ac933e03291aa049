//! How long the filters ran that were loaded since a given moment: the kernel's own counters,
//! queried over all programs.

use crate::sys;
use libbpf_rs::query::ProgInfoIter;
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

/// The filter's name in the kernel, which keeps 15 bytes of it.
const NAME: &str = "http_filter";

/// Measures from its creation on.
#[derive(Debug)]
pub struct Stopwatch {
    /// The kernel counts as long as this is open.
    _counting: OwnedFd,
    /// Filters of other processes.
    others: HashSet<u32>,
}

impl Stopwatch {
    /// To be called before the filter is loaded. Needs CAP_SYS_ADMIN.
    pub fn start() -> io::Result<Stopwatch> {
        let others = filters().map(|(id, _)| id).collect();
        Ok(Stopwatch { _counting: sys::count_runs()?, others })
    }

    /// Nanoseconds so far, of filters that are loaded now and were not at the start. The kernel
    /// reads its clock twice for each run; about half of that is included.
    pub fn read(&self) -> u64 {
        filters().filter(|(id, _)| !self.others.contains(id)).map(|(_, ns)| ns).sum()
    }
}

fn filters() -> impl Iterator<Item = (u32, u64)> {
    let programs = ProgInfoIter::default();
    let programs = programs.filter(|program| program.name == NAME);
    programs.map(|program| (program.id, program.run_time_ns))
}
