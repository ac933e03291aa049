//! THE page: frames in, exchanges out. One shard is one pinned thread with its own source, flow
//! table, parser and output; it shares nothing on this path.

use crate::capture::{Frame, FrameSource, Polled, Sight, SourceError};
use crate::decode::{Decoder, Reject, Segment};
use crate::flow::{Admission, Chunk, End, FlowIndex, FlowTable, Origins, Retired};
use crate::http::{Dialogue, ExchangePool, Prospect, Protocol, Room, Wire};
use crate::ids::{Direction, FlowKey, ShardId};
use crate::stats::{HttpStats, ShardStats};
use crate::time::TimestampNs;
use crate::{config::Config, emit::Lines};
use std::sync::atomic::{AtomicU8, Ordering};

mod feedback;
use feedback::{Feedback, Note};

/// Slots of the flow table that are looked at for idle flows after each poll, beside two for each
/// frame.
const SWEEP_SLOTS_MIN: usize = 256;

/// Slots of the flow table that are looked at after a frame for flows to take memory from, where it
/// runs short.
const RELIEF_SLOTS: usize = 256;

/// So many flows are more than the CPU's own caches hold. With fewer, to look ahead costs what it
/// saves (20,000 flows) or more (8,000: 6% of the time).
const CROWD_FLOWS: usize = 1 << 15;

/// What the engine wants of its shards; it only ever goes up.
#[derive(Debug, Default)]
pub struct Orders(AtomicU8);

impl Orders {
    const DRAIN: u8 = 1;
    const STOP: u8 = 2;

    /// End once the source is empty.
    pub fn drain(&self) {
        self.0.fetch_max(Self::DRAIN, Ordering::Release);
    }

    /// End now.
    pub fn stop(&self) {
        self.0.fetch_max(Self::STOP, Ordering::Release);
    }

    /// Whether a shard whose source said `polled` is to end.
    pub fn is_over(&self, polled: Polled) -> bool {
        match self.0.load(Ordering::Acquire) {
            Self::STOP => true,
            Self::DRAIN => polled == Polled::Idle || polled == Polled::End,
            _ => polled == Polled::End,
        }
    }
}

/// Which flows are a shard's own. A ring brings a shard its own flows only; of a file each shard
/// reads all.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// All that comes.
    All,
    /// All that comes, which should be this part: what is of another was sent to the wrong shard.
    Sent(Part),
    /// This part.
    Part(Part),
}

/// One part of all flows, by the hash that the fanout program takes, too.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Whose.
    pub shard: ShardId,
    /// Of how many.
    pub count: u16,
}

impl Part {
    fn holds(self, key: &FlowKey) -> bool {
        key.flow_hash() % u32::from(self.count.max(1)) == u32::from(self.shard.0)
    }
}

impl Share {
    #[inline]
    fn holds(&self, outcome: &Result<Segment<'_>, Reject>) -> bool {
        match (self, outcome) {
            (Share::All | Share::Sent(_), _) => true,
            (Share::Part(part), Ok(segment)) => part.holds(&segment.key),
            (Share::Part(_), Err(_)) => self.counts_strays(),
        }
    }

    /// Somebody must count what belongs to no flow: where each shard reads all, the first does.
    fn counts_strays(&self) -> bool {
        !matches!(self, Share::Part(part) if part.shard != ShardId(0))
    }
}

/// A source, and the line of rooms behind it.
#[derive(Debug)]
pub struct Shard<S> {
    source: S,
    /// Beside the line, and not in it: a segment may borrow from it, for it owns the datagrams that
    /// were put together of fragments.
    decoder: Decoder,
    line: Line,
}

impl<S: FrameSource> Shard<S> {
    /// A shard that is ready to run.
    pub fn new(config: &Config, source: S, share: Share, lines: Lines) -> Shard<S> {
        let room = Room {
            limits: config.http.clone(),
            pool: ExchangePool::default(),
            stats: HttpStats::default(),
            listener: lines,
        };
        let mut flows = FlowTable::new(config.flow.clone());
        if source.notes().is_some() {
            flows.set_filtered();
        }
        let stats = ShardStats::default();
        let elide_bytes_min = config.capture.elide_bytes_min;
        let feedback = source.notes().map(|notes| Feedback::new(notes, elide_bytes_min));
        let line = Line { share, flows, room, feedback, stats, oldest: None };
        Shard { source, decoder: Decoder::new(config.decode.clone()), line }
    }

