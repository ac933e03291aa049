//! A batch: the first requests of a connection that was joined late, if the client sent several at
//! once. Others may have been sent with them, before the capture began, whose responses come first.
//! So the responses wait until the client has read them all: if there are as many as requests were
//! seen, there were no others.

use super::{Http1Context, Pairer};
use crate::decode::SeqNumber;
use crate::flow::{End, SegmentMeta};
use crate::protocol::http1::framer::ParseState;
use crate::protocol::pool::Confidence;
use crate::record::{EventSink, Outcome};

impl Pairer {
    /// The response in `head` could not be paired. If that is so only because the requests are the
    /// first ones, it and those that follow wait.
    #[cold]
    pub(super) fn begin_batch<S>(&mut self, cx: &mut Http1Context<'_, S>, head: &SegmentMeta) {
        let Some(first) = self.pending.first().filter(|_| self.batch.is_none()) else { return };
        let entry = cx.pool().entry(first);
        let is_first = entry.confidence == Confidence::UnlessBatched;
        let begin = entry.read_until.filter(|begin| is_first && *begin == head.seq);
        if let Some(begin) = begin.filter(|_| self.is_in_order()) {
            self.batch = Some(begin);
        }
    }

    /// A request passes whose client had read up to `read_until`. If that is beyond the beginning
    /// of the batch, all its responses have come.
    #[cold]
    pub(super) fn note_read<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        read_until: Option<SeqNumber>,
    ) {
        if read_until == self.batch {
            return;
        }
        let server = &cx.framers[cx.direction.opposite().index()];
        let has_read_all = server.seen_until == read_until && server.state == ParseState::Start;
        self.end_batch(cx, has_read_all);
    }

    /// The connection has ended, and everything that is open on it.
    #[cold]
    pub(super) fn end_batch_at_end<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        end: Option<End>,
    ) {
        // A server may close early, but says so.
        let last = self.held.last().filter(|_| self.batch.is_some());
        let is_announced = last.is_some_and(|id| {
            let response = &cx.pool().exchange(id).response;
            let text = response.text.get(response.start_line_bytes as usize..).unwrap_or_default();
            text.split(|byte| *byte == b'\n').any(|line| {
                let line = line.trim_ascii().to_ascii_lowercase();
                line.starts_with(b"connection:") && line.ends_with(b"close")
            })
        });
        self.end_batch(cx, end == Some(End::Fin) && !is_announced);
    }

    /// Reports the batch, paired if `is_whole` and as many responses came as requests. If it is not
    /// certain yet who the client is, the responses wait for that, unpaired.
    pub fn end_batch<S: EventSink>(&mut self, cx: &mut Http1Context<'_, S>, is_whole: bool) {
        if self.batch.take().is_none() || self.guess.is_some() {
            return;
        }
        let is_paired = is_whole
            && self.is_in_order()
            && self.held.count() == self.pending.count()
            && self.open.iter().all(|open| open.id.is_none())
            && self.are_plain(cx);
        while let Some(response) = self.held.pop(cx.pool()) {
            match self.pending.first().filter(|_| is_paired) {
                Some(request) => {
                    self.next_n -= 1;
                    cx.pool().merge_response(request, response);
                    self.pending.pop(cx.pool());
                    self.report(cx, request, Outcome::Complete, None);
                }
                None => self.report(cx, response, Outcome::NoRequest, None),
            }
        }
    }

    /// Whether all requests have ended, and none has a response that is framed in its own way.
    fn are_plain<S>(&self, cx: &mut Http1Context<'_, S>) -> bool {
        let mut next = self.pending.first();
        while let Some(id) = next {
            let entry = cx.pool().entry(id);
            let request = &entry.exchange.request;
            let is_other = matches!(request.method(), Some(b"HEAD" | b"CONNECT"));
            if is_other || !request.is_ended || entry.exchange.response.is_seen {
                return false;
            }
            next = entry.next;
        }
        true
    }
}
