//! [`Directory`]: where the files of a run are. Everything is done relative to its descriptor, by
//! names without a slash; symbolic links are never followed, and no file is ever replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, flock, fstat,
    fstatvfs, openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// A directory that is open.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Device and inode.
    pub(super) identity: (u64, u64),
    pub(super) bytes: u64,
    pub(super) is_file: bool,
}

impl From<Stat> for Found {
    fn from(stat: Stat) -> Found {
        Found {
            // The types differ between architectures.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
            identity: (stat.st_dev as u64, stat.st_ino as u64),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
        }
    }
}

/// Space in a file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// What users may still fill.
    pub(super) free_bytes: u64,
    pub(super) total_bytes: u64,
}

impl Directory {
    /// Opens the directory of the file at `path`.
    pub(super) fn of(path: &Path) -> io::Result<Directory> {
        let path = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Ok(Directory { descriptor: open_directory(&path)?, path })
    }

    /// Its path, for messages.
    pub(super) fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Opens what has the directory's path now, if it was removed or renamed and another one was
    /// made. If nothing can be opened there, the old one stays.
    pub(super) fn renew(&mut self) {
        let identity =
            |descriptor: &OwnedFd| fstat(descriptor).map(|stat| Found::from(stat).identity);
        if let Ok(descriptor) = open_directory(&self.path)
            && identity(&descriptor).ok() != identity(&self.descriptor).ok()
        {
            self.descriptor = descriptor;
        }
    }

    /// Creates a file for appending, with mode 0640. Fails if the name exists.
    pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        self.open(name, flags, Mode::from_raw_mode(0o640))
    }

    /// Opens a file for reading.
    pub(super) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        self.open(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())
    }

    fn open(&self, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.descriptor, name, flags, mode)?))
    }

    /// What `name` leads to. `None`: it does not exist.
    pub(super) fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        match statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether `name` leads to `file`.
    pub(super) fn is_name_of(&self, name: &OsStr, file: &File) -> io::Result<bool> {
        let found = self.find(name)?;
        let identity = Found::from(fstat(file)?).identity;
        Ok(found.is_some_and(|found| found.identity == identity))
    }

    /// Renames a file to a name that does not exist; fails with EEXIST if it does.
    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let directory = &self.descriptor;
        match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
            // Network file systems and FUSE, and kernels before 3.15.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.claim_and_rename(from, to),
            result => Ok(result?),
        }
    }

    /// The same for a file system without RENAME_NOREPLACE: creates the new name, which fails if
    /// it exists, and then replaces this empty file of ours.
    fn claim_and_rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let claim = self.create(to)?;
        let is_ours = || {
            let is_empty = Found::from(fstat(&claim)?).bytes == 0;
            Ok::<_, io::Error>(is_empty && self.is_name_of(to, &claim)?)
        };
        if !is_ours()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let renamed = renameat(&self.descriptor, from, &self.descriptor, to);
        if renamed.is_err() && is_ours()? {
            self.remove(to)?;
        }
        Ok(renamed?)
    }

    /// Removes a name that is no directory.
    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.descriptor, name, AtFlags::empty())?)
    }

    /// All names.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.descriptor)? {
            names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_os_string());
        }
        Ok(names)
    }

    /// The space in its file system.
    pub(super) fn space(&self) -> io::Result<Space> {
        let space = fstatvfs(&self.descriptor)?;
        Ok(Space {
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Who else may have a file open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sharing {
    /// Others that append to it as well.
    Appending,
    /// Nobody: files that are closed may be compressed or deleted.
    Alone,
}

/// Locks `file` with flock(2) for as long as it is open. Fails only if another holds it in a way
/// that excludes this: some file systems have no locks.
pub(super) fn lock(file: &File, sharing: Sharing) -> io::Result<()> {
    let operation = match sharing {
        Sharing::Appending => FlockOperation::NonBlockingLockShared,
        Sharing::Alone => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(file, operation) {
        Err(Errno::WOULDBLOCK) => Err(io::Error::other(
            "another httplines writes to it, and one of them closes its files; name another file",
        )),
        _ => Ok(()),
    }
}

/// Ends the lock at once: a ring may keep the file open for a moment.
pub(super) fn unlock(file: &File) {
    let _ = flock(file, FlockOperation::NonBlockingUnlock);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, Directory) {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::of(&temporary.path().join("http.jsonl")).unwrap();
        (temporary, directory)
    }

    fn name(name: &str) -> &OsStr {
        OsStr::new(name)
    }

    #[test]
    fn nothing_is_replaced_with_or_without_help_of_the_file_system() {
        for rename in [Directory::rename, Directory::claim_and_rename] {
            let (temporary, directory) = directory();
            let path = |name: &str| temporary.path().join(name);
            std::fs::write(path("a"), "a").unwrap();
            std::fs::write(path("b"), "b").unwrap();
            let error = rename(&directory, name("a"), name("b")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            std::os::unix::fs::symlink("b", path("link")).unwrap();
            let error = rename(&directory, name("a"), name("link")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            rename(&directory, name("a"), name("c")).unwrap();
            let error = rename(&directory, name("a"), name("d")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            let mut names = directory.names().unwrap();
            names.sort();
            assert_eq!(names, [".", "..", "b", "c", "link"]);
            assert_eq!(std::fs::read(path("c")).unwrap(), b"a");
            assert_eq!(std::fs::read(path("b")).unwrap(), b"b");
        }
    }

    #[test]
    fn links_are_neither_followed_nor_files() {
        let (temporary, directory) = directory();
        std::fs::write(temporary.path().join("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", temporary.path().join("link")).unwrap();
        assert!(directory.open_file(name("link")).is_err());
        assert!(directory.create(name("link")).is_err());
        assert!(!directory.find(name("link")).unwrap().unwrap().is_file);
        assert!(directory.find(name("file")).unwrap().unwrap().is_file);
        assert!(directory.find(name("none")).unwrap().is_none());
    }

    #[test]
    fn a_directory_that_was_removed_or_renamed_and_made_again_is_found() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("logs");
        std::fs::create_dir(&path).unwrap();
        let mut directory = Directory::of(&path.join("http.jsonl")).unwrap();
        std::fs::remove_dir(&path).unwrap();
        directory.renew();
        assert!(directory.create(name("http.jsonl")).is_err());
        std::fs::create_dir(&path).unwrap();
        assert!(directory.create(name("http.jsonl")).is_err());
        directory.renew();
        directory.create(name("http.jsonl")).unwrap();
        std::fs::rename(&path, temporary.path().join("old")).unwrap();
        directory.renew();
        assert!(directory.find(name("http.jsonl")).unwrap().is_some(), "there is no other one");
        std::fs::create_dir(&path).unwrap();
        directory.renew();
        assert!(directory.find(name("http.jsonl")).unwrap().is_none());
    }

    #[test]
    fn one_that_closes_files_is_alone() {
        let (temporary, _) = directory();
        let path = temporary.path().join("http.jsonl");
        std::fs::write(&path, "").unwrap();
        let open = || File::open(&path).unwrap();
        let (one, other) = (open(), open());
        lock(&one, Sharing::Appending).unwrap();
        lock(&other, Sharing::Appending).unwrap();
        assert!(lock(&open(), Sharing::Alone).is_err());
        drop(one);
        drop(other);
        let alone = open();
        lock(&alone, Sharing::Alone).unwrap();
        assert!(lock(&open(), Sharing::Appending).is_err());
        assert!(lock(&open(), Sharing::Alone).is_err());
    }
}
