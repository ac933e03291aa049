//! A file system in memory, mounted with FUSE, whose faults are those a test asks for: writes that
//! stall, a disk that is full or fails, names that are taken between two calls, renames without
//! RENAME_NOREPLACE. It has one directory. The test reads the files without the kernel.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use super::namespace::Namespace;

/// Nothing is cached: the test changes files behind the kernel's back.
const LIFETIME: Duration = Duration::ZERO;

const BLOCK_BYTES: u32 = 4096;

/// The faults of a disk. By default it has none.
#[derive(Debug, Default)]
pub struct Faults {
    /// All files together may have this many bytes; the write that reaches it is a partial one.
    pub capacity_bytes: Option<usize>,
    /// Each write fails with this error.
    pub write_error: Option<i32>,
    /// Files cannot be cut. As on btrfs, the bytes are zeros then.
    pub truncate_error: Option<i32>,
    /// Files cannot be created.
    pub create_error: Option<i32>,
    /// Files cannot be renamed.
    pub rename_error: Option<i32>,
    /// Renames with flags are refused with EINVAL, as on NFS and vfat.
    pub has_no_rename_flags: bool,
    /// After each rename of `http.jsonl` somebody creates a file with that name, these bytes and
    /// this owner.
    pub squatter: Option<(Vec<u8>, u32)>,
}

#[derive(Debug)]
struct Node {
    bytes: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    changed: SystemTime,
    is_linked: bool,
}

/// A write whose answer waits for the end of the stall.
#[derive(Debug)]
struct StalledWrite {
    inode: u64,
    offset: u64,
    bytes: Vec<u8>,
    reply: ReplyWrite,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    names: BTreeMap<String, u64>,
    /// The file with number N has inode N + 2.
    nodes: Vec<Node>,
    /// Writes are answered only when the stall is over.
    is_stalled: bool,
    stalled: Vec<StalledWrite>,
    stalled_count: u64,
    squatted_count: u64,
}

/// The disk. A clone is the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// Mounts a disk at `directory` in the mounts of `namespace`, which are private
    /// ([`private_mounts`]) and end with it. An error is the reason why that is impossible here.
    pub fn mount(namespace: &Namespace, directory: &Path) -> Result<FaultyDisk, String> {
        let disk = FaultyDisk::default();
        let (files, directory) = (disk.clone(), directory.to_path_buf());
        let session = namespace.run(move || {
            // Its thread ends with the mount. To drop the session would be to unmount in the
            // mounts of whoever drops it.
            fuser::spawn_mount(files, directory, &Config::default()).map(std::mem::forget)
        });
        session.map(|()| disk).map_err(|error| format!("needs FUSE: {error}"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the faults.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// Does something while writes stall. Then those that waited are carried out, in order. (A
    /// program whose write stalls cannot even be killed.)
    pub fn stalled<T>(&self, during: impl FnOnce() -> T) -> T {
        struct End<'a>(&'a FaultyDisk);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.end_stall();
            }
        }
        let _end = End(self);
        self.lock().is_stalled = true;
        during()
    }

    /// Does something while nothing at all is answered, as if its server had gone.
    pub fn hung<T>(&self, during: impl FnOnce() -> T) -> T {
        // Each answer needs it.
        let _state = self.lock();
        during()
    }

    fn end_stall(&self) {
        let mut state = self.lock();
        state.is_stalled = false;
        for write in std::mem::take(&mut state.stalled) {
            match state.write(write.inode, write.offset, &write.bytes) {
                Ok(bytes) => write.reply.written(bytes),
                Err(error) => write.reply.error(error),
            }
        }
    }

    /// How many writes had to wait so far.
    pub fn stalled_count(&self) -> u64 {
        self.lock().stalled_count
    }

    /// How many names were taken by somebody else so far.
    pub fn squatted_count(&self) -> u64 {
        self.lock().squatted_count
    }

    /// The names of the files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// The bytes of the file with this name; none if it is not there.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.names.get(name)?;
        Some(state.node(*inode).ok()?.bytes.clone())
    }

    /// Removes a file, as rm(1) does.
    pub fn remove(&self, name: &str) {
        let _ = self.lock().unlink(name);
    }
}

impl State {
    fn node(&self, inode: u64) -> Result<&Node, Errno> {
        inode.checked_sub(2).and_then(|at| self.nodes.get(at as usize)).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, inode: u64) -> Result<&mut Node, Errno> {
        inode.checked_sub(2).and_then(|at| self.nodes.get_mut(at as usize)).ok_or(Errno::ENOENT)
    }

