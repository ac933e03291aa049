//! Checks what a decoder finds in frames.

use super::packet::Packet;
use httplines::capture::{Frame, LinkType};
use httplines::config::DecodeConfig;
use httplines::decode::{Decoder, Reject, Segment};
use httplines::ids::{IfaceId, REALM_IPV6};
use httplines::time::TimestampNs;

/// The payload of the packets here.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The same request over both families, as IP packets.
pub fn requests() -> [Vec<u8>; 2] {
    let packet = |from: &str, to: &str| {
        Packet::tcp(from.parse().unwrap(), to.parse().unwrap()).seq(7).payload(REQUEST).ip()
    };
    [packet("10.0.0.1:4242", "10.0.0.2:80"), packet("[fd00::1]:4242", "[fd00::2]:80")]
}

/// A whole frame of this link type.
pub fn frame(link: u16, bytes: &[u8]) -> Frame<'_> {
    Frame {
        bytes,
        wire_bytes: bytes.len() as u32,
        timestamp: TimestampNs(0),
        link: LinkType::from_file(link),
        vlan: None,
        iface: IfaceId(0),
        is_checksum_trusted: false,
    }
}

/// A decoder with empty state.
pub fn decoder() -> Decoder {
    Decoder::new(DecodeConfig::default())
}

/// The encapsulations around a segment.
pub fn path_of(segment: &Segment<'_>) -> Vec<String> {
    segment.tunnel.outermost_first().map(|one| one.to_string()).collect()
}

/// Asserts that both requests are found after `wrap` encapsulated them, with the encapsulations
/// `path`. Bytes after the packet, such as padding, are not part of it.
#[track_caller]
pub fn assert_found(link: u16, path: &[&str], wrap: impl Fn(&[u8]) -> Vec<u8>) {
    for inner in requests() {
        for trailer in [&b""[..], &[0xee; 6]] {
            let bytes = [&wrap(&inner), trailer].concat();
            let mut decoder = decoder();
            let segment = decoder.decode(&frame(link, &bytes)).unwrap();
            assert_eq!((segment.payload, segment.seq.0), (REQUEST, 7));
            assert_eq!(segment.payload_wire_bytes as usize, REQUEST.len());
            assert_eq!(segment.key.realm & REALM_IPV6 != 0, inner[0] >> 4 == 6);
            assert_eq!(path_of(&segment), path);
            (0..bytes.len()).for_each(|kept| assert_cut(&frame(link, &bytes), kept));
        }
    }
}

/// Asserts that a frame cut to the snap length is the same segment with less payload, or was cut
/// inside its headers.
#[track_caller]
fn assert_cut(whole: &Frame<'_>, kept_bytes: usize) {
    let cut = Frame { bytes: &whole.bytes[..kept_bytes], ..*whole };
    match decoder().decode(&cut) {
        Ok(segment) => {
            assert!(REQUEST.starts_with(segment.payload), "cut to {kept_bytes} bytes");
            assert_eq!(segment.payload_wire_bytes as usize, REQUEST.len());
        }
        Err(reason) => assert_eq!(reason, Reject::Truncated, "cut to {kept_bytes} bytes"),
    }
}

/// Asserts that the frame is rejected for this reason.
#[track_caller]
pub fn assert_rejected(link: u16, bytes: &[u8], reason: Reject) {
    assert_eq!(decoder().decode(&frame(link, bytes)).unwrap_err(), reason);
}
