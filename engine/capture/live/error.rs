//! Why a live capture cannot begin. Each message says what to do.

use std::io;

use crate::sys::filter::Filter;
use crate::sys::privileges::{CAP_PERFMON, has_capability};
use crate::sys::program::LoadError;

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
    #[error(
        "{capability} is missing, which {purpose} requires; run as root, or once: \
         {}",
        setcap_advice()
    )]
    Permission {
        /// Its name, as in capabilities(7).
        capability: &'static str,
        /// What needs it.
        purpose: &'static str,
    },
    /// The kernel rejects the filter.
    #[error(
        "the kernel rejects the filter ({detail}); httplines needs Linux 5.10 or later, \
         built with CONFIG_BPF_SYSCALL; here it can only read files: -r FILE"
    )]
    Kernel {
        /// The failed step, and the kernel's error.
        detail: String,
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
         interface); make them smaller with -B, in KiB, or use fewer --shards"
    )]
    RingMemory {
        /// Size of one ring.
        ring_mib: u64,
    },
    /// The interfaces cannot be listed.
    #[error("cannot list the interfaces: {0}")]
    Interfaces(#[source] io::Error),
    /// A call failed for a reason for which we have no advice.
    #[error("cannot capture from {iface}: {source}")]
    Socket {
        /// The interface.
        iface: String,
        /// The error from the kernel.
        source: io::Error,
    },
}

/// The command that gives this program all the capabilities that it makes use of: setcap(8).
pub(super) fn setcap_advice() -> String {
    let program = match std::env::current_exe() {
        Ok(path) => path.display().to_string(),
        Err(_) => "$(command -v httplines)".into(),
    };
    format!("sudo setcap cap_net_raw,cap_bpf,cap_perfmon+ep {program}")
}

impl LiveOpenError {
    /// Whether more privileges would help: exit code 3.
    pub fn is_permission(&self) -> bool {
        matches!(self, LiveOpenError::Permission { .. })
    }

    fn permission(capability: &'static str, purpose: &'static str) -> LiveOpenError {
        LiveOpenError::Permission { capability, purpose }
    }

    pub(super) fn from_socket(iface: &str, source: io::Error) -> LiveOpenError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                LiveOpenError::permission("CAP_NET_RAW", "the capture socket")
            }
            io::ErrorKind::NetworkDown => LiveOpenError::Down { name: iface.to_string() },
            _ => LiveOpenError::Socket { iface: iface.to_string(), source },
        }
    }

    pub(super) fn from_filter(source: LoadError) -> LiveOpenError {
        // A rejection by the verifier (EACCES) has the same error kind as EPERM.
        if source.is_permission() {
            if !Filter::is_permitted() {
                return LiveOpenError::permission("CAP_BPF", "the kernel filter");
            }
            if !has_capability(CAP_PERFMON) {
                return LiveOpenError::permission("CAP_PERFMON", "the filter on this kernel");
            }
        }
        // The errno after the kernel's message adds nothing.
        let detail = source.to_string();
        let words = detail.split(" (os error").next().unwrap_or_default();
        LiveOpenError::Kernel { detail: words.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_bpf_is_no_matter_of_privileges() {
        for errno in [libc::EINVAL, libc::ENOSYS] {
            let error = LiveOpenError::from_filter(LoadError::of_errno(errno));
            assert!(!error.is_permission());
            assert!(error.to_string().contains("Linux 5.10 or later"), "{error}");
        }
    }

    #[test]
    fn a_ring_without_memory_says_how_large_it_was() {
        let error = LiveOpenError::RingMemory { ring_mib: 64 };
        assert!(error.to_string().contains("a ring of 64 MiB"), "{error}");
    }
}
