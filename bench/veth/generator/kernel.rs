//! Frames from the kernel's generator, in the receiver's namespace.

use super::{Plan, Schedule, Sent, whole_rounds};
use crate::clock::{monotonic_ns, thread_cpu_ns};
use crate::round::Round;
use crate::traffic::{self, Traffic, Verdict};
use httplines::sys::interface;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Clock checks of the generator per call: a fraction of a millisecond, so that an interruption is
/// noticed.
const ATTEMPTS: u32 = 8192;
/// A longer wait than this is slept through, until half of this before its end.
const SLEEP_OVER: Duration = Duration::from_micros(300);

/// Sends what is planned into `interface` of this thread's namespace.
pub fn send(
    traffic: &Traffic,
    round: &Round,
    plan: &Plan,
    interface: &str,
    is_interrupted: &AtomicBool,
) -> io::Result<Sent> {
    let ifindex = interface::index_of(interface).ok_or(io::ErrorKind::NotFound)?;
    let quiet = interface::index_of("lo").ok_or(io::ErrorKind::NotFound)?;
    traffic.settle(quiet).map_err(io::Error::other)?;
    let cost_ns = cost_of_making(traffic, round, ifindex)?;
    let schedule = Schedule::begin(plan, round);
    begin(traffic, round, &schedule, Verdict::Pass);
    let cpu_before_ns = thread_cpu_ns();
    let mut planned = schedule.frame_count;
    loop {
        let sent = traffic.sent();
        if is_interrupted.load(Ordering::Relaxed) || planned == Some(sent.frame_count) {
            break;
        }
        let now_ns = monotonic_ns();
        let is_over = now_ns - schedule.start_ns >= plan.duration.as_nanos() as u64;
        if planned.is_none() && is_over {
            let end = whole_rounds(sent.frame_count, round);
            traffic.end_at(end);
            planned = Some(end);
            continue;
        }
        let wait = Duration::from_nanos(sent.due_ns.saturating_sub(now_ns));
        if schedule.interval > 0 && wait > SLEEP_OVER {
            std::thread::sleep(wait - SLEEP_OVER / 2);
        }
        match traffic.run(ifindex, ATTEMPTS) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
    }
    let sent = traffic.sent();
    if sent.failed_count > 0 {
        return Err(io::Error::other(format!("{} frames could not be made", sent.failed_count)));
    }
    Ok(Sent {
        planned_frames: planned.unwrap_or(sent.frame_count),
        frames: sent.frame_count,
        bytes: sent.byte_count,
        epoch_ns: schedule.epoch_ns,
        interval: schedule.interval,
        elapsed_ns: schedule.elapsed_ns(sent.frame_count, sent.last_ns),
        late_ns_max: sent.late_ns_max,
        cpu_ns: thread_cpu_ns() - cpu_before_ns,
        idle_ns: sent.idle_ns,
        make_ns: (cost_ns * sent.frame_count as f64) as u64,
    })
}

fn begin(traffic: &Traffic, round: &Round, schedule: &Schedule, verdict: Verdict) {
    traffic.schedule(&traffic::Schedule {
        start_ns: schedule.start_ns,
        epoch_ns: schedule.epoch_ns,
        interval: schedule.interval,
        frame_count_max: schedule.frame_count.unwrap_or(u64::MAX),
        connection_count: round.connection_count,
        request_count: round.expected.len() as u32,
        prefix_bytes: round.prefix_bytes as u32,
        verdict,
    });
}

/// Nanoseconds to make a frame without sending it.
fn cost_of_making(traffic: &Traffic, round: &Round, ifindex: u32) -> io::Result<f64> {
    const FRAMES: u32 = 20_000;
    let plan = Plan { rate: None, duration: Duration::ZERO };
    begin(traffic, round, &Schedule::begin(&plan, round), Verdict::Drop);
    // The first call warms up pages and caches.
    traffic.run(ifindex, FRAMES / 10)?;
    let before_ns = thread_cpu_ns();
    traffic.run(ifindex, FRAMES)?;
    Ok((thread_cpu_ns() - before_ns) as f64 / f64::from(FRAMES))
}
