//! The result of a trial: where frames and exchanges were lost, what it cost, and whether it is
//! valid.

use crate::check::Exchanges;
use crate::delay::Delays;
use crate::generator::Sent;
use crate::machine::Machine;
use crate::totals::Totals;
use serde::{Deserialize, Serialize};
use std::fmt;

/// If the generator was late by more than this part of the trial, the load was no open loop.
const BEHIND_MAX: f64 = 0.01;

/// Where something was lost, in the order of the data path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Frames that were planned and not sent, or not at their time.
    Generator,
    /// Frames between the two ends of the wire.
    Veth,
    /// Frames dropped because the CPU's backlog was full.
    Backlog,
    /// Frames of HTTP connections that the filter rejected, except for acknowledgements of bodies.
    Filter,
    /// Frames dropped because the rings were full.
    Ring,
    /// Exchanges whose frames all reached user space, and that did not become correct lines.
    Engine,
    /// Lines that were formatted and did not reach the output.
    Output,
}

/// Losses by place: frames up to the ring, exchanges after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// See [`Place::Generator`].
    pub generator: u64,
    /// See [`Place::Veth`].
    pub veth: u64,
    /// See [`Place::Backlog`].
    pub backlog: u64,
    /// See [`Place::Filter`].
    pub filter: u64,
    /// See [`Place::Ring`].
    pub ring: u64,
    /// See [`Place::Engine`].
    pub engine: u64,
    /// See [`Place::Output`].
    pub output: u64,
}

impl Lost {
    fn each(&self) -> [(Place, u64); 7] {
        [
            (Place::Generator, self.generator),
            (Place::Veth, self.veth),
            (Place::Backlog, self.backlog),
            (Place::Filter, self.filter),
            (Place::Ring, self.ring),
            (Place::Engine, self.engine),
            (Place::Output, self.output),
        ]
    }
}

/// CPU time by component, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cpu {
    /// Making frames.
    pub generator_ns: u64,
    /// Receiving them, on the generator's CPU: the stack, the filter, the copy into the ring.
    pub softirq_ns: u64,
    /// The filter's part of it, if it was timed.
    pub filter_ns: Option<u64>,
    /// Threads of the receiver that are called `shard-`.
    pub workers_ns: u64,
    /// The thread called `writer`.
    pub writer_ns: u64,
    /// All other threads of the receiver.
    pub other_ns: u64,
}

impl Cpu {
    /// From the generator's counters and the times of the receiver's threads.
    pub fn new(sent: &Sent, threads: &[(String, u64)]) -> Cpu {
        let busy_ns = sent.cpu_ns.saturating_sub(sent.idle_ns);
        let mut cpu = Cpu {
            generator_ns: sent.make_ns.min(busy_ns),
            softirq_ns: busy_ns.saturating_sub(sent.make_ns),
            ..Cpu::default()
        };
        for (name, ns) in threads {
            *match name.as_str() {
                "writer" => &mut cpu.writer_ns,
                shard if shard.starts_with("shard-") => &mut cpu.workers_ns,
                _ => &mut cpu.other_ns,
            } += ns;
        }
        cpu
    }
}

/// The kernel's counters of the wire during the trial.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Wire {
    /// Frames that the receiver's end of the wire received; `None` if they are injected there.
    pub received: Option<u64>,
    /// Frames that found a CPU's backlog full, on the whole machine.
    pub backlog_dropped: u64,
}

/// How a trial was set up.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// The workload or the capture file.
    pub workload: String,
    /// The seed of its order.
    pub seed: u64,
    /// The receiver.
    pub receiver: String,
    /// Its further arguments.
    pub receiver_arguments: Vec<String>,
    /// How frames were put onto the wire.
    pub means: &'static str,
    /// Requested frames per second; `None`: as many as possible.
    pub rate: Option<u64>,
    /// Frames of a round.
    pub round_frames: u64,
    /// The most connections open at a time.
    pub connections_open_max: usize,
    /// The generator's CPU.
    pub generator_cpu: Option<usize>,
    /// The receiver's.
    pub receiver_cpu: Option<usize>,
    /// The machine.
    pub machine: Machine,
}

