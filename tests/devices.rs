//! Devices on top of others, and address translation: what a connection looks like at several
//! interfaces, or at one that shows each direction in its own way.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use crate::support::lab::{self, Running};
    use crate::support::namespace::Namespace;
    use crate::support::{schema, skip};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};
    use std::thread;

    const CONNECTION_COUNT: usize = 3;
    const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

    fn request(number: usize) -> String {
        format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    /// Answers two requests on each of [`CONNECTION_COUNT`] connections to `address`, in the
    /// background.
    fn serve(place: &Namespace, address: &'static str) {
        place.run(move || {
            let listener = TcpListener::bind(address).expect("the port is free");
            thread::spawn(move || {
                for stream in listener.incoming().take(CONNECTION_COUNT) {
                    let mut stream = stream.expect("a client");
                    for number in 0..2 {
                        let mut asked = vec![0; request(number).len()];
                        stream.read_exact(&mut asked).expect("the client asks");
                        stream.write_all(RESPONSE).expect("the client listens");
                    }
                    // The client closes first.
                    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
                }
            });
        });
    }

    /// Asks what `serve` answers.
    fn ask(place: &Namespace, address: &'static str) {
        place.run(move || {
            for _ in 0..CONNECTION_COUNT {
                let mut stream = TcpStream::connect(address).expect("the server is there");
                for number in 0..2 {
                    stream.write_all(request(number).as_bytes()).expect("it listens");
                    stream.read_exact(&mut [0; RESPONSE.len()]).expect("it answers");
                }
            }
        });
    }

    /// The records of a capture in `place` with `args` while `traffic` runs.
    fn captured(
        place: &Namespace,
        args: &'static [&'static str],
        record_count: usize,
        traffic: impl FnOnce(),
    ) -> Vec<Value> {
        let child = place.run(move || {
            let mut command = Command::new(crate::httplines());
            command.args(args).args(["-o", "-"]).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        });
        let running = Running::new(child.expect("httplines starts"), "capturing");
        traffic();
        running.wait_for_lines(record_count);
        let finished = running.stop();
        finished.told("every frame, flow and line is accounted for");
        finished.stdout.split_inclusive(|byte| *byte == b'\n').map(schema::check_line).collect()
    }

    /// Two namespaces with a device `top` on top of each end of a veth pair, with addresses of its
    /// own. `link` is what `ip link add` needs to make it, for the veth END with the address OWN,
    /// whose peer has PEER. `Err` says why there is none.
    fn stacked(link: &str) -> Result<(Namespace, Namespace), String> {
        let (client, server) = Namespace::pair().ok_or("needs root, for network namespaces")?;
        let ends = [
            (&client, "veth0", ["10.0.0.9", "10.0.0.1"], "10.1.0.9/24"),
            (&server, "veth1", ["10.0.0.1", "10.0.0.9"], "10.1.0.1/24"),
        ];
        for (place, veth, [own, peer], address) in ends {
            let link = link.replace("END", veth).replace("OWN", own).replace("PEER", peer);
            place.try_ip(&format!("link add {link}")).map_err(|error| error.to_string())?;
            place.ip(&format!("address add {address} dev top"));
            place.ip("link set top up");
        }
        Ok((client, server))
    }

    /// What tells where a copy was seen.
    type Seen = [Value; 3];

    fn seen(iface: &str, vlan: Value, tunnel: Value) -> Seen {
        [iface.into(), vlan, tunnel]
    }

    /// Captures at the server on all interfaces, and asserts that each exchange is told once for
    /// each of `copies`, with the same `flow` and `n`.
    fn assert_copies((client, server): (Namespace, Namespace), copies: &[Seen]) {
        serve(&server, "10.1.0.1:80");
        let record_count = 2 * CONNECTION_COUNT * copies.len();
        let records =
            captured(&server, &["-i", "any"], record_count, || ask(&client, "10.1.0.1:80"));
        let mut exchanges: BTreeMap<String, Vec<(Seen, &Value)>> = BTreeMap::new();
        for record in &records {
            assert_eq!(record["outcome"], "complete", "{record}");
            let place = ["iface", "vlan", "tunnel"].map(|name| record[name].clone());
            let key = format!("{} {}", record["flow"], record["n"]);
            exchanges.entry(key).or_default().push((place, record));
        }
        assert_eq!(exchanges.len(), 2 * CONNECTION_COUNT, "{records:#?}");
        for told in exchanges.values() {
            for field in ["client_port", "target", "n"] {
                assert!(told.iter().all(|(_, copy)| copy[field] == told[0].1[field]), "{told:?}");
            }
            for copy in copies {
                let is_one = told.iter().filter(|(place, _)| place == copy).count() == 1;
                assert!(is_one, "{copy:?} in {told:?}");
            }
        }
        assert_eq!(records.len(), record_count, "{records:#?}");
    }

    /// Devices whose networks are part of a connection's identity show each exchange a second time.
    fn assert_told_twice(link: &str, vlan: Value, tunnel: Value) {
        match stacked(link) {
            Ok(ends) => {
                let inside = seen("top", Value::Null, Value::Null);
                assert_copies(ends, &[inside, seen("veth1", vlan, tunnel)]);
            }
            Err(reason) => skip!(reason),
        }
    }

    /// Others show the same connection a second time, whose bytes count as retransmitted.
    fn assert_told_once(link: &str, tunnel: Value) {
        match stacked(link) {
            Ok(ends) => assert_copies(ends, &[seen("veth1", Value::Null, tunnel)]),
            Err(reason) => skip!(reason),
        }
    }

    #[test]
    fn both_copies_at_a_vxlan_device_have_one_flow() {
        let link = "top type vxlan id 42 local OWN remote PEER dstport 4789 dev END";
        assert_told_twice(link, Value::Null, json!(["vxlan:42"]));
    }

    #[test]
    fn both_copies_at_a_geneve_device_have_one_flow() {
        let link = "top type geneve id 42 remote PEER";
        assert_told_twice(link, Value::Null, json!(["geneve:42"]));
    }

    #[test]
    fn both_copies_at_a_vlan_device_have_one_flow() {
        assert_told_twice("link END name top type vlan id 42", json!([42]), Value::Null);
    }

    #[test]
    fn copies_at_a_gre_device_are_told_once() {
        assert_told_once("top type gretap local OWN remote PEER", json!(["gre"]));
    }

    #[test]
    fn copies_at_a_macvlan_device_are_told_once() {
        assert_told_once("link END name top type macvlan mode bridge", Value::Null);
    }

    #[test]
    fn copies_at_a_bridge_are_told_once() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        server.ip("link add top type bridge");
        server.ip("link set veth1 master top");
        server.ip("link set top up");
        server.ip("address add 10.1.0.1/24 dev top");
        client.ip("address add 10.1.0.9/24 dev veth0");
        assert_copies((client, server), &[seen("veth1", Value::Null, Value::Null)]);
    }

    /// On loopback, each direction has the addresses that its receiver gets: the request those
    /// behind the translation, the response those before it.
    #[test]
    fn a_local_redirect_parts_request_and_response() {
        if let Some(reason) = lab::missing_program("nft") {
            skip!(reason);
        }
        let Some(place) = Namespace::new() else { skip!("needs root") };
        let rules = "table ip nat { chain output { type nat hook output priority -100; \
                     tcp dport 80 redirect to :9999; }; }";
        let is_redirected = place.run(move || Command::new("nft").arg(rules).output());
        let output = is_redirected.expect("nft is there");
        if !output.status.success() {
            skip!(format!(
                "needs address translation: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        serve(&place, "127.0.0.1:9999");
        // Responses are told at once; requests wait for theirs, until the capture ends.
        let response_count = 2 * CONNECTION_COUNT;
        let records =
            captured(&place, &["-i", "lo"], response_count, || ask(&place, "127.0.0.1:80"));
        assert_eq!(records.len(), 2 * response_count, "{records:#?}");
        let ports = |outcome: &str, server_port: u16| {
            let told = records.iter().filter(|record| record["outcome"] == outcome);
            let mut ports: Vec<_> = told
                .inspect(|record| assert_eq!(record["server_port"], server_port, "{record}"))
                .map(|record| record["client_port"].as_u64())
                .collect();
            ports.sort_unstable();
            ports
        };
        let requests = ports("no_response", 9999);
        assert_eq!(requests.len(), response_count, "{records:#?}");
        // The client's address tells which belong together.
        assert_eq!(requests, ports("no_request", 80));
    }
}
