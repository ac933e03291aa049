//! [`FlowTable`]: a shard's own connections, found by key. Bounded; idle ones are taken out as
//! packet time goes.

use super::connection::{Bypassed, Connection, ReassemblyContext};
use super::index::Index;
use super::slots::Slots;
use super::{Chunk, End, FlowEvents, Handshake, ReorderPool};
use crate::config::FlowConfig;
use crate::decode::{Segment, is_worth_joining};
use crate::ids::{Direction, FlowKey};
use crate::packed_option::PackedOption;
use crate::simd;
use crate::stats::FlowStats;
use crate::time::TimestampNs;
use foldhash::fast::RandomState;
use std::collections::BTreeSet;
use std::hash::BuildHasher;

/// How many flows are looked at to find one that is to give way: the best of a few is nearly the
/// best of all.
const SAMPLE_COUNT: usize = 16;

/// A flow without payload gives way to the others as if it had been quiet for so many times as
/// long. Not before all of them: every connection begins so, and a flood that sends payload would
/// push out all that are beginning.
const UNUSED_WEIGHT: u64 = 8;
/// A closed one has nothing left to tell.
const CLOSED_WEIGHT: u64 = 1 << 40;

/// Segments between the two steps in which what one needs is asked for, and between the second and
/// itself: memory takes as long as one or two do.
const STEP_FRAMES: usize = 4;

/// Later than all that happens.
const NEVER: TimestampNs = TimestampNs(u64::MAX);

/// The place of a flow in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowIndex(u32);

/// A connection, and the state that the next room keeps beside it. Four cache lines at most, whole
/// ones: where there are a million, each that is touched comes from memory.
#[derive(Debug)]
#[repr(C, align(64))]
struct Flow<S> {
    key: FlowKey,
    last_seen: TimestampNs,
    /// When the connection ended; never, as long as it has not.
    over_at: TimestampNs,
    connection: Connection,
    handshake: Handshake,
    state: S,
    /// Where the flow stands in `overdue`.
    watched_until: PackedOption<TimestampNs>,
    /// Payload has passed.
    is_used: bool,
}

/// What is to be done with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It belongs to this flow.
    Flow(FlowIndex),
    /// This flow is over: end it (`flush`, `remove`), then ask again.
    Ended(FlowIndex, End),
    /// The grace of a hole in this flow is over: `catch_up`, then ask again. What is given up may
    /// close the flow, and whether it is closed decides whose segment this is.
    Overdue(FlowIndex),
    /// It belongs to no flow, and begins none.
    Unknown,
}

/// The connections of one shard, each with a state `S` of the next room.
#[derive(Debug)]
pub struct FlowTable<S> {
    context: ReassemblyContext,
    /// The lesser of the two timeouts: no flow that was quiet for less is over.
    timeout_least_ns: u64,
    /// Keyed with a random seed: who chooses the endpoints cannot choose the buckets.
    hasher: RandomState,
    index: Index,
    slots: Slots<Flow<S>>,
    free: Vec<u32>,
    /// Where the next look for idle flows begins.
    cursor: usize,
    /// Flows with a hole whose grace runs, each once, by the moment at which it will be over. A
    /// set, since stamps of several interfaces or of a file are in no order. A last one, which
    /// never comes, is always there: a set that becomes empty frees its memory, each time.
    overdue: BTreeSet<(TimestampNs, u32)>,
    /// Hashes of the keys that were announced last, and where the next one goes.
    announced: ([u32; STEP_FRAMES], usize),
}

impl<S: Default> FlowTable<S> {
    /// How many segments before itself one is best announced.
    pub const ANNOUNCED_FRAMES: usize = 2 * STEP_FRAMES;

    /// Bytes of one flow in the table, whether anything is under way on it or not.
    pub const FLOW_BYTES: usize = size_of::<Option<Flow<S>>>();

    /// An empty table with these limits.
    pub fn new(limits: FlowConfig) -> FlowTable<S> {
        let pool = ReorderPool::new(limits.reorder_bytes_shard_max);
        let timeout_least_ms = limits.idle_timeout_ms.min(limits.closed_timeout_ms);
        FlowTable {
            context: ReassemblyContext {
                limits,
                is_filtered: false,
                pool,
                stats: FlowStats::default(),
            },
            timeout_least_ns: timeout_least_ms.saturating_mul(1_000_000),
            hasher: RandomState::default(),
            index: Index::new(),
            slots: Slots::new(),
            free: Vec::new(),
            cursor: 0,
            overdue: BTreeSet::from([(NEVER, u32::MAX)]),
            announced: ([0; STEP_FRAMES], 0),
        }
    }

