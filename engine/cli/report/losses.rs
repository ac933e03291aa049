//! What is missing in a report: losses with their causes, as the run that wrote the lines has told
//! them in its file of statistics, or as this run has counted them.

use httplines::observe::summary::Summary;
use httplines::time::TimestampNs;
use httplines::totals::Totals;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

/// A cause, in the groups of `docs/stats.schema.json`.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// The group and the counter there.
    pub key: (&'static str, &'static str),
    /// What was lost.
    pub unit: &'static str,
    /// Why, and what may help.
    pub words: &'static str,
}

/// Every cause of which `docs/stats.schema.json` says `Lost:`.
pub const CAUSES: [Cause; 9] = [
    cause("frames", "dropped", "frames", "the kernel dropped them: a ring was full (-B, --shards)"),
    cause("before_us", "rx_missed", "frames", "the NIC dropped them: its buffers were full"),
    cause("before_us", "rx_dropped", "frames", "the driver dropped them"),
    cause("before_us", "softnet_dropped", "frames", "a CPU's backlog was full, on any interface"),
    cause(
        "websocket",
        "talks_shed",
        "talks",
        "no longer captured, since rings overflowed (--shed)",
    ),
    cause("lines_lost", "queue_full", "lines", "the disk was too slow for the writer"),
    cause("lines_lost", "disk_full", "lines", "the disk or the quota was full"),
    cause("lines_lost", "write_error", "lines", "they could not be written"),
    cause("lines_lost", "reader_gone", "lines", "their reader had gone, or was too slow"),
];

const fn cause(
    group: &'static str,
    name: &'static str,
    unit: &'static str,
    words: &'static str,
) -> Cause {
    Cause { key: (group, name), unit, words }
}

/// Where the losses of a report come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody has told them.
    Unknown,
    /// Files of statistics.
    Statistics,
    /// The capture files that were read: what was lost when they were made is not known.
    Capture,
}

/// What is known about losses.
#[derive(Clone, Debug)]
pub struct Losses {
    pub origin: Origin,
    /// Lost by cause, as [`CAUSES`].
    pub counts: [u64; CAUSES.len()],
    /// Frames that the filter saw.
    pub offered: u64,
    /// Holes in the streams of connections, and the bytes in them.
    pub gaps: u64,
    pub gap_bytes: u64,
    /// What runs said about themselves at their end.
    pub remarks: Vec<String>,
    /// Which time the statistics tell of.
    pub span: Option<(TimestampNs, TimestampNs)>,
    /// Of some of the records' time nobody has told losses.
    pub is_partial: bool,
    /// Sources without statistics, if others have some.
    pub without: Vec<String>,
}

impl Default for Losses {
    fn default() -> Losses {
        Losses {
            origin: Origin::Unknown,
            counts: [0; CAUSES.len()],
            offered: 0,
            gaps: 0,
            gap_bytes: 0,
            remarks: Vec::new(),
            span: None,
            is_partial: false,
            without: Vec::new(),
        }
    }
}

type Group = BTreeMap<String, u64>;

/// A line of a file of statistics, as far as it tells of losses.
#[derive(Deserialize)]
struct Line {
    ts: String,
    started: String,
    run: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    violations: Vec<String>,
    delta: Delta,
}

/// What was read of files of statistics so far. A run may have several, of which each goes on where
/// the one before ended.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Until when each run has told.
    told: BTreeMap<String, TimestampNs>,
    /// Of which times, those that meet joined.
    covered: Vec<(TimestampNs, TimestampNs)>,
    /// Runs that have written nothing since the last record: what they lose belongs to its time.
    stuck: BTreeSet<String>,
}

impl Statistics {
    fn cover(&mut self, from: TimestampNs, to: TimestampNs) {
        match self.covered.last_mut() {
            Some(last) if from <= last.1 && to >= last.0 => {
                *last = (last.0.min(from), last.1.max(to));
            }
            _ => self.covered.push((from, to)),
        }
    }

    /// Whether all of the time from `first` to `last` is covered.
    fn covers(&mut self, first: TimestampNs, last: TimestampNs) -> bool {
        self.covered.sort_unstable();
        let mut until = first;
        for (from, to) in &self.covered {
            if *from <= until {
                until = until.max(*to);
            }
        }
        until >= last && self.covered.first().is_some_and(|(from, _)| *from <= first)
    }
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    lines: Group,
    #[serde(default)]
    frames: Group,
    #[serde(default)]
    before_us: Group,
    #[serde(default)]
    websocket: Group,
    #[serde(default)]
    lines_lost: Group,
    #[serde(default)]
    flow: Group,
}

impl Delta {
    fn of(&self, (group, name): (&str, &str)) -> u64 {
        let group = match group {
            "frames" => &self.frames,
            "before_us" => &self.before_us,
            "websocket" => &self.websocket,
            "lines_lost" => &self.lines_lost,
            "lines" => &self.lines,
            _ => &self.flow,
        };
        group.get(name).copied().unwrap_or_default()
    }
}

