//! Where a message's body ends (RFC 9112 section 6 and 7.1). Bodies are counted, and not looked at:
//! who reads one gets its parts.

use super::head::{FramingFields, Kind};
use memchr::memchr;

/// Hex digits of a chunk size that are accepted. More would exceed 2^64 bytes.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// How a body is framed, and how much of it is still to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// This many bytes are still to come.
    Length(u64),
    /// Chunks, up to one of size 0 and the trailer that follows it.
    Chunked(ChunkState),
    /// Everything until the sender closes.
    UntilClose,
}

/// The position within the chunked coding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkState {
    /// In a chunk's size.
    Size {
        /// The size so far.
        value: u64,
        /// The number of digits read.
        digits: u8,
    },
    /// After the size, before the end of the line.
    Extension {
        /// The size.
        value: u64,
    },
    /// In chunk data, with this many bytes to come.
    Data(u64),
    /// After chunk data, before its line end.
    DataEnd,
    /// In the trailer.
    Trailer {
        /// The current line contains nothing but CR so far.
        is_line_empty: bool,
    },
}

impl ChunkState {
    /// Before the first chunk.
    pub const START: ChunkState = ChunkState::Size { value: 0, digits: 0 };
}

/// The effect of a piece of a stream on a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fed {
    /// Bytes of the piece that belong to the message.
    pub used: usize,
    /// How many of them are bytes of the body itself.
    pub body_bytes: u64,
    pub progress: Progress,
}

/// A part of a piece of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part<'a> {
    /// Bytes of the body itself.
    Content(&'a [u8]),
    /// Bytes of the trailer behind the chunks, with the empty line that ends it.
    Trailer(&'a [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    More,
    Done,
    /// This is not chunked coding.
    Broken,
}

/// Whether the framing can account for bytes that passed unseen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Skipped {
    /// All of them are in the body. The message may have ended with them.
    Inside { is_done: bool },
    /// The body ended within them, after `inside_bytes`.
    Beyond { inside_bytes: u64 },
    /// The framing itself was lost with them.
    Lost,
}

impl BodyFraming {
    /// The framing of a request's body.
    pub(super) fn of_request(fields: &FramingFields) -> Option<BodyFraming> {
        if fields.has_transfer_coding {
            // Without `chunked` last the length cannot be known; a server answers 400 and closes.
            return Some(match fields.is_chunked {
                true => BodyFraming::Chunked(ChunkState::START),
                false => BodyFraming::UntilClose,
            });
        }
        if fields.is_length_invalid {
            return None;
        }
        Some(match fields.content_length {
            None | Some(0) => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
        })
    }

    /// The framing of a final response's body, given the method of its request if that is known.
    /// `None` if the fields are invalid, so that the end cannot be determined.
    pub(super) fn of_response(
        fields: &FramingFields,
        kind: Kind,
        method: Option<&[u8]>,
    ) -> Option<BodyFraming> {
        let is_bodiless = matches!(kind, Kind::Response { status: 100..=199 | 204 | 304 });
        if is_bodiless || method == Some(b"HEAD") {
            return Some(BodyFraming::None);
        }
        if !fields.has_transfer_coding
            && fields.content_length.is_none()
            && !fields.is_length_invalid
        {
            return Some(BodyFraming::UntilClose);
        }
        BodyFraming::of_request(fields)
    }

    /// Whether no byte of a chunked body has come. Other framings show this by their byte count.
    pub(super) fn is_untouched(&self) -> bool {
        !matches!(self, BodyFraming::Chunked(state) if *state != ChunkState::START)
    }

    /// At least this many bytes belong to the body before anything else can come.
    pub(super) fn rest_bytes(&self) -> u64 {
        match self {
            BodyFraming::UntilClose => u64::MAX,
            BodyFraming::Length(rest) | BodyFraming::Chunked(ChunkState::Data(rest)) => *rest,
            BodyFraming::None | BodyFraming::Chunked(_) => 0,
        }
    }

    /// Whether the message continues past the position `ahead_bytes` from here.
    pub(super) fn goes_beyond(&self, ahead_bytes: i32) -> bool {
        let rest = i64::try_from(self.rest_bytes()).unwrap_or(i64::MAX);
        // The data of a chunk is always followed by more.
        let least = rest.saturating_add(i64::from(matches!(self, BodyFraming::Chunked(_))));
        least > i64::from(ahead_bytes)
    }

    /// Takes a piece of the stream.
    pub(super) fn feed(&mut self, data: &[u8]) -> Fed {
        self.feed_to(data, |_| {})
    }

