//! Which protocols begin like frames of HTTP/2: [`looks_like_frames`] on what messages of other
//! protocols begin with, on random bytes, and against a naive twin. The counts are in
//! docs/capture.md.

use httplines::decode::looks_like_frames;
use proptest::prelude::*;

/// The largest segment without offloads, and a superpacket.
const SEGMENT_BYTES: [usize; 2] = [1448, 65_000];

/// The head of a frame as in RFC 9113 section 4.1: length, type, flags, reserved bit, stream.
fn head(at: &[u8]) -> Option<(usize, u8, u8, bool, u32)> {
    let word = |bytes: &[u8]| bytes.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    let at = at.get(..9)?;
    let stream = word(&at[5..]);
    Some((word(&at[..3]) as usize, at[3], at[4], stream > 0x7fff_ffff, stream & 0x7fff_ffff))
}

/// Whether the first frame's head is one that tells: the naive twin, one line for each type.
fn tells(at: &[u8]) -> bool {
    match head(at) {
        Some((len, 1, flags, false, 1..)) => {
            (1..=65_535).contains(&len) && [4, 5, 12, 13, 36, 37, 44, 45].contains(&flags)
        }
        Some((4, 3, 0, false, stream)) => stream != 0,
        Some((0, 4, 1, false, 0)) => true,
        Some((len, 4, 0, false, 0)) => len <= 252 && len % 6 == 0,
        Some((8, 6, 0 | 1, false, 0)) => true,
        Some((4, 8, 0, false, _)) => true,
        _ => false,
    }
}

fn twin(payload: &[u8]) -> bool {
    let Some((len, kind, ..)) = head(payload).filter(|_| tells(payload)) else { return false };
    let Some(rest) = payload.get(9 + len..) else { return false };
    if rest.is_empty() {
        let block = payload.get(9).map_or(0, |byte| byte >> 4);
        return kind != 1 || payload[5] == 0 || block == 4 || block >= 8;
    }
    let is_near = rest.len() >= 9 && rest[5] == payload[5];
    match head(rest) {
        Some((_, 0, flags, false, 1..)) => is_near && [0, 1, 8, 9].contains(&flags),
        Some((_, 1, ..)) => is_near && tells(rest),
        _ => tells(rest),
    }
}

/// Numbers that are the same on every run (Steele, Lea and Flood: SplitMix).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// What was found of the messages of a protocol.
struct Enumeration {
    /// Beginnings of messages that were tried.
    tried: u64,
    /// Those whose first nine bytes are the head of a frame that tells.
    heads: u64,
    /// Those that match, with any of the contents and ends.
    found: u64,
    /// Contents: zeros, text and random bytes.
    contents: [Vec<u8>; 3],
    /// Some of what was found, to be read in a failure.
    examples: Vec<Vec<u8>>,
}

impl Enumeration {
    fn new() -> Enumeration {
        let text = (b'a'..=b'z').cycle().take(SEGMENT_BYTES[1]).collect();
        let mut random = vec![0; SEGMENT_BYTES[1]];
        Random(1).fill(&mut random);
        let contents = [vec![0; SEGMENT_BYTES[1]], text, random];
        Enumeration { tried: 0, heads: 0, found: 0, contents, examples: Vec::new() }
    }

    /// Tries a message of `total_bytes` that begins with `begin` and goes on with zeros, text or
    /// random bytes: alone, cut where a segment ends, and with the same beginning behind it.
    fn message(&mut self, begin: &[u8], total_bytes: usize) {
        self.tried += 1;
        let begin = &begin[..begin.len().min(total_bytes)];
        let first = [begin, begin, &[0; 9]].concat();
        if !tells(&first[..9]) {
            return;
        }
        self.heads += 1;
        let mut is_found = false;
        for content in &mut self.contents {
            let (mut at, mut places) = (0, Vec::new());
            while at + begin.len() <= content.len() && places.len() < 4 {
                places.push((at, content[at..at + begin.len()].to_vec()));
                content[at..at + begin.len()].copy_from_slice(begin);
                at += total_bytes;
            }
            for end in [total_bytes].into_iter().chain(SEGMENT_BYTES) {
                is_found |= content.get(..end).is_some_and(looks_like_frames);
            }
            for (at, before) in places.into_iter().rev() {
                content[at..at + begin.len()].copy_from_slice(&before);
            }
        }
        self.found += u64::from(is_found);
        if is_found && self.examples.len() < 4 {
            self.examples.push(begin.to_vec());
        }
    }
}

