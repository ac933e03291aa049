//! The data path on one page: segments go in, events come out. It does admission, reassembly,
//! protocol, sweep and memory relief. Shards, tests, fuzz targets and users of the library all run
//! this code.
//!
//! ```no_run
//! use httplines::{CaptureFile, Config, Event, Pipeline};
//! use std::collections::HashMap;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut hosts = HashMap::new();
//! let mut pipeline = Pipeline::new(&Config::default(), |event: Event<'_>| {
//!     if let Event::Exchange(exchange) = event {
//!         *hosts.entry(exchange.host().to_owned()).or_insert(0) += 1;
//!     }
//! });
//! pipeline.read(CaptureFile::open("trace.pcapng")?)?;
//! pipeline.finish();
//! # Ok(())
//! # }
//! ```

use crate::capture::{Frame, FrameSource, Lookahead, Polled, SourceError};
use crate::config::Config;
use crate::decode::{Decoder, OwnedSegment, Reject, Segment};
use crate::flow::{ActiveVisit, Bypassed, Chunk, End, FlowEvents, FlowIndex, FlowTable, Handshake};
use crate::ids::{Direction, FlowKey, Share};
use crate::protocol::{self, Context, FlowRef, Interest, Shared};
use crate::record::EventSink;
use crate::sys::flow_hints::{FlowHints, HintFlags};
use crate::time::TimestampNs;
use crossing::Inward;
use feedback::{Feedback, FlowState};

mod crossing;
mod feedback;
mod partition;
#[cfg(test)]
mod retransmission_tests;
mod stats;
#[cfg(test)]
mod straight_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy_tests;
#[cfg(test)]
mod wire_tests;

pub use crossing::Crossing;
pub use partition::{FileRoute, Part, Partition};
pub use stats::{PipelineGauges, PipelineStats};

/// Slots of the flow table that are checked for idle flows after each poll, in addition to two for
/// each frame.
const SWEEP_SLOTS_MIN: usize = 256;

/// Without frames, polls are rarer, and each counts as so many frames.
const SWEEP_FRAMES_IDLE: usize = 1024;

/// When memory runs short, this many slots of the flow table are searched after a frame for flows
/// to take memory from.
const RELIEF_SLOTS: usize = 256;

/// When nearly half of the memory is used, at most this many connections without an answer are
/// dropped after a frame.
const RELIEF_UNANSWERED_COUNT: usize = 16;

/// More flows than this do not fit into the CPU's own caches, so it pays to prefetch. With fewer,
/// looking ahead costs what it saves (20,000 flows) or more (8,000: 6% of the time).
const CROWD_FLOWS: usize = 1 << 15;

/// All stages between a source of frames and a sink of events, in one thread.
#[derive(Debug)]
pub struct Pipeline<S> {
    /// Separate from the rest, because a segment may borrow from it: it owns the datagrams that
    /// were reassembled from fragments.
    decoder: Decoder,
    /// What other shards pass on to this one, if there are others.
    inward: Option<Inward>,
    /// The share of the connections that is captured, if that changes, and what it was last.
    share: Option<(Share, u32)>,
    /// The time of the last frame of a source that has ended.
    ended_at: Option<TimestampNs>,
    connections: Connections<S>,
}

impl<S: EventSink> Pipeline<S> {
    /// A pipeline with the limits of `config`. It sends its events to `sink`. It does not use the
    /// input and output of `config`.
    pub fn new(config: &Config, sink: S) -> Pipeline<S> {
        let connections = Connections {
            partition: Partition::All,
            flows: FlowTable::new(config.flow.clone()),
            shared: Shared::new(config.http.clone(), sink),
            feedback: None,
            stats: PipelineStats::default(),
            oldest: None,
            last_frame: None,
        };
        let decoder = Decoder::new(config.decode.clone());
        Pipeline { decoder, inward: None, share: None, ended_at: None, connections }
    }

    /// Processes only a part of the flows.
    pub fn with_partition(mut self, partition: Partition) -> Pipeline<S> {
        self.connections.partition = partition;
        self
    }

    /// Exchanges joined datagrams with other shards: their fragments meet on one shard, which may
    /// not be that of their connection.
    pub fn with_crossing(mut self, crossing: Crossing) -> Pipeline<S> {
        let (outward, inward) = crossing.split();
        self.decoder.set_forward(Some(Box::new(outward)));
        self.connections.flows.set_horizon(inward.horizon());
        self.inward = Some(inward);
        self
    }

