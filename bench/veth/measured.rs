//! The combined result of several trials at one rate: delays, costs, allocations.

use crate::delay::Delay;
use crate::fixtures::{self, Fixture, Nowhere};
use crate::frame::{self, Checksum};
use crate::report::Report;
use crate::results::{Cost, FrameCost, Latency};
use crate::round::Round;
use crate::spread::Spread;
use crate::workload::Workload;
use httplines::capture::{Frame, FrameSource, LinkType, Polled, SourceError};
use httplines::config::{Config, Input};
use httplines::ids::{IfaceId, IfaceNames};
use httplines::time::TimestampNs;
use std::sync::Arc;

/// Number of frames in memory on which allocations are counted.
const FRAMES_IN_MEMORY: usize = 40_000;

/// The median element by `key`; `None` if there are none.
fn middle<T>(all: &[T], key: impl Fn(&T) -> f64) -> Option<&T> {
    let mut sorted: Vec<&T> = all.iter().collect();
    sorted.sort_by(|one, other| key(one).total_cmp(&key(other)));
    sorted.get(sorted.len() / 2).copied()
}

/// Delays at a percentage of the highest rate; `None` if no line was found.
pub fn latency(workload: &str, percent: u32, reports: &[Report]) -> Option<Latency> {
    let lines = |report: &Report| report.delay.as_ref()?.to_line.clone();
    let of = |key: fn(&Delay) -> u64| {
        Spread::of(reports.iter().filter_map(lines).map(|delay| key(&delay) as f64))
    };
    let report = middle(reports, |report| lines(report).map_or(f64::MAX, |it| it.p99_ns as f64))?;
    lines(report)?;
    Some(Latency {
        workload: workload.into(),
        percent,
        rate: report.achieved_rate,
        delays: report.delay.clone()?,
        p50_ns: of(|delay| delay.p50_ns),
        p99_ns: of(|delay| delay.p99_ns),
    })
}

/// The cost of a frame; `None` without trials.
pub fn cost(workload: &str, variant: &str, reports: &[Report]) -> Option<Cost> {
    let of = |report: &Report| FrameCost::new(&report.cpu, report.sent.frames);
    let report = middle(reports, |report| of(report).total_ns())?;
    let (sent, totals) = (&report.sent, report.totals.clone().unwrap_or_default());
    let exchanges = report.exchanges.unwrap_or_default();
    let part = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    Some(Cost {
        workload: workload.into(),
        variant: variant.into(),
        rate: report.achieved_rate,
        frame: of(report),
        total_ns: Spread::of(reports.iter().map(|report| of(report).total_ns())),
        ring_frames: part(totals.captured, sent.frames),
        ring_bytes: part(totals.captured_bytes, sent.bytes),
        not_right: part(exchanges.sent - exchanges.right, exchanges.sent),
        memory_bytes_max: report.memory_bytes_max,
    })
}

/// The frames of a round, in memory.
struct Made {
    round: Round,
    next: usize,
}

impl FrameSource for Made {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        let Some(step) = self.round.steps.get(self.next) else { return Ok(Polled::End) };
        let mut bytes = self.round.templates[step.template as usize].clone();
        let time_ns = 1_000_000_000 + self.next as u64 * 1000;
        frame::finish(&mut bytes, step, &self.round.turn(0), time_ns, Checksum::Whole);
        self.next += 1;
        visit(Frame {
            bytes: &bytes,
            wire_bytes: bytes.len() as u32,
            timestamp: TimestampNs(time_ns),
            link: LinkType::Ethernet,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted: false,
        });
        Ok(Polled::Frames(1))
    }
}

/// The engine's allocations per exchange in steady state, on frames in memory.
pub fn allocations_per_exchange(workload: Workload, seed: u64) -> anyhow::Result<f64> {
    let mut made = Made { round: workload.round(seed, FRAMES_IN_MEMORY), next: 0 };
    let fixture = Arc::new(Fixture::new(&mut made, &IfaceNames::default())?);
    let mut config = Config::new(Input::Files(Vec::new()));
    config.shard_count = 1;
    let ran = fixtures::run(&fixture, &config, Box::new(Nowhere))?;
    // Counted for the second half of the frames.
    let half = made.round.steps.len() / 2;
    let exchanges = made.round.expected.iter().filter(|exchange| exchange.last_step >= half);
    Ok(ran.allocations_steady.count as f64 / exchanges.count().max(1) as f64)
}
