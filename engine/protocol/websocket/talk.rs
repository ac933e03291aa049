//! [`Talk`]: both sides of a talk, and how it closes. The bytes come from a connection, or from the
//! DATA of a stream of HTTP/2.

use super::opening::Opening;
use super::side::{Found, Side};
use crate::flow::{ActiveVisit, End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::{Elidable, FlowRef, Shared};
use crate::record::{EventSink, FlowIdentity, Outcome, WebSocketClose, WebSocketTalk};
use crate::time::TimestampNs;

/// The memory of a talk, except for the texts of its opening and the reason of its end, with the
/// overhead of the allocator.
const TALK_BYTES: usize = size_of::<Talk>() + size_of::<Opening>() + 48;

/// The longest reason of a close: what a frame that controls the talk can hold, without the code.
const REASON_BYTES_MAX: usize = 123;

/// The memory of a [`Close`] at most, with the overhead of the allocator.
const CLOSE_BYTES: usize = size_of::<Close>() + REASON_BYTES_MAX + 32;

// What is kept while a talk lasts, apart from what the exchange that opened it said.
const _: () = assert!(size_of::<Talk>() <= 200);

/// The state of a talk.
#[derive(Debug)]
pub(crate) struct Talk {
    /// By direction.
    sides: [Side; 2],
    /// Bytes that were lost.
    gap_bytes: u64,
    /// When the latest bytes passed.
    last_at: TimestampNs,
    opening: Box<Opening>,
    /// The first frame that closes it.
    close: Option<Box<Close>>,
    client: Direction,
    /// It was reported, or is not to be.
    is_over: bool,
}

/// A frame that closes a talk.
#[derive(Debug)]
struct Close {
    by: Direction,
    payload_bytes: u64,
    /// The first bytes of the payload that are known: the code and the reason.
    payload: Vec<u8>,
}

impl Close {
    /// Takes bytes of the payload, up to whose end there are `left_bytes`. Behind a hole, there is
    /// nothing to add.
    fn add(&mut self, bytes: &[u8], left_bytes: u64, mask: [u8; 4]) {
        let from = self.payload_bytes.saturating_sub(left_bytes);
        if from != self.payload.len() as u64 {
            return;
        }
        let room = (2 + REASON_BYTES_MAX).saturating_sub(self.payload.len());
        let masks = mask.iter().cycle().skip(self.payload.len() % 4);
        self.payload.extend(bytes.iter().zip(masks).take(room).map(|(byte, mask)| byte ^ mask));
    }

    /// If it `is_first`, the other side had not closed the talk before.
    fn told(&self, client: Direction, is_first: bool) -> WebSocketClose<'_> {
        let code = self.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        let reason_wire_bytes = self.payload_bytes.saturating_sub(2);
        WebSocketClose {
            is_by_client: is_first.then_some(self.by == client),
            code,
            reason: self.payload.get(2..).unwrap_or_default(),
            reason_wire_bytes: usize::try_from(reason_wire_bytes).unwrap_or(usize::MAX),
        }
    }
}

impl Talk {
    /// A talk that begins.
    pub fn open<S>(shared: &mut Shared<S>, opening: Opening, client: Direction) -> Box<Talk> {
        shared.recorder.pool.hold(TALK_BYTES + opening.text_bytes());
        shared.stats.websocket.talks += 1;
        let side = |direction| Side::new(direction == client, opening.extension_bits);
        Box::new(Talk {
            sides: [side(Direction::Forward), side(Direction::Reverse)],
            gap_bytes: 0,
            last_at: opening.began_at,
            opening: Box::new(opening),
            close: None,
            client,
            is_over: false,
        })
    }

    /// The number of the exchange that opened it.
    pub fn n(&self) -> u32 {
        self.opening.n
    }

