//! Several shards on one mapped file: each chunk of it is walked by one shard for all of them.
//!
//! The shards take chunks in turn. Whoever walks a chunk lists for each shard where its frames are;
//! the others touch no other frame. A chunk begins somewhere in a record, so the walk begins at a
//! guess: where several records in a row make sense ([`guess`]). A guess may be wrong, or somebody
//! may have made it wrong. So a list counts only once the chunk before it is known to end exactly
//! where the list begins; else the chunk is walked again, from there.
//!
//! Each shard processes all chunks strictly in order, and a chunk is what a shard that is alone
//! gets from one [`fill`](super::RecordBuffer::fill): the same frames in the same polls. What a
//! list cannot tell (damage, the cut end of a file, blocks of a pcapng that change how later blocks
//! are read), each shard walks by itself, by the same code as if it were alone ([`Turn::Own`]).
//!
//! Memory is bounded: no chunk is walked that lies more than [`lead_count`] ahead of the slowest
//! shard, and a list has eight bytes for each record.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::format::Format;
use crate::capture::Route;
use crate::capture::tee::WAIT_MS;
use crate::ids::ShardId;
use crate::sys::file_map::FileMap;
use crate::time::TimestampNs;
use chunk::{Edge, Ground, Job, Walked};
pub(super) use chunk::{List, Record};

mod chunk;
mod guess;

#[cfg(test)]
pub(super) use guess::begin as guess_begin;

/// How many chunks may be walked or listed at a time, for `shard_count` shards: one that each of
/// them processes, one that each of them walks, and two.
fn lead_count(shard_count: usize) -> usize {
    2 * shard_count + 2
}

/// One file, walked for all shards.
#[derive(Debug)]
pub(super) struct Walk {
    ground: Ground,
    state: Mutex<State>,
    /// A chunk was walked, processed, or can be taken.
    changed: Condvar,
}

/// Which chunks were walked, and who processes which.
#[derive(Debug)]
struct State {
    /// The number of the first chunk in `chunks`: the one that the slowest shard processes.
    base: usize,
    chunks: VecDeque<Chunk>,
    /// For each shard the number of the chunk that it processes next; `None` if it has left.
    next: Vec<Option<usize>>,
    frontier: Frontier,
    /// Everything before was unmapped.
    released_until: usize,
}

/// What is known of a chunk.
#[derive(Debug)]
enum Chunk {
    /// Nobody walks it.
    Free,
    Taken,
    /// There was no good guess. It is walked when it is known where it begins.
    NotGuessed,
    /// It was walked from a guess, which is not known to be right.
    Guessed(Walked),
    Listed(Arc<List>),
    /// Each shard must walk it.
    Own,
}

/// The first chunk that is not [`Chunk::Listed`], and what is known of the capture where it begins.
#[derive(Clone, Debug)]
struct Frontier {
    number: usize,
    /// How blocks are read. A list counts only with the format it was made with.
    format: Arc<Format>,
    edge: Edge,
    /// The time of the last frame before, or of the first one.
    time: TimestampNs,
}

/// What a shard does next.
#[derive(Debug)]
pub(super) enum Turn {
    /// Visits the frames of this list.
    Listed(Arc<List>),
    /// Walks the next chunk, or finds the end of the file, by itself; and tells by
    /// [`Seat::walked`].
    Own,
    /// Other shards must catch up first.
    Wait,
}

