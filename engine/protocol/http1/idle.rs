//! [`Http1`]: the state of one connection, as a shard keeps it. While nothing is in progress there
//! is little to keep, and most connections are in that state at any time. A shard may keep a
//! million of them, but only the active ones need an [`Http1Connection`].

use super::connection::{Http1Connection, Spoken, interest};
use super::framer::ParseState;
use crate::decode::SeqNumber;
use crate::flow::{self, ActiveVisit, Copies, End, SegmentMeta};
use crate::ids::Direction;
use crate::packed_option::PackedOption;
use crate::protocol::{
    Carried, Context, Copied, Elidable, HandOver, Inheritance, Interest, Kind, Protocol, Shared,
    Step,
};
use crate::record::EventSink;
use crate::time::TimestampNs;

/// Connections with nothing in progress stay active until this share (one part in 64) of a shard's
/// memory limit is used: 4 MiB, or about 8,000 connections. Going idle and waking up takes 150
/// instructions per exchange, 2% of the total.
const ACTIVE_SHARE: usize = 64;

/// The memory of an active connection, with the overhead of the allocator.
const CONNECTION_BYTES: usize = size_of::<Http1Connection>() + 16;

/// The HTTP/1 state of one connection. Every connection starts with it; its protocol shows later.
#[derive(Debug)]
pub enum Http1 {
    /// Between exchanges.
    Idle(IdleState),
    /// Something is in progress, or a loss may still matter.
    Active(ActiveConnection),
}

/// A connection on which something is or may be in progress.
#[derive(Debug)]
pub struct ActiveConnection(Box<Http1Connection>);

/// Unused active connections that keep their memory: half as much as unused exchanges may.
#[derive(Debug, Default)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct Spares(Vec<Box<Http1Connection>>);

/// The state of a connection between two exchanges.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdleState {
    /// The position behind everything that has passed.
    passed_until: [PackedOption<SeqNumber>; 2],
    last_read: PackedOption<SeqNumber>,
    /// 0 if it was not needed yet.
    flow_id: u64,
    next_n: u32,
    unclear_bytes: u32,
    states: [IdleParseState; 2],
    client: Option<Direction>,
    other_by: Option<Direction>,
    spoken: Spoken,
    is_sliding: bool,
    has_switched: bool,
}

/// The parse state of an idle direction.
#[derive(Clone, Copy, Debug, Default)]
enum IdleParseState {
    #[default]
    Start,
    Search,
    Off,
}

impl IdleParseState {
    fn of(state: ParseState) -> Option<IdleParseState> {
        match state {
            ParseState::Start => Some(IdleParseState::Start),
            ParseState::Search => Some(IdleParseState::Search),
            ParseState::Off => Some(IdleParseState::Off),
            ParseState::Head { .. } | ParseState::LongHead(_) | ParseState::Body(_) => None,
        }
    }

    fn state(self) -> ParseState {
        match self {
            IdleParseState::Start => ParseState::Start,
            IdleParseState::Search => ParseState::Search,
            IdleParseState::Off => ParseState::Off,
        }
    }
}

impl IdleState {
    #[inline(never)]
    fn wake<S>(&self, shared: &mut Shared<S>) -> ActiveConnection {
        shared.recorder.pool.hold(CONNECTION_BYTES);
        let mut connection = shared.http1.0.pop().unwrap_or_default();
        connection.resume(self);
        ActiveConnection(connection)
    }

    #[inline(never)]
    fn interest(&self) -> Interest {
        interest(self.spoken, self.has_switched, self.unclear_bytes.into())
    }
}

/// Takes back the memory of a connection with nothing in progress.
fn give_back<S>(connection: Box<Http1Connection>, shared: &mut Shared<S>) {
    shared.recorder.pool.release(CONNECTION_BYTES);
    let kept_bytes = (shared.http1.0.len() + 1) * CONNECTION_BYTES;
    if kept_bytes <= shared.recorder.pool.kept_bytes_max() / 2 {
        shared.http1.0.push(connection);
    }
}

#[cfg(test)]
impl ActiveConnection {
    pub(super) fn connection(&self) -> &Http1Connection {
        &self.0
    }
}

impl Default for Http1 {
    fn default() -> Http1 {
        Http1::Idle(IdleState::default())
    }
}

impl Http1 {
    #[inline(always)]
    fn wake<S>(&mut self, shared: &mut Shared<S>) -> &mut Http1Connection {
        if let Http1::Idle(idle) = self {
            *self = Http1::Active(idle.wake(shared));
        }
        match self {
            Http1::Active(active) => &mut active.0,
            Http1::Idle(_) => unreachable!("wake makes it active"),
        }
    }

    /// After input: lets the connection go idle if memory is wanted.
    #[inline(always)]
    fn settle<S>(&mut self, shared: &mut Shared<S>) {
        if shared.recorder.pool.held_bytes() > shared.limits.held_bytes_shard_max / ACTIVE_SHARE {
            self.go_idle(shared);
        }
    }

