//! The counters of HTTP/2.

use crate::protocol::{Row, Stats};
use crate::stats::counters;

counters! {
    /// Connections that speak HTTP/2, and what could not be told of them.
    Http2Stats {
        /// Connections.
        connections,
        /// Those of them whose beginning was not captured: what their header blocks refer to is
        /// known only from there on.
        joined_late,
        /// Connections that were counted as both, and then turned out to speak HTTP/1.
        connections_withdrawn,
        /// Those of them of which bytes were lost that may have been a header block. The same holds
        /// for them from there on.
        lost_header_blocks,
        /// Header fields that could not be told, because of one of the two.
        fields_unknown,
        /// Header blocks that are longer than `head_bytes_max`, compressed or not. Their messages
        /// were reported with the part that fits.
        blocks_cut,
        /// Header blocks that are not encoded as RFC 7541 demands.
        blocks_faulty,
        /// Times a direction lost its place among the frames, and looked for the next one.
        places_lost,
        /// Bytes that were skipped meanwhile.
        bytes_skipped,
        /// Streams that were given up because too many were open.
        streams_given_up,
        /// Streams that were given up because the shard's memory was used up.
        streams_at_bound,
        /// Streams that ended before it was known who the client is. They were not reported.
        streams_unclear,
    }
}

impl Stats for Http2Stats {
    fn add(&mut self, other: &Http2Stats) {
        Http2Stats::add(self, other);
    }

    fn each(&self) -> Vec<(&'static str, u64)> {
        Http2Stats::each(self)
    }

    fn rows(&self) -> Vec<Row> {
        let parts = vec![
            ("connections", self.connections - self.connections_withdrawn),
            ("joined late", self.joined_late - self.connections_withdrawn),
            ("lost a header block", self.lost_header_blocks),
            ("fields unknown", self.fields_unknown),
            ("header blocks cut", self.blocks_cut),
            ("header blocks faulty", self.blocks_faulty),
            ("places lost", self.places_lost),
            ("bytes skipped", self.bytes_skipped),
            ("streams beyond the bound", self.streams_given_up),
            ("streams beyond the memory", self.streams_at_bound),
            ("streams of an unknown client", self.streams_unclear),
        ];
        vec![("http2", parts)]
    }

    /// Unreported messages are mentioned to users, because they explain missing lines.
    fn has_unreported(&self) -> bool {
        self.streams_unclear > 0
    }
}
