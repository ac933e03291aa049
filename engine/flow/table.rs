//! [`FlowTable`]: the connections of a shard, found by key. Bounded; idle connections are removed
//! as packet time advances.

use super::active::ActiveTimeout;
use super::connection::{Bypassed, Connection, Ownership, ReassemblyContext};
use super::index::Index;
use super::rival::HeldSegment;
use super::slot_set::Unanswered;
use super::slots::Slots;
use super::strays::Strays;
use super::{Chunk, End, FlowEvents, Handshake, ReorderPool};
use crate::config::FlowConfig;
use crate::decode::{Segment, SeqNumber, is_worth_joining};
use crate::ids::{Direction, FlowKey};
use crate::packed_option::PackedOption;
use crate::simd;
use crate::stats::FlowStats;
use crate::time::TimestampNs;
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

mod pressure;
mod strays;
mod watch;
mod whole;

/// Segments between the two steps of a prefetch, and between the second step and the segment
/// itself. Memory takes as long as one or two segments.
const STEP_FRAMES: usize = 4;

/// A connection of which only the end is wanted may be quiet for this many idle timeouts: it is not
/// looked at what passes on it.
const QUIET_FACTOR: u64 = 12;

/// Later than any packet.
const NEVER: TimestampNs = TimestampNs(u64::MAX);

/// A connection that was joined late and lasted longer is not taken for segments of a stranger that
/// came before those of the endpoints.
const BURST_NS_MAX: u64 = 1_000_000_000;

/// The slot of a flow in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowIndex(u32);

/// A connection, and the state that the protocol layer keeps for it. At most four whole cache
/// lines: with a million flows, every line that is touched comes from memory.
#[derive(Debug)]
#[repr(C, align(64))]
struct Flow<S> {
    key: FlowKey,
    last_seen: TimestampNs,
    /// When the connection ended; [`NEVER`] while it is open.
    over_at: TimestampNs,
    connection: Connection,
    handshake: Handshake,
    state: S,
    /// The flow's position in `holes` or `visits`: the earlier one.
    watched_until: PackedOption<TimestampNs>,
    /// The side that spoke first.
    opener: Direction,
    /// Payload has passed.
    is_used: bool,
    /// Payload has passed, and both sides have spoken.
    is_settled: bool,
}

/// How to handle a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It belongs to this flow.
    Flow(FlowIndex),
    /// This flow has ended: end it (`flush`, `remove`), then ask again.
    Ended(FlowIndex, End),
    /// The same, and the segment belongs to the connection that has replaced it.
    Replaced(FlowIndex, End),
    /// The grace of a hole in this flow has ended, or what is under way is due: call `catch_up`,
    /// then ask again. Giving up the hole may close the flow, and that decides which flow the
    /// segment belongs to.
    Overdue(FlowIndex),
    /// It belongs to no flow, and does not begin one.
    Unknown,
}

/// When something is due on a flow; [`NEVER`] stands for not at all.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// The grace of a hole has ended.
    hole: TimestampNs,
    /// It is asked what is under way.
    visit: TimestampNs,
}

/// The connections of one shard, each with a state `S` of the protocol layer.
#[derive(Debug)]
pub struct FlowTable<S> {
    context: ReassemblyContext,
    /// The smaller of the two timeouts. No flow that was quiet for less has expired.
    timeout_least_ns: u64,
    active_timeout: Option<ActiveTimeout>,
    /// Has a random seed, so that somebody who chooses the endpoints cannot choose the buckets.
    hasher: RandomState,
    index: Index,
    slots: Slots<Flow<S>>,
    free: Vec<u32>,
    /// The flows on which only one side has spoken.
    unanswered: Unanswered,
    /// What may belong to a connection that is joined a moment later.
    strays: Strays,
    /// The slot where the next search for idle flows begins.
    cursor: usize,
    /// Flows with a hole, each once, sorted by the end of its grace. A sorted set, because
    /// timestamps of several interfaces or of a file are not in order. It always contains a last
    /// entry that is never due: a set frees its memory each time it becomes empty.
    holes: BTreeSet<(TimestampNs, u32)>,
    /// The same for the next visits to what is under way.
    visits: BTreeSet<(TimestampNs, u32)>,
    /// What is due on the flows that are visited and have a hole. It is no field of a flow, because
    /// few are in such a state.
    visited_with_hole: HashMap<u32, Due, RandomState>,
    /// The hashes of the keys that were announced last, and the index of the next one.
    announced: ([u32; STEP_FRAMES], usize),
}