    /// Segments come through a filter that cuts off data of bodies: where nothing of a payload
    /// comes up, it was left out, and not lost.
    pub fn set_filtered(&mut self) {
        self.context.is_filtered = true;
    }

    /// Counters of this room.
    pub fn stats(&self) -> &FlowStats {
        &self.context.stats
    }

    /// Flows in the table.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Places for flows, taken or free.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// Flows whose holes are watched.
    #[cfg(test)]
    pub(super) fn watched_count(&self) -> usize {
        self.overdue.len() - 1
    }

    /// What the segments cost that wait behind holes; at most `reorder_bytes_shard_max` and one
    /// segment.
    pub fn buffered_bytes(&self) -> usize {
        self.context.pool.segments.used_bytes
    }

    /// The flow of `segment`, once what stands in its way was ended or given up. `None` where it
    /// belongs to no flow, and begins none.
    #[inline(always)]
    pub fn enter(
        &mut self,
        segment: &Segment<'_>,
        events: &mut impl FlowEvents<S>,
    ) -> Option<FlowIndex> {
        match self.admit(segment) {
            Admission::Flow(index) => Some(index),
            Admission::Unknown => None,
            obstacle => self.enter_slow_path(obstacle, segment, events),
        }
    }

    /// The same where something stands in its way.
    #[cold]
    #[inline(never)]
    fn enter_slow_path(
        &mut self,
        mut obstacle: Admission,
        segment: &Segment<'_>,
        events: &mut impl FlowEvents<S>,
    ) -> Option<FlowIndex> {
        loop {
            match obstacle {
                Admission::Flow(index) => return Some(index),
                Admission::Unknown => return None,
                Admission::Ended(index, end) => self.end(index, end, Some(segment), events),
                Admission::Overdue(index) => {
                    let now = segment.timestamp;
                    self.catch_up(index, now, |key, handshake, state, direction, chunk| {
                        events.chunk(key, handshake, state, direction, chunk);
                    });
                }
            }
            obstacle = self.admit(segment);
        }
    }

    /// Ends a flow: passes on all that waits in it, and takes it out of the table. `segment` is the
    /// one that ended it, if one did.
    #[cold]
    pub fn end(
        &mut self,
        index: FlowIndex,
        end: End,
        segment: Option<&Segment<'_>>,
        events: &mut impl FlowEvents<S>,
    ) {
        self.flush(index, |key, handshake, state, direction, chunk| {
            events.chunk(key, handshake, state, direction, chunk);
        });
        if let Some((key, handshake, state)) = self.parts(index) {
            events.ended(key, handshake, state, end);
        }
        self.remove(index, end, segment);
    }

    /// Finds the flow of `segment`, or makes it: a handshake begins one, and so does payload that
    /// begins like a message, which is also what the kernel filter lets through. Other segments of
    /// unknown connections could not be placed.
    #[inline(always)]
    fn admit(&mut self, segment: &Segment<'_>) -> Admission {
        let hash = self.hash(&segment.key);
        let slots = &self.slots;
        let found = self.index.find(hash, |slot| {
            let flow = slots.get(slot as usize).and_then(Option::as_ref);
            flow.is_some_and(|flow| flow.key == segment.key)
        });
        let Some(slot) = found else { return self.admit_new(segment, hash) };
        let Some(flow) = self.slots[slot as usize].as_mut() else { return Admission::Unknown };
        if flow.watched_until.get().is_some_and(|deadline| deadline < segment.timestamp) {
            return Admission::Overdue(FlowIndex(slot));
        }
        let quiet_ns = segment.timestamp.since(flow.last_seen);
        if quiet_ns > self.timeout_least_ns {
            // A SYN is no late packet: it begins something, if with an old number.
            let late_ns = if segment.flags.is_syn() { 0 } else { late_ns(flow) };
            if quiet_ns > timeout_ns(flow, &self.context.limits, late_ns) {
                flow.connection.forget_pending_syn();
                return Admission::Ended(FlowIndex(slot), unless_closed(flow, End::Idle));
            }
        }
        if flow.connection.is_replaced_by(segment, &flow.handshake, &mut self.context.pool) {
            return Admission::Ended(FlowIndex(slot), unless_closed(flow, End::Reused));
        }
        Admission::Flow(FlowIndex(slot))
    }

