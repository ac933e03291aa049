//! The straight path: a request, or the response to it, that is whole in one segment, on a
//! connection on which nothing else is in progress or in doubt. Most messages are like that. Such a
//! message needs no reading of its body, no search for its request and no limits, and makes or
//! completes its exchange in one step.
//!
//! Everything else takes the full path ([`Http1Connection::message`]), which would do the same for
//! these messages: both leave the same connection, exchanges, counters and memory behind, so that
//! any message may follow on either path, and whatever else looks at the connection finds what it
//! expects. Tests compare the two after each segment.

use super::connection::{Http1Connection, Spoken};
use super::framer::ParseState;
use super::head::{Head, Kind};
use super::pairer::{OpenMessage, Pairer};
use super::{Http1Context, ParsedHead};
use crate::ids::Direction;
use crate::protocol::{Context, Recorder, Shared, grpc};
use crate::record::{EventSink, Outcome};

/// With less memory than this below the limit, messages take the full path, which may have to give
/// up others. A message adds less: its text, and an exchange.
const MARGIN_BYTES: usize = 1 << 18;

/// Whether messages may take the straight path.
#[derive(Debug)]
pub struct StraightPath {
    /// The sink wants no header lists and no messages, which it does not make.
    pub(crate) is_allowed: bool,
    /// The number of messages that took it.
    #[cfg(test)]
    pub(crate) count: u64,
}

impl StraightPath {
    pub(in crate::protocol) fn new<S: EventSink>(recorder: &Recorder<S>) -> StraightPath {
        StraightPath {
            is_allowed: !recorder.wants_headers() && !recorder.wants_messages(),
            #[cfg(test)]
            count: 0,
        }
    }
}

impl Http1Connection {
    /// Takes a message whose head is complete, and behind which `rest_bytes` follow in its segment.
    /// Returns whether it did, and then took the body, too.
    #[inline(always)]
    pub(super) fn take_straight<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        parsed: &ParsedHead<'_>,
        rest_bytes: usize,
    ) -> bool {
        let is_straight = self.is_calm(direction)
            && is_whole(parsed.head, rest_bytes)
            && !grpc::may_be_grpc(parsed.head.fields.content_type, parsed.bytes)
            && may_go_straight(cx.shared);
        if !is_straight {
            return false;
        }
        let (pairer, mut cx) = self.parts(cx, direction);
        match parsed.head.kind {
            Kind::Request => pairer.straight_request(&mut cx, parsed, rest_bytes as u64),
            Kind::Response { .. } => pairer.straight_response(&mut cx, parsed, rest_bytes as u64),
        }
    }

    /// Whether no message is in progress, and no doubt is left about earlier ones.
    #[inline(always)]
    fn is_calm(&self, direction: Direction) -> bool {
        let pairer = &self.pairer;
        let [own, peer] = [direction, direction.opposite()].map(Direction::index);
        matches!(self.framers[peer].state, ParseState::Start)
            && self.framers[own].retransmitted_bytes == 0
            && pairer.open.iter().all(|open| open.id.is_none())
            && pairer.is_in_order()
            && !pairer.is_unsure()
            && !pairer.has_switched
            && self.spoken == Spoken::Http1
    }
}

/// Whether it is allowed, and no limit is near.
#[inline(always)]
fn may_go_straight<S>(shared: &Shared<S>) -> bool {
    let margin_bytes = MARGIN_BYTES.max(2 * shared.limits.head_bytes_max);
    let most_bytes = shared.recorder.pool.held_bytes() + margin_bytes;
    shared.straight.is_allowed && most_bytes <= shared.limits.held_share(true)
}

/// Whether the body that `head` announces is exactly the `rest_bytes` behind it, and nothing is
/// unusual about how it does.
#[inline(always)]
fn is_whole(head: &Head, rest_bytes: usize) -> bool {
    let fields = &head.framing;
    !(fields.has_transfer_coding
        | fields.has_identity
        | fields.is_length_invalid
        | fields.expects_continue)
        && fields.content_length.unwrap_or(0) == rest_bytes as u64
}

impl Pairer {
    /// The only request that is under way, if the client has read all responses to earlier ones.
    #[inline(always)]
    fn straight_request<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        parsed: &ParsedHead<'_>,
        body_bytes: u64,
    ) -> bool {
        let first = parsed.first;
        let seen_until = cx.framers[cx.direction.opposite().index()].seen_until;
        let has_read_all = first.ack.is_some() && first.ack == seen_until;
        if !self.is_client(cx.direction)
            || !self.pending.is_empty()
            || !has_read_all
            || self.loss.last_read.is_none()
        {
            return false;
        }
        self.loss.last_read = first.ack;
        cx.shared.recorder.stats.requests += 1;
        let id = self.new_exchange(cx, first);
        let entry = cx.pool().set_text(id, true, parsed.bytes);
        entry.read_until = first.ack;
        parsed.fill_whole(&mut entry.exchange.request, body_bytes);
        self.pending.push(id, cx.pool());
        self.end_straight(cx, parsed);
        true
    }

    /// The response to the only request that is under way.
    #[inline(always)]
    fn straight_response<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        parsed: &ParsedHead<'_>,
        body_bytes: u64,
    ) -> bool {
        let (Some(id), 1) = (self.pending.first(), self.pending.count()) else { return false };
        let is_server = self.is_client(cx.direction.opposite());
        let has_length = parsed.head.framing.content_length.is_some();
        if !is_server || !has_length || !is_final_with_body(parsed.head.kind) {
            return false;
        }
        let entry = cx.pool().entry(id);
        let exchange = &entry.exchange;
        let (request, response) = (&exchange.request, &exchange.response);
        // Of a method that begins with one of these letters, the response may have no body, or end
        // HTTP on the connection: HEAD, CONNECT.
        let is_usual = !matches!(request.text.first(), Some(b'H' | b'C'));
        if !is_usual
            || !request.is_ended
            || response.is_seen
            || exchange.grpc.is_some()
            || exchange.is_conflict
            || entry.is_after_loss
        {
            return false;
        }
        cx.shared.recorder.stats.responses += 1;
        let exchange = &mut cx.pool().set_text(id, false, parsed.bytes).exchange;
        parsed.fill_whole(&mut exchange.response, body_bytes);
        exchange.is_early = false;
        self.end_straight(cx, parsed);
        self.pending.pop(cx.pool());
        let identity = self.identity(cx.flow);
        cx.shared.recorder.report(identity, cx.flow, id, Outcome::Complete, None);
        true
    }

    /// A message has ended in the segment in which it began.
    #[inline(always)]
    fn end_straight<S>(&mut self, cx: &mut Http1Context<'_, S>, parsed: &ParsedHead<'_>) {
        #[cfg(test)]
        {
            cx.shared.straight.count += 1;
        }
        let framer = cx.framer();
        (framer.head_at, framer.last_at) = (parsed.first.seq, Some(parsed.last));
        let open = &mut self.open[cx.direction.index()];
        *open = OpenMessage { is_body_certain: true, ..OpenMessage::default() };
    }
}

/// Whether it is a response that ends its exchange, and may have a body.
#[inline(always)]
fn is_final_with_body(kind: Kind) -> bool {
    matches!(kind, Kind::Response { status } if status >= 200 && status != 204 && status != 304)
}
