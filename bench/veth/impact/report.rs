//! What the runs without and with the capture have in common, and how they differ.

use super::load::Run;
use crate::machine::Machine;
use crate::spread::Spread;
use crate::totals::Totals;
use serde::Serialize;
use std::fmt;

/// The two runs of a round.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Pair {
    /// Without the capture.
    pub without: Run,
    /// With it.
    pub with: Run,
}

/// The result of all rounds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine and the program.
    pub machine: Machine,
    /// The load's command.
    pub load: Vec<String>,
    /// The capture: see `--receiver`.
    pub receiver: String,
    /// Its interface.
    pub iface: Option<String>,
    /// What was measured.
    pub quantities: Vec<Row>,
    /// What the capture received and lost, in all rounds; `None`: it does not report that.
    pub capture: Option<Totals>,
    /// The single runs.
    pub rounds: Vec<Pair>,
}

/// A quantity of a run.
struct Quantity {
    name: &'static str,
    label: &'static str,
    /// The base unit divided by the printed unit.
    unit: f64,
    of: fn(&Run) -> Option<f64>,
}

const fn quantity(
    name: &'static str,
    label: &'static str,
    unit: f64,
    of: fn(&Run) -> Option<f64>,
) -> Quantity {
    Quantity { name, label, unit, of }
}

const QUANTITIES: [Quantity; 12] = [
    quantity("requests_per_s", "requests/s", 1.0, |run| run.figures.requests_per_s),
    quantity("bits_per_s", "Mbit/s", 1e6, |run| run.figures.bits_per_s),
    quantity("mean_ns", "mean, ms", 1e6, |run| run.figures.mean_ns),
    quantity("p50_ns", "p50, ms", 1e6, |run| run.figures.p50_ns),
    quantity("p99_ns", "p99, ms", 1e6, |run| run.figures.p99_ns),
    quantity("duration_ns", "duration, s", 1e9, |run| Some(run.duration_ns as f64)),
    quantity("load_cpu_ns", "CPU: load, s", 1e9, |run| Some(run.load_cpu_ns as f64)),
    quantity("capture_cpu_ns", "CPU: capture, s", 1e9, |run| Some(run.capture_cpu_ns? as f64)),
    quantity("softirq_ns", "CPU: softirq, s", 1e9, |run| Some(run.softirq_ns as f64)),
    quantity("machine_cpu_ns", "CPU: machine, s", 1e9, |run| Some(run.machine_cpu_ns as f64)),
    quantity("cpu_ns_per_request", "CPU/request, \u{b5}s", 1e3, Run::cpu_ns_per_request),
    quantity("cpu_ns_per_bit", "CPU/Mbit, \u{b5}s", 1e-3, Run::cpu_ns_per_bit),
];

/// A quantity in all rounds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// Its name, with the base unit.
    pub name: &'static str,
    #[serde(skip)]
    label: &'static str,
    #[serde(skip)]
    unit: f64,
    /// Without the capture.
    pub without: Option<Spread>,
    /// With it.
    pub with: Option<Spread>,
    /// The change in each round, as a part of the value without the capture.
    pub change: Option<Spread>,
    /// Whether the change is noise: not all rounds changed in the same direction. `None` if there
    /// is no change, or one round.
    pub is_noise: Option<bool>,
}

/// The rows of all quantities that the rounds have.
pub fn rows(rounds: &[Pair]) -> Vec<Row> {
    let row = |quantity: &Quantity| {
        let spread = |of: &dyn Fn(&Pair) -> Option<f64>| {
            let values: Option<Vec<f64>> = rounds.iter().map(of).collect();
            values.filter(|values| !values.is_empty()).map(Spread::of)
        };
        let change = spread(&|pair| {
            let (without, with) = ((quantity.of)(&pair.without)?, (quantity.of)(&pair.with)?);
            (without > 0.0).then(|| with / without - 1.0)
        });
        let is_noise = |change: Spread| change.min <= 0.0 && change.max >= 0.0;
        Row {
            name: quantity.name,
            label: quantity.label,
            unit: quantity.unit,
            without: spread(&|pair| (quantity.of)(&pair.without)),
            with: spread(&|pair| (quantity.of)(&pair.with)),
            change,
            is_noise: change.filter(|_| rounds.len() > 1).map(is_noise),
        }
    };
    let all = QUANTITIES.iter().map(row);
    // Bits stand in for requests only where there are none.
    let has_requests = rounds.iter().all(|pair| pair.with.figures.requests_per_s.is_some());
    all.filter(|row| row.without.or(row.with).is_some())
        .filter(|row| row.name != "cpu_ns_per_bit" || !has_requests)
        .collect()
}

