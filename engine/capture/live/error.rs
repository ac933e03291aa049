//! Why a live capture cannot begin, in sentences that say what to do.

use std::io;

/// Why a live capture cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such interface.
    #[error("there is no interface {name}; there are: {known}, and any for all of them")]
    NoInterface {
        /// What was asked for.
        name: String,
        /// The names there are.
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
        "{capability} is missing, which {purpose} needs; run as root, or once: \
         sudo setcap cap_net_raw,cap_bpf+ep $(command -v httplines)"
    )]
    Permission {
        /// Its name, as in capabilities(7).
        capability: &'static str,
        /// What needs it.
        purpose: &'static str,
    },
    /// The kernel does not take the filter.
    #[error(
        "the kernel does not take the filter ({detail}); httplines needs Linux 5.10 or later, \
         built with CONFIG_BPF_SYSCALL; here it can only read files: -r FILE"
    )]
    Kernel {
        /// What libbpf said.
        detail: String,
    },
    /// There is no memory for a ring.
    #[error(
        "the kernel has no memory for a ring of {mebibytes} MiB (there is one for each shard and \
         interface); make them smaller with -B, or use fewer --shards"
    )]
    RingMemory {
        /// Size of one ring.
        mebibytes: u64,
    },
    /// The interfaces cannot be listed.
    #[error("cannot list the interfaces: {0}")]
    Interfaces(#[source] io::Error),
    /// A call failed for a reason that we have no advice for.
    #[error("cannot capture from {iface}: {source}")]
    Socket {
        /// The interface.
        iface: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl OpenError {
    /// Whether more privileges would help: exit code 3.
    pub fn is_permission(&self) -> bool {
        matches!(self, OpenError::Permission { .. })
    }

    pub(super) fn from_socket(iface: &str, source: io::Error) -> OpenError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                OpenError::Permission { capability: "CAP_NET_RAW", purpose: "the capture socket" }
            }
            io::ErrorKind::NetworkDown => OpenError::Down { name: iface.to_string() },
            _ => OpenError::Socket { iface: iface.to_string(), source },
        }
    }

    pub(super) fn from_filter(source: libbpf_rs::Error) -> OpenError {
        match source.kind() {
            libbpf_rs::ErrorKind::PermissionDenied => {
                OpenError::Permission { capability: "CAP_BPF", purpose: "the kernel filter" }
            }
            // The chain of causes, the kernel's word last.
            _ => OpenError::Kernel { detail: format!("{source:#}") },
        }
    }
}
