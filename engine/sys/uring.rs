//! Appends by io_uring(7): several buffers in one system call, as a chain of linked writes.
//!
//! Linked writes run one after the other. A write that fails or is short breaks the chain
//! (io_uring_enter(2), IOSQE_IO_LINK): later writes are cancelled, so no buffer can land behind a
//! hole. The kernel reads the buffers while the chain runs; [`Uring::append`] therefore takes them
//! by value and returns them only after every completion.
//!
//! The ring can do nothing else: it is restricted to writes to its one slot, into which
//! [`Uring::set_file`] puts a file (IORING_REGISTER_RESTRICTIONS, Linux 5.10). No other thread or
//! descriptor is involved, and after the start no ring is made.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};

/// Maximum number of writes in one chain: the buffers of one system call.
pub const CHAIN_COUNT_MAX: usize = 32;

/// Maximum size of one write. The kernel's own limit is 2^31 minus a page.
const WRITE_BYTES_MAX: usize = 1 << 30;

/// IORING_REGISTER_FILES_UPDATE of linux/io_uring.h.
const REGISTER_FILES_UPDATE: u8 = 6;

/// The only slot for a file.
const SLOT: u32 = 0;

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
    /// The ring can no longer be used. If there is no error, the rest is to be written in another
    /// way.
    pub is_spent: bool,
}

/// How far a chain got.
enum Chain {
    /// This many bytes; the rest may be retried.
    Bytes(usize),
    /// This many bytes, then an error.
    Failed(usize, io::Error),
    /// This many bytes. Requests that the kernel did not accept are still in the queue.
    Spent(usize),
    /// The ring itself failed while requests were in flight.
    Broken(io::Error),
}

impl Uring {
    /// Sets up a ring. Fails if io_uring is missing, too old or not allowed: ENOSYS, EINVAL, EPERM
    /// (seccomp, `kernel.io_uring_disabled`), ENOMEM (locked memory, before Linux 5.12).
    pub fn new() -> io::Result<Uring> {
        let ring = IoUring::builder().setup_r_disabled().build(CHAIN_COUNT_MAX as u32)?;
        let submitter = ring.submitter();
        submitter.register_files(&[-1])?;
        let fixed_file = squeue::Flags::FIXED_FILE.bits();
        submitter.register_restrictions(&mut [
            Restriction::register_op(REGISTER_FILES_UPDATE),
            Restriction::sqe_op(opcode::Write::CODE),
            Restriction::sqe_flags_allowed(fixed_file | squeue::Flags::IO_LINK.bits()),
            Restriction::sqe_flags_required(fixed_file),
        ])?;
        submitter.register_enable_rings()?;
        Ok(Uring { ring })
    }

