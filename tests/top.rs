//! `httplines top`, in a real terminal: what is shown, what keys do, and what is left at the end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;
use crate::support::lab::wait_until;
use crate::support::skip;
use crate::support::terminal::{self, Terminal};

/// Ends the running test as skipped where there can be no terminal.
macro_rules! needs_terminal {
    () => {
        if let Some(reason) = terminal::missing() {
            skip!(reason);
        }
    };
}

/// A line as httplines writes it.
fn line(host: &str, target: &str, status: u16, ttfb_ns: u64) -> String {
    let [host, target] = [host, target].map(|text| serde_json::json!(text).to_string());
    format!(
        "{{\"ts\":\"2026-12-01T14:00:00.000000000Z\",\"flow\":\"0123456789abcdef\",\"n\":0,\
         \"client_ip\":\"10.0.0.1\",\"client_port\":40000,\"server_ip\":\"10.0.0.2\",\
         \"server_port\":80,\"method\":\"GET\",\"target\":{target},\"version\":\"HTTP/1.1\",\
         \"host\":{host},\"status\":{status},\"response_body_bytes\":1000,\"ttfb_ns\":{ttfb_ns},\
         \"outcome\":\"complete\"}}\n"
    )
}

/// A call of gRPC.
fn call() -> String {
    line("grpc.example", "/shop.Orders/Get", 200, 2_000_000)
        .replace("\"outcome\"", "\"grpc_status\":14,\"duration_ns\":7000000,\"outcome\"")
}

/// A line of statistics.
fn statistics(seq: u64, dropped: u64) -> String {
    format!(
        "{{\"run\":\"00f1\",\"seq\":{seq},\"final\":false,\"shard_count\":1,\"total\":{{\
         \"elapsed_ms\":{}000,\"frames\":{{\"dropped\":{dropped},\"captured_bytes\":1000}},\
         \"flow\":{{\"gaps\":2,\"gap_bytes\":4100}},\"shards\":[{{\"cpu_ns\":{seq}00000000}}]}},\
         \"gauges\":{{\"connections\":41}}}}\n",
        10 * seq
    )
}

/// Files of a service, in a directory that every user may enter.
struct Files {
    place: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().expect("a directory");
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        Files { place }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let file = File::options().append(true).create(true).open(self.path(name));
        file.expect("it opens").write_all(text.as_bytes()).expect("it is written");
    }

    /// What is shown of these files.
    fn top(&self, name: &str, options: &str) -> String {
        let shown = self.path(name).display().to_string();
        format!("{} top {shown} {options}", crate::httplines())
    }
}

const HOSTILE: &str = "evil\u{1b}[2J\u{1b}]0;title\u{7}\r\n\u{202e}host";

/// Lines of four hosts.
fn lines() -> String {
    let mut text = String::new();
    for number in 0..30 {
        text += &line("api.example.com", &format!("/v1/orders/{number}"), 200, 3_000_000);
    }
    for _ in 0..8 {
        text += &line("shop.example.com", "/v1/search", 503, 1_900_000_000);
    }
    for _ in 0..4 {
        text += &line(HOSTILE, &format!("/{HOSTILE}"), 404, 80_000);
    }
    text + &call()
}

/// A screen that follows these lines.
fn following(files: &Files, size: (u16, u16), environment: &[(&str, &str)]) -> Terminal {
    files.append("http.jsonl", &line("old.example", "/old", 200, 1));
    files.append("http.stats", &statistics(1, 7));
    let terminal = Terminal::new(size.0, size.1, environment);
    terminal.run(&files.top("http.jsonl", ""));
    // The screen comes up with what was in the file of statistics; lines are those that come now.
    terminal.wait_for("open 41");
    files.append("http.jsonl", &lines());
    terminal.press(&["t"]);
    terminal.wait_for("api.example.com");
    terminal
}

