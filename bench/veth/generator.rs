//! The load: rounds of frames, each at its time, whether or not the receiver keeps up.
//!
//! There are two ways to send the same frames: [`kernel`] makes them in the kernel, in the
//! receiver's namespace; [`socket`] sends them from the other end of the veth pair.

use super::round::Round;
use crate::traffic::INTERVAL_SHIFT;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub mod kernel;
pub mod socket;

/// How frames are put onto the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Means {
    /// Made in the kernel and put into the receiver's interface (Linux 5.18)
    Kernel,
    /// Sent by a packet socket from the other end of the veth pair
    Socket,
}

impl Means {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Means::Kernel => "kernel",
            Means::Socket => "socket",
        }
    }
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Frames per second; `None`: as many as possible.
    pub rate: Option<u64>,
    /// Duration, extended to the end of a round.
    pub duration: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Sent {
    /// Frames in the schedule.
    pub planned_frames: u64,
    /// Frames that were sent.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first frame was due, since 1970.
    pub epoch_ns: u64,
    /// Between two frames, in 2^-[`INTERVAL_SHIFT`] ns; 0: there was no schedule.
    pub interval: u64,
    /// From the due time of the first frame to the last frame, or to the end of the schedule if
    /// that is later.
    pub elapsed_ns: u64,
    /// The maximum delay of a frame.
    pub late_ns_max: u64,
    /// CPU time of the generator's thread: making frames, waiting, and the part of the receive path
    /// that runs on it.
    pub cpu_ns: u64,
    /// The part of it spent waiting for the next frame's time.
    pub idle_ns: u64,
    /// The part of it spent making frames.
    pub make_ns: u64,
}

impl Sent {
    /// When frame `number` was due, since 1970.
    pub fn due_ns(&self, number: u64) -> Option<u64> {
        (self.interval > 0).then(|| self.epoch_ns + behind_ns(self.interval, number))
    }
}

/// How much later than the first frame `number` is due.
fn behind_ns(interval: u64, number: u64) -> u64 {
    ((u128::from(interval) * u128::from(number)) >> INTERVAL_SHIFT) as u64
}

/// When frames are due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start_ns: u64,
    epoch_ns: u64,
    /// In 2^-[`INTERVAL_SHIFT`] ns; 0: immediately.
    interval: u64,
    /// In whole rounds; without a rate it is known only when the time is over.
    frame_count: Option<u64>,
}

impl Schedule {
    fn begin(plan: &Plan, round: &Round) -> Schedule {
        const NANOSECONDS: u64 = 1_000_000_000;
        let start_ns = crate::clock::monotonic_ns();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch_ns = epoch.as_nanos() as u64;
        let Some(rate) = plan.rate else {
            return Schedule { start_ns, epoch_ns, interval: 0, frame_count: None };
        };
        let interval = ((NANOSECONDS << INTERVAL_SHIFT) / rate.max(1)).max(1);
        let wanted = u128::from(rate) * plan.duration.as_nanos() / u128::from(NANOSECONDS);
        let frame_count = Some(whole_rounds(wanted as u64, round));
        Schedule { start_ns, epoch_ns, interval, frame_count }
    }

    /// When frame `number` is due; `now_ns` if there is no rate.
    fn due_ns(&self, number: u64, now_ns: u64) -> u64 {
        match self.interval {
            0 => now_ns,
            interval => self.start_ns + behind_ns(interval, number),
        }
    }

    /// When the last frame's interval is over.
    fn elapsed_ns(&self, frame_count: u64, last_ns: u64) -> u64 {
        // If it was interrupted before the first frame, there is no last one.
        self.due_ns(frame_count, last_ns).max(last_ns).saturating_sub(self.start_ns)
    }
}

/// Rounds `frame_count` up to the end of a round.
fn whole_rounds(frame_count: u64, round: &Round) -> u64 {
    let steps = round.steps.len() as u64;
    frame_count.div_ceil(steps).max(1) * steps
}
