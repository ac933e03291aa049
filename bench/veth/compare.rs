//! `httplines-bench compare`: what changed between two runs, and whether it is more than the noise.

use crate::chart::short;
use crate::results::{self, Results};
use crate::spread::Spread;
use crate::veth::print_text;
use std::path::PathBuf;
use std::process::ExitCode;

/// What changed between two runs of veth, and whether it is more than the noise
///
/// A change is more than the noise if the ranges of the two runs' measurements do not overlap. Exit
/// code 1 if something is worse by more than the noise.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The output of `veth --json` before the change
    old: PathBuf,
    /// The output after it
    new: PathBuf,
}

/// A quantity that both runs measured.
#[derive(Debug)]
struct Pair {
    what: String,
    old: Spread,
    new: Spread,
    /// Whether a greater value is better.
    is_rate: bool,
    /// Whether the generator was the limit both times, and not the receiver.
    is_open: bool,
}

/// The result for a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Better,
    Worse,
    Noise,
    /// The generator was the limit both times.
    Open,
    /// One measurement each: their noise is not known.
    Unknown,
}

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (old, new) = (results::read(&args.old)?, results::read(&args.new)?);
    let mut printed = String::new();
    for (what, old, new) in settings(&old, &new) {
        if old != new {
            printed += &format!("not the same {what}: {old}, now {new}\n");
        }
    }
    let pairs = pairs(&old, &new);
    printed += &format!("{:<44} {:>10} {:>10} {:>8}\n", "", "old", "new", "ratio");
    for pair in &pairs {
        printed += &format!(
            "{:<44} {:>10} {:>10} {:>7.3}x  {}\n",
            pair.what,
            short(pair.old.median),
            short(pair.new.median),
            pair.new.median / pair.old.median,
            match pair.verdict() {
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
                Verdict::Noise => "within the noise",
                Verdict::Open => "the generator's limit, both times",
                Verdict::Unknown => "measured once each",
            }
        );
    }
    print_text(&printed)?;
    let is_worse = pairs.iter().any(|pair| pair.verdict() == Verdict::Worse);
    Ok(if is_worse { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Parameters that should be the same for a comparison.
fn settings(old: &Results, new: &Results) -> [(&'static str, String, String); 6] {
    let both = |of: fn(&Results) -> String| (of(old), of(new));
    let row = |what, (old, new): (String, String)| (what, old, new);
    [
        row("kernel", both(|it| it.machine.kernel.clone())),
        row("CPU", both(|it| it.machine.cpu.clone())),
        row("number of CPUs", both(|it| it.machine.cpu_count.to_string())),
        row("seed", both(|it| it.parameters.seed.to_string())),
        row("length of trials", both(|it| format!("{} s", it.parameters.long_s))),
        row("arguments", both(|it| it.parameters.arguments.join(" "))),
    ]
}

/// The quantities that both have, in the order of the old one.
fn pairs(old: &Results, new: &Results) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for it in &old.searches {
        let Some(now) = new.searched(&it.workload, &it.receiver) else { continue };
        pairs.push(Pair {
            what: format!("{} {}: frames/s without loss", it.workload, it.receiver),
            old: it.ndr.rate,
            new: now.ndr.rate,
            is_rate: true,
            is_open: it.ndr.is_open() && now.ndr.is_open(),
        });
        let (Some(ratio), Some(ratio_now)) = (old.beside_null(it), new.beside_null(now)) else {
            continue;
        };
        pairs.push(Pair {
            what: format!("{} {}: beside the null reader", it.workload, it.receiver),
            old: ratio,
            new: ratio_now,
            is_rate: true,
            is_open: it.ndr.is_open() && now.ndr.is_open(),
        });
    }
    for it in &old.latencies {
        let is_it = |now: &&crate::results::Latency| {
            now.workload == it.workload && now.percent == it.percent
        };
        let Some(now) = new.latencies.iter().find(is_it) else { continue };
        pairs.push(Pair {
            what: format!("{} at {}%: ns to the line, p99", it.workload, it.percent),
            old: it.p99_ns,
            new: now.p99_ns,
            is_rate: false,
            is_open: false,
        });
    }
    for it in &old.costs {
        let is_it =
            |now: &&crate::results::Cost| now.workload == it.workload && now.variant == it.variant;
        let Some(now) = new.costs.iter().find(is_it) else { continue };
        pairs.push(Pair {
            what: format!("{} {}: ns a frame", it.workload, it.variant),
            old: it.total_ns,
            new: now.total_ns,
            is_rate: false,
            is_open: false,
        });
    }
    // A rate of 0 has no ratio.
    pairs.retain(|pair| pair.old.median > 0.0);
    pairs
}

impl Pair {
    fn verdict(&self) -> Verdict {
        let (old, new) = (self.old, self.new);
        if self.is_open {
            return Verdict::Open;
        }
        if old.min == old.max && new.min == new.max && old != new {
            return Verdict::Unknown;
        }
        let is_more = new.min > old.max;
        if !is_more && new.max >= old.min {
            return Verdict::Noise;
        }
        if is_more == self.is_rate { Verdict::Better } else { Verdict::Worse }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_noise() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        for (old, new, is_rate, verdict) in [
            (&[10.0, 11.0, 12.0], &[12.0, 13.0, 14.0], true, Verdict::Noise),
            (&[10.0, 11.0, 12.0], &[12.1, 13.0, 14.0], true, Verdict::Better),
            (&[10.0, 11.0, 12.0], &[12.1, 13.0, 14.0], false, Verdict::Worse),
            (&[10.0, 11.0, 12.0], &[7.0, 8.0, 9.0], true, Verdict::Worse),
            (&[10.0, 11.0, 12.0], &[7.0, 8.0, 9.0], false, Verdict::Better),
            (&[10.0, 10.0, 10.0], &[9.0, 9.0, 9.0], false, Verdict::Unknown),
            (&[10.0, 10.0, 10.0], &[10.0, 10.0, 10.0], false, Verdict::Noise),
        ] {
            let (old, new) = (spread(old), spread(new));
            let mut pair = Pair { what: String::new(), old, new, is_rate, is_open: false };
            assert_eq!(pair.verdict(), verdict, "{pair:?}");
            pair.is_open = true;
            assert_eq!(pair.verdict(), Verdict::Open);
        }
    }
}
