//! The parsed parts of a head.

use crate::record::Fields;

/// The kind of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::protocol::http1) enum Kind {
    Request,
    Response { status: u16 },
}

/// Which messages a direction may carry, once that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::protocol::http1) enum Expected {
    Request,
    Response,
    Either,
}

/// What the header fields announce about the body (RFC 9112 section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::protocol::http1) struct FramingFields {
    pub content_length: Option<u64>,
    /// Content-Length is not a number, or there are several different ones.
    pub is_length_invalid: bool,
    /// There is a Transfer-Encoding whose last coding is not `identity`.
    pub has_transfer_coding: bool,
    /// A Transfer-Encoding names `identity`, which is no coding.
    pub has_identity: bool,
    /// `chunked` is the last transfer coding.
    pub is_chunked: bool,
    pub expects_continue: bool,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::protocol::http1) struct Head {
    pub kind: Kind,
    /// The empty line that ends the head was found.
    pub is_whole: bool,
    /// The head was not whole when its connection ended.
    pub is_unfinished: bool,
    pub len_bytes: usize,
    /// The length of the start line, including its line end.
    pub start_line_bytes: u32,
    pub fields: Fields,
    pub framing: FramingFields,
}

impl Head {
    /// The initial value, to parse into.
    pub const BLANK: Head = Head {
        kind: Kind::Request,
        is_whole: false,
        is_unfinished: false,
        len_bytes: 0,
        start_line_bytes: 0,
        fields: Fields::NONE,
        framing: FramingFields::NONE,
    };
}

impl FramingFields {
    /// No framing fields.
    pub const NONE: FramingFields = FramingFields {
        content_length: None,
        is_length_invalid: false,
        has_transfer_coding: false,
        has_identity: false,
        is_chunked: false,
        expects_continue: false,
    };

    /// Adds a Content-Length field. A list of equal values counts as one value (RFC 9110 section
    /// 8.6).
    #[inline(always)]
    pub(super) fn note_length(&mut self, value: &[u8]) {
        // The usual case first: a single number of a few digits.
        match few_digits(value).filter(|_| self.content_length.is_none()) {
            Some(number) => self.content_length = Some(number),
            None => self.note_lengths(value),
        }
    }

    #[cold]
    fn note_lengths(&mut self, value: &[u8]) {
        for part in value.split(|byte| *byte == b',') {
            let digits = part.trim_ascii();
            let number = (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
                .then(|| {
                    digits.iter().try_fold(0u64, |sum, digit| {
                        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
                    })
                })
                .flatten();
            match (number, self.content_length) {
                (Some(new), None) => self.content_length = Some(new),
                (Some(new), Some(old)) if new == old => {}
                _ => self.is_length_invalid = true,
            }
        }
    }

    /// Adds a Transfer-Encoding field. What matters is the last coding of the last field. Empty
    /// list elements are ignored (RFC 9110 section 5.6.1.2). `identity` meant that there is no
    /// coding, until RFC 7230 removed it: a field that ends in it frames nothing.
    pub(super) fn note_transfer_coding(&mut self, value: &[u8]) {
        let is_identity = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
        let codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let mut codings = codings.filter(|coding| !coding.is_empty());
        let last = codings.next();
        let Some(last) = last else {
            // An empty field changes nothing but that there is one.
            self.has_transfer_coding |= !self.has_identity;
            return;
        };
        self.has_transfer_coding = !is_identity(last);
        self.has_identity |= is_identity(last) || codings.any(is_identity);
        self.is_chunked = last.eq_ignore_ascii_case(b"chunked");
    }

    /// Adds an Expect field (RFC 9110 section 10.1.1).
    pub(super) fn note_expectation(&mut self, value: &[u8]) {
        self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
    }

    /// The fields contradict each other, or mean different things to different readers.
    pub fn is_conflict(&self) -> bool {
        self.is_length_invalid
            || self.has_identity
            || self.has_transfer_coding && self.content_length.is_some()
    }
}

/// The number in `value`, if it consists of one to eight digits.
#[inline(always)]
pub(super) fn few_digits(value: &[u8]) -> Option<u64> {
    if !(1..=8).contains(&value.len()) {
        return None;
    }
    let mut number = 0;
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}
