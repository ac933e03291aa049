//! A TCP packet, built so that a test reads like the packet.

use std::net::{IpAddr, SocketAddr};

/// TCP flags.
pub const FIN: u8 = 0x01;
/// See [`FIN`].
pub const SYN: u8 = 0x02;
/// See [`FIN`].
pub const RST: u8 = 0x04;
/// See [`FIN`].
pub const PSH: u8 = 0x08;
/// See [`FIN`].
pub const ACK: u8 = 0x10;

/// A TCP segment with all headers around it; checksums and lengths are always right.
#[derive(Clone, Debug)]
pub struct Packet {
    source: SocketAddr,
    destination: SocketAddr,
    tags: Vec<(u16, u16)>,
    seq: u32,
    ack: u32,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Packet {
    /// An empty segment; both addresses are IPv4 or both are IPv6.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Packet {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one family");
        Packet {
            source,
            destination,
            tags: Vec::new(),
            seq: 0,
            ack: 0,
            flags: ACK,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Adds an 802.1Q tag inside the existing tags.
    pub fn vlan(self, id: u16) -> Packet {
        self.tag(0x8100, id)
    }

    /// Adds a tag of any kind (0x88a8 for 802.1ad) inside the existing tags.
    pub fn tag(mut self, ethertype: u16, tci: u16) -> Packet {
        self.tags.push((ethertype, tci));
        self
    }

    /// Sets the sequence number.
    pub fn seq(self, seq: u32) -> Packet {
        Packet { seq, ..self }
    }

    /// Sets the acknowledgement number.
    pub fn ack(self, ack: u32) -> Packet {
        Packet { ack, ..self }
    }

    /// Sets the flags, all of them.
    pub fn flags(self, flags: u8) -> Packet {
        Packet { flags, ..self }
    }

    /// Sets the TCP options; padded to words with no-operations.
    pub fn options(mut self, options: &[u8]) -> Packet {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 1);
        self
    }

    /// Sets the payload.
    pub fn payload(self, payload: &[u8]) -> Packet {
        Packet { payload: payload.to_vec(), ..self }
    }

    /// The bytes from the Ethernet header onwards.
    pub fn ethernet(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for (ethertype, tci) in &self.tags {
            bytes.extend(ethertype.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        bytes.extend(self.ip());
        bytes
    }

    /// The bytes from the IP header onwards.
    pub fn ip(&self) -> Vec<u8> {
        let tcp = self.segment();
        let header = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = (20 + tcp.len() as u16).to_be_bytes();
                let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = checksum(&header).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                header
            }
            (source, destination) => {
                let length = (tcp.len() as u16).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, length[0], length[1], 6, 64];
                header.extend(octets(source));
                header.extend(octets(destination));
                header
            }
        };
        [header, tcp].concat()
    }

    /// The TCP header, options and payload.
    fn segment(&self) -> Vec<u8> {
        let mut tcp = [self.source.port(), self.destination.port()].map(u16::to_be_bytes).concat();
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        // As real endpoints do, a SYN has the window scale option: windows of 8 MiB.
        let is_plain_syn = self.flags & SYN != 0 && self.options.is_empty();
        let options = if is_plain_syn { &[3, 3, 7, 1][..] } else { &self.options };
        let words = 5 + options.len() as u8 / 4;
        tcp.extend([words << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(&self.payload);
        let mut pseudo = octets(self.source.ip());
        pseudo.extend(octets(self.destination.ip()));
        pseudo.extend((tcp.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, 6]);
        pseudo.extend(&tcp);
        let sum = checksum(&pseudo).to_be_bytes();
        tcp[16..18].copy_from_slice(&sum);
        tcp
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet checksum, RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