    /// A segment of `key` comes soon: what it will need is asked for, in two steps, since the first
    /// says what the second is. The second is taken when a few more were announced.
    #[inline]
    pub fn announce(&mut self, key: &FlowKey) {
        let hash = self.hash(key);
        self.index.prefetch(hash);
        let step = self.announced.1 % STEP_FRAMES;
        let before = std::mem::replace(&mut self.announced.0[step], hash);
        self.announced.1 = step + 1;
        if let Some(slot) = self.index.find(before, |_| true)
            && let Some(place) = self.slots.get(slot as usize)
        {
            simd::prefetch_item(place);
        }
    }

    #[inline]
    fn hash(&self, key: &FlowKey) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    fn admit_new(&mut self, segment: &Segment<'_>, hash: u32) -> Admission {
        if !segment.flags.is_syn() && !is_worth_joining(segment.payload) {
            self.context.stats.segments_unknown += 1;
            return Admission::Unknown;
        }
        if self.index.len() >= self.context.limits.flow_count_max {
            return Admission::Ended(self.eviction_choice(segment.timestamp), End::Evicted);
        }
        let handshake = Handshake { began_at: segment.timestamp, ..Handshake::default() };
        Admission::Flow(self.insert(segment, hash, Connection::joined_at(segment), handshake))
    }

    fn insert(
        &mut self,
        segment: &Segment<'_>,
        hash: u32,
        connection: Connection,
        handshake: Handshake,
    ) -> FlowIndex {
        let flow = Flow {
            key: segment.key,
            handshake,
            connection,
            last_seen: segment.timestamp,
            over_at: NEVER,
            watched_until: PackedOption::NONE,
            is_used: false,
            state: S::default(),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(flow);
                slot
            }
            None => {
                self.slots.push(flow);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(hash, slot);
        self.context.stats.flows += 1;
        FlowIndex(slot)
    }

    /// Gives `segment` to its flow; what is in order now goes to `visit`. True where that closed
    /// the connection.
    #[inline(always)]
    pub fn accept(
        &mut self,
        index: FlowIndex,
        segment: &Segment<'_>,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) -> bool {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return false };
        flow.last_seen = flow.last_seen.max(segment.timestamp);
        flow.is_used |= segment.payload_wire_bytes > 0;
        if segment.flags.is_syn() {
            flow.connection.shake_hands(segment, &mut flow.handshake);
        }
        let (key, handshake, state) = (&flow.key, &flow.handshake, &mut flow.state);
        flow.connection.accept(segment, &mut self.context, &mut |direction, chunk| {
            visit(key, handshake, state, direction, chunk);
        });
        if flow.connection.is_on_fast_path() {
            return false;
        }
        if flow.watched_until.is_none() {
            flow.watched_until.set(flow.connection.deadline(&self.context.limits));
            self.overdue.extend(flow.watched_until.get().map(|deadline| (deadline, index.0)));
        }
        if flow.over_at == NEVER && flow.connection.is_over() {
            flow.over_at = flow.last_seen;
        }
        flow.connection.is_closed()
    }

    /// Nobody wants the bytes of this flow: its segments are passed over from now on, and it is
    /// only remembered.
    pub fn bypass(&mut self, index: FlowIndex, bypassed: Bypassed) {
        if let Some(flow) = self.slots[index.0 as usize].as_mut() {
            flow.connection.bypass(bypassed, &mut self.context.pool);
        }
    }

    /// Gives up the holes whose grace is over at `now`, in flows that get no packet to notice it
    /// by.
    pub fn settle(
        &mut self,
        now: TimestampNs,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) {
        while let Some(&(deadline, slot)) = self.overdue.first()
            && deadline < now
        {
            self.overdue.pop_first();
            self.catch_up(FlowIndex(slot), now, &mut visit);
        }
    }

    /// The same for one flow, whoever gets a packet.
    pub fn catch_up(
        &mut self,
        index: FlowIndex,
        now: TimestampNs,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return };
        if let Some(deadline) = flow.watched_until.get() {
            self.overdue.remove(&(deadline, index.0));
        }
        let (key, handshake, state) = (&flow.key, &flow.handshake, &mut flow.state);
        flow.connection.settle(now, &mut self.context, &mut |direction, chunk| {
            visit(key, handshake, state, direction, chunk);
        });
        flow.watched_until.set(flow.connection.deadline(&self.context.limits));
        self.overdue.extend(flow.watched_until.get().map(|deadline| (deadline, index.0)));
    }

