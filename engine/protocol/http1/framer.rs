//! [`Framer`]: finds heads and follows bodies in one direction's stream, and reports what it found.
//! It knows nothing of exchanges: the pairer decides how the body behind a head is framed.
//!
//! While a direction is synchronised, every byte belongs to a message and nothing is searched.
//! After a loss that framing cannot account for, it searches. Then it accepts a head only at the
//! start of a frame, and only if the head is certain, so that bytes of a body are not mistaken for
//! one.

use super::body::{BodyFraming, Fed, Skipped};
use super::head::{self, Expected, Head, Parsed};
use super::long_head::LongHead;
use crate::config::HttpConfig;
use crate::decode::SeqNumber;
use crate::flow::SegmentMeta;
use crate::protocol::pool::ExchangePool;
use crate::time::TimestampNs;

/// An unfinished line of up to this length is parsed again with each piece, to notice early that it
/// is no start line.
const DOUBTFUL_BYTES_MAX: usize = 128;

/// A shorter head may still be completed while more than half of the shard's memory is used.
const MODEST_BYTES: usize = 4096;

/// The state of a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum ParseState {
    /// Between messages: the next byte begins a head.
    #[default]
    Start,
    /// In a head. Its bytes so far are kept.
    Head {
        /// The start line is complete and valid.
        has_line: bool,
    },
    /// In a head that is longer than the part that is kept.
    LongHead(LongHead),
    /// In a body.
    Body(BodyFraming),
    /// Lost synchronisation: searching for a head.
    Search,
    /// Not HTTP/1, or no longer.
    Off,
}

/// What was found where a head may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// This many bytes belong to no message: empty lines or a PROXY header.
    Nothing(usize),
    /// A complete head, in the caller's [`Head`].
    Head,
    /// The end of a head that came in pieces, after this many bytes of this piece. The head is in
    /// the caller's [`Head`]; [`Framer::take_partial`] returns its bytes and its first segment.
    HeadInPieces(usize),
    /// More of a head. All bytes belong to it.
    Partial,
    /// More of a head than is kept. This many bytes of this piece were kept.
    TooLong(usize),
    /// No head.
    NotAHead,
    /// The preface of HTTP/2.
    Http2,
}

/// What the lost bytes were part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// Nothing that is followed: the connection has left HTTP/1.
    Ignored,
    /// Unknown: the framer was searching for a head.
    Unknown,
    /// Bytes between messages. The framer searches from here on.
    Messages,
    /// A head that has been received in part. The caller decides what becomes of it.
    Head,
    /// The body, which may have ended with these bytes.
    Body {
        /// It has ended.
        is_done: bool,
    },
    /// The body ended within these bytes; the rest belongs to unknown messages.
    BodyAndMore {
        /// Bytes that belong to the body.
        inside_bytes: u64,
    },
    /// The framing of a body. The framer searches from here on.
    Framing,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Framer {
    pub state: ParseState,
    /// The position behind the last byte that was seen, or where the first loss began. `None` until
    /// something has passed.
    pub seen_until: Option<SeqNumber>,
    /// The position behind everything that has passed, seen or lost.
    pub passed_until: Option<SeqNumber>,
    /// The position of the current message's head.
    pub head_at: SeqNumber,
    /// When the latest byte of the current message passed. `None` if it was lost.
    pub last_at: Option<TimestampNs>,
    /// The received part of a head, or of an incomplete field of a long head.
    pub(super) partial: Vec<u8>,
    pub(super) partial_meta: Option<SegmentMeta>,
    /// Bytes of the head in progress that passed again: each time they did.
    pub(super) retransmitted_bytes: u32,
}

