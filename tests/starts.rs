//! Live captures that cannot start, or start slowly, because of where they run: limits, sandboxes,
//! old kernels. Each has a sentence of its own, and the sentence helps.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::{Duration, Instant};

    use httplines::sys::packet_socket::{FanoutKind, PacketSocket};

    use crate::commands::root::{exchange, start};
    use crate::commands::{check_all, is_progress, program, row};
    use crate::support::confine::{forbid, pretend_old_kernel};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;

    /// The program, started by another one with these arguments.
    fn by(launcher: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(launcher);
        command.args(arguments).arg(crate::httplines());
        command
    }

    /// The program, with system call `call` failing with `errno`.
    fn without(call: libc::c_long, errno: i32) -> Command {
        let mut command = program();
        forbid(&mut command, &[call], errno);
        command
    }

    /// Checks a capture on loopback, in a namespace of its own.
    fn check_one(code: i32, says: &'static str, make: impl Fn() -> Command + Send + 'static) {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        namespace.run(move || check_all(&[row("-i lo -o out.jsonl", code, says)], make));
    }

    #[test]
    fn too_few_descriptors() {
        for limit in ["--nofile=10:10", "--nofile=20:20", "--nofile=30:30"] {
            check_one(1, "raise it with: ulimit -n ", || by("prlimit", &[limit]));
        }
    }

    /// The advice is exact, and not needed where the hard limit suffices.
    #[test]
    fn enough_descriptors_are_those_that_the_sentence_names() {
        let Some((_client, namespace)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a temporary directory");
        let arguments = ["-i", "lo", "-i", "veth1", "--shards", "5", "-B", "2048"];
        let limited = |limit: &str| {
            let mut command = by("prlimit", &[limit]);
            command.args(arguments).args(["-o", "out.jsonl", "--output-per-shard"]);
            command.current_dir(place.path());
            command
        };
        let mut refused = limited("--nofile=10:10");
        let output = namespace.run(move || refused.output().expect("it runs"));
        let told = String::from_utf8_lossy(&output.stderr);
        let count = told.split("ulimit -n ").nth(1).and_then(|rest| rest.split(' ').next());
        let count: u64 = count.and_then(|count| count.parse().ok()).expect(&told);
        for limit in [format!("--nofile={count}:{count}"), format!("--nofile=10:{count}")] {
            let finished = start(&namespace, limited(&limit)).stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        }
        let too_few = count - 1;
        let mut refused = limited(&format!("--nofile={too_few}:{too_few}"));
        let output = namespace.run(move || refused.output().expect("it runs"));
        assert_eq!(output.status.code(), Some(1));
    }

    #[test]
    fn descriptors_and_memory_that_the_kernel_refuses() {
        let says = "there is no memory for the filter's tables";
        check_one(1, says, || without(libc::SYS_bpf, libc::ENOMEM));
        let says = "cannot load the filter: Too many open files in system";
        check_one(1, says, || without(libc::SYS_bpf, libc::ENFILE));
    }

    #[test]
    fn a_limit_on_the_address_space() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let says = "or raise the limit on the address space with: ulimit -v unlimited";
        let rows = [row("-i lo -B 1048576 --shards 1 -o out.jsonl", 1, says)];
        namespace.run(move || check_all(&rows, || by("prlimit", &["--as=900000000"])));
    }

    /// A control group whose processes may use 16 MiB of memory, less than the filter's tables
    /// take.
    struct SmallGroup(PathBuf);

    impl SmallGroup {
        fn new() -> Option<SmallGroup> {
            let name = format!("httplines-test-{}", std::process::id());
            // Version 1, then version 2.
            let places = [
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                ("/sys/fs/cgroup", "memory.max"),
            ];
            places.iter().find_map(|(place, limit)| {
                let path = Path::new(place).join(&name);
                std::fs::create_dir(&path).ok()?;
                let group = SmallGroup(path);
                std::fs::write(group.0.join(limit), "16777216").ok()?;
                Some(group)
            })
        }
    }

    impl Drop for SmallGroup {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn a_control_group_with_little_memory() {
        let Some(group) = SmallGroup::new() else { skip!("needs a memory control group") };
        let procs = group.0.join("cgroup.procs").display().to_string();
        check_one(1, "there is no memory for the filter's tables (", move || {
            let mut command = Command::new("sh");
            let script = format!("echo $$ > {procs} && exec \"$0\" \"$@\"");
            command.args(["-c", &script, crate::httplines()]);
            command
        });
    }

    #[test]
    fn sys_is_not_needed() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let script = "mount -t tmpfs none /sys && exec \"$0\" \"$@\"";
        let mut command = by("unshare", &["-m", "sh", "-c", script]);
        command.args(["-i", "veth1", "--shards", "2"]);
        let running = start(&server, command);
        let injector = client.run(|| Injector::new("veth0"));
        (0..20).for_each(|number| exchange(&injector, number));
        running.wait_for_lines(40);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(finished.stderr.contains("20 complete"), "{}", finished.stderr);
        assert!(finished.stderr.contains("is accounted for"), "{}", finished.stderr);
    }

    #[test]
    fn bpf_forbidden_by_seccomp() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let says = "a seccomp filter forbids bpf(2), which loads the kernel filter; allow bpf";
            check_one(3, says, move || without(libc::SYS_bpf, errno));
        }
    }

    #[test]
    fn an_old_kernel_is_told_by_its_version() {
        check_one(1, "needs Linux 5.10 or later to capture, and this is 2.6.", || {
            let mut command = without(libc::SYS_bpf, libc::EINVAL);
            pretend_old_kernel(&mut command);
            command
        });
        check_one(1, "rejects the filter (", || without(libc::SYS_bpf, libc::EINVAL));
    }

    #[test]
    fn capabilities_of_a_user_namespace() {
        let can = Command::new("unshare").args(["-Ur", "true"]).output();
        if !can.is_ok_and(|output| output.status.success()) {
            skip!("user namespaces are not allowed");
        }
        let says = "the capture socket requires a capability of the host's root";
        check_one(3, says, || by("unshare", &["-Ur"]));
        let script = "ip link set lo up && exec \"$0\" \"$@\"";
        let says = "the kernel filter requires a capability of the host's root";
        check_one(3, says, move || by("unshare", &["-Urn", "sh", "-c", script]));
    }

    #[test]
    fn root_without_capabilities() {
        let says = "(docker run --cap-add NET_RAW --cap-add BPF --cap-add PERFMON)";
        check_one(3, says, || by("setpriv", &["--inh-caps", "-all", "--bounding-set", "-all"]));
    }

    /// More members than a fanout group has by default.
    #[test]
    fn a_large_fanout_group() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        namespace.run(|| {
            let member = || {
                let socket = PacketSocket::open().expect("we are root");
                socket.bind(1).expect("loopback is up");
                socket
            };
            let first = member();
            let group = first.found_group(FanoutKind::Hash, 257);
            let Ok(group) = group else { skip!("needs a kernel with large fanout groups") };
            let others: Vec<PacketSocket> = (1..257).map(|_| member()).collect();
            others.iter().for_each(|other| other.join_group(group).expect("there is space"));
            assert!(member().join_group(group).is_err(), "the group is full");
        });
    }

    /// It takes long to open so many rings.
    #[test]
    fn a_slow_start_says_what_it_does() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let mut command = program();
        command.args(["-i", "lo", "--shards", "64", "-B", "2048"]);
        let begun = Instant::now();
        let running = start(&namespace, command);
        let is_slow = begun.elapsed() > Duration::from_secs(2);
        let told = running.stderr().to_string();
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(finished.stderr.contains("capturing on lo with 64 shards"), "{told}");
        let progress: Vec<&str> = told.lines().filter(|line| is_progress(line)).collect();
        assert!(!is_slow || !progress.is_empty(), "{told}");
        for line in progress {
            let is_known = line == "httplines: loading the filter into the kernel ..."
                || line == "httplines: opening 64 rings of 2 MiB ...";
            assert!(is_known, "{told}");
        }

        let mut command = program();
        command.args(["-q", "-i", "lo", "--shards", "32", "-B", "2048"]);
        let finished = start(&namespace, command).stop();
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    }
}