#[test]
fn each_view_shows_what_comes_into_the_file() {
    needs_terminal!();
    let files = Files::new();
    let terminal = following(&files, (80, 24), &[]);
    let hosts = terminal.wait_for("HOST  4, in all");
    for part in [
        "api.example.com",
        "30  69.8%",
        "3.0ms",
        "shop.example.com",
        "100%",
        "up 10 s",
        r"evil\u{1b}[2j",
    ] {
        assert!(hosts.contains(part), "{part}:\n{hosts}");
    }
    assert!(!hosts.contains("old.example"), "it was there before:\n{hosts}");
    assert!(hosts.contains("ring full      7") && hosts.contains("gaps           2"), "{hosts}");
    terminal.text("p");
    let paths = terminal.wait_for("PATH  4, in all");
    assert!(paths.contains("GET /v1/orders/*") && paths.contains("GET /v1/search"), "{paths}");
    terminal.text("c");
    let clients = terminal.wait_for("CLIENT  1, in all");
    assert!(clients.contains("10.0.0.1"), "{clients}");
    terminal.text("g");
    let calls = terminal.wait_for("METHOD OF gRPC  1, in all");
    assert!(calls.contains("shop.Orders/Get") && calls.contains("7.0ms"), "{calls}");
    terminal.press(&["Tab"]);
    let names = terminal.wait_for("NAME IN TLS  0, in all");
    assert!(names.contains("lines need --records http,tls"), "{names}");
    terminal.press(&["Tab"]);
    terminal.wait_for("HOST  4, in all");
    terminal.text("q");
    terminal.ended(0);
}

#[test]
fn rows_are_sorted_filtered_selected_and_shown_in_detail() {
    needs_terminal!();
    let files = Files::new();
    let terminal = following(&files, (80, 24), &[]);
    let is_first = |host: &'static str| {
        move |screen: &str| screen.lines().any(|line| line.starts_with('▶') && line.contains(host))
    };
    terminal.wait_until("the most frequent first", is_first("api.example.com"));
    terminal.text("s");
    terminal.wait_until("the slowest first", is_first("shop.example.com"));
    terminal.wait_for("▼p99");
    terminal.text("s");
    terminal.wait_for("▼err%");
    terminal.text("s");
    terminal.wait_until("the most bytes first", is_first("api.example.com"));
    terminal.press(&["Down"]);
    terminal.wait_until("the next one", is_first("shop.example.com"));
    terminal.press(&["Up"]);
    terminal.wait_until("the first one again", is_first("api.example.com"));
    terminal.text("j");
    terminal.wait_until("the next one again", is_first("shop.example.com"));
    terminal.press(&["Enter"]);
    let details = terminal.wait_for("┌ host ─");
    for part in ["shop.example.com", "status 5xx", "8 100%", "since start", "1.9s"] {
        let is_there = details.contains(part) || details.replace("   ", " ").contains(part);
        assert!(is_there, "{part}:\n{details}");
    }
    terminal.press(&["Escape"]);
    terminal.wait_until("no details", |screen| !screen.contains("┌ host ─"));
    terminal.text("/SHOPx");
    terminal.wait_for("filter: SHOPx");
    terminal.wait_for("no name has this in it");
    terminal.press(&["BSpace", "Enter"]);
    let filtered = terminal.wait_for("HOST /SHOP/  1 of 4");
    assert!(!filtered.contains("api.example.com"), "{filtered}");
    terminal.press(&["Escape"]);
    terminal.wait_for("HOST  4, in all");
    terminal.text("?");
    terminal.wait_for("keys and numbers");
    terminal.press(&["Escape"]);
    terminal.wait_until("no help", |screen| !screen.contains("keys and numbers"));
    terminal.press(&["Escape"]);
    terminal.ended(0);
}

#[test]
fn a_pause_stops_the_picture_and_counts_on() {
    needs_terminal!();
    let files = Files::new();
    let terminal = following(&files, (100, 30), &[]);
    terminal.press(&["Space"]);
    terminal.wait_for("paused");
    files.append("http.jsonl", &line("later.example", "/", 200, 1_000).repeat(5));
    files.append("http.stats", &statistics(2, 27));
    // While it is paused the clock goes on, so that it is seen to be alive.
    let clock = |screen: &str| screen.lines().next().map(|line| line[line.len() - 9..].to_string());
    let before = clock(&terminal.screen());
    terminal.wait_until("another time", |screen| clock(screen) != before);
    assert!(!terminal.screen().contains("later.example"));
    terminal.press(&["Space"]);
    let screen = terminal.wait_for("later.example");
    assert!(!screen.contains("paused"), "{screen}");
    terminal.wait_until("losses of the second", |screen| screen.contains("27     2!"));
    terminal.text("q");
    terminal.ended(0);
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    needs_terminal!();
    let files = Files::new();
    let terminal = following(&files, (80, 24), &[]);
    terminal.resize(200, 50);
    let wide = terminal.wait_for("SLOWEST PATHS");
    let columns = wide.lines().next().map(|line| line.chars().count());
    assert!(columns.is_some_and(|columns| columns > 190), "{wide}");
    assert!(wide.contains("p90") && wide.contains(">=100ms"), "{wide}");
    terminal.resize(40, 10);
    let small = terminal.wait_for("too small: 40x10");
    assert!(small.contains("needs 80x16; q quits"), "{small}");
    terminal.resize(80, 24);
    let screen = terminal.wait_for("HOST  4, in all");
    let lines: Vec<_> = screen.lines().collect();
    assert!(lines.len() == 24 && lines[23].contains("[h hosts] p paths"), "{screen}");
    terminal.press(&["C-c"]);
    terminal.ended(0);
}

