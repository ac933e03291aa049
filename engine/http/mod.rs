//! Chunk → [`Exchange`].
mod exchange;
pub use exchange::{End, Exchange, FlowIdentity, HeadFields, Message, Outcome, Span};
