//! [`Span`]: where a field is in a text.

/// A range of a message's [`text`](super::Message::text). Absent if there is no such field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// No such field.
    pub const ABSENT: Span = Span { start: u32::MAX, len: 0 };

    /// The range `start..end`. A text is at most `head_bytes_max` long, far below 4 GiB.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    /// `len` bytes from `start` on, with the same limit.
    pub(crate) fn at(start: usize, len: usize) -> Span {
        Span { start: start as u32, len: len as u32 }
    }

    /// Whether there is no such field.
    #[inline(always)]
    pub fn is_absent(self) -> bool {
        self.start == u32::MAX
    }

    /// The bytes of the range in `text`, or `None` if the field is absent.
    pub fn of(self, text: &[u8]) -> Option<&[u8]> {
        if self.is_absent() {
            return None;
        }
        text.get(self.start as usize..)?.get(..self.len as usize)
    }

    /// The byte of the range at this index. Of a shorter one that is not at the end of `text`, a
    /// byte behind it.
    #[inline(always)]
    pub(crate) fn byte_at(self, index: usize, text: &[u8]) -> Option<u8> {
        text.get(self.start as usize + index).copied()
    }

    /// The bytes of `text` from the start of the range to the end of the text, and the length of
    /// the range.
    #[inline(always)]
    pub fn with_rest(self, text: &[u8]) -> Option<(&[u8], usize)> {
        // An absent field begins behind every text.
        let rest = text.get(self.start as usize..)?;
        (rest.len() >= self.len as usize).then_some((rest, self.len as usize))
    }
}