    /// For frames that come through a kernel filter. The filter reads `hints`
    /// ([`FrameSource::hints`]), if there are any. They keep unwanted connections in the kernel,
    /// and bodies with at least `elide_bytes_min` bytes to come (`None`: no bodies).
    pub fn with_filter(
        mut self,
        hints: Option<FlowHints>,
        elide_bytes_min: Option<u64>,
    ) -> Pipeline<S> {
        if let Some(hints) = hints {
            self.connections.flows.set_filtered();
            self.connections.feedback = Some(Feedback::new(hints, elide_bytes_min));
        }
        self
    }

    /// Follows the `share` of connections that is captured ([`FrameSource::share`]), if it changes.
    pub fn with_share(mut self, share: Option<Share>) -> Pipeline<S> {
        self.share = share.map(|share| (share.clone(), share.get()));
        self
    }

    /// Reads `source` to its end. (A live source has no end: see [`Pipeline::poll`].)
    ///
    /// # Errors
    /// Those of the source. All frames before the error were processed.
    pub fn read(&mut self, mut source: impl FrameSource) -> Result<(), SourceError> {
        while self.poll(&mut source)? != Polled::End {}
        Ok(())
    }

    /// Processes the frames that `source` has now, and ends connections that were idle for too
    /// long.
    ///
    /// # Errors
    /// Those of the source. All frames before the error were processed.
    #[inline(always)]
    pub fn poll(&mut self, source: &mut impl FrameSource) -> Result<Polled, SourceError> {
        if let Some((share, last)) = &self.share
            && let share_max = share.get()
            && share_max != *last
        {
            self.change_share(share_max);
        }
        let before = self.inward.as_ref().and_then(|_| source.now());
        self.take_over();
        self.connections.oldest = None;
        let polled = if self.connections.flows.len() > CROWD_FLOWS {
            self.poll_ahead(source)?
        } else {
            source.poll(&mut |frame| self.frame(&frame))?
        };
        if let Some(oldest) = source.oldest() {
            let known = self.connections.oldest.unwrap_or(oldest);
            self.connections.oldest = Some(known.min(oldest));
        }
        if let Some(inward) = &self.inward {
            let idle = before.filter(|_| polled == Polled::Idle);
            inward.publish_progress(self.connections.oldest.or(idle));
            // Again, since the source may have waited.
            self.take_over();
        }
        self.connections.last_frame = self.connections.oldest.or(self.connections.last_frame);
        let frame_count = match polled {
            Polled::Frames(count) => count,
            Polled::Idle => SWEEP_FRAMES_IDLE,
            Polled::End => {
                self.ended_at = source.ended_at();
                SWEEP_FRAMES_IDLE
            }
        };
        if let Some(now) = self.connections.oldest.or_else(|| source.now()) {
            self.connections.sweep(now, frame_count);
        }
        Ok(polled)
    }

    /// From now on processes only connections whose hash is at most `share_max`, and ends the
    /// others.
    #[cold]
    #[inline(never)]
    fn change_share(&mut self, share_max: u32) {
        let Some((_, last)) = &mut self.share else { return };
        let is_smaller = share_max < std::mem::replace(last, share_max);
        self.decoder.set_share(share_max);
        let Connections { flows, .. } = &mut self.connections;
        for index in if is_smaller { flows.indices() } else { Vec::new() } {
            let flows = &mut self.connections.flows;
            let is_outside = |(key, ..): (&FlowKey, _, _)| key.sample_hash() > share_max;
            if flows.parts(index).is_some_and(is_outside) {
                self.connections.end(index, End::Shed);
            }
        }
    }

    /// The same for many flows: the flow of a frame is prefetched while the frames before it are
    /// processed.
    #[inline(never)]
    fn poll_ahead(&mut self, source: &mut impl FrameSource) -> Result<Polled, SourceError> {
        source.poll_ahead(
            FlowTable::<FlowState>::ANNOUNCED_FRAMES,
            &mut |lookahead| match lookahead {
                Lookahead::Here(frame) => self.frame(frame),
                Lookahead::Ahead(frame) => {
                    if let Some(key) = Decoder::flow_ahead(frame) {
                        self.connections.flows.announce(&key);
                    }
                }
            },
        )
    }

    /// Processes the segments that other shards have passed on. What others have not read yet, they
    /// may still pass on: no hole is given up before that.
    #[inline]
    fn take_over(&mut self) {
        let Some(inward) = &self.inward else { return };
        if self.connections.flows.watched_count() > 0 {
            self.connections.flows.set_horizon(inward.horizon());
        }
        if !inward.is_empty() {
            self.connections.take_over(|| inward.take());
        }
    }

