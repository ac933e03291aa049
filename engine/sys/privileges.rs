//! The privileges of this thread: its user, and capabilities(7).

/// CAP_PERFMON, linux/capability.h: with it the verifier skips its guards against speculation.
pub const CAP_PERFMON: u32 = 38;

/// Whether this process acts as root, or as the root of its user namespace.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this thread has a capability in effect, by its number. If that is unknown, assume so.
pub fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask & 1 << number != 0)
}

/// Whether the verifier skips its speculation guards for programs of this thread.
pub fn is_trusted() -> bool {
    /// It included all such rights before CAP_PERFMON existed, and still does.
    const CAP_SYS_ADMIN: u32 = 21;
    has_capability(CAP_PERFMON) || has_capability(CAP_SYS_ADMIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_this_thread_is_read() {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("/proc is there");
        let has_all = status.contains("CapEff:\t000001ffffffffff");
        let has_none = status.contains("CapEff:\t0000000000000000");
        assert!(!has_all || has_capability(CAP_PERFMON));
        assert!(!has_none || !has_capability(CAP_PERFMON));
        assert!(!has_all || is_trusted());
        assert!(!has_none || !is_trusted());
        // No kernel has this many capabilities.
        assert!(!has_capability(63));
    }
}
