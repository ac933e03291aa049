//! The paths of a frame through the filter, each with frames that take it.

use super::packet::Heading::{self, ToClient, ToServer};
use super::packet::*;
use httplines::sys::counters::Reason;

/// Frames of a path that changes the filter's state, so that no frame can take it twice: each
/// belongs to another connection.
const FRESH_COUNT: u16 = 4096;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Heads of responses, as nginx writes them: with a body that is elided, and with one that is not.
const LARGE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n\
    Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n\
    Content-Length: 8388608\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"6592008e-800000\"\r\nAccept-Ranges: bytes\r\n\r\n";
const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n\
    Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 615\r\n\
    Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nConnection: keep-alive\r\n\
    ETag: \"6592008e-267\"\r\nAccept-Ranges: bytes\r\n\r\n";
const TLS: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// A configuration of the filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// The default.
    Http,
    /// Its gate is shut.
    Shut,
    /// All TCP passes: `--filter off`.
    Off,
    /// Only frames that the host sends pass: `-Q out`.
    Out,
    /// The server's port is excluded: `--exclude-port`.
    Excluding,
    /// No connection of the paths is in the sample: `--sample`.
    Sampling,
    /// All connections are shed: `--shed`.
    Shedding,
    /// Records of TLS are wanted: `--records tls`.
    Tls,
    /// The default, with a grant of user space for the client's data, as a body.
    Granted,
}

/// A path through the filter.
#[derive(Clone, Debug)]
pub struct Path {
    pub name: &'static str,
    pub setting: Setting,
    /// The reason that it counts.
    pub reason: Reason,
    /// Frames that must pass first.
    pub before: Vec<Vec<u8>>,
    /// One frame, which can take this path repeatedly; or many, each of which can take it once.
    pub frames: Vec<Vec<u8>>,
}

fn path(name: &'static str, reason: Reason, frame: Vec<u8>) -> Path {
    Path { name, setting: Setting::Http, reason, before: Vec::new(), frames: vec![frame] }
}

impl Path {
    fn behind(self, before: Vec<u8>) -> Path {
        Path { before: vec![before], ..self }
    }

    fn with(self, setting: Setting) -> Path {
        Path { setting, ..self }
    }

    /// Whether each of its frames belongs to another connection.
    pub fn is_fresh(&self) -> bool {
        self.frames.len() > 1
    }
}

/// A frame of each of many connections, from their clients.
fn fresh(flags: u8, payload: &[u8]) -> Vec<Vec<u8>> {
    fresh_at(ToServer, [SEQ, SEQ + 1], flags, payload)
}

/// The same in either direction, with these sequence and acknowledgement numbers.
fn fresh_at(way: Heading, numbers: [u32; 2], flags: u8, payload: &[u8]) -> Vec<Vec<u8>> {
    let of = |client| numbered(way, client, numbers, flags, payload);
    (1024..1024 + FRESH_COUNT).map(of).collect()
}

/// A frame of the client at that port, with its sequence and acknowledgement number.
fn numbered(way: Heading, client: u16, numbers: [u32; 2], flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = tcp_between(way, (client, SERVER_PORT), flags, payload);
    segment[4..12].copy_from_slice(numbers.map(u32::to_be_bytes).as_flattened());
    ethernet(&[], TYPE_IPV4, &ipv4(way, PROTOCOL_TCP, &segment))
}

/// An acknowledgement within a body that the filter has found, after the first of them.
fn body_ack() -> Path {
    let (asked, begin) = (SEQ + 1 + GET.len() as u32, SEQ + 1 + LARGE.len() as u32);
    let of = |way, numbers, flags, payload| numbered(way, 1023, numbers, flags, payload);
    let ack = |acked| of(ToServer, [asked, acked], ACK, b"");
    let before = vec![
        of(ToServer, [SEQ, 0], SYN, b""),
        of(ToClient, [SEQ, SEQ + 1], SYN | ACK, b""),
        of(ToServer, [SEQ + 1, SEQ + 1], ACK, GET),
        of(ToClient, [SEQ + 1, asked], ACK, LARGE),
        ack(begin),
    ];
    Path { before, ..path("body: ACK", Reason::BodyAck, ack(begin + 2920)) }
}

