//! The link layer, and everything between it and IP: finds the network header and its version.

use super::cursor::Cursor;
use super::{Reject, mpls, nflog, ppp, wifi};
use crate::capture::{Frame, LinkType};

/// EtherTypes: <https://www.iana.org/assignments/ieee-802-numbers>.
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const ETHERTYPE_MPLS: [u16; 2] = [0x8847, 0x8848];
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;
/// A smaller number at the place of an EtherType is a length, and LLC follows (IEEE 802.3).
pub(super) const ETHERTYPE_MIN: u16 = 0x0600;
/// The protocol number in Linux's cooked capture if LLC follows (`ETH_P_802_2`).
const SLL_PROTOCOL_LLC: u16 = 0x0004;

/// The LLC header before SNAP: both access points 0xaa, unnumbered information (IEEE 802.2).
const LLC_SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];
/// The organizations whose SNAP protocol numbers are EtherTypes (RFC 1042; IEEE 802.1H).
const SNAP_ORGANIZATIONS: [[u8; 3]; 2] = [[0, 0, 0], [0, 0, 0xf8]];

/// Which network header follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Network {
    V4,
    V6,
}

/// Skips everything before the network header.
#[inline]
pub(super) fn network_of(cursor: &mut Cursor<'_>, frame: &Frame<'_>) -> Result<Network, Reject> {
    if let Some(tag) = frame.vlan {
        cursor.encapsulations.vlan(tag.tci)?;
    }
    behind(cursor, frame.link)
}

#[inline(always)]
fn behind(cursor: &mut Cursor<'_>, link: LinkType) -> Result<Network, Reject> {
    match link {
        LinkType::Ethernet => ethernet(cursor),
        LinkType::LinuxSll => {
            cursor.skip(14)?;
            let protocol = cursor.u16()?;
            sll_protocol(cursor, protocol)
        }
        LinkType::LinuxSll2 => {
            let [high, low, ..] = *cursor.take::<20>()?;
            sll_protocol(cursor, u16::from_be_bytes([high, low]))
        }
        LinkType::Null => null_family(cursor),
        LinkType::Raw => by_version(cursor),
        LinkType::Ppp => ppp::protocol(cursor),
        LinkType::PppHdlc => ppp::hdlc(cursor),
        LinkType::PppEther => ppp::pppoe(cursor),
        LinkType::PppDirected => {
            cursor.skip(1)?;
            ppp::protocol(cursor)
        }
        LinkType::CiscoHdlc => ppp::cisco_hdlc(cursor),
        LinkType::CiscoHdlcDirected => {
            cursor.skip(1)?;
            ppp::cisco_hdlc(cursor)
        }
        LinkType::Wifi => wifi::data(cursor, wifi::Padding::None),
        LinkType::Radiotap => wifi::radiotap(cursor),
        LinkType::Prism => wifi::prism(cursor),
        LinkType::Ppi => {
            // Version and flags, length, link type; then fields that do not describe the packet.
            let [_, _, c, d, low, high, _, _] = *cursor.take::<8>()?;
            named(cursor, 8, u16::from_le_bytes([c, d]).into(), u16::from_le_bytes([low, high]))
        }
        LinkType::Pktap => {
            let header = *cursor.take::<12>()?;
            let header_bytes = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let link = u16::from_le_bytes([header[8], header[9]]);
            named(cursor, 12, header_bytes as usize, link)
        }
        LinkType::Nflog => nflog::packet(cursor),
        LinkType::Netlink => nflog::netlink(cursor),
        LinkType::Unsupported(_) => Err(Reject::UnsupportedLink),
    }
}

/// What follows a header that names its link type. The header has `header_bytes`, of which
/// `read_bytes` were read. A second such header is not followed.
#[cold]
#[inline(never)]
fn named(
    cursor: &mut Cursor<'_>,
    read_bytes: usize,
    header_bytes: usize,
    link: u16,
) -> Result<Network, Reject> {
    cursor.skip(header_bytes.checked_sub(read_bytes).ok_or(Reject::BadHeader)?)?;
    match LinkType::from_file(link) {
        LinkType::Ppi | LinkType::Pktap => Err(Reject::UnsupportedLink),
        link => behind(cursor, link),
    }
}

