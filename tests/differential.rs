//! Real servers and real clients, and two readers that share no code: httplines and tshark must
//! find the same messages, the same responses to the same requests, the same bodies and times.
//!
//! tshark's result counts, except where it is known to be wrong. Each case has its own condition:
//!
//! - It shows a message when its body has ended. It hides a message whose body never ends; a run
//!   that does not reassemble bodies shows its head (`is_cut` below).
//! - It cannot read a chunked message whose last CRLF comes in two segments, and says so
//!   (`is_malformed`).
//! - It pairs a response with the last request that it has shown. So it is wrong if requests are
//!   pipelined, and if a response comes before the end of its request (`hold_pair`).
//! - It reads the content of CONNECT tunnels; httplines does not treat that as HTTP (`switched`).
//!
//! In these cases the server shows which request a response belongs to: it names the target in
//! `Location`.
//!
//! `HTTPLINES_LAB_REQUESTS=20000 cargo test --release --test main differential::` makes this many
//! requests of mixed kinds over each address family instead of the few that a test needs.

mod root {
    use crate::support::lab::{
        self, CAPTURE_DEPENDENT_FIELDS, End, Lab, Offload, SERVER, SERVER_IFACE,
    };
    use crate::support::tshark::{self, Bodies, Message};
    use crate::support::{records, skip};
    use serde_json::Value;
    use std::collections::{BTreeMap, VecDeque};
    use std::path::Path;
    use std::process::Command;

    const NODE_PORT: u16 = 8080;
    const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/peer.js");

    fn missing() -> Option<String> {
        let reason = lab::missing().or_else(|| lab::missing_program("tshark"));
        let reason = reason.or_else(|| lab::missing_program("node"));
        reason.or_else(|| {
            // The newest function that the peer needs; Node 18.11 has it.
            let has = "'writeEarlyHints' in require('http').ServerResponse.prototype";
            let script = format!("process.exit({has} ? 0 : 1)");
            let done = Command::new("node").args(["-e", &script]).status();
            (!done.is_ok_and(|status| status.success())).then(|| "needs Node 18.11 or later".into())
        })
    }

    /// Requests of mixed kinds over each address family.
    fn request_count() -> usize {
        std::env::var("HTTPLINES_LAB_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(32)
    }

    /// Requests of curl to nginx.
    fn ask_nginx(lab: &Lab) {
        let v6 = format!("http://[{}]/1m", SERVER[1]);
        for asked in [
            &["/64k", "/1m", &v6, "/chunked", "/none", "/empty", "/gzip", "/old"][..],
            &["--compressed", "/gzip", "/64k"],
            &["--location", "/old"],
            &["--head", "/64k", "/small/head", "/old"],
            &["--range", "100-199", "/1m", "/64k"],
            &["--range", "0-9,20-29", "/64k"],
            &["--range", "2000000-", "/1m"],
            &["--time-cond", "2038-01-01", "/1m", "/64k"],
            &["--http1.0", "/chunked", "/64k"],
            &["--http1.0", "-H", "Connection: keep-alive", "/64k", "/small/1"],
            &["--http2", "/small/h2c"],
            &["-X", "OPTIONS", "--request-target", "*", "/"],
            &["-X", "DELETE", "/small/gone"],
            &["-X", UNKNOWN_METHOD, "/small/pot"],
            &["--data", "a=b", "/64k"],
        ] {
            lab.curl(asked);
        }
    }

    /// Requests of curl to both servers, and through a proxy.
    fn send(lab: &Lab) {
        let form = lab.path().join("form");
        std::fs::write(&form, vec![b'x'; 300_000]).expect("a file to send");
        let data = format!("@{}", form.display());
        let field = format!("file={data};type=text/plain");
        let node = |path: &str| format!("http://{}:{NODE_PORT}{path}", SERVER[0]);
        for to in ["/small/post".to_string(), node("/length/5")] {
            for how in ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
                lab.curl(&["-H", how, "--data-binary", &data, &to]);
            }
            lab.curl(&["-F", &field, &to]);
        }
        for refused in ["/status/417", "/status/401"] {
            let expect = "Expect: 100-continue";
            lab.curl(&["-X", "PUT", "-H", expect, "--data-binary", &data, &node(refused)]);
        }
        lab.curl(&["--proxy", &node(""), "--proxytunnel", "/small/tunnel"]);
        lab.curl(&["--proxy", &node(""), &node("/length/10")]);
    }

