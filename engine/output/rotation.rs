//! [`Rotation`]: closes an output file under a name with its time, and opens the next one. A step
//! that fails leaves the lines in the file that is open; it is counted, and tried again.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::FilesConfig;
use crate::output::batch::Batch;
use crate::output::closed_name::{FileName, Form, UtcMicros};
use crate::output::directory::{Directory, Sharing, lock};
use crate::output::error::why;
use crate::output::files::{ClosedFile, Files, News, add};
use crate::output::open_file::{OpenFile, open_file};
use crate::output::schedule::{SMALL_STEP_US, Schedule};

/// A rotation that failed is tried again after this time.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Names that are tried if they exist. Each has one microsecond more.
const NAME_COUNT_MAX: usize = 1000;

/// The rotation of one output.
#[derive(Debug)]
pub(super) struct Rotation {
    path: PathBuf,
    name: FileName,
    active_name: OsString,
    directory: Directory,
    /// The number of the output, for the janitor.
    output: usize,
    files: Arc<Files>,
    schedule: Schedule,
    /// When the file was opened that is written now.
    opened: UtcMicros,
    /// Its size after the last append.
    bytes: u64,
    /// It has this closed name already, because the next file could not be opened.
    closed: Option<UtcMicros>,
    /// The last rotation failed; when the next one is tried.
    retry_at: Option<Instant>,
    /// The file is closed only with another one, whose rotations are counted.
    is_sidecar: bool,
}

impl Rotation {
    /// For the file at `path`, the `output`th of the run.
    pub(super) fn new(
        path: &Path,
        output: usize,
        config: &FilesConfig,
        files: Arc<Files>,
    ) -> io::Result<Rotation> {
        let name = FileName::of(path).ok_or(io::ErrorKind::IsADirectory)?;
        Ok(Rotation {
            path: path.to_path_buf(),
            active_name: name.active(),
            name,
            directory: Directory::of(path)?,
            output,
            files,
            schedule: Schedule::new(config),
            opened: UtcMicros::default(),
            bytes: 0,
            closed: None,
            retry_at: None,
            is_sidecar: false,
        })
    }

    /// For a file that is closed together with the first output. It is the `output`th file of the
    /// run, counted from the outputs on.
    pub(super) fn of_sidecar(
        path: &Path,
        output: usize,
        files: Arc<Files>,
    ) -> io::Result<Rotation> {
        let rotation = Rotation::new(path, output, &FilesConfig::default(), files)?;
        Ok(Rotation { is_sidecar: true, ..rotation })
    }

