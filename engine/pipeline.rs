//! THE page: a segment goes in, events come out. Admission, reassembly, protocol, sweep and memory
//! relief, for everybody: shards, tests, fuzz targets and users of the library.
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
use crate::decode::{Decoder, Reject, Segment};
use crate::flow::{Bypassed, Chunk, End, FlowEvents, FlowIndex, FlowTable, Handshake};
use crate::ids::{Direction, FlowKey};
use crate::protocol::{Context, FlowRef, Interest, Shared};
use crate::record::EventSink;
use crate::sys::flow_hints::FlowHints;
use crate::time::TimestampNs;
use feedback::{Feedback, FlowState};

mod feedback;
mod partition;
mod stats;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy_tests;
#[cfg(test)]
mod wire_tests;

pub use partition::{Part, Partition};
pub use stats::PipelineStats;

/// Slots of the flow table that are looked at for idle flows after each poll, beside two for each
/// frame.
const SWEEP_SLOTS_MIN: usize = 256;

/// Slots of the flow table that are looked at after a frame for flows to take memory from, where it
/// runs short.
const RELIEF_SLOTS: usize = 256;

/// So many flows are more than the CPU's own caches hold. With fewer, to look ahead costs what it
/// saves (20,000 flows) or more (8,000: 6% of the time).
const CROWD_FLOWS: usize = 1 << 15;

/// All stages between a source of frames and a sink of events, of one thread.
#[derive(Debug)]
pub struct Pipeline<S> {
    /// Apart from the rest: a segment may borrow from it, for it owns the datagrams that were put
    /// together of fragments.
    decoder: Decoder,
    connections: Connections<S>,
}

impl<S: EventSink> Pipeline<S> {
    /// One with the limits of `config`. What is found goes to `sink`. Input and output of `config`
    /// are not looked at.
    pub fn new(config: &Config, sink: S) -> Pipeline<S> {
        let connections = Connections {
            partition: Partition::All,
            flows: FlowTable::new(config.flow.clone()),
            shared: Shared::new(config.http.clone(), sink),
            feedback: None,
            stats: PipelineStats::default(),
            oldest: None,
        };
        Pipeline { decoder: Decoder::new(config.decode.clone()), connections }
    }

    /// Takes only a part of the flows.
    pub fn with_partition(mut self, partition: Partition) -> Pipeline<S> {
        self.connections.partition = partition;
        self
    }

    /// Frames come through a kernel filter that reads `hints`, if there are any
    /// ([`FrameSource::hints`]): bodies of `elide_bytes_min` bytes and more to come stay in the
    /// kernel (`None`: no bodies do), and connections that are not wanted.
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

    /// Takes all that `source` has, to its end. (A live source has none: see [`Pipeline::poll`].)
    ///
    /// # Errors
    /// Those of the source. All frames before were taken.
    pub fn read(&mut self, mut source: impl FrameSource) -> Result<(), SourceError> {
        while self.poll(&mut source)? != Polled::End {}
        Ok(())
    }

    /// Takes what `source` has now, and ends what was quiet too long.
    ///
    /// # Errors
    /// Those of the source. All frames before were taken.
    #[inline(always)]
    pub fn poll(&mut self, source: &mut impl FrameSource) -> Result<Polled, SourceError> {
        self.connections.oldest = None;
        let polled = if self.connections.flows.len() > CROWD_FLOWS {
            self.poll_ahead(source)?
        } else {
            source.poll(&mut |frame| self.frame(&frame))?
        };
        let frame_count = if let Polled::Frames(count) = polled { count } else { 0 };
        if let Some(now) = self.connections.oldest.or_else(|| source.now()) {
            self.connections.sweep(now, frame_count);
        }
        Ok(polled)
    }

    /// The same; what a frame will need of many flows is fetched while frames before it are taken.
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

    /// Takes one frame.
    #[inline(always)]
    pub fn frame(&mut self, frame: &Frame<'_>) {
        self.connections.frame(frame, &self.decoder.decode(frame));
    }

    /// Takes one segment, for callers that decode frames themselves.
    #[inline]
    pub fn segment(&mut self, segment: &Segment<'_>) {
        self.connections.segment(segment);
    }

    /// Packet time has come to `now`: gives up holes whose grace is over, and looks at a few flows,
    /// to end those that were quiet too long. [`Pipeline::poll`] does it after each poll.
    pub fn sweep(&mut self, now: TimestampNs) {
        self.connections.sweep(now, 0);
    }

    /// No more frames come: every connection ends.
    pub fn finish(&mut self) {
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

    /// Frames taken so far.
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

    /// Bytes that are held now: of what waits behind holes, and of messages under way.
    pub fn held_bytes(&self) -> [usize; 2] {
        [self.connections.flows.buffered_bytes(), self.connections.shared.held_bytes()]
    }

    /// Exchanges under way.
    pub fn exchanges_in_use(&self) -> usize {
        self.connections.shared.exchanges_in_use()
    }
}

/// What is behind the decoder.
#[derive(Debug)]
struct Connections<S> {
    partition: Partition,
    flows: FlowTable<FlowState>,
    shared: Shared<S>,
    /// The way back to the filter, where there is one.
    feedback: Option<Feedback>,
    stats: PipelineStats,
    /// The least timestamp of the frames of this poll.
    oldest: Option<TimestampNs>,
}

impl<S: EventSink> Connections<S> {
    /// One frame, with what decoding found in it.
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
        self.stats.segments_misplaced += u64::from(self.partition.is_misplaced(segment));
        self.segment(segment);
    }

