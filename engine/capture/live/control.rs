//! [`LiveControl`]: the gate and the totals of a live capture.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::links::Links;
use super::shed::Shedding;
use super::totals::{InterfaceState, InterfaceTotals, LiveTotals, RingTotals};
use crate::ids::{FlowHashKey, Share};
use crate::sys::fanout::Fanout;
use crate::sys::filter::{Filter, Gate, Handshakes};
use crate::sys::interface::{Interface, Interfaces};
use crate::sys::packet_socket::PacketSocket;
use crate::sys::ring::RingWatch;

/// The gate and the totals of a live capture. Any thread may use it while shards poll.
#[derive(Debug)]
pub struct LiveControl {
    filter: Filter,
    fanout: Option<Fanout>,
    watched: Vec<Watched>,
    links: Links,
    totals: LiveTotals,
    /// If connections are left out while rings overflow.
    shedding: Option<Shedding>,
    lowest_packet_descriptor: u32,
}

/// An interface whose sockets were opened.
#[derive(Debug)]
pub(super) struct OpenedInterface {
    pub(super) name: String,
    pub(super) ifindex: u32,
    /// The sockets of the shards, in the order of the shards, and their rings.
    pub(super) sockets: Vec<(Arc<PacketSocket>, RingWatch)>,
}

/// An interface and its sockets.
#[derive(Debug)]
struct Watched {
    /// 0 means all interfaces.
    ifindex: u32,
    /// The interface was removed. A new one of the same name has another index.
    is_gone: bool,
    /// The sockets of the shards, in the order of the shards, and their rings.
    sockets: Vec<(Arc<PacketSocket>, RingWatch)>,
}

impl LiveControl {
    /// For the interfaces `opened`.
    pub(super) fn new(
        filter: Filter,
        fanout: Option<Fanout>,
        opened: Vec<OpenedInterface>,
        interfaces: Interfaces,
        present: &[Interface],
    ) -> LiveControl {
        let named = opened.iter().map(|it| (it.name.as_str(), it.ifindex));
        let links = Links::new(interfaces, named, present);
        let mut totals = LiveTotals::default();
        let mut watched = Vec::with_capacity(opened.len());
        for OpenedInterface { name, ifindex, sockets } in opened {
            let ring = |(_, ring): &(_, RingWatch)| RingTotals {
                ring_bytes: ring.ring_bytes(),
                block_count: ring.block_count(),
                ..RingTotals::default()
            };
            let rings = sockets.iter().map(ring).collect();
            totals.interfaces.push(InterfaceTotals { name, rings, ..InterfaceTotals::default() });
            watched.push(Watched { ifindex, is_gone: false, sockets });
        }
        LiveControl {
            filter,
            fanout,
            watched,
            links,
            totals,
            shedding: None,
            lowest_packet_descriptor: 0,
        }
    }

    /// Captures only a share of the connections while rings overflow.
    pub(super) fn with_shedding(mut self, share: Option<Share>) -> LiveControl {
        self.shedding = share.map(Shedding::new);
        self
    }

    /// All packet sockets have descriptors from `lowest` on, and nothing else has.
    pub(super) fn with_lowest_packet_descriptor(self, lowest: u32) -> LiveControl {
        LiveControl { lowest_packet_descriptor: lowest, ..self }
    }

    /// All packet sockets have descriptors from this one on, and nothing else has.
    pub fn lowest_packet_descriptor(&self) -> u32 {
        self.lowest_packet_descriptor
    }

