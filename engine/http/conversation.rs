//! [`Conversation`]: the messages on one connection. Finds heads, follows bodies, keeps its place
//! or finds it again.
//!
//! Each direction is in one [`Phase`]. While a direction knows its place, every byte belongs to a
//! message and nothing is searched. After a loss that framing cannot account for it searches, and
//! takes a head only at the start of a frame, and only one that is certain; so bytes of a body are
//! not taken for a head.

use super::Listener;
use super::body::{BodyFraming, Progress};
use super::exchange::{Exchange, FlowIdentity, message_of};
use super::head::{self, Expected, Head, Kind, Parsed};
use super::loss::LongHead;
use super::pairing::Pending;
use super::pool::{ExchangeId, ExchangePool};
use crate::config::HttpConfig;
use crate::decode::SeqNumber;
use crate::flow::{self, Chunk, End, Origin, Origins};
use crate::ids::{Direction, FlowKey};
use crate::stats::HttpStats;
use crate::time::TimestampNs;

/// Bytes of an unfinished line that are looked at anew with each piece, to tell early that it is no
/// start line.
const DOUBTFUL_BYTES_MAX: usize = 128;

/// A head of fewer bytes is left to come whole while the shard's memory is more than half full.
const MODEST_BYTES: usize = 4096;

/// Where a direction stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    /// Between messages: the next byte begins a head.
    #[default]
    Start,
    /// In a head, whose bytes so far are in `partial`.
    Head {
        /// The start line is whole and valid.
        has_line: bool,
    },
    /// In a head that is longer than what is kept.
    LongHead(LongHead),
    /// In a body.
    Body(BodyFraming),
    /// The place was lost: in search of a head.
    Search,
    /// Not HTTP, or no longer.
    Off,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    pub phase: Phase,
    /// The exchange whose message is under way.
    pub open: Option<ExchangeId>,
    /// Behind the last byte that was seen, or where the first loss began. `None` until something
    /// has passed.
    pub seen_until: Option<SeqNumber>,
    /// Behind all that has passed, seen or lost.
    pub passed_until: Option<SeqNumber>,
    /// Behind the last loss before it was told who sends the requests.
    pub lost_until: Option<SeqNumber>,
    pub partial: Vec<u8>,
    pub partial_origin: Option<Origin>,
    /// When the last byte of the open message passed, so far; `None` where that byte was lost.
    pub last_at: Option<TimestampNs>,
    /// Nothing speaks against the framing of the body that is under way.
    pub is_body_sure: bool,
    /// It answers a request that was not seen, and nothing tells that this was no HEAD.
    pub may_be_absent: bool,
}

/// A head that has come: whole, or all there is of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub head: &'a Head,
    pub bytes: &'a [u8],
    /// Where its first byte came from.
    pub first: &'a Origin,
    /// When its last byte passed.
    pub last: TimestampNs,
}

/// What a connection turned out to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// No payload yet.
    #[default]
    Empty,
    /// HTTP/1.
    Http1,
    /// TLS records.
    Tls,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Something else, or not told yet.
    Other,
}

/// The HTTP side of one connection.
#[derive(Debug, Default)]
pub struct Conversation {
    pub(super) halves: [Half; 2],
    /// Who sends the requests: told by the first message, not by the handshake.
    pub(super) client: Option<Direction>,
    pub(super) pending: Pending,
    pub(super) next_n: u32,
    pub(super) protocol: Protocol,
    /// The record's `flow`, once it was asked for.
    pub(super) id: Option<u64>,
    /// An exchange took it out of HTTP (CONNECT, Upgrade).
    pub(super) has_switched: bool,
    /// Bytes that have passed while no message was found.
    pub(super) unclear_bytes: u64,
}

/// What a shard's conversations share.
#[derive(Debug)]
pub struct Room<L> {
    /// The bounds.
    pub limits: HttpConfig,
    /// Exchanges under way.
    pub pool: ExchangePool,
    /// Counters of this room.
    pub stats: HttpStats,
    /// Who hears of messages and exchanges.
    pub listener: L,
}

impl<L> Room<L> {
    /// Whether so much is under way that the quiet are to give way, before it is so much that
    /// everybody must.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.pool.held_bytes() > self.limits.held_bytes_shard_max / 8 * 7
    }
}

