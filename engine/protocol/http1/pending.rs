//! [`PendingRequests`]: the requests of a connection whose responses are not complete, in order. A
//! linked list through the pool of exchanges.

use crate::protocol::pool::{ExchangeId, ExchangePool};

/// The queue of a connection.
#[derive(Debug, Default)]
pub(super) struct PendingRequests {
    first: Option<ExchangeId>,
    last: Option<ExchangeId>,
    count: usize,
    /// Requests that were given up for lack of memory and whose responses are still to come. These
    /// come before the responses to the requests in the queue.
    pub overflow_count: u64,
}

impl PendingRequests {
    /// The length of the queue.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The request that has waited longest.
    #[inline(always)]
    pub fn first(&self) -> Option<ExchangeId> {
        self.first
    }

    /// The request that came last.
    pub fn last(&self) -> Option<ExchangeId> {
        self.last
    }

    /// Whether no request waits for its response.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Appends a request.
    #[inline(always)]
    pub fn push(&mut self, id: ExchangeId, pool: &mut ExchangePool) {
        match self.last {
            Some(last) => pool.entry(last).next = Some(id),
            None => self.first = Some(id),
        }
        self.last = Some(id);
        self.count += 1;
    }

    /// Removes the first request.
    #[inline(always)]
    pub fn pop(&mut self, pool: &mut ExchangePool) -> Option<ExchangeId> {
        let first = self.first?;
        self.first = pool.entry(first).next.take();
        if self.first.is_none() {
            self.last = None;
        }
        self.count -= 1;
        Some(first)
    }

    /// Removes the second request.
    pub fn pop_second(&mut self, pool: &mut ExchangePool) -> Option<ExchangeId> {
        let first = self.first?;
        let second = pool.entry(first).next?;
        let behind = pool.entry(second).next.take();
        pool.entry(first).next = behind;
        if self.last == Some(second) {
            self.last = Some(first);
        }
        self.count -= 1;
        Some(second)
    }
}
