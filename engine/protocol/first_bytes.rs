//! [`FirstBytes`]: the bytes that a decision about a whole connection rests on, to compare them
//! with other copies of the same bytes. Who adds a segment to a connection cannot keep the
//! endpoint's own from passing, too. [`Opening`]: what one side's first bytes show, until the other
//! side agrees.

use super::{Copied, HandOver, Inheritance, Kind, Step, http1};
use crate::decode::SeqNumber;
use crate::flow::{ONE_SIDED_BYTES_MIN, SegmentMeta};
use crate::ids::Direction;

/// Enough to tell a TLS record, a preface or a status line from others. With more, the state of a
/// connection would be larger.
const BYTES_MAX: usize = 22;

/// The beginning of a segment's payload, or of a part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstBytes {
    direction: Direction,
    len: u8,
    at: SeqNumber,
    bytes: [u8; BYTES_MAX],
}

impl FirstBytes {
    /// The first of `bytes`, which came in `meta`.
    #[cold]
    pub fn of(direction: Direction, bytes: &[u8], meta: &SegmentMeta) -> FirstBytes {
        let len = bytes.len().min(BYTES_MAX);
        let mut first = [0; BYTES_MAX];
        first[..len].copy_from_slice(&bytes[..len]);
        FirstBytes { direction, len: len as u8, at: meta.seq, bytes: first }
    }

    /// The position of the first of them.
    pub fn at(&self) -> SeqNumber {
        self.at
    }

    /// Their direction, and the position behind them.
    pub fn end(&self) -> (Direction, SeqNumber) {
        (self.direction, self.at.plus(self.len.into()))
    }

    /// Whether `copy`, which came in `meta`, holds the same bytes differently.
    pub fn differ_from(&self, direction: Direction, copy: &[u8], meta: &SegmentMeta) -> bool {
        direction == self.direction
            && differs((&self.bytes[..self.len.into()], self.at), (copy, meta.seq))
    }
}

/// The beginning of a connection whose first bytes show a protocol that is not read. A server that
/// does not speak it may answer in HTTP/1: with a 400 to TLS, or a 505 to HTTP/2.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// What shows the protocol, or shows that it is HTTP/1.
    first: Option<FirstBytes>,
    /// Bytes of that direction so far. Without an answer, the connection is what its first bytes
    /// show once [`ONE_SIDED_BYTES_MIN`] have passed. [`ANSWERED`] once the other one has answered.
    unanswered_bytes: u32,
}

const ANSWERED: u32 = u32::MAX;

impl Opening {
    /// The protocol was agreed upon in an answer that begins like this.
    pub fn by(answer: FirstBytes) -> Opening {
        Opening { first: Some(answer), unanswered_bytes: 0 }
    }

    /// Whether the other side has answered, and not in HTTP/1.
    pub fn is_answered(&self) -> bool {
        self.unanswered_bytes == ANSWERED
    }

    /// Takes the next bytes of a direction.
    pub fn bytes(&mut self, direction: Direction, bytes: &[u8], meta: &SegmentMeta) -> Step {
        let first = self.first.get_or_insert_with(|| FirstBytes::of(direction, bytes, meta));
        if first.direction == direction {
            self.unanswered_bytes = self.unanswered_bytes.saturating_add(bytes.len() as u32);
        } else if self.unanswered_bytes < ANSWERED && http1::begins_response(bytes) {
            *first = FirstBytes::of(direction, bytes, meta);
            return Step::HandOver;
        } else {
            self.unanswered_bytes = ANSWERED;
        }
        Step::Done
    }

    /// Takes another copy of bytes. If the ones that show the protocol were not the only ones, what
    /// the connection speaks is open again.
    pub fn copy(&mut self, direction: Direction, bytes: &[u8], meta: &SegmentMeta) -> Copied {
        let is_other = self.first.is_some_and(|it| it.differ_from(direction, bytes, meta));
        if is_other { Copied::HandOver } else { Copied::Same }
    }

    /// Where HTTP/1 takes over.
    pub fn hand_over(&self) -> Option<HandOver> {
        let inheritance = Inheritance::default();
        self.first.map(|first| HandOver {
            to: Kind::Http1,
            at: first.at(),
            kept: None,
            inheritance,
        })
    }

    /// Whether the answer is no HTTP/1, or none is to be expected.
    pub fn is_settled(&self) -> bool {
        self.unanswered_bytes >= ONE_SIDED_BYTES_MIN as u32
    }

    /// The direction of the first bytes, and the position behind them.
    pub fn evidence(&self) -> Option<(Direction, SeqNumber)> {
        self.first.map(|first| first.end())
    }
}

/// Whether two texts differ where both have bytes, each given with the position of its first byte.
pub(super) fn differs(one: (&[u8], SeqNumber), other: (&[u8], SeqNumber)) -> bool {
    let ahead = other.1.distance(one.1);
    let (one, other) = match ahead {
        0.. => (one.0.get(ahead as usize..), Some(other.0)),
        _ => (Some(one.0), other.0.get(ahead.unsigned_abs() as usize..)),
    };
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    one.iter().zip(other).any(|(one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_compared_where_they_overlap() {
        let at = |seq: u32| SeqNumber(u32::MAX - 3).plus(seq);
        let text = (&b"HTTP/1.1 101"[..], at(0));
        for (copy, seq, is_other) in [
            (&b"HTTP/1.1 101"[..], 0, false),
            (b"HTTP/1.1 200", 0, true),
            (b"1.1 101 Switching", 5, false),
            (b"1.1 201", 5, true),
            (b"xxx", 12, false),
            (b"xxx", 4000, false),
            (b"", 0, false),
        ] {
            assert_eq!(differs(text, (copy, at(seq))), is_other, "{copy:?}");
            assert_eq!(differs((copy, at(seq)), text), is_other, "{copy:?}");
        }
    }
}