    /// One segment: through its flow, and what is in order now through its protocol.
    #[inline(always)]
    fn segment(&mut self, segment: &Segment<'_>) {
        let Connections { flows, shared, feedback, .. } = self;
        let mut events = Events { shared, feedback: feedback.as_mut() };
        let Some(index) = flows.enter(segment, &mut events) else { return };
        let mut interest = Interest::Undecided;
        let is_closed = flows.accept(index, segment, |key, handshake, it, direction, chunk| {
            let flow = FlowRef { key, handshake };
            it.protocol.chunk(&mut Context { flow, shared: events.shared }, direction, chunk);
            interest = it.protocol.interest();
        });
        if is_closed {
            self.close(index, End::Fin);
        } else if let (Interest::Wanted, Some(feedback)) = (interest, &mut self.feedback) {
            feedback.follow(&mut self.flows, index, &mut self.shared);
        }
        match interest {
            Interest::Undecided | Interest::Wanted => {}
            Interest::Encrypted => self.flows.bypass(index, Bypassed::Closed),
            Interest::Foreign => self.dismiss(index, Bypassed::Living),
            Interest::Dormant => self.dismiss(index, Bypassed::Dormant),
        }
        if self.flows.is_short() || self.shared.is_short() {
            self.relieve(segment.timestamp);
        }
    }

    /// Memory runs short. Those give way that have had much for long, so that there is room for
    /// those that come and go.
    #[cold]
    fn relieve(&mut self, now: TimestampNs) {
        let Connections { flows, shared, feedback, .. } = self;
        let mut events = Events { shared, feedback: feedback.as_mut() };
        let mut effort = RELIEF_SLOTS;
        while flows.is_short() && flows.relieve(now, &mut effort, events.chunks()) {}
        let mut effort = RELIEF_SLOTS;
        while events.shared.is_short()
            && let Some(index) =
                flows.heaviest_state(&mut effort, |it, since| it.protocol.memory_weight(now, since))
        {
            let relieved = flows.parts(index).is_some_and(|(key, handshake, it)| {
                let flow = FlowRef { key, handshake };
                it.protocol.relieve(&mut Context { flow, shared: events.shared })
            });
            if !relieved {
                flows.end(index, End::Evicted, None, &mut events);
            }
        }
    }

    /// Nothing is wanted of the connection any more, and the filter hears of it.
    fn dismiss(&mut self, index: FlowIndex, bypassed: Bypassed) {
        if let Some(feedback) = &mut self.feedback {
            feedback.dismiss(&mut self.flows, index, bypassed == Bypassed::Living);
        }
        self.flows.bypass(index, bypassed);
    }

    /// Packet time has come to `now`, with so many frames.
    fn sweep(&mut self, now: TimestampNs, frame_count: usize) {
        let Connections { flows, shared, feedback, .. } = self;
        let mut events = Events { shared, feedback: feedback.as_mut() };
        flows.settle(now, events.chunks());
        // Once around is enough: nothing gets older meanwhile.
        let mut effort = flows.slot_count().min(SWEEP_SLOTS_MIN + 2 * frame_count);
        while let Some((index, end)) = flows.next_expired(now, &mut effort) {
            flows.end(index, end, None, &mut events);
        }
    }

    /// All that is under way on a connection is over; the connection is remembered for its late
    /// packets.
    fn close(&mut self, index: FlowIndex, end: End) {
        let Connections { flows, shared, feedback, .. } = self;
        if let Some((key, handshake, it)) = flows.parts(index) {
            Events { shared, feedback: feedback.as_mut() }.close(key, handshake, it, end);
        }
    }

    /// The connection leaves the table.
    fn end(&mut self, index: FlowIndex, end: End) {
        let Connections { flows, shared, feedback, .. } = self;
        flows.end(index, end, None, &mut Events { shared, feedback: feedback.as_mut() });
    }
}

/// What the flow table tells of connections goes on to their protocols and to the filter.
struct Events<'a, S> {
    shared: &'a mut Shared<S>,
    feedback: Option<&'a mut Feedback>,
}

impl<S: EventSink> Events<'_, S> {
    fn chunks(
        &mut self,
    ) -> impl FnMut(&FlowKey, &Handshake, &mut FlowState, Direction, Chunk<'_>) + '_ {
        |key, handshake, it, direction, chunk| self.chunk(key, handshake, it, direction, chunk)
    }

    fn close(&mut self, key: &FlowKey, handshake: &Handshake, it: &mut FlowState, end: End) {
        let flow = FlowRef { key, handshake };
        it.protocol.end(&mut Context { flow, shared: self.shared }, end);
        if let Some(feedback) = &mut self.feedback {
            feedback.close(&mut it.hint);
        }
    }
}

impl<S: EventSink> FlowEvents<FlowState> for Events<'_, S> {
    fn chunk(
        &mut self,
        key: &FlowKey,
        handshake: &Handshake,
        it: &mut FlowState,
        direction: Direction,
        chunk: Chunk<'_>,
    ) {
        let flow = FlowRef { key, handshake };
        it.protocol.chunk(&mut Context { flow, shared: self.shared }, direction, chunk);
    }

    fn ended(&mut self, key: &FlowKey, handshake: &Handshake, it: &mut FlowState, end: End) {
        self.close(key, handshake, it, end);
        self.shared.count_flow(it.protocol.carried());
        it.protocol.leave(self.shared);
        if let Some(feedback) = &mut self.feedback {
            feedback.forget(&mut it.hint);
        }
    }
}