    /// From now on appends go to `file`, which must be open with O_APPEND or positioned at its end.
    /// The kernel keeps it open until the next call, and may keep the one before for a second.
    pub fn set_file(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        match self.ring.submitter().register_files_update(SLOT, &[file.as_raw_fd()])? {
            1 => Ok(()),
            _ => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Writes `buffers` one after the other at the end of the file. Returns when the kernel no
    /// longer uses any of them. Short writes are continued; EINTR and EAGAIN are retried; any other
    /// error ends the append.
    pub fn append(&mut self, buffers: Vec<Vec<u8>>) -> Appended {
        let total_bytes: usize = buffers.iter().map(Vec::len).sum();
        let mut written_bytes = 0;
        let mut is_spent = false;
        while written_bytes < total_bytes && !is_spent {
            match self.chain(&buffers, written_bytes) {
                // EAGAIN on a non-blocking descriptor: its reader is behind.
                Chain::Bytes(0) => std::thread::sleep(BUSY_WAIT),
                Chain::Bytes(bytes) => written_bytes += bytes,
                Chain::Spent(bytes) => {
                    written_bytes += bytes;
                    is_spent = true;
                }
                Chain::Failed(bytes, error) => {
                    written_bytes += bytes;
                    return Appended { buffers, written_bytes, error: Some(error), is_spent };
                }
                Chain::Broken(error) => {
                    // The kernel may still read the buffers, so they must never be freed.
                    mem::forget(buffers);
                    let (buffers, error) = (Vec::new(), Some(error));
                    return Appended { buffers, written_bytes, error, is_spent: true };
                }
            }
        }
        Appended { buffers, written_bytes, error: None, is_spent }
    }

    /// Submits the writes of one chain, from byte `skip_bytes` of `buffers` on, and waits for all
    /// of them.
    fn chain(&mut self, buffers: &[Vec<u8>], skip_bytes: usize) -> Chain {
        let mut wanted = [0; CHAIN_COUNT_MAX];
        let count = match self.push(buffers, skip_bytes, &mut wanted) {
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
        let outcome = outcome(&wanted[..count], &results[..count]);
        match outcome {
            // The kernel accepted only a part (it was short of memory). The rest would be a chain
            // of its own and could land behind a hole, so it is discarded with its ring.
            Chain::Bytes(bytes) if submitted < count => Chain::Spent(bytes),
            // Its write was never submitted.
            Chain::Failed(bytes, error)
                if submitted < count && error.raw_os_error() == Some(libc::ECANCELED) =>
            {
                Chain::Spent(bytes)
            }
            outcome => outcome,
        }
    }

    /// Waits for `count` completions and submits nothing.
    fn wait(&self, count: usize) -> io::Result<usize> {
        /// IORING_ENTER_GETEVENTS of io_uring_enter(2).
        const GETEVENTS: u32 = 1;
        // SAFETY: no argument is passed, so the kernel reads none; the descriptor is the ring's
        // own.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, count as u32, GETEVENTS, None) }
    }

    /// Submits one entry, which uses static memory only, and returns its result.
    #[cfg(debug_assertions)]
    pub(super) fn submit_one(&mut self, entry: &squeue::Entry) -> io::Result<libc::c_long> {
        // SAFETY: the callers use static memory.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)?;
        self.ring.submit_and_wait(1)?;
        let completion = self.ring.completion().next().ok_or(io::ErrorKind::UnexpectedEof)?;
        match completion.result() {
            error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
            result => Ok(result.into()),
        }
    }

    /// Puts the writes of a chain into the submission queue and their lengths into `wanted`;
    /// returns their number.
    fn push(
        &mut self,
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
            let entry = opcode::Write::new(types::Fixed(SLOT), part.as_ptr(), part.len() as u32)
                .offset(u64::MAX)
                .build()
                .flags(flags)
                .user_data(index as u64);
            // SAFETY: `part` lies in a buffer that `append` owns and neither changes nor frees
            // before the completion of this entry has been reaped (or ever, if the ring broke).
            // The entry itself is copied.
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

    fn append(ring: &mut Uring, file: BorrowedFd<'_>, buffers: Vec<Vec<u8>>) -> Appended {
        ring.set_file(file).expect("it is open");
        ring.append(buffers)
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
        let appended = append(&mut ring, file.as_fd(), buffers);
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
        let appended = append(&mut ring, writer.as_fd(), buffers);
        // The ring keeps the pipe open, too.
        drop((ring, writer));
        assert!(appended.error.is_none());
        assert!(reading.join().unwrap() == expected);
    }

    #[test]
    fn an_error_is_told_and_buffers_come_back() {
        let Some(mut ring) = ring() else { return };
        let full = File::options().append(true).open("/dev/full").unwrap();
        let appended = append(&mut ring, full.as_fd(), numbered(5));
        assert_eq!(appended.error.unwrap().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(appended.written_bytes, 0);
        assert_eq!(appended.buffers, numbered(5));
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let appended = append(&mut ring, writer.as_fd(), numbered(5));
        assert_eq!(appended.error.unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn results_in_words() {
        let bytes = |chain| match chain {
            Chain::Bytes(bytes) => (bytes, None),
            Chain::Failed(bytes, error) => (bytes, error.raw_os_error()),
            Chain::Spent(_) | Chain::Broken(_) => unreachable!(),
        };
        assert_eq!(bytes(outcome(&[5, 5], &[5, 5])), (10, None));
        assert_eq!(bytes(outcome(&[5, 5], &[3, -libc::ECANCELED])), (3, None));
        assert_eq!(bytes(outcome(&[5, 5], &[5, -libc::EAGAIN])), (5, None));
        assert_eq!(bytes(outcome(&[5, 5], &[5, -libc::EIO])), (5, Some(libc::EIO)));
    }

    /// What code that took over this process would try by the ring.
    #[test]
    fn the_ring_does_nothing_but_write_to_its_file() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let file = File::options().append(true).create(true).open(&path).unwrap();
        ring.set_file(file.as_fd()).unwrap();
        let (slot, descriptor) = (types::Fixed(SLOT), types::Fd(file.as_raw_fd()));
        let name = c"/etc/passwd";
        for entry in [
            opcode::Fsync::new(slot).build(),
            opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), name.as_ptr()).build(),
            opcode::Write::new(descriptor, name.as_ptr().cast(), 1).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
        ] {
            // SAFETY: the memory is static.
            unsafe { ring.ring.submission().push(&entry) }.unwrap();
            ring.ring.submit_and_wait(1).unwrap();
            let results: Vec<i32> =
                ring.ring.completion().map(|completion| completion.result()).collect();
            assert_eq!(results, [-libc::EACCES], "{entry:?}");
        }
        let refused = ring.ring.submitter().register_files(&[0]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(append(&mut ring, file.as_fd(), vec![b"line\n".to_vec()]).error.is_none());
    }
}
