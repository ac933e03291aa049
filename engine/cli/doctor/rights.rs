//! The rights of a run that is started as this one was.

use super::row::{Check, Row, quoted};
use httplines::sys::packet_socket::PacketSocket;
use httplines::sys::privileges::{self, CAP_NET_RAW};
use httplines::sys::{kernel, limits};
use std::path::Path;

/// The first kernel that does not count the memory of BPF as locked memory.
const NO_MEMLOCK: (u32, u32) = (5, 11);

/// The capabilities of a file, xattr(7).
const FILE_CAPABILITIES: &str = "security.capability";

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    is_root: bool,
    has_net_raw: bool,
    may_load_programs: bool,
    is_trusted: bool,
    is_in_user_namespace: bool,
    has_seccomp_filter: bool,
    /// Why no packet socket can be opened, as an error number, if that is so.
    socket_errno: Option<i32>,
    /// The program's file has capabilities of its own.
    has_file_capabilities: bool,
    /// The program.
    program: String,
    counts_locked_memory: bool,
    is_locked_memory_limited: bool,
}

impl Facts {
    /// Whether a run could load the filter and open its sockets, as far as this is known.
    pub fn may_capture(&self) -> bool {
        self.socket_errno.is_none() && self.may_load_programs && !self.is_in_user_namespace
    }
}

/// Asks the kernel.
pub fn gather() -> Facts {
    let program = std::env::current_exe().ok();
    let has_file_capabilities = program.as_deref().is_some_and(has_capabilities);
    let socket = PacketSocket::open();
    Facts {
        is_root: privileges::is_root(),
        has_net_raw: privileges::has_capability(CAP_NET_RAW),
        may_load_programs: privileges::may_load_programs(),
        is_trusted: privileges::is_trusted(),
        is_in_user_namespace: privileges::is_in_user_namespace(),
        has_seccomp_filter: privileges::has_seccomp_filter(),
        socket_errno: socket.err().map(|error| error.raw_os_error().unwrap_or_default()),
        has_file_capabilities,
        program: program.map_or("$(command -v httplines)".into(), |path| quoted(path.display())),
        counts_locked_memory: kernel::is_older_than(NO_MEMLOCK),
        is_locked_memory_limited: limits::is_locked_memory_limited(),
    }
}

fn has_capabilities(program: &Path) -> bool {
    let mut value = [0; 64];
    rustix::fs::getxattr(program, FILE_CAPABILITIES, &mut value[..]).is_ok_and(|bytes| bytes > 0)
}

/// The rows.
pub fn judge(facts: &Facts) -> Vec<Row> {
    vec![net_raw(facts), bpf(facts), perfmon(facts), locked_memory(facts)]
}

/// A row with what to type to have the capabilities.
fn to_gain(facts: &Facts, row: Row) -> Row {
    if facts.is_root {
        // Where root lacks them, they were taken from it.
        return row
            .advise("docker run --cap-add NET_RAW --cap-add BPF --cap-add PERFMON ...")
            .advise("or in the unit: CapabilityBoundingSet=CAP_NET_RAW CAP_BPF CAP_PERFMON");
    }
    if facts.has_file_capabilities {
        return row.advise(
            "the program has capabilities without effect: see NoNewPrivileges=, and nosuid of its \
             file system",
        );
    }
    row.advise(format!("sudo setcap cap_net_raw,cap_bpf,cap_perfmon+ep {}", facts.program))
        .advise("or in the unit: AmbientCapabilities=CAP_NET_RAW CAP_BPF CAP_PERFMON")
}

fn net_raw(facts: &Facts) -> Row {
    let (check, is_refused) = (Check::NetRaw, facts.socket_errno.is_some());
    let Some(errno) = facts.socket_errno else {
        return Row::ok(check, "in effect: packet sockets can be opened");
    };
    if !facts.has_net_raw {
        return to_gain(facts, Row::wrong(check, "missing: no packet socket can be opened"));
    }
    if is_refused && facts.is_in_user_namespace {
        return in_user_namespace(check);
    }
    if facts.has_seccomp_filter {
        return Row::wrong(check, "in effect, but a seccomp filter forbids packet sockets")
            .advise("allow socket(2) with AF_PACKET in the container's profile")
            .advise("or in the unit: RestrictAddressFamilies=AF_PACKET and others");
    }
    let error = super::words(errno);
    Row::wrong(check, format!("in effect, but no packet socket can be opened: {error}"))
        .advise("sudo modprobe af_packet; sudo dmesg shows what a security module refused")
}

