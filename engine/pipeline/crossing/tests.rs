//! The queues between shards: who gets what, and how much may wait.

use super::*;
use crate::decode::{SeqNumber, TcpFlags, TunnelPath};
use crate::ids::{Direction, FlowHashKey, FlowKey, IfaceId};
use crate::time::TimestampNs;

const BYTES_MAX: usize = 10_000;

fn key(port: u16) -> FlowKey {
    FlowKey { port: [[0, 80], port.to_be_bytes()], ..FlowKey::default() }
}

fn segment(key: FlowKey, payload: &[u8]) -> Segment<'_> {
    Segment {
        key,
        direction: Direction::Forward,
        seq: SeqNumber(1),
        ack: None,
        flags: TcpFlags(TcpFlags::ACK),
        window: 65_535,
        header: &[],
        is_checksum_trusted: false,
        payload,
        payload_wire_bytes: payload.len() as u32,
        timestamp: TimestampNs(7),
        iface: IfaceId(3),
        tunnel: TunnelPath::default(),
    }
}

fn ends(count: u16) -> Vec<(Outward, Inward)> {
    let parts = Part::all(count, FlowHashKey::random());
    Crossing::between(&parts, BYTES_MAX).into_iter().map(Crossing::split).collect()
}

/// Keys that belong to `shard`.
fn keys_of(end: &(Outward, Inward), shard: u16) -> impl Iterator<Item = FlowKey> {
    let part = end.0.part;
    (0..=u16::MAX).map(key).filter(move |key| part.owner(key) == ShardId(shard))
}

#[test]
fn a_segment_goes_to_the_shard_of_its_connection_or_stays() {
    let mut ends = ends(3);
    for shard in 0..3 {
        let key = keys_of(&ends[0], shard).next().expect("one of 65,536");
        let sent = ends[1].0.forward(&segment(key, b"whole"));
        assert_eq!(sent, if shard == 1 { Ok(()) } else { Err(Reject::PassedOn) });
        assert_eq!(ends[usize::from(shard)].1.is_empty(), shard == 1);
        let taken = ends[usize::from(shard)].1.take();
        assert_eq!(taken.is_none(), shard == 1);
        if let Some(taken) = taken {
            let taken = taken.segment();
            assert_eq!((taken.key, taken.payload), (key, &b"whole"[..]));
            assert_eq!((taken.timestamp, taken.iface), (TimestampNs(7), IfaceId(3)));
        }
        assert!(ends.iter().all(|end| end.1.is_empty() && end.1.take().is_none()));
    }
}

#[test]
fn a_full_queue_refuses_and_takes_again_once_it_is_read() {
    for payload_bytes in [0, 1, 2000, BYTES_MAX] {
        let mut ends = ends(2);
        let key = keys_of(&ends[0], 1).next().expect("one of 65,536");
        let payload = vec![b'x'; payload_bytes];
        let fitting_count = BYTES_MAX / (payload_bytes + SEGMENT_OVERHEAD_BYTES);
        for _ in 0..2 {
            let sent: Vec<_> =
                (0..100).map(|_| ends[0].0.forward(&segment(key, &payload))).collect();
            assert!(sent[..fitting_count].iter().all(|sent| *sent == Err(Reject::PassedOn)));
            assert!(sent[fitting_count..].iter().all(|sent| *sent == Err(Reject::NotPassedOn)));
            let taken = std::iter::from_fn(|| ends[1].1.take());
            assert_eq!(taken.count(), fitting_count);
            assert!(ends[1].1.is_empty());
        }
    }
}

#[test]
fn the_end_waits_until_the_others_have_closed_their_ways() {
    let mut ends = ends(3);
    let key = keys_of(&ends[0], 0).next().expect("one of 65,536");
    let (third, second, (first_out, first_in)) =
        (ends.pop().expect("3"), ends.pop().expect("2"), ends.pop().expect("1"));
    drop(first_out);
    std::thread::scope(|scope| {
        for (mut outward, _inward) in [second, third] {
            scope.spawn(move || {
                for _ in 0..10 {
                    assert_eq!(outward.forward(&segment(key, b"late")), Err(Reject::PassedOn));
                }
            });
        }
        assert_eq!(std::iter::from_fn(|| first_in.wait()).count(), 20);
    });
}

#[test]
fn a_shard_that_failed_gets_nothing() {
    let mut ends = ends(2);
    let key = keys_of(&ends[0], 1).next().expect("one of 65,536");
    drop(ends.pop());
    assert_eq!(ends[0].0.forward(&segment(key, b"lost")), Err(Reject::NotPassedOn));
}

#[test]
fn the_horizon_is_that_of_the_slowest_other_shard() {
    let mut ends = ends(3);
    let horizons = |ends: &[(Outward, Inward)]| -> Vec<u64> {
        ends.iter().map(|end| end.1.horizon().0).collect()
    };
    assert_eq!(horizons(&ends), [0, 0, 0]);
    for (shard, time) in [5, 7, 9].into_iter().enumerate() {
        ends[shard].1.publish_progress(Some(TimestampNs(time)));
        ends[shard].1.publish_progress(None);
    }
    assert_eq!(horizons(&ends), [7, 5, 5]);
    drop(ends.remove(0));
    assert_eq!(horizons(&ends), [9, 7]);
    assert_eq!(self::ends(1)[0].1.horizon(), TimestampNs(u64::MAX));
}
