//! [`Dialogue`]: a conversation as a shard keeps it. While nothing is under way there is little to
//! know of it, and most connections are so at any time: a million of them are kept, but only those
//! that speak need a [`Conversation`].

use super::Listener;
use super::conversation::{Conversation, Phase, Protocol, Room, Wire};
use super::elision::{Prospect, prospect_of};
use super::pool::CONVERSATION_BYTES;
use crate::decode::SeqNumber;
use crate::flow::{self, Chunk, End};
use crate::ids::Direction;
use crate::time::TimestampNs;

/// Conversations without anything under way stay awake while no more than this share of what a
/// shard may hold is taken: 4 MiB, or some 8,000 of them. To rest and to wake takes 150
/// instructions of an exchange, which are 2% of all that it takes.
const AWAKE_SHARE: usize = 64;

/// The HTTP side of one connection.
#[derive(Debug)]
pub enum Dialogue {
    /// Between exchanges.
    Resting(Rest),
    /// Something is under way, or was lost and may matter yet.
    Busy(Box<Conversation>),
}

/// What is to be known of a conversation between two exchanges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// Behind all that has passed.
    passed_until: [Option<SeqNumber>; 2],
    last_read: Option<SeqNumber>,
    /// 0 where it was not asked for. (Where the hash is 0, it is made anew each time.)
    id: u64,
    next_n: u32,
    unclear_bytes: u32,
    places: [Place; 2],
    client: Option<Direction>,
    protocol: Protocol,
    is_sliding: bool,
    has_switched: bool,
}

/// Where a direction rests.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Start,
    Search,
    Off,
}

impl Place {
    fn of(phase: Phase) -> Option<Place> {
        match phase {
            Phase::Start => Some(Place::Start),
            Phase::Search => Some(Place::Search),
            Phase::Off => Some(Place::Off),
            Phase::Head { .. } | Phase::LongHead(_) | Phase::Body(_) => None,
        }
    }

    fn phase(self) -> Phase {
        match self {
            Place::Start => Phase::Start,
            Place::Search => Phase::Search,
            Place::Off => Phase::Off,
        }
    }
}

impl Rest {
    #[inline(never)]
    fn wake<L>(&self, room: &mut Room<L>) -> Box<Conversation> {
        let mut talk = room.pool.take_conversation();
        talk.resume(self);
        talk
    }

    #[inline(never)]
    fn prospect(&self) -> Prospect {
        prospect_of(self.protocol, self.has_switched, self.unclear_bytes.into())
    }
}

impl Default for Dialogue {
    fn default() -> Dialogue {
        Dialogue::Resting(Rest::default())
    }
}

impl Dialogue {
    /// Takes the next piece of one direction.
    #[inline]
    pub fn take<L: Listener>(
        &mut self,
        wire: Wire<'_>,
        direction: Direction,
        chunk: Chunk<'_>,
        room: &mut Room<L>,
    ) {
        self.wake(room).take(wire, direction, chunk, room);
        if room.pool.held_bytes() > room.limits.held_bytes_shard_max / AWAKE_SHARE {
            self.rest(room);
        }
    }

    /// Ends all that is under way on the connection.
    pub fn finish<L: Listener>(&mut self, wire: Wire<'_>, end: End, room: &mut Room<L>) {
        self.wake(room).finish(wire, end, room);
        self.rest(room);
    }

    /// The connection is forgotten, whose conversation is finished.
    pub fn leave<L>(&mut self, room: &mut Room<L>) {
        if let Dialogue::Busy(mut talk) = std::mem::take(self) {
            *talk = Conversation::default();
            room.pool.give_conversation_back(talk);
        }
    }

    #[inline(always)]
    fn wake<L>(&mut self, room: &mut Room<L>) -> &mut Conversation {
        if let Dialogue::Resting(rest) = self {
            *self = Dialogue::Busy(rest.wake(room));
        }
        match self {
            Dialogue::Busy(talk) => talk,
            Dialogue::Resting(_) => unreachable!("it was woken"),
        }
    }

    /// Keeps no more of the conversation than must be known, if nothing is under way.
    #[inline(never)]
    pub fn rest<L>(&mut self, room: &mut Room<L>) {
        let Dialogue::Busy(talk) = self else { return };
        let Some(rest) = talk.rest() else { return };
        if let Dialogue::Busy(talk) = std::mem::replace(self, Dialogue::Resting(rest)) {
            room.pool.give_conversation_back(talk);
        }
    }

    /// How much memory is under way here, and for how long; 0 where nothing is.
    pub fn burden(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        match self {
            Dialogue::Resting(_) => 0,
            // It is awake because there is room.
            Dialogue::Busy(talk) if talk.rest().is_some() => 0,
            Dialogue::Busy(talk) => {
                let own = flow::burden(CONVERSATION_BYTES as u64, now, quiet_since);
                talk.burden(now, quiet_since).saturating_add(own)
            }
        }
    }

    /// What the connection turned out to carry.
    pub fn protocol(&self) -> Protocol {
        match self {
            Dialogue::Resting(rest) => rest.protocol,
            Dialogue::Busy(talk) => talk.protocol(),
        }
    }

    /// What is still to be expected: see [`Conversation::prospect`].
    #[inline]
    pub fn prospect(&self) -> Prospect {
        match self {
            Dialogue::Resting(rest) => rest.prospect(),
            Dialogue::Busy(talk) => talk.prospect(),
        }
    }

