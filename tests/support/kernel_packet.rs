//! Packets as the kernel filter sees them, built from the inside out, and runs of the filter on
//! them.

// The benchmark harness uses only a part of this.
#![allow(dead_code)]

use httplines::config::{CaptureConfig, DecodeConfig};
use httplines::ids::FlowKey;
use httplines::sys::counters::Reason;
use httplines::sys::filter::{Filter, Gate};
use httplines::sys::program::test_run;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
pub const PROTOCOL_GRE: u8 = 47;
pub const TYPE_IPV4: u16 = 0x0800;
pub const TYPE_IPV6: u16 = 0x86dd;
pub const TYPE_VLAN: u16 = 0x8100;
pub const TYPE_QINQ: u16 = 0x88a8;
/// The type of outer tags before 802.1ad had its own; the kernel leaves these tags in the frame.
pub const TYPE_OLD_QINQ: u16 = 0x9100;

pub const CLIENT_V4: [u8; 4] = [10, 0, 0, 9];
pub const SERVER_V4: [u8; 4] = [10, 0, 0, 1];
/// The default sequence number of segments.
pub const SEQ: u32 = 7;
pub const CLIENT_PORT: u16 = 40_000;
pub const SERVER_PORT: u16 = 8080;

/// The configuration of a filter whose tables hold this many sessions, and as many openings.
pub fn config_for(connection_count: u32) -> CaptureConfig {
    let (session_count_max, opening_count_max) = (connection_count, connection_count);
    CaptureConfig { session_count_max, opening_count_max, ..Default::default() }
}

/// A filter whose gate is open, or `None` where we may not load one: a test then ends with `skip!`.
pub fn load(config: &CaptureConfig, decode: &DecodeConfig) -> Option<Filter> {
    match Filter::load(config, decode) {
        // The verifier's refusal, EACCES, is no reason to skip a test.
        Err(error) if error.errno() == Some(libc::EPERM) => None,
        result => {
            let filter = result.expect("the kernel takes the filter");
            filter.gate(Gate::Open);
            Some(filter)
        }
    }
}

/// Makes the filter forget all connections.
pub fn forget(filter: &Filter) {
    for map in [filter.sessions(), filter.openings()] {
        map.keys().for_each(|key| map.delete(&key).expect("it was there"));
    }
}

/// The direction of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heading {
    ToServer,
    ToClient,
}

/// A TCP segment with a header of 20 bytes.
pub fn tcp(way: Heading, flags: u8, payload: &[u8]) -> Vec<u8> {
    tcp_between(way, (CLIENT_PORT, SERVER_PORT), flags, payload)
}

/// A TCP segment between a client's and a server's port.
pub fn tcp_between(
    way: Heading,
    (client, server): (u16, u16),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let (source, destination) = match way {
        Heading::ToServer => (client, server),
        Heading::ToClient => (server, client),
    };
    let mut segment = Vec::with_capacity(20 + payload.len());
    segment.extend(source.to_be_bytes());
    segment.extend(destination.to_be_bytes());
    segment.extend(SEQ.to_be_bytes());
    segment.extend([0, 0, 0, 9, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    segment
}

/// A TCP segment at a sequence number, with `options` (a multiple of four bytes) in its header.
pub fn tcp_at(way: Heading, seq: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = tcp(way, flags, &[options, payload].concat());
    segment[4..8].copy_from_slice(&seq.to_be_bytes());
    segment[12] = ((20 + options.len()) as u8 / 4) << 4;
    segment
}

/// An IPv4 packet without options.
pub fn ipv4(way: Heading, protocol: u8, body: &[u8]) -> Vec<u8> {
    ipv4_with_options(way, protocol, &[], body)
}

/// An IPv4 packet; `options` is a multiple of four bytes long.
pub fn ipv4_with_options(way: Heading, protocol: u8, options: &[u8], body: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let mut packet = vec![0x40 | (header_bytes / 4) as u8, 0];
    packet.extend(((header_bytes + body.len()) as u16).to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    let (source, destination) = match way {
        Heading::ToServer => (CLIENT_V4, SERVER_V4),
        Heading::ToClient => (SERVER_V4, CLIENT_V4),
    };
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    packet.extend(body);
    packet
}

/// The client's IPv6 address; the server's ends with 1.
pub fn client_v6() -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[15]) = (0xfd, 9);
    address
}

/// The server's IPv6 address.
pub fn server_v6() -> [u8; 16] {
    let mut address = client_v6();
    address[15] = 1;
    address
}

/// An IPv6 packet; `next` says what `body` begins with.
pub fn ipv6(way: Heading, next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    let (source, destination) = match way {
        Heading::ToServer => (client_v6(), server_v6()),
        Heading::ToClient => (server_v6(), client_v6()),
    };
    packet.extend(source);
    packet.extend(destination);
    packet.extend(body);
    packet
}

/// An IPv6 extension header of `eights` times eight bytes, followed by `body`.
pub fn extension(next: u8, eights: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0; usize::from(eights) * 8];
    (header[0], header[1]) = (next, eights - 1);
    header.extend(body);
    header
}