#[test]
fn without_colours_and_without_utf8_all_is_there() {
    needs_terminal!();
    let colour = |text: &str| {
        // SGR 30 to 48 and 90 to 107 are colours, except for 39, which is that of the terminal.
        text.split("\u{1b}[").skip(1).filter_map(|rest| rest.split_once('m')).any(|(codes, _)| {
            codes.split(';').any(|code| matches!(code.parse(), Ok(30..=38 | 40..=48 | 90..=107)))
        })
    };
    let files = Files::new();
    let terminal = following(&files, (80, 24), &[]);
    assert!(colour(&terminal.styled()), "{}", terminal.styled());
    terminal.text("q");
    terminal.ended(0);
    let files = Files::new();
    let plain = following(&files, (80, 24), &[("NO_COLOR", "1"), ("LC_ALL", "POSIX")]);
    plain.wait_for("HOST  4, in all");
    let (screen, styled) = (plain.screen(), plain.styled());
    assert!(screen.is_ascii(), "{screen}");
    assert!(!colour(&styled), "{styled}");
    for part in ["+ lost", "ring full      7", "> api.example.com", "vrequests", "[h hosts]"] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    plain.text("q");
    plain.ended(0);
}

#[test]
fn a_file_may_come_later_be_renamed_and_be_truncated() {
    needs_terminal!();
    let files = Files::new();
    let terminal = Terminal::new(80, 24, &[]);
    terminal.run(&files.top("http.jsonl", "--no-color"));
    terminal.wait_for("the file is not there; waiting until it is");
    files.append("http.jsonl", &line("first.example", "/", 200, 1_000));
    terminal.press(&["t"]);
    terminal.wait_for("first.example");
    let renamed = files.path("http-20261201T140000.000000Z.jsonl");
    fs::rename(files.path("http.jsonl"), renamed).expect("it is renamed");
    files.append("http-20261201T140000.000000Z.jsonl", &line("last.example", "/", 200, 1_000));
    files.append("http.jsonl", &line("second.example", "/", 200, 1_000).repeat(5));
    terminal.wait_for("second.example");
    terminal.wait_for("last.example");
    fs::write(files.path("http.jsonl"), "").expect("it is truncated");
    files.append("http.jsonl", &line("third.example", "/", 200, 1_000));
    files.append("http.jsonl", "these words are no record\n");
    terminal.wait_for("third.example");
    terminal.wait_for("1 line was not written by httplines");
    terminal.text("q");
    terminal.ended(0);
}

