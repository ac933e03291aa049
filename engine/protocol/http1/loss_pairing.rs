//! [`LossPairing`]: which request a response belongs to after a loss.
//!
//! Without a loss, responses come in the order of their requests, and this module is not used.
//! After a loss, sequence numbers decide. A request's acknowledgement number shows how far its
//! client had read the responses when it sent the request. A client that waits for each response,
//! or that sends a batch of requests and waits for all of their responses, had then read the
//! responses to all earlier requests. These positions therefore divide the response stream into
//! windows. A window contains, in order, the responses to the requests whose acknowledgement number
//! is its beginning, and no others. A client that sends further requests before it has all
//! responses (`is_sliding`) does not show where a window begins.
//!
//! A response that this cannot decide is not paired.

use super::pending::PendingRequests;
use crate::decode::SeqNumber;
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::pool::{Confidence, ExchangeId, ExchangePool};

/// Why messages may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Bytes were lost.
    Lost,
    /// Bytes were seen, but no message was found in them. Most likely there was none.
    NotUnderstood,
}

/// What is known about the order of a connection's messages.
#[derive(Debug, Default)]
pub(super) struct LossPairing {
    /// How far the client had read when it sent the last request that was seen.
    pub last_read: Option<SeqNumber>,
    /// The client sends further requests after it has read some of the responses, but not all.
    pub is_sliding: bool,
    /// Responses may be missing before this position, until a response can be placed again.
    response_loss: Option<SeqNumber>,
    /// Requests may be missing before the next one, until a request passes whose response cannot be
    /// behind theirs in the same window.
    request_loss: Option<RequestLoss>,
    /// The end of the last loss of each direction, while it is unknown which one sends the
    /// requests.
    lost_until: [Option<SeqNumber>; 2],
}

/// Bytes of the client that may have contained requests.
#[derive(Clone, Copy, Debug)]
struct RequestLoss {
    /// The bytes were lost, rather than seen and not understood.
    is_of_bytes: bool,
    /// The position behind the last of them.
    until: SeqNumber,
    /// The first seen position in the response stream that the server sent after it had received
    /// them.
    received_at: Option<SeqNumber>,
}

impl LossPairing {
    /// Whether nothing is missing.
    #[inline(always)]
    pub fn is_sure(&self) -> bool {
        self.response_loss.is_none() && self.request_loss.is_none()
    }

    /// Whether no loss waits to be assigned to client or server.
    pub fn is_assigned(&self) -> bool {
        self.lost_until.iter().all(Option::is_none)
    }

    /// Whether responses may be missing since the last one that was placed.
    #[inline(always)]
    pub fn is_response_lost(&self) -> bool {
        self.response_loss.is_some()
    }

    /// Whether requests may be missing before the next one.
    #[inline(always)]
    pub fn is_request_lost(&self) -> bool {
        self.request_loss.is_some()
    }

    /// Whether responses may be missing behind `place`.
    pub fn is_response_lost_behind(&self, place: SeqNumber) -> bool {
        self.response_loss.is_some_and(|until| place.precedes(until))
    }

    /// A request was given up before its response came, and requests before it may be missing. The
    /// number of responses to skip is then unknown.
    pub fn lose_count(&mut self, read_until: Option<SeqNumber>) {
        self.response_loss = self.response_loss.or(Some(read_until.unwrap_or_default()));
    }

    /// Responses may be missing up to `until`.
    pub fn lose_responses(&mut self, until: SeqNumber) {
        self.response_loss = Some(until);
    }

    /// Requests may be missing up to `until`.
    pub fn lose_requests(&mut self, until: SeqNumber, cause: Cause) {
        let was_of_bytes = self.request_loss.is_some_and(|loss| loss.is_of_bytes);
        let is_of_bytes = was_of_bytes || cause == Cause::Lost;
        self.request_loss = Some(RequestLoss { is_of_bytes, until, received_at: None });
    }

    /// Messages of a direction may be missing up to `until`. It is not known yet whether they are
    /// requests or responses.
    pub fn lose_messages_of(&mut self, direction: Direction, until: SeqNumber) {
        self.lost_until[direction.index()] = Some(until);
    }

    /// The sender of the responses is known from now on.
    pub fn know_server(&mut self, server: Direction) {
        self.response_loss = self.response_loss.or(self.lost_until[server.index()]);
    }

    /// Resumes a connection that was idle between exchanges.
    pub fn resume(&mut self, last_read: Option<SeqNumber>, is_sliding: bool) {
        (self.last_read, self.is_sliding) = (last_read, is_sliding);
        self.lost_until = [None; 2];
    }

    /// The server sends `meta`. It may show that the server has received the lost bytes of the
    /// client.
    #[cold]
    pub fn note_receipt(&mut self, meta: &SegmentMeta) {
        if let Some(loss) = &mut self.request_loss
            && loss.received_at.is_none()
            && meta.ack.is_some_and(|ack| !ack.precedes(loss.until))
        {
            loss.received_at = Some(meta.seq);
        }
    }

