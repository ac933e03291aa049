//! A file mapped as memory, for reading: mmap(2). It also handles a file that is cut while it is
//! mapped.
//!
//! An access beyond the end of a mapped file raises SIGBUS, which would end the process. Our
//! handler replaces the missing pages by zeroed memory and records that. The reader continues with
//! zeros, checks [`FileMap::is_cut`], and stops. A SIGBUS with another cause is passed to the
//! previous handler.
//!
//! A signal handler belongs to the whole process, so it is not set unasked: files are mapped only
//! after [`install_sigbus_handler`].

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Maximum number of maps in a process at a time. All shards of a run share one.
const MAP_COUNT_MAX: usize = 64;

/// The addresses of a map, for the handler. `end` is 0 if the slot is free, and is written last.
struct MapSlot {
    is_taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    is_cut: AtomicBool,
}

static MAP_SLOTS: [MapSlot; MAP_COUNT_MAX] = [const {
    MapSlot {
        is_taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        is_cut: AtomicBool::new(false),
    }
}; MAP_COUNT_MAX];

/// A mapped regular file.
#[derive(Debug)]
pub struct FileMap {
    file: File,
    start: NonNull<u8>,
    bytes: usize,
    slot: usize,
}

// SAFETY: the memory belongs to the map alone, and is not bound to a thread.
unsafe impl Send for FileMap {}
// SAFETY: the memory is only read.
unsafe impl Sync for FileMap {}

impl FileMap {
    /// Maps the first `bytes` bytes of `file`.
    ///
    /// # Errors
    /// [`install_sigbus_handler`] was not called; or the file cannot be mapped, is empty, or there
    /// are too many maps. The file can still be read.
    pub fn new(file: File, bytes: u64) -> io::Result<FileMap> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if !matches!(INSTALLED.get(), Some(Ok(()))) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let is_free = |slot: &MapSlot| !slot.is_taken.swap(true, Ordering::AcqRel);
        let slot = MAP_SLOTS.iter().position(is_free).ok_or(io::ErrorKind::QuotaExceeded)?;
        // SAFETY: the kernel chooses an unused address. Another process that writes to the file
        // changes the bytes that we read. No length in our code depends on them without a bounds
        // check, so the values may be wrong, and nothing else.
        let start = unsafe {
            let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file.as_raw_fd(), 0)
        };
        let start = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) };
        let Some(start) = start else {
            MAP_SLOTS[slot].is_taken.store(false, Ordering::Release);
            return Err(io::Error::last_os_error());
        };
        let address = start.as_ptr() as usize;
        MAP_SLOTS[slot].is_cut.store(false, Ordering::Relaxed);
        MAP_SLOTS[slot].start.store(address, Ordering::Relaxed);
        MAP_SLOTS[slot].end.store(address + bytes, Ordering::Release);
        Ok(FileMap { file, start, bytes, slot })
    }

    /// The bytes of the file. Missing ones are 0.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as long as `self` lives, at this address and length.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// Unmaps the pages that lie before byte `end` and not wholly before byte `start`: they have
    /// been read. They stay in the page cache, and an access maps them again: madvise(2),
    /// MADV_DONTNEED. This is done while they are in the CPU's caches still, and bounds the
    /// resident set.
    pub fn release(&self, start: usize, end: usize) {
        let page_bytes = rustix::param::page_size();
        let (start, end) = (start - start % page_bytes, end.min(self.bytes));
        let end = end - end % page_bytes;
        if start < end {
            // SAFETY: the range is a part of the map, and begins with a page. The map is of a file
            // and shared, so the bytes are the same afterwards; what replaces pages that are gone
            // is zeros before and after. If it fails, pages stay mapped.
            unsafe {
                let first = self.start.as_ptr().add(start).cast::<libc::c_void>();
                libc::madvise(first, end - start, libc::MADV_DONTNEED);
            }
        }
    }

    /// The current length of the file, if it is less than what was mapped.
    pub fn cut_bytes(&self) -> Option<u64> {
        let bytes = self.file.metadata().ok()?.len();
        (bytes < self.bytes as u64).then_some(bytes)
    }

    /// Whether bytes were read that the file no longer has.
    #[inline]
    pub fn is_cut(&self) -> bool {
        MAP_SLOTS[self.slot].is_cut.load(Ordering::Relaxed)
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        MAP_SLOTS[self.slot].end.store(0, Ordering::Release);
        // SAFETY: we mapped it at this address and length, and no borrow is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        MAP_SLOTS[self.slot].is_taken.store(false, Ordering::Release);
    }
}

/// The previous action for SIGBUS.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Whether the handler was installed, or the errno of the failure.
static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

/// Page size, for the handler, which may not query it.
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Installs a handler for SIGBUS, once per process. From then on capture files are mapped, which
/// takes less time than reading them. A file that is cut while it is read becomes an error and does
/// not end the process. A SIGBUS that has nothing to do with such a file goes to the previous
/// handler. Without this call files are read.
///
/// # Errors
/// That of sigaction(2).
pub fn install_sigbus_handler() -> io::Result<()> {
    let result = INSTALLED.get_or_init(|| {
        PAGE_BYTES.store(rustix::param::page_size(), Ordering::Relaxed);
        // SAFETY: all zeros are a valid `sigaction`; the pointers are to locals. `BEFORE` is set
        // before the handler is.
        let result = unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            super::cvt(libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before)).and_then(
                |_| {
                    let mut ours = before;
                    BEFORE.get_or_init(|| before);
                    ours.sa_sigaction = on_sigbus as *const () as usize;
                    ours.sa_flags |= libc::SA_SIGINFO | libc::SA_ONSTACK;
                    super::cvt(libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut()))
                },
            )
        };
        result.map(|_| ()).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    result.map_err(io::Error::from_raw_os_error)
}

