//! [`Descriptor`]: an open output, and writing to it without being held for ever by its reader.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use crate::output::open_file::has_reader;
use crate::output::patience::Patience;
use crate::sys::wait::{is_nonblocking, is_writable};

/// How often a waiting writer looks whether the run was told to stop.
pub(super) const LOOK_INTERVAL_MS: u32 = 100;

/// How long to wait if poll(2) says that there is space, and write(2) that there is none.
const CONTRADICTION_WAIT: Duration = Duration::from_millis(1);

/// A write of this size does not wait on a pipe that has space (POSIX).
const PIPE_BUF: usize = 4096;

/// Why a run that was told to stop does not write its last lines.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct GaveUp(pub(super) &'static str);

impl From<GaveUp> for io::Error {
    fn from(gave_up: GaveUp) -> io::Error {
        io::Error::other(gave_up)
    }
}

/// Whether `error` is a [`GaveUp`].
pub(super) fn is_given_up(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<GaveUp>())
}

/// A descriptor, and the bytes owed to it: the rest of a torn line that could not be removed.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) file: File,
    pub(super) owed: Vec<u8>,
    /// The owed bytes belong to a line that counts as written.
    pub(super) is_line_owed: bool,
    has_reader: bool,
    is_nonblocking: bool,
    patience: Patience,
    has_given_up: bool,
}

impl Descriptor {
    pub(super) fn new(file: File, patience: Patience) -> Descriptor {
        let has_reader = has_reader(&file);
        let is_nonblocking = has_reader && is_nonblocking(&file);
        Descriptor {
            file,
            owed: Vec::new(),
            is_line_owed: false,
            has_reader,
            is_nonblocking,
            patience,
            has_given_up: false,
        }
    }

    /// Whether writes may have to wait for a reader.
    #[cfg(feature = "live")]
    pub(super) fn has_reader(&self) -> bool {
        self.has_reader
    }

    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Writes all of `buffers`. Returns the bytes that were written, and why not all.
    pub(super) fn write<'a>(
        &mut self,
        buffers: impl Iterator<Item = &'a [u8]>,
    ) -> (usize, Option<io::Error>) {
        let mut written_bytes = 0;
        for mut buffer in buffers {
            while !buffer.is_empty() {
                let result = match self.has_reader {
                    true => self.write_to_reader(buffer),
                    false => self.file.write(buffer),
                };
                match result {
                    Ok(0) => return (written_bytes, Some(io::ErrorKind::WriteZero.into())),
                    Ok(bytes) => {
                        written_bytes += bytes;
                        buffer = &buffer[bytes..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return (written_bytes, Some(error)),
                }
            }
        }
        (written_bytes, None)
    }

    /// Writes a part of `buffer` as soon as there is space for it.
    fn write_to_reader(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let part = match self.is_nonblocking {
            true => buffer,
            false => {
                self.wait_for_space()?;
                &buffer[..buffer.len().min(PIPE_BUF)]
            }
        };
        let mut has_waited = false;
        loop {
            match self.file.write(part) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if has_waited {
                        std::thread::sleep(CONTRADICTION_WAIT);
                    }
                    self.wait_for_space()?;
                    has_waited = true;
                }
                result => return result,
            }
        }
    }

    fn wait_for_space(&mut self) -> io::Result<()> {
        let since = Instant::now();
        let timeout_ms = if self.has_given_up { 0 } else { LOOK_INTERVAL_MS };
        while !is_writable(&self.file, timeout_ms)? {
            if self.has_given_up || self.patience.is_over(since) {
                self.has_given_up = true;
                return Err(GaveUp("its reader is too slow or has stopped").into());
            }
        }
        Ok(())
    }

    /// Writes the owed bytes.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let owed = std::mem::take(&mut self.owed);
        let (written, error) = self.write(std::iter::once(&owed[..]));
        self.owed = owed;
        self.owed.drain(..written);
        self.is_line_owed &= !self.owed.is_empty();
        error.map_or(Ok(()), Err)
    }

    /// Completes the last line, if it counts as written and is torn.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.is_line_owed { self.settle() } else { Ok(()) }
    }
}

/// A copy of `open`, which other processes may share. Of a pipe or a terminal it is, if that is
/// allowed, opened once more, so that writes to it need not wait and the others notice nothing.
pub(super) fn open_own(open: impl AsFd) -> io::Result<File> {
    let copy = File::from(open.as_fd().try_clone_to_owned()?);
    if !has_reader(&copy) {
        return Ok(copy);
    }
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let mut options = File::options();
    options.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    // A socket cannot be opened.
    Ok(options.open(path).unwrap_or(copy))
}
