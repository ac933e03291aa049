//! The limits of this process: getrlimit(2).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are assumed to be open where /proc does not show them.
const OPEN_COUNT_DEFAULT: u64 = 16;

/// The limit on descriptors does not allow as many as are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DescriptorShortage {
    /// The limit that would suffice.
    pub needed_count: u64,
    /// The limit, which only root may raise.
    pub limit_count: u64,
}

/// Makes sure that this process may open `count` more descriptors. Raises its soft limit if that is
/// too low.
pub fn reserve_descriptors(count: u64) -> Result<(), DescriptorShortage> {
    allow_descriptors(open_count().saturating_add(count))
}

/// Makes sure that this process may have `needed_count` descriptors. Raises its soft limit if that
/// is too low.
pub fn allow_descriptors(needed_count: u64) -> Result<(), DescriptorShortage> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No number means no limit.
    let Some(soft_count) = current.filter(|soft_count| *soft_count < needed_count) else {
        return Ok(());
    };
    let limit_count = maximum.unwrap_or(u64::MAX);
    let wanted = Rlimit { current: Some(needed_count), maximum };
    if needed_count <= limit_count && setrlimit(Resource::Nofile, wanted).is_ok() {
        return Ok(());
    }
    Err(DescriptorShortage { needed_count, limit_count: limit_count.max(soft_count) })
}

/// The number of descriptors that this process may have, if it raises its soft limit.
pub fn descriptor_count_max() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// The number of open descriptors.
pub fn open_count() -> u64 {
    // The directory itself takes one while it is read: it is counted, too.
    std::fs::read_dir("/proc/self/fd").map_or(OPEN_COUNT_DEFAULT, |entries| entries.count() as u64)
}

/// Whether the address space has a limit (`ulimit -v`).
pub fn is_address_space_limited() -> bool {
    getrlimit(Resource::As).current.is_some()
}

/// Whether the memory that may be locked has a limit (`ulimit -l`). Before Linux 5.11, maps and
/// programs of BPF count as locked memory.
pub fn is_locked_memory_limited() -> bool {
    getrlimit(Resource::Memlock).current.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such limits")]
    fn what_no_limit_allows_is_told_with_what_would_suffice() {
        assert!(open_count() >= 3);
        assert_eq!(reserve_descriptors(0), Ok(()));
        let Some(limit_count) = getrlimit(Resource::Nofile).maximum else { return };
        let shortage = reserve_descriptors(limit_count).expect_err("some are open already");
        assert_eq!(shortage.limit_count, limit_count);
        assert!(shortage.needed_count > limit_count);
    }
}
