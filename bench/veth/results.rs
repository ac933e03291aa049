//! The results of `httplines-bench veth`: written, read again and compared.

use crate::chart::short;
use crate::delay::Delays;
use crate::machine::Machine;
use crate::report::{Cpu, Place};
use crate::search::{Point, is_generators};
use crate::spread::Spread;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A machine is not steady if one round is faster than another by more than this factor.
const STEADY: f64 = 1.1;

/// All results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The machine.
    pub machine: Machine,
    /// The parameters.
    pub parameters: Parameters,
    /// When it began, in seconds since 1970.
    pub begun_s: u64,
    /// How long it took.
    pub seconds: f64,
    /// Highest rates, by workload and receiver.
    pub searches: Vec<Searched>,
    /// Delays, by workload and share of the highest rate.
    pub latencies: Vec<Latency>,
    /// What a frame costs, by workload and arguments.
    pub costs: Vec<Cost>,
    /// What the engine allocates for an exchange once it is warm, by workload.
    pub allocations_per_exchange: BTreeMap<String, f64>,
}

/// The parameters that are needed to repeat a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// The seed of order and sizes.
    pub seed: u64,
    /// Seconds of a trial that closes in.
    pub short_s: f64,
    /// Seconds of the trial that confirms.
    pub long_s: f64,
    /// Searches of each kind.
    pub repeats: u32,
    /// A search ends when the ends of the bracket differ by this part.
    pub resolution: f64,
    /// The timeout after which the kernel hands over a block that is not full.
    pub retire_timeout_ms: u32,
    /// The generator's CPU.
    pub generator_cpu: Option<usize>,
    /// The receiver's.
    pub receiver_cpu: Option<usize>,
    /// More arguments for httplines.
    pub arguments: Vec<String>,
    /// Features of the receiver's interface, from ethtool(8); empty if it is missing.
    pub features: BTreeMap<String, String>,
}

/// The highest rates of a receiver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Searched {
    /// The workload.
    pub workload: String,
    /// The receiver.
    pub receiver: String,
    /// Its command line, if it is a command.
    pub command: Option<String>,
    /// Frames per second at which nothing was lost, in each round.
    #[serde(default)]
    pub rounds: Vec<f64>,
    /// Without loss.
    pub ndr: Highest,
    /// With a loss of at most one in 200.
    pub pdr: Highest,
    /// Mean size of a frame.
    pub frame_bytes: f64,
    /// Mean number of exchanges per frame.
    pub exchanges_per_frame: f64,
    /// All trials, in the order in which they ran.
    pub points: Vec<Point>,
}

/// A highest rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Highest {
    /// Frames per second.
    pub rate: Spread,
    /// Where more would be lost. If it is the generator, the receiver may be faster.
    pub limit: Vec<Place>,
}

/// Delays at a rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The workload.
    pub workload: String,
    /// Percent of the highest rate without loss.
    pub percent: u32,
    /// Frames per second.
    pub rate: f64,
    /// The delays in the median trial.
    pub delays: Delays,
    /// From the due time of the last frame to the line: half of the exchanges, in nanoseconds.
    pub p50_ns: Spread,
    /// 99 of 100.
    pub p99_ns: Spread,
}

/// The cost of a frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// The workload.
    pub workload: String,
    /// The variant of the arguments.
    pub variant: String,
    /// Frames per second.
    pub rate: f64,
    /// By component, per frame on the wire, in the median trial.
    pub frame: FrameCost,
    /// All components together.
    pub total_ns: Spread,
    /// Frames that reached user space, per frame on the wire.
    pub ring_frames: f64,
    /// Bytes that reached user space, per byte on the wire.
    pub ring_bytes: f64,
    /// The part of all exchanges that were not correct.
    pub not_right: f64,
    /// The receiver's peak memory.
    pub memory_bytes_max: u64,
}

/// Nanoseconds of CPU time per frame on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameCost {
    /// The kernel's receive path, without the filter.
    pub kernel_ns: f64,
    /// The filter.
    pub filter_ns: f64,
    /// Workers.
    pub workers_ns: f64,
    /// Writer.
    pub writer_ns: f64,
    /// The receiver's other threads.
    pub other_ns: f64,
}

impl FrameCost {
    /// For this many frames.
    pub fn new(cpu: &Cpu, frames: u64) -> FrameCost {
        let each = |ns: u64| ns as f64 / frames.max(1) as f64;
        let filter_ns = cpu.filter_ns.unwrap_or(0);
        FrameCost {
            kernel_ns: each(cpu.softirq_ns.saturating_sub(filter_ns)),
            filter_ns: each(filter_ns),
            workers_ns: each(cpu.workers_ns),
            writer_ns: each(cpu.writer_ns),
            other_ns: each(cpu.other_ns),
        }
    }

    /// All components together.
    pub fn total_ns(&self) -> f64 {
        self.parts().iter().map(|(_, ns)| ns).sum()
    }

