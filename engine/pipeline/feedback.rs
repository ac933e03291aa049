//! [`Feedback`]: the way back, from what a shard has found to what the kernel need not bring.

use crate::flow::{Connection, FlowIndex, FlowTable};
use crate::ids::{Direction, FlowKey};
use crate::protocol::{ConnectionState, Shared};
use crate::stats::NoteStats;
use crate::sys::notes::{GRANT_AHEAD_BYTES_MAX, Marks, NoteId, Notes};

/// A grant that reaches so far ahead need not be renewed yet.
const GRANT_AHEAD_BYTES_MIN: i32 = (GRANT_AHEAD_BYTES_MAX / 2) as i32;

/// A grant whose end lies so far behind is moved on, before sequence numbers come around to it.
const GRANT_BEHIND_BYTES_MAX: i32 = 1 << 30;

/// What is kept of a connection beside its streams.
#[derive(Debug, Default)]
pub(super) struct FlowState {
    pub protocol: ConnectionState,
    /// What the filter was told of it.
    pub note: Note,
}

/// What was noted of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Note {
    place: Option<NoteId>,
    marks: Marks,
    /// There was no place for it.
    is_refused: bool,
}

impl Note {
    /// Whether it says that nothing of the connection is wanted.
    fn is_verdict(&self) -> bool {
        self.marks.has(Marks::FOREIGN) || self.marks.has(Marks::OTHER)
    }
}

/// A shard's notes.
#[derive(Debug)]
pub(super) struct Feedback {
    notes: Notes,
    elide_bytes_min: Option<u64>,
    stats: NoteStats,
}

impl Feedback {
    pub fn new(notes: Notes, elide_bytes_min: Option<u64>) -> Feedback {
        Feedback { notes, elide_bytes_min, stats: NoteStats::default() }
    }

    pub fn stats(&self) -> NoteStats {
        self.stats.clone()
    }

    /// A segment of an HTTP connection has gone through all rooms: the filter hears that it is one,
    /// and how far the bodies under way go.
    #[inline]
    pub fn follow<S>(
        &mut self,
        flows: &mut FlowTable<FlowState>,
        index: FlowIndex,
        shared: &mut Shared<S>,
    ) {
        let Some((key, connection, it)) = flows.link(index) else { return };
        if it.note.place.is_none() && !it.note.is_refused {
            self.begin(key, connection, &mut it.note);
        }
        for direction in [Direction::Forward, Direction::Reverse] {
            let until = self.elide_bytes_min.and_then(|bytes_min| {
                it.protocol.elidable_until(shared, direction, bytes_min, GRANT_AHEAD_BYTES_MAX)
            });
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
                // Nothing but what has passed.
                (_, None) if it.note.place.is_some() => next,
                (_, None) => continue,
            };
            if it.note.place.is_none() {
                // A place may have become free.
                self.begin(key, connection, &mut it.note);
            }
            let (Some(place), Some(number)) = (it.note.place, connection.number(direction)) else {
                continue;
            };
            self.stats.grants += u64::from(until != next);
            connection.grant(direction, until);
            self.notes.grant(place, direction, number.0, until.0);
            let marks = it.note.marks.with(Marks::isn(direction));
            if it.note.marks != marks {
                it.note.marks = marks;
                self.notes.show(place, key, marks);
            }
        }
    }

    /// Takes a place for a connection.
    #[cold]
    fn begin(&mut self, key: &FlowKey, connection: &Connection, note: &mut Note) {
        note.place = self.notes.take(key);
        note.is_refused = note.place.is_none();
        note.marks = if connection.is_joined_late() { Marks::LATE } else { Marks::default() };
        self.stats.notes += u64::from(note.place.is_some());
        self.stats.notes_refused += u64::from(note.is_refused);
    }

    /// Nothing is expected of a connection: until its next SYN, or until something begins like a
    /// message.
    #[cold]
    pub fn dismiss(&mut self, flows: &mut FlowTable<FlowState>, index: FlowIndex, is_final: bool) {
        let Some((key, connection, it)) = flows.link(index) else { return };
        let note = &mut it.note;
        if note.is_verdict() {
            return;
        }
        if note.place.is_none() {
            self.begin(key, connection, note);
        }
        let Some(place) = note.place else { return };
        for direction in [Direction::Forward, Direction::Reverse] {
            if let Some(number) = connection.number(direction) {
                let until = connection.granted(direction).unwrap_or(number);
                self.notes.grant(place, direction, number.0, until.0);
                note.marks = note.marks.with(Marks::isn(direction));
            }
        }
        note.marks = note.marks.with(if is_final { Marks::FOREIGN } else { Marks::OTHER });
        self.notes.show(place, key, note.marks);
        self.stats.verdicts += 1;
    }

    /// The connection is over. What was granted must not reach the next one on the same endpoints,
    /// whose handshake may pass unseen; a verdict is of all that comes until a SYN.
    pub fn close(&mut self, note: &mut Note) {
        if !note.is_verdict() {
            self.forget(note);
        }
    }

    /// The connection leaves the table.
    pub fn forget(&mut self, note: &mut Note) {
        if let Some(place) = note.place.take() {
            self.notes.erase(place);
        }
    }
}

#[cfg(test)]
mod tests;