    fn make_traffic(lab: &Lab) {
        for address in SERVER {
            lab.wrk(address, 4, 50);
        }
        ask_nginx(lab);
        send(lab);
        let mut peer = lab.command(End::Client, "node");
        peer.args([PEER, "drive", &request_count().to_string()]);
        for address in SERVER {
            peer.args([format!("{address}:80"), format!("{address}:{NODE_PORT}")]);
        }
        lab::run(&mut peer);
        // The last one: when this has arrived, so have all before it.
        lab.curl(&["/small/last"]);
    }

    /// The times of the frames in a file of tcpdump, in nanoseconds.
    fn frame_times(capture: &Path) -> Vec<u64> {
        let file = std::fs::read(capture).expect("a capture");
        let word = |at: usize| {
            u64::from(u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes")))
        };
        assert_eq!(word(0), 0xa1b2_3c4d, "a pcap of this machine, with nanoseconds");
        let (mut times, mut at) = (vec![0], 24);
        while at < file.len() {
            times.push(word(at) * 1_000_000_000 + word(at + 4));
            at += 16 + word(at + 8) as usize;
        }
        times
    }

    /// Nanoseconds since midnight of `2026-11-23T14:58:27.974638772Z`.
    fn of_day(ts: &str) -> u64 {
        let number = |at: usize, len: usize| ts[at..at + len].parse::<u64>().expect("digits");
        (number(11, 2) * 3600 + number(14, 2) * 60 + number(17, 2)) * 1_000_000_000 + number(20, 9)
    }

    /// tshark does not recognise a request with an unknown method.
    const UNKNOWN_METHOD: &str = "BREW";

    /// Records keep only the status of interim responses.
    const INTERIM_REASONS: [(u16, &str); 3] =
        [(100, "Continue"), (102, "Processing"), (103, "Early Hints")];

    const DAY_NS: u64 = 86_400 * 1_000_000_000;

    fn text(record: &Value, name: &str) -> String {
        match &record[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The address and port of the sender, and those of the receiver.
    type Endpoints = (String, String);

    fn way(message: &Message) -> Endpoints {
        (message.from.clone(), message.to.clone())
    }

    /// A message as in a record.
    struct Told {
        line: String,
        body_bytes: Option<u64>,
        /// The time of its first byte, if the record has it: nanoseconds since midnight.
        first_ns: Option<u64>,
        /// Its end was not captured.
        is_cut: bool,
    }

    /// Compares records with what tshark shows.
    struct Judge<'a> {
        /// Messages of tshark that have no record yet, in tshark's order.
        left: BTreeMap<Endpoints, VecDeque<&'a Message>>,
        /// The messages it shows when it does not wait for bodies.
        apart: &'a [Message],
        /// The time of each frame.
        times: Vec<u64>,
        /// The frame where tshark shows the final response to the last request of these endpoints.
        answered: BTreeMap<Endpoints, u64>,
        counts: Counts,
    }

    /// How much was compared.
    #[derive(Default, Debug)]
    pub(super) struct Counts {
        pub(super) messages: usize,
        cut_messages: usize,
        malformed_messages: usize,
        pairs: usize,
        waits: usize,
    }

    impl<'a> Judge<'a> {
        /// tshark's next message between these endpoints, if it matches the record; `None` if
        /// tshark hides it.
        fn take(&mut self, to: &Endpoints, told: &Told) -> Result<Option<&'a Message>, String> {
            let Told { line, body_bytes, .. } = told;
            if line.starts_with(UNKNOWN_METHOD) {
                return Ok(None);
            }
            if told.is_cut {
                let is_it = |message: &&Message| {
                    let ns = self.times[message.frame as usize] % DAY_NS;
                    way(message) == *to
                        && message.line == *line
                        && told.first_ns.is_none_or(|first_ns| first_ns == ns)
                };
                self.apart.iter().find(is_it).ok_or(format!("tshark has no {line}, cut or not"))?;
                self.counts.cut_messages += 1;
                return Ok(None);
            }
            let next = self.left.get_mut(to).and_then(VecDeque::pop_front);
            let message = next.ok_or(format!("tshark has no {line}"))?;
            if message.is_malformed {
                self.counts.malformed_messages += 1;
                return Ok(None);
            }
            if message.line != *line || Some(message.body_bytes) != *body_bytes {
                return Err(format!("{line}, {body_bytes:?} bytes; tshark: {message:?}"));
            }
            self.counts.messages += 1;
            Ok(Some(message))
        }

        /// Compares one record with what tshark shows.
        fn record(&mut self, record: &Value) -> Result<(), String> {
            let address = |who: &str| {
                let (ip, port) = (format!("{who}_ip"), format!("{who}_port"));
                format!("{} {}", text(record, &ip), text(record, &port))
            };
            let (client, server) = (address("client"), address("server"));
            let (there, back) = ((client.clone(), server.clone()), (server, client));
            let [ts, request_ns, ttfb_ns, response_ns] = times_of(record);
            let mut request = None;
            if record.get("method").is_some() {
                let line = ["method", "target", "version"].map(|name| text(record, name)).join(" ");
                let body_bytes = record["request_body_bytes"].as_u64();
                // The server did not want the body, and the client withheld it.
                let is_withheld = record["early_response"] == true && body_bytes == Some(0);
                let is_cut = request_ns.is_none() || is_withheld;
                request = self.take(&there, &Told { line, body_bytes, first_ns: ts, is_cut })?;
            }
            let mut first_answer = None;
            for status in record["interim"].as_array().into_iter().flatten() {
                let reason = INTERIM_REASONS.iter().find(|(known, _)| *known == *status);
                let line = format!("{status} {}", reason.map_or("", |(_, reason)| reason));
                let (body_bytes, first_ns, is_cut) = (Some(0), None, false);
                let interim = self.take(&back, &Told { line, body_bytes, first_ns, is_cut })?;
                first_answer = first_answer.or(interim);
            }
            let mut response = None;
            if record.get("status").is_some() {
                let line = format!("{} {}", text(record, "status"), text(record, "reason"));
                let body_bytes = record["response_body_bytes"].as_u64();
                let is_cut = response_ns.is_none();
                let first_ns =
                    ts.zip(request_ns).zip(ttfb_ns).map(|((ts, a), b)| (ts + a + b) % DAY_NS);
                response = self.take(&back, &Told { line, body_bytes, first_ns, is_cut })?;
            }
            self.hold_times(record, request, response)?;
            let waited_ns = ttfb_ns.zip(response_ns).map(|(ttfb_ns, rest_ns)| ttfb_ns + rest_ns);
            let waited_ns = waited_ns.filter(|_| first_answer.is_none());
            if let (Some(request), Some(answer)) = (request, first_answer.or(response)) {
                self.hold_pair(&there, request, answer, waited_ns)?;
            }
            if let Some(response) = response {
                self.answered.insert(there.clone(), response.frame);
            }
            if record["switched"] == true {
                // From here on, tshark's messages of the connection are ignored.
                self.left.remove(&there);
                self.left.remove(&back);
            }
            Ok(())
        }

        /// All times of a record are differences of frames' times, and tshark reports which frames
        /// hold a message.
        fn hold_times(
            &self,
            record: &Value,
            request: Option<&Message>,
            response: Option<&Message>,
        ) -> Result<(), String> {
            let at = |frame: u64| self.times[frame as usize];
            // Timestamps of two CPUs may run backwards; that counts as no time.
            let from_to = |from: u64, to: u64| at(to).saturating_sub(at(from));
            let [ts, request_ns, ttfb_ns, response_ns] = times_of(record);
            let mut held = Vec::new();
            for (name, told, message) in
                [("request_ns", request_ns, request), ("response_ns", response_ns, response)]
            {
                let Some(message) = message else { continue };
                held.push((name, told, Some(from_to(message.first_frame, message.last_frame))));
                if name == "request_ns" || record.get("method").is_none() {
                    held.push(("ts", ts, Some(at(message.first_frame) % DAY_NS)));
                }
            }
            if let (Some(request), Some(response)) = (request, response) {
                let is_early = response.first_frame < request.last_frame;
                let ns = || from_to(request.last_frame, response.first_frame);
                held.push(("ttfb_ns", ttfb_ns, (!is_early).then(ns)));
                let told = record["early_response"] == true;
                held.push(("early_response", Some(u64::from(told)), Some(u64::from(is_early))));
            }
            match held.iter().find(|(_, told, shown)| told != shown) {
                Some((name, told, shown)) => Err(format!("{name} {told:?}, tshark: {shown:?}")),
                None => Ok(()),
            }
        }

        /// Compares tshark's pairs, and the times between their messages. tshark pairs by its order
        /// of showing. So nothing is compared if it shows a request after its response, or another
        /// request before that response or before the response to the previous request.
        fn hold_pair(
            &mut self,
            there: &Endpoints,
            request: &Message,
            answer: &Message,
            waited_ns: Option<u64>,
        ) -> Result<(), String> {
            let next = self.left.get(there).and_then(VecDeque::front);
            let was_answered =
                self.answered.get(there).is_none_or(|before| *before < request.frame);
            let is_alone = next.is_none_or(|next| answer.frame < next.frame);
            if !was_answered || !is_alone || answer.frame < request.frame {
                return Ok(());
            }
            // tshark 4.4 looks for the request of a range by that range, which a 416 does not have.
            if answer.request_in.is_none() && answer.line.starts_with("416 ") {
                return Ok(());
            }
            if answer.request_in != Some(request.frame) {
                return Err(format!("it answers frame {}; tshark: {answer:?}", request.frame));
            }
            self.counts.pairs += 1;
            // It shows a body until close at the FIN, and reordered segments when the hole is
            // filled: then its time is not that of the last byte.
            let shown = (request.frame, answer.frame);
            let (Some(waited_ns), Some(_)) = (waited_ns, answer.since_request_ns) else {
                return Ok(());
            };
            // If timestamps run backwards, each of our times is set to 0 separately.
            let frames = [request.last_frame, answer.first_frame, answer.last_frame];
            let is_forward = frames.map(|frame| self.times[frame as usize]).is_sorted();
            if is_forward && shown == (request.last_frame, answer.last_frame) {
                if answer.since_request_ns != Some(waited_ns) {
                    return Err(format!("after {waited_ns} ns; tshark: {answer:?}"));
                }
                self.counts.waits += 1;
            }
            Ok(())
        }
    }

    /// `ts` as nanoseconds since midnight, `request_ns`, `ttfb_ns` and `response_ns`.
    fn times_of(record: &Value) -> [Option<u64>; 4] {
        let [request_ns, ttfb_ns, response_ns] =
            ["request_ns", "ttfb_ns", "response_ns"].map(|name| record[name].as_u64());
        [Some(of_day(&text(record, "ts"))), request_ns, ttfb_ns, response_ns]
    }

    /// All disagreements between the records of a capture and tshark's messages, and how much was
    /// compared.
    pub(super) fn disagreements(capture: &Path, records: &[Value]) -> (Vec<String>, Counts) {
        let whole = tshark::messages(capture, Bodies::Whole);
        let apart = tshark::messages(capture, Bodies::Apart);
        let mut judge = Judge {
            left: BTreeMap::new(),
            apart: &apart,
            times: frame_times(capture),
            answered: BTreeMap::new(),
            counts: Counts::default(),
        };
        for message in &whole {
            judge.left.entry(way(message)).or_default().push_back(message);
        }
        let mut connections: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for record in records {
            connections.entry(record["flow"].as_str().expect("a flow")).or_default().push(record);
        }
        let mut connections: Vec<Vec<&Value>> = connections.into_values().collect();
        for records in &mut connections {
            records.sort_by_key(|record| record["n"].as_u64());
        }
        // Ports are reused after many connections were closed: then the earlier connection comes
        // first.
        connections.sort_by_key(|records| text(records[0], "ts"));
        let mut found = Vec::new();
        for records in connections {
            for record in records {
                if let Err(what) = judge.record(record) {
                    found.push(format!("{what}\n    {record}"));
                    break;
                }
            }
        }
        let left = judge.left.values().flatten();
        found.extend(left.map(|message| format!("only tshark: {message:?}")));
        (found, judge.counts)
    }

    fn the_same_as_tshark(offload: Offload) {
        if let Some(reason) = missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(offload);
        lab.start_nginx();
        let node = lab.command(End::Server, "node");
        let _node = lab.start(node, &[PEER, "serve", &NODE_PORT.to_string()], "ready");
        let args = ["-i", SERVER_IFACE, "-o", "live.jsonl", "-B", "131072"];
        let live = lab.start_httplines(End::Server, &args);
        let (tcpdump, capture) = lab.start_tcpdump();
        make_traffic(&lab);
        let live = live.stop().records(&lab.path().join("live.jsonl"));
        lab::wait_until("tcpdump has read all", || {
            let records = lab.replay_so_far(&capture);
            records.iter().any(|it| it["target"] == "/small/last" && it["outcome"] == "complete")
        });
        assert_eq!(tcpdump.stop().code, Some(0));

        let records = lab.replay(&capture, &[]);
        let (found, counts) = disagreements(&capture, &records);
        if !found.is_empty() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{offload:?}.pcap"));
            let _ = std::fs::copy(&capture, &kept);
            panic!("{} disagreements, in {}:\n{}", found.len(), kept.display(), found.join("\n"));
        }
        // tshark must be able to confirm more than half.
        let (count, half) = (records.len(), records.len() / 2);
        let is_much = counts.pairs > half && counts.waits > half;
        assert!(is_much && counts.malformed_messages * 20 < count, "{count} records, {counts:?}");
        println!("{offload:?}: {} records, {counts:?}", records.len());
        for record in &records {
            if let Some(location) = record.get("location")
                && record["server_port"] == NODE_PORT
            {
                assert_eq!(*location, record["target"], "{record}");
            }
        }
        // Two captures may differ in whether a response or the end of its request comes first.
        let [live, file] = [live, records].map(|records| {
            let other = [&CAPTURE_DEPENDENT_FIELDS[..], &["early_response"]].concat();
            records::without(records::without_crossings(records), &other)
        });
        records::assert_same("live, and from a capture", &live, &file);
    }

