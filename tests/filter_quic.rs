//! Which datagrams are QUIC: the kernel filter, through BPF_PROG_TEST_RUN, and the decoder in user
//! space agree on every datagram, and both count Initials of the versions that are known.

use httplines::capture::{Frame, LinkType};
use httplines::config::DecodeConfig;
use httplines::decode::{Decoder, Reject};
use httplines::ids::IfaceId;
use httplines::time::TimestampNs;
use proptest::prelude::*;

use crate::support::tunnel::*;

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;
const DRAFT_29: u32 = 0xff00_001d;
/// The least payload of a datagram with an Initial.
const INITIAL_BYTES: usize = 1200;

/// A datagram's payload that begins with a long header.
fn long_header(first: u8, version: u32, bytes: usize) -> Vec<u8> {
    let mut payload = [&[first][..], &version.to_be_bytes(), &[8; 9]].concat();
    payload.resize(bytes, 0x3c);
    payload
}

fn decoded(frame: &[u8]) -> Reject {
    let frame = Frame {
        bytes: frame,
        wire_bytes: frame.len() as u32,
        timestamp: TimestampNs(0),
        link: LinkType::Ethernet,
        vlan: None,
        iface: IfaceId(0),
        is_checksum_trusted: false,
    };
    Decoder::new(DecodeConfig::default()).decode(&frame).expect_err("it is UDP")
}

