//! The shapes that TCP connections have on the wire, one by one.

use super::tests::Heard::{self, Fin, Gap, Reset};
use super::tests::{Sent, after_handshake, bytes, handshake, run, run_with};
use crate::config::FlowConfig;
use crate::decode::TcpFlags;
use crate::ids::Direction::{Forward, Reverse};

const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::ACK | TcpFlags::FIN;
const RST: u8 = TcpFlags::RST;
const SYN: u8 = TcpFlags::SYN;
/// An urgent byte is somewhere in the segment.
const URG: u8 = 0x20;

/// What these segments deliver, after a handshake.
fn heard(rest: &[Sent]) -> Vec<Heard> {
    run(&after_handshake(rest)).flushed()
}

/// A SYN takes the number before its payload.
fn syn(offset: u32, payload: &[u8], at_ms: u64) -> Sent {
    Sent::data(Forward, offset, 0, payload, at_ms).flags(SYN)
}

#[test]
fn data_may_come_on_the_syn() {
    let sent = [
        syn(0, b"GET /", 0),
        Sent::data(Reverse, 0, 5, b"early", 1).flags(SYN | ACK),
        Sent::data(Forward, 5, 5, b" more", 2),
    ];
    let expected = [bytes(Forward, "GET /"), bytes(Reverse, "early"), bytes(Forward, " more")];
    assert_eq!(run(&sent).flushed(), expected);
    // The server did not accept it, and it is sent again; or it is sent with every SYN.
    let again = [syn(0, b"GET /", 0), syn(0, b"GET /", 1), Sent::data(Forward, 0, 0, b"GET /", 2)];
    assert_eq!(run(&again).flushed(), [bytes(Forward, "GET /")]);
}

#[test]
fn what_comes_late_of_the_connection_before_is_not_this_ones() {
    // It acknowledges something that was never sent here: a number behind the SYN, or more than a
    // window ahead.
    for ack in [0u32.wrapping_sub(5000), 0x5000_0000] {
        let sent = [
            syn(0, b"", 0),
            Sent::data(Reverse, 900_000, ack, b"late", 1),
            Sent::data(Reverse, 0, 0, b"", 2).flags(SYN | ACK),
            Sent::data(Forward, 0, 0, b"ask", 3),
            Sent::data(Reverse, 0, 3, b"answer", 4),
        ];
        let mut one = run(&sent);
        assert_eq!((one.table.stats().gaps, one.table.stats().left_refused()), (0, 1));
        one.look(100_000);
        assert_eq!(one.flushed(), [bytes(Forward, "ask"), bytes(Reverse, "answer")]);
    }
    // If the SYN-ACK was missed, it is accepted.
    let missed = [syn(0, b"", 0), Sent::data(Reverse, 0, 3, b"answer", 1)];
    assert_eq!(run(&missed).flushed().last(), Some(&bytes(Reverse, "answer")));
}

#[test]
fn both_sides_may_open_at_once() {
    let sent = [
        syn(0, b"", 0),
        Sent::data(Reverse, 0, 0, b"", 0).flags(SYN),
        Sent::data(Forward, 0, 0, b"", 1).flags(SYN | ACK),
        Sent::data(Reverse, 0, 0, b"", 1).flags(SYN | ACK),
        Sent::data(Forward, 0, 0, b"ask", 2),
        Sent::data(Reverse, 0, 3, b"answer", 3),
    ];
    assert_eq!(run(&sent).flushed(), [bytes(Forward, "ask"), bytes(Reverse, "answer")]);
}

#[test]
fn probes_bring_nothing() {
    // A keep-alive, with an old byte or without; a probe of a closed window, with the next byte.
    let mut probes = handshake();
    probes.push(Sent::data(Forward, u32::MAX, 0, b"\0", 1));
    probes.push(Sent::data(Forward, 0, 0, b"ask", 2));
    for at_ms in [3, 4] {
        probes.push(Sent::data(Forward, 2, 0, b"", at_ms));
        probes.push(Sent::data(Forward, 2, 0, b"\0", at_ms));
        probes.push(Sent::data(Forward, 3, 0, b"!", at_ms));
        probes.push(Sent::data(Reverse, u32::MAX, 3, b"", at_ms));
    }
    probes.push(Sent::data(Reverse, 0, 4, b"answer", 5));
    assert_eq!(run(&probes).flushed(), [bytes(Forward, "ask!"), bytes(Reverse, "answer")]);
}

