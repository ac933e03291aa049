//! What a connection speaks. Chunk → [`Event`](crate::record::Event): the bytes of a connection, in
//! order, become messages and exchanges. Pure: bytes and packet times in, events out.
//!
//! One folder a protocol, behind one trait ([`Protocol`]). A connection's state is an enum
//! ([`ConnectionState`]), so that nothing on the way of a chunk is a dynamic call. Every connection
//! begins as [`http1`], which looks for its first message whatever comes, and hands over where the
//! bytes show another protocol.
//!
//! To add a protocol: write its folder, add its line to the registry below, and its record to
//! [`record`](crate::record). A protocol may
//! - hand its connection over to another ([`Step::HandOver`]): Upgrade, CONNECT, a preface;
//! - carry others inside ([`InnerStream`]): a stream of a multiplexer, or the bytes that it
//! decrypts;
//! - say what it wants of the filter ([`Interest`], [`Protocol::elidable_until`]), how much memory
//!   it holds, and how it gives some back.

use crate::config::HttpConfig;
use crate::decode::SeqNumber;
use crate::flow::{Chunk, End, Handshake, SegmentMeta};
use crate::ids::{Direction, FlowKey};
use crate::record::EventSink;
use crate::stats::ExchangeStats;
use crate::time::TimestampNs;

pub mod http1;
pub mod http2;
mod inner;
mod pool;
mod recorder;
mod registry;
pub mod tls;
#[cfg(test)]
pub(crate) mod toys;

pub use inner::InnerStream;
pub use pool::ExchangePool;
pub use recorder::Recorder;

use registry::protocols;

protocols! {
    Http1 { http1: http1::Http1 }
    Tls { tls: tls::Tls }
    Http2 { http2: http2::Http2 }
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
    /// How it began.
    pub handshake: &'a Handshake,
}

/// What a protocol needs beside its own state.
#[derive(Debug)]
pub struct Context<'a, S> {
    /// Whose bytes they are.
    pub flow: FlowRef<'a>,
    /// What all connections of the shard share.
    pub shared: &'a mut Shared<S>,
}

/// What the connections of a shard share.
#[derive(Debug)]
pub struct Shared<S> {
    /// The bounds.
    pub limits: HttpConfig,
    /// Exchanges under way, and where they are reported to.
    pub recorder: Recorder<S>,
    /// What was counted.
    pub stats: ProtocolStats,
    http1: http1::Spares,
}

impl<S: EventSink> Shared<S> {
    /// Nothing is under way yet.
    pub fn new(limits: HttpConfig, sink: S) -> Shared<S> {
        let stats = ProtocolStats::default();
        Shared { limits, recorder: Recorder::new(sink), stats, http1: http1::Spares::default() }
    }
}

impl<S> Shared<S> {
    /// Whether so much is under way that the quiet are to give way, before it is so much that
    /// everybody must.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.recorder.pool.held_bytes() > self.limits.held_bytes_shard_max / 8 * 7
    }

    /// Bytes that messages and connections under way hold.
    pub fn held_bytes(&self) -> usize {
        self.recorder.pool.held_bytes()
    }

    /// Exchanges under way.
    pub fn exchanges_in_use(&self) -> usize {
        self.recorder.pool.in_use()
    }

    /// A connection that leaves the table is counted by what it turned out to be.
    pub fn count_flow(&mut self, carried: Carried) {
        self.stats.flows.count(carried);
    }

    /// All counters; those of the recorder are among them.
    pub fn stats(&self) -> ProtocolStats {
        ProtocolStats { exchanges: self.recorder.stats.clone(), ..self.stats.clone() }
    }
}

/// What followed from some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// They were taken.
    Done,
    /// The connection goes on in another protocol; [`Protocol::hand_over`] says in which, and from
    /// where on.
    HandOver,
}

/// Who goes on with a connection, and from where on.
#[derive(Debug)]
pub struct HandOver {
    /// The protocol.
    pub to: Kind,
    /// The first byte that is its own, of the direction whose bytes were given last.
    pub at: SeqNumber,
    /// Bytes before `at` that are its own, too, and came in earlier chunks; a buffer of the pool.
    pub kept: Option<(Vec<u8>, SegmentMeta)>,
}

/// What is still wanted of a connection: what the filter and the flow table are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// That is not decided yet.
    Undecided,
    /// Its segments are wanted, but for bodies that can be elided.
    Wanted,
    /// Nothing: it is encrypted from its first byte on, which the filter sees by itself.
    Encrypted,
    /// Nothing, whatever comes, until the next handshake.
    Foreign,
    /// Nothing, until a segment begins like a message.
    Dormant,
}

/// What a connection turned out to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// No payload.
    Nothing,
    /// Payload that no protocol knows, or not yet.
    Unknown,
    /// This protocol.
    Protocol(Kind),
}

