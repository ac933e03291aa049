//! [`Janitor`]: what becomes of closed files. A thread of idle priority deletes the oldest ones and
//! compresses all but the newest one of each output. It lists the directory at the start and before
//! it deletes; in between the outputs tell it what they closed. Only regular files whose names are
//! exactly those of closed files of this run's outputs are touched, and none that somebody writes.

mod closed_set;
#[cfg(feature = "cli")]
mod compression;

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::FilesConfig;
use crate::output::closed_name::{FileName, Form, UtcMicros};
use crate::output::directory::{Directory, Sharing, lock};
use crate::output::error::{WriterError, why};
use crate::output::files::{ClosedFiles, Files, News, add};
use crate::sys::{priority, threads};
use closed_set::{ClosedSet, Entry};
#[cfg(feature = "cli")]
use compression::Compression;

/// How often the sizes and the free space are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file that could not be deleted or compressed is tried again after this time.
const RETRY_WAIT: Duration = Duration::from_secs(60);

/// A file that somebody still writes is looked at again after this time.
const LOCKED_WAIT: Duration = Duration::from_secs(1);

/// If a deletion freed nothing at once, as on Btrfs, or because somebody still reads the file, the
/// next one for free space waits for this time.
const FREE_WAIT: Duration = Duration::from_secs(10);

/// Reports a fault when it begins and when it is over.
#[derive(Debug)]
struct Fault {
    /// What cannot be done: `delete`.
    what: &'static str,
    has_begun: bool,
}

impl Fault {
    fn begin(&mut self, name: &OsStr, error: &io::Error) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let (what, name, why) = (self.what, name.display(), why(error));
            tracing::warn!("cannot {what} {name}: {why}; it is tried again each minute");
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.has_begun) {
            tracing::warn!("closed files: {} works again", self.what);
        }
    }
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Janitor {
    config: FilesConfig,
    directory: Directory,
    /// The outputs; behind them, what is closed together with them (`http.stats`).
    names: Vec<FileName>,
    output_count: usize,
    files: Arc<Files>,
    news: Receiver<News>,
    closed: ClosedSet,
    #[cfg(feature = "cli")]
    compression: Option<Compression>,
    deletion_fault: Fault,
    #[cfg(feature = "cli")]
    compression_fault: Fault,
    /// There is too little free space, and nothing to delete.
    is_space_missing: bool,
    /// When files may be deleted for free space again.
    free_at: Option<Instant>,
    should_stop: Arc<AtomicBool>,
}

/// The janitor's thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct JanitorThread {
    thread: Option<JoinHandle<()>>,
    files: Arc<Files>,
    should_stop: Arc<AtomicBool>,
}

impl JanitorThread {
    /// Ends the thread: closed files are deleted once more, and what is being compressed stays
    /// plain. Returns whether it had panicked.
    pub(super) fn stop(&mut self) -> bool {
        self.should_stop.store(true, Ordering::Release);
        self.files.tell(News::Stop);
        self.thread.take().is_some_and(|thread| thread.join().is_err())
    }
}

impl Drop for JanitorThread {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Janitor {
    /// For the outputs at `paths`, which are in one directory, and `sidecar`, which is closed
    /// together with them.
    pub(super) fn open(
        config: &FilesConfig,
        paths: &[PathBuf],
        sidecar: Option<FileName>,
        files: Arc<Files>,
        news: Receiver<News>,
    ) -> io::Result<Janitor> {
        let names: Vec<_> = paths.iter().filter_map(|path| FileName::of(path)).collect();
        let sidecar = sidecar.filter(|sidecar| !names.contains(sidecar));
        let path = paths.first().ok_or(io::ErrorKind::NotFound)?;
        Ok(Janitor {
            config: config.clone(),
            directory: Directory::of(path)?,
            output_count: names.len(),
            names: names.into_iter().chain(sidecar).collect(),
            files,
            news,
            closed: ClosedSet::default(),
            #[cfg(feature = "cli")]
            compression: None,
            deletion_fault: Fault { what: "delete", has_begun: false },
            #[cfg(feature = "cli")]
            compression_fault: Fault { what: "compress", has_begun: false },
            is_space_missing: false,
            free_at: None,
            should_stop: Arc::default(),
        })
    }

