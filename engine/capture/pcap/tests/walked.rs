//! Files that several shards walk for each other, beside the same files that each shard walks by
//! itself.

use super::*;
use crate::capture::Route;
use crate::ids::ShardId;
use crate::time::TimestampNs;
use proptest::collection::vec;
use proptest::sample::select;
use std::ops::Range;
use std::sync::Arc;

/// The first byte of a frame says which shard needs it; of an empty frame, and of some others, no
/// shard can be told.
#[derive(Clone, Copy, Debug)]
struct FirstByte(u16);

impl Route for FirstByte {
    fn owner(&self, frame: &Frame<'_>) -> Option<ShardId> {
        let first = frame.bytes.first()?;
        (first % 16 != 15).then(|| ShardId(u16::from(*first) % self.0))
    }
}

/// What one poll brought: the frames that it visited, the smallest time, and the result.
type Poll = (Vec<Seen>, Option<u64>, Result<Polled, String>);

/// Everything that is seen of a source.
#[derive(PartialEq, Debug)]
struct Read {
    polls: Vec<Poll>,
    ended_at: Option<TimestampNs>,
}

/// Polls once. Polls that wait for other shards are left out.
fn poll(source: &mut impl FrameSource, ahead_count: usize, polls: &mut Vec<Poll>) -> bool {
    let (mut seen, mut shown_count) = (Vec::new(), 0);
    let polled = source.poll_ahead(ahead_count, &mut |lookahead| match lookahead {
        Lookahead::Ahead(_) => shown_count += 1,
        Lookahead::Here(frame) => seen.push(Seen::of(frame)),
    });
    assert!(shown_count <= seen.len() * ahead_count);
    let oldest = seen.iter().map(|frame| frame.ns).chain(source.oldest().map(|it| it.0)).min();
    let is_over = !matches!(polled, Ok(Polled::Frames(_) | Polled::Idle));
    if polled.as_ref().ok() != Some(&Polled::Idle) {
        polls.push((seen, oldest, polled.map_err(|error| error.to_string())));
    }
    is_over
}

fn read_to_the_end(mut source: impl FrameSource, ahead_count: usize) -> Read {
    let mut polls = Vec::new();
    while !poll(&mut source, ahead_count, &mut polls) {}
    Read { polls, ended_at: source.ended_at() }
}

/// Without the frames that `shard` does not need. Returns also how many were visited.
fn of_shard(read: &Read, shard: u16, route: FirstByte) -> (Read, usize) {
    let visited_count = read.polls.iter().map(|(seen, ..)| seen.len()).sum();
    let is_needed = |seen: &Seen| {
        seen.bytes
            .first()
            .is_none_or(|first| first % 16 == 15 || u16::from(*first) % route.0 == shard)
    };
    let polls = read.polls.iter().map(|(seen, oldest, polled)| {
        let seen = seen.iter().filter(|seen| is_needed(seen)).cloned().collect();
        (seen, *oldest, polled.clone())
    });
    (Read { polls: polls.collect(), ended_at: read.ended_at }, visited_count)
}

/// Files as they are read by several shards.
struct Case<'a> {
    files: &'a [Vec<u8>],
    chunk_bytes: usize,
    shard_count: u16,
    ahead_count: usize,
    /// In which order the shards poll in one thread; empty: each in its own thread.
    order: &'a [u8],
}

