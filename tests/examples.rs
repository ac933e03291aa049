//! Tests of the programs in `examples/`: they do what they describe, and are as short as a user's
//! program would be.
//!
//! `cargo test` builds them. `cargo test --test main` alone tests only those that were built
//! before.

use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;
use crate::support::skip;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// The path of an example: next to the directory of this program.
fn example(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().expect("its own path");
    let path = own.parent()?.parent()?.join("examples").join(name);
    path.exists().then_some(path)
}

/// The output of an example for a capture with three exchanges on two connections.
fn printed(path: &PathBuf) -> String {
    let mut frames = Vec::new();
    for (port, hosts) in [(4000, &["a.test", "b.test"][..]), (4001, &["a.test"])] {
        let mut talk = Conversation::new(&format!("10.0.0.1:{port}"), "10.0.0.2:80");
        talk.handshake();
        for host in hosts {
            talk.client(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        frames.extend(talk.finish().frames(1_700_000_000_000_000_000, 1_000_000));
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&pcap(Order::Little, Unit::Nano, 1, &frames)).expect("room for it");
    let output = Command::new(path).arg(file.path()).output().expect("the example starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn hosts_counts_requests_by_host() {
    let Some(path) = example("hosts") else { skip!("needs the examples, which cargo test builds") };
    assert_eq!(printed(&path), "       2 a.test\n       1 b.test\n");
}

#[test]
fn segments_adds_up_payload_by_connection() {
    let Some(path) = example("segments") else {
        skip!("needs the examples, which cargo test builds")
    };
    let wanted = "10.0.0.1:4000 64 > < 80 10.0.0.2:80\n10.0.0.1:4001 32 > < 40 10.0.0.2:80\n";
    assert_eq!(printed(&path), wanted);
}

#[test]
fn an_example_has_at_most_forty_lines_of_code() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let lines = text.lines().filter(is_code).count();
        assert!(lines <= 40, "{}: {lines} lines of code", path.display());
        count += 1;
    }
    assert_eq!(count, 3);
}

mod root {
    use super::example;
    use crate::support::lab::{self, End, Lab, Offload, SERVER_IFACE};
    use crate::support::skip;

    #[test]
    fn watch_is_called_for_each_exchange() {
        if let Some(why) = lab::missing() {
            skip!(why);
        }
        let Some(path) = example("watch") else {
            skip!("needs the examples, which cargo test builds")
        };
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let command = lab.command(End::Server, path.to_str().expect("a path in UTF-8"));
        let watch = lab.start(command, &[SERVER_IFACE, "3"], "watching");
        lab.curl(&["/64k", "/missing", "/none"]);
        let finished = watch.wait();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let stdout = String::from_utf8(finished.stdout).expect("text");
        assert_eq!(stdout.lines().count(), 3, "{stdout}");
        assert!(stdout.starts_with("GET /64k 200\n"), "{stdout}");
    }
}
