//! [`Rival`]: segments on the endpoints of a live connection whose numbers are not the
//! connection's. They may be forged, belong to the next connection on these endpoints, or be the
//! connection's own after an outage of the capture. What follows decides. Until then they are held,
//! bounded.

use super::out_of_order::SegmentPool;
use crate::decode::{OwnedSegment, Segment, SeqNumber, TcpFlags};
use crate::time::TimestampNs;

/// How far ahead of a rival's known numbers its next segment may be, and how far behind.
const AHEAD_BYTES_MAX: i32 = 1 << 20;
const BEHIND_BYTES_MAX: i32 = 1 << 24;

/// The held segments of a rival, and their bytes, at most.
const HELD_COUNT_MAX: usize = 64;
const HELD_BYTES_MAX: usize = 256 << 10;

/// The memory of a rival and of a held segment in addition to its payload, with the allocator's
/// overhead.
const RIVAL_COST_BYTES: usize = size_of::<Rival>() + 32;
const HELD_COST_BYTES: usize = size_of::<HeldSegment>() * 2 + 32;

/// Without any segment of the connection itself for this long, a rival whose numbers both sides
/// confirm is the connection.
const UNDISPUTED_MS: u64 = 1000;

/// The same, if there are more segments than are held.
const UNDISPUTED_BURST_MS: u64 = 100;

/// Where only one direction is captured, nothing confirms its numbers but more of its segments.
const ONE_SIDED_COUNT_MIN: usize = 4;

/// A copy of a segment that waits for a decision.
#[derive(Debug)]
pub(super) struct HeldSegment(OwnedSegment);

impl HeldSegment {
    pub fn of(segment: &Segment<'_>) -> HeldSegment {
        HeldSegment(OwnedSegment::of(segment))
    }

    /// The data of a SYN, as a segment of their own behind it.
    pub fn of_data(segment: &Segment<'_>) -> HeldSegment {
        let flags = TcpFlags(segment.flags.0 & !TcpFlags::SYN);
        HeldSegment::of(&Segment { seq: segment.payload_seq(), flags, ..*segment })
    }

    /// Memory, as it is counted in the pool.
    pub fn cost_bytes(&self) -> usize {
        HELD_COST_BYTES + self.0.len_bytes()
    }

    /// Whether the pool has room for a copy of `segment`. Half of it is for segments out of order.
    pub fn has_room(segment: &Segment<'_>, pool: &SegmentPool) -> bool {
        let cost_bytes = HELD_COST_BYTES + segment.header.len() + segment.payload.len();
        pool.used_bytes + cost_bytes <= pool.max_bytes / 2
    }

    /// The segment as it was.
    pub fn segment(&self) -> Segment<'_> {
        self.0.segment()
    }
}

/// What the segments of one direction say.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// The first sequence number, and the one behind everything so far.
    start: SeqNumber,
    next: SeqNumber,
    /// How far its sender has read the other side.
    ack: Option<SeqNumber>,
    has_payload: bool,
}

/// Segments with other numbers than those of the connection on the same endpoints.
#[derive(Debug)]
pub(super) struct Rival {
    /// It began with a SYN or SYN-ACK: a new connection, if it is one. Otherwise it is the same
    /// connection after an outage, if it is one.
    pub is_handshake: bool,
    sides: [Option<Side>; 2],
    held: Vec<HeldSegment>,
    held_bytes: usize,
    since: TimestampNs,
    /// When its last segment came.
    last: TimestampNs,
    /// It was reset.
    is_over: bool,
    /// More came than is held. What was held until then is forgotten; the first sequence numbers
    /// are those from then on.
    has_overflowed: bool,
    /// The two sides confirmed each other before that.
    was_confirmed: bool,
}

/// What is known of the connection, to compare a rival with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incumbent {
    /// The next sequence number of each direction, if its sender was seen.
    pub next: [Option<SeqNumber>; 2],
    /// Its handshake was not completed, and nothing was delivered.
    pub is_opening: bool,
    /// A side has closed.
    pub is_closing: bool,
}

impl Rival {
    /// Whether the pool has room for one.
    pub fn has_room(pool: &SegmentPool) -> bool {
        pool.used_bytes + RIVAL_COST_BYTES <= pool.max_bytes / 2
    }

    pub fn new(segment: &Segment<'_>, pool: &mut SegmentPool) -> Rival {
        pool.used_bytes += RIVAL_COST_BYTES;
        let mut rival = Rival {
            is_handshake: segment.flags.is_syn(),
            sides: [None; 2],
            held: Vec::new(),
            held_bytes: 0,
            since: segment.timestamp,
            last: segment.timestamp,
            is_over: false,
            has_overflowed: false,
            was_confirmed: false,
        };
        rival.hold(segment, pool);
        rival
    }

