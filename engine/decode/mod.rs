//! Frame → [`Segment`]: from the link layer to the TCP payload. Pure: bytes in, a value out.
//!
//! A frame that is no TCP segment is a [`Reject`], which is counted; it is never an error. Nothing here trusts
//! a length it read: every step is checked against the captured bytes.

mod admit;
mod ip;
mod link;
mod seq;
mod tcp;

pub use admit::begins_like_message;
pub use seq::SeqNumber;
pub use tcp::TcpFlags;

use crate::capture::Frame;
use crate::ids::{Direction, FlowKey, IfaceId, REALM_IPV6};
use crate::stats::DecodeStats;
use crate::time::TimestampNs;

/// One TCP segment: which flow, which way, where in the stream, and its payload, borrowed from the frame.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The flow it belongs to.
    pub key: FlowKey,
    /// Which way it goes.
    pub direction: Direction,
    /// Sequence number of its first byte (of the SYN, where it has one).
    pub seq: SeqNumber,
    /// What it acknowledges, where the ACK bit is set.
    pub ack: Option<SeqNumber>,
    /// Its control bits.
    pub flags: TcpFlags,
    /// The captured payload.
    pub payload: &'a [u8],
    /// Length of the payload on the wire; more than `payload.len()` where the snap length cut it.
    pub payload_wire_bytes: u32,
    /// When it passed.
    pub timestamp: TimestampNs,
    /// Where it was captured.
    pub iface: IfaceId,
}

impl Segment<'_> {
    /// Sequence number of the first payload byte: a SYN takes the one before.
    pub fn payload_seq(&self) -> SeqNumber {
        self.seq.plus(u32::from(self.flags.is_syn()))
    }

    /// Sequence number behind the last payload byte: where a FIN stands.
    pub fn payload_end(&self) -> SeqNumber {
        self.payload_seq().plus(self.payload_wire_bytes)
    }
}

/// Why a frame is no segment. Each has its counter in [`DecodeStats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but not TCP.
    NotTcp,
    /// A fragment of a datagram.
    Fragment,
    /// Cut inside the headers.
    Truncated,
    /// A header that contradicts itself or the frame.
    BadHeader,
    /// Too many tags or extension headers.
    TooDeep,
    /// A link type we do not decode.
    UnsupportedLink,
}

impl DecodeStats {
    /// Counts the outcome of one frame.
    pub fn count<T>(&mut self, outcome: &Result<T, Reject>) {
        let counter = match outcome {
            Ok(_) => &mut self.segments,
            Err(Reject::NotIp) => &mut self.not_ip,
            Err(Reject::NotTcp) => &mut self.not_tcp,
            Err(Reject::Fragment) => &mut self.fragment,
            Err(Reject::Truncated) => &mut self.truncated,
            Err(Reject::BadHeader) => &mut self.bad_header,
            Err(Reject::TooDeep) => &mut self.too_deep,
            Err(Reject::UnsupportedLink) => &mut self.unsupported_link,
        };
        *counter += 1;
    }
}

/// Finds the TCP segment in `frame`.
pub fn decode<'a>(frame: &Frame<'a>) -> Result<Segment<'a>, Reject> {
    let (network, bytes, vlans) = link::network_of(frame)?;
    let skipped_bytes = frame.bytes.len() - bytes.len();
    let wire_bytes = (frame.wire_bytes as usize).saturating_sub(skipped_bytes);
    let (packet, realm) = match network {
        link::Network::V4 => (ip::v4(bytes, wire_bytes)?, 0),
        link::Network::V6 => (ip::v6(bytes, wire_bytes)?, REALM_IPV6),
    };
    let tcp = tcp::header(packet.transport, packet.transport_wire_bytes)?;
    let (key, direction) = FlowKey::new(
        (packet.source, tcp.source_port),
        (packet.destination, tcp.destination_port),
        vlans.ids,
        realm,
    );
    Ok(Segment {
        key,
        direction,
        seq: tcp.seq,
        ack: tcp.flags.is_ack().then_some(tcp.ack),
        flags: tcp.flags,
        payload: &packet.transport[tcp.header_bytes..],
        payload_wire_bytes: u32::try_from(packet.transport_wire_bytes - tcp.header_bytes)
            .map_err(|_| Reject::BadHeader)?,
        timestamp: frame.timestamp,
        iface: frame.iface,
    })
}

/// Takes the first `count` bytes off `rest`.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Reject> {
    let (taken, behind) = rest.split_at_checked(count).ok_or(Reject::Truncated)?;
    *rest = behind;
    Ok(taken)
}