/// A capture of some requests to two hosts.
fn capture(path: &Path) {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    talk.handshake();
    for number in 0..20 {
        let host = if number % 4 == 0 { "b.example" } else { "a.example" };
        talk.client(format!("GET /{number} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    talk.finish();
    let frames = talk.frames(1_700_000_000_000_000_000, 1_000_000);
    fs::write(path, pcap(Order::Little, Unit::Nano, 1, &frames)).expect("it is written");
}

#[test]
fn a_capture_file_is_read_and_the_screen_stays_until_the_user_quits() {
    needs_terminal!();
    let files = Files::new();
    capture(&files.path("trace.pcap"));
    let terminal = Terminal::new(120, 24, &[]);
    let path = files.path("trace.pcap").display().to_string();
    terminal.run(&format!("{} top -r {path}", crate::httplines()));
    let screen = terminal.wait_for("read to the end");
    for part in ["20 exchanges", "a.example", "15  75.0%", "b.example", "2xx 20 100%"] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    terminal.text("q");
    let printed = terminal.ended(0);
    assert!(printed.contains("20 exchanges in") && printed.contains("sums "), "{printed}");
    // Quiet, and cut off: the reason is on the screen, and printed after it.
    let bytes = fs::read(files.path("trace.pcap")).expect("it is there");
    fs::write(files.path("trace.pcap"), &bytes[..bytes.len() - 5]).expect("it is written");
    terminal.run(&format!("{} top -q -r {path}", crate::httplines()));
    terminal.wait_for("! the capture is cut off after");
    terminal.text("q");
    let printed = terminal.ended(1);
    assert!(printed.contains("httplines: the capture is cut off after"), "{printed}");
    assert!(!printed.contains("sums "), "{printed}");
}

/// Sends a signal to what runs in the foreground.
fn signal(terminal: &Terminal, name: &str) {
    let done = Command::new("kill").args(["-s", name, &terminal.foreground().to_string()]).status();
    assert!(done.is_ok_and(|done| done.success()));
}

#[test]
fn whatever_ends_it_the_terminal_is_as_it_was() {
    needs_terminal!();
    let files = Files::new();
    capture(&files.path("trace.pcap"));
    let path = files.path("trace.pcap").display().to_string();
    let top = format!("{} top -q -r {path}", crate::httplines());
    let terminal = Terminal::new(80, 24, &[]);
    for name in ["TERM", "INT", "HUP"] {
        terminal.run(&top);
        terminal.wait_for("20 exchanges");
        signal(&terminal, name);
        terminal.ended(0);
    }
    terminal.run(&format!("{top} --duration 0.5"));
    terminal.ended(0);
    for (thread, code) in [("screen", 1), ("main", 101)] {
        // Whether a test build panics when it is asked to.
        terminal.run(&format!("HTTPLINES_TEST_PANIC={thread} {top}"));
        let printed = terminal.ended(code);
        assert!(printed.contains("a test asked for it"), "{printed}");
        assert_eq!(printed.contains("the screen failed"), thread == "screen", "{printed}");
    }
    // Nothing can be done by who was killed: reset(1) helps.
    terminal.run(&top);
    terminal.wait_for("20 exchanges");
    signal(&terminal, "KILL");
    assert_eq!(terminal.ending().0, 137);
}

#[test]
fn it_is_suspended_and_goes_on() {
    needs_terminal!();
    let files = Files::new();
    let terminal = following(&files, (80, 24), &[]);
    let process = terminal.foreground();
    terminal.press(&["C-z"]);
    terminal.wait_for("Stopped");
    terminal.assert_clean();
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it is stopped");
    // A traced one has another letter.
    let is_stopped = status.contains("State:\tT") || status.contains("State:\tt");
    assert!(is_stopped, "{status}");
    files.append("http.jsonl", &line("later.example", "/", 200, 1_000));
    terminal.text("fg");
    terminal.press(&["Enter"]);
    terminal.wait_for("later.example");
    terminal.text("q");
    terminal.wait_for("ready>");
    terminal.assert_clean();
}

/// Asserts that each thread of what runs in the foreground is sealed, and has no right left.
fn assert_sealed(terminal: &Terminal) {
    let tasks = format!("/proc/{}/task", terminal.foreground());
    let tasks: Vec<_> = fs::read_dir(tasks).expect("it runs").map_while(Result::ok).collect();
    let names: Vec<_> =
        tasks.iter().map(|task| fs::read_to_string(task.path().join("comm"))).collect();
    let names: Vec<_> = names.into_iter().map(|name| name.expect("it runs")).collect();
    assert!(
        ["screen\n", "keys\n"].iter().all(|name| names.iter().any(|it| it == name)),
        "{names:?}"
    );
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).expect("it runs");
        for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
            assert!(status.contains(line), "{line}:\n{status}");
        }
    }
}

#[test]
fn all_threads_are_sealed_whatever_is_looked_at() {
    needs_terminal!();
    if std::env::var_os("HTTPLINES_TEST_NO_SANDBOX").is_some() {
        skip!("needs the sandbox, which HTTPLINES_TEST_NO_SANDBOX switches off");
    }
    let files = Files::new();
    let terminal = following(&files, (80, 24), &[]);
    assert_sealed(&terminal);
    terminal.text("q");
    terminal.ended(0);
    capture(&files.path("trace.pcap"));
    let path = files.path("trace.pcap").display().to_string();
    terminal.run(&format!("{} top -q -r {path}", crate::httplines()));
    terminal.wait_for("20 exchanges");
    assert_sealed(&terminal);
    terminal.text("q");
    terminal.ended(0);
}

