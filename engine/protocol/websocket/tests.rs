//! The frame reader against a naive twin: random frames, in pieces of any length, of which some are
//! lost and some are cut off by the filter. And which bytes need not reach user space.

use super::{Opening, Talk, WebSocket};
use crate::config::HttpConfig;
use crate::decode::{SeqNumber, TunnelPath};
use crate::flow::{End, Handshake, SegmentMeta};
use crate::ids::{Direction, FlowKey, IfaceId};
use crate::protocol::{ConnectionState, FlowRef, Shared};
use crate::record::{Event, EventSink, Exchange, Outcome, WebSocketCounts};
use crate::time::TimestampNs;
use Direction::{Forward, Reverse};
use proptest::prelude::*;

/// What was told of a talk.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Told {
    counts: [Option<WebSocketCounts>; 2],
    pings: Option<u64>,
    pongs: Option<u64>,
    gap_bytes: u64,
    is_conflict: bool,
    outcome: Option<Outcome>,
    code: Option<u16>,
    reason: Vec<u8>,
}

#[derive(Debug, Default)]
struct Sink(Vec<Told>);

impl EventSink for Sink {
    fn event(&mut self, event: Event<'_>) {
        let Event::WebSocket(talk) = event else { return };
        self.0.push(Told {
            counts: [talk.client, talk.server],
            pings: talk.pings,
            pongs: talk.pongs,
            gap_bytes: talk.gap_bytes,
            is_conflict: talk.is_conflict,
            outcome: talk.outcome,
            code: talk.close.and_then(|close| close.code),
            reason: talk.close.map(|close| close.reason.to_vec()).unwrap_or_default(),
        });
    }
}

struct TestTalk {
    talk: Box<Talk>,
    shared: Shared<Sink>,
    sent: [u32; 2],
}

impl TestTalk {
    fn new() -> TestTalk {
        let mut shared = Shared::new(HttpConfig::default(), Sink::default());
        let head = b"HTTP/1.1 101 S\r\n\r\n";
        let opening = Opening::new(&Exchange::default(), head, TimestampNs(0));
        let talk = Talk::open(&mut shared, opening, Forward);
        TestTalk { talk, shared, sent: [0; 2] }
    }

    fn advance(&mut self, direction: Direction, len_bytes: usize) -> SegmentMeta {
        let seq = SeqNumber(self.sent[direction.index()]);
        self.sent[direction.index()] += len_bytes as u32;
        SegmentMeta {
            timestamp: TimestampNs(1),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: None,
            seq,
            is_frame_start: true,
        }
    }

    fn pass(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        let meta = self.advance(direction, bytes.len());
        self.talk.bytes(&mut self.shared, direction, bytes, &meta)
    }

    fn lose(&mut self, direction: Direction, len_bytes: usize) -> bool {
        self.advance(direction, len_bytes);
        self.talk.gap(&mut self.shared, direction, len_bytes as u64)
    }

    fn elide(&mut self, direction: Direction, len_bytes: usize) -> bool {
        let meta = self.advance(direction, len_bytes);
        self.talk.elided(&mut self.shared, direction, len_bytes as u32, &meta)
    }

    /// The next bytes of the direction that need not reach user space, and how long ago the head
    /// before them ended.
    fn rest(&self, direction: Direction, bytes_min: u64) -> Option<(u32, u32)> {
        let elidable = self.talk.elidable_until(direction, bytes_min, 1 << 29)?;
        let sent = self.sent[direction.index()];
        Some((elidable.until.0.wrapping_sub(sent), sent.wrapping_sub(elidable.head_end.0)))
    }

    fn finish(mut self) -> Told {
        let (key, handshake) = (FlowKey::default(), Handshake::default());
        let flow = FlowRef { key: &key, handshake: &handshake };
        self.talk.finish(&mut self.shared, flow, 1, Some(End::Fin));
        self.talk.leave(&mut self.shared);
        assert_eq!(self.shared.held_bytes(), 0, "what was held was given back");
        assert_eq!(self.shared.recorder.sink.0.len(), 1, "it is told once");
        self.shared.recorder.sink.0.remove(0)
    }
}

