//! What the kernel filter believes of strangers, packet by packet, through BPF_PROG_TEST_RUN: of a
//! handshake with other numbers, of data that look like TLS, and of copies that may differ.

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use httplines::config::DecodeConfig;
    use httplines::sys::counters::Reason;
    use httplines::sys::filter::Filter;
    use httplines::sys::flow_hints::HintFlags;

    use crate::support::kernel_flow::*;
    use crate::support::kernel_packet::Heading::{self, ToClient, ToServer};
    use crate::support::kernel_packet::*;
    use crate::support::skip;

    fn load() -> Option<Filter> {
        crate::support::kernel_packet::load(&config_for(64), &DecodeConfig::default())
    }

    /// The numbers of another handshake on the endpoints of the connection that began at 11 and 22.
    const RIVAL: [u32; 2] = [600_000, 700_000];

    /// Direction, sequence number, control bits, acknowledgement and payload of a segment.
    type Said = (Heading, u32, u8, u32, &'static [u8]);

    fn frame_of((way, seq, flags, ack, payload): Said) -> Vec<u8> {
        acknowledging(way, seq, flags, ack, payload)
    }

    const SYN_OF_RIVAL: Said = (ToServer, RIVAL[0], SYN, 0, b"");
    const ANSWER_OF_RIVAL: Said = (ToClient, RIVAL[1], SYN | ACK, RIVAL[0] + 1, b"");
    const ASKS: Said = (ToServer, RIVAL[0] + 1, ACK, RIVAL[1] + 1, GET);
    const ASKED: u32 = RIVAL[0] + 1 + GET.len() as u32;
    const ANSWERS: Said = (ToClient, RIVAL[1] + 1, ACK, ASKED, b"HTTP");

    /// What happens after `open`, and whether data of the connection and of its rival are cut then.
    fn rivalries() -> Vec<(&'static str, Vec<Said>, [bool; 2])> {
        let (syn, answer, asks, answers) = (SYN_OF_RIVAL, ANSWER_OF_RIVAL, ASKS, ANSWERS);
        let server = RIVAL[1];
        let (all, kept, lost) = ([true, true], [true, false], [false, false]);
        let (own_syn, own_answer) =
            ((ToServer, 11, SYN, 0, &b""[..]), (ToClient, 22, SYN | ACK, 12, &b""[..]));
        let with_both = |last| vec![syn, answer, asks, last];
        vec![
            ("nothing", vec![], all),
            ("the same SYN again", vec![own_syn], all),
            ("its answer again", vec![own_answer], all),
            ("a new SYN", vec![syn], kept),
            ("a second answer", vec![(ToClient, server, SYN | ACK, 12, b"")], kept),
            ("a new answer", vec![answer], kept),
            ("both new", vec![syn, answer], kept),
            ("both again", vec![syn, answer, syn, answer], kept),
            ("a late copy of its own SYN", vec![syn, own_syn], kept),
            ("a late copy of its answer", vec![syn, own_answer], kept),
            ("the client's data", vec![syn, answer, asks], kept),
            ("the client's data, twice", with_both(asks), kept),
            ("the server's data", vec![syn, answer, answers], kept),
            ("data of both", with_both(answers), lost),
            ("data of both, the server's first", vec![syn, answer, answers, asks], lost),
            ("not the first data", with_both((ToClient, server + 2, ACK, ASKED, b"HTTP")), kept),
            ("an answer to others", with_both((ToClient, server + 1, ACK, 12, b"HTTP")), kept),
            ("data without ACK", with_both((ToClient, server + 1, PSH, ASKED, b"HTTP")), kept),
        ]
    }

    /// Anybody can send a SYN, or an answer to it. Until data have gone both ways under its
    /// numbers, the grants count for the connection, and never for what may be the other one's.
    #[test]
    fn another_handshake_changes_nothing_until_both_have_sent_data() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        for (description, frames, is_cut) in rivalries() {
            open(&filter, 11, 22);
            let grants = [(22, 1 << 20), (11, 1 << 20)];
            let id = hint(&filter.hints(), &key_v4(&[]), grants, HintFlags::default());
            for said in frames {
                let reason = reason_of(&filter, &frame_of(said));
                assert_eq!(reason, Reason::Session, "{description}");
            }
            for (numbers, is_cut) in [[11, 22], RIVAL].into_iter().zip(is_cut) {
                let [client, server] = numbers.map(|number| number + 10_000);
                for (way, seq, ack) in [(ToServer, client, server), (ToClient, server, client)] {
                    let reason = reason_of(&filter, &acknowledging(way, seq, ACK, ack, &BODY));
                    let expected = if is_cut { Reason::Elided } else { Reason::Session };
                    assert_eq!(reason, expected, "{description}, {way:?} {numbers:?}");
                }
            }
            clear(&filter, id);
        }
    }

    /// What takes over is followed by its own numbers, and what was before is not cut by them.
    #[test]
    fn a_rival_that_took_over_has_grants_of_its_own() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        let ([client, server], key) = (RIVAL, key_v4(&[]));
        let numbers = |filter: &Filter| known(filter, &key).expect("a session").isn;
        open(&filter, 900_000, 950_000);
        for (way, seq, flags, ack, payload) in [
            (ToServer, client, SYN, 0, &b""[..]),
            (ToClient, server, SYN | ACK, client + 1, b""),
            (ToServer, client + 1, ACK, server + 1, GET),
        ] {
            reason_of(&filter, &acknowledging(way, seq, flags, ack, payload));
            assert_eq!(numbers(&filter), [950_000, 900_000]);
        }
        reason_of(&filter, &acknowledging(ToClient, server + 1, ACK, client + 29, b"HTTP"));
        assert_eq!(numbers(&filter), [server, client]);
        hint(&filter.hints(), &key, [(server, 1 << 20), (client, 1 << 20)], HintFlags::default());
        let reason = |seq, ack| reason_of(&filter, &acknowledging(ToClient, seq, ACK, ack, &BODY));
        assert_eq!(reason(server + 5, client + 29), Reason::Elided);
        assert_eq!(reason(960_000, 900_029), Reason::Session, "the former one's");
    }

    /// With several rivals the filter knows the numbers of the last one only.
    #[test]
    fn of_what_has_several_rivals_nothing_is_cut() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        open(&filter, 11, 22);
        let grants = [(22, 1 << 20), (11, 1 << 20)];
        hint(&filter.hints(), &key_v4(&[]), grants, HintFlags::default());
        let data = acknowledging(ToClient, 50_000, ACK, 40, &BODY);
        for (number, expected) in [(600_000, Reason::Elided), (800_000, Reason::Session)] {
            reason_of(&filter, &at(ToServer, number, SYN, b""));
            assert_eq!(reason_of(&filter, &data), expected, "{number}");
        }
    }

    /// A connection that has closed is replaced by a SYN immediately, whatever its number.
    #[test]
    fn after_a_reset_a_syn_opens_a_connection() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        for (way, client) in [(ToServer, 11), (ToClient, 11), (ToServer, 99), (ToClient, 99)] {
            forget(&filter);
            open(&filter, 11, 22);
            let seq = if way == ToServer { 40 } else { 23 };
            assert_eq!(reason_of(&filter, &at(way, seq, RST, b"")), Reason::Session);
            reason_of(&filter, &at(ToServer, client, SYN, b""));
            let answer = acknowledging(ToClient, 5022, SYN | ACK, client + 1, b"");
            assert_eq!(reason_of(&filter, &answer), Reason::Session);
            let session = known(&filter, &key_v4(&[])).expect("a session");
            let flags = session.flags & (HINT_LATE | HINT_ISNS);
            assert_eq!((session.isn, flags), ([5022, client], HINT_ISNS), "{way:?}");
        }
    }

    /// A second answer to the SYN does not matter: the client acknowledges the first.
    #[test]
    fn a_strangers_answer_to_a_syn_changes_nothing() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        // The stranger knows the client's number, or not; it comes before the server's, or not.
        for (ack, is_first) in [(12, false), (7000, false), (7000, true)] {
            forget(&filter);
            let stranger = acknowledging(ToClient, 99, SYN | ACK, ack, b"");
            let answer = acknowledging(ToClient, 22, SYN | ACK, 12, b"");
            let answers = if is_first { [stranger, answer] } else { [answer, stranger] };
            reason_of(&filter, &at(ToServer, 11, SYN, b""));
            for answer in answers {
                assert_eq!(reason_of(&filter, &answer), Reason::Opening);
            }
            let request = acknowledging(ToServer, 12, ACK, 23, GET);
            assert_eq!(reason_of(&filter, &request), Reason::Admitted);
            let session = known(&filter, &key_v4(&[])).expect("a session");
            assert_eq!(session.isn, [22, 11], "{ack} {is_first}");
            assert_eq!(session.flags & HINT_ISNS, HINT_ISNS, "{ack} {is_first}");
        }
    }

    /// A stranger's SYN makes an opening of a session that the map has lost. Its data still pass.
    #[test]
    fn a_strangers_syn_makes_no_frame_of_a_session_dropped() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        open(&filter, 11, 22);
        let grants = [(22, 22), (11, 11)];
        hint(&filter.hints(), &key_v4(&[]), grants, HintFlags::default());
        forget(&filter);
        assert_eq!(reason_of(&filter, &at(ToServer, 9_000_000, SYN, b"")), Reason::Opening);
        let mut reasons = Vec::new();
        for at in 0..300u32 {
            let frame = acknowledging(ToClient, 500 + at * 1000, ACK, 40, &BODY);
            reasons.push(reason_of(&filter, &frame));
        }
        reasons.dedup();
        assert_eq!(reasons, [Reason::Opening, Reason::Session]);
    }

    /// SYN and SYN-ACK: an opening whose numbers are 11 and 22.
    fn begin(filter: &Filter) {
        forget(filter);
        reason_of(filter, &at(ToServer, 11, SYN, b""));
        reason_of(filter, &acknowledging(ToClient, 22, SYN | ACK, 12, b""));
    }

    const LATER_RECORD: &[u8] = b"\x17\x03\x03";
    const NEXT: u32 = 12 + TLS.len() as u32;
    const NEXT_BACK: u32 = 23 + TLS.len() as u32;

    const HELLO: Said = (ToServer, 12, ACK, 23, TLS);
    const HELLO_BACK: Said = (ToClient, 23, ACK, NEXT, TLS);
    const SERVERS_HELLO: Said = (ToClient, 23, ACK, 12, TLS);

    /// What the filter makes of a later segment after these.
    fn after(filter: &Filter, what: &str, said: &[Said]) -> Reason {
        begin(filter);
        for said in said {
            assert_eq!(reason_of(filter, &frame_of(*said)), Reason::Opening, "{what}");
        }
        reason_of(filter, &at(ToServer, 5000, ACK, &BODY))
    }

    /// A connection of which both ends begin with TLS is settled: the answer of the other end
    /// proves that it has taken the first segment.
    #[test]
    fn tls_of_both_ends_settles_itself() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        let back = (ToServer, 12, ACK, NEXT_BACK, TLS);
        let rows: [(&str, &[Said], Reason); 6] = [
            ("the client's, and an answer", &[HELLO, HELLO_BACK], Reason::Tls),
            ("the server's, and an answer", &[SERVERS_HELLO, back], Reason::Tls),
            ("sent again", &[HELLO, HELLO, HELLO_BACK, HELLO], Reason::Tls),
            ("the client's alone", &[HELLO], Reason::Opening),
            ("the server's alone", &[SERVERS_HELLO], Reason::Opening),
            ("no answer", &[HELLO, SERVERS_HELLO], Reason::Opening),
        ];
        for (what, said, expected) in rows {
            assert_eq!(after(&filter, what, said), expected, "{what}");
        }
    }

    #[test]
    fn tls_is_not_found_where_anything_contradicts_it() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        let refused = (ToClient, 23, ACK, NEXT, &b"+OK"[..]);
        let hello = |payload: &'static [u8]| -> Said { (ToServer, 12, ACK, 23, payload) };
        let strangers: &[Said] = &[
            (ToServer, 9999, SYN, 0, b""),
            (ToClient, 7777, SYN | ACK, 10_000, b""),
            (ToServer, 10_000, ACK, 7778, TLS),
            (ToClient, 7778, ACK, 10_011, TLS),
        ];
        let greeted: &[Said] = &[
            (ToClient, 23, ACK, 12, b"\x05\x00"),
            (ToServer, 12, ACK, 25, TLS),
            (ToClient, 25, ACK, NEXT, TLS),
        ];
        let rows: [(&str, &[Said]); 15] = [
            ("an answer to more", &[HELLO, (ToClient, 23, ACK, 7, TLS)]),
            ("another answer", &[HELLO, refused]),
            ("a later part of the answer", &[HELLO, (ToClient, 24, ACK, NEXT, TLS)]),
            ("a differing copy", &[HELLO, hello(b"GE"), HELLO_BACK]),
            ("a differing copy of the answer", &[HELLO, refused, HELLO_BACK]),
            ("no acknowledgement", &[(ToServer, 12, PSH, 23, TLS), HELLO_BACK]),
            ("none in the answer", &[HELLO, (ToClient, 23, PSH, NEXT, TLS)]),
            ("a stranger's SYN", &[HELLO, strangers[0], HELLO_BACK]),
            ("all of it a stranger's", strangers),
            ("not the first bytes", &[(ToServer, 13, ACK, 23, TLS), HELLO_BACK]),
            ("not TLS's beginning", &[hello(LATER_RECORD), HELLO_BACK]),
            ("something else", &[hello(b"\x05\x01\x00"), HELLO_BACK]),
            ("behind a greeting", greeted),
            ("a greeting was read", &greeted[1..]),
            ("behind a later segment", &[(ToServer, 90, ACK, 23, b"\0"), HELLO, HELLO_BACK]),
        ];
        for (what, said) in rows {
            assert_eq!(after(&filter, what, said), Reason::Opening, "{what}");
        }
    }

    /// A copy of the first bytes may differ, so it passes. If it does, the connection is an opening
    /// again, and stays one.
    #[test]
    fn a_differing_copy_of_the_first_bytes_unsettles() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        let settle = |filter: &Filter| {
            begin(filter);
            reason_of(filter, &acknowledging(ToServer, 12, ACK, 23, TLS));
            reason_of(filter, &acknowledging(ToClient, 23, ACK, NEXT, TLS));
            assert_eq!(reason_of(filter, &at(ToServer, NEXT, ACK, &BODY)), Reason::Tls);
        };
        for (way, seq) in [(ToServer, 12), (ToClient, 23)] {
            for (copy, expected, later) in [
                (TLS, Reason::Opening, Reason::Tls),
                (b"GE", Reason::Opening, Reason::Opening),
                (LATER_RECORD, Reason::Opening, Reason::Opening),
                (GET, Reason::Admitted, Reason::Session),
                (b"HTTP/1.1 200 OK\r\n", Reason::Admitted, Reason::Session),
            ] {
                settle(&filter);
                // What no endpoint takes decides nothing.
                assert_eq!(reason_of(&filter, &at(way, seq, PSH, copy)), Reason::Tls);
                assert_eq!(reason_of(&filter, &at(way, seq, ACK, copy)), expected, "{way:?}");
                for (way, seq) in [(ToServer, 12), (ToClient, 23), (ToServer, NEXT)] {
                    let frame = acknowledging(way, seq, ACK, 24, TLS);
                    let expected = if later == Reason::Session { later } else { Reason::Opening };
                    let is_copy = (way, seq) != (ToServer, NEXT);
                    let expected = if is_copy { expected } else { later };
                    assert_eq!(reason_of(&filter, &frame), expected, "{way:?} {seq} {copy:?}");
                }
            }
        }
    }

    /// The same for a verdict of user space: it does not reach a copy of the first bytes, and what
    /// it settled is open again behind one, until the next segment that finds the verdict.
    #[test]
    fn a_copy_of_the_first_bytes_passes_in_spite_of_a_verdict() {
        for mark in [HintFlags::FOREIGN, HintFlags::OTHER] {
            for is_session in [true, false] {
                let Some(filter) = load() else { skip!("needs CAP_BPF") };
                begin(&filter);
                let first: &[u8] = if is_session { b"SSH-2.0 x" } else { b"\x05\x01\x00" };
                reason_of(&filter, &acknowledging(ToServer, 12, ACK, 23, first));
                let id = hint(&filter.hints(), &key_v4(&[]), [(22, 22), (11, 11)], mark);
                let copy = |payload: &[u8]| {
                    let reason = reason_of(&filter, &at(ToServer, 12, ACK, payload));
                    assert!(reason.is_pass(), "{mark:?} {reason:?}");
                };
                for _ in 0..2 {
                    copy(first);
                    assert_eq!(reason_of(&filter, &at(ToServer, 500, ACK, b"x")), Reason::Other);
                    copy(GET);
                    assert_eq!(reason_of(&filter, &at(ToServer, 500, ACK, b"x")), Reason::Other);
                    copy(GET);
                }
                // User space has withdrawn it.
                filter.hints().erase(id);
                assert!(reason_of(&filter, &at(ToServer, 500, ACK, b"x")).is_pass());
            }
        }
    }

    /// Of a connection of which only one direction is seen, more is needed.
    #[test]
    fn tls_of_one_direction_settles_itself_after_16_kib() {
        let Some(filter) = load() else { skip!("needs CAP_BPF") };
        for (way, isn, first, expected) in [
            (ToServer, 11, TLS, Reason::Tls),
            (ToClient, 22, TLS, Reason::Tls),
            (ToServer, 11, b"\x05\x01\x00", Reason::Opening),
            (ToServer, 11, LATER_RECORD, Reason::Opening),
        ] {
            for is_answered in [false, true] {
                forget(&filter);
                let syn = if way == ToServer { SYN } else { SYN | ACK };
                reason_of(&filter, &at(way, isn, syn, b""));
                let say = |seq, payload: &[u8]| reason_of(&filter, &at(way, seq, ACK, payload));
                let mut payload_bytes = first.len();
                assert_eq!(say(isn + 1, first), Reason::Opening);
                if is_answered {
                    let back = if way == ToServer { ToClient } else { ToServer };
                    reason_of(&filter, &at(back, 7000, ACK, b"x"));
                }
                while payload_bytes < 16 << 10 {
                    let seq = isn + 1 + payload_bytes as u32;
                    assert_eq!(say(seq, &BODY), Reason::Opening, "{payload_bytes}");
                    payload_bytes += BODY.len();
                }
                let expected = if is_answered { Reason::Opening } else { expected };
                assert_eq!(say(isn + 1 + payload_bytes as u32, &BODY), expected, "{way:?}");
            }
        }
    }
}
