//! [`LiveTotals`]: the kernel's counts of a live capture.

use crate::sys::counters::FilterCounters;

/// The frames an interface has delivered and lost since the capture was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceTotals {
    /// Its name, or `any`.
    pub name: String,
    /// Frames that passed the filter: those in the rings and those dropped (`tp_packets`).
    pub packets: u64,
    /// Frames dropped because a ring was full (`tp_drops`).
    pub drops: u64,
    /// Times a ring was full and stopped (`tp_freeze_q_cnt`).
    pub freezes: u64,
    /// Frames dropped before our sockets (`rx_dropped`); for `any`, on all interfaces that still
    /// exist.
    pub rx_dropped: u64,
    /// Frames dropped because the NIC's buffers were full (`rx_missed_errors`).
    pub rx_missed: u64,
}

/// What happened to all frames since the capture was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTotals {
    /// The filter's counters.
    pub filter: FilterCounters,
    /// For each interface, in the order of the command line.
    pub interfaces: Vec<InterfaceTotals>,
    /// Frames dropped because a CPU's backlog was full (`/proc/net/softnet_stat`), on all
    /// interfaces.
    pub softnet_dropped: u64,
}

impl LiveTotals {
    /// Frames that passed the filter, on all interfaces: those in the rings and those dropped.
    pub fn packets(&self) -> u64 {
        self.interfaces.iter().map(|interface| interface.packets).sum()
    }

    /// Frames dropped because a ring was full, on all interfaces.
    pub fn drops(&self) -> u64 {
        self.interfaces.iter().map(|interface| interface.drops).sum()
    }
}
