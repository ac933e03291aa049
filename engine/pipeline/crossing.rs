//! [`Crossing`]: the only way between shards. The fragments of a datagram meet on one shard, but
//! only its first fragment shows which connection it belongs to. If that came later than another
//! one, or if the datagram is a tunnel's, the joined segment crosses to its connection's shard.
//!
//! Nothing here runs for a frame: the sender looks when a datagram is complete, the receiver at an
//! atomic twice a poll. A queue holds a bounded number of bytes, and never makes a sender wait.
//!
//! A segment that crosses comes later than its neighbours. So each shard publishes how far it has
//! read, and no other gives up a hole that lies beyond: [`Inward::horizon`].

use super::partition::Part;
use crate::decode::{Forward, OwnedSegment, Reject, Segment};
use crate::ids::ShardId;
use crate::time::TimestampNs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a segment in a queue takes beside its bytes: itself, and its place in the queue. It also
/// bounds the number of segments.
const SEGMENT_OVERHEAD_BYTES: usize = 256;

fn cost_bytes(segment: &OwnedSegment) -> usize {
    segment.len_bytes() + SEGMENT_OVERHEAD_BYTES
}

/// What all shards know of one.
#[derive(Debug, Default)]
struct Published {
    /// The bytes of segments that were sent to it and that it has not taken yet.
    held_bytes: AtomicUsize,
    /// It has read all frames from before this time, and passed on what they complete.
    progress_ns: AtomicU64,
}

/// The way to another shard.
#[derive(Clone, Debug)]
struct Peer {
    sender: Sender<OwnedSegment>,
    published: Arc<Published>,
}

/// A shard's end of the queues between all shards.
#[derive(Debug)]
pub struct Crossing {
    outward: Outward,
    inward: Inward,
}

impl Crossing {
    /// The ends for the shards of `parts`, which must be those of one run, in order. Each queue
    /// holds at most `bytes_max`.
    pub fn between(parts: &[Part], bytes_max: usize) -> Vec<Crossing> {
        let (peers, receivers): (Vec<Peer>, Vec<_>) = parts
            .iter()
            .map(|_| {
                let (sender, receiver) = channel();
                (Peer { sender, published: Arc::default() }, receiver)
            })
            .unzip();
        let ends = parts.iter().zip(receivers).enumerate();
        let crossing = |(own, (part, receiver)): (usize, (&Part, _))| {
            // Without a way to itself, a shard sees that all others have closed theirs.
            let ways = peers.iter().enumerate();
            let ways = ways.map(|(at, peer)| (at != own).then(|| peer.clone()));
            let ways: Box<[Option<Peer>]> = ways.collect();
            let others = ways.iter().flatten().map(|peer| Arc::clone(&peer.published)).collect();
            let inward = Inward { receiver, own: Arc::clone(&peers[own].published), others };
            Crossing { outward: Outward { part: *part, peers: ways, bytes_max }, inward }
        };
        ends.map(crossing).collect()
    }

    /// Splits it into the way out, for the decoder, and the way in.
    pub(super) fn split(self) -> (Outward, Inward) {
        (self.outward, self.inward)
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
        let cost_bytes = cost_bytes(&segment);
        let add = |held: usize| Some(held + cost_bytes).filter(|held| *held <= self.bytes_max);
        if peer
            .published
            .held_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_err()
        {
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
    own: Arc<Published>,
    others: Box<[Arc<Published>]>,
}

impl Inward {
    /// All frames from before `time` have been read; `None` changes nothing.
    pub fn publish_progress(&self, time: Option<TimestampNs>) {
        if let Some(time) = time {
            self.own.progress_ns.store(time.0, Ordering::Release);
        }
    }

    /// The time before which the other shards have read all frames, and passed on what they
    /// complete.
    pub fn horizon(&self) -> TimestampNs {
        let progress = self.others.iter().map(|other| other.progress_ns.load(Ordering::Acquire));
        TimestampNs(progress.min().unwrap_or(u64::MAX))
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.own.held_bytes.load(Ordering::Relaxed) == 0
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
        self.own.held_bytes.fetch_sub(cost_bytes(segment), Ordering::Relaxed);
    }
}

impl Drop for Inward {
    /// Nobody waits for a shard that has ended, however it ended.
    fn drop(&mut self) {
        self.publish_progress(Some(TimestampNs(u64::MAX)));
    }
}

#[cfg(test)]
mod tests;