    /// Whether the file may be closed under the name with the time `opened` now. One without lines
    /// is not closed.
    pub(super) fn is_due_with(&mut self, opened: UtcMicros) -> bool {
        self.opened = opened;
        (self.bytes > 0 || self.closed.is_some())
            && self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Whether the last rotation failed.
    pub(super) fn has_failed(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Whether `file` is a regular file with the name of this output. A FIFO, a device, or a file
    /// that this process was started with, as `/dev/fd/3`, is not.
    pub(super) fn is_for(&self, file: &File) -> bool {
        is_regular(file)
            && self.directory.is_name_of(&self.active_name, file).is_ok_and(|is_it| is_it)
    }

    /// Takes over a file that has just been opened at the start. Returns whether it must be closed
    /// first: its last line belongs to an earlier interval.
    pub(super) fn begin(&mut self, file: &File, now: UtcMicros) -> io::Result<bool> {
        lock(file, Sharing::Alone)?;
        let metadata = file.metadata()?;
        self.bytes = metadata.len();
        // Not every file system knows when a file was made.
        let made = metadata.created().or_else(|_| metadata.modified());
        let made = made.map_or(now, UtcMicros::from);
        self.opened = if self.bytes == 0 { now } else { made.min(now) };
        let written = metadata.modified().map_or(now, UtcMicros::from);
        self.schedule.begin(if self.bytes == 0 { now } else { written });
        Ok(self.schedule.is_over(now))
    }

    /// The size of the file after an append.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// The number of `batches`, at least one, that belong into the file that is open.
    pub(super) fn fitting(&self, batches: &[Batch]) -> usize {
        self.schedule.fitting(self.bytes, batches)
    }

    /// Whether to rotate before `next_bytes` are appended.
    pub(super) fn is_due(&mut self, next_bytes: u64) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        self.closed.is_some()
            || self.schedule.is_full(self.bytes, next_bytes)
            || (self.schedule.has_interval() && self.is_over(UtcMicros::now()))
    }

    /// Whether the interval of a file with lines is over. An empty one is taken for the next.
    fn is_over(&mut self, now: UtcMicros) -> bool {
        let is_over = self.schedule.is_over(now);
        if is_over && self.bytes == 0 {
            self.opened = now;
            self.schedule.begin(now);
            return false;
        }
        is_over
    }

    /// Closes `file` and opens the next one, and reports if that begins to fail and if it is over.
    pub(super) fn rotate(&mut self, file: &File) -> Option<OpenFile> {
        match self.try_rotate(file, UtcMicros::now()) {
            Ok(opened) => {
                if self.retry_at.take().is_some() {
                    tracing::warn!("{}: rotated again", self.path.display());
                }
                Some(opened)
            }
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    /// Counts a rotation that failed, and reports the first one.
    pub(super) fn fail(&mut self, error: &io::Error) {
        add(&self.files.counters.rotation_failures, 1);
        if self.retry_at.is_none() {
            let open = self.closed.map(|opened| self.name.closed(opened));
            let open = open.as_ref().unwrap_or(&self.active_name).display();
            tracing::warn!(
                "cannot rotate {}: {}; lines go on in {open}, and it is tried again each second",
                self.path.display(),
                why(error)
            );
        }
        self.retry_at = Some(Instant::now() + RETRY_WAIT);
    }

    /// Closes `file` because SIGHUP came, and opens the next one. Somebody may have renamed the
    /// file; then it keeps that name. `None`: it is empty, has its name, and stays open.
    pub(super) fn reopen(&mut self, file: &File) -> io::Result<Option<OpenFile>> {
        let is_empty = file.metadata()?.len() == 0;
        if is_empty
            && self.closed.is_none()
            && self.directory.is_name_of(&self.active_name, file)?
        {
            return Ok(None);
        }
        self.try_rotate(file, UtcMicros::now()).map(Some)
    }

    fn try_rotate(&mut self, file: &File, now: UtcMicros) -> io::Result<OpenFile> {
        self.directory.renew();
        if self.closed.is_none() && self.directory.is_name_of(&self.active_name, file)? {
            self.closed = self.close()?;
        }
        let opened = self.open_next()?;
        let bytes = file.metadata().map_or(self.bytes, |metadata| metadata.len());
        self.bytes = opened.file.metadata().map_or(0, |metadata| metadata.len());
        let is_set_back =
            |closed: &UtcMicros| now <= *closed && now.0.saturating_add(SMALL_STEP_US) >= closed.0;
        self.opened = self.closed.filter(is_set_back).map_or(now, UtcMicros::next);
        self.schedule.begin(self.opened);
        add(&self.files.counters.rotations, u64::from(!self.is_sidecar));
        if let Some(opened) = self.closed.take() {
            if self.output == 0 {
                self.files.set_closed_last(opened);
            }
            self.files.tell(News::Closed(ClosedFile { output: self.output, opened, bytes }));
        }
        Ok(opened)
    }

    /// Gives the file its closed name, and returns the time in it. `None`: somebody else renamed or
    /// removed it.
    fn close(&self) -> io::Result<Option<UtcMicros>> {
        let mut opened = self.opened;
        for _ in 0..NAME_COUNT_MAX {
            let compressed = self.name.in_form(opened, Form::Compressed);
            if self.directory.find(&compressed)?.is_none() {
                match self.directory.rename(&self.active_name, &self.name.closed(opened)) {
                    Ok(()) => return Ok(Some(opened)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
            opened = opened.next();
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Creates the next file. If somebody else made one with its name, as logrotate does, it is
    /// opened as one is at the start.
    fn open_next(&self) -> io::Result<OpenFile> {
        let opened = match self.directory.create(&self.active_name) {
            Ok(file) => OpenFile { file, is_torn: false },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_file(&self.path)?
                .filter(|opened| is_regular(&opened.file))
                .ok_or_else(|| {
                    io::Error::other("somebody put something there that is not a file; remove it")
                })?,
            Err(error) => return Err(error),
        };
        lock(&opened.file, Sharing::Alone)?;
        Ok(opened)
    }
}

/// Whether `file` is a regular file.
pub(super) fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests;
