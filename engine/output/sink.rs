//! Where batches end up. A [`Sink`] appends whole lines: after a fault nothing of a torn line is
//! left in a file, and where that cannot be undone (a pipe), the rest of the line goes out first as
//! soon as it can.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "live")]
use std::sync::Once;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use memchr::memrchr;

use crate::output::batch::Batch;
#[cfg(feature = "live")]
use crate::sys::uring::Uring;

/// Why an append could not be finished.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SinkFault {
    /// Bytes of the batches, from the first on, that are in the sink, or will be before anything
    /// else: they end with a whole line. All that comes after them is not.
    pub written_bytes: usize,
    /// What the system said.
    pub error: io::Error,
}

/// Takes lines. The writer thread owns it.
pub trait Sink: Send {
    /// Appends `batches` in order; they are the same afterwards. A fault is not the end: the next
    /// append tries again.
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault>;

    /// Starts over under the same name, for who renamed the file (SIGHUP). Where that fails the
    /// sink goes on as it was.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// For messages.
    fn name(&self) -> String;
}

/// How long to wait for the reader of a pipe that does not block.
const BEHIND_WAIT: Duration = Duration::from_millis(1);

/// The number of bytes in the first `written_bytes` of `batches` that are whole lines.
fn whole_lines(batches: &[Batch], written_bytes: usize) -> usize {
    let mut start = 0;
    let mut whole = 0;
    for batch in batches {
        let part = &batch.bytes[..batch.bytes.len().min(written_bytes - start)];
        if let Some(at) = memrchr(b'\n', part) {
            whole = start + at + 1;
        }
        start += part.len();
    }
    whole
}

/// The bytes of `batches` from `start` to the end of the line that is there, the line feed
/// included.
fn rest_of_line(batches: &[Batch], start: usize) -> &[u8] {
    let mut skip = start;
    for batch in batches {
        if skip < batch.bytes.len() {
            let rest = &batch.bytes[skip..];
            // A line never spans two batches.
            return &rest[..memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)];
        }
        skip -= batch.bytes.len();
    }
    &[]
}

/// write(2) until all is written; the bytes that were, and why not all.
fn write_plain<'a>(
    file: &mut File,
    buffers: impl Iterator<Item = &'a [u8]>,
) -> (usize, Option<io::Error>) {
    let mut written_bytes = 0;
    for mut buffer in buffers {
        while !buffer.is_empty() {
            match file.write(buffer) {
                Ok(0) => return (written_bytes, Some(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    written_bytes += bytes;
                    buffer = &buffer[bytes..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A pipe that another program made non-blocking: its reader is behind.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(BEHIND_WAIT);
                }
                Err(error) => return (written_bytes, Some(error)),
            }
        }
    }
    (written_bytes, None)
}

/// A descriptor, and what is owed to it: the rest of a line that was torn and could not be cut
/// back.
#[derive(Debug)]
struct Descriptor {
    file: File,
    owed: Vec<u8>,
}

impl Descriptor {
    /// Writes what is owed.
    fn settle(&mut self) -> Result<(), SinkFault> {
        let (written, error) = write_plain(&mut self.file, std::iter::once(&self.owed[..]));
        self.owed.drain(..written);
        match error {
            Some(error) => Err(SinkFault { written_bytes: 0, error }),
            None => Ok(()),
        }
    }

    /// After `written_bytes` of `batches` and then `error`: what is torn will be owed.
    fn torn(&mut self, batches: &[Batch], written_bytes: usize, error: io::Error) -> SinkFault {
        let whole = whole_lines(batches, written_bytes);
        if whole == written_bytes {
            return SinkFault { written_bytes, error };
        }
        self.owed.extend_from_slice(rest_of_line(batches, written_bytes));
        SinkFault { written_bytes: written_bytes + self.owed.len(), error }
    }
}

/// A file that is appended to.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    output: Descriptor,
    /// How the file is written; where there is none, by write(2).
    #[cfg(feature = "live")]
    ring: Option<Box<Uring>>,
}

impl FileSink {
    /// Opens `path` with O_APPEND, O_CREAT, O_CLOEXEC and mode 0640; what is there is kept. If it
    /// does not end with a line feed (something else was cut off), the first line begins with one.
    /// Appends by io_uring, or by write(2) where that is forbidden, which is said.
    #[cfg(feature = "live")]
    pub fn open(path: &Path) -> io::Result<FileSink> {
        let ring = match Uring::new() {
            Ok(ring) => Some(Box::new(ring)),
            Err(error) => {
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    tracing::info!("io_uring cannot be used here ({error}): using write(2)");
                });
                None
            }
        };
        Ok(FileSink { ring, ..FileSink::open_plain(path)? })
    }

    /// The same, by write(2).
    pub fn open_plain(path: &Path) -> io::Result<FileSink> {
        Ok(FileSink {
            path: path.to_path_buf(),
            output: open_output(path)?,
            #[cfg(feature = "live")]
            ring: None,
        })
    }

    /// The batches' bytes; how many of them were written, and why not all.
    fn write(&mut self, batches: &mut [Batch]) -> (usize, Option<io::Error>) {
        #[cfg(feature = "live")]
        if self.ring.is_some() {
            return self.write_by_ring(batches);
        }
        let buffers = batches.iter().map(|batch| &batch.bytes[..]);
        write_plain(&mut self.output.file, buffers)
    }

    /// The same, in one chain of writes after the other.
    #[cfg(feature = "live")]
    fn write_by_ring(&mut self, batches: &mut [Batch]) -> (usize, Option<io::Error>) {
        let Some(ring) = &mut self.ring else { return (0, None) };
        let buffers = batches.iter_mut().map(|batch| std::mem::take(&mut batch.bytes)).collect();
        let appended = ring.append(self.output.file.as_fd(), buffers);
        if appended.buffers.is_empty() && !batches.is_empty() {
            // The ring broke and kept the lines; what is in the file is not known to the byte.
            tracing::warn!("io_uring failed: using write(2) from now on");
            self.ring = None;
        }
        for (batch, bytes) in batches.iter_mut().zip(appended.buffers) {
            batch.bytes = bytes;
        }
        (appended.written_bytes, appended.error)
    }

    /// Takes the torn line at the end of the file away, if the end is where this sink put it.
    /// Somebody else who appends or truncates must not lose lines by it.
    fn cut_back(&self, length_before: u64, written_bytes: usize, whole_bytes: usize) -> bool {
        let file = &self.output.file;
        let is_ours = file.metadata().is_ok_and(|metadata| {
            metadata.is_file() && metadata.len() == length_before + written_bytes as u64
        });
        is_ours && file.set_len(length_before + whole_bytes as u64).is_ok()
    }
}