    /// Up to where all of `direction` is body: see [`Conversation::body_until`].
    #[inline]
    pub fn body_until<L>(
        &self,
        direction: Direction,
        bytes_min: u64,
        ahead_bytes_max: u32,
        room: &mut Room<L>,
    ) -> Option<SeqNumber> {
        match self {
            Dialogue::Resting(_) => None,
            Dialogue::Busy(talk) => talk.body_until(direction, bytes_min, ahead_bytes_max, room),
        }
    }
}

impl Conversation {
    /// What is left to know, if nothing is under way and nothing that was lost may matter yet.
    #[inline]
    fn rest(&self) -> Option<Rest> {
        if !self.pending.is_empty() || !self.pending.is_in_order() {
            return None;
        }
        let is_quiet = self.halves.iter().all(|half| {
            half.open.is_none()
                && half.partial_origin.is_none()
                && half.passed_until == half.seen_until
                && (half.lost_until.is_none() || self.client.is_some())
        });
        let [forward, reverse] = &self.halves;
        let places = [Place::of(forward.phase)?, Place::of(reverse.phase)?];
        is_quiet.then_some(Rest {
            passed_until: [forward.passed_until, reverse.passed_until],
            last_read: self.pending.places.last_read,
            id: self.id.unwrap_or_default(),
            next_n: self.next_n,
            unclear_bytes: u32::try_from(self.unclear_bytes).unwrap_or(u32::MAX),
            places,
            client: self.client,
            protocol: self.protocol,
            is_sliding: self.pending.places.is_sliding,
            has_switched: self.has_switched,
        })
    }

    /// Goes on from where `rest` was said, in a conversation that rests as well. What a body leaves
    /// behind in the halves is set anew where the next one begins.
    #[inline]
    fn resume(&mut self, rest: &Rest) {
        for (half, (place, passed_until)) in
            self.halves.iter_mut().zip(rest.places.into_iter().zip(rest.passed_until))
        {
            half.phase = place.phase();
            (half.passed_until, half.seen_until) = (passed_until, passed_until);
            half.lost_until = None;
        }
        self.pending.places.last_read = rest.last_read;
        self.pending.places.is_sliding = rest.is_sliding;
        self.id = (rest.id != 0).then_some(rest.id);
        self.next_n = rest.next_n;
        self.unclear_bytes = rest.unclear_bytes.into();
        self.client = rest.client;
        self.protocol = rest.protocol;
        self.has_switched = rest.has_switched;
    }
}

#[cfg(test)]
mod tests {
    use crate::config::HttpConfig;
    use crate::flow::{Chunk, End};
    use crate::http::tests::{Talk, talk_with};
    use crate::ids::Direction::{self, Forward, Reverse};
    use proptest::prelude::*;

    const PIECES: [&str; 16] = [
        "GET /a HTTP/1.1\r\n\r\n",
        "HEAD /b HTTP/1.1\r\n\r\n",
        "GET /c HTTP/1.1\r\n\r\nGET /d HTTP/1.1\r\n\r\n",
        "POST /e HTTP/1.1\r\nContent-Length: 4\r\n\r\n",
        "POST /f HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "4\r\nbody\r\n0\r\n\r\n",
        "body",
        "GET /half",
        " HTTP/1.1\r\n\r\n",
        "\x16\x03\x01",
    ];

    /// What comes next: a piece of a message, a loss, or the end of a direction.
    type Step = (bool, u8, u8);

    fn play(talk: &mut Talk, steps: &[Step]) -> String {
        for (is_forward, what, lost_bytes) in steps {
            let direction = if *is_forward { Forward } else { Reverse };
            match PIECES.get(usize::from(*what)) {
                Some(piece) => talk.say(direction, piece.as_bytes()),
                None if *what == 16 => talk.take(direction, Chunk::Fin),
                None => talk.lose(direction, (*lost_bytes).into()),
            };
        }
        let (prospect, protocol) = (talk.conversation.prospect(), talk.conversation.protocol());
        let notes = talk.end(End::Idle);
        format!("{prospect:?} {protocol:?} {notes:?} {:?}", talk.room.stats)
    }

    proptest! {
        /// A connection that rests wherever it can says what one says that never does.
        #[test]
        fn rest_changes_nothing(
            steps in prop::collection::vec((any::<bool>(), 0..18_u8, 1..9_u8), 0..30),
            in_turn in prop::collection::vec((0..12_usize, 6..12_usize), 0..12),
            is_late: bool,
        ) {
            let turns = in_turn.iter().flat_map(|(request, response)| {
                [(true, (*request % 5) as u8, 0), (false, *response as u8, 0)]
            });
            let steps: Vec<Step> = turns.chain(steps.iter().copied()).collect();
            let told = [true, false].map(|is_restful| {
                let mut talk = talk_with(HttpConfig::default());
                talk.is_restful = is_restful;
                if is_late {
                    talk.origins.client_isn.set(None);
                }
                play(&mut talk, &steps)
            });
            prop_assert_eq!(&told[0], &told[1]);
        }
    }

    #[test]
    fn a_connection_rests_between_exchanges_only() {
        let mut talk = talk_with(HttpConfig::default());
        let is_resting = |talk: &Talk| talk.room.pool.held_bytes() == 0;
        let say = |talk: &mut Talk, direction: Direction, text: &str| {
            talk.say(direction, text.as_bytes());
        };
        for _ in 0..3 {
            say(&mut talk, Forward, "GET /a HTTP/1.1\r\n\r\n");
            assert!(!is_resting(&talk));
            say(&mut talk, Reverse, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
            assert!(!is_resting(&talk));
            say(&mut talk, Reverse, "dy");
            assert!(is_resting(&talk));
        }
        say(&mut talk, Forward, "GET /ha");
        assert!(!is_resting(&talk));
    }
}