fn bpf(facts: &Facts) -> Row {
    match (facts.may_load_programs, facts.is_in_user_namespace) {
        (false, _) => to_gain(facts, Row::wrong(Check::Bpf, "missing: no filter can be loaded")),
        (true, true) => in_user_namespace(Check::Bpf),
        (true, false) => Row::ok(Check::Bpf, "in effect: the filter can be loaded"),
    }
}

fn in_user_namespace(check: Check) -> Row {
    Row::wrong(check, "only that of a user namespace, as in a rootless container: it has no effect")
        .advise("run httplines outside of the user namespace")
}

fn perfmon(facts: &Facts) -> Row {
    match facts.is_trusted {
        true if facts.is_in_user_namespace => {
            Row::note(Check::Perfmon, "only that of a user namespace: it has no effect")
        }
        true => Row::ok(Check::Perfmon, "in effect: the verifier needs no guards"),
        false => to_gain(
            facts,
            Row::note(
                Check::Perfmon,
                "missing: the start takes a second or more longer, and the filter is slower",
            ),
        ),
    }
}

fn locked_memory(facts: &Facts) -> Row {
    match (facts.counts_locked_memory, facts.is_locked_memory_limited) {
        (false, _) => Row::ok(Check::LockedMemory, "does not matter since Linux 5.11"),
        (true, false) => Row::ok(Check::LockedMemory, "not limited"),
        (true, true) => Row::wrong(
            Check::LockedMemory,
            "limited: before Linux 5.11 the filter's tables count as locked memory",
        )
        .advise("ulimit -l unlimited, or in the unit: LimitMEMLOCK=infinity"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Verdict::{Note, Ok, Wrong};
    use super::super::tests::said;
    use super::*;

    fn good() -> Facts {
        Facts {
            is_root: false,
            has_net_raw: true,
            may_load_programs: true,
            is_trusted: true,
            is_in_user_namespace: false,
            has_seccomp_filter: false,
            socket_errno: None,
            has_file_capabilities: true,
            program: "/usr/bin/httplines".into(),
            counts_locked_memory: false,
            is_locked_memory_limited: true,
        }
    }

    fn none() -> Facts {
        Facts {
            has_net_raw: false,
            may_load_programs: false,
            is_trusted: false,
            socket_errno: Some(libc::EPERM),
            has_file_capabilities: false,
            ..good()
        }
    }

    #[test]
    fn with_all_capabilities_all_is_ok() {
        assert!(judge(&good()).iter().all(|row| row.verdict == Ok) && good().may_capture());
    }

    #[test]
    fn a_missing_capability_says_how_to_gain_it() {
        let rows = judge(&none());
        let setcap = "sudo setcap cap_net_raw,cap_bpf,cap_perfmon+ep /usr/bin/httplines";
        said(&rows, Check::NetRaw, Wrong, setcap);
        said(&rows, Check::Bpf, Wrong, setcap);
        said(&rows, Check::Perfmon, Note, "the start takes a second or more longer");
        assert!(!none().may_capture());
        let root = judge(&Facts { is_root: true, ..none() });
        said(&root, Check::Bpf, Wrong, "docker run --cap-add NET_RAW");
        let useless = judge(&Facts { has_file_capabilities: true, ..none() });
        said(&useless, Check::NetRaw, Wrong, "NoNewPrivileges=");
    }

    #[test]
    fn capabilities_of_a_user_namespace_have_no_effect() {
        let facts = Facts { is_in_user_namespace: true, ..good() };
        said(&judge(&facts), Check::NetRaw, Ok, "can be opened");
        said(&judge(&facts), Check::Bpf, Wrong, "outside of the user namespace");
        said(&judge(&facts), Check::Perfmon, Note, "no effect");
        let facts = Facts { socket_errno: Some(libc::EPERM), ..facts };
        said(&judge(&facts), Check::NetRaw, Wrong, "rootless container");
    }

    #[test]
    fn sockets_may_be_refused_in_spite_of_the_capability() {
        let facts = Facts { socket_errno: Some(libc::EAFNOSUPPORT), ..good() };
        said(&judge(&facts), Check::NetRaw, Wrong, "modprobe af_packet");
        let facts = Facts { has_seccomp_filter: true, ..facts };
        said(&judge(&facts), Check::NetRaw, Wrong, "RestrictAddressFamilies=");
    }

    #[test]
    fn locked_memory_matters_on_old_kernels() {
        let facts = Facts { counts_locked_memory: true, ..good() };
        said(&judge(&facts), Check::LockedMemory, Wrong, "LimitMEMLOCK=infinity");
        let facts = Facts { is_locked_memory_limited: false, ..facts };
        said(&judge(&facts), Check::LockedMemory, Ok, "not limited");
    }
}
