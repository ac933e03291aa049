//! Guessing where a record begins in the middle of a file: where several records in a row make
//! sense. A wrong guess costs time and nothing else, since every guess is checked afterwards.

use crate::capture::pcap::format::Format;
use crate::capture::pcap::step::ByteOrder;
use crate::simd::equal_to_in_64;
use crate::time::TimestampNs;
use std::ops::Range;

/// How many records in a row must make sense, or all up to the end of the file.
const CHAIN_COUNT: usize = 8;

/// The size of a block that is searched at once.
const BLOCK_BYTES: usize = 64;

/// Three bytes of a record header that are known: how far each is behind the header's first byte,
/// and its value.
type Marks = [(usize, u8); 3];

/// The first byte of `range` where records of `map`, a capture in `format`, may begin. `time` is
/// that of a frame before.
pub(in crate::capture::pcap) fn begin(
    map: &[u8],
    range: Range<usize>,
    format: &Format,
    time: TimestampNs,
) -> Option<usize> {
    let high = time_byte(time);
    let (marks, align) = match format {
        // The high bytes of the seconds, and of both lengths.
        Format::Legacy(legacy) => match legacy.order() {
            ByteOrder::Little => ([(3, high), (11, 0), (15, 0)], 1),
            ByteOrder::Big => ([(0, high), (8, 0), (12, 0)], 1),
        },
        // Bytes of the type, and the high byte of the length of an enhanced packet block.
        Format::Ng(ng) => match ng.order() {
            ByteOrder::Little => ([(0, 6), (3, 0), (7, 0)], 4),
            ByteOrder::Big => ([(3, 6), (0, 0), (4, 0)], 4),
        },
    };
    let mut at = range.start.next_multiple_of(align);
    while at < range.end {
        let mut candidates = marked(map.get(at..)?, &marks);
        while candidates != 0 {
            let candidate = at + candidates.trailing_zeros() as usize;
            let is_possible = candidate < range.end && candidate.is_multiple_of(align);
            if is_possible && is_chain(map, candidate, format, high) {
                return Some(candidate);
            }
            candidates &= candidates - 1;
        }
        at += BLOCK_BYTES;
    }
    None
}

/// The high byte of the seconds. It is the same for 194 days.
fn time_byte(time: TimestampNs) -> u8 {
    ((time.0 / 1_000_000_000) >> 24) as u8
}

/// At which of the first 64 bytes all `marks` are right; a lower bit is for an earlier byte.
fn marked(bytes: &[u8], marks: &Marks) -> u64 {
    marks.iter().fold(u64::MAX, |found, (behind, value)| {
        let rest = bytes.get(*behind..).unwrap_or_default();
        found
            & match rest.first_chunk::<BLOCK_BYTES>() {
                Some(block) => equal_to_in_64(block, *value),
                None => {
                    let equal = rest.iter().enumerate().filter(|(_, byte)| *byte == value);
                    equal.fold(0, |mask, (place, _)| mask | 1 << place)
                }
            }
    })
}

/// Whether the records from byte `at` on make sense.
fn is_chain(map: &[u8], mut at: usize, format: &Format, time_byte: u8) -> bool {
    for _ in 0..CHAIN_COUNT {
        let Some(bytes) = map.get(at..) else { return false };
        if bytes.is_empty() {
            return true;
        }
        let record_bytes = match format {
            Format::Legacy(legacy) => legacy.likely_record_bytes(bytes, time_byte),
            Format::Ng(ng) => ng.likely_block_bytes(bytes),
        };
        let Some(record_bytes) = record_bytes else { return false };
        at += record_bytes;
    }
    true
}
