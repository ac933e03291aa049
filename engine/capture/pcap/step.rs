//! What the two formats have in common: byte order, and the next step in a capture.

use crate::capture::Frame;

/// Size of the longest record that is accepted, its header included. Capture tools write frames of
/// at most 256 KiB; a longer record is damage.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Size of a pcap file header; a pcapng begins with a longer block.
pub(super) const PREFIX_BYTES: usize = 24;

/// The byte order of a capture: that of the machine that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// The 16-bit word at `at`, which must lie in `bytes`.
    #[inline]
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let word = [bytes[at], bytes[at + 1]];
        match self {
            ByteOrder::Little => u16::from_le_bytes(word),
            ByteOrder::Big => u16::from_be_bytes(word),
        }
    }

    /// The 32-bit word at `at`, which must lie in `bytes`.
    #[inline]
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            ByteOrder::Little => u32::from_le_bytes(word),
            ByteOrder::Big => u32::from_be_bytes(word),
        }
    }
}

/// What comes next in a capture, at the first byte of a record.
pub(super) enum Step<'a> {
    /// A frame, and the size of its whole record.
    Frame(Frame<'a>, usize),
    /// No frame. Skip this many bytes, possibly more than are there yet.
    Pass(u64),
    /// The record cannot be read before this many bytes of it are there.
    Need(usize),
    /// The bytes contradict the format.
    Damaged(String),
}

/// The step for a record whose announced length exceeds the maximum.
#[cold]
pub(super) fn too_long(record: &str, bytes: u64) -> Step<'static> {
    Step::Damaged(format!(
        "{record} claims to have {bytes} bytes, more than the maximum of {RECORD_BYTES_MAX}"
    ))
}
