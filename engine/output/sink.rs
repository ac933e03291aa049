//! The destination of batches. A [`Sink`] appends whole lines. After a fault a partially written
//! line is removed from a file. If it cannot be removed (a pipe), the rest of the line is written
//! first as soon as possible.

use std::fs::File;
use std::io;
#[cfg(feature = "live")]
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "live")]
use std::sync::Once;
use std::time::Duration;

use memchr::memrchr;

use crate::output::batch::Batch;
use crate::output::closed_name::UtcMicros;
use crate::output::descriptor::{Descriptor, GaveUp, LOOK_INTERVAL_MS, open_own};
use crate::output::directory::{Sharing, lock, unlock};
use crate::output::error::WriterError;
use crate::output::open_file::{OpenFile, is_passed_descriptor, open_file};
use crate::output::patience::Patience;
use crate::output::rotation::{Rotation, is_regular};
use crate::output::space::{Space, give_back};
#[cfg(feature = "live")]
use crate::sys::uring::Uring;
use crate::sys::words_of;

/// Why an append could not be finished.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SinkFault {
    /// Bytes of the batches, from the first one, that are in the sink, or will be before anything
    /// else. They end with a whole line. Everything after them is lost.
    pub written_bytes: usize,
    /// The system's error.
    pub error: io::Error,
}

/// An output for lines. The writer owns it.
pub trait Sink: Send {
    /// Appends `batches` in order; they are the same afterwards. A fault is not final: the next
    /// append tries again.
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault>;

    /// Called before an append. Closes the file and opens the next one, if it is time, and returns
    /// how many of `batches`, at least one, belong into the file that is open then.
    fn make_room(&mut self, batches: &[Batch]) -> usize {
        batches.len()
    }

    /// Reopens the output under the same name, after the file was renamed (SIGHUP). If that fails,
    /// the sink continues with the old file.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Called now and then while there is nothing to append.
    fn idle(&mut self) {}

    /// Completes a torn line, since nothing more is appended. If that fails, the last line that
    /// [`SinkFault::written_bytes`] counted is lost.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The name of the output, for messages.
    fn name(&self) -> String;
}

/// The number of bytes in the first `written_bytes` of `batches` that are whole lines.
pub(super) fn whole_lines(batches: &[Batch], written_bytes: usize) -> usize {
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

/// The bytes of `batches` from `start` to the end of that line, including the line feed.
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

/// Handles `error` after `written_bytes` of `batches`: the rest of a torn line becomes owed.
fn torn(
    output: &mut Descriptor,
    batches: &[Batch],
    written_bytes: usize,
    error: io::Error,
) -> SinkFault {
    let whole = whole_lines(batches, written_bytes);
    if whole == written_bytes {
        return SinkFault { written_bytes, error };
    }
    output.owed.extend_from_slice(rest_of_line(batches, written_bytes));
    output.is_line_owed = true;
    SinkFault { written_bytes: written_bytes + output.owed.len(), error }
}

/// Writes what is owed, before anything else.
fn settle(output: &mut Descriptor) -> Result<(), SinkFault> {
    output.settle().map_err(|error| SinkFault { written_bytes: 0, error })
}

/// A file that is appended to, or a FIFO or device with a name.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    /// `None`: a FIFO that nobody reads yet.
    output: Option<Descriptor>,
    patience: Patience,
    /// Closes the file now and then.
    rotation: Option<Rotation>,
    /// The next reader of a FIFO is waited for if one goes.
    follows_readers: bool,
    space: Space,
    /// The ring that writes the file; without one, write(2) does.
    #[cfg(feature = "live")]
    ring: Option<Box<Uring>>,
}