#[test]
fn the_first_byte_may_have_the_number_of_the_syn() {
    // Captures that were written by hand do this as well.
    let sent = [
        Sent::data(Forward, u32::MAX, u32::MAX, b"GET /", 1),
        Sent::data(Reverse, u32::MAX, 4, b"HTTP/1.1", 2),
        Sent::data(Forward, 4, 7, b" more", 3),
        // Later it is a retransmission.
        Sent::data(Forward, u32::MAX, 7, b"PUT /", 4),
    ];
    let expected = [bytes(Forward, "GET /"), bytes(Reverse, "HTTP/1.1"), bytes(Forward, " more")];
    assert_eq!(heard(&sent), expected);
}

#[test]
fn urgent_data_is_data() {
    let sent = [Sent::data(Forward, 0, 0, b"one", 1).flags(ACK | URG)];
    assert_eq!(heard(&sent), [bytes(Forward, "one")]);
}

#[test]
fn a_fin_may_carry_data_and_come_before_it() {
    let end = Sent::data(Forward, 3, 0, b"end", 1).flags(FIN);
    let begin = Sent::data(Forward, 0, 0, b"the", 2);
    assert_eq!(heard(&[end.clone(), begin]), [bytes(Forward, "theend"), Fin(Forward)]);
    // The bytes before it are lost, and what follows a FIN does not belong to the stream.
    let acked = Sent::data(Reverse, 0, 7, b"", 2);
    let behind = Sent::data(Forward, 6, 0, b"!", 30);
    let lost = [Gap(Forward, 3), bytes(Forward, "end"), Fin(Forward)];
    let reverse = Sent::data(Reverse, 0, 7, b"", 29);
    assert_eq!(heard(&[end, acked, reverse, behind]), lost);
}

#[test]
fn a_reset_may_come_out_of_order_and_with_words() {
    let sent = [
        Sent::data(Forward, 0, 0, b"ask", 1),
        Sent::data(Reverse, 0, 3, b"go away", 2).flags(RST | ACK),
        Sent::data(Reverse, 0, 3, b"answer", 3),
    ];
    assert_eq!(heard(&sent), [bytes(Forward, "ask"), Reset]);
}

#[test]
fn a_connection_that_is_captured_twice_is_heard_once() {
    // On a bridge, or on both ends of a loopback: each segment twice, directly or after the next
    // one.
    let sent = after_handshake(&[
        Sent::data(Forward, 0, 0, b"ask", 1),
        Sent::data(Reverse, 0, 3, b"answer", 2),
        Sent::data(Forward, 3, 6, b"", 3).flags(FIN),
        Sent::data(Reverse, 6, 4, b"", 4).flags(FIN),
    ]);
    let expected = [bytes(Forward, "ask"), bytes(Reverse, "answer"), Fin(Forward), Fin(Reverse)];
    let at_once: Vec<Sent> = sent.iter().flat_map(|one| [one.clone(), one.clone()]).collect();
    let mut behind = sent.clone();
    for (place, one) in sent.iter().enumerate() {
        behind.insert(2 * place + 1 + usize::from(place + 1 < sent.len()), one.clone());
    }
    for all in [at_once, behind, [sent.clone(), sent].concat()] {
        let run = run(&all);
        assert_eq!(run.table.stats().flows, 1);
        assert_eq!(run.flushed(), expected);
    }
}

#[test]
fn ports_may_be_used_again_at_once() {
    let mut sent = after_handshake(&[
        Sent::data(Forward, 0, 0, b"one", 1).flags(FIN),
        Sent::data(Reverse, 0, 4, b"first", 1).flags(FIN),
    ]);
    sent.push(syn(70_000, b"", 1));
    sent.push(Sent::data(Reverse, 90_000, 70_000, b"", 1).flags(SYN | ACK));
    sent.push(Sent::data(Forward, 70_000, 90_000, b"two", 2));
    sent.push(Sent::data(Reverse, 90_000, 70_003, b"second", 2));
    let run = run(&sent);
    assert_eq!(run.table.stats().flows, 2);
    let heard = run.flushed();
    let expected = [bytes(Forward, "two"), bytes(Reverse, "second")];
    assert_eq!(heard[heard.len() - 2..], expected);
}

