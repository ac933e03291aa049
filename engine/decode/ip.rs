//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers: addresses, protocol, and fragmentation.

use super::cursor::Cursor;
use super::{Reject, protocol};
use crate::stats::DatagramStats;
use std::ops::Range;

/// Maximum number of extension headers before we give up; more occur only in attacks.
const EXTENSION_COUNT_MAX: usize = 8;

/// What the IP header states about its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub is_v6: bool,
    /// The protocol of the payload: an IP protocol number.
    pub protocol: u8,
    /// Set if the payload is only a part of a datagram.
    pub fragment: Option<Fragment>,
}

impl Packet {
    /// Whether a whole TCP segment follows.
    #[inline]
    pub fn is_tcp(&self) -> bool {
        self.protocol == protocol::TCP && self.fragment.is_none()
    }
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fragment {
    pub id: u32,
    /// The offset of its bytes in the datagram: a multiple of 8, at most 65,528.
    pub offset: usize,
    pub is_last: bool,
}

mod v4 {
    use super::Range;
    pub const VERSION_IHL: usize = 0;
    pub const TOTAL_LENGTH: Range<usize> = 2..4;
    pub const ID: Range<usize> = 4..6;
    pub const FRAGMENT: Range<usize> = 6..8;
    pub const PROTOCOL: usize = 9;
    pub const SOURCE: Range<usize> = 12..16;
    pub const DESTINATION: Range<usize> = 16..20;
    pub const HEADER_BYTES_MIN: usize = 20;
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// The fragment's offset, in units of 8 bytes.
    pub const OFFSET_MASK: u16 = 0x1fff;
}

/// Skips an IPv4 header. If its total length is 0, as in offloaded superpackets (BIG TCP;
/// `ip_hdr(skb)->tot_len` in net/ipv4/ip_output.c), the outer layer determines the length.
#[inline(always)]
pub(super) fn v4(cursor: &mut Cursor<'_>, stats: &mut DatagramStats) -> Result<Packet, Reject> {
    let wire_bytes = cursor.wire_bytes();
    let start = cursor.rest();
    let header = cursor.take::<{ v4::HEADER_BYTES_MIN }>()?;
    let option_bytes = match header[v4::VERSION_IHL] {
        0x45 => 0,
        version_ihl if version_ihl >> 4 == 4 => (usize::from(version_ihl & 0x0f) * 4)
            .checked_sub(v4::HEADER_BYTES_MIN)
            .ok_or(Reject::BadHeader)?,
        _ => return Err(Reject::BadHeader),
    };
    let header_bytes = v4::HEADER_BYTES_MIN + option_bytes;
    let total_bytes = match usize::from(be16(header, v4::TOTAL_LENGTH)) {
        0 => wire_bytes,
        length => length,
    };
    cursor.skip(option_bytes)?;
    let options = start.get(v4::HEADER_BYTES_MIN..header_bytes).unwrap_or_default();
    let sum = if options.is_empty() { sum_of(header) } else { sum_of(header) + sum_of(options) };
    stats.ipv4_checksums_wrong += u64::from(!is_all_ones(sum));
    cursor.limit(total_bytes.checked_sub(header_bytes).ok_or(Reject::BadHeader)?);
    let word = be16(header, v4::FRAGMENT);
    let is_fragment = word & (v4::MORE_FRAGMENTS | v4::OFFSET_MASK) != 0;
    Ok(Packet {
        source: padded(&header[v4::SOURCE]),
        destination: padded(&header[v4::DESTINATION]),
        is_v6: false,
        protocol: header[v4::PROTOCOL],
        fragment: is_fragment.then(|| Fragment {
            id: be16(header, v4::ID).into(),
            offset: usize::from(word & v4::OFFSET_MASK) * 8,
            is_last: word & v4::MORE_FRAGMENTS == 0,
        }),
    })
}

/// The sum of the 32-bit words in `bytes`. Folded, it equals the sum of the 16-bit words, in either
/// byte order (RFC 1071 section 2).
#[inline(always)]
pub(super) fn sum_of(bytes: &[u8]) -> u64 {
    bytes.as_chunks().0.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
}

/// Whether `sum`, folded to 16 bits, is that of a header with a valid checksum.
#[inline]
pub(super) fn is_all_ones(sum: u64) -> bool {
    // The sum of a header is never 0, since its version is not. Every other multiple of 0xffff
    // folds to all ones.
    sum.is_multiple_of(0xffff)
}

/// Skips an authentication header (RFC 4302 section 2) and returns the protocol of the protected
/// payload. That number also shows whether the payload is encrypted.
pub(super) fn authentication(cursor: &mut Cursor<'_>) -> Result<u8, Reject> {
    cursor.encapsulations.deepen()?;
    let [next, words, ..] = *cursor.take::<8>()?;
    cursor.skip(usize::from(words) * 4)?;
    Ok(next)
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
    pub const MORE_FRAGMENTS: u16 = 1;
    /// The fragment's offset: multiples of 8 bytes.
    pub const OFFSET_MASK: u16 = 0xfff8;
}

/// Skips an IPv6 header and its extensions. A payload length of 0 marks a jumbogram or a BIG TCP
/// superpacket (RFC 2675): the outer layer determines the length.
#[inline(always)]
pub(super) fn v6(cursor: &mut Cursor<'_>) -> Result<Packet, Reject> {
    let header = cursor.take::<{ v6::HEADER_BYTES }>()?;
    if header[v6::VERSION] >> 4 != 6 {
        return Err(Reject::BadHeader);
    }
    match usize::from(be16(header, v6::PAYLOAD_LENGTH)) {
        0 => {}
        length => cursor.limit(length),
    }
    let (protocol, fragment) = match header[v6::NEXT_HEADER] {
        protocol::TCP => (protocol::TCP, None),
        next => extensions(cursor, next)?,
    };
    Ok(Packet {
        source: padded(&header[v6::SOURCE]),
        destination: padded(&header[v6::DESTINATION]),
        is_v6: true,
        protocol,
        fragment,
    })
}

/// Skips extension headers, of which the first is of type `next`, up to the payload or to a
/// fragment header. A fragment header of an unfragmented packet is skipped (RFC 6946).
pub(super) fn extensions(
    cursor: &mut Cursor<'_>,
    mut next: u8,
) -> Result<(u8, Option<Fragment>), Reject> {
    for _ in 0..=EXTENSION_COUNT_MAX {
        let is_extension = matches!(
            next,
            v6::HOP_BY_HOP
                | v6::ROUTING
                | v6::FRAGMENT
                | v6::AUTHENTICATION
                | v6::DESTINATION_OPTIONS
        );
        if !is_extension {
            return Ok((next, None));
        }
        let extension = cursor.take::<8>()?;
        let kind = std::mem::replace(&mut next, extension[0]);
        match kind {
            v6::FRAGMENT => {
                let word = be16(extension, 2..4);
                let (offset, more) = (word & v6::OFFSET_MASK, word & v6::MORE_FRAGMENTS);
                if offset != 0 || more != 0 {
                    let [.., a, b, c, d] = *extension;
                    let id = u32::from_be_bytes([a, b, c, d]);
                    let fragment = Fragment { id, offset: offset.into(), is_last: more == 0 };
                    return Ok((next, Some(fragment)));
                }
            }
            // Its length is in words of 4 bytes, minus two (RFC 4302 section 2.2).
            v6::AUTHENTICATION => cursor.skip(usize::from(extension[1]) * 4)?,
            _ => cursor.skip(usize::from(extension[1]) * 8)?,
        }
    }
    Err(Reject::TooDeep)
}

fn be16(bytes: &[u8], field: Range<usize>) -> u16 {
    u16::from_be_bytes([bytes[field.start], bytes[field.start + 1]])
}

fn padded(address: &[u8]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[..address.len()].copy_from_slice(address);
    wide
}