    /// Memory, as it is counted in the pool.
    pub fn cost_bytes(&self) -> usize {
        RIVAL_COST_BYTES + self.held_bytes + self.held.len() * HELD_COST_BYTES
    }

    /// Whether `segment` continues the rival's numbers.
    pub fn fits(&self, segment: &Segment<'_>) -> bool {
        if segment.flags.is_syn() && !self.is_handshake {
            return false;
        }
        let (own, peer) = (segment.direction.index(), 1 - segment.direction.index());
        let is_near = |number: SeqNumber, side: &Side| {
            number.distance(side.start) >= -BEHIND_BYTES_MAX
                && number.distance(side.next) <= AHEAD_BYTES_MAX
        };
        let read = self.sides[peer].and_then(|side| side.ack);
        let is_seq = match (&self.sides[own], read) {
            (Some(side), _) => is_near(segment.seq, side),
            (None, Some(read)) => {
                (-BEHIND_BYTES_MAX..=AHEAD_BYTES_MAX).contains(&segment.seq.distance(read))
            }
            // The answer to a SYN is at a number of its own.
            (None, None) => self.is_handshake && segment.flags.is_syn(),
        };
        let is_ack = match (segment.ack, &self.sides[peer]) {
            (Some(ack), Some(side)) => is_near(ack, side),
            (Some(_), None) => true,
            (None, _) => segment.flags.is_syn() || segment.flags.is_rst(),
        };
        is_seq && is_ack
    }

    /// Holds a segment, if there is room. A handshake keeps its first segments, because it begins
    /// with them. A connection after an outage keeps its newest, because it may have gone far when
    /// it is believed, and what came in between would be missing there.
    pub fn hold(&mut self, segment: &Segment<'_>, pool: &mut SegmentPool) {
        let has_room = !self.is_full() && HeldSegment::has_room(segment, pool);
        if !self.is_handshake && !has_room {
            self.forget_held(pool);
        }
        let end = segment.payload_end();
        let has_payload = segment.payload_wire_bytes > 0 && !segment.flags.is_syn();
        let side = &mut self.sides[segment.direction.index()];
        let side = side.get_or_insert(Side {
            start: segment.seq,
            next: end,
            ack: None,
            has_payload: false,
        });
        if side.next.precedes(end) {
            side.next = end;
        }
        side.has_payload |= has_payload;
        self.last = self.last.max(segment.timestamp);
        self.is_over |= segment.flags.is_rst();
        if let Some(ack) = segment.ack
            && side.ack.is_none_or(|known| known.precedes(ack))
        {
            side.ack = Some(ack);
        }
        if self.is_full() || !HeldSegment::has_room(segment, pool) {
            return;
        }
        let held = HeldSegment::of(segment);
        self.held_bytes += held.cost_bytes() - HELD_COST_BYTES;
        pool.used_bytes += held.cost_bytes();
        self.held.push(held);
    }

    /// Forgets what is held. From now on each side begins behind it.
    fn forget_held(&mut self, pool: &mut SegmentPool) {
        self.was_confirmed = self.is_confirmed();
        self.has_overflowed |= self.is_full();
        pool.used_bytes -= self.cost_bytes() - RIVAL_COST_BYTES;
        self.held.clear();
        self.held_bytes = 0;
        for side in self.sides.iter_mut().flatten() {
            side.start = side.next;
        }
    }

    /// Gives a segment back that was held just now, if there was room for it.
    pub fn give_back_last(&mut self, segment: &Segment<'_>, pool: &mut SegmentPool) {
        let is_it = |held: &mut HeldSegment| {
            let held = held.segment();
            held.seq == segment.seq && held.timestamp == segment.timestamp
        };
        if let Some(held) = self.held.pop_if(is_it) {
            self.held_bytes -= held.cost_bytes() - HELD_COST_BYTES;
            pool.used_bytes -= held.cost_bytes();
        }
    }

    /// Whether `segment`, which has yet other numbers, takes its place: nobody has confirmed it, it
    /// has been quiet for long, or it is over. Of a young handshake only another one does.
    pub fn may_be_replaced(&self, segment: &Segment<'_>) -> bool {
        let is_quiet = self.last.plus_ms(UNDISPUTED_MS) < segment.timestamp;
        let is_equal = segment.flags.is_syn() || !self.is_handshake;
        is_quiet || is_equal && (self.is_over || !self.is_confirmed())
    }

    /// Whether `segment`, a SYN that does not fit, shows that the rival was the next connection:
    /// where one direction is captured, nothing else will.
    pub fn is_followed_by(&self, segment: &Segment<'_>, incumbent: Incumbent) -> bool {
        let is_next = self.is_likely_next(incumbent) && self.is_one_sided(incumbent);
        segment.flags.is_syn() && is_next
    }