    /// The components, with their names.
    pub fn parts(&self) -> [(&'static str, f64); 5] {
        [
            ("kernel", self.kernel_ns),
            ("filter", self.filter_ns),
            ("workers", self.workers_ns),
            ("writer", self.writer_ns),
            ("other", self.other_ns),
        ]
    }
}

impl Searched {
    /// At the highest rate without loss.
    pub fn gbit_s(&self) -> f64 {
        self.ndr.rate.median * self.frame_bytes * 8e-9
    }

    /// Exchanges per second at that rate, if the receiver reports exchanges.
    pub fn exchanges_s(&self) -> Option<f64> {
        (self.receiver != "null").then_some(self.ndr.rate.median * self.exchanges_per_frame)
    }
}

impl Highest {
    /// Whether the rate is a lower bound, because the generator is the limit.
    pub fn is_open(&self) -> bool {
        is_generators(&self.limit) && self.rate.median > 0.0
    }

    /// Where more would be lost, in words.
    pub fn limit_text(&self) -> String {
        let names: Vec<String> = self.limit.iter().map(Place::to_string).collect();
        if names.is_empty() { "receiver".into() } else { names.join(", ") }
    }
}

/// Reads the output of `veth --json`.
pub fn read(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what `veth --json` writes", path.display()))
}

impl Results {
    /// The search of a workload and a receiver.
    pub fn searched(&self, workload: &str, receiver: &str) -> Option<&Searched> {
        let is_it = |it: &&Searched| it.workload == workload && it.receiver == receiver;
        self.searches.iter().find(is_it)
    }

    /// Workloads, in their order.
    pub fn workloads(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for searched in &self.searches {
            if !names.contains(&searched.workload.as_str()) {
                names.push(searched.workload.as_str());
            }
        }
        names
    }

    /// A rate divided by the null reader's in the same round.
    pub fn beside_null(&self, it: &Searched) -> Option<Spread> {
        let null = self.searched(&it.workload, "null").filter(|null| !std::ptr::eq(*null, it))?;
        let pairs = it.rounds.iter().zip(&null.rounds).filter(|(_, null)| **null > 0.0);
        let ratios: Vec<f64> = pairs.map(|(own, null)| own / null).collect();
        (!ratios.is_empty()).then(|| Spread::of(ratios))
    }

    /// The null reader's greatest rate divided by its least for the same workload (the median over
    /// all workloads): the variation of the machine itself. `None` with one round.
    pub fn unsteadiness(&self) -> Option<f64> {
        let nulls = self.searches.iter().filter(|it| it.receiver == "null" && it.rounds.len() > 1);
        let factors = nulls.map(|it| it.ndr.rate.max / it.ndr.rate.min);
        let factors: Vec<f64> = factors.filter(|factor| factor.is_finite()).collect();
        (!factors.is_empty()).then(|| Spread::of(factors).median)
    }

    /// The most important result in a sentence.
    pub fn answer(&self) -> String {
        let ours: Vec<&Searched> =
            self.searches.iter().filter(|it| it.receiver == "httplines").collect();
        let by_bits =
            |one: &&&Searched, other: &&&Searched| one.gbit_s().total_cmp(&other.gbit_s());
        let (Some(first), Some(most)) = (ours.first(), ours.iter().max_by(by_bits)) else {
            return String::new();
        };
        if first.ndr.rate.median == 0.0 {
            return format!(
                "httplines loses some of \u{201c}{}\u{201d} at any rate.",
                first.workload
            );
        }
        let at_least = |it: &Searched| if it.ndr.is_open() { "at least " } else { "" };
        let mut answer = format!(
            "Without losing anything, httplines takes {}{} frames a second of \u{201c}{}\u{201d}, \
             {} exchanges",
            at_least(first),
            short(first.ndr.rate.median),
            first.workload,
            short(first.exchanges_s().unwrap_or(0.0)),
        );
        if most.workload != first.workload {
            let (mark, gbit_s) = (at_least(most), short(most.gbit_s()));
            answer += &format!(", and {mark}{gbit_s} Gbit/s of \u{201c}{}\u{201d}", most.workload);
        }
        answer + "."
    }

    /// What the rates mean, and what they do not.
    pub fn claim(&self) -> String {
        let mut claim = String::from(
            "A rate is one at which every frame came up and every exchange became its line: the \
             median of the rounds, and behind it the least and the greatest.",
        );
        if self.searches.iter().any(|it| it.ndr.is_open()) {
            claim += " At least (\u{2265}): the generator sent as fast as it could, and nothing \
                      was lost; where the receiver's own limit lies this machine cannot tell.";
        }
        if let Some(factor) = self.unsteadiness() {
            claim += &format!(
                " From round to round even the null reader's rates differ by {:.0}%, which is the \
                 machine.",
                100.0 * (factor - 1.0)
            );
            if factor > STEADY {
                claim += " It is not steady: rates whose ranges touch are the same.";
            }
        }
        claim
    }
}
