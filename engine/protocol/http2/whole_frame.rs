//! The fast path: frames of messages that are whole in a segment, as most are. All others, and
//! these in any other form, are read by [`Http2Connection::piece`], which comes to the same.

use super::connection::Http2Connection;
use super::frame::{self, FrameHead, FrameKind, HEAD_BYTES};
use super::framer::Place;
use super::open_block::BlockInfo;
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::{Context, grpc};
use crate::record::EventSink;

impl Http2Connection {
    /// Takes the frame at the front of `bytes`, if it is whole there, belongs to a message, and is
    /// in the usual form. Returns its length with its head. Otherwise nothing has changed.
    #[inline]
    pub(super) fn whole_frame<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Option<usize> {
        let side = self.side(direction);
        let framer = &side.framer;
        if framer.place != Place::Head || framer.partial_len > 0 || side.block.is_some() {
            return None;
        }
        let (head, behind) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let head = FrameHead::parse(head);
        let content = behind.get(..head.len_bytes as usize)?;
        if head.stream == 0 {
            return None;
        }
        match head.kind {
            FrameKind::Headers => self.whole_headers(cx, direction, &head, content, meta)?,
            FrameKind::Data => self.whole_data(cx, direction, (&head, content), meta)?,
            _ => return None,
        }
        Some(HEAD_BYTES + content.len())
    }

    /// HEADERS with a whole header block.
    #[inline]
    fn whole_headers<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        head: &FrameHead,
        content: &[u8],
        meta: &SegmentMeta,
    ) -> Option<()> {
        let flags = head.flags & (frame::END_HEADERS | frame::PADDED | frame::PRIORITY);
        if flags != frame::END_HEADERS || content.is_empty() {
            return None;
        }
        let info = BlockInfo {
            carrier: head.stream,
            stream: head.stream,
            is_promise: false,
            is_end_stream: head.has(frame::END_STREAM),
            first: *meta,
        };
        self.decode(cx, direction, &info, content, false, meta.timestamp);
        if info.is_end_stream {
            self.end_message(cx, direction, head.stream, Some(meta.timestamp));
        }
        Some(())
    }

    /// DATA of a message whose bytes so far are all known.
    #[inline]
    fn whole_data<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        (head, content): (&FrameHead, &[u8]),
        meta: &SegmentMeta,
    ) -> Option<()> {
        let at = self.streams.find(head.stream)?;
        let (stream, side) = (self.streams.get(at)?, direction.index());
        let has_all = stream.has_head[side] && !stream.may_have_lost(&self.sides, direction);
        if !has_all || head.has(frame::PADDED) || self.talks.has(head.stream) {
            return None;
        }
        let exchange = cx.shared.recorder.pool.exchange(stream.exchange);
        let message = exchange.message_mut(self.is_client(direction));
        if let Some(body_bytes) = &mut message.body_bytes {
            *body_bytes += u64::from(head.len_bytes);
        }
        if exchange.grpc.is_some() {
            let (id, is_request) = (stream.exchange, self.is_client(direction));
            grpc::take_body(&mut cx.shared.recorder.pool, id, is_request, content);
        }
        if head.has(frame::END_STREAM) {
            self.end_message(cx, direction, head.stream, Some(meta.timestamp));
        }
        Some(())
    }
}
