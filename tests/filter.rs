//! The kernel filter, packet by packet, through BPF_PROG_TEST_RUN: no interface, no traffic.

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use httplines::config::{CaptureConfig, DecodeConfig, FilterMode, PacketDirection};
    use httplines::decode::{begins_like_message, is_worth_joining};
    use httplines::ids::FlowKey;
    use httplines::sys::counters::Reason;
    use httplines::sys::filter::{ConnectionMap, Filter, Gate};
    use proptest::prelude::*;

    use crate::support::kernel_packet::Heading::{ToClient, ToServer};
    use crate::support::kernel_packet::*;
    use crate::support::skip;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    /// The answer to a PING of HTTP/2.
    const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0abcdefgh";
    /// WINDOW_UPDATE, and the beginning of DATA.
    const FRAMES: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x0f\0\x40\0\0\0\0\0\0\x01hello";
    const TLS: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

    fn small() -> CaptureConfig {
        config_for(1024)
    }

    fn load(config: &CaptureConfig) -> Option<Filter> {
        crate::support::kernel_packet::load(config, &DecodeConfig::default())
    }

    /// The state of a connection in the filter's maps.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum State {
        Unknown,
        /// An opening, with the number of payload bytes seen.
        Opening(u32),
        Session,
    }
    use State::*;

    fn set(filter: &Filter, key: &FlowKey, state: State) {
        for map in [filter.sessions(), filter.openings()] {
            map.keys().for_each(|known| map.delete(&known).expect("it was there"));
        }
        let put = |map: &ConnectionMap, bytes: u32| {
            let value = Known { bytes, ..Known::default() }.bytes();
            map.update(&key_bytes(key), &value).expect("the map is not full")
        };
        match state {
            Unknown => {}
            Opening(bytes) => put(filter.openings(), bytes),
            Session => put(filter.sessions(), 0),
        }
    }

    /// The state of `key`, which must be the only key in the maps.
    fn state(filter: &Filter, key: &FlowKey) -> State {
        let sessions: Vec<_> = filter.sessions().keys().collect();
        let openings: Vec<_> = filter.openings().keys().collect();
        let ours = vec![key_bytes(key)];
        if sessions == ours && openings.is_empty() {
            return Session;
        }
        if openings == ours && sessions.is_empty() {
            let value = filter.openings().lookup(&ours[0]).unwrap().unwrap();
            return Opening(Known::of(&value).bytes);
        }
        assert!(
            sessions.is_empty() && openings.is_empty(),
            "{sessions:?} {openings:?} not {ours:?}"
        );
        Unknown
    }

    type Row = (&'static str, State, Vec<u8>, Reason, State);

    fn check(key: FlowKey, rows: Vec<Row>) {
        let Some(filter) = load(&small()) else { skip!("needs CAP_BPF") };
        for (description, before, frame, reason, after) in rows {
            set(&filter, &key, before);
            assert_eq!(reason_of(&filter, &frame), reason, "{description}");
            assert_eq!(state(&filter, &key), after, "{description}");
        }
    }

    #[test]
    fn connections() {
        use Reason::*;
        let to = |flags, payload: &[u8]| frame(ToServer, flags, payload);
        let from = |flags, payload: &[u8]| frame(ToClient, flags, payload);
        const LAST: u32 = (256 << 10) - 1;
        check(
            key_v4(&[]),
            vec![
                ("a SYN opens", Unknown, to(SYN, b""), Opening, State::Opening(0)),
                ("its answer too", Unknown, from(SYN | ACK, b""), Opening, State::Opening(0)),
                ("a SYN begins anew", State::Opening(5), to(SYN, b""), Opening, State::Opening(0)),
                ("a SYN with data", Unknown, to(SYN, GET), Opening, State::Opening(0)),
                ("a SYN of a session", State::Session, to(SYN, b""), Session, State::Session),
                ("request", Unknown, to(ACK | PSH, GET), Admitted, State::Session),
                ("request, opened", State::Opening(3), to(ACK, GET), Admitted, State::Session),
                ("response", Unknown, from(ACK, b"HTTP/1.1 200 OK\r\n"), Admitted, State::Session),
                ("request on FIN", Unknown, to(ACK | FIN, GET), Admitted, State::Session),
                ("without ACK", Unknown, to(PSH, GET), Other, Unknown),
                (
                    "opened, without ACK",
                    State::Opening(3),
                    to(PSH, GET),
                    Opening,
                    State::Opening(3),
                ),
                ("TLS without ACK", Unknown, to(PSH, TLS), Other, Unknown),
                ("shortest, opened", State::Opening(0), to(ACK, b"G /"), Admitted, State::Session),
                ("shortest request", Unknown, to(ACK, b"GET /"), Admitted, State::Session),
                ("behind line ends", Unknown, to(ACK, b"\r\n\r\nGET /"), Admitted, State::Session),
                (
                    "body of a session",
                    State::Session,
                    from(ACK, &[0; 999]),
                    Session,
                    State::Session,
                ),
                ("ACK of a session", State::Session, to(ACK, b""), Session, State::Session),
                ("RST of a session", State::Session, to(RST, b""), Session, State::Session),
                ("ACK, opened", State::Opening(1), to(ACK, b""), Opening, State::Opening(1)),
                ("FIN, opened", State::Opening(1), to(ACK | FIN, b""), Opening, State::Opening(1)),
                ("RST, opened", State::Opening(1), from(RST, b""), Opening, State::Opening(1)),
                ("half a token", State::Opening(0), to(ACK, b"GE"), Opening, State::Opening(2)),
                ("TLS, opened", State::Opening(0), to(ACK, TLS), Opening, State::Opening(11)),
                ("data", State::Opening(7), to(ACK, &[0; 99]), Opening, State::Opening(106)),
                (
                    "the last byte that may pass",
                    State::Opening(LAST),
                    to(ACK, &[0; 99]),
                    Opening,
                    State::Opening(LAST + 99),
                ),
                ("one more", State::Opening(LAST + 1), to(ACK, b"\0"), Other, Unknown),
                ("one more, TLS", State::Opening(LAST + 1), to(ACK, TLS), Tls, Unknown),
                ("late request", State::Opening(LAST + 1), to(ACK, GET), Admitted, State::Session),
                ("bare ACK", Unknown, to(ACK, b""), NoPayload, Unknown),
                ("bare FIN", Unknown, from(ACK | FIN, b""), NoPayload, Unknown),
                ("bare RST", Unknown, from(RST, b""), NoPayload, Unknown),
                ("TLS", Unknown, to(ACK, TLS), Tls, Unknown),
                ("half a TLS head", Unknown, to(ACK, b"\x16"), Other, Unknown),
                ("binary", Unknown, to(ACK, &[0xff; 700]), Other, Unknown),
                ("half a token, unopened", Unknown, to(ACK, b"GE"), Other, Unknown),
                ("half a version", Unknown, to(ACK, b"HTTP"), Other, Unknown),
                ("line ends only", Unknown, to(ACK, b"\r\n\r\n"), Other, Unknown),
                ("text", Unknown, to(ACK, b"220 ready"), Other, Unknown),
                ("text, opened", State::Opening(0), to(ACK, b"220 a"), Admitted, State::Session),
                ("text without a target", Unknown, to(ACK, b"hello, world"), Other, Unknown),
            ],
        );
    }

    #[test]
    fn frames_of_http2() {
        use Reason::*;
        const LAST: u32 = (256 << 10) - 1;
        let to = |flags, payload: &[u8]| frame(ToServer, flags, payload);
        let from = |flags, payload: &[u8]| frame(ToClient, flags, payload);
        check(
            key_v4(&[]),
            vec![
                ("frames", Unknown, from(ACK, FRAMES), Admitted, State::Session),
                ("frames, cut", Unknown, from(ACK, &FRAMES[..20]), Other, Unknown),
                ("frames, opened", State::Opening(0), to(ACK, PONG), Opening, State::Opening(17)),
                ("a frame", Unknown, to(ACK, PONG), Admitted, State::Session),
                ("late frames", State::Opening(LAST + 1), to(ACK, PONG), Other, Unknown),
                ("a frame without ACK", Unknown, to(PSH, PONG), Other, Unknown),
            ],
        );
    }

    #[test]
    fn ipv4_headers() {
        use Reason::*;
        let get = tcp(ToServer, ACK, GET);
        let whole = ipv4(ToServer, PROTOCOL_TCP, &get);
        let changed = |at: usize, bytes: &[u8]| {
            let mut packet = whole.clone();
            packet[at..at + bytes.len()].copy_from_slice(bytes);
            ethernet(&[], TYPE_IPV4, &packet)
        };
        let options = ipv4_with_options(ToServer, PROTOCOL_TCP, &[1; 40], &get);
        let mut padded = frame(ToServer, ACK, b"");
        padded.resize(60, b'G');
        let udp = ipv4(ToServer, PROTOCOL_UDP, &[0; 20]);
        let mut udp_fragment = udp.clone();
        udp_fragment[6] = 0x20;
        let mut tcp_options = tcp(ToServer, ACK, &[]);
        tcp_options[12] = 0xf0;
        tcp_options.extend([1; 40]);
        tcp_options.extend(GET);
        let tcp_options = ipv4(ToServer, PROTOCOL_TCP, &tcp_options);
        let mut short_data = tcp(ToServer, ACK, &[]);
        short_data[12] = 0x40;
        let short_data = ipv4(ToServer, PROTOCOL_TCP, &short_data);
        let v4 = |packet: &[u8]| ethernet(&[], TYPE_IPV4, packet);
        check(
            key_v4(&[]),
            vec![
                ("options", Unknown, v4(&options), Admitted, State::Session),
                ("TCP options", Unknown, v4(&tcp_options), Admitted, State::Session),
                ("padding is no payload", Unknown, padded, NoPayload, Unknown),
                ("length 0: BIG TCP", Unknown, changed(2, &[0, 0]), Admitted, State::Session),
                ("more fragments", Unknown, changed(6, &[0x20, 0]), Fragment, Unknown),
                ("a later fragment", Unknown, changed(6, &[0, 1]), Fragment, Unknown),
                ("a fragment of UDP", Unknown, v4(&udp_fragment), Fragment, Unknown),
                ("UDP", Unknown, v4(&udp), NotTcp, Unknown),
                ("version 5", Unknown, changed(0, &[0x55]), Unparsed, Unknown),
                ("header of 16 bytes", Unknown, changed(0, &[0x44]), Unparsed, Unknown),
                ("header behind the frame", Unknown, v4(&whole[..30]), Unparsed, Unknown),
                ("shorter than its header", Unknown, changed(2, &[0, 19]), Unparsed, Unknown),
                ("nothing in it", Unknown, changed(2, &[0, 20]), Unparsed, Unknown),
                ("half a TCP header", Unknown, changed(2, &[0, 39]), Unparsed, Unknown),
                ("longer than the frame", Unknown, changed(2, &[1, 0]), Unparsed, Unknown),
                ("TCP header of 16 bytes", Unknown, v4(&short_data), Unparsed, Unknown),
                ("a session's, cut", State::Session, v4(&whole[..40]), Session, State::Session),
                ("ARP", Unknown, ethernet(&[], 0x0806, &[0; 28]), NotIp, Unknown),
                ("802.3", Unknown, ethernet(&[], 46, &[0; 46]), NotIp, Unknown),
            ],
        );
    }

    #[test]
    fn ipv6_headers() {
        use Reason::*;
        let (hops, routing, fragment, options) = (0, 43, 44, 60);
        let get = tcp(ToServer, ACK, GET);
        let v6 = |next, body: &[u8]| ethernet(&[], TYPE_IPV6, &ipv6(ToServer, next, body));
        let all = extension(routing, 2, &extension(options, 32, &extension(PROTOCOL_TCP, 1, &get)));
        let nested = |count: u32| {
            let inner = extension(PROTOCOL_TCP, 1, &get);
            v6(options, &(1..count).fold(inner, |body, _| extension(options, 1, &body)))
        };
        let mut big = ipv6(ToServer, hops, &extension(PROTOCOL_TCP, 1, &get));
        big[4..6].fill(0);
        let mut short = ipv6(ToServer, options, &extension(PROTOCOL_TCP, 2, &get));
        short[4..6].copy_from_slice(&[0, 16]);
        let answer = tcp(ToClient, ACK, b"HTTP/1.1 204 ");
        let answer = ethernet(&[], TYPE_IPV6, &ipv6(ToClient, PROTOCOL_TCP, &answer));
        let cut = v6(options, &extension(PROTOCOL_TCP, 2, b""));
        let (authentication, mut signed) = (51, extension(PROTOCOL_TCP, 3, &get));
        signed[1] = 4; // words of four bytes, less two
        check(
            key_v6(),
            vec![
                ("plain", Unknown, v6(PROTOCOL_TCP, &get), Admitted, State::Session),
                ("the other way", Unknown, answer, Admitted, State::Session),
                ("extensions", Unknown, v6(hops, &all), Admitted, State::Session),
                ("six extensions", Unknown, nested(6), Admitted, State::Session),
                ("seven", Unknown, nested(7), Unparsed, Unknown),
                ("authenticated", Unknown, v6(authentication, &signed), Admitted, State::Session),
                (
                    "length 0: BIG TCP",
                    Unknown,
                    ethernet(&[], TYPE_IPV6, &big),
                    Admitted,
                    State::Session,
                ),
                ("fragment", Unknown, v6(fragment, &extension(6, 1, &get)), Fragment, Unknown),
                (
                    "extended fragment",
                    Unknown,
                    v6(fragment, &extension(60, 1, &get)),
                    Fragment,
                    Unknown,
                ),
                (
                    "authenticated fragment",
                    Unknown,
                    v6(fragment, &extension(authentication, 1, &signed)),
                    Fragment,
                    Unknown,
                ),
                (
                    "fragment of UDP",
                    Unknown,
                    v6(fragment, &extension(17, 1, &get)),
                    Fragment,
                    Unknown,
                ),
                ("UDP", Unknown, v6(PROTOCOL_UDP, &[0; 20]), NotTcp, Unknown),
                (
                    "shorter than it must be",
                    Unknown,
                    ethernet(&[], TYPE_IPV6, &short),
                    Unparsed,
                    Unknown,
                ),
                ("cut in an extension", Unknown, cut, Unparsed, Unknown),
                ("version 4", Unknown, ethernet(&[], TYPE_IPV6, &[0x45; 60]), Unparsed, Unknown),
            ],
        );
    }

    #[test]
    fn vlan_tags() {
        let get = ipv4(ToServer, PROTOCOL_TCP, &tcp(ToServer, ACK, GET));
        let tags = |tags: &[(u16, u16)]| ethernet(tags, TYPE_IPV4, &get);
        let rows = [
            (vec![100], vec![(TYPE_VLAN, 100)]),
            (vec![4095], vec![(TYPE_VLAN, 0xffff)]),
            (vec![1, 2], vec![(TYPE_QINQ, 1), (TYPE_VLAN, 2)]),
            (
                vec![1, 2, 3, 4],
                vec![(TYPE_QINQ, 1), (TYPE_QINQ, 2), (TYPE_VLAN, 3), (TYPE_VLAN, 4)],
            ),
            (vec![5], vec![(TYPE_OLD_QINQ, 5)]),
            (vec![5, 6], vec![(TYPE_OLD_QINQ, 5), (TYPE_VLAN, 6)]),
            (vec![], vec![(TYPE_VLAN, 0xe000)]),
            (vec![7], vec![(TYPE_VLAN, 0), (TYPE_VLAN, 7), (TYPE_VLAN, 0)]),
        ];
        for (ids, stack) in rows {
            let admitted = ("tagged", Unknown, tags(&stack), Reason::Admitted, Session);
            check(key_v4(&ids), vec![admitted]);
        }
        let deep = Reason::TooDeep;
        check(
            key_v4(&[]),
            vec![
                ("five tags", Unknown, tags(&[(TYPE_VLAN, 1); 5]), deep, Unknown),
                ("no end of tags", Unknown, tags(&[(TYPE_VLAN, 0); 9]), deep, Unknown),
                (
                    "cut in a tag",
                    Unknown,
                    ethernet(&[], TYPE_VLAN, &[0]),
                    Reason::Unparsed,
                    Unknown,
                ),
                ("ARP", Unknown, ethernet(&[(TYPE_VLAN, 1)], 0x0806, &get), Reason::NotIp, Unknown),
            ],
        );
    }

    #[test]
    fn a_shut_gate_counts_and_rejects() {
        let Some(filter) = load(&small()) else { skip!("needs CAP_BPF") };
        filter.gate(Gate::Shut);
        assert_eq!(reason_of(&filter, &frame(ToServer, ACK, GET)), Reason::Gated);
        assert_eq!(filter.counters().offered(), 0);
        assert_eq!(state(&filter, &key_v4(&[])), Unknown);
    }

    #[test]
    fn modes_and_directions() {
        let off = CaptureConfig { filter: FilterMode::Off, ..small() };
        let Some(filter) = load(&off) else { skip!("needs CAP_BPF") };
        assert_eq!(reason_of(&filter, &frame(ToServer, ACK, TLS)), Reason::FilterOff);
        let udp = ethernet(&[], TYPE_IPV4, &ipv4(ToServer, PROTOCOL_UDP, &[0; 20]));
        assert_eq!(reason_of(&filter, &udp), Reason::NotTcp);
        assert_eq!(filter.sessions().keys().count(), 0);

        // A test run's frame is incoming; tests/live.rs tests outgoing ones.
        for (direction, reason) in [
            (PacketDirection::In, Reason::Admitted),
            (PacketDirection::Out, Reason::Direction),
            (PacketDirection::InOut, Reason::Admitted),
        ] {
            let Some(filter) = load(&CaptureConfig { direction, ..small() }) else {
                skip!("needs CAP_BPF")
            };
            assert_eq!(reason_of(&filter, &frame(ToServer, ACK, GET)), reason);
        }
    }

    #[test]
    fn a_flood_of_syns_evicts_openings_and_no_session() {
        let Some(filter) = load(&small()) else { skip!("needs CAP_BPF") };
        set(&filter, &key_v4(&[]), Session);
        for port in 0..5000 {
            let syn = tcp_between(ToServer, (port, 1), SYN, b"");
            let syn = ethernet(&[], TYPE_IPV4, &ipv4(ToServer, PROTOCOL_TCP, &syn));
            assert_eq!(reason_of(&filter, &syn), Reason::Opening);
        }
        assert!(filter.openings().keys().count() <= 1024);
        assert_eq!(reason_of(&filter, &frame(ToClient, ACK, b"\0")), Reason::Session);
        let counters = filter.counters();
        assert_eq!(counters.openings_made + counters.openings_failed, 5000);
    }

    /// Payloads that resemble a message, or are arbitrary.
    fn payloads() -> impl Strategy<Value = Vec<u8>> {
        let near = "[\r\n]{0,6}[A-Za-z!|~:(0-9\u{e9}]{0,27}[ \t]{0,2}[ -~]{0,3}";
        let version = "[\r\n]{0,5}[hH][tT]{2}[pP][/ ]?[0-9]?";
        prop_oneof![
            near.prop_map(String::into_bytes),
            version.prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..70),
            crate::frames::like_frames(),
        ]
    }

    #[test]
    fn the_kernel_and_its_twin_agree() {
        let Some(filter) = load(&small()) else { skip!("needs CAP_BPF") };
        let key = key_v4(&[]);
        proptest!(ProptestConfig::with_cases(2000), |(
            payload in payloads().prop_filter("some", |payload| !payload.is_empty()),
            trailer in prop::collection::vec(any::<u8>(), 0..40),
        )| {
            let mut bytes = frame(ToServer, ACK, &payload);
            bytes.extend(trailer);
            let is_tls = matches!(payload[0], 0x14..=0x17) && payload.get(1) == Some(&3);
            type Rule = fn(&[u8]) -> bool;
            let rules: [(_, Rule); 2] =
                [(Unknown, is_worth_joining), (Opening(0), begins_like_message)];
            for (before, rule) in rules {
                set(&filter, &key, before);
                let is_admitted = reason_of(&filter, &bytes) == Reason::Admitted;
                prop_assert_eq!(is_admitted, rule(&payload) && !is_tls);
                prop_assert_eq!(state(&filter, &key) == Session, is_admitted);
            }
        });
    }
}