/// How a byte of a stream reached us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Passed {
    Seen,
    Lost,
    Elided,
}

/// What the twin finds in a direction: it has all of its bytes, and looks at those that were seen.
#[derive(Debug, Default)]
struct Found {
    counts: WebSocketCounts,
    pings: u64,
    pongs: u64,
    is_lost: bool,
    is_closed: bool,
    is_conflict: bool,
    /// Lost bytes up to the end of the talk.
    gap_bytes: u64,
    /// The bytes of the close that are known, up to a hole.
    close: Option<Vec<u8>>,
    /// The place at the end: within the payload of a message, the bytes to come, and those that
    /// have passed.
    within: Option<(u64, u64)>,
}

/// The head of the frame at `at`; moves behind it. `None` if it is not known whole.
fn naive_head(
    bytes: &[u8],
    passed: &[Passed],
    at: &mut usize,
    is_lost: &mut bool,
) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let wanted = |head: &[u8]| match head {
        [] | [_] => 2,
        [_, second, ..] => {
            2 + match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            } + usize::from(second >> 7) * 4
        }
    };
    while head.len() < wanted(&head) && *at < passed.len() && !*is_lost {
        *is_lost = passed[*at] != Passed::Seen;
        head.push(bytes[*at]);
        *at += 1;
    }
    (!*is_lost && head.len() == wanted(&head)).then_some(head)
}

/// Counts a whole frame. `message` is the kind of the message in progress.
fn naive_frame(found: &mut Found, message: &mut Option<u8>, kind: u8, is_final: bool) {
    match kind {
        0 => found.is_conflict |= message.is_none(),
        1 | 2 => {
            found.is_conflict |= message.is_some();
            *message = Some(kind);
        }
        8 => found.is_closed = true,
        9 => found.pings += 1,
        10 => found.pongs += 1,
        _ => {}
    }
    if kind < 3 && is_final {
        match message.take() {
            Some(1) => found.counts.text += 1,
            Some(_) => found.counts.binary += 1,
            None => {}
        }
    }
}