    #[test]
    fn the_same_as_tshark_of_superpackets() {
        the_same_as_tshark(Offload::On);
    }

    #[test]
    fn the_same_as_tshark_of_packets_of_mtu_size() {
        the_same_as_tshark(Offload::Off);
    }
}

/// Needs tshark, and no root.
mod written {
    use super::root::disagreements;
    use crate::support::capture_file::{self, Order, Unit, WrittenFrame};
    use crate::support::packet::{ACK, FIN, Packet, SYN};
    use crate::support::{lab, program, records, skip};

    /// A request and its response on a connection of their own. The request comes in pieces, and
    /// some of its bytes come again in other pieces. The response comes after `answer_at` of them.
    fn sent_again(number: u16, pieces: &[(usize, usize)], answer_at: usize) -> Vec<WrittenFrame> {
        let body = "x".repeat(3000);
        let head = "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = format!("{head}bb8\r\n{body}\r\n0\r\n\r\n");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let ends = [&format!("10.0.0.1:{}", 2000 + number), "10.0.0.2:80"];
        let [client, server] = ends.map(|end| end.parse().expect("an address and a port"));
        let to_server = |seq, flags| Packet::tcp(client, server).seq(seq).ack(501).flags(flags);
        let to_client = |seq, flags| Packet::tcp(server, client).seq(seq).ack(1).flags(flags);
        let mut packets = vec![to_server(0, SYN).ack(0), to_client(500, SYN | ACK)];
        packets.push(to_server(1, ACK));
        let piece = |&(start, end): &(usize, usize)| {
            let end = end.min(request.len());
            to_server(1 + start as u32, ACK).payload(&request.as_bytes()[start..end])
        };
        packets.extend(pieces.iter().map(piece));
        packets.insert(3 + answer_at, to_client(501, ACK).ack(1 + 100).payload(answer));
        let until = 1 + request.len() as u32;
        packets.push(to_client(501 + answer.len() as u32, FIN | ACK).ack(until));
        packets.push(to_server(until, FIN | ACK).ack(502 + answer.len() as u32));
        let at_ns = |place: usize| (u64::from(number) << 30) + 70_000 * place as u64;
        let frames = packets.iter().enumerate();
        frames.map(|(place, it)| WrittenFrame::new(at_ns(place), &it.ethernet())).collect()
    }

