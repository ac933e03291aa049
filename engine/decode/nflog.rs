//! Packets from Linux's netfilter: either logged, as NFLOG records alone or in a netlink message;
//! or queued for a program (NFQUEUE), in netlink messages of the same form.
//! <https://www.tcpdump.org/linktypes/LINKTYPE_NFLOG.html>, `linux/netfilter/nfnetlink_log.h`.

use super::Reject;
use super::cursor::Cursor;
use super::link::{Network, by_version};

/// The attribute that holds the packet, from its IP header on: in a log record, and in a queue
/// message.
const ATTRIBUTE_PAYLOAD: u16 = 9;
const ATTRIBUTE_QUEUE_PAYLOAD: u16 = 10;
/// Maximum number of attributes of one record; there are about 20 kinds.
const ATTRIBUTE_COUNT_MAX: usize = 64;

/// The cooked header of a netlink capture: its length, and the family of netfilter.
const COOKED_BYTES: usize = 16;
const FAMILY_NETFILTER: u16 = 12;
/// Size of a netlink message header.
const MESSAGE_HEADER_BYTES: usize = 16;
/// The subsystem of logging (NFNL_SUBSYS_ULOG) and its message for packets (NFULNL_MSG_PACKET).
const MESSAGE_PACKET: u16 = 4 << 8;
/// The same for queues (NFNL_SUBSYS_QUEUE, NFQNL_MSG_PACKET).
const MESSAGE_QUEUE_PACKET: u16 = 3 << 8;

/// The byte order of numbers: that of the host that logged, which is not recorded.
#[derive(Clone, Copy)]
struct Order {
    is_swapped: bool,
}

impl Order {
    /// The order in which `small` is below 256, as it is known to be.
    fn of(small: u16) -> Order {
        Order { is_swapped: small > 0xff }
    }

    fn u16(self, [a, b]: [u8; 2]) -> u16 {
        let little = u16::from_le_bytes([a, b]);
        if self.is_swapped { little.swap_bytes() } else { little }
    }
}

/// Finds the packet among the attributes of a log record.
pub(super) fn packet(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    payload(cursor, ATTRIBUTE_PAYLOAD)
}

fn payload(cursor: &mut Cursor<'_>, attribute: u16) -> Result<Network, Reject> {
    // Family, version, resource.
    cursor.skip(4)?;
    let mut order = None;
    for _ in 0..ATTRIBUTE_COUNT_MAX {
        let [a, b, c, d] = *cursor.take::<4>()?;
        let order = *order.get_or_insert_with(|| Order::of(u16::from_le_bytes([c, d])));
        let value_bytes = usize::from(order.u16([a, b])).checked_sub(4).ok_or(Reject::BadHeader)?;
        if order.u16([c, d]) == attribute {
            cursor.limit(value_bytes);
            return by_version(cursor);
        }
        cursor.skip(value_bytes.next_multiple_of(4).min(cursor.rest().len()))?;
        if cursor.rest().is_empty() {
            // The packet may be in the part that the snap length cut.
            return Err(if cursor.is_cut() { Reject::Truncated } else { Reject::NotIp });
        }
    }
    Err(Reject::NotIp)
}

/// A netlink message that contains a record. One frame gives one segment: a frame of several
/// messages, as netfilter writes when it batches, is a form of the link that we do not decode.
pub(super) fn netlink(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let cooked = cursor.take::<COOKED_BYTES>()?;
    if u16::from_be_bytes([cooked[14], cooked[15]]) != FAMILY_NETFILTER {
        return Err(Reject::NotIp);
    }
    let header = *cursor.take::<MESSAGE_HEADER_BYTES>()?;
    let little = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    // No message has 16 MiB, so the length reveals the byte order.
    let (length, kind) = if little >> 24 == 0 {
        (little, u16::from_le_bytes([header[4], header[5]]))
    } else {
        (little.swap_bytes(), u16::from_be_bytes([header[4], header[5]]))
    };
    let attribute = match kind {
        MESSAGE_PACKET => ATTRIBUTE_PAYLOAD,
        MESSAGE_QUEUE_PACKET => ATTRIBUTE_QUEUE_PAYLOAD,
        _ => return Err(Reject::NotIp),
    };
    let body_bytes =
        (length as usize).checked_sub(MESSAGE_HEADER_BYTES).ok_or(Reject::BadHeader)?;
    if body_bytes.next_multiple_of(4) + MESSAGE_HEADER_BYTES <= cursor.wire_bytes() {
        return Err(Reject::UnsupportedLink);
    }
    cursor.limit(body_bytes);
    payload(cursor, attribute)
}