impl<S: Default> FlowTable<S> {
    /// How many segments in advance a segment is best announced.
    pub const ANNOUNCED_FRAMES: usize = 2 * STEP_FRAMES;

    /// The memory of one flow in the table, whether it is active or not.
    pub const FLOW_BYTES: usize = size_of::<Option<Flow<S>>>();

    /// An empty table with these limits.
    pub fn new(limits: FlowConfig) -> FlowTable<S> {
        let pool = ReorderPool::new(limits.reorder_bytes_shard_max);
        let timeout_least_ms = limits.idle_timeout_ms.min(limits.closed_timeout_ms);
        let active_timeout = limits.active_timeout_ms.map(ActiveTimeout::new);
        FlowTable {
            context: ReassemblyContext {
                limits,
                is_filtered: false,
                horizon: NEVER,
                pool,
                stats: FlowStats::default(),
            },
            timeout_least_ns: timeout_least_ms.saturating_mul(1_000_000),
            active_timeout,
            hasher: RandomState::default(),
            index: Index::new(),
            slots: Slots::new(),
            free: Vec::new(),
            unanswered: Unanswered::default(),
            strays: Strays::default(),
            cursor: 0,
            holes: BTreeSet::from([(NEVER, u32::MAX)]),
            visits: BTreeSet::from([(NEVER, u32::MAX)]),
            visited_with_hole: HashMap::default(),
            announced: ([0; STEP_FRAMES], 0),
        }
    }

    /// Segments come through a filter that cuts off data of bodies. A payload of which nothing
    /// reaches user space was cut off and is not lost.
    pub fn set_filtered(&mut self) {
        self.context.is_filtered = true;
    }

    /// Segments from before `horizon` have all arrived. A hole whose grace ends later is not given
    /// up yet: another shard may still pass on what is missing. Without a call there is no horizon.
    pub fn set_horizon(&mut self, horizon: TimestampNs) {
        self.context.horizon = horizon;
    }

    /// The counters of this module.
    pub fn stats(&self) -> &FlowStats {
        &self.context.stats
    }

    /// Flows in the table.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The number of slots, in use or free.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// Flows on which something is due at a certain time.
    pub fn watched_count(&self) -> usize {
        self.holes.len() + self.visits.len() - 2
    }

    /// The memory of segments that wait behind holes: at most `reorder_bytes_shard_max` and one
    /// segment.
    pub fn buffered_bytes(&self) -> usize {
        self.context.pool.segments.used_bytes
    }

    /// The flow of `segment`, after obstacles have been ended or given up. `None` if the segment
    /// belongs to no flow and does not begin one.
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

