//! A leaf: the counters of the stages, and their names. Each shard counts in its own; nothing here
//! is shared.

/// Declares a struct of `u64` counters with their documentation, a sum, and a list of names and
/// values.
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
    /// What became of the frames that reached user space: exactly one of these for each.
    DecodeStats {
        /// TCP segments, the frames that go on.
        segments,
        /// Neither IPv4 nor IPv6: ARP, LLDP, and what else a link carries.
        not_ip,
        /// IP, but not TCP.
        not_tcp,
        /// A fragment that waits for the rest of its datagram; the frame that completes it is a
        /// segment. (The kernel joins IPv4 fragments on live rings.)
        fragment_held,
        /// A fragment of a datagram whose fragments contradict each other: all of it is dropped.
        fragment_overlap,
        /// A fragment of a datagram that came in more pieces than are kept: all of it is dropped.
        fragment_at_bound,
        /// The snap length or the sender cut the frame inside its headers, or a fragment anywhere.
        truncated,
        /// A header contradicts itself or the frame (lengths, versions).
        bad_header,
        /// More VLAN tags, extension headers or encapsulations than we follow.
        too_deep,
        /// The link encrypted it (802.11).
        encrypted,
        /// A link type that we do not decode, or a form of one: 802.11 frames that hold several
        /// packets or a part of one, netlink frames of several messages.
        unsupported_link,
        /// Of a port, network or VLAN that the user does not want.
        unwanted,
    }
}

counters! {
    /// What was noticed of IP datagrams, beside the outcome of their frames.
    DatagramStats {
        /// IPv4 headers whose checksum is wrong, at any depth. The packets count like others.
        ipv4_checksums_wrong,
        /// Datagrams put together of fragments.
        datagrams_joined,
        /// Datagrams given up because fragments contradict each other or are too many.
        datagrams_dropped,
        /// Datagrams given up because a part of them did not come in time.
        datagrams_expired,
        /// Datagrams given up because too many, or too many bytes, were waiting.
        datagrams_evicted,
    }
}

counters! {
    /// What became of TCP segments and their bytes.
    FlowStats {
        /// Connections that were entered into the table.
        flows,
        /// Segments of connections that are not in the table and do not begin a message.
        segments_unknown,
        /// Payload bytes that went on, in order, as first copies.
        bytes_in_order,
        /// Payload bytes that had been seen before (retransmissions, second captures, overlaps).
        bytes_duplicate,
        /// Segments that came ahead of a hole and waited.
        segments_out_of_order,
        /// Holes that were given up.
        gaps,
        /// Bytes in them.
        gap_bytes,
        /// Holes that were given up because the out-of-order store was full.
        gaps_at_bound,
        /// Bytes that came after their hole had been given up.
        bytes_late,
        /// Bytes the snap length kept from us.
        bytes_cut,
        /// Bytes that did not come up because they were known to be of a body.
        bytes_elided,
        /// Resets whose sequence number was outside the window, ignored.
        resets_ignored,
        /// Connections ended because the table was full.
        flows_evicted,
        /// Connections ended after the idle timeout.
        flows_idle,
        /// Connections ended by a new one on the same endpoints.
        flows_reused,
    }
}

counters! {
    /// What became of messages and exchanges, whatever protocol they came in.
    ExchangeStats {
        /// Request heads.
        requests,
        /// Response heads, interim ones included.
        responses,
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
    }
}

impl ExchangeStats {
    /// Exchanges, whatever became of them.
    pub fn exchanges(&self) -> u64 {
        self.exchanges_complete
            + self.exchanges_no_response
            + self.exchanges_no_request
            + self.exchanges_truncated
    }
}

counters! {
    /// What was said to the kernel filter of connections.
    HintStats {
        /// Connections of which something was noted.
        hints,
        /// Times a hint found no place, so that its connection comes up whole.
        hints_refused,
        /// Grants: how far a body need not come up.
        grants,
        /// Connections that were found not to be HTTP/1.
        verdicts,
    }
}

counters! {
    /// What became of the lines of a shard.
    EmitStats {
        /// Lines made.
        lines,
        /// Bytes of them.
        line_bytes,
        /// Lines dropped because the writer was behind (live capture does not wait).
        lines_dropped,
        /// Batches of lines dropped so.
        batches_dropped,
    }
}