    /// Reduces the connection to its idle state, if nothing is in progress.
    #[inline(never)]
    pub(super) fn go_idle<S>(&mut self, shared: &mut Shared<S>) {
        let Http1::Active(active) = self else { return };
        let Some(idle) = active.0.idle_state() else { return };
        if let Http1::Active(active) = std::mem::replace(self, Http1::Idle(idle)) {
            give_back(active.0, shared);
        }
    }
}

impl Protocol for Http1 {
    const NAME: &'static str = "HTTP/1";
    type Stats = super::Http1Stats;

    /// Never detected by its first bytes. Every connection starts as HTTP/1.
    fn probe(_first: &[u8]) -> bool {
        false
    }

    #[inline(always)]
    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        let step = self.wake(cx.shared).bytes(cx, direction, bytes, meta);
        self.settle(cx.shared);
        step
    }

    fn take_over<S>(&mut self, _shared: &mut Shared<S>, inheritance: Inheritance) {
        if let Http1::Idle(idle) = self {
            idle.next_n = inheritance.next_n;
            idle.flow_id = inheritance.flow_id.unwrap_or_default();
        }
    }

    fn elided<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u32,
        meta: &SegmentMeta,
    ) {
        self.wake(cx.shared).elided(cx, direction, len_bytes, meta);
        self.settle(cx.shared);
    }

    fn copy<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Copied {
        match self {
            Http1::Idle(_) => Copied::Same,
            Http1::Active(active) => active.0.copy(cx, direction, bytes, meta),
        }
    }

    fn bytes_with_copies<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: (&[u8], &Copies),
        meta: &SegmentMeta,
    ) -> Step {
        let step = self.wake(cx.shared).bytes_with_copies(cx, direction, bytes, meta);
        self.settle(cx.shared);
        step
    }

    fn retransmitted<S>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        at: SeqNumber,
        len_bytes: u32,
    ) {
        if let Http1::Active(active) = self {
            active.0.retransmitted(cx, direction, &(at..at.plus(len_bytes)));
        }
    }

    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        at: SeqNumber,
    ) {
        self.wake(cx.shared).gap(cx, direction, len_bytes, at);
        self.settle(cx.shared);
    }

    fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        self.wake(cx.shared).fin(cx, direction);
        self.settle(cx.shared);
    }

    fn report_active<S: EventSink>(&mut self, cx: &mut Context<'_, S>, visit: &mut ActiveVisit) {
        if let Http1::Active(active) = self {
            active.0.report_active(cx, visit);
        }
    }

    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        self.wake(cx.shared).finish(cx, end);
        self.go_idle(cx.shared);
    }

    fn leave<S>(&mut self, shared: &mut Shared<S>) {
        if let Http1::Active(active) = std::mem::take(self) {
            let mut connection = active.0;
            for framer in &mut connection.framers {
                framer.drop_partial(&mut shared.recorder.pool);
            }
            *connection = Http1Connection::default();
            give_back(connection, shared);
        }
    }

    #[cold]
    fn hand_over(&mut self) -> Option<HandOver> {
        match self {
            Http1::Idle(_) => None,
            Http1::Active(active) => active.0.take_successor().map(|successor| *successor),
        }
    }

    fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        match self {
            Http1::Idle(_) => 0,
            // It is active only because there is enough memory.
            Http1::Active(active) if active.0.idle_state().is_some() => 0,
            Http1::Active(active) => {
                let own = flow::memory_weight(CONNECTION_BYTES as u64, now, quiet_since);
                active.0.memory_weight(now, quiet_since).saturating_add(own)
            }
        }
    }

    /// What waits for more evidence is reported now.
    fn relieve<S: EventSink>(&mut self, cx: &mut Context<'_, S>) -> bool {
        let Http1::Active(active) = self else { return false };
        let is_relieved = active.0.end_wait(cx);
        self.go_idle(cx.shared);
        is_relieved
    }

    #[inline]
    fn interest(&self) -> Interest {
        match self {
            Http1::Idle(idle) => idle.interest(),
            Http1::Active(active) => active.0.interest(),
        }
    }

    fn evidence(&self) -> Option<(Direction, SeqNumber)> {
        match self {
            Http1::Idle(_) => None,
            Http1::Active(active) => active.0.left_by.map(|head| head.end()),
        }
    }

    #[inline]
    fn elidable_until<S>(
        &self,
        shared: &mut Shared<S>,
        direction: Direction,
        bytes_min: u64,
        ahead_bytes_max: u32,
    ) -> Option<Elidable> {
        match self {
            Http1::Idle(_) => None,
            Http1::Active(active) => {
                active.0.elidable_until(shared, direction, bytes_min, ahead_bytes_max)
            }
        }
    }

    fn carried(&self) -> Carried {
        let spoken = match self {
            Http1::Idle(idle) => idle.spoken,
            Http1::Active(active) => active.0.spoken,
        };
        match spoken {
            Spoken::Nothing => Carried::Nothing,
            Spoken::Unclear | Spoken::Other => Carried::Unknown,
            Spoken::Http1 => Carried::Protocol(Kind::Http1),
        }
    }

    fn has_open(&self) -> bool {
        match self {
            Http1::Idle(_) => false,
            Http1::Active(active) => active.0.pairer.open_count() > 0,
        }
    }
}

