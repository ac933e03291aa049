//! [`Tail`]: the lines that are appended to a file, across rotation, reopening and truncation.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is read at once.
const READ_BYTES: usize = 256 << 10;

/// What is read at one look, at most: whoever writes faster is caught up with at the next ones.
const LOOK_BYTES_MAX: u64 = 64 << 20;

/// A file that is open is told as missing once so many looks in a row did not find its name.
const MISSING_LOOKS: u32 = 2;

/// Whether there is something to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailState {
    /// It is not there.
    Missing,
    Open,
    /// It cannot be read.
    Failed(String),
}

/// Reads the lines that come into a file after it was first looked at, and those of the files that
/// take its name later.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// How much of the end is read of a file that is there at the first look.
    bytes_before: u64,
    line_bytes_max: usize,
    look_bytes_max: u64,
    /// The file, and where to read on.
    open: Option<(File, u64)>,
    state: TailState,
    /// No file was there at a look: of one that comes, all is new.
    has_looked: bool,
    /// So many looks in a row found no file of that name.
    missing_looks: u32,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// The line began before the first byte that was read, or is too long.
    is_skipping: bool,
    buffer: Vec<u8>,
}

impl Tail {
    /// For the file at `path`, which need not be there. Lines of more than `line_bytes_max` are
    /// left out.
    pub fn new(path: &Path, bytes_before: u64, line_bytes_max: usize) -> Tail {
        Tail {
            path: path.to_path_buf(),
            bytes_before,
            line_bytes_max,
            look_bytes_max: LOOK_BYTES_MAX,
            open: None,
            state: TailState::Missing,
            has_looked: false,
            missing_looks: 0,
            begun: Vec::new(),
            is_skipping: false,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Whether there is something to read.
    pub fn state(&self) -> &TailState {
        &self.state
    }

    /// Reads what has come since the last call: `take` gets each whole line, without its end.
    pub fn read(&mut self, mut take: impl FnMut(&[u8])) {
        let result = self.look(&mut take);
        self.has_looked = true;
        self.state = match result {
            // Between two files of a rotation there may be none for a moment.
            Ok(()) if self.open.is_some() && self.missing_looks < MISSING_LOOKS => TailState::Open,
            Ok(()) => TailState::Missing,
            Err(error) => TailState::Failed(error.kind().to_string()),
        };
    }

    fn look(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let named = match std::fs::metadata(&self.path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // All of the one that is open, even if another one has its name now: whoever writes it
        // may have written after the last look.
        let is_at_end = self.drain(take)?;
        self.missing_looks = if named.is_some() { 0 } else { self.missing_looks.saturating_add(1) };
        let Some(named) = named else { return Ok(()) };
        let is_same = |open: &Metadata| (open.dev(), open.ino()) == (named.dev(), named.ino());
        let open = self.open.as_ref().map(|(file, _)| file.metadata()).transpose()?;
        if open.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        // What is left of the old one is read at the next looks.
        if !is_at_end {
            return Ok(());
        }
        self.open_next(open.is_none() && !self.has_looked)?;
        self.drain(take).map(drop)
    }

    /// Opens the file that has the name now.
    fn open_next(&mut self, is_first: bool) -> io::Result<()> {
        // A FIFO in its place would be waited for.
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(&self.path)?;
        let length = file.metadata()?.len();
        let from = if is_first { length.saturating_sub(self.bytes_before) } else { 0 };
        self.begun.clear();
        // It may begin in the middle of a line.
        let mut last = [b'\n'];
        if from > 0 {
            file.read_exact_at(&mut last, from - 1)?;
        }
        self.is_skipping = last != [b'\n'];
        self.open = Some((file, from));
        Ok(())
    }

    /// Reads the open file to its end, and returns whether it came that far.
    fn drain(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let Some((file, at)) = &mut self.open else { return Ok(true) };
        if file.metadata()?.len() < *at {
            // It was truncated, and is written anew.
            *at = 0;
            self.begun.clear();
            self.is_skipping = false;
        }
        file.seek(SeekFrom::Start(*at))?;
        let until = *at + self.look_bytes_max;
        while *at < until {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            *at += count as u64;
            let mut rest = &self.buffer[..count];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = &rest[..end];
                match (std::mem::take(&mut self.is_skipping), self.begun.is_empty()) {
                    (true, _) => {}
                    (false, true) => take(line),
                    (false, false) => {
                        self.begun.extend_from_slice(line);
                        take(&self.begun);
                    }
                }
                self.begun.clear();
                rest = &rest[end + 1..];
            }
            if !self.is_skipping {
                self.begun.extend_from_slice(rest);
            }
            if self.begun.len() > self.line_bytes_max {
                self.begun.clear();
                self.is_skipping = true;
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    struct Place {
        directory: tempfile::TempDir,
        tail: Tail,
    }

    impl Place {
        fn new(before: &str, bytes_before: u64) -> Place {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("http.jsonl");
            if !before.is_empty() {
                fs::write(&path, before).expect("it is written");
            }
            Place { tail: Tail::new(&path, bytes_before, 20), directory }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn append(&self, text: &str) {
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).open(self.path("http.jsonl"));
            file.expect("it opens").write_all(text.as_bytes()).expect("it is written");
        }

        fn read(&mut self) -> Vec<String> {
            let mut lines = Vec::new();
            self.tail.read(|line| lines.push(String::from_utf8_lossy(line).into_owned()));
            lines
        }
    }

    #[test]
    fn what_is_appended_is_read_in_whole_lines() {
        let mut place = Place::new("old\nto", 0);
        assert_eq!((place.read(), place.tail.state()), (vec![], &TailState::Open));
        place.append("rn\none\ntw");
        assert_eq!(place.read(), ["one"], "the rest of a line is none");
        place.append("o\n\nthree\n");
        assert_eq!(place.read(), ["two", "", "three"]);
        assert!(place.read().is_empty());
        place.append(&format!("{}\nshort\n", "x".repeat(50)));
        assert_eq!(place.read().last().expect("a line"), "short");
        place.append(&"y".repeat(50));
        assert!(place.read().is_empty());
        place.append("y\nnext\n");
        assert_eq!(place.read(), ["next"], "what is too long is left out");
    }

    #[test]
    fn the_last_lines_may_be_read_at_first() {
        let mut place = Place::new("first\nsecond\nthird\n", 9);
        assert_eq!(place.read(), ["third"]);
        let mut place = Place::new("first\nsecond\n", 99);
        assert_eq!(place.read(), ["first", "second"]);
    }

    #[test]
    fn a_file_that_comes_later_is_read_from_its_beginning() {
        let mut place = Place::new("", 0);
        assert_eq!((place.read(), place.tail.state()), (vec![], &TailState::Missing));
        place.append("one\n");
        assert_eq!((place.read(), place.tail.state()), (vec!["one".to_string()], &TailState::Open));
    }

    #[test]
    fn rotation_loses_nothing() {
        let mut place = Place::new("old\n", 0);
        place.read();
        place.append("one\n");
        fs::rename(place.path("http.jsonl"), place.path("http-1.jsonl")).expect("it is renamed");
        // The writer goes on in the old file until it opens a new one.
        assert_eq!(place.read(), ["one"]);
        fs::write(place.path("http-1.jsonl"), "old\none\ntwo\n").expect("it is written");
        place.append("three\n");
        assert_eq!(place.read(), ["two", "three"]);
        assert!(place.read().is_empty());
    }

    /// More than is read at one look was written before the file was rotated.
    #[test]
    fn a_rotated_file_is_read_to_its_end_before_the_next_one() {
        let mut place = Place::new("old\n", 0);
        place.read();
        place.tail.look_bytes_max = 1;
        place.tail.buffer = vec![0; 4];
        place.append("one\ntwo\ntri\n");
        fs::rename(place.path("http.jsonl"), place.path("http-1.jsonl")).expect("it is renamed");
        place.append("new\n");
        let looks: Vec<_> = (0..5).map(|_| place.read().concat()).collect();
        assert_eq!(looks, ["one", "two", "tri", "new", ""]);
    }

    #[test]
    fn a_file_that_was_removed_is_told() {
        let mut place = Place::new("old\n", 0);
        place.read();
        fs::remove_file(place.path("http.jsonl")).expect("it is removed");
        let states = [(); 2].map(|()| {
            place.read();
            place.tail.state().clone()
        });
        assert_eq!(states, [TailState::Open, TailState::Missing]);
        place.append("one\n");
        assert_eq!((place.read(), place.tail.state()), (vec!["one".to_string()], &TailState::Open));
    }

    #[test]
    fn a_truncated_file_is_read_anew() {
        let mut place = Place::new("old\nold\nold\n", 0);
        place.read();
        fs::write(place.path("http.jsonl"), "new\n").expect("it is written");
        assert_eq!(place.read(), ["new"]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let mut place = Place::new("", 0);
        fs::create_dir(place.path("http.jsonl")).expect("a directory");
        place.read();
        assert!(matches!(place.tail.state(), TailState::Failed(_)));
    }
}
