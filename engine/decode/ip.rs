//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers: addresses, and where the TCP segment lies.

use super::Reject;
use std::ops::Range;

const PROTOCOL_TCP: u8 = 6;

/// Extension headers we step over before we give up: more are not seen outside attacks.
const EXTENSION_COUNT_MAX: usize = 8;

/// What IP says of a TCP segment.
pub(super) struct Packet<'a> {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// The captured bytes from the TCP header on, without trailing padding.
    pub transport: &'a [u8],
    /// How long that is on the wire.
    pub transport_wire_bytes: usize,
}

mod v4 {
    use super::Range;
    pub const VERSION_IHL: usize = 0;
    pub const TOTAL_LENGTH: Range<usize> = 2..4;
    pub const FRAGMENT: Range<usize> = 6..8;
    pub const PROTOCOL: usize = 9;
    pub const SOURCE: Range<usize> = 12..16;
    pub const DESTINATION: Range<usize> = 16..20;
    pub const HEADER_BYTES_MIN: usize = 20;
    /// More Fragments, and the fragment offset.
    pub const FRAGMENT_MASK: u16 = 0x3fff;
}

/// `wire_bytes` is the frame's length on the wire from the IP header on: it stands in for a total length of 0,
/// which offloaded superpackets carry (BIG TCP; `ip_hdr(skb)->tot_len` in net/ipv4/ip_output.c).
pub(super) fn v4(bytes: &[u8], wire_bytes: usize) -> Result<Packet<'_>, Reject> {
    let header = bytes.get(..v4::HEADER_BYTES_MIN).ok_or(Reject::Truncated)?;
    if header[v4::VERSION_IHL] >> 4 != 4 {
        return Err(Reject::BadHeader);
    }
    let header_bytes = usize::from(header[v4::VERSION_IHL] & 0x0f) * 4;
    if header_bytes < v4::HEADER_BYTES_MIN {
        return Err(Reject::BadHeader);
    }
    if header[v4::PROTOCOL] != PROTOCOL_TCP {
        return Err(Reject::NotTcp);
    }
    if be16(header, v4::FRAGMENT) & v4::FRAGMENT_MASK != 0 {
        return Err(Reject::Fragment);
    }
    let total_bytes = match usize::from(be16(header, v4::TOTAL_LENGTH)) {
        0 => wire_bytes,
        length => length,
    };
    Ok(Packet {
        source: padded(&header[v4::SOURCE]),
        destination: padded(&header[v4::DESTINATION]),
        transport: within(bytes, header_bytes, total_bytes)?,
        transport_wire_bytes: total_bytes - header_bytes,
    })
}

mod v6 {
    use super::Range;
    pub const VERSION: usize = 0;
    pub const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub const NEXT_HEADER: usize = 6;
    pub const SOURCE: Range<usize> = 8..24;
    pub const DESTINATION: Range<usize> = 24..40;
    pub const HEADER_BYTES: usize = 40;

    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Offset and More Fragments bits of the fragment header's second word.
    pub const FRAGMENT_MASK: u16 = 0xfff9;
}

/// `wire_bytes` stands in for a payload length of 0: a jumbogram or BIG TCP superpacket (RFC 2675).
pub(super) fn v6(bytes: &[u8], wire_bytes: usize) -> Result<Packet<'_>, Reject> {
    let header = bytes.get(..v6::HEADER_BYTES).ok_or(Reject::Truncated)?;
    if header[v6::VERSION] >> 4 != 6 {
        return Err(Reject::BadHeader);
    }
    let total_bytes = match usize::from(be16(header, v6::PAYLOAD_LENGTH)) {
        0 => wire_bytes,
        length => length + v6::HEADER_BYTES,
    };
    let transport_offset = step_over_extensions(bytes, header[v6::NEXT_HEADER])?;
    Ok(Packet {
        source: padded(&header[v6::SOURCE]),
        destination: padded(&header[v6::DESTINATION]),
        transport: within(bytes, transport_offset, total_bytes)?,
        transport_wire_bytes: total_bytes - transport_offset,
    })
}

/// Where the TCP header begins. A fragment header that fragments nothing is stepped over (RFC 6946).
fn step_over_extensions(bytes: &[u8], first: u8) -> Result<usize, Reject> {
    let mut next = first;
    let mut offset = v6::HEADER_BYTES;
    for _ in 0..EXTENSION_COUNT_MAX {
        if next == PROTOCOL_TCP {
            return Ok(offset);
        }
        let is_known = matches!(
            next,
            v6::HOP_BY_HOP
                | v6::ROUTING
                | v6::FRAGMENT
                | v6::AUTHENTICATION
                | v6::DESTINATION_OPTIONS
        );
        if !is_known {
            return Err(Reject::NotTcp);
        }
        let extension = bytes.get(offset..offset + 8).ok_or(Reject::Truncated)?;
        offset += match next {
            v6::FRAGMENT if be16(extension, 2..4) & v6::FRAGMENT_MASK != 0 => {
                return Err(Reject::Fragment);
            }
            v6::FRAGMENT => 8,
            v6::AUTHENTICATION => (usize::from(extension[1]) + 2) * 4,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        next = extension[0];
    }
    if next == PROTOCOL_TCP { Ok(offset) } else { Err(Reject::TooDeep) }
}

/// `bytes[start..total]`, as far as it was captured: padding behind the packet is left out.
fn within(bytes: &[u8], start: usize, total_bytes: usize) -> Result<&[u8], Reject> {
    if total_bytes < start {
        return Err(Reject::BadHeader);
    }
    bytes.get(start..bytes.len().min(total_bytes)).ok_or(Reject::Truncated)
}

fn be16(bytes: &[u8], field: Range<usize>) -> u16 {
    u16::from_be_bytes([bytes[field.start], bytes[field.start + 1]])
}

fn padded(address: &[u8]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[..address.len()].copy_from_slice(address);
    wide
}
