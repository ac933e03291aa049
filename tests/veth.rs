//! The main job on real traffic: real clients and a real server on a veth pair, captured live. The
//! access log of nginx is the truth.
//!
//! `HTTPLINES_LAB_REQUESTS=100000 cargo test --release --test main veth::` makes this many requests
//! on each of the four wires instead of the few that a test needs.

mod root {
    use crate::support::lab::{
        self, CAPTURE_DEPENDENT_FIELDS, CLIENT_IFACE, End, Lab, Offload, SERVER, SERVER_IFACE,
    };
    use crate::support::{records, skip};
    use serde_json::Value;
    use std::path::Path;

    /// Requests that wrk makes over each address family.
    fn request_count() -> usize {
        std::env::var("HTTPLINES_LAB_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
    }

    /// What nginx and a record both report of an exchange: client port, method, target, status,
    /// body bytes.
    fn as_logged(record: &Value) -> String {
        let text = |name: &str| match &record[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(record["outcome"], "complete", "{record}");
        let fields = ["client_port", "method", "target", "status", "response_body_bytes"];
        fields.map(text).join(" ")
    }

    /// nginx counts everything after the final head as body, including the framing of the chunked
    /// coding, and also 100 Continue. We count the body only.
    fn body_of(line: &str) -> String {
        let chunk_framing = "2710\r\n\r\n0\r\n\r\n".len();
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".len();
        let extra = [("/chunked", chunk_framing), ("/post", interim)]
            .iter()
            .find_map(|(target, extra)| line.contains(target).then_some(*extra));
        let (rest, sent) = line.rsplit_once(' ').expect("a line of the log");
        let sent: usize = sent.parse().expect("a number of bytes");
        format!("{rest} {}", sent - extra.unwrap_or(0))
    }

    fn assert_logged(what: &str, records: &[Value], log: &[String]) {
        let ours: Vec<Value> = records.iter().map(|record| as_logged(record).into()).collect();
        let theirs: Vec<Value> = log.iter().map(|line| body_of(line).into()).collect();
        records::assert_same(what, &ours, &theirs);
    }

    /// All requests of the clients: many small ones over either address family, and a few of each
    /// other kind.
    fn make_traffic(lab: &Lab) {
        for address in SERVER {
            lab.wrk(address, 20, request_count());
        }
        let v6 = format!("http://[{}]/1m", SERVER[1]);
        lab.curl(&["/64k", "/1m", &v6]);
        lab.curl(&["/chunked", "/none"]);
        lab.curl(&["--head", "/64k", "/small/head"]);
        lab.curl(&["-X", "DELETE", "/small/gone"]);
        let body = "x".repeat(100_000);
        let form = lab.path().join("form");
        std::fs::write(&form, body).expect("a file to send");
        let form = format!("@{}", form.display());
        // curl expects 100 Continue before a body of this size.
        lab.curl(&["-H", "Expect: 100-continue", "--data-binary", &form, "/small/post"]);
    }

    /// At the server's end and at the client's end, with the filter and without, and from a capture
    /// file of the same traffic, the records are the same, and they match the server's log.
    fn every_exchange_is_told(offload: Offload) {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(offload);
        lab.start_nginx();
        let start = |end, iface: &str, name: &str, more: &[&str]| {
            let mut args = vec!["-i", iface, "-o", name, "-B", "131072"];
            args.extend_from_slice(more);
            lab.start_httplines(end, &args)
        };
        let server = start(End::Server, SERVER_IFACE, "server.jsonl", &[]);
        let client = start(End::Client, CLIENT_IFACE, "client.jsonl", &[]);
        let open = start(End::Server, SERVER_IFACE, "open.jsonl", &["--filter", "off"]);
        let (tcpdump, capture) = lab.start_tcpdump();

        let before = lab.access_log().len();
        make_traffic(&lab);
        // nginx logs a request a moment after its client has the response.
        let logged = 2 * request_count() + 9;
        lab::wait_until("nginx has logged all", || lab.access_log().len() >= before + logged);
        let log = &lab.access_log()[before..];
        assert_eq!(log.len(), logged);

        let finished = [server, client, open].map(|running| running.stop());
        // tcpdump leaves its last block unread when it is stopped. A request without its body is a
        // record, too.
        lab::wait_until("tcpdump has read all", || {
            let records = lab.replay_so_far(&capture);
            records.iter().filter(|record| record["outcome"] == "complete").count() == log.len()
        });
        assert_eq!(tcpdump.stop().code, Some(0));

        let [server, client, open] = ["server.jsonl", "client.jsonl", "open.jsonl"];
        let live = finished[0].records(&lab.path().join(server));
        assert_logged("live at the server's end, and nginx's log", &live, log);
        let live = records::without(live, &CAPTURE_DEPENDENT_FIELDS);
        let others = [
            ("at the client's end", finished[1].records(&lab.path().join(client))),
            ("with the filter off", finished[2].records(&lab.path().join(open))),
            ("from a capture", lab.replay(&capture, &[])),
            ("from a capture, on three shards", lab.replay(&capture, &["--shards", "3"])),
        ];
        for (what, records) in others {
            let records = records::without(records, &CAPTURE_DEPENDENT_FIELDS);
            records::assert_same(&format!("live at the server's end, and {what}"), &live, &records);
        }
    }

    #[test]
    fn every_exchange_is_told_of_superpackets() {
        every_exchange_is_told(Offload::On);
    }

    #[test]
    fn every_exchange_is_told_of_packets_of_mtu_size() {
        every_exchange_is_told(Offload::Off);
    }

    /// A block holds at least one frame, and the kernel cuts longer ones.
    #[test]
    fn what_does_not_fit_into_a_block_is_told() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        for offload in [Offload::On, Offload::Off] {
            let mut lab = Lab::new(offload);
            lab.start_nginx();
            let args = ["-i", SERVER_IFACE, "-o", "small.jsonl", "--block-kib", "16", "--no-elide"];
            let running = lab.start_httplines(End::Server, &args);
            lab.curl(&["/64k", "/small/1"]);
            let finished = running.stop();
            let records = finished.records(&lab.path().join("small.jsonl"));
            let of = |target: &str| {
                let mut all = records.iter();
                all.find(|record| record["target"] == target).expect("a record")
            };
            assert_eq!(of("/64k")["response_body_bytes"], 64 << 10);
            assert_eq!(of("/64k")["gap_bytes"].is_u64(), offload == Offload::On);
            let is_cut = finished.stderr.contains(" bytes cut by the snap length");
            assert_eq!(is_cut, offload == Offload::On, "{}", finished.stderr);
            assert_eq!(of("/small/1")["gap_bytes"], Value::Null);
        }
    }

    #[test]
    fn any_tells_where_and_loopback_is_told_once() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let running = lab.start_httplines(End::Server, &["-i", "any", "-o", "any.jsonl"]);
        lab.curl(&["/small/wire"]);
        let mut own = lab.command(End::Server, "curl");
        lab::run(own.args(["-sS", "http://127.0.0.1/small/loopback"]));
        let records = running.stop().records(&lab.path().join("any.jsonl"));
        let mut seen: Vec<(&str, &str)> = records
            .iter()
            .map(|record| {
                (record["target"].as_str().unwrap_or("-"), record["iface"].as_str().unwrap_or("-"))
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [("/small/loopback", "lo"), ("/small/wire", SERVER_IFACE)]);
    }

    #[test]
    fn text_goes_out_as_soon_as_a_head_is_complete() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let running = lab.start_httplines(End::Server, &["-i", SERVER_IFACE]);
        lab.curl(&["/small/1", "/none"]);
        let finished = running.stop();
        let text = String::from_utf8(finished.stdout).expect("text");
        let expected = "GET /small/1 HTTP/1.1\nHTTP/1.1 200 OK\n\
                        GET /none HTTP/1.1\nHTTP/1.1 404 Not Found\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_count_ends_the_run_and_the_sums_still_hold() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let args = ["-i", SERVER_IFACE, "-c", "3", "-o", "three.jsonl"];
        let running = lab.start_httplines(End::Server, &args);
        for number in 0..6 {
            lab.curl(&[&format!("/small/{number}")]);
        }
        let records = running.wait().records(&lab.path().join("three.jsonl"));
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn a_signal_tells_the_totals_and_another_opens_the_file_anew() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let args = ["-i", SERVER_IFACE, "-o", "now.jsonl"];
        let mut running = lab.start_httplines(End::Server, &args);
        let (now, old) = (lab.path().join("now.jsonl"), lab.path().join("old.jsonl"));
        let lines =
            |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
        lab.curl(&["/small/1"]);
        lab::wait_until("the first line is written", || lines(&now) == 1);
        std::fs::rename(&now, &old).expect("a file may be renamed");
        running.signal("HUP");
        lab::wait_until("the file is opened anew", || now.exists());
        lab.curl(&["/small/2"]);
        lab::wait_until("the second line is written", || lines(&now) == 1);
        running.signal("USR1");
        running.await_stderr("so far");
        let finished = running.stop();
        assert_eq!((lines(&old), lines(&now)), (1, 1));
        finished.told("2 exchanges");
        finished.told("every frame, flow and line is accounted for");
    }
}
