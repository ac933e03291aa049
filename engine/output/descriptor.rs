//! [`Descriptor`]: an open output, and writing to it without being held for ever by its reader.

use std::fs::File;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
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
    /// The torn line at the end of a file, from its first byte to its end, that could not be
    /// removed yet.
    torn: Option<RangeInclusive<u64>>,
    has_reader: bool,
    is_nonblocking: bool,
    patience: Patience,
    has_given_up: bool,
    /// The name of a FIFO whose reader may go and be followed by another one.
    followed_name: Option<String>,
    /// Its reader has gone.
    is_deserted: bool,
}

impl Descriptor {
    pub(super) fn new(file: File, patience: Patience) -> Descriptor {
        let has_reader = has_reader(&file);
        let is_nonblocking = has_reader && is_nonblocking(&file);
        Descriptor {
            file,
            owed: Vec::new(),
            is_line_owed: false,
            torn: None,
            has_reader,
            is_nonblocking,
            patience,
            has_given_up: false,
            followed_name: None,
            is_deserted: false,
        }
    }

    /// If this is a FIFO, it is named `name`, and its reader goes, its next one is waited for.
    pub(super) fn follow_readers(&mut self, name: String) {
        let kind = self.file.metadata().map(|metadata| metadata.file_type());
        self.followed_name = kind.is_ok_and(|kind| kind.is_fifo()).then_some(name);
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
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.wait_for_next_reader(error)?;
                }
                result => {
                    self.is_deserted &= result.is_err();
                    return result;
                }
            }
        }
    }

    /// Waits a while because a write failed with `error`: the reader has gone. As long as the FIFO
    /// is open here, what its reader left unread is for the next one, so no line is torn.
    #[cold]
    fn wait_for_next_reader(&mut self, error: io::Error) -> io::Result<()> {
        let Some(name) = &self.followed_name else { return Err(error) };
        if self.patience.is_limited() {
            return Err(GaveUp("its reader has gone").into());
        }
        if !self.is_deserted {
            self.is_deserted = true;
            tracing::warn!("the reader of {name} has gone; waiting for the next one");
        }
        std::thread::sleep(Duration::from_millis(LOOK_INTERVAL_MS.into()));
        Ok(())
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

    /// Removes a torn line from the end of a file that had `length_before` bytes, before
    /// `written_bytes` were appended, if the end is where they put it: another process that appends
    /// or truncates must not lose lines. `whole_bytes` are whole lines and stay. If the disk is too
    /// full even for that, the line is removed before anything else is written. (Btrfs is so within
    /// a quota, and the bytes of the line may be zeros then.) Returns false if it must stay.
    pub(super) fn cut_back(
        &mut self,
        length_before: u64,
        written_bytes: usize,
        whole_bytes: usize,
    ) -> bool {
        let (start, end) =
            (length_before + whole_bytes as u64, length_before + written_bytes as u64);
        let is_ours = self.file.metadata().is_ok_and(|file| file.is_file() && file.len() == end);
        if !is_ours {
            return false;
        }
        match self.file.set_len(start) {
            // Nothing but appending is allowed: chattr +a.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return false,
            Err(_) => self.torn = Some(start..=end),
            Ok(()) => {}
        }
        true
    }

    /// Removes a torn line that is still there, unless somebody else has changed the file.
    fn remove_torn(&mut self) -> io::Result<()> {
        if let Some(torn) = &self.torn {
            if torn.contains(&self.file.metadata()?.len()) {
                self.file.set_len(*torn.start())?;
            }
            self.torn = None;
        }
        Ok(())
    }

    /// Removes a torn line, or writes the owed bytes.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.remove_torn()?;
        if self.owed.is_empty() {
            return Ok(());
        }
        let owed = std::mem::take(&mut self.owed);
        let (written, error) = self.write(std::iter::once(&owed[..]));
        self.owed = owed;
        self.owed.drain(..written);
        self.is_line_owed &= !self.owed.is_empty();
        error.map_or(Ok(()), Err)
    }

    /// Completes the last line, if it counts as written and is torn.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        // If this fails, the next run completes the line.
        let _ = self.remove_torn();
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