/// Frames of a connection that both ends began with a TLS record, far behind its beginning.
fn settled_tls() -> Vec<Path> {
    let of = |way, numbers, flags, payload| numbered(way, 1023, numbers, flags, payload);
    let (hello_end, far) = (SEQ + 1 + TLS.len() as u32, SEQ + (1 << 20));
    let before = vec![
        of(ToServer, [SEQ, 0], SYN, b""),
        of(ToClient, [SEQ, SEQ + 1], SYN | ACK, b""),
        of(ToServer, [SEQ + 1, SEQ + 1], ACK, TLS),
        of(ToClient, [SEQ + 1, hello_end], ACK, TLS),
    ];
    let tls = |name, frame| Path { before: before.clone(), ..path(name, Reason::Tls, frame) };
    let (data, ack) =
        (|seq| of(ToClient, [seq, far], ACK, &[0; 1000]), || of(ToServer, [far, far], ACK, b""));
    let wanted = |name, frame| tls(name, frame).with(Setting::Tls);
    let told = |name, frame| Path { reason: Reason::TlsWanted, ..wanted(name, frame) };
    vec![
        tls("TLS: data", data(far)),
        tls("TLS: ACK", ack()),
        wanted("TLS: data, wanted", data(far)),
        wanted("TLS: ACK, wanted", ack()),
        told("wanted TLS: beginning", data(hello_end)),
        told("wanted TLS: FIN", of(ToServer, [far, far], ACK | FIN, b"")),
    ]
}

/// Requests and responses on connections whose handshake the filter has seen: it reads their heads
/// itself.
fn read() -> Vec<Path> {
    let shaken = [fresh(SYN, b""), fresh_at(ToClient, [SEQ, SEQ + 1], SYN | ACK, b"")].concat();
    let requests = || fresh_at(ToServer, [SEQ + 1, SEQ + 1], ACK, GET);
    let asked = [shaken.clone(), requests()].concat();
    let answer = |name, head| Path {
        before: asked.clone(),
        frames: fresh_at(ToClient, [SEQ + 1, SEQ + 1 + GET.len() as u32], ACK, head),
        ..path(name, Reason::Session, Vec::new())
    };
    vec![
        Path {
            before: shaken,
            frames: requests(),
            ..path("new: request, read", Reason::Admitted, Vec::new())
        },
        answer("new: large answer, read", LARGE),
        answer("new: small answer, read", SMALL),
    ]
}

/// Paths on which frames are rejected.
fn rejects() -> Vec<Path> {
    let datagram = ethernet(&[], TYPE_IPV4, &ipv4(ToServer, PROTOCOL_UDP, &[0; 20]));
    let initial = [&[0xc3, 0, 0, 0, 1][..], &[0; 1195]].concat();
    let get = frame(ToServer, ACK, GET);
    vec![
        path("unwanted port", Reason::Unwanted, get.clone()).with(Setting::Excluding),
        path("not in the sample", Reason::Sampled, get.clone()).with(Setting::Sampling),
        path("shed", Reason::Shed, get.clone()).with(Setting::Shedding),
        path("gate shut", Reason::Gated, get.clone()).with(Setting::Shut),
        path("other direction", Reason::Direction, get).with(Setting::Out),
        path("not IP: ARP", Reason::NotIp, ethernet(&[], 0x0806, &[0; 28])),
        path("not TCP: UDP", Reason::NotTcp, datagram),
        path("not TCP: UDP, long", Reason::NotTcp, udp(4500, &[0; 1300])),
        path("QUIC: data", Reason::Quic, udp(443, &[0x40; 1200])),
        path("QUIC: Initial", Reason::QuicInitial, udp(443, &initial)),
        path("no payload: ACK", Reason::NoPayload, frame(ToClient, ACK, b"")),
        path("TLS", Reason::Tls, frame(ToClient, ACK, TLS)),
        path("other: binary", Reason::Other, frame(ToClient, ACK, &[0; 1000])),
        path("other: nearly a request", Reason::Other, frame(ToServer, ACK, b"abcdefghijklmnop\0")),
        body_ack(),
    ]
}