    /// Takes what the source has.
    #[inline(always)]
    fn poll(&mut self) -> Result<Polled, SourceError> {
        if self.line.flows.len() > CROWD_FLOWS {
            return self.poll_ahead();
        }
        let Shard { source, decoder, line } = self;
        source.poll(&mut |frame| line.frame(&frame, &decoder.decode(&frame)))
    }

    /// The same; what a frame will need of many flows is fetched while frames before it are taken.
    #[inline(never)]
    fn poll_ahead(&mut self) -> Result<Polled, SourceError> {
        let Shard { source, decoder, line } = self;
        source.poll_ahead(FlowTable::<Followed>::ANNOUNCED_FRAMES, &mut |sight| match sight {
            Sight::Here(frame) => line.frame(frame, &decoder.decode(frame)),
            Sight::Ahead(frame) => {
                if let Some(key) = Decoder::flow_ahead(frame) {
                    line.flows.announce(&key);
                }
            }
        })
    }

    /// Runs until the source or the engine ends it. `report` sees the shard after each poll.
    pub fn run(
        mut self,
        orders: &Orders,
        mut report: impl FnMut(&Line),
    ) -> (ShardStats, Result<(), SourceError>) {
        let result = loop {
            self.line.oldest = None;
            let polled = match self.poll() {
                Ok(polled) => polled,
                Err(error) => break Err(error),
            };
            if self.line.share.counts_strays() {
                self.line.stats.datagrams = self.decoder.stats().clone();
            }
            self.line.tidy(self.line.oldest.or_else(|| self.source.now()), polled);
            report(&self.line);
            if orders.is_over(polled) {
                break Ok(());
            }
        };
        self.line.finish();
        (self.line.stats(), result)
    }
}

/// What is kept of a connection beside its streams.
#[derive(Debug, Default)]
struct Followed {
    talk: Dialogue,
    note: Note,
}

/// The rooms of a shard, in the order in which data goes through them.
#[derive(Debug)]
pub struct Line {
    share: Share,
    flows: FlowTable<Followed>,
    room: Room<Lines>,
    /// The way back, where the source can make use of it.
    feedback: Option<Feedback>,
    stats: ShardStats,
    /// The least timestamp of the frames of this poll.
    oldest: Option<TimestampNs>,
}

impl Line {
    /// One frame, with what decoding found in it, goes through all rooms behind.
    #[inline]
    fn frame(&mut self, frame: &Frame<'_>, outcome: &Result<Segment<'_>, Reject>) {
        self.oldest = Some(self.oldest.map_or(frame.timestamp, |old| old.min(frame.timestamp)));
        if !self.share.holds(outcome) {
            return;
        }
        self.stats.frames += 1;
        self.stats.frame_bytes += frame.bytes.len() as u64;
        self.stats.decode.count(outcome);
        let Ok(segment) = outcome else { return };
        self.stats.frames_bare +=
            u64::from(segment.payload.is_empty() && segment.payload_wire_bytes > 0);
        if let Share::Sent(part) = &self.share {
            self.stats.segments_misplaced += u64::from(!part.holds(&segment.key));
        }
        let index = loop {
            match self.flows.admit(segment) {
                Admission::Flow(index) => break index,
                Admission::Ended(index, end) => self.end(index, end, Some(segment)),
                Admission::Overdue(index) => self.catch_up(index, segment.timestamp),
                Admission::Unknown => return,
            }
        };
        let (room, mut prospect) = (&mut self.room, Prospect::Open);
        let is_closed = self.flows.accept(index, segment, |key, origins, it, direction, chunk| {
            it.talk.take(Wire { key, origins }, direction, chunk, room);
            prospect = it.talk.prospect();
        });
        if is_closed {
            self.close(index, End::Fin);
        } else if let (Prospect::Http1, Some(feedback)) = (prospect, &mut self.feedback) {
            feedback.follow(&mut self.flows, index, &mut self.room);
        }
        match prospect {
            Prospect::Open | Prospect::Http1 => {}
            Prospect::Tls => self.flows.retire(index, Retired::Closed),
            Prospect::Foreign | Prospect::Other => self.dismiss(index, prospect),
        }
        if self.flows.is_short() || self.room.is_short() {
            self.relieve(segment.timestamp);
        }
    }