/// The types of frames that are looked for.
const TYPES: [u8; 5] = [1, 3, 4, 6, 8];

/// Big-endian sizes whose last byte is one of [`TYPES`], since the fourth byte is the type: all
/// below 2^16, and one in 251 of the greater ones.
fn sizes() -> impl Iterator<Item = u32> {
    let all = (0..1 << 16).chain((1 << 16..1 << 24).step_by(251));
    all.filter(|size| TYPES.contains(&(*size as u8)))
}

/// Values of a byte at which the rule decides differently, and some others.
const BYTES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 0x0c, 0x0d, 0x24, 0x2d, 0x40, 0x7f, 0xff];

/// Numbers of streams.
const STREAMS: [[u8; 4]; 7] = [
    [0, 0, 0, 0],
    [0, 0, 0, 1],
    [0, 0, 1, 0],
    [0, 1, 0, 0],
    [1, 0, 0, 0],
    [1, 20, 172, 13],
    [0x7f, 255, 255, 255],
];

/// A big-endian size of what follows, then any five bytes: framed messages of no certain kind.
fn any_with_a_size(all: &mut Enumeration) {
    for size in sizes() {
        for flags in BYTES {
            for stream in STREAMS {
                let begin = [&size.to_be_bytes()[..], &[flags], &stream].concat();
                all.message(&begin, 4 + size as usize);
            }
        }
    }
}

/// Size, API key, version, correlation id, client id: the requests of all versions.
fn kafka_requests(all: &mut Enumeration) {
    for size in sizes() {
        for api in (0..93u16).step_by(4) {
            for version in [0u16, 1, 12] {
                for (id, client) in [(0u32, 0u16), (1, 8), (0x0100_0000, 0xffff)] {
                    let mut begin = size.to_be_bytes().to_vec();
                    begin.extend(api.to_be_bytes());
                    begin.extend(version.to_be_bytes());
                    begin.extend(id.to_be_bytes());
                    begin.extend(client.to_be_bytes());
                    all.message(&begin, 4 + size as usize);
                }
            }
        }
    }
}

/// Size, correlation id, then an error, a count or a time of throttling.
fn kafka_responses(all: &mut Enumeration) {
    for size in sizes() {
        for id in [0, 1, 4, 5, 0x0d, 0x24] {
            for first in [0, 1, 9, 0xff] {
                for rest in [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1]] {
                    let begin = [&size.to_be_bytes()[..], &[id, 0, 0, first], &rest].concat();
                    all.message(&begin, 4 + size as usize);
                }
            }
        }
    }
}

/// Size, request id, operation.
fn zookeeper(all: &mut Enumeration) {
    for size in sizes() {
        for id in [0u32, 1, 0x7f, 0x100, 0xffff, 0x0400_0000, 0x0500_0001, 0xffff_fffe, 0xffff_ffff]
        {
            for operation in [0u32, 1, 4, 8, 11, 14, 15, 100, 0xffff_fff5] {
                let begin = [size, id, operation, 5].map(u32::to_be_bytes).as_flattened().to_vec();
                all.message(&begin, 4 + size as usize);
            }
        }
    }
}

