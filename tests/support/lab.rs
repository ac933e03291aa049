//! A wire of our own: two network namespaces and a veth pair between them, gone with the guard.
//!
//! ```text
//!   client namespace                    server namespace
//!   wire0 10.99.0.1 fd00:99::1  ======  wire1 10.99.0.2 fd00:99::2   nginx :80
//! ```

use super::{records, schema};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The client's end of the wire, in its namespace.
pub const CLIENT_IFACE: &str = "wire0";
/// The server's end of the wire, in its namespace.
pub const SERVER_IFACE: &str = "wire1";
/// The client's addresses.
pub const CLIENT: [&str; 2] = ["10.99.0.1", "fd00:99::1"];
/// The server's addresses.
pub const SERVER: [&str; 2] = ["10.99.0.2", "fd00:99::2"];

/// Fields in which two captures of the same packets differ: each has its own timestamps and
/// interface names.
pub const CAPTURE_DEPENDENT_FIELDS: [&str; 6] =
    ["ts", "iface", "connect_ns", "request_ns", "ttfb_ns", "response_ns"];

/// No step in a lab takes longer, unless it hangs.
const WAIT: Duration = Duration::from_secs(20);
/// The interval of polling for something.
const PAUSE: Duration = Duration::from_millis(10);

static LAB_COUNT: AtomicU32 = AtomicU32::new(0);

/// Whether this process is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Why a lab is impossible here, if it is: for `skip!`.
pub fn missing() -> Option<String> {
    if !is_root() {
        return Some("needs root, for network namespaces".into());
    }
    let programs = ["ip", "ethtool", "nginx", "wrk", "curl", "tcpdump", "bash"];
    if let Some(reason) = programs.iter().find_map(|program| missing_program(program)) {
        return Some(reason);
    }
    let probe = name("probe");
    let made = Command::new("ip").args(["netns", "add", &probe]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return Some("needs the right to make network namespaces".into());
    }
    remove(&probe);
    None
}

/// Why `program` cannot be used here, if it cannot: for `skip!`.
pub fn missing_program(program: &str) -> Option<String> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let is_there = found.is_ok_and(|found| found.status.success());
    (!is_there).then(|| format!("needs {program}"))
}

/// Whether the wire carries superpackets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offload {
    /// Segmentation offload, as veth has by default: packets of up to 64 KiB.
    On,
    /// No packet is longer than the MTU.
    Off,
}

/// Which namespace a program runs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The client's namespace.
    Client,
    /// The server's namespace.
    Server,
}

/// Two namespaces and the wire between them. Dropping it ends the programs in it and removes
/// everything.
#[derive(Debug)]
pub struct Lab {
    namespaces: [String; 2],
    directory: tempfile::TempDir,
    nginx: Option<Child>,
}

impl Lab {
    /// Makes the namespaces, the wire and its addresses.
    pub fn new(offload: Offload) -> Lab {
        let lab = Lab {
            namespaces: [name("c"), name("s")],
            directory: tempfile::tempdir().expect("a temporary directory"),
            nginx: None,
        };
        let [client, server] = &lab.namespaces;
        // The guard exists before the first namespace, so that a failure half-way is cleaned up,
        // too.
        for namespace in &lab.namespaces {
            run(Command::new("ip").args(["netns", "add", namespace]));
        }
        let veth = format!(
            "link add {CLIENT_IFACE} netns {client} type veth peer {SERVER_IFACE} netns {server}"
        );
        run(Command::new("ip").args(veth.split(' ')));
        let switch = if offload == Offload::On { "on" } else { "off" };
        for (end, iface, [v4, v6]) in
            [(End::Client, CLIENT_IFACE, CLIENT), (End::Server, SERVER_IFACE, SERVER)]
        {
            let ip = |args: String| run(lab.command(end, "ip").args(args.split(' ')));
            ip("link set lo up".into());
            ip(format!("addr add {v4}/24 dev {iface}"));
            ip(format!("addr add {v6}/64 dev {iface} nodad"));
            ip(format!("link set {iface} up"));
            let features = ["tso", "gso", "gro", "tx"].map(|feature| [feature, switch]).concat();
            run(lab.command(end, "ethtool").args(["-K", iface]).args(features));
        }
        lab
    }

