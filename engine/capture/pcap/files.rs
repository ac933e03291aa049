//! Several capture files, read one after the other as one capture.
//!
//! All files are opened at the beginning ([`Opened`]), then checked, and then begun one by one. The
//! first shard that needs a file begins it for all shards. A shard that gets ahead of the others
//! waits for them, so only a few files are mapped at a time.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::PcapSource;
use super::error::CaptureOpenError;
use super::format::Format;
use super::input::{self, CaptureWindow, Counters};
use super::interface_ids::InterfaceIds;
use super::walk::Seat;
use crate::capture::tee::WAIT_MS;
use crate::capture::{Frame, FrameSource, Lookahead, Polled, SourceError, here};
use crate::ids::IfaceNames;
use crate::sys::limits::reserve_descriptors;
use crate::time::TimestampNs;

/// How many files may be open that some shard has not begun to read.
const LEAD_COUNT_MAX: usize = 4;

/// A file that begins this much before the end of the file before it is told: frames that several
/// CPUs captured may be a little out of order.
const OVERLAP_NS_MIN: u64 = 10_000_000;

/// A file as it was when it was opened first.
#[derive(Debug)]
pub(super) struct CheckedFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The size of this file and all before it.
    end_bytes: u64,
    /// It is open, since the run may later open nothing any more. `None`: it was taken, or there
    /// may not be so many open files.
    open: Mutex<Option<File>>,
}

/// What a run reads, open; none of it was read yet.
#[derive(Debug)]
pub(super) enum Opened {
    Files(Vec<CheckedFile>),
    /// What can be read only once. Errors call it `input`.
    Stream {
        stream: File,
        input: String,
    },
}

/// The files of a run, shared by all shards.
#[derive(Debug)]
pub(super) struct Files {
    /// Empty for a stream.
    files: Vec<CheckedFile>,
    read_bytes: usize,
    counters: Counters,
    turns: Mutex<Turns>,
    /// A shard has begun to read a file, or has ended.
    begun: Condvar,
}

/// Which files are open.
#[derive(Debug)]
struct Turns {
    /// The number of files that were opened so far.
    opened_count: usize,
    /// For each shard the opened files that it has not begun to read; `None` once it has ended.
    queues: Vec<Option<VecDeque<Turn>>>,
}

/// A file for one shard.
#[derive(Debug)]
enum Turn {
    Opened(CaptureWindow, Format, Option<Seat>),
    /// It could not be opened. This was told.
    Failed,
}

/// What a shard reads next.
enum Next {
    Turn(Turn),
    /// Other shards must catch up first.
    Wait,
    End,
}

impl Opened {
    /// Opens the files at `paths`, or a stream if that is the only one.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Opened, CaptureOpenError> {
        let first = paths.first().ok_or(CaptureOpenError::NoFile)?;
        if paths.len() == 1 {
            let (file, metadata) = open(first)?;
            if !metadata.is_file() {
                return Ok(Opened::Stream { stream: file, input: first.display().to_string() });
            }
            let mut checked = CheckedFile::new(first, &metadata, None)?;
            checked.open = Mutex::new(Some(file));
            return Ok(Opened::Files(vec![checked]));
        }
        let may_stay_open = reserve_descriptors(paths.len() as u64).is_ok();
        let mut files: Vec<CheckedFile> = Vec::new();
        for path in paths {
            // Before it is opened: opening a FIFO would wait for its writer.
            let metadata = std::fs::metadata(path).map_err(|error| io_error(path, error))?;
            let mut checked = CheckedFile::new(path, &metadata, files.last())?;
            let (file, _) = open(path)?;
            // The first one is read at once.
            if may_stay_open || files.is_empty() {
                checked.open = Mutex::new(Some(file));
            }
            files.push(checked);
        }
        Ok(Opened::Files(files))
    }

    /// The files that did not stay open, since there are too many.
    pub(super) fn opened_later(&self) -> Vec<PathBuf> {
        let Opened::Files(files) = self else { return Vec::new() };
        let later = files.iter().filter(|file| file.lock().is_none());
        later.map(|file| file.path.clone()).collect()
    }

    /// The size of all files; `None` for a stream.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        let Opened::Files(files) = self else { return None };
        files.last().map(|file| file.end_bytes)
    }

    /// Begins the first file or the stream for all shards, and checks that the other files begin
    /// like captures.
    pub(super) fn begin(
        self,
        read_bytes: usize,
        counters: &Counters,
    ) -> Result<Files, CaptureOpenError> {
        let (files, stream) = match self {
            Opened::Files(files) => (files, None),
            Opened::Stream { stream, input } => (Vec::new(), Some((stream, input))),
        };
        let files = Files::new(files, read_bytes, counters);
        let turns = match (stream, files.files.split_first()) {
            (Some((stream, input)), _) => files.split(stream, None, &input)?,
            (None, Some((first, later))) => {
                let (file, metadata) = first.open()?;
                let turns = files.split(file, Some(metadata.len()), &first.input())?;
                later.iter().try_for_each(CheckedFile::check)?;
                turns
            }
            (None, None) => return Err(CaptureOpenError::NoFile),
        };
        files.lock().push(turns);
        Ok(files)
    }
}