impl Sink for FileSink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        if !self.output.owed.is_empty() {
            self.output.settle()?;
        }
        let length_before = self.output.file.metadata().map_or(0, |metadata| metadata.len());
        let (written_bytes, error) = self.write(batches);
        let Some(error) = error else { return Ok(()) };
        let whole = whole_lines(batches, written_bytes);
        if whole < written_bytes && self.cut_back(length_before, written_bytes, whole) {
            return Err(SinkFault { written_bytes: whole, error });
        }
        Err(self.output.torn(batches, written_bytes, error))
    }

    fn reopen(&mut self) -> io::Result<()> {
        // The old file has its last line whole, if it has room for it. Before the new one is looked
        // at, for they may be the same.
        let _ = self.output.settle();
        self.output = open_output(&self.path)?;
        Ok(())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn open_output(path: &Path) -> io::Result<Descriptor> {
    let file = File::options().append(true).create(true).mode(0o640).open(path)?;
    let is_torn = file.metadata()?.is_file() && last_byte(path).is_some_and(|byte| byte != b'\n');
    Ok(Descriptor { file, owed: if is_torn { b"\n".to_vec() } else { Vec::new() } })
}

/// The last byte of a file, if it has one and may be read.
fn last_byte(path: &Path) -> Option<u8> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::End(-1)).ok()?;
    let mut byte = [0];
    file.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

/// Standard output. What it is (a pipe, a terminal, a file of the shell's) is not ours to cut: a
/// torn line is continued.
#[derive(Debug)]
pub struct StdoutSink {
    output: Descriptor,
}

impl StdoutSink {
    /// On a descriptor of its own, so that nothing is kept in the buffer of [`std::io::stdout`].
    pub fn new() -> io::Result<StdoutSink> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(StdoutSink::on(File::from(descriptor)))
    }

    /// On any descriptor that is not to be cut, such as a pipe.
    pub fn on(file: File) -> StdoutSink {
        StdoutSink { output: Descriptor { file, owed: Vec::new() } }
    }
}

impl Sink for StdoutSink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        if !self.output.owed.is_empty() {
            self.output.settle()?;
        }
        let buffers = batches.iter().map(|batch| &batch.bytes[..]);
        match write_plain(&mut self.output.file, buffers) {
            (_, None) => Ok(()),
            (written_bytes, Some(error)) => Err(self.output.torn(batches, written_bytes, error)),
        }
    }

    fn name(&self) -> String {
        "standard output".into()
    }
}

/// Memory, for tests: keeps what it is given while it has room.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    room_bytes: usize,
    fault: io::ErrorKind,
    reopened: u64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            bytes: Vec::new(),
            room_bytes: usize::MAX,
            fault: io::ErrorKind::StorageFull,
            reopened: 0,
        }
    }
}

impl MemorySink {
    /// With room for everything. A clone is the same memory.
    pub fn new() -> MemorySink {
        MemorySink::default()
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// How often it was reopened.
    pub fn reopened(&self) -> u64 {
        self.lock().reopened
    }

    /// From now on it takes up to `room_bytes` in all, and then fails with `fault`.
    pub fn set_room(&self, room_bytes: usize, fault: io::ErrorKind) {
        let mut memory = self.lock();
        memory.room_bytes = room_bytes;
        memory.fault = fault;
    }
}

impl Sink for MemorySink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        let mut memory = self.lock();
        let room = memory.room_bytes.saturating_sub(memory.bytes.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_of_a_file_that_was_not_renamed_is_ended_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http.jsonl");
        let mut sink = FileSink::open_plain(&path).unwrap();
        // What a disk that was full leaves where somebody else appends to the file too.
        std::fs::write(&path, "to").unwrap();
        sink.output.owed = b"rn\n".to_vec();
        sink.reopen().unwrap();
        let shard = crate::ids::ShardId(0);
        sink.append(&mut [Batch { bytes: b"next\n".to_vec(), line_count: 1, shard }]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "torn\nnext\n");
    }
}
