//! [`LiveControl`]: the gate and the totals of a live capture.

use std::io;

use super::totals::{InterfaceTotals, LiveTotals};
use crate::ids::FlowHashKey;
use crate::sys::fanout::Fanout;
use crate::sys::filter::{Filter, Gate};
use crate::sys::interface::{self, Interface};
use crate::sys::packet_socket::PacketSocket;

/// The gate and the totals of a live capture. Any thread may use it while shards poll.
#[derive(Debug)]
pub struct LiveControl {
    filter: Filter,
    fanout: Option<Fanout>,
    watched: Vec<Watched>,
    totals: LiveTotals,
    /// The value of `/proc/net/softnet_stat` at the last look.
    softnet_seen: u64,
}

/// An interface, its sockets, and its counters at the last look.
#[derive(Debug)]
struct Watched {
    /// 0 means all interfaces.
    ifindex: u32,
    /// The interface was removed. A new one of the same name has another index.
    is_gone: bool,
    /// Duplicates of the shards' descriptors.
    sockets: Vec<PacketSocket>,
    /// Interface index, `rx_dropped`, `rx_missed`.
    seen: Vec<(u32, u32, u32)>,
}

impl LiveControl {
    /// For the interfaces `opened`: name, index and sockets of each.
    pub(super) fn new(
        filter: Filter,
        fanout: Option<Fanout>,
        opened: Vec<(String, u32, Vec<PacketSocket>)>,
        present: &[Interface],
    ) -> LiveControl {
        let mut totals = LiveTotals::default();
        let mut watched = Vec::with_capacity(opened.len());
        for (name, ifindex, sockets) in opened {
            totals.interfaces.push(InterfaceTotals { name, ..InterfaceTotals::default() });
            let mut entry = Watched { ifindex, is_gone: false, sockets, seen: Vec::new() };
            entry.update(present);
            watched.push(entry);
        }
        LiveControl { filter, fanout, watched, totals, softnet_seen: softnet_dropped() }
    }

    /// The key of the hash by which our own BPF program chooses the shards, if it does.
    pub fn fanout_key(&self) -> Option<FlowHashKey> {
        self.fanout.as_ref().map(|_| self.filter.hash_key())
    }

    /// From now on the filter judges and counts frames.
    pub fn open_gate(&self) {
        self.filter.gate(Gate::Open);
    }

    /// When this returns, no further frame passes. Frames that have passed still reach user space,
    /// until [`LiveTotals::packets`] equals the delivered frames plus the drops; the last block
    /// arrives within about two retire timeouts.
    pub fn shut_gate(&self) {
        self.filter.gate(Gate::Shut);
    }

    /// The names of the interfaces, if the last call of [`LiveControl::totals`] found that all are
    /// gone.
    pub fn all_gone(&self) -> Option<String> {
        let is_removed = self.watched.iter().all(|watched| watched.is_gone);
        let names = self.totals.interfaces.iter().map(|interface| interface.name.as_str());
        is_removed.then(|| names.collect::<Vec<_>>().join(", "))
    }

    /// All counts so far. Long captures must call this now and then: the kernel's counters have 32
    /// bits.
    pub fn totals(&mut self) -> io::Result<&LiveTotals> {
        // The filter counts a frame before its socket does.
        let present = interface::interfaces()?;
        let mut gone = Vec::new();
        for (watched, totals) in self.watched.iter_mut().zip(&mut self.totals.interfaces) {
            for socket in &watched.sockets {
                let new = socket.statistics()?;
                totals.packets += u64::from(new.packets);
                totals.drops += u64::from(new.drops);
                totals.freezes += u64::from(new.freezes);
            }
            let (rx_dropped, rx_missed) = watched.update(&present);
            totals.rx_dropped += rx_dropped;
            totals.rx_missed += rx_missed;
            if !watched.is_gone && watched.is_removed()? {
                watched.is_gone = true;
                gone.push(totals.name.as_str());
            }
        }
        // If no interface is left, the capture ends and reports that itself.
        if !gone.is_empty() && self.watched.iter().any(|watched| !watched.is_gone) {
            let names = gone.join(", ");
            tracing::warn!("{names} has gone; capturing continues without it, even if it returns");
        }
        let softnet = softnet_dropped();
        self.totals.softnet_dropped += softnet.saturating_sub(self.softnet_seen);
        self.softnet_seen = softnet;
        self.totals.filter = self.filter.counters();
        Ok(&self.totals)
    }
}

impl Watched {
    /// Whether the interface was removed. Only the sockets know for sure: a list of interfaces that
    /// is read while others come and go may lack one that exists, or show a new one under the old
    /// index.
    fn is_removed(&self) -> io::Result<bool> {
        match self.sockets.first() {
            Some(socket) if self.ifindex != 0 => Ok(!socket.is_bound_to(self.ifindex)?),
            _ => Ok(false),
        }
    }

    /// The frames that the interfaces have lost since the last look; a new interface starts at its
    /// current counters.
    fn update(&mut self, present: &[Interface]) -> (u64, u64) {
        let (mut dropped, mut missed) = (0, 0);
        for now in present {
            if self.ifindex != 0 && self.ifindex != now.ifindex {
                continue;
            }
            match self.seen.iter_mut().find(|(ifindex, ..)| *ifindex == now.ifindex) {
                None => self.seen.push((now.ifindex, now.rx_dropped, now.rx_missed)),
                Some((_, rx_dropped, rx_missed)) => {
                    dropped += u64::from(now.rx_dropped.wrapping_sub(*rx_dropped));
                    missed += u64::from(now.rx_missed.wrapping_sub(*rx_missed));
                    (*rx_dropped, *rx_missed) = (now.rx_dropped, now.rx_missed);
                }
            }
        }
        (dropped, missed)
    }
}

/// Frames that found a CPU's backlog full, on all CPUs since boot: the second column of
/// softnet_stat, proc(5). 0 if the file cannot be read.
pub fn softnet_dropped() -> u64 {
    sum_softnet_dropped(&std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default())
}

fn sum_softnet_dropped(text: &str) -> u64 {
    let dropped = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    text.lines().filter_map(dropped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softnet_drops_are_the_second_column_in_hexadecimal() {
        let text = "00000100 0000000a 00000000 00000000\n00000200 00000010 00000000 00000000\n";
        assert_eq!(sum_softnet_dropped(text), 26);
        assert_eq!(sum_softnet_dropped(""), 0);
    }

    #[test]
    fn losses_are_counted_from_the_first_look_on_and_across_a_wrap() {
        let state = |ifindex, rx_dropped, rx_missed| Interface {
            name: String::new(),
            ifindex,
            is_up: true,
            is_loopback: false,
            rx_dropped,
            rx_missed,
        };
        let mut watched =
            Watched { ifindex: 0, is_gone: false, sockets: Vec::new(), seen: Vec::new() };
        assert_eq!(watched.update(&[state(1, 5, u32::MAX)]), (0, 0));
        assert_eq!(watched.update(&[state(1, 7, 1), state(2, 100, 100)]), (2, 2));
        assert_eq!(watched.update(&[state(2, 101, 100)]), (1, 0));
        watched.ifindex = 2;
        assert_eq!(watched.update(&[state(1, 90, 90), state(2, 102, 100)]), (1, 0));
    }
}