/// Ethernet II, or 802.3 with LLC and SNAP.
#[inline]
pub(super) fn ethernet(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let [.., high, low] = *cursor.take::<14>()?;
    match u16::from_be_bytes([high, low]) {
        // The most common case first.
        ETHERTYPE_IPV4 => Ok(Network::V4),
        ETHERTYPE_IPV6 => Ok(Network::V6),
        length if length < ETHERTYPE_MIN => {
            cursor.limit(length.into());
            llc(cursor)
        }
        ethertype => by_ethertype(cursor, ethertype),
    }
}

/// The network header after an EtherType and any number of tags.
pub(super) fn by_ethertype(cursor: &mut Cursor<'_>, mut ethertype: u16) -> Result<Network, Reject> {
    while ETHERTYPE_VLAN.contains(&ethertype) {
        let tci = cursor.u16()?;
        cursor.encapsulations.vlan(tci)?;
        ethertype = cursor.u16()?;
    }
    match ethertype {
        ETHERTYPE_IPV4 => Ok(Network::V4),
        ETHERTYPE_IPV6 => Ok(Network::V6),
        ETHERTYPE_PPPOE_SESSION => ppp::pppoe(cursor),
        _ if ETHERTYPE_MPLS.contains(&ethertype) => mpls::labels(cursor),
        length if length < ETHERTYPE_MIN => llc(cursor),
        _ => Err(Reject::NotIp),
    }
}

/// Whether `bytes` look like an Ethernet frame: the EtherType at its usual place leads to IP.
pub(super) fn is_ethernet(bytes: &[u8]) -> bool {
    let Some(&[high, low]) = bytes.get(12..14) else { return false };
    let ethertype = u16::from_be_bytes([high, low]);
    matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6 | ETHERTYPE_PPPOE_SESSION)
        || ETHERTYPE_VLAN.contains(&ethertype)
        || ETHERTYPE_MPLS.contains(&ethertype)
}

/// LLC with SNAP, which contains an EtherType; other LLC carries no IP.
pub(super) fn llc(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let [destination, source, control, a, b, c, high, low] = *cursor.take::<8>()?;
    let is_snap = [destination, source, control] == LLC_SNAP;
    if !is_snap || !SNAP_ORGANIZATIONS.contains(&[a, b, c]) {
        return Err(Reject::NotIp);
    }
    match u16::from_be_bytes([high, low]) {
        length if length < ETHERTYPE_MIN => Err(Reject::NotIp),
        ethertype => by_ethertype(cursor, ethertype),
    }
}

fn sll_protocol(cursor: &mut Cursor<'_>, protocol: u16) -> Result<Network, Reject> {
    match protocol {
        SLL_PROTOCOL_LLC => llc(cursor),
        length if length < ETHERTYPE_MIN => Err(Reject::NotIp),
        ethertype => by_ethertype(cursor, ethertype),
    }
}

/// The address family of a BSD loopback header. It is in the byte order of the writing host, which
/// is not recorded; the values are small, so they reveal the order. AF_INET6 is 10, 24, 28 or 30,
/// depending on the system.
fn null_family(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let little = u32::from_le_bytes(*cursor.take()?);
    let family = if little > 0xffff { little.swap_bytes() } else { little };
    match family {
        2 => Ok(Network::V4),
        10 | 24 | 28 | 30 => Ok(Network::V6),
        _ => Err(Reject::NotIp),
    }
}

/// IP, of the version in its first four bits.
pub(super) fn by_version(cursor: &Cursor<'_>) -> Result<Network, Reject> {
    match cursor.peek()? >> 4 {
        4 => Ok(Network::V4),
        6 => Ok(Network::V6),
        _ => Err(Reject::NotIp),
    }
}
