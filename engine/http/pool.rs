//! The exchanges of a shard that are under way. Their memory is used again, so that none is
//! allocated for an exchange in the steady state, and an idle connection holds none.

use super::exchange::{Exchange, message_of};
use crate::decode::SeqNumber;

/// Heads longer than this give their memory back.
const KEPT_HEAD_BYTES: usize = 4096;

/// Exchanges that are not under way and keep the memory of their heads; others give it back.
const KEPT_COUNT: usize = 4096;

/// What an exchange under way takes beside its heads.
const ENTRY_BYTES: usize = size_of::<Entry>();

/// The place of an exchange in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ExchangeId(u32);

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub exchange: Exchange,
    /// The next request of the same connection.
    pub next: Option<ExchangeId>,
    /// How far the client had read the server's stream when it sent the request.
    pub read_until: Option<SeqNumber>,
    /// Requests before this one were lost.
    pub is_after_loss: bool,
    /// They were sent together with this one, so that their answers come before its own.
    pub is_doubtful: bool,
    /// The request asked for `100 Continue` and holds its body back.
    pub is_body_withheld: bool,
}

/// All exchanges under way in a shard.
#[derive(Debug, Default)]
pub struct ExchangePool {
    entries: Vec<Entry>,
    free: Vec<ExchangeId>,
    buffers: Vec<Vec<u8>>,
    held_bytes: usize,
}

impl ExchangePool {
    pub(super) fn take(&mut self) -> ExchangeId {
        self.held_bytes += ENTRY_BYTES;
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            ExchangeId((self.entries.len() - 1) as u32)
        })
    }

    pub(super) fn give_back(&mut self, id: ExchangeId) {
        let is_kept = self.free.len() < KEPT_COUNT;
        let entry = &mut self.entries[id.0 as usize];
        self.held_bytes -= ENTRY_BYTES;
        for message in [&mut entry.exchange.request, &mut entry.exchange.response] {
            self.held_bytes -= message.head.len();
            if !is_kept || message.head.capacity() > KEPT_HEAD_BYTES {
                message.head = Vec::new();
            }
        }
        entry.exchange.clear();
        entry.next = None;
        entry.read_until = None;
        entry.is_after_loss = false;
        entry.is_doubtful = false;
        entry.is_body_withheld = false;
        self.free.push(id);
    }

    pub(super) fn entry(&mut self, id: ExchangeId) -> &mut Entry {
        &mut self.entries[id.0 as usize]
    }

    pub(super) fn exchange(&mut self, id: ExchangeId) -> &mut Exchange {
        &mut self.entries[id.0 as usize].exchange
    }

    /// Copies a head into a message of the exchange.
    pub(super) fn fill_head(&mut self, id: ExchangeId, is_request: bool, bytes: &[u8]) {
        let message = message_of(&mut self.entries[id.0 as usize].exchange, is_request);
        self.held_bytes -= message.head.len();
        self.held_bytes += bytes.len();
        message.head.clear();
        message.head.extend_from_slice(bytes);
    }

    /// Adds to a head that comes in pieces.
    pub(super) fn extend(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        self.held_bytes += bytes.len();
        buffer.extend_from_slice(bytes);
    }

    /// Bytes that heads and exchanges under way take, all connections together.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// An empty buffer, for a head that comes in pieces.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    pub(super) fn give_buffer_back(&mut self, mut buffer: Vec<u8>) {
        self.held_bytes -= buffer.len();
        if (1..=KEPT_HEAD_BYTES).contains(&buffer.capacity()) && self.buffers.len() < 64 {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// Exchanges under way, in all connections together.
    pub fn in_use(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}
