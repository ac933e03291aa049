//! The port of a live capture. Needs root; otherwise each test reports that it was skipped.

mod root {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use crate::commands::root::exchange;
    use crate::support::exposition::Scrape;
    use crate::support::lab::{Finished, Running, wait_until};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;
    use crate::support::stats_schema;

    const ADDRESS: &str = "127.0.0.1:9919";

    /// Longer than any answer takes; a client that waits longer fails.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A capture on one end of a wire, and what sends frames at the other.
    struct Site {
        server: Namespace,
        injector: Injector,
        place: tempfile::TempDir,
        /// Keeps the other end.
        _client: Namespace,
    }

    impl Site {
        fn new() -> Option<Site> {
            let (client, server) = Namespace::pair()?;
            let injector = client.run(|| Injector::new("veth0"));
            let place = tempfile::tempdir().expect("a directory");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
            std::fs::set_permissions(place.path(), mode).expect("it is ours");
            Some(Site { server, injector, place, _client: client })
        }

        fn command(&self, line: &str) -> Command {
            let mut command = Command::new(crate::httplines());
            command.args(["-i", "veth1", "-B", "4096", "--shards", "2", "-o", "http.jsonl"]);
            command.args(line.split(' ')).current_dir(self.place.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            command
        }

        fn start(&self, line: &str) -> Running {
            let mut command = self.command(line);
            let child = self.server.run(move || command.spawn().expect("it starts"));
            Running::new(child, "metrics at http://")
        }

        fn connect(&self, address: &'static str) -> TcpStream {
            let stream = self.server.run(move || TcpStream::connect(address).expect("it listens"));
            stream.set_read_timeout(Some(PATIENCE)).expect("a time");
            stream
        }

        /// What the program answers to these bytes, until it closes the connection.
        fn ask(&self, request: &[u8]) -> String {
            let mut stream = self.connect(ADDRESS);
            stream.write_all(request).expect("it reads");
            rest_of(&mut stream)
        }

        /// The body of an answer, and its status.
        fn get(&self, path: &str) -> (u16, String) {
            body_of(&self.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()))
        }

        fn scrape(&self) -> Scrape {
            let (status, body) = self.get("/metrics");
            assert_eq!(status, 200, "{body}");
            Scrape::read(&body)
        }

        fn stop(&self, running: Running) -> Finished {
            let finished = running.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            finished
        }
    }

    fn rest_of(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and then the end");
        answer
    }