/// The connection that a chunk belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'a> {
    /// Its key.
    pub key: &'a FlowKey,
    /// How it began.
    pub origins: &'a Origins,
}

impl Conversation {
    /// Takes the next piece of one direction.
    #[inline]
    pub fn take<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        chunk: Chunk<'_>,
        room: &mut Room<L>,
    ) {
        match chunk {
            Chunk::Bytes(bytes, origin) => self.bytes(wire, direction, bytes, origin, room),
            Chunk::Elided { len_bytes, origin } => {
                self.elided(wire, direction, len_bytes, origin, room);
            }
            Chunk::Gap { len_bytes, at } => self.gap(wire, direction, len_bytes, at, room),
            Chunk::Fin => self.fin(wire, direction, room),
            Chunk::Reset => self.finish(wire, End::Rst, room),
        }
    }

    /// How much memory is under way here, and for how long; 0 where nothing is. A head counts from
    /// its first byte on, however often a piece of it comes.
    pub fn burden(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        let head = |half: &Half| {
            let since = half.partial_origin.map_or(quiet_since, |origin| origin.timestamp);
            flow::burden(half.partial.capacity() as u64, now, since)
        };
        let open_count = self.halves.iter().filter(|half| half.open.is_some()).count();
        let exchanges = (self.pending.count() + open_count) * size_of::<Exchange>();
        let heads = head(&self.halves[0]).saturating_add(head(&self.halves[1]));
        heads.saturating_add(flow::burden(exchanges as u64, now, quiet_since))
    }

    /// What the connection turned out to carry.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn bytes<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        data: &[u8],
        from: &Origin,
        room: &mut Room<L>,
    ) {
        if self.protocol == Protocol::Empty {
            self.begin(wire, first_impression(data));
        }
        self.go_on(wire, direction, data.len() as u32, from, room);
        if data.is_empty() {
            return;
        }
        let used = self.piece(wire, direction, data, from, room);
        if used < data.len() {
            self.pieces_behind(wire, direction, data, used, from, room);
        }
    }

    /// The first payload passes, and looks like this.
    pub(super) fn begin(&mut self, wire: Wire<'_>, protocol: Protocol) {
        self.protocol = protocol;
        if wire.origins.is_midstream() {
            // Nobody knows what stood before: this may be the middle of a body.
            self.halves.iter_mut().for_each(|half| half.phase = Phase::Search);
        }
    }

    /// So many bytes of a direction pass that are not lost.
    #[inline(always)]
    pub(super) fn go_on<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        len_bytes: u32,
        from: &Origin,
        room: &mut Room<L>,
    ) {
        let half = direction.index();
        if self.halves[half].seen_until.is_none() {
            self.charge_unseen_beginning(wire, direction, from.seq, room);
        }
        if self.protocol == Protocol::Other {
            self.unclear_bytes += u64::from(len_bytes);
        }
        self.note_answer(wire, direction, from);
        let until = Some(from.seq.plus(len_bytes));
        (self.halves[half].seen_until, self.halves[half].passed_until) = (until, until);
    }

    /// What is behind the first `done` bytes of a chunk. Apart, since nearly all chunks are one
    /// piece, for which nothing need be kept.
    #[inline(never)]
    fn pieces_behind<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        data: &[u8],
        mut done: usize,
        from: &Origin,
        room: &mut Room<L>,
    ) {
        while done < data.len() {
            let is_frame_start = from.is_frame_start && done == 0;
            let origin = Origin { seq: from.seq.plus(done as u32), is_frame_start, ..*from };
            done += self.piece(wire, direction, &data[done..], &origin, room);
        }
    }

    /// Takes what `data` begins with, and says how much that was. It may be nothing, where another
    /// phase began.
    #[inline(always)]
    fn piece<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        data: &[u8],
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        match self.halves[direction.index()].phase {
            Phase::Start => self.start(wire, direction, data, origin, room),
            Phase::Body(_) => self.body(wire, direction, data, origin, room),
            Phase::Head { has_line } => {
                self.more_head(wire, direction, has_line, data, origin, room)
            }
            Phase::LongHead(state) => self.long_head(wire, direction, state, data, origin, room),
            Phase::Search => self.search(wire, direction, data, origin, room),
            Phase::Off => data.len(),
        }
    }

    /// Which messages `direction` may carry.
    pub(super) fn expected(&self, direction: Direction) -> Expected {
        match self.client {
            None => Expected::Either,
            Some(client) if client == direction => Expected::Request,
            Some(_) => Expected::Response,
        }
    }

    /// Between messages. Empty lines before a start line are passed over (RFC 9112 section 2.2).
    fn start<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        data: &[u8],
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        let empty = head::empty_lines(data);
        if empty > 0 {
            return empty;
        }
        let mut head = Head::BLANK;
        match head::parse(data, self.expected(direction), &mut head) {
            Parsed::Complete if head.len_bytes <= room.limits.head_bytes_max => {
                let bytes = &data[..head.len_bytes];
                let last = origin.timestamp;
                let arrived = Arrived { head: &head, bytes, first: origin, last };
                self.message(wire, direction, &arrived, room);
                head.len_bytes
            }
            Parsed::Complete | Parsed::Partial => {
                let half = &mut self.halves[direction.index()];
                half.partial = room.pool.take_buffer();
                half.partial_origin = Some(*origin);
                half.phase = Phase::Head { has_line: false };
                self.more_head(wire, direction, false, data, origin, room)
            }
            Parsed::Proxy(len_bytes) => len_bytes,
            Parsed::Invalid => self.not_a_head(wire, direction, data.len(), origin, room),
            Parsed::Http2 => self.http2(data.len()),
        }
    }

    /// A piece of a head that comes in pieces.
    #[inline(never)]
    fn more_head<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        mut has_line: bool,
        data: &[u8],
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        let expected = self.expected(direction);
        let half = &mut self.halves[direction.index()];
        let known = half.partial.len();
        let room_left = room.limits.head_bytes_max.saturating_sub(known);
        room.pool.extend(&mut half.partial, &data[..data.len().min(room_left)]);
        if let Some(end) = head::end_of_head(&half.partial, known) {
            let partial = std::mem::take(&mut half.partial);
            let first = half.partial_origin.take().unwrap_or(*origin);
            half.phase = Phase::Start;
            let mut head = Head::BLANK;
            let parsed = head::parse(&partial[..end], expected, &mut head);
            if parsed == Parsed::Complete {
                let bytes = &partial[..end];
                let arrived = Arrived { head: &head, bytes, first: &first, last: origin.timestamp };
                self.message(wire, direction, &arrived, room);
            }
            room.pool.give_buffer_back(partial);
            return match parsed {
                Parsed::Complete => end - known,
                Parsed::Proxy(len_bytes) => len_bytes.saturating_sub(known),
                Parsed::Http2 => self.http2(data.len()),
                _ => self.not_a_head(wire, direction, data.len(), origin, room),
            };
        }
        // A PROXY header that is not whole yet has no line.
        let is_proxy = half.partial.starts_with(&[0]);
        if !has_line && (known <= DOUBTFUL_BYTES_MAX || is_proxy || data.contains(&b'\n')) {
            match head::parse(&half.partial, expected, &mut { Head::BLANK }) {
                Parsed::Invalid => {
                    return self.not_a_head(wire, direction, data.len(), origin, room);
                }
                Parsed::Http2 => return self.http2(data.len()),
                Parsed::Proxy(len_bytes) => {
                    half.phase = Phase::Start;
                    half.partial_origin = None;
                    room.pool.give_buffer_back(std::mem::take(&mut half.partial));
                    return len_bytes.saturating_sub(known);
                }
                Parsed::Partial | Parsed::Complete => {
                    has_line = half.partial.contains(&b'\n') && !is_proxy;
                }
            }
        }
        half.phase = Phase::Head { has_line };
        let held_bytes = half.partial.len();
        let has_room = room.pool.held_bytes() <= room.limits.held_share(held_bytes < MODEST_BYTES);
        if held_bytes < room.limits.head_bytes_max && has_room {
            return data.len();
        }
        self.cut_head(wire, direction, origin, room);
        data.len().min(room_left)
    }

    /// A message's head has come.
    pub(super) fn message<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        arrived: &Arrived<'_>,
        room: &mut Room<L>,
    ) {
        self.protocol = Protocol::Http1;
        self.halves[direction.index()].phase = Phase::Start;
        match arrived.head.kind {
            Kind::Request => {
                self.know_client(direction);
                self.request(wire, direction, arrived, room);
            }
            Kind::Response { status } => {
                self.know_client(direction.opposite());
                self.response(wire, direction, arrived, status, room);
            }
        }
    }

    /// A piece of a body, or the head behind it.
    fn body<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        data: &[u8],
        origin: &Origin,
        room: &mut Room<L>,
    ) -> usize {
        let is_request = self.client == Some(direction);
        if self.is_body_absent(direction, data, origin, room) {
            let open = self.halves[direction.index()].open;
            let last = open.and_then(|id| message_of(room.pool.exchange(id), is_request).last);
            self.end_message(wire, direction, last, room);
            return 0;
        }
        self.tell_absent(direction, room, || head::may_begin_answer(data));
        let half = &mut self.halves[direction.index()];
        let Phase::Body(framing) = &mut half.phase else { return 0 };
        let fed = framing.feed(data);
        self.count_body(direction, fed.used as u64, fed.body_bytes, origin, room);
        match fed.progress {
            Progress::More => fed.used,
            Progress::Done => {
                self.end_body(wire, direction, Some(origin.timestamp), room);
                fed.used
            }
            Progress::Broken => {
                self.forget_body(direction, room);
                self.not_a_head(wire, direction, data.len(), origin, room)
            }
        }
    }

    /// `used_bytes` of the open message have passed behind its head, of them `body_bytes` of the
    /// body itself.
    #[inline(always)]
    pub(super) fn count_body<L>(
        &mut self,
        direction: Direction,
        used_bytes: u64,
        body_bytes: u64,
        origin: &Origin,
        room: &mut Room<L>,
    ) {
        let half = &mut self.halves[direction.index()];
        half.last_at = Some(origin.timestamp);
        let Some(id) = half.open else {
            // Of a message that was given up before its end: it is followed, for the next head.
            room.stats.bytes_skipped += used_bytes;
            return;
        };
        let message = message_of(room.pool.exchange(id), self.client == Some(direction));
        if let Some(so_far) = &mut message.body_bytes {
            *so_far += body_bytes;
        }
    }

    /// The open message of `direction` has ended.
    pub(super) fn end_message<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        last: Option<TimestampNs>,
        room: &mut Room<L>,
    ) {
        let half = &mut self.halves[direction.index()];
        half.phase = Phase::Start;
        let Some(id) = half.open.take() else { return };
        let message = message_of(room.pool.exchange(id), self.client == Some(direction));
        if !message.is_seen {
            // Only interim answers came: the final one belongs to the same exchange.
            self.halves[direction.index()].open = Some(id);
            return;
        }
        message.is_ended = true;
        message.last = last;
        self.complete_if_ended(wire, id, room);
    }

    fn http2(&mut self, used: usize) -> usize {
        self.protocol = Protocol::Http2;
        self.leave_http();
        used
    }

    /// What follows is not HTTP/1.
    pub(super) fn leave_http(&mut self) {
        for half in &mut self.halves {
            half.phase = Phase::Off;
        }
    }

    fn fin<L: Listener>(&mut self, wire: Wire<'_>, direction: Direction, room: &mut Room<L>) {
        let half = &self.halves[direction.index()];
        match half.phase {
            Phase::Body(BodyFraming::UntilClose) => {
                let last = half.last_at;
                self.end_message(wire, direction, last, room);
            }
            Phase::Search if half.open.is_some() => self.end_message(wire, direction, None, room),
            _ => {}
        }
        if self.client.is_some_and(|client| client != direction) {
            self.finish(wire, End::Fin, room);
        }
    }

    /// Who the records of this connection are about.
    pub(super) fn identity<'a>(&mut self, wire: Wire<'a>) -> FlowIdentity<'a> {
        let client = self.client.or(wire.origins.client).unwrap_or(Direction::Forward);
        let id = *self.id.get_or_insert_with(|| wire.origins.flow_id(wire.key));
        FlowIdentity { key: wire.key, client, id }
    }
}

/// What a connection's first payload looks like. HTTP/1 shows later, by a whole head.
fn first_impression(data: &[u8]) -> Protocol {
    match data {
        // A TLS record: handshake or alert, version 3.x (RFC 8446 section 5.1).
        [0x15 | 0x16, 0x03, ..] => Protocol::Tls,
        _ => Protocol::Other,
    }
}
