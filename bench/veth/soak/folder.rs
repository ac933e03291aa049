//! The folder of a soak's output, as somebody sees it who follows it: which files come and go, and
//! that each line is in exactly one of them.

use super::ledger::Ledger;
use anyhow::Context;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The active file.
pub const ACTIVE: &str = "http.jsonl";
/// The active sidecar.
pub const SIDECAR: &str = "http.stats";
/// What the file that fills the disk is called.
pub const BALLAST: &str = "ballast";
/// Files that were moved away by somebody else, as logrotate does it, begin with this.
pub const MOVED: &str = "http-moved-";
/// A file that was moved away is complete when it has not grown for so long.
const SETTLED: Duration = Duration::from_secs(2);
/// No more faults are kept.
const FAULTS_MAX: usize = 20;

/// The kinds of names in the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name<'a> {
    Active,
    ActiveSidecar,
    /// A closed file: its name without compression, whether it is a sidecar, whether it is
    /// compressed.
    Closed(&'a str, bool, bool),
    Moved,
    /// What does not concern who follows the files.
    Hidden,
    Unknown,
}

impl Name<'_> {
    fn of(name: &str) -> Name<'_> {
        match name {
            ACTIVE => return Name::Active,
            SIDECAR => return Name::ActiveSidecar,
            BALLAST => return Name::Hidden,
            _ if name.starts_with('.') => return Name::Hidden,
            _ if name.starts_with(MOVED) => return Name::Moved,
            _ => {}
        }
        let (plain, is_compressed) = match name.strip_suffix(".zst") {
            Some(plain) => (plain, true),
            None => (name, false),
        };
        let time = plain.strip_prefix("http-");
        let is_time = |time: &str| {
            let shape = time.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
            shape.eq(*b"00000000T000000.000000Z")
        };
        match time.and_then(|time| time.rsplit_once("Z.")) {
            Some((time, extension @ ("jsonl" | "stats"))) if is_time(&format!("{time}Z")) => {
                Name::Closed(plain, extension == "stats", is_compressed)
            }
            _ => Name::Unknown,
        }
    }
}

/// A closed file that was read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    inode: u64,
    bytes: u64,
    hash: u64,
    /// The inode of its compressed form, once that was compared.
    compressed: Option<u64>,
}

/// The folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What the lines say.
    pub ledger: Ledger,
    /// Lines of the data files.
    pub line_count: u64,
    /// Lines of the sidecar, in their order.
    pub sidecar: Vec<String>,
    /// What is wrong with the files.
    pub faults: Vec<String>,
    seen: BTreeMap<String, Seen>,
    /// Closed files that were there at the last look and not read yet.
    pending: BTreeSet<String>,
    /// Files that were moved away, with their size and when that changed.
    moved: BTreeMap<String, (u64, Instant)>,
    /// Files that were read.
    pub counts: Counts,
}

/// Files, by what they were.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// Closed data files.
    pub closed: u64,
    /// Closed sidecars.
    pub closed_sidecars: u64,
    /// Compressed files that hold what the plain ones held.
    pub compressed: u64,
    /// Files that somebody else moved away.
    pub moved: u64,
}

impl Folder {
    /// The folder at `path`.
    pub fn new(path: &Path, ledger: Ledger) -> Folder {
        Folder {
            path: path.into(),
            ledger,
            line_count: 0,
            sidecar: Vec::new(),
            faults: Vec::new(),
            seen: BTreeMap::new(),
            pending: BTreeSet::new(),
            moved: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Reads what was closed since the last look. While there is no active file, the newest closed
    /// one is still written to.
    pub fn look(&mut self) -> anyhow::Result<()> {
        self.pass(false)
    }

    /// Reads all that is left: nobody writes any more.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.pass(true)?;
        for name in [ACTIVE, SIDECAR] {
            if self.path.join(name).exists() {
                self.read(name, name == SIDECAR, false)?;
            }
        }
        Ok(())
    }

    fn pass(&mut self, is_last: bool) -> anyhow::Result<()> {
        let names = self.names()?;
        let mut pending = BTreeSet::new();
        for is_sidecar in [false, true] {
            let of_kind = |name: &&String| match Name::of(name) {
                Name::Closed(_, kind, is_compressed) => kind == is_sidecar && !is_compressed,
                _ => false,
            };
            let newest = names.iter().rfind(of_kind);
            // As it is now: it was made after the newest one was renamed.
            let active = if is_sidecar { SIDECAR } else { ACTIVE };
            let is_complete = is_last || self.path.join(active).exists();
            for name in &names {
                match Name::of(name) {
                    Name::Closed(plain, kind, is_compressed) if kind == is_sidecar => {
                        pending.insert(plain.to_string());
                        if is_complete || is_compressed || Some(name) != newest {
                            self.take(name, plain, is_sidecar, is_compressed)?;
                        }
                    }
                    _ => {}
                }
            }
        }
        for name in &names {
            match Name::of(name) {
                Name::Moved => self.take_moved(name, is_last)?,
                Name::Unknown => self.fault(format!("{name} should not be there")),
                _ => {}
            }
        }
        pending.retain(|name| !self.seen.contains_key(name));
        let before = std::mem::replace(&mut self.pending, pending);
        for name in before {
            if !self.pending.contains(&name) && !self.seen.contains_key(&name) {
                self.fault(format!("{name} was deleted before it was read"));
            }
        }
        Ok(())
    }

    /// Sorted, so that the oldest closed file comes first.
    fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        let entries = std::fs::read_dir(&self.path).context("the folder can be listed")?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        Ok(names.collect::<io::Result<_>>()?)
    }