    /// A directory that is removed with the lab.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command that runs `program` at one end, with no input.
    pub fn command(&self, end: End, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespaces[end as usize], program]);
        command.stdin(Stdio::null());
        command
    }

    /// Starts nginx on port 80 of the server's addresses and waits until it accepts connections. It
    /// serves `/small…` (200 and a few bytes, any method), `/64k`, `/1m` (files), `/chunked` (a
    /// chunked response), `/gzip` (64k, compressed on request), `/old` (301), `/empty` (204).
    pub fn start_nginx(&mut self) {
        let root = self.path().join("www");
        std::fs::create_dir(&root).expect("a directory");
        for (file, bytes) in [("64k", 64 << 10), ("1m", 1 << 20), ("chunked", 10_000)] {
            std::fs::write(root.join(file), vec![b'x'; bytes]).expect("a file to serve");
        }
        let config = self.path().join("nginx.conf");
        let text = NGINX_CONF.replace("DIRECTORY", &self.path().display().to_string());
        std::fs::write(&config, text).expect("a configuration");
        let mut nginx = self.command(End::Server, "nginx");
        let error_log = self.path().join("error.log");
        nginx.arg("-e").arg(&error_log).arg("-c").arg(config).arg("-p").arg(self.path());
        nginx.stdout(Stdio::null()).stderr(Stdio::null());
        self.nginx = Some(nginx.spawn().expect("nginx starts"));
        let connect = format!("exec 3<>/dev/tcp/{}/80", SERVER[0]);
        wait_until("nginx accepts connections", || {
            let tried = self.command(End::Client, "bash").args(["-c", &connect]).output();
            tried.is_ok_and(|tried| tried.status.success())
        });
    }

    /// The requests that nginx served, one per line: port of the client, method, target, status,
    /// body bytes.
    pub fn access_log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_string).collect()
    }

    /// Runs curl at the client; arguments that begin with `/` are paths on the server and become
    /// URLs.
    pub fn curl(&self, args: &[&str]) -> Output {
        let mut curl = self.command(End::Client, "curl");
        curl.args(["-sS", "--max-time", "20"]);
        for arg in args {
            match arg.strip_prefix('/') {
                Some(path) => curl.arg(format!("http://{}/{path}", SERVER[0])),
                None => curl.arg(arg),
            };
        }
        run(&mut curl)
    }

    /// Makes exactly `request_count` requests for `/small/N`, N all different, over `connections`
    /// that are kept alive, as fast as the server answers on `address` (one of [`SERVER`]).
    pub fn wrk(&self, address: &str, connections: usize, request_count: usize) {
        let script = self.path().join("bounded.lua");
        std::fs::write(&script, WRK_SCRIPT.replace("LIMIT", &request_count.to_string()))
            .expect("a script");
        let before = self.access_log().len();
        let mut wrk = self.command(End::Client, "wrk");
        wrk.args(["-t1", "-d60s", &format!("-c{connections}"), "-s"]).arg(script);
        let host = if address.contains(':') { format!("[{address}]") } else { address.into() };
        // The port is explicit: without one, wrk looks it up in /etc/services, which a bare Debian
        // does not have.
        wrk.arg(format!("http://{host}:80/small")).stdout(Stdio::null());
        let mut wrk = wrk.spawn().expect("wrk starts");
        // wrk runs for its whole duration, whatever its script does.
        wait_until("all of wrk's requests are answered", || {
            self.access_log().len() >= before + request_count
        });
        interrupt(&wrk);
        let status = wrk.wait().expect("a child of ours");
        assert!(status.success(), "wrk: {status}");
    }

    /// Starts httplines at one end and waits until it says that it is capturing.
    pub fn start_httplines(&self, end: End, args: &[&str]) -> Running {
        let command = self.command(end, crate::httplines());
        self.start(command, args, "capturing")
    }

    /// Starts tcpdump at the server's end; returns it and its capture file. When tcpdump is
    /// stopped, it leaves its last block unread.
    pub fn start_tcpdump(&self) -> (Running, PathBuf) {
        let mut tcpdump = self.command(End::Server, "tcpdump");
        tcpdump.args(["-i", SERVER_IFACE, "-s0", "-B", "262144", "-U", "--nano", "-Z", "root"]);
        let capture = self.path().join("wire.pcap");
        (self.start(tcpdump, &["-w", "wire.pcap", "tcp"], "listening"), capture)
    }

    /// Runs httplines on a file.
    pub fn replay(&self, capture: &Path, args: &[&str]) -> Vec<Value> {
        let (mut command, output) = self.replay_command(capture, args);
        let done = run(&mut command);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        told(&stderr, "every frame, flow and line is accounted for");
        records::parse(&std::fs::read(&output).expect("the output is there"))
    }

    /// The same for a file that is still being written: it may end in the middle of a frame.
    pub fn replay_so_far(&self, capture: &Path) -> Vec<Value> {
        let (mut command, output) = self.replay_command(capture, &[]);
        command.output().expect("the program is there");
        records::parse(&std::fs::read(&output).unwrap_or_default())
    }

    fn replay_command(&self, capture: &Path, args: &[&str]) -> (Command, PathBuf) {
        let output = self.path().join("replayed.jsonl");
        let _ = std::fs::remove_file(&output);
        let mut command = Command::new(crate::httplines());
        command.arg("-r").arg(capture).arg("-o").arg(&output).args(args).stdin(Stdio::null());
        (command, output)
    }

    /// Starts a program and waits until a line of its stderr contains `ready`.
    pub fn start(&self, mut command: Command, args: &[&str], ready: &str) -> Running {
        command.args(args).current_dir(self.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(command.spawn().expect("the program starts"), ready)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut nginx) = self.nginx.take() {
            let _ = nginx.kill();
            let _ = nginx.wait();
        }
        for namespace in &self.namespaces {
            remove(namespace);
        }
    }
}

