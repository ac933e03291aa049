//! Why a live capture cannot begin. Each message says what to do.

use std::io;

use crate::sys::limits::DescriptorShortage;
use crate::sys::privileges::{self, CAP_NET_RAW, has_capability};
use crate::sys::program::LoadError;
use crate::sys::{kernel, limits, words_of};

/// The oldest kernel that has all that the filter needs.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// The first kernel that does not count the memory of BPF as locked memory.
const NO_MEMLOCK_KERNEL: (u32, u32) = (5, 11);

/// Why a live capture cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LiveOpenError {
    /// No such interface.
    #[error("there is no interface {name}; there are: {known}, and `any` for all of them")]
    NoInterface {
        /// The name the user gave.
        name: String,
        /// The names of the interfaces that exist.
        known: String,
    },
    /// The interface is down.
    #[error("interface {name} is down; bring it up with: ip link set {name} up")]
    Down {
        /// Its name.
        name: String,
    },
    /// A capability is missing.
    #[error("{capability} is missing, which {purpose} requires; {}", how_to_gain())]
    Permission {
        /// Its name, as in capabilities(7).
        capability: &'static str,
        /// What needs it.
        purpose: &'static str,
    },
    /// The capabilities are those of a user namespace.
    #[error(
        "{purpose} requires a capability of the host's root, which a user namespace (rootless \
         container, unshare -U) cannot give; run httplines outside of it"
    )]
    UserNamespace {
        /// What needs the capability.
        purpose: &'static str,
    },
    /// A seccomp filter forbids a system call.
    #[error(
        "a seccomp filter forbids {call}; allow {allow} of the container (docker run \
         --security-opt seccomp=PROFILE; in Kubernetes seccompProfile), or in that of the \
         service (systemd: {unit})"
    )]
    Seccomp {
        /// The call.
        call: &'static str,
        /// What to allow, in the profile of a container.
        allow: &'static str,
        /// The setting of a systemd unit.
        unit: &'static str,
    },
    /// The capabilities are there, and nothing else that we know of forbids it.
    #[error(
        "the kernel forbids {purpose} although no capability is missing; a security module \
         (SELinux, AppArmor) may be the reason: see the kernel's log (dmesg)"
    )]
    Forbidden {
        /// What is forbidden.
        purpose: &'static str,
    },
    /// The limit on locked memory, before Linux 5.11.
    #[error(
        "the limit on locked memory is too low for the filter's tables; raise it with: \
         ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)"
    )]
    LockedMemory,
    /// The kernel is too old.
    #[error(
        "httplines needs Linux 5.10 or later to capture, and this is {release}, which rejects the \
         filter ({detail}); here it can only read files: -r FILE"
    )]
    OldKernel {
        /// The kernel's release.
        release: String,
        /// The failed step, and the kernel's error.
        detail: String,
    },
    /// The kernel was built without bpf(2).
    #[error(
        "this kernel lacks bpf(2) (it was built without CONFIG_BPF_SYSCALL), which capturing \
         requires; here httplines can only read files: -r FILE"
    )]
    NoBpf,
    /// A kernel that should accept the filter rejects it.
    #[error(
        "Linux {release} rejects the filter ({detail}), which it should accept: please report this \
         line; here httplines can only read files: -r FILE"
    )]
    Rejected {
        /// The kernel's release.
        release: String,
        /// The failed step, and the kernel's error.
        detail: String,
    },
    /// There is no memory for the maps of the filter.
    #[error(
        "there is no memory for the filter's tables ({detail}); raise the memory limit of the \
         container or service (systemd: MemoryMax=) or of the shell (ulimit -v), or make the \
         tables smaller with --sessions"
    )]
    FilterMemory {
        /// The failed step, and the kernel's error.
        detail: String,
    },
    /// The limit on open files is too low.
    #[error(
        "this capture needs {} open files, and the limit is {}; raise it with: ulimit -n {} \
         (systemd: LimitNOFILE={}), or use fewer --shards",
        .0.needed_count, .0.limit_count, .0.needed_count, .0.needed_count
    )]
    Descriptors(DescriptorShortage),
    /// The kernel has no packet sockets.
    #[error(
        "this kernel lacks packet sockets (CONFIG_PACKET), on which capturing is based; if they \
         are a module, load it with: modprobe af_packet"
    )]
    NoPacketSockets,
    /// The kernel does not allow a fanout group with as many members.
    #[error("this kernel allows only {limit} shards; use: --shards {limit}")]
    Shards {
        /// As many as it allows.
        limit: usize,
    },
    /// The rings do not fit into the available memory.
    #[error(
        "the rings need {needed_mib} MiB of memory (shards: {shard_count}, interfaces: \
         {interface_count}, each ring: {ring_mib} MiB), and {available_mib} MiB are free; make \
         them smaller with -B, in KiB, or use fewer --shards"
    )]
    Memory {
        /// Size of one ring.
        ring_mib: u64,
        /// Size of all rings.
        needed_mib: u64,
        /// The memory that the kernel could give.
        available_mib: u64,
        /// Number of shards.
        shard_count: u64,
        /// Number of interfaces.
        interface_count: u64,
    },
    /// The kernel refuses the memory for a ring.
    #[error(
        "the kernel has no memory for a ring of {ring_mib} MiB (there is one for each shard and \
         interface); make them smaller with -B, in KiB, or use fewer --shards{}",
        address_space_advice()
    )]
    RingMemory {
        /// Size of one ring.
        ring_mib: u64,
    },
    /// The interfaces cannot be listed.
    #[error("cannot list the interfaces: {}", words_of(.0))]
    Interfaces(#[source] io::Error),
    /// A call failed for a reason for which we have no advice.
    #[error("cannot capture from {iface}: cannot {step}: {}", words_of(source))]
    Socket {
        /// The interface.
        iface: String,
        /// What failed.
        step: &'static str,
        /// The error from the kernel.
        source: io::Error,
    },
}

