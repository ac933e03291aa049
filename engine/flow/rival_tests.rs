//! Connections that follow each other on the same endpoints, with and without strangers between
//! them: which of them a segment belongs to.

use super::tests::Heard::{self, Fin, Gap, Reset};
use super::tests::{Run, Sent, after_handshake, bytes, run, run_with};
use crate::config::FlowConfig;
use crate::decode::TcpFlags;
use crate::ids::Direction::{self, Forward, Reverse};

const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::ACK | TcpFlags::FIN;
const RST: u8 = TcpFlags::RST;
const SYN: u8 = TcpFlags::SYN;

/// A connection with one exchange, whose numbers begin at `isn`. `fins` says which sides close it.
fn connection(isn: u32, at_ms: u64, texts: [&str; 2], fins: [bool; 2]) -> Vec<Sent> {
    let [request, response] = texts;
    let (asked, answered) = (isn + request.len() as u32, isn + response.len() as u32);
    let mut sent = vec![
        Sent::data(Forward, isn, 0, b"", at_ms).flags(SYN),
        Sent::data(Reverse, isn, isn, b"", at_ms).flags(SYN | ACK),
        Sent::data(Forward, isn, isn, b"", at_ms),
        Sent::data(Forward, isn, isn, request.as_bytes(), at_ms + 1),
        Sent::data(Reverse, isn, asked, response.as_bytes(), at_ms + 2),
        Sent::data(Forward, asked, answered, b"", at_ms + 3),
    ];
    if fins[0] {
        sent.push(Sent::data(Forward, asked, answered, b"", at_ms + 4).flags(FIN));
    }
    if fins[1] {
        sent.push(Sent::data(Reverse, answered, asked + 1, b"", at_ms + 5).flags(FIN));
    }
    sent
}

/// The texts that are heard in `direction`, up to the end of the capture.
fn texts(sent: &[Sent], direction: Direction) -> (String, Run) {
    let mut run = run(sent);
    run.end();
    let text = run.heard.iter().filter_map(|heard| match heard {
        Heard::Bytes(way, text) if *way == direction => Some(text.as_str()),
        _ => None,
    });
    let text: Vec<&str> = text.collect();
    (text.join("|"), run)
}

/// Ports are used again, and the end of the connection before was not captured, or only half of it.
/// The numbers of a quick successor lie inside the windows of the connection before.
#[test]
fn the_next_connection_is_heard_wherever_its_numbers_are() {
    for step in [30_000, 60_000, 200_000_000, 3_000_000_000] {
        for fins in [[false, false], [true, false], [false, true]] {
            let mut sent = connection(0, 0, ["GET /one", "response1"], fins);
            sent.extend(connection(step, 100, ["GET /two", "response2"], [true, true]));
            let (heard, run) = texts(&sent, Forward);
            assert_eq!(heard, "GET /one|GET /two", "{step} {fins:?}");
            assert_eq!(
                (run.table.stats().flows, run.table.stats().gaps),
                (2, 0),
                "{step} {fins:?}"
            );
            assert_eq!(run.table.buffered_bytes(), 0);
        }
    }
}

#[test]
fn of_a_single_captured_direction_every_connection_is_heard() {
    for direction in [Forward, Reverse] {
        let mut sent = Vec::new();
        for number in 0..6 {
            let at_ms = 28_000 * u64::from(number);
            let request = format!("GET /{number}");
            sent.extend(connection(
                number * 200_000_000,
                at_ms,
                [&request, &request],
                [true, true],
            ));
        }
        sent.retain(|one| one.direction() == direction);
        let (heard, run) = texts(&sent, direction);
        assert_eq!(heard, "GET /0|GET /1|GET /2|GET /3|GET /4|GET /5", "{direction:?}");
        assert_eq!(run.table.stats().flows, 6);
    }
}

#[test]
fn a_connection_that_was_reset_at_once_hides_no_other() {
    let mut sent = connection(0, 0, ["GET /one", "response1"], [false, false]);
    sent.extend(connection(200_000_000, 100, ["GET /two", ""], [false, false]));
    sent.push(Sent::data(Reverse, 200_000_000, 200_000_008, b"", 150).flags(RST | ACK));
    sent.extend(connection(400_000_000, 1000, ["GET /three", "response3"], [true, true]));
    let (heard, _) = texts(&sent, Forward);
    assert!(heard.ends_with("GET /three"), "{heard}");
}