    /// Reads a closed file, or checks that it is still what was read.
    fn take(
        &mut self,
        name: &str,
        plain: &str,
        is_sidecar: bool,
        is_compressed: bool,
    ) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let Ok(now) = path.metadata() else { return Ok(()) };
        let Some(seen) = self.seen.get(plain).copied() else {
            let Some((bytes, hash)) = self.read(name, is_sidecar, is_compressed)? else {
                return Ok(());
            };
            let compressed = is_compressed.then(|| now.ino());
            self.seen.insert(plain.into(), Seen { inode: now.ino(), bytes, hash, compressed });
            match is_sidecar {
                true => self.counts.closed_sidecars += 1,
                false => self.counts.closed += 1,
            }
            return Ok(());
        };
        if !is_compressed {
            let text = match (seen.inode == now.ino(), seen.bytes == now.len()) {
                (true, true) => return Ok(()),
                (true, false) => format!("{name} was written to after the next file was begun"),
                (false, _) => format!("{name} is the name of two files"),
            };
            self.fault(text);
            return Ok(());
        }
        if seen.compressed != Some(now.ino()) {
            self.compare(name, plain, seen, now.ino())?;
        }
        Ok(())
    }

    /// Checks that a compressed file holds what the plain one held.
    fn compare(&mut self, name: &str, plain: &str, seen: Seen, inode: u64) -> anyhow::Result<()> {
        if seen.compressed.is_some() {
            self.fault(format!("{name} is the name of two files"));
        }
        let file = match File::open(self.path.join(name)) {
            // It was the oldest.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let mut hashing = Hashing::new(zstd::Decoder::new(file)?);
        if let Err(error) = io::copy(&mut hashing, &mut io::sink()) {
            self.fault(format!("{name} cannot be decompressed: {error}"));
        }
        if (hashing.bytes, hashing.hash()) != (seen.bytes, seen.hash) {
            self.fault(format!("{name} does not hold what {plain} held"));
        }
        self.counts.compressed += 1;
        self.seen.insert(plain.into(), Seen { compressed: Some(inode), ..seen });
        Ok(())
    }

    fn take_moved(&mut self, name: &str, is_last: bool) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let bytes = path.metadata()?.len();
        let (known, since) = self.moved.entry(name.into()).or_insert((bytes, Instant::now()));
        if *known != bytes {
            (*known, *since) = (bytes, Instant::now());
        }
        // Until the next file is there, this one is written to.
        let is_complete = since.elapsed() > SETTLED && self.path.join(ACTIVE).exists();
        if is_last || is_complete {
            self.read(name, false, false)?;
            std::fs::remove_file(path)?;
            self.moved.remove(name);
            self.counts.moved += 1;
        }
        Ok(())
    }

    /// Enters the lines of a file; `None` if it is gone. Returns its bytes and their hash.
    fn read(
        &mut self,
        name: &str,
        is_sidecar: bool,
        is_compressed: bool,
    ) -> anyhow::Result<Option<(u64, u64)>> {
        let file = match File::open(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("{name} can be read"))?,
        };
        let bytes: Box<dyn Read> = match is_compressed {
            true => Box::new(zstd::Decoder::new(file)?),
            false => Box::new(file),
        };
        let mut reader = BufReader::with_capacity(1 << 20, Hashing::new(bytes));
        let mut line = Vec::new();
        self.ledger.begin_file();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            if !text.ends_with('\n') {
                self.fault(format!("{name} ends with a torn line: {text}"));
            }
            match is_sidecar {
                true => self.sidecar.push(text.trim_end().into()),
                false => {
                    self.line_count += 1;
                    self.ledger.enter(text.trim_end());
                }
            }
            line.clear();
        }
        let hashing = reader.get_ref();
        Ok(Some((hashing.bytes, hashing.hash())))
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX && !self.faults.contains(&text) {
            self.faults.push(text);
        }
    }
}