    fn attributes(&self, inode: u64) -> Result<FileAttr, Errno> {
        let (kind, perm, nlink, size, (uid, gid), changed) = if inode == INodeNo::ROOT.0 {
            (FileType::Directory, 0o755, 2, 0, (0, 0), SystemTime::UNIX_EPOCH)
        } else {
            let node = self.node(inode)?;
            let links = u32::from(node.is_linked);
            let size = node.bytes.len() as u64;
            (FileType::RegularFile, node.mode as u16, links, size, node.owner, node.changed)
        };
        Ok(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: changed,
            mtime: changed,
            ctime: changed,
            crtime: changed,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    fn find(&self, name: &OsStr) -> Result<FileAttr, Errno> {
        let inode = self.names.get(&*name.to_string_lossy()).ok_or(Errno::ENOENT)?;
        self.attributes(*inode)
    }

    fn create(&mut self, name: &str, mode: u32, owner: (u32, u32)) -> Result<u64, Errno> {
        if self.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let (bytes, changed) = (Vec::new(), SystemTime::now());
        self.nodes.push(Node { bytes, mode: mode & 0o7777, owner, changed, is_linked: true });
        let inode = self.nodes.len() as u64 + 1;
        self.names.insert(name.to_string(), inode);
        Ok(inode)
    }

    fn unlink(&mut self, name: &str) -> Result<(), Errno> {
        let inode = self.names.remove(name).ok_or(Errno::ENOENT)?;
        self.node_mut(inode)?.is_linked = false;
        Ok(())
    }

    fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> Result<u32, Errno> {
        if let Some(error) = self.faults.write_error {
            return Err(Errno::from_i32(error));
        }
        let used: usize = self.nodes.iter().filter(|n| n.is_linked).map(|n| n.bytes.len()).sum();
        let capacity_bytes = self.faults.capacity_bytes.unwrap_or(usize::MAX);
        let node = self.node_mut(inode)?;
        let end = offset as usize + bytes.len();
        let more = end.saturating_sub(node.bytes.len());
        let written = bytes.len() - more.saturating_sub(capacity_bytes.saturating_sub(used));
        if written == 0 && !bytes.is_empty() {
            return Err(Errno::from_i32(libc::ENOSPC));
        }
        let (start, end) = (offset as usize, offset as usize + written);
        if node.bytes.len() < end {
            node.bytes.resize(end, 0);
        }
        node.bytes[start..end].copy_from_slice(&bytes[..written]);
        node.changed = SystemTime::now();
        Ok(written as u32)
    }

    fn rename(&mut self, old: &str, new: &str, flags: RenameFlags) -> Result<(), Errno> {
        if let Some(error) = self.faults.rename_error {
            return Err(Errno::from_i32(error));
        }
        if self.faults.has_no_rename_flags && !flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        let inode = *self.names.get(old).ok_or(Errno::ENOENT)?;
        if self.names.contains_key(new) {
            if flags.contains(RenameFlags::RENAME_NOREPLACE) {
                return Err(Errno::EEXIST);
            }
            self.unlink(new)?;
        }
        self.names.remove(old);
        self.names.insert(new.to_string(), inode);
        let is_squatted = old == "http.jsonl";
        if let Some((bytes, owner)) = self.faults.squatter.clone().filter(|_| is_squatted) {
            let squatter = self.create(old, 0o644, (owner, owner))?;
            self.node_mut(squatter)?.bytes = bytes;
            self.squatted_count += 1;
        }
        Ok(())
    }
}

/// Answers with a value or an error.
macro_rules! answer {
    ($result:expr, $reply:ident, $value:pat => $answer:expr) => {
        match $result {
            Ok($value) => $answer,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for FaultyDisk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.lock().find(name);
        answer!(found, reply, found => reply.entry(&LIFETIME, &found, Generation(0)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attributes = self.lock().attributes(inode.0);
        answer!(attributes, reply, attributes => reply.attr(&LIFETIME, &attributes));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.lock();
        let truncate_error = state.faults.truncate_error.filter(|_| size.is_some());
        if let Ok(node) = state.node_mut(inode.0) {
            if let (Some(error), Some(size)) = (truncate_error, size) {
                node.bytes.iter_mut().skip(size as usize).for_each(|byte| *byte = 0);
                return reply.error(Errno::from_i32(error));
            }
            node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            if let Some(size) = size {
                node.bytes.resize(size as usize, 0);
            }
        }
        let attributes = state.attributes(inode.0);
        answer!(attributes, reply, attributes => reply.attr(&LIFETIME, &attributes));
    }

    fn create(
        &self,
        request: &Request,
        _: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.lock();
        let owner = (request.uid(), request.gid());
        let created = match state.faults.create_error {
            Some(error) => Err(Errno::from_i32(error)),
            None => state.create(&name.to_string_lossy(), mode & !umask, owner),
        };
        let created = created.and_then(|inode| state.attributes(inode));
        answer!(created, reply, created => {
            let (handle, flags) = (FileHandle(0), FopenFlags::empty());
            reply.created(&LIFETIME, &created, Generation(0), handle, flags);
        });
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.lock();
        answer!(state.node(inode.0), reply, node => {
            let start = node.bytes.len().min(offset as usize);
            let end = node.bytes.len().min(start + size as usize);
            reply.data(&node.bytes[start..end]);
        });
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.lock();
        if state.is_stalled {
            state.stalled_count += 1;
            let (inode, bytes) = (inode.0, data.to_vec());
            return state.stalled.push(StalledWrite { inode, offset, bytes, reply });
        }
        answer!(state.write(inode.0, offset, data), reply, bytes => reply.written(bytes));
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self.lock().unlink(&name.to_string_lossy()), reply, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (old, new) = (name.to_string_lossy(), new_name.to_string_lossy());
        answer!(self.lock().rename(&old, &new, flags), reply, () => reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.lock();
        for (at, (name, inode)) in state.names.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*inode), at as u64 + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.lock();
        let used: usize = state.nodes.iter().filter(|n| n.is_linked).map(|n| n.bytes.len()).sum();
        let capacity = state.faults.capacity_bytes.unwrap_or(1 << 30);
        let blocks = |bytes: usize| bytes as u64 / u64::from(BLOCK_BYTES);
        let free = blocks(capacity.saturating_sub(used));
        reply.statfs(blocks(capacity), free, free, 1 << 20, 1 << 20, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}

/// Gives the thread of `namespace` mounts of its own, which are gone with it. An error is the
/// reason why that is impossible here.
pub fn private_mounts(namespace: &Namespace) -> Result<(), String> {
    let unshared = namespace.run(|| {
        // SAFETY: no memory is passed; only this thread changes its namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let (root, none) = (c"/".as_ptr(), std::ptr::null());
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: the path is a string that ends with zero; the other pointers may be null.
        match unsafe { libc::mount(none, root, none, flags, none.cast()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    });
    unshared.map_err(|error| format!("needs mounts of its own: {error}"))
}