/// Reads the frames of a direction, byte by byte.
fn naive(bytes: &[u8], passed: &[Passed], is_client: bool) -> Found {
    let mut found = Found::default();
    let (mut at, mut message) = (0, None);
    while let Some(head) = naive_head(bytes, passed, &mut at, &mut found.is_lost) {
        let long = |from: usize, len: usize| {
            head[from..from + len].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let is_masked = head[1] & 0x80 != 0;
        let len = match head[1] & 0x7f {
            126 => long(2, 2),
            127 => long(2, 8),
            len => len.into(),
        };
        let (kind, is_final) = (head[0] & 15, head[0] & 0x80 != 0);
        let is_known = matches!(kind, 0 | 1 | 2 | 8 | 9 | 10);
        found.is_conflict |= !is_known || is_masked != is_client || head[0] & 0x70 != 0;
        found.is_conflict |= kind >= 8 && (len > 125 || !is_final) || len >> 63 != 0;
        if len >> 63 != 0 {
            break;
        }
        let here = (passed.len() - at) as u64;
        let used = len.min(here) as usize;
        if kind < 3 {
            found.counts.message_bytes += used as u64;
        }
        if kind == 8 {
            let seen = passed[at..at + used].iter().take_while(|it| **it == Passed::Seen).count();
            let mask = if is_masked { &head[head.len() - 4..] } else { &[0; 4] };
            let payload = bytes[at..at + seen].iter().zip(mask.iter().cycle());
            found.close = Some(payload.map(|(byte, mask)| byte ^ mask).take(125).collect());
        }
        at += used;
        if (used as u64) < len {
            found.within = (kind < 3).then_some((len - used as u64, used as u64));
            break;
        }
        found.counts.frames += 1;
        naive_frame(&mut found, &mut message, kind, is_final);
        if found.is_closed {
            break;
        }
    }
    let end = if found.is_lost { passed.len() } else { at };
    found.gap_bytes = passed[..end].iter().filter(|it| **it == Passed::Lost).count() as u64;
    found
}

/// A frame in any form, mostly one that is allowed.
fn frame(is_client: bool) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        20 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let masked = prop_oneof![30 => Just(is_client), 1 => any::<bool>()];
    let len = prop_oneof![8 => 0..8_usize, 2 => 100..140_usize, 1 => 0..700_usize];
    let form = prop_oneof![10 => Just(0_u8), 1 => 0..4_u8];
    (first, masked, len, form, any::<[u8; 4]>(), any::<u8>()).prop_map(
        |(first, is_masked, len, form, mask, byte)| {
            let masked = u8::from(is_masked) << 7;
            let mut bytes = vec![first];
            match (form, len) {
                (0, 0..126) => bytes.push(masked | len as u8),
                (0 | 1, _) => {
                    bytes.push(masked | 126);
                    bytes.extend((len as u16).to_be_bytes());
                }
                (2, _) => {
                    bytes.push(masked | 127);
                    bytes.extend((len as u64).to_be_bytes());
                }
                // So many bytes never come, or cannot.
                _ => {
                    bytes.push(masked | 127);
                    bytes.extend([byte, 0, 0, 1, 0, 0, 0, 0]);
                }
            }
            if is_masked {
                bytes.extend(mask);
            }
            bytes.extend((0..len).map(|at| byte.wrapping_mul(at as u8)));
            bytes
        },
    )
}

fn stream(is_client: bool) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(frame(is_client), 0..12).prop_map(|frames| frames.concat())
}

/// What both directions have told, in the twin's words.
fn twin(streams: &[Vec<u8>; 2], passed: &[Vec<Passed>; 2]) -> ([Found; 2], Told) {
    let found = [0, 1].map(|side| naive(&streams[side], &passed[side], side == 0));
    let is_known = found.iter().all(|side| !side.is_lost);
    let told = Told {
        counts: found.each_ref().map(|side| (!side.is_lost).then_some(side.counts)),
        pings: is_known.then(|| found.iter().map(|side| side.pings).sum()),
        pongs: is_known.then(|| found.iter().map(|side| side.pongs).sum()),
        gap_bytes: found.iter().map(|side| side.gap_bytes).sum(),
        is_conflict: found.iter().any(|side| side.is_conflict),
        outcome: match found.iter().all(|side| side.is_closed) {
            true => Some(Outcome::Complete),
            false => is_known.then_some(Outcome::Truncated),
        },
        ..Told::default()
    };
    (found, told)
}