    /// Starts the thread.
    pub(super) fn start(self) -> Result<JanitorThread, WriterError> {
        let (files, should_stop) = (self.files.clone(), self.should_stop.clone());
        let thread = threads::start("janitor", move |ready| {
            priority::make_idle();
            drop(ready);
            self.run();
        });
        let thread = thread.map_err(WriterError::Thread)?;
        Ok(JanitorThread { thread: Some(thread), files, should_stop })
    }

    fn run(mut self) {
        self.enforce_and_tell();
        let mut look_at = Instant::now() + LOOK_INTERVAL;
        while !self.should_stop.load(Ordering::Acquire) {
            let wait = match self.is_compressing() {
                true => Duration::ZERO,
                false => look_at.saturating_duration_since(Instant::now()),
            };
            if self.take_news(wait) || Instant::now() >= look_at {
                self.enforce_and_tell();
                look_at = Instant::now() + LOOK_INTERVAL;
            }
            self.compress_a_part();
        }
        self.end();
    }

    fn enforce_and_tell(&mut self) {
        self.enforce();
        let (count, bytes) = (self.closed.entries().len() as u64, self.closed.bytes());
        self.files.set_present(ClosedFiles { count, bytes });
    }

    /// The end of the run: the limits hold for what was closed last.
    fn end(&mut self) {
        while self.take_news(Duration::ZERO) {}
        self.enforce();
        #[cfg(feature = "cli")]
        if let Some(compression) = self.compression.take() {
            compression.abandon(&self.directory);
        }
    }

