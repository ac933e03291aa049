//! [`LiveTotals`]: what the kernel counted of a live capture.

use crate::sys::counters::FilterCounters;

/// What one interface has brought and lost since the capture was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceTotals {
    /// Its name, or `any`.
    pub name: String,
    /// Frames that passed the filter: those in the rings and those dropped (`tp_packets`).
    pub packets: u64,
    /// Frames for which the rings had no room (`tp_drops`).
    pub drops: u64,
    /// Times a ring was full and stopped (`tp_freeze_q_cnt`).
    pub freezes: u64,
    /// Frames dropped before us (`rx_dropped`); for `any`, on all interfaces that are still there.
    pub rx_dropped: u64,
    /// Frames that the NIC had no room for (`rx_missed_errors`).
    pub rx_missed: u64,
}

/// What became of all frames since the capture was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTotals {
    /// What the filter counted.
    pub filter: FilterCounters,
    /// By interface, in the order they were asked for.
    pub interfaces: Vec<InterfaceTotals>,
    /// Fragments that may have gone to another shard than their connection.
    pub misplaced_fragments: u64,
    /// Frames that the CPUs' backlog had no room for (`/proc/net/softnet_stat`), on all interfaces.
    pub softnet_dropped: u64,
}

impl LiveTotals {
    /// Frames that passed the filter on their way to the rings, on all interfaces.
    pub fn packets(&self) -> u64 {
        self.interfaces.iter().map(|interface| interface.packets).sum()
    }

    /// Frames for which the rings had no room, on all interfaces.
    pub fn drops(&self) -> u64 {
        self.interfaces.iter().map(|interface| interface.drops).sum()
    }
}
