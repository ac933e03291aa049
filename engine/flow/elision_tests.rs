//! Segments that reached user space without their data, as we had asked, and connections whose
//! bytes are not wanted.

use super::tests::{Heard, Sent, after_handshake, bytes, run};
use super::*;
use crate::decode::TcpFlags;
use crate::ids::Direction::{self, Forward, Reverse};

/// `len` bytes at `offset` that did not reach user space.
fn bare(direction: Direction, offset: u32, len: u32, at_ms: u64) -> Sent {
    let mut sent = Sent::data(direction, offset, 0, b"", at_ms);
    sent.cut_bytes = len;
    sent
}

/// A payload behind the filter is elided if nothing of it reached user space. Otherwise something
/// else cut it.
#[test]
fn what_a_filter_cut_off_is_elided_and_the_rest_is_lost() {
    for is_filtered in [true, false] {
        let mut one = run(&after_handshake(&[Sent::data(Forward, 0, 0, b"head", 1)]));
        if is_filtered {
            one.table.set_filtered();
        }
        one.take(&bare(Forward, 4, 1000, 2));
        let mut cut = Sent::data(Forward, 1004, 0, b"some", 3);
        cut.cut_bytes = 2000;
        one.take(&cut);
        let stats = one.table.stats();
        let expected = if is_filtered { (1000, 2000) } else { (0, 3000) };
        assert_eq!((stats.bytes_elided, stats.bytes_cut), expected);
        let first = match is_filtered {
            true => Heard::Elided(Forward, 1000),
            false => Heard::Gap(Forward, 1000),
        };
        let expected =
            [bytes(Forward, "head"), first, bytes(Forward, "some"), Heard::Gap(Forward, 2000)];
        assert_eq!(one.flushed(), expected);
    }
}

#[test]
fn elided_segments_wait_and_overlap_as_others_do() {
    let mut one = run(&after_handshake(&[Sent::data(Forward, 0, 0, b"head", 1)]));
    one.table.set_filtered();
    one.take(&bare(Forward, 1004, 500, 2));
    one.take(&bare(Forward, 1304, 700, 2)); // overlaps the one before
    one.take(&bare(Forward, 4, 1100, 2)); // and so does this
    one.take(&bare(Forward, 4, 1000, 3)); // sent again
    one.take(&Sent::data(Forward, 2004, 0, b"tail", 4));
    assert_eq!(one.table.stats().bytes_elided, 2000);
    let heard = one.flushed();
    let elided = |one: &Heard| if let Heard::Elided(_, len) = one { *len } else { 0 };
    assert_eq!(heard.iter().map(elided).sum::<u64>(), 2000);
    assert_eq!(heard.last(), Some(&bytes(Forward, "tail")));
    assert!(!heard.iter().any(|one| matches!(one, Heard::Gap(..))), "{heard:?}");
}

#[test]
fn a_connection_is_told_from_others_by_its_own_numbers() {
    let mut opened = run(&after_handshake(&[]));
    let index = opened.table.indices()[0];
    let (_, connection, ()) = opened.table.link(index).expect("a flow");
    let first = |way| connection.next(way).map(|next| SeqNumber(next.0.wrapping_sub(1)));
    assert_eq!(connection.number(Forward), first(Forward));
    assert_eq!(connection.number(Reverse), first(Reverse));
    // Midstream: the position of the first segment, for both directions.
    let mut late = run(&[
        Sent::data(Forward, 70, 0, b"GET / HTTP/1.1\r\n", 1),
        Sent::data(Reverse, 50, 86, b"HTTP/1.1 200 OK\r\n", 2),
        Sent::data(Forward, 86, 66, b"", 20),
    ]);
    let index = late.table.indices()[0];
    let (_, connection, ()) = late.table.link(index).expect("a flow");
    assert!(connection.is_joined_late());
    let joined = SeqNumber(connection.next(Forward).expect("it has begun").0.wrapping_sub(16));
    assert_eq!(
        (connection.number(Forward), connection.number(Reverse)),
        (Some(joined), Some(joined))
    );
    // Of a connection whose SYN-ACK was not seen, one number is known.
    let mut half = run(&[Sent::data(Forward, 0, 0, b"", 0).flags(TcpFlags::SYN)]);
    let index = half.table.indices()[0];
    let (_, connection, ()) = half.table.link(index).expect("a flow");
    assert!(connection.number(Forward).is_some() && connection.number(Reverse).is_none());
}

#[test]
fn a_dormant_flow_gives_way_to_what_begins_like_a_message() {
    let mut one = run(&after_handshake(&[Sent::data(Forward, 0, 0, b"hello", 1)]));
    let index = one.table.indices()[0];
    one.table.bypass(index, Bypassed::Dormant);
    one.take(&Sent::data(Forward, 5, 0, b"more of it", 2));
    // It is remembered longer than a closed one.
    one.take(&Sent::data(Forward, 15, 0, b"GET / HTTP/1.1\r\n", 100_000));
    assert_eq!((one.table.len(), one.table.stats().flows), (1, 2));
    let index = one.table.indices()[0];
    assert!(one.table.parts(index).expect("a flow").1.is_midstream());
    assert_eq!(one.flushed(), [bytes(Forward, "helloGET / HTTP/1.1\r\n")]);
}

#[test]
fn a_retired_flow_is_remembered_and_its_bytes_begin_nothing() {
    let mut one = run(&after_handshake(&[Sent::data(Forward, 0, 0, b"hello", 1)]));
    let index = one.table.indices()[0];
    one.table.bypass(index, Bypassed::Closed);
    for number in 0..5 {
        one.take(&Sent::data(Forward, 5 + 100 * number, 0, b"GET / HTTP/1.1\r\n", 4_000));
    }
    assert_eq!((one.table.len(), one.table.stats().flows), (1, 1));
    // The next handshake on the same endpoints begins a new one.
    one.take(&Sent::data(Forward, 90_000, 0, b"", 4_001).flags(TcpFlags::SYN));
    one.take(&Sent::data(Forward, 90_000, 0, b"GET / HTTP/1.1\r\n", 4_002));
    assert_eq!((one.table.len(), one.table.stats().flows), (1, 2));
    assert_eq!(one.flushed(), [bytes(Forward, "helloGET / HTTP/1.1\r\n")]);
}
