//! Walking one chunk: where the frames of each shard are.

use super::guess;
use crate::capture::Route;
use crate::capture::pcap::format::Format;
use crate::capture::pcap::prefetch::prefetch_behind;
use crate::capture::pcap::step::Step;
use crate::ids::ShardId;
use crate::sys::file_map::FileMap;
use crate::time::TimestampNs;
use std::sync::Arc;

/// A walk does so little for a record that it must look further ahead than one that visits frames.
const WALK_PREFETCH_FACTOR: usize = 4;

/// A chunk that somebody walks.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: usize,
    /// Where its first record begins; `None`: it is to be guessed.
    pub(super) at: Option<usize>,
    pub(super) format: Arc<Format>,
    /// The time of a frame before, for the guess.
    pub(super) time: TimestampNs,
}

/// A chunk that was walked.
#[derive(Debug)]
pub(super) struct Walked {
    /// Where its first record begins, if that was right.
    pub(super) begin: usize,
    /// How it was read.
    pub(super) format: Arc<Format>,
    pub(super) list: List,
    /// Where records go on behind it.
    pub(super) edge: Edge,
}

/// A record in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::capture::pcap) struct Record {
    /// Its first byte, from the first byte of the chunk.
    at: u32,
    bytes: u32,
}

/// Where the frames of a chunk are: those whose records begin and end in it.
#[derive(Debug)]
pub(in crate::capture::pcap) struct List {
    /// A frame whose record began before; it is the first one.
    pub(super) carried: Option<Carried>,
    /// The records of each shard, and behind them those that any shard may need.
    records: Vec<Vec<Record>>,
    /// The first byte of the chunk, and the one behind its last.
    range: std::ops::Range<usize>,
    /// The times of the frames in the chunk, without the carried one.
    times: Option<Times>,
    /// The first byte that was not consumed, and what is known of what is there: bytes to skip
    /// behind the chunk, or bytes that it needs.
    rest: usize,
    pass_bytes: u64,
    need_bytes: usize,
}

/// The times of some frames.
#[derive(Clone, Copy, Debug)]
struct Times {
    first: TimestampNs,
    last: TimestampNs,
    oldest: TimestampNs,
}

/// Where records go on at the end of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Edge {
    /// At this byte, behind the last record that begins in the chunk. If that record has a frame
    /// that ends in the next chunk, it is `carried`: the poll of the next chunk visits it.
    At { byte: usize, carried: Option<Carried> },
    /// Each shard must find out.
    Unknown,
}

/// A frame whose record begins in the chunk before the one in which it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Carried {
    /// Where its record begins.
    byte: usize,
    /// `None`: any shard may need it.
    owner: Option<ShardId>,
    timestamp: TimestampNs,
}

/// A file, and how it is divided.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) map: Arc<FileMap>,
    /// The size of a chunk.
    pub(super) chunk_bytes: usize,
    /// Where the first chunk begins.
    pub(super) start: usize,
    pub(super) shard_count: usize,
}

impl Ground {
    /// The first byte of chunk `number`, or the end of the file.
    pub(super) fn begin_of(&self, number: usize) -> usize {
        let begin = number.saturating_mul(self.chunk_bytes).saturating_add(self.start);
        begin.min(self.len_bytes())
    }

    /// The size of the file.
    pub(super) fn len_bytes(&self) -> usize {
        self.map.bytes().len()
    }

    /// Walks a chunk. `None` if a list cannot tell what is there, or if there was no good guess.
    pub(super) fn walk(&self, job: &Job, route: &dyn Route) -> Option<Walked> {
        let map = self.map.bytes();
        let range = self.begin_of(job.number)..self.begin_of(job.number + 1);
        let begin = match job.at {
            Some(at) => at,
            None => guess::begin(map, range.clone(), &job.format, self.first_time(job))?,
        };

        let mut list = List::new(range.clone(), self.shard_count);
        let edge = match &*job.format {
            Format::Legacy(legacy) => {
                self.list(begin, &mut list, job, route, |bytes| Some(legacy.step(bytes)))
            }
            Format::Ng(ng) => {
                self.list(begin, &mut list, job, route, |bytes| ng.stateless_step(bytes))
            }
        }?;
        // The end of the capture, if it is in the middle of a record, is told by those who read it.
        let is_torn = range.end == map.len() && edge != Edge::At { byte: map.len(), carried: None };
        let is_right = !is_torn && (job.at.is_some() || begin < range.end);
        is_right.then(|| Walked { begin, format: Arc::clone(&job.format), list, edge })
    }

    /// Lists the records from `begin` on, as `step` reads them.
    #[inline(always)]
    fn list<'a>(
        &'a self,
        begin: usize,
        list: &mut List,
        job: &Job,
        route: &dyn Route,
        step: impl Fn(&'a [u8]) -> Option<Step<'a>>,
    ) -> Option<Edge> {
        let window = self.map.bytes().get(..list.range.end)?;
        let mut at = begin;
        loop {
            let Some(bytes) = window.get(at..).filter(|bytes| !bytes.is_empty()) else {
                list.pass_bytes = (at - list.range.end) as u64;
                return Some(Edge::At { byte: at, carried: None });
            };
            match step(bytes)? {
                // The bytes may be zeros in place of bytes that are gone.
                _ if self.map.is_cut() => return None,
                Step::Frame(frame, record_bytes) => {
                    prefetch_behind(window, at, record_bytes, WALK_PREFETCH_FACTOR);
                    list.add(at, record_bytes, frame.timestamp, route.owner(&frame));
                    at += record_bytes;
                }
                Step::Pass(count) => at = at.checked_add(usize::try_from(count).ok()?)?,
                Step::Need(count) => {
                    (list.rest, list.need_bytes) = (at, count);
                    return Some(self.edge(at, list.range.end, &job.format, route));
                }
                Step::Damaged(_) => return None,
            }
        }
    }

