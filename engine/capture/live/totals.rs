//! [`LiveTotals`]: the kernel's counts of a live capture.

use crate::sys::counters::FilterCounters;
use std::fmt;
use std::time::Duration;

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
    /// Frames dropped by the driver, by a full backlog, or because no protocol took them
    /// (`rx_dropped`); for `any`, on all interfaces that still exist. The last kind is no loss: see
    /// [`LiveTotals::rx_lost`].
    pub rx_dropped: u64,
    /// Frames dropped because the NIC's buffers were full (`rx_missed_errors`).
    pub rx_missed: u64,
}

/// How much of the traffic was left out while rings overflowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShedTotals {
    /// How often the share of the connections was halved.
    pub halvings: u64,
    /// The smallest share of the connections, of 1000; 0 if there never was less than all.
    pub least_permille: u64,
    /// How long the share was less than all.
    pub below_all_ms: u64,
}

impl fmt::Display for ShedTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShedTotals { halvings, least_permille, below_all_ms } = self;
        write!(
            f,
            "at least {}.{}% of the connections were captured, not all for {:.1?}; \
             halved {halvings} times",
            least_permille / 10,
            least_permille % 10,
            Duration::from_millis(*below_all_ms),
        )
    }
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
    /// What was shed, if that was asked for.
    pub shed: Option<ShedTotals>,
    /// Frames that an ifb device saw and could not send on. It is where they end, and no loss.
    pub dropped_by_ifb: u64,
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

    /// Frames that the interfaces dropped (`rx_dropped`), except for those that may have been
    /// dropped only because no protocol took them. As many of them as the filter has seen before
    /// are left out: it sees a frame before any protocol does.
    pub fn rx_lost(&self) -> u64 {
        self.rx_dropped().saturating_sub(self.filter.unclaimed)
    }

    /// Frames that the interfaces dropped after the filter saw them.
    pub fn rx_unclaimed(&self) -> u64 {
        self.rx_dropped() - self.rx_lost() + self.dropped_by_ifb
    }

    fn rx_dropped(&self) -> u64 {
        self.interfaces.iter().map(|interface| interface.rx_dropped).sum()
    }
}
