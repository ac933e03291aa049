//! What `httplines-bench veth` found: as it is written, read again and compared.

use crate::delay::Delays;
use crate::machine::Machine;
use crate::report::{Cpu, Place};
use crate::search::{Point, is_generators};
use crate::spread::Spread;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
        is_generators(&self.limit)
    }

    /// Where more is lost, in words.
    pub fn limit_text(&self) -> String {
        let names: Vec<String> = self.limit.iter().map(Place::to_string).collect();
        if names.is_empty() { "receiver".into() } else { names.join(", ") }
    }
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
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machine, parameters) = (&self.machine, &self.parameters);
        writeln!(
            f,
            "httplines {} ({}), Linux {}, {} CPUs: {}",
            machine.version,
            machine.commit.as_deref().unwrap_or("no commit"),
            machine.kernel,
            machine.cpu_count,
            machine.cpu
        )?;
        writeln!(
            f,
            "seed {}, trials of {} s and {} s, {} searches each, to {}%; {:.0} s in all\n",
            parameters.seed,
            parameters.short_s,
            parameters.long_s,
            parameters.repeats,
            100.0 * parameters.resolution,
            self.seconds
        )?;
        self.write_rates(f)?;
        self.write_latencies(f)?;
        self.write_costs(f)
    }
}

impl Results {
    fn write_rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Highest rates; >= where the generator, and not the receiver, is the limit\n")?;
        writeln!(
            f,
            "{:<13} {:<12} {:>36} {:<10} {:>19} {:>7} {:>12}",
            "traffic",
            "receiver",
            "frames/s without loss",
            "limit",
            "at most 0.5% lost",
            "Gbit/s",
            "exchanges/s"
        )?;
        for it in &self.searches {
            let rate = |highest: &Highest| {
                let mark = if highest.is_open() { ">= " } else { "" };
                format!("{mark}{:.0}", highest.rate.median)
            };
            let Spread { min, max, .. } = it.ndr.rate;
            writeln!(
                f,
                "{:<13} {:<12} {:>36} {:<10} {:>19} {:>7.2} {:>12}",
                it.workload,
                it.receiver,
                format!("{} ({min:.0} to {max:.0})", rate(&it.ndr)),
                it.ndr.limit_text(),
                rate(&it.pdr),
                it.gbit_s(),
                it.exchanges_s().map_or("-".into(), |rate| format!("{rate:.0}"))
            )?;
        }
        Ok(())
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nDelay of an exchange's last frame to its line in the file, in us, at parts of the \
             rate without loss;\nthe kernel hands over a block that is not full after {} ms\n",
            self.parameters.retire_timeout_ms
        )?;
        writeln!(
            f,
            "{:<13} {:>5} {:>9} {:<15} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "traffic", "rate", "frames/s", "from", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for it in &self.latencies {
            let delays = &it.delays;
            for (from, delay) in
                [("intended time", &delays.to_line), ("timestamp", &delays.from_timestamp)]
            {
                let Some(delay) = delay else { continue };
                let us = |ns: u64| ns as f64 / 1e3;
                writeln!(
                    f,
                    "{:<13} {:>4}% {:>9.0} {from:<15} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
                    it.workload,
                    it.percent,
                    it.rate,
                    us(delay.p50_ns),
                    us(delay.p90_ns),
                    us(delay.p99_ns),
                    us(delay.p999_ns),
                    us(delay.max_ns)
                )?;
            }
        }
        Ok(())
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nNanoseconds of CPU time for a frame on the wire, at half of that rate; what came up \
             for a frame and a byte\n"
        )?;
        writeln!(
            f,
            "{:<13} {:<13} {:>7} {:>7} {:>8} {:>7} {:>6} {:>12} {:>11} {:>6} {:>14}",
            "traffic",
            "",
            "kernel",
            "filter",
            "workers",
            "writer",
            "other",
            "ring frames",
            "ring bytes",
            "MiB",
            "alloc/exchange"
        )?;
        for it in &self.costs {
            let [kernel, filter, workers, writer, other] = it.frame.parts().map(|(_, ns)| ns);
            let allocations = self.allocations_per_exchange.get(&it.workload);
            let allocations = allocations.filter(|_| it.variant == "default");
            writeln!(
                f,
                "{:<13} {:<13} {kernel:>7.0} {filter:>7.0} {workers:>8.0} {writer:>7.0} \
                 {other:>6.0} {:>12.4} {:>11.4} {:>6} {:>14}",
                it.workload,
                it.variant,
                it.ring_frames,
                it.ring_bytes,
                it.memory_bytes_max >> 20,
                allocations.map_or(String::new(), |count| format!("{count:.4}"))
            )?;
        }
        Ok(())
    }
}
