//! Opening an output by its name. Nothing here waits, follows a symbolic link at the end of the
//! path, or changes a file that is then refused. As root, nothing is opened that somebody else made
//! or may have put there.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::privileges::is_root;
use crate::sys::wait::make_blocking;

/// How often to look again if the file is created or removed between two looks.
const ATTEMPT_COUNT_MAX: usize = 3;

/// An output that is open for appending.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    /// It ends with a line that another writer did not complete.
    pub(super) is_torn: bool,
}

/// Opens `path` with O_APPEND, O_NOFOLLOW and O_CLOEXEC, or creates it with mode 0640. Only if it
/// [has a reader](has_reader), a write returns instead of waiting. `None`: a FIFO without reader.
pub(super) fn open_file(path: &Path) -> io::Result<Option<OpenFile>> {
    let is_passed = is_passed_descriptor(path);
    let no_follow = if is_passed { 0 } else { libc::O_NOFOLLOW };
    let mut options = File::options();
    options.append(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | no_follow);
    let (file, is_new) = match open_or_create(&options, path) {
        Ok(opened) => opened,
        Err(error) => return without_reader(path, is_passed, error).map(|()| None),
    };
    let metadata = file.metadata()?;
    if !is_new && !is_passed {
        refuse_others(&metadata)?;
    }
    if !has_reader(&file) {
        make_blocking(&file)?;
    }
    let is_torn = metadata.is_file()
        && last_byte(path, &metadata, no_follow).is_some_and(|byte| byte != b'\n');
    Ok(Some(OpenFile { file, is_torn }))
}

/// Whether somebody reads what is written to `file`, and can hold its writer: it is a pipe, a
/// socket or a terminal.
pub(super) fn has_reader(file: &File) -> bool {
    let kind = file.metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) || file.is_terminal()
}

/// Whether `path` names a descriptor that this process was started with, as `/dev/stdout` and
/// `/dev/fd/3` do. These links are the kernel's, and whoever started us opened the files.
fn is_passed_descriptor(path: &Path) -> bool {
    let is_number = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    path == Path::new("/dev/stdout")
        || path == Path::new("/dev/stderr")
        || (path.parent().is_some_and(|parent| {
            parent == Path::new("/dev/fd") || parent == Path::new("/proc/self/fd")
        }) && path.file_name().is_some_and(is_number))
}

/// Opens the file that is there, or creates it; and says which.
fn open_or_create(options: &OpenOptions, path: &Path) -> io::Result<(File, bool)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map(|file| (file, false)),
        }
        // O_EXCL: what is created here is ours, and nothing that appeared meanwhile is opened.
        match options.clone().create_new(true).open(path) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && attempts < ATTEMPT_COUNT_MAX => {
            }
            result => return result.map(|file| (file, true)),
        }
    }
}

/// Refuses an output of another user, or one with another name, if this process is root. Whoever
/// made it may read it, and may have linked it to a file that root should not change.
fn refuse_others(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if !is_root() || !(kind.is_file() || kind.is_fifo()) {
        return Ok(());
    }
    let user = metadata.uid();
    if user != 0 {
        return Err(io::Error::other(format!(
            "it belongs to another user ({user}), and root writes to no such file; delete it, \
             chown it to root or name another file"
        )));
    }
    if metadata.nlink() > 1 {
        return Err(io::Error::other(
            "it has a second name (a hard link), and root writes to no such file; delete it or \
             name another file",
        ));
    }
    Ok(())
}

/// Why `path` could not be opened. Not an error: a FIFO that nobody reads.
fn without_reader(path: &Path, is_passed: bool, error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::ELOOP) => Err(io::Error::other(
            "it is a symbolic link; name the file that it leads to, as readlink -f shows it",
        )),
        // Nobody can open an unnamed pipe to read it.
        Some(libc::ENXIO) if is_passed => Err(io::ErrorKind::BrokenPipe.into()),
        Some(libc::ENXIO) => {
            let metadata = path.symlink_metadata()?;
            match metadata.file_type() {
                kind if kind.is_fifo() => refuse_others(&metadata),
                kind if kind.is_socket() => {
                    Err(io::Error::other("it is a socket; name a file or a FIFO"))
                }
                _ => Err(error),
            }
        }
        _ => Err(error),
    }
}

/// The last byte of the file that `metadata` describes, if it has one and may be read. It is read
/// through a second descriptor, which must be of the same file.
fn last_byte(path: &Path, metadata: &Metadata, no_follow: i32) -> Option<u8> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | no_follow);
    let last = metadata.len().checked_sub(1)?;
    let file = options.open(path).ok()?;
    let other = file.metadata().ok()?;
    if (other.dev(), other.ino()) != (metadata.dev(), metadata.ino()) {
        return None;
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, last).ok()?;
    Some(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_known_by_name() {
        for path in ["/dev/stdout", "/dev/stderr", "/dev/fd/3", "/proc/self/fd/12"] {
            assert!(is_passed_descriptor(Path::new(path)), "{path}");
        }
        for path in ["/dev/fd", "/dev/fd/x", "/dev/stdin/1", "/dev/log", "stdout", "/proc/1/fd/1"] {
            assert!(!is_passed_descriptor(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn the_last_byte_is_that_of_the_file_that_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http.jsonl");
        std::fs::write(&path, "old\n").unwrap();
        let old = path.metadata().unwrap();
        assert_eq!(last_byte(&path, &old, libc::O_NOFOLLOW), Some(b'\n'));
        std::fs::rename(&path, directory.path().join("http.jsonl.1")).unwrap();
        std::fs::write(&path, "torn").unwrap();
        assert_eq!(last_byte(&path, &old, libc::O_NOFOLLOW), None);
        let new = path.metadata().unwrap();
        assert_eq!(last_byte(&path, &new, libc::O_NOFOLLOW), Some(b'n'));
    }
}