/// The connection before expires while the next one waits for its first response.
#[test]
fn a_young_connection_does_not_end_with_an_old_one() {
    let mut sent = connection(0, 0, ["GET /one", "response1"], [false, false]);
    sent.extend(connection(200_000_000, 299_000, ["GET /two", "response2"], [true, true]));
    let answer = sent.len() - 4;
    let mut run = run(&sent[..answer]);
    run.expire(300_500);
    assert_eq!(run.table.len(), 1);
    sent[answer..].iter().for_each(|one| run.take(one));
    run.end();
    assert!(run.heard.contains(&bytes(Reverse, "response2")), "{:?}", run.heard);
    assert_eq!(run.table.stats().flows, 2);
}

#[test]
fn junk_between_the_first_segments_does_not_hide_the_next_connection() {
    let mut sent = connection(0, 0, ["GET /one", "response1"], [false, false]);
    for (number, one) in (0..).zip(connection(200_000_000, 100, ["GET /two", "answer2"], [true; 2]))
    {
        let at = 1_000_000_000 + number * 100_000_000;
        let junk = Sent::data(Forward, at, at / 2, b"junk", one.at_ms);
        sent.extend([one, junk]);
    }
    assert_eq!(texts(&sent, Forward).0, "GET /one|GET /two");
}

/// What only a stranger has sent is no connection, also if the connection itself closes then.
#[test]
fn a_forged_syn_with_data_is_not_told_when_the_connection_closes() {
    let mut sent = connection(0, 0, ["GET /one", "response1"], [true, false]);
    sent.push(Sent::data(Forward, 900_000_000, 0, b"", 5).flags(SYN));
    sent.push(Sent::data(Forward, 900_000_000, 123_456, b"GET /forged", 5));
    sent.push(Sent::data(Reverse, 9, 9, b"", 6).flags(FIN));
    sent.extend(connection(200_000_000, 1000, ["GET /two", "response2"], [true, true]));
    assert_eq!(texts(&sent, Forward).0, "GET /one|GET /two");
}

