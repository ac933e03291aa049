//! [`looks_like_frames`]: which payloads look like frames of HTTP/2, on a connection whose
//! beginning was not seen. The kernel filter has the same rule.

/// The head of a frame (RFC 9113 section 4.1).
const HEAD_BYTES: usize = 9;
/// One parameter in a frame of SETTINGS (section 6.5.1).
const SETTING_BYTES: u32 = 6;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// Of HEADERS and DATA.
const END_STREAM: u8 = 0x01;
/// Of SETTINGS and PING.
const ACK: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Whether `payload` looks like frames of HTTP/2: it begins with the head of a frame that is nearly
/// always followed by another, and it either ends with that frame, or the head of another one or of
/// DATA follows. The first frame is one of
/// - SETTINGS of at most 42 parameters, or their acknowledgement, on stream 0;
/// - PING or its answer, on stream 0;
/// - WINDOW_UPDATE;
/// - RST_STREAM of a stream;
/// - HEADERS with a whole header block of less than 64 KiB.
///
/// HEADERS or DATA behind it are of a stream whose number has the same highest byte: 0, unless the
/// connection has had more than 2^24 streams. If HEADERS of such a stream are alone, their header
/// block begins with an indexed field, or with one that is put into the table, as nearly all do.
///
/// What has unknown flags or a reserved bit does not match. Of protocols whose messages begin with
/// their length, some begin with the same bytes; `tests/frames.rs` counts which. So a match means
/// that the connection is worth joining, and not that it is HTTP/2.
///
/// The kernel filter applies this rule to connections whose SYN it did not see: `bpf/message.h`.
/// `tests/filter.rs` compares the two.
pub fn looks_like_frames(payload: &[u8]) -> bool {
    // Nearly all other payloads end here.
    if payload.first() != Some(&0) {
        return false;
    }
    let Some(first) = FrameHead::at(payload, 0).filter(FrameHead::is_telling) else { return false };
    let end = HEAD_BYTES + first.len_bytes as usize;
    if payload.len() <= end {
        return payload.len() == end && first.may_be_alone(payload);
    }
    FrameHead::at(payload, end).is_some_and(|next| match next.kind {
        HEADERS => next.is_telling() && next.is_near(&first),
        DATA => next.is_data() && next.is_near(&first),
        _ => next.is_telling(),
    })
}

struct FrameHead {
    len_bytes: u32,
    kind: u8,
    flags: u8,
    /// With the reserved bit, which is not set (RFC 9113 section 4.1).
    stream: u32,
}

impl FrameHead {
    fn at(payload: &[u8], at: usize) -> Option<FrameHead> {
        let [a, b, c, kind, flags, stream @ ..] =
            *payload.get(at..)?.first_chunk::<HEAD_BYTES>()?;
        let len_bytes = u32::from_be_bytes([0, a, b, c]);
        Some(FrameHead { len_bytes, kind, flags, stream: u32::from_be_bytes(stream) })
    }

    fn has_only(&self, flags: u8) -> bool {
        self.flags & !flags == 0
    }

    /// Whether hardly anything but HTTP/2 has such a head.
    fn is_telling(&self) -> bool {
        let is_of_connection = self.stream == 0;
        match self.kind {
            SETTINGS if self.flags == ACK => is_of_connection && self.len_bytes == 0,
            SETTINGS => {
                let is_whole =
                    self.len_bytes <= 0xff && self.len_bytes.is_multiple_of(SETTING_BYTES);
                is_of_connection && self.flags == 0 && is_whole
            }
            PING => is_of_connection && self.has_only(ACK) && self.len_bytes == 8,
            WINDOW_UPDATE => self.stream >> 31 == 0 && self.flags == 0 && self.len_bytes == 4,
            RST_STREAM => {
                !is_of_connection
                    && self.stream >> 31 == 0
                    && self.flags == 0
                    && self.len_bytes == 4
            }
            HEADERS => {
                self.is_of_stream()
                    && self.has_only(END_STREAM | END_HEADERS | PADDED | PRIORITY)
                    && self.flags & END_HEADERS != 0
                    && (1..=0xffff).contains(&self.len_bytes)
            }
            _ => false,
        }
    }

    fn is_data(&self) -> bool {
        self.has_only(END_STREAM | PADDED) && self.is_of_stream()
    }

    fn is_of_stream(&self) -> bool {
        (1..1 << 31).contains(&self.stream)
    }

    /// Whether the highest bytes of the streams' numbers are the same.
    fn is_near(&self, other: &FrameHead) -> bool {
        self.stream >> 24 == other.stream >> 24
    }

    /// Whether `payload`, which begins and ends with this frame, is enough. The numbers of most
    /// streams are below 2^24, so few others need to look further.
    fn may_be_alone(&self, payload: &[u8]) -> bool {
        let begins_block = |byte: &u8| matches!(byte, 0x40..=0x4f | 0x80..);
        self.kind != HEADERS
            || self.stream < 1 << 24
            || payload.get(HEAD_BYTES).is_some_and(begins_block)
    }
}
