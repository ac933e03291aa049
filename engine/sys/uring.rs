//! Appends by io_uring(7): several buffers in one system call, as a chain of linked writes.
//!
//! Linked writes run one after the other. A write that fails or is short breaks the chain
//! (io_uring_enter(2), IOSQE_IO_LINK): later writes are cancelled, so no buffer can land behind a
//! hole. The kernel reads the buffers while the chain runs; [`Uring::append`] therefore takes them
//! by value and returns them only after every completion. Needs Linux 5.6 (IORING_OP_WRITE, writes
//! at the current position).

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

/// Maximum number of writes in one chain: the buffers of one system call.
pub const CHAIN_COUNT_MAX: usize = 32;

/// Maximum size of one write. The kernel's own limit is 2^31 minus a page.
const WRITE_BYTES_MAX: usize = 1 << 30;

/// How long to wait if the kernel cannot accept a request or a byte at the moment.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// An io_uring for appending; one thread uses it.
pub struct Uring {
    ring: IoUring,
}

impl fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Uring").finish_non_exhaustive()
    }
}

/// The outcome of an append.
#[derive(Debug)]
pub struct Appended {
    /// The buffers that were passed in. Empty in one case: we could not find out whether the kernel
    /// still reads them. Then they are leaked.
    pub buffers: Vec<Vec<u8>>,
    /// Bytes that were written, of all buffers together, from the first on without a hole.
    pub written_bytes: usize,
    /// Why not all of them were written.
    pub error: Option<io::Error>,
}

/// How far a chain got.
enum Chain {
    /// This many bytes; the rest may be retried.
    Bytes(usize),
    /// This many bytes, then an error.
    Failed(usize, io::Error),
    /// The ring itself failed while requests were in flight.
    Broken(io::Error),
}

impl Uring {
    /// Sets up a ring. Fails if io_uring is missing or not allowed: ENOSYS, EPERM (seccomp,
    /// `kernel.io_uring_disabled`), ENOMEM (locked memory, before Linux 5.12).
    pub fn new() -> io::Result<Uring> {
        Ok(Uring { ring: IoUring::new(CHAIN_COUNT_MAX as u32)? })
    }

    /// Writes `buffers` one after the other at the end of `file`, which must be open with O_APPEND
    /// or positioned at its end. Returns when the kernel no longer uses any of them. Short writes
    /// are continued; EINTR and EAGAIN are retried; any other error ends the append.
    pub fn append(&mut self, file: BorrowedFd<'_>, buffers: Vec<Vec<u8>>) -> Appended {
        let total_bytes: usize = buffers.iter().map(Vec::len).sum();
        let mut written_bytes = 0;
        while written_bytes < total_bytes {
            match self.chain(file, &buffers, written_bytes) {
                // EAGAIN on a non-blocking descriptor: its reader is behind.
                Chain::Bytes(0) => std::thread::sleep(BUSY_WAIT),
                Chain::Bytes(bytes) => written_bytes += bytes,
                Chain::Failed(bytes, error) => {
                    written_bytes += bytes;
                    return Appended { buffers, written_bytes, error: Some(error) };
                }
                Chain::Broken(error) => {
                    // The kernel may still read the buffers, so they must never be freed.
                    mem::forget(buffers);
                    return Appended { buffers: Vec::new(), written_bytes, error: Some(error) };
                }
            }
        }
        Appended { buffers, written_bytes, error: None }
    }

