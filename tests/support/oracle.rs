//! etherparse as an oracle for decoding.

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use httplines::decode::Segment;
use httplines::ids::REALM_IPV6;

/// Addresses, ports, sequence number and payload.
pub type Told = (Vec<u8>, [u16; 2], u32, Vec<u8>);

/// What etherparse finds in an Ethernet frame; `None` for fragments, and for MACsec, which we do
/// not read.
pub fn oracle(bytes: &[u8]) -> Option<Told> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    if packet.link_exts.iter().any(|ext| matches!(ext, LinkExtSlice::Macsec(_))) {
        return None;
    }
    let addresses = match packet.net? {
        NetSlice::Ipv4(v4) if !v4.is_payload_fragmented() => {
            [v4.header().source(), v4.header().destination()].concat()
        }
        NetSlice::Ipv6(v6) if !v6.is_payload_fragmented() => {
            [v6.header().source(), v6.header().destination()].concat()
        }
        _ => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
    let ports = [tcp.source_port(), tcp.destination_port()];
    Some((addresses, ports, tcp.sequence_number(), tcp.payload().to_vec()))
}

/// A segment in the oracle's form.
pub fn told(segment: &Segment<'_>) -> Told {
    let (own, peer) = (segment.direction.index(), segment.direction.opposite().index());
    let (key, width) = (&segment.key, if segment.key.realm & REALM_IPV6 != 0 { 16 } else { 4 });
    let addresses = [&key.address[own][..width], &key.address[peer][..width]].concat();
    (addresses, [key.port(own), key.port(peer)], segment.seq.0, segment.payload.to_vec())
}