/// Runs in the thread that accessed missing memory. It calls only mmap(2) and sigaction(2), and
/// allocates nothing.
extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `info`, and SIGBUS has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &MAP_SLOTS {
        let end = slot.end.load(Ordering::Acquire);
        let start = slot.start.load(Ordering::Relaxed);
        if !(start..end).contains(&address) {
            continue;
        }
        let page = address - address % PAGE_BYTES.load(Ordering::Relaxed).max(1);
        // SAFETY: `address` lies in a map that is being read at this moment, so the map exists.
        // Everything from its page on is replaced by zeros, which are readable, too.
        let is_replaced = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let slot = page as *mut libc::c_void;
            libc::mmap(slot, end - page, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED
        };
        if is_replaced {
            slot.is_cut.store(true, Ordering::Relaxed);
            return;
        }
    }
    pass_on(signal, info, context);
}

/// Passes on a SIGBUS with another cause.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    let before = BEFORE.get().filter(|before| {
        before.sa_flags & libc::SA_SIGINFO != 0
            && !matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
    });
    match before {
        // SAFETY: with SA_SIGINFO it is a function with these arguments, and it was the previous
        // handler of this signal.
        Some(before) => unsafe {
            std::mem::transmute::<usize, Handler>(before.sa_sigaction)(signal, info, context);
        },
        // SAFETY: changes one disposition; the fault recurs and ends the process.
        None => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// For a test that must not share its process with other tests: runs test `name` in a process
    /// of its own. Returns whether the caller is that process, and so should run the test.
    pub fn is_alone(name: &str) -> bool {
        const ALONE: &str = "HTTPLINES_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", name]).env(ALONE, "").output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
        false
    }

    fn handler() -> usize {
        // SAFETY: all zeros are a valid `sigaction`, and the pointer is to a local.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut now);
            now.sa_sigaction
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri starts no process")]
    fn no_handler_is_set_and_no_file_is_mapped_unasked() {
        let name = "sys::file_map::tests::no_handler_is_set_and_no_file_is_mapped_unasked";
        if !is_alone(name) {
            return;
        }
        let before = handler();
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let refused = FileMap::new(file.try_clone().unwrap(), 4096).unwrap_err();
        assert_eq!((refused.kind(), handler()), (io::ErrorKind::Unsupported, before));
        install_sigbus_handler().unwrap();
        assert_eq!(FileMap::new(file, 4096).unwrap().bytes(), [0; 4096]);
        assert_ne!(handler(), before);
    }

    fn file_of(pages: usize) -> (File, u64) {
        install_sigbus_handler().unwrap();
        let file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut &file, &vec![7; pages * 4096]).unwrap();
        (file, pages as u64 * 4096)
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_file_that_shrinks_is_zeros_and_kills_nobody() {
        let (file, bytes) = file_of(40);
        let map = FileMap::new(file.try_clone().unwrap(), bytes).unwrap();
        assert!(map.bytes()[..100].iter().all(|byte| *byte == 7));
        assert_eq!((map.cut_bytes(), map.is_cut()), (None, false));
        file.set_len(4096).unwrap();
        assert_eq!(map.cut_bytes(), Some(4096));
        assert_eq!(map.bytes()[4095], 7);
        assert!(!map.is_cut());
        assert!(map.bytes()[30 * 4096..].iter().all(|byte| *byte == 0));
        assert!(map.is_cut());
        assert_eq!(map.bytes()[4096], 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn pages_that_are_released_are_not_resident_and_can_be_read_again() {
        let name =
            "sys::file_map::tests::pages_that_are_released_are_not_resident_and_can_be_read_again";
        if !is_alone(name) {
            return;
        }
        let (file, bytes) = file_of(4096);
        let map = FileMap::new(file, bytes).unwrap();
        let sum = |map: &FileMap| map.bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let resident = crate::sys::memory::ResidentMemory::open();
        assert_eq!(sum(&map), 7 * bytes);
        let before = resident.bytes();
        // All but the last page, of which only a part is named; and nothing outside of the map.
        map.release(5000, bytes as usize - 1);
        map.release(3, 4095);
        map.release(9000, 20);
        let freed = before - resident.bytes();
        assert!((bytes * 3 / 4..bytes).contains(&freed), "{freed} of {bytes}");
        map.release(0, usize::MAX);
        assert_eq!(sum(&map), 7 * bytes);
        assert!(!map.is_cut());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn an_empty_file_is_not_mapped_and_places_are_used_again() {
        let (file, bytes) = file_of(1);
        assert!(FileMap::new(file.try_clone().unwrap(), 0).is_err());
        for _ in 0..3 * MAP_COUNT_MAX {
            let map = FileMap::new(file.try_clone().unwrap(), bytes).unwrap();
            assert_eq!(map.bytes().len(), 4096);
        }
    }
}
