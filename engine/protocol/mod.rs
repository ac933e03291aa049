//! What a connection speaks. Chunk → [`Event`](crate::record::Event): a protocol reads the bytes of
//! a connection, in order, and reports messages and exchanges. Pure: bytes and packet times in,
//! events out.
//!
//! Each protocol is one folder behind one trait ([`Protocol`]). The state of a connection is an
//! enum ([`ConnectionState`]), not a trait object: a chunk causes no dynamic call. Every connection
//! starts as [`http1`], which looks for a first message and hands the connection over if the bytes
//! show another protocol.
//!
//! To add a protocol, write its folder, add one line to the registry below, and add its record to
//! [`record`](crate::record). A protocol may
//! - hand its connection over to another one ([`Step::HandOver`]): Upgrade, CONNECT, a preface;
//! - carry others inside ([`InnerStream`]): the streams of a multiplexer, or decrypted bytes;
//! - decide which segments the filter still passes to user space ([`Interest`],
//!   [`Protocol::elidable_until`]), report how much memory it holds, and free some of it.

use crate::config::HttpConfig;
use crate::decode::SeqNumber;
use crate::flow::{ActiveVisit, Chunk, Copies, End, Handshake, SegmentMeta};
use crate::ids::{Direction, FlowKey};
use crate::record::EventSink;
use crate::stats::ExchangeStats;
use crate::time::TimestampNs;

pub mod classes;
mod first_bytes;
mod grpc;
pub mod http1;
pub mod http2;
mod inner;
mod pool;
mod recorder;
mod registry;
pub mod tls;
#[cfg(test)]
pub(crate) mod toys;
pub mod websocket;

pub use inner::InnerStream;
pub use pool::ExchangePool;
pub use recorder::Recorder;

use classes::ExchangeClasses;
use first_bytes::FirstBytes;
use pool::ExchangeId;
use registry::protocols;

protocols! {
    Http1 { http1: http1::Http1 }
    Tls { tls: tls::Tls }
    Http2 { http2: http2::Http2 }
    WebSocket { websocket: websocket::WebSocket }
    #[cfg(test)]
    Relay { relay: toys::Relay }
    #[cfg(test)]
    Mux { mux: toys::Mux }
    #[cfg(test)]
    Cipher { cipher: toys::Cipher }
}

/// The connection that a chunk belongs to.
#[derive(Clone, Copy, Debug)]
pub struct FlowRef<'a> {
    /// Its key.
    pub key: &'a FlowKey,
    /// How it began, as far as that was captured.
    pub handshake: &'a Handshake,
}

/// What a protocol needs in addition to its own state.
#[derive(Debug)]
pub struct Context<'a, S> {
    /// The connection that the bytes belong to.
    pub flow: FlowRef<'a>,
    /// What all connections of the shard share.
    pub shared: &'a mut Shared<S>,
}

/// What the connections of a shard share.
#[derive(Debug)]
pub struct Shared<S> {
    /// The limits.
    pub limits: HttpConfig,
    /// The open exchanges, and the sink that they are reported to.
    pub recorder: Recorder<S>,
    /// The counters of the protocols. Those of the recorder are kept there; see [`Shared::stats`].
    pub stats: ProtocolStats,
    http1: http1::Spares,
    http2: http2::Scratch,
}

impl<S: EventSink> Shared<S> {
    /// Starts without any open exchange.
    pub fn new(limits: HttpConfig, sink: S) -> Shared<S> {
        let recorder = Recorder::new(&limits, sink);
        let stats = ProtocolStats::default();
        let (http1, http2) = (http1::Spares::default(), http2::Scratch::default());
        Shared { limits, recorder, stats, http1, http2 }
    }
}

impl<S> Shared<S> {
    /// Whether memory is short: quiet connections should free some before the limit is reached, at
    /// which every connection must.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.recorder.pool.held_bytes() > self.limits.held_bytes_shard_max / 8 * 7
    }

    /// Whether the limit is nearly reached.
    pub fn is_very_short(&self) -> bool {
        self.recorder.pool.held_bytes() > self.limits.held_bytes_shard_max / 16 * 15
    }

    /// Whether nearly half of the memory is used: beyond half of it, connections with many requests
    /// in progress must give some up ([`HttpConfig::held_share`]).
    #[inline]
    pub fn is_half_used(&self) -> bool {
        self.recorder.pool.held_bytes() > self.limits.held_share(false) / 8 * 7
    }

    /// Bytes held by unfinished messages and active connections.
    pub fn held_bytes(&self) -> usize {
        self.recorder.pool.held_bytes()
    }

    /// The number of open exchanges.
    pub fn exchanges_in_use(&self) -> usize {
        self.recorder.pool.in_use()
    }

    /// Counts a connection that leaves the table by what it carried.
    pub fn count_flow(&mut self, carried: Carried) {
        self.stats.flows.count(carried);
    }

    /// All counters, including those of the recorder.
    pub fn stats(&self) -> ProtocolStats {
        let (exchanges, classes) = (self.recorder.stats.clone(), self.recorder.classes.clone());
        ProtocolStats { exchanges, classes, ..self.stats.clone() }
    }
}

