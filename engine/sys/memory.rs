//! How much memory is available: proc(5).

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Memory available without swapping (`MemAvailable`, since Linux 3.14). `None` if the kernel does
/// not report it.
pub fn available_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// `/proc/self/statm`, proc(5): the memory that this process uses. It stays open, since a process
/// that is sealed opens nothing.
#[derive(Debug)]
pub struct ResidentMemory(Option<File>);

impl ResidentMemory {
    /// Opens the file. Without it, there is nothing to tell.
    pub fn open() -> ResidentMemory {
        ResidentMemory(File::open("/proc/self/statm").ok())
    }

    /// The resident set now, with shared memory and rings; 0 if the kernel does not tell.
    pub fn bytes(&self) -> u64 {
        let mut text = [0; 128];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = String::from_utf8_lossy(&text[..read.unwrap_or(0)]);
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
    }
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_kibibytes() {
        let text = "MemTotal:   24684312 kB\nMemFree:  9 kB\nMemAvailable:   23249920 kB\n";
        assert_eq!(parse(text), Some(23_249_920 << 10));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such file")]
    fn memory_that_is_used_is_resident() {
        let resident = ResidentMemory::open();
        let before = resident.bytes();
        let used = vec![1u8; 64 << 20];
        assert!(before > 0 && resident.bytes() >= before + (32 << 20), "{}", used.len());
    }
}