impl Walk {
    /// The walk over `map` from byte `start` on, where the first record of a capture in `format`
    /// begins, in chunks of `chunk_bytes`, for `shard_count` shards.
    pub(super) fn new(
        map: Arc<FileMap>,
        chunk_bytes: usize,
        start: usize,
        format: &Format,
        shard_count: usize,
    ) -> Arc<Walk> {
        let frontier = Frontier {
            number: 0,
            format: Arc::new(format.clone()),
            edge: Edge::At { byte: start, carried: None },
            time: TimestampNs(0),
        };
        let state = Mutex::new(State {
            base: 0,
            chunks: VecDeque::new(),
            next: vec![Some(0); shard_count],
            frontier,
            released_until: 0,
        });
        let ground = Ground { map, chunk_bytes, start, shard_count };
        Arc::new(Walk { ground, state, changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in between can panic and leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `shard` does next. Walks chunks meanwhile, if there is nothing else to do.
    fn turn(&self, shard: usize, route: &dyn Route) -> Turn {
        let mut state = self.lock();
        loop {
            let Some(number) = state.next[shard] else { return Turn::Own };
            if self.ground.begin_of(number) == self.ground.len_bytes() {
                return Turn::Own;
            }
            match state.chunk(number) {
                Some(Chunk::Listed(list)) => return Turn::Listed(Arc::clone(list)),
                Some(Chunk::Own) => return Turn::Own,
                _ => {}
            }
            if let Some(job) = self.take(&mut state) {
                drop(state);
                let mut taken = Taken { walk: self, number: job.number, walked: None };
                taken.walked = self.ground.walk(&job, route);
                let is_exact = job.at.is_some();
                state = taken.give_back(is_exact);
                continue;
            }
            let wait = Duration::from_millis(WAIT_MS.into());
            let waited = self.changed.wait_timeout(state, wait);
            let (waited, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if timeout.timed_out() {
                return Turn::Wait;
            }
        }
    }

    /// The next chunk to walk, if there is one: the one at the frontier, where it is known how to
    /// begin, or one for a guess.
    fn take(&self, state: &mut State) -> Option<Job> {
        let lead_end = state.base + lead_count(self.ground.shard_count);
        let Frontier { number: exact, edge, format, time } = state.frontier.clone();
        let is_own = matches!(state.chunk(exact), Some(Chunk::Own));
        let end = match format.can_guess(is_own) {
            true => lead_end,
            false => lead_end.min(exact + 1),
        };
        let number = (exact..end).find(|number| match state.chunk(*number) {
            None | Some(Chunk::Free) => true,
            Some(Chunk::NotGuessed) => *number == exact,
            _ => false,
        })?;
        if self.ground.begin_of(number) == self.ground.len_bytes() {
            return None;
        }
        let at = match edge {
            _ if number > exact => None,
            Edge::At { byte, .. } => Some(byte),
            Edge::Unknown => return None,
        };
        *state.place(number) = Chunk::Taken;
        Some(Job { number, at, format, time })
    }

    /// Accepts lists from the frontier on, as far as they are known to be right.
    fn advance(&self, state: &mut State) {
        let mut is_more = true;
        while is_more {
            let number = state.frontier.number;
            let Edge::At { byte, carried } = state.frontier.edge else {
                if self.ground.begin_of(number) < self.ground.len_bytes() {
                    *state.place(number) = Chunk::Own;
                }
                break;
            };
            let format = Arc::clone(&state.frontier.format);
            let Some(place) = state.chunk_mut(number) else { break };
            match std::mem::replace(place, Chunk::Free) {
                Chunk::Guessed(walked)
                    if walked.begin == byte && Arc::ptr_eq(&walked.format, &format) =>
                {
                    let Walked { mut list, edge, .. } = walked;
                    list.carried = carried;
                    let time = list.last();
                    *place = Chunk::Listed(Arc::new(list));
                    let time = time.unwrap_or(state.frontier.time);
                    state.frontier = Frontier { number: number + 1, format, edge, time };
                }
                // It is walked again, from `byte` on.
                Chunk::Guessed(_) => is_more = false,
                other => {
                    *place = other;
                    is_more = false;
                }
            }
        }
        self.changed.notify_all();
    }

    /// `shard` has processed a chunk. `own` is set if it has walked it by itself: where that ended.
    fn processed(&self, shard: usize, own: Option<OwnEnd<'_>>, route: &dyn Route) {
        let mut state = self.lock();
        let Some(number) = state.next[shard] else { return };
        state.next[shard] = Some(number + 1);
        if let Some(own) = own
            && state.frontier.number == number
        {
            let format = &state.frontier.format;
            let format = match format.reads_as(own.format) {
                true => Arc::clone(format),
                false => Arc::new(own.format.clone()),
            };
            let boundary = self.ground.begin_of(number + 1);
            let edge = match own.pass_bytes {
                0 => self.ground.edge(own.byte, boundary, own.format, route),
                pass => Edge::At { byte: boundary.saturating_add(pass as usize), carried: None },
            };
            let frontier = Frontier { number: number + 1, format, edge, time: own.last };
            state.frontier = frontier;
            self.advance(&mut state);
        }
        self.drop_processed(state);
    }

    /// Forgets the chunks that all shards have processed, and unmaps them.
    fn drop_processed(&self, mut state: MutexGuard<'_, State>) {
        let slowest = state.next.iter().flatten().min().copied();
        let mut until = state.released_until;
        while slowest.is_some_and(|slowest| state.base < slowest)
            && let Some(chunk) = state.chunks.pop_front()
        {
            state.base += 1;
            until = self.ground.begin_of(state.base);
            if let Chunk::Listed(list) = chunk {
                // The next chunk needs the rest.
                until = list.rest();
            }
        }
        let from = state.released_until;
        state.released_until = until.max(from);
        drop(state);
        if until > from {
            self.ground.map.release(from, until);
            self.changed.notify_all();
        }
    }

    /// The shard needs no more chunks.
    fn leave(&self, shard: usize) {
        let mut state = self.lock();
        state.next[shard] = None;
        self.drop_processed(state);
        self.changed.notify_all();
    }
}

impl State {
    fn chunk(&self, number: usize) -> Option<&Chunk> {
        self.chunks.get(number.checked_sub(self.base)?)
    }

    fn chunk_mut(&mut self, number: usize) -> Option<&mut Chunk> {
        self.chunks.get_mut(number.checked_sub(self.base)?)
    }

    /// The place of a chunk, which is not before the first one.
    fn place(&mut self, number: usize) -> &mut Chunk {
        let at = number.saturating_sub(self.base);
        while self.chunks.len() <= at {
            self.chunks.push_back(Chunk::Free);
        }
        &mut self.chunks[at]
    }
}

/// A chunk that is being walked. If that panics, each shard walks it by itself.
struct Taken<'a> {
    walk: &'a Walk,
    number: usize,
    walked: Option<Walked>,
}

impl<'a> Taken<'a> {
    /// Leaves what was found. If nothing was, although it was known where to begin, each shard must
    /// walk the chunk.
    fn give_back(mut self, is_exact: bool) -> MutexGuard<'a, State> {
        let chunk = match self.walked.take() {
            Some(walked) => Chunk::Guessed(walked),
            None if is_exact => Chunk::Own,
            None => Chunk::NotGuessed,
        };
        let (walk, number) = (self.walk, self.number);
        std::mem::forget(self);
        let mut state = walk.lock();
        // Meanwhile it may have turned out that each shard must walk it.
        if let Some(place @ Chunk::Taken) = state.chunk_mut(number) {
            *place = chunk;
        }
        walk.advance(&mut state);
        state
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.walk.lock();
        if let Some(place) = state.chunk_mut(self.number) {
            *place = Chunk::Own;
        }
        self.walk.changed.notify_all();
    }
}

/// Where a shard that walked a chunk by itself stands at its end.
#[derive(Debug)]
pub(super) struct OwnEnd<'a> {
    /// The first byte that was not consumed.
    pub(super) byte: usize,
    /// Bytes to skip behind the chunk.
    pub(super) pass_bytes: u64,
    pub(super) format: &'a Format,
    /// The time of the last frame.
    pub(super) last: TimestampNs,
}

/// A shard's place in a walk. Nobody waits for a shard that has dropped it.
#[derive(Debug)]
pub(super) struct Seat {
    walk: Arc<Walk>,
    shard: usize,
}

impl Seat {
    pub(super) fn new(walk: &Arc<Walk>, shard: usize) -> Seat {
        Seat { walk: Arc::clone(walk), shard }
    }

    /// The same as [`Walk::turn`].
    pub(super) fn turn(&self, route: &dyn Route) -> Turn {
        self.walk.turn(self.shard, route)
    }

    /// The frames of a list were visited.
    pub(super) fn visited(&self, route: &dyn Route) {
        self.walk.processed(self.shard, None, route);
    }

    /// A chunk was walked, up to `end`.
    pub(super) fn walked(&self, end: OwnEnd<'_>, route: &dyn Route) {
        self.walk.processed(self.shard, Some(end), route);
    }

    pub(super) fn shard(&self) -> ShardId {
        ShardId(self.shard as u16)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.walk.leave(self.shard);
    }
}