    fn body_of(answer: &str) -> (u16, String) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length) && head.contains("\r\nConnection: close"), "{head}");
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        (status.unwrap_or_else(|| panic!("{head}")), body.to_string())
    }

    #[test]
    fn figures_are_those_of_the_totals_and_the_run_stays_sealed() {
        let Some(site) = Site::new() else { skip!("needs root") };
        let running = site.start("--metrics 127.0.0.1");
        for number in 0..40 {
            exchange(&site.injector, number);
        }
        wait_until("all is written", || site.scrape().one("httplines_lines_written_total") == 40.0);
        let scrape = site.scrape();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid())).expect("it runs");
        for task in tasks {
            let status = task.expect("a thread").path().join("status");
            let status = std::fs::read_to_string(status).expect("it runs");
            assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
            assert!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");
            assert!(status.contains("\nCapPrm:\t0000000000000000\n"), "{status}");
        }
        for layer in ["user", "capabilities", "seccomp"] {
            assert_eq!(scrape.with("httplines_sandbox", "layer", layer), 1.0, "{layer}");
        }
        for name in [
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "httplines_last_packet_timestamp_seconds",
            "httplines_output_free_bytes",
            "httplines_ttfb_seconds_sum",
        ] {
            assert!(scrape.one(name) > 0.0, "{name}");
        }
        assert!(scrape.one("process_open_fds") <= scrape.one("process_max_fds"));
        assert_eq!(scrape.with("httplines_interface_up", "interface", "veth1"), 1.0);
        assert_eq!(site.get("/healthz"), (200, "ok\n".into()));
        let finished = site.stop(running);
        finished.told("every frame, flow and line is accounted for");
        let lines = stats_schema::lines_of(&site.place.path().join("http.stats"));
        let total = &lines.last().expect("lines")["total"];
        for (name, path) in [
            ("httplines_frames_passed_total", "/frames/passed"),
            ("httplines_frames_captured_total", "/frames/captured"),
            ("httplines_captured_bytes_total", "/frames/captured_bytes"),
            ("httplines_frames_dropped_total", "/frames/dropped"),
            ("httplines_lines_written_total", "/lines/written"),
            ("httplines_written_bytes_total", "/lines/written_bytes"),
            ("httplines_exchanges_total", "/exchanges/exchanges_complete"),
            ("httplines_requests_total", "/methods/GET"),
            ("httplines_responses_total", "/statuses/2xx"),
            ("httplines_ttfb_seconds_count", "/ttfb/count"),
        ] {
            let told = total.pointer(path).and_then(|it| it.as_u64()).expect("a number");
            assert_eq!(scrape.sum(name), told as f64, "{name}");
        }
        assert_eq!(scrape.with("httplines_requests_total", "method", "GET"), 40.0);
        assert_eq!(scrape.sum("httplines_ttfb_seconds_count"), 40.0);
    }

    #[test]
    fn whoever_sends_nonsense_is_answered() {
        let Some(site) = Site::new() else { skip!("needs root") };
        let running = site.start("--metrics 127.0.0.1");
        let status = |request: &[u8]| body_of(&site.ask(request)).0;
        assert_eq!(status(b"\x16\x03\x01\x02\x00\n\n"), 400);
        assert_eq!(status(b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), 405);
        assert_eq!(status(b"GET /etc/passwd HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(site.get("/").0, 200);
        let head = site.ask(b"HEAD /metrics HTTP/1.0\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        // The answer arrives although the client has sent more than is read.
        let mut long = b"GET /metrics HTTP/1.1\r\nX: ".to_vec();
        long.resize(20_000, b'x');
        assert_eq!(status(&long), 431);
        // Who is silent learns why the connection ends.
        let mut silent = site.connect(ADDRESS);
        silent.write_all(b"GET /metr").expect("it listens");
        let late = rest_of(&mut silent);
        assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
        site.stop(running);
    }

    /// Connections that do nothing, or little, keep nobody waiting, and end.
    #[test]
    fn slow_clients_do_not_hold_up_a_scrape() {
        let Some(site) = Site::new() else { skip!("needs root") };
        let running = site.start("--metrics 127.0.0.1");
        // More than there are places. None of them has a whole request.
        let mut silent: Vec<TcpStream> = (0..40).map(|_| site.connect(ADDRESS)).collect();
        for stream in &mut silent {
            // The place may have gone to another one.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        }
        // One asks, and does not read the answer.
        let mut deaf = site.connect(ADDRESS);
        deaf.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it listens");
        let scrape = site.scrape();
        assert_eq!(scrape.one("httplines_snapshot_age_seconds").floor(), 0.0);
        let own = scrape.one("process_open_fds");
        // All of them are ended, those that went on sending a byte now and then too.
        for stream in &mut silent {
            let mut last = [0; 4096];
            while match stream.read(&mut last) {
                Ok(bytes) => bytes > 0,
                Err(error) => error.kind() == ErrorKind::Interrupted,
            } {
                let _ = stream.write_all(b"x");
            }
        }
        drop(silent);
        drop(deaf);
        wait_until("the places are free", || site.scrape().one("process_open_fds") < own);
        site.stop(running);
    }

    /// A thread that was stopped by ptrace(2), until this is dropped. Dropped by another thread it
    /// would stay stopped.
    struct Stopped(libc::pid_t);

    impl Stopped {
        /// `None` where that is not allowed.
        fn new(thread: libc::pid_t) -> Option<Stopped> {
            // SAFETY: no memory is passed.
            if unsafe { libc::ptrace(libc::PTRACE_ATTACH, thread, 0, 0) } != 0 {
                return None;
            }
            let mut status = 0;
            // SAFETY: only `status` is written.
            let waited = unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
            assert_eq!(waited, thread, "it stops");
            Some(Stopped(thread))
        }
    }

    impl Drop for Stopped {
        fn drop(&mut self) {
            // SAFETY: no memory is passed.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
        }
    }

    /// The shard that hangs is named, the others are told as they are, and then all is well again.
    #[test]
    fn a_shard_that_hangs_is_told() {
        let Some(site) = Site::new() else { skip!("needs root") };
        let mut running = site.start("--metrics 127.0.0.1");
        assert_eq!(site.get("/healthz").0, 200);
        let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid())).expect("it runs");
        let mut tasks = tasks.map(|task| task.expect("a thread").path());
        let is_it = |task: &std::path::PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "shard-1\n")
        };
        let task = tasks.find(is_it).expect("a shard");
        let thread = task.file_name().and_then(|name| name.to_str()).expect("a number");
        let Some(stopped) = Stopped::new(thread.parse().expect("a number")) else {
            skip!("ptrace(2) is not allowed here");
        };
        wait_until("it is told", || site.get("/healthz").0 == 503);
        assert_eq!(site.get("/healthz").1, "shard 1 did not poll within 5 s\n");
        assert_eq!(site.scrape().one("httplines_shards_stalled"), 1.0);
        running.await_stderr(
            "httplines: shard 1 did not poll for 5 s: it hangs, or has no CPU; frames are dropped \
             once a ring is full",
        );
        drop(stopped);
        running.await_stderr("httplines: all shards poll again");
        wait_until("all is well", || site.get("/healthz") == (200, "ok\n".into()));
        assert_eq!(site.scrape().one("httplines_shards_stalled"), 0.0);
        site.stop(running);
    }

    #[test]
    fn two_scrapes_at_once_are_both_answered() {
        let Some(site) = Site::new() else { skip!("needs root") };
        let running = site.start("--metrics 127.0.0.1");
        let mut both = [site.connect(ADDRESS), site.connect(ADDRESS)];
        for stream in &mut both {
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it listens");
        }
        for stream in &mut both {
            let (status, body) = body_of(&rest_of(stream));
            assert_eq!(status, 200);
            Scrape::read(&body);
        }
        site.stop(running);
    }

    /// A client that holds its connection open does not hold up the end of the run.
    #[test]
    fn the_port_is_closed_at_the_end() {
        let Some(site) = Site::new() else { skip!("needs root") };
        let running = site.start("--metrics [::1]:80");
        let mut open = site.connect("[::1]:80");
        open.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("root may use this port");
        let (status, _) = body_of(&rest_of(&mut open));
        assert_eq!(status, 200);
        let mut open = site.connect("[::1]:80");
        open.write_all(b"GET").expect("it listens");
        site.stop(running);
        assert!(!matches!(open.read(&mut [0; 16]), Ok(1..)), "an answer");
        let _ = open.shutdown(Shutdown::Both);
        let refused = site.server.run(|| TcpStream::connect("[::1]:80").is_err());
        assert!(refused, "it is closed");
    }

    #[test]
    fn an_address_that_cannot_be_had_is_told() {
        let Some(site) = Site::new() else { skip!("needs root") };
        let _taken = site.server.run(|| TcpListener::bind(ADDRESS).expect("it is free"));
        for (line, says) in [
            (
                "--metrics 127.0.0.1",
                "cannot listen on 127.0.0.1:9919 for --metrics: another program listens there; \
                 name another port\n",
            ),
            (
                "--metrics 192.0.2.1",
                "cannot listen on 192.0.2.1:9919 for --metrics: this machine does not have the \
                 address\n",
            ),
        ] {
            let mut command = site.command(line);
            let done = site.server.run(move || command.output().expect("it runs"));
            let told = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(1), "{told}");
            assert!(told.ends_with(says), "{told}");
        }
        assert!(
            !Path::new("http.jsonl").exists() && !site.place.path().join("http.jsonl").exists()
        );
    }
}
