//! A segment that the fanout sent to the wrong shard is counted there.

use crate::support::packet::{ACK, Packet};
use httplines::capture::{Frame, FrameSource, LinkType, Polled, SourceError};
use httplines::config::{Config, Input};
use httplines::ids::{IfaceId, IfaceNames, ShardId};
use httplines::output::{Limits, MemorySink, Policy, RecordWriter, Writer};
use httplines::pipeline::{Part, Partition};
use httplines::record::JsonFormat;
use httplines::shard::{Shard, ShardStats, StopSignal};
use httplines::time::TimestampNs;
use std::net::SocketAddr;

const SHARDS: u16 = 3;

/// Frames in memory, all at once.
struct Source<'a>(&'a [Vec<u8>]);

impl FrameSource for Source<'_> {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        for bytes in std::mem::take(&mut self.0) {
            visit(Frame {
                bytes,
                wire_bytes: bytes.len() as u32,
                timestamp: TimestampNs(1),
                link: LinkType::Ethernet,
                vlan: None,
                iface: IfaceId(1),
                is_checksum_trusted: false,
            });
        }
        Ok(Polled::End)
    }
}

fn run(frames: &[Vec<u8>], partition: Partition) -> ShardStats {
    let config = Config::new(Input::Stdin);
    let limits = Limits::from(&config.emit);
    let (mut senders, writer) =
        Writer::start(vec![Box::new(MemorySink::new())], 1, limits, Policy::Wait)
            .expect("a thread");
    let format = Box::new(JsonFormat::new(&config.emit, IfaceNames::default()));
    let records = RecordWriter::new(format, senders.remove(0), None, false);
    let (stats, result) =
        Shard::new(&config, Source(frames), partition, records).run(&StopSignal::default(), |_| {});
    result.expect("the source has no faults");
    writer.finish().1.expect("the sink has no faults");
    stats
}

#[test]
fn segments_at_another_shard_are_counted_and_used() {
    let server = SocketAddr::from(([10, 1, 0, 1], 80));
    let frames: Vec<_> = (0..90)
        .map(|n| {
            let client = SocketAddr::from(([10, 1, 0, 9], 40_000 + n));
            Packet::tcp(client, server).flags(ACK).payload(b"GET / HTTP/1.1\r\n\r\n").ethernet()
        })
        .collect();
    let all = frames.len() as u64;
    let part = |shard| Part { shard: ShardId(shard), count: SHARDS };
    let mut own_sum = 0;
    for shard in 0..SHARDS {
        let own = run(&frames, Partition::Part(part(shard))).pipeline.frames;
        let sent = run(&frames, Partition::Sent(part(shard))).pipeline;
        assert_eq!((sent.frames, sent.segments_misplaced), (all, all - own), "shard {shard}");
        assert!(own > 0 && own < all, "shard {shard} has {own} of {all}");
        own_sum += own;
    }
    assert_eq!(own_sum, all, "a connection has one shard");
}
