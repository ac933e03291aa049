//! Frame → [`Segment`]: from the link layer to the TCP payload. Pure: bytes in, a value out.
//!
//! ```text
//!  link ─► (VLAN, MPLS, PPPoE …) ─► ip ─► tcp ─► Segment
//!                  ▲                 │ └─► fragments ─► the whole datagram, again from its payload
//!                  └── gre, udp … ◄──┘ a tunnel starts over inside, to a bounded depth
//! ```
//!
//! A frame that is not a TCP segment is a [`Reject`], which is counted; it is never an error. No
//! length in a frame is trusted: every step is checked against the captured bytes. Nothing is
//! allocated, except for fragments.
//!
//! Checksums: the checksum of each IPv4 header is verified, and wrong ones are counted
//! ([`DatagramStats::ipv4_checksums_wrong`]). The packet is used all the same, since captures on a
//! sender with offloads contain such packets. The checksum of a TCP segment is verified where the
//! segment decides about its connection ([`Segment::is_checksum_wrong`]); to do so always would
//! read every byte of every payload.

mod admit;
mod ayiya;
mod checksum;
mod cursor;
mod fast_path;
mod fragments;
mod frames;
mod gre;
mod gtpu;
mod ip;
mod l2tp;
mod link;
mod mpls;
mod nflog;
mod overlay;
mod owned;
mod ppp;
mod quic;
mod restrict;
mod sample;
mod seq;
mod tcp;
mod teredo;
mod tunnel;
mod udp;
mod wifi;

pub use admit::{begins_like_message, is_worth_joining};
pub use frames::looks_like_frames;
pub use owned::OwnedSegment;
pub use seq::SeqNumber;
pub use tcp::TcpFlags;
pub use tunnel::{Encapsulation, TunnelPath};

use crate::capture::Frame;
use crate::config::DecodeConfig;
use crate::ids::{Direction, FlowKey, IfaceId, REALM_IPV6};
use crate::stats::{DatagramStats, DecodeStats};
use crate::time::TimestampNs;
use cursor::{Cursor, EncapsulationStack};
use fragments::FragmentTable;
use ip::{Fragment, Packet};
use link::Network;
use restrict::Admission;
use std::fmt;

/// Maximum depth of nested encapsulations: tunnels, label stacks, PPPoE. More occur only in
/// attacks.
const DEPTH_MAX: u8 = 8;

/// Values of IP's protocol field: <https://www.iana.org/assignments/protocol-numbers>.
mod protocol {
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const AUTHENTICATION: u8 = 51;
    pub const L2TP: u8 = 115;
    pub const MPLS: u8 = 137;
}

/// One TCP segment: its flow, direction, position in the stream, and payload, borrowed from the
/// frame.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The flow it belongs to.
    pub key: FlowKey,
    /// The direction it travels in.
    pub direction: Direction,
    /// Sequence number of its first byte (of the SYN, if it has one).
    pub seq: SeqNumber,
    /// Its acknowledgment number, if the ACK bit is set.
    pub ack: Option<SeqNumber>,
    /// Its control bits.
    pub flags: TcpFlags,
    /// The window it advertises to the other side, not scaled.
    pub window: u16,
    /// The TCP header with its options.
    pub header: &'a [u8],
    /// The kernel or the network card has verified the TCP checksum, or it is still to be computed.
    pub is_checksum_trusted: bool,
    /// The captured payload.
    pub payload: &'a [u8],
    /// Length of the payload on the wire; more than `payload.len()` if the snap length cut it.
    pub payload_wire_bytes: u32,
    /// When it was captured.
    pub timestamp: TimestampNs,
    /// The interface it was captured on.
    pub iface: IfaceId,
    /// The encapsulations around it. Its VLANs are among them if they are not in the key.
    pub tunnel: TunnelPath,
}

impl Segment<'_> {
    /// The shift count for the windows that its sender will advertise (RFC 7323 section 2.2). Only
    /// a SYN has one.
    pub fn window_shift(&self) -> Option<u8> {
        if self.flags.is_syn() { tcp::window_shift(self.header) } else { None }
    }

    /// Sequence number of the first payload byte; a SYN occupies the number before it.
    pub fn payload_seq(&self) -> SeqNumber {
        self.seq.plus(u32::from(self.flags.is_syn()))
    }

    /// Sequence number after the last payload byte, which is that of a FIN.
    pub fn payload_end(&self) -> SeqNumber {
        self.payload_seq().plus(self.payload_wire_bytes)
    }
}

