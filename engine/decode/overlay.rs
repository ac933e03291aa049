//! Overlay networks in UDP: VXLAN (RFC 7348) and Geneve (RFC 8926). Their network identifier is
//! part of a connection's identity, unless that is ignored: two networks may use the same
//! addresses.

use super::cursor::Cursor;
use super::link::{ETHERTYPE_MIN, Network, by_ethertype, ethernet};
use super::tunnel::Encapsulation;
use super::{Reject, mpls};
use crate::ids::{REALM_GENEVE, REALM_VXLAN};

/// This flag announces a network identifier.
const VXLAN_HAS_VNI: u8 = 0x08;
/// The Generic Protocol Extension's flag: the fourth byte contains the inner protocol
/// (draft-ietf-nvo3-vxlan-gpe-13). In plain VXLAN both are reserved and must be ignored.
const GPE_HAS_PROTOCOL: u8 = 0x04;
const GPE_IPV4: u8 = 1;
const GPE_IPV6: u8 = 2;
const GPE_ETHERNET: u8 = 3;
const GPE_MPLS: u8 = 5;

/// The EtherType of Geneve's Ethernet payload (Transparent Ethernet Bridging).
const GENEVE_ETHERNET: u16 = 0x6558;
/// Fields of Geneve's first byte: the version, and the length of the options in words of 4 bytes.
const GENEVE_VERSION_MASK: u8 = 0xc0;
const GENEVE_OPTIONS_MASK: u8 = 0x3f;

/// Skips VXLAN's header and the inner Ethernet header.
pub(super) fn vxlan(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    vxlan_header(cursor)?;
    ethernet(cursor)
}

/// Skips the header of VXLAN's Generic Protocol Extension, and the inner Ethernet header, if the
/// payload is Ethernet.
pub(super) fn vxlan_gpe(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let [flags, _, _, protocol, ..] = *vxlan_header(cursor)?;
    match protocol {
        _ if flags & GPE_HAS_PROTOCOL == 0 => ethernet(cursor),
        GPE_IPV4 => Ok(Network::V4),
        GPE_IPV6 => Ok(Network::V6),
        GPE_ETHERNET => ethernet(cursor),
        GPE_MPLS => mpls::labels(cursor),
        _ => Err(Reject::NotTcp),
    }
}

fn vxlan_header<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8; 8], Reject> {
    let header = cursor.take::<8>()?;
    let [flags, _, _, _, a, b, c, _] = *header;
    if flags & VXLAN_HAS_VNI == 0 {
        return Err(Reject::NotTcp);
    }
    let vni = u32::from_be_bytes([0, a, b, c]);
    cursor.encapsulations.enter(Encapsulation::Vxlan(vni))?;
    cursor.encapsulations.realm = REALM_VXLAN | vni;
    Ok(header)
}

/// Skips Geneve's header with its options, and the inner Ethernet header, if the payload is
/// Ethernet.
pub(super) fn geneve(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let [first, _, high, low, a, b, c, _] = *cursor.take::<8>()?;
    if first & GENEVE_VERSION_MASK != 0 {
        return Err(Reject::NotTcp);
    }
    cursor.skip(usize::from(first & GENEVE_OPTIONS_MASK) * 4)?;
    let vni = u32::from_be_bytes([0, a, b, c]);
    cursor.encapsulations.enter(Encapsulation::Geneve(vni))?;
    cursor.encapsulations.realm = REALM_GENEVE | vni;
    match u16::from_be_bytes([high, low]) {
        GENEVE_ETHERNET => ethernet(cursor),
        other if other < ETHERTYPE_MIN => Err(Reject::NotTcp),
        ethertype => by_ethertype(cursor, ethertype),
    }
}
