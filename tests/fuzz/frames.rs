//! Scripts of frames, through one shared decoder and each frame alone.

use httplines::capture::{Frame, LinkType, VlanTag};
use httplines::config::DecodeConfig;
use httplines::decode::{Decoder, Reject, Segment};
use httplines::ids::IfaceId;
use httplines::stats::DecodeStats;
use httplines::time::TimestampNs;
use oracle::{oracle, told};

#[path = "../support/oracle.rs"]
mod oracle;

/// Nanoseconds between two frames: a fragment is given up after a few.
const STEP_NS: u64 = 7_000_000_000;

/// Passes frames of any link type through one decoder, so that fragments meet.
#[derive(Debug)]
pub struct Frames {
    limits: DecodeConfig,
    decoder: Decoder,
    stats: DecodeStats,
    count: u64,
}

impl Default for Frames {
    fn default() -> Frames {
        let limits = DecodeConfig {
            fragmented_count_max: 3,
            fragment_bytes_max: 2048,
            ..DecodeConfig::default()
        };
        let decoder = Decoder::new(limits.clone());
        Frames { limits, decoder, stats: DecodeStats::default(), count: 0 }
    }
}

impl Frames {
    /// A frame of a script: its link type, flags (a tag that was removed, a cut by the snap
    /// length), then its bytes.
    pub fn step(&mut self, piece: &[u8]) {
        let [link, bits, bytes @ ..] = piece else { return };
        let cut_bytes = if bits & 2 == 0 { 0 } else { 1 << (bits >> 3) };
        let frame = Frame {
            bytes,
            wire_bytes: (bytes.len() as u32).saturating_add(cut_bytes),
            timestamp: TimestampNs(self.count * STEP_NS),
            link: LinkType::from_file(if *link == 255 { 276 } else { (*link).into() }),
            vlan: (bits & 1 != 0).then_some(VlanTag { tci: (*bits).into(), tpid: 0x8100 }),
            iface: IfaceId(0),
            is_checksum_trusted: false,
        };
        self.count += 1;
        let joined = self.decoder.stats().datagrams_joined;
        let outcome = self.decoder.decode(&frame);
        self.stats.count(&outcome);
        let payload = outcome.ok().map(|segment| {
            assert!(segment.payload_wire_bytes as usize >= segment.payload.len());
            segment.payload.len()
        });
        if self.decoder.stats().datagrams_joined == joined {
            assert!(payload.is_none_or(|len| len <= bytes.len()), "bytes of no frame");
        }
        assert!(self.decoder.fragment_bytes() <= self.limits.fragment_bytes_max);
        compare_with_oracle(&frame);
        compare_with_cut(&frame, bytes.len() * usize::from(bits >> 3) / 32);
    }

    /// Asserts that each frame had one outcome.
    pub fn finish(self) {
        let sum: u64 = self.stats.each().iter().map(|(_, count)| count).sum();
        assert_eq!(sum, self.count);
    }
}

/// If etherparse finds a segment, we must find the same.
fn compare_with_oracle(frame: &Frame<'_>) {
    if frame.link != LinkType::Ethernet || frame.vlan.is_some() {
        return;
    }
    let frame = Frame { wire_bytes: frame.bytes.len() as u32, ..*frame };
    let Some(expected) = oracle(frame.bytes) else { return };
    let mut decoder = Decoder::new(DecodeConfig::default());
    let segment = decoder.decode(&frame).expect("etherparse finds a segment");
    assert_eq!(told(&segment), expected);
}

/// A frame of which only `kept_bytes` were captured is the same segment with less payload, or is
/// cut inside its headers. It is never another segment.
fn compare_with_cut(frame: &Frame<'_>, kept_bytes: usize) {
    let cut = Frame { bytes: &frame.bytes[..kept_bytes], ..*frame };
    let (mut decoder, mut cut_decoder) =
        (Decoder::new(DecodeConfig::default()), Decoder::new(DecodeConfig::default()));
    match (decoder.decode(frame), cut_decoder.decode(&cut)) {
        (_, Err(Reject::Truncated)) => {}
        (Ok(whole), Ok(part)) => {
            assert!(whole.payload.starts_with(part.payload), "other bytes");
            let told = |segment| format!("{:?}", Segment { payload: &[], ..segment });
            assert_eq!(told(part), told(whole));
        }
        (Err(_), Err(_)) => {}
        (whole, part) => panic!("{whole:?}, but of a part of the frame {part:?}"),
    }
}