/// Why a frame is not a segment. Each reason has its counter in [`DecodeStats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but neither TCP nor QUIC.
    NotTcp,
    /// UDP that begins with an Initial of QUIC, to the lower port of the two.
    QuicInitial,
    /// Another UDP datagram of QUIC, or of port 443.
    Quic,
    /// A fragment that is held until the rest of its datagram arrives.
    FragmentHeld,
    /// A fragment of a datagram whose fragments contradict each other.
    FragmentOverlap,
    /// A fragment of a datagram in more pieces than we keep.
    FragmentAtBound,
    /// A fragment that completed a datagram of another shard's connection, which got the segment.
    PassedOn,
    /// The same, but the queue to that shard was full.
    NotPassedOn,
    /// Cut by the snap length inside the headers; or a fragment that was cut anywhere.
    Truncated,
    /// A header that contradicts itself or the frame.
    BadHeader,
    /// Too many tags, extension headers or encapsulations.
    TooDeep,
    /// Encrypted by the link layer.
    Encrypted,
    /// A link type, or a form of it, that we do not decode.
    UnsupportedLink,
    /// A port, network or VLAN that the user does not want.
    Unwanted,
    /// A connection that is not in the sample that the user wants.
    Sampled,
    /// A connection of the sample that is left out for now, since rings overflow.
    Shed,
}

impl DecodeStats {
    /// Counts the outcome of one frame.
    #[inline]
    pub fn count<T>(&mut self, outcome: &Result<T, Reject>) {
        match outcome {
            Ok(_) => self.segments += 1,
            Err(reason) => self.count_reject(*reason),
        }
    }

    #[cold]
    fn count_reject(&mut self, reason: Reject) {
        let counter = match reason {
            Reject::NotIp => &mut self.not_ip,
            Reject::NotTcp => &mut self.not_tcp,
            Reject::QuicInitial => &mut self.quic_initial,
            Reject::Quic => &mut self.quic,
            Reject::FragmentHeld => &mut self.fragment_held,
            Reject::FragmentOverlap => &mut self.fragment_overlap,
            Reject::FragmentAtBound => &mut self.fragment_at_bound,
            Reject::PassedOn => &mut self.fragment_passed_on,
            Reject::NotPassedOn => &mut self.fragment_not_passed_on,
            Reject::Truncated => &mut self.truncated,
            Reject::BadHeader => &mut self.bad_header,
            Reject::TooDeep => &mut self.too_deep,
            Reject::Encrypted => &mut self.encrypted,
            Reject::UnsupportedLink => &mut self.unsupported_link,
            Reject::Unwanted => &mut self.unwanted,
            Reject::Sampled => &mut self.sampled,
            Reject::Shed => &mut self.shed,
        };
        *counter += 1;
    }
}

/// Decides about the segments of joined datagrams, whose fragments may have met on another shard
/// than that of their connection.
pub trait Forward: fmt::Debug + Send {
    /// Passes `segment` on if it belongs elsewhere; the error says what became of it.
    fn forward(&mut self, segment: &Segment<'_>) -> Result<(), Reject>;
}

/// Finds the connections of those frames that the fast path can read: nearly all, if there are no
/// tunnels. It has no state.
#[derive(Debug)]
pub struct FastDecoder {
    /// Which connections are wanted, if not all are.
    admission: Option<Admission>,
}

impl FastDecoder {
    /// A decoder with these limits.
    pub fn new(limits: &DecodeConfig) -> FastDecoder {
        FastDecoder { admission: Admission::new(&limits.restrictions, u32::MAX) }
    }

    /// The connection of the segment that [`Decoder::decode`] finds, or why there is none; `None`
    /// if the slow path has to decide.
    #[inline(always)]
    pub fn key(&self, frame: &Frame<'_>) -> Option<Result<FlowKey, Reject>> {
        let key = fast_path::segment(frame)?.key;
        Some(match &self.admission {
            None => Ok(key),
            Some(admission) => admission.check(&key).map(|()| key),
        })
    }
}

/// Finds the TCP segments in frames. Its only state is that of incomplete datagrams; the frames of
/// a flow must go through one decoder, in the order in which they were captured.
#[derive(Debug)]
pub struct Decoder {
    limits: DecodeConfig,
    fast: FastDecoder,
    fragments: FragmentTable,
    /// The datagram that was completed last. The segment returned for it borrows from here.
    datagram: Vec<u8>,
    forward: Option<Box<dyn Forward>>,
    stats: DatagramStats,
}

/// What a tunnel or a fragment leads to.
enum Found {
    Tcp(Packet),
    /// A completed datagram, and the packet that its fragments describe.
    Datagram(Vec<u8>, Packet),
}

impl Decoder {
    /// A decoder without any state.
    pub fn new(limits: DecodeConfig) -> Decoder {
        let fragments = FragmentTable::new(&limits);
        let fast = FastDecoder::new(&limits);
        Decoder {
            limits,
            fast,
            fragments,
            datagram: Vec::new(),
            forward: None,
            stats: DatagramStats::default(),
        }
    }

