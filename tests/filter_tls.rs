//! What the kernel filter passes of TLS if records of TLS are wanted, packet by packet, through
//! BPF_PROG_TEST_RUN: the beginning of both directions, the end, and headers now and then.

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use httplines::config::{CaptureConfig, DecodeConfig};
    use httplines::sys::counters::Reason;
    use httplines::sys::filter::Filter;
    use httplines::sys::flow_hints::HintFlags;
    use proptest::prelude::*;

    use crate::support::kernel_flow::*;
    use crate::support::kernel_packet::Heading::{self, ToClient, ToServer};
    use crate::support::kernel_packet::*;
    use crate::support::skip;

    /// So much of each direction passes: RFC 8446 has no longer record.
    const BEGIN_BYTES: u32 = 16 << 10;
    const WHOLE: u32 = 0x7fff_ffff;
    /// The IPv4 and TCP headers of a frame: a test run has no link header.
    const HEADERS: u32 = 40;
    /// Both ends of the usual connection begin at these numbers: the client, the server.
    const ISN: [u32; 2] = [11, 22];

    fn load(wants_tls: bool) -> Option<Filter> {
        let config = CaptureConfig { wants_tls, ..config_for(1024) };
        crate::support::kernel_packet::load(&config, &DecodeConfig::default())
    }

    /// The initial number of the sender, and of the other end.
    fn numbers(isn: [u32; 2], way: Heading) -> [u32; 2] {
        if way == ToServer { isn } else { [isn[1], isn[0]] }
    }

    /// SYN and SYN-ACK.
    fn begin(filter: &Filter, [client, server]: [u32; 2]) {
        forget(filter);
        reason_of(filter, &at(ToServer, client, SYN, b""));
        let answer = acknowledging(ToClient, server, SYN | ACK, client.wrapping_add(1), b"");
        assert_eq!(reason_of(filter, &answer), Reason::Opening);
    }

    /// A connection that the filter has found to be TLS.
    fn settle(filter: &Filter, isn: [u32; 2]) {
        begin(filter, isn);
        let [client, server] = isn.map(|number| number.wrapping_add(1));
        let hello = acknowledging(ToServer, client, ACK, server, TLS);
        assert_eq!(reason_of(filter, &hello), Reason::Opening);
        let taken = client.wrapping_add(TLS.len() as u32);
        assert_eq!(
            reason_of(filter, &acknowledging(ToClient, server, ACK, taken, TLS)),
            Reason::Opening
        );
    }

    /// A segment, by its places in both streams: the first byte of each has 0.
    #[derive(Clone, Copy, Debug)]
    struct Said {
        way: Heading,
        place: u32,
        acked: u32,
        flags: u8,
        payload_bytes: usize,
    }

    impl Said {
        fn frame(&self, isn: [u32; 2]) -> Vec<u8> {
            let [own, other] = numbers(isn, self.way).map(|number| number.wrapping_add(1));
            let (seq, ack) = (own.wrapping_add(self.place), other.wrapping_add(self.acked));
            acknowledging(self.way, seq, self.flags, ack, &vec![0xa5; self.payload_bytes])
        }

        /// What a filter that wants TLS makes of it on a connection of TLS, without the arithmetic
        /// of sequence numbers.
        fn twin(&self) -> (Reason, u32) {
            let (begin, acked) = (u64::from(self.place), u64::from(self.acked));
            let end = begin + self.payload_bytes as u64;
            let reaches = |mark: u64| begin < mark && mark <= end;
            let is_end = self.flags & (FIN | RST) != 0;
            let is_ack = self.flags & ACK != 0;
            if is_ack && self.payload_bytes > 0 && begin == 0 {
                // A copy of the first bytes may differ, and settles anew.
                return (Reason::Opening, WHOLE);
            }
            let is_near = if self.payload_bytes == 0 {
                acked <= u64::from(BEGIN_BYTES)
            } else {
                begin < u64::from(BEGIN_BYTES)
            };
            if is_end || (is_ack && is_near) {
                return (Reason::TlsWanted, WHOLE);
            }
            let is_mark = (1..=4).any(|gibibytes| reaches(gibibytes << 30));
            if is_ack && is_mark { (Reason::TlsWanted, HEADERS) } else { (Reason::Tls, 0) }
        }
    }

    fn place() -> impl Strategy<Value = u32> {
        let near = |mark: u32| (0..3000u32).prop_map(move |it| mark.wrapping_add(it) - 1500);
        prop_oneof![
            2 => 0..BEGIN_BYTES,
            3 => near(BEGIN_BYTES),
            1 => near(1 << 30),
            1 => near(2 << 30),
            1 => near(3 << 30),
            1 => (0..1500u32).prop_map(|it| u32::MAX - it),
            2 => any::<u32>(),
        ]
    }

    fn said() -> impl Strategy<Value = Said> {
        let flags = prop_oneof![
            6 => Just(ACK),
            2 => Just(ACK | PSH),
            2 => prop::sample::select(vec![FIN | ACK, RST, RST | ACK, FIN | PSH | ACK, PSH, 0]),
            1 => any::<u8>().prop_map(|flags| flags & !SYN),
        ];
        let payload = prop_oneof![2 => Just(0usize), 1 => Just(1), 3 => 1..1400usize];
        (any::<bool>(), place(), place(), flags, payload).prop_map(
            |(is_client, place, acked, flags, payload_bytes)| Said {
                way: if is_client { ToServer } else { ToClient },
                place,
                acked,
                flags,
                payload_bytes,
            },
        )
    }

    /// Whatever the initial numbers are; and neither what came before nor the order matters.
    #[test]
    fn the_kernel_and_its_twin_agree_what_passes_of_tls() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        proptest!(ProptestConfig::with_cases(400), |(
            isn in any::<[u32; 2]>(),
            all in prop::collection::vec(said(), 1..12),
        )| {
            settle(&filter, isn);
            for one in all {
                let expected = one.twin();
                prop_assert_eq!(verdict_of(&filter, &one.frame(isn)), expected, "{:?}", one);
                if expected.0 == Reason::Opening {
                    settle(&filter, isn);
                }
            }
        });
    }

    /// The same segments without the wish: none of a settled connection passes, but copies of the
    /// first bytes.
    #[test]
    fn nothing_of_tls_passes_unless_it_is_wanted() {
        let Some(filter) = load(false) else { skip!("needs CAP_BPF") };
        proptest!(ProptestConfig::with_cases(400), |(isn in any::<[u32; 2]>(), one in said())| {
            settle(&filter, isn);
            let is_copy = one.twin().0 == Reason::Opening;
            let expected = if is_copy { (Reason::Opening, WHOLE) } else { (Reason::Tls, 0) };
            prop_assert_eq!(verdict_of(&filter, &one.frame(isn)), expected, "{:?}", one);
        });
    }

    /// The beginnings of both directions in segments of these lengths, repeated cyclically.
    fn beginnings(cuts: &[usize]) -> Vec<Said> {
        let mut all = Vec::new();
        for way in [ToServer, ToClient] {
            let (mut place, mut cut) = (0, cuts.iter().cycle());
            while place < BEGIN_BYTES {
                let payload_bytes = *cut.next().expect("there are cuts");
                all.push(Said { way, place, acked: 0, flags: ACK, payload_bytes });
                place += payload_bytes as u32;
            }
        }
        all
    }

    /// The segment's frame, as part of streams that begin with a hello.
    fn hello_frame(said: &Said) -> Vec<u8> {
        let hello = [&b"\x16\x03\x01\x07\x6c\x01\x00\x07\x68\x03\x03"[..], &[0x5a; 32 << 10]];
        let stream = hello.concat();
        let [own, other] = numbers(ISN, said.way).map(|number| number + 1);
        let from = said.place as usize;
        let payload = &stream[from..from + said.payload_bytes];
        acknowledging(said.way, own + said.place, ACK, other + 1900, payload)
    }

    /// In many segments, tiny ones first, the server's before the client's, the last one first.
    #[test]
    fn both_beginnings_pass_in_any_segments_and_any_order() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        for cuts in [&[1448][..], &[1, 1447], &[5, 1443], &[1400, 500], &[3, 1, 1, 6, 1400]] {
            let ordered = beginnings(cuts);
            let reversed: Vec<Said> = ordered.iter().rev().copied().collect();
            let (client, server) = ordered.split_at(ordered.len() / 2);
            let pairs = client.iter().zip(server);
            let in_turn: Vec<Said> = pairs.clone().flat_map(|(c, s)| [*c, *s]).collect();
            let swapped: Vec<Said> = pairs.flat_map(|(c, s)| [*s, *c]).collect();
            for said in [ordered.clone(), reversed, in_turn, swapped] {
                begin(&filter, ISN);
                for one in &said {
                    let (reason, bytes) = verdict_of(&filter, &hello_frame(one));
                    assert!(reason.is_pass() && bytes == WHOLE, "{cuts:?} {one:?} {reason:?}");
                }
                // What the filter did not find itself is rejected with a verdict of user space.
                let id = hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], HintFlags::TLS);
                for way in [ToServer, ToClient] {
                    let late = Said { way, place: 90_000, ..said[0] };
                    let frame = Said { payload_bytes: 1000, ..late }.frame(ISN);
                    assert_eq!(reason_of(&filter, &frame), Reason::Tls, "{cuts:?}");
                }
                clear(&filter, id);
            }
        }
    }

    /// A stream of more than four gibibytes shows each of them once, whatever its segments are.
    #[test]
    fn one_segment_of_each_gibibyte_passes_cut_to_its_headers() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        for (isn, payload_bytes) in [(11, 1000), (u32::MAX - 5, 1400), (1 << 31, 3)] {
            settle(&filter, [isn, 22]);
            let mut passed = Vec::new();
            for gibibyte in 1..=5u64 {
                let mark = gibibyte << 30;
                let first = (mark - 5000) / payload_bytes * payload_bytes;
                let last = (mark + 5000).min(first + 10_000 * payload_bytes);
                for place in (first..last).step_by(payload_bytes as usize) {
                    let said = Said {
                        way: ToServer,
                        place: place as u32,
                        acked: 1 << 20,
                        flags: ACK,
                        payload_bytes: payload_bytes as usize,
                    };
                    // Behind 2^32 the numbers are those of the beginning; the very first would
                    // look like a copy of the first bytes.
                    if place as u32 == 0 {
                        continue;
                    }
                    let is_again = place as u32 % (1 << 30) < BEGIN_BYTES && gibibyte == 4;
                    let verdict = verdict_of(&filter, &said.frame([isn, 22]));
                    if verdict.0.is_pass() && !(is_again && place >= mark) {
                        assert_eq!(verdict, (Reason::TlsWanted, HEADERS));
                        passed.push((place, place + payload_bytes));
                    }
                }
            }
            assert_eq!(passed.len(), 5, "{passed:?}");
            for (gibibyte, (begin, end)) in (1u64..).zip(passed) {
                assert!(begin < gibibyte << 30 && gibibyte << 30 <= end, "{begin} to {end}");
            }
        }
    }

    /// A connection that speaks HTTP first, as behind CONNECT: the filter is told that it is TLS.
    #[test]
    fn a_session_that_became_tls_passes_like_any_tls() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        open(&filter, ISN[0], ISN[1]);
        let of = |way, place, flags, payload_bytes| {
            Said { way, place, acked: 100_000, flags, payload_bytes }.frame(ISN)
        };
        assert_eq!(reason_of(&filter, &of(ToClient, 90_000, ACK, 500)), Reason::Session);
        hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], HintFlags::TLS);
        for (frame, expected) in [
            (of(ToClient, 90_000, ACK, 500), (Reason::Tls, 0)),
            (of(ToClient, 90_000, ACK, 0), (Reason::Tls, 0)),
            (of(ToServer, 9_000, ACK, 500), (Reason::TlsWanted, WHOLE)),
            (of(ToServer, (1 << 30) - 9, ACK, 500), (Reason::TlsWanted, HEADERS)),
            (of(ToServer, 90_000, ACK | FIN, 0), (Reason::TlsWanted, WHOLE)),
            (of(ToClient, 90_000, RST, 0), (Reason::TlsWanted, WHOLE)),
        ] {
            assert_eq!(verdict_of(&filter, &frame), expected);
        }
    }

    /// The map of openings has lost it, as in a flood of SYNs: the numbers are in the hint.
    #[test]
    fn a_connection_that_was_evicted_is_judged_by_its_hint() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        forget(&filter);
        let id = hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], HintFlags::TLS);
        let of = |place, flags, payload_bytes| {
            let said = Said { way: ToServer, place, acked: 1 << 20, flags, payload_bytes };
            verdict_of(&filter, &said.frame(ISN))
        };
        assert_eq!(of(90_000, ACK, 1000), (Reason::Tls, 0));
        assert_eq!(of(9_000, ACK, 1000), (Reason::TlsWanted, WHOLE));
        assert_eq!(of((2 << 30) - 500, ACK, 1000), (Reason::TlsWanted, HEADERS));
        assert_eq!(of(90_000, ACK | FIN, 0), (Reason::TlsWanted, WHOLE));
        assert_eq!(of(90_000, RST, 0), (Reason::TlsWanted, WHOLE));
        assert_eq!(of(90_000, ACK, 0), (Reason::NoPayload, 0), "it is not worth a look-up");
        filter.hints().erase(id);
        assert_eq!(of(90_000, ACK | FIN, 0), (Reason::NoPayload, 0));
    }

    /// Nothing is known of its numbers, and its hellos have passed already.
    #[test]
    fn a_connection_whose_syn_was_not_seen_passes_nothing() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        forget(&filter);
        for (flags, payload, expected) in [
            (ACK, TLS, Reason::Tls),
            (ACK, &b"\x17\x03\x03\x01\x00"[..], Reason::Tls),
            (ACK, b"\xa5\xa5", Reason::Other),
            (ACK, b"", Reason::NoPayload),
            (ACK | FIN, b"", Reason::NoPayload),
            (RST, b"", Reason::NoPayload),
        ] {
            assert_eq!(reason_of(&filter, &at(ToServer, 12, flags, payload)), expected);
        }
    }

    /// Of one direction the filter knows one number.
    #[test]
    fn of_one_direction_the_beginning_and_the_end_pass() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        forget(&filter);
        reason_of(&filter, &at(ToServer, 11, SYN, b""));
        let mut place = 0;
        while place < BEGIN_BYTES {
            let payload = if place == 0 { TLS } else { &BODY };
            let reason = reason_of(&filter, &at(ToServer, 12 + place, ACK, payload));
            assert!(reason.is_pass(), "{place}");
            place += payload.len() as u32;
        }
        for (way, place, flags, payload, expected) in [
            (ToServer, 90_000, ACK, &BODY[..], Reason::Tls),
            (ToServer, 900, ACK, &BODY, Reason::TlsWanted),
            (ToServer, 90_000, ACK, b"", Reason::Tls),
            (ToClient, 900, ACK, &BODY, Reason::Tls),
            (ToServer, 90_000, ACK | FIN, b"", Reason::TlsWanted),
        ] {
            let reason = reason_of(&filter, &at(way, 12 + place, flags, payload));
            assert_eq!(reason, expected, "{way:?} {place}");
        }
    }

    /// A new SYN opens anew: neither the old numbers nor the old verdict apply.
    #[test]
    fn the_next_connection_on_the_same_ports_begins_anew() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        settle(&filter, ISN);
        let id = hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], HintFlags::TLS);
        let next = [5_000_000, 7_000_000];
        reason_of(&filter, &at(ToServer, next[0], SYN, b""));
        reason_of(&filter, &acknowledging(ToClient, next[1], SYN | ACK, next[0] + 1, b""));
        let far = Said { way: ToClient, place: 90_000, acked: 9, flags: ACK, payload_bytes: 900 };
        let reasons = [(ToServer, TLS, 0), (ToClient, TLS, 11)].map(|(way, payload, acked)| {
            let [own, other] = numbers(next, way).map(|number| number + 1);
            reason_of(&filter, &acknowledging(way, own, ACK, other + acked, payload))
        });
        assert_eq!(reasons, [Reason::Opening; 2]);
        assert_eq!(reason_of(&filter, &far.frame(next)), Reason::Opening);
        // Its own verdict.
        filter.hints().erase(id);
        let grants = [(next[1], next[1]), (next[0], next[0])];
        hint(&filter.hints(), &key_v4(&[]), grants, HintFlags::TLS);
        assert_eq!(reason_of(&filter, &far.frame(next)), Reason::Tls);
        let near = Said { place: 9_000, ..far };
        assert_eq!(reason_of(&filter, &near.frame(next)), Reason::TlsWanted);
    }

    /// What a stranger sends without knowing the numbers changes nothing for the endpoints.
    #[test]
    fn strangers_neither_settle_nor_unsettle_what_is_wanted() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        let strangers = [
            at(ToServer, 4_000_000_000, RST, b""),
            at(ToClient, 3_000_000_000, ACK | FIN, b""),
            acknowledging(ToServer, 2_000_000_000, ACK, 99, GET),
            acknowledging(ToServer, 12, PSH, 23, GET),
            acknowledging(ToClient, 77, SYN | ACK, 5, b""),
        ];
        for (index, frame) in strangers.iter().enumerate() {
            settle(&filter, ISN);
            let id = hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], HintFlags::TLS);
            reason_of(&filter, frame);
            for way in [ToServer, ToClient] {
                let said = Said { way, place: 9_000, acked: 9, flags: ACK, payload_bytes: 500 };
                let (reason, bytes) = verdict_of(&filter, &said.frame(ISN));
                assert!(reason.is_pass() && bytes == WHOLE, "{index} {way:?} {reason:?}");
                let end = Said { flags: ACK | FIN, payload_bytes: 0, place: 90_000, ..said };
                assert!(reason_of(&filter, &end.frame(ISN)).is_pass(), "{index} {way:?}");
            }
            clear(&filter, id);
        }
        // Its SYN may be the next connection's: all passes, until user space's verdict is due.
        settle(&filter, ISN);
        hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], HintFlags::TLS);
        reason_of(&filter, &at(ToServer, 3_000_000_000, SYN, b""));
        let far = Said { way: ToClient, place: 90_000, acked: 9, flags: ACK, payload_bytes: 1000 };
        let mut reasons: Vec<_> = (0..300).map(|_| reason_of(&filter, &far.frame(ISN))).collect();
        reasons.dedup();
        assert_eq!(reasons, [Reason::Opening, Reason::Other, Reason::Tls]);
        let end = Said { flags: ACK | FIN, payload_bytes: 0, ..far };
        assert_eq!(reason_of(&filter, &end.frame(ISN)), Reason::TlsWanted);
    }

    #[test]
    fn a_flood_of_half_open_tls_takes_no_more_than_the_openings() {
        let Some(filter) = load(true) else { skip!("needs CAP_BPF") };
        open(&filter, ISN[0], ISN[1]);
        let before = filter.counters();
        for port in 1..5000u16 {
            for (seq, flags, payload) in [(11u32, SYN, &b""[..]), (12, ACK, TLS)] {
                let mut segment = tcp_between(ToServer, (port, 443), flags, payload);
                segment[4..8].copy_from_slice(&seq.to_be_bytes());
                let frame = ethernet(&[], TYPE_IPV4, &ipv4(ToServer, PROTOCOL_TCP, &segment));
                assert_eq!(reason_of(&filter, &frame), Reason::Opening);
            }
        }
        assert!(filter.openings().keys().count() <= 1024);
        let after = filter.counters();
        assert_eq!(after.openings_made - before.openings_made, 4999);
        assert_eq!(after.sessions_made, before.sessions_made);
        assert_eq!(reason_of(&filter, &at(ToClient, 500, ACK, b"\0")), Reason::Session);
    }
}