    /// Passes on all that waits in a flow that is to end.
    pub fn flush(
        &mut self,
        index: FlowIndex,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return };
        let (key, handshake, state) = (&flow.key, &flow.handshake, &mut flow.state);
        flow.connection.flush(&mut self.context, &mut |direction, chunk| {
            visit(key, handshake, state, direction, chunk);
        });
    }

    /// Takes a flow out of the table. Where a pending_syn SYN ended it, the flow that this one
    /// announced takes its place.
    pub fn remove(&mut self, index: FlowIndex, end: End, segment: Option<&Segment<'_>>) {
        let Some(mut flow) = self.slots[index.0 as usize].take() else { return };
        let next = segment
            .filter(|segment| segment.key == flow.key)
            .and_then(|segment| Some((segment, flow.connection.announced(segment)?)));
        flow.connection.forget_reorder_state(&mut self.context.pool);
        if let Some(deadline) = flow.watched_until.get() {
            self.overdue.remove(&(deadline, index.0));
        }
        let hash = self.hash(&flow.key);
        self.index.remove(hash, index.0);
        self.free.push(index.0);
        match end {
            End::Idle => self.context.stats.flows_idle += 1,
            End::Evicted => self.context.stats.flows_evicted += 1,
            End::Reused => self.context.stats.flows_reused += 1,
            End::Fin | End::Rst | End::Exit => {}
        }
        if let Some((segment, (connection, handshake))) = next {
            self.insert(segment, hash, connection, handshake);
        }
    }

    /// The state of a flow, with its key and handshake, to end what is under way on it.
    pub fn parts(&mut self, index: FlowIndex) -> Option<(&FlowKey, &Handshake, &mut S)> {
        let flow = self.slots[index.0 as usize].as_mut()?;
        Some((&flow.key, &flow.handshake, &mut flow.state))
    }

    /// The connection of a flow, with its key and state, for what is said of it to the source.
    pub fn link(&mut self, index: FlowIndex) -> Option<(&FlowKey, &mut Connection, &mut S)> {
        let flow = self.slots[index.0 as usize].as_mut()?;
        Some((&flow.key, &mut flow.connection, &mut flow.state))
    }

    /// The next flow whose timeout is over at `now`, among the next `effort` slots; takes what it
    /// looked at off `effort`. Flows that are looked at late are not treated otherwise: `admit`
    /// knows the timeouts, too.
    pub fn next_expired(
        &mut self,
        now: TimestampNs,
        effort: &mut usize,
    ) -> Option<(FlowIndex, End)> {
        while *effort > 0 && self.slots.len() > 0 {
            *effort -= 1;
            let slot = self.cursor % self.slots.len();
            self.cursor = slot + 1;
            let Some(flow) = &self.slots[slot] else { continue };
            let quiet_ns = now.since(flow.last_seen);
            if quiet_ns > self.timeout_least_ns
                && quiet_ns > timeout_ns(flow, &self.context.limits, late_ns(flow))
            {
                return Some((FlowIndex(slot as u32), unless_closed(flow, End::Idle)));
            }
        }
        None
    }

    /// All flows, in the order of their places, which is nearly the order they came in.
    pub fn indices(&self) -> Vec<FlowIndex> {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        taken.map(|(slot, _)| FlowIndex(slot as u32)).collect()
    }

    /// Whom to evict where the table is full.
    fn eviction_choice(&mut self, now: TimestampNs) -> FlowIndex {
        let mut effort = self.slots.len();
        let choice = self.heaviest(&mut effort, |flow| {
            let weight = match (flow.connection.is_closed(), flow.is_used) {
                (true, _) => CLOSED_WEIGHT,
                (false, true) => 1,
                (false, false) => UNUSED_WEIGHT,
            };
            memory_weight(weight, now, flow.last_seen)
        });
        choice.unwrap_or(FlowIndex(0))
    }

    /// Of a few of the next `effort` slots the flow with the greatest memory_weight; one of
    /// memory_weight 0 is not meant. Takes what it looked at off `effort`. Where the slots are
    /// nearly empty nothing is chosen, for what has come last stands alone there.
    fn heaviest(
        &mut self,
        effort: &mut usize,
        memory_weight: impl Fn(&Flow<S>) -> u64,
    ) -> Option<FlowIndex> {
        let is_all = *effort >= self.slots.len();
        let (mut best, mut best_burden, mut seen_count) = (None, 0, 0);
        while seen_count < SAMPLE_COUNT && *effort > 0 && self.slots.len() > 0 {
            *effort -= 1;
            let slot = self.cursor % self.slots.len();
            self.cursor = slot + 1;
            let Some(flow) = &self.slots[slot] else { continue };
            let memory_weight = memory_weight(flow);
            seen_count += usize::from(memory_weight > 0);
            if memory_weight > best_burden {
                (best, best_burden) = (Some(FlowIndex(slot as u32)), memory_weight);
            }
        }
        best.filter(|_| is_all || seen_count == SAMPLE_COUNT)
    }

    /// Whether so much waits behind holes that the quiet are to give way ([`FlowTable::relieve`]),
    /// before it is so much that everybody must.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.context.pool.segments.used_bytes > self.context.pool.segments.max_bytes / 8 * 7
    }

    /// Gives up the holes of the flow that has most waiting for longest, of a few among the next
    /// `effort` slots. False where none has, or where all of the few have little: there is room
    /// left for them, and the next look finds others.
    pub fn relieve(
        &mut self,
        now: TimestampNs,
        effort: &mut usize,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) -> bool {
        let grace_ns = self.context.limits.reorder_grace_ms.saturating_mul(1_000_000);
        let choice = self.heaviest(effort, |flow| {
            // All are quiet for a moment when they wait: who has sent much at this very time is no
            // lighter than who was quiet for a few packets.
            let buffered_bytes = flow.connection.buffered_bytes() as u64;
            memory_weight(
                buffered_bytes,
                TimestampNs(now.0.saturating_add(grace_ns)),
                flow.last_seen,
            )
        });
        let Some(index) = choice else { return false };
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return false };
        let is_little =
            flow.connection.buffered_bytes() <= self.context.limits.reorder_bytes_max / 64;
        if is_little
            && self.context.pool.segments.used_bytes
                <= self.context.pool.segments.max_bytes / 16 * 15
        {
            return false;
        }
        let (key, handshake, state) = (&flow.key, &flow.handshake, &mut flow.state);
        flow.connection.give_way(now, &mut self.context, &mut |direction, chunk| {
            visit(key, handshake, state, direction, chunk);
        });
        true
    }

    /// The flow whose state is the greatest `memory_weight`, of a few among the next `effort`
    /// slots; it is told since when the flow was quiet.
    pub fn heaviest_state(
        &mut self,
        effort: &mut usize,
        memory_weight: impl Fn(&S, TimestampNs) -> u64,
    ) -> Option<FlowIndex> {
        self.heaviest(effort, |flow| memory_weight(&flow.state, flow.last_seen))
    }
}

/// What `weight` is that was there since then: both count.
pub fn memory_weight(weight: u64, now: TimestampNs, since: TimestampNs) -> u64 {
    weight.saturating_mul(now.since(since).saturating_add(1))
}

/// A closed connection has ended before whatever ends it now.
fn unless_closed<S>(flow: &Flow<S>, end: End) -> End {
    if flow.connection.is_closed() { End::Fin } else { end }
}

/// How long after the end of the connection packets still came.
fn late_ns<S>(flow: &Flow<S>) -> u64 {
    flow.last_seen.since(flow.over_at)
}

/// How long the flow may be quiet. Who does not hear that the connection is over sends again at
/// intervals that double; each is about as long as all before it.
fn timeout_ns<S>(flow: &Flow<S>, limits: &FlowConfig, late_ns: u64) -> u64 {
    let idle_ns = limits.idle_timeout_ms.saturating_mul(1_000_000);
    if !flow.connection.is_short_lived() {
        return idle_ns;
    }
    let closed_ns = limits.closed_timeout_ms.saturating_mul(1_000_000);
    closed_ns.saturating_add(late_ns.saturating_mul(2)).min(idle_ns.max(closed_ns))
}
