//! The TCP header (RFC 9293 section 3.1).

use super::cursor::Cursor;
use super::{Reject, SeqNumber};

const SOURCE_PORT: usize = 0;
const DESTINATION_PORT: usize = 2;
const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const HEADER_BYTES_MIN: usize = 20;

/// The control bits of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The bits, by name, to be combined with `|`.
    pub const FIN: u8 = 0x01;
    /// Synchronize.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgment number is valid.
    pub const ACK: u8 = 0x10;

    /// Whether the sender has no more data.
    pub fn is_fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Whether the sequence number is an initial one.
    pub fn is_syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Whether the connection is aborted.
    pub fn is_rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether the acknowledgment number is valid.
    pub fn is_ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    pub seq: SeqNumber,
    pub ack: SeqNumber,
    pub flags: TcpFlags,
    pub window: u16,
}

/// Skips the header; all of it, options included, must have been captured.
#[inline]
pub(super) fn header(cursor: &mut Cursor<'_>) -> Result<Header, Reject> {
    let wire_bytes = cursor.wire_bytes();
    let fixed = cursor.take::<HEADER_BYTES_MIN>()?;
    let header_bytes = usize::from(fixed[DATA_OFFSET] >> 4) * 4;
    if header_bytes < HEADER_BYTES_MIN || header_bytes > wire_bytes {
        return Err(Reject::BadHeader);
    }
    cursor.skip(header_bytes - HEADER_BYTES_MIN)?;
    let word =
        |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Ok(Header {
        source_port: [fixed[SOURCE_PORT], fixed[SOURCE_PORT + 1]],
        destination_port: [fixed[DESTINATION_PORT], fixed[DESTINATION_PORT + 1]],
        seq: SeqNumber(word(SEQUENCE)),
        ack: SeqNumber(word(ACKNOWLEDGMENT)),
        flags: TcpFlags(fixed[FLAGS]),
        window: u16::from_be_bytes([fixed[WINDOW], fixed[WINDOW + 1]]),
    })
}

/// The largest shift count (RFC 7323 section 2.3). Larger ones mean this one.
const WINDOW_SHIFT_MAX: u8 = 14;

/// The shift count in the window scale option of a SYN with this `header`.
#[cold]
pub(super) fn window_shift(header: &[u8]) -> Option<u8> {
    let mut options = header.get(HEADER_BYTES_MIN..)?;
    loop {
        options = match options {
            [0, ..] | [] => return None,
            [1, rest @ ..] => rest,
            [3, 3, shift, ..] => return Some((*shift).min(WINDOW_SHIFT_MAX)),
            // Each turn takes at least two bytes, so the loop ends.
            [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_scale_option_is_found_among_others() {
        let shift = |options: &[u8]| {
            let header = [&[0; HEADER_BYTES_MIN], options].concat();
            window_shift(&header)
        };
        assert_eq!(shift(&[2, 4, 5, 0xb4, 1, 3, 3, 7]), Some(7));
        assert_eq!(shift(&[3, 3, 200, 0]), Some(14));
        for options in [&[][..], &[0, 3, 3, 7], &[2, 4, 5], &[2, 0, 3, 3, 7], &[8], &[3, 3]] {
            assert_eq!(shift(options), None, "{options:?}");
        }
    }
}
