//! [`LiveControl`]: the gate and the totals of a live capture.

use std::io;

use super::totals::{InterfaceTotals, LiveTotals};
use crate::sys::fanout::Fanout;
use crate::sys::filter::{Filter, Gate};
use crate::sys::interface::{self, Interface};
use crate::sys::packet_socket::PacketSocket;

/// The gate and the totals of a live capture. It may be used from any thread while shards poll.
#[derive(Debug)]
pub struct LiveControl {
    filter: Filter,
    fanout: Option<Fanout>,
    watched: Vec<Watched>,
    totals: LiveTotals,
    /// What `/proc/net/softnet_stat` said at the last look.
    softnet_seen: u64,
}

/// An interface, its sockets, and what its counters said at the last look.
#[derive(Debug)]
struct Watched {
    /// 0 is all.
    ifindex: u32,
    /// It was removed. A new one of its name has another number.
    is_gone: bool,
    /// By other descriptors than those of the shards.
    sockets: Vec<PacketSocket>,
    /// Interface number, `rx_dropped`, `rx_missed`.
    seen: Vec<(u32, u32, u32)>,
}

impl LiveControl {
    /// Of the interfaces `opened`: name, number and sockets of each.
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
            entry.see(present);
            watched.push(entry);
        }
        LiveControl { filter, fanout, watched, totals, softnet_seen: softnet_dropped() }
    }

    /// Whether our own program chooses the shards.
    pub fn has_fanout_program(&self) -> bool {
        self.fanout.is_some()
    }

    /// From now on frames are judged and counted.
    pub fn open_gate(&self) {
        self.filter.gate(Gate::Open);
    }

    /// When this returns no frame passes any more. What has passed comes up until
    /// [`LiveTotals::packets`] equals the frames delivered and the drops; the last block within
    /// about two retire timeouts.
    pub fn shut_gate(&self) {
        self.filter.gate(Gate::Shut);
    }

    /// The names of the interfaces, where the last look at the totals found that none of them is
    /// left.
    pub fn all_gone(&self) -> Option<String> {
        let is_deserted = self.watched.iter().all(|watched| watched.is_gone);
        let names = self.totals.interfaces.iter().map(|interface| interface.name.as_str());
        is_deserted.then(|| names.collect::<Vec<_>>().join(", "))
    }

    /// Everything so far. To be called now and then in long runs: the kernel's counters have 32
    /// bits.
    pub fn totals(&mut self) -> io::Result<&LiveTotals> {
        // A frame is counted by the filter before it is by its socket.
        let present = interface::interfaces()?;
        let mut gone = Vec::new();
        for (watched, totals) in self.watched.iter_mut().zip(&mut self.totals.interfaces) {
            for socket in &watched.sockets {
                let new = socket.statistics()?;
                totals.packets += u64::from(new.packets);
                totals.drops += u64::from(new.drops);
                totals.freezes += u64::from(new.freezes);
            }
            let (rx_dropped, rx_missed) = watched.see(&present);
            totals.rx_dropped += rx_dropped;
            totals.rx_missed += rx_missed;
            if !watched.is_gone && watched.is_deserted()? {
                watched.is_gone = true;
                gone.push(totals.name.as_str());
            }
        }
        // Where none is left the capture ends, and says so itself.
        if !gone.is_empty() && self.watched.iter().any(|watched| !watched.is_gone) {
            let names = gone.join(", ");
            tracing::warn!("{names} has gone; capturing goes on without it, even if it comes back");
        }
        let softnet = softnet_dropped();
        self.totals.softnet_dropped += softnet.saturating_sub(self.softnet_seen);
        self.softnet_seen = softnet;
        self.totals.misplaced_fragments =
            self.fanout.as_ref().map_or(0, Fanout::misplaced_fragments);
        self.totals.filter = self.filter.counters();
        Ok(&self.totals)
    }
}

impl Watched {
    /// Whether the interface was removed. The sockets know: a list of interfaces that is read while
    /// others come and go may lack one that is there, or show a new one under the old number.
    fn is_deserted(&self) -> io::Result<bool> {
        match self.sockets.first() {
            Some(socket) if self.ifindex != 0 => Ok(!socket.is_bound_to(self.ifindex)?),
            _ => Ok(false),
        }
    }

    /// What the interfaces have lost since the last look; an interface that is new starts here.
    fn see(&mut self, present: &[Interface]) -> (u64, u64) {
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
/// softnet_stat, proc(5). 0 where there is none to read.
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
        assert_eq!(watched.see(&[state(1, 5, u32::MAX)]), (0, 0));
        assert_eq!(watched.see(&[state(1, 7, 1), state(2, 100, 100)]), (2, 2));
        assert_eq!(watched.see(&[state(2, 101, 100)]), (1, 0));
        watched.ifindex = 2;
        assert_eq!(watched.see(&[state(1, 90, 90), state(2, 102, 100)]), (1, 0));
    }
}
