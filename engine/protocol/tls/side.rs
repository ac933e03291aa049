//! [`Side`]: one direction of a connection of TLS. [`Message`]: a message of the handshake.

use super::records::Records;
use crate::flow::{COUNTED_BYTES, End};
use crate::time::TimestampNs;

/// The first bytes of a direction, which are read: those that the kernel filter lets through.
pub(super) const READ_BYTES_MAX: usize = COUNTED_BYTES as usize;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub records: Records,
    /// Bytes of this direction so far.
    pub passed_bytes: u64,
    /// When what closes it passed.
    pub closed_at: Option<TimestampNs>,
    /// The beginning of a message of the handshake.
    buffer: Vec<u8>,
    /// The level of an alert whose description is to come.
    alert_level: Option<u8>,
    /// What follows is encrypted, or is not needed.
    pub is_opaque: bool,
    /// Messages of the handshake were lost.
    pub is_broken: bool,
    /// The Finished has passed (up to TLS 1.2).
    pub is_finished: bool,
    /// Its sender closed it.
    pub is_closed: bool,
}

impl Side {
    /// `len_bytes` pass. Returns how many bytes of those that are read there were still to come.
    pub fn pass(&mut self, len_bytes: u64) -> usize {
        let room = (READ_BYTES_MAX as u64).saturating_sub(self.passed_bytes);
        self.passed_bytes = self.passed_bytes.saturating_add(len_bytes);
        room as usize
    }

    /// All bytes of this direction, if it is known where it ended: where its sender closed it, or
    /// reset it early. (Later a reset may be forged, and what the filter keeps is not counted.)
    pub fn length(&self, end: End) -> Option<u64> {
        let is_early = self.passed_bytes < READ_BYTES_MAX as u64 / 2;
        let is_reset = end == End::Rst && self.closed_at.is_some() && is_early;
        (self.is_closed || is_reset).then_some(self.passed_bytes)
    }

    /// Takes content of an alert. Returns level and description once both are there.
    pub fn alert(&mut self, content: &[u8]) -> Option<[u8; 2]> {
        let mut alert = None;
        for byte in content {
            match self.alert_level.take() {
                None => self.alert_level = Some(*byte),
                Some(level) => alert = alert.or(Some([level, *byte])),
            }
        }
        alert
    }

    /// The memory of the message in progress.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The message in progress.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// The message in progress, again.
    pub fn put_buffer(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }
}

/// A message of the handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub kind: u8,
    /// The length of the body on the wire.
    pub len: usize,
    pub body: &'a [u8],
    /// Nothing of the body is missing.
    pub is_whole: bool,
}

impl<'a> Message<'a> {
    /// The length of its head.
    pub const HEAD_BYTES: usize = 4;

    /// Whether there are messages of this kind (TLS HandshakeType of IANA).
    pub fn is_known(kind: u8) -> bool {
        matches!(kind, 0..=6 | 8 | 11..=16 | 20..=26 | 67 | 254)
    }

    /// Kind and body of the message at the front of `bytes`, if all of it is there.
    pub fn whole(bytes: &'a [u8]) -> Option<(u8, &'a [u8])> {
        let (kind, len, body) = Message::cut(bytes)?;
        Message::is_known(kind).then_some(())?;
        Some((kind, body.get(..len)?))
    }

    /// Kind, length and what there is of the body.
    pub fn cut(bytes: &'a [u8]) -> Option<(u8, usize, &'a [u8])> {
        let ([kind, high, middle, low], body) = bytes.split_first_chunk()?;
        let len = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        Some((*kind, len, body))
    }
}
