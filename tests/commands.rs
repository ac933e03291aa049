//! Wrong commands, each run against the real program: one sentence that says what to do, the right
//! exit code, and nothing left behind.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;
use tempfile::TempDir;

/// A command and its expected outcome.
pub(crate) struct Row {
    /// The arguments, separated by blanks. `<` and `>>` redirect as the shell does.
    line: &'static str,
    code: i32,
    /// The text that the last line on standard error must contain.
    says: &'static str,
    /// Files that must not exist afterwards.
    absent: &'static [&'static str],
}

/// A row that leaves no `out.jsonl` behind.
pub(crate) const fn row(line: &'static str, code: i32, says: &'static str) -> Row {
    Row { line, code, says, absent: &["out.jsonl", "out.0.jsonl"] }
}

/// A capture of `requests` requests and their responses.
pub(crate) fn capture(requests: usize) -> Vec<u8> {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    talk.handshake();
    for number in 0..requests {
        talk.client(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    talk.finish();
    pcap(Order::Little, Unit::Nano, 1, &talk.frames(1_700_000_000_000_000_000, 1000))
}

/// A directory with all kinds of inputs that every user may enter.
pub(crate) fn place() -> TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| place.path().join(name);
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    let good = capture(3);
    // The file header and half of the first record.
    for (name, bytes) in [
        ("good.pcap", &good[..]),
        ("out.0.pcap", &good),
        ("cut.pcap", &good[..good.len() - 5]),
        ("header.pcap", &good[..10]),
        ("empty", b""),
        ("text", b"These words are no capture, and long enough to tell.\n"),
        ("packed.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03 and so on, for some more bytes"),
    ] {
        std::fs::write(path(name), bytes).expect("a file");
    }
    std::fs::create_dir(path("dir")).expect("a directory");
    symlink("good.pcap", path("symlink")).expect("a link");
    std::fs::hard_link(path("good.pcap"), path("hardlink")).expect("a link");
    place
}

/// Runs the words of `line` in `place` by `command`, which takes arguments.
pub(crate) fn run(mut command: Command, line: &str, place: &Path) -> Output {
    command.current_dir(place).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "<" => {
                let name = words.next().expect("a name");
                command.stdin(File::open(place.join(name)).expect("it is there"));
            }
            ">>" => {
                let name = words.next().expect("a name");
                let file = File::options().append(true).open(place.join(name));
                command.stdout(file.expect("it is there"));
            }
            _ => drop(command.arg(word)),
        }
    }
    command.stderr(Stdio::piped()).spawn().and_then(|child| child.wait_with_output()).expect("runs")
}

/// Whether a line says what a slow start is doing.
pub(crate) fn is_progress(line: &str) -> bool {
    line.trim_end().ends_with(" ...")
}

/// Checks the outcome of a row.
fn check(row: &Row, output: &Output, place: &Path) {
    let told = String::from_utf8_lossy(&output.stderr);
    let what = format!("httplines {}\n{told}", row.line);
    // A start that takes long, because the machine is busy, says what it is doing.
    let told: String = told.split_inclusive('\n').filter(|line| !is_progress(line)).collect();
    assert_eq!(output.status.code(), Some(row.code), "{what}");
    let last = told.lines().last().unwrap_or_default();
    assert!(last.contains(row.says), "it should say {:?}: {what}", row.says);
    for line in told.lines() {
        assert!(line.starts_with("httplines: ") || line.starts_with("  "), "{line}: {what}");
    }
    // An error number is no explanation.
    for word in ["panicked", "backtrace", "os error"] {
        assert!(!told.contains(word), "{what}");
    }
    // If nothing was read, there are no totals, only the sentence.
    if !told.contains("frames") && row.code != 0 {
        assert_eq!(told.lines().count(), 1, "{what}");
        assert!(output.stdout.is_empty(), "{what}");
    }
    for name in row.absent {
        assert!(!place.join(name).exists(), "{name} was left behind: {what}");
    }
    assert_eq!(std::fs::read(place.join("good.pcap")).expect("it is there"), capture(3), "{what}");
}

/// Runs all rows by the command that `make` makes.
pub(crate) fn check_all(rows: &[Row], mut make: impl FnMut() -> Command) {
    let place = place();
    for row in rows {
        check(row, &run(make(), row.line, place.path()), place.path());
    }
}