/// How to gain all capabilities of which a capture makes use: capabilities(7), setcap(8).
pub(super) fn how_to_gain() -> String {
    if privileges::is_root() {
        // Where root lacks them, they were taken from it.
        return "add it to the container (docker run --cap-add NET_RAW --cap-add BPF --cap-add \
                PERFMON) or to the service (systemd: CapabilityBoundingSet=), since root lacks it"
            .into();
    }
    let program = match std::env::current_exe() {
        Ok(path) => path.display().to_string(),
        Err(_) => "$(command -v httplines)".into(),
    };
    format!("run as root, or once: sudo setcap cap_net_raw,cap_bpf,cap_perfmon+ep {program}")
}

/// What else to say where memory cannot be mapped.
fn address_space_advice() -> &'static str {
    match limits::is_address_space_limited() {
        true => ", or raise the limit on the address space with: ulimit -v unlimited",
        false => "",
    }
}

impl LiveOpenError {
    /// Whether more privileges would help: exit code 3.
    pub fn is_permission(&self) -> bool {
        matches!(
            self,
            LiveOpenError::Permission { .. }
                | LiveOpenError::UserNamespace { .. }
                | LiveOpenError::Seccomp { .. }
                | LiveOpenError::Forbidden { .. }
        )
    }

    fn permission(capability: &'static str, purpose: &'static str) -> LiveOpenError {
        LiveOpenError::Permission { capability, purpose }
    }

