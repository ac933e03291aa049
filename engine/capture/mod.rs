//! Wire or file → [`Frame`]. This is the first module of the data path: it fetches bytes and does
//! not interpret them.
//!
//! Two sources implement one trait: [`live`] (rings of AF_PACKET sockets behind our kernel filter)
//! and [`pcap`] (capture files). The engine cannot tell which of them it reads from. The live
//! source exists with the feature `live` only.

use crate::ids::{IfaceId, ShardId, Share};
use crate::sys::flow_hints::FlowHints;
use crate::time::TimestampNs;

pub mod direct;
#[cfg(feature = "live")]
pub mod live;
pub mod pcap;
pub mod tee;

/// What a frame's first byte belongs to: <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkType {
    /// Ethernet II or 802.3 (1).
    Ethernet,
    /// BSD loopback: an address family, in the byte order of the writing host (0), or network order
    /// (108).
    Null,
    /// IPv4 or IPv6 without anything in front (12, 14, 101, 228, 229).
    Raw,
    /// Linux cooked capture, version 1 (113).
    LinuxSll,
    /// Linux cooked capture, version 2 (276).
    LinuxSll2,
    /// PPP, with or without HDLC's address and control fields (9).
    Ppp,
    /// PPP in HDLC-like framing, or Cisco's HDLC (50).
    PppHdlc,
    /// PPPoE without the Ethernet header (51).
    PppEther,
    /// Cisco's HDLC (104).
    CiscoHdlc,
    /// IEEE 802.11 (105).
    Wifi,
    /// IEEE 802.11 behind a radiotap header (127).
    Radiotap,
    /// IEEE 802.11 behind a header of Prism or AVS (119, 163).
    Prism,
    /// PPI: a header that contains the link type of what follows (192).
    Ppi,
    /// PKTAP, the same by macOS (258).
    Pktap,
    /// PPP behind a direction byte (204), or with that byte in place of the address (166).
    PppDirected,
    /// Cisco's HDLC behind a direction byte (205).
    CiscoHdlcDirected,
    /// Linux netfilter's log (239).
    Nflog,
    /// Linux netlink messages, which may hold such a log (253).
    Netlink,
    /// A link type we do not decode; its frames are counted.
    Unsupported(u16),
}

impl LinkType {
    /// Converts the LINKTYPE_ value of a pcap or pcapng file. The value has 16 bits; the upper half
    /// of the word in a pcap header has other uses and must be masked off first.
    pub fn from_file(value: u16) -> LinkType {
        match value {
            0 | 108 => LinkType::Null,
            1 => LinkType::Ethernet,
            9 => LinkType::Ppp,
            12 | 14 | 101 | 228 | 229 => LinkType::Raw,
            50 => LinkType::PppHdlc,
            51 => LinkType::PppEther,
            104 => LinkType::CiscoHdlc,
            105 => LinkType::Wifi,
            113 => LinkType::LinuxSll,
            119 | 163 => LinkType::Prism,
            127 => LinkType::Radiotap,
            166 | 204 => LinkType::PppDirected,
            192 => LinkType::Ppi,
            205 => LinkType::CiscoHdlcDirected,
            239 => LinkType::Nflog,
            253 => LinkType::Netlink,
            258 => LinkType::Pktap,
            276 => LinkType::LinuxSll2,
            other => LinkType::Unsupported(other),
        }
    }
}

/// An 802.1Q or 802.1ad tag that the kernel or the NIC took out of the frame (ring metadata).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanTag {
    /// Priority, DEI and the 12-bit VLAN id.
    pub tci: u16,
    /// The EtherType that announced the tag: 0x8100 or 0x88a8.
    pub tpid: u16,
}

/// One captured frame. It borrows ring or file memory, for the duration of one call.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The captured bytes, from the link layer on.
    pub bytes: &'a [u8],
    /// Length on the wire, at least `bytes.len()`; it is more if a snap length cut the frame.
    pub wire_bytes: u32,
    /// When the frame was captured.
    pub timestamp: TimestampNs,
    /// What `bytes` begins with.
    pub link: LinkType,
    /// A tag that was taken out of `bytes`; it is the outermost one.
    pub vlan: Option<VlanTag>,
    /// The interface it was captured on.
    pub iface: IfaceId,
    /// The kernel says of its TCP checksum that it was verified, or that it is still to be
    /// computed.
    pub is_checksum_trusted: bool,
}

