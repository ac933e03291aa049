//! Which UDP datagrams are QUIC (RFC 9000): they are counted, and not read. `bpf/quic.h` has the
//! same rule for the kernel filter, and a test compares the two.

use super::Reject;

const PORT_HTTPS: u16 = 443;
const UDP_HEADER_BYTES: u16 = 8;
/// The least payload of a datagram with an Initial: RFC 9000 section 14.1.
const INITIAL_BYTES_MIN: u16 = 1200;

const VERSION_1: u32 = 1;
/// RFC 9369.
const VERSION_2: u32 = 0x6b33_43cf;
/// The upper 24 bits of the versions of drafts.
const DRAFTS: u32 = 0x00ff_0000;

/// What a datagram of no tunnel is counted as: `length` is its field of the UDP header, and
/// `payload` what was captured.
///
/// Both endpoints send Initials. Those to the lower port are counted as such: these are the
/// client's, unless its port is the lower one; then they are the server's. A connection has one in
/// its first flight, and one more for a large ClientHello, an acknowledgment or a repetition.
pub(super) fn reject_of(source: u16, destination: u16, length: u16, payload: &[u8]) -> Reject {
    let is_long = length >= UDP_HEADER_BYTES + INITIAL_BYTES_MIN;
    if is_long && payload.first_chunk().is_some_and(is_initial) {
        return if destination <= source { Reject::QuicInitial } else { Reject::Quic };
    }
    let is_https = [source, destination].contains(&PORT_HTTPS);
    if is_https { Reject::Quic } else { Reject::NotTcp }
}

/// Whether a payload that begins so is an Initial: a long header of that type, in a version whose
/// types are known (RFC 9000 section 17.2, RFC 9369 section 3.2).
fn is_initial(begin: &[u8; 8]) -> bool {
    let [first, a, b, c, d, ..] = *begin;
    match u32::from_be_bytes([a, b, c, d]) {
        VERSION_2 => first >> 4 == 0b1101,
        version if version == VERSION_1 || version >> 8 == DRAFTS => first >> 4 == 0b1100,
        _ => false,
    }
}