    /// The same, with an obstacle.
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
                Admission::Ended(index, end) => self.end(index, end, events),
                Admission::Replaced(index, end) => {
                    self.end_for_next(index, end, Some(segment), events);
                }
                Admission::Overdue(index) => {
                    self.catch_up(index, segment.timestamp, events);
                }
            }
            obstacle = self.admit(segment);
        }
    }

    /// Ends a flow: delivers everything that waits in it, and removes it from the table. If another
    /// connection has probably followed on the same endpoints, it takes the place, unless that must
    /// become free.
    #[cold]
    pub fn end(&mut self, index: FlowIndex, end: End, events: &mut impl FlowEvents<S>) {
        let next = self.end_for_next(index, end, None, events);
        if let Some(next) = next.filter(|_| matches!(end, End::Exit | End::Evicted | End::Shed)) {
            self.end(next, end, events);
        }
    }

    /// Ends a flow. Returns the flow of the connection that has replaced it, if its first segments
    /// were held. Without a `segment` that shows it, it is only probable that it has.
    #[cold]
    fn end_for_next(
        &mut self,
        index: FlowIndex,
        end: End,
        segment: Option<&Segment<'_>>,
        events: &mut impl FlowEvents<S>,
    ) -> Option<FlowIndex> {
        self.flush(index, |key, handshake, state, direction, chunk| {
            events.chunk(key, handshake, state, direction, chunk);
        });
        if let Some((key, handshake, state)) = self.parts(index) {
            events.ended(key, handshake, state, end);
        }
        let (key, next) = self.remove(index, end, segment)?;
        self.replay(&key, &next, events)
    }

    /// Passes the first segments of a connection that has replaced another one to a new flow.
    fn replay(
        &mut self,
        key: &FlowKey,
        held: &[HeldSegment],
        events: &mut impl FlowEvents<S>,
    ) -> Option<FlowIndex> {
        let mut index = None;
        for held in held {
            let segment = held.segment();
            self.context.stats.take_back_refusal(segment.payload.len());
            let index = *index.get_or_insert_with(|| {
                let handshake = Handshake { began_at: segment.timestamp, ..Handshake::default() };
                self.insert(&segment, self.hash(key), Connection::joined_at(&segment), handshake)
            });
            self.accept(index, &segment, |key, handshake, state, direction, chunk| {
                events.chunk(key, handshake, state, direction, chunk);
            });
        }
        index
    }

    /// Finds the flow of `segment`, or creates it. A handshake begins a flow, and so does payload
    /// that begins like a message or like frames; the kernel filter has the same rule. Others of
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
        let horizon = self.context.horizon;
        let is_due = |deadline| deadline < segment.timestamp.min(horizon);
        if flow.watched_until.get().is_some_and(is_due) {
            return Admission::Overdue(FlowIndex(slot));
        }
        let quiet_ns = segment.timestamp.since(flow.last_seen);
        if quiet_ns > self.timeout_least_ns {
            // A SYN is never a late packet: it begins something, even with an old number.
            let late_ns = if segment.flags.is_syn() { 0 } else { late_ns(flow) };
            if quiet_ns > timeout_ns(flow, &self.context.limits, late_ns) {
                return Admission::Ended(FlowIndex(slot), unless_closed(flow, End::Idle));
            }
        }
        let (connection, handshake) = (&mut flow.connection, &mut flow.handshake);
        match connection.ownership(segment, handshake, flow.over_at, &mut self.context) {
            Ownership::Own => Admission::Flow(FlowIndex(slot)),
            Ownership::Next => {
                Admission::Replaced(FlowIndex(slot), unless_closed(flow, End::Reused))
            }
            Ownership::Unclear => Admission::Unknown,
        }
    }

    /// A segment of `key` comes soon: prefetches the memory it will need. This takes two steps,
    /// because the first one yields the address for the second. The second step follows after a few
    /// more announcements.
    #[inline]
    pub fn announce(&mut self, key: &FlowKey) {
        let hash = self.hash(key);
        self.index.prefetch(hash);
        let step = self.announced.1 % STEP_FRAMES;
        let before = std::mem::replace(&mut self.announced.0[step], hash);
        self.announced.1 = step + 1;
        if let Some(slot) = self.index.find(before, |_| true)
            && let Some(slot) = self.slots.get(slot as usize)
        {
            simd::prefetch_item(slot);
        }
    }

    #[inline]
    fn hash(&self, key: &FlowKey) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    fn admit_new(&mut self, segment: &Segment<'_>, hash: u32) -> Admission {
        if !segment.flags.is_syn() && !is_worth_joining(segment.payload) {
            self.context.stats.segments_unknown += 1;
            self.keep_stray(segment);
            return Admission::Unknown;
        }
        if self.index.len() >= self.context.limits.flow_count_max {
            return Admission::Ended(self.eviction_choice(segment.timestamp), End::Evicted);
        }
        let handshake = Handshake { began_at: segment.timestamp, ..Handshake::default() };
        let index = self.insert(segment, hash, Connection::joined_at(segment), handshake);
        if !segment.flags.is_syn() {
            self.adopt_strays(index, segment);
        }
        Admission::Flow(index)
    }

    fn insert(
        &mut self,
        segment: &Segment<'_>,
        hash: u32,
        connection: Connection,
        handshake: Handshake,
    ) -> FlowIndex {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        let flow = Flow {
            key: segment.key,
            handshake,
            connection,
            last_seen: segment.timestamp,
            over_at: NEVER,
            watched_until: PackedOption::NONE,
            opener: handshake.client.unwrap_or(segment.direction),
            is_used: false,
            is_settled: false,
            state: S::default(),
        };
        self.unanswered.all.insert(slot as usize);
        if (slot as usize) < self.slots.len() {
            self.slots[slot as usize] = Some(flow);
        } else {
            self.slots.push(flow);
        }
        self.index.insert(hash, slot);
        self.context.stats.flows += 1;
        if self.active_timeout.is_some() {
            self.watch_active(FlowIndex(slot), segment.timestamp);
        }
        FlowIndex(slot)
    }

    /// Passes `segment` to its flow, and what is in order now to `visit`. Returns whether the
    /// connection is closed now.
    #[inline(always)]
    pub fn accept(
        &mut self,
        index: FlowIndex,
        segment: &Segment<'_>,
        mut visit: impl FnMut(&FlowKey, &Handshake, &mut S, Direction, Chunk<'_>),
    ) -> bool {
        let Some(flow) = self.slots[index.0 as usize].as_mut() else { return false };
        if !flow.is_settled {
            flow.learn(index.0 as usize, segment, &mut self.unanswered);
        }
        let (seen_before, refused) = (flow.last_seen, self.context.stats.left_refused());
        flow.last_seen = flow.last_seen.max(segment.timestamp);
        if segment.flags.is_syn() {
            flow.connection.learn_handshake(segment, &mut flow.handshake);
        }
        let (key, handshake, state) = (&flow.key, &flow.handshake, &mut flow.state);
        flow.connection.accept(segment, &mut self.context, &mut |direction, chunk| {
            visit(key, handshake, state, direction, chunk);
        });
        if flow.connection.is_on_fast_path() {
            return false;
        }
        let is_refused = self.context.stats.left_refused() > refused;
        self.look_after(index, seen_before, is_refused)
    }

    /// Whether the receiver discards `segment`, which decides about its connection, because of its
    /// checksum. Counts it.
    #[cold]
    pub fn discards(&mut self, index: FlowIndex, segment: &Segment<'_>) -> bool {
        let flow = self.slots[index.0 as usize].as_ref();
        let is_wrong = flow.is_some_and(|flow| flow.connection.has_wrong_checksum(segment));
        if is_wrong {
            self.context.stats.checksums_wrong += 1;
            self.context.stats.bytes_refused += segment.payload.len() as u64;
        }
        is_wrong
    }

    /// Whether what passed on a connection is beyond doubt; see [`Connection::is_proven`].
    #[cold]
    pub fn is_proven(
        &self,
        index: FlowIndex,
        evidence: impl Fn(&S) -> Option<(Direction, SeqNumber)>,
    ) -> bool {
        let flow = self.slots[index.0 as usize].as_ref();
        flow.is_some_and(|flow| flow.connection.is_proven(evidence(&flow.state)))
    }

    /// The bytes of this flow are no longer wanted. Its segments are skipped from now on, and it is
    /// only remembered.
    pub fn bypass(&mut self, index: FlowIndex, bypassed: Bypassed) {
        if let Some(flow) = self.slots[index.0 as usize].as_mut() {
            flow.connection.bypass(bypassed, &mut self.context.pool);
        }
    }

    /// Delivers everything that waits in a flow that is about to end.
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

    /// Removes a flow from the table. Returns its key and the first segments of the connection that
    /// replaces it, if any were held.
    pub(super) fn remove(
        &mut self,
        index: FlowIndex,
        end: End,
        segment: Option<&Segment<'_>>,
    ) -> Option<(FlowKey, Vec<HeldSegment>)> {
        let mut flow = self.slots[index.0 as usize].take()?;
        let was_burst = flow.last_seen.since(flow.handshake.began_at) <= BURST_NS_MAX;
        let next = flow.connection.take_next(segment, was_burst, &mut self.context.pool);
        flow.connection.forget_reorder_state(&mut self.context.pool);
        if !flow.watched_until.is_none() {
            self.unwatch(index.0, self.due(index.0, &flow));
        }
        if !flow.handshake.is_answered() {
            self.unanswered.remove(index.0 as usize, flow.is_used);
            let has_network = flow.key.has_network();
            self.context.stats.flows_one_sided += u64::from(flow.is_used);
            self.context.stats.flows_one_sided_in_networks +=
                u64::from(flow.is_used && has_network);
        }
        let hash = self.hash(&flow.key);
        self.index.remove(hash, index.0);
        self.free.push(index.0);
        match end {
            End::Idle => self.context.stats.flows_idle += 1,
            End::Evicted => self.context.stats.flows_evicted += 1,
            End::Reused => self.context.stats.flows_reused += 1,
            _ => {}
        }
        Some((flow.key, next))
    }

    /// The state of a flow, with its key and handshake, to end what is in progress on it.
    pub fn parts(&mut self, index: FlowIndex) -> Option<(&FlowKey, &Handshake, &mut S)> {
        let flow = self.slots[index.0 as usize].as_mut()?;
        Some((&flow.key, &flow.handshake, &mut flow.state))
    }

    /// The connection of a flow, with its key, handshake and state, to send flow hints to the
    /// source.
    pub fn link(
        &mut self,
        index: FlowIndex,
    ) -> Option<((&FlowKey, &Handshake), &mut Connection, &mut S)> {
        let flow = self.slots[index.0 as usize].as_mut()?;
        Some(((&flow.key, &flow.handshake), &mut flow.connection, &mut flow.state))
    }

    /// The next flow whose timeout has expired at `now`, among the next `effort` slots. Reduces
    /// `effort` by the slots it looked at. When a flow is looked at makes no difference to the
    /// records: `admit` checks the timeouts as well.
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
                // What is due before is told first.
                && self.due(slot as u32, flow).visit >= now
            {
                return Some((FlowIndex(slot as u32), unless_closed(flow, End::Idle)));
            }
        }
        None
    }

    /// All flows, in the order of their slots. This is nearly the order in which they came.
    pub fn indices(&self) -> Vec<FlowIndex> {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        taken.map(|(slot, _)| FlowIndex(slot as u32)).collect()
    }
}