/// A program that runs in a lab. It is killed if it is dropped before it was stopped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    reader: Option<JoinHandle<()>>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr_lines: Receiver<String>,
    stderr: String,
}

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: String,
}

impl Finished {
    /// Asserts that its totals contain `what`.
    pub fn told(&self, what: &str) {
        told(&self.stderr, what);
    }

    /// The records that httplines wrote to `output`, each checked against the schema. Asserts that
    /// the run succeeded, lost nothing, and adds up.
    pub fn records(&self, output: &Path) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.told("every frame, flow and line is accounted for");
        self.told(" 0 dropped by kernel");
        self.told(" 0 lines lost");
        let lines = std::fs::read(output).expect("the output is there");
        lines.split_inclusive(|byte| *byte == b'\n').map(schema::check_line).collect()
    }
}

impl Running {
    /// Waits until a line of the child's stderr, which is a pipe, contains `ready`.
    pub fn new(mut child: Child, ready: &str) -> Running {
        let stderr = child.stderr.take();
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let reader = child.stdout.take().map(|mut pipe| {
            let stdout = Arc::clone(&stdout);
            thread::spawn(move || {
                let mut part = [0; 4096];
                // If the other end was closed, a terminal gives an error and a pipe gives nothing.
                while let Ok(bytes @ 1..) = pipe.read(&mut part) {
                    stdout.lock().expect("nobody panics with it").extend(&part[..bytes]);
                }
            })
        });
        let (send, stderr_lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr.expect("a pipe")).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = String::new();
        let mut running = Running { child, reader, stdout, stderr_lines, stderr };
        running.await_stderr(ready);
        running
    }