    /// Lets `forward` decide about the segments of joined datagrams; `None` keeps them all.
    pub fn set_forward(&mut self, forward: Option<Box<dyn Forward>>) {
        self.forward = forward;
    }

    /// From now on rejects the connections whose [`FlowKey::sample_hash`] is greater than
    /// `share_max`.
    pub(crate) fn set_share(&mut self, share_max: u32) {
        self.fast.admission = Admission::new(&self.limits.restrictions, share_max);
    }

    /// Counts about datagrams so far, apart from the outcome of each frame.
    pub fn stats(&self) -> &DatagramStats {
        &self.stats
    }

    /// Memory of the fragments that are held until their datagrams are complete; at most
    /// `fragment_bytes_max`.
    pub fn fragment_bytes(&self) -> usize {
        self.fragments.used_bytes()
    }

    /// The flow of `frame`, ahead of its turn, if the fast path can read it. Nothing is counted.
    #[inline(always)]
    pub fn flow_ahead(frame: &Frame<'_>) -> Option<FlowKey> {
        fast_path::segment(frame).map(|segment| segment.key)
    }

    /// Finds the TCP segment in `frame`, or in the datagram that it completes.
    #[inline(always)]
    pub fn decode<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Segment<'a>, Reject> {
        match fast_path::segment(frame) {
            Some(segment) => match &self.fast.admission {
                None => Ok(segment),
                Some(admission) => admission.check(&segment.key).map(|()| segment),
            },
            None => self.decode_slow(frame),
        }
    }

