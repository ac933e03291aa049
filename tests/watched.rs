//! Who watches a run: a service manager that is notified, a terminal with rates, and an exit code
//! that tells of losses.

use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Output, Stdio};

use httplines::capture::live::{InterfaceTotals, LiveTotals};
use httplines::totals::Totals;

use crate::commands::{check_all, place, program, row};
use crate::support::program;
use crate::support::service_manager::ServiceManager;

/// Runs the program on a good capture, notifying `address`.
fn read_notifying(address: &str, line: &str) -> Output {
    let place = place();
    let mut command = Command::new(crate::httplines());
    command.args(line.split(' ')).current_dir(place.path()).env("NOTIFY_SOCKET", address);
    command.stdin(Stdio::null()).output().expect("it runs")
}

/// Sealed, as an unprivileged user may, and without anything that is for captures.
#[test]
fn a_run_that_reads_files_notifies() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("notify").display().to_string();
    let name = format!("@httplines-test-{}", std::process::id());
    for address in [&path, &name] {
        let manager = ServiceManager::at(address);
        let done = read_notifying(address, "-r good.pcap -o -");
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{told}");
        assert!(!told.contains("notify"), "{told}");
        assert_eq!(manager.next(), "READY=1\nSTATUS=reading", "{address}");
        assert_eq!(manager.next(), "STOPPING=1\nSTATUS=writing what was captured", "{address}");
    }
}

/// A warning, which -q does not silence, and nothing else.
#[test]
fn a_service_manager_that_is_not_there_is_told_and_no_error() {
    let place = tempfile::tempdir().expect("a directory");
    let gone = place.path().join("gone");
    let dead = place.path().join("dead");
    drop(ServiceManager::at(&dead.display().to_string()));
    assert!(std::fs::metadata(&dead).is_ok_and(|it| it.file_type().is_socket()), "it stays");
    for (address, why) in [
        (gone.display().to_string(), "No such file or directory"),
        (dead.display().to_string(), "Connection refused"),
        ("@httplines-nobody".into(), "Connection refused"),
        ("notify".into(), "it is neither an absolute path nor @ and a name"),
        ("vsock:2:1234".into(), "it is neither an absolute path nor @ and a name"),
    ] {
        let done = read_notifying(&address, "-q -r good.pcap -o -");
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), told.lines().count()), (Some(0), 1), "{told}");
        let begin =
            format!("httplines: cannot notify the service manager at {address} (NOTIFY_SOCKET): ");
        assert!(told.starts_with(&format!("{begin}{why}")), "{told}");
        assert!(told.ends_with("; continuing without\n"), "{told}");
        assert_eq!(done.stdout.iter().filter(|byte| **byte == b'\n').count(), 3);
    }
}

#[test]
fn reading_a_file_has_no_rates() {
    let says = "--stats-interval is for live captures, with -i; reading a file has its totals";
    let rows = [
        row("-r good.pcap --stats-interval 1", 2, says),
        row("-r good.pcap --stats-interval 1 -o out.jsonl", 2, says),
    ];
    check_all(&rows, program);
}

#[test]
fn losses_are_a_sentence() {
    let mut totals = Totals::default();
    assert_eq!(totals.losses(), None);
    assert_eq!(totals.lacks_counters(false), None);
    let lacks = totals.lacks_counters(true);
    assert_eq!(lacks.as_deref(), Some("the kernel's counters of dropped frames cannot be read"));
    totals.writer.lines_lost_write_error = 1;
    assert_eq!(totals.losses().as_deref(), Some("1 line was lost (1 write error)"));
    totals.shards.emit.lines_dropped = 4;
    let interface = InterfaceTotals { drops: 1, rx_missed: 9, ..InterfaceTotals::default() };
    let live = LiveTotals { interfaces: vec![interface], softnet_dropped: 9, ..Default::default() };
    totals.live = Some(live);
    assert_eq!(
        totals.losses().as_deref(),
        Some(
            "1 frame was dropped by the kernel, because a ring was full, and 5 lines were lost (4 \
             queue full, 1 write error)"
        )
    );
}

