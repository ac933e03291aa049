//! [`LiveTotals`]: the kernel's counts of a live capture.

use crate::sys::counters::FilterCounters;
use std::fmt;
use std::time::Duration;

/// The frames of one ring since the capture was opened, and how full it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingTotals {
    /// Frames that passed the filter: those in the ring and those dropped (`tp_packets`).
    pub packets: u64,
    /// Frames dropped because the ring was full (`tp_drops`).
    pub drops: u64,
    /// Times the ring was full and stopped (`tp_freeze_q_cnt`).
    pub freezes: u64,
    /// The memory of the ring.
    pub ring_bytes: u64,
    /// The number of its blocks.
    pub block_count: u64,
    /// Blocks that the shard had not handed back yet at the last look.
    pub full_blocks: u64,
    /// The most at any look since [`LiveControl::forget_fullest`](super::LiveControl).
    pub full_blocks_most: u64,
}

/// Whether an interface can deliver frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InterfaceState {
    /// It is up and has carrier, or it is `any`.
    #[default]
    Up,
    /// It is down, or has no carrier. Capturing continues when that changes.
    Down,
    /// It was removed. Capturing continues without it.
    Gone,
}

impl InterfaceState {
    /// The name shown to users.
    pub fn name(self) -> &'static str {
        match self {
            InterfaceState::Up => "up",
            InterfaceState::Down => "down",
            InterfaceState::Gone => "gone",
        }
    }
}

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
    /// Frames dropped because the NIC's buffers were full: `rx_missed_errors` or `rx_fifo_errors`,
    /// the larger of them.
    pub rx_missed: u64,
    /// Times it went down or lost its carrier.
    pub outages: u64,
    /// Its state at the last look.
    pub state: InterfaceState,
    /// Its rings, in the order of the shards. Their frames are included above.
    pub rings: Vec<RingTotals>,
}

/// How much of the traffic was left out while rings overflowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShedTotals {
    /// How often the share of the connections was halved.
    pub halvings: u64,
    /// The share of the connections that is captured now, of 1000.
    pub share_permille: u64,
    /// The smallest share of the connections, of 1000; 0 if there never was less than all.
    pub least_permille: u64,
    /// How long the share was less than all.
    pub below_all_ms: u64,
}

impl fmt::Display for ShedTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShedTotals { halvings, least_permille, below_all_ms, .. } = self;
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
