//! The exchanges of a shard that are under way. Their memory is used again, so that none is
//! allocated for an exchange in the steady state, and an idle connection holds none.

use super::conversation::Conversation;
use super::exchange::{Exchange, message_of};
use super::places::Doubt;
use crate::decode::SeqNumber;

/// Heads longer than this give their memory back.
const KEPT_HEAD_BYTES: usize = 4096;

/// Exchanges that are not under way and keep their memory; others give it back. So what is kept is
/// at most 36 MiB.
const KEPT_COUNT: usize = 4096;

/// Buffers of heads that came in pieces which are kept.
const KEPT_BUFFER_COUNT: usize = 64;

/// What an exchange under way takes beside its heads: itself, its place in the lists, the statuses
/// of interim answers, and what the allocator adds to these and to the heads.
const ENTRY_BYTES: usize = size_of::<Entry>() + 128;

/// What a conversation takes that is awake, with what the allocator adds. At most
/// [`KEPT_COUNT`] of those that were awake keep their memory.
pub(super) const CONVERSATION_BYTES: usize = size_of::<Conversation>() + 16;

/// The place of an exchange in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ExchangeId(u32);

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub exchange: Exchange,
    /// The next request of the same connection.
    pub next: Option<ExchangeId>,
    /// Where its first message begins in its sender's stream.
    pub start: SeqNumber,
    /// How far the client had read the server's stream when it sent the request.
    pub read_until: Option<SeqNumber>,
    /// Requests before this one may have been lost.
    pub is_after_loss: bool,
    /// They may have been sent together with this one, so that their answers come before its own.
    pub doubt: Doubt,
    /// The request asked for `100 Continue` and holds its body back.
    pub is_body_withheld: bool,
}

/// The entry at `id`, made if it is not there.
#[inline]
fn entry_of(entries: &mut [Option<Box<Entry>>], id: ExchangeId) -> &mut Entry {
    #[cold]
    #[inline(never)]
    fn blank() -> Box<Entry> {
        Box::default()
    }
    entries[id.0 as usize].get_or_insert_with(blank)
}

/// All exchanges under way in a shard.
#[derive(Debug, Default)]
#[allow(clippy::vec_box)] // They go back as boxes where they come from.
pub struct ExchangePool {
    entries: Vec<Option<Box<Entry>>>,
    /// Places not in use whose entry is there.
    kept: Vec<ExchangeId>,
    /// Places not in use without an entry.
    empty: Vec<ExchangeId>,
    buffers: Vec<Vec<u8>>,
    /// Conversations in which nothing is under way.
    conversations: Vec<Box<Conversation>>,
    held_bytes: usize,
}

impl ExchangePool {
    #[inline]
    pub(super) fn take(&mut self) -> ExchangeId {
        self.held_bytes += ENTRY_BYTES;
        let id = self.kept.pop().unwrap_or_else(|| self.new_place());
        let exchange = self.exchange(id);
        let kept_bytes = exchange.request.head.capacity() + exchange.response.head.capacity();
        self.held_bytes += kept_bytes;
        id
    }

    #[cold]
    fn new_place(&mut self) -> ExchangeId {
        self.empty.pop().unwrap_or_else(|| {
            self.entries.push(None);
            ExchangeId((self.entries.len() - 1) as u32)
        })
    }

    #[inline]
    pub(super) fn give_back(&mut self, id: ExchangeId) {
        let entry = self.entry(id);
        let mut freed_bytes = ENTRY_BYTES;
        for message in [&mut entry.exchange.request, &mut entry.exchange.response] {
            freed_bytes += message.head.capacity();
            if message.head.capacity() > KEPT_HEAD_BYTES {
                message.head = Vec::new();
            }
        }
        entry.exchange.clear();
        entry.next = None;
        entry.read_until = None;
        entry.is_after_loss = false;
        entry.doubt = Doubt::None;
        entry.is_body_withheld = false;
        self.held_bytes -= freed_bytes;
        if self.kept.len() < KEPT_COUNT {
            self.kept.push(id);
        } else {
            self.entries[id.0 as usize] = None;
            self.empty.push(id);
        }
    }

    #[inline]
    pub(super) fn entry(&mut self, id: ExchangeId) -> &mut Entry {
        entry_of(&mut self.entries, id)
    }

    #[inline]
    pub(super) fn exchange(&mut self, id: ExchangeId) -> &mut Exchange {
        &mut self.entry(id).exchange
    }

    /// Copies a head into a message of the exchange, which is returned.
    #[inline(always)]
    pub(super) fn fill_head(
        &mut self,
        id: ExchangeId,
        is_request: bool,
        bytes: &[u8],
    ) -> &mut Entry {
        let entry = entry_of(&mut self.entries, id);
        let head = &mut message_of(&mut entry.exchange, is_request).head;
        let before = head.capacity();
        head.clear();
        if bytes.len() > before {
            head.reserve_exact(bytes.len());
            self.held_bytes += head.capacity() - before;
        }
        head.extend_from_slice(bytes);
        entry
    }

    /// Adds to a head that comes in pieces.
    pub(super) fn extend(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        let before = buffer.capacity();
        buffer.extend_from_slice(bytes);
        self.held_bytes += buffer.capacity() - before;
    }

    /// Bytes that heads, exchanges and conversations under way take, all connections together.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// An empty buffer, for a head that comes in pieces.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.held_bytes += buffer.capacity();
        buffer
    }

    pub(super) fn give_buffer_back(&mut self, mut buffer: Vec<u8>) {
        self.held_bytes -= buffer.capacity();
        let is_worth_it = (1..=KEPT_HEAD_BYTES).contains(&buffer.capacity());
        if is_worth_it && self.buffers.len() < KEPT_BUFFER_COUNT {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// A conversation in which nothing is under way.
    #[inline]
    pub(super) fn take_conversation(&mut self) -> Box<Conversation> {
        self.held_bytes += CONVERSATION_BYTES;
        self.conversations.pop().unwrap_or_default()
    }

    /// Takes a conversation back in which nothing is under way.
    #[inline]
    pub(super) fn give_conversation_back(&mut self, talk: Box<Conversation>) {
        self.held_bytes -= CONVERSATION_BYTES;
        if self.conversations.len() < KEPT_COUNT {
            self.conversations.push(talk);
        }
    }

    /// Exchanges under way, in all connections together.
    pub fn in_use(&self) -> usize {
        self.entries.len() - self.kept.len() - self.empty.len()
    }
}