    /// Whether `segment` continues it to the byte.
    pub fn is_continued_by(&self, segment: &Segment<'_>) -> bool {
        let own = segment.direction.index();
        let (Some(side), Some(peer)) = (self.sides[own], self.sides[1 - own]) else { return false };
        side.next == segment.seq && segment.ack == Some(peer.next)
    }

    fn is_full(&self) -> bool {
        self.held.len() >= HELD_COUNT_MAX || self.held_bytes >= HELD_BYTES_MAX
    }

    /// Whether each side has read something that the other has sent.
    fn is_confirmed(&self) -> bool {
        if self.was_confirmed {
            return true;
        }
        let [Some(one), Some(other)] = self.sides else { return false };
        let reads =
            |reader: Side, sender: Side| reader.ack.is_some_and(|ack| sender.start.precedes(ack));
        // Who answers the first segment has read none of ours before.
        let knows =
            |reader: Side, sender: Side| reader.ack.is_some_and(|ack| !ack.precedes(sender.start));
        (reads(one, other) && knows(other, one)) || (reads(other, one) && knows(one, other))
    }

    /// Whether the SYN was answered.
    fn is_answered(&self) -> bool {
        let [Some(one), Some(other)] = self.sides else { return false };
        let reads = |reader: Side, sender: Side| reader.ack == Some(sender.start.plus(1));
        reads(one, other) || reads(other, one)
    }

    /// Whether only one direction was ever seen, here and of the incumbent.
    fn is_one_sided(&self, incumbent: Incumbent) -> bool {
        (0..2).any(|own| {
            let is_seen = |side: usize| self.sides[side].is_some();
            is_seen(own) && !is_seen(1 - own) && incumbent.next[1 - own].is_none()
        })
    }

    /// Whether the rival, which has taken a segment of `now`, is what the endpoints agree on. A new
    /// connection is, once data has gone both ways. After an outage, it is at once if it continues
    /// one side of the connection exactly, which no stranger can know, and else after a time
    /// without any segment of the connection as it was.
    pub fn has_won(&self, now: TimestampNs, incumbent: Incumbent) -> bool {
        let is_undisputed_for = |duration_ms| self.since.plus_ms(duration_ms) <= now;
        let is_undisputed = is_undisputed_for(UNDISPUTED_MS);
        let is_burst =
            (self.is_full() || self.has_overflowed) && is_undisputed_for(UNDISPUTED_BURST_MS);
        if self.is_handshake && incumbent.is_opening {
            return self.is_answered();
        }
        if !self.is_confirmed() {
            let is_enough = self.held.len() >= ONE_SIDED_COUNT_MIN && is_undisputed;
            let is_next = incumbent.is_closing && self.is_likely_next(incumbent);
            return self.is_one_sided(incumbent) && (is_burst || is_enough || is_next);
        }
        if self.is_handshake {
            return is_burst || self.sides.iter().flatten().all(|side| side.has_payload);
        }
        self.continues(0, incumbent) || self.continues(1, incumbent) || is_undisputed || is_burst
    }

    /// Whether both sides agree on it and data has gone both ways, without a handshake.
    pub fn is_agreed(&self) -> bool {
        let has_data = self.sides.iter().flatten().all(|side| side.has_payload);
        !self.is_handshake && self.is_confirmed() && has_data
    }

    /// Whether one side continues the connection exactly, the other has read exactly that, and it
    /// has read what the other sends now.
    fn continues(&self, own: usize, incumbent: Incumbent) -> bool {
        let (Some(own_side), Some(peer)) = (self.sides[own], self.sides[1 - own]) else {
            return false;
        };
        let has_read =
            own_side.ack.is_some_and(|ack| peer.start.precedes(ack) && !peer.next.precedes(ack));
        incumbent.next[own] == Some(own_side.start) && peer.ack == Some(own_side.start) && has_read
    }

    /// Whether the rival is the connection that came after the incumbent, which has not been heard
    /// of again: its handshake was answered, if that can be seen, and somebody has sent data.
    pub fn is_likely_next(&self, incumbent: Incumbent) -> bool {
        let has_payload = self.sides.iter().flatten().any(|side| side.has_payload);
        let is_answered = self.is_confirmed() || self.is_one_sided(incumbent);
        self.is_handshake && has_payload && is_answered
    }

    /// Where the stream of a direction begins again.
    pub fn start(&self, own: usize) -> Option<SeqNumber> {
        self.sides[own].map(|side| side.start)
    }

    /// How far a direction's sender has read the other side.
    pub fn ack(&self, own: usize) -> Option<SeqNumber> {
        self.sides[own].and_then(|side| side.ack)
    }

    /// The held segments; gives their memory back to the pool.
    pub fn release(self, pool: &mut SegmentPool) -> Vec<HeldSegment> {
        pool.used_bytes -= self.cost_bytes();
        self.held
    }
}
