//! Talks of WebSocket behind the filter: the connection stays a session, and large payloads stay in
//! the kernel, exactly. A naive twin says which segments those are.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::ops::Range;
    use std::process::{Command, Stdio};
    use std::thread;

    use httplines::config::{CaptureConfig, EmitConfig, FilterMode, RecordKinds};
    use serde_json::Value;

    use crate::support::capture_file::WrittenFrame;
    use crate::support::conversation::Side;
    use crate::support::lab::{self, Running};
    use crate::support::live_capture::small;
    use crate::support::namespace::Namespace;
    use crate::support::packet::{ACK, FIN, PSH, Packet, SYN};
    use crate::support::reported::{Records, reported_with};
    use crate::support::websocket::{self, BINARY, CONTINUATION, PING, PONG, TEXT, answer, frame};
    use crate::support::wire::Wire;
    use crate::support::{records, skip};

    /// What two captures of the same frames do not have in common.
    const TIMES: [&str; 8] = [
        "ts",
        "connect_ns",
        "request_ns",
        "ttfb_ns",
        "response_ns",
        "duration_ns",
        "iface",
        "retransmitted_bytes",
    ];
    const SEGMENT_BYTES: usize = 1400;
    /// Segments with less payload pass whole.
    const CUT_BYTES_MIN: u32 = 256;
    const LAST: u8 = websocket::FIN;
    const SIDES: [Side; 2] = [Side::Client, Side::Server];

    fn side_of(is_client: bool) -> Side {
        SIDES[usize::from(!is_client)]
    }

    fn emit() -> EmitConfig {
        let records = RecordKinds { websocket: true, ..RecordKinds::default() };
        EmitConfig { records, ..EmitConfig::default() }
    }

    /// A segment, and where it is in its direction.
    struct Sent {
        side: usize,
        begin: u32,
        payload_bytes: u32,
        flags: u8,
        /// How much of the other direction it acknowledges.
        acked: u32,
        frame: Vec<u8>,
    }

    /// A connection. Side 0 is the client; positions count from the first byte.
    struct Talk {
        isn: [u32; 2],
        next: [u32; 2],
        sent: Vec<Sent>,
        /// The payloads of messages.
        payloads: [Vec<Range<u32>>; 2],
    }

    impl Talk {
        fn new(isn: [u32; 2]) -> Talk {
            let payloads = [Vec::new(), Vec::new()];
            let mut talk = Talk { isn, next: [0; 2], sent: Vec::new(), payloads };
            talk.push(0, SYN, b"");
            talk.push(1, SYN | ACK, b"");
            talk.push(0, ACK, b"");
            talk
        }

        fn push(&mut self, side: usize, flags: u8, payload: &[u8]) {
            let ends: [SocketAddr; 2] =
                ["10.0.0.9:4000", "10.0.0.1:80"].map(|end| end.parse().expect("an address"));
            let at = |side: usize, flags: u8| {
                self.isn[side]
                    .wrapping_add(u32::from(flags & SYN == 0))
                    .wrapping_add(self.next[side])
            };
            let ack = if flags & ACK != 0 { at(1 - side, 0) } else { 0 };
            let packet = Packet::tcp(ends[side], ends[1 - side]).seq(at(side, flags)).ack(ack);
            let frame = packet.flags(flags).payload(payload).ethernet();
            let (begin, payload_bytes) = (self.next[side], payload.len() as u32);
            let acked = self.next[1 - side];
            self.sent.push(Sent { side, begin, payload_bytes, flags, acked, frame });
            self.next[side] += payload_bytes + u32::from(flags & FIN != 0);
        }

        /// A side sends bytes in segments; the other one acknowledges every second.
        fn say(&mut self, side: usize, bytes: &[u8]) {
            for (index, piece) in bytes.chunks(SEGMENT_BYTES).enumerate() {
                self.push(side, PSH | ACK, piece);
                if index % 2 == 1 {
                    self.push(1 - side, ACK, b"");
                }
            }
            self.push(1 - side, ACK, b"");
        }

        /// Frames in a row: the first byte of each, and the length of its payload. The other side
        /// talks as well, in between.
        fn frames(&mut self, side: usize, frames: &[(u8, usize)]) {
            let mut bytes = Vec::new();
            for (first, payload_bytes) in frames {
                // Any byte of it may look like the head of a frame.
                let payload: Vec<u8> = (0..*payload_bytes).map(|at| (at * 129) as u8).collect();
                bytes.extend(frame(SIDES[side], *first, &payload));
                if first & 0x0f <= BINARY {
                    let end = self.next[side] + bytes.len() as u32;
                    self.payloads[side].push(end - *payload_bytes as u32..end);
                }
            }
            self.say(side, &bytes);
        }

        fn open(&mut self, target: &str) {
            self.say(0, websocket::request_for(target).as_bytes());
            // The server talks at once.
            let text = frame(Side::Server, LAST | TEXT, b"hello");
            self.say(1, &[answer("").as_bytes(), &text].concat());
        }

        /// Talks with messages of all sizes.
        fn talk(&mut self) {
            self.open("/talk");
            self.frames(0, &[(LAST | TEXT, 20), (LAST | PING, 4)]);
            self.frames(1, &[(LAST | PONG, 4), (LAST | BINARY, 200_000)]);
            // A ping within a message, whose frames begin anywhere in a segment.
            let parts = [(TEXT, 100_000), (LAST | PING, 10), (CONTINUATION, 30_000)];
            self.frames(
                1,
                &[&parts[..], &[(LAST | CONTINUATION, 50_000), (LAST | TEXT, 3)]].concat(),
            );
            self.frames(0, &[(LAST | PONG, 10), (LAST | BINARY, 150_000), (LAST | TEXT, 9000)]);
            // Both at a time.
            for (side, from) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)] {
                let whole = frame(SIDES[side], LAST | BINARY, &[7; 60_000]);
                let pieces: Vec<&[u8]> = whole.chunks(21_000).collect();
                if from == 0 {
                    let begin = self.next[side] + (whole.len() - 60_000) as u32;
                    self.payloads[side].push(begin..begin + 60_000);
                }
                self.say(side, pieces[from]);
            }
        }

        fn close(&mut self) {
            self.say(0, &websocket::close(Side::Client, 1000, "done"));
            self.say(1, &websocket::close(Side::Server, 1000, "done"));
            self.push(0, FIN | ACK, b"");
            self.push(1, FIN | ACK, b"");
            self.push(0, ACK, b"");
        }

        /// The bytes that stay in the kernel if each frame is processed before the next one is
        /// sent: those of segments below the end of a payload whose head was acknowledged, and of
        /// which at least `bytes_min` were to come when data passed, of either side.
        fn elided_bytes(&self, bytes_min: u32) -> u64 {
            let (mut passed, mut acked, mut granted) = ([0; 2], [0; 2], [0; 2]);
            let mut sum = 0;
            for sent in &self.sent {
                let end = sent.begin + sent.payload_bytes;
                let is_plain = sent.flags & (SYN | FIN) == 0;
                if is_plain && sent.payload_bytes >= CUT_BYTES_MIN && end <= granted[sent.side] {
                    sum += u64::from(sent.payload_bytes);
                }
                passed[sent.side] = end;
                acked[1 - sent.side] = sent.acked;
                if sent.payload_bytes == 0 {
                    continue;
                }
                for side in [0, 1] {
                    let at = passed[side];
                    let payload = self.payloads[side].iter().find(|it| it.contains(&at));
                    if let Some(payload) = payload
                        && acked[side] >= payload.start
                        && payload.end - at >= bytes_min
                    {
                        granted[side] = payload.end;
                    }
                }
            }
            sum
        }
    }

    /// The records of the frames, live with `config`, and the bytes that were elided.
    fn live(config: CaptureConfig, talks: &[&Talk]) -> Option<(Vec<Value>, u64)> {
        let mut wire = Wire::new(config, Records::new(&emit()))?;
        for sent in talks.iter().flat_map(|talk| &talk.sent) {
            wire.deliver(&sent.frame);
        }
        wire.pipeline.finish();
        let totals = wire.control.totals().expect("the kernel has counters");
        let told = records::without(wire.pipeline.sink().records(), &TIMES);
        Some((told, totals.filter.elided_bytes))
    }

    fn of_file(talks: &[&Talk]) -> Vec<Value> {
        let written = |(at, sent): (usize, &Sent)| {
            WrittenFrame::new(1_700_000_000_000_000_000 + at as u64 * 1_000_000, &sent.frame)
        };
        let frames: Vec<WrittenFrame> =
            talks.iter().flat_map(|talk| &talk.sent).enumerate().map(written).collect();
        let told = reported_with(&frames, &emit());
        records::without(told.records, &TIMES)
    }

    fn talk_of(told: &[Value]) -> &Value {
        told.iter().find(|record| record["type"] == "websocket").expect("a talk")
    }

    #[test]
    fn large_payloads_stay_in_the_kernel_exactly() {
        for isn in [[1000, 5000], [u32::MAX - 100_000, u32::MAX - 300_000]] {
            let mut talk = Talk::new(isn);
            talk.talk();
            talk.close();
            let expected = of_file(&[&talk]);
            assert_eq!(expected.len(), 2, "{expected:?}");
            let record = talk_of(&expected);
            let sum =
                |side: usize| talk.payloads[side].iter().map(|it| it.len() as u64).sum::<u64>();
            assert_eq!(record["client_message_bytes"], sum(0), "{record}");
            assert_eq!(record["server_message_bytes"], sum(1) + 5, "{record}");
            assert_eq!(
                (&record["client_messages"], &record["server_messages"]),
                (&4.into(), &5.into())
            );
            assert_eq!((&record["pings"], &record["pongs"]), (&2.into(), &2.into()), "{record}");
            assert_eq!(
                (&record["outcome"], &record["close_code"]),
                (&"complete".into(), &1000.into())
            );
            // Where numbers wrap, once is enough.
            let limits = [Some(8 << 10), Some(1), None];
            for bytes_min in &limits[..if isn[0] == 1000 { 3 } else { 1 }] {
                let config = CaptureConfig { elide_bytes_min: *bytes_min, ..small() };
                let Some((told, bytes)) = live(config, &[&talk]) else { skip!("needs root") };
                records::assert_same(&format!("from {bytes_min:?} on"), &told, &expected);
                let elided = bytes_min.map_or(0, |min| talk.elided_bytes(min as u32));
                assert_eq!(bytes, elided, "from {bytes_min:?} on");
                assert!(bytes_min.is_none() || bytes > 500_000, "{bytes}");
            }
        }
        let config = CaptureConfig { filter: FilterMode::Off, ..small() };
        let mut talk = Talk::new([1000, 5000]);
        talk.talk();
        talk.close();
        let Some((told, bytes)) = live(config, &[&talk]) else { skip!("needs root") };
        records::assert_same("without the filter", &told, &of_file(&[&talk]));
        assert_eq!(bytes, 0);
    }

    /// Its grants end with the connection, and with the talk's direction: a FIN passes with its
    /// data, and the next connection between the same endpoints passes whole, whatever its numbers.
    #[test]
    fn no_grant_outlives_its_talk() {
        let mut first = Talk::new([1000, 5000]);
        first.open("/first");
        first.frames(0, &[(LAST | TEXT, 20)]);
        // The last frame is not whole.
        let whole = frame(Side::Server, LAST | BINARY, &[7; 1 << 20]);
        first.payloads[1].push(first.next[1] + 10..first.next[1] + whole.len() as u32);
        first.say(1, &whole[..50_000]);
        first.push(1, FIN | ACK, &whole[50_000..51_000]);
        first.push(0, FIN | ACK, b"");
        first.push(1, ACK, b"");
        // Below the end of the grant.
        let mut second = Talk::new([1000 + 500, 5000 + 400_000]);
        second.say(0, b"GET /plain HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
        second.say(1, &[head.as_bytes(), &[b'x'; 5000]].concat());
        second.open("/second");
        second.frames(1, &[(LAST | BINARY, 4000), (LAST | BINARY, 4000)]);
        second.close();
        let expected = of_file(&[&first, &second]);
        assert_eq!(expected.len(), 5, "{expected:?}");
        let Some((told, bytes)) = live(small(), &[&first, &second]) else { skip!("needs root") };
        records::assert_same("two connections", &told, &expected);
        assert_eq!(bytes, first.elided_bytes(8 << 10), "of the first one only");
        assert!(bytes > 40_000, "{bytes}");
        assert_eq!(talk_of(&told)["outcome"], "truncated");
    }

    /// The number in front of the words for elided bytes in the newest totals, or 0.
    fn left_out(running: &mut Running) -> u64 {
        running.signal("USR1");
        running.await_stderr("  written ");
        let before = running.stderr().rsplit_once(" bytes of bodies left in the kernel");
        let number = before.and_then(|(before, _)| before.split_whitespace().next_back());
        number.map_or(0, |number| number.parse().expect("a number"))
    }

    /// Sends a frame. Only a part of its payload is sent until each of `all` has told the filter
    /// where it ends. Returns how many bytes follow.
    fn send_told(
        stream: &mut TcpStream,
        is_client: bool,
        bytes: usize,
        all: &mut [&mut Running],
    ) -> usize {
        let frame = frame(side_of(is_client), LAST | BINARY, &vec![0x81; bytes]);
        let mut rest = &frame[..];
        let mut send = |count: usize| {
            let (piece, behind) = rest.split_at(count);
            stream.write_all(piece).expect("the peer listens");
            rest = behind;
            behind.len()
        };
        for running in all {
            let before = left_out(running);
            lab::wait_until("the filter is told", || {
                send(1 << 10);
                left_out(running) > before
            });
        }
        let rest_bytes = send(0);
        send(rest_bytes);
        rest_bytes
    }

    /// Reads everything that comes, in a thread of its own.
    fn drain(stream: &TcpStream) -> thread::JoinHandle<()> {
        let mut stream = stream.try_clone().expect("another descriptor");
        thread::spawn(move || while matches!(stream.read(&mut [0; 1 << 16]), Ok(1..)) {})
    }

    fn read_head(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the peer sends a head");
            head.extend(byte);
        }
    }

    /// A talk over real connections. Returns how many bytes the filter surely had a hint for.
    fn real_talk(places: &(Namespace, Namespace), all: &mut [&mut Running]) -> usize {
        let listener = places.1.run(|| TcpListener::bind("10.0.0.1:80")).expect("the port is free");
        let mut client = places.0.run(|| TcpStream::connect("10.0.0.1:80")).expect("it listens");
        let (mut server, _) = listener.accept().expect("a client");
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a TCP socket");
        }
        client.write_all(websocket::request_for("/real").as_bytes()).expect("the server listens");
        read_head(&mut server);
        server.write_all(answer("").as_bytes()).expect("the client listens");
        read_head(&mut client);
        let readers = [drain(&client), drain(&server)];
        let mut sure_bytes = 0;
        for (stream, is_client) in [(&mut server, false), (&mut client, true)] {
            let mut say = |first: u8, payload: &[u8]| {
                stream
                    .write_all(&frame(side_of(is_client), first, payload))
                    .expect("the peer listens");
            };
            say(LAST | TEXT, b"begin");
            say(BINARY, &[7; 300_000]);
            say(LAST | PING, b"p");
            say(CONTINUATION, &[7; 70_000]);
            say(LAST | CONTINUATION, b"");
            sure_bytes += send_told(stream, is_client, BIG_BYTES, all);
            let end = websocket::close(side_of(is_client), 1001, "bye");
            stream.write_all(&end).expect("the peer listens");
        }
        for stream in [client, server] {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        for reader in readers {
            reader.join().expect("it reads to the end");
        }
        sure_bytes
    }

    const BIG_BYTES: usize = 4 << 20;

    fn the_same_of_real_talks(has_offloads: bool) {
        let Some(places) = Namespace::pair() else { skip!("needs root") };
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        for (place, device) in [(&places.0, "veth0"), (&places.1, "veth1")] {
            let state = if has_offloads { "on" } else { "off" };
            let features = ["tso", "gso", "gro"].map(|feature| [feature, state]).concat();
            place
                .run(move || lab::run(Command::new("ethtool").args(["-K", device]).args(features)));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let start = |name: &str, more: &str| {
            let mut command = Command::new(crate::httplines());
            command.args(["-i", "veth1", "--records", "http,websocket", "-B", "65536"]);
            command.args(more.split(' ')).arg("-o").arg(folder.path().join(name));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            Running::new(places.1.run(move || command.spawn()).expect("it starts"), "capturing")
        };
        let mut elided = start("elided", "--shards 1 --retire-timeout-ms 1");
        let mut two = start("two", "--shards 2 --retire-timeout-ms 1 --elide-min-bytes 1");
        let whole = start("whole", "--shards 1 --no-elide");
        let off = start("off", "--shards 2 --filter off");
        let sure_bytes = real_talk(&places, &mut [&mut elided, &mut two]) as u64;
        let mut all = [elided, two, whole, off].map(Some);
        let told = ["elided", "two", "whole", "off"].map(|name| {
            let running = all.iter_mut().find_map(Option::take).expect("one for each");
            let finished = running.stop();
            let told = finished.records(&folder.path().join(name));
            (records::without(told, &TIMES), finished.stderr)
        });
        let record = talk_of(&told[0].0);
        let bytes = 5 + 370_000 + BIG_BYTES;
        assert_eq!(record["client_message_bytes"], bytes, "{record}");
        assert_eq!(record["server_message_bytes"], bytes, "{record}");
        assert_eq!((&record["client_frames"], &record["pings"]), (&7.into(), &2.into()));
        assert_eq!(
            (&record["outcome"], &record["close_by"]),
            (&"complete".into(), &"server".into())
        );
        for (of, (told_by, totals)) in ["elided", "two", "whole", "off"].iter().zip(&told) {
            records::assert_same(of, told_by, &told[0].0);
            let before = totals.rsplit_once(" bytes of bodies left in the kernel");
            let number = before.and_then(|(before, _)| before.split_whitespace().next_back());
            let left: u64 = number.map_or(0, |number| number.parse().expect("a number"));
            match *of {
                // Only ends of segments reach user space, and segments with other frames.
                "elided" | "two" => assert!(left > sure_bytes / 100 * 95, "{left}: {totals}"),
                _ => assert_eq!(left, 0, "{totals}"),
            }
        }
    }

    #[test]
    fn real_talks_in_superpackets() {
        the_same_of_real_talks(true);
    }

    #[test]
    fn real_talks_in_packets_of_mtu_size() {
        the_same_of_real_talks(false);
    }
}