/// 64 forged segments within a moment, of both directions, which confirm each other.
#[test]
fn a_burst_of_forged_segments_moves_nothing() {
    let mut sent = connection(0, 0, ["GET /one", "response1"], [false, false]);
    for number in 0..70 {
        let [at, peer_at] = [700_000_000 + number * 8, 900_000_000 + number * 8];
        sent.push(Sent::data(Forward, at, peer_at, b"forged..", 10));
        sent.push(Sent::data(Reverse, peer_at, at + 8, b"forged..", 10));
    }
    sent.push(Sent::data(Forward, 8, 9, b"GET /two", 50));
    let (heard, run) = texts(&sent, Forward);
    assert_eq!((heard.as_str(), run.table.stats().anchors), ("GET /one|GET /two", 0));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn resets_by_chance_end_nothing() {
    let mut sent = connection(0, 0, ["GET /one", "response1"], [false, false]);
    // One for each window, as somebody sends them who knows nothing but the endpoints.
    sent.extend((0..66_000).map(|step| Sent::data(Forward, step * 65_000, 0, b"", 10).flags(RST)));
    sent.push(Sent::data(Forward, 8, 9, b"GET /two", 50));
    assert_eq!(texts(&sent, Forward).0, "GET /one|GET /two");
    // Of a side that has not been seen, what the other has read says where it is.
    let late = [
        Sent::data(Forward, 0, 0, b"GET /one", 0),
        Sent::data(Reverse, 1_500_000_000, 0, b"", 1).flags(RST),
        Sent::data(Reverse, 0, 8, b"response", 2),
    ];
    assert_eq!(texts(&late, Reverse).0, "response");
    // The sender's own numbers are right: the next one, or what the other side has acknowledged.
    for offset in [8, 0] {
        let mut sent = after_handshake(&[Sent::data(Forward, 0, 0, b"GET /one", 1)]);
        sent.push(Sent::data(Forward, offset, 0, b"", 2).flags(RST));
        assert_eq!(texts(&sent, Forward).1.heard.last(), Some(&Reset), "{offset}");
    }
}

#[test]
fn nothing_that_acknowledges_nothing_discards_data_on_a_syn() {
    for direction in [Forward, Reverse] {
        let sent = [
            Sent::data(Forward, 0, 0, b"GET /tfo", 0).flags(SYN),
            Sent::data(direction, 77, 0, b"", 0).flags(0),
            Sent::data(Reverse, 0, 8, b"", 1).flags(SYN | ACK),
            Sent::data(Forward, 8, 0, b"", 2),
        ];
        assert_eq!(texts(&sent, Forward).0, "GET /tfo");
    }
}

#[test]
fn refused_segments_keep_no_connection_from_being_idle() {
    let mut sent = connection(0, 0, ["GET /one", ""], [false, false]);
    for number in 1..10 {
        sent.push(Sent::data(Forward, 1_000_000_000, 5, b"x", number * 200_000));
    }
    let mut run = run(&sent);
    run.expire(1_900_000);
    assert!(run.table.is_empty());
}

/// The capture was down for a while. When it is back, there is far more within the time of the
/// decision than is held, and also than fits into a window. `sizes` are those of the request and of
/// each segment of the response.
fn is_found_again_once(sizes: [usize; 2], response_segments: u32) {
    let [request, response] = sizes.map(|bytes| vec![b'x'; bytes]);
    let [mut at, mut peer_at] = [700_000_000_u32, 900_000_000_u32];
    let mut sent = connection(0, 0, ["GET /one", "response1"], [false, false]);
    let mut sent_bytes_after = 0;
    for exchange in 0..4000 {
        let at_ms = 50 + exchange / 10;
        sent.push(Sent::data(Forward, at, peer_at, &request, at_ms));
        at += request.len() as u32;
        for _ in 0..response_segments {
            sent.push(Sent::data(Reverse, peer_at, at, &response, at_ms));
            peer_at += response.len() as u32;
        }
        sent.push(Sent::data(Forward, at, peer_at, b"", at_ms));
        if at_ms >= 200 {
            sent_bytes_after += request.len() + response.len() * response_segments as usize;
        }
    }
    let mut run = run(&sent);
    assert_eq!(run.table.stats().anchors, 1, "{sizes:?}");
    assert_eq!(run.table.stats().gaps, 2, "{sizes:?}");
    let heard_bytes = run.heard.iter().map(|heard| match heard {
        Heard::Bytes(_, text) => text.len(),
        _ => 0,
    });
    assert!(heard_bytes.sum::<usize>() >= sent_bytes_after, "{sizes:?}");
    run.end();
    assert_eq!(run.table.buffered_bytes(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn a_busy_connection_is_found_again_where_it_is_now() {
    is_found_again_once([8, 9], 1);
    is_found_again_once([8, 1400], 12);
}

#[test]
fn a_half_closed_connection_is_found_again() {
    let mut sent = after_handshake(&[
        Sent::data(Forward, 0, 0, b"GET /one", 1).flags(FIN),
        Sent::data(Reverse, 0, 9, b"aaaa", 2),
        Sent::data(Forward, 9, 4, b"", 3),
    ]);
    for number in 0..4 {
        sent.push(Sent::data(Reverse, 500_000_000 + number * 4, 9, b"bbbb", 50));
        sent.push(Sent::data(Forward, 9, 500_000_004 + number * 4, b"", 50));
    }
    let (heard, run) = texts(&sent, Reverse);
    assert_eq!((heard.as_str(), run.table.stats().anchors), ("aaaa|bbbbbbbbbbbbbbbb", 1));
    let expected = [bytes(Forward, "GET /one"), Fin(Forward), bytes(Reverse, "aaaa")];
    assert_eq!(run.heard[..3], expected);
    assert_eq!(run.heard[3], Gap(Reverse, 499_999_996));
}

/// What is held of strangers leaves half of the memory to segments out of order.
#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn what_is_held_for_a_decision_starves_nobody() {
    let limits = FlowConfig { reorder_bytes_shard_max: 100_000, ..FlowConfig::default() };
    let data = [b'x'; 1400];
    let mut sent = Vec::new();
    for port in 100..1000 {
        sent.push(Sent::data(Forward, 0, 0, &data, 1).flags(SYN).port(port));
        sent.push(Sent::data(Forward, 1 << 30, 0, &data, 1).flags(SYN).port(port));
    }
    let mut run = run_with(limits, &sent);
    assert!(run.table.buffered_bytes() <= 50_000);
    let swapped = after_handshake(&[
        Sent::data(Forward, 4, 0, &data, 2),
        Sent::data(Forward, 0, 0, b"GET ", 3),
    ]);
    swapped.iter().for_each(|one| run.take(one));
    assert_eq!(run.table.stats().gaps, 0);
    assert!(
        run.heard.iter().any(|heard| matches!(heard, Heard::Bytes(_, text) if text.len() == 1404))
    );
    run.end();
    assert_eq!(run.table.buffered_bytes(), 0);
}