/// A frame from a source that can look ahead.
#[derive(Clone, Copy, Debug)]
pub enum Lookahead<F> {
    /// The frame comes soon, as [`Lookahead::Here`].
    Ahead(F),
    /// It is this frame's turn.
    Here(F),
}

/// Tells which shard a frame of a capture file belongs to. With it, each part of a file is walked
/// by one shard for all of them ([`pcap::open::Capture::walked`]).
pub trait Route: std::fmt::Debug + Send + Sync {
    /// The only shard that needs `frame`; `None` if several may, or if it cannot be told. It
    /// depends on nothing but the frame.
    fn owner(&self, frame: &Frame<'_>) -> Option<ShardId>;
}

/// Passes on the frames whose turn it is and drops those that are only shown ahead.
#[inline(always)]
fn here(visit: &mut impl FnMut(Frame<'_>)) -> impl FnMut(Lookahead<&Frame<'_>>) {
    |lookahead: Lookahead<&Frame<'_>>| {
        if let Lookahead::Here(frame) = lookahead {
            visit(*frame);
        }
    }
}

/// What one call of [`FrameSource::poll`] brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polled {
    /// This many frames were visited, or belong to other shards; more may be ready.
    Frames(usize),
    /// Nothing arrived within the source's wait.
    Idle,
    /// There are no more frames and never will be.
    End,
}

/// Why a source cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The capture ends in the middle of a record; all frames before it were visited.
    #[error("the capture is cut off after {frames} frames: {detail}; everything before was read")]
    Truncated {
        /// Whole frames before the cut.
        frames: u64,
        /// What was missing.
        detail: String,
    },
    /// The capture is damaged; all frames before the damage were visited.
    #[error("the capture is damaged after {frames} frames: {detail}; everything before was read")]
    Damaged {
        /// Whole frames before the damage.
        frames: u64,
        /// What was wrong.
        detail: String,
    },
    /// Reading failed.
    #[error("cannot read the capture: {0}")]
    Read(#[source] std::io::Error),
    /// Some of several capture files could not be read to their end. Each was told when it was met.
    #[error("{failed_count} of {file_count} capture files could not be read to the end")]
    Files {
        /// How many.
        failed_count: usize,
        /// How many files there are.
        file_count: usize,
    },
    /// Every interface was removed, or was moved to another network namespace.
    #[error(
        "{names} has gone, and there is nothing left to capture on; start httplines again when \
         it is back"
    )]
    Gone {
        /// Their names.
        names: String,
    },
    /// A ring or its socket failed.
    #[error("cannot read from {iface}: {source}")]
    Ring {
        /// The interface's name.
        iface: String,
        /// The error from the kernel.
        source: std::io::Error,
    },
}

/// Where a shard's frames come from.
pub trait FrameSource {
    /// Visits the frames that are ready, in order, up to a bound (one ring block per interface, or
    /// one read buffer). Waits a bounded time (the retire timeout) if none is ready.
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError>;

    /// Like [`FrameSource::poll`]. A source that can do so also shows each frame `_frame_count`
    /// frames ahead of its turn, so that the caller can prefetch the memory it will need.
    fn poll_ahead(
        &mut self,
        _frame_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        self.poll(&mut |frame| visit(Lookahead::Here(&frame)))
    }

    /// The smallest timestamp of all frames that the last poll passed, if it did not visit those
    /// that belong to other shards.
    fn oldest(&self) -> Option<TimestampNs> {
        None
    }

    /// A time before which no further frame is stamped, if the source knows one without a frame. A
    /// live source knows the clock and how far its rings lag behind; a file only knows its frames.
    fn now(&self) -> Option<TimestampNs> {
        None
    }

    /// The time of the last frame, if there are no more.
    fn ended_at(&self) -> Option<TimestampNs> {
        None
    }

    /// Where to hint which frames the source may leave out, if it can use such hints.
    fn hints(&self) -> Option<FlowHints> {
        None
    }

    /// The share of the connections that it delivers, if that changes.
    fn share(&self) -> Option<Share> {
        None
    }
}