    /// Whether it was reported, or is not to be.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes the next bytes of a direction. Returns whether both sides have closed the talk with
    /// them.
    #[inline]
    pub fn bytes<S>(
        &mut self,
        shared: &mut Shared<S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> bool {
        self.last_at = self.last_at.max(meta.timestamp);
        let side = &mut self.sides[direction.index()];
        side.pass(meta.seq.plus(bytes.len() as u32));
        let done = side.whole_frames(bytes);
        done < bytes.len() && self.more(shared, direction, &bytes[done..], meta, bytes.len())
    }

    /// Takes bytes of a direction behind frames that are whole and usual, in pieces.
    fn more<S>(
        &mut self,
        shared: &mut Shared<S>,
        direction: Direction,
        mut rest: &[u8],
        meta: &SegmentMeta,
        len_bytes: usize,
    ) -> bool {
        let end = meta.seq.plus(len_bytes as u32);
        while !rest.is_empty() {
            let side = &mut self.sides[direction.index()];
            if side.is_over() {
                shared.stats.websocket.bytes_skipped += rest.len() as u64;
                break;
            }
            let done = side.whole_frames(rest);
            if done > 0 {
                rest = &rest[done..];
                continue;
            }
            let (used, found) = side.piece(rest, end);
            match found {
                Found::Nothing => {}
                Found::Close { payload_bytes } => {
                    self.begin_close(shared, direction, payload_bytes);
                }
                Found::ClosePayload { left_bytes, mask } => {
                    if let Some(close) = self.close.as_mut().filter(|it| it.by == direction) {
                        close.add(&rest[..used], left_bytes, mask);
                    }
                }
            }
            rest = &rest[used..];
        }
        self.is_closed()
    }

    /// A frame begins that closes the talk.
    #[cold]
    fn begin_close<S>(&mut self, shared: &mut Shared<S>, by: Direction, payload_bytes: u64) {
        if self.close.is_some() {
            return;
        }
        shared.recorder.pool.hold(CLOSE_BYTES);
        let payload = Vec::with_capacity(payload_bytes.min(2 + REASON_BYTES_MAX as u64) as usize);
        self.close = Some(Box::new(Close { by, payload_bytes, payload }));
    }

    /// Whether both sides have closed it.
    fn is_closed(&self) -> bool {
        self.sides.iter().all(|side| side.has_closed())
    }

    /// Takes `len_bytes` of a direction that passed but were cut off by the filter. Returns whether
    /// both sides have closed the talk.
    pub fn elided<S>(
        &mut self,
        shared: &mut Shared<S>,
        direction: Direction,
        len_bytes: u32,
        meta: &SegmentMeta,
    ) -> bool {
        self.last_at = self.last_at.max(meta.timestamp);
        self.skip(shared, direction, len_bytes.into());
        self.is_closed()
    }

    /// Takes the loss of `len_bytes` of a direction. Returns whether both sides have closed the
    /// talk.
    pub fn gap<S>(&mut self, shared: &mut Shared<S>, direction: Direction, len_bytes: u64) -> bool {
        let inside_bytes = self.skip(shared, direction, len_bytes);
        self.gap_bytes = self.gap_bytes.saturating_add(inside_bytes);
        self.is_closed()
    }

    fn skip<S>(&mut self, shared: &mut Shared<S>, direction: Direction, len_bytes: u64) -> u64 {
        let side = &mut self.sides[direction.index()];
        let was_lost = side.is_lost();
        let inside_bytes = side.skip(len_bytes);
        shared.stats.websocket.places_lost += u64::from(side.is_lost() && !was_lost);
        inside_bytes
    }

    /// The head of a frame of `direction` may have passed unseen.
    #[cold]
    pub fn lose_place<S>(&mut self, shared: &mut Shared<S>, direction: Direction) {
        let is_news = self.sides[direction.index()].lose_place();
        shared.stats.websocket.places_lost += u64::from(is_news);
    }

    /// Which bytes of `direction` need not reach user space: those of a message.
    #[inline]
    pub fn elidable_until(
        &self,
        direction: Direction,
        bytes_min: u64,
        ahead_bytes_max: u32,
    ) -> Option<Elidable> {
        let (bytes, head_end, from) = self.sides[direction.index()].message_to_come()?;
        (bytes >= bytes_min && !self.is_over).then(|| Elidable {
            head_end,
            until: from.plus(bytes.min(ahead_bytes_max.into()) as u32),
        })
    }

    /// What is told of it: all that is known so far, with no outcome. Of a direction that is
    /// `lost`, more may have passed than is known.
    fn told(&self, is_midstream: bool, lost: [bool; 2]) -> WebSocketTalk<'_> {
        let opening = &*self.opening;
        let [client, server] = [self.client, self.client.opposite()].map(|direction| {
            self.sides[direction.index()].counts().filter(|_| !lost[direction.index()])
        });
        let both = client.zip(server);
        // Where a part of the other side is not known, it may have closed the talk before: what is
        // behind a hole is read later than what passed meanwhile.
        let is_first = |close: &Close| {
            let other = close.by.opposite().index();
            !self.sides[other].is_lost() && !lost[other]
        };
        WebSocketTalk {
            n: opening.n,
            method: if opening.is_http2 { "CONNECT" } else { "GET" },
            status: opening.status,
            host: opening.host(),
            target: opening.target(),
            subprotocol: opening.subprotocol(),
            is_deflate: opening.is_deflate,
            client: client.map(|(counts, ..)| counts),
            server: server.map(|(counts, ..)| counts),
            pings: both.map(|((_, one, _), (_, other, _))| one + other),
            pongs: both.map(|((_, _, one), (_, _, other))| one + other),
            close: self.close.as_ref().map(|close| close.told(self.client, is_first(close))),
            began_at: opening.began_at,
            duration_ns: self.last_at.since(opening.began_at),
            outcome: None,
            end: None,
            gap_bytes: self.gap_bytes,
            is_midstream,
            is_conflict: self.sides.iter().any(|side| side.is_conflict),
            active_ns: None,
            iface: opening.iface,
            tunnel: opening.tunnel,
        }
    }