/// What a datagram is, what it is counted as, and its ports and payload.
type Row = (&'static str, Reject, (u16, u16), Vec<u8>);

fn rows() -> Vec<Row> {
    use Reject::{NotTcp, Quic, QuicInitial};
    let (up, down) = ((50_000, 443), (443, 50_000));
    let of = |first, version| long_header(first, version, INITIAL_BYTES);
    vec![
        ("a client's Initial", QuicInitial, up, of(0xc3, V1)),
        ("of version 2", QuicInitial, up, of(0xd0, V2)),
        ("of a draft", QuicInitial, up, of(0xcf, DRAFT_29)),
        ("longer", QuicInitial, up, long_header(0xc0, V1, 1472)),
        ("of another port", QuicInitial, (50_000, 8443), of(0xc0, V1)),
        ("of equal ports", QuicInitial, (443, 443), of(0xc0, V1)),
        ("the server's", Quic, down, of(0xc0, V1)),
        ("the server's, of another port", Quic, (8443, 50_000), of(0xc0, V1)),
        ("too short", Quic, up, long_header(0xc0, V1, INITIAL_BYTES - 1)),
        ("0-RTT", Quic, up, of(0xd0, V1)),
        ("Handshake", Quic, up, of(0xe0, V1)),
        ("Retry", Quic, down, of(0xf0, V1)),
        ("0-RTT of version 2", Quic, up, of(0xe0, V2)),
        ("the type of version 1 in version 2", Quic, up, of(0xc0, V2)),
        ("version negotiation", Quic, down, of(0xc0, 0)),
        ("an unknown version", Quic, up, of(0xc0, 2)),
        ("without the fixed bit", Quic, up, of(0x80, V1)),
        ("a short header", Quic, up, vec![0x40; 900]),
        ("nothing", Quic, up, vec![]),
        ("0-RTT of another port", NotTcp, (50_000, 8443), of(0xd0, V1)),
        ("too short, of another port", NotTcp, (50_000, 8443), long_header(0xc0, V1, 1199)),
        ("DNS", NotTcp, (50_000, 53), vec![0; 40]),
        ("DTLS", NotTcp, (50_000, 5684), vec![0x16; 1300]),
    ]
}

/// Its ways over the link: alone, with tags, in IPv6, in tunnels.
fn frames((source, destination): (u16, u16), payload: &[u8]) -> Vec<Vec<u8>> {
    let datagram = udp(source, destination, payload);
    let (v4, v6) = (ipv4(UDP, &datagram), ipv6(UDP, &datagram));
    let with_options = {
        // The options end the list at once.
        let mut packet = ipv4(UDP, &[&[0; 4], &datagram[..]].concat());
        packet[0] = 0x46;
        packet
    };
    let tag = |ip: &[u8]| ethernet(0x8100, &[&[0, 7, 8, 0], ip].concat());
    vec![
        bridged(&v4),
        bridged(&v6),
        bridged(&with_options),
        bridged(&ipv6(60, &[&[UDP, 0, 1, 4, 0, 0, 0, 0], &datagram[..]].concat())),
        tag(&v4),
        bridged(&gre(0, 0x0800, &[], &v4)),
        bridged(&vxlan(4789, 42, &bridged(&v4))),
        bridged(&ipv4(IPIP, &v4)),
        bridged(&ipv4(SIX_IN_FOUR, &v6)),
    ]
}

#[test]
fn datagrams_are_counted_as_what_they_are() {
    for (what, expected, ports, payload) in rows() {
        for (index, frame) in frames(ports, &payload).iter().enumerate() {
            assert_eq!(decoded(frame), expected, "{what}, {index}");
        }
    }
}

/// A frame that the snap length cut shows what its captured bytes show.
#[test]
fn a_cut_datagram_is_quic_by_its_port() {
    let frame = bridged(&ipv4(UDP, &udp(50_000, 443, &long_header(0xc0, V1, 1200))));
    assert_eq!(decoded(&frame[..14 + 20 + 8 + 8]), Reject::QuicInitial);
    assert_eq!(decoded(&frame[..14 + 20 + 8 + 7]), Reject::Quic);
    assert_eq!(decoded(&frame[..14 + 20 + 7]), Reject::Truncated);
}

fn datagrams() -> impl Strategy<Value = ((u16, u16), Vec<u8>)> {
    let port = || prop_oneof![3 => Just(443u16), 1 => 400..500u16, 2 => 20_000..60_000u16];
    let version = prop_oneof![
        3 => Just(V1),
        3 => Just(V2),
        2 => (0..40u32).prop_map(|draft| 0xff00_0000 | draft),
        1 => Just(0),
        1 => Just(0xff01_0000),
        1 => any::<u32>(),
    ];
    let bytes = prop_oneof![3 => 1195..1210usize, 1 => 0..30usize, 1 => 1200..1473usize];
    let ports = (port(), port());
    (ports, any::<u8>(), any::<bool>(), version, bytes).prop_map(
        |(ports, first, is_long, version, bytes)| {
            let first = if is_long { first | 0xc0 } else { first };
            let mut payload = long_header(first, version, bytes.max(14));
            payload.truncate(bytes);
            (ports, payload)
        },
    )
}

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use httplines::sys::counters::Reason;

    use crate::support::kernel_packet::{config_for, load, reason_of};
    use crate::support::skip;

    /// What the filter counts a frame as which user space counts so.
    fn kernels(reject: Reject) -> Reason {
        match reject {
            Reject::Quic => Reason::Quic,
            Reject::QuicInitial => Reason::QuicInitial,
            Reject::NotTcp => Reason::NotTcp,
            other => panic!("{other:?} is of no datagram"),
        }
    }

    #[test]
    fn the_kernel_counts_datagrams_as_user_space_does() {
        let Some(filter) = load(&config_for(64), &DecodeConfig::default()) else {
            skip!("needs CAP_BPF")
        };
        for (what, expected, ports, payload) in rows() {
            for (index, frame) in frames(ports, &payload).iter().enumerate() {
                assert_eq!(reason_of(&filter, frame), kernels(expected), "{what}, {index}");
            }
        }
        proptest!(ProptestConfig::with_cases(1000), |(
            (ports, payload) in datagrams(),
            way in 0..9usize,
        )| {
            let frame = &frames(ports, &payload)[way];
            prop_assert_eq!(reason_of(&filter, frame), kernels(decoded(frame)));
        });
    }
}
