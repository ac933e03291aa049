//! The seal: from now on no thread of this process makes other system calls than those it needs:
//! seccomp(2). Others get ENOSYS, for which the C library has another way, or an error.

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{self, Eq, Lt, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
};

mod calls;

use calls::Allowed;
pub use calls::{Call, Work, calls};

/// Why a process was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The kernel or a sandbox around this process refuses filters.
    #[error("{0}")]
    Refused(#[from] seccompiler::Error),
    /// The filter was accepted, and what it forbids is possible.
    #[error("the filter has no effect")]
    NoEffect,
}

impl From<BackendError> for SealError {
    fn from(error: BackendError) -> SealError {
        SealError::Refused(error.into())
    }
}

/// The descriptors of a process that matter to its seal.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    /// Packet sockets have descriptors from here on.
    pub packet_sockets: u32,
    /// The one on which connections are accepted, if there is one.
    pub listener: Option<u32>,
}

/// Seals all threads of this process, which must have `no_new_privs`.
pub fn seal(work: Work, descriptors: Descriptors) -> Result<(), SealError> {
    seccompiler::apply_filter_all_threads(&program(work, descriptors)?)?;
    // A probe.
    match socket(AddressFamily::UNIX, SocketType::STREAM, None) {
        Err(Errno::NOSYS) => Ok(()),
        _ => Err(SealError::NoEffect),
    }
}

/// Whether a process may be sealed here: the kernel has filters that answer with an error.
pub fn is_available() -> bool {
    let answer = libc::SECCOMP_RET_ERRNO;
    let (operation, none) = (libc::SECCOMP_GET_ACTION_AVAIL, 0);
    // SAFETY: the call reads the number, which lives through it, and changes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, operation, none, &raw const answer) };
    result == 0
}

/// The filter.
fn program(work: Work, descriptors: Descriptors) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::new();
    for call in calls().filter(|call| call.is_for(work)) {
        if let Some(of_call) = rules_of(call.allowed, work, descriptors)? {
            #[allow(clippy::useless_conversion)]
            rules.insert(call.number.into(), of_call);
        }
    }
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?.try_into()
}

/// The rules of which one must hold; none: the call is always allowed. `None`: it never is.
fn rules_of(
    allowed: Allowed,
    work: Work,
    descriptors: Descriptors,
) -> Result<Option<Vec<SeccompRule>>, BackendError> {
    let Descriptors { packet_sockets, listener } = descriptors;
    let is = |argument, operator: SeccompCmpOp, value: u64| {
        SeccompCondition::new(argument, Dword, operator, value)
    };
    let has_no = |argument, bits: u64| is(argument, MaskedEq(bits), 0);
    let has_all = |argument, bits: u64| is(argument, MaskedEq(bits), bits);
    let one_of = |argument, values: &[u64]| {
        let one = |value: &u64| Ok(vec![is(argument, Eq, *value)?]);
        values.iter().map(one).collect::<Result<Vec<_>, BackendError>>()
    };
    let executable = libc::PROT_EXEC as u64;
    let conditions = match allowed {
        Allowed::Always => return Ok(Some(Vec::new())),
        Allowed::NotOnPackets => vec![vec![is(0, Lt, packet_sockets.into())?]],
        Allowed::OfListener => match listener {
            Some(listener) => vec![vec![is(0, Eq, listener.into())?]],
            None => return Ok(None),
        },
        Allowed::BesideListener => match listener {
            Some(_) => vec![vec![is(0, Lt, packet_sockets.into())?]],
            None => return Ok(None),
        },
        Allowed::Memory => {
            let anonymous = has_all(3, libc::MAP_ANONYMOUS as u64)?;
            let of_nothing = vec![has_no(2, executable)?, anonymous];
            let of_file = vec![has_no(2, executable)?, is(4, Lt, packet_sockets.into())?];
            match work {
                Work::Capture | Work::TopCapture | Work::TopFollow => vec![of_nothing],
                Work::Files | Work::Report | Work::TopFiles => vec![of_nothing, of_file],
            }
        }
        Allowed::NotExecutable => vec![vec![has_no(2, executable)?]],
        Allowed::First(values) => one_of(0, values)?,
        Allowed::Second(values) => one_of(1, values)?,
        Allowed::ToItself => vec![vec![is(0, Eq, std::process::id().into())?]],
        Allowed::Thread => {
            let thread = libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND;
            vec![vec![has_all(0, thread as u64)?, has_no(0, NAMESPACES)?]]
        }
    };
    conditions.into_iter().map(SeccompRule::new).collect::<Result<_, _>>().map(Some)
}

/// The flags of clone(2) that make a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What was seen, and why a call is on the list that was not.
    const TRACED: &str = include_str!("../../tests/sealed/calls");

    #[test]
    fn the_lists_are_what_was_traced_and_what_the_c_library_may_need() {
        for work in Work::ALL {
            let rows = TRACED.lines().filter(|line| !line.starts_with('#'));
            let rows = rows.filter_map(|line| line.strip_prefix(work.name()));
            let told: BTreeSet<&str> =
                rows.filter_map(|row| row.split_whitespace().next()).collect();
            let allowed: BTreeSet<&str> =
                calls().filter(|call| call.is_for(work)).map(|call| call.name).collect();
            let missing: Vec<_> = told.difference(&allowed).collect();
            let unexplained: Vec<_> = allowed.difference(&told).collect();
            assert!(missing.is_empty(), "{work:?}: seen, and not on the list: {missing:?}");
            assert!(unexplained.is_empty(), "{work:?}: on the list, never seen: {unexplained:?}");
        }
    }

    #[test]
    fn the_programs_are_short() {
        for work in Work::ALL {
            let length = program(work, Descriptors { packet_sockets: 512, listener: Some(9) })
                .expect("the rules are sound")
                .len();
            assert!((100..600).contains(&length), "{work:?}: {length} instructions");
        }
    }
}