    /// Memory runs short. Those give way that have had much for long, so that there is room for
    /// those that come and go.
    #[cold]
    fn relieve(&mut self, now: TimestampNs) {
        let mut effort = RELIEF_SLOTS;
        while self.flows.is_short() && self.flows.relieve(now, &mut effort, listen(&mut self.room))
        {
        }
        let mut effort = RELIEF_SLOTS;
        while self.room.is_short()
            && let Some(index) =
                self.flows.heaviest_state(&mut effort, |it, since| it.talk.burden(now, since))
        {
            self.end(index, End::Evicted, None);
        }
    }

    /// Nothing is expected of the connection any more, and the filter hears of it.
    fn dismiss(&mut self, index: FlowIndex, prospect: Prospect) {
        let is_final = prospect == Prospect::Foreign;
        if let Some(feedback) = &mut self.feedback {
            feedback.dismiss(&mut self.flows, index, is_final);
        }
        self.flows.retire(index, if is_final { Retired::Living } else { Retired::Dormant });
    }

    /// Gives up the holes of a connection whose grace is over.
    #[cold]
    fn catch_up(&mut self, index: FlowIndex, now: TimestampNs) {
        self.flows.catch_up(index, now, listen(&mut self.room));
    }

    /// Between polls: holes whose grace is over, connections that were quiet too long, lines that
    /// wait.
    fn tidy(&mut self, now: Option<TimestampNs>, polled: Polled) {
        if let Some(now) = now {
            self.flows.settle(now, listen(&mut self.room));
            let frames = if let Polled::Frames(count) = polled { count } else { 0 };
            // Once around is enough: nothing gets older meanwhile.
            let mut effort = self.flows.slot_count().min(SWEEP_SLOTS_MIN + 2 * frames);
            while let Some((index, end)) = self.flows.next_expired(now, &mut effort) {
                self.end(index, end, None);
            }
        }
        self.room.listener.rest(polled);
    }

    /// All that is under way on a connection is over; the connection is remembered for its late
    /// packets.
    fn close(&mut self, index: FlowIndex, end: End) {
        if let Some((key, origins, it)) = self.flows.parts(index) {
            it.talk.finish(Wire { key, origins }, end, &mut self.room);
            if let Some(feedback) = &mut self.feedback {
                feedback.close(&mut it.note);
            }
        }
    }

    /// The connection leaves the table.
    fn end(&mut self, index: FlowIndex, end: End, segment: Option<&Segment<'_>>) {
        self.flows.flush(index, listen(&mut self.room));
        self.close(index, end);
        if let Some((_, _, it)) = self.flows.parts(index) {
            count_protocol(&mut self.room.stats, it.talk.protocol());
            it.talk.leave(&mut self.room);
            if let Some(feedback) = &mut self.feedback {
                feedback.forget(&mut it.note);
            }
        }
        self.flows.remove(index, end, segment);
    }

    /// The end of the run: every connection ends, every line goes out.
    fn finish(&mut self) {
        for index in self.flows.indices() {
            self.end(index, End::Exit, None);
        }
        self.room.listener.close();
    }

    /// Frames taken so far.
    pub fn frame_count(&self) -> u64 {
        self.stats.frames
    }

    /// Nobody wants more lines.
    pub fn is_enough(&self) -> bool {
        self.room.listener.is_enough()
    }

    /// All counters of the shard.
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            flow: self.flows.stats().clone(),
            http: self.room.stats.clone(),
            notes: self.feedback.as_ref().map(Feedback::stats).unwrap_or_default(),
            emit: self.room.listener.stats().clone(),
            ..self.stats.clone()
        }
    }
}

/// Takes what was waiting in a connection to its conversation.
fn listen(
    room: &mut Room<Lines>,
) -> impl FnMut(&FlowKey, &Origins, &mut Followed, Direction, Chunk<'_>) {
    |key, origins, it, direction, chunk| {
        it.talk.take(Wire { key, origins }, direction, chunk, room);
    }
}

fn count_protocol(stats: &mut HttpStats, protocol: Protocol) {
    *match protocol {
        Protocol::Http1 => &mut stats.flows_http1,
        Protocol::Tls => &mut stats.flows_tls,
        Protocol::Http2 => &mut stats.flows_http2,
        Protocol::Other => &mut stats.flows_other,
        Protocol::Empty => &mut stats.flows_empty,
    } += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow must not grow by the way: a million of them are in memory where there are so many.
    #[test]
    fn a_flow_takes_what_it_takes() {
        let flow_bytes = FlowTable::<Followed>::FLOW_BYTES;
        assert!(flow_bytes <= 256, "{flow_bytes}");
    }
}
