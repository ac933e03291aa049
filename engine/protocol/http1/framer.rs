//! [`Framer`]: finds heads and follows bodies in one direction's stream, and reports what it found.
//! It knows nothing of exchanges: which body a head has is told to it.
//!
//! While a direction is in step, every byte belongs to a message and nothing is searched. After a
//! loss that framing cannot account for it searches, and takes a head only at the start of a frame,
//! and only one that is certain; so bytes of a body are not taken for a head.

use super::body::{BodyFraming, Fed, Skipped};
use super::head::{self, Expected, Head, Parsed};
use super::long_head::LongHead;
use crate::config::HttpConfig;
use crate::decode::SeqNumber;
use crate::flow::SegmentMeta;
use crate::protocol::pool::ExchangePool;
use crate::time::TimestampNs;

/// Bytes of an unfinished line that are looked at anew with each piece, to notice early that it is
/// no start line.
const DOUBTFUL_BYTES_MAX: usize = 128;

/// A head of fewer bytes is left to come whole while the shard's memory is more than half full.
const MODEST_BYTES: usize = 4096;

/// Where a direction stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum ParseState {
    /// Between messages: the next byte begins a head.
    #[default]
    Start,
    /// In a head, whose bytes so far are kept.
    Head {
        /// The start line is whole and valid.
        has_line: bool,
    },
    /// In a head that is longer than what is kept.
    LongHead(LongHead),
    /// In a body.
    Body(BodyFraming),
    /// Synchronisation was lost: in search of a head.
    Search,
    /// Not HTTP/1, or no longer.
    Off,
}

/// What some bytes begin with where a head may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// So many bytes that belong to no message: empty lines or a PROXY header.
    Nothing(usize),
    /// A whole head, which is in the caller's [`Head`].
    Head,
    /// The end of a head that came in pieces, after so many bytes of this piece. The head is in the
    /// caller's [`Head`], its bytes and where they came from in [`Framer::take_partial`].
    HeadInPieces(usize),
    /// More of a head, which took all of the bytes.
    Partial,
    /// More of a head than is kept. So many bytes of this piece were.
    TooLong(usize),
    /// No head.
    NotAHead,
    /// The preface of HTTP/2.
    Http2,
}

/// What lost bytes were part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// Nothing that is followed: the connection has left HTTP/1.
    Ignored,
    /// Something unknown: the framer was in search of a head.
    Unknown,
    /// What stands between messages. The framer searches from here on.
    Messages,
    /// A head, of which there is a part. The framer is to be told what becomes of it.
    Head,
    /// The body, which may have ended with them.
    Body {
        /// It has ended.
        is_done: bool,
    },
    /// The body ended among them, after so many; the rest is of unknown messages.
    BodyAndMore {
        /// Bytes of the body.
        inside_bytes: u64,
    },
    /// The framing of a body. The framer searches from here on.
    Framing,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Framer {
    pub state: ParseState,
    /// Behind the last byte that was seen, or where the first loss began. `None` until something
    /// has passed.
    pub seen_until: Option<SeqNumber>,
    /// Behind all that has passed, seen or lost.
    pub passed_until: Option<SeqNumber>,
    /// When the last byte of the message under way passed, so far; `None` where it was lost.
    pub last_at: Option<TimestampNs>,
    /// What there is of a head, or of the field of a long head that is not whole yet.
    pub(super) partial: Vec<u8>,
    pub(super) partial_meta: Option<SegmentMeta>,
}

impl Framer {
    /// Where a head may begin. Empty lines before a start line are passed over (RFC 9112 section
    /// 2.2). `head` is blank.
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

    /// A piece of a head that comes in pieces. `head` is blank.
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
            self.drop_partial(pool);
            return match parsed {
                Parsed::Proxy(len_bytes) => Found::Nothing(len_bytes.saturating_sub(known)),
                Parsed::Http2 => Found::Http2,
                _ => Found::NotAHead,
            };
        }
        // A PROXY header that is not whole yet has no line.
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

    /// Goes on behind `kept`, if the head of which that is the beginning was taken for one.
    pub fn go_on_behind(&mut self, kept: &[u8], meta: &SegmentMeta, pool: &mut ExchangePool) {
        let ParseState::LongHead(rest) = &mut self.state else { return };
        let field = rest.go_on_behind(kept);
        self.partial_meta = Some(*meta);
        pool.extend(&mut self.partial, field);
    }

    /// A piece of the part of a head that is not kept: how many bytes of `data` stand before its
    /// end, and what was known of the head there. `None` where it goes on.
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

    /// A piece of a body, and whether that ended with it.
    #[inline(always)]
    pub fn feed(&mut self, data: &[u8]) -> Option<Fed> {
        let ParseState::Body(framing) = &mut self.state else { return None };
        Some(framing.feed(data))
    }

    /// The framing of the body under way.
    #[inline(always)]
    pub fn body(&self) -> Option<BodyFraming> {
        match self.state {
            ParseState::Body(framing) => Some(framing),
            _ => None,
        }
    }

    /// Whether a head stands where the search has come to, behind so many empty lines: only the
    /// start of a frame may be one.
    pub fn is_found(data: &[u8], meta: &SegmentMeta, expected: Expected) -> bool {
        let empty = head::empty_lines(data);
        meta.is_frame_start && head::is_certain(&data[empty..], expected)
    }

    /// So many bytes from `at` on passed unseen.
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

    /// The bytes of a head that came in pieces, or was cut, and where the first came from. They are
    /// to be given back to the pool.
    pub fn take_partial(&mut self) -> (Vec<u8>, Option<SegmentMeta>) {
        (std::mem::take(&mut self.partial), self.partial_meta.take())
    }

    /// Forgets what there is of a head. True where there was something.
    pub fn drop_partial(&mut self, pool: &mut ExchangePool) -> bool {
        if self.partial_meta.take().is_none() {
            return false;
        }
        pool.give_buffer_back(std::mem::take(&mut self.partial));
        true
    }

    /// Where the head under way began, whose start line is whole.
    pub fn head_with_line(&self) -> Option<SegmentMeta> {
        let meta = self.partial_meta?;
        matches!(self.state, ParseState::Head { has_line: true }).then_some(meta)
    }

    /// Whether a head is under way.
    pub fn is_in_head(&self) -> bool {
        matches!(self.state, ParseState::Head { .. } | ParseState::LongHead(_))
    }

    /// Whether it is in search of a head.
    pub fn is_searching(&self) -> bool {
        matches!(self.state, ParseState::Search)
    }
}
