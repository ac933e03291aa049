//! Arbitrary bytes as a capture file.

use httplines::capture::pcap::PcapSource;
use httplines::capture::{Frame, FrameSource, LinkType, Polled};
use httplines::ids::{IfaceId, IfaceNames};
use httplines::time::TimestampNs;
use std::io::{ErrorKind, Read};

/// The minimum size of a record or a block, without its frame.
const RECORD_BYTES_MIN: usize = 16;

/// A reader that returns a few bytes at a time, and now and then "nothing yet".
#[derive(Debug)]
struct Trickle<'a>(&'a [u8], usize, bool);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.2 = !self.2;
        if self.2 && self.1 < 4 {
            return Err(ErrorKind::Interrupted.into());
        }
        let limit = self.1.min(into.len());
        self.0.read(&mut into[..limit])
    }
}

/// The frames of a capture and how it ended, as text; `None` if it is no capture.
pub fn capture_of(data: &[u8], read_bytes: usize) -> Option<(Vec<String>, String)> {
    let reader = Trickle(data, read_bytes, false);
    let names = IfaceNames::default();
    let mut source = PcapSource::new(reader, read_bytes.min(4096), &names).ok()?;
    let (mut frames, mut frame_bytes) = (Vec::new(), 0);
    let mut polls = 0;
    let end = loop {
        let before = frames.len();
        let polled = source.poll(&mut |frame| {
            assert!(frame.wire_bytes as usize >= frame.bytes.len());
            frame_bytes += frame.bytes.len();
            frames.push(format!("{frame:?}"));
        });
        polls += 1;
        assert!(polls <= 3 * data.len() + 3, "it does not end");
        match polled {
            Ok(Polled::Frames(count)) => assert_eq!(count, frames.len() - before),
            Ok(Polled::Idle) => {}
            Ok(Polled::End) => break String::new(),
            Err(error) => break error.to_string(),
        }
    };
    assert!(frames.len() * RECORD_BYTES_MIN + frame_bytes <= data.len(), "more than there is");
    let again = source.poll(&mut |_| panic!("a frame behind the end"));
    assert!(matches!(again, Ok(Polled::End)), "an end is for good");
    Some((frames, end))
}

/// The frames of a little-endian classic capture, read as plainly as possible; `None` for other
/// captures.
pub fn plain_frames(data: &[u8]) -> Option<Vec<String>> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let unit_ns = match word(data, 0)? {
        0xa1b2_c3d4 => 1_000,
        0xa1b2_3c4d => 1,
        _ => return None,
    };
    let link = LinkType::from_file(word(data, 20)? as u16);
    let mut rest = &data[24..];
    let mut frames = Vec::new();
    while let (Some(captured), Some(wire_bytes)) = (word(rest, 8), word(rest, 12)) {
        let Some(bytes) = rest[16..].get(..captured as usize) else { break };
        let (seconds, fraction) = (word(rest, 0)?, word(rest, 4)?);
        let ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit_ns;
        let (wire_bytes, timestamp) = (wire_bytes.max(captured), TimestampNs(ns));
        let frame = Frame {
            bytes,
            wire_bytes,
            timestamp,
            link,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted: false,
        };
        frames.push(format!("{frame:?}"));
        rest = &rest[16 + bytes.len()..];
    }
    Some(frames)
}
