//! Frames: templates, and the frames that a round makes from them. `bpf/traffic.bpf.c` makes the
//! same frames in the kernel; here they are made for packet sockets, and for comparison in tests.

use crate::traffic::Step;

/// Ethernet, IPv4 and TCP headers without options.
pub const HEADER_BYTES: usize = 54;
/// The maximum payload of a segment at an MTU of 1500.
pub const SEGMENT_BYTES: usize = 1460;

/// Ethernet, IPv4, UDP and VXLAN headers (RFC 7348), before the tunnelled frame.
pub const TUNNEL_BYTES: usize = 50;

/// `KIND_…` of bpf/traffic.h: which fields of its template a frame changes.
pub mod kind {
    /// Nothing.
    pub const VERBATIM: u8 = 0;
    /// TCP over IPv4, from the client: endpoints, numbers, checksums.
    pub const CLIENT: u8 = 1;
    /// The same, to the client.
    pub const SERVER: u8 = 2;
    /// UDP over IPv4 without checksum, from the client: endpoints.
    pub const DATAGRAM: u8 = 3;
    /// A word; the round is added to its upper half.
    pub const REPLAY: u8 = 4;
}

/// `TEXT_…` of bpf/traffic.h: where a frame names its request.
pub mod text {
    /// Nowhere.
    pub const NONE: u8 = 0;
    /// Number and intended time, at [`REQUEST_AT`](super::REQUEST_AT).
    pub const REQUEST: u8 = 1;
    /// Number, at [`RESPONSE_AT`](super::RESPONSE_AT).
    pub const RESPONSE: u8 = 2;
    /// In a header block of HTTP/2: number and intended time, at [`HEADERS_AT`](super::HEADERS_AT).
    pub const HEADERS: u8 = 3;
    /// In the name of a server of TLS: number and intended time, at [`SNI_AT`](super::SNI_AT).
    pub const SNI: u8 = 4;
}

/// Where a request's digits are: `REQUEST_TEXT_AT`.
pub const REQUEST_AT: usize = 62;
/// Number of digits: 8 of the request's number and 16 of its intended time, in nanoseconds since
/// 1970.
pub const REQUEST_DIGITS: usize = 24;
/// Where a response's digits are: `RESPONSE_TEXT_AT`.
pub const RESPONSE_AT: usize = 80;
/// Number of digits: those of its request's number.
pub const RESPONSE_DIGITS: usize = 8;
/// Where the digits of a request of HTTP/2 are: `HEADERS_TEXT_AT`.
pub const HEADERS_AT: usize = 70;
/// Where the digits in the name of a server of TLS are: `SNI_TEXT_AT`.
pub const SNI_AT: usize = 180;

/// TCP flags.
pub mod flag {
    /// The last segment of a direction.
    pub const FIN: u8 = 1;
    /// The first.
    pub const SYN: u8 = 2;
    /// The connection is aborted.
    pub const RST: u8 = 4;
    /// Data for the application.
    pub const PSH: u8 = 8;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 16;
}

const CLIENT_NETWORK: u32 = 0x0a00_0000;
const CLIENT_PORT_FIRST: u32 = 10_000;
const CLIENT_PORT_COUNT: u32 = 50_000;
/// Of no interface here: the stack drops frames for other hosts, as behind a mirror port.
const SERVER_MAC: [u8; 6] = [2, 0x68, 0x74, 0x74, 0x70, 1];
const CLIENT_MAC: [u8; 6] = [2, 0x68, 0x74, 0x74, 0x70, 2];
const SERVER: [u8; 4] = [172, 16, 0, 1];
/// The endpoints of the tunnel; the clients' side first.
const TUNNEL: [[u8; 4]; 2] = [[172, 17, 0, 1], [172, 17, 0, 2]];
const VXLAN_PORT: u16 = 4789;
const VXLAN_NETWORK: u8 = 42;

/// The direction of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Heading {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
}

impl Heading {
    /// The [`kind`] of a TCP frame in this direction.
    pub fn kind(self) -> u8 {
        match self {
            Heading::ToServer => kind::CLIENT,
            Heading::ToClient => kind::SERVER,
        }
    }
}

