//! [`ConnectionError`]: bytes that are no frame, where a frame must begin. An endpoint that reads
//! them closes the connection (RFC 9113 section 5.4.1). If the connection goes on, and nothing of
//! it was lost, it does not speak HTTP/2, whatever its first bytes were.

use super::connection::Http2Connection;
use super::frame::HEAD_BYTES;
use super::framer::Place;
use super::side::Side;
use crate::decode::SeqNumber;
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::first_bytes::FirstBytes;
use crate::protocol::{Copied, Interest};

/// More than this does not follow by mistake: in both directions together, without those of a
/// direction that still has frames.
const BYTES_BEHIND_MAX: u32 = 16 << 10;

/// What shows that the connection does not speak HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionError {
    /// What should have been a part of the preface, or the head of a frame.
    first: FirstBytes,
    /// Bytes that have passed since, without a frame.
    bytes_behind: u32,
}

impl Http2Connection {
    /// The next bytes of a direction begin with `wrong`, which ends `behind_bytes` before the
    /// segment does.
    #[cold]
    pub(super) fn note_error(
        &mut self,
        direction: Direction,
        (wrong, behind_bytes): (&[u8], usize),
        meta: &SegmentMeta,
    ) {
        // After a loss, they need not be where a frame begins, or the peer may have allowed them.
        if !self.sides.iter().any(Side::has_lost) {
            let until_end = (wrong.len() + behind_bytes) as u32;
            let seq = SeqNumber(self.segment_end.0.wrapping_sub(until_end));
            let first = FirstBytes::of(direction, wrong, &SegmentMeta { seq, ..*meta });
            self.error = Some(ConnectionError { first, bytes_behind: 0 });
        }
    }

    /// The same for the head of a frame, of which the last `used` bytes are at the front of `rest`.
    #[cold]
    pub(super) fn note_wrong_head(
        &mut self,
        direction: Direction,
        (rest, used): (&[u8], usize),
        meta: &SegmentMeta,
    ) {
        let partial = self.framer(direction).partial;
        let head = if used == HEAD_BYTES { &rest[..used] } else { &partial };
        self.note_error(direction, (head, rest.len() - used), meta);
    }

    /// `len_bytes` of a direction have passed.
    #[cold]
    pub(super) fn count_behind_error(&mut self, direction: Direction, len_bytes: usize) {
        let is_lost = matches!(self.framer(direction).place, Place::Search | Place::Trial);
        if let Some(error) = self.error.as_mut().filter(|_| is_lost) {
            error.bytes_behind = error.bytes_behind.saturating_add(len_bytes as u32);
        }
    }

    /// Takes another copy of bytes.
    pub fn copy(&mut self, direction: Direction, bytes: &[u8], meta: &SegmentMeta) -> Copied {
        // The receiver may have read this copy, and no error.
        self.error.take_if(|error| error.first.differ_from(direction, bytes, meta));
        self.opening.copy(direction, bytes, meta)
    }

    /// What is still wanted of it.
    pub fn interest(&self) -> Interest {
        match self.error {
            _ if !self.is_believed => Interest::Undecided,
            Some(error) if error.bytes_behind > BYTES_BEHIND_MAX => Interest::Dormant,
            _ => Interest::Wanted,
        }
    }

    /// The direction of the bytes that are no frame, and the position behind them.
    pub fn evidence(&self) -> Option<(Direction, SeqNumber)> {
        self.error.map(|error| error.first.end())
    }
}
