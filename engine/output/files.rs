//! What the outputs of a run and the janitor share if files are closed: counters, and what was
//! closed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::output::closed_name::UtcMicros;

/// Closed files that the janitor may not have heard of yet. If there are more, it lists the
/// directory.
const NEWS_COUNT_MAX: usize = 1024;

/// Counters of closed files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FileStats {
    /// Times a file was closed and another one opened.
    pub rotations: u64,
    /// Times that failed. The lines went on in the file that was open.
    pub rotation_failures: u64,
    /// Closed files that were deleted to keep to the limits.
    pub files_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Closed files that were compressed.
    pub files_compressed: u64,
    /// Times a closed file could not be deleted or compressed.
    pub janitor_failures: u64,
}

/// [`FileStats`] that can be read while the run goes on.
#[derive(Debug, Default)]
pub(super) struct FileCounters {
    pub(super) rotations: AtomicU64,
    pub(super) rotation_failures: AtomicU64,
    pub(super) files_deleted: AtomicU64,
    pub(super) bytes_deleted: AtomicU64,
    pub(super) files_compressed: AtomicU64,
    pub(super) janitor_failures: AtomicU64,
}

/// A file that got its closed name and is no longer written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ClosedFile {
    /// The output, by the order in which the janitor knows them.
    pub(super) output: usize,
    pub(super) opened: UtcMicros,
    pub(super) bytes: u64,
}

/// What the janitor is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    Closed(ClosedFile),
    /// The run is over.
    Stop,
}

/// The closed files that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedFiles {
    /// Their number.
    pub count: u64,
    /// Their bytes, as they are now.
    pub bytes: u64,
}

/// What the outputs of a run and the janitor share.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) counters: FileCounters,
    /// When the file was opened that the first output closed last; 0: none. The sidecar is closed
    /// with it.
    closed_last: AtomicU64,
    /// What the janitor has found last: see [`ClosedFiles`].
    present: [AtomicU64; 2],
    news: SyncSender<News>,
    /// Some news did not fit.
    is_news_lost: AtomicBool,
}

impl Files {
    pub(super) fn new() -> (Files, Receiver<News>) {
        let (news, receiver) = sync_channel(NEWS_COUNT_MAX);
        (
            Files {
                counters: FileCounters::default(),
                closed_last: AtomicU64::default(),
                present: Default::default(),
                news,
                is_news_lost: AtomicBool::new(false),
            },
            receiver,
        )
    }

    /// Tells the janitor, if there is one. Never waits.
    pub(super) fn tell(&self, news: News) {
        if self.news.try_send(news).is_err() {
            self.is_news_lost.store(true, Ordering::Release);
        }
    }

    /// The first output has closed the file that was opened at this time.
    pub(super) fn set_closed_last(&self, opened: UtcMicros) {
        self.closed_last.store(opened.0, Ordering::Release);
    }

    /// When the file was opened that the first output has closed last.
    pub(super) fn closed_last(&self) -> UtcMicros {
        UtcMicros(self.closed_last.load(Ordering::Acquire))
    }

    /// The janitor has found these.
    pub(super) fn set_present(&self, found: ClosedFiles) {
        let [count, bytes] = &self.present;
        count.store(found.count, Ordering::Relaxed);
        bytes.store(found.bytes, Ordering::Relaxed);
    }

    /// What the janitor has found last.
    pub(super) fn present(&self) -> ClosedFiles {
        let [count, bytes] = &self.present;
        let [count, bytes] = [count, bytes].map(|it| it.load(Ordering::Relaxed));
        ClosedFiles { count, bytes }
    }

    /// Whether news was lost since the last call.
    pub(super) fn take_news_lost(&self) -> bool {
        self.is_news_lost.swap(false, Ordering::Acquire)
    }

    pub(super) fn stats(&self) -> FileStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        FileStats {
            rotations: read(&counters.rotations),
            rotation_failures: read(&counters.rotation_failures),
            files_deleted: read(&counters.files_deleted),
            bytes_deleted: read(&counters.bytes_deleted),
            files_compressed: read(&counters.files_compressed),
            janitor_failures: read(&counters.janitor_failures),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
