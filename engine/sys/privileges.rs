//! The privileges of this thread: its user, capabilities(7), and what makes these worthless:
//! user_namespaces(7), seccomp(2). And giving them up.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// CAP_NET_RAW, linux/capability.h: for packet sockets.
pub const CAP_NET_RAW: u32 = 13;
/// CAP_BPF: for maps and programs, since Linux 5.8. CAP_SYS_ADMIN includes it.
const CAP_BPF: u32 = 39;
/// CAP_PERFMON, linux/capability.h: with it the verifier skips its guards against speculation.
pub const CAP_PERFMON: u32 = 38;

/// It included all rights on BPF before CAP_BPF and CAP_PERFMON existed, and still does.
const CAP_SYS_ADMIN: u32 = 21;

/// Empties the set of capabilities that a program could gain: prctl(2), PR_CAPBSET_DROP. Without
/// CAP_SETPCAP it stays as it is, and `no_new_privs` has the same effect.
pub fn empty_bounding_set() {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // EINVAL: the kernel knows no more capabilities. EPERM: CAP_SETPCAP is missing.
        if remove_capability_from_bounding_set(capability).is_err() {
            return;
        }
    }
}

/// Gives up all capabilities of this thread. What it starts gains none (`no_new_privs`), and its
/// memory goes into no core file and is shown to no other process of the same user (PR_SET_DUMPABLE
/// of prctl(2)).
pub fn give_up_all() -> io::Result<()> {
    match clear_ambient_capability_set() {
        // Before Linux 4.3.
        Err(Errno::INVAL) => {}
        result => result?,
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// This process has become another user than root.
static WAS_ROOT: AtomicBool = AtomicBool::new(false);

/// This process, which was root, becomes another user.
pub(super) fn remember_root() {
    WAS_ROOT.store(true, Ordering::Relaxed);
}

/// Whether root started this process, whatever user it has become.
pub fn is_or_was_root() -> bool {
    is_root() || WAS_ROOT.load(Ordering::Relaxed)
}

/// Whether this process acts as root, or as the root of its user namespace.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this thread has a capability in effect, by its number. If that is unknown, assume so.
pub fn has_capability(number: u32) -> bool {
    let mask = status("CapEff:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.is_none_or(|mask| mask & 1 << number != 0)
}

/// Whether the capabilities of this thread let it load programs into the kernel.
pub fn may_load_programs() -> bool {
    has_capability(CAP_BPF) || has_capability(CAP_SYS_ADMIN)
}

/// Whether a seccomp filter decides on the system calls of this thread.
pub fn has_seccomp_filter() -> bool {
    /// SECCOMP_MODE_FILTER, linux/seccomp.h.
    const MODE_FILTER: &str = "2";
    status("Seccomp:").is_some_and(|mode| mode == MODE_FILTER)
}

/// Whether this process is in a user namespace other than the first one. The kernel ignores the
/// capabilities of such a namespace where they are not about the namespace itself, as with bpf(2).
pub fn is_in_user_namespace() -> bool {
    /// PROC_USER_INIT_INO, linux/proc_ns.h: the first one has this number on every machine.
    const FIRST: &str = "user:[4026531837]";
    std::fs::read_link("/proc/thread-self/ns/user").is_ok_and(|name| name.as_os_str() != FIRST)
}

/// The value of a line of this thread's status, proc(5).
fn status(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_string())
}

/// Whether the verifier skips its speculation guards for programs of this thread.
pub fn is_trusted() -> bool {
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