/// A TCP frame with zeros in all fields that differ from frame to frame, and for each checksum the
/// sum of the words it covers.
pub fn tcp(way: Heading, flags: u8, server_port: u16, payload: &[u8]) -> Vec<u8> {
    let port = server_port.to_be_bytes();
    let ports = match way {
        Heading::ToServer => [0, 0, port[0], port[1]],
        Heading::ToClient => [port[0], port[1], 0, 0],
    };
    let mut frame = headers(way, 6, 20 + payload.len());
    frame.extend(ports);
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    let length = (frame.len() - 34) as u32;
    let pseudo = sum(&SERVER) + u64::from(6u16.to_be()) + halves(length.to_be().into());
    let of_tcp = fold(pseudo + sum(&frame[34..]));
    frame[50..52].copy_from_slice(&of_tcp.to_ne_bytes());
    // The minimum length of a frame on Ethernet.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Payload of a TCP frame.
pub fn payload_bytes(frame: &[u8]) -> u32 {
    u32::from(u16::from_be_bytes([frame[16], frame[17]]) - 40)
}

/// How much a TCP frame advances its sender's sequence number.
pub fn sequence_length(frame: &[u8]) -> u32 {
    payload_bytes(frame) + u32::from(frame[47] & (flag::SYN | flag::FIN) != 0)
}

/// A UDP frame from the client.
pub fn datagram(server_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = headers(Heading::ToServer, 17, 8 + payload.len());
    frame.extend([0, 0]);
    frame.extend(server_port.to_be_bytes());
    frame.extend(((8 + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    // The minimum length of a frame on Ethernet.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A frame in a VXLAN tunnel.
pub fn in_tunnel(way: Heading, inner: &[u8]) -> Vec<u8> {
    let mut frame = datagram(VXLAN_PORT, &[&[8, 0, 0, 0, 0, 0, VXLAN_NETWORK, 0], inner].concat());
    let [client, server] = TUNNEL;
    let ends = if way == Heading::ToServer { [client, server] } else { [server, client] };
    put(&mut frame, 26, ends.as_flattened());
    put(&mut frame, 34, &CLIENT_PORT_FIRST.to_be_bytes()[2..]);
    put(&mut frame, 24, &[0; 2]);
    let of_ip = !fold(sum(&frame[14..34]));
    put(&mut frame, 24, &of_ip.to_ne_bytes());
    frame
}

fn headers(way: Heading, protocol: u8, body_bytes: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + body_bytes);
    let ends = match way {
        Heading::ToServer => [SERVER_MAC, CLIENT_MAC],
        Heading::ToClient => [CLIENT_MAC, SERVER_MAC],
    };
    frame.extend(ends.as_flattened());
    frame.extend([8, 0]);
    let total = ((20 + body_bytes) as u16).to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    let addresses = match way {
        Heading::ToServer => [[0; 4], SERVER],
        Heading::ToClient => [SERVER, [0; 4]],
    };
    frame.extend(addresses.as_flattened());
    let of_ip = fold(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&of_ip.to_ne_bytes());
    frame
}

/// The values in which the frames of one round differ from those of another.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The round, from 0.
    pub round: u32,
    /// Connections of a round.
    pub connection_count: u32,
    /// Requests of a round.
    pub request_count: u32,
    /// Size of a tunnel's headers, before the fields that change.
    pub prefix_bytes: usize,
}

/// The state of a frame's TCP checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// Complete.
    Whole,
    /// The sum of the pseudo header, to be completed by the segmentation of the frame.
    Partial,
}

/// Makes the frame of `step` from a copy of its template.
pub fn finish(frame: &mut [u8], step: &Step, turn: &Turn, time_ns: u64, checksum: Checksum) {
    match step.kind {
        kind::REPLAY => readdress(frame, step, turn.round),
        kind::CLIENT | kind::SERVER | kind::DATAGRAM => {
            let frame = &mut frame[turn.prefix_bytes..];
            patch(frame, step, turn, time_ns);
            if checksum == Checksum::Partial && step.kind != kind::DATAGRAM {
                let length = (frame.len() - 34) as u32;
                let pseudo = sum(&frame[26..34]) + u64::from(6u16.to_be());
                let partial = fold(pseudo + halves(length.to_be().into()));
                put(frame, 50, &partial.to_ne_bytes());
            }
        }
        _ => {}
    }
}

fn patch(frame: &mut [u8], step: &Step, turn: &Turn, time_ns: u64) {
    let connection = turn.round.wrapping_mul(turn.connection_count).wrapping_add(step.connection);
    let address = (CLIENT_NETWORK + connection / CLIENT_PORT_COUNT).to_be_bytes();
    let port = ((CLIENT_PORT_FIRST + connection % CLIENT_PORT_COUNT) as u16).to_be_bytes();
    let of_client = connection.wrapping_mul(0x9e37_79b1);
    let of_server = connection.wrapping_mul(0x85eb_ca77).wrapping_add(1);
    let (address_at, port_at, seq, mut ack) = match step.kind {
        kind::SERVER => (30, 36, of_server, of_client),
        _ => (26, 34, of_client, of_server),
    };
    let seq = seq.wrapping_add(step.seq).to_be_bytes();
    ack = ack.wrapping_add(step.ack);
    put(frame, address_at, &address);
    put(frame, port_at, &port);
    let of_ip = !fold(u64::from(word(frame, 24)) + sum(&address));
    put(frame, 24, &of_ip.to_ne_bytes());
    if step.kind == kind::DATAGRAM {
        return;
    }
    if frame[47] & flag::ACK == 0 {
        ack = 0;
    }
    put(frame, 38, &seq);
    put(frame, 42, &ack.to_be_bytes());
    let number = turn.round.wrapping_mul(turn.request_count).wrapping_add(step.number);
    let digits = match step.text {
        text::REQUEST | text::HEADERS | text::SNI => format!("{number:08x}{time_ns:016x}"),
        text::RESPONSE => format!("{number:08x}"),
        _ => String::new(),
    };
    let at = match step.text {
        text::REQUEST => REQUEST_AT,
        text::HEADERS => HEADERS_AT,
        text::SNI => SNI_AT,
        _ => RESPONSE_AT,
    };
    if !digits.is_empty() {
        put(frame, at, digits.as_bytes());
    }
    let fields = [&address[..], &port, &seq, &ack.to_be_bytes(), digits.as_bytes()];
    let changed: u64 = fields.iter().map(|field| sum(field)).sum();
    let of_tcp = !fold(u64::from(word(frame, 50)) + changed);
    put(frame, 50, &of_tcp.to_ne_bytes());
}

fn readdress(frame: &mut [u8], step: &Step, round: u32) {
    let at = step.seq as usize;
    let Some(from) = frame.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()) else { return };
    let to = u32::from_be_bytes(from).wrapping_add(round << 16).to_be_bytes();
    put(frame, at, &to);
    for at in [(step.ack & 0xffff) as usize, (step.ack >> 16) as usize] {
        if at == 0 || at + 2 > frame.len() {
            continue;
        }
        // RFC 1624: the sum minus the old word, plus the new.
        let old = from.map(|byte| !byte);
        let check = !fold(u64::from(!word(frame, at)) + sum(&old) + sum(&to));
        put(frame, at, &check.to_ne_bytes());
    }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([frame[at], frame[at + 1]])
}

/// The sum of two-byte words in memory order: RFC 1071.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
    bytes.chunks(2).map(|pair| u64::from(word(pair))).sum()
}

