//! [`WalkedSource`]: a source that leaves out frames of other shards.

use super::files::CaptureSource;
use super::walk::Turn;
use crate::capture::{Frame, FrameSource, Lookahead, Polled, Route, SourceError, here};
use crate::time::TimestampNs;
use std::sync::Arc;

/// One shard's frames of files that are mapped, and that the shards of a run walk for each other.
///
/// It visits at least the frames that belong to its shard, or to no shard for certain. Its polls
/// and their results are those of the [`CaptureSource`], and [`FrameSource::oldest`] tells of what
/// it left out. What cannot be mapped, each shard reads as a whole.
#[derive(Debug)]
pub struct WalkedSource {
    source: CaptureSource,
    route: Arc<dyn Route>,
    /// The smallest time of the frames in the last list.
    oldest: Option<TimestampNs>,
}

impl WalkedSource {
    /// Leaves out frames of other shards, by `route`. All shards of a run do so.
    pub(super) fn new(source: CaptureSource, route: Arc<dyn Route>) -> WalkedSource {
        WalkedSource { source, route, oldest: None }
    }

    fn poll_file(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        let CaptureSource { source, seat: place, .. } = &mut self.source;
        let Some(seat) = place else { return source.poll_ahead(ahead_count, visit) };
        match seat.turn(&*self.route) {
            Turn::Wait => Ok(Polled::Idle),
            Turn::Listed(list) => {
                let shard = seat.shard();
                if !source.can_visit(&list) {
                    // The file was cut. Others may still know a part of it.
                    *place = None;
                    return source.visit_window(ahead_count, visit).map(Polled::Frames);
                }
                self.oldest = list.oldest();
                let visited = source.visit_list(&list, shard, ahead_count, visit)?;
                drop(list);
                seat.visited(&*self.route);
                Ok(visited)
            }
            Turn::Own => {
                let polled = source.poll_ahead(ahead_count, visit)?;
                if polled != Polled::End {
                    seat.walked(source.own_end(), &*self.route);
                }
                Ok(polled)
            }
        }
    }
}

impl FrameSource for WalkedSource {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        self.poll_ahead(0, &mut here(visit))
    }

    fn poll_ahead(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        self.oldest = None;
        let result = self.poll_file(ahead_count, visit);
        self.source.polled(result)
    }

    fn oldest(&self) -> Option<TimestampNs> {
        self.oldest
    }

    fn ended_at(&self) -> Option<TimestampNs> {
        self.source.ended_at()
    }
}