/// Thrift, framed: the strict form, the old one, and the compact one.
fn thrift(all: &mut Enumeration) {
    for size in sizes() {
        for kind in 1..=4u8 {
            all.message(
                &[&size.to_be_bytes()[..], &[0x80, 1, 0, kind, 0]].concat(),
                4 + size as usize,
            );
            all.message(
                &[&size.to_be_bytes()[..], &[0x82, kind << 5 | 1, 1, 4, b'p']].concat(),
                4 + size as usize,
            );
        }
        for name_bytes in 0..64u8 {
            let begin = [&size.to_be_bytes()[..], &[0, 0, 0, name_bytes], b"ping"].concat();
            all.message(&begin, 4 + size as usize);
        }
    }
}

/// A little-endian size of three bytes, a sequence number, and the first bytes of the content: any
/// command or answer.
fn mysql(all: &mut Enumeration) {
    for size in (0..1u32 << 16).step_by(256).chain((1 << 16..1 << 24).step_by(256 * 251)) {
        for sequence in [0, 1, 2, 3, 4, 6, 8, 255] {
            for command in BYTES {
                for rest in [[0, 0, 0, 0], [0, 0, 0, 2], [3, b'd', b'e', b'f']] {
                    let [low, middle, high, _] = size.to_le_bytes();
                    let begin = [&[low, middle, high, sequence, command][..], &rest].concat();
                    all.message(&begin, 4 + size as usize);
                }
            }
        }
    }
}

/// The first message of a client, which has no type.
fn postgresql(all: &mut Enumeration) {
    for size in sizes() {
        for code in
            [0x0002_0000u32, 0x0003_0000, 0x0003_0002, 0x04d2_162e, 0x04d2_162f, 0x04d2_1630]
        {
            let begin = [&size.to_be_bytes()[..], &code.to_be_bytes(), b"user\0"].concat();
            all.message(&begin, size as usize);
        }
    }
}

/// A little-endian size, two ids, an operation.
fn mongodb(all: &mut Enumeration) {
    for size in (256..48_000_000u32).step_by(256 * 13) {
        for id in [0u32, 1, 4, 5, 0x104, 0x1_0004, 0xffff] {
            for operation in [1u32, 2004, 2012, 2013] {
                let begin = [size, id, 0, operation].map(u32::to_le_bytes).as_flattened().to_vec();
                all.message(&begin, size as usize);
            }
        }
    }
}

/// A size and the bytes of padding, before encryption; and with a size in clear before the rest.
fn ssh(all: &mut Enumeration) {
    for size in sizes().filter(|size| size % 8 == 4) {
        for padding in 4..=255u8 {
            all.message(
                &[&size.to_be_bytes()[..], &[padding, 20, 1, 2, 3]].concat(),
                4 + size as usize,
            );
        }
    }
    for size in sizes().filter(|size| size % 8 == 0) {
        for first in BYTES {
            for rest in [[0, 0, 0, 1], [7, 99, 0xfe, 1]] {
                let begin = [&size.to_be_bytes()[..], &[first], &rest].concat();
                all.message(&begin, 4 + size as usize + 32);
            }
        }
    }
}

/// Version, type, flags, stream, length: the frames of a yamux session.
fn yamux(all: &mut Enumeration) {
    for kind in 0..4u8 {
        for flags in 0..16u16 {
            let streams = (1..=512u32).chain([0xffff, 0x0100_0000, 0x0400_0000, 0x7fff_ffff]);
            // Pings and the end of a session are on stream 0.
            for stream in streams.filter(|_| kind < 2).chain(Some(0).filter(|_| kind >= 2)) {
                for length in [0u32, 1, 2, 4, 13, 255, 256, 1024, 65_535, 0x0400_0000] {
                    let mut begin = vec![0, kind];
                    begin.extend(flags.to_be_bytes());
                    begin.extend(stream.to_be_bytes());
                    begin.extend(length.to_be_bytes());
                    let data_bytes = if kind == 0 { length as usize } else { 0 };
                    all.message(&begin, 12 + data_bytes);
                }
            }
        }
    }
}