    /// Passes on nothing more. With `is_orderly`, waits until no other shard does, and processes
    /// what they have passed on.
    pub fn end_crossing(&mut self, is_orderly: bool) {
        self.decoder.set_forward(None);
        if let Some(inward) = self.inward.take() {
            inward.publish_progress(Some(TimestampNs(u64::MAX)));
            self.connections.take_over(|| if is_orderly { inward.wait() } else { inward.take() });
        }
    }

    /// Processes one frame.
    #[inline(always)]
    pub fn frame(&mut self, frame: &Frame<'_>) {
        self.connections.frame(frame, &self.decoder.decode(frame));
    }

    /// Processes one segment, for callers that decode frames themselves.
    #[inline]
    pub fn segment(&mut self, segment: &Segment<'_>) {
        self.connections.segment(segment);
    }

    /// Packet time has reached `now`: gives up holes whose grace period is over, and checks a few
    /// flows, to end those that were idle for too long. [`Pipeline::poll`] does this after each
    /// poll.
    pub fn sweep(&mut self, now: TimestampNs) {
        self.connections.sweep(now, 0);
    }

    /// Ends every connection, since no more frames come.
    pub fn finish(&mut self) {
        if let Some(now) = self.ended_at.filter(|_| self.connections.flows.tells_active()) {
            self.connections.settle_all(now);
        }
        for index in self.connections.flows.indices() {
            self.connections.end(index, End::Exit);
        }
    }

    /// Where events go.
    pub fn sink(&self) -> &S {
        &self.connections.shared.recorder.sink
    }

    /// Where events go.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.connections.shared.recorder.sink
    }

    /// Frames processed so far.
    pub fn frame_count(&self) -> u64 {
        self.connections.stats.frames
    }

    /// All counters.
    pub fn stats(&self) -> PipelineStats {
        let Connections { partition, flows, shared, feedback, stats, .. } = &self.connections;
        let datagrams = partition.counts_strays().then(|| self.decoder.stats().clone());
        PipelineStats {
            datagrams: datagrams.unwrap_or_default(),
            flow: flows.stats().clone(),
            protocol: shared.stats(),
            hints: feedback.as_ref().map(Feedback::stats).unwrap_or_default(),
            ..stats.clone()
        }
    }

    /// What is held now.
    pub fn gauges(&self) -> PipelineGauges {
        let Connections { flows, shared, .. } = &self.connections;
        PipelineGauges {
            connections: flows.len() as u64,
            exchanges: shared.exchanges_in_use() as u64,
            flow_bytes: (flows.slot_count() * FlowTable::<FlowState>::FLOW_BYTES) as u64,
            reorder_bytes: flows.buffered_bytes() as u64,
            exchange_bytes: shared.held_bytes() as u64,
            fragment_bytes: self.decoder.fragment_bytes() as u64,
            last_frame: self.connections.last_frame,
        }
    }

    /// Bytes that are held now: segments that wait behind holes, and messages in progress.
    pub fn held_bytes(&self) -> [usize; 2] {
        [self.connections.flows.buffered_bytes(), self.connections.shared.held_bytes()]
    }

    /// Exchanges in progress.
    pub fn exchanges_in_use(&self) -> usize {
        self.connections.shared.exchanges_in_use()
    }
}

/// The stages after the decoder.
#[derive(Debug)]
struct Connections<S> {
    partition: Partition,
    flows: FlowTable<FlowState>,
    shared: Shared<S>,
    /// The feedback to the filter, if there is one.
    feedback: Option<Feedback>,
    stats: PipelineStats,
    /// The smallest timestamp of this poll's frames.
    oldest: Option<TimestampNs>,
    /// The same of the last poll that had frames.
    last_frame: Option<TimestampNs>,
}

impl<S: EventSink> Connections<S> {
    /// Processes one frame, given the outcome of decoding it.
    #[inline(always)]
    fn frame(&mut self, frame: &Frame<'_>, outcome: &Result<Segment<'_>, Reject>) {
        self.oldest = Some(self.oldest.map_or(frame.timestamp, |old| old.min(frame.timestamp)));
        if !self.partition.holds(outcome) {
            return;
        }
        self.stats.frames += 1;
        self.stats.frame_bytes += frame.bytes.len() as u64;
        self.stats.decode.count(outcome);
        let Ok(segment) = outcome else { return };
        self.stats.frames_bare +=
            u64::from(segment.payload.is_empty() && segment.payload_wire_bytes > 0);
        self.segment(segment);
    }