#[test]
fn one_direction_alone_is_heard() {
    let one = [
        Sent::data(Forward, 0, 0, b"GET / one", 1),
        Sent::data(Forward, 9, 50, b"GET / two", 2),
        Sent::data(Forward, 18, 90, b"", 3).flags(FIN),
    ];
    let expected = [bytes(Forward, "GET / oneGET / two"), Fin(Forward)];
    assert_eq!(run(&one).flushed(), expected);
    // If the handshake was seen, it is known how much of the other direction is missing.
    let expected = [
        bytes(Forward, "GET / one"),
        Gap(Reverse, 50),
        bytes(Forward, "GET / two"),
        Fin(Forward),
        Gap(Reverse, 40),
    ];
    assert_eq!(heard(&one), expected);
}

#[test]
fn what_is_sent_again_after_the_end_begins_nothing() {
    // The client does not notice the reset, and retransmits at intervals that double.
    let mut sent = vec![
        Sent::data(Forward, 0, 0, b"GET / HTTP/1.1\r\n", 0),
        Sent::data(Reverse, 0, 16, b"", 100).flags(RST | ACK),
    ];
    let mut at_ms = 300;
    for _ in 0..8 {
        sent.push(Sent::data(Forward, 0, 0, b"GET / HTTP/1.1\r\n", at_ms));
        at_ms += at_ms.max(4_000);
    }
    let run = run(&sent);
    assert_eq!(run.table.stats().flows, 1);
    assert_eq!(run.flushed(), [bytes(Forward, "GET / HTTP/1.1\r\n"), Reset]);
}

#[test]
fn the_same_connection_again_is_another() {
    // Captures made by hand have the same numbers in every connection.
    let one = after_handshake(&[
        Sent::data(Forward, 0, 0, b"ask", 1).flags(FIN),
        Sent::data(Reverse, 0, 4, b"answer", 2).flags(FIN),
    ]);
    let mut sent = Vec::new();
    for round in 0..4 {
        sent.extend(one.iter().cloned().map(|mut one| {
            one.at_ms += round * 6_000;
            one
        }));
    }
    assert_eq!(run(&sent).table.stats().flows, 4);
}

#[test]
fn the_first_segments_that_are_captured_may_be_out_of_order() {
    let sent = [
        Sent::data(Forward, 0, 0, b"GET / HTTP/1.1\r\n", 1),
        Sent::data(Reverse, 8, 16, b" 200 OK", 2),
        Sent::data(Reverse, 0, 16, b"HTTP/1.1", 2),
        Sent::data(Forward, 16, 15, b"GET / more", 3),
    ];
    let expected = [
        bytes(Forward, "GET / HTTP/1.1\r\n"),
        bytes(Reverse, "HTTP/1.1 200 OK"),
        bytes(Forward, "GET / more"),
    ];
    assert_eq!(run(&sent).flushed(), expected);
    // The segment that was overtaken is lost, and this is reported.
    let lost = [sent[0].clone(), sent[1].clone(), sent[3].clone()];
    let expected = [
        bytes(Forward, "GET / HTTP/1.1\r\n"),
        Gap(Reverse, 8),
        bytes(Reverse, " 200 OK"),
        bytes(Forward, "GET / more"),
    ];
    assert_eq!(run(&lost).flushed(), expected);
}