/// A line of statistics is a few KiB, with rows for 64 shards and rings some more.
const LINE_BYTES_MAX: u64 = 1 << 20;

impl Losses {
    /// Of a run over capture files.
    pub fn of_run(totals: &Totals) -> Losses {
        let flow = &totals.shards.pipeline.flow;
        let (gaps, gap_bytes) = (flow.gaps, flow.gap_bytes);
        Losses { origin: Origin::Capture, gaps, gap_bytes, ..Losses::default() }
    }

    /// Adds what a file of statistics tells of the time of the records of `summary`, and of the
    /// time behind it in which its run wrote nothing, perhaps because it could not. Files of one
    /// run come in order. Lines that are none are left out.
    pub fn add_statistics(
        &mut self,
        mut file: impl BufRead,
        summary: &Summary,
        statistics: &mut Statistics,
    ) {
        let (Some(first), Some(last)) = (summary.first, summary.last) else { return };
        let mut text = Vec::new();
        loop {
            text.clear();
            let mut limited = std::io::Read::take(&mut file, LINE_BYTES_MAX);
            if limited.read_until(b'\n', &mut text).unwrap_or(0) == 0 {
                return;
            }
            let Ok(line) = serde_json::from_slice::<Line>(&text) else { continue };
            let time = |text: &str| httplines::observe::summary::time_of(text);
            let (Some(to), Some(started)) = (time(&line.ts), time(&line.started)) else { continue };
            let Statistics { told, stuck, .. } = statistics;
            // Of a run that has told before, in a file that is not here, the begin is not known.
            let begun = if line.seq > 0 { to } else { started };
            let from = told.insert(line.run.clone(), to).unwrap_or(begun);
            // Runs that have told long ago are forgotten.
            if told.len() > RUN_COUNT_MAX {
                told.clear();
                stuck.clear();
            }
            let is_of_records = to >= first && from <= last;
            let has_written = line.delta.of(("lines", "written")) > 0;
            let was_stuck = stuck.remove(&line.run) && !has_written;
            if is_of_records || was_stuck {
                if to > last {
                    stuck.insert(line.run.clone());
                }
                statistics.cover(from, to);
                self.add_line(&line, from, to);
            }
        }
    }

    /// All statistics were read.
    pub fn finish_statistics(&mut self, summary: &Summary, mut statistics: Statistics) {
        if let (Origin::Statistics, Some(first), Some(last)) =
            (self.origin, summary.first, summary.last)
        {
            self.is_partial = !statistics.covers(first, last);
        }
    }

    fn add_line(&mut self, line: &Line, from: TimestampNs, to: TimestampNs) {
        self.origin = Origin::Statistics;
        for (sum, cause) in self.counts.iter_mut().zip(CAUSES) {
            *sum = sum.saturating_add(line.delta.of(cause.key));
        }
        for (sum, key) in [
            (&mut self.offered, ("frames", "offered")),
            (&mut self.gaps, ("flow", "gaps")),
            (&mut self.gap_bytes, ("flow", "gap_bytes")),
        ] {
            *sum = sum.saturating_add(line.delta.of(key));
        }
        let (first, last) = self.span.unwrap_or((from, to));
        self.span = Some((first.min(from), last.max(to)));
        for remark in line.errors.iter().chain(&line.violations) {
            if self.remarks.len() < REMARK_COUNT_MAX && !self.remarks.contains(remark) {
                self.remarks.push(remark.clone());
            }
        }
    }

    /// What was lost, by cause.
    pub fn lost(&self) -> impl Iterator<Item = (&'static Cause, u64)> {
        CAUSES.iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    /// What is known, in a sentence.
    pub fn verdict(&self) -> &'static str {
        match (self.origin, self.counts.iter().any(|count| *count > 0)) {
            (Origin::Unknown, _) => {
                "Unknown: no file of statistics (such as http.stats) lies beside the lines, so \
                 nobody has told what was lost on the way to them."
            }
            (Origin::Capture, _) => {
                "Unknown: a capture file does not tell what was lost when it was made. Holes in \
                 its connections are counted below."
            }
            (Origin::Statistics, false) if self.is_partial || !self.without.is_empty() => {
                "Unknown: no loss was told, but there are statistics of a part of the records only."
            }
            (Origin::Statistics, false) => {
                "Nothing was lost in the kernel, before it, or in files."
            }
            (Origin::Statistics, true) => "Something was lost, so that counts here are too small:",
        }
    }
}

/// Runs of which is kept when they told last.
const RUN_COUNT_MAX: usize = 1000;

/// Remarks that are kept.
const REMARK_COUNT_MAX: usize = 20;
