//! Memory shared with the kernel, or heap memory in its place: mmap(2).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// What to free when a [`Mapping`] is dropped.
#[derive(Debug)]
enum Backing {
    Kernel,
    Heap(Layout),
}

/// Memory that another party may write to at any time. It is read and written word by word,
/// atomically; or as bytes, by callers who know that the other side does not write.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    backing: Backing,
}

// SAFETY: the memory belongs to the mapping alone, and is not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: shared access is atomic, except for `bytes`, whose caller guarantees that nobody writes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` bytes of `file`, shared, readable and writable; core files leave it
    /// out. `MAP_LOCKED` or
    /// `MAP_POPULATE` would gain nothing: a packet ring and a BPF array are kernel memory already.
    ///
    /// For this module only: two mappings of one file are the same memory, of which a
    /// [`Ring`](super::ring::Ring) makes slices.
    pub(super) fn of_file(file: BorrowedFd<'_>, bytes: usize) -> io::Result<Mapping> {
        // SAFETY: the kernel chooses an unused address.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        leave_out(start, bytes);
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, bytes, backing: Backing::Kernel })
    }

    /// The same mapping without its last `bytes`, a number of whole pages, which are unmapped.
    pub(super) fn without_end(mut self, bytes: usize) -> io::Result<Mapping> {
        assert!(bytes < self.bytes && !self.is_on_heap(), "something stays mapped");
        let kept_bytes = self.bytes - bytes;
        // SAFETY: the end of our own mapping, of which no borrow is left.
        super::cvt(unsafe { libc::munmap(self.start.as_ptr().add(kept_bytes).cast(), bytes) })?;
        self.bytes = kept_bytes;
        Ok(self)
    }

    /// Zeroed heap memory with the same interface, for tests and instruments without the kernel.
    ///
    /// # Panics
    /// If `bytes` is 0.
    pub fn on_heap(bytes: usize) -> Mapping {
        assert!(bytes > 0, "a mapping holds something");
        let layout = Layout::from_size_align(bytes, 4096).expect("no more than the address space");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Mapping { start, bytes, backing: Backing::Heap(layout) }
    }

    /// The length of the mapping.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has no bytes; a mapping always has some.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The 32-bit word at `offset` bytes.
    ///
    /// # Panics
    /// If the word is not inside, or `offset` is not a multiple of 4.
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `pointer_to` checks bounds and alignment; the memory lives as long as `self`.
        unsafe { AtomicU32::from_ptr(self.pointer_to::<u32>(offset)) }
    }

    /// The 64-bit word at `offset` bytes.
    ///
    /// # Panics
    /// If the word is not inside, or `offset` is not a multiple of 8.
    pub fn word64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `pointer_to` checks bounds and alignment; the memory lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.pointer_to::<u64>(offset)) }
    }

    /// The bytes of `range`.
    ///
    /// # Safety
    /// While the slice is alive, neither the kernel nor anybody else writes to these bytes.
    ///
    /// # Panics
    /// If the range is not inside.
    pub unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.bytes, "inside the mapping");
        // SAFETY: the range is inside; the caller guarantees that nobody writes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }

    /// Whether it is heap memory in place of kernel memory, so that nobody else writes to it.
    pub fn is_on_heap(&self) -> bool {
        matches!(self.backing, Backing::Heap(_))
    }

    /// Copies `data` to `offset`, in heap memory, in place of the kernel.
    ///
    /// # Panics
    /// If the data do not fit, or the memory is the kernel's.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        assert!(self.is_on_heap(), "the kernel's memory is for the kernel to write");
        let end = self.bytes.checked_sub(data.len());
        assert!(end.is_some_and(|last| offset <= last), "inside the mapping");
        // SAFETY: inside, and `&mut self` means that there is no other access.
        unsafe {
            self.start.as_ptr().add(offset).copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
    }

    fn pointer_to<T>(&self, offset: usize) -> *mut T {
        assert!(offset.is_multiple_of(size_of::<T>()), "words are aligned");
        let last = self.bytes.checked_sub(size_of::<T>());
        assert!(last.is_some_and(|last| offset <= last), "inside the mapping");
        // SAFETY: inside the mapping.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match self.backing {
            // SAFETY: we mapped it at this address and length, and no borrow is left.
            Backing::Kernel => unsafe {
                libc::munmap(self.start.as_ptr().cast(), self.bytes);
            },
            // SAFETY: we allocated it with this layout.
            Backing::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
        }
    }
}

/// Leaves the memory of `buffer` out of core files: what was captured is nobody's business. A page
/// that it shares with others is dumped.
pub fn leave_out_of_core_files(buffer: &Vec<u8>) {
    let page_bytes = rustix::param::page_size();
    let skip_bytes = buffer.as_ptr().align_offset(page_bytes);
    let bytes = buffer.capacity().saturating_sub(skip_bytes) / page_bytes * page_bytes;
    if bytes > 0 {
        leave_out(buffer.as_ptr().wrapping_add(skip_bytes).cast_mut().cast(), bytes);
    }
}

/// MADV_DONTDUMP of madvise(2). If it fails, nothing depends on it.
pub(super) fn leave_out(start: *mut libc::c_void, bytes: usize) {
    if cfg!(miri) {
        return;
    }
    // SAFETY: the contents of the memory and the access to it stay the same.
    unsafe { libc::madvise(start, bytes, libc::MADV_DONTDUMP) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn no_word_reaches_beyond_the_mapping() {
        for (bytes, offset, has_word32, has_word64) in [
            (8, 0, true, true),
            (8, 4, true, false),
            (8, 8, false, false),
            (4, 0, true, false),
            (3, 0, false, false),
            (8, usize::MAX - 7, false, false),
        ] {
            let mapping = Mapping::on_heap(bytes);
            let word32 = catch_unwind(|| mapping.word32(offset).as_ptr()).is_ok();
            let word64 = catch_unwind(|| mapping.word64(offset).as_ptr()).is_ok();
            assert_eq!((word32, word64), (has_word32, has_word64), "{offset} of {bytes}");
        }
    }
}
