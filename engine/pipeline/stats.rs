//! [`PipelineStats`]: all counters of one pipeline.

use crate::protocol::ProtocolStats;
use crate::stats::{DatagramStats, DecodeStats, FlowStats, HintStats};
use crate::time::TimestampNs;

/// All counters of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Frames the source handed over.
    pub frames: u64,
    /// Bytes of those frames, as captured.
    pub frame_bytes: u64,
    /// Segments of this shard's connections that other shards joined from fragments and passed on.
    /// The fragments are frames of those shards.
    pub segments_taken_over: u64,
    /// Frames whose payload did not reach user space: elided frames, if the source is live.
    pub frames_bare: u64,
    /// Frames by outcome of decoding; their sum is `frames`.
    pub decode: DecodeStats,
    /// Counters of IP datagrams, mainly of fragments.
    pub datagrams: DatagramStats,
    /// Counters of the flow table and the reassemblers.
    pub flow: FlowStats,
    /// Counters of connections, messages and exchanges.
    pub protocol: ProtocolStats,
    /// Counters of the hints given to the filter.
    pub hints: HintStats,
}

/// What a pipeline holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineGauges {
    /// Connections in the flow table, including those that have ended and are still remembered.
    pub connections: u64,
    /// Exchanges in progress.
    pub exchanges: u64,
    /// Memory of the flow table's slots.
    pub flow_bytes: u64,
    /// Segments that wait behind holes.
    pub reorder_bytes: u64,
    /// Messages and exchanges in progress.
    pub exchange_bytes: u64,
    /// Fragments that wait for the rest of their datagrams.
    pub fragment_bytes: u64,
    /// The time of a frame of the last poll that had frames. `None`: there was none yet.
    pub last_frame: Option<TimestampNs>,
}

impl PipelineGauges {
    /// Adds every gauge of `other`; of times, the later one.
    pub fn add(&mut self, other: &PipelineGauges) {
        self.connections += other.connections;
        self.exchanges += other.exchanges;
        self.flow_bytes += other.flow_bytes;
        self.reorder_bytes += other.reorder_bytes;
        self.exchange_bytes += other.exchange_bytes;
        self.fragment_bytes += other.fragment_bytes;
        self.last_frame = self.last_frame.max(other.last_frame);
    }
}

impl PipelineStats {
    /// Adds every counter of `other`.
    pub fn add(&mut self, other: &PipelineStats) {
        self.frames += other.frames;
        self.frame_bytes += other.frame_bytes;
        self.segments_taken_over += other.segments_taken_over;
        self.frames_bare += other.frames_bare;
        self.decode.add(&other.decode);
        self.datagrams.add(&other.datagrams);
        self.flow.add(&other.flow);
        self.protocol.add(&other.protocol);
        self.hints.add(&other.hints);
    }
}
