//! The metrics of a run, in the text format of Prometheus: [`render`]. They are made of the same
//! [`Observed`] as the file of statistics. The values of labels are lists in this program, the
//! interfaces of the command line, and the numbers of shards: what strangers send adds none.
//! `docs/metrics.md` has a row for each family, which a test compares.

mod capture;
mod exchanges;
mod exposition;
mod output;

use super::statistics::{Observed, ROW_COUNT_MAX};
use crate::sys::process::ProcessState;
use exposition::{Exposition, Family};
use std::time::Duration;

/// What the metrics are made of.
#[derive(Debug)]
pub struct Scraped<'a> {
    /// The counters and gauges of the run.
    pub observed: &'a Observed<'a>,
    /// How old they are: more than a moment if the run does not respond.
    pub age: Duration,
    /// The state of the process.
    pub process: &'a ProcessState,
    /// Shards that have not polled their rings for a while.
    pub stalled_count: usize,
    /// What this run is restricted by: the name of the layer, and whether it is enforced.
    pub sandbox: &'a [(&'static str, bool)],
    /// Batches that may wait for the writer, for one shard.
    pub batch_count_max: u64,
    /// Bytes that can still be written where the output is, if that is a directory.
    pub free_bytes: Option<u64>,
}

const BUILD_INFO: Family = Family::gauge("httplines_build_info", "1, with the version.");
const SNAPSHOT_AGE: Family = Family::gauge(
    "httplines_snapshot_age_seconds",
    "How old the figures are. More than a second: the run does not respond.",
);
const SHARDS: Family = Family::gauge("httplines_shards", "Worker threads.");
const SHARDS_STALLED: Family = Family::gauge(
    "httplines_shards_stalled",
    "Worker threads that have not polled their rings for 5 s.",
);
const SHARD_CPU: Family = Family::counter(
    "httplines_shard_cpu_seconds_total",
    "CPU time of the worker threads, in user space and in the kernel.",
);
const MEMORY: Family = Family::gauge(
    "httplines_memory_bytes",
    "Memory by what it is for. The rings are part of the resident memory of the process.",
);
const SANDBOX: Family =
    Family::gauge("httplines_sandbox", "Whether a layer of the sandbox is enforced: 1, or else 0.");
const PROCESS_CPU: Family = Family::counter(
    "process_cpu_seconds_total",
    "CPU time of the process, in user space and in the kernel.",
);
const PROCESS_RESIDENT: Family = Family::gauge(
    "process_resident_memory_bytes",
    "Resident memory of the process, with its mapped rings.",
);
const PROCESS_START: Family =
    Family::gauge("process_start_time_seconds", "When the process started, since 1970.");
const PROCESS_OPEN_FDS: Family =
    Family::gauge("process_open_fds", "Open file descriptors of the process.");
const PROCESS_MAX_FDS: Family =
    Family::gauge("process_max_fds", "File descriptors that the process may have.");

/// All families that have a sample.
pub fn render(scraped: &Scraped<'_>) -> String {
    let mut out = Exposition::default();
    let observed = scraped.observed;
    out.add(&BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.add_time(&SNAPSHOT_AGE, &[], scraped.age);
    capture::add(&mut out, observed);
    exchanges::add(&mut out, observed);
    output::add(&mut out, observed, scraped.batch_count_max, scraped.free_bytes);
    add_run(&mut out, scraped);
    add_process(&mut out, scraped.process);
    out.into_text()
}

fn add_run(out: &mut Exposition, scraped: &Scraped<'_>) {
    let shards = scraped.observed.shards;
    out.add(&SHARDS, &[], shards.len());
    out.add(&SHARDS_STALLED, &[], scraped.stalled_count);
    if shards.len() <= ROW_COUNT_MAX {
        for (number, shard) in shards.iter().enumerate() {
            out.add_time(&SHARD_CPU, &[("shard", &number.to_string())], shard.cpu);
        }
    } else {
        out.add_time(&SHARD_CPU, &[], shards.iter().map(|shard| shard.cpu).sum());
    }
    let memory = scraped.observed.memory();
    let held = memory.into_iter().filter(|(kind, _)| *kind != "resident");
    out.add_each(&MEMORY, "kind", held);
    let layers = scraped.sandbox.iter().map(|(layer, is_on)| (*layer, u64::from(*is_on)));
    out.add_each(&SANDBOX, "layer", layers);
}

fn add_process(out: &mut Exposition, process: &ProcessState) {
    out.add_time(&PROCESS_CPU, &[], process.cpu);
    out.add(&PROCESS_RESIDENT, &[], process.resident_bytes);
    if let Some(started) = process.started {
        out.add_time(&PROCESS_START, &[], started);
    }
    if let Some(count) = process.descriptor_count {
        out.add(&PROCESS_OPEN_FDS, &[], count);
    }
    if let Some(count) = process.descriptor_count_max {
        out.add(&PROCESS_MAX_FDS, &[], count);
    }
}
