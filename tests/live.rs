//! The live source on veth pairs and loopback, in separate namespaces.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use httplines::capture::LinkType;
    use httplines::capture::live::{LiveCapture, LiveOpenError};
    use httplines::config::{CaptureConfig, DecodeConfig, FilterMode, PacketDirection};
    use httplines::ids::{IfaceId, IfaceNames};
    use httplines::sys::counters::Reason;

    use crate::support::kernel_packet::Heading::{ToClient, ToServer};
    use crate::support::kernel_packet::*;
    use crate::support::live_capture::{Capture, holds, small};
    use crate::support::namespace::{CAP_BPF, CAP_NET_RAW, Injector, Namespace};
    use crate::support::skip;

    const GET: &[u8] = b"GET /once HTTP/1.1\r\nHost: a\r\n\r\n";
    /// Serves one connection at `place`: a request, and a response with `body_bytes` of body.
    /// Returns its port.
    fn serve(place: &Namespace, address: &'static str, body_bytes: usize) -> u16 {
        place.run(move || {
            let listener = TcpListener::bind((address, 0)).expect("a port is free");
            let port = listener.local_addr().expect("it is bound").port();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("the client comes");
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).expect("it asks");
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n");
                stream.write_all(head.as_bytes()).expect("it listens");
                stream.write_all(&vec![b'x'; body_bytes]).expect("to the end");
            });
            port
        })
    }

    /// Requests, from `place`, what `serve` serves, and reads it to the end.
    fn ask(place: &Namespace, address: &'static str, port: u16) -> usize {
        place.run(move || {
            let mut stream = TcpStream::connect((address, port)).expect("the server is there");
            stream.write_all(GET).expect("it listens");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("it answers");
            answer.len()
        })
    }

    #[test]
    fn superpackets_come_whole_and_both_ways() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        for (place, device) in [(&client, "veth0"), (&server, "veth1")] {
            let config = CaptureConfig { block_count: 256, elide_bytes_min: None, ..small() };
            let mut capture = Capture::open(place, config, &[device], 1);
            let port = serve(&server, "10.0.0.1", 4 << 20);
            assert!(ask(&client, "10.0.0.1", port) > 4 << 20);
            let totals = capture.settle();
            assert_eq!(totals.drops(), 0);
            assert_eq!(capture.holding(b"GET /once"), 1, "requests at {device}");
            assert_eq!(capture.holding(b"HTTP/1.1 200 OK"), 1, "responses at {device}");
            assert!(
                capture.kept.iter().all(|frame| frame.bytes.len() == frame.wire_bytes as usize)
            );
            let longest = capture.kept.iter().map(|frame| frame.wire_bytes).max().unwrap();
            assert!(longest > 9000, "no superpacket at {device}: {longest}");
            let bytes: usize = capture.kept.iter().map(|frame| frame.bytes.len()).sum();
            assert!(bytes > 4 << 20);
            // The payload lies in page fragments, where relative loads do not reach.
            assert!(totals.filter.sessions_made >= 1, "{totals:?}");
            assert_eq!(totals.filter.of(Reason::Unparsed), 0);
            assert_eq!(capture.names.get(capture.kept[0].iface).as_deref(), Some(device));
        }
    }

    #[test]
    fn a_session_is_found_in_page_fragments_without_its_syn() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let port = serve(&server, "10.0.0.1", 100);
        let mut stream = client.run(move || TcpStream::connect(("10.0.0.1", port)).unwrap());
        let mut capture = Capture::open(&server, small(), &["veth1"], 1);
        stream.write_all(GET).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        capture.poll_until(|kept| kept.iter().any(|frame| holds(&frame.bytes, b"HTTP/1.1 200")));
        let totals = capture.settle();
        assert_eq!(totals.filter.of(Reason::Admitted), 1, "{totals:?}");
        assert_eq!(capture.holding(b"GET /once"), 1);
    }

    #[test]
    fn big_tcp_comes_whole() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        for (place, device, address) in
            [(&client, "veth0", "fd00::9/64"), (&server, "veth1", "fd00::1/64")]
        {
            place.ip(&format!("link set {device} gso_max_size 180000 gro_max_size 180000"));
            place.ip(&format!("address add {address} dev {device} nodad"));
        }
        let config = CaptureConfig { block_count: 256, elide_bytes_min: None, ..small() };
        let mut capture = Capture::open(&server, config, &["veth1"], 1);
        let port = serve(&server, "fd00::1", 8 << 20);
        assert!(ask(&client, "fd00::1", port) > 8 << 20);
        let totals = capture.settle();
        let longest = capture.kept.iter().max_by_key(|frame| frame.wire_bytes).unwrap();
        assert!(longest.wire_bytes > 70_000, "{}", longest.wire_bytes);
        assert_eq!(longest.bytes[18..20], [0, 0], "BIG TCP has no length in its header");
        assert_eq!(longest.bytes.len(), longest.wire_bytes as usize);
        assert_eq!(totals.filter.of(Reason::Unparsed), 0, "{totals:?}");
    }

    #[test]
    fn loopback_is_seen_once() {
        let Some(place) = Namespace::new() else { skip!("needs root") };
        for device in ["lo", "any"] {
            let mut capture = Capture::open(&place, small(), &[device], 1);
            let port = serve(&place, "127.0.0.1", 10);
            ask(&place, "127.0.0.1", port);
            let totals = capture.settle();
            assert_eq!(capture.holding(b"GET /once"), 1);
            assert_eq!(capture.holding(b"HTTP/1.1 200"), 1);
            assert_eq!(totals.filter.of(Reason::Direction), totals.packets(), "{totals:?}");
            assert_eq!(capture.kept[0].link, LinkType::Ethernet);
            assert_eq!(capture.names.get(IfaceId(1)).as_deref(), Some("lo"));
        }
    }

    #[test]
    fn directions_are_those_asked_for() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        for (direction, requests, responses) in
            [(PacketDirection::In, 1, 0), (PacketDirection::Out, 0, 1)]
        {
            let mut capture =
                Capture::open(&server, CaptureConfig { direction, ..small() }, &["veth1"], 1);
            let port = serve(&server, "10.0.0.1", 10);
            ask(&client, "10.0.0.1", port);
            let totals = capture.settle();
            assert_eq!(capture.holding(b"GET /once"), requests);
            assert_eq!(capture.holding(b"HTTP/1.1 200"), responses);
            assert!(totals.filter.of(Reason::Direction) > 0);
        }
    }

    /// Tagged frames make one session, both as they leave one end (all tags in band, or the outer
    /// one removed) and as they arrive at the other (the outer one removed unless it has the old
    /// type).
    #[test]
    fn vlan_tags_are_read_on_both_ends() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut sent = Capture::open(&client, small(), &["veth0"], 1);
        let mut received = Capture::open(&server, small(), &["veth1"], 1);
        let injector = client.run(|| Injector::new("veth0"));
        let get = ipv4(ToServer, PROTOCOL_TCP, &tcp(ToServer, ACK, GET));
        let answer = ipv4(ToClient, PROTOCOL_TCP, &tcp(ToClient, ACK, b"\0\0 not a message"));
        let stacks: [&[(u16, u16)]; 5] = [
            &[(TYPE_VLAN, 100)],
            &[(TYPE_QINQ, 200), (TYPE_VLAN, 100)],
            &[(TYPE_VLAN, 300), (TYPE_VLAN, 100)],
            &[(TYPE_QINQ, 1), (TYPE_QINQ, 2), (TYPE_VLAN, 3), (TYPE_VLAN, 4)],
            &[(TYPE_OLD_QINQ, 400), (TYPE_VLAN, 100)],
        ];
        for stack in stacks {
            injector.send(&ethernet(stack, TYPE_IPV4, &get));
            injector.send(&ethernet(stack, TYPE_IPV4, &answer));
        }
        injector.send(&ethernet(&[(TYPE_VLAN, 101)], TYPE_IPV4, &answer));
        injector.send(&ethernet(&[(TYPE_VLAN, 1); 5], TYPE_IPV4, &answer));
        for capture in [&mut sent, &mut received] {
            capture.poll_until(|kept| kept.len() == 11);
            let totals = capture.settle();
            assert_eq!(totals.filter.of(Reason::Admitted), 5, "{totals:?}");
            assert_eq!(totals.filter.of(Reason::Session), 5, "{totals:?}");
            assert_eq!(totals.filter.of(Reason::Other), 1, "{totals:?}");
            assert_eq!(totals.filter.of(Reason::TooDeep), 1, "{totals:?}");
        }
        let tag = received.kept[2].vlan.expect("the outer tag was taken out");
        assert_eq!((tag.tpid, tag.tci), (TYPE_QINQ, 200));
        assert_eq!(received.kept[2].bytes, ethernet(&[(TYPE_VLAN, 100)], TYPE_IPV4, &get));
    }

    #[test]
    fn the_gate_decides_what_counts() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut capture = Capture::open(&server, small(), &["veth1"], 2);
        let injector = client.run(|| Injector::new("veth0"));
        let send = |count: usize| {
            for _ in 0..count {
                injector.send(&frame(ToServer, ACK, GET));
                injector.send(&frame(ToServer, ACK, b"\x16\x03\x01 of the same session"));
                injector.send(&ethernet(&[], 0x88b5, &[0; 46]));
            }
        };
        capture.control.shut_gate();
        send(100);
        let totals = capture.settle();
        assert!(totals.filter.of(Reason::Gated) >= 300);
        assert_eq!((totals.filter.offered(), totals.packets()), (0, 0));

        capture.control.open_gate();
        send(100);
        capture.poll_until(|kept| kept.len() == 200);
        let totals = capture.settle();
        assert_eq!((totals.packets(), totals.drops()), (200, 0));
        assert_eq!(totals.filter.of(Reason::Admitted), 1);
        assert_eq!(totals.filter.of(Reason::Session), 199);
        assert!(totals.filter.of(Reason::NotIp) >= 100);
    }

    #[test]
    fn a_full_ring_loses_frames_and_says_so() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let config = CaptureConfig {
            block_bytes: 128 << 10,
            block_count: 2,
            filter: FilterMode::Off,
            ..small()
        };
        let mut capture = Capture::open(&server, config, &["veth1"], 1);
        let injector = client.run(|| Injector::new("veth0"));
        for _ in 0..1000 {
            injector.send(&frame(ToServer, ACK, &[b'x'; 1000]));
        }
        let totals = capture.settle();
        assert_eq!(totals.packets(), 1000);
        assert!(totals.drops() > 500 && totals.drops() < 1000, "{totals:?}");
        assert!(totals.interfaces[0].freezes > 0);
    }

    /// The retire timeout is far longer than any test. A block with free space in front of its
    /// frames is handed over after 60 of them or so; others would hold all of these. Superpackets
    /// fit into both.
    #[test]
    fn frames_with_free_space_between_them_come_sooner() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        client.ip("link set veth0 mtu 65000");
        server.ip("link set veth1 mtu 65000");
        let injector = client.run(|| Injector::new("veth0"));
        for is_low_latency in [true, false] {
            let config = CaptureConfig {
                block_bytes: 128 << 10,
                retire_timeout_ms: 600_000,
                filter: FilterMode::Off,
                is_low_latency,
                ..small()
            };
            let mut capture = Capture::open(&server, config, &["veth1"], 1);
            injector.send(&frame(ToServer, ACK, &[b'x'; 64_000]));
            for _ in 0..200 {
                injector.send(&frame(ToServer, ACK, GET));
            }
            if is_low_latency {
                // Two blocks are full, and the third one is not.
                capture.poll_until(|kept| kept.len() > 64);
                assert!(capture.kept.len() < 201);
                let first = &capture.kept[0];
                assert_eq!((first.bytes.len(), first.wire_bytes), (64_054, 64_054));
            } else {
                capture.poll();
                assert_eq!(capture.kept.len(), 0);
            }
        }
    }

    /// The join order is the shard order everywhere, so a connection goes to the same shard on
    /// every interface.
    #[test]
    fn a_connection_meets_one_shard_on_every_interface() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        server.ip("link add veth2 type veth peer name veth3");
        server.ip("link set veth2 up");
        server.ip("link set veth3 up");
        let mut capture = Capture::open(&server, small(), &["veth1", "veth2"], 4);
        let injectors =
            [client.run(|| Injector::new("veth0")), server.run(|| Injector::new("veth3"))];
        for port in 1000..1100 {
            for (injector, way) in injectors.iter().zip([ToServer, ToClient]) {
                let segment = tcp_between(way, (port, 80), ACK, b"GET /?port HTTP/1.1\r\n");
                injector.send(&ethernet(&[], TYPE_IPV4, &ipv4(way, PROTOCOL_TCP, &segment)));
            }
        }
        capture.poll_until(|kept| kept.len() == 200);
        capture.settle();
        let mut shards = std::collections::HashMap::new();
        for frame in &capture.kept {
            let ports = &frame.bytes[34..38];
            let (low, high) = ports.split_at(2);
            let key = if low > high { [low, high] } else { [high, low] };
            assert_eq!(*shards.entry(key).or_insert(frame.shard), frame.shard, "{ports:?}");
        }
        assert_eq!(shards.len(), 100);
        let used: std::collections::HashSet<_> = shards.values().collect();
        assert_eq!(used.len(), 4, "100 connections on 4 shards");
    }

    #[test]
    fn two_captures_do_not_share_their_frames() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut first = Capture::open(&server, small(), &["veth1"], 2);
        let mut second = Capture::open(&server, small(), &["veth1"], 2);
        let injector = client.run(|| Injector::new("veth0"));
        for port in 0..50 {
            let segment = tcp_between(ToServer, (port, 80), ACK, GET);
            let packet = ipv4(ToServer, PROTOCOL_TCP, &segment);
            injector.send(&ethernet(&[], TYPE_IPV4, &packet));
        }
        for capture in [&mut first, &mut second] {
            capture.poll_until(|kept| kept.len() == 50);
            capture.settle();
        }
    }

    #[test]
    fn an_interface_may_go_down_come_back_and_vanish() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut capture = Capture::open(&server, small(), &["veth1", "lo"], 2);
        let mut injector = client.run(|| Injector::new("veth0"));
        injector.send(&frame(ToServer, ACK, GET));
        capture.poll_until(|kept| kept.len() == 1);
        server.ip("link set veth1 down");
        capture.poll();
        server.ip("link set veth1 up");
        // The injector's socket gets an error for its own end, too: a new one sends.
        injector = client.run(|| Injector::new("veth0"));
        injector.send(&frame(ToServer, ACK, GET));
        capture.poll_until(|kept| kept.len() == 2);

        drop(injector);
        server.ip("link delete veth1");
        capture.poll();
        // It waits as long as before: an error that persisted would end each wait immediately.
        let start = Instant::now();
        (0..20).for_each(|_| capture.poll());
        assert!(start.elapsed() >= Duration::from_millis(20));
        let port = serve(&server, "127.0.0.1", 10);
        ask(&server, "127.0.0.1", port);
        capture.settle();
        assert_eq!(capture.holding(b"HTTP/1.1 200"), 1);
    }

    /// A socket loses an interface that is removed, and uses no other one instead.
    #[test]
    fn a_new_interface_of_the_same_number_is_not_the_old_one() {
        let Some(place) = Namespace::new() else { skip!("needs root") };
        place.ip("link add veth8 index 88 type veth peer name veth9");
        place.ip("link set veth8 up");
        let mut capture = Capture::open(&place, small(), &["veth8"], 1);
        let look = |mut capture: Capture| {
            place.run(move || {
                capture.totals();
                (capture.control.all_gone(), capture)
            })
        };
        let gone;
        (gone, capture) = look(capture);
        assert_eq!(gone, None);
        place.ip("link delete veth8");
        place.ip("link add veth8 index 88 type veth peer name veth9");
        place.ip("link set veth8 up");
        assert_eq!(look(capture).0.as_deref(), Some("veth8"));
    }

    #[test]
    fn what_cannot_be_opened_is_told_in_a_sentence() {
        let Some((client, _server)) = Namespace::pair() else { skip!("needs root") };
        client.ip("link set veth0 down");
        let open = |config: CaptureConfig, device: &str| {
            let device = device.to_string();
            client
                .run(move || {
                    LiveCapture::open(
                        &config,
                        &DecodeConfig::default(),
                        &[device],
                        1,
                        &IfaceNames::default(),
                    )
                })
                .expect_err("it cannot be opened")
        };
        let error = open(small(), "eth9");
        let sentence =
            "there is no interface eth9; there are: lo, veth0, and `any` for all of them";
        assert_eq!(error.to_string(), sentence);
        assert!(!error.is_permission());
        let error = open(small(), "veth0");
        assert!(matches!(error, LiveOpenError::Down { .. }), "{error}");
    }

    /// The capabilities that the error messages recommend are enough for everything, and each is
    /// needed.
    #[test]
    fn two_capabilities_are_enough() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let injector = client.run(|| Injector::new("veth0"));
        server.keep_capabilities(&[CAP_NET_RAW, CAP_BPF]);
        let mut capture = Capture::open(&server, small(), &["veth1"], 2);
        server.keep_capabilities(&[]);
        injector.send(&frame(ToServer, ACK, GET));
        capture.poll_until(|kept| kept.len() == 1);
        capture.settle();

        for (kept, missing) in [(CAP_NET_RAW, "CAP_BPF"), (CAP_BPF, "CAP_NET_RAW")] {
            let place = Namespace::new().expect("we are root");
            place.keep_capabilities(&[kept]);
            let error = place
                .run(|| {
                    LiveCapture::open(
                        &small(),
                        &DecodeConfig::default(),
                        &["lo".into()],
                        1,
                        &IfaceNames::default(),
                    )
                })
                .expect_err("a capability is missing");
            assert!(error.is_permission(), "{error}");
            assert!(error.to_string().starts_with(missing), "{error}");
        }
    }
}
