//! One reader for several shards: what can be read only once is read by a thread and handed on in
//! chunks that all shards share.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Milliseconds a [`TeeReader`] waits before it says that there is nothing yet.
pub const WAIT_MS: u32 = 100;

/// Chunks that may wait for one shard. The reader waits for the slowest shard; nothing is dropped.
const CHUNK_COUNT_MAX: usize = 4;

/// Bytes of a chunk at most: what a pipe holds. Larger ones cost twice the time, since each is
/// memory fresh from the kernel.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Milliseconds between two looks at an input that does not wait by itself.
const NONBLOCKING_PAUSE_MS: u64 = 10;

/// Some bytes of the input, or why there are no more.
type Chunk = Result<Arc<[u8]>, Arc<io::Error>>;

/// One of several readers that all give the same bytes. [`Read::read`] says
/// [`ErrorKind::WouldBlock`] where none came within [`WAIT_MS`].
#[derive(Debug)]
pub struct TeeReader {
    chunks: Receiver<Chunk>,
    chunk: Arc<[u8]>,
    at: usize,
}

/// Gives `count` readers of what `reader` reads, at most `read_bytes` at a time. The thread that
/// reads ends with its input, or with the last of its readers (after the read it is in).
///
/// # Errors
/// That of starting a thread.
pub fn split(
    reader: impl Read + Send + 'static,
    read_bytes: usize,
    count: u16,
) -> io::Result<Vec<TeeReader>> {
    let (senders, readers) = (0..count)
        .map(|_| {
            let (sender, chunks) = sync_channel(CHUNK_COUNT_MAX);
            (sender, TeeReader { chunks, chunk: Arc::from([]), at: 0 })
        })
        .unzip();
    thread::Builder::new()
        .name("httplines-read".into())
        .spawn(move || hand_on(reader, read_bytes.clamp(1, CHUNK_BYTES_MAX), senders))?;
    Ok(readers)
}

/// Reads until the input or all who listen have ended.
fn hand_on(mut reader: impl Read, read_bytes: usize, mut senders: Vec<SyncSender<Chunk>>) {
    let mut buffer = vec![0; read_bytes];
    while !senders.is_empty() {
        let chunk = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(Arc::from(&buffer[..count])),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Another program may have left the pipe non-blocking for all who share it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(NONBLOCKING_PAUSE_MS));
                continue;
            }
            Err(error) => Err(Arc::new(error)),
        };
        senders.retain(|sender| sender.send(chunk.clone()).is_ok());
        if chunk.is_err() {
            return;
        }
    }
}

impl Read for TeeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.chunks.recv_timeout(Duration::from_millis(WAIT_MS.into())) {
                Ok(Ok(chunk)) => (self.chunk, self.at) = (chunk, 0),
                Ok(Err(error)) => return Err(io::Error::new(error.kind(), error)),
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::WouldBlock.into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
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

    /// Reads all, waiting where there is nothing yet.
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
        let readers = split(io::Cursor::new(input.clone()), 100, 3).unwrap();
        let threads: Vec<_> =
            readers.into_iter().map(|mut r| thread::spawn(move || read_all(&mut r))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap().unwrap(), input);
        }
    }

    #[test]
    fn a_reader_that_is_dropped_holds_up_no_other() {
        let input = vec![7; 10_000];
        let mut readers = split(io::Cursor::new(input.clone()), 10, 2).unwrap();
        drop(readers.pop());
        assert_eq!(read_all(&mut readers[0]).unwrap(), input);
    }

    #[test]
    fn nothing_yet_is_said_and_is_no_end() {
        let (receive, mut send) = io::pipe().unwrap();
        let mut reader = split(receive, 64, 1).unwrap().pop().unwrap();
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
        for mut reader in split(input, 64, 2).unwrap() {
            let mut before = [0; 6];
            reader.read_exact(&mut before).unwrap();
            assert_eq!(&before, b"before");
            assert!(read_all(&mut reader).unwrap_err().to_string().contains("disk is gone"));
        }
    }
}