/// All results of a trial.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How it was set up.
    pub setting: Setting,
    /// What was sent.
    pub sent: Sent,
    /// Frames a second that were sent.
    pub achieved_rate: f64,
    /// The part of them that belongs to HTTP connections.
    pub http_frames: u64,
    /// Exchanges that were sent completely, if frames carry numbers.
    pub exchanges_sent: u64,
    /// What the wire did.
    pub wire: Wire,
    /// The receiver's counters, if it reports them.
    pub totals: Option<Totals>,
    /// What its output contained, if that is examined.
    pub exchanges: Option<Exchanges>,
    /// Delays of exchanges, if records show them.
    pub delay: Option<Delays>,
    /// By component.
    pub cpu: Cpu,
    /// The part of the receiver's work that was left when the last frame had arrived: 0 to 1.
    pub left: f64,
    /// The receiver's peak memory.
    pub memory_bytes_max: u64,
    /// Losses by place.
    pub lost: Lost,
    /// The places where something was lost, in the order of the data path.
    pub blamed: Vec<Place>,
    /// Why the trial is not valid; empty if it is.
    pub invalid: Vec<String>,
}

impl Report {
    /// Completes the report: derives losses, places and doubts from the rest.
    pub fn judge(&mut self) {
        self.judge_generator();
        let sent = &self.sent;
        self.lost.generator = sent.planned_frames.saturating_sub(sent.frames);
        if let Some(totals) = self.totals.clone() {
            self.judge_frames(&totals);
        }
        if let Some(exchanges) = self.exchanges {
            self.judge_exchanges(&exchanges);
        }
        let is_late = self.invalid.iter().any(|doubt| is_of_generator(doubt));
        let is_blamed =
            |(place, count): &(Place, u64)| *count > 0 || (*place == Place::Generator && is_late);
        self.blamed =
            self.lost.each().into_iter().filter(is_blamed).map(|(place, _)| place).collect();
    }

    fn judge_generator(&mut self) {
        let sent = &self.sent;
        let Some(rate) = self.setting.rate else { return };
        let share = self.achieved_rate / rate as f64;
        if share < 1.0 - BEHIND_MAX {
            self.invalid.push(format!(
                "generator: {:.0} of {rate} frames a second, {:.1}% of what was asked for",
                self.achieved_rate,
                100.0 * share
            ));
        } else if sent.late_ns_max as f64 > BEHIND_MAX * sent.elapsed_ns as f64 {
            self.invalid.push(format!(
                "generator: up to {:.1} ms behind its schedule, more than 1% of the trial",
                sent.late_ns_max as f64 / 1e6
            ));
        }
    }

    /// sent = veth + backlog + offered, offered = rejected + passed, passed = captured + ring.
    fn judge_frames(&mut self, totals: &Totals) {
        self.invalid.extend(totals.violation.clone().map(|sums| format!("receiver: sums {sums}")));
        let sent = self.sent.frames;
        if let Some(received) = self.wire.received {
            // If the backlog is full, the frame counts as dropped by the wire, too.
            let before = sent.saturating_sub(received);
            self.lost.backlog = before.min(self.wire.backlog_dropped);
            self.lost.veth = before - self.lost.backlog;
        } else {
            self.lost.backlog = sent.saturating_sub(totals.offered).min(self.wire.backlog_dropped);
        }
        let wanted = self.http_frames.saturating_sub(totals.body_acks);
        self.lost.filter =
            wanted.saturating_sub(totals.passed + self.lost.veth + self.lost.backlog);
        self.lost.ring = totals.ring_drops;
        let mut law = |left: &str, left_count: u64, right: &str, right_count: u64| {
            if left_count != right_count {
                self.invalid
                    .push(format!("sums: {left} {left_count} is not {right} {right_count}"));
            }
        };
        let lost = &self.lost;
        let arrived = lost.veth + lost.backlog + totals.offered;
        law("sent", sent, "lost on the wire and in the backlog + offered", arrived);
        law("offered", totals.offered, "rejected + passed", totals.rejected + totals.passed);
        law("passed", totals.passed, "captured + dropped", totals.captured + totals.ring_drops);
    }