impl Http1Connection {
    /// The state to keep, if nothing is in progress and no loss matters any more.
    #[inline]
    fn idle_state(&self) -> Option<IdleState> {
        let Http1Connection { framers, pairer, .. } = self;
        if !pairer.is_next_first() || self.successor.is_some() {
            return None;
        }
        let is_quiet = framers.iter().zip(&pairer.open).all(|(framer, open)| {
            open.id.is_none()
                && framer.partial_meta.is_none()
                && framer.passed_until == framer.seen_until
        });
        let is_assigned = pairer.loss.is_assigned() || pairer.client.is_some();
        let [forward, reverse] = framers;
        let states = [IdleParseState::of(forward.state)?, IdleParseState::of(reverse.state)?];
        (is_quiet && is_assigned).then_some(IdleState {
            passed_until: [forward.passed_until.into(), reverse.passed_until.into()],
            last_read: pairer.loss.last_read.into(),
            flow_id: pairer.flow_id.unwrap_or_default(),
            next_n: pairer.next_n,
            unclear_bytes: u32::try_from(self.unclear_bytes).unwrap_or(u32::MAX),
            states,
            client: pairer.client,
            other_by: self.other_by,
            spoken: self.spoken,
            is_sliding: pairer.loss.is_sliding,
            has_switched: pairer.has_switched,
        })
    }

    /// Resumes from an idle state, in a connection object that was idle as well. What a body left
    /// behind in framer and pairer is reset where the next one begins.
    #[inline]
    fn resume(&mut self, idle: &IdleState) {
        for (framer, (state, passed_until)) in
            self.framers.iter_mut().zip(idle.states.into_iter().zip(idle.passed_until))
        {
            framer.state = state.state();
            let passed_until = passed_until.get();
            (framer.passed_until, framer.seen_until) = (passed_until, passed_until);
        }
        let pairer = &mut self.pairer;
        pairer.loss.resume(idle.last_read.get(), idle.is_sliding);
        pairer.flow_id = (idle.flow_id != 0).then_some(idle.flow_id);
        pairer.next_n = idle.next_n;
        pairer.client = idle.client;
        pairer.has_switched = idle.has_switched;
        self.unclear_bytes = idle.unclear_bytes.into();
        (self.spoken, self.other_by) = (idle.spoken, idle.other_by);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::HttpConfig;
    use crate::flow::{Chunk, End};
    use crate::ids::Direction::{self, Forward, Reverse};
    use crate::protocol::http1::tests::{TestConnection, connection_with};
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

    /// The next input: a piece of a message, a loss, or the end of a direction.
    type Step = (bool, u8, u8);

    fn play(connection: &mut TestConnection, steps: &[Step]) -> String {
        for (is_forward, what, lost_bytes) in steps {
            let direction = if *is_forward { Forward } else { Reverse };
            match PIECES.get(usize::from(*what)) {
                Some(piece) => connection.say(direction, piece.as_bytes()),
                None if *what == 16 => connection.take(direction, Chunk::Fin),
                None => connection.lose(direction, (*lost_bytes).into()),
            };
        }
        let (interest, protocol) = (connection.interest(), connection.carried());
        let notes = connection.end(End::Idle);
        format!("{interest:?} {protocol:?} {notes:?} {:?}", connection.shared.stats())
    }

    proptest! {
        /// A connection that goes idle whenever it can reports the same as one that never does.
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
            let reported = [true, false].map(|is_idling| {
                let mut connection = connection_with(HttpConfig::default());
                connection.is_idling = is_idling;
                if is_late {
                    connection.handshake.client_isn.set(None);
                }
                play(&mut connection, &steps)
            });
            prop_assert_eq!(&reported[0], &reported[1]);
        }
    }

    #[test]
    fn a_connection_rests_between_exchanges_only() {
        let mut connection = connection_with(HttpConfig::default());
        let is_resting = |connection: &TestConnection| connection.shared.held_bytes() == 0;
        let say = |connection: &mut TestConnection, direction: Direction, text: &str| {
            connection.say(direction, text.as_bytes());
        };
        for _ in 0..3 {
            say(&mut connection, Forward, "GET /a HTTP/1.1\r\n\r\n");
            assert!(!is_resting(&connection));
            say(&mut connection, Reverse, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
            assert!(!is_resting(&connection));
            say(&mut connection, Reverse, "dy");
            assert!(is_resting(&connection));
        }
        say(&mut connection, Forward, "GET /ha");
        assert!(!is_resting(&connection));
    }
}