/// The outcome of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// The bytes were consumed.
    Done,
    /// The connection continues in another protocol. [`Protocol::hand_over`] returns which one, and
    /// from which byte on.
    HandOver,
}

/// What another copy of some bytes shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Copied {
    /// Nothing new, as far as it matters.
    Same,
    /// It differs from the bytes that were taken: these may have been forged.
    Differs,
    /// The same, and the protocol was recognised by these bytes: another one must look again
    /// ([`Protocol::hand_over`]).
    HandOver,
}

/// What a protocol leaves to the one that takes its connection over.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// The number of the next exchange.
    pub next_n: u32,
    /// The record's `flow`, if it was needed.
    pub flow_id: Option<u64>,
    /// An exchange that goes on in the new protocol.
    pub(crate) upgraded: Option<Upgraded>,
    /// The talk of WebSocket that the last exchange has opened.
    pub(crate) websocket: Option<websocket::Switch>,
    /// The beginning of the answer by which a proxy has opened the connection.
    pub(crate) tunnel: Option<FirstBytes>,
}

/// A request that was answered by a switch to another protocol, which carries its response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upgraded {
    pub exchange: ExchangeId,
    pub client: Direction,
    /// The beginning of the answer.
    pub answer: FirstBytes,
}

/// The protocol that takes a connection over, and the byte at which it starts.
#[derive(Debug)]
pub struct HandOver {
    /// The new protocol.
    pub to: Kind,
    /// The first byte that belongs to it, in the direction of the last bytes.
    pub at: SeqNumber,
    /// Earlier bytes that belong to it as well and came in previous chunks, in a buffer of the
    /// pool.
    pub kept: Option<(Vec<u8>, SegmentMeta)>,
    /// What it takes over besides.
    pub inheritance: Inheritance,
}

/// Bytes of a body that need not reach user space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elidable {
    /// Where the head ends. Only once the receiver has read it, the head is what it says.
    pub head_end: SeqNumber,
    /// Where they end.
    pub until: SeqNumber,
}

/// What is still wanted of a connection. The filter and the flow table act on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Not decided yet.
    Undecided,
    /// Its segments are wanted, except for bodies that can be elided.
    Wanted,
    /// Nothing. It is encrypted from its first byte on, and the filter recognises that by itself.
    Encrypted,
    /// How it ends, and its length. What passes in between is not passed on any more: only that so
    /// many bytes did.
    End,
    /// Nothing until the next handshake, whatever comes.
    Foreign,
    /// Nothing until a segment starts like a message.
    Dormant,
}

/// What a connection carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// No payload.
    Nothing,
    /// Payload that no protocol has recognised so far.
    Unknown,
    /// This protocol.
    Protocol(Kind),
}

/// A row of the totals: its name, then the name and count of each part.
pub type Row = (&'static str, Vec<(&'static str, u64)>);

/// The counters of a protocol.
pub trait Stats: Clone + std::fmt::Debug + Default + PartialEq + Eq {
    /// Adds every counter of `other`.
    fn add(&mut self, other: &Self);

    /// Name and value of every counter.
    fn each(&self) -> Vec<(&'static str, u64)>;

    /// The rows of the totals that show them.
    fn rows(&self) -> Vec<Row>;

    /// Whether messages were seen that appear in no record.
    fn has_unreported(&self) -> bool {
        false
    }
}

/// For a protocol without counters of its own.
impl Stats for () {
    fn add(&mut self, (): &()) {}

    fn each(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Row> {
        Vec::new()
    }
}

/// One protocol on one connection. A connection starts with the [`Default`] state.
pub trait Protocol: Default {
    /// The name shown to users.
    const NAME: &'static str;
    /// Why this protocol is not reported, for users who miss its records. `None` if it is reported.
    const UNREAD: Option<&'static str> = None;
    /// Its counters, in addition to those of exchanges.
    type Stats: Stats;

    /// Whether `first`, the first payload of a connection, shows this protocol.
    fn probe(first: &[u8]) -> bool;

    /// Takes the next bytes of a direction: in order, each byte exactly once.
    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step;

    /// Takes `len_bytes` of a direction that passed on the wire but were cut off by the filter,
    /// either on our request ([`Protocol::elidable_until`]) or because the filter followed the body
    /// itself.
    fn elided<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u32,
        meta: &SegmentMeta,
    ) {
        self.gap(cx, direction, len_bytes.into(), meta.seq);
    }

