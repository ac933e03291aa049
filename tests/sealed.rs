//! The sandbox: what a run still may do once the first packet is read, and what code that took it
//! over could not.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::lab::wait_until;

/// Skips a test of the sandbox in a run of all tests without one.
macro_rules! needs_sandbox {
    () => {
        if std::env::var_os("HTTPLINES_TEST_NO_SANDBOX").is_some() {
            $crate::support::skip::skip!(
                "needs the sandbox, which HTTPLINES_TEST_NO_SANDBOX switches off"
            );
        }
    };
}

/// A run that waits for the first byte is sealed, and has not opened its output.
#[test]
fn nothing_is_read_before_the_seal() {
    needs_sandbox!();
    let place = tempfile::tempdir().expect("a directory");
    let output = place.path().join("http.jsonl");
    let mut command = Command::new(crate::httplines());
    command.args(["-r", "-", "-o"]).arg(&output);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let status = format!("/proc/{}/status", child.id());
    let lines = || fs::read_to_string(&status).expect("it runs");
    wait_until("a seal", || lines().contains("\nSeccomp:\t2\n"));
    assert!(lines().contains("\nNoNewPrivs:\t1\n"));
    assert!(!output.exists());
    // gzip that is cut off.
    stdin.write_all(b"\x1f\x8b\x08\0\0\0").expect("it reads");
    drop(stdin);
    let done = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot read standard input: the gzip data ends too early"), "{told}");
    assert!(!output.exists());
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use httplines::sys::interface::index_of;
    use httplines::sys::packet_socket::PacketSocket;
    use rustix::net::{RecvFlags, recv};

    use crate::commands::root::exchange;
    use crate::support::fault_site::{FaultSite, numbers};
    use crate::support::lab::{Running, missing_program, wait_until};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;

    const NOBODY: u32 = 65_534;

    /// The lines of a thread's status, by name.
    fn status(path: &Path) -> BTreeMap<String, String> {
        let text = fs::read_to_string(path.join("status")).expect("it runs");
        let rows = text.lines().filter_map(|line| line.split_once(":\t"));
        rows.map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// The statuses of all threads.
    fn threads(running: &Running) -> Vec<BTreeMap<String, String>> {
        let tasks = format!("/proc/{}/task", running.pid());
        let tasks = fs::read_dir(tasks).expect("it runs");
        tasks.map(|task| status(&task.expect("a thread").path())).collect()
    }

    fn start(namespace: &Namespace, mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Running::new(namespace.run(move || command.spawn().expect("it starts")), "capturing on")
    }

    fn program(line: &str) -> Command {
        let mut command = Command::new(crate::httplines());
        command.args(["-B", "4096"]).args(line.split(' '));
        command
    }

    /// A directory that everybody may write, as /tmp is.
    fn open_place() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a directory");
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o1777)).expect("it is ours");
        place
    }

    #[test]
    fn no_thread_has_a_right_left() {
        needs_sandbox!();
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let place = open_place();
        let path = place.path().join("http.jsonl");
        let line = format!("-i lo --shards 2 -o {} -C 1M --compress zstd", path.display());
        let running = start(&namespace, program(&line));
        let threads = threads(&running);
        let names: Vec<&str> = threads.iter().map(|thread| &*thread["Name"]).collect();
        for name in ["httplines", "signals", "writer", "janitor", "shard-0", "shard-1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        for thread in &threads {
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(thread[set], "0000000000000000", "{set} {thread:?}");
            }
            for (name, value) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
                assert_eq!(thread[name], value, "{name} {thread:?}");
            }
            let ids = vec![NOBODY.to_string(); 4].join("\t");
            assert_eq!((&thread["Uid"], &thread["Gid"]), (&ids, &ids), "{thread:?}");
        }
        // What is not dumpable belongs to root, whoever runs it.
        let memory = format!("/proc/{}/mem", running.pid());
        assert_eq!(fs::metadata(memory).expect("it runs").uid(), 0);
        let rings = fs::read_to_string(format!("/proc/{}/smaps", running.pid())).expect("we may");
        let mut rows = rings.lines().skip_while(|line| !line.contains("socket:"));
        let flags = rows.find(|line| line.starts_with("VmFlags:")).expect("a ring is mapped");
        assert!(flags.contains(" dd"), "left out of core files: {flags}");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert_eq!(fs::metadata(path).expect("it is there").uid(), NOBODY);
    }

    #[test]
    fn the_user_is_who_owns_the_directory_or_is_named() {
        needs_sandbox!();
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let user_of = |owner: u32, options: &str| {
            let place = tempfile::tempdir().expect("a directory");
            chown(place.path(), Some(owner), Some(owner)).expect("we are root");
            let output = place.path().join("http.jsonl");
            let line = format!("-i lo --shards 1 -o {}{options}", output.display());
            let running = start(&namespace, program(&line));
            let uid = status(Path::new(&format!("/proc/{}", running.pid())))["Uid"].clone();
            let finished = running.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            let uid: u32 = uid.split('\t').next().expect("a number").parse().expect("a number");
            assert_eq!(fs::metadata(output).expect("it is there").uid(), uid);
            (uid, finished.stderr)
        };
        assert_eq!(user_of(4711, "").0, 4711);
        assert_eq!(user_of(4711, " -Z 4711:4712").0, 4711);
        let (uid, said) = user_of(0, "");
        let note = "running as root without capabilities, since nobody else may write the output";
        assert_eq!((uid, said.matches(note).count()), (0, 1), "{said}");
        let (uid, said) = user_of(0, " -Z root");
        assert_eq!((uid, said.matches(note).count()), (0, 0), "{said}");
        let (uid, _) = user_of(0, " --no-sandbox");
        assert_eq!(uid, 0);
    }

    #[test]
    fn an_output_that_the_user_cannot_write_is_told_with_the_user() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let output = place.path().join("http.jsonl");
        let shown = output.display();
        for (options, code, says) in [
            ("-Z nobody", 3, format!("cannot write {shown} as nobody; chown it, or -Z root")),
            ("-Z no-one", 2, "-Z: there is no user no-one".into()),
            ("-Z 4711", 2, "-Z: user 4711 has no group; name one: 4711:GROUP".into()),
            ("-Z root --no-sandbox", 2, "--no-sandbox keeps user and capabilities, and -Z".into()),
        ] {
            let mut command = program(&format!("-i lo -o {shown} {options}"));
            let done = namespace.run(move || command.output().expect("it runs"));
            let told = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(code), "{options}: {told}");
            assert!(told.contains(&says), "{options}: {told}");
        }
        assert!(!output.exists());
    }

    /// Each attempt is refused, no frame leaves, and the capture goes on.
    #[test]
    fn who_takes_the_process_over_can_do_nothing() {
        needs_sandbox!();
        if !cfg!(debug_assertions) {
            skip!("needs a test build of the program, which has the attempts in it");
        }
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = open_place();
        let output = place.path().join("http.jsonl");
        // Not the one that scripts/syscalls traces: its calls are no example.
        let mut command = Command::new(env!("CARGO_BIN_EXE_httplines"));
        command.args(["-i", "veth1", "--shards", "1", "-B", "4096", "-o"]).arg(&output);
        command.env("HTTPLINES_TEST_INTRUDER", "yes");
        // The other end of the link sees every frame that leaves.
        let (injector, listener) = client.run(|| {
            let listener = PacketSocket::open().expect("we are root");
            listener.bind(index_of("veth0").expect("it is there")).expect("it is up");
            (Injector::new("veth0"), listener)
        });
        let mut running = start(&server, command);
        running.await_stderr("intruder: write by the ring to a descriptor: ");
        exchange(&injector, 0);
        wait_until("a line", || fs::read(&output).is_ok_and(|lines| lines.ends_with(b"\n")));
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let attempts: Vec<(&str, &str)> = finished
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("httplines: intruder: ")?.split_once(": "))
            .collect();
        assert!(attempts.len() > 25, "{}", finished.stderr);
        for (what, result) in attempts {
            match what {
                // Allowed, as rotation needs it: then nothing is sent.
                "a file slot of the ring" => assert_eq!(result, "0"),
                "a frame by the ring" => assert!(!result.starts_with("64"), "{result}"),
                _ => assert!(result.contains("os error"), "{what}: {result}"),
            }
        }
        let (mut frame, mut frame_count) = ([0; 2048], 0);
        while let Ok((length, _)) = recv(&listener, &mut frame[..], RecvFlags::DONTWAIT) {
            frame_count += 1;
            let kind = frame.get(12..14).filter(|_| length >= 14);
            assert_ne!(kind, Some(&[0x88, 0xb5][..]), "a frame of the intruder");
        }
        assert!(frame_count > 1, "it listens");
    }

    /// A sealed run cannot follow a directory that is made again.
    #[test]
    fn a_directory_that_is_removed_ends_the_run() {
        needs_sandbox!();
        let mut site = match FaultSite::new() {
            Ok(site) => site,
            Err(reason) => skip!(reason),
        };
        let directory = site.path().join("logs");
        fs::create_dir(&directory).expect("a directory");
        let line = format!("-o {}/http.jsonl", directory.display());
        let mut running = site.start(site.command(&line));
        site.exchanges(3);
        wait_until("three lines", || {
            fs::read(directory.join("http.jsonl")).is_ok_and(|lines| numbers(&lines).len() == 3)
        });
        fs::remove_dir_all(&directory).expect("it is there");
        fs::create_dir(&directory).expect("a directory");
        let removed = Instant::now();
        site.exchanges(10);
        running.await_stderr("http.jsonl: it was removed, and cannot be opened again: ");
        let finished = running.wait();
        assert!(removed.elapsed() >= Duration::from_secs(9), "{}", finished.stderr);
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let says = "the directory of the output, was removed, and a run in its sandbox can write";
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
        finished.told(" 10 lines lost (10 write error)");
    }

    #[test]
    fn an_interface_that_is_made_again_ends_the_run_at_once() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut running = start(&server, program("-i veth1 --shards 1"));
        server.ip("link delete veth1");
        let gone = Instant::now();
        running.await_stderr("veth1 has gone; the run ends when it is back, or after 10 s");
        server.ip("link add veth1 type veth peer name veth7");
        server.ip("link set veth1 up");
        let finished = running.wait();
        assert!(gone.elapsed() < Duration::from_secs(9), "{}", finished.stderr);
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let says = "veth1 has gone, and there is nothing left to capture on; start httplines again";
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
    }

    #[test]
    fn a_start_waits_for_an_interface() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let mut command = program("-i veth8 --shards 1 --wait");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = namespace.run(move || command.spawn().expect("it starts"));
        let mut running = Running::new(child, "waiting for veth8");
        namespace.ip("link add veth8 type veth peer name veth9");
        namespace.ip("link set veth8 up");
        running.await_stderr("capturing on veth8");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }

    /// The three capabilities of the unit are enough, and gone afterwards.
    #[test]
    fn three_capabilities_are_enough() {
        needs_sandbox!();
        if let Some(missing) = missing_program("setpriv") {
            skip!(missing);
        }
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let place = open_place();
        let output = place.path().join("http.jsonl");
        let capabilities = "+net_raw,+bpf,+perfmon";
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "4711", "--regid", "4711", "--clear-groups"]);
        command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities]);
        command.arg(crate::httplines()).args(["-i", "lo", "-B", "4096", "--shards", "1", "-o"]);
        command.arg(&output);
        let running = start(&namespace, command);
        for thread in threads(&running) {
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(thread[set], "0000000000000000", "{set} {thread:?}");
            }
            assert_eq!((&*thread["NoNewPrivs"], &*thread["Seccomp"]), ("1", "2"));
        }
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(!finished.stderr.contains("CAP_PERFMON"), "{}", finished.stderr);
        assert_eq!(fs::metadata(output).expect("it is there").uid(), 4711);
    }
}
