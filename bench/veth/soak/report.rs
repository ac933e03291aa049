//! The result of a soak: whether it is sound, as a table, pictures and a page.

use super::folder;
use super::ledger::Fates;
use super::samples::{Sample, growth};
use super::trouble;
use crate::chart::{self, Axis, Line, escaped, short};
use crate::machine::Machine;
use crate::page::STYLE;
use crate::totals::Totals;
use std::collections::BTreeSet;
use std::fmt::{self, Write};

/// Everything that was found out.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The workload.
    pub workload: String,
    /// Frames per second that were asked for.
    pub rate: u64,
    /// The rate without loss, of which that is the half, if it was measured.
    pub lossless_rate: Option<f64>,
    /// The arguments of httplines.
    pub arguments: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// Frames that were sent.
    pub frames: u64,
    /// Those among them that were sent while the link was down.
    pub frames_unseen: u64,
    /// The most exchanges of a connection.
    pub exchanges_of_connection_max: u64,
    /// What became of the exchanges.
    pub fates: Fates,
    /// Lines in all files.
    pub lines: u64,
    /// Files.
    pub files: folder::Counts,
    /// What happened.
    pub troubles: trouble::Counts,
    /// What the program counted.
    pub totals: Totals,
    /// Looks.
    pub samples: Vec<Sample>,
    /// The lines of its sidecar.
    #[serde(skip)]
    pub sidecar: Vec<String>,
    /// All that is wrong; nothing, if the soak is passed.
    pub faults: Vec<String>,
}

impl Report {
    /// Adds to the faults what does not add up.
    pub fn judge(&mut self) {
        let (totals, fates) = (&self.totals, &self.fates);
        let mut faults = Vec::new();
        let mut law = |left_name: &str, left: u64, right_name: &str, right: u64| {
            if left != right {
                faults.push(format!("{left_name} {left} is not {right_name} {right}"));
            }
        };
        law("frames sent", self.frames, "offered + unseen", totals.offered + self.frames_unseen);
        law("lines in the files", self.lines, "lines written", totals.lines_written);
        faults.extend(totals.violation.clone().map(|it| format!("its totals {it}")));
        // Of a dropped frame nobody knows what it held: at most it damages all of its connection.
        let damaged_max = totals.ring_drops * self.exchanges_of_connection_max;
        let damaged = fates.damaged + fates.wrong + fates.strays;
        if damaged > damaged_max {
            faults.push(format!(
                "{damaged} exchanges are damaged, wrong or told twice, and only {} frames were \
                 dropped",
                totals.ring_drops
            ));
        }
        if fates.missing > damaged_max + totals.lines_lost {
            faults.push(format!(
                "{} exchanges are missing, with {} lines lost and {} frames dropped",
                fates.missing, totals.lines_lost, totals.ring_drops
            ));
        }
        self.faults.extend(faults);
        self.faults.extend(growth(&self.samples));
    }

    /// Whether nothing is wrong.
    pub fn is_passed(&self) -> bool {
        self.faults.is_empty()
    }

    /// The causes of loss in any of the samples.
    fn causes(&self) -> BTreeSet<&str> {
        let all = self.samples.iter().flat_map(|sample| sample.told.losses.keys());
        all.map(String::as_str).collect()
    }