impl FileSink {
    /// Opens `path` without following a symbolic link, or creates it with mode 0640; existing
    /// content is kept. If it does not end with a line feed (another writer was cut off), one is
    /// written before the first line. A FIFO that nobody reads is opened with the first reader.
    /// Files are appended to by io_uring, or by write(2) if io_uring is forbidden, which is logged.
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
        let mut sink = FileSink { ring, ..FileSink::open_plain(path)? };
        sink.give_file_to_ring();
        Ok(sink)
    }

    /// The same, but appends by write(2).
    pub fn open_plain(path: &Path) -> io::Result<FileSink> {
        let mut sink = FileSink {
            path: path.to_path_buf(),
            output: None,
            patience: Patience::default(),
            rotation: None,
            follows_readers: false,
            space: Space::Never,
            #[cfg(feature = "live")]
            ring: None,
        };
        sink.open_again()?;
        Ok(sink)
    }

    /// From now on lines go to `output`.
    fn set_output(&mut self, output: Option<Descriptor>) {
        let before = std::mem::replace(&mut self.output, output);
        #[cfg(feature = "live")]
        self.give_file_to_ring();
        if let Some(before) = before {
            unlock(&before.file);
        }
    }

    /// Puts the file into the slot of the ring. If that fails, the ring cannot be used.
    #[cfg(feature = "live")]
    fn give_file_to_ring(&mut self) {
        let (Some(ring), Some(output)) = (&mut self.ring, &self.output) else { return };
        if !output.has_reader() && ring.set_file(output.file.as_fd()).is_err() {
            self.ring = None;
        }
    }

    /// Reserves disk space for each batch before it is written.
    pub(super) fn with_reserved_space(self) -> FileSink {
        FileSink { space: Space::Unknown, ..self }
    }

    /// Waits for readers as long as `patience` lasts.
    pub fn with_patience(mut self, patience: Patience) -> FileSink {
        if let Some(output) = &mut self.output {
            output.set_patience(patience.clone());
        }
        FileSink { patience, ..self }
    }

    /// Closes the file now and then. If its last line belongs to an earlier interval, that is done
    /// here.
    ///
    /// # Errors
    /// Another process appends to the file, or the output is something else than a file.
    pub(super) fn with_rotation(mut self, mut rotation: Rotation) -> Result<FileSink, WriterError> {
        let name = self.name();
        let output = self.output.as_mut().filter(|output| rotation.is_for(&output.file));
        let Some(output) = output else { return Err(WriterError::NotRotated { name }) };
        let is_over = rotation.begin(&output.file, UtcMicros::now());
        let is_over =
            is_over.map_err(|source| WriterError::Open { path: self.path.clone(), source })?;
        self.rotation = Some(rotation);
        if is_over {
            self.rotate();
        }
        Ok(self)
    }

    /// Completes the last line, closes the file and opens the next one. If that fails, lines go on
    /// in the file that is open. A file that was removed is replaced when lines come.
    #[cold]
    fn rotate(&mut self) {
        if self.length().is_none() {
            return;
        }
        let (Some(rotation), Some(output)) = (&mut self.rotation, &mut self.output) else { return };
        match output.settle() {
            Ok(()) => {
                if let Some(opened) = rotation.rotate(&output.file) {
                    let next = self.descriptor(opened);
                    self.set_output(Some(next));
                }
            }
            Err(error) => rotation.fail(&error),
        }
    }

    /// Closes the file under the time `opened` of another one. Returns whether there is nothing
    /// left to do: if that fails, it is to be tried again.
    pub(super) fn rotate_with(&mut self, opened: UtcMicros) -> bool {
        if self.rotation.as_mut().is_some_and(|rotation| rotation.is_due_with(opened)) {
            self.rotate();
        }
        !self.rotation.as_ref().is_some_and(Rotation::has_failed)
    }

    /// Rotates if it is time before `next_bytes` are appended.
    fn rotate_if_due(&mut self, next_bytes: usize) {
        if self.rotation.as_mut().is_some_and(|rotation| rotation.is_due(next_bytes as u64)) {
            self.rotate();
        }
    }

    /// If the reader of a FIFO goes, waits for the next one. Otherwise that is the end.
    pub fn with_next_readers(mut self) -> FileSink {
        let name = self.name();
        if let Some(output) = &mut self.output {
            output.follow_readers(name);
        }
        FileSink { follows_readers: true, ..self }
    }

    /// Opens what has the name now.
    fn open_again(&mut self) -> io::Result<()> {
        let opened = open_file(&self.path)?;
        match &opened {
            Some(opened) if is_regular(&opened.file) => lock(&opened.file, Sharing::Appending)?,
            Some(_) => {}
            None => tracing::warn!("waiting for a reader of {}", self.name()),
        }
        let next = opened.map(|opened| self.descriptor(opened));
        self.set_output(next);
        Ok(())
    }

    fn descriptor(&self, opened: OpenFile) -> Descriptor {
        let mut output = Descriptor::new(opened.file, self.patience.clone());
        if opened.is_torn {
            output.owed.push(b'\n');
        }
        if self.follows_readers {
            output.follow_readers(self.name());
        }
        output
    }

    /// The length of the output in bytes. `None`: it is a file without a name. Somebody has removed
    /// it, or its directory, and what is appended to it is lost.
    fn length(&self) -> Option<u64> {
        let Some(Ok(metadata)) = self.output.as_ref().map(|output| output.file.metadata()) else {
            return Some(0);
        };
        let is_named = metadata.nlink() > 0 || !metadata.is_file();
        (is_named || is_passed_descriptor(&self.path)).then_some(metadata.len())
    }

    /// Opens a new file instead of one that was removed.
    #[cold]
    fn replace(&mut self) -> io::Result<()> {
        self.reopen().map_err(|error| {
            let error = words_of(&error);
            io::Error::other(format!("it was removed, and cannot be opened again: {error}"))
        })?;
        tracing::warn!("{} was removed; lines go into a new file of that name", self.name());
        Ok(())
    }

    /// Waits for the reader of a FIFO.
    #[cold]
    fn wait_for_reader(&mut self) -> io::Result<()> {
        loop {
            let next = open_file(&self.path)?.map(|opened| self.descriptor(opened));
            self.set_output(next);
            if self.output.is_some() {
                return Ok(());
            }
            if self.patience.is_limited() {
                return Err(GaveUp("nobody reads it").into());
            }
            std::thread::sleep(Duration::from_millis(LOOK_INTERVAL_MS.into()));
        }
    }

    /// The same as [`Descriptor::write`] through io_uring, in one chain of writes after the other.
    /// If the ring cannot be used any more, the rest is written by write(2).
    #[cfg(feature = "live")]
    fn write_by_ring(&mut self, batches: &mut [Batch]) -> (usize, Option<io::Error>) {
        let Some(ring) = &mut self.ring else { return (0, None) };
        let buffers = batches.iter_mut().map(|batch| std::mem::take(&mut batch.bytes)).collect();
        let appended = ring.append(buffers);
        for (batch, bytes) in batches.iter_mut().zip(appended.buffers) {
            batch.bytes = bytes;
        }
        let (written_bytes, error) = (appended.written_bytes, appended.error);
        if !appended.is_spent {
            return (written_bytes, error);
        }
        // If it kept the buffers, how many bytes are in the file is unknown.
        tracing::warn!("io_uring failed: using write(2) from now on");
        self.ring = None;
        let (None, Some(output)) = (&error, &mut self.output) else {
            return (written_bytes, error);
        };
        let mut skip_bytes = written_bytes;
        let rest = batches.iter().map(|batch| {
            let skipped = skip_bytes.min(batch.bytes.len());
            skip_bytes -= skipped;
            &batch.bytes[skipped..]
        });
        let (more_bytes, error) = output.write(rest);
        (written_bytes + more_bytes, error)
    }

    /// Writes the batches. Returns how many bytes were written, and why not all.
    fn write(&mut self, batches: &mut [Batch]) -> (usize, Option<io::Error>) {
        let Some(output) = &mut self.output else { return (0, None) };
        #[cfg(feature = "live")]
        if self.ring.is_some() && !output.has_reader() {
            return self.write_by_ring(batches);
        }
        output.write(batches.iter().map(|batch| &batch.bytes[..]))
    }
}

