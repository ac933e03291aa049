//! How the place of a direction is lost, and found again: at the beginnings of segments only, by
//! the heads of two frames in a row, or by a frame that ends where a segment does.
//!
//! On a connection that was joined late, this is also what shows that it speaks HTTP/2. Other
//! protocols begin their messages with a length, too, and some look like a frame. So it takes two
//! frames in a row, or a header block that can be decoded and has a pseudo-field. Until then, the
//! connection goes back to HTTP/1 at the first segment that does not agree.

use super::block::Scratch;
use super::connection::Http2Connection;
use super::frame::{self, FrameHead, FrameKind, HEAD_BYTES, begins_preface};
use super::framer::{Place, TRIAL_BYTES, Trial};
use super::head::{Expected, Role};
use super::hpack::Decoder;
use super::open_block::BlockInfo;
use crate::decode::{SeqNumber, begins_like_message};
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::Context;
use crate::record::EventSink;

/// What begins at the front of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// A frame, and another one behind it.
    Chain(FrameHead),
    /// A frame that ends where the segment does.
    Single(FrameHead),
    /// What may be a frame, and does not end in the segment.
    Begun(FrameHead),
}

impl Http2Connection {
    /// The first bytes of a direction are at `at`.
    #[cold]
    pub(super) fn begin_side<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        at: SeqNumber,
    ) {
        if self.is_late && begins_preface(bytes) {
            return self.begin_client(cx, direction);
        }
        let handshake = cx.flow.handshake;
        let is_of_client = self.is_client_known && self.is_client(direction);
        let isn = match handshake.client == Some(direction) {
            true => handshake.client_isn.get(),
            false => handshake.server_isn.get(),
        };
        let is_first = isn.is_some_and(|isn| isn.plus(1) == at);
        let is_whole = match self.is_late {
            true => is_first && !is_of_client,
            false => !handshake.is_midstream(),
        };
        if is_whole && self.is_believed && (is_first || isn.is_none()) {
            self.framer(direction).place = Place::Head;
            let peer = self.side(direction.opposite());
            if peer.has_all() {
                peer.decoder.reset_size_max();
            }
            return;
        }
        // What the peer has begun may have been answered in what was not read.
        let framer = self.framer(direction);
        framer.losses = framer.losses.saturating_add(1);
        if !is_whole {
            self.lose_beginning(cx, direction);
        } else {
            // Another protocol may have read the beginning of a frame.
            self.framer(direction).place = Place::Search;
        }
    }

    /// The server has spoken before its client, whose preface comes now.
    fn begin_client<S: EventSink>(&mut self, cx: &mut Context<'_, S>, client: Direction) {
        (self.client, self.is_client_known) = (client, true);
        self.framer(client).place = Place::Preface(0);
        if !std::mem::replace(&mut self.is_believed, true) {
            cx.shared.stats.http2.connections += 1;
        }
        self.is_late = false;
        let server = client.opposite();
        let trial = &self.framer(server).trial;
        if trial.as_ref().is_some_and(|trial| trial.left_bytes == 0) {
            self.accept_trial(cx, server);
        }
    }

    /// The beginning of a direction was not captured.
    pub(super) fn lose_beginning<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
    ) {
        let side = self.side(direction);
        side.is_whole = false;
        side.framer.place = Place::Search;
        side.decoder.lose();
        self.side(direction.opposite()).decoder.set_size_max(u32::MAX);
        // What preceded the first segment of a connection without handshake need not be lost.
        if !self.is_late && !cx.flow.handshake.is_midstream() {
            self.note_lost_block(cx);
        }
    }

    /// A connection that was joined late speaks HTTP/2.
    fn believe<S>(&mut self, cx: &mut Context<'_, S>) {
        if !std::mem::replace(&mut self.is_believed, true) {
            cx.shared.stats.http2.connections += 1;
            cx.shared.stats.http2.joined_late += 1;
        }
    }

    /// The head of a frame may have been lost, or bytes were no head: nobody knows where the next
    /// frame begins.
    #[cold]
    pub(super) fn lose_place<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
    ) {
        cx.shared.stats.http2.places_lost += 1;
        self.cut_open_block(cx, direction);
        self.drop_trial(cx, direction);
        let side = self.side(direction);
        side.framer.place = Place::Search;
        side.framer.frame = None;
        side.framer.partial_len = 0;
        side.framer.losses = side.framer.losses.saturating_add(1);
        side.decoder.lose();
        side.count_table(&mut cx.shared.recorder.pool);
        self.side(direction.opposite()).decoder.set_size_max(u32::MAX);
        self.note_lost_block(cx);
    }

    /// Looks for a frame at the front of `bytes`. Returns how many of them it has passed.
    pub(super) fn search<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
        is_segment_start: bool,
    ) -> usize {
        let found = match is_segment_start {
            true => self.begins_frame(direction, bytes),
            false => None,
        };
        match found {
            Some(Found::Chain(_)) => self.find(cx, direction),
            Some(Found::Single(_)) if self.is_believed => self.find(cx, direction),
            Some(Found::Single(head)) if is_message(cx, head, &bytes[HEAD_BYTES..]) => {
                self.find(cx, direction);
            }
            Some(Found::Single(head) | Found::Begun(head)) => {
                self.begin_trial(cx, direction, &head, meta);
            }
            None => {
                if is_segment_start {
                    self.doubt(cx, direction, bytes, meta);
                }
                self.skip(cx, direction);
                cx.shared.stats.http2.bytes_skipped += bytes.len() as u64;
                return bytes.len();
            }
        }
        0
    }

    /// Whether a frame begins at the front of a segment with this payload.
    fn begins_frame(&self, direction: Direction, payload: &[u8]) -> Option<Found> {
        let len_bytes_max = self.sides[direction.index()].framer.len_bytes_max;
        let head_at = |at: usize| {
            let head = frame::likely_head(payload.get(at..)?, len_bytes_max)?;
            self.is_plausible(direction, &head).then_some(head)
        };
        let head = head_at(0)?;
        let end = HEAD_BYTES + head.len_bytes as usize;
        match payload.len().checked_sub(end) {
            // By itself, a part of a body says too little to begin a stream with.
            Some(0) if head.kind == FrameKind::Data => {
                self.streams.find(head.stream).map(|_| Found::Single(head))
            }
            Some(0) => Some(Found::Single(head)),
            Some(HEAD_BYTES..) => head_at(end).map(|_| Found::Chain(head)),
            _ => Some(Found::Begun(head)),
        }
    }

    /// Whether the sender of `direction` may use the stream of this frame.
    fn is_plausible(&self, direction: Direction, head: &FrameHead) -> bool {
        let is_of_message = matches!(head.kind, FrameKind::Data | FrameKind::Headers);
        let is_client = self.is_client_known && self.is_client(direction);
        let is_clients = head.stream % 2 == 1;
        (is_clients || !is_of_message || !is_client)
            && self.streams.is_near(head.stream, self.is_late)
    }

    /// Bytes are skipped in which there may have been a header block.
    fn skip<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        if self.side(direction).is_whole {
            self.lose_beginning(cx, direction);
        }
    }

    /// A frame begins with the next byte.
    fn find<S>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        let framer = self.framer(direction);
        (framer.place, framer.partial_len, framer.is_found) = (Place::Head, 0, true);
        framer.is_doubtful = true;
        self.error = None;
        self.believe(cx);
    }

    /// Whether the header block that was decoded shows that frames begin where they were found.
    #[cold]
    pub(super) fn is_place_shown<S>(
        &self,
        cx: &Context<'_, S>,
        direction: Direction,
        info: &BlockInfo,
    ) -> bool {
        let head = &cx.shared.http2.head;
        let is_request = self.is_client(direction) != info.is_promise;
        let is_its_role = match head.role() {
            Role::Request => is_request || !self.is_client_known,
            Role::Response => !info.is_promise && (!is_request || !self.is_client_known),
            Role::Trailers | Role::Unclear => false,
        };
        is_its_role && head.has_pseudo() && !head.is_cut && !head.is_conflict
    }

    /// These bytes are no frames. If nothing has shown yet that the connection speaks HTTP/2, it
    /// does not. If only one side has, that may have been a stranger: a message of HTTP/1 shows the
    /// opposite.
    fn doubt<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        let is_first = self.begun_at == Some((direction, meta.seq));
        let is_agreed = self.sides.iter().all(|side| side.framer.is_found);
        let is_contrary = match self.is_believed {
            false => {
                self.begun_at.is_some_and(|(by, _)| by == direction) || begins_like_message(bytes)
            }
            true => self.is_late && !is_agreed && begins_http1(bytes),
        };
        if is_first || !is_contrary {
            return;
        }
        self.hand_back_at = Some(meta.seq);
        if self.is_believed {
            cx.shared.stats.http2.connections_withdrawn += 1;
        }
    }

    /// What may be a frame begins.
    fn begin_trial<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        head: &FrameHead,
        meta: &SegmentMeta,
    ) {
        let limits = &cx.shared.limits;
        let pool = &mut cx.shared.recorder.pool;
        let is_short = head.len_bytes as usize <= limits.head_bytes_max
            && pool.held_bytes() <= limits.held_share(false);
        pool.hold(TRIAL_BYTES);
        let trial = Trial {
            head: *head,
            bytes: pool.take_buffer(),
            left_bytes: head.len_bytes + HEAD_BYTES as u32,
            first: *meta,
            last: *meta,
            last_at: 0,
            is_kept: head.kind != FrameKind::Data && is_short,
        };
        let framer = self.framer(direction);
        (framer.place, framer.partial_len) = (Place::Trial, 0);
        framer.trial = Some(Box::new(trial));
    }

    /// Takes the next bytes of what may be a frame, or the head that must follow it. Returns how
    /// many bytes it took.
    pub(super) fn try_frame<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> usize {
        let is_believed = self.is_believed;
        let framer = self.framer(direction);
        let Some(trial) = &mut framer.trial else { return bytes.len() };
        if trial.left_bytes > 0 {
            let part = &bytes[..bytes.len().min(trial.left_bytes as usize)];
            trial.left_bytes -= part.len() as u32;
            (trial.last, trial.last_at) = (*meta, trial.bytes.len());
            if trial.is_kept {
                cx.shared.recorder.pool.extend(&mut trial.bytes, part);
            }
            if trial.left_bytes == 0 && part.len() == bytes.len() && is_believed {
                // It ends where the segment does.
                self.accept_trial(cx, direction);
            }
            return part.len();
        }
        let Some((next, used)) = framer.head(bytes, meta) else { return bytes.len() };
        let is_likely = next.is_likely(framer.len_bytes_max);
        if !is_likely || !self.is_plausible(direction, &next) {
            self.drop_trial(cx, direction);
            self.doubt(cx, direction, bytes, meta);
            return used;
        }
        let first = self.framer(direction).first;
        self.accept_trial(cx, direction);
        self.framer(direction).first = first;
        self.begin_frame(cx, direction, next, meta);
        used
    }

    /// It was a frame.
    fn accept_trial<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        let Some(trial) = self.framer(direction).trial.take() else { return };
        let Trial { head, bytes, first, last, last_at, is_kept, .. } = *trial;
        self.find(cx, direction);
        cx.shared.recorder.pool.release(TRIAL_BYTES);
        if is_kept {
            for (part, meta) in [(&bytes[..last_at], &first), (&bytes[last_at..], &last)] {
                let mut done = 0;
                while done < part.len() {
                    done += self.piece(cx, direction, &part[done..], meta, false);
                }
            }
        } else {
            let framer = self.framer(direction);
            framer.first = Some(first);
            self.begin_frame(cx, direction, head, &first);
            if let Some(frame) = &mut self.framer(direction).frame {
                // Its content is not known: all that follows from its head is.
                (frame.left_bytes, frame.content_left_bytes, frame.prefix_left) = (0, 0, 0);
                (frame.is_holed, frame.is_block_taken) = (true, true);
                self.end_frame(cx, direction, Some(last.timestamp));
            }
        }
        cx.shared.recorder.pool.give_buffer_back(bytes);
    }

    /// It was no frame, or what follows was lost.
    pub(super) fn drop_trial<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
    ) {
        let framer = self.framer(direction);
        if let Some(trial) = framer.trial.take() {
            framer.place = Place::Search;
            framer.partial_len = 0;
            trial.free(&mut cx.shared.recorder.pool);
            self.skip(cx, direction);
        }
    }
}

