//! [`Side`]: where one direction of a talk is among its frames, and what it has sent so far.
//!
//! While the place is known, every byte belongs to a frame. Once the head of a frame may have been
//! lost, the place is, for good: a head has two bytes of its own, any payload may look like one,
//! and nothing in what follows would prove that it is. Nothing is guessed, so the counts of the
//! side are not known from there on.

use super::frame::{self, DATA_MAX, FIN, FrameHead, HEAD_BYTES_MAX, MASKED};
use crate::decode::SeqNumber;
use crate::record::WebSocketCounts;

/// The place of a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Between frames, or in the head of one.
    Head,
    /// In the payload of one.
    Payload,
    /// It has sent a frame that closes the talk.
    Closed,
    /// What follows is no frame.
    Over,
    /// Lost.
    Lost,
}

/// What a piece of a direction leads to, if it is more than counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A frame begins that closes the talk, with a payload of this length.
    Close { payload_bytes: u64 },
    /// Bytes of its payload, up to the end of which there are so many, and the mask.
    ClosePayload { left_bytes: u64, mask: [u8; 4] },
}

/// One direction.
#[derive(Debug)]
pub(super) struct Side {
    counts: WebSocketCounts,
    pings: u64,
    pongs: u64,
    /// Bytes of the payload to come.
    left_bytes: u64,
    /// The part of a head that has passed. Within a payload: the mask, and where the head ended.
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    /// The first byte of the frame in progress.
    first: u8,
    place: Place,
    /// The kind of the message that has begun, or 0.
    message: u8,
    /// There was a frame that is forbidden.
    pub is_conflict: bool,
    /// How its frames must be: [`MASKED`] if it is the client, and the bits that extensions have
    /// defined.
    form: u8,
    /// The position behind everything that has passed.
    passed_until: SeqNumber,
}

impl Side {
    /// A side that has sent nothing.
    pub fn new(is_client: bool, extension_bits: u8) -> Side {
        Side {
            counts: WebSocketCounts::default(),
            pings: 0,
            pongs: 0,
            left_bytes: 0,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            first: 0,
            place: Place::Head,
            message: 0,
            is_conflict: false,
            form: extension_bits & frame::RESERVED | if is_client { MASKED } else { 0 },
            passed_until: SeqNumber(0),
        }
    }

    /// What it has sent: messages and their bytes, pings and pongs. `None` if that is not known.
    pub fn counts(&self) -> Option<(WebSocketCounts, u64, u64)> {
        (!self.is_lost()).then_some((self.counts, self.pings, self.pongs))
    }

    /// Whether the place is lost.
    pub fn is_lost(&self) -> bool {
        self.place == Place::Lost
    }

    /// Whether it has sent a frame that closes the talk.
    pub fn has_closed(&self) -> bool {
        self.place == Place::Closed
    }

    /// Whether nothing more of it is read.
    pub fn is_over(&self) -> bool {
        matches!(self.place, Place::Closed | Place::Over | Place::Lost)
    }

    /// The head of a frame may have passed unseen. Returns whether that is news.
    pub fn lose_place(&mut self) -> bool {
        let is_news = !self.is_over();
        if is_news {
            self.place = Place::Lost;
        }
        is_news
    }

    /// The next bytes end at `until`.
    #[inline(always)]
    pub fn pass(&mut self, until: SeqNumber) {
        self.passed_until = until;
    }

    /// Takes frames at the front of `bytes` that are whole there, short, and a part of a message,
    /// as most are. Returns their length. All others, and these in any other form, are read by
    /// [`Side::piece`], which comes to the same.
    #[inline]
    pub fn whole_frames(&mut self, bytes: &[u8]) -> usize {
        if self.place != Place::Head || self.head_len > 0 {
            return 0;
        }
        let masked = self.form & MASKED;
        let mask_bytes = usize::from(masked / (MASKED / 4));
        let unusual_bits = frame::RESERVED & !self.form | 0x0c;
        let mut done = 0;
        while let Some([first, second, ..]) = bytes.get(done..) {
            let len_bytes = usize::from(second ^ masked);
            let until = done + 2 + mask_bytes + len_bytes;
            let is_usual = first & unusual_bits == 0 && first & 3 <= DATA_MAX && len_bytes < 126;
            if !is_usual || until > bytes.len() {
                break;
            }
            self.counts.message_bytes += len_bytes as u64;
            self.end_frame(*first);
            done = until;
        }
        done
    }

    /// Takes the first part of `bytes` and returns its length. `end` is the position behind them.
    pub fn piece(&mut self, bytes: &[u8], end: SeqNumber) -> (usize, Found) {
        match self.place {
            Place::Head => self.head(bytes, end),
            Place::Payload => {
                let left = usize::try_from(self.left_bytes).unwrap_or(usize::MAX);
                let used = left.min(bytes.len());
                let found = self.close_payload();
                self.take_payload(used as u64);
                (used, found)
            }
            Place::Closed | Place::Over | Place::Lost => (bytes.len(), Found::Nothing),
        }
    }