    fn judge_exchanges(&mut self, exchanges: &Exchanges) {
        let Some(totals) = &self.totals else { return };
        let vanished = totals.lines_written.saturating_sub(exchanges.lines);
        self.lost.output = totals.lines_lost + vanished;
        if exchanges.lines > totals.lines_written {
            self.invalid.push(format!(
                "sums: {} lines were found, and {} written",
                exchanges.lines, totals.lines_written
            ));
        }
        let lost = &self.lost;
        let not_right = exchanges.sent - exchanges.right;
        let is_whole = lost.veth + lost.backlog + lost.filter + lost.ring == 0;
        self.lost.engine = match is_whole {
            // A line that the output lost was a correct line before.
            true => not_right.saturating_sub(lost.output) + exchanges.extra,
            // Exchanges that lack frames cannot be required to be correct, but they must not be
            // wrong.
            false => exchanges.wrong,
        };
    }

    /// The greater of the lost parts, of frames or of exchanges: 0 to 1. Frames that the generator
    /// did not send were not lost.
    pub fn loss(&self) -> f64 {
        let lost = &self.lost;
        let frames = lost.veth + lost.backlog + lost.filter + lost.ring;
        let exchanges = self.exchanges.unwrap_or_default();
        let part = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let not_right = exchanges.sent - exchanges.right;
        part(frames, self.sent.frames).max(part(not_right, exchanges.sent))
    }

    /// Whether it is valid.
    pub fn is_valid(&self) -> bool {
        self.invalid.is_empty()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (setting, sent) = (&self.setting, &self.sent);
        let seconds = sent.elapsed_ns as f64 / 1e9;
        let cpu_of = |cpu: Option<usize>| cpu.map_or("any CPU".into(), |cpu| format!("CPU {cpu}"));
        writeln!(f, "{} (seed {}) into {}", setting.workload, setting.seed, setting.receiver)?;
        let asked = match setting.rate {
            Some(rate) => format!("{rate}/s asked for"),
            None => "as many as go".into(),
        };
        row(
            f,
            "sent",
            &format!(
                "{} frames, {} bytes in {seconds:.3} s: {:.0}/s, {asked}; {:.2} Gbit/s",
                sent.frames,
                sent.bytes,
                self.achieved_rate,
                sent.bytes as f64 * 8e-9 / seconds
            ),
        )?;
        row(
            f,
            "generator",
            &format!(
                "{} means, {}, at most {:.3} ms late; up to {} connections open",
                setting.means,
                cpu_of(setting.generator_cpu),
                sent.late_ns_max as f64 / 1e6,
                setting.connections_open_max
            ),
        )?;
        self.write_receiver(f)?;
        let told: Vec<String> = self
            .lost
            .each()
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(place, count)| format!("{place} {count} {}", unit_of(*place)))
            .collect();
        row(f, "lost", &if told.is_empty() { "nothing".into() } else { told.join(", ") })?;
        self.write_cpu(f)?;
        match self.invalid.as_slice() {
            [] => row(f, "verdict", "valid: it adds up, and the generator kept its pace"),
            doubts => row(f, "NOT VALID", &doubts.join("; ")),
        }
    }
}

impl Report {
    fn write_receiver(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = &self.sent;
        if let Some(totals) = &self.totals {
            row(
                f,
                "filter",
                &format!(
                    "{} offered = {} rejected + {} passed",
                    totals.offered, totals.rejected, totals.passed
                ),
            )?;
            let part = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
            row(
                f,
                "ring",
                &format!(
                    "{} captured + {} dropped; {:.4} of the wire's frames, {:.4} of its bytes",
                    totals.captured,
                    totals.ring_drops,
                    part(totals.captured, sent.frames),
                    part(totals.captured_bytes, sent.bytes)
                ),
            )?;
        }
        if let Some(found) = &self.exchanges {
            row(
                f,
                "exchanges",
                &format!(
                    "{} sent = {} right + {} damaged + {} wrong + {} missing; {} extra",
                    found.sent, found.right, found.damaged, found.wrong, found.missing, found.extra
                ),
            )?;
        }
        let Some(delays) = &self.delay else { return Ok(()) };
        row(f, "delay", &format!("from intended time to timestamp: {}", delays.to_timestamp))?;
        if let Some(delay) = &delays.to_line {
            row(f, "", &format!("from intended time to line: {delay}"))?;
        }
        match &delays.from_timestamp {
            Some(delay) => row(f, "", &format!("from timestamp to line: {delay}")),
            None => Ok(()),
        }
    }

