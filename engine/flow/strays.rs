//! [`Strays`]: the last segments of unknown connections that look like text. If a connection is
//! joined a moment later, they may be the rest of its first message, captured before the beginning.

use super::rival::HeldSegment;
use super::stream::JOIN_WINDOW_BYTES;
use crate::decode::{Segment, SeqNumber};
use crate::time::TimestampNs;
use std::collections::VecDeque;

/// The number of segments that are kept, and the payload of each, at most. Enough for what passes
/// in the grace on a busy link, so that it does not matter how many shards there are.
const COUNT_MAX: usize = 256;
const PAYLOAD_BYTES_MAX: usize = 2048;

/// Bytes at the beginning of a payload that are looked at.
const LOOK_BYTES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Strays(VecDeque<HeldSegment>);

impl Strays {
    /// Keeps a segment of an unknown connection, if it may be the rest of a head. What came before
    /// `since` is of no use any more.
    pub fn keep(&mut self, segment: &Segment<'_>, since: TimestampNs) {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
        let begin = &segment.payload[..segment.payload.len().min(LOOK_BYTES)];
        if begin.is_empty()
            || segment.payload.len() > PAYLOAD_BYTES_MAX
            || !begin.iter().all(is_text)
        {
            return;
        }
        let is_old = |stray: &HeldSegment| stray.segment().timestamp < since;
        while self.0.len() == COUNT_MAX || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back(HeldSegment::of(segment));
    }

    /// Removes a segment that continues the one with which a connection is joined, if it came after
    /// `since`.
    pub fn take(&mut self, joined: &Segment<'_>, since: TimestampNs) -> Option<HeldSegment> {
        let end = joined.payload_end();
        let continues =
            |start: SeqNumber| (0..JOIN_WINDOW_BYTES as i32).contains(&start.distance(end));
        let at = self.0.iter().position(|stray| {
            let stray = stray.segment();
            stray.key == joined.key
                && stray.direction == joined.direction
                && stray.timestamp >= since
                && continues(stray.payload_seq())
        })?;
        self.0.remove(at)
    }
}
