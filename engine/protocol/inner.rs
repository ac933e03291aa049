//! [`InnerStream`]: a connection inside another: a stream of a multiplexer, a tunnel, or what TLS
//! decrypts with keys. The protocol outside owns it, and gives it bytes as flow gives them to a
//! connection.

use super::{ConnectionState, Context, FlowRef, Interest, Kind, Shared};
use crate::decode::SeqNumber;
use crate::flow::{Chunk, End, Handshake, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;
use crate::time::TimestampNs;

/// A connection inside another, with sequence numbers of its own, which begin at 0: those of the
/// connection outside count bytes that it does not have.
#[derive(Debug)]
pub struct InnerStream {
    state: Box<ConnectionState>,
    handshake: Handshake,
    /// What comes next, by direction.
    next: [SeqNumber; 2],
}

impl InnerStream {
    /// One that has yet to show what it speaks, inside the connection of `cx`.
    pub fn detect<S>(cx: &Context<'_, S>) -> InnerStream {
        InnerStream::with(cx, ConnectionState::default())
    }

    /// One that speaks `kind`.
    pub fn of<S>(cx: &Context<'_, S>, kind: Kind) -> InnerStream {
        InnerStream::with(cx, kind.state())
    }

    fn with<S>(cx: &Context<'_, S>, state: ConnectionState) -> InnerStream {
        let handshake = *cx.flow.handshake;
        InnerStream { state: Box::new(state), handshake, next: [SeqNumber(0); 2] }
    }

    /// The next bytes of a direction, which came in `meta`.
    pub fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        let seq = self.advance(direction, bytes.len() as u64);
        // The sender had read all that flow has delivered of the other direction.
        let ack = Some(self.next[direction.opposite().index()]);
        let meta = SegmentMeta { seq, ack, ..*meta };
        self.chunk(cx, direction, Chunk::Bytes(bytes, &meta));
    }

    /// So many of its bytes were lost.
    pub fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
    ) {
        let at = self.advance(direction, len_bytes);
        self.chunk(cx, direction, Chunk::Gap { len_bytes, at });
    }

    /// The sender closed its direction.
    pub fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        self.chunk(cx, direction, Chunk::Fin);
    }

    /// It is over.
    pub fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        let flow = FlowRef { key: cx.flow.key, handshake: &self.handshake };
        self.state.end(&mut Context { flow, shared: cx.shared }, end);
    }

    /// It is forgotten, after its end.
    pub fn leave<S>(&mut self, shared: &mut Shared<S>) {
        self.state.leave(shared);
    }

    /// How much memory is under way in it, weighed by for how long.
    pub fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        self.state.memory_weight(now, quiet_since)
    }

    /// What is still wanted of it.
    pub fn interest(&self) -> Interest {
        self.state.interest()
    }

    fn chunk<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        chunk: Chunk<'_>,
    ) {
        let flow = FlowRef { key: cx.flow.key, handshake: &self.handshake };
        self.state.chunk(&mut Context { flow, shared: cx.shared }, direction, chunk);
    }

    /// The place of so many bytes in their stream.
    fn advance(&mut self, direction: Direction, len_bytes: u64) -> SeqNumber {
        let next = &mut self.next[direction.index()];
        let at = *next;
        *next = at.plus(len_bytes as u32);
        at
    }
}