impl Report {
    fn write_noise(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.rounds.len();
        if count < 2 {
            return writeln!(f, "One round does not show what is noise.");
        }
        if self.quantities.iter().any(|row| row.is_noise == Some(true)) {
            writeln!(f, "Noise: the rounds do not agree on whether there is more of it or less.")?;
        }
        let odds = grouped(1_u64.checked_shl(count as u32 - 1).unwrap_or(u64::MAX));
        writeln!(f, "By chance alone {count} rounds would agree once in {odds} times.")
    }

    fn write_capture(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(totals) = &self.capture else {
            return writeln!(f, "The capture does not report here what it received and lost.");
        };
        writeln!(
            f,
            "The capture: {} frames received, {} dropped by kernel, {} lines written, {} lost.",
            grouped(totals.captured),
            grouped(totals.ring_drops),
            grouped(totals.lines_written),
            grouped(totals.lines_lost)
        )?;
        if totals.ring_drops + totals.lines_lost > 0 {
            writeln!(f, "It LOST some: a complete capture would cost more than this.")?;
        }
        if totals.captured == 0 {
            let iface = self.iface.as_deref().unwrap_or("its interface");
            writeln!(f, "It received NOTHING: does the load use {iface}?")?;
        }
        Ok(())
    }

    fn write_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |name: &str| self.quantities.iter().any(|row| row.name == name);
        let runs = || self.rounds.iter().flat_map(|pair| [&pair.without, &pair.with]);
        if runs().all(|run| run.figures.program.is_none()) {
            writeln!(f, "The load prints nothing that is known here: only time and CPU count.")?;
        } else if has("requests_per_s") && !has("p50_ns") {
            let hint = runs().any(|run| run.figures.program == Some("wrk"));
            let hint = if hint { " (wrk does with --latency)" } else { "" };
            writeln!(f, "The load prints no percentiles{hint}.")?;
        }
        let errors = |of: fn(&Pair) -> &Run| -> u64 {
            self.rounds.iter().map(|pair| of(pair).figures.errors).sum()
        };
        let (without, with) = (errors(|pair| &pair.without), errors(|pair| &pair.with));
        if without + with > 0 {
            let (without, with) = (grouped(without), grouped(with));
            writeln!(
                f,
                "Requests of the load FAILED: {without} without the capture, {with} with."
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.rounds.len();
        writeln!(f, "{}", self.machine)?;
        let iface = self.iface.as_ref().map(|iface| format!(" on {iface}")).unwrap_or_default();
        writeln!(f, "load: {}\ncapture: {}{iface}", self.load.join(" "), self.receiver)?;
        let rounds = if count == 1 { "round" } else { "rounds" };
        writeln!(f, "{count} {rounds}: the median of each value (and its range)\n")?;
        writeln!(f, "{:<17} {:<27} {:<27} change in a round", "", "without", "with")?;
        for row in &self.quantities {
            writeln!(f, "{}", row.to_string().trim_end())?;
        }
        writeln!(f)?;
        self.write_noise(f)?;
        self.write_capture(f)?;
        self.write_load(f)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |spread: Option<Spread>| {
            let Some(Spread { median, min, max }) = spread else { return "-".into() };
            let text = |value: f64| number(value / self.unit);
            format!("{} ({} to {})", text(median), text(min), text(max))
        };
        write!(f, "{:<17} {:<27} {:<27} ", self.label, value(self.without), value(self.with))?;
        let Some(Spread { median, min, max }) = self.change else { return Ok(()) };
        let percent = |part: f64| format!("{:+.1}", 100.0 * part);
        write!(f, "{}% ({} to {})", percent(median), percent(min), percent(max))?;
        if self.is_noise == Some(true) { write!(f, ": noise") } else { Ok(()) }
    }
}

/// Three digits or more: `51,200`, `213`, `21.3`, `2.13`, `0.213`.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        1000.0.. => return grouped(value.round() as u64),
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// With a comma between thousands.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::*;

    fn run(requests_per_s: f64, capture_cpu_ns: Option<u64>) -> Run {
        let figures = Figures {
            program: Some("wrk"),
            requests_per_s: Some(requests_per_s),
            ..Figures::default()
        };
        Run {
            duration_ns: 1_000_000_000,
            load_cpu_ns: 500_000_000,
            capture_cpu_ns,
            machine_cpu_ns: 1_500_000_000,
            figures,
            ..Run::default()
        }
    }

