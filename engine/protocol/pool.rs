//! [`ExchangePool`]: the open exchanges of a shard. Their memory is reused: in the steady state an
//! exchange allocates nothing, and an idle connection holds none.

use crate::decode::SeqNumber;
use crate::record::{Exchange, GrpcFields, GrpcKind, Header, Trailers};

/// A text with more capacity than this is freed when its exchange goes back to the pool.
const KEPT_TEXT_BYTES: usize = 4096;

/// Exchanges that are not in use keep their memory up to this share (one part in 64) of the shard's
/// memory limit for exchanges: 4 MiB, or about 4,000 exchanges. Further ones are freed.
const KEPT_SHARE: usize = 64;

/// Spare buffers that are kept. They hold heads that arrive in pieces.
const KEPT_BUFFER_COUNT: usize = 64;

/// Spare calls of gRPC that are kept.
const KEPT_CALL_COUNT: usize = 64;

/// The memory of an open exchange, except for its texts and headers: the entry, the statuses of
/// interim responses, and the overhead of the allocator for these, the texts and the headers. (The
/// slots in the lists take 24 more at most, and remain when an exchange is freed: one part in 28 of
/// the limit.)
const ENTRY_BYTES: usize = size_of::<Entry>() + 192;

/// The slot of an exchange in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ExchangeId(u32);

/// How certain it is that the response to a request is the next one that no other request waits
/// for. Earlier requests may have passed unseen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Confidence {
    /// Nothing is missing before it.
    #[default]
    Full,
    /// It is the first captured request of a connection whose beginning was not captured
    /// (midstream). Full, unless the client turns out to send batches.
    UnlessBatched,
    /// Requests may be missing whose responses come before its own.
    None,
}

/// An open exchange, and the state that pairing keeps for it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub exchange: Exchange,
    /// The next request of the same connection.
    pub next: Option<ExchangeId>,
    /// The position of its first message in the sender's stream.
    pub start: SeqNumber,
    /// The position of its first interim response. Undefined unless there is one.
    pub interim_at: SeqNumber,
    /// How far the client had read the server's stream when it sent the request.
    pub read_until: Option<SeqNumber>,
    /// Requests before this one may have been lost.
    pub is_after_loss: bool,
    /// Whether the responses to those requests may come before its own.
    pub confidence: Confidence,
    /// The request has `Expect: 100-continue`: the client may withhold the body.
    pub is_body_withheld: bool,
    /// Its exchange has a call of gRPC, or trailers.
    has_rare: bool,
}

/// The entry at `id`. Allocates it if there is none.
#[inline]
fn entry_of(entries: &mut [Option<Box<Entry>>], id: ExchangeId) -> &mut Entry {
    #[cold]
    #[inline(never)]
    fn blank() -> Box<Entry> {
        Box::default()
    }
    entries[id.0 as usize].get_or_insert_with(blank)
}

/// The memory of a list of headers.
fn header_bytes(headers: &Vec<Header>) -> usize {
    headers.capacity() * size_of::<Header>()
}

/// Clears the headers of a message, and frees their memory if it is large. Returns the memory that
/// they held, and how much of it was freed.
#[cold]
fn shrink_headers(headers: &mut Vec<Header>) -> (usize, usize) {
    let held_bytes = header_bytes(headers);
    headers.clear();
    if held_bytes <= KEPT_TEXT_BYTES {
        return (held_bytes, 0);
    }
    *headers = Vec::new();
    (held_bytes, held_bytes)
}

/// All open exchanges of a shard, and the sum of all memory held for messages.
#[derive(Debug)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct ExchangePool {
    entries: Vec<Option<Box<Entry>>>,
    /// Free slots that keep their entry.
    kept: Vec<ExchangeId>,
    /// Free slots without an entry.
    empty: Vec<ExchangeId>,
    buffers: Vec<Vec<u8>>,
    /// Those of gRPC calls that are over.
    calls: Vec<Box<GrpcFields>>,
    /// In use.
    held_bytes: usize,
    /// In the entries of `kept`.
    kept_bytes: usize,
    kept_bytes_max: usize,
}

impl ExchangePool {
    /// Starts without any exchange. What is held at the same time is limited by the callers, to
    /// `held_bytes_max`.
    pub(super) fn new(held_bytes_max: usize) -> ExchangePool {
        ExchangePool {
            entries: Vec::new(),
            kept: Vec::new(),
            empty: Vec::new(),
            buffers: Vec::new(),
            calls: Vec::new(),
            held_bytes: 0,
            kept_bytes: 0,
            kept_bytes_max: held_bytes_max / KEPT_SHARE,
        }
    }

    #[inline(always)]
    pub(crate) fn take(&mut self) -> ExchangeId {
        let id = self.kept.pop().unwrap_or_else(|| self.new_slot());
        let Exchange { request, response, .. } = self.exchange(id);
        let bytes = ENTRY_BYTES + request.text.capacity() + response.text.capacity();
        let has_headers = request.headers.capacity() + response.headers.capacity() > 0;
        self.held_bytes += bytes;
        self.kept_bytes -= bytes;
        if has_headers {
            self.hold_headers(id);
        }
        id
    }

