//! What the kernel can do.

use super::row::{Check, Row};
use httplines::sys::landlock::{self, Enforced};
use httplines::sys::uring::Uring;
use httplines::sys::{kernel, privileges, seccomp};
use std::path::Path;

/// The oldest kernel that has all that the filter needs.
const OLDEST: (u32, u32) = (5, 10);

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    release: String,
    is_too_old: bool,
    /// The value of net.core.bpf_jit_enable, which only the first network namespace shows.
    jit: Option<u64>,
    /// The kernel's settings can be read at all.
    has_settings: bool,
    /// Why no io_uring can be made, as an error number, if that is so.
    uring_errno: Option<i32>,
    /// The value of kernel.io_uring_disabled, since Linux 6.6.
    uring_disabled: Option<u64>,
    landlock: Enforced,
    has_seccomp: bool,
    /// A filter of a container or service decides already on this process.
    has_seccomp_filter: bool,
}

/// Asks the kernel.
pub fn gather() -> Facts {
    Facts {
        release: kernel::release(),
        is_too_old: kernel::is_older_than(OLDEST),
        jit: super::number_in("/proc/sys/net/core/bpf_jit_enable"),
        has_settings: Path::new("/proc/sys/net/core").is_dir(),
        uring_errno: Uring::new().err().map(|error| error.raw_os_error().unwrap_or_default()),
        uring_disabled: super::number_in("/proc/sys/kernel/io_uring_disabled"),
        landlock: landlock::available(),
        has_seccomp: seccomp::is_available(),
        has_seccomp_filter: privileges::has_seccomp_filter(),
    }
}

/// The rows.
pub fn judge(facts: &Facts) -> Vec<Row> {
    vec![release(facts), jit(facts), uring(facts), landlock(facts), seccomp(facts)]
}

fn release(facts: &Facts) -> Row {
    let release = &facts.release;
    match facts.is_too_old {
        false => Row::ok(Check::Kernel, format!("Linux {release}; 5.10 or later is needed")),
        true => Row::wrong(
            Check::Kernel,
            format!("Linux {release}: capturing needs 5.10 or later; files can be read: -r FILE"),
        )
        .advise("boot a newer kernel"),
    }
}

fn jit(facts: &Facts) -> Row {
    match facts.jit {
        Some(0) => Row::wrong(Check::Jit, "off: the filter is interpreted for every frame")
            .advise("sudo sysctl -w net.core.bpf_jit_enable=1"),
        Some(_) => Row::ok(Check::Jit, "on"),
        None if !facts.has_settings => {
            Row::note(Check::Jit, "not seen: /proc/sys/net/core is not there")
        }
        None => Row::note(
            Check::Jit,
            "not seen: only the first network namespace shows net.core.bpf_jit_enable",
        ),
    }
}

fn uring(facts: &Facts) -> Row {
    let Some(errno) = facts.uring_errno else {
        return Row::ok(Check::Uring, "can be used");
    };
    let instead = "plain writes are used instead, which lose nothing";
    match (facts.uring_disabled, errno) {
        (Some(value @ 1..), libc::EPERM) => {
            Row::note(Check::Uring, format!("kernel.io_uring_disabled is {value}: {instead}"))
                .advise("sudo sysctl -w kernel.io_uring_disabled=0")
        }
        (_, libc::EPERM | libc::EACCES | libc::ENOSYS) if facts.has_seccomp_filter => Row::note(
            Check::Uring,
            format!("a seccomp filter of the container or service forbids it: {instead}"),
        )
        .advise("allow io_uring_setup, io_uring_enter and io_uring_register in its profile"),
        _ => {
            let error = super::words(errno);
            Row::note(Check::Uring, format!("cannot be used ({error}): {instead}"))
        }
    }
}

fn landlock(facts: &Facts) -> Row {
    let row = match facts.landlock.lack() {
        None => return Row::ok(Check::Landlock, "files, TCP and signals can be restricted"),
        Some(lack) => Row::note(Check::Landlock, lack),
    };
    match facts.landlock {
        Enforced::SwitchedOff => {
            row.advise("add landlock to lsm= on the kernel's command line, and reboot")
        }
        _ => row,
    }
}

fn seccomp(facts: &Facts) -> Row {
    match (facts.has_seccomp, facts.has_seccomp_filter) {
        (true, false) => Row::ok(Check::Seccomp, "system calls can be restricted"),
        (true, true) => Row::ok(
            Check::Seccomp,
            "system calls can be restricted; a filter of a container or service is on already",
        ),
        (false, _) => Row::note(
            Check::Seccomp,
            "cannot be used here: a run does not restrict its system calls, and says so",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Verdict::{Note, Ok, Wrong};
    use super::super::tests::said;
    use super::*;

    fn good() -> Facts {
        Facts {
            release: "6.12.1".into(),
            is_too_old: false,
            jit: Some(1),
            has_settings: true,
            uring_errno: None,
            uring_disabled: Some(0),
            landlock: Enforced::All,
            has_seccomp: true,
            has_seccomp_filter: false,
        }
    }

    #[test]
    fn a_new_kernel_has_all() {
        assert!(judge(&good()).iter().all(|row| row.verdict == Ok));
    }

    #[test]
    fn an_old_kernel_is_wrong() {
        let rows = judge(&Facts { is_too_old: true, release: "5.4.0".into(), ..good() });
        said(&rows, Check::Kernel, Wrong, "Linux 5.4.0: capturing needs 5.10");
    }

    #[test]
    fn the_jit_may_be_off_or_unseen() {
        said(&judge(&Facts { jit: Some(0), ..good() }), Check::Jit, Wrong, "bpf_jit_enable=1");
        let unseen = Facts { jit: None, ..good() };
        said(&judge(&unseen), Check::Jit, Note, "not seen: only the first network namespace");
        let without = Facts { has_settings: false, ..unseen };
        said(&judge(&without), Check::Jit, Note, "not seen: /proc/sys/net/core is not there");
    }

    #[test]
    fn why_io_uring_cannot_be_used_is_said() {
        let refused = Facts { uring_errno: Some(libc::EPERM), ..good() };
        let by_sysctl = Facts { uring_disabled: Some(2), ..refused.clone() };
        said(&judge(&by_sysctl), Check::Uring, Note, "sysctl -w kernel.io_uring_disabled=0");
        let by_seccomp = Facts { has_seccomp_filter: true, ..refused.clone() };
        said(&judge(&by_seccomp), Check::Uring, Note, "allow io_uring_setup");
        let old = Facts { uring_errno: Some(libc::EINVAL), uring_disabled: None, ..good() };
        said(&judge(&old), Check::Uring, Note, "(Invalid argument): plain writes");
    }

    #[test]
    fn what_the_sandbox_lacks_is_said() {
        let off = Facts { landlock: Enforced::SwitchedOff, ..good() };
        said(&judge(&off), Check::Landlock, Note, "add landlock to lsm=");
        let old = Facts { landlock: Enforced::Version(2), ..good() };
        said(&judge(&old), Check::Landlock, Note, "restricts files, but not TCP");
        let none = Facts { landlock: Enforced::Nothing, ..good() };
        said(&judge(&none), Check::Landlock, Note, "no Landlock");
        let without = Facts { has_seccomp: false, ..good() };
        said(&judge(&without), Check::Seccomp, Note, "cannot be used");
        let within = Facts { has_seccomp_filter: true, ..good() };
        said(&judge(&within), Check::Seccomp, Ok, "is on already");
    }
}