impl Case<'_> {
    fn open(&self) -> (tempfile::TempDir, open::Capture) {
        super::super::install_sigbus_handler().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let paths = self.files.iter().enumerate().map(|(number, bytes)| {
            let path = directory.path().join(number.to_string());
            std::fs::write(&path, bytes).unwrap();
            path
        });
        let paths: Vec<_> = paths.collect();
        let names = IfaceNames::default();
        let capture = open::open_files(&paths, self.chunk_bytes, self.shard_count, &names);
        (directory, capture.unwrap())
    }

    fn read_walked(&self, sources: Vec<WalkedSource>) -> Vec<Read> {
        if self.order.is_empty() {
            let threads = sources.into_iter().map(|source| {
                let ahead_count = self.ahead_count;
                std::thread::spawn(move || read_to_the_end(source, ahead_count))
            });
            let threads: Vec<_> = threads.collect();
            return threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        }
        let mut sources: Vec<_> = sources.into_iter().map(|it| (it, false)).collect();
        let mut reads: Vec<_> = sources.iter().map(|_| Vec::new()).collect();
        let mut order = self.order.iter().map(|at| usize::from(*at)).cycle();
        while sources.iter().any(|(_, is_over)| !is_over) {
            // Nobody gets so far ahead that it would have to wait for the others, who cannot go on.
            let slowest = (0..sources.len()).filter(|at| !sources[*at].1);
            let slowest = slowest.min_by_key(|at| reads[*at].len()).unwrap_or(0);
            let at = order.next().unwrap_or(0) % sources.len();
            let is_far = sources[at].1 || reads[at].len() > reads[slowest].len() + 3;
            let at = if is_far { slowest } else { at };
            let (source, is_over) = &mut sources[at];
            *is_over = *is_over || poll(source, self.ahead_count, &mut reads[at]);
        }
        let sources = sources.into_iter().map(|(source, _)| source.ended_at());
        reads.into_iter().zip(sources).map(|(polls, ended_at)| Read { polls, ended_at }).collect()
    }

    /// Asserts that each shard gets what it gets alone. Returns how many frames all of them
    /// visited, and how many there are.
    fn assert_same(&self) -> (usize, usize) {
        let route = FirstByte(self.shard_count);
        let (_directory, alone) = self.open();
        let whole = read_to_the_end(alone.sources.into_iter().next().unwrap(), self.ahead_count);
        let (_directory, walked) = self.open();
        let progress = walked.progress.clone();
        let walked = walked.walked(Arc::new(route));
        let mut visited_count = 0;
        for (shard, read) in self.read_walked(walked).iter().enumerate() {
            let (needed, all_count) = of_shard(read, shard as u16, route);
            visited_count += all_count;
            let (wanted, _) = of_shard(&whole, shard as u16, route);
            assert_eq!(needed, wanted, "shard {shard}");
        }
        assert_eq!(progress.read_bytes(), alone_bytes(&alone.progress), "progress");
        (visited_count, whole.polls.iter().map(|(seen, ..)| seen.len()).sum())
    }
}

/// What the first shard has read. The others, which were not polled, have read nothing.
fn alone_bytes(progress: &open::Progress) -> u64 {
    progress.first_read_bytes()
}

/// How a pcap is written.
#[derive(Clone, Copy, Debug)]
struct Shape {
    word: Word,
    magic: u32,
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let magics = select(&[0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34][..]);
    (select(&ORDERS[..]), magics).prop_map(|(word, magic)| Shape { word, magic })
}

impl Shape {
    fn record(self, n: u32, data: &[u8]) -> Vec<u8> {
        let extra: &[u8] = if self.magic == 0xa1b2_cd34 { &[1; 8] } else { &[] };
        record(self.word, (1_700_000_000 + n / 7, n), data.len() as u32 + n % 3, extra, data)
    }

    fn file(self, frames: &[Vec<u8>]) -> Vec<u8> {
        let records = frames.iter().enumerate();
        let records = records.map(|(n, data)| self.record(n as u32, data));
        [header(self.word, self.magic, 1)].into_iter().chain(records).collect::<Vec<_>>().concat()
    }
}

/// What a frame holds: any bytes, zeros, or records that make sense by themselves.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let fake = (any_shape(), 1..20_u32, 0..9_usize, any::<u8>());
    let fake = fake.prop_map(|(shape, count, size, first)| {
        let records = (0..count).map(|n| shape.record(n, &vec![first; size]));
        [vec![first]].into_iter().chain(records).collect::<Vec<_>>().concat()
    });
    let block = (select(&ORDERS[..]), 1..20_usize, any::<u8>()).prop_map(|(word, count, first)| {
        [vec![first; 4], enhanced(word, 0, 7, 9, &[first; 9]).repeat(count)].concat()
    });
    prop_oneof![
        4 => vec(any::<u8>(), 0..80),
        1 => (any::<u8>(), 0..700_usize).prop_map(|(first, size)| vec![first; size]),
        1 => Just(vec![0; 300]),
        1 => fake,
        1 => block,
    ]
}

/// A block of a pcapng, or several.
fn any_blocks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = select(&ORDERS[..]);
    let packets = (any_frame(), 0..3_u32, 0..50_u64);
    let other = prop_oneof![
        3 => Just(0x0bad), 2 => Just(5), 3 => Just(3),
        1 => Just(1), 1 => Just(0x0a0d_0d0a), 1 => Just(2),
    ];
    let kind = prop_oneof![20 => Just(6_u32), 3 => other];
    (word, vec((kind, packets), 0..60)).prop_map(|(word, kinds)| {
        let begin = [section(word), interface(word, 1, 0, &[(2, b"eth0")])].concat();
        let blocks = kinds.into_iter().enumerate().map(|(n, (kind, (data, iface, ticks)))| {
            let ticks = (1_700_000_000_000 + n as u64 * 1_000 + ticks) << 10;
            match kind {
                6 => enhanced(word, iface / 2 * 5, ticks, 9, &data),
                2 => {
                    let words = [0, (ticks >> 32) as u32, ticks as u32, data.len() as u32, 99];
                    block(word, 2, &[&words.map(word).concat(), &data[..]].concat())
                }
                3 => block(word, 3, &[&word(data.len() as u32)[..], &data].concat()),
                1 => interface(word, 101, 0, &[(2, b"eth1"), (9, &[9])]),
                0x0a0d_0d0a => [section(word), interface(word, 1, 0, &[])].concat(),
                _ => block(word, kind, &data),
            }
        });
        [begin].into_iter().chain(blocks).collect()
    })
}

