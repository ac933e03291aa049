//! Wire or file → [`Frame`]. The first room: where bytes come from, and nothing of what they mean.
//!
//! Two sources stand behind one trait: [`live`] (rings of AF_PACKET sockets behind our kernel
//! filter) and [`pcap`] (capture files). The engine behind them cannot tell which it has.
//! The first of them is there with the feature `live` only.

use crate::ids::IfaceId;
use crate::sys::flow_hints::FlowHints;
use crate::time::TimestampNs;

pub mod direct;
#[cfg(feature = "live")]
pub mod live;
pub mod pcap;
pub mod tee;

/// What the first byte of a frame belongs to: <https://www.tcpdump.org/linktypes.html>.
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
    /// PPP, with or without HDLC's address and control (9).
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
    /// A header that tells the link type behind it: PPI (192).
    Ppi,
    /// The same by macOS: PKTAP (258).
    Pktap,
    /// PPP behind a byte that tells the direction (204), or with that byte for an address (166).
    PppDirected,
    /// Cisco's HDLC behind such a byte (205).
    CiscoHdlcDirected,
    /// Linux netfilter's log (239).
    Nflog,
    /// Linux netlink messages, which may hold such a log (253).
    Netlink,
    /// A link type we do not decode; its frames are counted.
    Unsupported(u16),
}

impl LinkType {
    /// From the LINKTYPE_ value of a pcap or pcapng file. The value is 16 bits; the upper half of a
    /// pcap header's word holds other things and must be masked before.
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

/// One captured frame: a loan of ring or file memory, as short as the call it is passed to.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The captured bytes, from the link layer on.
    pub bytes: &'a [u8],
    /// Length on the wire, at least `bytes.len()`; more where a snap length cut the frame.
    pub wire_bytes: u32,
    /// When the frame passed.
    pub timestamp: TimestampNs,
    /// What `bytes` begins with.
    pub link: LinkType,
    /// A tag that was taken out of `bytes`; it is the outermost.
    pub vlan: Option<VlanTag>,
    /// Where it was captured.
    pub iface: IfaceId,
}

/// A frame as a source that looks ahead shows it.
#[derive(Clone, Copy, Debug)]
pub enum Lookahead<F> {
    /// It comes soon, as [`Lookahead::Here`].
    Ahead(F),
    /// It has come.
    Here(F),
}

/// What `visit` sees of a source that looks ahead: the frames that have come.
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
    /// So many frames were visited; there may be more at once.
    Frames(usize),
    /// Nothing came within the source's wait.
    Idle,
    /// There is no more and never will be.
    End,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The capture ends in the middle of a record; all before it was visited.
    #[error("the capture is cut off after {frames} frames: {detail}; everything before was read")]
    Truncated {
        /// Whole frames before the cut.
        frames: u64,
        /// What was missing.
        detail: String,
    },
    /// The capture is damaged; all before the damage was visited.
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
    /// Every interface was removed, or went to another network namespace.
    #[error(
        "{names} has gone, and there is nothing left to capture on; start httplines again when \
         it is back"
    )]
    Gone {
        /// What they were called.
        names: String,
    },
    /// A ring or its socket failed.
    #[error("cannot read from {iface}: {source}")]
    Ring {
        /// The interface's name.
        iface: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Where a shard's frames come from.
pub trait FrameSource {
    /// Visits the frames that are there, in order, a bounded number of them (one ring block per
    /// interface, or one read buffer); waits a bounded time (the retire timeout) where there are
    /// none.
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError>;

    /// The same; a source that can shows each frame so many frames ahead, so that what it will need
    /// can be fetched meanwhile.
    fn poll_ahead(
        &mut self,
        _frame_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        self.poll(&mut |frame| visit(Lookahead::Here(&frame)))
    }

    /// A moment before which no frame is still to come, where the source can tell without a frame:
    /// a live one knows the clock and how far its rings lag behind; a file knows nothing but its
    /// frames.
    fn now(&self) -> Option<TimestampNs> {
        None
    }

    /// Where to hint what the source need not bring, if it can make use of that.
    fn hints(&self) -> Option<FlowHints> {
        None
    }
}
