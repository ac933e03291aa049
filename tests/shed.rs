//! Connections that are no longer captured, since rings overflow: whole exchanges are missing and
//! counted, and none has a hole.

use httplines::capture::{Frame, FrameSource, LinkType, Polled, SourceError};
use httplines::ids::{FlowKey, Share};
use httplines::record::Outcome;
use httplines::{Config, Event, Pipeline};

use crate::support::capture_file::WrittenFrame;
use crate::support::conversation::Conversation;

const START_NS: u64 = 1_700_000_000_000_000_000;
const CONNECTION_COUNT: u16 = 64;

/// Delivers frames once.
struct Once(Vec<WrittenFrame>);

impl FrameSource for Once {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        let frames = std::mem::take(&mut self.0);
        frames.iter().for_each(|frame| visit(frame.as_frame(LinkType::Ethernet)));
        Ok(Polled::Frames(frames.len()))
    }
}

/// Three exchanges on a connection of its own, of which the second one is shed: the frames until
/// then, the rest of the second exchange, and the third.
fn parts(number: u16) -> [Vec<WrittenFrame>; 3] {
    let mut talk = Conversation::new(&format!("10.0.0.9:{}", 4000 + number), "10.0.0.1:80");
    talk.handshake();
    let mut ends = Vec::new();
    for n in 0..3 {
        talk.client(format!("GET /{number}/{n} HTTP/1.1\r\n\r\n").as_bytes());
        ends.push(talk.frames(START_NS, 1000).len());
        talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    talk.finish();
    let mut frames = talk.frames(START_NS, 1000);
    let third = frames.split_off(ends[1] + 2);
    let second = frames.split_off(ends[1]);
    [frames, second, third]
}

fn hash(number: u16) -> u32 {
    let end = |last: u8, port: u16| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[10, 0, 0, last]);
        (address, port.to_be_bytes())
    };
    FlowKey::new(end(9, 4000 + number), end(1, 80), [0; 4], 0).0.sample_hash()
}

#[test]
fn exchanges_are_missing_whole() {
    let numbers = || 0..CONNECTION_COUNT;
    let mut reported = Vec::new();
    let share = Share::new(u32::MAX);
    let sink = |event: Event<'_>| {
        if let Event::Exchange(record) = event {
            assert_eq!(record.exchange.outcome, Some(Outcome::Complete));
            assert_eq!(record.exchange.gap_bytes, 0);
            let line = record.exchange.request.start_line().to_vec();
            reported.push(String::from_utf8(line).expect("text"));
        }
    };
    let mut pipeline = Pipeline::new(&Config::default(), sink).with_share(Some(share.clone()));
    let half = u32::MAX / 2;
    for (part, share_max) in [u32::MAX, half, u32::MAX].into_iter().enumerate() {
        share.set(share_max);
        let frames = numbers().flat_map(|number| parts(number)[part].clone()).collect();
        pipeline.poll(&mut Once(frames)).expect("memory can be read");
    }
    pipeline.finish();
    let shed_count = numbers().filter(|number| hash(*number) > half).count() as u64;
    assert!((16..48).contains(&shed_count), "about half: {shed_count}");
    let stats = pipeline.stats();
    assert_eq!(
        [stats.decode.shed, stats.protocol.exchanges.exchanges_shed],
        [2 * shed_count, shed_count]
    );
    assert_eq!(stats.flow.gaps, 0);
    assert_eq!(pipeline.exchanges_in_use(), 0);
    drop(pipeline);
    let is_shed = |number: u16, n: usize| n == 1 && hash(number) > half;
    let all = numbers().flat_map(|number| (0..3).map(move |n| (number, n)));
    let wanted = all.filter(|(number, n)| !is_shed(*number, *n));
    let mut wanted: Vec<_> =
        wanted.map(|(number, n)| format!("GET /{number}/{n} HTTP/1.1")).collect();
    wanted.sort_unstable();
    reported.sort_unstable();
    assert_eq!(reported, wanted);
}

/// Needs root; otherwise the test reports that it was skipped.
mod root {
    use crate::support::lab::{self, End, Lab, Offload, SERVER, SERVER_IFACE};
    use crate::support::skip;

    /// More traffic than the smallest ring holds.
    const REQUEST_COUNT: usize = 20_000;
    const CONNECTION_COUNT: usize = 64;

    #[test]
    fn a_capture_that_drops_frames_goes_on_with_fewer_connections() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let args = ["-i", SERVER_IFACE, "--shed", "--shards", "1", "-B", "2048", "-o", "out.jsonl"];
        let mut running = lab.start_httplines(End::Server, &args);
        // While it does not run, nobody empties its ring.
        running.signal("STOP");
        lab.wrk(SERVER[0], CONNECTION_COUNT, REQUEST_COUNT);
        running.signal("CONT");
        running.await_stderr("of the connections are captured from now on");
        lab.wrk(SERVER[0], CONNECTION_COUNT, REQUEST_COUNT / 100);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        finished.told("of the connections were captured, not all for");
        let rejected = finished.stderr.lines().find(|line| line.contains("  rejected "));
        assert!(rejected.is_some_and(|line| line.contains(" shed")), "{}", finished.stderr);
    }
}