pub(crate) fn program() -> Command {
    Command::new(crate::httplines())
}

#[test]
fn wrong_usage() {
    let rows = [
        row("", 2, "name an interface with -i (-D lists them) or a capture file with -r"),
        row("-o out.jsonl", 2, "name an interface with -i"),
        row("eth0", 2, "\"eth0\" is not an option; put -i before an interface"),
        row("-i lo tcp port 80", 2, "\"tcp\" is not an option"),
        row("-r good.pcap -i lo -o out.jsonl", 2, "one run does only one of them: leave one out"),
        row("-r good.pcap -o out.jsonl -o more", 2, "--output was given more than once"),
        row("-i any -i lo -o out.jsonl", 2, "-i any includes all other interfaces: use it alone"),
        row("--sesions 100 -i lo", 2, "there is no option --sesions; did you mean --sessions?"),
        row("-k", 2, "there is no option -k; httplines --help lists the options"),
        row("-i", 2, "--interface needs a value; see"),
        row("-r good.pcap -o", 2, "--output needs a value; see"),
        row("--quiet=yes -i lo", 2, "--quiet takes no value; leave it out"),
        row("-r good.pcap --shards 0", 2, "--shards takes a whole number from 1 to 1024, not 0"),
        row("-r good.pcap --shards 1025", 2, "from 1 to 1024, not 1025"),
        row("-r good.pcap --shards two", 2, "from 1 to 1024, not two"),
        row("-r good.pcap --shards -1", 2, "from 1 to 1024, not -1"),
        row("-r good.pcap -c 0", 2, "--count takes a whole number of at least 1, not 0"),
        row("-r good.pcap -c 99999999999999999999", 2, "--count takes a whole number of at"),
        row("-r good.pcap --port 0-65536", 2, "--port takes ports from 0 to 65535, such as 80"),
        row("-r good.pcap --port 90-80", 2, "--port takes ports from 0 to 65535, such as 80"),
        row("-r good.pcap --exclude-port http", 2, "such as 80 or 8000-8100, not http"),
        row("-r good.pcap --net 10.0.0.0/33", 2, "--net takes an address or a network such as"),
        row("-r good.pcap --exclude-net example.org", 2, "2001:db8::/32, not example.org"),
        row("-r good.pcap --vlan 4096", 2, "--vlan takes a whole number from 1 to 4095, not 4096"),
        row("-r good.pcap --sample 16", 2, "--sample takes one in a number of connections"),
        row("-r good.pcap --sample 1/0", 2, "such as 1/16, not 1/0"),
        row("-i lo --fanout random", 2, "--fanout takes flow or hash or cpu or queue, not random"),
        row("-i lo -B 1", 2, "--buffer-size takes a whole number from 2048 to 4194303, not 1"),
        row("-i lo -B 99999999999", 2, "from 2048 to 4194303, not 99999999999"),
        row("-i lo --idle-timeout-s 0", 2, "--idle-timeout-s takes a whole number from 1 to"),
        row("-i lo -Q sideways", 2, "--direction takes in or out or inout, not sideways"),
        row("-i lo --format xml", 2, "--format takes text or json, not xml"),
        row("-r good.pcap --shed", 2, "--shed is for capturing with -i"),
        row("-r good.pcap -Q in", 2, "a file does not record the direction of"),
        row("-r good.pcap --all-headers", 2, "are for JSON lines: add -o FILE"),
        row("-r good.pcap --header a --format text -o out.jsonl", 2, "are for JSON lines"),
        row("-r good.pcap --mask-header a", 2, "are for JSON lines: add -o FILE"),
        row("-r good.pcap -o - --mask-header a,b;c", 2, "takes names of headers, such as Via"),
        row("-r good.pcap --answered-only", 2, "--answered-only is for JSON lines, because a text"),
        row(
            "-r good.pcap --answered-only --format text -o out.jsonl",
            2,
            "for JSON lines, because",
        ),
        row("-r good.pcap --output-per-shard", 2, "needs the name of a file: add -o http.jsonl"),
        row("-r good.pcap -o - --output-per-shard", 2, "needs the name of a file"),
    ];
    check_all(&rows, program);
}