/// A row of the totals: its name, and its parts with their counts.
pub type Row = (&'static str, Vec<(&'static str, u64)>);

/// The counters of a protocol.
pub trait Stats: Clone + std::fmt::Debug + Default + PartialEq + Eq {
    /// Adds every counter of `other`.
    fn add(&mut self, other: &Self);

    /// The rows of the totals that show them.
    fn rows(&self) -> Vec<Row>;

    /// Whether messages were seen that are in no record.
    fn has_unreported(&self) -> bool {
        false
    }
}

/// For a protocol that counts nothing of its own.
impl Stats for () {
    fn add(&mut self, (): &()) {}

    fn rows(&self) -> Vec<Row> {
        Vec::new()
    }
}

/// One protocol on one connection. Its state begins as [`Default`].
pub trait Protocol: Default {
    /// As users know it.
    const NAME: &'static str;
    /// Why it is not reported, for users who miss it. `None` where it is.
    const UNREAD: Option<&'static str> = None;
    /// What it counts beside exchanges.
    type Stats: Stats;

    /// Whether a connection speaks it whose first payload begins with `first`.
    fn probe(first: &[u8]) -> bool;

    /// The next bytes of a direction, in order, each exactly once.
    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step;

    /// So many bytes of a direction passed that the filter cut off, as it was asked to
    /// ([`Protocol::elidable_until`]), or as it had read itself.
    fn elided<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u32,
        meta: &SegmentMeta,
    ) {
        self.gap(cx, direction, len_bytes.into(), meta.seq);
    }

    /// So many bytes of a direction were lost, from `at` on.
    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
    );

    /// The sender closed its direction.
    fn fin<S: EventSink>(&mut self, _cx: &mut Context<'_, S>, _direction: Direction) {}

    /// The connection is over: what is under way is reported. Late packets may still come.
    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End);

    /// The connection is forgotten, after its end: memory goes back.
    fn leave<S>(&mut self, _shared: &mut Shared<S>) {}

    /// What [`Step::HandOver`] means.
    fn hand_over(&mut self) -> Option<HandOver> {
        None
    }

    /// Whether something is under way that must be reported at the end, should the connection go on
    /// in another protocol.
    fn has_open(&self) -> bool {
        false
    }

    /// How much memory is under way, weighed by for how long ([`crate::flow::memory_weight`]); 0
    /// where nothing is.
    fn memory_weight(&self, _now: TimestampNs, _quiet_since: TimestampNs) -> u64 {
        0
    }

    /// Gives memory back that it can do without. False where there is none: then the connection has
    /// to end for it.
    fn relieve<S: EventSink>(&mut self, _cx: &mut Context<'_, S>) -> bool {
        false
    }

    /// What is still wanted of the connection. Once it is neither [`Interest::Undecided`] nor
    /// [`Interest::Wanted`] it does not change.
    fn interest(&self) -> Interest;

    /// Up to where the bytes of `direction` need not come up, if these are `bytes_min` or more, and
    /// at most `ahead_bytes_max` ahead. `None` where anything speaks against it.
    fn elidable_until<S>(
        &self,
        _shared: &mut Shared<S>,
        _direction: Direction,
        _bytes_min: u64,
        _ahead_bytes_max: u32,
    ) -> Option<SeqNumber> {
        None
    }

    /// What the connection turned out to carry.
    fn carried(&self) -> Carried;
}

/// The protocol whose first bytes these are, if any knows them.
#[cold]
pub fn detect(first: &[u8]) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.probe(first))
}

/// A connection that went on in another protocol while something was under way in the first.
#[derive(Debug)]
pub struct Succession {
    before: ConnectionState,
    now: ConnectionState,
}

impl Default for ConnectionState {
    /// Every connection begins so.
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
            Chunk::Elided { len_bytes, meta } => self.elided(cx, direction, len_bytes, meta),
            Chunk::Gap { len_bytes, at } => self.gap(cx, direction, len_bytes, at),
            Chunk::Fin => self.fin(cx, direction),
            Chunk::Reset => self.end(cx, End::Rst),
        }
    }

    /// The connection goes on in another protocol. What is under way in the one before stays until
    /// the connection ends.
    #[cold]
    fn succeed<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        let Some(HandOver { to, at, kept }) = self.hand_over() else { return };
        let mut before = std::mem::replace(self, to.state());
        if before.has_open() {
            let now = std::mem::take(self);
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

/// How many connections turned out to carry what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    known: [u64; Kind::ALL.len()],
    /// Payload that no protocol knows.
    pub other: u64,
    /// No payload.
    pub empty: u64,
}

impl FlowCounts {
    /// Connections of this protocol.
    pub fn of(&self, kind: Kind) -> u64 {
        self.known[kind as usize]
    }

    /// All of them.
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
