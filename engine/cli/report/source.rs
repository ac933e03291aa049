//! The files of lines that a report is made of.

use anyhow::{Context, bail};
use httplines::capture::pcap::decompress::{Compression, Decompressor};
use httplines::observe::summary::Summary;
use httplines::output::sidecar_path;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A line of httplines is shorter.
const LINE_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 1 << 20;

/// A file that is open and not read yet.
#[derive(Debug)]
pub struct Source {
    /// As it was given.
    pub name: String,
    file: File,
    /// The path of the file of statistics beside it.
    pub sidecar: Option<PathBuf>,
}

/// What was found in a file.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    /// Lines that are records.
    pub records: u64,
    /// Lines that are none.
    pub unrecognized: u64,
    /// It ends within a line, as one does that is being written.
    pub is_torn: bool,
    /// There is a file of statistics beside it.
    pub has_statistics: bool,
}

impl Source {
    /// Opens `path`, and the file of statistics beside it, if there is one.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    pub fn open(path: &Path) -> anyhow::Result<Source> {
        if path.as_os_str() == "-" {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            let stdin = stdin.context("cannot read standard input")?;
            return Ok(Source { name: "standard input".into(), file: stdin.into(), sidecar: None });
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            bail!("{name} is a directory; name files in it, such as {name}/*.jsonl*");
        }
        Ok(Source { name, file, sidecar: sidecar_of(path) })
    }

    /// Adds its lines to `summary`.
    ///
    /// # Errors
    /// A sentence. Lines before the fault are added.
    pub fn read(self, summary: &mut Summary) -> anyhow::Result<Found> {
        let Source { name, file, sidecar } = self;
        let before = (summary.records() + summary.partial, summary.unrecognized);
        let (mut input, compression) =
            peeked(file).with_context(|| format!("cannot read {name}"))?;
        let is_torn = match compression {
            None => read_lines(&mut input, summary),
            Some(compression) => {
                Decompressor::new(compression, input).and_then(|it| read_lines(it, summary))
            }
        };
        let is_torn = is_torn.with_context(|| format!("cannot read {name}"))?;
        let records = summary.records() + summary.partial - before.0;
        let unrecognized = summary.unrecognized - before.1;
        let has_statistics = sidecar.is_some();
        Ok(Found { name, records, unrecognized, is_torn, has_statistics })
    }
}

/// The file of statistics that tells of the file of lines at `path`, if it is there: `http.stats`
/// for `http.jsonl`, for `http.jsonl.zst`, and for `http.0.jsonl`, that of one shard.
fn sidecar_of(path: &Path) -> Option<PathBuf> {
    let extension = |path: &Path| path.extension().map(|it| it.to_string_lossy().into_owned());
    let is_packed = matches!(extension(path).as_deref(), Some("zst" | "gz"));
    let lines = if is_packed { path.with_extension("") } else { path.to_path_buf() };
    let own = sidecar_path(&lines);
    let stem = lines.with_extension("");
    let is_of_shard = extension(&stem).is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()));
    let of_all = is_of_shard.then(|| sidecar_path(&stem));
    [Some(own), of_all].into_iter().flatten().find(|it| it != path && it.is_file())
}

/// The input, whose compression was recognised by its first bytes.
fn peeked(mut file: File) -> io::Result<(impl Read, Option<Compression>)> {
    let mut first = Vec::new();
    file.by_ref().take(4).read_to_end(&mut first)?;
    let compression = Compression::detect(&first);
    Ok((io::Cursor::new(first).chain(file), compression))
}

/// Adds the lines of `input`. Returns whether the last one is not whole.
fn read_lines(mut input: impl Read, summary: &mut Summary) -> io::Result<bool> {
    let mut buffer = vec![0; READ_BYTES + LINE_BYTES_MAX];
    // The beginning of a line, in the front of the buffer.
    let (mut kept, mut is_too_long) = (0, false);
    loop {
        let read = match input.read(&mut buffer[kept..]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = kept + read;
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &buffer[kept..end]) {
            let line_end = kept + newline;
            if std::mem::take(&mut is_too_long) {
                summary.unrecognized += 1;
            } else {
                add(summary, &buffer[start..line_end]);
            }
            start = line_end + 1;
        }
        buffer.copy_within(start..end, 0);
        kept = end - start;
        if kept > LINE_BYTES_MAX {
            (kept, is_too_long) = (0, true);
        }
    }
    if is_too_long {
        summary.unrecognized += 1;
        return Ok(false);
    }
    // A whole record may lack its line feed; what is cut off is none.
    let is_torn = !add(summary, &buffer[..kept]);
    summary.unrecognized -= u64::from(is_torn);
    Ok(is_torn)
}

/// Adds a line, unless it is empty. False if it is no record.
fn add(summary: &mut Summary, line: &[u8]) -> bool {
    line.trim_ascii().is_empty() || summary.add_line(line)
}

impl Found {
    /// A capture file, whose records are not lines.
    pub fn capture(name: &str) -> Found {
        let name = if name == "-" { "standard input" } else { name };
        Found {
            name: name.into(),
            records: 0,
            unrecognized: 0,
            is_torn: false,
            has_statistics: false,
        }
    }
}
