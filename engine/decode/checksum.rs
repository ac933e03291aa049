//! The checksum of a TCP segment (RFC 9293 section 3.1). It is verified where a segment decides
//! about a whole connection, not for every segment: that would read every byte of every payload.

use super::{Segment, protocol};
use crate::ids::REALM_IPV6;

/// Where the checksum is in the header.
const CHECKSUM_AT: usize = 16;

/// The sum of `bytes` in words of the machine's byte order, added to `sum`. Folded to 16 bits, it
/// is the one's complement sum in that order: RFC 1071 section 2.
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let sum = sum + u64::from(u32::from_ne_bytes(last));
    words.iter().fold(sum, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl Segment<'_> {
    /// Whether it can be known whether the checksum is right: all of the segment was captured.
    pub fn is_checksum_known(&self) -> bool {
        !self.header.is_empty() && self.payload.len() == self.payload_wire_bytes as usize
    }

    /// Whether the receiver discards the segment because of its checksum. False if that cannot be
    /// known, if the network card or the kernel vouches for the checksum, or if the sender left it
    /// to its network card. In the last case the field holds the sum of the pseudo-header only
    /// (`CHECKSUM_PARTIAL` in the kernel's `include/linux/skbuff.h`).
    pub fn is_checksum_wrong(&self) -> bool {
        let Some(field) = self.header.get(CHECKSUM_AT..CHECKSUM_AT + 2) else { return false };
        if self.is_checksum_trusted || !self.is_checksum_known() {
            return false;
        }
        let tcp_bytes = (self.header.len() + self.payload.len()) as u32;
        let [first, second] = &self.key.address;
        let pseudo = match self.key.realm & REALM_IPV6 != 0 {
            true => add(add(0, first), second),
            false => add(add(0, &first[..4]), &second[..4]),
        };
        // Some cards add the length themselves.
        let without_length = add(pseudo, &[0, protocol::TCP]);
        let pseudo = add(without_length, &tcp_bytes.to_be_bytes());
        let field = u16::from_ne_bytes([field[0], field[1]]);
        let is_offloaded = [fold(pseudo), fold(without_length)].contains(&field);
        // The checksum itself is part of the sum, which is then all ones.
        !is_offloaded && fold(add(add(pseudo, self.header), self.payload)) != 0xffff
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::{Frame, LinkType};
    use crate::config::DecodeConfig;
    use crate::decode::Decoder;
    use crate::ids::IfaceId;
    use crate::time::TimestampNs;
    use etherparse::PacketBuilder;

    fn packet(is_v6: bool, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = match is_v6 {
            true => builder.ipv6([1; 16], [2; 16], 64),
            false => builder.ipv4([10, 0, 0, 9], [10, 0, 0, 1], 64),
        };
        let mut bytes = Vec::new();
        builder.tcp(40_000, 80, 1234, 1024).ack(5).write(&mut bytes, payload).expect("it fits");
        bytes
    }

    /// Whether the checksum of the segment in `bytes` is found to be wrong.
    fn is_wrong(bytes: &[u8], wire_bytes: usize, is_checksum_trusted: bool) -> bool {
        let frame = Frame {
            bytes,
            wire_bytes: wire_bytes as u32,
            timestamp: TimestampNs(1),
            link: LinkType::Ethernet,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted,
        };
        Decoder::new(DecodeConfig::default()).decode(&frame).expect("a segment").is_checksum_wrong()
    }

    #[test]
    fn a_wrong_checksum_is_found_where_the_sender_computed_one() {
        for (is_v6, payload) in [(false, &b"odd"[..]), (true, b"even"), (false, b""), (true, b"x")]
        {
            let mut bytes = packet(is_v6, payload);
            let len = bytes.len();
            assert!(!is_wrong(&bytes, len, false));
            bytes[len - 1 - payload.len()] ^= 1; // the urgent pointer's last byte
            assert!(is_wrong(&bytes, len, false));
            assert!(!is_wrong(&bytes, len, true), "the kernel vouches for it");
            let cut = if payload.is_empty() { len } else { len - 1 };
            assert_eq!(is_wrong(&bytes[..cut], len, false), cut == len, "not all was captured");
        }
    }

    #[test]
    fn a_checksum_that_is_left_to_the_network_card_is_not_wrong() {
        let mut bytes = packet(false, b"payload");
        let at = 14 + 20;
        // The sum of addresses, protocol and length, without the final complement.
        let sum = 0x0a00 + 0x0009 + 0x0a00 + 0x0001 + 6 + 27_u16;
        bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        assert!(!is_wrong(&bytes, bytes.len(), false));
        bytes[at + 16..at + 18].copy_from_slice(&(sum + 1).to_be_bytes());
        assert!(is_wrong(&bytes, bytes.len(), false));
    }
}