    /// Waits until a new line of its standard error contains `what`.
    pub fn await_stderr(&mut self, what: &str) {
        let start = Instant::now();
        loop {
            let left = WAIT.saturating_sub(start.elapsed());
            match self.stderr_lines.recv_timeout(left) {
                Ok(line) => {
                    self.stderr += &format!("{line}\n");
                    if line.contains(what) {
                        return;
                    }
                }
                Err(_) => panic!("it never said {what:?}, but:\n{}", self.stderr),
            }
        }
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.lock().expect("nobody panics with it").clone()
    }

    /// Waits until it has printed `count` lines.
    pub fn wait_for_lines(&self, count: usize) {
        wait_until(&format!("{count} lines"), || {
            self.stdout().iter().filter(|byte| **byte == b'\n').count() >= count
        });
    }

    /// Stops the program (SIGINT), and returns what it printed.
    pub fn stop(self) -> Finished {
        interrupt(&self.child);
        self.wait()
    }

    /// Waits until the program ends by itself, and returns what it printed.
    pub fn wait(mut self) -> Finished {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its stdout was read");
        }
        while let Ok(line) = self.stderr_lines.recv() {
            self.stderr += &(line + "\n");
        }
        Finished {
            code: status.and_then(|status| status.code()),
            stdout: self.stdout(),
            stderr: std::mem::take(&mut self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends SIGINT to a child that is not reaped yet.
fn interrupt(child: &Child) {
    send_signal(child, "INT");
}

/// Sends a signal to a child that is not reaped yet.
pub fn send_signal(child: &Child, name: &str) {
    run(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]));
}

fn told(totals: &str, what: &str) {
    assert!(totals.contains(what), "the totals do not say {what:?}:\n{totals}");
}

/// Runs a command to its end. If it fails, panics with its output.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("the program is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// Waits, a bounded time, until `is_so`.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT, "in {WAIT:?} it did not come to: {what}");
        thread::sleep(PAUSE);
    }
}

/// A name that no other test and no other run has.
fn name(role: &str) -> String {
    let number = LAB_COUNT.fetch_add(1, Ordering::Relaxed);
    format!("httplines-{}-{number}{role}", std::process::id())
}

fn remove(namespace: &str) {
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
}

/// One process without a master, so that ending the child ends all of nginx. `ssi` removes the
/// length of a response, which makes it chunked.
const NGINX_CONF: &str = r#"
daemon off; master_process off; worker_processes 1;
pid "DIRECTORY/nginx.pid"; error_log "DIRECTORY/error.log";
events { worker_connections 4096; }
http {
    log_format truth '$remote_port $request_method $request_uri $status $body_bytes_sent';
    access_log "DIRECTORY/access.log" truth;
    client_body_temp_path "DIRECTORY/body"; proxy_temp_path "DIRECTORY/proxy";
    fastcgi_temp_path "DIRECTORY/fastcgi"; uwsgi_temp_path "DIRECTORY/uwsgi";
    scgi_temp_path "DIRECTORY/scgi";
    keepalive_requests 1000000000; keepalive_timeout 60s; client_max_body_size 64m;
    server {
        listen 80; listen [::]:80;
        root "DIRECTORY/www"; default_type text/plain;
        location /small { return 200 "small\n"; }
        location /old { return 301 /small/new; }
        location /empty { return 204; }
        location /gzip { alias "DIRECTORY/www/64k"; gzip on; gzip_types *; }
        location /chunked { ssi on; ssi_types *; }
    }
}
"#;

/// wrk supports durations only. `delay` is called before each request: once the limit is reached,
/// it delays every further request beyond the end of the run.
const WRK_SCRIPT: &str = r#"
local asked, made = 0, 0
function delay()
    asked = asked + 1
    if asked > LIMIT then return 3600000 end
    return 0
end
function request()
    made = made + 1
    return wrk.format("GET", "/small/" .. made)
end
"#;
