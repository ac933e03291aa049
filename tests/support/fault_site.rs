//! A place for one fault: a live capture of the program on the loopback of a network namespace,
//! with mounts of its own, and exchanges with numbers, of which each line must be accounted for.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::faulty_disk::{FaultyDisk, private_mounts};
use super::lab::{Finished, Running};
use super::namespace::{Injector, Namespace};
use super::packet::{ACK, Packet};

/// A long target makes a line of 8 KiB.
const FILLING_BYTES: usize = 8000;

/// Exchanges from one client address; each is on a connection of its own.
const PORTS: u64 = 60_000;

/// A namespace with loopback and mounts of its own, and a directory to write to.
pub struct FaultSite {
    pub namespace: Namespace,
    injector: Injector,
    directory: tempfile::TempDir,
    /// Exchanges sent so far. They are numbered from 0.
    sent_count: u64,
    filling: String,
}

impl FaultSite {
    /// An error is the reason why that is impossible here.
    pub fn new() -> Result<FaultSite, String> {
        let namespace = Namespace::new().ok_or("needs root")?;
        private_mounts(&namespace)?;
        let injector = namespace.run(|| Injector::new("lo"));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let filling = "x".repeat(FILLING_BYTES);
        Ok(FaultSite { namespace, injector, directory, sent_count: 0, filling })
    }

    /// The same, with a [`FaultyDisk`] below its directory.
    pub fn with_disk() -> Result<(FaultSite, FaultyDisk), String> {
        let site = FaultSite::new()?;
        let disk = FaultyDisk::mount(&site.namespace, site.path())?;
        Ok((site, disk))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a shell script in the namespace and the directory; `$0` is the directory. An error is
    /// what the last program said.
    pub fn shell(&self, script: &str) -> Result<String, String> {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).arg(self.path()).current_dir(self.path()).stdin(Stdio::null());
        let output = self.namespace.run(move || shell.output()).expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(said),
        }
    }

    /// The bytes of a file below the directory, as programs of this site see it; none if it is not
    /// there.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path().join(name);
        self.namespace.run(|| std::fs::read(path)).unwrap_or_default()
    }

    /// The files in the directory whose paths below it begin with `begin`, sorted.
    pub fn files(&self, begin: &str) -> Vec<PathBuf> {
        let begin = self.path().join(begin);
        let (folder, begin) = match begin.is_dir() {
            true => (begin, String::new()),
            false => {
                let name = begin.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (self.path().to_path_buf(), name)
            }
        };
        let entries = std::fs::read_dir(folder).expect("a directory");
        let files = entries.map(|entry| entry.expect("an entry").path());
        let is_wanted = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin))
        };
        let mut files: Vec<_> = files.filter(is_wanted).collect();
        files.sort();
        files
    }

    /// The program in this site, with the words of `line`, not started yet.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(crate::httplines());
        command.args(["-i", "lo", "--shards", "1"]).args(line.split(' '));
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        command
    }

    /// Starts `command` in this site, and waits until it captures.
    pub fn start(&self, mut command: Command) -> Running {
        let child = self.namespace.run(move || command.spawn().expect("it starts"));
        Running::new(child, "capturing on")
    }

    /// Captures with the words of `line`.
    pub fn capture(&self, line: &str) -> Running {
        self.start(self.command(line))
    }

    /// Sends `count` exchanges, each with a line of 8 KiB.
    pub fn exchanges(&mut self, count: u64) {
        let filling = std::mem::take(&mut self.filling);
        for _ in 0..count {
            self.exchange(&filling);
        }
        self.filling = filling;
    }

    /// Sends `count` exchanges with short lines.
    pub fn short_exchanges(&mut self, count: u64) {
        for _ in 0..count {
            self.exchange("");
        }
    }

    fn exchange(&mut self, filling: &str) {
        let number = self.sent_count;
        self.sent_count += 1;
        let address = Ipv4Addr::from(0x0a01_0000 + (number / PORTS) as u32);
        let client = SocketAddr::from((address, 1024 + (number % PORTS) as u16));
        let server = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 80));
        let mut head = String::with_capacity(filling.len() + 100);
        let _ = write!(head, "GET /{number}/{filling} HTTP/1.1\r\nHost: a\r\n\r\n");
        let after = 1 + head.len() as u32;
        let request = Packet::tcp(client, server).seq(1).ack(1).flags(ACK);
        self.injector.send(&request.payload(head.as_bytes()).ethernet());
        let answer = Packet::tcp(server, client).seq(1).ack(after).flags(ACK);
        self.injector.send(&answer.payload(b"HTTP/1.1 204 No Content\r\n\r\n").ethernet());
    }

    /// Exchanges sent so far.
    pub fn sent_count(&self) -> u64 {
        self.sent_count
    }

    /// Asserts that the run adds up, that what it wrote is in `bytes`, whole and once, that all
    /// exchanges were captured, and that the other lines were lost by `cause`. Returns the numbers,
    /// sorted: loopback may change their order.
    pub fn check(&self, finished: &Finished, bytes: &[u8], cause: &str) -> Vec<u64> {
        finished.told("every frame, flow and line is accounted for");
        finished.told(" 0 dropped by kernel");
        finished.told(&format!("{} complete", self.sent_count));
        let numbers = numbers(bytes);
        finished.told(&format!("{} lines, {} bytes", numbers.len(), bytes.len()));
        let lost = self.sent_count - numbers.len() as u64;
        let causes = if lost > 0 { format!(" ({lost} {cause})") } else { String::new() };
        finished.told(&format!(" {lost} lines lost{causes}\n"));
        numbers
    }
}

/// The numbers of the exchanges in `bytes`, sorted. Lines must be whole, and none may come twice.
pub fn numbers(bytes: &[u8]) -> Vec<u64> {
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "the last line is torn");
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut numbers: Vec<u64> = lines.map(number).collect();
    numbers.sort_unstable();
    assert!(numbers.is_sorted_by(|one, next| one < next), "a line came twice");
    numbers
}

fn number(line: &[u8]) -> u64 {
    let record: serde_json::Value = serde_json::from_slice(line).unwrap_or_else(|error| {
        panic!("{error}: a line is torn: {}", String::from_utf8_lossy(&line[..line.len().min(300)]))
    });
    let target = record["target"].as_str().expect("a target");
    let number = target.split('/').nth(1).expect("a number");
    number.parse().expect("a number")
}
