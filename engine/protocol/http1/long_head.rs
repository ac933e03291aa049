//! Heads that are longer than what is kept. What fits is reported; the rest is read over, for what
//! its fields say of the body.

use super::head::{self, Expected, FramingFields, Head};
use crate::protocol::pool::ExchangePool;
use memchr::memrchr;

/// Of a field behind the part of a head that is kept, so much is looked at: those that tell where
/// a body ends are shorter.
const REST_FIELD_BYTES_MAX: usize = 256;

/// The rest of a head that is not kept, up to its empty line. Its fields are read for what they say
/// of the body; the one that is not whole yet begins in the framer's `partial`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LongHead {
    /// What the fields say so far.
    pub fields: FramingFields,
    /// It is a response without body, whatever they say.
    pub is_bodiless: bool,
    /// Nothing but CR stands in the line so far.
    is_line_empty: bool,
}

impl LongHead {
    /// Behind the part of a head whose fields are `fields`.
    pub fn new(fields: FramingFields, is_bodiless: bool) -> LongHead {
        LongHead { fields, is_bodiless, is_line_empty: false }
    }

    /// It goes on behind `kept`. Returns what of that is the field which may go on, as far as it is
    /// looked at.
    pub fn go_on_behind<'a>(&mut self, kept: &'a [u8]) -> &'a [u8] {
        self.is_line_empty = kept.ends_with(b"\n") || kept.ends_with(b"\n\r");
        let field = last_field(kept);
        &field[..field.len().min(REST_FIELD_BYTES_MAX)]
    }

    /// A piece of it: how many bytes of `data` stand before its end, or `None` where it goes on.
    /// The field that is not whole yet is in `partial`.
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
                // That was no fold: the field before is whole.
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

/// Parses what is kept of a head that is too long. Its last field counts once it is whole: it may
/// be folded.
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

/// The last field of what there is of a head, with the lines that it is folded over; its end may be
/// missing.
fn last_field(bytes: &[u8]) -> &[u8] {
    let mut start = bytes.len();
    loop {
        // A line that is empty so far belongs to the one before it: that may be folded.
        let behind = start.saturating_sub(1);
        start = memrchr(b'\n', &bytes[..behind]).map_or(0, |at| at + 1);
        if start == 0 || !matches!(bytes[start], b' ' | b'\t' | b'\r') {
            return &bytes[start..];
        }
    }
}