    /// Waits for news and takes all of it. Returns whether there was any.
    fn take_news(&mut self, wait: Duration) -> bool {
        let mut news = self.news.recv_timeout(wait);
        let mut is_any = false;
        loop {
            match news {
                Ok(News::Closed(file)) => {
                    is_any = true;
                    let entry = Entry::new(file.output, file.opened, file.bytes, Form::Plain);
                    self.closed.push(entry);
                }
                Ok(News::Stop) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
            news = self.news.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
        if self.files.take_news_lost() {
            is_any = true;
            self.list();
        }
        is_any
    }

    /// Finds the closed files in the directory.
    fn list(&mut self) {
        self.directory.renew();
        match self.find_closed() {
            Ok(found) => self.closed.update(found),
            Err(error) => tracing::debug!("cannot list the closed files: {error}"),
        }
    }

    fn find_closed(&self) -> io::Result<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        for name in self.directory.names()? {
            let parsed = self.names.iter().enumerate().find_map(|(output, file_name)| {
                file_name.parse(&name).map(|(opened, form)| (output, opened, form))
            });
            let Some((output, opened, form)) = parsed else { continue };
            // Whatever is gone meanwhile is not there.
            let Ok(Some(file)) = self.directory.find(&name) else { continue };
            if !file.is_file || form == Form::Part {
                continue;
            }
            found.push(Entry::new(output, opened, file.bytes, form));
        }
        self.remove_doubles(&mut found);
        Ok(found)
    }

    /// If a run was killed after a file was compressed and before it was removed, both are there.
    /// The plain one is whole, and is compressed once more.
    fn remove_doubles(&self, found: &mut Vec<Entry>) {
        // The plain one comes first.
        found.sort_by_key(|entry| (entry.opened, entry.output, entry.is_compressed));
        found.dedup_by(|later, first| {
            let is_double = (later.opened, later.output) == (first.opened, first.output);
            if is_double {
                let name = self.names[later.output].in_form(later.opened, Form::Compressed);
                let _ = self.directory.remove(&name);
            }
            is_double
        });
    }

    /// Removes what a run that was killed left, and lists the closed files. All outputs are open,
    /// so no other run closes files with these names.
    pub(super) fn tidy_up(&mut self) {
        for name in self.directory.names().unwrap_or_default() {
            let mut parsed = self.names.iter().filter_map(|file| file.parse(&name));
            let Some((_, form)) = parsed.next() else { continue };
            let Ok(Some(found)) = self.directory.find(&name) else { continue };
            // A part of a compressed file, or a closed name that was claimed and not used: no file
            // is closed while it is empty.
            let is_left = form == Form::Part || (form == Form::Plain && found.bytes == 0);
            if found.is_file && is_left {
                let _ = self.directory.remove(&name);
            }
        }
        self.list();
    }

    /// Deletes the oldest closed files until all limits hold.
    fn enforce(&mut self) {
        if !self.is_over_a_limit() {
            return self.space_is_there();
        }
        // Others may have deleted or moved files.
        self.list();
        let now = Instant::now();
        for output in 0..self.output_count {
            let count_max = self.config.keep_file_count.unwrap_or(u64::MAX);
            while self.closed.count_of(output) > count_max {
                let of_output = |entry: &Entry| entry.output == output;
                if self.delete_oldest(now, of_output).is_none() {
                    break;
                }
            }
        }
        let open_bytes = self.open_bytes();
        while self.closed.bytes().saturating_add(open_bytes) > self.bytes_max() {
            if self.delete_oldest(now, |_| true).is_none() {
                break;
            }
        }
        self.free_space(now);
    }

    fn is_over_a_limit(&self) -> bool {
        let count_max = self.config.keep_file_count.unwrap_or(u64::MAX);
        let has_too_many = (0..self.output_count)
            .any(|output| count_max < u64::MAX && self.closed.count_of(output) > count_max);
        let is_too_large = || {
            self.config.keep_bytes.is_some()
                && self.closed.bytes().saturating_add(self.open_bytes()) > self.bytes_max()
        };
        has_too_many || is_too_large() || self.missing_bytes() > 0
    }

    fn bytes_max(&self) -> u64 {
        self.config.keep_bytes.unwrap_or(u64::MAX)
    }

    /// The bytes of the files that are being written.
    fn open_bytes(&self) -> u64 {
        let find = |name: &FileName| self.directory.find(&name.active()).ok().flatten();
        self.names.iter().filter_map(find).map(|found| found.bytes).sum()
    }

    /// The bytes that must become free.
    fn missing_bytes(&self) -> u64 {
        let Some(keep) = self.config.keep_free else { return 0 };
        let missing = |space: crate::output::directory::Space| {
            keep.bytes(space.total_bytes).saturating_sub(space.free_bytes)
        };
        self.directory.space().map_or(0, missing)
    }

    /// Deletes the oldest closed files until there is enough free space.
    fn free_space(&mut self, now: Instant) {
        let missing_bytes = self.missing_bytes();
        if missing_bytes == 0 {
            return self.space_is_there();
        }
        if self.free_at.is_some_and(|at| now < at) {
            return;
        }
        let mut deleted_bytes = 0;
        while deleted_bytes < missing_bytes {
            match self.delete_oldest(now, |_| true) {
                Some(bytes) => deleted_bytes += bytes,
                None => break,
            }
        }
        let is_freed_later = self.missing_bytes() > missing_bytes.saturating_sub(deleted_bytes / 2);
        self.free_at = (deleted_bytes > 0 && is_freed_later).then(|| now + FREE_WAIT);
        if deleted_bytes == 0 && !std::mem::replace(&mut self.is_space_missing, true) {
            let directory = self.directory.display();
            tracing::warn!(
                "{directory}: less space is free than --keep-free wants, and there is no closed \
                 file to delete; free some space"
            );
        }
    }

    fn space_is_there(&mut self) {
        if self.is_space_missing && self.missing_bytes() == 0 {
            self.is_space_missing = false;
            tracing::warn!("{}: there is enough free space again", self.directory.display());
        }
    }

    /// Deletes the oldest closed file that `is_one`, if it can be deleted, or else the next one.
    /// Returns its bytes.
    fn delete_oldest(&mut self, now: Instant, is_one: impl Fn(&Entry) -> bool) -> Option<u64> {
        loop {
            let mut entries = self.closed.entries().iter();
            let oldest = entries.find(|entry| entry.is_ready(now) && is_one(entry))?;
            let (output, opened) = (oldest.output, oldest.opened);
            if let Some(bytes) = self.delete(output, opened) {
                if output < self.output_count {
                    self.delete_sidecars(opened);
                }
                return Some(bytes);
            }
        }
    }

    /// Deletes the files that were closed together with files that are gone.
    fn delete_sidecars(&mut self, until: UtcMicros) {
        let is_old = |entry: &&Entry| entry.output >= self.output_count && entry.opened <= until;
        let old: Vec<_> = self.closed.entries().iter().filter(is_old).cloned().collect();
        for entry in old {
            self.delete(entry.output, entry.opened);
        }
    }

    /// Deletes a closed file, and returns its bytes. `None`: it could not be deleted.
    fn delete(&mut self, output: usize, opened: UtcMicros) -> Option<u64> {
        self.abandon_compression_of(output, opened);
        let entry = self.closed.get_mut(output, opened)?;
        let name = self.names[output].in_form(opened, entry.form());
        let file = self.directory.open_file(&name);
        if file.as_ref().is_ok_and(|file| lock(file, Sharing::Alone).is_err()) {
            entry.retry_at = Some(Instant::now() + LOCKED_WAIT);
            return None;
        }
        let counters = &self.files.counters;
        match self.directory.remove(&name) {
            Ok(()) => {
                let bytes = self.closed.remove(output, opened).map_or(0, |entry| entry.bytes);
                add(&counters.files_deleted, 1);
                add(&counters.bytes_deleted, bytes);
                self.deletion_fault.end();
                Some(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody else was faster: it takes no space.
                self.closed.remove(output, opened).map(|entry| entry.bytes)
            }
            Err(error) => {
                entry.retry_at = Some(Instant::now() + RETRY_WAIT);
                add(&counters.janitor_failures, 1);
                self.deletion_fault.begin(&name, &error);
                None
            }
        }
    }
}

#[cfg(not(feature = "cli"))]
impl Janitor {
    fn is_compressing(&self) -> bool {
        false
    }

    fn compress_a_part(&mut self) {}

    fn abandon_compression_of(&mut self, _output: usize, _opened: UtcMicros) {}
}

#[cfg(feature = "cli")]
impl Janitor {
    fn is_compressing(&self) -> bool {
        self.compression.is_some()
    }

    fn abandon_compression_of(&mut self, output: usize, opened: UtcMicros) {
        let current = self
            .compression
            .take_if(|current| (current.output, current.opened) == (output, opened));
        if let Some(compression) = current {
            compression.abandon(&self.directory);
        }
    }

    /// Compresses a part of the oldest plain file, except the newest one of an output.
    fn compress_a_part(&mut self) {
        if !self.config.is_compressed {
            return;
        }
        match &mut self.compression {
            None => self.begin_compression(),
            Some(current) => match current.step() {
                Ok(false) => {}
                Ok(true) => self.finish_compression(),
                Err(error) => {
                    let (output, opened) = (current.output, current.opened);
                    self.abandon_compression_of(output, opened);
                    self.fail_compression(output, opened, &error);
                }
            },
        }
    }

    fn begin_compression(&mut self) {
        let Some(next) = self.closed.next_to_compress(Instant::now()) else { return };
        let (output, opened) = (next.output, next.opened);
        match Compression::begin(&self.directory, output, &self.names[output], opened) {
            Ok(Some(compression)) => self.compression = Some(compression),
            Ok(None) => self.wait_for(output, opened, LOCKED_WAIT),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.closed.remove(output, opened);
            }
            Err(error) => self.fail_compression(output, opened, &error),
        }
    }

    fn finish_compression(&mut self) {
        let Some(compression) = self.compression.take() else { return };
        let (output, opened) = (compression.output, compression.opened);
        match compression.finish(&self.directory) {
            Ok(bytes) => {
                if let Some(entry) = self.closed.get_mut(output, opened) {
                    (entry.bytes, entry.is_compressed) = (bytes, true);
                }
                add(&self.files.counters.files_compressed, 1);
                self.compression_fault.end();
            }
            Err(error) => self.fail_compression(output, opened, &error),
        }
        self.begin_compression();
    }

    /// Leaves a file alone for this time.
    fn wait_for(&mut self, output: usize, opened: UtcMicros, wait: Duration) {
        if let Some(entry) = self.closed.get_mut(output, opened) {
            entry.retry_at = Some(Instant::now() + wait);
        }
    }

    fn fail_compression(&mut self, output: usize, opened: UtcMicros, error: &io::Error) {
        self.wait_for(output, opened, RETRY_WAIT);
        add(&self.files.counters.janitor_failures, 1);
        let name = self.names[output].closed(opened);
        self.compression_fault.begin(&name, error);
    }
}

#[cfg(test)]
mod tests;
