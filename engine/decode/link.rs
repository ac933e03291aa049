//! The link layer and the VLAN tags behind it: how far it is to the network header, and of what kind.

use super::{Reject, take};
use crate::capture::{Frame, LinkType};
use crate::ids::VLAN_DEPTH_MAX;

/// EtherTypes: <https://www.iana.org/assignments/ieee-802-numbers>.
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// The low bits of a tag's control information: the VLAN id (IEEE 802.1Q).
const VLAN_ID_MASK: u16 = 0x0fff;

/// Length of the headers in front of the EtherType or protocol.
const ETHERNET_ADDRESSES_BYTES: usize = 12;
const SLL_PROTOCOL_OFFSET: usize = 14;
const SLL2_HEADER_BYTES: usize = 20;

/// Which network header follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Network {
    V4,
    V6,
}

/// The VLAN ids of a frame, outermost first. Priority tags (id 0) are no VLANs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VlanStack {
    pub ids: [u16; VLAN_DEPTH_MAX],
    len: usize,
}

impl VlanStack {
    fn push(&mut self, tci: u16) -> Result<(), Reject> {
        let id = tci & VLAN_ID_MASK;
        if id == 0 {
            return Ok(());
        }
        *self.ids.get_mut(self.len).ok_or(Reject::TooDeep)? = id;
        self.len += 1;
        Ok(())
    }
}

/// Steps over the link header and all VLAN tags.
pub(super) fn network_of<'a>(frame: &Frame<'a>) -> Result<(Network, &'a [u8], VlanStack), Reject> {
    let mut vlans = VlanStack::default();
    if let Some(tag) = frame.vlan {
        vlans.push(tag.tci)?;
    }
    let mut rest = frame.bytes;
    let mut ethertype = match frame.link {
        LinkType::Ethernet => {
            take(&mut rest, ETHERNET_ADDRESSES_BYTES)?;
            take_u16(&mut rest)?
        }
        LinkType::LinuxSll => {
            take(&mut rest, SLL_PROTOCOL_OFFSET)?;
            take_u16(&mut rest)?
        }
        LinkType::LinuxSll2 => {
            let header = take(&mut rest, SLL2_HEADER_BYTES)?;
            u16::from_be_bytes([header[0], header[1]])
        }
        LinkType::Null => return Ok((null_family(&mut rest)?, rest, vlans)),
        LinkType::Raw => return Ok((ip_version(rest)?, rest, vlans)),
        LinkType::Unsupported(_) => return Err(Reject::UnsupportedLink),
    };
    while ETHERTYPE_VLAN.contains(&ethertype) {
        vlans.push(take_u16(&mut rest)?)?;
        ethertype = take_u16(&mut rest)?;
    }
    match ethertype {
        ETHERTYPE_IPV4 => Ok((Network::V4, rest, vlans)),
        ETHERTYPE_IPV6 => Ok((Network::V6, rest, vlans)),
        _ => Err(Reject::NotIp),
    }
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, Reject> {
    let bytes = take(rest, 2)?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The address family of a BSD loopback header. Its byte order is the writing host's, which nobody noted; the
/// values are small, so the order shows. AF_INET6 is 10, 24, 28 or 30, by system.
fn null_family(rest: &mut &[u8]) -> Result<Network, Reject> {
    let word = take(rest, 4)?;
    let little = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
    let family = if little > 0xffff { little.swap_bytes() } else { little };
    match family {
        2 => Ok(Network::V4),
        10 | 24 | 28 | 30 => Ok(Network::V6),
        _ => Err(Reject::NotIp),
    }
}

fn ip_version(rest: &[u8]) -> Result<Network, Reject> {
    match rest.first().ok_or(Reject::Truncated)? >> 4 {
        4 => Ok(Network::V4),
        6 => Ok(Network::V6),
        _ => Err(Reject::NotIp),
    }
}