/// Counts and hashes what is read.
#[derive(Debug)]
struct Hashing<R> {
    inner: R,
    bytes: u64,
    hasher: DefaultHasher,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Hashing<R> {
        Hashing { inner, bytes: 0, hasher: DefaultHasher::new() }
    }
}

impl<R> Hashing<R> {
    fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.hasher.write(&into[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;
    use std::io::Write;
    use std::sync::Arc;

    const OLD: &str = "http-20261129T184507.123456Z.jsonl";
    const NEW: &str = "http-20261129T184510.000000Z.jsonl";

    fn folder() -> (tempfile::TempDir, Folder) {
        let path = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(Arc::new(Workload::Small.round(1, 100)));
        let folder = Folder::new(path.path(), ledger);
        (path, folder)
    }

    fn compress(path: &Path, text: &str) {
        let mut encoder = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(Name::of(OLD), Name::Closed(OLD, false, false));
        let compressed = format!("{OLD}.zst");
        assert_eq!(Name::of(&compressed), Name::Closed(OLD, false, true));
        let sidecar = OLD.replace("jsonl", "stats");
        assert_eq!(Name::of(&sidecar), Name::Closed(&sidecar, true, false));
        assert_eq!(Name::of("http-moved-000001.jsonl"), Name::Moved);
        assert_eq!(Name::of(".http-20261129T184507.123456Z.jsonl.zst.part"), Name::Hidden);
        for unknown in ["http-1.jsonl", "http-20261129T184507Z.jsonl", "x", "http.jsonl.zst"] {
            assert_eq!(Name::of(unknown), Name::Unknown, "{unknown}");
        }
    }

    #[test]
    fn each_file_is_read_once_in_whatever_form() {
        let (path, mut folder) = folder();
        let at = |name: &str| path.path().join(name);
        std::fs::write(at(OLD), "{\"outcome\":\"complete\"}\n").unwrap();
        folder.look().unwrap();
        // The next one is not there yet.
        assert_eq!(folder.line_count, 0);
        std::fs::write(at(NEW), "").unwrap();
        folder.look().unwrap();
        folder.look().unwrap();
        assert_eq!((folder.line_count, folder.counts.closed), (1, 1));
        compress(&at(&format!("{OLD}.zst")), "{\"outcome\":\"complete\"}\n");
        std::fs::remove_file(at(OLD)).unwrap();
        folder.look().unwrap();
        assert_eq!((folder.line_count, folder.counts.compressed), (1, 1));
        std::fs::remove_file(at(&format!("{OLD}.zst"))).unwrap();
        std::fs::write(at(ACTIVE), "{\"outcome\":\"complete\"}\n").unwrap();
        folder.finish().unwrap();
        assert_eq!((folder.line_count, folder.counts.closed), (2, 2));
        assert_eq!(folder.faults, [""; 0]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let (path, mut folder) = folder();
        let at = |name: &str| path.path().join(name);
        std::fs::write(at(OLD), "{\"outcome\":\"complete\"}\n{\"out").unwrap();
        std::fs::write(at(NEW), "").unwrap();
        folder.look().unwrap();
        assert!(folder.faults[0].contains("torn"), "{:?}", folder.faults);
        compress(&at(&format!("{OLD}.zst")), "something else");
        folder.look().unwrap();
        assert!(folder.faults[1].contains("does not hold"), "{:?}", folder.faults);
        File::options().append(true).open(at(OLD)).unwrap().write_all(b"more").unwrap();
        folder.look().unwrap();
        assert!(folder.faults[2].contains("was written to"), "{:?}", folder.faults);
        // The newest is not read yet.
        std::fs::remove_file(at(NEW)).unwrap();
        folder.look().unwrap();
        assert!(folder.faults[3].contains("was deleted before"), "{:?}", folder.faults);
        std::fs::write(at("stranger"), "").unwrap();
        folder.look().unwrap();
        assert!(folder.faults[4].contains("should not be there"), "{:?}", folder.faults);
        assert_eq!(folder.ledger.broken_count, 1);
    }
}