proptest! {
    /// Whatever passes, in whatever pieces, the counts are those of the naive twin.
    #[test]
    fn counts_are_those_of_a_naive_twin(
        streams in (stream(true), stream(false)),
        pieces in prop::collection::vec((any::<bool>(), 1..200_usize, 0..20_u8), 0..60),
        whole in any::<bool>(),
    ) {
        let streams = [streams.0, streams.1];
        let mut passed = [Vec::new(), Vec::new()];
        let mut test = TestTalk::new();
        // The rest of both directions passes at the end.
        let rest = [(false, usize::MAX, 0), (true, usize::MAX, 0)];
        for (is_reverse, len, fate) in pieces.into_iter().chain(rest) {
            let direction = if is_reverse { Reverse } else { Forward };
            let stream = &streams[direction.index()];
            let done: &mut Vec<Passed> = &mut passed[direction.index()];
            let len = len.min(stream.len() - done.len());
            let fate = match fate {
                17 | 18 if !whole => Passed::Lost,
                19 if !whole => Passed::Elided,
                _ => Passed::Seen,
            };
            if len == 0 {
                continue;
            }
            let piece = &stream[done.len()..done.len() + len];
            let is_closed = match fate {
                Passed::Seen => test.pass(direction, piece),
                Passed::Lost => test.lose(direction, len),
                Passed::Elided => test.elide(direction, len),
            };
            done.extend(vec![fate; len]);
            let (found, told) = twin(&streams, &passed);
            prop_assert_eq!(is_closed, told.outcome == Some(Outcome::Complete));
            for side in [Forward, Reverse] {
                let found = &found[side.index()];
                let within = found.within.filter(|_| !found.is_conflict && !found.is_lost);
                let within = within.map(|(left, done)| (left.min(1 << 29) as u32, done as u32));
                prop_assert_eq!(test.rest(side, 1), within, "{:?} {:?}", side, passed);
            }
        }
        let (found, expected) = twin(&streams, &passed);
        let told = test.finish();
        let payload = [&found[0].close, &found[1].close].map(|it| it.clone().unwrap_or_default());
        let is_one = |payload: &Vec<u8>| {
            payload.starts_with(&told.code.unwrap_or(0).to_be_bytes())
                && payload[2..] == told.reason
        };
        prop_assert!(told.code.is_none() || payload.iter().any(is_one), "{told:?} {payload:?}");
        if let [Some(one), None] | [None, Some(one)] = [&found[0].close, &found[1].close] {
            prop_assert_eq!(told.code.is_some(), one.len() >= 2);
        }
        prop_assert_eq!(Told { code: None, reason: Vec::new(), ..told }, expected);
    }
}

/// The payload of a message, from its head to its end; no head, and nothing that controls the talk.
#[test]
fn only_the_payload_of_a_message_need_not_come_up() {
    let long = |first: u8, len: u64| [&[first, 127][..], &len.to_be_bytes()].concat();
    for (bytes, rest) in [
        (long(0x82, 5000), Some((5000, 0))),
        ([&long(0x82, 5000)[..], &[0; 100]].concat(), Some((4900, 100))),
        ([&long(0x82, 5000)[..], &[0; 4500]].concat(), None),
        (long(0x01, 5000), Some((5000, 0))),
        (long(0x82, 1 << 40), Some((1 << 29, 0))),
        // Not the whole head, controls, and frames that are forbidden.
        (long(0x82, 5000)[..9].to_vec(), None),
        (long(0x89, 5000), None),
        (long(0x88, 5000), None),
        (long(0x83, 5000), None),
        (long(0xc2, 5000), None),
        (long(0x82, 1 << 63), None),
        (vec![], None),
    ] {
        let mut test = TestTalk::new();
        test.pass(Reverse, &bytes);
        assert_eq!(test.rest(Reverse, 1000), rest, "{bytes:?}");
        assert_eq!(test.rest(Forward, 1000), None);
    }
}

#[test]
fn records_do_not_show_what_did_not_come_up() {
    let head = [&[0x82, 127][..], &100_000_u64.to_be_bytes()].concat();
    let mut test = TestTalk::new();
    test.pass(Reverse, &head);
    test.elide(Reverse, 60_000);
    assert_eq!(test.rest(Reverse, 1000), Some((40_000, 60_000)));
    test.lose(Reverse, 10_000);
    test.elide(Reverse, 30_000);
    test.pass(Reverse, &[0x81, 1, b'a']);
    let told = test.finish();
    let expected = WebSocketCounts { text: 1, binary: 1, message_bytes: 100_001, frames: 2 };
    assert_eq!((told.counts[1], told.gap_bytes), (Some(expected), 10_000));
}

#[test]
fn a_talk_takes_little_memory() {
    assert!(size_of::<Talk>() <= 200, "{}", size_of::<Talk>());
    assert!(size_of::<WebSocket>() < size_of::<ConnectionState>());
}
