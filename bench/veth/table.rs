//! The results of `httplines-bench veth`, as a table for a terminal.

use crate::chart::short;
use crate::results::{Highest, Results};
use crate::spread::Spread;
use std::fmt;

/// Width of a line of text.
const COLUMNS: usize = 100;

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machine, parameters) = (&self.machine, &self.parameters);
        writeln!(f, "{machine}")?;
        writeln!(
            f,
            "seed {}, {} rounds, trials of {} s and {} s, rates to {}%; {:.0} s in all\n",
            parameters.seed,
            parameters.repeats,
            parameters.short_s,
            parameters.long_s,
            100.0 * parameters.resolution,
            self.seconds
        )?;
        write_text(f, &self.answer())?;
        writeln!(f)?;
        self.write_rates(f)?;
        self.write_latencies(f)?;
        self.write_costs(f)
    }
}

impl Results {
    fn write_rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, &self.claim())?;
        writeln!(
            f,
            "\n{:<12} {:<10} {:>24}  {:<9} {:>19} {:>9} {:>6} {:>11}",
            "traffic",
            "receiver",
            "frames/s without loss",
            "limit",
            "beside null reader",
            "0.5% lost",
            "Gbit/s",
            "exchanges/s"
        )?;
        for it in &self.searches {
            let rate = |highest: &Highest| {
                let mark = if highest.is_open() { "\u{2265} " } else { "" };
                format!("{mark}{}", short(highest.rate.median))
            };
            let ratio = self.beside_null(it);
            writeln!(
                f,
                "{:<12} {:<10} {:>24}  {:<9} {:>19} {:>9} {:>6} {:>11}",
                it.workload,
                it.receiver,
                rate(&it.ndr) + &within(&it.ndr.rate, short),
                it.ndr.limit_text(),
                ratio.map_or(String::new(), |ratio| {
                    let text = |value: f64| format!("{value:.2}");
                    text(ratio.median) + &within(&ratio, text)
                }),
                rate(&it.pdr),
                short(it.gbit_s()),
                it.exchanges_s().map_or("-".into(), short)
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
            "{:<12} {:>5} {:>9} {:<14} {:>9} {:>9} {:>9} {:>9} {:>9}",
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
                    "{:<12} {:>4}% {:>9.0} {from:<14} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
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
            "{:<12} {:<12} {:>6} {:>6} {:>7} {:>6} {:>5} {:>11} {:>10} {:>4} {:>14}",
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
                "{:<12} {:<12} {kernel:>6.0} {filter:>6.0} {workers:>7.0} {writer:>6.0} \
                 {other:>5.0} {:>11.4} {:>10.4} {:>4} {:>14}",
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

/// The range, to be printed after a median.
fn within(spread: &Spread, text: impl Fn(f64) -> String) -> String {
    format!(" ({} to {})", text(spread.min), text(spread.max))
}

/// Wraps text to the width.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            writeln!(f, "{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    writeln!(f, "{line}")
}
