//! Segment → [`Chunk`]: connections, their two byte streams in order, and what is missing in them.
//! Pure: the only clock is packet time.
//!
//! A [`FlowTable`] finds the [`Connection`] of a segment. The connection puts the bytes of both
//! directions into the order in which the endpoints saw them: data that acknowledges bytes of the
//! other side comes after those bytes. So a response never overtakes its request, however the
//! capture has reordered them.

mod active;
mod connection;
mod copies;
#[cfg(test)]
mod elision_tests;
mod handshake;
mod index;
mod joining;
mod out_of_order;
mod reorder_pool;
mod reorder_state;
mod rival;
#[cfg(test)]
mod rival_tests;
#[cfg(test)]
mod shape_tests;
mod slot_set;
mod slots;
mod strays;
mod stream;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;

pub use crate::ids::FlowKey;
pub use active::ActiveVisit;
pub use connection::{Bypassed, Connection};
pub use copies::Copies;
pub use handshake::{Handshake, Marks};
pub use reorder_pool::ReorderPool;
pub use table::{FlowIndex, FlowTable, memory_weight};

pub(crate) use connection::{COUNTED_BYTES, ONE_SIDED_BYTES_MIN};
pub(crate) use copies::overlap;

use crate::decode::{SeqNumber, TunnelPath};
use crate::ids::{Direction, IfaceId};
use crate::time::TimestampNs;
use std::cell::Cell;

/// The origin of some bytes: the frame that held their first captured copy.
#[derive(Clone, Copy, Debug)]
pub struct SegmentMeta {
    /// When that frame passed.
    pub timestamp: TimestampNs,
    /// Where it was captured.
    pub iface: IfaceId,
    /// The encapsulations around it.
    pub tunnel: TunnelPath,
    /// The frame's acknowledgement number: how far its sender had read the other direction.
    pub ack: Option<SeqNumber>,
    /// The position of the first byte in its stream.
    pub seq: SeqNumber,
    /// Whether the bytes begin where the frame's payload begins. After a loss, only such positions
    /// are searched for the head of a message: senders write heads at the start of a segment,
    /// bodies anywhere.
    pub is_frame_start: bool,
}

/// The next piece of one direction's stream.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'a> {
    /// Bytes, in order, each exactly once.
    Bytes(&'a [u8], &'a SegmentMeta),
    /// The same for bytes that waited for others, and of which parts passed again meanwhile.
    BytesWithCopies(&'a [u8], &'a SegmentMeta, &'a Copies),
    /// Another copy of bytes that were delivered before, and its origin. If it differs from the
    /// first one where that matters, the receiver says so, and the stream goes on behind this copy.
    Copy(&'a [u8], &'a SegmentMeta, &'a Cell<bool>),
    /// A part of the stream passed on the wire once more, captured or not, and its receiver may
    /// have taken it: a retransmission, or the packet was captured twice. It was delivered before,
    /// or, if it was cut off, is delivered next.
    Retransmitted {
        /// The position of its first byte.
        at: SeqNumber,
        /// The number of bytes.
        len_bytes: u32,
    },
    /// Bytes that passed on the wire but were cut off by the filter: part of a body, either on our
    /// request ([`Connection::grant`]) or because the filter followed the body itself. They are not
    /// lost: when and where they passed is known.
    Elided {
        /// The number of bytes.
        len_bytes: u32,
        /// The frame of the first of them.
        meta: &'a SegmentMeta,
    },
    /// Bytes that passed but were not captured.
    Gap {
        /// The number of bytes.
        len_bytes: u64,
        /// The position of the first one.
        at: SeqNumber,
    },
    /// The segment that closes the direction, a FIN or a reset, passed at this time. What passed
    /// before it may still follow.
    Closing(TimestampNs),
    /// The sender closed its direction.
    Fin,
    /// The connection was reset.
    Reset,
}

/// Receives what the segments of a [`FlowTable`] lead to, except for the chunks of the segment that
/// is being accepted: chunks of segments that had waited, and connections that leave the table.
pub trait FlowEvents<S> {
    /// Takes the next piece of one direction of a connection.
    fn chunk(
        &mut self,
        key: &FlowKey,
        handshake: &Handshake,
        state: &mut S,
        direction: Direction,
        chunk: Chunk<'_>,
    );

    /// The connection is asked what has been under way for long
    /// ([`FlowConfig::active_timeout_ms`](crate::config::FlowConfig)).
    fn active(
        &mut self,
        _key: &FlowKey,
        _handshake: &Handshake,
        _state: &mut S,
        _visit: &mut ActiveVisit,
    ) {
    }

    /// The connection leaves the table. Everything that waited has been delivered.
    fn ended(&mut self, key: &FlowKey, handshake: &Handshake, state: &mut S, end: End);
}

/// What ended a connection, or one of its streams, and everything in progress on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Both sides closed, or the side whose data was expected.
    Fin,
    /// A reset.
    Rst,
    /// Nothing came within the idle timeout.
    Idle,
    /// The table was full.
    Evicted,
    /// A new connection began on the same endpoints.
    Reused,
    /// The capture ended.
    Exit,
    /// The stream was reset (RST_STREAM of HTTP/2). The connection goes on.
    StreamReset,
    /// The peer has said that it does not handle the stream (GOAWAY of HTTP/2).
    GoAway,
    /// It is no longer captured, since rings overflow. Its exchanges are not reported.
    Shed,
}

impl End {
    /// All, in the order in which they are declared.
    pub const ALL: [End; 9] = [
        End::Fin,
        End::Rst,
        End::Idle,
        End::Evicted,
        End::Reused,
        End::Exit,
        End::StreamReset,
        End::GoAway,
        End::Shed,
    ];

    /// The name used in records.
    pub fn name(self) -> &'static str {
        match self {
            End::Fin => "fin",
            End::Rst => "rst",
            End::Idle => "idle",
            End::Evicted => "evicted",
            End::Reused => "reused",
            End::Exit => "exit",
            End::StreamReset => "reset",
            End::GoAway => "goaway",
            End::Shed => "shed",
        }
    }
}