impl Files {
    fn new(files: Vec<CheckedFile>, read_bytes: usize, counters: &Counters) -> Files {
        let queues = counters.iter().map(|_| Some(VecDeque::new())).collect();
        let turns = Mutex::new(Turns { opened_count: 0, queues });
        Files { files, read_bytes, counters: Arc::clone(counters), turns, begun: Condvar::new() }
    }

    /// A source for every shard.
    pub(super) fn sources(self, names: &IfaceNames) -> Vec<CaptureSource> {
        let files = Arc::new(self);
        let shards = 0..files.counters.len();
        shards.filter_map(|shard| CaptureSource::begin(&files, shard, names)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A turn for every shard, from an opened file or stream.
    fn split(
        &self,
        file: File,
        size_bytes: Option<u64>,
        input: &str,
    ) -> Result<Vec<Turn>, CaptureOpenError> {
        let begun = input::begin(file, size_bytes, input, &self.counters)?;
        let (windows, format, walk) = begun.split(self.read_bytes);
        let turn = |(shard, window)| {
            let seat = walk.as_ref().map(|walk| Seat::new(walk, shard));
            Turn::Opened(window, format.clone(), seat)
        };
        Ok(windows.into_iter().enumerate().map(turn).collect())
    }

    /// The next file for `shard`. Waits a bounded time if other shards must catch up.
    fn next(&self, shard: usize) -> Next {
        let mut turns = self.lock();
        loop {
            let Some(queue) = &mut turns.queues[shard] else { return Next::End };
            if let Some(turn) = queue.pop_front() {
                self.begun.notify_all();
                return Next::Turn(turn);
            }
            let Some(file) = self.files.get(turns.opened_count) else { return Next::End };
            if turns.lead_count() < LEAD_COUNT_MAX {
                turns.push(self.open(file));
                continue;
            }
            let wait = Duration::from_millis(WAIT_MS.into());
            let (waited, timeout) = self
                .begun
                .wait_timeout(turns, wait)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            turns = waited;
            if timeout.timed_out() {
                return Next::Wait;
            }
        }
    }

    /// A turn for every shard, from a file that was checked before.
    fn open(&self, file: &CheckedFile) -> Vec<Turn> {
        let opened = file.open().and_then(|(opened, metadata)| {
            let input = file.input();
            if (metadata.dev(), metadata.ino()) != (file.device, file.inode) {
                let source = io::Error::other("it was replaced after it had been checked");
                return Err(CaptureOpenError::Read { input, source });
            }
            self.split(opened, Some(metadata.len()), &input)
        });
        opened.unwrap_or_else(|error| {
            tracing::error!("{error}");
            self.counters.iter().map(|_| Turn::Failed).collect()
        })
    }

    /// The shard has ended. The others need not wait for it.
    fn leave(&self, shard: usize) {
        self.lock().queues[shard] = None;
        self.begun.notify_all();
    }
}

impl Turns {
    /// Adds a turn for every shard that has not ended.
    fn push(&mut self, turns: Vec<Turn>) {
        self.opened_count += 1;
        for (queue, turn) in self.queues.iter_mut().zip(turns) {
            if let Some(queue) = queue {
                queue.push_back(turn);
            }
        }
    }

    /// The number of opened files that the slowest shard has not begun to read.
    fn lead_count(&self) -> usize {
        self.queues.iter().flatten().map(VecDeque::len).max().unwrap_or(0)
    }
}

impl CheckedFile {
    /// A file that is not open.
    fn new(
        path: &Path,
        metadata: &Metadata,
        before: Option<&CheckedFile>,
    ) -> Result<CheckedFile, CaptureOpenError> {
        let input = || path.display().to_string();
        if metadata.is_dir() {
            return Err(CaptureOpenError::IsDirectory { input: input() });
        }
        if !metadata.is_file() {
            return Err(CaptureOpenError::NotRegular { input: input() });
        }
        Ok(CheckedFile {
            path: path.to_path_buf(),
            device: metadata.dev(),
            inode: metadata.ino(),
            end_bytes: before.map_or(0, |before| before.end_bytes) + metadata.len(),
            open: Mutex::default(),
        })
    }
}

impl CheckedFile {
    /// Opens the file, if it is not open any more, at its beginning.
    fn open(&self) -> Result<(File, Metadata), CaptureOpenError> {
        let file = self.lock().take();
        let Some(mut file) = file else { return open(&self.path) };
        let metadata = file.rewind().and_then(|()| file.metadata());
        Ok((file, metadata.map_err(|error| io_error(&self.path, error))?))
    }

    /// Checks that the file begins like a capture. It stays open, if it is.
    fn check(&self) -> Result<(), CaptureOpenError> {
        let copy = self.lock().as_ref().map(File::try_clone);
        let (size_bytes, file) = match copy {
            Some(copy) => copy
                .and_then(|copy| Ok((copy.metadata()?.len(), copy)))
                .map_err(|error| io_error(&self.path, error))?,
            None => open(&self.path).map(|(file, metadata)| (metadata.len(), file))?,
        };
        input::begin(file, Some(size_bytes), &self.input(), &Counters::from([]))?;
        Ok(())
    }

    /// What errors call it.
    fn input(&self) -> String {
        self.path.display().to_string()
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn open(path: &Path) -> Result<(File, Metadata), CaptureOpenError> {
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    if metadata.is_dir() {
        return Err(CaptureOpenError::IsDirectory { input: path.display().to_string() });
    }
    Ok((file, metadata))
}

fn io_error(path: &Path, error: io::Error) -> CaptureOpenError {
    CaptureOpenError::io(&path.display().to_string(), error)
}

/// One shard's frames of all files, in the order of the files.
///
/// If one of several files cannot be read to its end, this is told at once, reading continues with
/// the next file, and at the end [`SourceError::Files`] is returned. The error of a single file is
/// returned as it is.
#[derive(Debug)]
pub struct CaptureSource {
    files: Arc<Files>,
    shard: usize,
    pub(super) source: PcapSource<CaptureWindow>,
    /// Its place among those who walk the file for each other, if they do.
    pub(super) seat: Option<Seat>,
    /// The number of the file that `source` reads.
    number: usize,
    /// The file that was read before and when it ends, until the order of the two is known.
    before: Option<(usize, TimestampNs)>,
    /// Two files were found out of order. This is told once.
    is_disorder_told: bool,
    failed_count: usize,
}

impl CaptureSource {
    /// The source of `shard`, at the first file.
    fn begin(files: &Arc<Files>, shard: usize, names: &IfaceNames) -> Option<CaptureSource> {
        let Next::Turn(Turn::Opened(window, format, seat)) = files.next(shard) else { return None };
        let ids = InterfaceIds::new(names);
        Some(CaptureSource {
            files: Arc::clone(files),
            shard,
            source: PcapSource::resume(window, format, ids, TimestampNs(0)),
            seat,
            number: 0,
            before: None,
            is_disorder_told: false,
            failed_count: 0,
        })
    }

    /// One of the shards tells what all of them find.
    fn is_teller(&self) -> bool {
        self.shard == 0
    }

    fn name(&self, number: usize) -> String {
        self.files.files.get(number).map(|file| file.path.display().to_string()).unwrap_or_default()
    }

    /// Goes on with the next file, after this one ended with `result`.
    #[cold]
    fn next_file(&mut self, result: Result<Polled, SourceError>) -> Result<Polled, SourceError> {
        let file_count = self.files.files.len();
        if file_count <= 1 {
            return result;
        }
        if let Err(error) = result {
            self.failed_count += 1;
            if self.is_teller() {
                tracing::error!("{}: {error}", self.name(self.number));
            }
        }
        // What of a file was not read counts as read.
        let end_bytes = self.files.files[self.number].end_bytes;
        self.files.counters[self.shard].fetch_max(end_bytes, Ordering::Relaxed);
        self.seat = None;
        loop {
            match self.files.next(self.shard) {
                Next::Turn(Turn::Opened(window, format, seat)) => {
                    let (ids, last) = (self.source.ids.clone(), self.source.last);
                    if self.source.frames > 0 {
                        self.before = Some((self.number, last));
                    }
                    self.number += 1;
                    self.source = PcapSource::resume(window, format, ids, last);
                    self.seat = seat;
                    return Ok(Polled::Frames(0));
                }
                Next::Turn(Turn::Failed) => {
                    self.failed_count += 1;
                    self.number += 1;
                }
                Next::Wait => return Ok(Polled::Idle),
                Next::End if self.failed_count == 0 => return Ok(Polled::End),
                Next::End => {
                    let failed_count = std::mem::take(&mut self.failed_count);
                    return Err(SourceError::Files { failed_count, file_count });
                }
            }
        }
    }

    /// Passes on the result of a poll, or goes on with the next file.
    #[inline]
    pub(super) fn polled(
        &mut self,
        result: Result<Polled, SourceError>,
    ) -> Result<Polled, SourceError> {
        if let Some((number, end)) = self.before {
            self.check_order(number, end);
        }
        match result {
            Ok(Polled::Frames(_) | Polled::Idle) => result,
            Ok(Polled::End) | Err(_) => self.next_file(result),
        }
    }

    /// Tells if this file begins before the one before it ends.
    #[cold]
    fn check_order(&mut self, number: usize, end: TimestampNs) {
        let Some(begin) = self.source.first else { return };
        self.before = None;
        if begin.0.saturating_add(OVERLAP_NS_MIN) < end.0 && !self.is_disorder_told {
            self.is_disorder_told = true;
            if self.is_teller() {
                tracing::warn!(
                    "{} begins {:.3} s before the end of {}, which was read before it: times and \
                     pairs can be wrong; give the files in the order of their time, and join those \
                     that overlap with mergecap",
                    self.name(self.number),
                    (end.0 - begin.0) as f64 / 1e9,
                    self.name(number)
                );
            }
        }
    }
}

impl FrameSource for CaptureSource {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        self.poll_ahead(0, &mut here(visit))
    }

    #[inline(always)]
    fn poll_ahead(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        let result = self.source.poll_ahead(ahead_count, visit);
        self.polled(result)
    }

    fn ended_at(&self) -> Option<TimestampNs> {
        self.source.ended_at()
    }
}

impl Drop for CaptureSource {
    fn drop(&mut self) {
        self.files.leave(self.shard);
    }
}

#[cfg(test)]
mod tests;
