//! What the ancestor, bcc's http-parse-complete, gets wrong: one live test on a veth pair for each
//! row of `docs/ancestor.md`.

/// Every row needs a test and every test a row, or the page would make an untested claim.
#[test]
fn every_row_has_its_test() {
    let page = include_str!("../docs/ancestor.md");
    let (_, source) = include_str!("ancestor.rs").split_once("mod root").expect("it is below");
    let rows = page.lines().filter(|line| line.ends_with("` |"));
    let mut named: Vec<&str> = rows.filter_map(|row| row.rsplit('`').nth(1)).collect();
    let tests = source.split("#[test]\n    fn ").skip(1);
    let mut tests: Vec<&str> = tests.filter_map(|test| test.split('(').next()).collect();
    named.sort_unstable();
    tests.sort_unstable();
    assert_eq!(named, tests);
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use httplines::capture::live::LiveCapture;
    use httplines::capture::{Frame, FrameSource, Polled};
    use httplines::config::{CaptureConfig, DecodeConfig};
    use httplines::ids::IfaceNames;

    use crate::support::capture_file::WrittenFrame;
    use crate::support::conversation::{Conversation, Side};
    use crate::support::lab::{Finished, Running, wait_until};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::{records, skip};

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    /// The request of a last connection; after it, nothing of the test is in flight.
    const END: &str = "GET /end HTTP/1.1";

    /// The request of connections that only show how far httplines is.
    const PACE: &str = "GET /pace HTTP/1.1";

    /// httplines at one end of a wire, and an injector of frames at the other.
    struct Wire {
        client: Namespace,
        server: Namespace,
        injector: Injector,
        httplines: Running,
    }

    impl Wire {
        /// `None` without root.
        fn new(arguments: &str) -> Option<Wire> {
            let command = Command::new(crate::httplines());
            Wire::with(command, &format!("-i veth1 -B 8192 --shards 1 {arguments}"))
        }

        fn with(mut command: Command, arguments: &str) -> Option<Wire> {
            let (client, server) = Namespace::pair()?;
            command.args(arguments.split_whitespace());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = server.run(move || command.spawn().expect("it starts"));
            let httplines = Running::new(child, "capturing on");
            let injector = client.run(|| Injector::new("veth0"));
            Some(Wire { client, server, injector, httplines })
        }

        fn send(&self, frames: &[WrittenFrame]) {
            frames.iter().for_each(|frame| self.injector.send(&frame.bytes));
        }

        fn play(&self, talk: &Conversation) {
            self.send(&talk.frames(0, 0));
        }

        /// Waits until httplines has caught up. While a busy machine leaves httplines no CPU,
        /// frames could be injected faster than the ring and the kernel's backlog can hold.
        fn pace(&self, paces: &mut u16) {
            *paces += 1;
            let mut talk = conversation(60_000 + *paces);
            self.play(talk.client(&request(PACE)).server(OK).finish());
            wait_until("httplines is not behind", || {
                let stdout = self.httplines.stdout();
                let lines = stdout.split(|byte| *byte == b'\n');
                lines.filter(|line| *line == PACE.as_bytes()).count() >= usize::from(*paces)
            });
        }

        /// Stops httplines once it has seen everything, and returns what it printed.
        fn finish(self) -> Finished {
            let mut last = conversation(65_000);
            last.client(format!("{END}\r\nHost: a\r\n\r\n").as_bytes()).server(OK).finish();
            self.play(&last);
            wait_until("the last request is printed", || {
                let stdout = self.httplines.stdout();
                stdout.windows(4).any(|window| window == b"/end")
            });
            let finished = self.httplines.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            assert!(finished.stderr.contains("is accounted for"), "{}", finished.stderr);
            finished
        }

        /// The lines of requests, except the last.
        fn requests(self) -> Vec<String> {
            let stdout = String::from_utf8(self.finish().stdout).expect("it was UTF-8");
            let requests = stdout.lines().filter(|line| !line.starts_with("HTTP/"));
            requests.filter(|line| *line != END).map(String::from).collect()
        }
    }

    /// An open connection from `port` to 80.
    fn conversation(port: u16) -> Conversation {
        let mut talk = Conversation::new(&format!("10.0.0.9:{port}"), "10.0.0.1:80");
        talk.handshake();
        talk
    }

    fn request(line: &str) -> Vec<u8> {
        format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
    }

    #[test]
    fn a_byte_that_is_not_utf8() {
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let mut talk = conversation(4000);
        talk.client(b"GET /caf\xe9 HTTP/1.1\r\nHost: a\r\n\r\n").server(OK);
        wire.play(&talk);
        let stdout = wire.finish().stdout;
        assert!(stdout.starts_with(b"GET /caf\xe9 HTTP/1.1\n"), "as it was sent");
        assert_eq!(stdout.iter().filter(|byte| **byte == b'\n').count(), 4, "and it goes on");

        let Some(wire) = Wire::new("-o -") else { skip!("needs root") };
        wire.play(&talk);
        let record = &records::parse(&wire.finish().stdout)[0];
        assert_eq!(record["target"], "/caf\u{fffd}");
        assert_eq!(record["target_b64"], "L2NhZuk=");
    }

    /// script(1) provides a terminal. The messages of httplines bypass it.
    #[test]
    fn escape_bytes_never_reach_a_terminal() {
        let program = crate::httplines();
        for (options, shown) in
            [("", r"GET /\x1b[2J\x07\x7f\xc2\x9b1m\xff\xfe"), ("-o -", "u001b[2J")]
        {
            let inner = format!("exec '{program}' -i veth1 -B 4096 --shards 1 -c 1 {options} 2>&3");
            let mut command = Command::new("sh");
            command.args(["-c", "exec script -qefc \"$0\" /dev/null 3>&2", &inner]);
            let Some(wire) = Wire::with(command, "") else { skip!("needs root") };
            let mut talk = conversation(4000);
            let head = b"GET /\x1b[2J\x07\x7f\xc2\x9b1m\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n";
            talk.client(head).server(b"HTTP/1.1 200 \x1b]0;owned\x07\r\nContent-Length: 0\r\n\r\n");
            wire.play(&talk);
            let finished = wire.httplines.wait();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            let screen = String::from_utf8_lossy(&finished.stdout);
            assert!(screen.contains(shown), "{screen:?}");
            let raw = screen.chars().find(|c| c.is_control() && !"\r\n".contains(*c));
            assert_eq!(raw, None, "{screen:?}");
        }
    }

    #[test]
    fn concurrent_split_requests() {
        const COUNT: u16 = 1500;
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let mut later = Vec::new();
        let mut paces = 0;
        for number in 0..COUNT {
            if number % 100 == 99 {
                wire.pace(&mut paces);
            }
            let head = request(&format!("GET /split/{number:04}/over-two-packets HTTP/1.1"));
            let mut talk = conversation(2000 + number).segment_bytes(12);
            talk.client(&head).server(OK);
            let frames = talk.frames(0, 0);
            // The handshake and twelve bytes; the rest comes later.
            wire.send(&frames[..4]);
            later.push(frames[4..].to_vec());
        }
        for (number, frames) in later.iter().enumerate() {
            if number % 100 == 99 {
                wire.pace(&mut paces);
            }
            wire.send(frames);
        }
        let mut requests = wire.requests();
        requests.retain(|line| line != PACE);
        assert_eq!(requests.len(), usize::from(COUNT));
        requests.sort_unstable();
        let all = |number| format!("GET /split/{number:04}/over-two-packets HTTP/1.1");
        assert_eq!(requests, (0..COUNT).map(all).collect::<Vec<_>>());
    }

    /// Uses real TCP, since only that produces superpackets, and not always; so it repeats the
    /// request until one arrived whole.
    #[test]
    fn a_long_request_line_in_one_superpacket() {
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let line = format!("GET /{} HTTP/1.1", "long/".repeat(1100));
        let head = request(&line);
        let small = CaptureConfig { block_count: 8, retire_timeout_ms: 1, ..Default::default() };
        let (control, mut sources) = wire.server.run(move || {
            LiveCapture::open(
                &small,
                &DecodeConfig::default(),
                &["veth1".into()],
                1,
                &IfaceNames::default(),
            )
            .expect("root")
        });
        control.open_gate();
        let listener = wire.server.run(|| TcpListener::bind("10.0.0.1:8080").expect("it is free"));
        let (mut asked_count, mut longest) = (0, 0);
        wait_until("a whole head was in one frame", || {
            ask(&wire.client, &listener, &head);
            asked_count += 1;
            let mut look = |frame: Frame<'_>| longest = longest.max(frame.bytes.len());
            while sources[0].poll(&mut look).expect("a live source goes on") != Polled::Idle {}
            longest > head.len()
        });
        assert_eq!(wire.requests(), vec![line; asked_count]);
    }

    /// One connection to 10.0.0.1:8080: sends `head` in one write, and waits for the response.
    fn ask(client: &Namespace, listener: &TcpListener, head: &[u8]) {
        const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
        let mut stream = client.run(|| TcpStream::connect("10.0.0.1:8080").expect("it listens"));
        stream.write_all(head).expect("it is within the first window");
        let (mut served, _) = listener.accept().expect("the client is there");
        served.set_read_timeout(PATIENCE).expect("a timeout");
        served.read_exact(&mut vec![0; head.len()]).expect("it asks");
        served.write_all(OK).expect("it listens");
        drop(served);
        stream.set_read_timeout(PATIENCE).expect("a timeout");
        stream.read_to_end(&mut Vec::new()).expect("it answers");
    }

    #[test]
    fn ipv6() {
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let mut talk = Conversation::new("[fd00::9]:4000", "[fd00::1]:80");
        talk.handshake().client(&request("GET /six HTTP/1.1")).server(OK).finish();
        wire.play(&talk);
        assert_eq!(wire.requests(), ["GET /six HTTP/1.1"]);
    }

    #[test]
    fn qinq() {
        let Some(wire) = Wire::new("-o -") else { skip!("needs root") };
        let mut talk = Conversation::new("10.0.0.9:4000", "10.0.0.1:80").vlans(&[200, 100]);
        talk.handshake().client(&request("GET /tagged HTTP/1.1")).server(OK).finish();
        let mut frames = talk.frames(0, 0);
        // The outer tag of 802.1ad.
        frames.iter_mut().for_each(|frame| frame.bytes[12..14].copy_from_slice(&[0x88, 0xa8]));
        wire.send(&frames);
        let records = records::parse(&wire.finish().stdout);
        assert_eq!(records[0]["target"], "/tagged");
        assert_eq!(records[0]["vlan"], serde_json::json!([200, 100]));
        assert_eq!(records[0]["outcome"], "complete");
    }

    #[test]
    fn more_methods() {
        let lines = ["PATCH /a HTTP/1.1", "OPTIONS * HTTP/1.1", "PROPFIND /c HTTP/1.1"];
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        for (line, port) in lines.iter().zip(4000..) {
            let mut talk = conversation(port);
            talk.client(&request(line)).server(OK).finish();
            wire.play(&talk);
        }
        assert_eq!(wire.requests(), lines);
    }

    #[test]
    fn pipelined_requests() {
        let lines = ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /3 HTTP/1.1"];
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let mut talk = conversation(4000);
        talk.client(&lines.map(request).concat()).server(&[OK; 3].concat()).finish();
        wire.play(&talk);
        assert_eq!(wire.requests(), lines);
    }

    #[test]
    fn a_method_split_over_tiny_segments() {
        let lines = ["GET /tiny HTTP/1.1", "PROPFIND /tiny HTTP/1.1", "PROPPATCH /tiny HTTP/1.1"];
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        for (line, port) in lines.iter().zip(4000..) {
            let mut talk = conversation(port).segment_bytes(1);
            talk.client(&request(line)).server(OK).finish();
            wire.play(&talk);
        }
        assert_eq!(wire.requests(), lines);
    }

    #[test]
    fn a_retransmission() {
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let mut talk = conversation(4000);
        talk.client(&request("GET /once HTTP/1.1")).server(OK).finish();
        talk.duplicate(Side::Client, 0).duplicate(Side::Server, 0);
        wire.play(&talk);
        let stdout = String::from_utf8(wire.finish().stdout).expect("it was UTF-8");
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!(lines, ["GET /once HTTP/1.1", "HTTP/1.1 200 OK", END, "HTTP/1.1 200 OK"]);
    }

    #[test]
    fn a_body_that_begins_like_a_request() {
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let mut talk = conversation(4000);
        // In a segment of its own, as from a client that sends head and body separately.
        let body = request("GET /in-the-body HTTP/1.1");
        let length = body.len();
        talk.client(format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        talk.client(&body).server(OK).finish();
        wire.play(&talk);
        assert_eq!(wire.requests(), ["POST / HTTP/1.1"]);
    }

    /// A link that goes down is reported, but not among the lines.
    #[test]
    fn errors_stay_off_the_data() {
        for options in ["", "-o -"] {
            let Some(mut wire) = Wire::new(options) else { skip!("needs root") };
            let mut talk = conversation(4000);
            talk.client(b"GET /bad HTTP/1.1\r\nno field\r\n: \0\r\n\r\n")
                .server(b"not HTTP at all");
            talk.client(b"GET /cut HTTP/1.1\r\nHo").reset(Side::Client);
            wire.play(&talk);
            wire.server.ip("link set veth1 down");
            wire.httplines.await_stderr("veth1 is down");
            wire.server.ip("link set veth1 up");
            // The injector's socket gets an error for its own end, too: a new one sends.
            wire.injector = wire.client.run(|| Injector::new("veth0"));
            let stdout = wire.finish().stdout;
            if options.is_empty() {
                let stdout = String::from_utf8(stdout).expect("it was UTF-8");
                let is_message =
                    |line: &str| line.starts_with("GET /") || line.starts_with("HTTP/");
                assert!(stdout.lines().all(is_message), "{stdout}");
            } else {
                records::parse(&stdout);
            }
        }
    }

    #[test]
    fn segments_out_of_order() {
        let Some(wire) = Wire::new("") else { skip!("needs root") };
        let line = "GET /first-part/second-part/third-part HTTP/1.1";
        for (port, delayed) in [(4000, 0), (4001, 1)] {
            let mut talk = conversation(port).segment_bytes(16);
            talk.client(&request(line)).server(OK).finish();
            talk.delay(Side::Client, delayed, 1).duplicate(Side::Client, 2);
            wire.play(&talk);
        }
        assert_eq!(wire.requests(), [line, line]);
    }
}