#[test]
fn empty_names() {
    for (option, says) in [
        ("-i", "--interface needs a value"),
        ("-r", "--read needs a value"),
        ("-o", "--output needs a value"),
    ] {
        let mut command = program();
        command.args([option, ""]);
        let wanted = row("", 2, says);
        let place = place();
        check(&wanted, &run(command, "", place.path()), place.path());
    }
}

#[test]
fn inputs_that_cannot_be_read() {
    let rows = [
        row("-r missing -o out.jsonl", 1, "missing: no such file; check the path"),
        row("-r text/x -o out.jsonl", 1, "text/x: no such file; check the path"),
        row("-r dir -o out.jsonl", 1, "dir is a directory; name a capture file in it"),
        row("-r text -o out.jsonl", 1, "text is not a capture that httplines reads"),
        row("-r empty -o out.jsonl", 1, "empty is empty; a capture has at least a file header"),
        row("-r - -o out.jsonl < empty", 1, "standard input is empty"),
        row("-r - -o out.jsonl", 1, "standard input is empty"),
        row("-r packed.gz -o out.jsonl", 1, "cannot read packed.gz: the gzip data"),
        row("-r header.pcap -o out.jsonl", 1, "is cut off inside its file header"),
    ];
    check_all(&rows, program);
}

#[test]
fn outputs_that_cannot_be_written() {
    let rows = [
        row("-r good.pcap -o no/dir/out.jsonl", 1, "there is no directory no/dir; make it first"),
        row("-r good.pcap -o dir", 1, "dir is a directory; name a file in it"),
        row("-r good.pcap -o dir/", 1, "is a directory; name a file in it"),
        row("-r good.pcap -o text/out.jsonl", 1, "text is not a directory; name another path"),
        row("-r good.pcap -o good.pcap", 2, "the output is the input; name another file"),
        row("-r good.pcap -o symlink", 2, "the output is the input"),
        row("-r symlink -o hardlink", 2, "the output is the input"),
        row("-r - -o good.pcap < good.pcap", 2, "the output is the input"),
        row("-r - -o hardlink < good.pcap", 2, "the output is the input"),
        row("-r good.pcap >> good.pcap", 2, "the output is the input"),
        row("-r - >> good.pcap < good.pcap", 2, "the output is the input"),
        row("-r out.0.pcap -o out.pcap --output-per-shard", 2, "the output is the input"),
        row("-r good.pcap -o /dev/full", 1, "cannot write /dev/full: the disk is full"),
        row("-r good.pcap >> /dev/full", 1, "cannot write standard output: the disk is full"),
        row("-r good.pcap -o - >> /dev/full", 1, "cannot write standard output: the disk is full"),
        row("-D >> /dev/full", 1, "cannot write standard output: no storage space"),
    ];
    check_all(&rows, program);
}

#[test]
fn everything_before_a_cut_is_reported() {
    let place = place();
    let output = run(program(), "-r cut.pcap", place.path());
    check(&row("-r cut.pcap", 1, "is cut off after"), &output, place.path());
    let lines = String::from_utf8_lossy(&output.stdout);
    assert_eq!(lines.lines().filter(|line| line.starts_with("GET /")).count(), 3, "{lines}");
}

/// A reader that has seen enough ends the run silently and with success.
#[test]
fn closed_pipes() {
    let place = place();
    std::fs::write(place.path().join("long.pcap"), capture(5000)).expect("a file");
    for line in ["-q -r long.pcap", "-q -r long.pcap -o -", "-D", "--help", "--version"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = program();
        let output = command.current_dir(place.path()).args(line.split(' ')).stdout(writer);
        let output =
            output.stderr(Stdio::piped()).spawn().and_then(|child| child.wait_with_output());
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    }
}

/// If the totals cannot be printed, the lines are still complete.
#[test]
fn standard_error_may_be_full_or_closed() {
    let place = place();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = File::options().append(true).open("/dev/full").expect("Linux has it");
    for (what, stderr) in [("full", Stdio::from(full)), ("closed", Stdio::from(writer))] {
        let mut command = program();
        command.current_dir(place.path()).args(["-r", "good.pcap"]).stderr(stderr);
        let output = command.stdout(Stdio::piped()).spawn().expect("it runs").wait_with_output();
        let output = output.expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{what}");
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 6, "{what}");
    }
}

