//! The load of a soak: rounds of a workload without an end, at a steady rate. Frames are sent in
//! small groups, between which the thread sleeps, so that it takes no more CPU than it needs.

use crate::namespace::Namespace;
use crate::receiver::IFACE;
use crate::round::Round;
use crate::traffic::{Schedule, Traffic, Verdict};
use anyhow::Context;
use httplines::sys::interface;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pause between two groups of frames.
const PAUSE: Duration = Duration::from_millis(2);
/// After a pause in which this thread had no CPU, no more frames than for this time are sent at
/// once: the rest is never sent. A burst would not be the load that was asked for.
const BEHIND_MAX: Duration = Duration::from_millis(20);
/// Frames in one call.
const GROUP_FRAMES_MAX: u64 = 8192;

/// The running generator.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    traffic: Traffic,
    frame_count: AtomicU64,
    is_over: AtomicBool,
    /// Held while frames are sent: who holds it knows how many there were until now.
    turnstile: Mutex<()>,
}

impl Load {
    /// Sends `rate` frames per second into the receiver's interface in `namespace`, from now on.
    pub fn start(namespace: &Namespace, round: &Round, rate: u64) -> anyhow::Result<Load> {
        let shared = Arc::new(Shared {
            traffic: Traffic::load(&round.steps, &round.templates)?,
            frame_count: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            turnstile: Mutex::new(()),
        });
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        shared.traffic.schedule(&Schedule {
            start_ns: crate::clock::monotonic_ns(),
            epoch_ns: epoch.as_nanos() as u64,
            // Frames are due when this thread says so.
            interval: 0,
            frame_count_max: u64::MAX,
            connection_count: round.connection_count,
            request_count: round.expected.len() as u32,
            prefix_bytes: round.prefix_bytes as u32,
            verdict: Verdict::Pass,
        });
        let sender = shared.clone();
        // It is in the namespace because the thread that starts it is.
        let thread = namespace.run(move || {
            let name = std::thread::Builder::new().name("load".into());
            name.spawn(move || sender.send(rate))
        });
        Ok(Load { shared, thread: thread.context("cannot start the generator's thread")? })
    }

    /// Frames so far.
    pub fn frame_count(&self) -> u64 {
        self.shared.frame_count.load(Ordering::Relaxed)
    }

    /// Whether it has ended, which it should not do by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Does `change` while no frame is on its way, and returns how many were sent before it.
    pub fn between<T>(&self, change: impl FnOnce() -> T) -> (u64, T) {
        let _held = self.shared.hold();
        (self.frame_count(), change())
    }

    /// Ends it and returns how many frames it sent.
    pub fn stop(self) -> anyhow::Result<u64> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let result = self.thread.join();
        result.map_err(|_| anyhow::anyhow!("the generator's thread panicked"))??;
        Ok(self.shared.frame_count.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn hold(&self) -> MutexGuard<'_, ()> {
        self.turnstile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, rate: u64) -> io::Result<()> {
        let ifindex = interface::index_of(IFACE).ok_or(io::ErrorKind::NotFound)?;
        let quiet = interface::index_of("lo").ok_or(io::ErrorKind::NotFound)?;
        self.traffic.settle(quiet).map_err(io::Error::other)?;
        let behind_max = (BEHIND_MAX.as_secs_f64() * rate as f64).max(1.0) as u64;
        let begun = Instant::now();
        // Frames that were due, including those that were given up.
        let mut due_before = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            let mut left = (due - due_before).min(behind_max);
            due_before = due;
            while left > 0 {
                let held = self.hold();
                let group = left.min(GROUP_FRAMES_MAX);
                match self.traffic.run(ifindex, group as u32) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => result?,
                }
                let sent = self.traffic.sent();
                if sent.failed_count > 0 {
                    let count = sent.failed_count;
                    return Err(io::Error::other(format!("{count} frames could not be made")));
                }
                self.frame_count.store(sent.frame_count, Ordering::Relaxed);
                drop(held);
                left -= group;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Frames that were sent while nothing could be captured.
pub type Outage = Range<u64>;