fn halves(words: u64) -> u64 {
    sum(&words.to_ne_bytes())
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::Round;
    use crate::workload::Workload;
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    /// Frame `index` of the second round of `round`.
    fn second(round: &Round, index: usize, checksum: Checksum) -> Vec<u8> {
        let step = &round.steps[index];
        let mut made = round.templates[step.template as usize].clone();
        finish(&mut made, step, &round.turn(1), 0x1234_5678_9abc_def0, checksum);
        made
    }

    #[test]
    fn checksums_are_right() {
        use Workload::{H2, Noise, Small, Superpackets, Tls, Tunnel, Websocket};
        for workload in [Small, H2, Websocket, Tls, Noise, Superpackets, Tunnel] {
            let round = workload.round(5, 600);
            for index in 0..round.steps.len() {
                assert_checksums(&second(&round, index, Checksum::Whole));
            }
        }
    }

    #[track_caller]
    fn assert_checksums(frame: &[u8]) {
        let mut headers = PacketHeaders::from_ethernet_slice(frame).unwrap();
        if let Some(TransportHeader::Udp(udp)) = &headers.transport
            && udp.destination_port == VXLAN_PORT
        {
            let Some(NetHeaders::Ipv4(ip, _)) = headers.net else { panic!("IPv4") };
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            headers = PacketHeaders::from_ethernet_slice(&frame[TUNNEL_BYTES..]).unwrap();
        }
        let Some(NetHeaders::Ipv4(ip, _)) = headers.net else { panic!("IPv4") };
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let payload = headers.payload.slice();
        if let Some(TransportHeader::Tcp(tcp)) = headers.transport {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap());
        }
    }

    #[test]
    fn a_request_says_its_number_and_time() {
        let round = Workload::Connections.round(5, 100);
        let index = round.steps.iter().position(|step| step.text == text::REQUEST).unwrap();
        let made = second(&round, index, Checksum::Whole);
        let number = round.expected.len() as u32 + round.steps[index].number;
        let wanted = format!("{number:08x}123456789abcdef0 HTTP/1.1\r\n");
        assert!(made[REQUEST_AT..].starts_with(wanted.as_bytes()));
    }

    #[test]
    fn so_does_a_request_of_http2() {
        let round = Workload::H2.round(5, 100);
        let index = round.steps.iter().position(|step| step.text == text::HEADERS).unwrap();
        let made = second(&round, index, Checksum::Whole);
        let number = round.expected.len() as u32 + round.steps[index].number;
        // The length of the path, and the scheme after it.
        let wanted = format!("\x1c/qq/{number:08x}123456789abcdef0");
        assert!(made[HEADERS_AT - 5..].starts_with(wanted.as_bytes()));
        assert_eq!(made[HEADERS_AT + REQUEST_DIGITS], 0x86);
    }

    mod root {
        use super::*;
        use crate::traffic::{Schedule, Traffic, Verdict};
        use httplines::sys::privileges::may_load_programs;

        /// A template as if it had been recorded, with another client address in each round.
        fn recorded(round: &Round) -> Round {
            let mut made = Round::default();
            for index in 0..round.steps.len() {
                let step = &round.steps[index];
                made.templates.push(second(round, index, Checksum::Whole));
                let transport = if step.kind == kind::DATAGRAM { 0 } else { 50 };
                made.steps.push(Step {
                    template: index as u32,
                    seq: if step.kind == kind::SERVER { 30 } else { 26 },
                    ack: 24 | transport << 16,
                    frame_bytes: step.frame_bytes,
                    kind: kind::REPLAY,
                    ..Step::default()
                });
            }
            made
        }

        /// The kernel's generator makes the same frames, round after round.
        #[test]
        fn the_kernel_makes_the_same_frames() {
            use Workload::{H2, Imix, Noise, Small, Tunnel};
            let rounds = [Small, Noise, Imix, Tunnel, H2].map(|workload| workload.round(2, 400));
            let recorded = recorded(&rounds[1]);
            for (index, round) in rounds.iter().chain([&recorded]).enumerate() {
                let traffic = match Traffic::load(&round.steps, &round.templates) {
                    Err(_) if !may_load_programs() => {
                        crate::support::skip!("needs CAP_BPF");
                    }
                    result => result.expect("the kernel takes the generator"),
                };
                let (connection_count, request_count) =
                    (round.connection_count, round.expected.len() as u32);
                // All are due: frame n at the start plus n times 3.5 ns.
                let (start_ns, epoch_ns) = (1000, 0x1234_5678_9abc_def0);
                traffic.schedule(&Schedule {
                    start_ns,
                    epoch_ns,
                    interval: 3 * 1024 + 512,
                    frame_count_max: u64::MAX,
                    connection_count,
                    request_count,
                    prefix_bytes: round.prefix_bytes as u32,
                    verdict: Verdict::Drop,
                });
                for number in 0..2 * round.steps.len() {
                    let step = &round.steps[number % round.steps.len()];
                    let mut wanted = round.templates[step.template as usize].clone();
                    let turn = round.turn((number / round.steps.len()) as u32);
                    let time_ns = epoch_ns + number as u64 * 7 / 2;
                    finish(&mut wanted, step, &turn, time_ns, Checksum::Whole);
                    assert_checksums(&wanted);
                    assert_eq!(traffic.next_frame().unwrap(), wanted, "{index} {number}");
                }
                assert_eq!(traffic.sent().frame_count, 2 * round.steps.len() as u64);
            }
        }
    }
}
