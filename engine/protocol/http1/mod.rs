//! HTTP/1.0 and HTTP/1.1: heads, bodies, and which response answers which request.
//!
//! Three parts, each with a task of its own:
//! - a [`framer`] a direction finds heads and follows bodies, and reports what it found;
//! - the [`pairer`] decides which exchange that belongs to, and how a body is framed;
//! - the [`Recorder`](crate::protocol::Recorder) owns the exchanges under way, and the sink that
//!   they are reported to.
//!
//! [`connection`] takes what one says to the other. [`idle`] is what is kept of a connection while
//! nothing is under way.

mod body;
mod connection;
#[cfg(test)]
mod elision_tests;
mod framer;
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
#[cfg(test)]
pub(crate) mod tests;

pub use idle::{ActiveConnection, Http1, IdleState, Spares};
pub use stats::Http1Stats;

use super::pool::ExchangePool;
use super::{FlowRef, Shared};
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::record::{Fields, Header};
use crate::time::TimestampNs;
use framer::Framer;

/// Parses the head of a message, whole, from the first byte of `bytes`: how long it is, and where
/// its fields are. For callers that hold a head outside a connection.
pub fn parse_head(bytes: &[u8]) -> Option<(usize, Fields)> {
    let mut head = head::Head::BLANK;
    match head::parse(bytes, head::Expected::Either, &mut head) {
        head::Parsed::Complete => Some((head.len_bytes, head.fields)),
        _ => None,
    }
}

/// A head that has come: whole, or all there is of it.
#[derive(Clone, Copy, Debug)]
struct ParsedHead<'a> {
    head: &'a head::Head,
    bytes: &'a [u8],
    /// Where its first byte came from.
    first: &'a SegmentMeta,
    /// When its last byte passed.
    last: TimestampNs,
}

impl<'a> ParsedHead<'a> {
    fn header_lines(&self) -> impl Iterator<Item = Header> + use<'a> {
        head::HeaderLines::new(self.bytes, self.head.start_line_bytes as usize)
    }
}

/// What the pairer needs beside itself, to take what came in `direction`.
#[derive(Debug)]
struct Http1Context<'a, S> {
    flow: FlowRef<'a>,
    shared: &'a mut Shared<S>,
    /// Of both directions.
    framers: &'a mut [Framer; 2],
    direction: Direction,
}

impl<S> Http1Context<'_, S> {
    /// The framer of the direction.
    #[inline(always)]
    fn framer(&mut self) -> &mut Framer {
        &mut self.framers[self.direction.index()]
    }

    #[inline(always)]
    fn pool(&mut self) -> &mut ExchangePool {
        &mut self.shared.recorder.pool
    }

    /// The same, for the other direction.
    fn turned(&mut self) -> Http1Context<'_, S> {
        let (flow, direction) = (self.flow, self.direction.opposite());
        Http1Context { flow, shared: self.shared, framers: self.framers, direction }
    }
}