impl Sink for FileSink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        if self.output.is_none() {
            self.wait_for_reader().map_err(|error| SinkFault { written_bytes: 0, error })?;
        }
        let mut length_before = self.length();
        if length_before.is_none() {
            self.replace().map_err(|error| SinkFault { written_bytes: 0, error })?;
            length_before = self.length();
        }
        let Some(output) = &mut self.output else { return Ok(()) };
        let owed_bytes = output.owed.len() as u64;
        settle(output)?;
        let length_before = length_before.unwrap_or_default() + owed_bytes;
        let bytes = batches.iter().map(|batch| batch.bytes.len()).sum();
        let is_reserved = self.space.reserve(&output.file, length_before, bytes);
        let (written_bytes, error) = self.write(batches);
        if let Some(rotation) = &mut self.rotation {
            rotation.set_bytes(length_before + written_bytes as u64);
        }
        let (Some(error), Some(output)) = (error, &mut self.output) else { return Ok(()) };
        let whole = whole_lines(batches, written_bytes);
        if whole < written_bytes && output.cut_back(length_before, written_bytes, whole) {
            return Err(SinkFault { written_bytes: whole, error });
        }
        if is_reserved {
            give_back(&output.file, length_before + written_bytes as u64);
        }
        Err(torn(output, batches, written_bytes, error))
    }

    fn make_room(&mut self, batches: &[Batch]) -> usize {
        self.rotate_if_due(batches.first().map_or(0, |batch| batch.bytes.len()));
        self.rotation.as_ref().map_or(batches.len(), |rotation| rotation.fitting(batches))
    }

    fn reopen(&mut self) -> io::Result<()> {
        // Completes the last line of the old file, if the disk has space. This comes before the new
        // file is examined, because both may be the same file.
        if let Some(output) = &mut self.output {
            let _ = output.settle();
        }
        match (&mut self.rotation, &self.output) {
            (Some(rotation), Some(output)) => {
                if let Some(opened) = rotation.reopen(&output.file)? {
                    let next = self.descriptor(opened);
                    self.set_output(Some(next));
                }
                Ok(())
            }
            _ => self.open_again(),
        }
    }

    fn idle(&mut self) {
        self.rotate_if_due(0);
        if self.output.is_none()
            && let Ok(Some(opened)) = open_file(&self.path)
        {
            let next = self.descriptor(opened);
            self.set_output(Some(next));
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        // A reader that waits for the FIFO to be opened learns of the end.
        if self.rotation.is_none() {
            self.idle();
        }
        let Some(output) = &mut self.output else { return Ok(()) };
        let finished = output.finish();
        unlock(&output.file);
        finished
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Standard output. It may be a pipe, a terminal or a file that the shell opened, which we must not
/// truncate: a torn line is continued.
#[derive(Debug)]
pub struct StdoutSink {
    output: Descriptor,
}

impl StdoutSink {
    /// Uses a descriptor of its own, to bypass the buffer of [`std::io::stdout`], and waits for its
    /// reader as long as `patience` lasts.
    pub fn new(patience: Patience) -> io::Result<StdoutSink> {
        let file = open_own(io::stdout())?;
        Ok(StdoutSink { output: Descriptor::new(file, patience) })
    }

    /// Uses any descriptor that must not be truncated, such as a pipe.
    pub fn on(file: File) -> StdoutSink {
        StdoutSink { output: Descriptor::new(file, Patience::default()) }
    }
}

impl Sink for StdoutSink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        settle(&mut self.output)?;
        let buffers = batches.iter().map(|batch| &batch.bytes[..]);
        match self.output.write(buffers) {
            (_, None) => Ok(()),
            (written_bytes, Some(error)) => {
                Err(torn(&mut self.output, batches, written_bytes, error))
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.finish()
    }

    fn name(&self) -> String {
        "standard output".into()
    }
}

/// A sink for no lines.
#[derive(Debug)]
pub(super) struct NoSink;

impl Sink for NoSink {
    fn append(&mut self, _: &mut [Batch]) -> Result<(), SinkFault> {
        debug_assert!(false, "there are no lines");
        Ok(())
    }

    fn name(&self) -> String {
        "no output".into()
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
        // What a full disk leaves behind if another process appends to the file, too.
        std::fs::write(&path, "to").unwrap();
        sink.output.as_mut().unwrap().owed = b"rn\n".to_vec();
        sink.reopen().unwrap();
        let shard = crate::ids::ShardId(0);
        sink.append(&mut [Batch { bytes: b"next\n".to_vec(), line_count: 1, shard }]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "torn\nnext\n");
    }
}