impl Framer {
    /// Parses a head where one may begin. Empty lines before a start line are skipped (RFC 9112
    /// section 2.2). `head` is blank.
    #[inline(always)]
    pub fn find_head(
        &mut self,
        (data, meta): (&[u8], &SegmentMeta),
        expected: Expected,
        limits: &HttpConfig,
        pool: &mut ExchangePool,
        head: &mut Head,
    ) -> Found {
        let empty = head::empty_lines(data);
        if empty > 0 {
            return Found::Nothing(empty);
        }
        match head::parse(data, expected, head) {
            Parsed::Complete if head.len_bytes <= limits.head_bytes_max => Found::Head,
            Parsed::Complete | Parsed::Partial => {
                if self.partial_meta.is_some() {
                    // A search has begun in the middle of another head.
                    self.drop_partial(pool);
                }
                self.partial = pool.take_buffer();
                self.partial_meta = Some(*meta);
                self.state = ParseState::Head { has_line: false };
                *head = Head::BLANK;
                self.find_end_of_head(data, expected, limits, pool, head)
            }
            Parsed::Proxy(len_bytes) => Found::Nothing(len_bytes),
            Parsed::Invalid => Found::NotAHead,
            Parsed::Http2 => Found::Http2,
        }
    }

    /// Parses the next piece of a head that arrives in pieces. `head` is blank.
    #[inline(never)]
    pub fn find_end_of_head(
        &mut self,
        data: &[u8],
        expected: Expected,
        limits: &HttpConfig,
        pool: &mut ExchangePool,
        head: &mut Head,
    ) -> Found {
        let ParseState::Head { mut has_line } = self.state else { return Found::Partial };
        let known = self.partial.len();
        let free_bytes = limits.head_bytes_max.saturating_sub(known);
        pool.extend(&mut self.partial, &data[..data.len().min(free_bytes)]);
        if let Some(end) = head::end_of_head(&self.partial, known) {
            self.state = ParseState::Start;
            let parsed = head::parse(&self.partial[..end], expected, head);
            if parsed == Parsed::Complete {
                return Found::HeadInPieces(end - known);
            }
            if parsed == Parsed::Http2 {
                // Its caller passes on what has come of it.
                return Found::Http2;
            }
            self.drop_partial(pool);
            return match parsed {
                Parsed::Proxy(len_bytes) => Found::Nothing(len_bytes.saturating_sub(known)),
                _ => Found::NotAHead,
            };
        }
        // An incomplete PROXY header has no line.
        let is_proxy = self.partial.starts_with(&[0]);
        if !has_line && (known <= DOUBTFUL_BYTES_MAX || is_proxy || data.contains(&b'\n')) {
            match head::parse(&self.partial, expected, &mut { Head::BLANK }) {
                Parsed::Invalid => return Found::NotAHead,
                Parsed::Http2 => return Found::Http2,
                Parsed::Proxy(len_bytes) => {
                    self.state = ParseState::Start;
                    self.drop_partial(pool);
                    return Found::Nothing(len_bytes.saturating_sub(known));
                }
                Parsed::Partial | Parsed::Complete => {
                    has_line = self.partial.contains(&b'\n') && !is_proxy;
                }
            }
        }
        self.state = ParseState::Head { has_line };
        let held_bytes = self.partial.len();
        let has_memory = pool.held_bytes() <= limits.held_share(held_bytes < MODEST_BYTES);
        if held_bytes < limits.head_bytes_max && has_memory {
            return Found::Partial;
        }
        Found::TooLong(data.len().min(free_bytes))
    }

    /// Continues after `kept`, the beginning of a head, if that was accepted as one.
    pub fn resume_after(&mut self, kept: &[u8], meta: &SegmentMeta, pool: &mut ExchangePool) {
        let ParseState::LongHead(rest) = &mut self.state else { return };
        let field = rest.resume_after(kept);
        self.partial_meta = Some(*meta);
        pool.extend(&mut self.partial, field);
    }

