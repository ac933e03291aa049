//! [`PipelineStats`]: all counters of one pipeline.

use crate::protocol::ProtocolStats;
use crate::stats::{DatagramStats, DecodeStats, FlowStats, HintStats};

/// All counters of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Frames the source handed over.
    pub frames: u64,
    /// Bytes of those frames, as captured.
    pub frame_bytes: u64,
    /// Segments that the fanout sent here though their connection is another shard's: such of
    /// which a fragment came before its first. Counted where our own program does the fanout.
    pub segments_misplaced: u64,
    /// Frames of which no payload came up, though they had some: elided ones, if the source is
    /// live.
    pub frames_bare: u64,
    /// By outcome of decoding; their sum is `frames`.
    pub decode: DecodeStats,
    /// Of IP datagrams, fragments above all.
    pub datagrams: DatagramStats,
    /// Of the flow table and the reassemblers.
    pub flow: FlowStats,
    /// Of connections, messages and exchanges.
    pub protocol: ProtocolStats,
    /// Of what was said to the filter.
    pub hints: HintStats,
}

impl PipelineStats {
    /// Adds every counter of `other`.
    pub fn add(&mut self, other: &PipelineStats) {
        self.frames += other.frames;
        self.frame_bytes += other.frame_bytes;
        self.segments_misplaced += other.segments_misplaced;
        self.frames_bare += other.frames_bare;
        self.decode.add(&other.decode);
        self.datagrams.add(&other.datagrams);
        self.flow.add(&other.flow);
        self.protocol.add(&other.protocol);
        self.hints.add(&other.hints);
    }
}
