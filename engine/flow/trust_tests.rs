//! What a stranger sends changes nothing that is told of the connection, and what an outage of the
//! capture hides does not hide what follows.

use super::tests::Heard::{self, Gap, Reset};
use super::tests::{Run, Sent, after_handshake, bytes, handshake, run};
use crate::decode::TcpFlags;
use crate::ids::Direction::{self, Forward, Reverse};
use proptest::prelude::*;

const ACK: u8 = TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;
const SYN: u8 = TcpFlags::SYN;

/// The window that all segments of these tests advertise. Their SYNs have no scale option.
const WINDOW: u32 = 65_535;

/// Requests and responses in turn, from `number` on, each acknowledged, one every 10 ms. Returns
/// the segments and where both streams are then.
fn talk(count: u32, mut at: [u32; 2], mut at_ms: u64) -> (Vec<Sent>, [u32; 2]) {
    let mut sent = Vec::new();
    for _ in 0..count {
        sent.push(Sent::data(Forward, at[0], at[1], b"GET /abc", at_ms));
        at[0] += 8;
        sent.push(Sent::data(Reverse, at[1], at[0], b"response", at_ms + 1));
        at[1] += 8;
        sent.push(Sent::data(Forward, at[0], at[1], b"", at_ms + 2));
        at_ms += 10;
    }
    (sent, at)
}

fn talked(count: usize) -> Vec<Heard> {
    let both = [bytes(Forward, "GET /abc"), bytes(Reverse, "response")];
    (0..count).flat_map(|_| both.clone()).collect()
}

/// What is heard up to the end of the capture.
fn heard(sent: &[Sent]) -> (Vec<Heard>, Run) {
    let mut run = run(sent);
    run.end();
    (run.heard.clone(), run)
}

/// Farther than any window of these tests, also than one whose scale is not known.
const FAR: u32 = 1 << 21;

/// A segment that no endpoint accepts: its offsets are far from those of the streams, or it has
/// data and acknowledges nothing.
fn forged() -> impl Strategy<Value = (bool, u8, Option<u32>, Option<u32>, usize)> {
    let far = || FAR..u32::MAX - FAR;
    let some = || prop::option::weighted(0.7, far());
    let all = (any::<bool>(), any::<u8>(), some(), some(), 0..20_usize, far());
    all.prop_map(|(is_forward, flags, seq, ack, len, seq_if_needed)| {
        let is_ack = flags & ACK != 0;
        // Without ACK, what is no SYN and no RST must carry something.
        let carries = len > 0 || flags & TcpFlags::FIN != 0;
        let is_outside = match flags & (SYN | RST) {
            0 => seq.is_some() || if is_ack { ack.is_some() } else { carries },
            _ => seq.is_some(),
        };
        let seq = if is_outside { seq } else { Some(seq_if_needed) };
        (is_forward, flags, seq, ack, len)
    })
}

proptest! {
    /// Whatever strangers send between the segments of an honest dialogue, the dialogue is heard.
    #[test]
    fn strangers_change_nothing(
        strangers in prop::collection::vec((0..90_usize, forged()), 0..60),
        is_late: bool,
    ) {
        let (honest, end) = talk(30, [0; 2], 1);
        let mut sent = if is_late { Vec::new() } else { handshake() };
        let mut at = [0; 2];
        for (number, one) in honest.iter().enumerate() {
            sent.push(one.clone());
            let own = one.direction().index();
            at[own] = one.end();
            // Before both sides have spoken, nothing is known of a connection that is joined late.
            let here = if is_late && number < 3 { &[][..] } else { &strangers[..] };
            for (_, (is_forward, flags, seq, ack, len)) in here.iter().filter(|it| it.0 == number) {
                let way = if *is_forward { Forward } else { Reverse };
                let (own, peer) = (way.index(), 1 - way.index());
                let place = |far: Option<u32>, near: u32| near.wrapping_add(far.unwrap_or(0));
                let payload = &b"forged payload......"[..*len];
                let (seq, ack) = (place(*seq, at[own]), place(*ack, at[peer]));
                let forged = Sent::data(way, seq, ack, payload, one.at_ms).flags(*flags);
                sent.push(forged);
            }
        }
        prop_assert_eq!(at, end);
        let (heard, run) = heard(&sent);
        prop_assert_eq!(heard, talked(30));
        prop_assert_eq!(run.table.stats().gaps, 0);
    }
}