    /// A request passes whose client had read up to `read_until`. Learns whether the client sends
    /// requests before it has read all responses. `seen_until` and `is_searching` describe the
    /// server's stream: how far it was seen, and whether a head is searched for in it. `is_waiting`
    /// returns whether a request waits that certainly has no response yet.
    pub fn learn_pipelining(
        &mut self,
        read_until: Option<SeqNumber>,
        (seen_until, is_searching): (Option<SeqNumber>, bool),
        is_waiting: impl FnOnce() -> bool,
    ) {
        let Some(read_until) = read_until else { return };
        let last_read = self.last_read.replace(read_until);
        let has_read_more = last_read.is_some_and(|last| last.precedes(read_until));
        if !has_read_more || self.is_sliding {
            return;
        }
        let Some(seen_until) = seen_until else { return };
        let is_unread = read_until.precedes(seen_until);
        let is_known = read_until == seen_until && !is_searching && self.is_sure();
        self.is_sliding = is_unread || is_known && is_waiting();
    }

    /// A request passes. Returns whether requests before it may be missing, and whether their
    /// responses may come before its own.
    pub fn place_request(
        &mut self,
        is_joined: bool,
        read_until: Option<SeqNumber>,
    ) -> (bool, Confidence) {
        let confidence = if is_joined { Confidence::UnlessBatched } else { Confidence::Full };
        let Some(loss) = self.request_loss else { return (is_joined, confidence) };
        // If the client has read something that was sent after the loss, it has read all responses
        // to the lost requests.
        let read = loss.received_at.zip(read_until);
        let has_read = read.is_some_and(|(place, until)| place.precedes(until));
        if loss.is_of_bytes && (self.is_sliding || !has_read) {
            return (true, Confidence::None);
        }
        self.request_loss = None;
        (true, confidence)
    }

    /// How many of the first requests can no longer get a response at `at`: a later request shows
    /// that their windows have ended before.
    pub fn ended_windows(
        &self,
        pending: &PendingRequests,
        at: SeqNumber,
        pool: &mut ExchangePool,
    ) -> usize {
        if self.is_sliding {
            return 0;
        }
        let (mut count, mut ended_count) = (0, 0);
        let mut id = pending.first();
        let mut begin = id.and_then(|id| pool.entry(id).read_until);
        while let Some(next) = id.and_then(|id| pool.entry(id).next) {
            count += 1;
            let next_begin = pool.entry(next).read_until;
            if let (Some(before), Some(after)) = (begin, next_begin)
                && before.precedes(after)
                && !at.precedes(after)
            {
                ended_count = count;
            }
            (id, begin) = (Some(next), next_begin.or(begin));
        }
        ended_count
    }

    /// The pending request that the response in `head` belongs to, after those of ended windows
    /// were given up.
    pub fn choose(
        &mut self,
        pending: &PendingRequests,
        head: &SegmentMeta,
        pool: &mut ExchangePool,
    ) -> Option<ExchangeId> {
        let first = pending.first()?;
        if !may_answer(first, head, pool) || is_in_doubt(first, pool) {
            return None;
        }
        let begin = pool.entry(first).read_until;
        let is_window_whole =
            !self.is_sliding && begin.is_some_and(|begin| !self.is_response_lost_behind(begin));
        let is_sure = !self.is_response_lost() || is_window_whole;
        if !is_sure && !self.is_only_choice(first, head, pool) {
            return None;
        }
        self.response_loss = None;
        Some(first)
    }

    /// Whether the response in `head` can only belong to the first request: not to another pending
    /// request, and not to a lost one behind it.
    fn is_only_choice(
        &self,
        first: ExchangeId,
        head: &SegmentMeta,
        pool: &mut ExchangePool,
    ) -> bool {
        match pool.entry(first).next {
            Some(next) => !pool.entry(next).is_after_loss && !may_answer(next, head, pool),
            None => !self.request_loss.is_some_and(|loss| loss.is_of_bytes),
        }
    }
}

/// Whether responses to unseen requests may come first in the window of this request.
fn is_in_doubt(id: ExchangeId, pool: &mut ExchangePool) -> bool {
    let entry = pool.entry(id);
    let (confidence, next, begin) = (entry.confidence, entry.next, entry.read_until);
    match confidence {
        Confidence::Full => false,
        Confidence::UnlessBatched => next.is_some_and(|next| pool.entry(next).read_until == begin),
        Confidence::None => true,
    }
}

/// Whether the response in `head` may belong to the request: it has no response yet, the server had
/// received it when it sent the response, and its client had not read the response when it sent the
/// request.
fn may_answer(id: ExchangeId, head: &SegmentMeta, pool: &mut ExchangePool) -> bool {
    let entry = pool.entry(id);
    !entry.exchange.response.is_seen
        && entry.read_until.is_some_and(|read_until| !head.seq.precedes(read_until))
        && head.ack.is_none_or(|ack| entry.start.precedes(ack))
}
