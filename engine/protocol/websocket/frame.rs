//! The head of a frame (RFC 6455 section 5.2).

/// The longest head: two bytes, a length in 64 bits, and a mask.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// The longest payload of a frame that controls the talk.
pub(super) const CONTROL_BYTES_MAX: u64 = 125;

/// In the first byte: the frame is the last one of its message.
pub(super) const FIN: u8 = 0x80;

/// In the first byte: bits that extensions define.
pub(super) const RESERVED: u8 = 0x70;

/// In the second byte: the payload is masked.
pub(super) const MASKED: u8 = 0x80;

/// The kinds of frames that are not data (RFC 6455 section 11.8).
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// The kinds that carry messages: 0 goes on with one, 1 begins one of text, 2 a binary one.
pub(super) const DATA_MAX: u8 = 2;

/// A frame whose head has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHead {
    /// Its first byte.
    pub first: u8,
    /// Whether the payload is masked, and how.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload.
    pub payload_bytes: u64,
}

impl FrameHead {
    /// The head at the front of `bytes`, and its length. `None` if more bytes are needed. There are
    /// never more than [`HEAD_BYTES_MAX`].
    pub fn parse(bytes: &[u8]) -> Option<(FrameHead, usize)> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (payload_bytes, rest) = match second & !MASKED {
            126 => {
                rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))
            }
            127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), rest)),
            len => Some((len.into(), rest)),
        }?;
        let (mask, rest) = match second & MASKED {
            0 => (None, rest),
            _ => rest.split_first_chunk().map(|(mask, rest)| (Some(*mask), rest))?,
        };
        Some((FrameHead { first: *first, mask, payload_bytes }, bytes.len() - rest.len()))
    }

    /// The kind of frame.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Whether endpoints refuse the frame, whatever else there is (RFC 6455 sections 5.1, 5.2 and
    /// 5.5): of a kind that is not defined, masked by a server or not masked by a client, with bits
    /// that no extension has defined, or one that controls the talk but is long or has several
    /// parts.
    pub fn is_forbidden(&self, is_client: bool, extension_bits: u8) -> bool {
        let is_control = self.opcode() >= CLOSE;
        let is_long = self.payload_bytes > CONTROL_BYTES_MAX || self.first & FIN == 0;
        !matches!(self.opcode(), 0..=DATA_MAX | CLOSE..=PONG)
            || self.mask.is_some() != is_client
            || self.first & RESERVED & !extension_bits != 0
            || is_control && is_long
            || self.is_endless()
    }

    /// Whether the length is none: its top bit must be 0.
    pub fn is_endless(&self) -> bool {
        self.payload_bytes > i64::MAX as u64
    }
}
