//! What the options say about rings and filter.

use super::Args;
use super::values::{DirectionArg, FanoutArg, FilterArg};
use httplines::config::{Config, FanoutMode, FilterMode, PacketDirection};

/// Bytes of a block that hold the longest superpackets, and the shortest retire timeout, in
/// milliseconds.
const LOW_LATENCY: (u32, u32) = (128 << 10, 1);

impl Args {
    /// Sets the limits and options of rings and filter.
    pub(super) fn configure_capture(&self, config: &mut Config) {
        let capture = &mut config.capture;
        capture.direction = match self.direction {
            Some(DirectionArg::In) => PacketDirection::In,
            Some(DirectionArg::Out) => PacketDirection::Out,
            Some(DirectionArg::Inout) | None => PacketDirection::InOut,
        };
        capture.filter = match self.filter {
            Some(FilterArg::Http) | None => FilterMode::Http,
            Some(FilterArg::Off) => FilterMode::Off,
        };
        capture.wants_tls = self.selection.records().tls;
        capture.fanout = match self.fanout {
            Some(FanoutArg::Flow) | None => FanoutMode::Flow,
            Some(FanoutArg::Hash) => FanoutMode::Hash,
            Some(FanoutArg::Cpu) => FanoutMode::Cpu,
            Some(FanoutArg::Queue) => FanoutMode::Queue,
        };
        capture.is_promiscuous = !self.no_promiscuous;
        capture.is_shedding = self.shed;
        capture.is_waiting = self.sandbox.is_waiting();
        capture.is_low_latency = self.low_latency;
        let mut ring_kib = capture.block_count * (capture.block_bytes >> 10);
        if let Some(kibibytes) = self.buffer_kib {
            ring_kib = kibibytes;
        }
        if self.low_latency {
            (capture.block_bytes, capture.retire_timeout_ms) = LOW_LATENCY;
        }
        if let Some(kibibytes) = self.block_kib {
            capture.block_bytes = kibibytes << 10;
        }
        capture.block_count = ring_kib / (capture.block_bytes >> 10);
        if let Some(milliseconds) = self.retire_timeout_ms {
            capture.retire_timeout_ms = milliseconds;
        }
        if self.no_elide {
            capture.elide_bytes_min = None;
        } else if let Some(bytes) = self.elide_min_bytes {
            capture.elide_bytes_min = Some(bytes);
        }
        if let Some(sessions) = self.sessions {
            capture.session_count_max = sessions;
        }
    }
}
