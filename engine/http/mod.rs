//! Chunk → [`Exchange`]: heads, bodies, and which response answers which request. Pure: bytes and
//! times in, exchanges out.

mod absent;
mod body;
mod conversation;
mod elision;
#[cfg(test)]
mod elision_tests;
mod exchange;
mod head;
mod loss;
#[cfg(test)]
mod loss_tests;
mod pairing;
mod places;
mod pool;
mod rest;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wire_tests;

pub use crate::flow::End;
pub use conversation::{Conversation, Protocol, Room, Wire};
pub use elision::Prospect;
pub use exchange::{Exchange, FlowIdentity, HeadFields, Message, Outcome, Span};
pub use pool::ExchangePool;
pub use rest::{Dialogue, Rest};

use crate::time::TimestampNs;

/// Parses the head of a message, whole, from the first byte of `bytes`: how long it is, and where
/// its fields are. For who has a head and no conversation.
pub fn parse_head(bytes: &[u8]) -> Option<(usize, HeadFields)> {
    let mut head = head::Head::BLANK;
    match head::parse(bytes, head::Expected::Either, &mut head) {
        head::Parsed::Complete => Some((head.len_bytes, head.fields)),
        _ => None,
    }
}

/// Who hears of what was found on a connection.
pub trait Listener {
    /// Whether [`Listener::message`] is to be called at all.
    fn hears_messages(&self) -> bool {
        true
    }

    /// A message's head is complete; its last byte passed at `when`.
    fn message(&mut self, flow: &FlowIdentity<'_>, message: &Message, when: TimestampNs);

    /// An exchange is over.
    fn exchange(&mut self, flow: &FlowIdentity<'_>, exchange: &Exchange);
}
