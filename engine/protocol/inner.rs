//! [`InnerStream`]: a connection inside another one, such as a stream of a multiplexer, a tunnel,
//! or the bytes that TLS decrypts with keys. The outer protocol owns it and passes bytes to it, as
//! the flow table does for a TCP connection.

use super::{ConnectionState, Context, FlowRef, Interest, Kind, Shared};
use crate::decode::SeqNumber;
use crate::flow::{ActiveVisit, Chunk, End, Handshake, SegmentMeta};
use crate::ids::Direction;
use crate::record::EventSink;
use crate::time::TimestampNs;

/// A connection inside another one. It has its own sequence numbers, which start at 0: those of the
/// outer connection also count bytes that are not in this one.
#[derive(Debug)]
pub struct InnerStream {
    state: Box<ConnectionState>,
    handshake: Handshake,
    /// The next sequence number, by direction.
    next: [SeqNumber; 2],
}

impl InnerStream {
    /// A stream inside the connection of `cx` whose protocol is not known yet.
    pub fn detect<S>(cx: &Context<'_, S>) -> InnerStream {
        InnerStream::with(cx, ConnectionState::default())
    }

    /// A stream that speaks `kind`.
    pub fn of<S>(cx: &Context<'_, S>, kind: Kind) -> InnerStream {
        InnerStream::with(cx, kind.state())
    }

    fn with<S>(cx: &Context<'_, S>, state: ConnectionState) -> InnerStream {
        let handshake = *cx.flow.handshake;
        InnerStream { state: Box::new(state), handshake, next: [SeqNumber(0); 2] }
    }

    /// Takes the next bytes of a direction, which came in `meta`.
    pub fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        let seq = self.advance(direction, bytes.len() as u64);
        // The sender had read everything that has been delivered of the other direction.
        let ack = Some(self.next[direction.opposite().index()]);
        let meta = SegmentMeta { seq, ack, ..*meta };
        self.chunk(cx, direction, Chunk::Bytes(bytes, &meta));
    }

    /// Takes the loss of `len_bytes`.
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

    /// Reports what has been under way in it for so long that it is due.
    pub fn report_active<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        visit: &mut ActiveVisit,
    ) {
        let flow = FlowRef { key: cx.flow.key, handshake: &self.handshake };
        self.state.report_active(&mut Context { flow, shared: cx.shared }, visit);
    }

    /// The stream has ended.
    pub fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        let flow = FlowRef { key: cx.flow.key, handshake: &self.handshake };
        self.state.end(&mut Context { flow, shared: cx.shared }, end);
    }

    /// The stream is removed, after its end.
    pub fn leave<S>(&mut self, shared: &mut Shared<S>) {
        self.state.leave(shared);
    }

    /// How much memory unfinished work in it takes, weighted by its age.
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

    /// The position of the next `len_bytes`; moves behind them.
    fn advance(&mut self, direction: Direction, len_bytes: u64) -> SeqNumber {
        let next = &mut self.next[direction.index()];
        let at = *next;
        *next = at.plus(len_bytes as u32);
        at
    }
}