    #[cold]
    fn hold_headers(&mut self, id: ExchangeId) {
        let Exchange { request, response, .. } = self.exchange(id);
        let bytes = header_bytes(&request.headers) + header_bytes(&response.headers);
        self.held_bytes += bytes;
        self.kept_bytes -= bytes;
    }

    /// A slot without an entry. The entry that it gets counts as kept until it is taken.
    #[cold]
    fn new_slot(&mut self) -> ExchangeId {
        self.kept_bytes += ENTRY_BYTES;
        self.empty.pop().unwrap_or_else(|| {
            self.entries.push(None);
            ExchangeId((self.entries.len() - 1) as u32)
        })
    }

    #[inline]
    pub(crate) fn give_back(&mut self, id: ExchangeId) {
        let mut entry = self.entry(id);
        if entry.has_rare {
            self.give_rare_back(id);
            entry = self.entry(id);
        }
        let (mut held_bytes, mut freed_bytes) = (ENTRY_BYTES, 0);
        for message in [&mut entry.exchange.request, &mut entry.exchange.response] {
            held_bytes += message.text.capacity();
            if message.text.capacity() > KEPT_TEXT_BYTES {
                freed_bytes += message.text.capacity();
                message.text = Vec::new();
            }
            if message.headers.capacity() > 0 {
                let (held, freed) = shrink_headers(&mut message.headers);
                (held_bytes, freed_bytes) = (held_bytes + held, freed_bytes + freed);
            }
        }
        entry.exchange.clear();
        entry.next = None;
        entry.read_until = None;
        entry.is_after_loss = false;
        entry.confidence = Confidence::Full;
        entry.is_body_withheld = false;
        self.held_bytes -= held_bytes;
        let kept_bytes = self.kept_bytes + held_bytes - freed_bytes;
        if kept_bytes <= self.kept_bytes_max {
            self.kept_bytes = kept_bytes;
            self.kept.push(id);
        } else {
            self.entries[id.0 as usize] = None;
            self.empty.push(id);
        }
    }

    /// Takes back what few exchanges have.
    #[inline(never)]
    fn give_rare_back(&mut self, id: ExchangeId) {
        self.entry(id).has_rare = false;
        self.end_call(id);
        for is_request in [true, false] {
            if self.exchange(id).message(is_request).trailers.is_some() {
                self.drop_trailers(id, is_request);
            }
        }
    }

    /// Drops the fields behind the body of a message.
    pub(crate) fn drop_trailers(&mut self, id: ExchangeId, is_request: bool) {
        let trailers = self.exchange(id).message_mut(is_request).trailers.take();
        self.held_bytes -= trailers.map_or(0, |trailers| trailers.held_bytes());
    }

    /// Resets a message of the exchange to one that was not seen.
    #[cold]
    pub(crate) fn clear_message(&mut self, id: ExchangeId, is_request: bool) {
        self.drop_trailers(id, is_request);
        self.exchange(id).message_mut(is_request).clear();
    }

    /// Changes the fields behind the body of a message. They begin if there were none.
    #[inline(never)]
    pub(crate) fn change_trailers(
        &mut self,
        id: ExchangeId,
        is_request: bool,
        change: impl FnOnce(&mut Trailers),
    ) {
        let entry = self.entry(id);
        entry.has_rare = true;
        let message = entry.exchange.message_mut(is_request);
        let before = message.trailers.as_ref().map_or(0, |trailers| trailers.held_bytes());
        let trailers = message.trailers.get_or_insert_default();
        change(trailers);
        let after = trailers.held_bytes();
        self.held_bytes += after;
        self.held_bytes -= before;
    }

    /// The exchange turns out to be a call of gRPC, or may be one.
    #[inline(never)]
    pub(crate) fn begin_call(&mut self, id: ExchangeId) {
        let call = self.calls.pop().unwrap_or_default();
        self.held_bytes += call.held_bytes();
        let entry = self.entry(id);
        (entry.has_rare, entry.exchange.grpc) = (true, Some(call));
    }

    /// Changes what is known of the call, if the exchange is one.
    #[inline]
    pub(crate) fn change_call(&mut self, id: ExchangeId, change: impl FnOnce(&mut GrpcFields)) {
        let Some(call) = &mut self.exchange(id).grpc else { return };
        let before = call.held_bytes();
        change(call);
        let after = call.held_bytes();
        self.held_bytes += after;
        self.held_bytes -= before;
    }

    /// The call is over, or the exchange is none.
    #[inline(never)]
    pub(crate) fn end_call(&mut self, id: ExchangeId) {
        let Some(mut call) = self.exchange(id).grpc.take() else { return };
        self.held_bytes -= call.held_bytes();
        if self.calls.len() < KEPT_CALL_COUNT {
            *call = GrpcFields::default();
            self.calls.push(call);
        }
    }

    #[inline]
    pub(crate) fn entry(&mut self, id: ExchangeId) -> &mut Entry {
        entry_of(&mut self.entries, id)
    }

