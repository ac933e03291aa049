//! A TCP connection as a script: what each side sends, and what goes wrong.

use std::net::SocketAddr;

use super::capture_file::WrittenFrame;
use super::packet::{ACK, FIN, PSH, Packet, RST, SYN};

/// The sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The side that connects.
    Client = 0,
    /// The side that accepts.
    Server = 1,
}

/// The packets of one connection, in the order in which the capture sees them.
#[derive(Clone, Debug)]
pub struct Conversation {
    address: [SocketAddr; 2],
    /// The next sequence number of each side.
    next: [u32; 2],
    segment_bytes: usize,
    vlans: Vec<u16>,
    has_timestamps: bool,
    packets: Vec<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    from: Side,
    packet: Packet,
    payload_bytes: usize,
}

impl Conversation {
    /// A connection between two `address:port`, with initial sequence numbers 1000 and 2000.
    pub fn new(client: &str, server: &str) -> Conversation {
        Conversation {
            address: [client, server].map(|address| address.parse().expect("address:port")),
            next: [1000, 2000],
            segment_bytes: 1460,
            vlans: Vec::new(),
            has_timestamps: false,
            packets: Vec::new(),
        }
    }

    /// Chooses the initial sequence numbers, such as just before the wrap; before anything is sent.
    pub fn isn(self, client: u32, server: u32) -> Conversation {
        Conversation { next: [client, server], ..self }
    }

    /// Chooses the payload bytes of a segment.
    pub fn segment_bytes(self, segment_bytes: usize) -> Conversation {
        Conversation { segment_bytes, ..self }
    }

    /// Puts every packet into this stack of VLANs, outermost first.
    pub fn vlans(self, vlans: &[u16]) -> Conversation {
        Conversation { vlans: vlans.to_vec(), ..self }
    }

    /// Gives every packet a timestamp option, as most hosts do.
    pub fn timestamps(self) -> Conversation {
        Conversation { has_timestamps: true, ..self }
    }

    /// SYN, SYN-ACK, ACK.
    pub fn handshake(&mut self) -> &mut Conversation {
        self.push(Side::Client, SYN, b"");
        self.push(Side::Server, SYN | ACK, b"");
        self.push(Side::Client, ACK, b"")
    }

    /// The client sends `data`, in segments, and the server acknowledges.
    pub fn client(&mut self, data: &[u8]) -> &mut Conversation {
        self.send(Side::Client, data)
    }

    /// The server sends `data`, in segments, and the client acknowledges.
    pub fn server(&mut self, data: &[u8]) -> &mut Conversation {
        self.send(Side::Server, data)
    }

    /// FIN from both sides, the client first.
    pub fn finish(&mut self) -> &mut Conversation {
        self.push(Side::Client, FIN | ACK, b"");
        self.push(Side::Server, FIN | ACK, b"");
        self.push(Side::Client, ACK, b"")
    }

    /// RST from `side`.
    pub fn reset(&mut self, side: Side) -> &mut Conversation {
        self.push(side, RST | ACK, b"")
    }

    /// The capture misses the `nth` segment with payload (from 0) of `side`; the peer had it.
    pub fn lose(&mut self, side: Side, nth: usize) -> &mut Conversation {
        let at = self.data_segment(side, nth);
        self.packets.remove(at);
        self
    }

    /// The `nth` segment with payload of `side` arrives after the `count` packets that followed it.
    pub fn delay(&mut self, side: Side, nth: usize, count: usize) -> &mut Conversation {
        let at = self.data_segment(side, nth);
        self.packets[at..=at + count].rotate_left(1);
        self
    }

    /// The `nth` segment with payload of `side` appears twice.
    pub fn duplicate(&mut self, side: Side, nth: usize) -> &mut Conversation {
        let at = self.data_segment(side, nth);
        self.packets.insert(at, self.packets[at].clone());
        self
    }

    /// The Ethernet frames, the first at `start_ns`, `step_ns` apart.
    pub fn frames(&self, start_ns: u64, step_ns: u64) -> Vec<WrittenFrame> {
        let frame = |(index, sent): (usize, &Sent)| {
            WrittenFrame::new(start_ns + index as u64 * step_ns, &sent.packet.ethernet())
        };
        self.packets.iter().enumerate().map(frame).collect()
    }

    fn send(&mut self, from: Side, data: &[u8]) -> &mut Conversation {
        for segment in data.chunks(self.segment_bytes) {
            self.push(from, PSH | ACK, segment);
        }
        let peer = if from == Side::Client { Side::Server } else { Side::Client };
        self.push(peer, ACK, b"")
    }

    fn push(&mut self, from: Side, flags: u8, payload: &[u8]) -> &mut Conversation {
        let (this, peer) = (from as usize, 1 - from as usize);
        let ack = if flags & ACK != 0 { self.next[peer] } else { 0 };
        let mut packet = Packet::tcp(self.address[this], self.address[peer])
            .seq(self.next[this])
            .ack(ack)
            .flags(flags)
            .payload(payload);
        if self.has_timestamps {
            let clock = (self.packets.len() as u32).to_be_bytes();
            packet = packet.options(&[&[1, 1, 8, 10][..], &clock, &clock].concat());
        }
        for id in &self.vlans {
            packet = packet.vlan(*id);
        }
        let taken = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[this] = self.next[this].wrapping_add(taken);
        self.packets.push(Sent { from, packet, payload_bytes: payload.len() });
        self
    }

    fn data_segment(&self, side: Side, nth: usize) -> usize {
        let mut of_side = self
            .packets
            .iter()
            .enumerate()
            .filter(|(_, sent)| sent.from == side && sent.payload_bytes > 0);
        of_side.nth(nth).expect("there is such a segment").0
    }
}
