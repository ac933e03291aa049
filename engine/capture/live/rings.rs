//! Opens the rings of all shards and interfaces, on several CPUs at once: the kernel clears the
//! memory of a ring and waits for all CPUs when it is made, which may take a tenth of a second.

use super::error::LiveOpenError;
use crate::config::CaptureConfig;
use crate::sys::affinity;
use crate::sys::packet_socket::{PacketSocket, RESERVE_BYTES_MAX, RingSize};
use crate::sys::ring::Ring;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The step of opening a socket.
pub(super) const OPEN: &str = "open a packet socket";

/// The size of a ring.
pub(super) fn ring_bytes(config: &CaptureConfig) -> u64 {
    u64::from(config.block_bytes) * u64::from(config.block_count)
}

/// A socket that is not bound yet, and its ring.
pub(super) type OpenRing = (PacketSocket, Ring);

/// Opens a socket and a ring for each of `interfaces`, on a thread for each CPU that this process
/// may use; on this thread alone, where no other can be started.
pub(super) fn open_all<'a>(
    config: &CaptureConfig,
    lowest: u32,
    interfaces: impl Iterator<Item = &'a str>,
) -> Result<Vec<OpenRing>, LiveOpenError> {
    let waiting: VecDeque<&str> = interfaces.collect();
    let other_count = waiting.len().min(affinity::allowed_cpus().len()).saturating_sub(1);
    let opened = Vec::with_capacity(waiting.len());
    let rings = Rings { config, lowest, state: Mutex::new(State { waiting, opened, error: None }) };
    thread::scope(|scope| {
        for _ in 0..other_count {
            let thread = thread::Builder::new().name("rings".into());
            let _ = thread.spawn_scoped(scope, || rings.open_waiting());
        }
        rings.open_waiting();
    });
    let state = rings.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.error.map_or(Ok(state.opened), Err)
}

/// The rings of a capture, which are opened in any order.
#[derive(Debug)]
struct Rings<'a> {
    config: &'a CaptureConfig,
    /// The lowest descriptor of a socket.
    lowest: u32,
    state: Mutex<State<'a>>,
}

#[derive(Debug)]
struct State<'a> {
    /// The interfaces of the rings that nobody has begun to open.
    waiting: VecDeque<&'a str>,
    opened: Vec<OpenRing>,
    error: Option<LiveOpenError>,
}

impl<'a> Rings<'a> {
    /// Opens rings until none is left that nobody has begun to open, or one could not be opened.
    fn open_waiting(&self) {
        while let Some(interface) = self.state(|state| state.waiting.pop_front()) {
            match self.open(interface) {
                Ok(ring) => self.state(|state| state.opened.push(ring)),
                Err(error) => self.state(|state| {
                    state.waiting.clear();
                    state.error.get_or_insert(error);
                }),
            };
        }
    }

    fn state<T>(&self, change: impl FnOnce(&mut State<'a>) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self, interface: &str) -> Result<OpenRing, LiveOpenError> {
        let failed = |step| move |source| LiveOpenError::from_socket(step, interface, source);
        let socket = PacketSocket::open().and_then(|it| it.with_descriptor_from(self.lowest));
        let socket = socket.map_err(failed(OPEN))?;
        let size = RingSize {
            block_bytes: self.config.block_bytes,
            block_count: self.config.block_count,
            retire_timeout_ms: self.config.retire_timeout_ms,
            reserve_bytes: if self.config.is_low_latency { RESERVE_BYTES_MAX } else { 0 },
        };
        let ring = socket.ring(size).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOMEM) => {
                LiveOpenError::RingMemory { ring_mib: ring_bytes(self.config) >> 20 }
            }
            _ => failed("make a ring")(source),
        })?;
        Ok((socket, ring))
    }
}