#[test]
fn a_window_ends_where_it_was_advertised_to_end() {
    // The client has read 1000 bytes of the response, and advertises a window behind them.
    let begun = after_handshake(&[
        Sent::data(Reverse, 0, 0, &[b'r'; 1000], 1),
        Sent::data(Forward, 0, 1000, b"", 2),
    ]);
    let rest = "r".repeat(1000);
    for (offset, is_inside) in [(1000 + WINDOW, true), (1001 + WINDOW, false), (1 << 31, false)] {
        let behind = Sent::data(Reverse, offset, 0, b"?", 3);
        let mut run = run(&[&begun[..], &[behind]].concat());
        assert_eq!(run.table.stats().left_refused(), u64::from(!is_inside), "{offset}");
        assert_eq!(run.table.stats().segments_out_of_order, u64::from(is_inside), "{offset}");
        // What waited outside of every window is nobody's message at the end.
        run.end();
        assert_eq!(run.heard[0], bytes(Reverse, &rest));
        assert_eq!(run.heard.len() > 1, is_inside, "{:?}", run.heard);
    }
    // An acknowledgment is held to what the other side may send.
    for (ack, is_inside) in [(1000 + WINDOW, true), (1 << 29, false)] {
        let wild = Sent::data(Forward, 0, ack, b"", 3);
        let (heard, run) = heard(&[&begun[..], &[wild]].concat());
        assert_eq!(run.table.stats().left_refused(), u64::from(!is_inside), "{ack}");
        let gap_bytes = if is_inside { u64::from(WINDOW) } else { 0 };
        assert_eq!((heard.len() > 1, run.table.stats().gap_bytes), (is_inside, gap_bytes));
    }
}

/// A SYN or SYN-ACK with a window scale option.
fn scaled(mut sent: Sent, shift: u8) -> Sent {
    sent.header = vec![0; 20];
    sent.header.extend([2, 4, 5, 0xb4, 1, 3, 3, shift]);
    sent
}