    /// Takes another copy of bytes that were passed on before. It may differ from the first one,
    /// which then was not what the receiver has read, or is not.
    fn copy<S: EventSink>(
        &mut self,
        _cx: &mut Context<'_, S>,
        _direction: Direction,
        _bytes: &[u8],
        _meta: &SegmentMeta,
    ) -> Copied {
        Copied::Same
    }

    /// Takes the next bytes of a direction, of which `copies` passed again while they waited.
    fn bytes_with_copies<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        (bytes, _copies): (&[u8], &Copies),
        meta: &SegmentMeta,
    ) -> Step {
        self.bytes(cx, direction, bytes, meta)
    }

    /// `len_bytes` of a direction, starting at `at`, passed once more. They were passed on before,
    /// or were cut off and follow.
    fn retransmitted<S>(
        &mut self,
        _cx: &mut Context<'_, S>,
        _direction: Direction,
        _at: SeqNumber,
        _len_bytes: u32,
    ) {
    }

    /// Takes the loss of `len_bytes` of a direction, starting at `at`.
    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
    );

    /// The segment by which the sender closes its direction, or resets the connection, passed `at`
    /// this time. What passed before it may still follow.
    fn closing(&mut self, _direction: Direction, _at: TimestampNs) {}

    /// The sender closed its direction.
    fn fin<S: EventSink>(&mut self, _cx: &mut Context<'_, S>, _direction: Direction) {}

    /// Reports what has been under way for so long that it is due
    /// ([`ActiveVisit::due_ns`]), with what is known of it so far
    /// ([`Event::Partial`](crate::record::Event)). Nothing that may still be withdrawn is reported,
    /// and everything goes on as if this had not been called.
    fn report_active<S: EventSink>(&mut self, _cx: &mut Context<'_, S>, _visit: &mut ActiveVisit) {}

    /// The connection has ended: reports what is still open. Late packets may follow.
    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End);

    /// The connection is removed, after its end: frees its memory.
    fn leave<S>(&mut self, _shared: &mut Shared<S>) {}

    /// Begins to read a connection that another protocol read before.
    fn take_over<S>(&mut self, _shared: &mut Shared<S>, _inheritance: Inheritance) {}

    /// The details of a [`Step::HandOver`].
    fn hand_over(&mut self) -> Option<HandOver> {
        None
    }

    /// Whether anything is open that must be reported at the end if another protocol takes the
    /// connection over.
    fn has_open(&self) -> bool {
        false
    }

    /// How much memory unfinished work takes, weighted by its age ([`crate::flow::memory_weight`]).
    /// 0 if there is none.
    fn memory_weight(&self, _now: TimestampNs, _quiet_since: TimestampNs) -> u64 {
        0
    }

    /// Frees memory that it can do without. Returns false if there is none; the connection must end
    /// to free more.
    fn relieve<S: EventSink>(&mut self, _cx: &mut Context<'_, S>) -> bool {
        false
    }

    /// What is still wanted of the connection. Any value other than [`Interest::Undecided`] and
    /// [`Interest::Wanted`] is final.
    fn interest(&self) -> Interest;

    /// The bytes that a final [`Protocol::interest`] rests on, if they are known: their direction,
    /// and the position behind them. It is acted on once the receiver has read them, since until
    /// then another copy may come.
    fn evidence(&self) -> Option<(Direction, SeqNumber)> {
        None
    }

    /// Which bytes of `direction` need not reach user space, if there are at
    /// least `bytes_min` of them; at most `ahead_bytes_max` ahead. `None` if there is any doubt.
    fn elidable_until<S>(
        &self,
        _shared: &mut Shared<S>,
        _direction: Direction,
        _bytes_min: u64,
        _ahead_bytes_max: u32,
    ) -> Option<Elidable> {
        None
    }

    /// What the connection carried, as far as is known.
    fn carried(&self) -> Carried;
}

/// Whether a segment with this `payload` may, by itself, end our interest in its connection. So its
/// checksum matters: a record of TLS, the preface of HTTP/2, a CONNECT, a switch of protocols.
#[inline(always)]
pub fn is_decisive(payload: &[u8]) -> bool {
    match payload {
        [b'G', ..] => false,
        [b'H', _, _, _, _, _, _, _, _, digit, ..] => *digit == b'1',
        [first, ..] => is_decisive_start(*first, payload),
        [] => false,
    }
}

fn is_decisive_start(first: u8, payload: &[u8]) -> bool {
    match first {
        0x14..=0x17 => payload.get(1) == Some(&0x03),
        b'P' => payload.starts_with(b"PRI "),
        b'C' => payload.starts_with(b"CONN"),
        _ => false,
    }
}