    /// Scans a piece of the part of a head that is not kept. Returns the number of bytes of `data`
    /// up to the end of the head, and its framing fields. `None` if the head continues.
    #[inline(never)]
    pub fn find_end_of_long_head(
        &mut self,
        data: &[u8],
        is_request: bool,
        pool: &mut ExchangePool,
    ) -> Option<(usize, LongHead)> {
        let ParseState::LongHead(rest) = &mut self.state else { return None };
        let used = rest.find_end(data, is_request, &mut self.partial, pool)?;
        let rest = *rest;
        self.drop_partial(pool);
        Some((used, rest))
    }

    /// Takes a piece of a body, and returns whether the body ended with it.
    #[inline(always)]
    pub fn feed(&mut self, data: &[u8]) -> Option<Fed> {
        let ParseState::Body(framing) = &mut self.state else { return None };
        Some(framing.feed(data))
    }

    /// The framing of the current body.
    #[inline(always)]
    pub fn body(&self) -> Option<BodyFraming> {
        match self.state {
            ParseState::Body(framing) => Some(framing),
            _ => None,
        }
    }

    /// Whether the search has found a head, possibly behind empty lines. Only the start of a frame
    /// can be one.
    pub fn is_found(data: &[u8], meta: &SegmentMeta, expected: Expected) -> bool {
        let empty = head::empty_lines(data);
        meta.is_frame_start && head::is_certain(&data[empty..], expected)
    }

    /// Takes the loss of `len_bytes` that started at `at`.
    pub fn skip(&mut self, len_bytes: u64, at: SeqNumber, pool: &mut ExchangePool) -> Missing {
        self.seen_until.get_or_insert(at);
        self.passed_until = Some(at.plus(len_bytes as u32));
        match self.state {
            ParseState::Off => Missing::Ignored,
            ParseState::Search => Missing::Unknown,
            ParseState::Head { .. } => Missing::Head,
            ParseState::Start => {
                self.state = ParseState::Search;
                Missing::Messages
            }
            ParseState::LongHead(_) => {
                self.drop_partial(pool);
                self.state = ParseState::Search;
                Missing::Messages
            }
            ParseState::Body(mut framing) => {
                let skipped = framing.skip(len_bytes);
                self.state = ParseState::Body(framing);
                self.last_at = None;
                match skipped {
                    Skipped::Inside { is_done } => Missing::Body { is_done },
                    Skipped::Beyond { inside_bytes } => Missing::BodyAndMore { inside_bytes },
                    Skipped::Lost => {
                        self.state = ParseState::Search;
                        Missing::Framing
                    }
                }
            }
        }
    }

    /// The bytes of a head that came in pieces or was cut, and its first segment. The caller gives
    /// the buffer back to the pool.
    pub fn take_partial(&mut self) -> (Vec<u8>, Option<SegmentMeta>) {
        (std::mem::take(&mut self.partial), self.partial_meta.take())
    }

    /// Drops the received part of a head. Returns whether there was one.
    pub fn drop_partial(&mut self, pool: &mut ExchangePool) -> bool {
        self.retransmitted_bytes = 0;
        if self.partial_meta.take().is_none() {
            return false;
        }
        pool.give_buffer_back(std::mem::take(&mut self.partial));
        true
    }

    /// Goes on in `state`, whatever was in progress.
    pub fn restart(&mut self, state: ParseState, pool: &mut ExchangePool) {
        self.drop_partial(pool);
        self.state = state;
    }

    /// The first segment of the current head, if its start line is complete.
    pub fn head_with_line(&self) -> Option<SegmentMeta> {
        let meta = self.partial_meta?;
        matches!(self.state, ParseState::Head { has_line: true }).then_some(meta)
    }

    /// Whether a head is in progress.
    pub fn is_in_head(&self) -> bool {
        matches!(self.state, ParseState::Head { .. } | ParseState::LongHead(_))
    }

    /// Whether it is searching for a head.
    pub fn is_searching(&self) -> bool {
        matches!(self.state, ParseState::Search)
    }
}