    /// Processes segments that other shards have passed on, until there is none.
    #[cold]
    fn take_over(&mut self, mut next: impl FnMut() -> Option<OwnedSegment>) {
        while let Some(owned) = next() {
            self.stats.segments_taken_over += 1;
            self.segment(&owned.segment());
        }
    }

    /// Passes a segment to its flow, and the bytes that are now in order to the protocol.
    #[inline(always)]
    fn segment(&mut self, segment: &Segment<'_>) {
        let Connections { flows, shared, feedback, .. } = self;
        let mut events = Events { shared, feedback: feedback.as_mut() };
        let Some(index) = flows.enter(segment, &mut events) else {
            if flows.is_short() {
                self.relieve(segment.timestamp);
            }
            return;
        };
        if protocol::is_decisive(segment.payload) && flows.discards(index, segment) {
            return;
        }
        let mut interest = Interest::Undecided;
        let is_closed = match flows.take_whole(index, segment) {
            Some((key, handshake, state, meta)) => {
                let cx = &mut Context { flow: FlowRef { key, handshake }, shared: events.shared };
                state.protocol.next_bytes(cx, segment.direction, segment.payload, &meta);
                interest = state.protocol.interest();
                false
            }
            None => flows.accept(index, segment, |key, handshake, state, direction, chunk| {
                let cx = &mut Context { flow: FlowRef { key, handshake }, shared: events.shared };
                state.protocol.chunk(cx, direction, chunk);
                interest = state.protocol.interest();
            }),
        };
        if is_closed {
            self.close(index, End::Fin);
        } else if let (Interest::Wanted, Some(feedback)) = (interest, &mut self.feedback) {
            feedback.follow(&mut self.flows, index, &mut self.shared);
        }
        match interest {
            Interest::Undecided | Interest::Wanted => {}
            // Somebody may have forged what it rests on.
            _ if !self.flows.is_proven(index, |state| state.protocol.evidence()) => {}
            Interest::Encrypted => self.flows.bypass(index, Bypassed::Closed),
            Interest::End => self.count(index),
            Interest::Foreign => self.dismiss(index, HintFlags::FOREIGN, Bypassed::Living),
            Interest::Dormant => self.dismiss(index, HintFlags::OTHER, Bypassed::Dormant),
        }
        if self.flows.is_short() || self.shared.is_half_used() {
            self.relieve(segment.timestamp);
        }
    }

    /// Only the end of the connection and its length are wanted. The filter is told so, since it
    /// does not recognise all such connections by itself.
    #[cold]
    fn count(&mut self, index: FlowIndex) {
        let Connections { flows, shared, feedback, .. } = self;
        if let Some(feedback) = feedback {
            feedback.dismiss(flows, index, HintFlags::TLS);
        }
        let mut events = Events { shared, feedback: feedback.as_mut() };
        flows.begin_count(index, events.chunks());
    }

    #[cold]
    fn relieve(&mut self, now: TimestampNs) {
        let Connections { flows, shared, feedback, .. } = self;
        Events { shared, feedback: feedback.as_mut() }.relieve(flows, now);
    }

    /// Stops processing the connection, and reports that to the filter.
    fn dismiss(&mut self, index: FlowIndex, verdict: HintFlags, bypassed: Bypassed) {
        if let Some(feedback) = &mut self.feedback {
            feedback.dismiss(&mut self.flows, index, verdict);
        }
        self.flows.bypass(index, bypassed);
    }

    /// Packet time has reached `now`, and `frame_count` frames came.
    fn sweep(&mut self, now: TimestampNs, frame_count: usize) {
        let Connections { flows, shared, feedback, .. } = self;
        let mut events = Events { shared, feedback: feedback.as_mut() };
        let mut effort = SWEEP_SLOTS_MIN + frame_count;
        while flows.settle_next(now, &mut effort, &mut events) {
            if flows.is_short() || events.shared.is_half_used() {
                // Many may have waited for the same moment.
                events.relieve(flows, now);
            }
        }
        // One round is enough: nothing ages in the meantime.
        let mut effort = flows.slot_count().min(SWEEP_SLOTS_MIN + 2 * frame_count);
        while let Some((index, end)) = flows.next_expired(now, &mut effort) {
            flows.end(index, end, &mut events);
        }
    }

    /// Packet time has reached `now`, and all packets have come: tells what was due before.
    #[cold]
    fn settle_all(&mut self, now: TimestampNs) {
        let Connections { flows, shared, feedback, .. } = self;
        let mut events = Events { shared, feedback: feedback.as_mut() };
        flows.set_horizon(TimestampNs(u64::MAX));
        let mut effort = usize::MAX;
        while flows.settle_next(now, &mut effort, &mut events) {}
    }