#[test]
fn the_totals_say_why_there_is_no_line() {
    let place = place();
    let write = |name: &str, first: &[u8]| {
        let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:443");
        talk.handshake();
        if !first.is_empty() {
            talk.client(first);
        }
        talk.finish();
        let file = pcap(Order::Little, Unit::Nano, 1, &talk.frames(1_700_000_000_000_000_000, 9));
        std::fs::write(place.path().join(name), file).expect("a file");
    };
    write("tls.pcap", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03");
    write("http2.pcap", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    write("ssh.pcap", b"SSH-2.0-OpenSSH_9.2p1\r\n");
    write("silent.pcap", b"");
    std::fs::write(place.path().join("none.pcap"), pcap(Order::Little, Unit::Nano, 1, &[]))
        .expect("a file");
    for (name, why) in [
        ("tls.pcap", "no HTTP was seen: 1 TLS connection; httplines cannot read encrypted"),
        ("http2.pcap", "HTTP/2 was seen, but no complete message"),
        ("ssh.pcap", "no HTTP was seen: 1 connection of another kind"),
        ("silent.pcap", "no HTTP was seen: 1 connection without data"),
        ("none.pcap", "the capture holds no packet"),
    ] {
        let output = run(program(), &format!("-r {name}"), place.path());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(why), "{name}: {told}");
        assert_eq!(output.status.code(), Some(0), "{name}");
    }
}

/// Needs root; otherwise each test reports that it was skipped.
pub(crate) mod root {
    use super::*;
    use crate::support::confine::forbid;
    use crate::support::lab::{self, Running, is_root, wait_until};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::packet::{ACK, Packet};
    use crate::support::skip;

    /// A copy of the program that every user may run: a build directory may be accessible to root
    /// only.
    pub(crate) fn copy(place: &Path) -> String {
        let copy = place.join("httplines");
        // Copied by cp(1): a file that this process, or a child that another test is about to
        // start, holds open for writing cannot be run (ETXTBSY).
        lab::run(Command::new("cp").arg(crate::httplines()).arg(&copy));
        copy.display().to_string()
    }

    /// Runs `program` as the user nobody, with some capabilities.
    pub(crate) fn nobody(program: &str, capabilities: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        let kept: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
        for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
            command.arg(set).arg(format!("-all{kept}"));
        }
        command.arg(program);
        command
    }

    #[test]
    fn missing_permissions() {
        if !is_root() {
            skip!("needs root, to become nobody");
        }
        let place = place();
        let httplines = copy(place.path());
        let path = |name: &str| place.path().join(name);
        std::fs::write(path("secret.pcap"), capture(1)).expect("a file");
        std::fs::set_permissions(path("secret.pcap"), PermissionsExt::from_mode(0o600)).unwrap();
        let setcap = format!("sudo setcap cap_net_raw,cap_bpf,cap_perfmon+ep {httplines}");
        let rows: [(&[&str], Row); 5] = [
            (&[], row("-i lo -o out.jsonl", 3, "CAP_NET_RAW is missing, which the capture socket")),
            (&["bpf"], row("-i lo -o out.jsonl", 3, "CAP_NET_RAW is missing")),
            (&["net_raw"], row("-i lo -o out.jsonl", 3, "CAP_BPF is missing, which the kernel")),
            (&[], row("-r secret.pcap -o out.jsonl", 3, "secret.pcap: permission denied; make it")),
            (
                &[],
                row("-r good.pcap -o out.jsonl", 3, "this user may not write there; name a file"),
            ),
        ];
        for (index, (capabilities, row)) in rows.iter().enumerate() {
            let output = run(nobody(&httplines, capabilities), row.line, place.path());
            check(row, &output, place.path());
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(told.contains(&setcap), index < 3, "{told}");
        }
    }

    /// The start takes the verifier longer without CAP_PERFMON, which is said before. The sentence
    /// names the command that avoids it.
    #[test]
    fn a_slow_start_is_announced() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let place = place();
        let httplines = copy(place.path());
        let setcap = format!("sudo setcap cap_net_raw,cap_bpf,cap_perfmon+ep {httplines}");
        for (capabilities, is_slow) in
            [(&["net_raw", "bpf"][..], true), (&["net_raw", "bpf", "perfmon"], false)]
        {
            let mut command = nobody(&httplines, capabilities);
            command.args(["-i", "lo", "--shards", "2"]);
            let finished = start(&namespace, command).stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            let mut lines = finished.stderr.lines().filter(|line| !is_progress(line));
            if is_slow {
                let line = lines.next().unwrap_or_default();
                assert!(line.starts_with("httplines: without CAP_PERFMON "), "{line}");
                assert!(line.ends_with(&setcap), "{line}");
            }
            let line = lines.next().unwrap_or_default();
            assert!(line.starts_with("httplines: capturing on lo "), "{line}");
            assert!(!lines.any(|line| line.contains("CAP_PERFMON")), "{}", finished.stderr);
        }
    }

    /// Runs rows in a network namespace.
    fn check_in(namespace: &Namespace, rows: Vec<Row>, make: fn() -> Command) {
        namespace.run(move || check_all(&rows, make));
    }

    #[test]
    fn interfaces_that_cannot_be_captured_on() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        namespace.ip("link add veth0 type veth peer name veth1");
        let there_are =
            "there is no interface eth7; there are: lo, veth1, veth0, and `any` for all";
        let rows = vec![
            row("-i eth7 -o out.jsonl", 1, there_are),
            row("-i lo -i veth0 -o out.jsonl", 1, "veth0 is down; bring it up with: ip link set"),
            row("-i lo -o no/out.jsonl", 1, "there is no directory no; make it first"),
        ];
        check_in(&namespace, rows, program);
    }

    /// Such rings are refused before the kernel is asked, which would not refuse them.
    #[test]
    fn rings_larger_than_memory() {
        let Some(namespace) = Namespace::new() else { skip!("needs root") };
        let says = "make them smaller with -B, in KiB, or use fewer --shards";
        let rows = vec![
            row("-i lo -B 4194303 --shards 1024 -o out.jsonl", 1, says),
            row("-i any -B 4194303 --shards 1024 -o out.jsonl", 1, says),
        ];
        check_in(&namespace, rows, program);
    }

    /// A run on a capture file does not even try io_uring. A live run reports what it uses instead.
    #[test]
    fn io_uring_forbidden_is_said_once_and_does_no_harm() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let without = || {
            let mut command = program();
            forbid(&mut command, &[libc::SYS_io_uring_setup], libc::EPERM);
            command
        };
        let said = |told: &str| {
            let is_ours = |line: &str| line.starts_with("httplines: ") || line.starts_with("  ");
            assert!(told.lines().all(is_ours), "{told}");
            told.lines().filter(|line| line.contains("io_uring cannot be used")).count()
        };
        let place = place();
        let line = "-r good.pcap -o lines.jsonl --shards 3 --output-per-shard";
        let output = run(without(), line, place.path());
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said(&told)), (Some(0), 0), "{told}");
        assert!(told.contains("3 lines, "), "{told}");

        let mut command = without();
        command.args(["-i", "veth1", "-o", "live.jsonl", "--shards", "3", "--output-per-shard"]);
        command.current_dir(place.path());
        let finished = start(&server, command).stop();
        let told = &finished.stderr;
        assert_eq!((finished.code, said(told)), (Some(0), 1), "{told}");
    }

    /// httplines with a file system of 64 KiB at `full/`, which is removed with the process.
    fn with_small_disk(place: &Path) -> Command {
        std::fs::create_dir(place.join("full")).expect("a directory");
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o size=64k none full && exec \"$0\" \"$@\"";
        command.args(["-m", "sh", "-c", script, crate::httplines()]).current_dir(place);
        command
    }

    #[test]
    fn a_disk_that_fills_up_ends_a_file() {
        if !is_root() {
            skip!("needs root, for a small file system");
        }
        let place = place();
        std::fs::write(place.path().join("long.pcap"), capture(2000)).expect("a file");
        let line = "-r long.pcap -o full/out.jsonl";
        let output = run(with_small_disk(place.path()), line, place.path());
        check(&row(line, 1, "full/out.jsonl: the disk is full"), &output, place.path());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("every frame, flow and line is accounted for"), "{told}");
    }

    /// A request of connection `number` from 10.0.0.9 to 10.0.0.1, and the response.
    pub(crate) fn exchange(injector: &Injector, number: u16) {
        let client = (std::net::Ipv4Addr::new(10, 0, 0, 9), 1024 + number).into();
        let server = (std::net::Ipv4Addr::new(10, 0, 0, 1), 80).into();
        let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(900));
        let after = 1 + head.len() as u32;
        let request = Packet::tcp(client, server).seq(1).ack(1).flags(ACK);
        injector.send(&request.payload(head.as_bytes()).ethernet());
        let answer = Packet::tcp(server, client).seq(1).ack(after).flags(ACK);
        injector.send(&answer.payload(b"HTTP/1.1 204 No Content\r\n\r\n").ethernet());
    }

    pub(crate) fn start(namespace: &Namespace, mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = namespace.run(move || command.spawn().expect("it starts"));
        Running::new(child, "capturing on")
    }

    #[test]
    fn a_live_capture_goes_on_when_the_disk_is_full() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = place();
        let mut command = with_small_disk(place.path());
        command.args(["-i", "veth1", "-o", "full/out.jsonl"]);
        let mut running = start(&server, command);
        let injector = client.run(|| Injector::new("veth0"));
        (0..200).for_each(|number| exchange(&injector, number));
        running.await_stderr("cannot write full/out.jsonl: the disk is full");
        let finished = running.stop();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert!(finished.stderr.ends_with("; lines were lost until the end\n"));
        assert!(finished.stderr.contains("200 complete"), "{}", finished.stderr);
        assert!(!finished.stderr.contains(" 0 lines lost"), "{}", finished.stderr);
        assert!(finished.stderr.contains("is accounted for"), "{}", finished.stderr);
    }

    #[test]
    fn an_interface_that_goes_away_ends_the_capture() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut command = program();
        command.args(["-i", "veth1"]);
        let running = start(&server, command);
        let injector = client.run(|| Injector::new("veth0"));
        exchange(&injector, 0);
        running.wait_for_lines(2);
        drop(injector);
        server.ip("link delete veth1");
        let finished = running.wait();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let last = finished.stderr.lines().last().unwrap_or_default();
        let wanted = "httplines: veth1 has gone, and there is nothing left to capture on; start";
        assert!(last.starts_with(wanted), "{}", finished.stderr);
        assert!(finished.stderr.contains("1 complete"), "{}", finished.stderr);
    }

    #[test]
    fn one_of_two_interfaces_that_goes_away_is_told() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut command = program();
        command.args(["-i", "veth1", "-i", "lo"]);
        let mut running = start(&server, command);
        server.ip("link delete veth1");
        running.await_stderr("httplines: veth1 has gone; capturing continues without it");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }

    /// The reader of a live capture has gone: the next line ends the run.
    #[test]
    fn a_closed_pipe_ends_a_live_capture() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = program();
        command.args(["-q", "-i", "veth1"]);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let child = server.run(move || command.spawn().expect("it starts"));
        let running = Running::new(child, "capturing on");
        drop(reader);
        let injector = client.run(|| Injector::new("veth0"));
        exchange(&injector, 0);
        let finished = running.wait();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    }

    #[test]
    fn a_quiet_wire_says_why_there_is_no_line() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut command = program();
        command.args(["-i", "veth1", "-Q", "in"]);
        let finished = start(&server, command).stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(
            finished.stderr.contains("no packet arrived; is it the right"),
            "{}",
            finished.stderr
        );

        let mut command = program();
        command.args(["-i", "veth1"]);
        let mut running = start(&server, command);
        let injector = client.run(|| Injector::new("veth0"));
        let client = (std::net::Ipv4Addr::new(10, 0, 0, 9), 4000).into();
        let server = (std::net::Ipv4Addr::new(10, 0, 0, 1), 443).into();
        let hello = Packet::tcp(client, server).seq(1).payload(b"\x16\x03\x01\x00\x05\x01hello");
        injector.send(&hello.ethernet());
        let why = "no HTTP was seen: 1 frame of TLS; httplines cannot read encrypted traffic";
        wait_until("the frame was seen", || {
            running.signal("USR1");
            running.await_stderr("exchanges in");
            running.await_stderr("why");
            running.stderr().ends_with(&format!("{why}\n"))
        });
        assert!(running.stop().stderr.contains(why));
    }
}
