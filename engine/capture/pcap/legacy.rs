//! pcap, the format of libpcap since 1998.

use super::error::CaptureOpenError;
use super::step::{ByteOrder, PREFIX_BYTES, RECORD_BYTES_MAX, Step, too_long};
use crate::capture::{Frame, LinkType};
use crate::ids::IfaceId;
use crate::time::TimestampNs;

/// Microseconds.
const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
/// Nanoseconds.
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
/// Kuznetzov's: microseconds, and 8 more bytes in each record header (ifindex, protocol, packet
/// type).
const MAGIC_MODIFIED: u32 = 0xa1b2_cd34;

/// Size of the part of a record header that every kind of pcap has.
const RECORD_HEADER_BYTES: usize = 16;

/// Capture tools write no longer frames.
const LIKELY_BYTES_MAX: u32 = 256 << 10;

/// The fields of the file header that apply to all records.
#[derive(Clone, Debug)]
pub(super) struct Legacy {
    order: ByteOrder,
    /// Nanoseconds per unit of a record's second time word.
    unit_ns: u64,
    record_header_bytes: usize,
    link: LinkType,
    iface: IfaceId,
}

/// The magic word and byte order of a capture that begins with `prefix`.
fn magic(prefix: &[u8]) -> Option<(u32, ByteOrder)> {
    let word = prefix.first_chunk::<4>()?;
    [ByteOrder::Little, ByteOrder::Big].into_iter().find_map(|order| {
        let magic = order.u32(word, 0);
        matches!(magic, MAGIC_MICRO | MAGIC_NANO | MAGIC_MODIFIED).then_some((magic, order))
    })
}

impl Legacy {
    /// Whether a capture that begins with `prefix` is a pcap.
    pub(super) fn is_magic(prefix: &[u8]) -> bool {
        magic(prefix).is_some()
    }

    /// Reads the file header. Errors call the capture `input`.
    pub(super) fn parse(prefix: &[u8], input: String) -> Result<Legacy, CaptureOpenError> {
        let Some((magic, order)) = magic(prefix) else {
            return Err(CaptureOpenError::NotACapture { input });
        };
        let Some(header) = prefix.first_chunk::<PREFIX_BYTES>() else {
            return Err(CaptureOpenError::HeaderCut { input });
        };
        let (major, minor) = (order.u16(header, 4), order.u16(header, 6));
        if major != 2 {
            return Err(CaptureOpenError::Version { input, format: "pcap", major, minor });
        }
        // The snap length of the header is ignored: writers leave 0 or nonsense there.
        Ok(Legacy {
            order,
            unit_ns: if magic == MAGIC_NANO { 1 } else { 1_000 },
            record_header_bytes: RECORD_HEADER_BYTES + if magic == MAGIC_MODIFIED { 8 } else { 0 },
            link: LinkType::from_file((order.u32(header, 20) & 0xffff) as u16),
            iface: IfaceId(0),
        })
    }

    /// Its frames belong to the interface `iface`: a pcap tells nothing about interfaces.
    pub(super) fn set_iface(&mut self, iface: IfaceId) {
        self.iface = iface;
    }

    /// The byte order of its headers.
    pub(super) fn order(&self) -> ByteOrder {
        self.order
    }

    /// The size of the record at the front of `bytes`, which need not be whole, if its header makes
    /// sense and the high byte of its seconds is `time_byte`.
    pub(super) fn likely_record_bytes(&self, bytes: &[u8], time_byte: u8) -> Option<usize> {
        let head = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        let is_likely = self.order.u32(head, 0) >> 24 == u32::from(time_byte)
            && u64::from(self.order.u32(head, 4)) * self.unit_ns < 1_000_000_000
            && self.order.u32(head, 8) <= LIKELY_BYTES_MAX;
        is_likely.then(|| self.record_header_bytes + self.order.u32(head, 8) as usize)
    }

    /// The record at the front of `bytes`. An impossible length is damage, and its bytes are not
    /// waited for.
    #[inline(always)]
    pub(super) fn step<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        let Some(head) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
            return Step::Need(self.record_header_bytes);
        };
        let captured = self.order.u32(head, 8) as usize;
        let record_bytes = self.record_header_bytes + captured;
        if record_bytes > RECORD_BYTES_MAX {
            return too_long("a record", record_bytes as u64);
        }
        let Some(data) = bytes.get(self.record_header_bytes..record_bytes) else {
            return Step::Need(record_bytes);
        };
        let seconds = u64::from(self.order.u32(head, 0));
        let fraction_ns = u64::from(self.order.u32(head, 4)) * self.unit_ns;
        let frame = Frame {
            bytes: data,
            wire_bytes: self.order.u32(head, 12).max(captured as u32),
            timestamp: TimestampNs::from_parts(seconds, fraction_ns),
            link: self.link,
            vlan: None,
            iface: self.iface,
            is_checksum_trusted: false,
        };
        Step::Frame(frame, record_bytes)
    }
}