/// The weight of something that has existed since `since`: its size multiplied by its age.
pub fn memory_weight(weight: u64, now: TimestampNs, since: TimestampNs) -> u64 {
    weight.saturating_mul(now.since(since).saturating_add(1))
}

/// A closed connection has already ended, whatever ends it now.
fn unless_closed<S>(flow: &Flow<S>, end: End) -> End {
    if flow.connection.is_closed() { End::Fin } else { end }
}

/// How long after the end of the connection packets still arrived.
fn late_ns<S>(flow: &Flow<S>) -> u64 {
    flow.last_seen.since(flow.over_at)
}

/// How long the flow may be quiet. A sender that does not notice the end of the connection
/// retransmits at intervals that double; each one is about as long as all before it.
fn timeout_ns<S>(flow: &Flow<S>, limits: &FlowConfig, late_ns: u64) -> u64 {
    let idle_ns = limits.idle_timeout_ms.saturating_mul(1_000_000);
    if !flow.connection.is_short_lived() {
        return if flow.connection.is_counted() {
            idle_ns.saturating_mul(QUIET_FACTOR)
        } else {
            idle_ns
        };
    }
    let closed_ns = limits.closed_timeout_ms.saturating_mul(1_000_000);
    closed_ns.saturating_add(late_ns.saturating_mul(2)).min(idle_ns.max(closed_ns))
}
