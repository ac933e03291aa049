//! [`Feedback`]: tells the kernel filter, by flow hints, what it need not pass to user space.

use crate::flow::{Connection, FlowIndex, FlowTable};
use crate::ids::{Direction, FlowKey};
use crate::protocol::{ConnectionState, Shared};
use crate::stats::HintStats;
use crate::sys::flow_hints::{FlowHints, GRANT_AHEAD_BYTES_MAX, HintFlags, HintId};

/// A grant that reaches this far ahead need not be renewed yet.
const GRANT_AHEAD_BYTES_MIN: i32 = (GRANT_AHEAD_BYTES_MAX / 2) as i32;

/// A grant whose end lies this far behind is moved forward, before sequence numbers wrap around to
/// it.
const GRANT_BEHIND_BYTES_MAX: i32 = 1 << 30;

/// A connection on which only one side speaks gets a hint once it has carried this much: anybody
/// can send one packet from any address. To take all default hints in this way costs a quarter of a
/// terabyte.
const UNANSWERED_BYTES_MIN: u32 = 1 << 20;

/// The state of a connection apart from its streams.
#[derive(Debug, Default)]
pub(super) struct FlowState {
    pub protocol: ConnectionState,
    /// The hint that the filter has for it.
    pub hint: Hint,
}

/// The hint for a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hint {
    id: Option<HintId>,
    flags: HintFlags,
    /// The hint table was full.
    is_refused: bool,
}

impl Hint {
    /// Whether it is a verdict: nothing of the connection is wanted.
    fn is_verdict(&self) -> bool {
        self.flags.has(HintFlags::FOREIGN) || self.flags.has(HintFlags::OTHER)
    }
}

/// A shard's hints.
#[derive(Debug)]
pub(super) struct Feedback {
    hints: FlowHints,
    elide_bytes_min: Option<u64>,
    stats: HintStats,
}

impl Feedback {
    pub fn new(hints: FlowHints, elide_bytes_min: Option<u64>) -> Feedback {
        Feedback { hints, elide_bytes_min, stats: HintStats::default() }
    }

    pub fn stats(&self) -> HintStats {
        self.stats.clone()
    }

    /// A segment of an HTTP connection has been processed: the hint tells the filter that it is
    /// HTTP, and how far the current bodies reach.
    #[inline]
    pub fn follow<S>(
        &mut self,
        flows: &mut FlowTable<FlowState>,
        index: FlowIndex,
        shared: &mut Shared<S>,
    ) {
        let Some(((key, handshake), connection, state)) = flows.link(index) else { return };
        let is_one_sided = !handshake.is_answered() && has_sent_much(connection);
        let may_begin = handshake.is_answered() || is_one_sided;
        if state.hint.id.is_none() && !state.hint.is_refused && may_begin {
            self.begin(key, connection, &mut state.hint);
        }
        for direction in [Direction::Forward, Direction::Reverse] {
            let elidable = self.elide_bytes_min.and_then(|bytes_min| {
                state.protocol.elidable_until(shared, direction, bytes_min, GRANT_AHEAD_BYTES_MAX)
            });
            // Of a head that nobody has read yet, another copy may still come, and must be seen.
            let is_read = |head_end| connection.is_read_until(direction, head_end) || is_one_sided;
            let until = elidable.filter(|it| is_read(it.head_end)).map(|it| it.until);
            let Some(next) = connection.next(direction) else { continue };
            let until = match (connection.granted(direction), until) {
                (Some(granted), Some(until))
                    if granted == until || granted.distance(next) >= GRANT_AHEAD_BYTES_MIN =>
                {
                    continue;
                }
                (Some(granted), None) if next.distance(granted) < GRANT_BEHIND_BYTES_MAX => {
                    continue;
                }
                (_, Some(until)) => until,
                // Grants nothing beyond what has passed.
                (_, None) if state.hint.id.is_some() => next,
                (_, None) => continue,
            };
            if state.hint.id.is_none() && may_begin {
                // A slot may have become free.
                self.begin(key, connection, &mut state.hint);
            }
            let (Some(id), Some(number)) = (state.hint.id, connection.number(direction)) else {
                continue;
            };
            self.stats.grants += u64::from(until != next);
            connection.grant(direction, until);
            self.hints.grant(id, direction, number.0, until.0);
            let flags = state.hint.flags.with(HintFlags::isn(direction));
            if state.hint.flags != flags {
                state.hint.flags = flags;
                self.hints.show(id, key, flags);
            }
        }
    }

    /// Takes a slot for a connection.
    #[cold]
    fn begin(&mut self, key: &FlowKey, connection: &Connection, hint: &mut Hint) {
        hint.id = self.hints.take(key);
        hint.is_refused = hint.id.is_none();
        hint.flags =
            if connection.is_joined_late() { HintFlags::LATE } else { HintFlags::default() };
        self.stats.hints += u64::from(hint.id.is_some());
        self.stats.hints_refused += u64::from(hint.is_refused);
    }

    /// Nothing more of a connection is wanted than `verdict` says: nothing until its next SYN
    /// ([`HintFlags::FOREIGN`]), nothing until data begins like a message
    /// ([`HintFlags::OTHER`]), or what records of TLS need ([`HintFlags::TLS`]).
    #[cold]
    pub fn dismiss(
        &mut self,
        flows: &mut FlowTable<FlowState>,
        index: FlowIndex,
        verdict: HintFlags,
    ) {
        let Some(((key, _), connection, state)) = flows.link(index) else { return };
        let hint = &mut state.hint;
        if hint.is_verdict() {
            return;
        }
        if hint.id.is_none() {
            self.begin(key, connection, hint);
        }
        let Some(id) = hint.id else { return };
        for direction in [Direction::Forward, Direction::Reverse] {
            if let Some(number) = connection.number(direction) {
                let until = connection.granted(direction).unwrap_or(number);
                self.hints.grant(id, direction, number.0, until.0);
                hint.flags = hint.flags.with(HintFlags::isn(direction));
            }
        }
        hint.flags = hint.flags.with(verdict);
        self.hints.show(id, key, hint.flags);
        self.stats.verdicts += 1;
    }

    /// The connection is over. A grant must not apply to the next connection on the same endpoints,
    /// whose handshake we may miss. A verdict applies to everything until a SYN.
    pub fn close(&mut self, hint: &mut Hint) {
        if !hint.is_verdict() {
            self.forget(hint);
        }
    }

    /// The connection is removed from the table.
    pub fn forget(&mut self, hint: &mut Hint) {
        if let Some(id) = hint.id.take() {
            self.hints.erase(id);
        }
    }
}

/// Whether the connection has carried [`UNANSWERED_BYTES_MIN`] in one direction.
fn has_sent_much(connection: &Connection) -> bool {
    [Direction::Forward, Direction::Reverse].into_iter().any(|direction| {
        let sent = connection.number(direction).zip(connection.next(direction));
        sent.is_some_and(|(begin, next)| next.0.wrapping_sub(begin.0) >= UNANSWERED_BYTES_MIN)
    })
}

#[cfg(test)]
mod tests;
