//! The rest of the machine: its clock, the limit on open files, and whether it is a container.

use super::row::{Check, Row};
use httplines::capture::live::LiveCapture;
use httplines::sys::clock::{self, ClockState};
use httplines::sys::interface::InterfaceDetails;
use httplines::sys::limits;
use std::path::Path;

/// From this error on, times of several hosts cannot be compared well.
const ERROR_US_NOTED: u64 = 500_000;

/// So many descriptors suffice for nearly all machines.
const DESCRIPTORS_USUAL: u64 = 4096;

/// Files and variables by which container engines tell that they are there.
const CONTAINER_FILES: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
const CONTAINER_VARIABLES: [&str; 2] = ["container", "KUBERNETES_SERVICE_HOST"];

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    clock: Option<ClockState>,
    /// Descriptors that a run needs, and that it may have.
    needed_count: u64,
    limit_count: u64,
    is_container: bool,
    /// All interfaces but loopback are ends of veth pairs whose other ends are elsewhere.
    /// `None`: not known.
    has_own_network: Option<bool>,
}

/// Asks the kernel, for a run on `interface_count` of the interfaces that are `present`, if
/// that is known.
pub fn gather(
    present: Option<&[InterfaceDetails]>,
    shard_count: u16,
    interface_count: usize,
) -> Facts {
    let variable = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_container = CONTAINER_FILES.iter().any(|path| Path::new(path).exists())
        || CONTAINER_VARIABLES.iter().any(variable);
    Facts {
        clock: clock::state().ok(),
        needed_count: LiveCapture::descriptor_count(shard_count, interface_count.max(1)),
        limit_count: limits::descriptor_count_max(),
        is_container,
        has_own_network: present.map(has_own_network),
    }
}

fn has_own_network(present: &[InterfaceDetails]) -> bool {
    let mut others = present.iter().filter(|it| !it.interface.is_loopback && it.interface.is_up);
    let is_end = |it: &InterfaceDetails| it.kind.as_deref() == Some("veth") && it.is_link_elsewhere;
    others.all(is_end)
}

impl Facts {
    /// A run needs more descriptors than it may have.
    pub fn is_descriptor_short(&self) -> bool {
        self.needed_count > self.limit_count
    }
}

/// The rows.
pub fn judge(facts: &Facts) -> Vec<Row> {
    vec![clock(facts), timestamps(), open_files(facts), container(facts)]
}

fn clock(facts: &Facts) -> Row {
    let check = Check::Clock;
    match facts.clock {
        None => Row::note(check, "not seen: adjtimex(2) is not allowed here"),
        Some(ClockState { is_synchronised: false, .. }) => {
            Row::note(check, "not synchronised: times cannot be compared with those of other hosts")
                .advise("sudo apt install chrony, or sudo timedatectl set-ntp true")
        }
        Some(ClockState { error_us_max, .. }) => {
            let finding = format!("synchronised, wrong by at most {} ms", error_us_max / 1000);
            match error_us_max {
                ..ERROR_US_NOTED => Row::ok(check, finding),
                _ => Row::note(check, finding)
                    .advise("chronyc tracking, or timedatectl timesync-status"),
            }
        }
    }
}

fn timestamps() -> Row {
    Row::note(
        Check::Timestamps,
        "taken by the kernel when it receives a frame; those of the NIC are not used",
    )
}

fn open_files(facts: &Facts) -> Row {
    let Facts { needed_count, limit_count, .. } = *facts;
    let limit = match limit_count {
        u64::MAX => "no limit".to_string(),
        limit => format!("a limit of {limit}"),
    };
    let finding = format!("{limit}; a run needs {needed_count}");
    // Only root can raise a hard limit; the shell's is inherited.
    let wanted = needed_count.max(DESCRIPTORS_USUAL);
    match facts.is_descriptor_short() {
        true => Row::wrong(Check::OpenFiles, finding)
            .advise(format!("sudo prlimit --pid $$ --nofile={wanted}"))
            .advise(format!("or in the unit: LimitNOFILE={wanted}")),
        false => Row::ok(Check::OpenFiles, finding),
    }
}

fn container(facts: &Facts) -> Row {
    match (facts.is_container, facts.has_own_network) {
        (false, _) => Row::ok(Check::Container, "none"),
        (true, None) => Row::note(Check::Container, "one; whose network it has is not seen"),
        (true, Some(false)) => Row::ok(Check::Container, "one with the network of its host"),
        (true, Some(true)) => Row::note(
            Check::Container,
            "one with a network of its own: only its own traffic can be captured",
        )
        .advise("hostNetwork: true in the pod's spec, or docker run --network host"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Verdict::{Note, Ok, Wrong};
    use super::super::tests::said;
    use super::*;

    fn good() -> Facts {
        Facts {
            clock: Some(ClockState { is_synchronised: true, error_us_max: 1500 }),
            needed_count: 516,
            limit_count: 1024,
            is_container: false,
            has_own_network: Some(true),
        }
    }

    #[test]
    fn the_clock_may_be_wrong_or_unseen() {
        said(&judge(&good()), Check::Clock, Ok, "wrong by at most 1 ms");
        let of = |is_synchronised, error_us_max| Facts {
            clock: Some(ClockState { is_synchronised, error_us_max }),
            ..good()
        };
        said(&judge(&of(false, 0)), Check::Clock, Note, "apt install chrony");
        said(&judge(&of(true, 2_000_000)), Check::Clock, Note, "at most 2000 ms");
        said(&judge(&Facts { clock: None, ..good() }), Check::Clock, Note, "not seen");
        said(&judge(&good()), Check::Timestamps, Note, "by the kernel");
    }

    #[test]
    fn the_limit_on_open_files_must_suffice() {
        said(&judge(&good()), Check::OpenFiles, Ok, "a limit of 1024; a run needs 516");
        let facts = Facts { limit_count: 256, ..good() };
        said(&judge(&facts), Check::OpenFiles, Wrong, "LimitNOFILE=4096");
        said(&judge(&facts), Check::OpenFiles, Wrong, "sudo prlimit --pid $$ --nofile=4096");
        let facts = Facts { needed_count: 5000, ..facts };
        said(&judge(&facts), Check::OpenFiles, Wrong, "LimitNOFILE=5000");
        let facts = Facts { limit_count: u64::MAX, ..good() };
        said(&judge(&facts), Check::OpenFiles, Ok, "no limit");
    }

    #[test]
    fn a_container_sees_only_itself() {
        said(&judge(&good()), Check::Container, Ok, "none");
        let facts = Facts { is_container: true, ..good() };
        said(&judge(&facts), Check::Container, Note, "hostNetwork: true");
        let facts = Facts { has_own_network: None, ..facts };
        said(&judge(&facts), Check::Container, Note, "is not seen");
        let facts = Facts { has_own_network: Some(false), ..facts };
        said(&judge(&facts), Check::Container, Ok, "network of its host");
    }
}
