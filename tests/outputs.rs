//! Outputs that are no plain file of ours: symbolic links; FIFOs, pipes, terminals and sockets
//! whose readers are late, slow or gone; and files that somebody else put there.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use httplines::sys::wait::is_writable;
use tempfile::TempDir;

use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;
use crate::support::lab::{self, Running, wait_until};

/// The program gives up a reader after 5 s. More than this is too long.
const STOP_TIME_MAX: Duration = Duration::from_secs(12);

/// A directory with `good.pcap`, which has `exchange_count` exchanges.
fn place(exchange_count: usize) -> TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    talk.handshake();
    for number in 0..exchange_count {
        talk.client(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    talk.finish();
    let bytes = pcap(Order::Little, Unit::Nano, 1, &talk.frames(1_700_000_000_000_000_000, 1000));
    fs::write(place.path().join("good.pcap"), bytes).expect("a file");
    place
}

/// The program, in `place`, with the words of `line`.
fn program(line: &str, place: &Path) -> Command {
    let mut command = Command::new(crate::httplines());
    command.args(line.split(' ')).current_dir(place).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn run(line: &str, place: &Path) -> Output {
    program(line, place).output().expect("it runs")
}

/// Asserts that the program did not begin, and said why in one line.
fn assert_refused(output: &Output, says: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(says) && told.lines().count() == 1, "{told}");
}

fn make_fifo(path: &Path) {
    lab::run(Command::new("mkfifo").arg(path));
}

fn start(mut command: Command, ready: &str) -> Running {
    let child = command.spawn().expect("it starts");
    wait_until_it_listens(child.id());
    Running::new(child, ready)
}

/// Waits until the process no longer ends by SIGINT itself.
pub(crate) fn wait_until_it_listens(process: u32) {
    wait_until("it listens for signals", || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << (libc::SIGINT - 1) != 0)
    });
}

/// Reads a FIFO to its end, as soon as somebody writes it.
fn read_fifo(path: &Path) -> thread::JoinHandle<String> {
    let path = path.to_path_buf();
    thread::spawn(move || fs::read_to_string(path).expect("lines"))
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let place = place(3);
    let path = |name: &str| place.path().join(name);
    fs::write(path("theirs"), "a\n").expect("a file");
    symlink("theirs", path("link.jsonl")).expect("a link");
    symlink("nothing", path("dangling")).expect("a link");
    symlink("theirs", path("http.1.jsonl")).expect("a link");
    symlink("/dev/full", path("device")).expect("a link");
    for (line, name) in [
        ("-r good.pcap -o link.jsonl", "link.jsonl"),
        ("-r good.pcap -o dangling", "dangling"),
        ("-r good.pcap -o device", "device"),
        ("-r good.pcap -o http.jsonl --output-per-shard --shards 2", "http.1.jsonl"),
    ] {
        let says = format!("cannot write {name}: it is a symbolic link; name the file that it");
        assert_refused(&run(line, place.path()), &says);
    }
    assert_eq!(fs::read_to_string(path("theirs")).expect("it is there"), "a\n");
    assert!(!path("nothing").exists());
}

/// These are links, too, but they lead to what the shell has opened.
#[test]
fn descriptors_of_the_shell_are_written() {
    let place = place(3);
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let line = format!("-r good.pcap -o {name}");
        let output = run(&line, place.path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 4, "{name}");
        let file = File::create(place.path().join("lines")).expect("a file");
        let status = program(&line, place.path()).stdout(file).status().expect("it runs");
        assert!(status.success());
        let lines = fs::read_to_string(place.path().join("lines")).expect("lines");
        assert_eq!(lines.lines().count(), 3, "{name}");
    }
    let output = run("-q -r good.pcap -o /dev/stderr", place.path());
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 3);
}

#[test]
fn a_socket_is_no_output() {
    let place = place(1);
    let _socket = std::os::unix::net::UnixListener::bind(place.path().join("socket"));
    assert_refused(&run("-r good.pcap -o socket", place.path()), "socket: it is a socket; name a");
}

#[test]
fn a_fifo_waits_for_its_reader() {
    let place = place(3);
    let fifo = place.path().join("fifo");
    make_fifo(&fifo);
    let mut command = program("-r good.pcap -o fifo", place.path());
    command.stdout(Stdio::null());
    let running = start(command, "httplines: waiting for a reader of fifo");
    let reader = read_fifo(&fifo);
    let finished = running.wait();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(reader.join().expect("it reads").lines().count(), 3);
    finished.told("written    3 lines");
}

