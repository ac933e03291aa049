//! `httplines doctor`: what it says of this machine, of the interfaces of a namespace, and of
//! traffic on them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::commands::program;
use crate::support::lab::is_root;

/// The rows that were printed: verdict, name, and finding with advice.
struct Told {
    rows: Vec<(String, String, String)>,
    code: Option<i32>,
    text: String,
}

impl Told {
    fn of(output: &Output) -> Told {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut rows: Vec<(String, String, String)> = Vec::new();
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            match (indent, rows.last_mut()) {
                (2, _) => {
                    let (verdict, rest) = line.trim().split_once(' ').expect("a verdict");
                    let (name, finding) = rest.trim().split_at(16.min(rest.trim().len()));
                    let [name, finding] = [name, finding].map(|it| it.trim().to_string());
                    rows.push((verdict.to_string(), name, finding));
                }
                (3.., Some((_, _, finding))) => *finding += &format!("\n{}", line.trim()),
                _ => {}
            }
        }
        Told { rows, code: output.status.code(), text }
    }

    /// Asserts that the check `name` has this verdict, and that its lines contain `what`.
    /// The verdict of a row.
    fn verdict(&self, name: &str) -> &str {
        let row = self.rows.iter().find(|row| row.1 == name);
        &row.unwrap_or_else(|| panic!("no {name}:\n{}", self.text)).0
    }

    fn said(&self, name: &str, verdict: &str, what: &str) {
        let row = self.rows.iter().find(|row| row.1 == name);
        let (found, _, lines) = row.unwrap_or_else(|| panic!("no {name}:\n{}", self.text));
        // A finding is wrapped, and advice is not.
        let joined = lines.replace('\n', " ");
        assert!(found == verdict && joined.contains(what), "{name}: {what}\n{}", self.text);
    }
}

fn run(command: &mut Command) -> Told {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    Told::of(&output)
}

fn doctor(arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("doctor").args(arguments);
    command
}

#[test]
fn without_privileges_it_says_what_it_could_not_see() {
    let mut command = match is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--inh-caps", "-all", "--bounding-set", "-all", crate::httplines()]);
            command.args(["doctor", "-i", "lo"]);
            command
        }
        false => doctor(&["-i", "lo"]),
    };
    let told = run(&mut command);
    assert_eq!(told.code, Some(1), "{}", told.text);
    told.said("CAP_NET_RAW", "wrong", "missing: no packet socket can be opened");
    told.said("CAP_BPF", "wrong", "missing: no filter can be loaded");
    told.said("CAP_PERFMON", "note", "the start takes a second or more longer");
    told.said("traffic", "note", "is not seen without CAP_NET_RAW and CAP_BPF");
    told.said("link", "ok", "lo is up");
    let names: Vec<_> = told.rows.iter().map(|row| row.1.as_str()).collect();
    assert!(names.starts_with(&["kernel", "BPF JIT", "io_uring", "Landlock", "seccomp"]));
    assert!(!names.contains(&"output") && !names.contains(&"interfaces"), "{}", told.text);
}

#[test]
fn lines_are_for_people_and_pipes() {
    let told = run(doctor(&[]).env("COLUMNS", "20"));
    assert!(!told.text.contains('\u{1b}'), "colours are for terminals: {}", told.text);
    // Advice is not wrapped.
    let is_finding = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let findings = told.text.lines().filter(is_finding);
    assert!(findings.clone().count() > 12, "{}", told.text);
    for line in findings {
        assert!(line.chars().count() <= 100, "{line}");
    }
    told.said("interfaces", "ok", "lo (up)");
    told.said("interfaces", "ok", "httplines doctor -i IFACE");
    let last = told.text.lines().last().expect("a line");
    let count = |verdict: &str| told.rows.iter().filter(|row| row.0 == verdict).count();
    let [wrong, notes, ok] = ["wrong", "note", "ok"].map(count);
    let plural = if notes == 1 { "" } else { "s" };
    assert_eq!(last, format!("{wrong} wrong, {notes} note{plural}, {ok} ok"));
    assert_eq!(told.code, Some(i32::from(wrong > 0)));
}

#[test]
fn outputs_and_users_are_checked_and_nothing_is_written() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| place.path().join(name).display().to_string();
    let told = run(&mut doctor(&["-o", &path("no/http.jsonl"), "-Z", "no such user"]));
    assert_eq!(told.code, Some(1), "{}", told.text);
    told.said("output", "wrong", "there is no directory");
    told.said("user", "wrong", "there is no user no such user");
    let told = run(&mut doctor(&["-o", &path("")]));
    told.said("output", "wrong", "is a directory");
    // A disk of this machine that is nearly full is a note.
    let told = run(&mut doctor(&["-o", &path("http.jsonl")]));
    assert!(["ok", "note"].contains(&told.verdict("output")), "{}", told.text);
    assert_eq!(std::fs::read_dir(place.path()).expect("it is ours").count(), 0);
    let told = run(&mut doctor(&["-i", "no such"]));
    told.said("link", "wrong", "there is no no such; there are: ");
}