    /// Reports what has passed so far, if it is due. Of a direction that is `lost`, more may have
    /// passed than is known.
    pub fn report_active<S: EventSink>(
        &self,
        shared: &mut Shared<S>,
        flow: FlowRef<'_>,
        flow_id: u64,
        lost: [bool; 2],
        visit: &mut ActiveVisit,
    ) {
        if self.is_over {
            return;
        }
        if let Some(active_ns) = visit.due_ns(Some(self.opening.began_at)) {
            let talk = self.told(flow.handshake.is_midstream(), lost);
            let talk = WebSocketTalk { active_ns: Some(active_ns), ..talk };
            let flow = FlowIdentity { key: flow.key, client: self.client, id: flow_id };
            shared.recorder.websocket(flow, &talk);
        }
    }

    /// The talk is over, by `end` if not all sides have closed it: reports it. Without either, it
    /// was given up.
    pub fn finish<S: EventSink>(
        &mut self,
        shared: &mut Shared<S>,
        flow: FlowRef<'_>,
        flow_id: u64,
        end: Option<End>,
    ) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if end == Some(End::Shed) {
            shared.stats.websocket.talks_shed += 1;
            return;
        }
        // Whether a side has closed the talk is not known if its place was lost before, and whether
        // it will is not if the talk was given up.
        let is_unclear = end.is_none() || self.sides.iter().any(|side| side.is_lost());
        let (outcome, end) = match self.is_closed() {
            true => (Some(Outcome::Complete), None),
            false => ((!is_unclear).then_some(Outcome::Truncated), end),
        };
        let talk = self.told(flow.handshake.is_midstream(), [false; 2]);
        let talk = WebSocketTalk { outcome, end, ..talk };
        let stats = &mut shared.stats.websocket;
        *match outcome {
            Some(Outcome::Complete) => &mut stats.talks_complete,
            Some(_) => &mut stats.talks_truncated,
            None => &mut stats.talks_unclear,
        } += 1;
        stats.talks_with_gap += u64::from(talk.gap_bytes > 0);
        stats.talks_with_conflict += u64::from(talk.is_conflict);
        for counts in [talk.client, talk.server].into_iter().flatten() {
            stats.messages += counts.messages();
            stats.frames += counts.frames;
        }
        let flow = FlowIdentity { key: flow.key, client: self.client, id: flow_id };
        shared.recorder.websocket(flow, &talk);
    }

    /// It turned out to be none: it is not reported.
    pub fn withdraw<S>(&mut self, shared: &mut Shared<S>) {
        self.is_over = true;
        shared.stats.websocket.talks_withdrawn += 1;
    }

    /// The memory that it takes.
    pub fn held_bytes(&self) -> usize {
        let close_bytes = if self.close.is_some() { CLOSE_BYTES } else { 0 };
        TALK_BYTES + self.opening.text_bytes() + close_bytes
    }

    /// It is removed, after its end.
    pub fn leave<S>(self, shared: &mut Shared<S>) {
        shared.recorder.pool.release(self.held_bytes());
    }
}