/// A size, where the body begins, the type, the channel: AMQP 1.0.
fn amqp(all: &mut Enumeration) {
    for size in sizes() {
        for channel in [0u16, 1, 4, 256] {
            let begin =
                [&size.to_be_bytes()[..], &[2, 0], &channel.to_be_bytes(), &[0, 0x53]].concat();
            all.message(&begin, size as usize);
        }
    }
}

/// Packets of Oracle's TNS: a size of two bytes, or of four, the type, flags.
fn tns(all: &mut Enumeration) {
    for size in sizes().chain((8..1 << 16).step_by(251)) {
        for kind in 0..=19u8 {
            for flags in [0, 0x20] {
                let size = u32::to_be_bytes(size);
                let end = [kind, flags, 0, 0, 0];
                all.message(&[&size[..], &end].concat(), u32::from_be_bytes(size) as usize);
                all.message(
                    &[&size[2..], &[0, 0], &end].concat(),
                    u32::from_be_bytes(size) as usize,
                );
            }
        }
    }
}

/// SMB over TCP: zero, a size of three bytes, the protocol's name.
fn smb(all: &mut Enumeration) {
    for size in sizes() {
        for name in [b"\xfeSMB@", b"\xffSMBr", b"\xfdSMB\0", b"\xfcSMB\0"] {
            all.message(&[&size.to_be_bytes()[..], name].concat(), 4 + size as usize);
        }
    }
}

/// DNS over TCP: a size of two bytes, an id, flags, counts.
fn dns(all: &mut Enumeration) {
    for size in (12..256).step_by(9) {
        for id in (0..=0xffffu32).filter(|id| TYPES.contains(&(*id as u8))) {
            for flags in [0x0000u16, 0x0100, 0x0120, 0x2800, 0x8180, 0x8400] {
                let mut begin = (size as u16).to_be_bytes().to_vec();
                begin.extend((id as u16).to_be_bytes());
                begin.extend(flags.to_be_bytes());
                begin.extend([0, 1, 0, 0, 0, 0, 0, 1]);
                all.message(&begin, 2 + size as usize);
            }
        }
    }
}

/// BitTorrent: a size, an id, a piece and a place in it.
fn bittorrent(all: &mut Enumeration) {
    for size in sizes() {
        for id in 0..=21u8 {
            for piece in [0u32, 1, 255, 256, 65_536, 1 << 24] {
                let begin = [&size.to_be_bytes()[..], &[id], &piece.to_be_bytes()].concat();
                all.message(&begin[..(4 + size as usize).min(9)], 4 + size as usize);
            }
        }
    }
}

/// ZeroMQ: flags, a size of one byte, a body of any bytes.
fn zmtp(all: &mut Enumeration) {
    for size in 0..=255u8 {
        for first in BYTES {
            for second in TYPES {
                for third in BYTES {
                    for rest in [[0, 0, 0, 0], [0, 0, 0, 1], [0, b'a', b'b', b'c']] {
                        let begin = [&[0, size, first, second, third][..], &rest].concat();
                        all.message(&begin, 2 + usize::from(size));
                    }
                }
            }
        }
    }
}

/// VNC: an update of a number of rectangles, the first of which has a place and a size.
fn vnc(all: &mut Enumeration) {
    for count in (0..=0xffffu16).filter(|count| TYPES.contains(&(*count as u8))) {
        for x in (0..4096u16).step_by(32) {
            let place = [x, 0, 64].map(u16::to_be_bytes);
            let begin = [&[0, 0][..], &count.to_be_bytes(), place.as_flattened()].concat();
            all.message(&begin, 16 + 64 * 64 * 4);
        }
    }
}

