//! Header blocks: the fragments of one are joined, decoded, and become the head of a message. They
//! are decoded in the order of the wire, also those of streams that are unknown or given up, since
//! later blocks refer to them.

use super::connection::Http2Connection;
use super::frame::{self, FrameHead, FrameKind};
use super::framer::Frame;
use super::head::{Expected, HeadText};
use super::open_block::{BlockInfo, OpenBlock};
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::Context;
use crate::record::EventSink;
use crate::time::TimestampNs;

/// A shorter block may still be completed while more than half of the shard's memory is used.
const MODEST_BYTES: usize = 4096;

/// What all connections of a shard decode header blocks with.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Scratch {
    pub(super) strings: Vec<u8>,
    pub(super) head: HeadText,
}

impl Http2Connection {
    /// A frame begins. If a header block is in progress, only its continuation may follow (RFC 9113
    /// section 6.10).
    #[cold]
    pub(super) fn check_continuation<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        head: &FrameHead,
    ) {
        let side = self.side(direction);
        let is_continuation = head.kind == FrameKind::Continuation;
        match &side.block {
            Some(block) if is_continuation && block.info.carrier == head.stream => {}
            Some(_) => self.cut_open_block(cx, direction),
            None => {
                // What it continues was lost, or is not there.
                side.decoder.lose();
                if let Some(frame) = &mut side.framer.frame {
                    frame.is_block_taken = true;
                }
                self.note_lost_block(cx);
            }
        }
    }

    /// Takes a part of a header block.
    #[inline]
    pub(super) fn fragment<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        content: &[u8],
        meta: &SegmentMeta,
    ) {
        let side = self.side(direction);
        let Some(frame) = &mut side.framer.frame else { return };
        if frame.is_block_taken {
            return;
        }
        let is_last = frame.content_left_bytes == 0 && frame.head.has(frame::END_HEADERS);
        if side.block.is_none() {
            frame.is_block_taken = is_last;
            let frame = *frame;
            let Some(info) = self.block_info(direction, &frame) else { return };
            if is_last {
                return self.decode(cx, direction, &info, content, false, meta.timestamp);
            }
            let block = OpenBlock::new(info, &mut cx.shared.recorder.pool);
            self.side(direction).block = Some(block);
        }
        self.append(cx, direction, content, meta.timestamp);
    }

    /// Appends to the open block. Beyond the limit, it is cut.
    fn append<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        content: &[u8],
        when: TimestampNs,
    ) {
        let Some(block) = &mut self.sides[direction.index()].block else { return };
        if block.is_cut {
            return;
        }
        let (limits, pool) = (&cx.shared.limits, &mut cx.shared.recorder.pool);
        let room = limits.head_bytes_max.saturating_sub(block.bytes.len());
        pool.extend(&mut block.bytes, &content[..content.len().min(room)]);
        let is_modest = block.bytes.len() < MODEST_BYTES;
        if content.len() > room || pool.held_bytes() > limits.held_share(is_modest) {
            cx.shared.stats.http2.blocks_cut += 1;
            self.cut_block(cx, direction, when);
        }
    }

    /// The rest of the open block is not kept, or was lost: decodes its beginning.
    fn cut_block<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        when: TimestampNs,
    ) {
        let Some(block) = &mut self.side(direction).block else { return };
        if std::mem::replace(&mut block.is_cut, true) {
            return;
        }
        let (info, bytes) = (block.info, std::mem::take(&mut block.bytes));
        self.decode(cx, direction, &info, &bytes, true, when);
        cx.shared.recorder.pool.give_buffer_back(bytes);
    }

    /// The rest of the open block will not come.
    pub(super) fn cut_open_block<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
    ) {
        if let Some(block) = &self.side(direction).block {
            let when = block.info.first.timestamp;
            self.cut_block(cx, direction, when);
        }
        if let Some(block) = self.side(direction).block.take() {
            block.free(&mut cx.shared.recorder.pool);
        }
    }

    /// A part of the header block was lost in the frame in progress. If `is_prefix_hit`, it is not
    /// even known what precedes it.
    pub(super) fn cut_block_in_frame<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        is_prefix_hit: bool,
    ) {
        let side = self.side(direction);
        let Some(frame) = side.framer.frame else { return };
        if frame.is_block_taken {
            return;
        }
        if side.block.is_none() {
            let is_promise_lost = frame.head.kind == FrameKind::PushPromise && is_prefix_hit;
            let info = match is_promise_lost {
                true => None,
                false => self.block_info(direction, &frame),
            };
            let Some(info) = info else {
                let side = self.side(direction);
                side.decoder.lose();
                if let Some(frame) = &mut side.framer.frame {
                    frame.is_block_taken = true;
                }
                return self.note_lost_block(cx);
            };
            let block = OpenBlock::new(info, &mut cx.shared.recorder.pool);
            self.side(direction).block = Some(block);
        }
        let when = frame_time(self.side(direction).framer.first.as_ref());
        self.cut_block(cx, direction, when);
    }

    /// A frame with a part of a header block has passed.
    pub(super) fn end_block_frame<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        frame: &Frame,
        last: Option<TimestampNs>,
    ) {
        let mut info = None;
        if frame.head.kind != FrameKind::Continuation && self.side(direction).block.is_none() {
            info = self.block_info(direction, frame);
            if let (Some(info), false) = (info, frame.is_block_taken) {
                // It has no content, or not even all of what precedes that.
                let mut block = OpenBlock::new(info, &mut cx.shared.recorder.pool);
                block.is_cut = frame.prefix_left > 0;
                if block.is_cut {
                    self.side(direction).decoder.lose();
                }
                self.side(direction).block = Some(block);
            }
        }
        if !frame.head.has(frame::END_HEADERS) {
            return;
        }
        if let Some(mut block) = self.side(direction).block.take() {
            info = Some(block.info);
            if !block.is_cut {
                let bytes = std::mem::take(&mut block.bytes);
                let when = last.unwrap_or(block.info.first.timestamp);
                self.decode(cx, direction, &block.info, &bytes, false, when);
                block.bytes = bytes;
            }
            block.free(&mut cx.shared.recorder.pool);
        }
        if let Some(info) = info.filter(|info| info.is_end_stream) {
            self.end_message(cx, direction, info.stream, last);
        }
    }

    /// Decodes a header block, or if it `is_cut`, the beginning of one. Its last byte came at
    /// `when`.
    pub(super) fn decode<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        info: &BlockInfo,
        bytes: &[u8],
        is_cut: bool,
        when: TimestampNs,
    ) {
        let at = self.streams.find(info.stream);
        let expected = self.expected(cx, direction, info, at);
        let wants_headers = cx.shared.recorder.wants_headers();
        let wants_websockets = cx.shared.recorder.wants_websockets();
        let Scratch { strings, head } = &mut cx.shared.http2;
        head.begin(expected, cx.shared.limits.head_bytes_max, wants_headers);
        head.keep_websocket(wants_websockets);
        let side = &mut self.sides[direction.index()];
        let is_faulty = match is_cut {
            true => {
                side.decoder.cut_block(bytes, strings, |field| head.field(field));
                false
            }
            false => side.decoder.block(bytes, strings, |field| head.field(field)).is_err(),
        };
        head.end(is_cut || is_faulty);
        head.is_conflict |= is_faulty;
        side.count_table(&mut cx.shared.recorder.pool);
        if head.is_cut || head.unknown_count > 0 {
            let stats = &mut cx.shared.stats.http2;
            stats.blocks_faulty += u64::from(is_faulty);
            stats.blocks_cut += u64::from(head.is_cut && !is_cut && !is_faulty);
            stats.fields_unknown += u64::from(head.unknown_count);
            if is_cut || is_faulty {
                self.note_lost_block(cx);
            }
        }
        self.message(cx, direction, info, at, when);
    }

    /// What the header block may be. Its stream is at `at`, if it is open.
    fn expected<S>(
        &self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        info: &BlockInfo,
        at: Option<usize>,
    ) -> Expected {
        let side = &self.sides[direction.index()];
        let is_request = self.is_client(direction);
        if info.is_promise {
            return Expected::Request;
        }
        let is_certain = match at.and_then(|at| self.streams.get(at)) {
            Some(stream) if stream.has_head[direction.index()] => {
                let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
                // What had no known status may have been interim: only a head has one.
                return match !is_request && exchange.response.status == 0 {
                    true => Expected::HeadOrTrailers,
                    false => Expected::Trailers,
                };
            }
            Some(stream) => {
                let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
                let is_seen = exchange.message(is_request).is_seen;
                stream.losses[direction.index()] == side.framer.losses && !is_seen
            }
            None => side.has_all(),
        };
        match is_request {
            _ if !is_certain || !self.is_client_known => Expected::HeadOrTrailers,
            true => Expected::Request,
            false => Expected::Response,
        }
    }
}

fn frame_time(first: Option<&SegmentMeta>) -> TimestampNs {
    first.map_or(TimestampNs(0), |first| first.timestamp)
}
