//! HTTP/1.0 and HTTP/1.1: heads, bodies, and which response belongs to which request.
//!
//! Three parts, each with one task:
//! - a `framer` for each direction finds heads, follows bodies, and reports what it found;
//! - the `pairer` decides which exchange a message belongs to, and how its body is framed;
//! - the [`Recorder`](crate::protocol::Recorder) owns the open exchanges, and the sink that they
//!   are reported to.
//!
//! `connection` passes the results of one part to the next. `idle` is the reduced state of a
//! connection while nothing is in progress.

mod active;
mod body;
mod connection;
#[cfg(test)]
mod elision_tests;
mod framer;
#[cfg(test)]
mod guess_tests;
mod head;
mod idle;
mod long_head;
mod loss_pairing;
#[cfg(test)]
mod loss_tests;
mod missing_body;
mod pairer;
mod pending;
#[cfg(test)]
mod shape_tests;
mod stats;
mod straight;
#[cfg(test)]
pub(crate) mod tests;

pub use idle::{ActiveConnection, Http1, IdleState, Spares};
pub use stats::Http1Stats;
pub use straight::StraightPath;

use super::pool::ExchangePool;
use super::{FlowRef, Shared};
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::record::{Fields, Header, Message};
use crate::time::TimestampNs;
use framer::Framer;

/// Parses the complete head of a message at the start of `bytes`. Returns its length and where its
/// fields are. For callers that hold a head outside a connection.
pub fn parse_head(bytes: &[u8]) -> Option<(usize, Fields)> {
    let mut head = head::Head::BLANK;
    match head::parse(bytes, head::Expected::Either, &mut head) {
        head::Parsed::Complete => Some((head.len_bytes, head.fields)),
        _ => None,
    }
}

/// Whether `bytes` begin a response, or a part of its version. No record of TLS and no frame of
/// HTTP/2 begins like that.
pub(super) fn begins_response(bytes: &[u8]) -> bool {
    bytes.len() > head::empty_lines(bytes) && head::may_begin_response(bytes)
}

/// A head as far as it was received: complete, or cut.
#[derive(Clone, Copy, Debug)]
struct ParsedHead<'a> {
    head: &'a head::Head,
    bytes: &'a [u8],
    /// The segment that held its first byte.
    first: &'a SegmentMeta,
    /// When its last byte passed.
    last: TimestampNs,
}

impl<'a> ParsedHead<'a> {
    fn header_lines(&self) -> impl Iterator<Item = Header> + use<'a> {
        head::HeaderLines::new(self.bytes, self.head.start_line_bytes as usize)
    }

    /// Copies what the head says into its message, whose text was set before.
    #[inline(always)]
    fn fill(&self, message: &mut Message) {
        let ParsedHead { head, first, last, .. } = *self;
        message.is_seen = true;
        message.start_line_bytes = head.start_line_bytes;
        message.fields = head.fields;
        message.status = match head.kind {
            head::Kind::Request => 0,
            head::Kind::Response { status } => status,
        };
        message.body_bytes = Some(0);
        message.first = Some(first.timestamp);
        message.last = Some(last);
    }
}

impl ParsedHead<'_> {
    /// The same for a message that has ended in the same segment, with `body_bytes`.
    #[inline(always)]
    fn fill_whole(&self, message: &mut Message, body_bytes: u64) {
        self.fill(message);
        message.body_bytes = Some(body_bytes);
        message.is_ended = true;
    }
}

/// What the pairer needs, in addition to its own state, to process input of `direction`.
#[derive(Debug)]
struct Http1Context<'a, S> {
    flow: FlowRef<'a>,
    shared: &'a mut Shared<S>,
    /// Those of both directions.
    framers: &'a mut [Framer; 2],
    direction: Direction,
}

impl<S> Http1Context<'_, S> {
    /// The framer of the current direction.
    #[inline(always)]
    fn framer(&mut self) -> &mut Framer {
        &mut self.framers[self.direction.index()]
    }

    #[inline(always)]
    fn pool(&mut self) -> &mut ExchangePool {
        &mut self.shared.recorder.pool
    }

    /// The same context for the other direction.
    fn turned(&mut self) -> Http1Context<'_, S> {
        let (flow, direction) = (self.flow, self.direction.opposite());
        Http1Context { flow, shared: self.shared, framers: self.framers, direction }
    }
}
