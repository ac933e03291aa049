//! [`Crossing`]: the only way between shards. The fragments of a datagram meet on one shard, but
//! only its first fragment shows which connection it belongs to. If that came later than another
//! one, or if the datagram is a tunnel's, the joined segment crosses to its connection's shard.
//!
//! Nothing here runs for a frame: the sender looks when a datagram is complete, the receiver at an
//! atomic once or twice a poll. A queue holds a bounded number of bytes, and never makes a sender
//! wait.

use super::partition::Part;
use crate::decode::{Forward, Reject, Segment};
use crate::ids::ShardId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a segment in a queue takes beside its payload: itself, and its place in the queue. It also
/// bounds the number of segments.
const SEGMENT_OVERHEAD_BYTES: usize = 256;

/// A segment that owns its payload.
#[derive(Debug)]
pub(super) struct OwnedSegment {
    /// The segment, without its payload.
    head: Segment<'static>,
    payload: Box<[u8]>,
}

impl OwnedSegment {
    fn of(segment: &Segment<'_>) -> OwnedSegment {
        let payload = segment.payload.into();
        OwnedSegment { head: Segment { payload: &[], ..*segment }, payload }
    }

    pub fn segment(&self) -> Segment<'_> {
        Segment { payload: &self.payload, ..self.head }
    }

    fn cost_bytes(&self) -> usize {
        self.payload.len() + SEGMENT_OVERHEAD_BYTES
    }
}

/// The way to another shard.
#[derive(Clone, Debug)]
struct Peer {
    sender: Sender<OwnedSegment>,
    held_bytes: Arc<AtomicUsize>,
}

/// A shard's end of the queues between all shards.
#[derive(Debug)]
pub struct Crossing {
    outward: Outward,
    receiver: Receiver<OwnedSegment>,
    /// The bytes that this shard has not taken yet.
    held_bytes: Arc<AtomicUsize>,
}

impl Crossing {
    /// The ends for the shards of `parts`, which must be those of one run, in order. Each queue
    /// holds at most `bytes_max`.
    pub fn between(parts: &[Part], bytes_max: usize) -> Vec<Crossing> {
        let (peers, receivers): (Vec<Peer>, Vec<_>) = parts
            .iter()
            .map(|_| {
                let (sender, receiver) = channel();
                (Peer { sender, held_bytes: Arc::default() }, receiver)
            })
            .unzip();
        let ends = parts.iter().zip(receivers).enumerate();
        let crossing = |(own, (part, receiver)): (usize, (&Part, _))| {
            // Without a way to itself, a shard sees that all others have closed theirs.
            let others = peers.iter().enumerate();
            let others = others.map(|(at, peer)| (at != own).then(|| peer.clone()));
            let outward = Outward { part: *part, peers: others.collect(), bytes_max };
            Crossing { outward, receiver, held_bytes: Arc::clone(&peers[own].held_bytes) }
        };
        ends.map(crossing).collect()
    }

    /// Splits it into the way out, for the decoder, and the way in.
    pub(super) fn split(self) -> (Outward, Inward) {
        let Crossing { outward, receiver, held_bytes } = self;
        (outward, Inward { receiver, held_bytes })
    }
}

/// The ways to the other shards.
#[derive(Debug)]
pub(super) struct Outward {
    part: Part,
    /// By shard; `None` for this one.
    peers: Box<[Option<Peer>]>,
    bytes_max: usize,
}

impl Forward for Outward {
    fn forward(&mut self, segment: &Segment<'_>) -> Result<(), Reject> {
        let ShardId(owner) = self.part.owner(&segment.key);
        let Some(Some(peer)) = self.peers.get(usize::from(owner)) else { return Ok(()) };
        let segment = OwnedSegment::of(segment);
        let cost_bytes = segment.cost_bytes();
        let add = |held: usize| Some(held + cost_bytes).filter(|held| *held <= self.bytes_max);
        if peer.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return Err(Reject::NotPassedOn);
        }
        match peer.sender.send(segment) {
            Ok(()) => Err(Reject::PassedOn),
            // That shard has ended, because its source failed.
            Err(_) => Err(Reject::NotPassedOn),
        }
    }
}

/// What other shards send to this one.
#[derive(Debug)]
pub(super) struct Inward {
    receiver: Receiver<OwnedSegment>,
    held_bytes: Arc<AtomicUsize>,
}

impl Inward {
    /// Not 0 while something may be waiting.
    pub fn held_bytes(&self) -> &Arc<AtomicUsize> {
        &self.held_bytes
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) == 0
    }

    /// The next segment that waits.
    pub fn take(&self) -> Option<OwnedSegment> {
        self.receiver.try_recv().ok().inspect(|segment| self.release(segment))
    }

    /// The next segment; waits until there is one, or until every other shard has closed its way
    /// out.
    pub fn wait(&self) -> Option<OwnedSegment> {
        self.receiver.recv().ok().inspect(|segment| self.release(segment))
    }

    fn release(&self, segment: &OwnedSegment) {
        self.held_bytes.fetch_sub(segment.cost_bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