    /// Ends everything in progress on a connection. The connection is remembered for its late
    /// packets.
    fn close(&mut self, index: FlowIndex, end: End) {
        let Connections { flows, shared, feedback, .. } = self;
        if let Some((key, handshake, state)) = flows.parts(index) {
            Events { shared, feedback: feedback.as_mut() }.close(key, handshake, state, end);
        }
    }

    /// Removes the connection from the table.
    fn end(&mut self, index: FlowIndex, end: End) {
        let Connections { flows, shared, feedback, .. } = self;
        flows.end(index, end, &mut Events { shared, feedback: feedback.as_mut() });
    }
}

/// Passes the flow table's events on to the connections' protocols and to the filter.
struct Events<'a, S> {
    shared: &'a mut Shared<S>,
    feedback: Option<&'a mut Feedback>,
}

impl<S: EventSink> Events<'_, S> {
    /// Memory runs short: the largest and oldest are dropped first. This leaves memory for
    /// connections that come and go. Connections without an answer are dropped before busy
    /// connections would have to give up requests.
    #[cold]
    fn relieve(&mut self, flows: &mut FlowTable<FlowState>, now: TimestampNs) {
        let mut effort = RELIEF_SLOTS;
        while flows.is_short() && flows.relieve(now, &mut effort, self.chunks()) {
            // What had waited takes other memory now.
            self.relieve_unanswered(flows, now);
        }
        self.relieve_unanswered(flows, now);
        let weight = |state: &FlowState, since| state.protocol.memory_weight(now, since);
        let mut effort = RELIEF_SLOTS;
        while self.shared.is_short()
            && let is_urgent = self.shared.is_very_short()
            && let Some(index) = flows.heaviest_state(&mut effort, is_urgent, weight)
        {
            self.relieve_flow(flows, index);
        }
    }

    /// Drops some connections without an answer if half of the memory is used.
    fn relieve_unanswered(&mut self, flows: &mut FlowTable<FlowState>, now: TimestampNs) {
        let weight = |state: &FlowState, since| state.protocol.memory_weight(now, since);
        for _ in 0..RELIEF_UNANSWERED_COUNT {
            if !self.shared.is_half_used() {
                return;
            }
            let Some(index) = flows.heaviest_unanswered_state(weight) else { return };
            self.relieve_flow(flows, index);
        }
    }

    /// Takes memory from a flow; from one that can do without none, by ending it.
    fn relieve_flow(&mut self, flows: &mut FlowTable<FlowState>, index: FlowIndex) {
        let is_relieved = flows.parts(index).is_some_and(|(key, handshake, state)| {
            let flow = FlowRef { key, handshake };
            state.protocol.relieve(&mut Context { flow, shared: self.shared })
        });
        if !is_relieved {
            flows.end(index, End::Evicted, self);
        }
    }

    fn chunks(
        &mut self,
    ) -> impl FnMut(&FlowKey, &Handshake, &mut FlowState, Direction, Chunk<'_>) + '_ {
        |key, handshake, state, direction, chunk| {
            self.chunk(key, handshake, state, direction, chunk)
        }
    }

    fn close(&mut self, key: &FlowKey, handshake: &Handshake, state: &mut FlowState, end: End) {
        let flow = FlowRef { key, handshake };
        state.protocol.end(&mut Context { flow, shared: self.shared }, end);
        if let Some(feedback) = &mut self.feedback {
            feedback.close(&mut state.hint);
        }
    }
}

impl<S: EventSink> FlowEvents<FlowState> for Events<'_, S> {
    fn chunk(
        &mut self,
        key: &FlowKey,
        handshake: &Handshake,
        state: &mut FlowState,
        direction: Direction,
        chunk: Chunk<'_>,
    ) {
        let flow = FlowRef { key, handshake };
        state.protocol.chunk(&mut Context { flow, shared: self.shared }, direction, chunk);
    }

    fn active(
        &mut self,
        key: &FlowKey,
        handshake: &Handshake,
        state: &mut FlowState,
        visit: &mut ActiveVisit,
    ) {
        let flow = FlowRef { key, handshake };
        state.protocol.report_active(&mut Context { flow, shared: self.shared }, visit);
    }

    fn ended(&mut self, key: &FlowKey, handshake: &Handshake, state: &mut FlowState, end: End) {
        self.close(key, handshake, state, end);
        self.shared.count_flow(state.protocol.carried());
        state.protocol.leave(self.shared);
        if let Some(feedback) = &mut self.feedback {
            feedback.forget(&mut state.hint);
        }
    }
}