/// Each protocol, and how many beginnings were tried, begin with the head of a frame, and match.
type Row = (&'static str, fn(&mut Enumeration), [u64; 3]);

#[test]
fn messages_of_other_protocols_hardly_look_like_frames() {
    let rows: [Row; 17] = [
        ("any with a size", any_with_a_size, [288_960, 18_601, 0]),
        ("Kafka requests", kafka_requests, [557_280, 519, 0]),
        ("Kafka responses", kafka_responses, [123_840, 12_466, 0]),
        ("ZooKeeper", zookeeper, [208_980, 5585, 0]),
        ("Thrift", thrift, [185_760, 129, 0]),
        ("MySQL", mysql, [198_528, 6193, 0]),
        ("PostgreSQL", postgresql, [15_480, 6, 0]),
        // Messages of more than 16 MiB, whose contents happen to fit.
        ("MongoDB", mongodb, [403_844, 40_328, 4]),
        ("SSH", ssh, [146_544, 2, 0]),
        // The end of stream 2^24.
        ("yamux", yamux, [165_440, 10, 3]),
        ("AMQP", amqp, [10_320, 0, 0]),
        ("TNS", tns, [227_360, 2111, 0]),
        ("SMB", smb, [10_320, 0, 0]),
        ("DNS", dns, [215_040, 0, 0]),
        ("BitTorrent", bittorrent, [340_560, 10_361, 0]),
        ("ZeroMQ", zmtp, [983_040, 48_768, 0]),
        ("VNC", vnc, [163_840, 3113, 0]),
    ];
    for (name, tries, expected) in rows {
        let mut all = Enumeration::new();
        tries(&mut all);
        let counts = [all.tried, all.heads, all.found];
        assert_eq!(counts, expected, "{name}, for example {:?}", all.examples);
    }
}

/// Random bytes that begin with a zero and a type that is looked for, as one segment of 13,107 does
/// if its bytes are random.
#[test]
fn random_bytes_do_not_look_like_frames() {
    let (mut random, mut payload) = (Random(7), vec![0; 1448]);
    let (mut heads, mut found) = (0, 0);
    random.fill(&mut payload);
    for _ in 0..1_000_000 {
        random.fill(&mut payload[..9]);
        payload[3] = TYPES[usize::from(payload[0]) % TYPES.len()];
        payload[0] = 0;
        let at = 9 + usize::from(u16::from_be_bytes([payload[1], payload[2]]));
        if let Some(next) = payload.get_mut(at..at + 9) {
            random.fill(next);
        }
        heads += u32::from(tells(&payload));
        found += u32::from(looks_like_frames(&payload));
    }
    assert_eq!((heads > 0, found), (true, 0), "{heads} heads");
}

/// Up to two frames, of which few are as they should be.
pub fn like_frames() -> impl Strategy<Value = Vec<u8>> {
    let small = prop_oneof![4 => Just(0u8), 2 => 0u8..12, 1 => any::<u8>()];
    let head = (
        prop_oneof![Just(0u32), Just(4), Just(8), Just(6), 0u32..80],
        prop_oneof![4 => 0u8..10, 1 => any::<u8>()],
        prop_oneof![3 => Just(0u8), 3 => Just(4), 1 => Just(1), 1 => Just(5), 1 => any::<u8>()],
        prop_oneof![
            3 => Just(0u32),
            3 => 0u32..9,
            1 => any::<u32>(),
            3 => (1u32 << 24) - 1..(1 << 24) + 2,
        ],
    );
    let frame = head.prop_flat_map(move |(len, kind, flags, stream)| {
        prop::collection::vec(small.clone(), len as usize).prop_map(move |body| {
            [&len.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), &body].concat()
        })
    });
    let cut = prop_oneof![3 => Just(0usize), 1 => 0usize..12];
    (prop::collection::vec(frame, 1..3), cut).prop_map(|(frames, cut)| {
        let mut all = frames.concat();
        all.truncate(all.len() - cut.min(all.len()));
        all
    })
}

proptest! {
    #[test]
    fn the_rule_and_its_naive_twin_agree(
        payload in prop_oneof![4 => like_frames(), 1 => prop::collection::vec(0u8..10, 0..40)],
    ) {
        prop_assert_eq!(looks_like_frames(&payload), twin(&payload));
    }
}
