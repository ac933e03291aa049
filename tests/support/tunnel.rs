//! Encapsulations: each function puts the headers of one in front of its payload.

use super::packet::checksum;

/// The IP protocol numbers of the packets built here.
pub const IPIP: u8 = 4;
/// See [`IPIP`].
pub const UDP: u8 = 17;
/// See [`IPIP`].
pub const SIX_IN_FOUR: u8 = 41;
/// See [`IPIP`].
pub const GRE: u8 = 47;

/// The EtherType of the IP packet `inner`.
pub fn ethertype_of(inner: &[u8]) -> u16 {
    if inner[0] >> 4 == 4 { 0x0800 } else { 0x86dd }
}

/// An Ethernet header of this EtherType.
pub fn ethernet(ethertype: u16, inner: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes()[..], inner].concat()
}

/// An Ethernet frame with the IP packet `inner`.
pub fn bridged(inner: &[u8]) -> Vec<u8> {
    ethernet(ethertype_of(inner), inner)
}

/// An IPv4 packet from 192.0.2.1 to 192.0.2.2 whose second word (id and fragment) is `word`.
pub fn ipv4_with(word: u32, protocol: u8, inner: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + inner.len() as u16).to_be_bytes());
    header.extend(word.to_be_bytes());
    header.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&header, inner].concat()
}

/// An IPv4 packet from 192.0.2.1 to 192.0.2.2.
pub fn ipv4(protocol: u8, inner: &[u8]) -> Vec<u8> {
    ipv4_with(0, protocol, inner)
}

/// An IPv6 packet from 2001:db8::1 to 2001:db8::2.
pub fn ipv6(next: u8, inner: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((inner.len() as u16).to_be_bytes());
    header.extend([next, 64]);
    for last in [1, 2] {
        header.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&header, inner].concat()
}

/// A UDP datagram; without checksum, as RFC 768 allows.
pub fn udp(source: u16, destination: u16, inner: &[u8]) -> Vec<u8> {
    let words = [source, destination, 8 + inner.len() as u16, 0].map(u16::to_be_bytes).concat();
    [&words, inner].concat()
}

/// UDP in IPv4.
pub fn udp4(source: u16, destination: u16, inner: &[u8]) -> Vec<u8> {
    ipv4(UDP, &udp(source, destination, inner))
}

/// GRE in IPv4: `fields` are the fields that `flags` announce.
pub fn gre(flags: u16, protocol: u16, fields: &[u8], inner: &[u8]) -> Vec<u8> {
    let head = [flags, protocol].map(u16::to_be_bytes).concat();
    ipv4(GRE, &[&head, fields, inner].concat())
}

/// A 32-bit word in network byte order.
pub fn word(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// An MPLS label stack.
pub fn mpls(labels: &[u32], inner: &[u8]) -> Vec<u8> {
    let last = labels.len() - 1;
    let entry =
        |(index, label): (usize, &u32)| word(label << 12 | u32::from(index == last) << 8 | 64);
    [labels.iter().enumerate().flat_map(entry).collect::<Vec<u8>>(), inner.to_vec()].concat()
}

/// PPP without address and control.
pub fn ppp(inner: &[u8]) -> Vec<u8> {
    let protocol: [u8; 2] = if inner[0] >> 4 == 4 { [0, 0x21] } else { [0, 0x57] };
    [&protocol, inner].concat()
}

/// PPPoE, after its EtherType.
pub fn pppoe(session: u16, ppp: &[u8]) -> Vec<u8> {
    let words = [session, ppp.len() as u16].map(u16::to_be_bytes).concat();
    [&[0x11, 0], &words[..], ppp].concat()
}

/// VXLAN in UDP.
pub fn vxlan(port: u16, vni: u32, frame: &[u8]) -> Vec<u8> {
    udp4(49152, port, &[&word(0x0800_0000), &word(vni << 8), frame].concat())
}

/// Geneve in UDP; `options` are whole words.
pub fn geneve(vni: u32, options: &[u8], protocol: u16, inner: &[u8]) -> Vec<u8> {
    let first = word((options.len() as u32 / 4) << 24 | u32::from(protocol));
    udp4(49152, 6081, &[&first, &word(vni << 8), options, inner].concat())
}

/// A G-PDU of GTP-U; `optional` holds the fields that `flags` announce.
pub fn gtpu(flags: u8, teid: u32, optional: &[u8], inner: &[u8]) -> Vec<u8> {
    let length = ((optional.len() + inner.len()) as u16).to_be_bytes();
    let head = [0x30 | flags, 255, length[0], length[1]];
    udp4(2152, 2152, &[&head, &word(teid)[..], optional, inner].concat())
}

/// 802.11 with LLC and SNAP: `control` is the frame control field, `more` are the bytes after the
/// sequence control.
pub fn wifi(control: [u8; 2], more: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut header = control.to_vec();
    header.resize(24, 0);
    [&header, more, &snap(inner)].concat()
}

/// LLC and SNAP.
pub fn snap(inner: &[u8]) -> Vec<u8> {
    [&[0xaa, 0xaa, 3, 0, 0, 0], &ethertype_of(inner).to_be_bytes()[..], inner].concat()
}