/// The protocol that recognises these first bytes, if any.
#[cold]
pub fn detect(first: &[u8]) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.probe(first))
}

/// A connection that was taken over by another protocol while exchanges were open in the first one.
#[derive(Debug)]
pub struct Succession {
    before: ConnectionState,
    now: ConnectionState,
}

/// Its memory, with the overhead of the allocator.
const SUCCESSION_BYTES: usize = size_of::<Succession>() + 16;

impl Default for ConnectionState {
    /// Every connection starts as HTTP/1.
    fn default() -> ConnectionState {
        ConnectionState::Http1(http1::Http1::default())
    }
}

impl ConnectionState {
    /// Takes the next piece of one direction.
    #[inline(always)]
    pub fn chunk<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        chunk: Chunk<'_>,
    ) {
        match chunk {
            Chunk::Bytes(bytes, meta) => {
                if self.bytes(cx, direction, bytes, meta) == Step::HandOver {
                    self.succeed(cx, direction, bytes, meta);
                }
            }
            Chunk::BytesWithCopies(bytes, meta, copies) => {
                if self.bytes_with_copies(cx, direction, (bytes, copies), meta) == Step::HandOver {
                    self.succeed(cx, direction, bytes, meta);
                }
            }
            Chunk::Retransmitted { at, len_bytes } => {
                self.retransmitted(cx, direction, at, len_bytes);
            }
            Chunk::Copy(bytes, meta, differs) => match self.copy(cx, direction, bytes, meta) {
                Copied::Same => {}
                Copied::Differs => differs.set(true),
                Copied::HandOver => {
                    differs.set(true);
                    self.succeed(cx, direction, &[], meta);
                }
            },
            Chunk::Elided { len_bytes, meta } => self.elided(cx, direction, len_bytes, meta),
            Chunk::Gap { len_bytes, at } => self.gap(cx, direction, len_bytes, at),
            Chunk::Closing(at) => self.closing(direction, at),
            Chunk::Fin => self.fin(cx, direction),
            Chunk::Reset => self.end(cx, End::Rst),
        }
    }

    /// Switches to the other protocol. If the previous one has anything open, it is kept until the
    /// connection ends.
    #[cold]
    fn succeed<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        let Some(HandOver { to, at, kept, inheritance }) = self.hand_over() else { return };
        let mut before = std::mem::replace(self, to.state());
        self.take_over(cx.shared, inheritance);
        if let ConnectionState::Succession(both) = before {
            // One succession at a time: whoever makes the protocol change again and again must not
            // pile them up.
            let Succession { before: mut first, now } = *both;
            first.end(cx, End::Fin);
            first.leave(cx.shared);
            cx.shared.recorder.pool.release(SUCCESSION_BYTES);
            before = now;
        }
        if before.has_open() {
            let now = std::mem::take(self);
            cx.shared.recorder.pool.hold(SUCCESSION_BYTES);
            *self = ConnectionState::Succession(Box::new(Succession { before, now }));
        } else {
            before.end(cx, End::Fin);
            before.leave(cx.shared);
        }
        if let Some((buffer, first)) = kept {
            self.chunk(cx, direction, Chunk::Bytes(&buffer, &first));
            cx.shared.recorder.pool.give_buffer_back(buffer);
        }
        let skip = usize::try_from(at.distance(meta.seq)).unwrap_or(0);
        if let Some(rest @ [_, ..]) = bytes.get(skip..) {
            let is_frame_start = meta.is_frame_start && skip == 0;
            let meta = SegmentMeta { seq: at, is_frame_start, ..*meta };
            self.chunk(cx, direction, Chunk::Bytes(rest, &meta));
        }
    }
}

/// The number of connections, by what they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    known: [u64; Kind::ALL.len()],
    /// Payload that no protocol recognised.
    pub other: u64,
    /// No payload.
    pub empty: u64,
}

impl FlowCounts {
    /// Connections of this protocol.
    pub fn of(&self, kind: Kind) -> u64 {
        self.known[kind as usize]
    }

    /// All connections.
    pub fn total(&self) -> u64 {
        self.known.iter().sum::<u64>() + self.other + self.empty
    }

    fn count(&mut self, carried: Carried) {
        *match carried {
            Carried::Nothing => &mut self.empty,
            Carried::Unknown => &mut self.other,
            Carried::Protocol(kind) => &mut self.known[kind as usize],
        } += 1;
    }

    fn add(&mut self, other: &FlowCounts) {
        self.known.iter_mut().zip(other.known).for_each(|(sum, count)| *sum += count);
        self.other += other.other;
        self.empty += other.empty;
    }
}