    /// The time of a byte is that of its first copy, whatever is sent again and in which pieces.
    #[test]
    fn the_same_as_tshark_of_what_is_sent_again() {
        if let Some(reason) = lab::missing_program("tshark") {
            skip!(reason);
        }
        const END: usize = usize::MAX;
        let orders: [&[(usize, usize)]; 8] = [
            &[(0, 1000), (1000, 2000), (2000, END)],
            &[(0, 1000), (0, 1000), (1000, 2000), (0, 2000), (2000, END)],
            &[(0, 1000), (2000, END), (1000, END)],
            &[(0, 200), (2500, END), (2000, END), (200, 900), (900, 2100), (2000, END)],
            &[(0, 1000), (3000, END), (0, 1000), (1000, END), (2000, END)],
            &[(0, 1000), (2000, END), (900, 1100), (1050, 2050), (2000, END)],
            &[(0, 150), (100, 1500), (2900, END), (1400, 2950), (1400, END)],
            &[(0, 300), (300, 2999), (100, 2000), (2500, END), (2999, END)],
        ];
        let mut frames = Vec::new();
        for (number, order) in orders.iter().enumerate() {
            for (place, answer_at) in [order.len(), 1].into_iter().enumerate() {
                frames.extend(sent_again((2 * number + place) as u16, order, answer_at));
            }
        }
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let capture = capture_file::pcap(Order::Little, Unit::Nano, 1, &frames);
        std::fs::write(file.path(), capture).expect("room for it");
        let path = file.path().to_str().expect("a path in UTF-8");
        let records = records::parse(&program::run(&["-r", path, "-o", "-"], None).stdout);
        assert_eq!(records.len(), 2 * orders.len());
        let (found, counts) = disagreements(file.path(), &records);
        assert!(found.is_empty(), "{}", found.join("\n"));
        assert_eq!(counts.messages, 4 * orders.len());
    }
}
