//! The CPUs that this process may use, and pinning to one of them: sched_setaffinity(2).

use std::io;

/// A CPU, by the kernel's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct CpuId(pub usize);

/// The CPUs this process may run on, in ascending order; empty if the kernel does not report them.
/// A container or `taskset` may leave fewer than the machine has.
pub fn allowed_cpus() -> Vec<CpuId> {
    let mut cpus: Vec<CpuId> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| CpuId(core.id))
        .collect();
    cpus.sort_unstable();
    cpus
}

/// A number that exceeds the id of every CPU that the kernel can have: the size of its CPU sets, in
/// bits. Unlike the number of possible CPUs it can be learned where /sys is not mounted.
pub(super) fn cpu_id_bound() -> io::Result<usize> {
    let mut set = [0u64; 1024];
    // SAFETY: the kernel writes no more than the size that is passed with `set`.
    let written_bytes = unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&set), set.as_mut_ptr())
    };
    match usize::try_from(written_bytes) {
        Ok(bytes) => Ok(bytes * 8),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Pins the calling thread to `cpu`. Returns `false` if the kernel refuses; nothing has changed
/// then.
pub fn pin_to(cpu: CpuId) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system call")]
    fn no_cpu_is_beyond_the_bound() {
        let bound = cpu_id_bound().expect("the kernel tells");
        assert!(bound >= libbpf_rs::num_possible_cpus().expect("/sys is mounted"));
        assert!(allowed_cpus().iter().all(|cpu| cpu.0 < bound));
    }

    #[test]
    fn a_pinned_thread_may_use_its_cpu_only() {
        let last = *allowed_cpus().last().expect("some CPU runs this");
        let seen = std::thread::spawn(move || (pin_to(last), allowed_cpus())).join().unwrap();
        assert_eq!(seen, (true, vec![last]));
    }
}
