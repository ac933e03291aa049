//! The CPUs that this process may use, and pinning to one of them: sched_setaffinity(2).

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

/// Pins the calling thread to `cpu`. Returns `false` if the kernel refuses; nothing has changed
/// then.
pub fn pin_to(cpu: CpuId) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_its_cpu_only() {
        let last = *allowed_cpus().last().expect("some CPU runs this");
        let seen = std::thread::spawn(move || (pin_to(last), allowed_cpus())).join().unwrap();
        assert_eq!(seen, (true, vec![last]));
    }
}
