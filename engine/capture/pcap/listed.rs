//! Visiting the frames of a [`List`], where the walk through the window would visit all of them.

use super::format::Format;
use super::input::CaptureWindow;
use super::prefetch::prefetch_record;
use super::step::Step;
use super::walk::{List, OwnEnd, Record};
use super::window::{MappedWindow, RecordBuffer};
use super::{CUT, PcapSource};
use crate::capture::{Frame, Lookahead, Polled, SourceError};
use crate::ids::ShardId;

/// How many listed records ahead their bytes are prefetched.
const PREFETCH_RECORDS_LISTED: usize = 3;

/// The error for a file whose bytes changed while it was read.
const CHANGED: &str = "the file was changed while it was being read";

impl PcapSource<CaptureWindow> {
    /// Makes the next chunk visible. Returns whether it is the one of `list`: it is not if the file
    /// became shorter.
    pub(super) fn can_visit(&mut self, list: &List) -> bool {
        let filled = self.window.fill();
        let end = self.window.mapped().map(|window| window.range().end);
        filled.is_ok() && end == Some(list.end())
    }

    /// Visits the frames of `shard` in `list`, and shows each `ahead_count` frames ahead.
    /// Everything else is afterwards as if the whole chunk had been walked.
    pub(super) fn visit_list(
        &mut self,
        list: &List,
        shard: ShardId,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        if self.frames == 0 && self.first.is_none() {
            self.first = list.first();
        }
        let PcapSource { window, format, room, .. } = self;
        let records = list.records(shard, room);
        let visited = match window.mapped() {
            None => Err(CHANGED),
            Some(window) => {
                let list = Records { list, carried: list.carried_to(shard), records };
                match &*format {
                    Format::Legacy(legacy) => {
                        list.visit(window, ahead_count, |bytes| Some(legacy.step(bytes)), visit)
                    }
                    Format::Ng(ng) => {
                        list.visit(window, ahead_count, |bytes| ng.stateless_step(bytes), visit)
                    }
                }
            }
        };
        visited.map_err(|detail| {
            self.is_over = true;
            SourceError::Damaged { frames: self.frames, detail: detail.to_string() }
        })?;
        self.frames += list.frame_count() as u64;
        if let Some(last) = list.last() {
            self.last = last;
            self.format.set_last(last);
        }
        (self.pass_bytes, self.need_bytes) = list.pass_and_need_bytes();
        if let Some(window) = self.window.mapped() {
            window.consume_until(list.rest());
        }
        Ok(Polled::Frames(list.frame_count()))
    }

    /// Where the walk through the window stands.
    pub(super) fn own_end(&mut self) -> OwnEnd<'_> {
        let byte = self.window.mapped().map_or(0, |window| window.range().start);
        let PcapSource { format, last, pass_bytes, .. } = self;
        OwnEnd { byte, pass_bytes: *pass_bytes, format, last: *last }
    }
}

/// The records of a list that a shard must look at.
struct Records<'a> {
    list: &'a List,
    carried: Option<usize>,
    records: &'a [Record],
}

impl Records<'_> {
    /// Visits their frames, which `step` reads.
    #[inline(always)]
    fn visit<'w>(
        self,
        window: &'w MappedWindow,
        ahead_count: usize,
        step: impl Fn(&'w [u8]) -> Option<Step<'w>>,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<(), &'static str> {
        let Records { list, carried, records } = self;
        let map = window.map().get(..list.end()).unwrap_or_default();
        let frame_at = |at: usize| {
            let step = step(map.get(at..).unwrap_or_default());
            match step {
                // The bytes may be zeros in place of bytes that are gone.
                _ if window.is_cut() => Err(CUT),
                Some(Step::Frame(frame, _)) => Ok(frame),
                _ => Err(CHANGED),
            }
        };
        let prefetch = |record: Option<&Record>| {
            if let Some(record) = record {
                let (at, bytes) = list.place(record);
                prefetch_record(map, at, bytes);
            }
        };
        (0..PREFETCH_RECORDS_LISTED).for_each(|ahead| prefetch(records.get(ahead)));
        if let Some(at) = carried {
            visit(Lookahead::Here(&frame_at(at)?));
        }
        let mut shown_count = 0;
        for (number, record) in records.iter().enumerate() {
            prefetch(records.get(number + PREFETCH_RECORDS_LISTED));
            let frame = frame_at(list.place(record).0)?;
            if ahead_count > 0 {
                shown_count = shown_count.max(number + 1);
                let end = records.len().min(number + 1 + ahead_count);
                for record in records.get(shown_count..end).unwrap_or_default() {
                    visit(Lookahead::Ahead(&frame_at(list.place(record).0)?));
                }
                shown_count = end;
            }
            visit(Lookahead::Here(&frame));
        }
        Ok(())
    }
}