#[test]
fn what_waits_for_a_reader_can_be_interrupted() {
    let place = place(3);
    make_fifo(&place.path().join("fifo"));
    for signal in ["INT", "TERM"] {
        let running = start(program("-r good.pcap -o fifo", place.path()), "waiting for a reader");
        running.signal(signal);
        let finished = running.wait();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        finished.told(" 0 lines, 0 bytes, 3 lines lost");
        finished.told("every frame, flow and line is accounted for");
        finished.told("cannot write fifo: nobody reads it");
    }
}

/// A terminal: the end that a user sees, and the one for programs.
fn terminal() -> (File, File) {
    let (mut master, mut slave) = (0, 0);
    let none: *mut libc::c_void = std::ptr::null_mut();
    // SAFETY: the two numbers are written, and nothing else is passed.
    let made =
        unsafe { libc::openpty(&mut master, &mut slave, none.cast(), none.cast(), none.cast()) };
    assert_eq!(made, 0);
    // SAFETY: both descriptors were just opened, and nobody else owns them.
    unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) }
}

/// Waits until there is no space left in what `output` leads to.
fn wait_until_full(output: impl AsFd) {
    wait_until("nothing more fits", || !is_writable(&output, 0).expect("it can be polled"));
}

/// A run on a file whose reader has stopped ends when it is told to.
#[test]
fn a_reader_that_stops_holds_no_run_that_is_interrupted() {
    let place = place(20_000);
    let (pipe_end, pipe) = std::io::pipe().expect("a pipe");
    let (socket_end, socket) = UnixStream::pair().expect("sockets");
    let (terminal_end, terminal) = terminal();
    let ends: [(OwnedFd, OwnedFd); 3] = [
        (pipe_end.into(), pipe.into()),
        (socket_end.into(), socket.into()),
        (terminal_end.into(), terminal.into()),
    ];
    thread::scope(|scope| {
        for (end, output) in ends {
            let place = place.path();
            scope.spawn(move || {
                let mut command = program("-r good.pcap -o -", place);
                command.stdout(output.try_clone().expect("a copy"));
                let child = command.spawn().expect("it starts");
                wait_until_full(&output);
                let begun = Instant::now();
                send(&child, "INT");
                let told = child.wait_with_output().expect("it ends");
                let code = told.status.code();
                let told = String::from_utf8_lossy(&told.stderr);
                assert!(begun.elapsed() < STOP_TIME_MAX, "{told}");
                assert_eq!(code, Some(1), "{told}");
                let says = "cannot write standard output: its reader is too slow or has stopped\n";
                assert!(told.ends_with(says), "{told}");
                assert!(told.contains("every frame, flow and line is accounted for"), "{told}");
                assert!(!told.contains(" 0 lines lost"), "{told}");
                // Our description of it is not that of the others.
                assert!(!httplines::sys::wait::is_nonblocking(&output));
                drop(end);
            });
        }
    });
}

/// Totals and error messages go into the pipe that nobody reads, too.
#[test]
fn messages_that_nobody_reads_hold_no_run_either() {
    let place = place(20_000);
    let (_end, pipe) = std::io::pipe().expect("a pipe");
    let mut command = program("-r good.pcap -o -", place.path());
    command.stdout(pipe.try_clone().expect("a copy")).stderr(pipe.try_clone().expect("a copy"));
    let mut child = command.spawn().expect("it starts");
    wait_until_full(&pipe);
    send(&child, "INT");
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().expect("a child of ours");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    // If it is told twice, it does not wait at all.
    let mut child = command.spawn().expect("it starts");
    wait_until_it_listens(child.id());
    let begun = Instant::now();
    wait_until("it ends", || {
        send(&child, "INT");
        child.try_wait().expect("a child of ours").is_some()
    });
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// Sends a signal to a child that is not reaped yet.
fn send(child: &Child, name: &str) {
    lab::run(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]));
}

