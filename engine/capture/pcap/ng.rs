//! pcapng: sections of typed blocks,
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>.

use super::interface_ids::InterfaceIds;
use super::step::{ByteOrder, RECORD_BYTES_MAX, Step, too_long};
use crate::capture::{Frame, LinkType};
use crate::ids::IfaceId;
use crate::time::TimestampNs;

/// The type of a section header block, the same in both byte orders.
pub(super) const SECTION_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_BLOCK: u32 = 1;
const OBSOLETE_PACKET_BLOCK: u32 = 2;
const SIMPLE_PACKET_BLOCK: u32 = 3;
const ENHANCED_PACKET_BLOCK: u32 = 6;

/// Type, length and trailing length: every block has these, so this is the minimum size of a block.
const BLOCK_BYTES_MIN: usize = 12;
/// The minimum size of a section header block.
const SECTION_BYTES_MIN: u64 = 28;
/// Bytes of an enhanced or obsolete packet block before its data.
const PACKET_HEADER_BYTES: usize = 28;
/// Bytes of an interface description before its options.
const INTERFACE_HEADER_BYTES: usize = 16;
/// Bytes of a simple packet block before its data.
const SIMPLE_HEADER_BYTES: usize = 12;

/// Options of an interface description.
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
/// The resolution of an interface without `if_tsresol`: 10^-6 seconds.
const RESOLUTION_DEFAULT: u8 = 6;

/// Maximum number of interfaces of one section.
const INTERFACE_COUNT_MAX: usize = 1 << 16;
/// Maximum size of an interface description, with its options.
const INTERFACE_BYTES_MAX: usize = 1 << 20;

/// The state of a pcapng between two blocks.
#[derive(Clone, Debug)]
pub(super) struct Ng {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// The last packet's time. A simple packet block has no time and takes this one, so that packet
    /// time does not run backwards.
    last: TimestampNs,
}

/// The content of an interface description block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Interface {
    id: IfaceId,
    link: LinkType,
    /// Maximum number of bytes kept of a frame; 0 means all.
    snap_bytes: u32,
    clock: Clock,
}

/// How to convert the 64-bit time of a packet to nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Clock {
    tick: Tick,
    offset_ns: i64,
}

/// The length of one unit of time, by how it is converted without a wide division.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tick {
    /// This many nanoseconds.
    Nanoseconds(u64),
    /// This many units make a nanosecond.
    PerNanosecond(u64),
    /// 2 to the power of minus this, in seconds.
    PowerOfTwo(u32),
}

/// The byte order of the section whose header begins with `bytes`; `None` if it is no section
/// header.
pub(super) fn section_order(bytes: &[u8]) -> Option<ByteOrder> {
    let head = bytes.first_chunk::<12>()?;
    [ByteOrder::Little, ByteOrder::Big]
        .into_iter()
        .find(|order| order.u32(head, 8) == BYTE_ORDER_MAGIC)
}

impl Clock {
    /// From the options `if_tsresol` and `if_tsoffset` (seconds).
    fn new(resolution: u8, offset_seconds: i64) -> Clock {
        let exponent = u32::from(resolution & 0x7f);
        let tick = if resolution & 0x80 != 0 {
            Tick::PowerOfTwo(exponent)
        } else if exponent <= 9 {
            Tick::Nanoseconds(10u64.pow(9 - exponent))
        } else {
            // With more than 10^19 units per nanosecond, no 64-bit time amounts to one nanosecond.
            10u64.checked_pow(exponent - 9).map_or(Tick::PowerOfTwo(127), Tick::PerNanosecond)
        };
        Clock { tick, offset_ns: offset_seconds.saturating_mul(1_000_000_000) }
    }

    #[inline]
    fn timestamp(self, ticks: u64) -> TimestampNs {
        let ns = match self.tick {
            Tick::Nanoseconds(ns) => ticks.saturating_mul(ns),
            Tick::PerNanosecond(count) => ticks / count,
            Tick::PowerOfTwo(exponent) => {
                let ns = (u128::from(ticks) * 1_000_000_000) >> exponent;
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        };
        TimestampNs(ns.saturating_add_signed(self.offset_ns))
    }
}

impl Ng {
    /// The state before the first section header, whose byte order is `order`.
    pub(super) fn new(order: ByteOrder) -> Ng {
        Ng { order, interfaces: Vec::new(), last: TimestampNs(0) }
    }

