//! The fast path, for connections on which nothing waits, nothing is missing, and nothing has begun
//! to end. A segment that continues its stream, or only acknowledges, skips all checks that other
//! segments need. Everything else takes the slow path ([`Connection::accept_slow_path`]), which
//! would give the same result for these segments. After each segment on the slow path it is checked
//! whether the connection may return to the fast path.

use super::{Connection, ReassemblyContext, Stream};
use crate::decode::{Segment, TcpFlags};
use crate::flow::Chunk;
use crate::flow::stream::Fact;
use crate::ids::Direction;

impl Connection {
    /// Whether the connection was on the fast path after the last segment.
    #[inline(always)]
    pub fn is_on_fast_path(&self) -> bool {
        self.is_on_fast_path
    }

    pub(super) fn has_nothing_open(&self) -> bool {
        let is_quiet = |stream: &Stream| {
            let is_ending = stream.has(Fact::Finished) || stream.has(Fact::Disputed);
            let is_known = stream.is_started() && stream.has(Fact::Seen);
            is_known && stream.fin_at.is_none() && !is_ending
        };
        self.streams.iter().all(is_quiet)
            && self.fate.is_none()
            && self.reorder.is_none()
            && !self.bits.is_counted()
    }

    /// Takes `segment`, if it qualifies for the fast path. Returns whether it did.
    #[inline(always)]
    pub(super) fn take_fast_path(
        &mut self,
        segment: &Segment<'_>,
        context: &mut ReassemblyContext,
        visit: &mut impl FnMut(Direction, Chunk<'_>),
    ) -> bool {
        const ENDS: u8 = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        if !self.is_on_fast_path || segment.flags.0 & ENDS != 0 {
            return false;
        }
        let Some(ack) = segment.ack else { return false };
        let own = segment.direction.index();
        let (stream, peer) = (&self.streams[own], &self.streams[1 - own]);
        // It acknowledges something between what was acknowledged and what has passed. A length
        // above half of all sequence numbers does not belong to this stream.
        let read_bytes = ack.distance(peer.acked);
        let is_next = stream.next == segment.seq
            && read_bytes >= 0
            && read_bytes <= peer.next.distance(peer.acked)
            && segment.payload_wire_bytes <= i32::MAX as u32;
        if !is_next {
            return false;
        }
        if segment.payload_wire_bytes > 0 {
            let (bytes, cut, meta) = Stream::piece_of(segment, 0, context.is_filtered);
            self.streams[own].pass(bytes, cut, &meta, segment.direction, &mut context.stats, visit);
        }
        self.streams[1 - own].advance_acked(ack, segment.window);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FlowConfig;
    use crate::flow::connection::Ownership;
    use crate::flow::tests::{Heard, Sent, hear};
    use crate::flow::{Handshake, ReorderPool};
    use crate::stats::FlowStats;
    use crate::time::TimestampNs;
    use proptest::prelude::*;

    /// A connection, and everything that it delivered.
    struct Watched {
        connection: Connection,
        handshake: Handshake,
        context: ReassemblyContext,
        heard: Vec<Heard>,
        fast_count: usize,
    }

    impl Watched {
        fn new() -> Watched {
            Watched {
                connection: Connection::default(),
                handshake: Handshake::default(),
                context: ReassemblyContext {
                    limits: FlowConfig::default(),
                    is_filtered: true,
                    horizon: crate::time::TimestampNs(u64::MAX),
                    pool: ReorderPool::new(1 << 20),
                    stats: FlowStats::default(),
                },
                heard: Vec::new(),
                fast_count: 0,
            }
        }

        /// Passes a segment to the connection as the table does.
        fn take(&mut self, segment: &Segment<'_>) {
            let Watched { connection, handshake, context, heard, .. } = self;
            let ownership = connection.ownership(segment, handshake, TimestampNs(0), context);
            if ownership != Ownership::Own {
                return heard.push(Heard::Reset);
            }
            connection.learn_handshake(segment, handshake);
            let mut visit = |direction, chunk: Chunk<'_>| hear(heard, direction, chunk);
            connection.accept(segment, context, &mut visit);
            self.fast_count += usize::from(self.connection.is_on_fast_path);
        }

        fn state(&mut self) -> String {
            self.connection.is_on_fast_path = false;
            format!("{:?} {:?} {:?}", self.connection, self.heard, self.context.stats)
        }
    }

    /// The next segment: mostly the expected one.
    type Step = (bool, i8, i8, u8, u8, u8, u8);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let mostly = |usual, rare: std::ops::Range<i8>| prop_oneof![12 => Just(usual), 1 => rare];
        let flags = prop_oneof![
            60 => Just(TcpFlags::ACK),
            1 => prop::sample::select(vec![0, 1, 2, 4, 0x11, 0x12, 0x14, 0x18]),
        ];
        let cut = prop_oneof![12 => Just(0), 1 => 1..4_u8];
        let step =
            (any::<bool>(), mostly(0, -6..7), mostly(0, -6..9), 0..6_u8, flags, cut, 0..90_u8);
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// After each segment, a connection that takes the fast path whenever possible is in the
        /// same state as one that never does.
        #[test]
        fn the_short_way_leaves_what_the_careful_way_leaves(steps in steps()) {
            let (mut fast, mut slow) = (Watched::new(), Watched::new());
            let (mut next, mut at_ms) = ([0_u32; 2], 0);
            for (is_forward, ahead, read_ahead, len, flags, cut, pause_ms) in steps {
                let direction = if is_forward { Direction::Forward } else { Direction::Reverse };
                let (own, peer) = (direction.index(), 1 - direction.index());
                at_ms += u64::from(pause_ms);
                let offset = next[own].wrapping_add_signed(ahead.into());
                let ack = next[peer].wrapping_add_signed(read_ahead.into());
                let payload = &b"abcdefgh"[..usize::from(len)];
                let mut sent =
                    Sent::data(direction, offset, ack, payload, at_ms).flags(flags);
                sent.cut_bytes = cut.into();
                next[own] = offset.wrapping_add(u32::from(len) + u32::from(cut));
                fast.take(&sent.segment());
                slow.connection.is_on_fast_path = false;
                slow.take(&sent.segment());
            }
            prop_assert_eq!(fast.state(), slow.state());
        }
    }

    #[test]
    fn what_comes_in_order_leaves_a_connection_calm() {
        let mut watched = Watched::new();
        for turn in 0..10 {
            watched.take(&Sent::data(Direction::Forward, turn, turn, b"a", 1).segment());
            watched.take(&Sent::data(Direction::Reverse, turn, turn + 1, b"b", 1).segment());
        }
        assert_eq!(watched.fast_count, 19, "all but the first, before which nothing is known");
        watched.take(&Sent::data(Direction::Forward, 11, 10, b"c", 1).segment());
        assert!(!watched.connection.is_on_fast_path());
    }
}