    fn write_cpu(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, frames) = (&self.cpu, self.sent.frames.max(1) as f64);
        let each = |ns: u64| format!("{:.0}", ns as f64 / frames);
        row(
            f,
            "CPU",
            &format!(
                "ns a frame: generator {}, softirq {}{}, workers {}, writer {}, other {}; \
                 {:.1}% of the receiver's after the last frame; {} MiB",
                each(cpu.generator_ns),
                each(cpu.softirq_ns),
                cpu.filter_ns.map_or(String::new(), |ns| format!(" (filter {})", each(ns))),
                each(cpu.workers_ns),
                each(cpu.writer_ns),
                each(cpu.other_ns),
                100.0 * self.left,
                self.memory_bytes_max >> 20
            ),
        )
    }
}

/// Whether a doubt is about the generator's pace.
pub fn is_of_generator(doubt: &str) -> bool {
    doubt.starts_with("generator")
}

fn unit_of(place: Place) -> &'static str {
    match place {
        Place::Engine => "exchanges",
        Place::Output => "lines",
        _ => "frames",
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {name:<10} {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 frames and 100 exchanges, in a second.
    fn report(received: Option<u64>, backlog_dropped: u64, offered: u64, right: u64) -> Report {
        let setting = Setting {
            workload: String::new(),
            seed: 0,
            receiver: String::new(),
            receiver_arguments: Vec::new(),
            means: "socket",
            rate: Some(1000),
            round_frames: 1000,
            connections_open_max: 1,
            generator_cpu: None,
            receiver_cpu: None,
            machine: Machine::default(),
        };
        let sent = Sent {
            planned_frames: 1000,
            frames: 1000,
            elapsed_ns: 1_000_000_000,
            ..Sent::default()
        };
        let totals = Totals {
            offered,
            passed: offered,
            captured: offered,
            lines_written: 100,
            ..Totals::default()
        };
        let (lines, missing) = (100, 100 - right);
        let exchanges = Exchanges { sent: 100, right, missing, lines, ..Exchanges::default() };
        let mut report = Report {
            setting,
            sent,
            achieved_rate: 1000.0,
            http_frames: 1000,
            exchanges_sent: 100,
            wire: Wire { received, backlog_dropped },
            totals: Some(totals),
            exchanges: Some(exchanges),
            delay: None,
            cpu: Cpu::default(),
            left: 0.0,
            memory_bytes_max: 0,
            lost: Lost::default(),
            blamed: Vec::new(),
            invalid: Vec::new(),
        };
        report.judge();
        report
    }

    #[test]
    fn frames_are_lost_on_the_wire_or_in_the_backlog() {
        for (received, backlog_dropped, offered, right, blamed) in [
            (Some(1000), 0, 1000, 100, vec![]),
            // Counted on the whole machine: these belong to other traffic.
            (Some(1000), 50, 1000, 100, vec![]),
            (Some(990), 10, 990, 90, vec![Place::Backlog]),
            (Some(990), 4, 990, 90, vec![Place::Veth, Place::Backlog]),
            (None, 10, 990, 90, vec![Place::Backlog]),
            (Some(1000), 0, 1000, 90, vec![Place::Engine]),
        ] {
            let report = report(received, backlog_dropped, offered, right);
            assert_eq!(report.blamed, blamed, "{report}");
            assert!(report.is_valid(), "{report}");
        }
        let report = report(Some(1000), 0, 990, 100);
        assert!(!report.is_valid() && report.to_string().contains("sums: sent 1000"), "{report}");
    }

    #[test]
    fn a_generator_may_not_be_late_at_any_time() {
        let mut report = report(None, 0, 1000, 100);
        for (late_ns_max, achieved_rate, is_valid) in
            [(9_000_000, 1000.0, true), (11_000_000, 1000.0, false), (0, 989.0, false)]
        {
            report.invalid.clear();
            (report.sent.late_ns_max, report.achieved_rate) = (late_ns_max, achieved_rate);
            report.judge();
            assert_eq!(report.is_valid(), is_valid, "{report}");
            assert_eq!(report.blamed.contains(&Place::Generator), !is_valid);
        }
    }
}