    /// Continues a capture whose last packet had this time.
    pub(super) fn continue_from(&mut self, last: TimestampNs) {
        self.last = last;
    }

    /// The block at the front of `bytes`. Options of packets are ignored.
    #[inline]
    pub(super) fn step<'a>(&mut self, bytes: &'a [u8], ids: &mut InterfaceIds) -> Step<'a> {
        let Some(head) = bytes.first_chunk::<BLOCK_BYTES_MIN>() else {
            return Step::Need(BLOCK_BYTES_MIN);
        };
        if head[..4] == SECTION_MAGIC {
            return self.section(bytes);
        }
        let kind = self.order.u32(head, 0);
        match kind {
            ENHANCED_PACKET_BLOCK | OBSOLETE_PACKET_BLOCK => {
                let step = self.packet_at(kind, bytes);
                if let Step::Frame(frame, _) = &step {
                    self.last = frame.timestamp;
                }
                step
            }
            SIMPLE_PACKET_BLOCK => match whole_block(bytes, self.order, RECORD_BYTES_MAX) {
                Ok(block) => self.simple_packet(block),
                Err(step) => step,
            },
            INTERFACE_BLOCK => match whole_block(bytes, self.order, INTERFACE_BYTES_MAX) {
                Ok(block) => self.interface(block, ids),
                Err(step) => step,
            },
            // A block of an unknown type may be longer than any record we keep, so it is skipped.
            _ => match block_bytes(head, self.order) {
                Ok(total) => Step::Pass(total),
                Err(step) => step,
            },
        }
    }

    /// The packet block at the front of `bytes`, if a valid one is there. The state between two
    /// blocks does not change.
    #[inline]
    pub(super) fn ahead<'a>(&self, bytes: &'a [u8]) -> Option<(Frame<'a>, usize)> {
        let kind = self.order.u32(bytes.first_chunk::<4>()?, 0);
        if kind != ENHANCED_PACKET_BLOCK {
            return None;
        }
        match self.packet_at(kind, bytes) {
            Step::Frame(frame, block_bytes) => Some((frame, block_bytes)),
            _ => None,
        }
    }

    /// The same as [`Ng::step`], of a block that can be read without knowing the packet before it,
    /// and that changes nothing for those behind it. `None` of other blocks.
    #[inline]
    pub(super) fn stateless_step<'a>(&self, bytes: &'a [u8]) -> Option<Step<'a>> {
        let Some(head) = bytes.first_chunk::<BLOCK_BYTES_MIN>() else {
            return Some(Step::Need(BLOCK_BYTES_MIN));
        };
        if head[..4] == SECTION_MAGIC {
            return None;
        }
        match self.order.u32(head, 0) {
            INTERFACE_BLOCK | SIMPLE_PACKET_BLOCK => None,
            kind @ (ENHANCED_PACKET_BLOCK | OBSOLETE_PACKET_BLOCK) => {
                Some(self.packet_at(kind, bytes))
            }
            _ => Some(block_bytes(head, self.order).map_or_else(|step| step, Step::Pass)),
        }
    }

    /// Whether blocks are read as with `other`, apart from simple packet blocks.
    pub(super) fn reads_as(&self, other: &Ng) -> bool {
        self.order == other.order && self.interfaces == other.interfaces
    }

    /// Whether packets can be read.
    pub(super) fn has_interface(&self) -> bool {
        !self.interfaces.is_empty()
    }

    /// The byte order of this section.
    pub(super) fn order(&self) -> ByteOrder {
        self.order
    }

    /// The size of the block at the front of `bytes`, if its two lengths are equal.
    pub(super) fn likely_block_bytes(&self, bytes: &[u8]) -> Option<usize> {
        whole_block(bytes, self.order, RECORD_BYTES_MAX).ok().map(<[u8]>::len)
    }

    /// The packet block of `kind` at the front of `bytes`.
    #[inline]
    fn packet_at<'a>(&self, kind: u32, bytes: &'a [u8]) -> Step<'a> {
        match whole_block(bytes, self.order, RECORD_BYTES_MAX) {
            Ok(block) => self.packet(kind, block),
            Err(step) => step,
        }
    }

    /// A new section: it has its own byte order, and none of the interfaces before.
    fn section<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        let Some(order) = section_order(bytes) else {
            return Step::Damaged("a section does not specify its byte order".into());
        };
        let block = match whole_block(bytes, order, RECORD_BYTES_MAX) {
            Ok(block) => block,
            Err(step) => return step,
        };
        if (block.len() as u64) < SECTION_BYTES_MIN {
            return Step::Damaged(format!("a section header has only {} bytes", block.len()));
        }
        let (major, minor) = (order.u16(block, 12), order.u16(block, 14));
        if major != 1 {
            return Step::Damaged(format!(
                "a section has version {major}.{minor}, but only 1.x is supported"
            ));
        }
        self.order = order;
        self.interfaces.clear();
        Step::Pass(block.len() as u64)
    }

    /// An interface of this section. Interfaces are numbered in the order of their descriptions.
    fn interface<'a>(&mut self, block: &'a [u8], ids: &mut InterfaceIds) -> Step<'a> {
        let Some(options) = block.get(INTERFACE_HEADER_BYTES..block.len() - 4) else {
            return Step::Damaged("an interface description cannot be read".into());
        };
        let options = Options { order: self.order, rest: options };
        if self.interfaces.len() >= INTERFACE_COUNT_MAX {
            return Step::Damaged(format!(
                "a section has more than {INTERFACE_COUNT_MAX} interfaces"
            ));
        }
        let offset_seconds = options
            .of(IF_TSOFFSET)
            .next()
            .and_then(|value| <[u8; 8]>::try_from(value).ok())
            .map_or(0, |value| match self.order {
                ByteOrder::Little => i64::from_le_bytes(value),
                ByteOrder::Big => i64::from_be_bytes(value),
            });
        let resolution = options.of(IF_TSRESOL).filter_map(|value| value.first()).last();
        let resolution = resolution.copied().unwrap_or(RESOLUTION_DEFAULT);
        self.interfaces.push(Interface {
            id: ids.of(options.of(IF_NAME).next().unwrap_or_default()),
            link: LinkType::from_file(self.order.u16(block, 8)),
            snap_bytes: self.order.u32(block, 12),
            clock: Clock::new(resolution, offset_seconds),
        });
        Step::Pass(block.len() as u64)
    }

    /// An enhanced packet block, or the obsolete one: they differ in the width of the interface
    /// number.
    #[inline]
    fn packet<'a>(&self, kind: u32, block: &'a [u8]) -> Step<'a> {
        let Some(rest) = block.get(PACKET_HEADER_BYTES..block.len() - 4) else {
            return Step::Damaged(format!("a packet block has only {} bytes", block.len()));
        };
        let head = &block[..PACKET_HEADER_BYTES];
        let number = match kind {
            ENHANCED_PACKET_BLOCK => self.order.u32(head, 8) as usize,
            _ => self.order.u16(head, 8).into(),
        };
        let Some(interface) = self.interfaces.get(number) else {
            return Step::Damaged(format!(
                "a packet belongs to interface {number}, which is not described"
            ));
        };
        let captured = self.order.u32(head, 20);
        let Some(data) = rest.get(..captured as usize) else {
            return Step::Damaged(format!(
                "a packet claims to have {captured} bytes, in a block of {}",
                block.len()
            ));
        };
        let (high, low) = (self.order.u32(head, 12), self.order.u32(head, 16));
        let ticks = u64::from(high) << 32 | u64::from(low);
        let frame = Frame {
            bytes: data,
            wire_bytes: self.order.u32(head, 24).max(captured),
            timestamp: interface.clock.timestamp(ticks),
            link: interface.link,
            vlan: None,
            iface: interface.id,
            is_checksum_trusted: false,
        };
        Step::Frame(frame, block.len())
    }

    /// A simple packet block: interface 0, no time, and the length is limited by the snap length.
    fn simple_packet<'a>(&mut self, block: &'a [u8]) -> Step<'a> {
        let Some(interface) = self.interfaces.first() else {
            return Step::Damaged("a simple packet comes before any interface description".into());
        };
        let Some(data) = block.get(SIMPLE_HEADER_BYTES..block.len() - 4) else {
            return Step::Damaged(format!("a simple packet block has only {} bytes", block.len()));
        };
        let wire_bytes = self.order.u32(block, 8);
        let captured = match interface.snap_bytes {
            0 => wire_bytes,
            snap_bytes => wire_bytes.min(snap_bytes),
        };
        let data = &data[..data.len().min(captured as usize)];
        let frame = Frame {
            bytes: data,
            wire_bytes,
            timestamp: self.last,
            link: interface.link,
            vlan: None,
            iface: interface.id,
            is_checksum_trusted: false,
        };
        Step::Frame(frame, block.len())
    }
}

