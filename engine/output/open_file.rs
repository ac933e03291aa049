//! Opening an output by its name. Nothing here waits, follows a symbolic link at the end of the
//! path, or changes a file that is then refused. As root, nothing is opened that somebody else made
//! or may have put there.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::privileges::{is_or_was_root, is_root};
use crate::sys::wait::make_blocking;

/// How often to look again if the file is created or removed between two looks.
const ATTEMPT_COUNT_MAX: usize = 3;

/// Bytes at the beginning of a file that tell what it is.
const HEAD_BYTES: u64 = 8;

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
    let ends = if metadata.is_file() { read_ends(path, &metadata, no_follow) } else { None };
    let Some((head, last)) = ends else { return Ok(Some(OpenFile { file, is_torn: false })) };
    refuse_binary(&head)?;
    Ok(Some(OpenFile { file, is_torn: last != b'\n' }))
}

/// Whether somebody reads what is written to `file`, and can hold its writer: it is a pipe, a
/// socket or a terminal.
pub(super) fn has_reader(file: &File) -> bool {
    let kind = file.metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) || file.is_terminal()
}

/// Whether `path` names a descriptor that this process was started with, as `/dev/stdout` and
/// `/dev/fd/3` do. These links are the kernel's, and whoever started us opened the files.
pub fn is_passed_descriptor(path: &Path) -> bool {
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

/// Looks whether an output at `path` could be opened or created by the user `own`, in a process
/// that root starts or not. Nothing is created, and permissions are not looked at.
///
/// # Errors
/// The same as when it is opened.
pub fn check_output(path: &Path, own: u32, is_of_root: bool) -> io::Result<()> {
    if is_passed_descriptor(path) {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if !parent.unwrap_or(Path::new(".")).metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return without_reader(path, false, io::Error::from_raw_os_error(libc::ELOOP));
    }
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if kind.is_socket() {
        return Err(socket());
    }
    if is_of_root {
        refuse_of_others(&metadata, own)?;
    }
    let ends = if kind.is_file() { read_ends(path, &metadata, libc::O_NOFOLLOW) } else { None };
    ends.map_or(Ok(()), |(head, _)| refuse_binary(&head))
}

fn socket() -> io::Error {
    io::Error::other("it is a socket; name a file or a FIFO")
}

/// Refuses an output of another user, or one with another name, if root started this process.
fn refuse_others(metadata: &Metadata) -> io::Result<()> {
    if !is_or_was_root() {
        return Ok(());
    }
    refuse_of_others(metadata, rustix::process::geteuid().as_raw())
}

/// Refuses an output that is not of the user `own`, or one with another name. Whoever made it may
/// read it, and may have linked it to a file that root should not change.
fn refuse_of_others(metadata: &Metadata, own: u32) -> io::Result<()> {
    let kind = metadata.file_type();
    if !(kind.is_file() || kind.is_fifo()) {
        return Ok(());
    }
    let user = metadata.uid();
    if user != own {
        let own = if own == 0 { "root".to_string() } else { format!("user {own}") };
        return Err(io::Error::other(format!(
            "it belongs to another user ({user}), and root writes to no such file; delete it, \
             chown it to {own} or name another file"
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
        // Root without capabilities may not open a file of another user anyway.
        Some(libc::EACCES) if is_root() && !is_passed => {
            refuse_others(&path.symlink_metadata()?)?;
            Err(error)
        }
        Some(libc::ELOOP) => Err(io::Error::other(
            "it is a symbolic link; name the file that it leads to, as readlink -f shows it",
        )),
        // Nobody can open an unnamed pipe to read it.
        Some(libc::ENXIO) if is_passed => Err(io::ErrorKind::BrokenPipe.into()),
        Some(libc::ENXIO) => {
            let metadata = path.symlink_metadata()?;
            match metadata.file_type() {
                kind if kind.is_fifo() => refuse_others(&metadata),
                kind if kind.is_socket() => Err(socket()),
                _ => Err(error),
            }
        }
        _ => Err(error),
    }
}

/// Refuses a file that begins like a capture, like something compressed, or as no text does. Lines
/// appended to it would spoil it. Only the beginning counts: text lines hold whatever bytes were
/// sent, but begin with a method, a version or the time.
fn refuse_binary(head: &[u8]) -> io::Result<()> {
    let is_text = |byte: u8| byte >= b' ' && byte != 0x7f || byte.is_ascii_whitespace();
    let what = match head {
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0x4d, 0x3c, 0xb2, 0xa1, ..] => "a capture",
        [0xa1, 0xb2, 0xc3, 0xd4, ..] | [0xa1, 0xb2, 0x3c, 0x4d, ..] => "a capture",
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => "a capture",
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [b'P', b'K', 3, 4, ..] => "compressed",
        [0xfd, b'7', b'z', b'X', ..] | [b'B', b'Z', b'h', b'1'..=b'9', b'1', ..] => "compressed",
        [first, ..] if !is_text(*first) => "no text",
        _ => return Ok(()),
    };
    Err(io::Error::other(format!(
        "it is {what}, and httplines appends lines to a text; name another file"
    )))
}

/// The first bytes and the last byte of the file that `metadata` describes, if it has some and may
/// be read. They are read through a second descriptor, which must be of the same file.
fn read_ends(path: &Path, metadata: &Metadata, no_follow: i32) -> Option<(Vec<u8>, u8)> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | no_follow);
    let last = metadata.len().checked_sub(1)?;
    let file = options.open(path).ok()?;
    let other = file.metadata().ok()?;
    if (other.dev(), other.ino()) != (metadata.dev(), metadata.ino()) {
        return None;
    }
    let mut head = vec![0; metadata.len().min(HEAD_BYTES) as usize];
    file.read_exact_at(&mut head, 0).ok()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, last).ok()?;
    Some((head, byte[0]))
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
    fn what_is_read_is_the_file_that_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http.jsonl");
        std::fs::write(&path, "old\n").unwrap();
        let old = path.metadata().unwrap();
        assert_eq!(read_ends(&path, &old, libc::O_NOFOLLOW), Some((b"old\n".to_vec(), b'\n')));
        std::fs::rename(&path, directory.path().join("http.jsonl.1")).unwrap();
        std::fs::write(&path, "torn").unwrap();
        assert_eq!(read_ends(&path, &old, libc::O_NOFOLLOW), None);
        let new = path.metadata().unwrap();
        assert_eq!(read_ends(&path, &new, libc::O_NOFOLLOW), Some((b"torn".to_vec(), b'n')));
    }

    #[test]
    fn lines_are_appended_to_texts() {
        for text in
            [&b"{\"ts\""[..], b"GET / H", b"A \0\xff", b"\n", b"\xef\xbb\xbf{", b"PK", b"M<"]
        {
            assert!(refuse_binary(text).is_ok(), "{text:?}");
        }
        for (head, what) in [
            (&b"\xd4\xc3\xb2\xa1\x02\0\x04\0"[..], "a capture"),
            (b"\x4d\x3c\xb2\xa1\x02\0\x04\0", "a capture"),
            (b"\xa1\xb2\xc3\xd4\0\x02\0\x04", "a capture"),
            (b"\xa1\xb2\x3c\x4d\0\x02\0\x04", "a capture"),
            (b"\n\r\r\n\x1c\0\0\0", "a capture"),
            (b"\x1f\x8b\x08", "compressed"),
            (b"\x28\xb5\x2f\xfd", "compressed"),
            (b"\xfd7zXZ\0", "compressed"),
            (b"BZh91AY&", "compressed"),
            (b"PK\x03\x04", "compressed"),
            (b"\0", "no text"),
            (b"\x7fELF", "no text"),
        ] {
            let error = refuse_binary(head).unwrap_err().to_string();
            assert!(error.starts_with(&format!("it is {what}, ")), "{head:?}: {error}");
        }
    }
}