/// An Ethernet frame with `tags` (protocol and control information, outermost first).
pub fn ethernet(tags: &[(u16, u16)], ether_type: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    for (protocol, control) in tags {
        frame.extend(protocol.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(body);
    frame
}

/// TCP over IPv4 over Ethernet.
pub fn frame(way: Heading, flags: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], TYPE_IPV4, &ipv4(way, PROTOCOL_TCP, &tcp(way, flags, payload)))
}

/// The key of the connection between client and server over IPv4, in the VLANs `vlan`.
pub fn key_v4(vlan: &[u16]) -> FlowKey {
    let wide = |address: [u8; 4]| {
        let mut wide = [0; 16];
        wide[..4].copy_from_slice(&address);
        wide
    };
    key(wide(CLIENT_V4), wide(SERVER_V4), vlan, 0)
}

/// The key of the connection between client and server over IPv6.
pub fn key_v6() -> FlowKey {
    key(client_v6(), server_v6(), &[], httplines::ids::REALM_IPV6)
}

fn key(client: [u8; 16], server: [u8; 16], vlan: &[u16], realm: u32) -> FlowKey {
    let mut stack = [0; 4];
    stack[..vlan.len()].copy_from_slice(vlan);
    let client = (client, CLIENT_PORT.to_be_bytes());
    FlowKey::new(client, (server, SERVER_PORT.to_be_bytes()), stack, realm).0
}

/// The bytes of a key as in the kernel's maps.
pub fn key_bytes(key: &FlowKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    bytes.extend(key.address.as_flattened());
    bytes.extend(key.port.as_flattened());
    key.vlan.iter().for_each(|id| bytes.extend(id.to_ne_bytes()));
    bytes.extend(key.realm.to_ne_bytes());
    bytes
}

/// The part of `struct connection` after [`Known`]: the state of parsing a session's heads.
const READING_BYTES: usize = 32;

/// `struct connection` of bpf/connection.h: what the filter knows of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Known {
    pub isn: [u32; 2],
    pub flags: u32,
    pub bytes: u32,
    pub settled: u64,
}

impl Known {
    /// The bytes as in the maps.
    pub fn bytes(&self) -> Vec<u8> {
        let words = [self.isn[0], self.isn[1], self.flags, self.bytes].map(u32::to_ne_bytes);
        [words.as_flattened(), &self.settled.to_ne_bytes(), &[0; READING_BYTES]].concat()
    }

    /// From a map's value.
    pub fn of(value: &[u8]) -> Known {
        let word = |at: usize| u32::from_ne_bytes(value[at..at + 4].try_into().expect("four"));
        let settled = u64::from_ne_bytes(value[16..24].try_into().expect("eight"));
        Known { isn: [word(0), word(4)], flags: word(8), bytes: word(12), settled }
    }
}

/// Runs the filter once and returns the reason that it counted. Checks that it counted exactly one,
/// and that the verdict is the reason's.
pub fn reason_of(filter: &Filter, frame: &[u8]) -> Reason {
    verdict_of(filter, frame).0
}

/// The same, with the number of bytes that it passed: some of an elided frame, all or none of
/// others.
pub fn verdict_of(filter: &Filter, frame: &[u8]) -> (Reason, u32) {
    let before = filter.counters();
    let passed_bytes = test_run(filter.program(), frame, 1).expect("a test run").passed_bytes;
    let after = filter.counters();
    let counted: Vec<Reason> = Reason::ALL
        .iter()
        .copied()
        .filter(|reason| after.of(*reason) != before.of(*reason))
        .collect();
    assert_eq!(counted.len(), 1, "one reason for each frame: {counted:?}");
    assert_eq!(after.of(counted[0]), before.of(counted[0]) + 1);
    let is_cut = passed_bytes != 0x7fff_ffff;
    if counted[0] == Reason::Elided || (counted[0] == Reason::TlsWanted && is_cut) {
        assert!(passed_bytes > 0 && (passed_bytes as usize) < frame.len());
    } else {
        assert_eq!(passed_bytes, if counted[0].is_pass() { 0x7fff_ffff } else { 0 });
    }
    (counted[0], passed_bytes)
}
