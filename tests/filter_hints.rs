//! How the kernel filter applies flow hints, packet by packet, through BPF_PROG_TEST_RUN: which
//! data it cuts, which connections it drops, and that no hint applies to another connection.

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use httplines::config::DecodeConfig;
    use httplines::ids::{Direction, FlowHashKey, FlowKey, REALM_IPV6};
    use httplines::sys::counters::Reason;
    use httplines::sys::filter::Filter;
    use httplines::sys::flow_hints::{FlowHints, HintFlags};

    use crate::support::kernel_flow::*;
    use crate::support::kernel_packet::Heading::{ToClient, ToServer};
    use crate::support::kernel_packet::*;
    use crate::support::skip;

    /// Payload of the shortest segment that is cut.
    const CUT_BYTES_MIN: usize = 256;
    /// Bytes that a test run passes of an elided frame, without Ethernet: its IPv4 and TCP headers.
    const HEADER_BYTES: u32 = 40;

    fn load(session_count: u32) -> Option<Filter> {
        crate::support::kernel_packet::load(&config_for(session_count), &DecodeConfig::default())
    }

    /// The ends of a segment, relative to the end of the grant, with whether it is covered.
    fn positions() -> Vec<(u32, bool)> {
        let (near, far) = (1u32 << 30, 1u32 << 31);
        vec![
            (0, true),
            (1u32.wrapping_neg(), true),
            (1000u32.wrapping_neg(), true),
            ((near - 1).wrapping_neg(), true),
            (near.wrapping_neg(), false),
            ((far - 1).wrapping_neg(), false),
            (far, false),
            (1, false),
            (999, false),
            (1000, false),
            (far - 1, false),
        ]
    }

    /// Every position of a segment around the end of its grant, at any number, in both directions.
    #[test]
    fn what_lies_below_the_grant_is_cut_and_nothing_else() {
        let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
        for until in [5_000_000, 0, 1, 999, 1 << 30, 1 << 31, (1 << 31) + 500, u32::MAX] {
            for way in [ToServer, ToClient] {
                open(&filter, 11, 22);
                let isn = if way == ToServer { 11 } else { 22 };
                let mut grants = [(0, 0); 2];
                grants[sender(way).index()] = (isn, until);
                // The other direction's number is another: it has no grant.
                grants[sender(way).opposite().index()] = (99, until);
                let id = hint(&filter.hints(), &key_v4(&[]), grants, HintFlags::default());
                for (end, is_covered) in positions() {
                    let seq = until.wrapping_add(end).wrapping_sub(1000);
                    let expected = if is_covered {
                        (Reason::Elided, HEADER_BYTES)
                    } else {
                        (Reason::Session, 0x7fff_ffff)
                    };
                    let verdict = verdict_of(&filter, &at(way, seq, ACK, &BODY));
                    assert_eq!(verdict, expected, "{way:?} {end} from {until}");
                    let back = if way == ToServer { ToClient } else { ToServer };
                    let verdict = reason_of(&filter, &at(back, seq, ACK, &BODY));
                    assert_eq!(verdict, Reason::Session, "the other way, {end} from {until}");
                }
                clear(&filter, id);
            }
        }
    }

    /// Every set of control bits: only plain data are cut. Data without ACK are no data.
    #[test]
    fn what_tells_more_than_its_data_goes_up_whole() {
        let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
        for flags in 0..=0xffu8 {
            forget(&filter);
            let key = key_v4(&[]);
            let isns = Known { isn: [22, 11], flags: HINT_ISNS, ..Known::default() };
            enter(&filter, &key, isns);
            let hints = filter.hints();
            let id = hints.take(&key).expect("a place is free");
            hints.grant(id, Direction::Forward, 22, 10_000);
            hints.show(id, &key, HintFlags::isn(Direction::Forward));
            let is_plain = flags & (SYN | FIN | RST | URG | ACK) == ACK;
            let expected = if is_plain { Reason::Elided } else { Reason::Session };
            let reason = reason_of(&filter, &at(ToClient, 5000, flags, &BODY));
            assert_eq!(reason, expected, "flags {flags:#x}");
            hints.erase(id);
            let reason = reason_of(&filter, &at(ToClient, 5000, ACK, &BODY));
            assert_eq!(reason, Reason::Session, "the hint is gone");
        }
    }

    #[test]
    fn headers_go_up_whole_and_short_data_is_left() {
        // With so many slots, the three hints do not meet in one pair.
        let Some(filter) = load(1 << 16) else { skip!("needs CAP_BPF") };
        let (v4, v6) = (key_v4(&[]), key_v6());
        let tagged = key_v4(&[100, 7]);
        for key in [v4, v6, tagged] {
            enter(&filter, &key, Known { isn: [22, 11], flags: HINT_ISNS, ..Known::default() });
            hint(&filter.hints(), &key, [(22, 100_000), (11, 100_000)], HintFlags::default());
        }
        let cut = |frame: &[u8]| verdict_of(&filter, frame);
        for option_bytes in (0..=40).step_by(4) {
            let segment = tcp_at(ToClient, 5000, ACK, &vec![1; option_bytes], &BODY);
            let plain = ethernet(&[], TYPE_IPV4, &ipv4(ToClient, PROTOCOL_TCP, &segment));
            let expected = HEADER_BYTES + option_bytes as u32;
            assert_eq!(cut(&plain), (Reason::Elided, expected));
            let options = ipv4_with_options(ToClient, PROTOCOL_TCP, &[1; 40], &segment);
            let options = ethernet(&[], TYPE_IPV4, &options);
            assert_eq!(cut(&options), (Reason::Elided, expected + 40));
            let packet = ipv6(ToClient, 60, &extension(PROTOCOL_TCP, 2, &segment));
            let extended = ethernet(&[], TYPE_IPV6, &packet);
            assert_eq!(cut(&extended), (Reason::Elided, expected + 20 + 16));
            let packet = ipv4(ToClient, PROTOCOL_TCP, &segment);
            let in_vlans = ethernet(&[(TYPE_QINQ, 100), (TYPE_VLAN, 7)], TYPE_IPV4, &packet);
            assert_eq!(cut(&in_vlans), (Reason::Elided, expected + 8));
        }
        for bytes in [1, 20, CUT_BYTES_MIN - 1, CUT_BYTES_MIN, 1400] {
            let is_cut = bytes >= CUT_BYTES_MIN;
            let expected = if is_cut { Reason::Elided } else { Reason::Session };
            let reason = reason_of(&filter, &at(ToClient, 5000, ACK, &vec![b'x'; bytes]));
            assert_eq!(reason, expected, "{bytes} bytes");
        }
        let before = filter.counters();
        reason_of(&filter, &at(ToClient, 5000, ACK, &BODY));
        assert_eq!(filter.counters().elided_bytes - before.elided_bytes, 1000);
    }

    /// Keys that share the slot of `key` and differ from it in one field, a few for each field.
    fn neighbours(key: &FlowKey, hash_key: FlowHashKey) -> Vec<FlowKey> {
        let place = |key: &FlowKey| FlowHints::on_heap(32, hash_key).take(key);
        let mut found = Vec::new();
        let mut try_all = |change: &dyn Fn(&mut FlowKey, u16)| {
            let changed = (1..2000u16).map(|by| {
                let mut other = *key;
                change(&mut other, by);
                other
            });
            found.extend(changed.filter(|other| place(other) == place(key)).take(3));
        };
        for end in 0..2 {
            for byte in (0..16).step_by(2) {
                try_all(&|other, by| {
                    other.address[end][byte] ^= by as u8;
                    other.address[end][byte + 1] ^= (by >> 8) as u8;
                });
            }
            try_all(&|other, by| other.port[end] = by.to_be_bytes());
        }
        for tag in 0..4 {
            try_all(&|other, by| other.vlan[tag] = by);
        }
        try_all(&|other, by| other.realm = 1 << 24 | u32::from(by));
        try_all(&|other, by| other.realm = REALM_IPV6 | 2 << 24 | u32::from(by));
        found
    }

    /// The same slot in the table, the same sequence numbers, and one field of the key differs.
    #[test]
    fn a_note_reaches_no_other_connection() {
        let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
        let key = key_v4(&[]);
        enter(&filter, &key, Known { isn: [22, 11], flags: HINT_ISNS, ..Known::default() });
        let frame = at(ToClient, 5000, ACK, &BODY);
        let hints = filter.hints();
        let others = neighbours(&key, filter.hash_key());
        assert_eq!(others.len(), 3 * 24);
        for other in others {
            let reason = |noted: &[FlowKey]| {
                let show = |key: &FlowKey| {
                    let id = hints.take(key).expect("a place is free");
                    hints.grant(id, Direction::Forward, 22, 100_000);
                    hints.show(id, key, HintFlags::isn(Direction::Forward));
                    id
                };
                let ids: Vec<_> = noted.iter().map(show).collect();
                let reason = reason_of(&filter, &frame);
                ids.iter().for_each(|id| hints.erase(*id));
                reason
            };
            assert_eq!(reason(&[other]), Reason::Session, "{other:?}");
            assert_eq!(reason(&[other, key]), Reason::Elided, "next to {other:?}");
        }
    }

    /// Which sequence numbers the filter knows, and which the hint contains.
    #[test]
    fn a_grant_counts_under_its_own_number_only() {
        let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
        let (hints, key) = (filter.hints(), key_v4(&[]));
        let id = hints.take(&key).expect("a place is free");
        let forward = HintFlags::isn(Direction::Forward);
        let both = forward.with(HintFlags::isn(Direction::Reverse));
        let mut row_count = 0;
        for flags in 0..8u32 {
            for isn in [22, 23, 0] {
                for told in [
                    HintFlags::default(),
                    forward,
                    both,
                    HintFlags::LATE,
                    both.with(HintFlags::LATE),
                ] {
                    for told_isn in [22, 23, 0] {
                        let flags = flags << 28;
                        let session = Known { isn: [isn, 11], flags, ..Known::default() };
                        enter(&filter, &key, session);
                        hints.grant(id, Direction::Forward, told_isn, 100_000);
                        hints.show(id, &key, told);
                        let reason = reason_of(&filter, &at(ToClient, 5000, ACK, &BODY));
                        let is_known = flags & 1 << 29 != 0 && told.has(forward);
                        let is_same_kind = (flags & HINT_LATE != 0) == told.has(HintFlags::LATE);
                        let is_cut = is_known && is_same_kind && isn == told_isn;
                        let expected = if is_cut { Reason::Elided } else { Reason::Session };
                        assert_eq!(reason, expected, "{session:?} {told:?} {told_isn}");
                        row_count += 1;
                    }
                }
            }
        }
        assert_eq!(row_count, 360);
    }

    /// The next connection on the same endpoints may begin unseen.
    #[test]
    fn nothing_is_cut_of_who_has_closed() {
        for (flags, is_cut) in [(ACK | FIN, [false, true]), (RST, [false, false])] {
            let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
            open(&filter, 11, 22);
            let grants = [(22, 1 << 20), (11, 1 << 20)];
            hint(&filter.hints(), &key_v4(&[]), grants, HintFlags::default());
            for is_ended in [false, true] {
                for (way, is_cut) in [(ToClient, is_cut[0]), (ToServer, is_cut[1])] {
                    let is_cut = is_cut || !is_ended;
                    let expected = if is_cut { Reason::Elided } else { Reason::Session };
                    let reason = reason_of(&filter, &at(way, 50_000, ACK, &BODY));
                    assert_eq!(reason, expected, "{flags} {way:?} {is_ended}");
                }
                assert_eq!(reason_of(&filter, &at(ToClient, 60_000, flags, b"")), Reason::Session);
            }
        }
    }

    #[test]
    fn a_connection_joined_late_is_known_by_where_it_was_joined() {
        let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
        let key = key_v4(&[]);
        assert_eq!(reason_of(&filter, &at(ToServer, 777, ACK, GET)), Reason::Admitted);
        let session = known(&filter, &key).expect("a session");
        assert_eq!((session.isn, session.flags), ([777, 777], HINT_LATE | HINT_ISNS));
        hint(&filter.hints(), &key, [(777, 1 << 20), (777, 1 << 20)], HintFlags::LATE);
        assert_eq!(reason_of(&filter, &at(ToClient, 5000, ACK, &BODY)), Reason::Elided);
        assert_eq!(reason_of(&filter, &at(ToServer, 5000, ACK, &BODY)), Reason::Elided);
        // A SYN makes it another connection; the SYN-ACK does not restore the old number.
        assert_eq!(reason_of(&filter, &at(ToServer, 777, SYN, b"")), Reason::Session);
        assert_eq!(reason_of(&filter, &at(ToClient, 777, SYN | ACK, b"")), Reason::Session);
        for way in [ToClient, ToServer] {
            assert_eq!(reason_of(&filter, &at(way, 5000, ACK, &BODY)), Reason::Session);
        }
    }

    /// User space's verdict that a connection is not HTTP holds until its next SYN.
    #[test]
    fn a_settled_connection_is_dropped_until_its_next_syn() {
        for (mark, is_session) in [
            (HintFlags::FOREIGN, true),
            (HintFlags::FOREIGN, false),
            (HintFlags::OTHER, true),
            (HintFlags::OTHER, false),
        ] {
            let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
            let (hints, key) = (filter.hints(), key_v4(&[]));
            let reason =
                |way, seq, flags, payload: &[u8]| reason_of(&filter, &at(way, seq, flags, payload));
            reason(ToServer, 11, SYN, b"");
            reason_of(&filter, &acknowledging(ToClient, 22, SYN | ACK, 12, b""));
            if is_session {
                // Such as the greeting of an SSH server.
                assert_eq!(reason(ToClient, 23, ACK, b"SSH-2.0 x"), Reason::Admitted);
            }
            let id = hints.take(&key).expect("a place is free");
            hints.grant(id, Direction::Forward, 22, 22);
            hints.grant(id, Direction::Reverse, 11, 11);
            let isns = HintFlags::isn(Direction::Forward).with(HintFlags::isn(Direction::Reverse));
            hints.show(id, &key, isns.with(mark));
            if mark == HintFlags::OTHER && is_session {
                // The first segment that meets the hint may be the one that begins like a message.
                let before = known(&filter, &key).expect("a session");
                assert_eq!(reason(ToServer, 40, ACK, GET), Reason::Admitted);
                assert_eq!(known(&filter, &key).map(|session| session.isn), Some([40, 40]));
                enter(&filter, &key, before);
            }
            assert_eq!(reason(ToServer, 40, ACK, b"data"), Reason::Other);
            hints.erase(id);
            // The filter has stored it, and does not need the hint any more.
            for flags in [ACK, ACK | FIN, RST] {
                assert_eq!(reason(ToClient, 40, flags, b""), Reason::Other);
                assert_eq!(reason(ToClient, 40, flags, &BODY), Reason::Other);
            }
            // After FOREIGN nothing is admitted; otherwise only data that begin like a message.
            if mark == HintFlags::FOREIGN {
                assert_eq!(reason(ToServer, 50, ACK, GET), Reason::Other);
            } else {
                assert_eq!(reason(ToServer, 50, ACK, b"220 ready"), Reason::Other);
                assert_eq!(reason(ToServer, 50, ACK, GET), Reason::Admitted);
                let session = known(&filter, &key).expect("it was joined");
                assert_eq!((session.isn, session.settled), ([50, 50], 0));
                // The old hint, which may still be there, belongs to another connection.
                hint(&hints, &key, [(22, 22), (11, 11)], mark);
                assert_eq!(reason(ToServer, 60, ACK, &BODY), Reason::Session);
                continue;
            }
            assert_eq!(reason(ToServer, 1 << 20, SYN, b""), Reason::Opening);
            assert_eq!(reason(ToServer, (1 << 20) + 1, ACK, b"data"), Reason::Opening);
            assert_eq!(reason(ToServer, (1 << 20) + 5, ACK, GET), Reason::Admitted);
        }
    }

    #[test]
    fn a_verdict_that_comes_late_does_not_reach_the_next_connection() {
        for mark in [HintFlags::FOREIGN, HintFlags::OTHER] {
            let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
            open(&filter, 11, 22);
            // The verdict on the old connection comes when the new one has begun.
            reason_of(&filter, &at(ToServer, 5000, SYN, b""));
            reason_of(&filter, &at(ToClient, 6000, SYN | ACK, b""));
            hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], mark);
            for (way, seq) in [(ToServer, 5001), (ToClient, 6001)] {
                assert_eq!(reason_of(&filter, &at(way, seq, ACK, &BODY)), Reason::Session);
            }
        }
    }

    /// The table was too small and the session was evicted: the hint restores it, with its numbers.
    #[test]
    fn a_session_that_the_map_lost_comes_back_while_it_is_followed() {
        for (description, flags, payload) in
            [("data", ACK, &BODY[..]), ("FIN", ACK | FIN, b""), ("RST", RST, b"")]
        {
            let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
            let (hints, key) = (filter.hints(), key_v4(&[]));
            open(&filter, 11, 22);
            forget(&filter);
            let frame = at(ToClient, 5000, flags, payload);
            let lost = if payload.is_empty() { Reason::NoPayload } else { Reason::Other };
            assert_eq!(reason_of(&filter, &frame), lost, "{description}, not followed");
            hint(&hints, &key, [(22, 1 << 20), (11, 11)], HintFlags::default());
            assert_eq!(reason_of(&filter, &at(ToClient, 5000, ACK, b"")), Reason::NoPayload);
            assert_eq!(reason_of(&filter, &frame), Reason::Session, "{description}");
            let session = known(&filter, &key).expect("it is back");
            if flags == ACK {
                assert_eq!((session.isn, session.flags), ([22, 11], HINT_ISNS));
            }
            assert_eq!(filter.counters().sessions_restored, 1);
            // Nothing is cut in a direction that is closed.
            let due = if flags == ACK { Reason::Elided } else { Reason::Session };
            assert_eq!(reason_of(&filter, &at(ToClient, 6000, ACK, &BODY)), due);
        }
    }

    #[test]
    fn what_is_followed_is_a_session_whatever_its_segments_look_like() {
        let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
        let (hints, key) = (filter.hints(), key_v4(&[]));
        reason_of(&filter, &at(ToServer, 11, SYN, b""));
        // A head in two pieces, of which neither begins like a message.
        assert_eq!(reason_of(&filter, &at(ToServer, 12, ACK, b"GET")), Reason::Opening);
        assert_eq!(reason_of(&filter, &at(ToServer, 15, ACK, b" / HTTP/1.1")), Reason::Opening);
        let id = hints.take(&key).expect("a place is free");
        hints.grant(id, Direction::Reverse, 11, 12);
        hints.show(id, &key, HintFlags::isn(Direction::Reverse));
        assert_eq!(reason_of(&filter, &at(ToServer, 26, ACK, b"\r\n")), Reason::Session);
        assert_eq!(filter.openings().keys().count(), 0);
        assert_eq!(filter.sessions().keys().count(), 1);
        // Another connection's hint does not make this opening a session.
        forget(&filter);
        reason_of(&filter, &at(ToServer, 500, SYN, b""));
        assert_eq!(reason_of(&filter, &at(ToServer, 501, ACK, b"\r\n")), Reason::Opening);
        assert_eq!(filter.sessions().keys().count(), 0);
    }

    /// A hint knows one sequence number, and the filter has seen both: it forgets neither, and a
    /// grant for the other direction counts.
    #[test]
    fn an_opening_that_is_followed_keeps_both_numbers() {
        for (way, isns) in [(ToServer, [22, 11]), (ToClient, [22, 11])] {
            for opening_marks in [HINT_ISNS, 1 << (29 + sender(way).index())] {
                let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
                let (hints, key) = (filter.hints(), key_v4(&[]));
                let opening = Known { isn: isns, flags: opening_marks, bytes: 7, settled: 0 };
                let map = filter.openings();
                map.update(&key_bytes(&key), &opening.bytes()).expect("room");
                let (own, other) = (sender(way), sender(way).opposite());
                let id = hints.take(&key).expect("a place is free");
                hints.grant(id, own, isns[own.index()], isns[own.index()] + 1);
                hints.show(id, &key, HintFlags::isn(own));
                assert_eq!(reason_of(&filter, &at(way, 26, ACK, b"\r\n")), Reason::Session);
                let expected = Known { bytes: 0, ..opening };
                assert_eq!(known(&filter, &key), Some(expected), "{way:?}");
                assert_eq!(filter.openings().keys().count(), 0);
                assert_eq!(filter.counters().sessions_made, 1);
                hints.grant(id, other, isns[other.index()], 1 << 20);
                hints.show(id, &key, HintFlags::isn(own).with(HintFlags::isn(other)));
                let back = if way == ToServer { ToClient } else { ToServer };
                let is_cut = opening_marks == HINT_ISNS;
                let due = if is_cut { Reason::Elided } else { Reason::Session };
                assert_eq!(reason_of(&filter, &at(back, 5000, ACK, &BODY)), due, "{back:?}");
            }
        }
    }

    /// The slots of keys are where the kernel looks for them, for every kind of key.
    #[test]
    fn both_halves_find_a_note_in_the_same_place() {
        let Some(filter) = load(64) else { skip!("needs CAP_BPF") };
        let hints = filter.hints();
        let mut found_count = 0;
        for port in 1..2000u16 {
            let segment = |payload| {
                let mut segment = tcp_between(ToClient, (port, SERVER_PORT), ACK, payload);
                segment[4..8].copy_from_slice(&5000u32.to_be_bytes());
                segment
            };
            let ports = [SERVER_PORT.to_be_bytes(), port.to_be_bytes()];
            let v4 = FlowKey { port: ports, ..key_v4(&[port, 9]) };
            let v6 = FlowKey { port: ports, ..key_v6() };
            let tags = [(TYPE_VLAN, port), (TYPE_VLAN, 9)];
            let packet_v4 = ipv4(ToClient, PROTOCOL_TCP, &segment(&BODY));
            let packet_v6 = ipv6(ToClient, PROTOCOL_TCP, &segment(&BODY));
            for (key, frame) in [
                (v4, ethernet(&tags, TYPE_IPV4, &packet_v4)),
                (v6, ethernet(&[], TYPE_IPV6, &packet_v6)),
            ] {
                enter(&filter, &key, Known { isn: [22, 11], flags: HINT_ISNS, ..Known::default() });
                let id = hints.take(&key).expect("a place is free");
                hints.grant(id, Direction::Forward, 22, 100_000);
                hints.show(id, &key, HintFlags::isn(Direction::Forward));
                assert_eq!(reason_of(&filter, &frame), Reason::Elided, "{key:?}");
                hints.erase(id);
                found_count += 1;
            }
        }
        assert_eq!(found_count, 3998);
        assert_eq!(hints.taken_count(), 0);
    }
}