    /// A time to expect about the frames of a chunk.
    fn first_time(&self, job: &Job) -> TimestampNs {
        if job.time > TimestampNs(0) {
            return job.time;
        }
        match job.format.stateless_step(&self.map.bytes()[self.start..]) {
            Some(Step::Frame(frame, _)) => frame.timestamp,
            _ => TimestampNs(0),
        }
    }

    /// Where records go on behind `boundary`, the end of a chunk; the first one that is not wholly
    /// before begins at `at`.
    pub(super) fn edge(
        &self,
        at: usize,
        boundary: usize,
        format: &Format,
        route: &dyn Route,
    ) -> Edge {
        if at == boundary {
            return Edge::At { byte: at, carried: None };
        }
        let Some(bytes) = self.map.bytes().get(at..) else { return Edge::Unknown };
        let next_boundary = boundary.saturating_add(self.chunk_bytes);
        match format.stateless_step(bytes) {
            Some(Step::Frame(frame, record_bytes)) if at + record_bytes <= next_boundary => {
                let is_shard = |owner: &ShardId| usize::from(owner.0) < self.shard_count;
                let owner = route.owner(&frame).filter(is_shard);
                let carried = Carried { byte: at, owner, timestamp: frame.timestamp };
                Edge::At { byte: at + record_bytes, carried: Some(carried) }
            }
            Some(Step::Pass(count)) => match usize::try_from(count) {
                Ok(count) => Edge::At { byte: at.saturating_add(count), carried: None },
                Err(_) => Edge::Unknown,
            },
            _ => Edge::Unknown,
        }
    }
}

impl List {
    fn new(range: std::ops::Range<usize>, shard_count: usize) -> List {
        List {
            carried: None,
            records: vec![Vec::new(); shard_count + 1],
            rest: range.end,
            range,
            times: None,
            pass_bytes: 0,
            need_bytes: 0,
        }
    }

    #[inline(always)]
    fn add(&mut self, at: usize, bytes: usize, time: TimestampNs, owner: Option<ShardId>) {
        let shared = self.records.len() - 1;
        let owner = owner.map_or(shared, |ShardId(owner)| usize::from(owner).min(shared));
        let record = Record { at: (at - self.range.start) as u32, bytes: bytes as u32 };
        self.records[owner].push(record);
        let before = self.times.unwrap_or(Times { first: time, last: time, oldest: time });
        self.times = Some(Times { last: time, oldest: before.oldest.min(time), ..before });
    }

    /// The frames that the poll of this chunk passes.
    pub(in crate::capture::pcap) fn frame_count(&self) -> usize {
        let count: usize = self.records.iter().map(Vec::len).sum();
        count + usize::from(self.carried.is_some())
    }

    /// The time of the first of them.
    pub(in crate::capture::pcap) fn first(&self) -> Option<TimestampNs> {
        let carried = self.carried.map(|carried| carried.timestamp);
        carried.or(self.times.map(|times| times.first))
    }

    /// The time of the last of them.
    pub(in crate::capture::pcap) fn last(&self) -> Option<TimestampNs> {
        let carried = self.carried.map(|carried| carried.timestamp);
        self.times.map(|times| times.last).or(carried)
    }

    /// The smallest of their times.
    pub(in crate::capture::pcap) fn oldest(&self) -> Option<TimestampNs> {
        let carried = self.carried.map(|carried| carried.timestamp);
        self.times.map(|times| times.oldest).into_iter().chain(carried).min()
    }

    /// The byte behind the chunk.
    pub(in crate::capture::pcap) fn end(&self) -> usize {
        self.range.end
    }

    /// The first byte of the chunk that was not consumed.
    pub(in crate::capture::pcap) fn rest(&self) -> usize {
        self.rest
    }

    /// Bytes to skip behind the chunk, and the bytes that the record at [`List::rest`] needs.
    pub(in crate::capture::pcap) fn pass_and_need_bytes(&self) -> (u64, usize) {
        (self.pass_bytes, self.need_bytes)
    }

    /// The first byte of the carried record, if `shard` must look at it.
    pub(in crate::capture::pcap) fn carried_to(&self, shard: ShardId) -> Option<usize> {
        let carried = self.carried.filter(|carried| carried.owner.is_none_or(|it| it == shard));
        carried.map(|carried| carried.byte)
    }

    /// The records in the chunk that `shard` must look at, in order. `room` holds them if they are
    /// not together.
    pub(in crate::capture::pcap) fn records<'a>(
        &'a self,
        shard: ShardId,
        room: &'a mut Vec<Record>,
    ) -> &'a [Record] {
        let own = self.records.get(usize::from(shard.0)).map_or(&[][..], Vec::as_slice);
        match self.records.last() {
            Some(shared) if !shared.is_empty() => {
                room.clear();
                room.extend(own.iter().chain(shared));
                // Two sorted parts: this merges them.
                room.sort_by_key(|record| record.at);
                room
            }
            _ => own,
        }
    }

    /// The first byte and the size of `record`.
    #[inline(always)]
    pub(in crate::capture::pcap) fn place(&self, record: &Record) -> (usize, usize) {
        (self.range.start + record.at as usize, record.bytes as usize)
    }
}
