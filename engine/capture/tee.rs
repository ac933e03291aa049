//! One reader for several shards. A thread reads an input that can be read only once, and passes it
//! on in chunks that all shards share.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Milliseconds a [`TeeReader`] waits before it reports that nothing has arrived.
pub const WAIT_MS: u32 = 100;

/// Chunks that may be queued for one shard. The reader waits for the slowest shard; nothing is
/// dropped.
const CHUNK_COUNT_MAX: usize = 4;

/// Maximum size of a chunk: the capacity of a pipe. Larger chunks take twice the time, since each
/// is memory fresh from the kernel.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Milliseconds between two attempts to read an input that does not block.
const NONBLOCKING_PAUSE_MS: u64 = 10;

/// Some bytes of the input, or why there are no more. It ends with an empty chunk.
type Chunk = Result<Arc<[u8]>, Arc<io::Error>>;

/// One of several readers that all return the same bytes. [`Read::read`] returns
/// [`ErrorKind::WouldBlock`] if none arrive within [`WAIT_MS`].
#[derive(Debug)]
pub struct TeeReader {
    starter: Arc<Starter>,
    chunks: Receiver<Chunk>,
    chunk: Arc<[u8]>,
    at: usize,
    is_over: bool,
}

/// Starts the reading thread with the first read of any reader. One that started at once would
/// keep the rights that this process gives up before it reads.
struct Starter(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl std::fmt::Debug for Starter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Starter")
    }
}

impl Starter {
    fn start(&self) -> io::Result<()> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = body else { return Ok(()) };
        thread::Builder::new().name("httplines-read".into()).spawn(body).map(drop)
    }
}

/// Returns `count` readers of the bytes of `reader`, which is read at most `read_bytes` at a time.
/// The reading thread starts with the first read, and ends with its input, or with the last of the
/// readers (after the read in progress).
pub fn split(reader: impl Read + Send + 'static, read_bytes: usize, count: u16) -> Vec<TeeReader> {
    let (senders, chunks): (Vec<_>, Vec<_>) =
        (0..count).map(|_| sync_channel(CHUNK_COUNT_MAX)).unzip();
    let body = move || distribute(reader, read_bytes.clamp(1, CHUNK_BYTES_MAX), senders);
    let starter = Arc::new(Starter(Mutex::new(Some(Box::new(body)))));
    let reader = |chunks| TeeReader {
        starter: Arc::clone(&starter),
        chunks,
        chunk: Arc::from([]),
        at: 0,
        is_over: false,
    };
    chunks.into_iter().map(reader).collect()
}

/// Reads until the input ends or all readers are dropped.
fn distribute(mut reader: impl Read, read_bytes: usize, mut senders: Vec<SyncSender<Chunk>>) {
    let mut buffer = vec![0; read_bytes];
    while !senders.is_empty() {
        let chunk = match reader.read(&mut buffer) {
            Ok(count) => Ok(Arc::from(&buffer[..count])),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Another program may have set the pipe to non-blocking for all that share it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(NONBLOCKING_PAUSE_MS));
                continue;
            }
            Err(error) => Err(Arc::new(error)),
        };
        senders.retain(|sender| sender.send(chunk.clone()).is_ok());
        if !chunk.is_ok_and(|bytes| !bytes.is_empty()) {
            return;
        }
    }
}

impl Read for TeeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() && !self.is_over {
            self.starter.start()?;
            match self.chunks.recv_timeout(Duration::from_millis(WAIT_MS.into())) {
                Ok(Ok(chunk)) => {
                    self.is_over = chunk.is_empty();
                    (self.chunk, self.at) = (chunk, 0);
                }
                Ok(Err(error)) => return Err(io::Error::new(error.kind(), error)),
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::WouldBlock.into()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the thread that reads it has failed"));
                }
            }
        }
        let rest = &self.chunk[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads everything, and waits while nothing is available.
    fn read_all(reader: &mut TeeReader) -> io::Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 7]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(all),
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[test]
    fn every_reader_gives_all_bytes() {
        let input: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        let readers = split(io::Cursor::new(input.clone()), 100, 3);
        let threads: Vec<_> =
            readers.into_iter().map(|mut r| thread::spawn(move || read_all(&mut r))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap().unwrap(), input);
        }
    }

    #[test]
    fn a_reader_that_is_dropped_holds_up_no_other() {
        let input = vec![7; 10_000];
        let mut readers = split(io::Cursor::new(input.clone()), 10, 2);
        drop(readers.pop());
        assert_eq!(read_all(&mut readers[0]).unwrap(), input);
    }

    #[test]
    fn nothing_yet_is_said_and_is_no_end() {
        let (receive, mut send) = io::pipe().unwrap();
        let mut reader = split(receive, 64, 1).pop().unwrap();
        let nothing = reader.read(&mut [0; 8]).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        io::Write::write_all(&mut send, b"later").unwrap();
        drop(send);
        assert_eq!(read_all(&mut reader).unwrap(), b"later");
    }

    #[test]
    fn an_error_reaches_every_reader_behind_the_bytes_before_it() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let input = io::Cursor::new(b"before".to_vec()).chain(Fails);
        for mut reader in split(input, 64, 2) {
            let mut before = [0; 6];
            reader.read_exact(&mut before).unwrap();
            assert_eq!(&before, b"before");
            assert!(read_all(&mut reader).unwrap_err().to_string().contains("disk is gone"));
        }
    }
}