/// Of a file no frame is dropped, but its lines may be lost.
#[test]
fn lines_that_nobody_reads_fail_a_run_that_must_lose_nothing() {
    let bytes = crate::commands::capture(3);
    let lossless = program::run(&["-q", "-r", "-", "-o", "-", "--fail-on-drop"], Some(&bytes));
    assert_eq!((lossless.status.code(), lossless.stderr.len()), (Some(0), 0));
    for (options, code, says) in [
        ("", 0, ""),
        (
            " --fail-on-drop",
            1,
            "httplines: failed (--fail-on-drop): 3 lines were lost (3 reader gone)\n",
        ),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let place = place();
        let mut command = program();
        command.args(format!("-q -r good.pcap -o -{options}").split(' '));
        command.current_dir(place.path()).stdin(Stdio::null()).stdout(writer);
        let done = command.stderr(Stdio::piped()).output().expect("it runs");
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), &*told), (Some(code), says));
    }
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::commands::root::exchange;
    use crate::support::lab::{Running, send_signal, wait_until};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;
    use crate::support::stopped_thread::StoppedThread;

    const OPTIONS: [&str; 4] = ["-i", "veth1", "-B", "2048"];

    /// The program on `veth1` of `namespace`.
    fn start(namespace: &Namespace, mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(namespace.run(move || command.spawn().expect("it starts")), "capturing on")
    }

    fn capturing(line: &str) -> Command {
        let mut command = Command::new(crate::httplines());
        command.args(OPTIONS).args(line.split_whitespace());
        command
    }

    /// An injector for each of the exchanges that the program sees on `veth1`.
    fn injector(client: &Namespace) -> Injector {
        client.run(|| Injector::new("veth0"))
    }

    /// With the seal, which holds after the first message.
    #[test]
    fn a_capture_notifies_in_order() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let output = place.path().join("http.jsonl");
        let injector = injector(&client);
        for address in [place.path().join("notify").display().to_string(), "@notify".into()] {
            let named = address.clone();
            // Abstract names belong to a network namespace.
            let manager = server.run(move || ServiceManager::at(&named));
            let mut command = capturing("--shards 2 -o");
            command.arg(&output);
            manager.watch(&mut command, Some(400));
            let running = start(&server, command);
            assert_eq!(manager.next(), "READY=1\nSTATUS=capturing");
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid()));
            let is_sealed = status.is_ok_and(|status| status.contains("\nSeccomp:\t2\n"));
            let is_switched_off = std::env::var_os("HTTPLINES_TEST_NO_SANDBOX").is_some();
            assert_eq!(is_sealed, !is_switched_off);
            manager.await_sign();
            exchange(&injector, 0);
            let lines = |path: &Path| std::fs::read(path).unwrap_or_default();
            wait_until("a line", || lines(&output).ends_with(b"\n"));
            let renamed = place.path().join("old.jsonl");
            std::fs::rename(&output, &renamed).expect("it is there");
            running.signal("HUP");
            let reloading = manager.next_state();
            let time_us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
            assert!(time_us.is_some_and(|time| time.parse::<u64>().is_ok()), "{reloading}");
            let ready = manager.next_state();
            assert_eq!(ready, "READY=1");
            assert!(output.exists(), "it is reopened by then");
            manager.await_sign();
            running.signal("TERM");
            let stopping = manager.next_state();
            assert_eq!(stopping, "STOPPING=1\nSTATUS=writing what was captured");
            let finished = running.wait();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            assert!(!finished.stderr.contains("service manager"), "{}", finished.stderr);
            assert!(manager.during(Duration::from_millis(1)).is_empty());
        }
    }

    #[test]
    fn the_status_has_rates() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let manager = ServiceManager::at(&place.path().join("notify").display().to_string());
        let mut command = capturing("--shards 1");
        manager.watch(&mut command, None);
        let running = start(&server, command);
        let injector = injector(&client);
        (0..40).for_each(|number| exchange(&injector, number));
        assert_eq!(manager.next(), "READY=1\nSTATUS=capturing");
        let status = manager.next();
        let rate = status.strip_prefix("STATUS=");
        let rate =
            rate.and_then(|text| text.strip_suffix(" req/s, 0 frames dropped, 0 lines lost"));
        let rate: f64 = rate.and_then(|rate| rate.parse().ok()).expect(&status);
        // 40 in ten seconds and a little more.
        assert!((2.0..=4.01).contains(&rate), "{status}");
        assert_eq!(running.stop().code, Some(0));
    }

    #[test]
    fn a_shard_that_hangs_gets_no_sign_of_life() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let manager = ServiceManager::at(&place.path().join("notify").display().to_string());
        // Not the one that scripts/syscalls traces: a thread has one tracer at most.
        let mut command = Command::new(env!("CARGO_BIN_EXE_httplines"));
        command.args(OPTIONS).args(["--shards", "2"]);
        manager.watch(&mut command, Some(400));
        let mut running = start(&server, command);
        assert_eq!(manager.next(), "READY=1\nSTATUS=capturing");
        manager.await_sign();
        let stopped = match StoppedThread::named(running.pid(), "shard-1") {
            Ok(stopped) => stopped,
            Err(error) => skip!(format!("needs ptrace: {error}")),
        };
        running.await_stderr(
            "shard 1 did not poll for 5 s: it hangs, or has no CPU; the service manager is left",
        );
        while manager.next() != "STATUS=shard 1 did not poll for 5 s" {}
        // Five were due.
        assert_eq!(manager.during(Duration::from_secs(1)), Vec::<String>::new());
        drop(stopped);
        manager.await_sign();
        running.await_stderr("all shards poll again");
        exchange(&injector(&client), 0);
        running.wait_for_lines(2);
        assert_eq!(running.stop().code, Some(0));
    }

    #[test]
    fn a_service_manager_that_goes_does_not_end_the_run() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let manager = ServiceManager::at(&place.path().join("notify").display().to_string());
        let mut command = capturing("--shards 1");
        manager.watch(&mut command, Some(100));
        let mut running = start(&server, command);
        assert_eq!(manager.next(), "READY=1\nSTATUS=capturing");
        drop(manager);
        let says = "cannot notify the service manager: Connection refused";
        running.await_stderr(says);
        exchange(&injector(&client), 0);
        running.wait_for_lines(2);
        let finished = running.stop();
        assert_eq!((finished.code, finished.stderr.matches(says).count()), (Some(0), 1));
    }

    /// Nobody empties the ring of a program that does not run.
    #[test]
    fn frames_that_the_kernel_dropped_fail_a_run_that_must_lose_nothing() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let injector = injector(&client);
        for (options, is_dropping, code) in
            [("--fail-on-drop", true, 1), ("", true, 0), ("--fail-on-drop", false, 0)]
        {
            let running = start(&server, capturing(&format!("-q --shards 1 {options}")));
            if is_dropping {
                running.signal("STOP");
                // The ring has 2 MiB, and each of them takes more than 1 KiB.
                (0..8000).for_each(|number| exchange(&injector, number));
                running.signal("CONT");
            } else {
                exchange(&injector, 0);
                running.wait_for_lines(2);
            }
            let finished = running.stop();
            assert_eq!(finished.code, Some(code), "{}", finished.stderr);
            let says = " frames were dropped by the kernel, because a ring was full\n";
            let told = finished.stderr.lines().last().unwrap_or_default().to_string() + "\n";
            assert_eq!(told.ends_with(says), code == 1, "{told}");
            if code == 1 {
                let count = told.strip_prefix("httplines: failed (--fail-on-drop): ");
                let count = count.and_then(|rest| rest.strip_suffix(says));
                assert!(count.is_some_and(|count| count.parse::<u64>().is_ok()), "{told}");
            }
        }
    }

    /// The numbers of a line of rates: seconds, frames/s, requests/s and bit/s.
    fn rates(line: &str) -> Option<[f64; 4]> {
        let words: Vec<&str> = line.strip_prefix("httplines: ")?.split_whitespace().collect();
        let number = |text: &str| {
            let scale = |prefix| match prefix {
                'k' => Some(1e3),
                'M' => Some(1e6),
                _ => None,
            };
            let (digits, factor) = match text.chars().last().and_then(scale) {
                Some(factor) => (&text[..text.len() - 1], factor),
                None => (text, 1.0),
            };
            digits.parse::<f64>().ok().map(|number| number * factor)
        };
        let [s, "s", frames, "frames/s", requests, "req/s", bits, unit, ..] = words[..] else {
            return None;
        };
        assert_eq!(words[8..], ["0", "dropped", "0", "lines", "lost", words[13], "connections"]);
        let bits = format!("{bits}{}", unit.strip_suffix("bit/s")?);
        Some([number(s)?, number(frames)?, number(requests)?, number(&bits)?])
    }

    #[test]
    fn rates_are_those_of_the_traffic() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut running = start(&server, capturing("--shards 1 --stats-interval 2"));
        let injector = injector(&client);
        (0..200).for_each(|number| exchange(&injector, number));
        running.wait_for_lines(400);
        // The line for the rest of this interval, and one in which nothing passes.
        running.await_stderr(" frames/s ");
        running.await_stderr("     0 frames/s      0 req/s     0 bit/s ");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let lines: Vec<[f64; 4]> = finished.stderr.lines().filter_map(rates).collect();
        let (mut sums, mut before) = ([0.0; 3], 0.0);
        for [s, rates @ ..] in lines {
            let seconds = s - before;
            (0..3).for_each(|at| sums[at] += rates[at] * seconds);
            before = s;
        }
        // A tenth of a second of two, and three digits.
        let captured = finished.stderr.lines().find_map(|line| {
            line.trim().strip_prefix("captured ")?.trim().strip_suffix(" bytes")?.parse().ok()
        });
        let captured_bytes: f64 = captured.expect("the totals tell it");
        for (sum, expected) in sums.into_iter().zip([400.0, 200.0, 8.0 * captured_bytes]) {
            assert!((0.9..1.1).contains(&(sum / expected)), "{sum}, not {expected}");
        }
        // Within a line, time does not matter.
        assert!((0.98..1.02).contains(&(sums[0] / sums[1] / 2.0)), "{sums:?}");

        for options in ["--stats-interval 0.1 -q", "--stats-interval 0"] {
            let running = start(&server, capturing(&format!("--shards 1 {options}")));
            exchange(&injector, 1);
            running.wait_for_lines(2);
            let finished = running.stop();
            assert!(!finished.stderr.contains("req/s"), "{}", finished.stderr);
        }
    }

    /// Standard error is a pipe with room for one line.
    #[test]
    fn messages_that_nobody_reads_hold_up_nothing() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let manager = ServiceManager::at(&place.path().join("notify").display().to_string());
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        // SAFETY: no memory is passed.
        let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
        assert_eq!(size, 4096);
        let output = place.path().join("lines");
        let mut command = capturing("--shards 1 --stats-interval 0.1 --no-sandbox");
        manager.watch(&mut command, Some(400));
        command.stdin(Stdio::null()).stderr(writer);
        command.stdout(std::fs::File::create(&output).expect("a file"));
        let mut child = server.run(move || command.spawn().expect("it starts"));
        // Without its copy of the writer, the pipe ends with the program.
        let mut told = String::new();
        while !(told.contains("capturing on") && told.ends_with('\n')) {
            let mut bytes = [0; 4096];
            let length = reader.read(&mut bytes).expect("it speaks");
            assert_ne!(length, 0, "{told}");
            told += std::str::from_utf8(&bytes[..length]).expect("text");
        }
        assert_eq!(manager.next(), "READY=1\nSTATUS=capturing");
        // Two seconds, for twenty lines.
        (0..10).for_each(|_| manager.await_sign());
        // Nor do totals wait: they are counted.
        send_signal(&child, "USR1");
        (0..5).for_each(|_| manager.await_sign());
        exchange(&injector(&client), 0);
        wait_until("lines", || std::fs::read(&output).is_ok_and(|bytes| bytes.ends_with(b"\n")));
        send_signal(&child, "TERM");
        reader.read_to_string(&mut told).expect("text");
        assert_eq!(child.wait().expect("a child of ours").code(), Some(0), "{told}");
        assert!((1..=3).contains(&told.matches(" req/s").count()), "{told}");
        let says = "\nhttplines: a message was not printed, since nobody read standard error\n";
        assert!(told.contains(says), "{told}");
        assert!(told.contains("is accounted for"), "{told}");
    }

    /// Standard error is full, and the run has nothing else to say.
    #[test]
    fn what_a_quiet_run_could_not_print_is_told_at_its_end() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let manager = ServiceManager::at(&place.path().join("notify").display().to_string());
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        // SAFETY: no memory is passed.
        let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
        assert_eq!(size, 4096);
        let mut filling = [b'\n'; 4096];
        writer.write_all(&filling).expect("room");
        let mut command = capturing("--shards 1 --quiet");
        manager.watch(&mut command, Some(400));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        let mut child = server.run(move || command.spawn().expect("it starts"));
        assert_eq!(manager.next(), "READY=1\nSTATUS=capturing");
        // The start is told before the first sign of life.
        manager.await_sign();
        reader.read_exact(&mut filling).expect("what was there");
        send_signal(&child, "TERM");
        let mut told = String::new();
        reader.read_to_string(&mut told).expect("text");
        assert_eq!(child.wait().expect("a child of ours").code(), Some(0), "{told}");
        let says = "httplines: a message was not printed, since nobody read standard error\n";
        assert_eq!(told, says);
    }
}
