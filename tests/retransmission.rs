//! `retransmitted_bytes`, on a veth pair with real losses: what a capture of all packets of the
//! same interface shows, counted by a naive twin.

/// Needs root; otherwise the test reports that it was skipped.
mod root {
    use crate::support::capture_file::WrittenFrame;
    use crate::support::lab::Running;
    use crate::support::live_capture::{Capture, Kept, small};
    use crate::support::lossy::discard_one_in;
    use crate::support::namespace::Namespace;
    use crate::support::reported::reported_of;
    use crate::support::skip;
    use httplines::config::{CaptureConfig, FilterMode};
    use serde_json::Value;
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};
    use std::thread;

    const CONNECTION_COUNT: usize = 6;

    /// The exchanges of every connection: request and response.
    fn exchanges() -> Vec<[Vec<u8>; 2]> {
        let message = |first_line: &str, body_bytes: usize| {
            let head = format!("{first_line}\r\nHost: a\r\nContent-Length: {body_bytes}\r\n\r\n");
            [head.as_bytes(), &vec![b'x'; body_bytes]].concat()
        };
        [("/download", 0, 400_000), ("/upload", 250_000, 10), ("/small", 0, 2000)]
            .map(|(target, asked, answered)| {
                let request = message(&format!("POST {target} HTTP/1.1"), asked);
                [request, message("HTTP/1.1 200 OK", answered)]
            })
            .to_vec()
    }

    /// Takes part in all exchanges as client (0) or server (1).
    fn talk(mut stream: TcpStream, own: usize) {
        discard_one_in(&stream, 12);
        for exchange in exchanges() {
            for (sender, message) in exchange.iter().enumerate() {
                if sender == own {
                    stream.write_all(message).expect("the peer listens");
                } else {
                    stream.read_exact(&mut vec![0; message.len()]).expect("the peer sends");
                }
            }
        }
    }

    /// All exchanges, on connections whose ends discard packets.
    fn make_traffic(client: &Namespace, server: &Namespace) {
        let serving = server.run(|| {
            let listener = TcpListener::bind("10.0.0.1:80").expect("the port is free");
            thread::spawn(move || {
                let accepted = listener.incoming().take(CONNECTION_COUNT);
                let talks = accepted.map(|stream| {
                    let stream = stream.expect("a client");
                    thread::spawn(move || talk(stream, 1))
                });
                talks.collect::<Vec<_>>().into_iter().for_each(|one| one.join().expect("it ends"));
            })
        });
        client.run(|| {
            let connect = |_| {
                let stream = TcpStream::connect("10.0.0.1:80").expect("the server is there");
                thread::spawn(move || talk(stream, 0))
            };
            let talks: Vec<_> = (0..CONNECTION_COUNT).map(connect).collect();
            talks.into_iter().for_each(|one| one.join().expect("it ends"));
        });
        serving.join().expect("the server ends");
    }

    /// One direction of a connection: which positions have passed.
    struct Passed {
        isn: Option<u32>,
        is_passed: Vec<bool>,
        /// Everything before it has passed.
        until: usize,
        /// Nothing behind it has passed.
        end: usize,
        /// Where each of its messages ends.
        ends: Vec<usize>,
    }

    /// Counts by hand what passes again, for each exchange of a connection.
    struct Twin {
        passed: [Passed; 2],
        again: Vec<u64>,
    }

    impl Twin {
        fn new() -> Twin {
            let passed = [0, 1].map(|own: usize| {
                let mut end = 0;
                let ends = exchanges().into_iter().map(|exchange| {
                    end += exchange[own].len();
                    end
                });
                let ends: Vec<usize> = ends.collect();
                let is_passed = vec![false; end];
                Passed { isn: None, is_passed, until: 0, end: 0, ends }
            });
            Twin { passed, again: vec![0; exchanges().len()] }
        }

        fn take(&mut self, own: usize, seq: u32, is_syn: bool, len: usize) {
            let is_over = |number: usize| {
                self.passed.iter().all(|passed| passed.ends[number] <= passed.until)
            };
            let over: Vec<bool> = (0..self.again.len()).map(is_over).collect();
            let passed = &mut self.passed[own];
            if is_syn {
                passed.isn = Some(seq);
            }
            let isn = passed.isn.expect("the handshake was captured");
            let start = seq.wrapping_sub(isn).wrapping_sub(1) as usize;
            let is_probe = len == 1 && start + 1 == passed.end;
            for at in (start..start + len).filter(|_| !is_syn) {
                let number = passed.ends.partition_point(|end| *end <= at);
                if passed.is_passed[at] && !over[number] && !is_probe {
                    self.again[number] += 1;
                }
                passed.is_passed[at] = true;
                passed.end = passed.end.max(at + 1);
            }
            while passed.is_passed.get(passed.until) == Some(&true) {
                passed.until += 1;
            }
        }
    }

    /// What the frames show: the bytes that passed again, by the client's port and target.
    fn count(frames: &[Kept]) -> BTreeMap<(u64, String), u64> {
        let mut twins = BTreeMap::new();
        for frame in frames.iter().filter(|frame| frame.bytes[12..14] == [8, 0]) {
            assert_eq!(frame.bytes.len(), frame.wire_bytes as usize, "all of it was captured");
            let ip = &frame.bytes[14..];
            let tcp = &ip[usize::from(ip[0] & 15) * 4..];
            let number = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
            let own = usize::from(number(0) == 80);
            let header_bytes = ip.len() - tcp.len() + usize::from(tcp[12] >> 4) * 4;
            let len = usize::from(u16::from_be_bytes([ip[2], ip[3]])) - header_bytes;
            let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            let port = number(2 * own);
            let twin = twins.entry(u64::from(port)).or_insert_with(Twin::new);
            twin.take(own, seq, tcp[13] & 2 != 0, len);
        }
        let targets = ["/download", "/upload", "/small"];
        let each = twins.iter().flat_map(|(port, twin)| {
            let again = twin.again.iter().zip(targets);
            again.map(|(again, target)| ((*port, target.to_string()), *again))
        });
        each.collect()
    }

    fn told(records: &[Value]) -> BTreeMap<(u64, String), u64> {
        let each = records.iter().map(|record| {
            assert_eq!(
                (&record["outcome"], &record["gap_bytes"]),
                (&"complete".into(), &Value::Null)
            );
            let port = record["client_port"].as_u64().expect("a port");
            let target = record["target"].as_str().expect("a target").to_string();
            ((port, target), record["retransmitted_bytes"].as_u64().unwrap_or(0))
        });
        each.collect()
    }

    #[test]
    fn what_passes_again_on_a_lossy_link_is_told() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let all = ["--no-elide", "--filter", "off"];
        let running = [("elided.jsonl", &[][..]), ("all.jsonl", &all)].map(|(output, more)| {
            let mut command = Command::new(crate::httplines());
            command.args(["-i", "veth1", "--elide-min-bytes", "1", "-o", output]);
            command.args(more).current_dir(place.path());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = server.run(move || command.spawn().expect("it starts"));
            (Running::new(child, "capturing on"), output)
        });
        let config = CaptureConfig { filter: FilterMode::Off, block_count: 256, ..small() };
        let mut capture = Capture::open(&server, config, &["veth1"], 1);
        make_traffic(&client, &server);
        assert_eq!(capture.settle().drops(), 0);

        let expected = count(&capture.kept);
        assert_eq!(expected.len(), 3 * CONNECTION_COUNT);
        assert!(expected.values().sum::<u64>() > 10_000, "{expected:?}");
        for (running, output) in running {
            let records = running.stop().records(&place.path().join(output));
            assert_eq!(told(&records), expected, "{output}");
        }
        let written = capture.kept.iter().enumerate();
        let written = written.map(|(number, frame)| WrittenFrame::new(number as u64, &frame.bytes));
        let reported = reported_of(&written.collect::<Vec<_>>());
        assert_eq!(told(&reported.records), expected, "from the frames themselves");
    }
}