/// Everything of the first moments waits, so that its order does not matter.
#[test]
fn any_order_of_the_first_segments_gives_the_same() {
    let sent = [
        Sent::data(Forward, 0, 0, b"GET /1 HTTP/1.1\r\n\r\n", 1),
        Sent::data(Forward, 19, 0, b"GET /2 HTTP/1.1\r\n\r\n", 1),
        Sent::data(Reverse, 0, 38, b"", 2),
        Sent::data(Reverse, 0, 38, b"HTTP/1.1 200 OK\r\n", 2),
        Sent::data(Reverse, 17, 38, b"\r\n", 2),
    ];
    let in_order = run(&sent).flushed();
    assert_eq!(in_order.len(), 2);
    let orders =
        [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [1, 0, 3, 2, 4], [3, 2, 1, 0, 4], [3, 4, 1, 0, 2]];
    for order in orders {
        let mut run = run(&order.map(|at| sent[at].clone()));
        // The grace is that of holes.
        run.take(&Sent::data(Forward, 38, 19, b"", 11));
        assert_eq!(run.heard, []);
        run.take(&Sent::data(Forward, 38, 19, b"", 13));
        assert_eq!(run.heard, in_order, "{order:?}");
    }
    // The rest of a message that came before its beginning waits for it. A reset ends the wait.
    let sent = [
        Sent::data(Forward, 8, 0, b"TP/1.1\r\n\r\n", 1),
        Sent::data(Forward, 0, 0, b"GET / HT", 2),
        Sent::data(Forward, 18, 0, b"", 3).flags(TcpFlags::RST),
    ];
    // So it is beside others, whose segments are of no connection either.
    let others = (0..200).map(|port| Sent::data(Forward, 0, 0, b"text", 1).port(1000 + port));
    for others in [Vec::new(), others.collect()] {
        let unknown_count = others.len() as u64;
        let one = run(&[&sent[..1], &others, &sent[1..]].concat());
        assert_eq!(one.table.stats().left_unknown(), unknown_count);
        assert_eq!(one.flushed(), [bytes(Forward, "GET / HTTP/1.1\r\n\r\n"), Heard::Reset]);
    }
}

/// A stranger must not decide where the streams of a connection begin that is joined late.
#[test]
fn the_first_moments_are_bounded_and_believe_no_stranger() {
    let talk = [
        Sent::data(Forward, 0, 0, b"GET / HTTP/1.1\r\n\r\n", 1),
        Sent::data(Reverse, 0, 18, b"HTTP/1.1 200 OK\r\n\r\n", 2),
    ];
    let expected =
        [bytes(Forward, "GET / HTTP/1.1\r\n\r\n"), bytes(Reverse, "HTTP/1.1 200 OK\r\n\r\n")];
    // Its own SYN may have been overtaken.
    let syn = Sent::data(Forward, 0, 0, b"", 1).flags(TcpFlags::SYN);
    let overtaken = run(&[talk[0].clone(), syn, talk[1].clone()]);
    assert_eq!(overtaken.table.stats().left_refused(), 0);
    assert_eq!(overtaken.flushed(), expected);
    for forged in [
        Sent::data(Forward, 1 << 30, 0, b"", 1).flags(TcpFlags::RST),
        Sent::data(Forward, 1 << 30, 0, b"", 1).flags(TcpFlags::SYN),
        Sent::data(Forward, 3 << 29, 7 << 28, b"GET /x HTTP/1.1\r\n\r\n", 1),
        Sent::data(Reverse, 3 << 29, 7 << 28, b"", 1),
    ] {
        let heard = run(&[talk[0].clone(), forged, talk[1].clone()]).flushed();
        assert_eq!(heard, expected);
    }
    // The first segment is refused, and there is no room for it.
    let config = FlowConfig { reorder_bytes_shard_max: 3000, ..FlowConfig::default() };
    let mut full = run_with(config, &[]);
    full.take(&Sent::data(Forward, 0, 0, &[b"GET / ", &[b'x'; 2000][..]].concat(), 1).flags(0));
    full.take(&Sent::data(Forward, 3000, 0, b"", 2));
    assert_eq!(full.flushed(), []);
    // A hundred segments in a millisecond are more than wait.
    let mut many = vec![talk[0].clone()];
    many.extend((0..100).map(|number| Sent::data(Reverse, number * 10, 18, &[b'x'; 10], 2)));
    let run = run(&many);
    assert_eq!(run.heard.len(), 2, "both directions were heard before the end");
    assert_eq!(run.table.buffered_bytes(), 0);
}

