//! Disk space for what is about to be appended: fallocate(2), so that ext4 allocates it once for a
//! batch, and not for each page.
//!
//! Exactly the bytes of a batch are reserved, right before they are written, and the size of the
//! file does not change (FALLOC_FL_KEEP_SIZE): a file ends with its last line all the time. What a
//! failed write leaves unused is given back. A run that is killed in between leaves one batch of
//! blocks behind the end of its file, which the next append uses.

use std::fs::File;

use rustix::fs::{FallocateFlags, fallocate, fstatfs};
use rustix::io::Errno;

/// Smaller appends gain nothing.
const RESERVED_BYTES_MIN: usize = 64 << 10;

/// The type of ext4, and of ext2 and ext3, which refuse: statfs(2). It is not done elsewhere: Btrfs
/// does not compress what was reserved, and XFS and others were not measured.
const EXT4: u32 = 0xef53;

/// Whether space is reserved for a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Space {
    /// Not for this output.
    #[default]
    Never,
    /// It has not been tried.
    Unknown,
    Reserved,
}

impl Space {
    /// Reserves space for `bytes` behind byte `length` of `file`, its end. Returns whether
    /// [`give_back`] must follow if they cannot be written. Whether there is enough, the write
    /// tells.
    pub(super) fn reserve(&mut self, file: &File, length: u64, bytes: usize) -> bool {
        if *self == Space::Unknown {
            let is_ext4 = fstatfs(file).is_ok_and(|it| it.f_type as u32 == EXT4);
            *self = if is_ext4 { Space::Reserved } else { Space::Never };
        }
        if *self == Space::Never || bytes < RESERVED_BYTES_MIN {
            return false;
        }
        match fallocate(file, FallocateFlags::KEEP_SIZE, length, bytes as u64) {
            // It is not asked again.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::SPIPE | Errno::NODEV) => {
                *self = Space::Never;
                false
            }
            // A part may have been reserved.
            _ => true,
        }
    }
}

/// Gives back what is reserved behind byte `length` of `file`, if it ends there: somebody else may
/// have appended to it. ext4 does so if a file is truncated to the size that it has.
pub(super) fn give_back(file: &File, length: u64) {
    if file.metadata().is_ok_and(|it| it.is_file() && it.len() == length) {
        // If it fails, the next append uses the space.
        let _ = file.set_len(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::output::batch::Batch;
    use crate::output::sink::{FileSink, Sink};
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    /// A file on ext4, whose blocks can be counted; `None` if there is none.
    fn file() -> Option<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let is_ext4 = fstatfs(file.as_file()).is_ok_and(|it| it.f_type as u32 == EXT4);
        is_ext4.then_some(file)
    }

    /// Its size, and the space it takes.
    fn sizes(file: &File) -> (u64, u64) {
        let metadata = file.metadata().unwrap();
        (metadata.len(), metadata.blocks() * 512)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such call")]
    fn what_is_not_used_is_given_back() {
        let Some(file) = file() else { return };
        let mut file = file.as_file();
        file.write_all(&[b'a'; 5000]).unwrap();
        file.sync_all().unwrap();
        let (length, before) = sizes(file);
        let mut space = Space::Unknown;
        assert!(!space.reserve(file, length, RESERVED_BYTES_MIN - 1));
        assert_eq!((space, sizes(file)), (Space::Reserved, (5000, before)));
        assert!(space.reserve(file, length, 1 << 20));
        let (same, more) = sizes(file);
        assert!(same == 5000 && more >= 1 << 20, "{same} {more}");
        // Somebody has appended: it stays.
        give_back(file, 4999);
        assert_eq!(sizes(file), (5000, more));
        give_back(file, 5000);
        assert_eq!(sizes(file), (5000, before));
        assert!(!Space::Never.reserve(file, 5000, 1 << 20));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such call")]
    fn it_is_not_asked_again_where_it_is_not_supported() {
        let (_reader, pipe) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        for mut space in [Space::Unknown, Space::Reserved] {
            assert!(!space.reserve(&pipe, 0, 1 << 20));
            assert_eq!(space, Space::Never);
        }
    }

    /// A batch of lines of a KiB each.
    fn batch(kibibytes: usize) -> Batch {
        let mut line = vec![b'x'; 1023];
        line.push(b'\n');
        let line_count = kibibytes as u64;
        Batch { bytes: line.repeat(kibibytes), line_count, shard: ShardId(0) }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri starts no process")]
    fn no_space_stays_behind_the_end_of_a_file() {
        let name = "output::space::tests::no_space_stays_behind_the_end_of_a_file";
        let Some(file) = file() else { return };
        if !crate::sys::file_map::tests::is_alone(name) {
            return;
        }
        crate::sys::signals::ignore_file_size_signal();
        let limit = rustix::process::Rlimit { current: Some(2_500_100), maximum: None };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        let mut sink = FileSink::open_plain(file.path()).unwrap().with_reserved_space();
        let opened = File::open(file.path()).unwrap();
        for count in 1..=2 {
            sink.append(&mut [batch(500), batch(524)]).unwrap();
            let (length, taken) = sizes(&opened);
            assert_eq!((length, taken), (count << 20, count << 20));
        }
        // Only a part of the third one has space; the torn line is removed.
        let fault = sink.append(&mut [batch(1024)]).unwrap_err();
        let whole_bytes = (2_500_100 - (2 << 20)) / 1024 * 1024;
        assert_eq!(fault.written_bytes, whole_bytes);
        let (length, taken) = sizes(&opened);
        assert_eq!(length, (2 << 20) + whole_bytes as u64);
        assert_eq!(taken, length.next_multiple_of(4096));
        // Nothing of this one has.
        let limit = rustix::process::Rlimit { current: Some(length), maximum: None };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        assert_eq!(sink.append(&mut [batch(1024)]).unwrap_err().written_bytes, 0);
        assert_eq!(sizes(&opened), (length, taken));
    }
}
