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

    fn load() -> Option<Filter> {
        crate::support::kernel_packet::load(&config_for(64), &DecodeConfig::default())
    }

    /// The numbers of another handshake on the endpoints of the connection that began at 11 and 22.
    const RIVAL: [u32; 2] = [600_000, 700_000];

    /// A row: what happens after `open` (direction, sequence number, control bits,
    /// acknowledgement, payload), and whether data of the connection and of its rival are cut then,
    /// the server's and the client's.
    type Rivalry<'a> = (&'a str, &'a [(Heading, u32, u8, u32, &'a [u8])], [bool; 2], [bool; 2]);

    /// Anybody can send a SYN, or an answer to it. Until data have gone both ways under its numbers,
    /// the grants count for the connection, and never for what may be the other one's.
    #[test]
    fn another_handshake_changes_nothing_until_both_have_sent_data() {
        const ANSWER: u8 = SYN | ACK;
        let [client, server] = RIVAL;
        let syn = (ToServer, client, SYN, 0, &b""[..]);
        let answer = (ToClient, server, ANSWER, client + 1, &b""[..]);
        let asks = (ToServer, client + 1, ACK, server + 1, GET);
        let answers = (ToClient, server + 1, ACK, client + 1 + GET.len() as u32, &b"HTTP"[..]);
        let (kept, lost, all) = ([true; 2], [false; 2], [true; 2]);
        let rows: [Rivalry<'_>; 18] = [
            ("nothing", &[], kept, all),
            ("the same SYN again", &[(ToServer, 11, SYN, 0, b"")], kept, all),
            ("its answer again", &[(ToClient, 22, ANSWER, 12, b"")], kept, all),
            ("a new SYN", &[syn], kept, lost),
            ("a second answer", &[(ToClient, server, ANSWER, 12, b"")], kept, lost),
            ("a new answer", &[answer], kept, lost),
            ("both new", &[syn, answer], kept, lost),
            ("both again", &[syn, answer, syn, answer], kept, lost),
            ("a late copy of its own SYN", &[syn, (ToServer, 11, SYN, 0, b"")], kept, lost),
            ("a late copy of its answer", &[syn, (ToClient, 22, ANSWER, 12, b"")], kept, lost),
            ("the client's data", &[syn, answer, asks], kept, lost),
            ("the client's data, twice", &[syn, answer, asks, asks], kept, lost),
            ("the server's data", &[syn, answer, answers], kept, lost),
            ("data of both", &[syn, answer, asks, answers], lost, lost),
            ("data of both, the server's first", &[syn, answer, answers, asks], lost, lost),
            (
                "data that do not begin the stream",
                &[syn, answer, asks, (ToClient, server + 2, ACK, client + 29, b"HTTP")],
                kept,
                lost,
            ),
            (
                "data that acknowledge something else",
                &[syn, answer, asks, (ToClient, server + 1, ACK, 12, b"HTTP")],
                kept,
                lost,
            ),
            (
                "data without an acknowledgement",
                &[syn, answer, asks, (ToClient, server + 1, PSH, client + 29, b"HTTP")],
                kept,
                lost,
            ),
        ];
        let Some(filter) = load() else { return };
        for (description, frames, kept, rivals) in rows {
            open(&filter, 11, 22);
            let grants = [(22, 1 << 20), (11, 1 << 20)];
            let id = hint(&filter.hints(), &key_v4(&[]), grants, HintFlags::default());
            for (way, seq, flags, ack, payload) in frames {
                let frame = acknowledging(*way, *seq, *flags, *ack, payload);
                assert_eq!(reason_of(&filter, &frame), Reason::Session, "{description}");
            }
            let cut = |numbers: [u32; 2], way| {
                let [client, server] = numbers.map(|number| number + 10_000);
                let (seq, ack) = if way == ToServer { (client, server) } else { (server, client) };
                reason_of(&filter, &acknowledging(way, seq, ACK, ack, &BODY)) == Reason::Elided
            };
            for (at, way) in [ToClient, ToServer].into_iter().enumerate() {
                assert_eq!(cut([11, 22], way), kept[at], "{description}, {way:?}");
                assert_eq!(cut(RIVAL, way), rivals[at], "the rival's: {description}, {way:?}");
            }
            clear(&filter, id);
        }
    }

    /// What takes over is followed by its own numbers, and what was before is not cut by them.
    #[test]
    fn a_rival_that_took_over_has_grants_of_its_own() {
        let Some(filter) = load() else { return };
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
        let Some(filter) = load() else { return };
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
        let Some(filter) = load() else { return };
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
        let Some(filter) = load() else { return };
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
        let Some(filter) = load() else { return };
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

    /// A connection of which both ends begin with TLS is settled: the answer of the other end proves
    /// that it has taken the first segment.
    #[test]
    fn tls_of_both_ends_settles_itself() {
        let said = |way, seq, ack, payload: &[u8]| acknowledging(way, seq, ACK, ack, payload);
        let Some(filter) = load() else { return };
        let after = |frames: &[Vec<u8>]| {
            begin(&filter);
            for frame in frames {
                assert_eq!(reason_of(&filter, frame), Reason::Opening);
            }
            reason_of(&filter, &at(ToServer, 5000, ACK, &BODY))
        };
        let (ask, answer) = (said(ToServer, 12, 23, TLS), said(ToClient, 23, NEXT, TLS));
        let ask = || ask.clone();
        let greeting = said(ToClient, 23, 12, b"\x05\x00");
        let bare = |way, seq, payload: &[u8]| at(way, seq, PSH, payload);
        let rows = [
            ("the client's, and an answer", vec![ask(), answer.clone()], Reason::Tls),
            (
                "the server's, and an answer",
                vec![said(ToClient, 23, 12, TLS), said(ToServer, 12, NEXT_BACK, TLS)],
                Reason::Tls,
            ),
            ("sent again", vec![ask(), ask(), answer.clone(), ask()], Reason::Opening),
            ("the client's alone", vec![ask()], Reason::Opening),
            ("the server's alone", vec![said(ToClient, 23, 12, TLS)], Reason::Opening),
            ("no answer", vec![ask(), said(ToClient, 23, 12, TLS)], Reason::Opening),
            ("an answer to more", vec![ask(), said(ToClient, 23, 7, TLS)], Reason::Opening),
            ("another answer", vec![ask(), said(ToClient, 23, NEXT, b"+OK")], Reason::Opening),
            ("a later part", vec![ask(), said(ToClient, 24, NEXT, TLS)], Reason::Opening),
            (
                "a differing copy before the answer",
                vec![ask(), said(ToServer, 12, 23, b"GE"), answer.clone()],
                Reason::Opening,
            ),
            (
                "a differing copy of the answer before it",
                vec![ask(), said(ToClient, 23, NEXT, b"+OK"), answer.clone()],
                Reason::Opening,
            ),
            ("no acknowledgement", vec![bare(ToServer, 12, TLS), answer.clone()], Reason::Opening),
            ("not in the answer", vec![ask(), bare(ToClient, 23, TLS)], Reason::Opening),
            (
                "a stranger's SYN",
                vec![ask(), at(ToServer, 9999, SYN, b""), answer.clone()],
                Reason::Opening,
            ),
            (
                "all of it a stranger's",
                vec![
                    at(ToServer, 9999, SYN, b""),
                    acknowledging(ToClient, 7777, SYN | ACK, 10_000, b""),
                    said(ToServer, 10_000, 7778, TLS),
                    said(ToClient, 7778, 10_011, TLS),
                ],
                Reason::Opening,
            ),
            (
                "not the first bytes",
                vec![said(ToServer, 13, 23, TLS), answer.clone()],
                Reason::Opening,
            ),
            (
                "not TLS's beginning",
                vec![said(ToServer, 12, 23, LATER_RECORD), answer.clone()],
                Reason::Opening,
            ),
            (
                "something else",
                vec![said(ToServer, 12, 23, b"\x05\x01\x00"), answer.clone()],
                Reason::Opening,
            ),
            (
                "behind a greeting",
                vec![greeting, said(ToServer, 12, 25, TLS), said(ToClient, 25, NEXT, TLS)],
                Reason::Opening,
            ),
            (
                "a greeting was read",
                vec![said(ToServer, 12, 25, TLS), said(ToClient, 25, NEXT, TLS)],
                Reason::Opening,
            ),
            (
                "behind a later segment",
                vec![said(ToServer, 90, 23, b"\0"), ask(), answer.clone()],
                Reason::Opening,
            ),
        ];
        for (what, frames, expected) in rows {
            let expected = if what == "sent again" { Reason::Tls } else { expected };
            assert_eq!(after(&frames), expected, "{what}");
        }
    }

    /// A copy of the first bytes may differ, so it passes. If it does, the connection is an opening
    /// again, and stays one.
    #[test]
    fn a_differing_copy_of_the_first_bytes_unsettles() {
        let Some(filter) = load() else { return };
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
                let Some(filter) = load() else { return };
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
        let Some(filter) = load() else { return };
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