    /// Adapts the share of connections that are captured to the drops so far, if connections are
    /// shed. `now` is the time since the start.
    pub fn adapt_share(&mut self, now: Duration) {
        let Some(shedding) = &mut self.shedding else { return };
        self.filter.set_share(shedding.look(self.totals.drops(), now));
        self.totals.shed = Some(shedding.totals().clone());
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

    /// In which directions connections were seen that began since the capture was opened: see
    /// [`Filter::handshakes`].
    pub fn handshakes(&self, count_max: usize) -> io::Result<Handshakes> {
        self.filter.handshakes(count_max)
    }

    /// The names of the interfaces, if the last call of [`LiveControl::totals`] found that all are
    /// gone.
    pub fn all_gone(&self) -> Option<String> {
        let is_removed = self.watched.iter().all(|watched| watched.is_gone);
        let names = self.totals.interfaces.iter().map(|interface| interface.name.as_str());
        is_removed.then(|| names.collect::<Vec<_>>().join(", "))
    }

    /// Whether an interface with the name of one that has gone is there, and up.
    pub fn is_one_back(&mut self) -> bool {
        let gone = self.watched.iter().zip(&self.totals.interfaces);
        let gone = gone.filter(|(watched, _)| watched.is_gone);
        let names: Vec<&str> = gone.map(|(_, totals)| totals.name.as_str()).collect();
        self.links.is_one_up(&names)
    }

    /// All counts so far, and what happened to the interfaces: outages are reported when they
    /// begin and when they end. Long captures must call this now and then: the kernel's counters
    /// of frames have 32 bits.
    pub fn totals(&mut self) -> io::Result<&LiveTotals> {
        // Before the filter's counters: a drop is counted after the filter has seen the frame.
        self.links.look(&mut self.totals);
        self.look_at_rings();
        self.note_removed()?;
        self.counts()
    }

    /// From now on [`RingTotals::full_blocks_most`] is the most that is seen from now on.
    pub fn forget_fullest(&mut self) {
        for ring in self.totals.interfaces.iter_mut().flat_map(|interface| &mut interface.rings) {
            ring.full_blocks_most = 0;
        }
    }

    fn look_at_rings(&mut self) {
        for (watched, totals) in self.watched.iter().zip(&mut self.totals.interfaces) {
            for ((_, ring), totals) in watched.sockets.iter().zip(&mut totals.rings) {
                totals.full_blocks = ring.full_block_count();
                totals.full_blocks_most = totals.full_blocks_most.max(totals.full_blocks);
            }
        }
    }

    /// Only the counts of the filter and of the sockets are up to date.
    pub fn counts(&mut self) -> io::Result<&LiveTotals> {
        for (watched, totals) in self.watched.iter().zip(&mut self.totals.interfaces) {
            for ((socket, _), ring) in watched.sockets.iter().zip(&mut totals.rings) {
                let new = socket.statistics()?;
                ring.packets += u64::from(new.packets);
                ring.drops += u64::from(new.drops);
                ring.freezes += u64::from(new.freezes);
                totals.packets += u64::from(new.packets);
                totals.drops += u64::from(new.drops);
                totals.freezes += u64::from(new.freezes);
            }
        }
        self.totals.filter = self.filter.counters();
        Ok(&self.totals)
    }

    /// Notes the interfaces that were removed since the last call.
    fn note_removed(&mut self) -> io::Result<()> {
        let mut gone = Vec::new();
        for (watched, totals) in self.watched.iter_mut().zip(&mut self.totals.interfaces) {
            if !watched.is_gone && watched.is_removed()? {
                watched.is_gone = true;
                totals.state = InterfaceState::Gone;
                gone.push(totals.name.as_str());
            }
        }
        // If no interface is left, the capture ends and reports that itself.
        if !gone.is_empty() && self.watched.iter().any(|watched| !watched.is_gone) {
            let names = gone.join(", ");
            tracing::warn!("{names} has gone; capturing continues without it, even if it returns");
        }
        Ok(())
    }
}

impl Watched {
    /// Whether the interface was removed. Only the sockets know for sure: a list of interfaces that
    /// is read while others come and go may lack one that exists, or show a new one under the old
    /// index.
    fn is_removed(&self) -> io::Result<bool> {
        match self.sockets.first() {
            Some((socket, _)) if self.ifindex != 0 => Ok(!socket.is_bound_to(self.ifindex)?),
            _ => Ok(false),
        }
    }
}
