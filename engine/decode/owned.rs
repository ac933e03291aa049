//! [`OwnedSegment`]: a segment that outlives its frame.

use super::Segment;

/// A segment with a copy of its bytes.
#[derive(Debug)]
pub struct OwnedSegment {
    /// The segment, without its bytes.
    head: Segment<'static>,
    /// The header, then the payload.
    bytes: Box<[u8]>,
    header_bytes: usize,
}

impl OwnedSegment {
    /// A copy of `segment`.
    pub fn of(segment: &Segment<'_>) -> OwnedSegment {
        OwnedSegment {
            head: Segment { header: &[], payload: &[], ..*segment },
            bytes: [segment.header, segment.payload].concat().into(),
            header_bytes: segment.header.len(),
        }
    }

    /// The segment as it was.
    pub fn segment(&self) -> Segment<'_> {
        let (header, payload) = self.bytes.split_at(self.header_bytes);
        Segment { header, payload, ..self.head }
    }

    /// The length of the copied bytes.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }
}
