//! GRE (RFC 2784, RFC 2890, the routing of RFC 1701) and its payloads: IP, MPLS, Ethernet, ERSPAN,
//! 802.11; and version 1 with PPP (PPTP, RFC 2637).

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
/// Maximum number of source route entries in one header. The feature was never used much, and is
/// obsolete.
const ROUTE_COUNT_MAX: usize = 8;

/// Protocols of version 0 that are not EtherTypes of IP or MPLS.
const PROTOCOL_ETHERNET: u16 = 0x6558;
const PROTOCOL_ERSPAN: u16 = 0x88be;
const PROTOCOL_ERSPAN_THREE: u16 = 0x22eb;
/// Redirected packets of a web cache; version 2 of the protocol puts a word before IP
/// (draft-wilson-wrec-wccp-v2-01 section 4.12.1).
const PROTOCOL_WCCP: u16 = 0x883e;
/// Frames from access points to their controller (Aruba): the upper half and the lowest bits are
/// fixed.
const PROTOCOL_WIFI_MASK: u16 = 0xff0f;
const PROTOCOL_WIFI: u16 = 0x8200;
/// The protocol of version 1.
const PROTOCOL_PPP: u16 = 0x880b;

/// ERSPAN's session id, in the lower half of the second word of types II and III alike
/// (draft-foschiano-erspan-03 section 4).
const SESSION_MASK: u16 = 0x03ff;
/// This bit at the end of type III announces 8 more bytes.
const SUBHEADER: u8 = 0x01;

/// Skips the GRE header and all optional fields it announces.
pub(super) fn network_of(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let flags = cursor.u16()?;
    let protocol = cursor.u16()?;
    match flags & VERSION_MASK {
        0 => {}
        1 => return point_to_point(cursor, flags, protocol),
        _ => return Err(Reject::NotTcp),
    }
    // Either bit announces both words: checksum and offset.
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
        // Keep-alives, ISO protocols, and other values that are not EtherTypes.
        other if other < ETHERTYPE_MIN => Err(Reject::NotTcp),
        ethertype => {
            cursor.encapsulations.enter(gre)?;
            by_ethertype(cursor, ethertype)
        }
    }
}

/// Skips source route entries: family, offset, length, route. An entry of all zeros is the last
/// (RFC 1701).
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

/// Skips the header of ERSPAN type II or III, then the mirrored Ethernet header.
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

/// Version 1: it always has a key, which holds length and call id; PPP follows only if there is a
/// sequence number.
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