#[test]
fn a_closed_pipe_is_no_error_and_a_full_device_is_one() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = doctor(&[]).stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let full = std::fs::File::options().append(true).open(Path::new("/dev/full"));
    let full = full.expect("Linux has it");
    let output = doctor(&[]).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("cannot write standard output"), "{told}");
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use std::net::UdpSocket;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Child;

    use crate::support::confine::forbid;
    use crate::support::conversation::Conversation;
    use crate::support::lab::wait_until;
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;

    /// What `command` says in a namespace.
    fn told_in(namespace: &Namespace, mut command: Command) -> Told {
        namespace.run(move || run(&mut command))
    }

    /// What doctor says of veth1, while `send` is called again and again with a new number.
    fn told_of_traffic(server: &Namespace, send: impl FnMut(u16)) -> Told {
        told_of_traffic_on("veth1", server, send)
    }

    /// The same of `interface`.
    fn told_of_traffic_on(interface: &str, server: &Namespace, mut send: impl FnMut(u16)) -> Told {
        let mut command = doctor(&["-i", interface]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = server.run(move || command.spawn().expect("it starts"));
        let mut number = 0;
        wait_until("doctor ends", || {
            number += 1;
            send(number);
            child.try_wait().expect("a child of ours").is_some()
        });
        Told::of(&child.wait_with_output().expect("it has ended"))
    }

    /// A connection from 10.0.0.9 to 10.0.0.1.
    fn talk(number: u16, port: u16) -> Conversation {
        let client = format!("10.0.0.9:{}", 1024 + number % 60_000);
        let mut talk = Conversation::new(&client, &format!("10.0.0.1:{port}"));
        talk.handshake();
        talk
    }

    /// A connection with one exchange.
    fn http(number: u16) -> Conversation {
        let mut talk = talk(number, 80);
        talk.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
        talk
    }

    #[test]
    fn an_interface_that_is_down_or_alone_is_wrong() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        server.ip("link set veth1 down");
        let told = told_in(&server, doctor(&["-i", "veth1"]));
        assert_eq!(told.code, Some(1), "{}", told.text);
        told.said("link", "wrong", "veth1 (veth) is down sudo ip link set veth1 up");
        server.ip("link set veth1 up");
        client.ip("link set veth0 down");
        let told = told_in(&server, doctor(&["-i", "veth1"]));
        told.said("link", "wrong", "has no carrier");
        assert!(told.rows.iter().all(|row| row.1 != "traffic"), "{}", told.text);
    }

    #[test]
    fn http_in_both_directions_is_seen() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let injector = client.run(|| Injector::new("veth0"));
        let told = told_of_traffic(&server, |number| {
            http(number).frames(0, 0).iter().for_each(|frame| injector.send(&frame.bytes));
        });
        told.said("traffic", "ok", "% HTTP");
        told.said("directions", "ok", "both are seen of ");
        told.said("link", "ok", "veth1 (veth) is up, MTU 1500");
        told.said("frame size", "ok", "veth1: up to 65536 bytes");
    }

    #[test]
    fn a_missing_direction_is_wrong() {
        const CLIENT: [u8; 4] = [10, 0, 0, 9];
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let injector = client.run(|| Injector::new("veth0"));
        for is_of_client in [true, false] {
            let told = told_of_traffic(&server, |number| {
                let frames = http(number).frames(0, 0);
                // The source address of IPv4 behind the header of Ethernet.
                let wanted =
                    frames.iter().filter(|it| (it.bytes[26..30] == CLIENT) == is_of_client);
                wanted.for_each(|frame| injector.send(&frame.bytes));
            });
            assert_eq!(told.code, Some(1), "{}", told.text);
            told.said("directions", "wrong", "only one direction is seen");
            told.said("directions", "wrong", "mirror both directions");
        }
    }

    #[test]
    fn with_any_received_frames_are_known_to_be_received() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let socket = client.run(|| UdpSocket::bind("10.0.0.9:0").expect("it is our address"));
        let told = told_of_traffic_on("any", &server, |_| {
            socket.send_to(&[0; 40], "10.0.0.1:9").expect("UDP does not hear of a refusal");
        });
        told.said("traffic", "note", "tcpdump -nn -c 20 -i any");
    }

    #[test]
    fn tls_alone_is_wrong() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let injector = client.run(|| Injector::new("veth0"));
        let told = told_of_traffic(&server, |number| {
            let mut talk = talk(number, 443);
            talk.client(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03");
            talk.server(b"\x16\x03\x03\x00\x05\x02\x00\x00\x01\x03");
            for _ in 0..4 {
                talk.client(b"\x17\x03\x03\x00\x04abcd").server(b"\x17\x03\x03\x00\x04efgh");
            }
            talk.frames(0, 0).iter().for_each(|frame| injector.send(&frame.bytes));
        });
        assert_eq!(told.code, Some(1), "{}", told.text);
        told.said("traffic", "wrong", "% TLS and no HTTP: it cannot be read");
        told.said("traffic", "wrong", "capture behind the proxy that decrypts it");
        told.said("directions", "ok", "both are seen");
    }

    #[test]
    fn frames_longer_than_the_mtu_are_wrong() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        client.ip("link set veth0 mtu 9000");
        let socket = client.run(|| UdpSocket::bind("10.0.0.9:0").expect("it is our address"));
        let told = told_of_traffic(&server, |_| {
            socket.send_to(&[0; 4000], "10.0.0.1:9").expect("UDP does not hear of a drop");
        });
        told.said("NIC losses", "wrong", "longer than its MTU 1500");
        told.said("NIC losses", "wrong", "sudo ip link set veth1 mtu 9000");
    }

    #[test]
    fn a_silent_interface_and_a_large_gro_are_told() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let told = told_in(&server, doctor(&["-i", "veth1"]));
        told.said("traffic", "note", "veth1: ");
        told.said("directions", "note", "no connection began");
        if server.try_ip("link set veth1 gso_max_size 300000").is_ok() {
            let told = told_in(&server, doctor(&["-i", "veth1"]));
            told.said("frame size", "wrong", "httplines -i veth1 --block-kib 512");
        }
    }

    #[test]
    fn three_capabilities_suffice_and_with_two_the_third_is_noted() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let with = |capabilities: &str| {
            let set = format!("-all,{capabilities}");
            let mut command = Command::new("setpriv");
            command.args(["--inh-caps", &set, "--bounding-set", &set]);
            command.args([crate::httplines(), "doctor", "-i", "veth1"]);
            command
        };
        for (capabilities, verdict) in [("+net_raw,+bpf,+perfmon", "ok"), ("+net_raw,+bpf", "note")]
        {
            let told = told_in(&server, with(capabilities));
            told.said("CAP_NET_RAW", "ok", "in effect");
            told.said("CAP_BPF", "ok", "in effect");
            told.said("CAP_PERFMON", verdict, "");
            told.said("directions", "note", "no connection began");
        }
    }

    #[test]
    fn what_a_sandbox_forbids_is_told() {
        if !is_root() {
            skip!("needs root, for a seccomp filter");
        }
        let mut command = doctor(&[]);
        forbid(&mut command, &[libc::SYS_io_uring_setup], libc::EPERM);
        let told = run(&mut command);
        told.said("io_uring", "note", "a seccomp filter of the container or service forbids it");
        told.said("seccomp", "ok", "is on already");
        let mut command = doctor(&["-i", "lo"]);
        forbid(&mut command, &[libc::SYS_bpf], libc::EPERM);
        let told = run(&mut command);
        told.said("traffic", "note", "a seccomp filter forbids bpf(2)");
        let mut command = doctor(&["-i", "lo"]);
        forbid(&mut command, &[libc::SYS_bind], libc::EPERM);
        let told = run(&mut command);
        told.said("link", "note", "not seen: the kernel does not list its interfaces");
        let mut command = doctor(&[]);
        forbid(&mut command, &[libc::SYS_landlock_create_ruleset], libc::EOPNOTSUPP);
        run(&mut command).said("Landlock", "note", "add landlock to lsm=");
    }

    #[test]
    fn limits_and_owners_are_told() {
        if !is_root() {
            skip!("needs root, for other users");
        }
        let mut limited = Command::new("prlimit");
        limited.args(["--nofile=100:100", crate::httplines(), "doctor"]);
        let told = run(&mut limited);
        assert_eq!(told.code, Some(1), "{}", told.text);
        told.said("open files", "wrong", "a limit of 100; a run needs ");
        told.said("open files", "wrong", "LimitNOFILE=4096");
        let mut limited = Command::new("prlimit");
        limited.args(["--nofile=100:100", crate::httplines(), "doctor", "-i", "lo"]);
        run(&mut limited).said("traffic", "wrong", "open files says how many");

        let place = tempfile::tempdir().expect("a temporary directory");
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        let file = place.path().join("http.jsonl").display().to_string();
        let told = run(&mut doctor(&["-o", &file, "-Z", "nobody"]));
        told.said("user", "wrong", "cannot be written as nobody");
        told.said("user", "wrong", &format!("sudo chown nobody {}", place.path().display()));
        let told = run(&mut doctor(&["-o", &file]));
        told.said("user", "note", "root without capabilities");
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).expect("ours");
        let told = run(&mut doctor(&["-o", &file]));
        told.said("user", "ok", "is written as nobody");
        assert!(!Path::new(&file).exists(), "nothing is written");
    }
}
