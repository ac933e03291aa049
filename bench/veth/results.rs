//! What `httplines-bench veth` found: as it is written, read again and compared.

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

/// A machine that is faster by more than this factor in one round than in another is not steady.
const STEADY: f64 = 1.1;

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// How.
    pub parameters: Parameters,
    /// When it began, in seconds since 1970.
    pub begun_s: u64,
    /// For how long it went on.
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

/// What a run can be repeated with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// What order and sizes come from.
    pub seed: u64,
    /// Seconds of a trial that closes in.
    pub short_s: f64,
    /// Seconds of the trial that confirms.
    pub long_s: f64,
    /// Searches of each.
    pub repeats: u32,
    /// The bracket is narrow enough when its ends differ by this part.
    pub resolution: f64,
    /// After how long the kernel hands over a block that is not full.
    pub retire_timeout_ms: u32,
    /// The generator's CPU.
    pub generator_cpu: Option<usize>,
    /// The receiver's.
    pub receiver_cpu: Option<usize>,
    /// More arguments for httplines.
    pub arguments: Vec<String>,
    /// Features of the receiver's interface, as ethtool(8) tells; empty without it.
    pub features: BTreeMap<String, String>,
}

/// The highest rates of a receiver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Searched {
    /// Of which traffic.
    pub workload: String,
    /// Who.
    pub receiver: String,
    /// How it was called, if it is a command.
    pub command: Option<String>,
    /// Frames a second at which nothing was lost, in each round.
    #[serde(default)]
    pub rounds: Vec<f64>,
    /// At which nothing was lost.
    pub ndr: Highest,
    /// At which no more than one in 200 was lost.
    pub pdr: Highest,
    /// Bytes of a frame, on average.
    pub frame_bytes: f64,
    /// Exchanges of a frame, on average.
    pub exchanges_per_frame: f64,
    /// All trials, in their order.
    pub points: Vec<Point>,
}

/// A highest rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Highest {
    /// Frames a second.
    pub rate: Spread,
    /// Where more is lost; of the generator it is known only that there is no more.
    pub limit: Vec<Place>,
}

/// Delays at a rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Of which traffic.
    pub workload: String,
    /// Percent of the highest rate without loss.
    pub percent: u32,
    /// Frames a second.
    pub rate: f64,
    /// How long it took, in the trial in the middle.
    pub delays: Delays,
    /// From the last frame's intended time to the line: half of the exchanges, in nanoseconds.
    pub p50_ns: Spread,
    /// 99 of 100.
    pub p99_ns: Spread,
}

/// What a frame costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Of which traffic.
    pub workload: String,
    /// What is different.
    pub variant: String,
    /// Frames a second.
    pub rate: f64,
    /// By side, for a frame on the wire, in the trial in the middle.
    pub frame: FrameCost,
    /// All sides together.
    pub total_ns: Spread,
    /// Frames that came up for one on the wire.
    pub ring_frames: f64,
    /// Bytes that came up for one on the wire.
    pub ring_bytes: f64,
    /// Exchanges that were not right, of all.
    pub not_right: f64,
    /// The receiver's peak memory.
    pub memory_bytes_max: u64,
}

/// Nanoseconds of CPU time for a frame on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameCost {
    /// The kernel's way of a frame, without the filter.
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
    /// Of so many frames.
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

    /// All together.
    pub fn total_ns(&self) -> f64 {
        self.parts().iter().map(|(_, ns)| ns).sum()
    }

    /// The parts, with what they are called.
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

    /// Exchanges a second there, of who tells exchanges.
    pub fn exchanges_s(&self) -> Option<f64> {
        (self.receiver != "null").then_some(self.ndr.rate.median * self.exchanges_per_frame)
    }
}

impl Highest {
    /// `at least` where the generator is the limit.
    pub fn is_open(&self) -> bool {
        is_generators(&self.limit) && self.rate.median > 0.0
    }

    /// Where more is lost, in words.
    pub fn limit_text(&self) -> String {
        let names: Vec<String> = self.limit.iter().map(Place::to_string).collect();
        if names.is_empty() { "receiver".into() } else { names.join(", ") }
    }
}

/// What `veth --json` wrote.
pub fn read(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what `veth --json` writes", path.display()))
}

impl Results {
    /// What was found of a workload and a receiver.
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

    /// A rate divided by the null reader's of the same round.
    pub fn beside_null(&self, it: &Searched) -> Option<Spread> {
        let null = self.searched(&it.workload, "null").filter(|null| !std::ptr::eq(*null, it))?;
        let pairs = it.rounds.iter().zip(&null.rounds).filter(|(_, null)| **null > 0.0);
        let ratios: Vec<f64> = pairs.map(|(own, null)| own / null).collect();
        (!ratios.is_empty()).then(|| Spread::of(ratios))
    }

    /// By which factor the null reader's greatest rate of the same traffic is above its least (in
    /// the middle of all traffic): what the machine does by itself. None of one round.
    pub fn unsteadiness(&self) -> Option<f64> {
        let nulls = self.searches.iter().filter(|it| it.receiver == "null" && it.rounds.len() > 1);
        let factors = nulls.map(|it| it.ndr.rate.max / it.ndr.rate.min);
        let factors: Vec<f64> = factors.filter(|factor| factor.is_finite()).collect();
        (!factors.is_empty()).then(|| Spread::of(factors).median)
    }

    /// What a user wants to know first.
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

    /// What the rates claim, and what they do not.
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
