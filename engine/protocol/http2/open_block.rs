//! [`OpenBlock`]: a header block that arrives in several pieces.

use crate::flow::SegmentMeta;
use crate::protocol::pool::ExchangePool;

/// What the frame at the front of a header block says about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockInfo {
    /// The stream of its frames.
    pub carrier: u32,
    /// The stream of its message: another one, if it is a promise.
    pub stream: u32,
    /// It is the request of a push.
    pub is_promise: bool,
    /// The message ends with it.
    pub is_end_stream: bool,
    /// The segment that held its first byte.
    pub first: SegmentMeta,
}

/// A header block in several pieces.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub info: BlockInfo,
    /// Its fragments so far, joined.
    pub bytes: Vec<u8>,
    /// It was cut, and its beginning was decoded. The rest is skipped.
    pub is_cut: bool,
}

/// Its memory, with the overhead of the allocator.
const OPEN_BLOCK_BYTES: usize = size_of::<OpenBlock>() + 16;

impl OpenBlock {
    pub fn new(info: BlockInfo, pool: &mut ExchangePool) -> Box<OpenBlock> {
        pool.hold(OPEN_BLOCK_BYTES);
        Box::new(OpenBlock { info, bytes: pool.take_buffer(), is_cut: false })
    }

    pub fn free(self, pool: &mut ExchangePool) {
        pool.release(OPEN_BLOCK_BYTES);
        pool.give_buffer_back(self.bytes);
    }

    /// The memory it takes.
    pub fn held_bytes(&self) -> usize {
        OPEN_BLOCK_BYTES + self.bytes.capacity()
    }
}