/// The announced length of a block, if blocks can be that long.
#[inline]
fn block_bytes(head: &[u8; BLOCK_BYTES_MIN], order: ByteOrder) -> Result<u64, Step<'static>> {
    let total = order.u32(head, 4);
    if (total as usize) < BLOCK_BYTES_MIN || !total.is_multiple_of(4) {
        return Err(Step::Damaged(format!("a block claims to have {total} bytes")));
    }
    Ok(total.into())
}

/// The whole block at the front of `bytes`, if its two lengths are equal and at most `bytes_max`;
/// or else the step to take.
#[inline]
fn whole_block(bytes: &[u8], order: ByteOrder, bytes_max: usize) -> Result<&[u8], Step<'static>> {
    let Some(head) = bytes.first_chunk::<BLOCK_BYTES_MIN>() else {
        return Err(Step::Need(BLOCK_BYTES_MIN));
    };
    let total = block_bytes(head, order)?;
    if total > bytes_max as u64 {
        return Err(too_long("a block", total));
    }
    let total = total as usize;
    let Some(block) = bytes.get(..total) else {
        return Err(Step::Need(total));
    };
    let trailer = order.u32(block, total - 4);
    if trailer as usize != total {
        return Err(Step::Damaged(format!(
            "a block gives its length as {total} bytes in front and {trailer} at its end"
        )));
    }
    Ok(block)
}

