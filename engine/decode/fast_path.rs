//! The fast path for almost all frames: a valid TCP segment in IPv4 in Ethernet, without tags, IP
//! options or fragments. All offsets are fixed, so one look at the first bytes replaces the cursor.
//! Tests compare this path with the cursor: where the fast path gives a result, the cursor gives
//! the same.

use super::ip::{is_all_ones, sum_of};
use super::{Segment, SeqNumber, TcpFlags, TunnelPath, protocol};
use crate::capture::{Frame, LinkType};
use crate::ids::{Direction, FlowKey, VLAN_DEPTH_MAX};

/// Size of an Ethernet header, alone and with an IPv4 header without options.
const IP_AT: usize = 14;
const TCP_AT: usize = IP_AT + 20;
/// The same with a TCP header without options.
const HEADER_BYTES_MIN: usize = TCP_AT + 20;

/// The segment in `frame`; `None` if the slow path has to decide.
#[inline(always)]
pub(super) fn segment<'a>(frame: &Frame<'a>) -> Option<Segment<'a>> {
    let bytes = frame.bytes;
    let head = bytes.first_chunk::<HEADER_BYTES_MIN>()?;
    let [high, low, version_ihl] = [head[12], head[13], head[14]];
    let is_plain = frame.link == LinkType::Ethernet && frame.vlan.is_none();
    if !is_plain || [high, low, version_ihl, head[23]] != [0x08, 0, 0x45, protocol::TCP] {
        return None;
    }
    let be16 = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let be32 = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let is_fragment = be16(20) & 0x3fff != 0;
    let header: &[u8; 20] = head[IP_AT..TCP_AT].try_into().ok()?;
    if is_fragment || !is_all_ones(sum_of(header)) {
        return None;
    }
    let tcp_bytes = usize::from(head[46] >> 4) * 4;
    let (start, end) = (TCP_AT + tcp_bytes, IP_AT + usize::from(be16(16)));
    if start < HEADER_BYTES_MIN || end < start {
        return None;
    }
    let payload = bytes.get(start..end.min(bytes.len()))?;
    let header = bytes.get(TCP_AT..start)?;
    // Endpoints are ordered as in `FlowKey::new`, which pads addresses with zeros at the end.
    let (source, destination) = (be32(26), be32(30));
    let order = |address: u32, port: u16| u64::from(address) << 16 | u64::from(port);
    let is_forward = order(source, be16(34)) <= order(destination, be16(36));
    let direction = if is_forward { Direction::Forward } else { Direction::Reverse };
    let ends = if is_forward { [source, destination] } else { [destination, source] };
    let ports = if is_forward { [be16(34), be16(36)] } else { [be16(36), be16(34)] };
    let flags = TcpFlags(head[47]);
    Some(Segment {
        key: FlowKey {
            address: ends.map(|address| (u128::from(address) << 96).to_be_bytes()),
            port: ports.map(u16::to_be_bytes),
            vlan: [0; VLAN_DEPTH_MAX],
            realm: 0,
        },
        direction,
        seq: SeqNumber(be32(38)),
        ack: flags.is_ack().then_some(SeqNumber(be32(42))),
        flags,
        window: be16(48),
        header,
        is_checksum_trusted: frame.is_checksum_trusted,
        payload,
        payload_wire_bytes: (end - start) as u32,
        timestamp: frame.timestamp,
        iface: frame.iface,
        tunnel: TunnelPath::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use crate::config::DecodeConfig;
    use crate::ids::IfaceId;
    use crate::time::TimestampNs;
    use proptest::prelude::*;

    /// Whether the fast path decoded `bytes`. If so, the cursor must give the same result.
    fn is_taken(bytes: &[u8], wire_bytes: u32) -> bool {
        let frame = Frame {
            bytes,
            wire_bytes,
            timestamp: TimestampNs(7),
            link: LinkType::Ethernet,
            vlan: None,
            iface: IfaceId(3),
            is_checksum_trusted: false,
        };
        let Some(found) = segment(&frame) else { return false };
        for is_vlan_ignored in [false, true] {
            let limits = DecodeConfig { is_vlan_ignored, ..DecodeConfig::default() };
            let mut decoder = Decoder::new(limits);
            let wanted = decoder.decode_slow(&frame).unwrap();
            assert_eq!(format!("{found:?}"), format!("{wanted:?}"));
            assert_eq!(decoder.stats().ipv4_checksums_wrong, 0);
        }
        true
    }

    /// A frame that the fast path decodes.
    fn plain(ends: [u8; 12], options: u8, payload: &[u8]) -> Vec<u8> {
        let tcp_bytes = 20 + 4 * usize::from(options);
        let mut bytes = vec![0; TCP_AT + tcp_bytes];
        bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
        let total = (20 + tcp_bytes + payload.len()) as u16;
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        bytes[23] = protocol::TCP;
        bytes[26..34].copy_from_slice(&ends[..8]);
        bytes[34..38].copy_from_slice(&ends[8..]);
        bytes[46] = (5 + options) << 4;
        bytes[47] = TcpFlags::ACK;
        fix_checksum(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Corrects the IPv4 checksum.
    fn fix_checksum(bytes: &mut [u8]) {
        bytes[24..26].fill(0);
        let words = bytes[IP_AT..TCP_AT].as_chunks::<2>().0;
        let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }

    proptest! {
        #[test]
        fn the_walk_says_the_same_of_any_frame(
            ends: [u8; 12],
            is_one_host: bool,
            options in 0..11_u8,
            payload in prop::collection::vec(any::<u8>(), 0..60),
            padding in 0..8_usize,
            changes in prop::collection::vec((12..60_usize, any::<u8>()), 0..3),
            is_mended: bool,
            cut in 0..200_usize,
        ) {
            let mut ends = ends;
            if is_one_host {
                ends.copy_within(0..4, 4);
            }
            let mut bytes = plain(ends, options, &payload);
            bytes.extend(std::iter::repeat_n(0, padding));
            prop_assert!(is_taken(&bytes, bytes.len() as u32));
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if is_mended {
                fix_checksum(&mut bytes);
            }
            is_taken(&bytes, bytes.len() as u32);
            let kept = bytes.len().saturating_sub(cut);
            is_taken(&bytes[..kept], bytes.len() as u32);
        }

        #[test]
        fn the_walk_says_the_same_of_any_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            wire_bytes: u32,
        ) {
            is_taken(&bytes, wire_bytes);
        }
    }
}
