//! When lines arrive in a file: inotify(7) reports each write, and then the clock and the length of
//! the file are read.

use crate::sys;
use inotify::{EventMask, Inotify, WatchMask};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// The length of the file at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Since 1970.
    pub time_ns: u64,
    /// Its length.
    pub bytes: u64,
}

/// A thread that follows a file until its writer closes it.
#[derive(Debug)]
pub struct Arrivals(JoinHandle<Vec<Mark>>);

impl Arrivals {
    /// `None` if there is no such file, or it cannot be watched.
    pub fn follow(path: &Path) -> Option<Arrivals> {
        let mut inotify = Inotify::init().ok()?;
        inotify.watches().add(path, WatchMask::MODIFY | WatchMask::CLOSE_WRITE).ok()?;
        let path = path.to_path_buf();
        let follow = move || {
            // The arrival time must not depend on when this thread gets a CPU.
            sys::outrank();
            let (mut marks, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(mut events) = inotify.read_events_blocking(&mut buffer) {
                let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                marks.push(Mark { time_ns: now.as_nanos() as u64, bytes });
                if events.any(|event| event.mask.contains(EventMask::CLOSE_WRITE)) {
                    break;
                }
            }
            marks
        };
        std::thread::Builder::new().name("arrivals".into()).spawn(follow).ok().map(Arrivals)
    }

    /// All marks, in order. The writer must have closed the file, or do so soon.
    pub fn finish(self) -> Vec<Mark> {
        self.0.join().unwrap_or_default()
    }
}

/// When the byte before `end` was there: the time of the first mark that reaches this far.
pub fn arrival_ns(marks: &[Mark], end: u64) -> Option<u64> {
    let at = marks.partition_point(|mark| mark.bytes < end);
    marks.get(at).map(|mark| mark.time_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_line_has_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        assert!(Arrivals::follow(&path).is_none());
        let mut file = std::fs::File::create(&path).unwrap();
        let arrivals = Arrivals::follow(&path).unwrap();
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        file.write_all(b"one\n").unwrap();
        file.write_all(b"two\n").unwrap();
        drop(file);
        let marks = arrivals.finish();
        let times = [4, 8].map(|end| arrival_ns(&marks, end).unwrap());
        assert!(before <= times[0] && times[0] <= times[1], "{marks:?}");
        assert_eq!(arrival_ns(&marks, 9), None);
    }
}
