//! [`Http2Connection`]: the frames of one connection, in both directions. Passes header blocks,
//! body bytes and the ends of streams on to the exchanges.

use super::connection_error::ConnectionError;
use super::frame::{self, FrameHead, FrameKind, PREFACE, begins_preface};
use super::framer::{Frame, Framer, Place};
use super::open_block::BlockInfo;
use super::side::Side;
use super::streams::{Resets, Streams};
use super::talks::Talks;
use crate::decode::SeqNumber;
use crate::flow::{self, End, SegmentMeta};
use crate::ids::Direction;
use crate::protocol::first_bytes::Opening;
use crate::protocol::pool::ExchangePool;
use crate::protocol::{Context, HandOver, Inheritance, Kind, Step};
use crate::record::{EventSink, Exchange};
use crate::time::TimestampNs;

/// The memory of a connection, with the overhead of the allocator.
pub(super) const CONNECTION_BYTES: usize = size_of::<Http2Connection>() + 16;

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Http2Connection {
    /// By direction.
    pub(super) sides: [Side; 2],
    pub(super) streams: Streams,
    /// The talks of WebSocket that some of them carry.
    pub(super) talks: Talks,
    /// The direction that sends the requests. While it is not known, a guess.
    pub(super) client: Direction,
    pub(super) is_client_known: bool,
    /// What shows that the connection speaks HTTP/2, until it is settled.
    pub(super) opening: Opening,
    /// What shows that it does not, although its first bytes did.
    pub(super) error: Option<ConnectionError>,
    pub(super) resets: Resets,
    /// The position behind the segment that is being read.
    pub(super) segment_end: SeqNumber,
    /// The number of the next exchange.
    pub(super) next_n: u32,
    /// The record's `flow`, once it was needed.
    pub(super) flow_id: Option<u64>,
    /// Bytes have passed.
    is_started: bool,
    /// Its beginning was not captured.
    pub(super) is_late: bool,
    /// Something has shown that it speaks HTTP/2.
    pub(super) is_believed: bool,
    /// Where it began, if it was joined late.
    pub(super) begun_at: Option<(Direction, SeqNumber)>,
    /// It does not speak HTTP/2: HTTP/1 goes on here.
    pub(super) hand_back_at: Option<SeqNumber>,
    /// It was counted among those that lost a header block.
    is_loss_counted: bool,
}

impl Http2Connection {
    /// A connection of which nothing has passed.
    pub fn new(inheritance: &Inheritance) -> Http2Connection {
        Http2Connection {
            sides: [Side::new(), Side::new()],
            streams: Streams::default(),
            talks: Talks::default(),
            client: Direction::Forward,
            is_client_known: false,
            opening: Opening::default(),
            error: None,
            resets: Resets::default(),
            segment_end: SeqNumber(0),
            next_n: inheritance.next_n,
            flow_id: inheritance.flow_id,
            is_started: false,
            is_late: false,
            is_believed: false,
            begun_at: None,
            hand_back_at: None,
            is_loss_counted: false,
        }
    }

    /// What the next protocol takes over.
    fn inheritance(&self) -> Inheritance {
        Inheritance { next_n: self.next_n, flow_id: self.flow_id, ..Inheritance::default() }
    }

