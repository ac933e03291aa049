//! [`Notifier`]: tells a service manager how the run goes: sd_notify(3), sd_watchdog_enabled(3).
//! The socket is connected before rights are given up; sending never waits, and no failure ends the
//! run.

use super::counter_poll::CounterPoll;
use super::liveness::not_polling;
use super::status::ShardStatus;
use crate::config::ServiceManager;
use crate::observe::{RateMeter, Rates};
use crate::sys::thread_clock;
use crate::totals::Totals;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the status is told.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is tried again to send what could not be sent, and looked at a reload.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Signs of life come no more often than this, whatever is asked for.
const WATCHDOG_MIN: Duration = Duration::from_millis(10);

/// So many messages wait for a service manager that does not read. Further ones are dropped: then
/// it has given up this run, or will.
const UNSENT_COUNT_MAX: usize = 16;

/// Notifies the service manager of a run, if it has one.
#[derive(Debug, Default)]
pub(super) struct Notifier(Option<Manager>);

impl Notifier {
    /// Connects to `service`. If that is not possible, it says so, and nobody is notified.
    pub(super) fn open(service: Option<&ServiceManager>) -> Notifier {
        let Some(service) = service else { return Notifier::default() };
        let manager = Manager::connect(service, Instant::now());
        if let Err(error) = &manager {
            let address = service.address.to_string_lossy();
            tracing::warn!(
                "cannot notify the service manager at {address} (NOTIFY_SOCKET): {error}; \
                 continuing without"
            );
        }
        Notifier(manager.ok())
    }

    /// The run has begun, with `shard_count` shards that never wait for anybody; 0: they may, since
    /// they read files.
    pub(super) fn ready(&mut self, shard_count: usize, status: &str) {
        let Some(manager) = &mut self.0 else { return };
        manager.begin(Instant::now(), shard_count);
        manager.tell(format!("READY=1\nSTATUS={status}"));
    }

    /// The outputs are being reopened.
    pub(super) fn reloading(&mut self) {
        let Some(manager) = &mut self.0 else { return };
        manager.is_reloading = true;
        // Type=notify-reload takes a message only if it was sent after its own signal.
        let now_us = thread_clock::monotonic().as_micros();
        manager.tell(format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    }

    /// Does what is due, while the shards `stalled` do not poll. `is_reloaded`: all outputs are
    /// reopened.
    pub(super) fn look(&mut self, now: Instant, stalled: &[usize], is_reloaded: bool) {
        let Some(manager) = &mut self.0 else { return };
        manager.look(now, stalled, is_reloaded);
    }

    /// Whether the service manager acts if signs of life do not come.
    pub(super) fn has_watchdog(&self) -> bool {
        self.0.as_ref().is_some_and(|manager| manager.watchdog.is_some())
    }

    /// Whether the totals are wanted ([`CounterPoll::is_ready`]).
    pub(super) fn is_ready(&mut self, now: Instant, shards: &[Arc<ShardStatus>]) -> bool {
        let poll = self.0.as_mut().and_then(|manager| manager.poll.as_mut());
        poll.is_some_and(|poll| poll.is_ready(now, shards))
    }

    /// Tells the totals of now.
    pub(super) fn status(&mut self, totals: &Totals, connections: u64) {
        let Some(manager) = &mut self.0 else { return };
        let rates = manager.meter.measure(totals, connections);
        manager.status(&rates);
    }

    /// The run ends. To be said once or more.
    pub(super) fn stopping(&mut self) {
        let Some(manager) = &mut self.0 else { return };
        if !std::mem::replace(&mut manager.is_stopping, true) {
            manager.tell("STOPPING=1\nSTATUS=writing what was captured".into());
        }
    }

    /// The time from `now` until there is something to do.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.0.as_ref().map_or(Duration::MAX, |manager| manager.wait(now))
    }
}

