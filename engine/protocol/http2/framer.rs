//! [`Framer`]: where one direction of a connection is among its frames.
//!
//! While the place is known, every byte belongs to a frame and nothing is searched. Once the head
//! of a frame may have been lost, the place is. It is found again at the beginnings of segments
//! only, by the heads of two frames in a row, or by a frame that ends where its segment does.

use super::frame::{self, FrameHead, FrameKind, HEAD_BYTES, LEN_BYTES_DEFAULT};
use crate::flow::SegmentMeta;
use crate::protocol::pool::ExchangePool;

/// The place of a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Place {
    /// Nothing has passed.
    #[default]
    Fresh,
    /// In the preface, after this many bytes of it.
    Preface(u8),
    /// Between frames, or in the head of one.
    Head,
    /// In what follows the head of a frame.
    Payload,
    /// Lost: looking for the head of a frame.
    Search,
    /// Behind a head that was found by a search. What follows its frame must show that it is one.
    Trial,
    /// The connection is over.
    Off,
}

/// A frame whose head has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub head: FrameHead,
    /// Bytes of it to come.
    pub left_bytes: u32,
    /// Bytes of its content to come: without what precedes it, and without padding. Valid once
    /// `prefix_left` is 0.
    pub content_left_bytes: u32,
    /// Bytes to come that precede the content.
    pub prefix_left: u8,
    /// Some of its bytes were lost.
    pub is_holed: bool,
    /// Its header block was taken without being copied.
    pub is_block_taken: bool,
}

impl Frame {
    /// A frame that begins.
    pub fn new(head: FrameHead) -> Frame {
        let has = |flag| u8::from(head.has(flag));
        let prefix_left = match head.kind {
            FrameKind::Data => has(frame::PADDED),
            FrameKind::Headers => has(frame::PADDED) + 5 * has(frame::PRIORITY),
            FrameKind::PushPromise => has(frame::PADDED) + 4,
            _ => 0,
        };
        Frame {
            head,
            left_bytes: head.len_bytes,
            content_left_bytes: head.len_bytes,
            prefix_left,
            is_holed: false,
            is_block_taken: false,
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Framer {
    pub place: Place,
    /// The frame in progress, if the place is [`Place::Payload`].
    pub frame: Option<Frame>,
    /// The segment that held the first byte of the frame in progress, or of its head.
    pub first: Option<SegmentMeta>,
    /// The part of a frame's head, of what precedes its content, or of a short frame.
    pub partial: [u8; HEAD_BYTES],
    pub partial_len: u8,
    /// How often the place was lost.
    pub losses: u32,
    /// The place was found by a search.
    pub is_found: bool,
    /// Since it was found, no head of a message has shown that it is right. Any bytes may look like
    /// a frame, so until then, frames do not show that there is such a stream.
    pub is_doubtful: bool,
    /// What may be a frame, if the place is [`Place::Trial`].
    pub trial: Option<Box<Trial>>,
    /// The longest frame that the receiver allows, as far as is known.
    pub len_bytes_max: u32,
}

impl Framer {
    /// A direction of which nothing has passed.
    pub fn new() -> Framer {
        Framer { len_bytes_max: LEN_BYTES_DEFAULT, ..Framer::default() }
    }

    /// Whether it will be known what comes next: the place is not lost, and what precedes the first
    /// bytes of a direction is missing only where the capture began in the middle of the
    /// connection.
    pub fn is_sure(&self, is_midstream: bool) -> bool {
        match self.place {
            Place::Search | Place::Trial => false,
            Place::Fresh => !is_midstream,
            Place::Preface(_) | Place::Head | Place::Payload | Place::Off => true,
        }
    }

    /// Whether no frame is in progress.
    pub fn is_between_frames(&self) -> bool {
        match self.place {
            Place::Head => self.partial_len == 0,
            Place::Payload | Place::Trial => false,
            Place::Fresh | Place::Preface(_) | Place::Search | Place::Off => true,
        }
    }

    /// Adds the next bytes to `partial`, until it has `len`. Returns how many it took.
    #[inline]
    pub fn fill(&mut self, len: usize, bytes: &[u8]) -> usize {
        let known = usize::from(self.partial_len);
        let taken = len.saturating_sub(known).min(bytes.len());
        self.partial[known..known + taken].copy_from_slice(&bytes[..taken]);
        self.partial_len += taken as u8;
        taken
    }

    /// The head of a frame at the front of `bytes`, which may be only the rest of it, and the
    /// number of bytes. `None` if it is not complete: then all bytes belong to it.
    #[inline]
    pub fn head(&mut self, bytes: &[u8], meta: &SegmentMeta) -> Option<(FrameHead, usize)> {
        if self.partial_len == 0 {
            self.first = Some(*meta);
            if let Some(head) = bytes.first_chunk() {
                return Some((FrameHead::parse(head), HEAD_BYTES));
            }
        }
        let taken = self.fill(HEAD_BYTES, bytes);
        if usize::from(self.partial_len) < HEAD_BYTES {
            return None;
        }
        self.partial_len = 0;
        Some((FrameHead::parse(&self.partial), taken))
    }
}

/// What may be a frame, until what follows it shows that it is one.
#[derive(Debug)]
pub(super) struct Trial {
    pub head: FrameHead,
    /// All of it so far, if it `is_kept`.
    pub bytes: Vec<u8>,
    /// Bytes of the frame to come.
    pub left_bytes: u32,
    /// The segment that held its first byte.
    pub first: SegmentMeta,
    /// The segment that held the latest one, and where its part begins.
    pub last: SegmentMeta,
    pub last_at: usize,
    /// All of the frame is kept.
    pub is_kept: bool,
}

/// The memory of a [`Trial`], with the overhead of the allocator.
pub(super) const TRIAL_BYTES: usize = size_of::<Trial>() + 16;

impl Trial {
    /// Frees its memory.
    pub fn free(self, pool: &mut ExchangePool) {
        pool.release(TRIAL_BYTES);
        pool.give_buffer_back(self.bytes);
    }
}