/// Paths on which frames of a session pass.
fn sessions() -> Vec<Path> {
    let data = |tags: &[(u16, u16)], payload: &[u8]| {
        ethernet(tags, TYPE_IPV4, &ipv4(ToServer, PROTOCOL_TCP, &tcp(ToServer, ACK, payload)))
    };
    let v6 = |payload: &[u8], extensions: u8| {
        let segment = tcp(ToServer, ACK, payload);
        let hops = |body: Vec<u8>, next| extension(next, 1, &body);
        match extensions {
            0 => ethernet(&[], TYPE_IPV6, &ipv6(ToServer, PROTOCOL_TCP, &segment)),
            _ => ethernet(&[], TYPE_IPV6, &ipv6(ToServer, 0, &hops(segment, PROTOCOL_TCP))),
        }
    };
    let (vlan, qinq) = ([(TYPE_VLAN, 7)], [(TYPE_QINQ, 7), (TYPE_VLAN, 8)]);
    let body = [0; 1000];
    let session = |name, frame, before| path(name, Reason::Session, frame).behind(before);
    vec![
        session("session: data", data(&[], &body), data(&[], GET)),
        session("session: ACK", data(&[], b""), data(&[], GET)),
        session("session: VLAN", data(&vlan, &body), data(&vlan, GET)),
        session("session: QinQ", data(&qinq, &body), data(&qinq, GET)),
        session("session: IPv6", v6(&body, 0), v6(GET, 0)),
        session("session: IPv6, extension", v6(&body, 1), v6(GET, 0)),
        session("session: GRE", gre(&data(&[], &body)), gre(&data(&[], GET))),
        session("session: VXLAN", vxlan(&data(&[], &body)), vxlan(&data(&[], GET))),
        Path {
            before: vec![frame(ToServer, SYN, b""), data(&[], GET)],
            ..path("elided", Reason::Elided, data(&[], &body)).with(Setting::Granted)
        },
    ]
}

/// The IP packet of an Ethernet frame in GRE.
fn gre(frame: &[u8]) -> Vec<u8> {
    let header = [&[0, 0], &frame[12..]].concat();
    ethernet(&[], TYPE_IPV4, &ipv4(ToServer, PROTOCOL_GRE, &header))
}

/// UDP from an arbitrary port to another.
fn udp(port: u16, body: &[u8]) -> Vec<u8> {
    let words = [50_000, port, 8 + body.len() as u16, 0].map(u16::to_be_bytes);
    let datagram = [words.as_flattened(), body].concat();
    ethernet(&[], TYPE_IPV4, &ipv4(ToServer, PROTOCOL_UDP, &datagram))
}

/// An Ethernet frame in VXLAN.
fn vxlan(frame: &[u8]) -> Vec<u8> {
    udp(4789, &[&[8, 0, 0, 0, 0, 0, 42, 0], frame].concat())
}

/// Paths on which other frames pass.
fn others() -> Vec<Path> {
    let packet = ipv4(ToServer, PROTOCOL_TCP, &tcp(ToServer, ACK, GET));
    let mut fragment = packet.clone();
    fragment[6] = 0x20;
    let mut unparsed = packet.clone();
    unparsed[0] = 0x44;
    let v4 = |packet: &[u8]| ethernet(&[], TYPE_IPV4, packet);
    let tags = [(TYPE_VLAN, 1), (TYPE_VLAN, 2), (TYPE_VLAN, 3), (TYPE_VLAN, 4), (TYPE_VLAN, 5)];
    let (syn, get) = (frame(ToServer, SYN, b""), frame(ToServer, ACK, GET));
    let opening = |name, frames| Path { frames, ..path(name, Reason::Opening, Vec::new()) };
    vec![
        path("filter off", Reason::FilterOff, get).with(Setting::Off),
        path("opening: SYN again", Reason::Opening, syn.clone()).behind(syn.clone()),
        path("opening: ACK", Reason::Opening, frame(ToServer, ACK, b"")).behind(syn),
        path("fragment", Reason::Fragment, v4(&fragment)),
        path("tunnel: Teredo", Reason::Tunnel, udp(3544, &[0x60; 60])),
        path("too deep: five tags", Reason::TooDeep, ethernet(&tags, TYPE_IPV4, &packet)),
        path("unparsed: short header", Reason::Unparsed, v4(&unparsed)),
        opening("new: SYN", fresh(SYN, b"")),
        Path { before: fresh(SYN, b""), ..opening("new: half a token", fresh(ACK, b"GE")) },
        Path {
            frames: fresh(ACK, GET),
            ..path("new: request, no SYN seen", Reason::Admitted, Vec::new())
        },
        Path {
            before: fresh(SYN, b""),
            frames: fresh(ACK, GET),
            ..path("new: request behind SYN", Reason::Admitted, Vec::new())
        },
    ]
}

/// All paths, rejections first.
pub fn all() -> Vec<Path> {
    [rejects(), settled_tls(), sessions(), others(), read()].concat()
}
