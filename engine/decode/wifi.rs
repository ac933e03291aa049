//! 802.11 data frames (IEEE 802.11-2020 section 9.3.2), bare or after a header from the driver.

use super::Reject;
use super::cursor::Cursor;
use super::link::{Network, llc};

/// Bits of the first byte of the frame control field: version 0 and the type of data frames.
const VERSION_TYPE_MASK: u8 = 0x0f;
const DATA: u8 = 0x08;
/// Subtype bits: the frame has no data; it has a QoS control field.
const NO_DATA: u8 = 0x40;
const QOS: u8 = 0x80;
/// Bits of the second byte.
const TO_AND_FROM_DS: u8 = 0x03;
const MORE_FRAGMENTS: u8 = 0x04;
const PROTECTED: u8 = 0x40;
const ORDER: u8 = 0x80;
/// Bit of the QoS control field's first byte: several MSDUs follow, each with a header of its own.
const AGGREGATED: u8 = 0x80;

/// Whether the driver inserted bytes between header and body to align the body to a multiple of 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Padding {
    None,
    ToWords,
}

/// Bits of radiotap's presence words and of its flags: <https://www.radiotap.org>.
const PRESENT_TSFT: u32 = 1 << 0;
const PRESENT_FLAGS: u32 = 1 << 1;
const PRESENT_MORE: u32 = 1 << 31;
const FLAG_PADDED: u8 = 0x20;
/// Maximum number of presence words of one header; each antenna adds one.
const PRESENT_COUNT_MAX: usize = 32;

/// Skips a radiotap header (little-endian), then the frame's own.
pub(super) fn radiotap(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let header = cursor.rest();
    let [version, _, low, high] = *cursor.take::<4>()?;
    let header_bytes = usize::from(u16::from_le_bytes([low, high]));
    if version != 0 || header_bytes < 8 {
        return Err(Reject::BadHeader);
    }
    let mut first = None;
    let mut words = 0;
    loop {
        let present = u32::from_le_bytes(*cursor.take()?);
        first.get_or_insert(present);
        words += 1;
        if present & PRESENT_MORE == 0 {
            break;
        }
        if words == PRESENT_COUNT_MAX {
            return Err(Reject::TooDeep);
        }
    }
    // Fields follow in the order of their bits, each aligned to its size; the time has 8 bytes.
    let fields = 4 + 4 * words;
    let first = first.unwrap_or_default();
    let flags_at = if first & PRESENT_TSFT != 0 { fields.next_multiple_of(8) + 8 } else { fields };
    let is_padded = first & PRESENT_FLAGS != 0
        && header.get(flags_at).is_some_and(|flags| flags & FLAG_PADDED != 0);
    cursor.skip(header_bytes.checked_sub(fields).ok_or(Reject::BadHeader)?)?;
    data(cursor, if is_padded { Padding::ToWords } else { Padding::None })
}

/// The magic of an AVS header, without its version; it has network byte order.
const AVS_MAGIC: u32 = 0x8021_1000;
const AVS_MAGIC_MASK: u32 = 0xffff_f000;

/// Skips a header of Prism or of AVS, which both begin with a type and a length, then the frame's
/// own. Prism's is in the byte order of the host; the length is small, so it reveals the order.
pub(super) fn prism(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let kind = cursor.u32()?;
    let length = cursor.u32()?;
    let is_avs = kind & AVS_MAGIC_MASK == AVS_MAGIC;
    let length = if is_avs || length <= 0xffff { length } else { length.swap_bytes() };
    cursor.skip((length as usize).checked_sub(8).ok_or(Reject::BadHeader)?)?;
    data(cursor, Padding::None)
}

/// Skips the header of a data frame, then LLC and SNAP.
///
/// Encrypted frames have a reason of their own. Frames with several MSDUs, or with a part of one,
/// are counted as forms of the link that we do not decode: drivers pass up whole, single ones.
pub(super) fn data(cursor: &mut Cursor<'_>, padding: Padding) -> Result<Network, Reject> {
    let start_bytes = cursor.rest().len();
    // Frame control, duration, three addresses, sequence control.
    let header = cursor.take::<24>()?;
    let [control, flags] = [header[0], header[1]];
    if control & VERSION_TYPE_MASK != DATA || control & NO_DATA != 0 {
        return Err(Reject::NotIp);
    }
    if flags & PROTECTED != 0 {
        return Err(Reject::Encrypted);
    }
    let fragment_number = header[22] & 0x0f;
    if flags & MORE_FRAGMENTS != 0 || fragment_number != 0 {
        return Err(Reject::UnsupportedLink);
    }
    if flags & TO_AND_FROM_DS == TO_AND_FROM_DS {
        cursor.skip(6)?;
    }
    if control & QOS != 0 {
        let [qos, _] = *cursor.take::<2>()?;
        if qos & AGGREGATED != 0 {
            return Err(Reject::UnsupportedLink);
        }
        if flags & ORDER != 0 {
            // The HT control field.
            cursor.skip(4)?;
        }
    }
    if padding == Padding::ToWords {
        let header_bytes = start_bytes - cursor.rest().len();
        cursor.skip(header_bytes.next_multiple_of(4) - header_bytes)?;
    }
    llc(cursor)
}