    /// Names and SVG.
    pub fn pictures(&self) -> Vec<(&'static str, String)> {
        let of = |it: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
            self.samples.iter().map(|sample| (sample.at_s / 60.0, it(sample))).collect()
        };
        let line = |name: &str, points| Line { name: name.into(), points, is_dots: false };
        let memory = of(|sample| sample.held.memory_bytes as f64 / f64::from(1 << 20));
        let held = [
            line("descriptors", of(|sample| sample.held.descriptors as f64)),
            line("threads", of(|sample| sample.held.threads as f64)),
        ];
        let per_second = |it: fn(&Sample) -> u64| -> Vec<(f64, f64)> {
            let pairs = self.samples.windows(2);
            let rate = |pair: &[Sample]| {
                let seconds = (pair[1].at_s - pair[0].at_s).max(0.001);
                (pair[1].at_s / 60.0, it(&pair[1]).saturating_sub(it(&pair[0])) as f64 / seconds)
            };
            pairs.map(rate).collect()
        };
        let rates = [
            line("frames sent", per_second(|sample| sample.frames)),
            line("lines written", per_second(|sample| sample.told.lines)),
        ];
        let lost = self.causes().into_iter().map(|cause| {
            let count = |sample: &Sample| sample.told.losses.get(cause).copied().unwrap_or(0);
            let point = |sample: &Sample| (sample.at_s / 60.0, count(sample) as f64);
            line(cause, self.samples.iter().map(point).collect())
        });
        let lost = lost.chain([line("frames, link down", of(|it| it.frames_unseen as f64))]);
        vec![
            ("memory", self.picture("Memory of its own, MiB", &[line("memory", memory)])),
            ("held", self.picture("What it holds", &held)),
            ("losses", self.picture("Lost so far, by cause", &lost.collect::<Vec<_>>())),
            ("rates", self.picture("In a second", &rates)),
        ]
    }

    fn picture(&self, title: &str, lines: &[Line]) -> String {
        let all = lines.iter().flat_map(|line| &line.points);
        let y = Axis::from_zero("", all.map(|point| point.1).fold(0.0, f64::max));
        let x = Axis::from_zero("minutes", self.seconds / 60.0);
        chart::lines(title, &x, &y, lines)
    }

    /// The page.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n\
             <meta name='viewport' content='width=device-width, initial-scale=1'>\n\
             <title>httplines: a soak</title>\n<style>{STYLE}</style>\n\
             <h1>A soak of {:.0} minutes</h1>\n<p class='lead'>{}</p>\n",
            self.seconds / 60.0,
            escaped(&self.verdict()),
        );
        for (name, picture) in self.pictures() {
            // Writing to a string does not fail.
            let _ = writeln!(page, "<figure id='{name}'>\n{picture}</figure>");
        }
        let text = escaped(&self.to_string());
        let _ = writeln!(page, "<h2>All figures</h2>\n<pre>{text}</pre>\n</html>");
        page
    }

    /// The sums, and whether the soak is passed.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let (fates, files, troubles) = (&self.fates, &self.files, &self.troubles);
        let _ = writeln!(
            text,
            "frames     {} sent = {} offered to the filter + {} while the link was down; {} \
             dropped by the kernel",
            self.frames, self.totals.offered, self.frames_unseen, self.totals.ring_drops
        );
        let _ = writeln!(
            text,
            "exchanges  {} sent = {} right + {} of connections that were cut + {} damaged + {} \
             wrong + {} missing; {} strays",
            fates.sent,
            fates.right,
            fates.cut,
            fates.damaged,
            fates.wrong,
            fates.missing,
            fates.strays
        );
        let _ = writeln!(
            text,
            "lines      {} in all files, {} written, {} lost",
            self.lines, self.totals.lines_written, self.totals.lines_lost
        );
        let _ = writeln!(
            text,
            "files      {} closed and read, {} compressed and compared, {} moved away, {} closed \
             sidecars",
            files.closed, files.compressed, files.moved, files.closed_sidecars
        );
        let _ = writeln!(
            text,
            "troubles   {} times SIGHUP, {} files moved away, link down {} times, {} interfaces \
             came and went, disk full {} times",
            troubles.hang_ups,
            troubles.moves,
            troubles.link_downs,
            troubles.interfaces,
            troubles.full_disks
        );
        let _ = writeln!(text, "\n{}", self.verdict());
        text
    }

    fn verdict(&self) -> String {
        match self.faults.as_slice() {
            [] => {
                "Passed: each frame, exchange and line is accounted for, and nothing grew.".into()
            }
            faults => format!("Failed: {}.", faults.join("; ")),
        }
    }
}

/// The columns of the table.
pub const HEADING: &str = "   minute   frames/s   lines/s   memory MiB   descriptors   threads   \
                           CPU   files closed   lost so far";

/// A row of the table: what `sample` says, and what happened since `before`.
pub fn row(before: &Sample, sample: &Sample) -> String {
    let seconds = (sample.at_s - before.at_s).max(0.001);
    let per_second = |now: u64, then: u64| short(now.saturating_sub(then) as f64 / seconds);
    let (held, told) = (&sample.held, &sample.told);
    let cpu_ns = held.cpu_ns.saturating_sub(before.held.cpu_ns) as f64;
    let mut lost: Vec<String> =
        told.losses.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
    if sample.frames_unseen > 0 {
        lost.push(format!("{} frames, link down", sample.frames_unseen));
    }
    format!(
        "{:9.1} {:>10} {:>9} {:12.1} {:>13} {:>9} {:4.0}% {:>14}   {}",
        sample.at_s / 60.0,
        per_second(sample.frames, before.frames),
        per_second(told.lines, before.told.lines),
        held.memory_bytes as f64 / f64::from(1 << 20),
        held.descriptors,
        held.threads,
        cpu_ns / seconds / 1e7,
        told.rotations,
        if lost.is_empty() { "nothing".into() } else { lost.join(", ") }
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{} for {:.0} s: {} frames/s{}",
            self.workload,
            self.seconds,
            self.rate,
            self.lossless_rate.map_or(String::new(), |rate| {
                format!(", half of the {} that it takes without loss", short(rate))
            })
        )?;
        writeln!(f, "httplines {}\n\n{HEADING}", self.arguments.join(" "))?;
        let mut before = &Sample::default();
        for sample in &self.samples {
            writeln!(f, "{}", row(before, sample))?;
            before = sample;
        }
        write!(f, "\n{}", self.summary())
    }
}
