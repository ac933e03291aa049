//! [`DirectoryWatch`]: whether the directory of the output is still there, and what space it has.

use crate::sys::threads;
use rustix::fs::{fstat, fstatvfs};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the directory.
#[derive(Debug)]
pub(super) struct DirectoryState {
    is_removed: AtomicBool,
    free_bytes: AtomicU64,
}

impl DirectoryState {
    /// Nothing is known yet.
    const UNKNOWN: u64 = u64::MAX;

    /// Whether it was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// The space that an unprivileged user may still take on its file system.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        Some(self.free_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != Self::UNKNOWN)
    }

    /// Looks at it. A directory that cannot be asked for is taken to be there.
    fn look(&self, directory: &File) {
        let is_removed = fstat(directory).is_ok_and(|status| status.st_nlink == 0);
        self.is_removed.store(is_removed, Ordering::Relaxed);
        let space = fstatvfs(directory).ok();
        let free_bytes = space.map(|space| space.f_bavail.saturating_mul(space.f_frsize));
        self.free_bytes.store(free_bytes.unwrap_or(Self::UNKNOWN), Ordering::Relaxed);
    }
}

/// A thread that looks at the directory each second: a file system that hangs, such as one of a
/// server that has gone, must hold up neither the run nor its metrics. Dropping this value ends the
/// thread once its file system answers; nobody waits for that.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    state: Arc<DirectoryState>,
    _end: Sender<()>,
}

impl DirectoryWatch {
    /// Watches `directory`, which is there.
    pub(super) fn start(directory: File) -> io::Result<DirectoryWatch> {
        let state = Arc::new(DirectoryState {
            is_removed: AtomicBool::new(false),
            free_bytes: AtomicU64::new(DirectoryState::UNKNOWN),
        });
        let (end, ended) = channel();
        let shared = state.clone();
        threads::start("directory", move |ready| {
            drop(ready);
            shared.look(&directory);
            while ended.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                shared.look(&directory);
            }
        })?;
        Ok(DirectoryWatch { state, _end: end })
    }

    /// What was seen last.
    pub(super) fn state(&self) -> &Arc<DirectoryState> {
        &self.state
    }
}

#[test]
fn a_removed_directory_is_seen() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("logs");
    std::fs::create_dir(&path).expect("a directory");
    let directory = File::open(&path).expect("it is there");
    let watch = DirectoryWatch::start(directory).expect("a thread");
    let begun = std::time::Instant::now();
    let wait = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing was seen");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(&|| watch.state().free_bytes().is_some());
    assert!(!watch.state().is_removed());
    std::fs::remove_dir(&path).expect("it is empty");
    wait(&|| watch.state().is_removed());
}
