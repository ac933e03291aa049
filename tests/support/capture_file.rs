//! Writers of capture files.

use httplines::capture::{Frame, LinkType};
use httplines::ids::IfaceId;
use httplines::time::TimestampNs;

/// The byte order of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The order of x86.
    Little,
    /// The order of s390x.
    Big,
}

impl Order {
    fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }

    fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }
}

/// The unit of a pcap's times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Microseconds; the rest is lost.
    Micro,
    /// Nanoseconds.
    Nano,
}

/// A frame as it is written and as it should be read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrittenFrame {
    /// Nanoseconds since 1970.
    pub ns: u64,
    /// The captured bytes.
    pub bytes: Vec<u8>,
    /// Its length on the wire.
    pub wire_bytes: u32,
    /// The number of its interface in a pcapng; 0 in a pcap.
    pub interface: u32,
}

impl WrittenFrame {
    /// A whole frame, on interface 0.
    pub fn new(ns: u64, bytes: &[u8]) -> WrittenFrame {
        WrittenFrame { ns, bytes: bytes.to_vec(), wire_bytes: bytes.len() as u32, interface: 0 }
    }

    /// The frame as a source with one interface delivers it.
    pub fn as_frame(&self, link: LinkType) -> Frame<'_> {
        Frame {
            bytes: &self.bytes,
            wire_bytes: self.wire_bytes,
            timestamp: TimestampNs(self.ns),
            link,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted: false,
        }
    }

    /// The frame as a capture with this snap length keeps it.
    pub fn snapped(mut self, snap_bytes: usize) -> WrittenFrame {
        self.bytes.truncate(snap_bytes);
        self
    }
}

/// A pcap of frames of link type `link`.
pub fn pcap(order: Order, unit: Unit, link: u32, frames: &[WrittenFrame]) -> Vec<u8> {
    let (magic, unit_ns) = match unit {
        Unit::Micro => (0xa1b2_c3d4, 1000),
        Unit::Nano => (0xa1b2_3c4d, 1),
    };
    let mut file = order.u32(magic).to_vec();
    file.extend([2, 4].map(|version| order.u16(version)).concat());
    file.extend([0, 0, 262_144, link].map(|word| order.u32(word)).concat());
    for frame in frames {
        let seconds = (frame.ns / 1_000_000_000) as u32;
        let fraction = (frame.ns % 1_000_000_000 / unit_ns) as u32;
        let head = [seconds, fraction, frame.bytes.len() as u32, frame.wire_bytes];
        file.extend(head.map(|word| order.u32(word)).concat());
        file.extend(&frame.bytes);
    }
    file
}

/// One section of a pcapng, with an interface for each link type and name; times are nanoseconds.
pub fn pcapng(order: Order, interfaces: &[(u16, &str)], frames: &[WrittenFrame]) -> Vec<u8> {
    let section = [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &[0xff; 8]].concat();
    let mut file = block(order, 0x0a0d_0d0a, &section);
    for (link, name) in interfaces {
        let mut body = [&order.u16(*link)[..], &[0; 6]].concat();
        body.extend(option(order, 2, name.as_bytes()));
        body.extend(option(order, 9, &[9]));
        body.extend(option(order, 0, b""));
        file.extend(block(order, 1, &body));
    }
    for frame in frames {
        let (high, low) = ((frame.ns >> 32) as u32, frame.ns as u32);
        let head = [frame.interface, high, low, frame.bytes.len() as u32, frame.wire_bytes];
        let body = [&head.map(|word| order.u32(word)).concat()[..], &frame.bytes].concat();
        file.extend(block(order, 6, &body));
    }
    file
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let total = order.u32(body.len() as u32 + 12);
    [&order.u32(kind)[..], &total, &body, &total].concat()
}

fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut option = [order.u16(code), order.u16(value.len() as u16)].concat();
    option.extend(value);
    option.resize(option.len().next_multiple_of(4), 0);
    option
}