/// A change to a file: nothing, a cut, or bytes that are different.
fn any_damage() -> impl Strategy<Value = (usize, Vec<(usize, u8)>)> {
    let changes = vec((any::<usize>(), any::<u8>()), 1..3);
    prop_oneof![
        3 => Just((0, Vec::new())),
        1 => (1..200_usize).prop_map(|cut| (cut, Vec::new())),
        1 => changes.prop_map(|changes| (0, changes)),
    ]
}

fn damaged(mut file: Vec<u8>, (cut, changes): (usize, Vec<(usize, u8)>)) -> Vec<u8> {
    for (at, byte) in changes {
        // The header stays.
        let at = 28 + at % file.len().saturating_sub(28).max(1);
        if let Some(place) = file.get_mut(at) {
            *place = byte;
        }
    }
    file.truncate(file.len().saturating_sub(cut).max(28));
    file
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn every_shard_gets_its_frames_of_any_pcap(
        shape in any_shape(),
        frames in vec(any_frame(), 1..60),
        damage in any_damage(),
        chunk_bytes in prop_oneof![64..400_usize, 400..4000_usize],
        shard_count in 2..5_u16,
        ahead_count in select(&[0_usize, 4][..]),
        order in prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..30)],
        is_twice: bool,
    ) {
        let file = damaged(shape.file(&frames), damage);
        let files = if is_twice { vec![file.clone(), file] } else { vec![file] };
        Case { files: &files, chunk_bytes, shard_count, ahead_count, order: &order }.assert_same();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn every_shard_gets_its_frames_of_any_pcapng(
        sections in vec(any_blocks(), 1..3),
        damage in any_damage(),
        chunk_bytes in prop_oneof![64..400_usize, 400..4000_usize],
        shard_count in 2..5_u16,
        ahead_count in select(&[0_usize, 4][..]),
        order in prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..30)],
    ) {
        let files = [damaged(sections.concat().concat(), damage)];
        Case { files: &files, chunk_bytes, shard_count, ahead_count, order: &order }.assert_same();
    }
}

/// Frames of usual sizes, which belong to all of `shard_count` shards.
fn usual_frames(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| vec![(n % 15) as u8; [66, 700, 1514][n % 3]]).collect()
}

#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn no_shard_looks_at_frames_of_others() {
    let frames = usual_frames(900);
    for (word, magic) in [(ORDERS[0], 0xa1b2_c3d4), (ORDERS[1], 0xa1b2_3c4d)] {
        let pcap = Shape { word, magic }.file(&frames);
        let mut ng = [section(word), interface(word, 1, 0, &[])].concat();
        for data in &frames {
            ng.extend(enhanced(word, 0, 1 << 50, 9, data));
        }
        for order in [&[][..], &[0, 1, 1, 0, 1]] {
            let read = |files: &[Vec<u8>]| {
                let (chunk_bytes, shard_count, ahead_count) = (10_000, 2, 0);
                Case { files, chunk_bytes, shard_count, ahead_count, order }.assert_same()
            };
            let (visited_count, count) = read(std::slice::from_ref(&pcap));
            assert_eq!((visited_count, count), (900, 900));
            // Each shard walks the first chunk of a pcapng, which describes the interface.
            let (visited_count, count) = read(std::slice::from_ref(&ng));
            assert!(count == 900 && (901..920).contains(&visited_count), "{visited_count}");
        }
    }
}

/// Where records begin in `file`, a pcap with little-endian words.
fn records_of(file: &[u8]) -> Vec<usize> {
    let mut at = 24;
    let mut places = Vec::new();
    while at < file.len() {
        places.push(at);
        at += 16 + u32::from_le_bytes(file[at + 8..][..4].try_into().unwrap()) as usize;
    }
    places
}