    /// Submits the writes of one chain, from byte `skip_bytes` of `buffers` on, and waits for all
    /// of them.
    fn chain(&mut self, file: BorrowedFd<'_>, buffers: &[Vec<u8>], skip_bytes: usize) -> Chain {
        let mut wanted = [0; CHAIN_COUNT_MAX];
        let count = match self.push(file, buffers, skip_bytes, &mut wanted) {
            Ok(count) => count,
            Err(error) => return Chain::Broken(error),
        };
        // Completions may arrive in any order; each carries the number of its write. Writes that
        // are never submitted count as cancelled.
        let mut results = [-libc::ECANCELED; CHAIN_COUNT_MAX];
        let (mut submitted, mut completed) = (0, 0);
        while submitted == 0 || completed < submitted {
            // One system call submits the chain and waits for all of it.
            let entered = if submitted == 0 {
                self.ring.submit_and_wait(count)
            } else {
                self.wait(submitted - completed)
            };
            match entered {
                Ok(taken) if submitted == 0 => submitted = taken,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                    std::thread::sleep(BUSY_WAIT);
                }
                Err(error) => return Chain::Broken(error),
            }
            for completion in self.ring.completion() {
                if let Some(result) = results.get_mut(completion.user_data() as usize) {
                    *result = completion.result();
                }
                completed += 1;
            }
        }
        if submitted < count {
            // The kernel accepted only a part (it was short of memory). The rest would be a chain
            // of its own and could land behind a hole, so it is discarded with its ring.
            match IoUring::new(CHAIN_COUNT_MAX as u32) {
                Ok(ring) => self.ring = ring,
                Err(error) => return Chain::Broken(error),
            }
        }
        outcome(&wanted[..count], &results[..count])
    }

    /// Waits for `count` completions and submits nothing.
    fn wait(&self, count: usize) -> io::Result<usize> {
        /// IORING_ENTER_GETEVENTS of io_uring_enter(2).
        const GETEVENTS: u32 = 1;
        // SAFETY: no argument is passed, so the kernel reads none; the descriptor is the ring's
        // own.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, count as u32, GETEVENTS, None) }
    }

    /// Puts the writes of a chain into the submission queue and their lengths into `wanted`;
    /// returns their number.
    fn push(
        &mut self,
        file: BorrowedFd<'_>,
        buffers: &[Vec<u8>],
        skip_bytes: usize,
        wanted: &mut [usize; CHAIN_COUNT_MAX],
    ) -> io::Result<usize> {
        let mut skip_bytes = skip_bytes;
        let mut parts: [&[u8]; CHAIN_COUNT_MAX] = [&[]; CHAIN_COUNT_MAX];
        let mut count = 0;
        for buffer in buffers {
            let skipped = skip_bytes.min(buffer.len());
            skip_bytes -= skipped;
            let part = &buffer[skipped..];
            if part.is_empty() {
                continue;
            }
            parts[count] = &part[..part.len().min(WRITE_BYTES_MAX)];
            wanted[count] = parts[count].len();
            count += 1;
            // Anything after a part that was cut must wait for the next chain, as must a 33rd
            // buffer.
            if count == CHAIN_COUNT_MAX || part.len() > WRITE_BYTES_MAX {
                break;
            }
        }
        let mut queue = self.ring.submission();
        for (index, part) in parts[..count].iter().enumerate() {
            let is_last = index + 1 == count;
            let flags = if is_last { squeue::Flags::empty() } else { squeue::Flags::IO_LINK };
            let entry =
                opcode::Write::new(types::Fd(file.as_raw_fd()), part.as_ptr(), part.len() as u32)
                    .offset(u64::MAX)
                    .build()
                    .flags(flags)
                    .user_data(index as u64);
            // SAFETY: `part` lies in a buffer that `append` owns and neither changes nor frees
            // before the completion of this entry has been reaped (or ever, if the ring broke);
            // `file` is borrowed for as long. The entry itself is copied.
            unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

/// Summarises the results of a chain: the bytes up to the first write that is short.
fn outcome(wanted: &[usize], results: &[i32]) -> Chain {
    let mut bytes = 0;
    for (wanted, result) in wanted.iter().zip(results) {
        match usize::try_from(*result) {
            Ok(0) => return Chain::Failed(bytes, io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes += written;
                if written < *wanted {
                    return Chain::Bytes(bytes);
                }
            }
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) => return Chain::Bytes(bytes),
            // No write before this one failed, and yet it was cancelled: retry it.
            Err(_) if -result == libc::ECANCELED => return Chain::Bytes(bytes),
            Err(_) => return Chain::Failed(bytes, io::Error::from_raw_os_error(-result)),
        }
    }
    Chain::Bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn ring() -> Option<Uring> {
        Uring::new().inspect_err(|error| println!("skipped: no io_uring here: {error}")).ok()
    }

    fn numbered(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|index| format!("buffer {index}\n").repeat(index * 37 % 400).into())
            .collect()
    }

    #[test]
    fn more_buffers_than_a_chain_holds_land_in_order() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let file = File::options().append(true).create(true).open(&path).unwrap();
        let buffers = numbered(3 * CHAIN_COUNT_MAX + 5);
        let expected = buffers.concat();
        let appended = ring.append(file.as_fd(), buffers);
        assert!(appended.error.is_none());
        assert_eq!(appended.written_bytes, expected.len());
        assert_eq!(appended.buffers.concat(), expected);
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn short_writes_are_continued() {
        let Some(mut ring) = ring() else { return };
        // A non-blocking pipe accepts 64 KiB at a time, which causes many short writes and EAGAIN.
        let (mut reader, writer) = io::pipe().unwrap();
        let buffers: Vec<Vec<u8>> = (0..8).map(|index| vec![b'a' + index; 100_000]).collect();
        let expected = buffers.concat();
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
            bytes
        });
        let appended = ring.append(writer.as_fd(), buffers);
        drop(writer);
        assert!(appended.error.is_none());
        assert!(reading.join().unwrap() == expected);
    }

    #[test]
    fn an_error_is_told_and_buffers_come_back() {
        let Some(mut ring) = ring() else { return };
        let full = File::options().append(true).open("/dev/full").unwrap();
        let appended = ring.append(full.as_fd(), numbered(5));
        assert_eq!(appended.error.unwrap().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(appended.written_bytes, 0);
        assert_eq!(appended.buffers, numbered(5));
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let appended = ring.append(writer.as_fd(), numbered(5));
        assert_eq!(appended.error.unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn results_in_words() {
        let bytes = |chain| match chain {
            Chain::Bytes(bytes) => (bytes, None),
            Chain::Failed(bytes, error) => (bytes, error.raw_os_error()),
            Chain::Broken(_) => unreachable!(),
        };
        assert_eq!(bytes(outcome(&[5, 5], &[5, 5])), (10, None));
        assert_eq!(bytes(outcome(&[5, 5], &[3, -libc::ECANCELED])), (3, None));
        assert_eq!(bytes(outcome(&[5, 5], &[5, -libc::EAGAIN])), (5, None));
        assert_eq!(bytes(outcome(&[5, 5], &[5, -libc::EIO])), (5, Some(libc::EIO)));
    }
}