    /// The same. Passes its parts to `read`.
    #[inline(always)]
    pub(super) fn feed_to<'a>(&mut self, data: &'a [u8], mut read: impl FnMut(Part<'a>)) -> Fed {
        match self {
            BodyFraming::None => Fed { used: 0, body_bytes: 0, progress: Progress::Done },
            BodyFraming::UntilClose => {
                read(Part::Content(data));
                Fed { used: data.len(), body_bytes: data.len() as u64, progress: Progress::More }
            }
            BodyFraming::Length(remaining) => {
                let used = data.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                read(Part::Content(&data[..used]));
                *remaining -= used as u64;
                let progress = if *remaining == 0 { Progress::Done } else { Progress::More };
                Fed { used, body_bytes: used as u64, progress }
            }
            BodyFraming::Chunked(state) => feed_chunks(state, data, read),
        }
    }

    /// Takes `len_bytes` of the body that passed unseen. Returns whether the body ended with them,
    /// or `None` if not all of them belong to the body.
    pub(super) fn skip_inside(&mut self, len_bytes: u64) -> Option<bool> {
        match self.skip(len_bytes) {
            Skipped::Inside { is_done } => Some(is_done),
            Skipped::Beyond { .. } | Skipped::Lost => None,
        }
    }

    /// Takes `len_bytes` that passed unseen.
    pub(super) fn skip(&mut self, len_bytes: u64) -> Skipped {
        match self {
            BodyFraming::UntilClose => Skipped::Inside { is_done: false },
            BodyFraming::Length(remaining) if len_bytes <= *remaining => {
                *remaining -= len_bytes;
                Skipped::Inside { is_done: *remaining == 0 }
            }
            BodyFraming::Length(remaining) => Skipped::Beyond { inside_bytes: *remaining },
            BodyFraming::Chunked(state @ ChunkState::Data(_)) => {
                let ChunkState::Data(remaining) = state else { return Skipped::Lost };
                if len_bytes > *remaining {
                    return Skipped::Lost;
                }
                *remaining -= len_bytes;
                if *remaining == 0 {
                    *state = ChunkState::DataEnd;
                }
                Skipped::Inside { is_done: false }
            }
            BodyFraming::None | BodyFraming::Chunked(_) => Skipped::Lost,
        }
    }
}

fn feed_chunks<'a>(state: &mut ChunkState, data: &'a [u8], mut read: impl FnMut(Part<'a>)) -> Fed {
    let mut used = 0;
    let mut body_bytes = 0;
    while used < data.len() {
        let rest = &data[used..];
        match *state {
            ChunkState::Data(remaining) => {
                let taken = rest.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
                read(Part::Content(&rest[..taken]));
                used += taken;
                body_bytes += taken as u64;
                *state = match remaining - taken as u64 {
                    0 => ChunkState::DataEnd,
                    left => ChunkState::Data(left),
                };
            }
            ChunkState::Extension { value } => {
                let Some(end) = memchr(b'\n', rest) else {
                    return Fed { used: data.len(), body_bytes, progress: Progress::More };
                };
                used += end + 1;
                *state = match value {
                    0 => ChunkState::Trailer { is_line_empty: true },
                    size => ChunkState::Data(size),
                };
            }
            ChunkState::Trailer { is_line_empty } => {
                used += 1;
                read(Part::Trailer(&rest[..1]));
                match rest[0] {
                    b'\n' if is_line_empty => {
                        return Fed { used, body_bytes, progress: Progress::Done };
                    }
                    b'\n' => *state = ChunkState::Trailer { is_line_empty: true },
                    b'\r' => {}
                    _ => *state = ChunkState::Trailer { is_line_empty: false },
                }
            }
            ChunkState::DataEnd | ChunkState::Size { .. } => {
                used += 1;
                match step(*state, rest[0]) {
                    Some(next) => *state = next,
                    None => return Fed { used, body_bytes, progress: Progress::Broken },
                }
            }
        }
    }
    Fed { used, body_bytes, progress: Progress::More }
}

/// Takes one byte between chunks. `None` if it is not allowed there.
fn step(state: ChunkState, byte: u8) -> Option<ChunkState> {
    match (state, byte) {
        (ChunkState::DataEnd, b'\r') => Some(ChunkState::DataEnd),
        (ChunkState::DataEnd, b'\n') => Some(ChunkState::START),
        (ChunkState::Size { value, digits }, _) => match (byte as char).to_digit(16) {
            // Leading zeros do not count towards the limit.
            Some(digit) if value == 0 => {
                Some(ChunkState::Size { value: u64::from(digit), digits: 1 })
            }
            Some(digit) if digits < CHUNK_SIZE_DIGITS_MAX => {
                Some(ChunkState::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
            }
            None if digits > 0 && byte == b'\n' => Some(match value {
                0 => ChunkState::Trailer { is_line_empty: true },
                size => ChunkState::Data(size),
            }),
            None if digits > 0 && matches!(byte, b'\r' | b';' | b' ' | b'\t') => {
                Some(ChunkState::Extension { value })
            }
            _ => None,
        },
        _ => None,
    }
}
