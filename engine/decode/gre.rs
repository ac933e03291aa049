//! GRE (RFC 2784, RFC 2890, the routing of RFC 1701) and what it carries: IP, MPLS, Ethernet,
//! ERSPAN, 802.11; its version 1 with PPP (PPTP, RFC 2637).

use super::cursor::Cursor;
use super::link::{ETHERTYPE_MIN, Network, by_ethertype, ethernet};
use super::tunnel::Encapsulation;
use super::{Reject, ppp, wifi};

/// Bits of the first two bytes.
const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const ACKNOWLEDGMENT: u16 = 0x0080;
const VERSION_MASK: u16 = 0x0007;
/// Source route entries of one header: it was never used much, and is obsolete.
const ROUTE_COUNT_MAX: usize = 8;

/// Protocols of version 0 that are not EtherTypes of IP or MPLS.
const PROTOCOL_ETHERNET: u16 = 0x6558;
const PROTOCOL_ERSPAN: u16 = 0x88be;
const PROTOCOL_ERSPAN_THREE: u16 = 0x22eb;
/// A web cache's redirected packets, version 2 of the protocol with a word of its own before IP
/// (draft-wilson-wrec-wccp-v2-01 section 4.12.1).
const PROTOCOL_WCCP: u16 = 0x883e;
/// Frames of access points to their controller (Aruba): the upper half and the lowest bits are
/// fixed.
const PROTOCOL_WIFI_MASK: u16 = 0xff0f;
const PROTOCOL_WIFI: u16 = 0x8200;
/// The protocol of version 1.
const PROTOCOL_PPP: u16 = 0x880b;

/// ERSPAN's session id, in the second word's lower half of type II and III alike
/// (draft-foschiano-erspan-03 section 4).
const SESSION_MASK: u16 = 0x03ff;
/// Type III ends with a bit that announces 8 more bytes.
const SUBHEADER: u8 = 0x01;

/// Steps over GRE and all that it announces.
pub(super) fn network_of(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let flags = cursor.u16()?;
    let protocol = cursor.u16()?;
    match flags & VERSION_MASK {
        0 => {}
        1 => return point_to_point(cursor, flags, protocol),
        _ => return Err(Reject::NotTcp),
    }
    // With either bit both words are there: checksum and offset.
    if flags & (CHECKSUM | ROUTING) != 0 {
        cursor.skip(4)?;
    }
    let key = if flags & KEY != 0 { Some(cursor.u32()?) } else { None };
    if flags & SEQUENCE != 0 {
        cursor.skip(4)?;
    }
    if flags & ROUTING != 0 {
        skip_routes(cursor)?;
    }
    let gre = key.map_or(Encapsulation::Gre, Encapsulation::GreKey);
    match protocol {
        PROTOCOL_ERSPAN if flags & SEQUENCE == 0 => {
            cursor.encapsulations.enter(Encapsulation::ErspanOne)?;
            ethernet(cursor)
        }
        PROTOCOL_ERSPAN | PROTOCOL_ERSPAN_THREE => erspan(cursor, protocol),
        PROTOCOL_ETHERNET => {
            cursor.encapsulations.enter(gre)?;
            ethernet(cursor)
        }
        PROTOCOL_WCCP => {
            cursor.encapsulations.enter(gre)?;
            if cursor.peek()? >> 4 != 4 {
                cursor.skip(4)?;
            }
            Ok(Network::V4)
        }
        wifi if wifi & PROTOCOL_WIFI_MASK == PROTOCOL_WIFI => {
            cursor.encapsulations.enter(gre)?;
            wifi::data(cursor, wifi::Padding::None)
        }
        // Keep-alives, ISO protocols, and more that are no EtherType.
        other if other < ETHERTYPE_MIN => Err(Reject::NotTcp),
        ethertype => {
            cursor.encapsulations.enter(gre)?;
            by_ethertype(cursor, ethertype)
        }
    }
}

/// Source route entries: family, offset, length, route; one that is all zero is the last (RFC
/// 1701).
fn skip_routes(cursor: &mut Cursor<'_>) -> Result<(), Reject> {
    for _ in 0..ROUTE_COUNT_MAX {
        let [a, b, _, length] = *cursor.take::<4>()?;
        if [a, b, length] == [0; 3] {
            return Ok(());
        }
        cursor.skip(length.into())?;
    }
    Err(Reject::TooDeep)
}

/// The header of ERSPAN type II or III, then the mirrored Ethernet frame.
fn erspan(cursor: &mut Cursor<'_>, protocol: u16) -> Result<Network, Reject> {
    let [_, _, high, low, ..] = *cursor.take::<8>()?;
    let session = u16::from_be_bytes([high, low]) & SESSION_MASK;
    cursor.encapsulations.enter(Encapsulation::Erspan(session))?;
    if protocol == PROTOCOL_ERSPAN_THREE {
        let [.., last] = *cursor.take::<4>()?;
        if last & SUBHEADER != 0 {
            cursor.skip(8)?;
        }
    }
    ethernet(cursor)
}

/// Version 1: always with a key, which holds length and call id; PPP only where there is a sequence
/// number.
fn point_to_point(cursor: &mut Cursor<'_>, flags: u16, protocol: u16) -> Result<Network, Reject> {
    if protocol != PROTOCOL_PPP || flags & KEY == 0 || flags & SEQUENCE == 0 {
        return Err(Reject::NotTcp);
    }
    let length = cursor.u16()?;
    let call = cursor.u16()?;
    cursor.skip(4)?;
    if flags & ACKNOWLEDGMENT != 0 {
        cursor.skip(4)?;
    }
    cursor.encapsulations.enter(Encapsulation::Pptp(call))?;
    cursor.limit(length.into());
    ppp::protocol(cursor)
}