    /// The slow path, for any frame: layer by layer.
    #[inline(never)]
    fn decode_slow<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Segment<'a>, Reject> {
        let encapsulations = EncapsulationStack::new(self.limits.is_vlan_ignored);
        let mut cursor = Cursor::new(frame.bytes, frame.wire_bytes as usize, encapsulations);
        let network = link::network_of(&mut cursor, frame)?;
        let packet = self.packet(&mut cursor, network)?;
        if packet.is_tcp() {
            return segment(frame, &packet, cursor, self.fast.admission.as_ref());
        }
        match self.find(&mut cursor, packet, frame.timestamp)? {
            Found::Tcp(packet) => segment(frame, &packet, cursor, self.fast.admission.as_ref()),
            Found::Datagram(datagram, packet) => {
                self.decode_datagram(frame, datagram, packet, cursor.encapsulations)
            }
        }
    }

    #[inline(always)]
    fn packet(&mut self, cursor: &mut Cursor<'_>, network: Network) -> Result<Packet, Reject> {
        match network {
            Network::V4 => ip::v4(cursor, &mut self.stats),
            Network::V6 => ip::v6(cursor),
        }
    }

    /// Continues in a datagram that `frame` completed. It may contain a fragment of another
    /// datagram, and so on.
    #[cold]
    fn decode_datagram<'a>(
        &'a mut self,
        frame: &Frame<'a>,
        mut datagram: Vec<u8>,
        mut packet: Packet,
        mut encapsulations: EncapsulationStack,
    ) -> Result<Segment<'a>, Reject> {
        let tcp = loop {
            // Each iteration is one encapsulation deeper, so the loop ends.
            let mut cursor = Cursor::new(&datagram, datagram.len(), encapsulations);
            if packet.is_v6 {
                (packet.protocol, packet.fragment) = ip::extensions(&mut cursor, packet.protocol)?;
                if packet.fragment.is_some() {
                    return Err(Reject::BadHeader);
                }
            }
            let found = self.find(&mut cursor, packet, frame.timestamp)?;
            encapsulations = cursor.encapsulations;
            match found {
                Found::Tcp(inner) => {
                    packet = inner;
                    break (cursor.rest().to_vec(), cursor.wire_bytes());
                }
                Found::Datagram(next, inner) => (datagram, packet) = (next, inner),
            }
        };
        self.datagram = tcp.0;
        let cursor = Cursor::new(&self.datagram, tcp.1, encapsulations);
        let segment = segment(frame, &packet, cursor, self.fast.admission.as_ref())?;
        if let Some(forward) = &mut self.forward {
            forward.forward(&segment)?;
        }
        Ok(segment)
    }

    /// Follows tunnels, starting after the headers of `packet`, until TCP or a completed datagram.
    #[cold]
    fn find(
        &mut self,
        cursor: &mut Cursor<'_>,
        mut packet: Packet,
        now: TimestampNs,
    ) -> Result<Found, Reject> {
        loop {
            if let Some(fragment) = packet.fragment {
                return self.join(cursor, packet, fragment, now);
            }
            if packet.is_tcp() {
                return Ok(Found::Tcp(packet));
            }
            if packet.protocol == protocol::AUTHENTICATION {
                packet.protocol = ip::authentication(cursor)?;
                continue;
            }
            let network = self.network_inside(cursor, &packet)?;
            packet = self.packet(cursor, network)?;
        }
    }

    /// The network header inside a packet that is not TCP. Each kind counts as an encapsulation,
    /// which bounds the depth.
    fn network_inside(&self, cursor: &mut Cursor<'_>, packet: &Packet) -> Result<Network, Reject> {
        let (encapsulation, network) = match (packet.protocol, packet.is_v6) {
            (protocol::UDP, _) => return udp::network_of(cursor, &self.limits),
            (protocol::GRE, _) => return gre::network_of(cursor),
            (protocol::L2TP, _) => return l2tp::session(cursor),
            (protocol::MPLS, _) => return mpls::labels(cursor),
            (protocol::IPV4, false) => (Encapsulation::V4InV4, Network::V4),
            (protocol::IPV4, true) => (Encapsulation::V4InV6, Network::V4),
            (protocol::IPV6, false) => (Encapsulation::V6InV4, Network::V6),
            (protocol::IPV6, true) => (Encapsulation::V6InV6, Network::V6),
            _ => return Err(Reject::NotTcp),
        };
        cursor.encapsulations.enter(encapsulation)?;
        Ok(network)
    }

    /// Holds a fragment until its datagram is complete. Datagrams that cannot lead to TCP are not
    /// held.
    fn join(
        &mut self,
        cursor: &Cursor<'_>,
        packet: Packet,
        fragment: Fragment,
        now: TimestampNs,
    ) -> Result<Found, Reject> {
        if !packet.is_v6 && !leads_to_tcp(packet.protocol) {
            return Err(Reject::NotTcp);
        }
        let bytes = (cursor.rest(), cursor.wire_bytes());
        let fragments = &mut self.fragments;
        let (datagram, protocol) = fragments.accept(
            (&packet, fragment),
            &cursor.encapsulations,
            bytes,
            now,
            &mut self.stats,
        )?;
        Ok(Found::Datagram(datagram, Packet { protocol, fragment: None, ..packet }))
    }
}

/// Whether a payload of this IP protocol may contain TCP.
fn leads_to_tcp(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::TCP
            | protocol::UDP
            | protocol::GRE
            | protocol::AUTHENTICATION
            | protocol::L2TP
            | protocol::MPLS
            | protocol::IPV4
            | protocol::IPV6
    )
}

/// The segment at the position of `cursor`.
#[inline]
fn segment<'a>(
    frame: &Frame<'_>,
    packet: &Packet,
    mut cursor: Cursor<'a>,
    admission: Option<&Admission>,
) -> Result<Segment<'a>, Reject> {
    let start = cursor.rest();
    let tcp = tcp::header(&mut cursor)?;
    let header = &start[..start.len() - cursor.rest().len()];
    let (mut key, direction) = FlowKey::new(
        (packet.source, tcp.source_port),
        (packet.destination, tcp.destination_port),
        cursor.encapsulations.vlans.ids,
        cursor.encapsulations.realm | if packet.is_v6 { REALM_IPV6 } else { 0 },
    );
    if let Some(admission) = admission {
        admission.check(&key)?;
    }
    if cursor.encapsulations.is_vlan_ignored {
        key.ignore_networks();
    }
    Ok(Segment {
        key,
        direction,
        seq: tcp.seq,
        ack: tcp.flags.is_ack().then_some(tcp.ack),
        flags: tcp.flags,
        window: tcp.window,
        header,
        is_checksum_trusted: frame.is_checksum_trusted,
        payload: cursor.rest(),
        payload_wire_bytes: u32::try_from(cursor.wire_bytes()).map_err(|_| Reject::BadHeader)?,
        timestamp: frame.timestamp,
        iface: frame.iface,
        tunnel: cursor.encapsulations.path,
    })
}
