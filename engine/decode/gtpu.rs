//! GTP-U, the user plane of mobile networks (3GPP TS 29.281 section 5).

use super::Reject;
use super::cursor::Cursor;
use super::link::{Network, by_version};
use super::tunnel::Encapsulation;

/// Fields of the flags: version 1 and the protocol type of GTP, and the presence of optional
/// fields.
const VERSION_TYPE_MASK: u8 = 0xf0;
const VERSION_ONE_GTP: u8 = 0x30;
const HAS_EXTENSION: u8 = 0x04;
const HAS_OPTIONAL: u8 = 0x07;
/// The message that carries a user's packet.
const G_PDU: u8 = 255;
/// Maximum number of extension headers of one packet; the standard knows about ten kinds.
const EXTENSION_COUNT_MAX: usize = 16;

/// Skips the header of a user's packet and its extension headers. Other messages are not TCP, and
/// neither are payloads that do not begin like IP: a session may carry Ethernet, and only its
/// signalling would show that.
pub(super) fn network_of(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let [flags, message, high, low, a, b, c, d] = *cursor.take::<8>()?;
    if flags & VERSION_TYPE_MASK != VERSION_ONE_GTP || message != G_PDU {
        return Err(Reject::NotTcp);
    }
    // An offloaded superpacket's length does not fit; the IP header has it then.
    match u16::from_be_bytes([high, low]) {
        0 => {}
        length => cursor.limit(length.into()),
    }
    if flags & HAS_OPTIONAL != 0 {
        // Sequence number, N-PDU number, type of the first extension.
        let [.., kind] = *cursor.take::<4>()?;
        skip_extensions(cursor, if flags & HAS_EXTENSION != 0 { kind } else { 0 })?;
    }
    cursor.encapsulations.enter(Encapsulation::Gtpu(u32::from_be_bytes([a, b, c, d])))?;
    match by_version(cursor) {
        Err(Reject::NotIp) => Err(Reject::NotTcp),
        found => found,
    }
}

/// Each begins with its length in words of 4 bytes and ends with the type of the next.
fn skip_extensions(cursor: &mut Cursor<'_>, mut kind: u8) -> Result<(), Reject> {
    for _ in 0..EXTENSION_COUNT_MAX {
        if kind == 0 {
            return Ok(());
        }
        let [words] = *cursor.take::<1>()?;
        cursor.skip((usize::from(words) * 4).checked_sub(2).ok_or(Reject::NotTcp)?)?;
        [kind] = *cursor.take::<1>()?;
    }
    Err(Reject::TooDeep)
}