/// The options at the end of a block. Each is a code, a length, a value of that length, and padding
/// to a multiple of four.
#[derive(Clone, Copy, Debug)]
struct Options<'a> {
    order: ByteOrder,
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    /// The values of the options with `code`, in order.
    fn of(self, code: u16) -> impl Iterator<Item = &'a [u8]> {
        self.filter(move |(theirs, _)| *theirs == code).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    /// The code and the value of the next option. An option that does not fit ends the list, as the
    /// end-of-options code does.
    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        const END: u16 = 0;
        let (head, rest) = self.rest.split_first_chunk::<4>()?;
        let (code, bytes) = (self.order.u16(head, 0), usize::from(self.order.u16(head, 2)));
        let (padded, rest) = rest.split_at_checked(bytes.next_multiple_of(4))?;
        self.rest = rest;
        (code != END).then(|| (code, &padded[..bytes]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let options = Options { order: ByteOrder::Big, rest };
        options.map(|(code, value)| (code, value.to_vec())).collect()
    }

    #[test]
    fn options_are_padded_and_end() {
        let two = b"\0\x02\0\x04eth0\0\x09\0\x01\x09\0\0\0";
        let read = vec![(2, b"eth0".to_vec()), (9, vec![9])];
        assert_eq!(options(two), read);
        let behind_the_end = [&two[..], b"\0\0\0\0", two].concat();
        assert_eq!(options(&behind_the_end), read);
        assert_eq!(options(&[]), []);
        // An incomplete header; a missing value; and a value without its padding.
        for torn in [&b"\0\x02\0"[..], b"\0\x02\xff\xffeth0", b"\0\x02\0\x05eth01"] {
            assert_eq!(options(&[&two[..], torn].concat()), read, "{torn:?}");
            assert_eq!(options(torn), [], "{torn:?}");
        }
    }

    proptest! {
        /// Any bytes: no panic, and no value beyond the input.
        #[test]
        fn any_bytes_are_options(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let taken: usize = options(&bytes).iter().map(|(_, value)| 4 + value.len()).sum();
            prop_assert!(taken <= bytes.len());
        }

        /// Written options are read back.
        #[test]
        fn options_are_read_back(
            written in proptest::collection::vec(
                (1u16.., proptest::collection::vec(any::<u8>(), 0..20)),
                0..8,
            ),
        ) {
            let mut bytes = Vec::new();
            for (code, value) in &written {
                bytes.extend(code.to_be_bytes());
                bytes.extend((value.len() as u16).to_be_bytes());
                bytes.extend(value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            prop_assert_eq!(options(&bytes), written);
        }
    }
}
