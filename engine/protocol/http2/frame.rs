//! Frames (RFC 9113 sections 4 and 6): their heads, and what makes a head valid.

/// The client's part of the connection preface (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether `bytes`, of which there is at least one, begin the preface, or a part of it.
pub(super) fn begins_preface(bytes: &[u8]) -> bool {
    let len = bytes.len().min(PREFACE.len());
    bytes[..len] == PREFACE[..len]
}

/// The length of the head of a frame.
pub(super) const HEAD_BYTES: usize = 9;

/// No frame is longer, unless its receiver has allowed that (SETTINGS_MAX_FRAME_SIZE).
pub(super) const LEN_BYTES_DEFAULT: u32 = 1 << 14;

/// Of HEADERS and DATA: the message ends with this frame.
pub(super) const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING: it is an answer.
pub(super) const ACK: u8 = 0x1;
/// Of HEADERS, PUSH_PROMISE and CONTINUATION: the header block ends with this frame.
pub(super) const END_HEADERS: u8 = 0x4;
/// Of HEADERS, PUSH_PROMISE and DATA: there is padding, and its length is in front.
pub(super) const PADDED: u8 = 0x8;
/// Of HEADERS: a priority is in front of the header block.
pub(super) const PRIORITY: u8 = 0x20;

/// SETTINGS_HEADER_TABLE_SIZE.
pub(super) const SETTING_TABLE_SIZE: u16 = 1;
/// SETTINGS_MAX_FRAME_SIZE.
pub(super) const SETTING_FRAME_SIZE: u16 = 5;

/// The types of frames that mean something here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameKind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// Of an extension. Receivers ignore it.
    Other,
}

impl FrameKind {
    fn of(code: u8) -> FrameKind {
        const KNOWN: [FrameKind; 10] = [
            FrameKind::Data,
            FrameKind::Headers,
            FrameKind::Priority,
            FrameKind::RstStream,
            FrameKind::Settings,
            FrameKind::PushPromise,
            FrameKind::Ping,
            FrameKind::GoAway,
            FrameKind::WindowUpdate,
            FrameKind::Continuation,
        ];
        KNOWN.get(usize::from(code)).copied().unwrap_or(FrameKind::Other)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHead {
    /// The length of what follows.
    pub len_bytes: u32,
    pub kind: FrameKind,
    pub flags: u8,
    /// The stream's number; 0 for the connection.
    pub stream: u32,
}

impl FrameHead {
    #[inline]
    pub fn parse(bytes: &[u8; HEAD_BYTES]) -> FrameHead {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        FrameHead {
            len_bytes: u32::from_be_bytes([0, a, b, c]),
            kind: FrameKind::of(kind),
            flags,
            // The highest bit is reserved, and ignored.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// Whether these bits are set.
    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether a receiver goes on after this head. Otherwise the connection is over (RFC 9113
    /// section 5.4.1), or the bytes are not a head. `len_bytes_max` is the receiver's limit.
    pub fn is_valid(&self, len_bytes_max: u32) -> bool {
        let (len, is_of_stream) = (self.len_bytes, self.stream != 0);
        match self.kind {
            FrameKind::Data | FrameKind::Headers | FrameKind::Continuation => is_of_stream,
            FrameKind::PushPromise => is_of_stream && len >= 4,
            FrameKind::Priority => is_of_stream,
            FrameKind::RstStream => is_of_stream && len == 4,
            FrameKind::Settings => !is_of_stream && len.is_multiple_of(6) && len <= len_bytes_max,
            FrameKind::Ping => !is_of_stream && len == 8,
            FrameKind::GoAway => !is_of_stream && len >= 8,
            FrameKind::WindowUpdate => len == 4,
            FrameKind::Other => len <= len_bytes_max,
        }
    }

    /// Whether senders write such a head: a stricter test, for places where a frame need not begin.
    pub fn is_likely(&self, len_bytes_max: u32) -> bool {
        let flags_max = match self.kind {
            FrameKind::Data => END_STREAM | PADDED,
            FrameKind::Headers => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            FrameKind::PushPromise => END_HEADERS | PADDED,
            FrameKind::Continuation => END_HEADERS,
            FrameKind::Settings | FrameKind::Ping => ACK,
            FrameKind::Other => return false,
            _ => 0,
        };
        let is_usual_length = match self.kind {
            FrameKind::Priority => self.len_bytes == 5,
            FrameKind::Headers | FrameKind::Continuation => self.len_bytes > 0,
            // Only the end of a message needs an empty frame.
            FrameKind::Data => self.len_bytes > 0 || self.has(END_STREAM),
            FrameKind::Settings => !self.has(ACK) || self.len_bytes == 0,
            _ => true,
        };
        self.flags & !flags_max == 0
            && is_usual_length
            && self.len_bytes <= len_bytes_max
            && self.is_valid(len_bytes_max)
    }
}

/// Whether `bytes` begin with the head of a frame that senders write.
pub(super) fn likely_head(bytes: &[u8], len_bytes_max: u32) -> Option<FrameHead> {
    let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    // The reserved bit is never set.
    let head = (head[5] < 0x80).then(|| FrameHead::parse(head))?;
    head.is_likely(len_bytes_max).then_some(head)
}