#[test]
fn it_ends_when_the_terminal_does() {
    needs_terminal!();
    let files = Files::new();
    let terminal = following(&files, (80, 24), &[]);
    let process = PathBuf::from(format!("/proc/{}", terminal.foreground()));
    assert!(process.exists());
    terminal.hang_up();
    wait_until("the end of the program", || !process.exists());
}

#[test]
fn what_makes_no_sense_is_answered_in_a_sentence() {
    let files = Files::new();
    files.append("http.jsonl", "");
    capture(&files.path("trace.pcap"));
    let run = |arguments: &str| {
        let mut command = Command::new(crate::httplines());
        command.arg("top").args(arguments.split_whitespace()).current_dir(files.place.path());
        command.stdin(Stdio::null()).output().expect("it runs")
    };
    for (arguments, says) in [
        ("", "top needs something to look at: -i IFACE, -r FILE, or a file of lines"),
        ("http.jsonl", "top needs a terminal: standard input and output must be one"),
        ("-r trace.pcap", "top needs a terminal"),
        ("-i lo -o x.jsonl", "--output is for lines, and top writes none: leave it out"),
        ("-i lo --stats-interval 3", "--stats-interval is for lines"),
        ("-i lo --prot 80", "there is no option --prot; did you mean --port?"),
        ("http.jsonl --port 80", "--port is for -i and -r; a file of lines is only read"),
        ("-r -", "top reads keys from standard input"),
    ] {
        let output = run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {told}");
        assert!(told.contains(says) && told.lines().count() == 1, "{arguments}: {told}");
    }
    let help = run("--help");
    assert!(String::from_utf8_lossy(&help.stdout).contains("--no-color"));
    assert_eq!(run("-h").stdout, run("-i lo -h").stdout);
    assert_eq!(help.stdout, run("-i lo --help").stdout);
    needs_terminal!();
    let terminal = Terminal::new(120, 24, &[]);
    for (file, code, says) in [
        ("trace.pcap", 2, "is a capture: put -r before it"),
        ("nothing/http.jsonl", 2, "there is no such directory"),
        (".", 2, "is a directory; name a file of lines in it"),
        ("-r nothing.pcap", 1, "no such file"),
        ("-i nothing0", 1, "there is no interface nothing0"),
    ] {
        let place = files.place.path().display();
        terminal.run(&format!("cd {place}; {} top {file}", crate::httplines()));
        let printed = terminal.ended(code);
        assert!(printed.contains(says), "{file}: {printed}");
    }
    terminal.run(&format!("TERM=dumb {} top {}", crate::httplines(), "trace.jsonl"));
    assert!(terminal.ended(2).contains("this terminal cannot show a screen"));
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::commands::root::exchange;
    use crate::support::namespace::{Injector, Namespace};

    #[test]
    fn a_live_capture_is_shown_and_told_at_its_end() {
        needs_terminal!();
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let terminal = server.run(|| Terminal::new(100, 30, &[]));
        let options = "-i veth1 --shards 2 -B 4096";
        terminal.run(&format!("{} top {options}", crate::httplines()));
        terminal.wait_for("under way 0");
        if std::env::var_os("HTTPLINES_TEST_NO_SANDBOX").is_none() {
            assert_sealed(&terminal);
        }
        let injector = client.run(|| Injector::new("veth0"));
        (0..50).for_each(|number| exchange(&injector, number));
        terminal.press(&["t"]);
        let screen = terminal.wait_for("HOST  1, in all");
        terminal.wait_for("2xx 50 100%");
        for part in ["veth1", "ring full      0", "shards  0 ", "fullest ring "] {
            assert!(screen.contains(part), "{part}:\n{screen}");
        }
        // What the engine says does not tear the screen: it lies on it, and comes after it.
        client.ip("link set veth0 down");
        let screen = terminal.wait_for("! httplines: ");
        assert!(screen.contains("veth1 is down") && screen.contains("HOST  1"), "{screen}");
        terminal.text("q");
        let printed = terminal.ended(0);
        assert!(printed.contains("50 exchanges in") && printed.contains(" sums "), "{printed}");
        let told = printed.split("50 exchanges in").next().unwrap_or_default();
        assert!(told.contains("httplines: veth1 "), "{printed}");
    }
}
