//! Segment → [`Chunk`]: connections, their two byte streams in order, and what is missing in them.
//! Pure: the only clock is packet time.
//!
//! A [`FlowTable`] finds the [`Connection`] of a segment; the connection puts the segment's bytes
//! into the order in which the endpoints saw them, both directions together: what acknowledges
//! bytes of the other side comes after those bytes. So a response never overtakes its request,
//! whatever the capture did to them.

mod connection;
#[cfg(test)]
mod elision_tests;
mod handshake;
mod index;
mod out_of_order;
mod reorder_pool;
mod reorder_state;
#[cfg(test)]
mod shape_tests;
mod slots;
mod stream;
mod table;
#[cfg(test)]
mod tests;

pub use crate::ids::FlowKey;
pub use connection::{Bypassed, Connection};
pub use handshake::Handshake;
pub use reorder_pool::ReorderPool;
pub use table::{FlowIndex, FlowTable, memory_weight};

use crate::decode::{SeqNumber, TunnelPath};
use crate::ids::{Direction, IfaceId};
use crate::time::TimestampNs;

/// Where bytes come from: the frame that held their first captured copy.
#[derive(Clone, Copy, Debug)]
pub struct SegmentMeta {
    /// When that frame passed.
    pub timestamp: TimestampNs,
    /// Where it was captured.
    pub iface: IfaceId,
    /// The encapsulations around it.
    pub tunnel: TunnelPath,
    /// What it acknowledged: how far its sender had read the other direction.
    pub ack: Option<SeqNumber>,
    /// Position of the first of the bytes in their stream.
    pub seq: SeqNumber,
    /// Whether the bytes begin where the frame's payload begins. After a loss, only such places are
    /// searched for the head of a message: senders write heads at the start of a segment, bodies
    /// anywhere.
    pub is_frame_start: bool,
}

/// The next piece of one direction's stream.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'a> {
    /// Bytes, in order, each exactly once.
    Bytes(&'a [u8], &'a SegmentMeta),
    /// So many bytes passed that the filter cut off: data of a body, as we had asked
    /// ([`Connection::grant`]), or as it had read itself. Nothing is lost: when and where they
    /// passed is known.
    Elided {
        /// How many.
        len_bytes: u32,
        /// Of the first of them.
        meta: &'a SegmentMeta,
    },
    /// So many bytes passed that we never saw, from `at` on.
    Gap {
        /// How many.
        len_bytes: u64,
        /// Position of the first.
        at: SeqNumber,
    },
    /// The sender closed its direction.
    Fin,
    /// The connection was reset.
    Reset,
}

/// Who hears of what the segments of a [`FlowTable`] come to, beside the chunks of the segment that
/// is given to it: of what had waited, and of connections that leave the table.
pub trait FlowEvents<S> {
    /// The next piece of one direction of a connection.
    fn chunk(
        &mut self,
        key: &FlowKey,
        handshake: &Handshake,
        state: &mut S,
        direction: Direction,
        chunk: Chunk<'_>,
    );

    /// The connection leaves the table. All that waited was passed on.
    fn ended(&mut self, key: &FlowKey, handshake: &Handshake, state: &mut S, end: End);
}

/// What ended a connection, and with it what was under way on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Both sides closed, or the side that was to speak.
    Fin,
    /// A reset.
    Rst,
    /// Nothing came for the idle timeout.
    Idle,
    /// The table was full.
    Evicted,
    /// A new connection began on the same endpoints.
    Reused,
    /// The capture ended.
    Exit,
}

impl End {
    /// As in the record.
    pub fn name(self) -> &'static str {
        match self {
            End::Fin => "fin",
            End::Rst => "rst",
            End::Idle => "idle",
            End::Evicted => "evicted",
            End::Reused => "reused",
            End::Exit => "exit",
        }
    }
}