    /// For a call on a packet socket of `iface` that failed.
    pub(super) fn from_socket(step: &'static str, iface: &str, source: io::Error) -> LiveOpenError {
        const PURPOSE: &str = "the capture socket";
        const SECCOMP: LiveOpenError = LiveOpenError::Seccomp {
            call: "packet sockets",
            allow: "socket(2) with AF_PACKET in the profile",
            unit: "RestrictAddressFamilies=AF_PACKET and others",
        };
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) if !has_capability(CAP_NET_RAW) => {
                LiveOpenError::permission("CAP_NET_RAW", PURPOSE)
            }
            Some(libc::EPERM) if privileges::is_in_user_namespace() => {
                LiveOpenError::UserNamespace { purpose: PURPOSE }
            }
            Some(libc::EPERM | libc::EAFNOSUPPORT) if privileges::has_seccomp_filter() => SECCOMP,
            Some(libc::EPERM | libc::EACCES) => LiveOpenError::Forbidden { purpose: PURPOSE },
            Some(libc::EAFNOSUPPORT) => LiveOpenError::NoPacketSockets,
            Some(libc::ENETDOWN) => LiveOpenError::Down { name: iface.to_string() },
            _ => LiveOpenError::Socket { iface: iface.to_string(), step, source },
        }
    }

    /// For a program or a map that could not be loaded.
    pub(super) fn from_filter(source: LoadError) -> LiveOpenError {
        let detail = source.to_string();
        match source.errno() {
            Some(libc::EPERM | libc::EACCES) => LiveOpenError::from_refusal(source),
            Some(libc::ENOMEM) => LiveOpenError::FilterMemory { detail },
            Some(errno @ (libc::EMFILE | libc::ENFILE)) => LiveOpenError::Socket {
                iface: "any interface".into(),
                step: "load the filter",
                source: io::Error::from_raw_os_error(errno),
            },
            Some(libc::ENOSYS) if privileges::has_seccomp_filter() => SECCOMP_BPF,
            _ if kernel::is_older_than(OLDEST_KERNEL) => LiveOpenError::old_kernel(detail),
            Some(libc::ENOSYS) => LiveOpenError::NoBpf,
            _ => LiveOpenError::Rejected { release: kernel::release(), detail },
        }
    }

    /// For EPERM, which has many reasons, and EACCES, which is from the verifier or from a security
    /// module.
    fn from_refusal(source: LoadError) -> LiveOpenError {
        const PURPOSE: &str = "the kernel filter";
        if !privileges::may_load_programs() {
            return LiveOpenError::permission("CAP_BPF", PURPOSE);
        }
        if source.errno() == Some(libc::EPERM) {
            if privileges::is_in_user_namespace() {
                return LiveOpenError::UserNamespace { purpose: PURPOSE };
            }
            if privileges::has_seccomp_filter() {
                return SECCOMP_BPF;
            }
            if kernel::is_older_than(NO_MEMLOCK_KERNEL) && limits::is_locked_memory_limited() {
                return LiveOpenError::LockedMemory;
            }
        }
        let detail = source.to_string();
        if kernel::is_older_than(OLDEST_KERNEL) {
            return LiveOpenError::old_kernel(detail);
        }
        if !privileges::is_trusted() {
            return LiveOpenError::permission("CAP_PERFMON", "the filter on this kernel");
        }
        match source.errno() {
            Some(libc::EPERM) => LiveOpenError::Forbidden { purpose: PURPOSE },
            _ => LiveOpenError::Rejected { release: kernel::release(), detail },
        }
    }

    fn old_kernel(detail: String) -> LiveOpenError {
        LiveOpenError::OldKernel { release: kernel::release(), detail }
    }
}

const SECCOMP_BPF: LiveOpenError = LiveOpenError::Seccomp {
    call: "bpf(2), which loads the kernel filter",
    allow: "bpf in the profile",
    unit: "SystemCallFilter=bpf and others",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_rejects_the_filter_is_no_matter_of_privileges() {
        for (errno, says) in [
            (libc::EINVAL, "(Invalid argument), which it should accept: please report this line"),
            (libc::ENOSYS, "CONFIG_BPF_SYSCALL"),
        ] {
            if errno == libc::ENOSYS && privileges::has_seccomp_filter() {
                continue;
            }
            let error = LiveOpenError::from_filter(LoadError::of_errno(errno));
            assert!(!error.is_permission());
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn a_ring_without_memory_says_how_large_it_was() {
        let error = LiveOpenError::RingMemory { ring_mib: 64 };
        assert!(error.to_string().contains("a ring of 64 MiB"), "{error}");
    }
}
