//! Frames that strangers send to connections of others: handshakes and data with numbers of their
//! own, and copies of frames that differ.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::packet::{ACK, FIN, PSH, Packet, RST, SYN};

/// Bytes of the Ethernet header.
const LINK_BYTES: usize = 14;

/// What a stranger sends.
#[derive(Clone, Debug)]
enum Forged {
    /// A SYN, and what follows it: the answer, and data from the client or not.
    Handshake { isn: [u32; 2], is_answered: bool, said: Vec<(bool, Vec<u8>)> },
    /// An answer to a SYN that nobody sent.
    Answer { is_client: bool, seq: u32, ack: u32 },
    /// A segment anywhere.
    Segment { is_client: bool, seq: u32, ack: u32, flags: u8, payload: Vec<u8> },
    /// A copy of a frame of the connection with one byte of its payload changed.
    Differing { byte: prop::sample::Index },
    /// A copy with another acknowledgement.
    Acknowledging { off: u32 },
    /// A copy without the ACK flag.
    Unacknowledging,
}

/// A stranger, and before which of the connections' frames its frames are.
#[derive(Clone, Debug)]
pub struct Stranger {
    at: prop::sample::Index,
    forged: Forged,
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<&'static [u8]> = vec![
        b"GET /forged HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-x\r\n",
        b"x",
    ];
    prop::sample::select(texts).prop_map(<[u8]>::to_vec)
}

fn forged() -> impl Strategy<Value = Forged> {
    let flags = prop::sample::select(vec![ACK, ACK | PSH, PSH, FIN | ACK, RST, RST | ACK]);
    prop_oneof![
        (any::<[u32; 2]>(), any::<bool>(), vec((any::<bool>(), words()), 0..4))
            .prop_map(|(isn, is_answered, said)| Forged::Handshake { isn, is_answered, said }),
        any::<(bool, u32, u32)>().prop_map(|(is_client, seq, ack)| Forged::Answer {
            is_client,
            seq,
            ack
        }),
        (any::<(bool, u32, u32)>(), flags, words()).prop_map(
            |((is_client, seq, ack), flags, payload)| {
                Forged::Segment { is_client, seq, ack, flags, payload }
            }
        ),
        any::<prop::sample::Index>().prop_map(|byte| Forged::Differing { byte }),
        any::<u32>().prop_map(|off| Forged::Acknowledging { off }),
        Just(Forged::Unacknowledging),
    ]
}

/// Any stranger.
pub fn stranger() -> impl Strategy<Value = Stranger> {
    (any::<prop::sample::Index>(), forged()).prop_map(|(at, forged)| Stranger { at, forged })
}

/// Where TCP begins in a frame without tags, options or extension headers; `None` in a fragment.
fn tcp_at(frame: &[u8]) -> Option<usize> {
    match frame[LINK_BYTES] >> 4 {
        4 => (frame[20] & 0x3f == 0 && frame[21] == 0).then_some(LINK_BYTES + 20),
        _ => Some(LINK_BYTES + 40),
    }
}

impl Stranger {
    /// Adds its frames to those of the connections between the endpoints, client and server.
    pub fn meddle(&self, ends: [SocketAddr; 2], frames: &mut Vec<Vec<u8>>) {
        if frames.is_empty() {
            return;
        }
        let at = self.at.index(frames.len());
        let forged = self.forged.frames(ends, &frames[at]);
        frames.splice(at..at, forged);
    }
}

impl Forged {
    fn frames(&self, ends: [SocketAddr; 2], near: &[u8]) -> Vec<Vec<u8>> {
        let segment = |is_client: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]| {
            let own = usize::from(!is_client);
            let packet = Packet::tcp(ends[own], ends[1 - own]).seq(seq).ack(ack);
            packet.flags(flags).payload(payload).ethernet()
        };
        match self {
            Forged::Handshake { isn, is_answered, said } => {
                let mut next = isn.map(|isn| isn.wrapping_add(1));
                let mut frames = vec![segment(true, isn[0], 0, SYN, b"")];
                if *is_answered {
                    frames.push(segment(false, isn[1], next[0], SYN | ACK, b""));
                }
                for (is_client, payload) in said {
                    let own = usize::from(!is_client);
                    frames.push(segment(*is_client, next[own], next[1 - own], ACK, payload));
                    next[own] = next[own].wrapping_add(payload.len() as u32);
                }
                frames
            }
            Forged::Answer { is_client, seq, ack } => {
                vec![segment(*is_client, *seq, *ack, SYN | ACK, b"")]
            }
            Forged::Segment { is_client, seq, ack, flags, payload } => {
                vec![segment(*is_client, *seq, *ack, *flags, payload)]
            }
            Forged::Differing { byte } => changed(near, |tcp| {
                let head_bytes = usize::from(tcp[12] >> 4) * 4;
                if tcp.len() > head_bytes {
                    let at = byte.index(tcp.len() - head_bytes);
                    tcp[head_bytes + at] ^= 1;
                }
            }),
            Forged::Acknowledging { off } => changed(near, |tcp| {
                let ack = u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
                tcp[8..12].copy_from_slice(&ack.wrapping_add(*off).to_be_bytes());
            }),
            Forged::Unacknowledging => changed(near, |tcp| tcp[13] &= !ACK),
        }
    }
}

/// A copy of a frame, with its TCP changed, and its checksum right. (Of data that the filter elides
/// nobody can see that a checksum is wrong.)
fn changed(frame: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<Vec<u8>> {
    const CHECKSUM_AT: usize = 16;
    let Some(at) = tcp_at(frame) else { return Vec::new() };
    let mut copy = frame.to_vec();
    let tcp = &mut copy[at..];
    let sum = sum_of(tcp);
    change(tcp);
    tcp[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    let missing = folded(u32::from(sum) + u32::from(!sum_of(tcp)));
    tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&missing.to_be_bytes());
    vec![copy]
}

/// The ones' complement sum of the bytes.
fn sum_of(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    folded(bytes.chunks(2).map(word).sum())
}

fn folded(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    ((once >> 16) + once) as u16
}
