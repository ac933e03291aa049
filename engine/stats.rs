//! A leaf: the counters of the stages, and their names. Each shard has its own; nothing here is
//! shared.

/// Declares a documented struct of `u64` counters, with a sum and a list of names and values.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct $name { $($(#[$field_doc])* pub $field: u64,)* }

        impl $name {
            /// Adds every counter of `other`.
            pub fn add(&mut self, other: &$name) {
                $(self.$field += other.$field;)*
            }

            /// Name and value of every counter, in the order of declaration.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// Outcomes of the frames that reached user space: exactly one for each frame.
    DecodeStats {
        /// TCP segments: these frames are passed on.
        segments,
        /// Neither IPv4 nor IPv6: ARP, LLDP, and other protocols of a link.
        not_ip,
        /// IP, but neither TCP nor QUIC.
        not_tcp,
        /// UDP that begins with an Initial of QUIC, to the lower port of the two.
        quic_initial,
        /// Another UDP datagram of QUIC, or of port 443.
        quic,
        /// A fragment that waits for the rest of its datagram; the frame that completes it is a
        /// segment.
        fragment_held,
        /// A fragment of a datagram whose fragments contradict each other. The whole datagram is
        /// dropped.
        fragment_overlap,
        /// A fragment of a datagram with more fragments than are kept. The whole datagram is
        /// dropped.
        fragment_at_bound,
        /// A fragment that completed a datagram of another shard's connection. The segment was
        /// passed on to that shard.
        fragment_passed_on,
        /// The same, but the queue to that shard was full. The segment is lost.
        fragment_not_passed_on,
        /// The snap length or the sender cut the frame inside its headers, or a fragment anywhere.
        truncated,
        /// A header contradicts itself or the frame (lengths, versions).
        bad_header,
        /// More VLAN tags, extension headers or encapsulations than we follow.
        too_deep,
        /// The frame is encrypted on the link (802.11).
        encrypted,
        /// A link type that we do not decode, or a variant of one: 802.11 frames with several
        /// packets or a part of a packet, netlink frames with several messages.
        unsupported_link,
        /// A port, network or VLAN that the user does not want.
        unwanted,
        /// A connection that is not in the sample that the user wants.
        sampled,
        /// A connection of the sample that is left out for now, since rings overflow: its frames
        /// were in a ring already.
        shed,
    }
}

counters! {
    /// Events of IP datagrams, in addition to the outcome of their frames.
    DatagramStats {
        /// IPv4 headers with a wrong checksum, at any depth. The packets are processed like others.
        ipv4_checksums_wrong,
        /// Datagrams reassembled from fragments.
        datagrams_joined,
        /// Datagrams given up because their fragments contradict each other or are too many.
        datagrams_dropped,
        /// Datagrams given up because a part of them did not arrive in time.
        datagrams_expired,
        /// Datagrams given up because too many, or too many bytes, were waiting.
        datagrams_evicted,
    }
}

counters! {
    /// Outcomes of TCP segments and their bytes.
    FlowStats {
        /// Connections added to the table.
        flows,
        /// Segments of connections that are not in the table and do not begin a message.
        segments_unknown,
        /// Of them, segments of which a connection was known soon after, and that were taken.
        segments_adopted,
        /// Payload bytes passed on in order, first copies only.
        bytes_in_order,
        /// Payload bytes that had been seen before (retransmissions, second captures, overlaps).
        bytes_duplicate,
        /// Segments that arrived behind a hole and waited.
        segments_out_of_order,
        /// Holes that were given up.
        gaps,
        /// Bytes in these holes.
        gap_bytes,
        /// Holes that were given up because the out-of-order buffer was full.
        gaps_at_bound,
        /// Bytes that arrived for the first time, after their hole had been given up.
        bytes_late,
        /// Bytes cut off by the snap length.
        bytes_cut,
        /// Body bytes that the kernel filter elided.
        bytes_elided,
        /// Segments with a sequence or acknowledgment number outside the windows, or of a handshake
        /// with other numbers, that no endpoint would accept.
        segments_refused,
        /// Of them, segments that were taken after all: both sides went on with their numbers.
        segments_readmitted,
        /// Segments with data but without an acknowledgment, which no endpoint accepts.
        segments_without_ack,
        /// Segments that would have decided about a connection, but have a wrong checksum.
        checksums_wrong,
        /// Payload bytes of all segments that were refused, for whatever reason.
        bytes_refused,
        /// Of them, bytes that were taken after all.
        bytes_readmitted,
        /// Resets outside the windows or with a wrong checksum, ignored.
        resets_ignored,
        /// Handshakes with other numbers that did not replace a live connection.
        handshakes_refused,
        /// Connections that went on with other numbers, confirmed by both sides, after an outage of
        /// the capture.
        anchors,
        /// Connections ended because the table was full.
        flows_evicted,
        /// Connections ended after the idle timeout.
        flows_idle,
        /// Connections ended by a new one on the same endpoints.
        flows_reused,
        /// Connections that carried payload and of which only one direction was seen.
        flows_one_sided,
        /// Those of them in a VLAN or an overlay network that is part of their identity.
        flows_one_sided_in_networks,
    }
}