    /// Within the head of a frame.
    fn head(&mut self, bytes: &[u8], end: SeqNumber) -> (usize, Found) {
        let known = usize::from(self.head_len);
        let taken = (HEAD_BYTES_MAX - known).min(bytes.len());
        self.head[known..known + taken].copy_from_slice(&bytes[..taken]);
        let Some((head, len)) = FrameHead::parse(&self.head[..known + taken]) else {
            self.head_len += taken as u8;
            return (bytes.len(), Found::Nothing);
        };
        let used = len.saturating_sub(known);
        let head_end = end.0.wrapping_sub((bytes.len() - used) as u32);
        self.head[..4].copy_from_slice(&head.mask.unwrap_or_default());
        self.head[4..8].copy_from_slice(&head_end.to_ne_bytes());
        (used, self.begin_frame(&head))
    }

    fn begin_frame(&mut self, head: &FrameHead) -> Found {
        self.is_conflict |= head.is_forbidden(self.form & MASKED != 0, self.form);
        self.head_len = 0;
        if head.is_endless() {
            self.place = Place::Over;
            return Found::Nothing;
        }
        self.first = head.first;
        self.left_bytes = head.payload_bytes;
        self.place = Place::Payload;
        if head.payload_bytes == 0 {
            self.take_payload(0);
        }
        match head.opcode() {
            frame::CLOSE => Found::Close { payload_bytes: head.payload_bytes },
            _ => Found::Nothing,
        }
    }

    /// The payload that follows, if it is that of a frame that closes the talk.
    fn close_payload(&self) -> Found {
        if self.first & 0x0f != frame::CLOSE {
            return Found::Nothing;
        }
        let [a, b, c, d, ..] = self.head;
        Found::ClosePayload { left_bytes: self.left_bytes, mask: [a, b, c, d] }
    }

    /// `len_bytes` of the payload pass, at most what is left of it.
    fn take_payload(&mut self, len_bytes: u64) {
        if self.first & 0x0f <= DATA_MAX {
            self.counts.message_bytes = self.counts.message_bytes.saturating_add(len_bytes);
        }
        self.left_bytes -= len_bytes;
        if self.left_bytes == 0 {
            self.place = Place::Head;
            self.end_frame(self.first);
        }
    }

    /// A frame has passed whole.
    #[inline(always)]
    fn end_frame(&mut self, first: u8) {
        self.counts.frames += 1;
        let opcode = first & 0x0f;
        if opcode > DATA_MAX {
            return self.end_other_frame(opcode);
        }
        // A message in several frames goes on, or one begins; never the other one.
        self.is_conflict |= (opcode == 0) == (self.message == 0);
        let message = if opcode == 0 { self.message } else { opcode };
        let is_last = u64::from(first & FIN != 0);
        self.counts.text += is_last & u64::from(message == 1);
        self.counts.binary += is_last & u64::from(message == 2);
        self.message = if is_last == 1 { 0 } else { message };
    }

    #[cold]
    fn end_other_frame(&mut self, opcode: u8) {
        match opcode {
            frame::PING => self.pings += 1,
            frame::PONG => self.pongs += 1,
            frame::CLOSE => self.place = Place::Closed,
            _ => {}
        }
    }

    /// Takes `len_bytes` that passed unseen. If the head of a frame may have been among them, the
    /// place is lost: see [`Side::is_lost`]. Returns how many of them belong to the talk.
    pub fn skip(&mut self, len_bytes: u64) -> u64 {
        match self.place {
            Place::Closed | Place::Over => 0,
            Place::Lost => len_bytes,
            Place::Head => {
                self.place = Place::Lost;
                len_bytes
            }
            Place::Payload => {
                let inside_bytes = len_bytes.min(self.left_bytes);
                self.passed_until = self.passed_until.plus(inside_bytes as u32);
                self.take_payload(inside_bytes);
                match len_bytes - inside_bytes {
                    0 => inside_bytes,
                    // At the end of the frame now, or behind the end of the talk.
                    behind_bytes => inside_bytes + self.skip(behind_bytes),
                }
            }
        }
    }

    /// The bytes to come that belong to a message, the end of the head before them, and the
    /// position where they begin. `None` if there is any doubt.
    pub fn message_to_come(&self) -> Option<(u64, SeqNumber, SeqNumber)> {
        let is_message = self.place == Place::Payload && self.first & 0x0f <= DATA_MAX;
        let [_, _, _, _, a, b, c, d, ..] = self.head;
        let head_end = SeqNumber(u32::from_ne_bytes([a, b, c, d]));
        (is_message && !self.is_conflict).then_some((self.left_bytes, head_end, self.passed_until))
    }
}