    #[inline]
    pub(crate) fn exchange(&mut self, id: ExchangeId) -> &mut Exchange {
        &mut self.entry(id).exchange
    }

    /// Copies a text into a message of the exchange. Returns the entry.
    #[inline(always)]
    pub(crate) fn set_text(
        &mut self,
        id: ExchangeId,
        is_request: bool,
        bytes: &[u8],
    ) -> &mut Entry {
        let entry = entry_of(&mut self.entries, id);
        let text = &mut entry.exchange.message_mut(is_request).text;
        let before = text.capacity();
        text.clear();
        if bytes.len() > before {
            text.reserve_exact(bytes.len());
            self.held_bytes += text.capacity() - before;
        }
        text.extend_from_slice(bytes);
        entry
    }

    /// Moves the response of one exchange into another one, which has none. Gives the rest back.
    #[cold]
    pub(crate) fn merge_response(&mut self, request: ExchangeId, response: ExchangeId) {
        let slots = [request, response].map(|id| id.0 as usize);
        if let Ok([Some(into), Some(from)]) = self.entries.get_disjoint_mut(slots) {
            into.has_rare |= from.has_rare;
            let (into, from) = (&mut into.exchange, &mut from.exchange);
            // The memory of both stays in use.
            std::mem::swap(&mut into.response, &mut from.response);
            std::mem::swap(&mut into.interim, &mut from.interim);
            match (&mut into.grpc, &mut from.grpc) {
                (Some(into), Some(from)) => {
                    // All but the request's body is of the response.
                    std::mem::swap(into, from);
                    std::mem::swap(&mut into.bodies[1], &mut from.bodies[1]);
                }
                (into @ None, from @ Some(_)) => {
                    std::mem::swap(into, from);
                    // The request was seen to be none.
                    into.iter_mut().for_each(|call| call.bodies[1].kind = GrpcKind::Other);
                }
                (_, None) => {}
            }
            into.interim_omitted = from.interim_omitted;
            into.gap_bytes += from.gap_bytes;
            into.retransmitted_bytes += from.retransmitted_bytes;
            into.is_conflict |= from.is_conflict;
            into.is_switched |= from.is_switched;
        }
        self.give_back(response);
    }

    /// Sets the headers of a message whose text was set before.
    #[inline(never)]
    pub(crate) fn set_headers(
        &mut self,
        id: ExchangeId,
        is_request: bool,
        found: impl Iterator<Item = Header>,
    ) {
        let entry = entry_of(&mut self.entries, id);
        let headers = &mut entry.exchange.message_mut(is_request).headers;
        let before_bytes = header_bytes(headers);
        headers.clear();
        headers.extend(found);
        self.held_bytes += header_bytes(headers) - before_bytes;
    }

    /// Appends to a head that arrives in pieces.
    pub(crate) fn extend(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        let before = buffer.capacity();
        buffer.extend_from_slice(bytes);
        self.held_bytes += buffer.capacity() - before;
    }

    /// An empty buffer, for a head that arrives in pieces.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.held_bytes += buffer.capacity();
        buffer
    }

    pub(crate) fn give_buffer_back(&mut self, mut buffer: Vec<u8>) {
        self.held_bytes -= buffer.capacity();
        let is_worth_it = (1..=KEPT_TEXT_BYTES).contains(&buffer.capacity());
        if is_worth_it && self.buffers.len() < KEPT_BUFFER_COUNT {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// Adds memory that the state of a connection takes from now on.
    #[inline(always)]
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.held_bytes += bytes;
    }

    /// Subtracts memory that was freed.
    #[inline(always)]
    pub(crate) fn release(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
    }

    /// The limit for the memory of exchanges that are not in use.
    #[inline]
    pub(super) fn kept_bytes_max(&self) -> usize {
        self.kept_bytes_max
    }

    /// The memory of heads, exchanges and active connections, over all connections.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The number of open exchanges, over all connections.
    pub fn in_use(&self) -> usize {
        self.entries.len() - self.kept.len() - self.empty.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_response_keeps_its_part_of_a_call() {
        let mut pool = ExchangePool::new(1 << 20);
        let [request, response] = [(); 2].map(|()| pool.take());
        for (id, count, text) in [(request, 1, ""), (response, 2, "no")] {
            pool.begin_call(id);
            pool.change_call(id, |call| {
                call.bodies.iter_mut().for_each(|body| body.message_count = count);
                call.message = Some(text.into());
                call.web_trailers = text.into();
                (call.status, call.has_status) = (Some(count as u32), true);
            });
        }
        pool.merge_response(request, response);
        let call = pool.exchange(request).grpc.as_ref().expect("a call");
        assert_eq!(call.bodies.map(|body| body.message_count), [2, 1]);
        assert_eq!((call.status, call.message.as_deref()), (Some(2), Some(&b"no"[..])));
        assert_eq!(call.web_trailers, b"no");
        pool.give_back(request);
        assert_eq!(pool.held_bytes(), 0);
    }
}
