//! Heads that are longer than the part that is kept. The kept part is reported; the rest is only
//! scanned for the fields that frame the body.

use super::head::{self, Expected, FramingFields, Head};
use crate::protocol::pool::ExchangePool;
use memchr::memrchr;

/// Bytes of a field behind the kept part that are examined. The fields that frame a body are
/// shorter.
const REST_FIELD_BYTES_MAX: usize = 256;

/// The part of a head that is not kept, up to its empty line. Its fields are scanned for the
/// framing of the body. The start of an incomplete field is in the framer's `partial`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LongHead {
    /// The framing according to the fields so far.
    pub fields: FramingFields,
    /// It is a response that has no body, whatever its fields announce.
    pub is_bodiless: bool,
    /// The current line contains nothing but CR so far.
    is_line_empty: bool,
}

impl LongHead {
    /// Continues a head whose kept part has these `fields`.
    pub fn new(fields: FramingFields, is_bodiless: bool) -> LongHead {
        LongHead { fields, is_bodiless, is_line_empty: false }
    }

    /// Continues after `kept`. Returns the last field of `kept`, which may continue, as far as it
    /// is examined.
    pub fn resume_after<'a>(&mut self, kept: &'a [u8]) -> &'a [u8] {
        self.is_line_empty = kept.ends_with(b"\n") || kept.ends_with(b"\n\r");
        let field = last_field(kept);
        &field[..field.len().min(REST_FIELD_BYTES_MAX)]
    }

    /// Scans a piece. Returns the number of bytes of `data` up to the end of the head, or `None` if
    /// the head continues. The incomplete field is in `partial`.
    pub fn find_end(
        &mut self,
        data: &[u8],
        is_request: bool,
        partial: &mut Vec<u8>,
        pool: &mut ExchangePool,
    ) -> Option<usize> {
        for (index, byte) in data.iter().enumerate() {
            let is_blank = matches!(byte, b' ' | b'\t');
            if self.is_line_empty && !is_blank && *byte != b'\r' {
                // Not a fold: the previous field is complete.
                head::note_framing(partial, is_request, &mut self.fields);
                partial.clear();
            }
            match byte {
                b'\n' if self.is_line_empty => return Some(index + 1),
                b'\n' => self.is_line_empty = true,
                b'\r' => {}
                _ => self.is_line_empty = false,
            }
            if partial.len() < REST_FIELD_BYTES_MAX {
                pool.extend(partial, &[*byte]);
            }
        }
        None
    }
}

/// Parses the kept part of a head that is too long. Its last field counts only once it is complete,
/// because it may be folded.
pub(super) fn parse_kept(kept: &[u8], expected: Expected) -> Option<Head> {
    let head = head::parse_cut(kept, expected).or_else(|| {
        (expected != Expected::Response).then(|| head::parse_cut_request_line(kept))?
    });
    let mut head = head?;
    let whole_bytes = kept.len() - last_field(kept).len();
    let known = head::parse_cut(&kept[..whole_bytes], expected);
    head.framing = known.map_or(FramingFields::NONE, |head| head.framing);
    Some(head)
}

/// The last field of a partial head, including the lines it is folded over. Its end may be missing.
fn last_field(bytes: &[u8]) -> &[u8] {
    let mut start = bytes.len();
    loop {
        // A line that is empty so far belongs to the previous one, which may be folded.
        let behind = start.saturating_sub(1);
        start = memrchr(b'\n', &bytes[..behind]).map_or(0, |at| at + 1);
        if start == 0 || !matches!(bytes[start], b' ' | b'\t' | b'\r') {
            return &bytes[start..];
        }
    }
}