/// A slow reader is no stopped one: after the signal it still gets what is written already, as long
/// as it takes it.
#[test]
fn a_reader_that_goes_on_gets_all_lines() {
    let place = place(20_000);
    let (mut end, pipe) = std::io::pipe().expect("a pipe");
    let mut command = program("-r good.pcap -o -", place.path());
    command.stdout(pipe.try_clone().expect("a copy"));
    let child = command.spawn().expect("it starts");
    wait_until_full(&pipe);
    drop(pipe);
    send(&child, "INT");
    drop(command);
    let mut lines = Vec::new();
    end.read_to_end(&mut lines).expect("lines");
    let told = child.wait_with_output().expect("it ends");
    let code = told.status.code();
    let told = String::from_utf8_lossy(&told.stderr);
    assert_eq!(code, Some(0), "{told}");
    let count = lines.iter().filter(|byte| **byte == b'\n').count();
    assert!(
        told.contains(&format!("written    {count} lines")) && lines.ends_with(b"\n"),
        "{told}"
    );
    assert!(told.contains(" 0 lines lost"), "{told}");
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::support::lab::is_root;
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::packet::{ACK, Packet};
    use crate::support::skip;
    use std::os::unix::fs::chown;

    const STRANGER: u32 = 4711;

    #[test]
    fn root_writes_to_no_file_of_somebody_else() {
        if !is_root() {
            skip!("needs root, for files of another user");
        }
        let place = place(3);
        let path = |name: &str| place.path().join(name);
        make_fifo(&path("fifo"));
        fs::write(path("theirs"), "a").expect("a file");
        fs::write(path("ours"), "a\n").expect("a file");
        for name in ["fifo", "theirs"] {
            chown(path(name), Some(STRANGER), None).expect("we are root");
            let says = format!("{name}: it belongs to another user (4711), and root writes to no");
            assert_refused(&run(&format!("-r good.pcap -o {name}"), place.path()), &says);
        }
        fs::hard_link(path("ours"), path("link")).expect("a link");
        let says = "link: it has a second name (a hard link), and root writes to no such file";
        assert_refused(&run("-r good.pcap -o link", place.path()), says);
        assert_eq!(fs::read_to_string(path("theirs")).expect("it is there"), "a");
        assert_eq!(fs::read_to_string(path("ours")).expect("it is there"), "a\n");
        // The shell has opened it: that is somebody's decision.
        let file = File::options().append(true).open(path("theirs")).expect("we are root");
        let mut command = program("-r good.pcap -o /dev/stdout", place.path());
        assert!(command.stdout(file).status().expect("it runs").success());
        fs::remove_file(path("link")).expect("it is there");
        for lines in [4, 7] {
            assert!(run("-r good.pcap -o ours", place.path()).status.success());
            assert_eq!(fs::read_to_string(path("ours")).expect("lines").lines().count(), lines);
        }
    }

    /// A namespace, and the program in it, capturing on its loopback.
    fn capture(place: &Path, line: &str, stdout: Option<OwnedFd>) -> (Injector, Running) {
        let namespace = Namespace::new().expect("we are root");
        let mut command = program(&format!("-i lo --shards 1 {line}"), place);
        command.stdout(stdout.map_or(Stdio::null(), Stdio::from));
        let child = namespace.run(move || command.spawn().expect("it starts"));
        let injector = namespace.run(|| Injector::new("lo"));
        (injector, Running::new(child, "capturing on"))
    }

    /// An exchange on a connection of its own, with a line of 8 KiB.
    fn exchange(injector: &Injector, number: u16) {
        let client = (std::net::Ipv4Addr::new(10, 0, 0, 9), 1024 + number).into();
        let server = (std::net::Ipv4Addr::new(10, 0, 0, 1), 80).into();
        let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8000));
        let after = 1 + head.len() as u32;
        let request = Packet::tcp(client, server).seq(1).ack(1).flags(ACK);
        injector.send(&request.payload(head.as_bytes()).ethernet());
        let answer = Packet::tcp(server, client).seq(1).ack(after).flags(ACK);
        injector.send(&answer.payload(b"HTTP/1.1 204 No Content\r\n\r\n").ethernet());
    }

    /// Reopening has the rules of opening; what is refused leaves the old file in use.
    #[test]
    fn a_name_that_was_taken_by_somebody_else_is_not_reopened() {
        if !is_root() {
            skip!("needs root");
        }
        let place = place(0);
        let path = |name: &str| place.path().join(name);
        let (injector, mut running) = capture(place.path(), "-o http.jsonl", None);
        fs::rename(path("http.jsonl"), path("old")).expect("it is there");
        symlink("theirs", path("http.jsonl")).expect("a link");
        running.signal("HUP");
        running.await_stderr("cannot reopen http.jsonl: it is a symbolic link; name the file that");
        fs::remove_file(path("http.jsonl")).expect("it is there");
        fs::write(path("http.jsonl"), "").expect("a file");
        chown(path("http.jsonl"), Some(STRANGER), None).expect("we are root");
        running.signal("HUP");
        running.await_stderr("cannot reopen http.jsonl: it belongs to another user");
        exchange(&injector, 0);
        wait_until("a line", || fs::read(path("old")).is_ok_and(|lines| lines.ends_with(b"\n")));
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(!path("theirs").exists());
        assert_eq!(fs::read(path("http.jsonl")).expect("it is there"), b"");
    }

    #[test]
    fn a_live_capture_begins_before_its_fifo_is_read() {
        if !is_root() {
            skip!("needs root");
        }
        let place = place(0);
        let fifo = place.path().join("fifo");
        make_fifo(&fifo);
        let (_injector, running) = capture(place.path(), "-o fifo", None);
        assert!(running.stderr().contains("httplines: waiting for a reader of fifo\n"));
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "nothing was lost: {}", finished.stderr);

        let (injector, running) = capture(place.path(), "-o fifo", None);
        (0..3).for_each(|number| exchange(&injector, number));
        let finished = running.stop();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        finished.told(" 3 lines lost");
        finished.told("cannot write fifo: nobody reads it; lines were lost until the end");

        let (injector, running) = capture(place.path(), "-o fifo", None);
        exchange(&injector, 0);
        let mut lines = File::open(&fifo).expect("a FIFO");
        exchange(&injector, 1);
        let mut read: Vec<u8> = Vec::new();
        wait_until("two lines", || {
            let mut part = [0; 65536];
            let count = lines.read(&mut part).expect("it is open");
            read.extend(&part[..count]);
            read.iter().filter(|byte| **byte == b'\n').count() == 2
        });
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);

        // A reader that gets nothing is not left waiting.
        let (_injector, running) = capture(place.path(), "-o fifo", None);
        let reader = read_fifo(&fifo);
        assert_eq!(running.stop().code, Some(0));
        wait_until("the reader has seen the end", || reader.is_finished());
    }

    #[test]
    fn a_live_capture_whose_reader_has_stopped_can_be_interrupted() {
        if !is_root() {
            skip!("needs root");
        }
        let place = place(0);
        let (_end, pipe) = std::io::pipe().expect("a pipe");
        let copy = pipe.try_clone().expect("a copy").into();
        let (injector, running) = capture(place.path(), "-o -", Some(copy));
        (0..100).for_each(|number| exchange(&injector, number));
        wait_until_full(&pipe);
        let begun = Instant::now();
        let finished = running.stop();
        assert!(begun.elapsed() < STOP_TIME_MAX, "{}", finished.stderr);
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let says =
            "cannot write standard output: its reader is too slow or has stopped; lines were";
        finished.told(says);
        finished.told("every frame, flow and line is accounted for");
        finished.told("100 complete");
    }

    #[test]
    fn a_device_that_is_full_at_the_end_is_a_failure() {
        if !is_root() {
            skip!("needs root");
        }
        let place = place(0);
        let (injector, mut running) = capture(place.path(), "-o /dev/full", None);
        exchange(&injector, 0);
        running.await_stderr("cannot write /dev/full: the disk is full; free some space; until");
        let finished = running.stop();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let says = "httplines: cannot write /dev/full: the disk is full; free some space; lines \
                    were lost until the end\n";
        assert!(finished.stderr.ends_with(says), "{}", finished.stderr);
    }

    #[test]
    fn a_reader_that_is_too_slow_is_reported_when_it_begins_and_when_it_ends() {
        if !is_root() {
            skip!("needs root");
        }
        let place = place(0);
        let (mut end, pipe) = std::io::pipe().expect("a pipe");
        let (injector, mut running) = capture(place.path(), "-o -", Some(pipe.into()));
        // 16 MiB may wait.
        (0..4000).for_each(|number| exchange(&injector, number));
        running.await_stderr(
            "standard output: its reader or disk is too slow; lines are being dropped and counted",
        );
        let reader = thread::spawn(move || {
            let mut lines = Vec::new();
            end.read_to_end(&mut lines).expect("lines");
            lines.iter().filter(|byte| **byte == b'\n').count()
        });
        running.await_stderr("standard output: fast enough again; ");
        // The queue is empty, so this line arrives.
        exchange(&injector, 4000);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let count = reader.join().expect("it reads");
        finished.told(&format!("written    {count} lines"));
        assert!(!finished.stderr.contains(" 0 lines lost"), "{}", finished.stderr);
        assert_eq!(finished.stderr.matches("too slow").count(), 1, "{}", finished.stderr);
    }
}