/// Whether `bytes` begin with a start line that names HTTP/1.
fn begins_http1(bytes: &[u8]) -> bool {
    let line = memchr::memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..end]);
    begins_like_message(line) && memchr::memmem::find(line, b"HTTP/1.").is_some()
}

/// Whether the frame with this `head` is HEADERS whose header block, in `payload`, can be decoded
/// and has a pseudo-field.
#[cold]
fn is_message<S: EventSink>(cx: &mut Context<'_, S>, head: FrameHead, payload: &[u8]) -> bool {
    let has = |flag| usize::from(head.has(flag));
    if head.kind != FrameKind::Headers || !head.has(frame::END_HEADERS) {
        return false;
    }
    let padding = if head.has(frame::PADDED) { payload.first().copied() } else { None };
    let start = has(frame::PADDED) + 5 * has(frame::PRIORITY);
    let end = payload.len().saturating_sub(padding.unwrap_or_default().into());
    let Some(block) = payload.get(start..end) else { return false };
    let mut decoder = Decoder::default();
    decoder.lose();
    let Scratch { strings, head } = &mut cx.shared.http2;
    head.begin(Expected::HeadOrTrailers, cx.shared.limits.head_bytes_max, false);
    let is_whole = decoder.block(block, strings, |field| head.field(field)).is_ok();
    is_whole && head.has_pseudo()
}