#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn a_guess_that_somebody_made_wrong_is_found_out() {
    let shape = Shape { word: u32::to_le_bytes, magic: 0xa1b2_c3d4 };
    // Each frame holds a capture; nearly every guess is somewhere in one.
    let inner: Vec<u8> = (0..200).flat_map(|n| shape.record(n, &[3; 31])).collect();
    let frames: Vec<_> = (0..40).map(|n| [vec![n as u8], inner.clone()].concat()).collect();
    let file = shape.file(&frames);
    let format = Format::detect(&file[..24], "it").unwrap();
    let time = TimestampNs(1_700_000_000_000_000_000);
    let guess = |range: Range<usize>| walk::guess_begin(&file, range, &format, time);
    let records = records_of(&file);
    let chunk_bytes = 20_000;
    let ranges = (1..15).map(|number| 24 + number * chunk_bytes..24 + (number + 1) * chunk_bytes);
    let guesses: Vec<_> = ranges.filter_map(guess).collect();
    assert!(guesses.len() > 10 && guesses.iter().all(|at| !records.contains(at)), "{guesses:?}");
    for order in [&[][..], &[0, 1, 2, 1, 0]] {
        let case = Case {
            files: std::slice::from_ref(&file),
            chunk_bytes,
            shard_count: 2,
            ahead_count: 0,
            order,
        };
        // It is walked again for all shards, and not by each.
        let (visited_count, count) = case.assert_same();
        assert_eq!(visited_count, count + frames.iter().filter(|it| it[0] % 16 == 15).count());
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn a_guess_of_usual_records_is_the_first_one() {
    let shape = Shape { word: u32::to_le_bytes, magic: 0xa1b2_3c4d };
    let file = shape.file(&usual_frames(100));
    let format = Format::detect(&file[..24], "it").unwrap();
    let time = TimestampNs(1_700_000_000_000_000_000);
    let records = records_of(&file);
    for begin in (24..file.len() - 1).step_by(37) {
        let found = walk::guess_begin(&file, begin..file.len(), &format, time);
        let wanted = records.iter().copied().find(|at| *at >= begin);
        assert_eq!(found, wanted, "{begin}");
    }
}

/// A shard that ends early, or never begins, holds up no other.
#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn the_others_go_on_without_a_shard_that_has_ended() {
    let file = Shape { word: u32::to_le_bytes, magic: 0xa1b2_c3d4 }.file(&usual_frames(900));
    let files = [file.clone(), file];
    let case =
        Case { files: &files, chunk_bytes: 4096, shard_count: 3, ahead_count: 0, order: &[0] };
    let (_directory, capture) = case.open();
    let mut sources = capture.walked(Arc::new(FirstByte(3)));
    let mut last = sources.pop().unwrap();
    assert!(!poll(&mut last, 0, &mut Vec::new()));
    drop(last);
    let frame_counts = case.read_walked(sources).into_iter().map(|read| {
        assert_eq!(read.polls.last().unwrap().2, Ok(Polled::End));
        read.polls.iter().map(|(seen, ..)| seen.len()).sum::<usize>()
    });
    assert_eq!(frame_counts.collect::<Vec<_>>(), [600, 600]);
}

/// Shards of a run in which one waits for the others: it says so, and goes on when they have.
#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn a_shard_that_is_far_ahead_waits() {
    let files = [Shape { word: u32::to_le_bytes, magic: 0xa1b2_c3d4 }.file(&usual_frames(900))];
    let case =
        Case { files: &files, chunk_bytes: 4096, shard_count: 2, ahead_count: 0, order: &[] };
    let (_directory, capture) = case.open();
    let mut sources = capture.walked(Arc::new(FirstByte(2)));
    let [one, other] = &mut sources[..] else { panic!("two sources") };
    let mut polls = Vec::new();
    while one.poll(&mut |_: Frame<'_>| ()).unwrap() != Polled::Idle {
        polls.push(());
    }
    // What is listed for the other one is bounded.
    assert_eq!(polls.len(), 6);
    other.poll(&mut |_: Frame<'_>| ()).unwrap();
    assert_ne!(one.poll(&mut |_: Frame<'_>| ()).unwrap(), Polled::Idle);
}

/// The file is cut while shards read what was listed of it.
#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn a_file_that_shrinks_under_lists_ends_with_an_error() {
    let bytes = Shape { word: u32::to_le_bytes, magic: 0xa1b2_c3d4 }.file(&usual_frames(900));
    let files = [bytes.clone()];
    let case =
        Case { files: &files, chunk_bytes: 40_000, shard_count: 2, ahead_count: 0, order: &[] };
    let (directory, capture) = case.open();
    let mut sources = capture.walked(Arc::new(FirstByte(2)));
    let [one, other] = &mut sources[..] else { panic!("two sources") };
    one.poll(&mut |_: Frame<'_>| ()).unwrap();
    let file = File::options().write(true).open(directory.path().join("0")).unwrap();
    file.set_len(50_100).unwrap();
    for source in [one, other] {
        let error = loop {
            match source.poll(&mut |_: Frame<'_>| ()) {
                Ok(polled) => assert_ne!(polled, Polled::End),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("cut"), "{error}");
    }
}
