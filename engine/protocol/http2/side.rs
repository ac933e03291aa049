//! [`Side`]: one direction of a connection.

use super::framer::{Framer, Place};
use super::hpack::Decoder;
use super::open_block::OpenBlock;
use crate::protocol::pool::ExchangePool;

/// One direction.
#[derive(Debug)]
pub(super) struct Side {
    pub framer: Framer,
    /// Of the header blocks in this direction.
    pub decoder: Decoder,
    /// Bytes of its table that are counted in the pool.
    pub table_bytes: usize,
    /// The header block in progress, if it is in more than one piece.
    pub block: Option<Box<OpenBlock>>,
    /// The sender handles no stream of its peer above this one (GOAWAY).
    pub last_stream: Option<u32>,
    /// It was seen from its first byte on.
    pub is_whole: bool,
}

impl Side {
    pub fn new() -> Side {
        Side {
            framer: Framer::new(),
            decoder: Decoder::default(),
            table_bytes: 0,
            block: None,
            last_stream: None,
            is_whole: true,
        }
    }

    /// Whether something has passed, and all of it is known.
    pub fn has_all(&self) -> bool {
        !self.has_lost() && self.framer.place != Place::Fresh
    }

    /// Whether something may have passed that is not known.
    pub fn has_lost(&self) -> bool {
        !self.is_whole || self.framer.losses > 0
    }

    /// Counts the memory of the table in the pool.
    pub fn count_table(&mut self, pool: &mut ExchangePool) {
        let bytes = self.decoder.held_bytes();
        if bytes != self.table_bytes {
            pool.hold(bytes);
            pool.release(self.table_bytes);
            self.table_bytes = bytes;
        }
    }
}
