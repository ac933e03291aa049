//! How much memory is available: proc(5).

/// Memory available without swapping (`MemAvailable`, since Linux 3.14). `None` if the kernel does
/// not report it.
pub fn available_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
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
}
