//! PPP (RFC 1661) wherever it occurs: on serial lines, in HDLC-like framing, in PPPoE; and Cisco's
//! HDLC.

use super::Reject;
use super::cursor::Cursor;
use super::link::{Network, by_ethertype};
use super::mpls;
use super::tunnel::Encapsulation;

/// All stations, unnumbered information: the two bytes that HDLC-like framing puts before the
/// protocol (RFC 1662), and that both ends may agree to leave out.
const ADDRESS_CONTROL: [u8; 2] = [0xff, 0x03];
/// The rest of them if the direction byte replaced the address. As a protocol number it is
/// reserved.
const CONTROL: [u8; 1] = [0x03];
/// The address bytes of Cisco's HDLC: unicast and broadcast (RFC 4349 section 2 describes them).
const CISCO_ADDRESSES: [u8; 2] = [0x0f, 0x8f];

/// PPP protocol numbers: <https://www.iana.org/assignments/ppp-numbers>.
const PROTOCOL_IPV4: u16 = 0x0021;
const PROTOCOL_IPV6: u16 = 0x0057;
const PROTOCOL_MPLS: [u16; 2] = [0x0281, 0x0283];

/// PPP, with or without address and control, or with control alone. A protocol number may have one
/// byte or two: its last byte is odd, the one before it even (RFC 1661 section 2).
pub(super) fn protocol(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    if cursor.begins_with(&ADDRESS_CONTROL)? {
        cursor.skip(ADDRESS_CONTROL.len())?;
    } else if cursor.rest().starts_with(&CONTROL) {
        cursor.skip(CONTROL.len())?;
    }
    let number = match *cursor.take::<1>()? {
        [low] if low & 1 == 1 => u16::from(low),
        [high] => u16::from_be_bytes([high, cursor.take::<1>()?[0]]),
    };
    match number {
        PROTOCOL_IPV4 => Ok(Network::V4),
        PROTOCOL_IPV6 => Ok(Network::V6),
        _ if PROTOCOL_MPLS.contains(&number) => mpls::labels(cursor),
        _ => Err(Reject::NotIp),
    }
}

/// A link type that is PPP in HDLC-like framing on some lines and Cisco's HDLC on others.
pub(super) fn hdlc(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    if CISCO_ADDRESSES.contains(&cursor.peek()?) { cisco_hdlc(cursor) } else { protocol(cursor) }
}

/// Cisco's HDLC: address, control, EtherType.
pub(super) fn cisco_hdlc(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    cursor.skip(2)?;
    let ethertype = cursor.u16()?;
    by_ethertype(cursor, ethertype)
}

/// The session stage of PPPoE (RFC 2516 section 4): version and type 1, code 0.
pub(super) fn pppoe(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let [version_type, code, s, t, high, low] = *cursor.take::<6>()?;
    if version_type != 0x11 {
        return Err(Reject::BadHeader);
    }
    if code != 0 {
        return Err(Reject::NotIp);
    }
    cursor.encapsulations.enter(Encapsulation::Pppoe(u16::from_be_bytes([s, t])))?;
    // An offloaded superpacket's length does not fit; the IP header has it then.
    match u16::from_be_bytes([high, low]) {
        0 => {}
        length => cursor.limit(length.into()),
    }
    protocol(cursor)
}