/// The client asks once more, on another connection from the same port, before a byte of the server
/// was seen. What was asked first is heard, and the next connection is one of its own.
#[test]
fn a_handshake_with_other_numbers_leaves_a_late_start_alone() {
    let next = |seq: u32, ack: u32, way, text: &[u8], at| Sent::data(way, seq, ack, text, at);
    let (client, server) = (1 << 29, 1 << 28);
    for pause_ms in [0, 40] {
        for is_reset in [false, true] {
            let mut sent = vec![Sent::data(Forward, 0, 0, b"GET /1 HTTP/1.1\r\n\r\n", 1)];
            if is_reset {
                sent.push(Sent::data(Reverse, 0, 19, b"", 2).flags(TcpFlags::RST | TcpFlags::ACK));
            }
            let at = 3 + pause_ms;
            let syn_ack = TcpFlags::SYN | TcpFlags::ACK;
            sent.extend([
                next(client, 0, Forward, b"", at).flags(TcpFlags::SYN),
                next(server, client, Reverse, b"", at + 1).flags(syn_ack),
                next(client, server, Forward, b"", at + 2),
                next(client, server, Forward, b"GET /2 HTTP/1.1\r\n\r\n", at + 3),
                next(server, client + 19, Reverse, b"HTTP/1.1 204 No\r\n\r\n", at + 4),
            ]);
            let run = run(&sent);
            assert_eq!(run.table.stats().flows, 2);
            let texts = run.flushed().into_iter().filter_map(|heard| match heard {
                Heard::Bytes(_, text) => Some(text),
                _ => None,
            });
            let expected = ["GET /1", "GET /2"].map(|line| format!("{line} HTTP/1.1\r\n\r\n"));
            let expected = [expected.concat(), "HTTP/1.1 204 No\r\n\r\n".to_string()];
            assert_eq!(texts.collect::<String>(), expected.concat(), "{pause_ms} {is_reset}");
        }
    }
}

#[test]
fn a_hole_is_given_up_when_its_grace_is_over_whoever_notices() {
    // The piece that fills the second hole comes 15 ms after the acknowledgement of both.
    let holes = after_handshake(&[
        Sent::data(Forward, 10, 0, b"one", 1),
        Sent::data(Forward, 20, 0, b"two", 1),
        Sent::data(Reverse, 0, 23, b"", 2),
    ]);
    let pieces = [Sent::data(Reverse, 0, 23, b"", 26), Sent::data(Forward, 13, 0, b"1234567", 27)];
    // A hole keeps it from being closed. A message long after its end begins a new connection.
    let closing = after_handshake(&[
        Sent::data(Forward, 10, 0, b"", 1).flags(FIN),
        Sent::data(Reverse, 0, 11, b"", 2).flags(FIN),
    ]);
    let message = [Sent::data(Forward, 0, 0, b"GET / ", 9_000)];
    for (begin, end) in [(holes, &pieces[..]), (closing, &message)] {
        let expected = run(&[&begin, end].concat()).flushed();
        for look_ms in 3..40 {
            let mut looked = run(&begin);
            looked.look(look_ms);
            end.iter().for_each(|sent| looked.take(sent));
            assert_eq!(looked.flushed(), expected, "with a look at {look_ms} ms");
        }
    }
}

#[test]
fn a_hole_across_a_request_is_given_up_in_two() {
    // The end of one response and the beginning of the next are lost, and the request between them
    // has read the first. Everything is acknowledged before the hole in front of them is given up.
    let sent = after_handshake(&[
        Sent::data(Forward, 0, 0, b"ask 1", 1),
        Sent::data(Reverse, 4, 5, b"answer", 2),
        Sent::data(Forward, 5, 10, b"", 3),
        Sent::data(Forward, 5, 16, b"ask 2", 3),
        Sent::data(Reverse, 46, 10, b"answer", 4),
        Sent::data(Forward, 10, 52, b"", 5),
    ]);
    let expected = [
        bytes(Forward, "ask 1"),
        Gap(Reverse, 4),
        bytes(Reverse, "answer"),
        Gap(Reverse, 6),
        bytes(Forward, "ask 2"),
        Gap(Reverse, 30),
    ];
    let mut one = run(&sent);
    one.look(100);
    assert_eq!(one.flushed(), [&expected[..], &[bytes(Reverse, "answer")]].concat());
    // Or because too much data waits.
    let limits = FlowConfig { reorder_bytes_max: 1200, ..FlowConfig::default() };
    let more = (1..5).map(|at| Sent::data(Reverse, 46 + 6 * at, 10, b"answer", 4));
    let many: Vec<Sent> = sent[..sent.len() - 1].iter().cloned().chain(more).collect();
    let many = run_with(limits, &many);
    assert!(many.table.stats().gaps_at_bound > 0);
    assert_eq!(many.flushed(), [&expected[..], &[bytes(Reverse, &"answer".repeat(5))]].concat());
}