#[test]
fn a_window_is_scaled_if_both_syns_agree_to_it() {
    let [syn, syn_ack, ack] = handshake().try_into().expect("three segments");
    let far = Sent::data(Reverse, 200_000, 0, b"behind", 2);
    for (shifts, is_inside) in [
        ([Some(2), Some(7)], true),
        ([Some(1), Some(7)], false),
        ([Some(7), None], false),
        ([None, Some(7)], false),
    ] {
        let with = |sent: &Sent, shift: Option<u8>| match shift {
            Some(shift) => scaled(sent.clone(), shift),
            None => sent.clone(),
        };
        let begun = [with(&syn, shifts[0]), with(&syn_ack, shifts[1]), ack.clone()];
        let run = run(&[&begun[..], std::slice::from_ref(&far)].concat());
        assert_eq!(run.table.stats().left_refused(), u64::from(!is_inside), "{shifts:?}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn where_the_scale_is_not_known_the_window_is_what_was_in_flight() {
    // Joined late: 3 MB in flight are acknowledged at once.
    let request = Sent::data(Forward, 0, 0, b"GET / HTTP/1.1\r\n", 0);
    let mut sent = vec![request, Sent::data(Reverse, 0, 16, b"response", 1)];
    sent.push(Sent::data(Forward, 16, 8, b"", 1));
    sent.extend((0..50).map(|at| Sent::data(Reverse, 8 + at * 60_000, 16, &[b'r'; 60_000], 2)));
    sent.push(Sent::data(Forward, 16, 3_000_008, b"", 3));
    for (ahead, is_inside) in [(5_000_000, true), (7_000_000, false)] {
        let hole = Sent::data(Reverse, 3_000_008 + ahead, 16, b"behind", 4);
        let run = run(&[&sent[..], &[hole]].concat());
        assert_eq!(run.table.stats().left_refused(), u64::from(!is_inside), "{ahead}");
    }
}

#[test]
fn data_without_an_acknowledgment_is_no_data() {
    let (honest, _) = talk(2, [0; 2], 1);
    let mut sent = after_handshake(&honest[..3]);
    sent.push(Sent::data(Forward, 8, 0, b"forged..", 5).flags(0));
    sent.push(Sent::data(Forward, 8, 0, b"", 5).flags(TcpFlags::FIN));
    sent.extend_from_slice(&honest[3..]);
    let (heard, run) = heard(&sent);
    assert_eq!((heard, run.table.stats().segments_without_ack), (talked(2), 2));
}

#[test]
fn the_answer_that_the_client_acknowledges_is_the_servers() {
    let [syn, syn_ack, ack] = handshake().try_into().expect("three segments");
    let (honest, _) = talk(2, [0; 2], 1);
    let forged = |offset: u32| Sent::data(Reverse, offset, 0, b"", 0).flags(SYN | ACK);
    for (before, behind) in
        [(vec![1_000_000], vec![]), (vec![], vec![9 << 20]), (vec![7 << 28], vec![5])]
    {
        let forged = |offsets: &[u32]| offsets.iter().map(|at| forged(*at)).collect::<Vec<_>>();
        let sent = [vec![syn.clone()], forged(&before), vec![syn_ack.clone()], forged(&behind)];
        let sent = [sent.concat(), vec![ack.clone()], honest.clone()].concat();
        let (heard, run) = heard(&sent);
        assert_eq!((heard, run.table.stats().gaps), (talked(2), 0), "{before:?} {behind:?}");
    }
}

#[test]
fn data_on_a_syn_count_once_they_are_acknowledged() {
    let [_, syn_ack, ack] = handshake().try_into().expect("three segments");
    let with_data = Sent::data(Forward, 0, 0, b"forged..", 0).flags(SYN);
    let (honest, _) = talk(2, [0; 2], 1);
    let sent = [vec![with_data, syn_ack, ack], honest].concat();
    assert_eq!(heard(&sent).0, talked(2));
}

#[test]
fn a_syn_again_after_a_reset_opens_another_connection() {
    let mut sent = after_handshake(&[
        Sent::data(Forward, 0, 0, b"GET /abc", 1),
        Sent::data(Reverse, 0, 8, b"", 2).flags(RST | ACK),
    ]);
    let again = |at_ms: u64| {
        let mut again = handshake();
        again.extend(talk(1, [0; 2], 0).0);
        again.iter_mut().for_each(|one| one.at_ms += at_ms);
        again
    };
    // A copy that comes late opens nothing.
    sent.extend(again(50).into_iter().take(1));
    assert_eq!(run(&sent).table.stats().flows, 1);
    sent.extend(again(2_000));
    let (heard, run) = heard(&sent);
    assert_eq!(run.table.stats().flows, 2);
    assert_eq!(heard, [vec![bytes(Forward, "GET /abc"), Reset], talked(1)].concat());
}

#[test]
fn a_forged_syn_does_not_end_a_live_connection() {
    let mut sent = after_handshake(&[Sent::data(Forward, 0, 0, b"one", 1)]);
    sent.push(Sent::data(Forward, 900_000, 0, b"", 2).flags(TcpFlags::SYN));
    sent.push(Sent::data(Forward, 3, 0, b"two", 3));
    sent.push(Sent::data(Forward, 900_000, 0, b"late", 400_000));
    let run = run(&sent);
    assert_eq!(run.table.stats().flows, 1);
    assert_eq!(run.flushed(), [bytes(Forward, "onetwo")]);
}

#[test]
fn a_handshake_with_data_of_both_sides_ends_it() {
    let mut sent = after_handshake(&[Sent::data(Forward, 0, 0, b"one", 1)]);
    sent.push(Sent::data(Forward, 900_000, 0, b"", 2).flags(TcpFlags::SYN));
    sent.push(Sent::data(Reverse, 700_000, 900_000, b"", 3).flags(TcpFlags::SYN | TcpFlags::ACK));
    sent.push(Sent::data(Forward, 900_000, 700_000, b"new", 4));
    let stats = |run: &Run| (run.table.stats().flows, run.table.stats().flows_reused);
    // Anybody can forge the first three. If the connection itself goes on, they were.
    let mut forged = sent.clone();
    forged.push(Sent::data(Forward, 3, 0, b"two", 5));
    let forged = run(&forged);
    assert_eq!((stats(&forged), forged.table.stats().handshakes_refused), ((1, 0), 1));
    assert_eq!(forged.flushed(), [bytes(Forward, "onetwo")]);
    // If it is not heard of again, the next one was waiting for its answer.
    let mut unanswered = run(&sent);
    unanswered.end();
    assert_eq!((stats(&unanswered), unanswered.heard), ((2, 0), vec![bytes(Forward, "onenew")]));
    sent.push(Sent::data(Reverse, 700_000, 900_003, b"answer", 6));
    let answered = run(&sent);
    assert_eq!(stats(&answered), (2, 1));
    assert_eq!(answered.flushed(), [bytes(Forward, "onenew"), bytes(Reverse, "answer")]);
}

/// A forged handshake with data of the client, at `offset` from both streams.
fn rival(offset: u32, at_ms: u64) -> Vec<Sent> {
    vec![
        Sent::data(Forward, offset, 0, b"", at_ms).flags(SYN),
        Sent::data(Reverse, offset, offset, b"", at_ms).flags(SYN | ACK),
        Sent::data(Forward, offset, offset, b"", at_ms),
        Sent::data(Forward, offset, offset, b"forged..", at_ms),
        Sent::data(Forward, offset + 8, offset, b"forged..", at_ms),
    ]
}

#[test]
fn a_forged_handshake_changes_nothing() {
    for offset in [100_000_000, 3_000_000_000, 70_000_u32] {
        let (before, at) = talk(5, [0; 2], 1);
        let (behind, _) = talk(5, at, 100);
        let sent = [before, rival(offset, 60), rival(offset + 2_000_000, 61), behind].concat();
        let (heard, run) = heard(&after_handshake(&sent));
        assert_eq!(heard, talked(10), "{offset}");
        assert_eq!((run.table.stats().flows, run.table.stats().flows_reused), (1, 0));
        assert!(run.table.stats().handshakes_refused > 0);
        assert_eq!(run.table.buffered_bytes(), 0, "what was held was given back");
    }
}

/// The segments of a dialogue in which `count` exchanges are not captured.
fn with_outage(count: u32, size: u32, is_kept: impl Fn(Direction) -> bool) -> Vec<Sent> {
    let (mut sent, mut at) = talk(5, [0; 2], 1);
    let (body, mut at_ms) = (vec![b'b'; size as usize], 100);
    for _ in 0..count {
        let lost = [
            Sent::data(Forward, at[0], at[1], &body, at_ms),
            Sent::data(Reverse, at[1], at[0] + size, &body, at_ms),
        ];
        sent.extend(lost.into_iter().filter(|one| is_kept(one.direction())));
        at = at.map(|at| at + size);
        at_ms += 1;
    }
    sent.extend(talk(40, at, at_ms + 5_000).0);
    after_handshake(&sent)
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn after_an_outage_the_connection_is_found_again() {
    let behind = talked(40);
    // 60 MB each way, far outside the windows; and less than a window.
    for (count, size) in [(1000, 60_000), (10, 100)] {
        let (heard, run) = heard(&with_outage(count, size, |_| false));
        let gap_bytes = 2 * u64::from(count * size);
        assert_eq!(run.table.stats().gap_bytes, gap_bytes, "every lost byte is told");
        assert_eq!(heard[heard.len() - behind.len()..], behind, "all that follows is heard");
        assert_eq!((run.table.stats().flows, run.table.buffered_bytes()), (1, 0));
        assert_eq!(run.table.stats().anchors, u64::from(count == 1000));
    }
    // Of one direction only.
    for lost in [Forward, Reverse] {
        let (heard, run) = heard(&with_outage(1000, 60_000, |direction| direction != lost));
        assert_eq!(run.table.stats().gap_bytes, 60_000_000, "{lost:?}");
        assert_eq!(heard[heard.len() - behind.len()..], behind, "{lost:?}");
    }
}

#[test]
fn after_an_outage_a_download_goes_on_at_once() {
    let mut sent = after_handshake(&talk(3, [0; 2], 1).0);
    // The client sends nothing but acknowledgments: one side continues exactly.
    for at in 0..20 {
        let offset = 500_000_000 + at * 1000;
        sent.push(Sent::data(Reverse, offset, 24, &[b'd'; 1000], 50));
        sent.push(Sent::data(Forward, 24, offset + 1000, b"", 50));
    }
    let (heard, run) = heard(&sent);
    assert_eq!((run.table.stats().anchors, run.table.stats().left_refused()), (1, 0));
    assert_eq!(heard[6..], [Gap(Reverse, 500_000_000 - 24), bytes(Reverse, &"d".repeat(20_000))]);
}

#[test]
fn after_an_outage_of_a_single_captured_direction_it_is_found_again() {
    let one = |at: u32, at_ms: u64| Sent::data(Forward, at, at * 3, b"GET /abc", at_ms);
    let mut sent: Vec<Sent> = (0..5).map(|number| one(number * 8, number.into())).collect();
    sent.extend((0..20).map(|number| one((1 << 28) + number * 8, 5_000 + u64::from(number) * 200)));
    let (heard, run) = heard(&sent);
    assert_eq!(run.table.stats().anchors, 1);
    assert_eq!(heard.last(), Some(&bytes(Forward, &"GET /abc".repeat(20))));
}