    pub(super) fn side(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction.index()]
    }

    pub(super) fn framer(&mut self, direction: Direction) -> &mut Framer {
        &mut self.sides[direction.index()].framer
    }

    /// Whether `direction` is the client's.
    pub(super) fn is_client(&self, direction: Direction) -> bool {
        self.client == direction
    }

    /// Takes the next bytes of a direction.
    pub fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        if !self.is_started {
            self.begin(cx, direction, bytes, meta);
        }
        if !self.is_late && !self.opening.is_answered() {
            let step = self.opening.bytes(direction, bytes, meta);
            if step == Step::HandOver {
                return step;
            }
        }
        self.segment_end = meta.seq.plus(bytes.len() as u32);
        let mut done = 0;
        while done < bytes.len() {
            if let Some(frame_bytes) = self.whole_frame(cx, direction, &bytes[done..], meta) {
                done += frame_bytes;
                continue;
            }
            let is_segment_start = meta.is_frame_start && done == 0;
            done += self.piece(cx, direction, &bytes[done..], meta, is_segment_start);
        }
        if self.error.is_some() {
            self.count_behind_error(direction, bytes.len());
        }
        if !self.resets.is_empty() {
            self.settle_resets(cx, direction, meta);
        }
        if self.hand_back_at.is_some() { Step::HandOver } else { Step::Done }
    }

    /// The first bytes of the connection.
    #[cold]
    fn begin<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        self.is_started = true;
        if self.is_client_known {
            // It was upgraded.
        } else if begins_preface(bytes) {
            (self.client, self.is_client_known) = (direction, true);
            self.framer(direction).place = Place::Preface(0);
            // If nothing of the server is captured, nobody knows what it allows.
            self.side(direction).decoder.set_size_max(u32::MAX);
        } else {
            self.is_late = true;
            self.begun_at = Some((direction, meta.seq));
            if let Some(client) = cx.flow.handshake.client {
                (self.client, self.is_client_known) = (client, true);
            }
        }
        if !self.is_late {
            self.is_believed = true;
            cx.shared.stats.http2.connections += 1;
        }
        if cx.flow.handshake.is_midstream() {
            // The peer's SETTINGS may have passed before.
            self.sides.iter_mut().for_each(|side| side.decoder.set_size_max(u32::MAX));
        }
    }

    /// Takes the first part of `bytes` and returns its length. This is 0 if only the state changed.
    #[inline]
    pub(super) fn piece<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
        is_segment_start: bool,
    ) -> usize {
        let framer = self.framer(direction);
        match framer.place {
            Place::Head => {
                let Some((head, used)) = framer.head(bytes, meta) else { return bytes.len() };
                if head.is_valid(framer.len_bytes_max) {
                    self.begin_frame(cx, direction, head, meta);
                } else {
                    self.note_wrong_head(direction, (bytes, used), meta);
                    self.lose_place(cx, direction);
                }
                used
            }
            Place::Payload => {
                let left = framer.frame.map_or(0, |frame| frame.left_bytes as usize);
                let part = &bytes[..left.min(bytes.len())];
                self.payload(cx, direction, part, meta);
                part.len()
            }
            Place::Preface(known) => {
                let expected = &PREFACE[usize::from(known)..];
                let part = &bytes[..expected.len().min(bytes.len())];
                if *part != expected[..part.len()] {
                    self.note_error(direction, (bytes, 0), meta);
                    self.lose_place(cx, direction);
                    return 0;
                }
                framer.place = match part.len() == expected.len() {
                    true => Place::Head,
                    false => Place::Preface(known + part.len() as u8),
                };
                part.len()
            }
            Place::Trial => self.try_frame(cx, direction, bytes, meta),
            Place::Search => self.search(cx, direction, bytes, meta, is_segment_start),
            Place::Fresh => {
                self.begin_side(cx, direction, bytes, meta.seq);
                0
            }
            Place::Off => bytes.len(),
        }
    }

    /// The head of a frame has passed, and is valid.
    #[inline]
    pub(super) fn begin_frame<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        head: FrameHead,
        meta: &SegmentMeta,
    ) {
        let side = self.side(direction);
        let framer = &mut side.framer;
        framer.place = Place::Payload;
        framer.frame = Some(Frame::new(head));
        if side.block.is_some() || head.kind == FrameKind::Continuation {
            self.check_continuation(cx, direction, &head);
        }
        if head.kind == FrameKind::Data {
            self.begin_data(cx, direction, head.stream);
        }
        if head.len_bytes == 0 {
            self.end_frame(cx, direction, Some(meta.timestamp));
        }
    }

    /// Takes bytes of a frame behind its head: at most what is left of it.
    #[inline]
    fn payload<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        part: &[u8],
        meta: &SegmentMeta,
    ) {
        let framer = self.framer(direction);
        let Some(mut frame) = framer.frame else { return };
        let mut content = part;
        if frame.prefix_left > 0 {
            let taken = usize::from(frame.prefix_left).min(part.len());
            framer.fill(usize::from(framer.partial_len) + taken, part);
            frame.prefix_left -= taken as u8;
            content = &part[taken..];
            if frame.prefix_left == 0 {
                let padding = frame.head.has(frame::PADDED).then_some(framer.partial[0]);
                let behind = frame.head.len_bytes - u32::from(framer.partial_len);
                // More padding than there is makes the frame invalid: it has no content.
                frame.content_left_bytes =
                    behind.saturating_sub(u32::from(padding.unwrap_or_default()));
            }
        }
        content = &content[..content.len().min(frame.content_left_bytes as usize)];
        frame.left_bytes -= part.len() as u32;
        frame.content_left_bytes -= content.len() as u32;
        framer.frame = Some(frame);
        if !content.is_empty() && !frame.is_holed {
            match frame.head.kind {
                FrameKind::Data => {
                    let known = (content.len(), Some(content));
                    self.count_data(cx, frame.head.stream, direction, known);
                }
                FrameKind::Headers | FrameKind::PushPromise | FrameKind::Continuation => {
                    self.fragment(cx, direction, content, meta);
                }
                FrameKind::Settings => self.settings(direction, content),
                FrameKind::RstStream => _ = self.framer(direction).fill(4, content),
                FrameKind::GoAway => _ = self.framer(direction).fill(8, content),
                _ => {}
            }
        } else if frame.head.kind == FrameKind::Data {
            // What is left of the frame is known, but not what it is a part of.
            self.count_data(cx, frame.head.stream, direction, (content.len(), None));
        }
        if frame.head.kind == FrameKind::Data && !self.talks.is_empty() {
            self.talk_bytes(cx, frame.head.stream, direction, content, meta);
        }
        if frame.left_bytes == 0 {
            self.end_frame(cx, direction, Some(meta.timestamp));
        }
    }

    /// Reads SETTINGS, which tell what the peer may send.
    pub(super) fn settings(&mut self, direction: Direction, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let framer = self.framer(direction);
            bytes = &bytes[framer.fill(6, bytes)..];
            if framer.partial_len < 6 {
                return;
            }
            framer.partial_len = 0;
            let [a, b, value @ ..] = framer.partial;
            let value = u32::from_be_bytes([value[0], value[1], value[2], value[3]]);
            let peer = self.side(direction.opposite());
            match u16::from_be_bytes([a, b]) {
                frame::SETTING_TABLE_SIZE => peer.decoder.set_size_max(value),
                frame::SETTING_FRAME_SIZE if value < 1 << 24 => {
                    peer.framer.len_bytes_max = peer.framer.len_bytes_max.max(value);
                }
                _ => {}
            }
        }
    }

    /// A frame has passed completely. Its last byte came at `last`; `None` if that was lost.
    pub(super) fn end_frame<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        last: Option<TimestampNs>,
    ) {
        let framer = self.framer(direction);
        let Some(frame) = framer.frame.take() else { return };
        let partial = (framer.partial, framer.partial_len);
        (framer.place, framer.partial_len) = (Place::Head, 0);
        let word = |at: usize| {
            let bytes = partial.0[at..at + 4].first_chunk().copied();
            bytes.filter(|_| usize::from(partial.1) >= at + 4).map(u32::from_be_bytes)
        };
        let stream = frame.head.stream;
        match frame.head.kind {
            FrameKind::Data if frame.head.has(frame::END_STREAM) => {
                self.end_message(cx, direction, stream, last);
            }
            FrameKind::Headers | FrameKind::PushPromise | FrameKind::Continuation => {
                self.end_block_frame(cx, direction, &frame, last);
            }
            FrameKind::RstStream => {
                let code = word(0).filter(|_| !frame.is_holed);
                self.reset(cx, direction, stream, code, last);
            }
            FrameKind::GoAway if !frame.is_holed => {
                if let Some(last_stream) = word(0) {
                    self.go_away(cx, direction, last_stream & 0x7fff_ffff);
                }
            }
            _ => {}
        }
    }

    /// Takes the loss of `len_bytes`.
    pub fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
    ) {
        let framer = self.framer(direction);
        match framer.place {
            Place::Off | Place::Search => {}
            Place::Fresh => {
                framer.losses += 1;
                self.lose_beginning(cx, direction);
            }
            Place::Preface(known) if u64::from(known) + len_bytes <= PREFACE.len() as u64 => {
                let known = known + len_bytes as u8;
                let is_all = usize::from(known) == PREFACE.len();
                framer.place = if is_all { Place::Head } else { Place::Preface(known) };
            }
            Place::Preface(_) | Place::Head => self.lose_place(cx, direction),
            Place::Trial => self.drop_trial(cx, direction),
            Place::Payload => {
                let left = framer.frame.map_or(0, |frame| frame.left_bytes);
                let inside = len_bytes.min(left.into()) as u32;
                self.gap_in_frame(cx, direction, inside);
                if len_bytes > u64::from(inside) {
                    self.lose_place(cx, direction);
                }
            }
        }
    }

    /// `len_bytes` of the frame in progress were lost.
    fn gap_in_frame<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u32,
    ) {
        let Some(frame) = self.framer(direction).frame else { return };
        let mut after = frame;
        after.left_bytes -= len_bytes;
        let is_content_hit = frame.prefix_left > 0 || frame.content_left_bytes > 0;
        after.is_holed |= is_content_hit;
        let is_prefix_hit = frame.prefix_left > 0;
        let in_content = match is_prefix_hit {
            true => 0,
            false => len_bytes.min(frame.content_left_bytes),
        };
        after.prefix_left = 0;
        after.content_left_bytes =
            if is_prefix_hit { 0 } else { frame.content_left_bytes - in_content };
        let head = frame.head;
        match head.kind {
            FrameKind::Data if is_prefix_hit => {
                self.forget_body(cx, head.stream, direction);
                self.lose_talk(cx, head.stream, direction);
            }
            FrameKind::Data => {
                self.count_data(cx, head.stream, direction, (in_content as usize, None));
                self.talk_gap(cx, head.stream, direction, in_content);
            }
            FrameKind::Headers | FrameKind::PushPromise | FrameKind::Continuation
                if is_content_hit =>
            {
                self.cut_block_in_frame(cx, direction, is_prefix_hit);
            }
            FrameKind::Settings => {
                self.side(direction.opposite()).decoder.set_size_max(u32::MAX);
            }
            _ => {}
        }
        self.charge_gap(cx, head.stream, len_bytes.into());
        let before = self.framer(direction).frame.replace(after);
        if let (Some(before), Some(frame)) = (before, &mut self.framer(direction).frame) {
            frame.is_block_taken = before.is_block_taken;
        }
        if after.left_bytes == 0 {
            self.end_frame(cx, direction, None);
        }
    }

    /// A header block may have been lost. The connection is counted once.
    pub(super) fn note_lost_block<S>(&mut self, cx: &mut Context<'_, S>) {
        let is_counted = std::mem::replace(&mut self.is_loss_counted, true);
        cx.shared.stats.http2.lost_header_blocks += u64::from(!is_counted);
    }

    /// The sender closed its direction. A server answers nothing more.
    pub fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        if self.is_client_known && !self.is_client(direction) {
            self.cut_open_block(cx, direction);
            self.give_up_all(cx, Some(End::Fin));
        }
    }

    /// Ends everything that is open on the connection.
    pub fn finish<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        self.cut_open_block(cx, self.client);
        self.cut_open_block(cx, self.client.opposite());
        self.give_up_all(cx, Some(end));
        self.sides.iter_mut().for_each(|side| side.framer.place = Place::Off);
        self.leave(&mut cx.shared.recorder.pool);
    }

    /// Whether a stream is open.
    pub fn has_open(&self) -> bool {
        self.streams.count() > 0
    }

    /// What the connection has shown so far.
    pub fn is_believed(&self) -> bool {
        self.is_believed
    }

    /// Where another protocol goes on, and from which byte.
    pub fn hand_over(&mut self) -> Option<HandOver> {
        let inheritance = self.inheritance();
        match self.hand_back_at {
            Some(at) => Some(HandOver { to: Kind::Http1, at, kept: None, inheritance }),
            None => Some(HandOver { inheritance, ..self.opening.hand_over()? }),
        }
    }

    /// The connection is removed, after its end.
    pub fn leave(&mut self, pool: &mut ExchangePool) {
        for side in &mut self.sides {
            if let Some(trial) = side.framer.trial.take() {
                trial.free(pool);
            }
            side.decoder.relieve();
            side.count_table(pool);
        }
        self.streams.free(pool);
        self.resets.free(pool);
    }

    /// Frees the tables of header fields. What refers to them is unknown from now on. Returns false
    /// if there are none, and nothing but the end of the connection frees enough.
    pub fn relieve<S>(&mut self, cx: &mut Context<'_, S>) -> bool {
        let has_any = self.sides.iter().any(|side| side.table_bytes > 0);
        for side in &mut self.sides {
            if side.table_bytes > 0 {
                side.decoder.relieve();
                side.count_table(&mut cx.shared.recorder.pool);
            }
        }
        has_any || !self.has_open() && !cx.shared.is_very_short()
    }

    /// How much memory it takes, weighted by its age.
    pub fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        let of_side = |side: &Side| {
            side.table_bytes + side.block.as_ref().map_or(0, |block| block.held_bytes())
        };
        let sides: usize = self.sides.iter().map(of_side).sum();
        let exchanges = self.streams.count() * size_of::<Exchange>();
        if sides + exchanges == 0 {
            // Others are to give way first.
            return 1;
        }
        let bytes = CONNECTION_BYTES + sides + exchanges + self.talks.held_bytes();
        flow::memory_weight(bytes as u64, now, quiet_since)
    }

    /// The connection was upgraded from HTTP/1.
    pub fn upgrade(&mut self, client: Direction, answer: Opening) {
        (self.client, self.is_client_known) = (client, true);
        self.opening = answer;
        self.framer(client).place = Place::Preface(0);
        self.framer(client.opposite()).place = Place::Head;
    }

    /// The header block that `frame` carries or begins.
    pub(super) fn block_info(&mut self, direction: Direction, frame: &Frame) -> Option<BlockInfo> {
        let framer = self.framer(direction);
        let first = framer.first?;
        let carrier = frame.head.stream;
        let is_promise = frame.head.kind == FrameKind::PushPromise;
        let stream = match is_promise {
            false => carrier,
            true => {
                let at = usize::from(frame.head.has(frame::PADDED));
                let id = framer.partial.get(at..at + 4)?.first_chunk()?;
                u32::from_be_bytes(*id) & 0x7fff_ffff
            }
        };
        let is_end_stream = !is_promise && frame.head.has(frame::END_STREAM);
        Some(BlockInfo { carrier, stream, is_promise, is_end_stream, first })
    }
}

#[cfg(test)]
mod tests {
    use super::Http2Connection;

    /// What README says of it. Its tables are apart, and go where memory runs short.
    #[test]
    fn an_idle_connection_is_small() {
        let readme = include_str!("../../../README.md");
        let size = size_of::<Http2Connection>();
        assert!(readme.contains(&format!("HTTP/2: {size} bytes each")), "{size}");
    }
}