/// A service manager that is there.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    /// What could not be sent yet.
    unsent: VecDeque<String>,
    /// The service manager has gone, which was said.
    has_failed: bool,
    /// When the next sign of life is due, and the time between two.
    watchdog: Option<(Instant, Duration)>,
    /// The shards that no longer poll.
    stalled: Vec<usize>,
    /// When the status is due. A run that reads files has none.
    poll: Option<CounterPoll>,
    meter: RateMeter,
    is_reloading: bool,
    is_stopping: bool,
}

impl Manager {
    fn connect(service: &ServiceManager, now: Instant) -> io::Result<Manager> {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address_of(&service.address)?)?;
        socket.set_nonblocking(true)?;
        // Half of the time, as sd_watchdog_enabled(3) recommends.
        let half = service.watchdog_us.map(|us| Duration::from_micros(us / 2).max(WATCHDOG_MIN));
        Ok(Manager {
            socket,
            unsent: VecDeque::new(),
            has_failed: false,
            watchdog: half.map(|half| (now, half)),
            stalled: Vec::new(),
            poll: None,
            meter: RateMeter::default(),
            is_reloading: false,
            is_stopping: false,
        })
    }

    /// The first sign of life and the first status are due an interval after the run is ready.
    fn begin(&mut self, now: Instant, shard_count: usize) {
        let poll = || CounterPoll::new(now + STATUS_INTERVAL, STATUS_INTERVAL);
        self.poll = (shard_count > 0).then(poll);
        if let Some((due, half)) = &mut self.watchdog {
            *due = now + *half;
        }
    }

    fn look(&mut self, now: Instant, stalled: &[usize], is_reloaded: bool) {
        self.send_unsent();
        if self.is_reloading && is_reloaded {
            self.is_reloading = false;
            self.tell("READY=1".into());
        }
        if stalled != self.stalled {
            if let Some(sentence) = not_polling(stalled) {
                self.tell(format!("STATUS={sentence}"));
            }
            self.stalled = stalled.to_vec();
        }
        let Some((due, half)) = self.watchdog else { return };
        if now >= due && self.stalled.is_empty() {
            let wait = if self.try_send("WATCHDOG=1") { half } else { RETRY_INTERVAL };
            self.watchdog = Some((now + wait, half));
        }
    }

    fn status(&mut self, rates: &Rates) {
        if self.stalled.is_empty() {
            self.try_send(&format!("STATUS={}", rates.status()));
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        let poll = self.poll.as_ref().map_or(Duration::MAX, |poll| poll.wait(now));
        if self.is_reloading || !self.unsent.is_empty() {
            return poll.min(RETRY_INTERVAL);
        }
        match self.watchdog {
            // It is due, and nothing but a poll will change that.
            Some(_) if !self.stalled.is_empty() => poll,
            Some((due, _)) => poll.min(due.saturating_duration_since(now)),
            None => poll,
        }
    }

    /// Sends `message` now or, if the service manager does not read now, later.
    fn tell(&mut self, message: String) {
        if self.unsent.len() < UNSENT_COUNT_MAX {
            self.unsent.push_back(message);
        }
        self.send_unsent();
    }

    fn send_unsent(&mut self) {
        while let Some(message) = self.unsent.pop_front() {
            if !self.is_sent(&message) {
                self.unsent.push_front(message);
                return;
            }
        }
    }

    /// Sends `message` now or never, and returns whether that is done: the next one says the same
    /// or more.
    fn try_send(&mut self, message: &str) -> bool {
        self.unsent.is_empty() && self.is_sent(message)
    }

    /// Sends `message`. Returns false if that is to be tried again.
    fn is_sent(&mut self, message: &str) -> bool {
        match self.socket.send(message.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if !std::mem::replace(&mut self.has_failed, true) => {
                tracing::warn!("cannot notify the service manager: {error}; continuing without");
            }
            _ => {}
        }
        true
    }
}

/// The address in `NOTIFY_SOCKET`.
fn address_of(text: &OsStr) -> io::Result<SocketAddr> {
    match text.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(text),
        _ => {
            let problem = "it is neither an absolute path nor @ and a name";
            Err(io::Error::new(ErrorKind::InvalidInput, problem))
        }
    }
}

#[cfg(test)]
mod tests;