impl FlowStats {
    /// A segment with this many bytes of payload is refused, by its numbers.
    pub fn refuse(&mut self, payload_bytes: usize) {
        self.segments_refused += 1;
        self.bytes_refused += payload_bytes as u64;
    }

    /// Such a segment is taken after all.
    pub fn take_back_refusal(&mut self, payload_bytes: usize) {
        self.segments_readmitted += 1;
        self.bytes_readmitted += payload_bytes as u64;
    }

    /// Segments of unknown connections that were never taken.
    pub fn left_unknown(&self) -> u64 {
        self.segments_unknown - self.segments_adopted
    }

    /// Segments with wrong numbers that were never taken.
    pub fn left_refused(&self) -> u64 {
        self.segments_refused - self.segments_readmitted
    }
}

counters! {
    /// Outcomes of messages and exchanges of all protocols.
    ExchangeStats {
        /// Request heads.
        requests,
        /// Of them, those that turned out to be none.
        requests_withdrawn,
        /// Response heads, including interim responses.
        responses,
        /// Of them, those that turned out to be none.
        responses_withdrawn,
        /// Exchanges whose outcome is `complete`.
        exchanges_complete,
        /// Exchanges whose outcome is `no_response`.
        exchanges_no_response,
        /// Exchanges whose outcome is `no_request`.
        exchanges_no_request,
        /// Exchanges whose outcome is `truncated`.
        exchanges_truncated,
        /// Exchanges with a gap inside, whatever their outcome.
        exchanges_with_gap,
        /// Requests without an answer that were left out as requested. They have no outcome.
        exchanges_left_out,
        /// Exchanges in progress on a connection that is no longer captured, since rings overflow.
        /// They are not reported and have no outcome.
        exchanges_shed,
    }
}

impl ExchangeStats {
    /// Heads of requests and responses, without those that turned out to be none.
    pub fn heads(&self) -> u64 {
        (self.requests - self.requests_withdrawn) + (self.responses - self.responses_withdrawn)
    }

    /// All exchanges that were reported, whatever their outcome.
    pub fn exchanges(&self) -> u64 {
        self.exchanges_complete
            + self.exchanges_no_response
            + self.exchanges_no_request
            + self.exchanges_truncated
    }
}

counters! {
    /// Flow hints given to the kernel filter.
    HintStats {
        /// Connections for which a hint was stored.
        hints,
        /// Times the hint table was full; the whole connection is passed to user space.
        hints_refused,
        /// Grants: how far the filter may keep a body in the kernel.
        grants,
        /// Connections that were found not to be HTTP/1.
        verdicts,
    }
}

counters! {
    /// Outcomes of a shard's lines.
    EmitStats {
        /// Lines formatted, or dropped instead.
        lines,
        /// Bytes of these lines.
        line_bytes,
        /// Lines dropped because the writer was behind (live capture does not wait), or had ended.
        lines_dropped,
        /// Those of them that were dropped because nothing is written any more: the reader of
        /// standard output has gone.
        lines_dropped_closed,
        /// Batches dropped for the same reasons.
        batches_dropped,
        /// Exchanges without a line, because `--only` or `--except` withholds them.
        exchanges_withheld,
        /// Exchanges without a line, because `-c` is used up.
        exchanges_beyond_count,
        /// Exchanges without a line, because `--records` does not name them.
        exchanges_unnamed,
        /// Lines of talks of WebSocket, which are among `lines`.
        lines_websocket,
        /// Talks without a line, because `--only` or `--except` withholds them, as their exchange.
        websockets_withheld,
        /// Lines of connections of TLS, which are among `lines`.
        lines_tls,
        /// Connections of TLS without a line, because `--only` or `--except` withholds them.
        tls_withheld,
        /// Of the lines, those of exchanges that are under way (`--active-timeout`). These are no
        /// exchanges: the line of the whole exchange comes when it is over.
        records_partial,
    }
}
