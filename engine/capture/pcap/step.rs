//! What the two formats have in common: byte order, and what stands next in a capture.

use crate::capture::Frame;

/// Bytes of the longest record that is read, its header included. Frames are at most 256 KiB in any
/// file that a capture tool writes; a record beyond this is damage.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes of a pcap file header; a pcapng begins with a longer block.
pub(super) const PREFIX_BYTES: usize = 24;

/// The order of a capture's bytes: that of the machine which wrote it.
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

/// What stands next in a capture, seen from the first byte of a record.
pub(super) enum Step<'a> {
    /// A frame, and how many bytes its whole record takes.
    Frame(Frame<'a>, usize),
    /// No frame; so many bytes are to be passed over, possibly more than are there yet.
    Pass(u64),
    /// The record cannot be read until so many bytes of it are there.
    Need(usize),
    /// What is there contradicts the format.
    Damaged(String),
}

/// The step at a record that says it is longer than any can be.
#[cold]
pub(super) fn too_long(record: &str, bytes: u64) -> Step<'static> {
    Step::Damaged(format!(
        "{record} says that it has {bytes} bytes, and {RECORD_BYTES_MAX} are the most there can be"
    ))
}
