//! How long the filters ran that were loaded since: the kernel's own count, by query of all
//! programs.

use crate::sys;
use libbpf_rs::query::ProgInfoIter;
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

/// What the filter is called in the kernel, which keeps 15 bytes of a name.
const NAME: &str = "http_filter";

/// Counts from its making on.
#[derive(Debug)]
pub struct Stopwatch {
    /// The kernel counts as long as this is open.
    _counting: OwnedFd,
    /// Filters of somebody else.
    others: HashSet<u32>,
}

impl Stopwatch {
    /// Before the filter is loaded. Needs CAP_SYS_ADMIN.
    pub fn start() -> io::Result<Stopwatch> {
        let others = filters().map(|(id, _)| id).collect();
        Ok(Stopwatch { _counting: sys::count_runs()?, others })
    }

    /// Nanoseconds so far, of the filters that are loaded now and were not then. The kernel reads
    /// its clock twice for each run; about half of that is in it.
    pub fn read(&self) -> u64 {
        filters().filter(|(id, _)| !self.others.contains(id)).map(|(_, ns)| ns).sum()
    }
}

fn filters() -> impl Iterator<Item = (u32, u64)> {
    let programs = ProgInfoIter::default();
    let programs = programs.filter(|program| program.name == NAME);
    programs.map(|program| (program.id, program.run_time_ns))
}
