//! Which CPUs this process may use, and staying on one of them: sched_setaffinity(2).

/// A CPU, by the kernel's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct CpuId(pub usize);

/// The CPUs this process may run on, in ascending order; empty where the kernel does not say. A
/// container or `taskset` may leave fewer than the machine has.
pub fn allowed_cpus() -> Vec<CpuId> {
    let mut cpus: Vec<CpuId> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| CpuId(core.id))
        .collect();
    cpus.sort_unstable();
    cpus
}

/// Keeps the calling thread on `cpu`; `false` where the kernel refuses, and then nothing has
/// changed.
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