    fn pairs(rates: &[(f64, f64)]) -> Vec<Pair> {
        let pair = |(without, with): &(f64, f64)| Pair {
            without: run(*without, None),
            with: run(*with, Some(9)),
        };
        rates.iter().map(pair).collect()
    }

    fn report(rates: &[(f64, f64)]) -> Report {
        let rounds = pairs(rates);
        Report {
            machine: Machine::default(),
            load: vec!["wrk".into(), "http://10.0.0.2/".into()],
            receiver: "httplines".into(),
            iface: Some("eth0".into()),
            quantities: rows(&rounds),
            capture: Some(Totals { captured: 12_345, lines_written: 7, ..Totals::default() }),
            rounds,
        }
    }

    /// The range of the rates is wide, and that of the changes is not: rounds are compared with
    /// themselves.
    #[test]
    fn a_change_is_that_of_each_round() {
        let rows = rows(&pairs(&[(1000.0, 900.0), (2000.0, 1840.0), (4000.0, 3560.0)]));
        let row = &rows[0];
        assert_eq!((row.name, row.is_noise), ("requests_per_s", Some(false)));
        assert_eq!(row.without.unwrap(), Spread { median: 2000.0, min: 1000.0, max: 4000.0 });
        assert_eq!(row.with.unwrap(), Spread { median: 1840.0, min: 900.0, max: 3560.0 });
        let text = row.to_string();
        assert!(text.contains("2,000 (1,000 to 4,000)"), "{text}");
        assert!(text.ends_with("-10.0% (-11.0 to -8.0)"), "{text}");
    }

    #[test]
    fn rounds_that_disagree_are_noise_and_one_round_says_nothing() {
        for (rates, is_noise) in [
            (&[(10.0, 11.0), (10.0, 9.0)][..], Some(true)),
            (&[(10.0, 11.0), (10.0, 10.0)], Some(true)),
            (&[(10.0, 11.0), (10.0, 12.0)], Some(false)),
            (&[(10.0, 9.0)], None),
        ] {
            assert_eq!(rows(&pairs(rates))[0].is_noise, is_noise, "{rates:?}");
        }
        let text = report(&[(10.0, 11.0), (10.0, 9.0)]).to_string();
        assert!(text.contains("Noise: ") && text.contains("2 rounds would agree once in 2 times"));
        assert!(report(&[(10.0, 9.0)]).to_string().contains("One round "));
    }

    #[test]
    fn what_no_run_has_is_left_out_and_what_one_side_has_is_not_compared() {
        let rows = rows(&pairs(&[(10.0, 9.0), (10.0, 9.0)]));
        assert!(rows.iter().all(|row| !["p50_ns", "cpu_ns_per_bit"].contains(&row.name)));
        let capture = rows.iter().find(|row| row.name == "capture_cpu_ns").unwrap();
        assert_eq!((capture.without, capture.change, capture.is_noise), (None, None, None));
        assert_eq!(capture.with.unwrap().median, 9.0);
        // Of nothing there is no part.
        let softirq = rows.iter().find(|row| row.name == "softirq_ns").unwrap();
        assert_eq!((softirq.without.unwrap().max, softirq.change), (0.0, None));
        let per_request = rows.iter().find(|row| row.name == "cpu_ns_per_request").unwrap();
        assert_eq!(per_request.without.unwrap().median, 1.5e8);
    }

    #[test]
    fn what_was_lost_and_what_failed_is_said() {
        let mut report = report(&[(10.0, 9.0), (10.0, 9.0)]);
        let text = report.to_string();
        assert!(text.contains("12,345 frames received, 0 dropped by kernel, 7 lines"), "{text}");
        assert!(text.contains("--latency"), "{text}");
        assert!(!text.contains("LOST") && !text.contains("NOTHING") && !text.contains("FAILED"));
        report.capture = Some(Totals { ring_drops: 3, ..Totals::default() });
        report.rounds[1].with.figures.errors = 4;
        let text = report.to_string();
        for part in ["LOST", "NOTHING: does the load use eth0?", "FAILED: 0 without the capture, 4"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        report.capture = None;
        report.rounds.iter_mut().for_each(|pair| {
            (pair.without.figures, pair.with.figures) = (Figures::default(), Figures::default());
        });
        let text = report.to_string();
        assert!(text.contains("does not report") && text.contains("only time and CPU"), "{text}");
    }

    #[test]
    fn numbers_have_three_digits_or_more() {
        for (value, text) in [
            (51_234.4, "51,234"),
            (1_234_567.0, "1,234,567"),
            (999.6, "1000"),
            (213.4, "213"),
            (21.34, "21.3"),
            (2.134, "2.13"),
            (0.2134, "0.213"),
            (0.0, "0.000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
