//! [`MemorySink`]: an output for tests.

use super::batch::Batch;
use super::sink::{Sink, SinkFault, whole_lines};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// A sink in memory, for tests: keeps what it is given while it has space.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    capacity_bytes: usize,
    fault: io::ErrorKind,
    reopened: u64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            bytes: Vec::new(),
            capacity_bytes: usize::MAX,
            fault: io::ErrorKind::StorageFull,
            reopened: 0,
        }
    }
}

impl MemorySink {
    /// A sink with unlimited space. A clone shares its memory.
    pub fn new() -> MemorySink {
        MemorySink::default()
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The bytes written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// How often it was reopened.
    pub fn reopened(&self) -> u64 {
        self.lock().reopened
    }

    /// From now on the sink takes up to `capacity_bytes` in total, and then fails with `fault`.
    pub fn set_capacity(&self, capacity_bytes: usize, fault: io::ErrorKind) {
        let mut memory = self.lock();
        memory.capacity_bytes = capacity_bytes;
        memory.fault = fault;
    }
}

impl Sink for MemorySink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        let mut memory = self.lock();
        let room = memory.capacity_bytes.saturating_sub(memory.bytes.len());
        let total: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        let whole = if total <= room { total } else { whole_lines(batches, room) };
        let mut left = whole;
        for batch in batches.iter() {
            let taken = left.min(batch.bytes.len());
            memory.bytes.extend_from_slice(&batch.bytes[..taken]);
            left -= taken;
        }
        if whole == total {
            return Ok(());
        }
        Err(SinkFault { written_bytes: whole, error: memory.fault.into() })
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.lock().reopened += 1;
        Ok(())
    }

    fn name(&self) -> String {
        "memory".into()
    }
}
