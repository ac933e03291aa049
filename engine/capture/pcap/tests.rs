//! Captures that are built byte by byte and read back.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Write};

use proptest::prelude::*;

use super::*;
use crate::capture::LinkType;
use crate::ids::IfaceId;

mod walked;

/// The parts of a visited frame.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    bytes: Vec<u8>,
    wire_bytes: u32,
    ns: u64,
    link: LinkType,
    iface: u32,
}

impl Seen {
    fn of(frame: &Frame<'_>) -> Seen {
        Seen {
            bytes: frame.bytes.to_vec(),
            wire_bytes: frame.wire_bytes,
            ns: frame.timestamp.0,
            link: frame.link,
            iface: frame.iface.0,
        }
    }
}

type Word = fn(u32) -> [u8; 4];
const ORDERS: [Word; 2] = [u32::to_le_bytes, u32::to_be_bytes];

fn half(word: Word, value: u16) -> [u8; 2] {
    let bytes = word(u32::from(value));
    if is_little(word) { [bytes[0], bytes[1]] } else { [bytes[2], bytes[3]] }
}

fn is_little(word: Word) -> bool {
    word(1)[0] == 1
}

/// A pcap file header.
fn header(word: Word, magic: u32, link: u32) -> Vec<u8> {
    let version = if is_little(word) { 4 << 16 | 2 } else { 2 << 16 | 4 };
    [magic, version, 0, 0, 0, link].map(word).concat()
}

/// A pcap record.
fn record(word: Word, time: (u32, u32), wire_bytes: u32, extra: &[u8], data: &[u8]) -> Vec<u8> {
    let head = [time.0, time.1, data.len() as u32, wire_bytes].map(word).concat();
    [&head, extra, data].concat()
}

/// A pcapng block; `body` is padded.
fn block(word: Word, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let total = word(padded as u32 + 12);
    let padding = vec![0; padded - body.len()];
    [&word(kind)[..], &total, body, &padding, &total].concat()
}

fn section(word: Word) -> Vec<u8> {
    let body =
        [&word(0x1a2b_3c4d)[..], &half(word, 1), &half(word, 0), &word(!0), &word(!0)].concat();
    block(word, 0x0a0d_0d0a, &body)
}

fn option_of(word: Word, code: u16, value: &[u8]) -> Vec<u8> {
    let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
    [&half(word, code)[..], &half(word, value.len() as u16), value, &padding].concat()
}

fn interface(word: Word, link: u16, snap_bytes: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = [&half(word, link)[..], &[0, 0], &word(snap_bytes)].concat();
    for (code, value) in options {
        body.extend(option_of(word, *code, value));
    }
    block(word, 1, &body)
}

fn enhanced(word: Word, iface: u32, ticks: u64, wire_bytes: u32, data: &[u8]) -> Vec<u8> {
    let words = [iface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, wire_bytes];
    block(word, 6, &[&words.map(word).concat(), data].concat())
}

fn open(
    bytes: &[u8],
    read_bytes: usize,
) -> Result<PcapSource<Window<Cursor<Vec<u8>>>>, CaptureOpenError> {
    PcapSource::new(Cursor::new(bytes.to_vec()), read_bytes, &IfaceNames::default())
}

/// Everything a source returns, and how it ended.
fn drain(mut source: impl FrameSource) -> (Vec<Seen>, Result<(), SourceError>) {
    let mut seen = Vec::new();
    loop {
        let polled = source.poll(&mut |frame: Frame<'_>| {
            seen.push(Seen::of(&frame));
        });
        match polled {
            Ok(Polled::End) => return (seen, Ok(())),
            Ok(_) => {}
            Err(error) => {
                let after = source.poll(&mut |_: Frame<'_>| panic!("a frame behind an error"));
                assert_eq!(after.unwrap(), Polled::End, "an error is told once");
                return (seen, Err(error));
            }
        }
    }
}

/// The visited frames if they are also shown ahead: the same, and each was shown before its turn.
fn drain_ahead<W: RecordBuffer>(mut source: PcapSource<W>, ahead_count: usize) -> Vec<Seen> {
    let (mut shown, mut seen) = (VecDeque::new(), Vec::new());
    while source
        .poll_ahead(ahead_count, &mut |lookahead| match lookahead {
            Lookahead::Ahead(frame) => shown.push_back(frame.bytes.to_vec()),
            Lookahead::Here(frame) => {
                // The first frame of a window is not shown ahead.
                if shown.front().is_some_and(|bytes| bytes == frame.bytes) {
                    shown.pop_front();
                }
                assert!(shown.len() <= ahead_count);
                seen.push(Seen::of(frame));
            }
        })
        .unwrap()
        != Polled::End
    {}
    assert!(shown.is_empty(), "what was shown came");
    seen
}

fn read(bytes: &[u8]) -> Vec<Seen> {
    let (seen, end) = drain(open(bytes, 1 << 16).unwrap());
    end.unwrap();
    for (ahead_count, read_bytes) in [(1, 1 << 16), (3, 1 << 16), (3, 64)] {
        assert_eq!(drain_ahead(open(bytes, read_bytes).unwrap(), ahead_count), seen);
    }
    seen
}

/// The error of a run over `bytes`.
fn error_of(bytes: &[u8]) -> String {
    drain(open(bytes, 1 << 16).unwrap()).1.unwrap_err().to_string()
}

fn ethernet(data: &[u8], wire_bytes: u32, ns: u64) -> Seen {
    Seen { bytes: data.to_vec(), wire_bytes, ns, link: LinkType::Ethernet, iface: 0 }
}

/// A pcapng with both byte orders, three interfaces and every kind of packet block; and its frames.
fn mixed_ng() -> (Vec<u8>, Vec<Seen>) {
    let [le, be] = ORDERS;
    let obsolete = [&half(le, 1)[..], &half(le, 9), &[0; 4], &le(7), &le(3), &le(3), b"old"];
    let file = [
        section(le),
        interface(le, 1, 4, &[(2, b"eth0")]),
        interface(le, 101, 0, &[(9, &[9]), (2, b"tun0")]),
        enhanced(le, 0, 1_000_001, 4, b"abcd"),
        block(le, 0xbad, b"custom"),
        enhanced(le, 1, 5, 1500, b"raw"),
        block(le, 2, &obsolete.concat()),
        block(le, 3, &[&le(6)[..], b"simp"].concat()),
        section(be),
        interface(be, 113, 0, &[(9, &[0x94]), (14, &2i64.to_be_bytes())]),
        enhanced(be, 0, 3 << 19, 3, b"sll"),
        block(be, 3, &[&be(5)[..], b"whole"].concat()),
    ];
    let seen = |bytes: &[u8], wire_bytes, ns, link, iface| Seen {
        bytes: bytes.to_vec(),
        wire_bytes,
        ns,
        link,
        iface,
    };
    let frames = vec![
        seen(b"abcd", 4, 1_000_001_000, LinkType::Ethernet, 0),
        seen(b"raw", 1500, 5, LinkType::Raw, 1),
        seen(b"old", 3, 7, LinkType::Raw, 1),
        seen(b"simp", 6, 7, LinkType::Ethernet, 0),
        seen(b"sll", 3, 3_500_000_000, LinkType::LinuxSll, 2),
        seen(b"whole", 5, 3_500_000_000, LinkType::LinuxSll, 2),
    ];
    (file.concat(), frames)
}

/// A pcap with three records of different lengths; and its frames.
fn plain_pcap() -> (Vec<u8>, Vec<Seen>) {
    let [le, _] = ORDERS;
    let file = [
        header(le, 0xa1b2_c3d4, 1),
        record(le, (1, 2), 3, &[], b"one"),
        record(le, (1, 3), 0, &[], b""),
        record(le, (4_000_000_000, 999_999), 60, &[], &[7; 40]),
    ];
    let frames = vec![
        ethernet(b"one", 3, 1_000_002_000),
        ethernet(b"", 0, 1_000_003_000),
        ethernet(&[7; 40], 60, 4_000_000_000_999_999_000),
    ];
    (file.concat(), frames)
}

#[test]
fn pcap_of_every_magic_and_order() {
    for word in ORDERS {
        for (magic, extra, ns) in [
            (0xa1b2_c3d4, &[][..], 7_000),
            (0xa1b2_3c4d, &[], 7),
            (0xa1b2_cd34, &[1, 2, 3, 4, 5, 6, 7, 8], 7_000),
        ] {
            let records =
                [record(word, (5, 7), 9, extra, b"frame"), record(word, (6, 7), 4, extra, b"next")];
            let file = [header(word, magic, 1), records.concat()].concat();
            let expected = [
                ethernet(b"frame", 9, 5_000_000_000 + ns),
                ethernet(b"next", 4, 6_000_000_000 + ns),
            ];
            assert_eq!(read(&file), expected, "{magic:x} {:?}", word(1));
        }
    }
}

#[test]
fn the_upper_half_of_the_link_word_and_the_snap_length_do_not_matter() {
    for word in ORDERS {
        let mut file = header(word, 0xa1b2_c3d4, 0xf400_0000 | 276);
        file[16..20].copy_from_slice(&word(u32::MAX));
        file.extend(record(word, (0, 0), 1, &[], b"x"));
        assert_eq!(read(&file)[0].link, LinkType::LinuxSll2);
    }
}

#[test]
fn a_wire_length_below_the_captured_one_is_raised() {
    let file = [header(ORDERS[0], 0xa1b2_c3d4, 1), record(ORDERS[0], (0, 0), 0, &[], b"four")];
    assert_eq!(read(&file.concat())[0].wire_bytes, 4);
}

#[test]
fn pcapng_with_sections_interfaces_and_every_packet_block() {
    let (file, frames) = mixed_ng();
    let names = IfaceNames::default();
    let source = PcapSource::new(Cursor::new(file), 1 << 16, &names).unwrap();
    let (seen, end) = drain(source);
    end.unwrap();
    assert_eq!(seen, frames);
    assert_eq!(names.get(IfaceId(0)).as_deref(), Some("eth0"));
    assert_eq!(names.get(IfaceId(1)).as_deref(), Some("tun0"));
    assert_eq!(names.get(IfaceId(2)), None);
}

#[test]
fn pcapng_time_resolutions() {
    let word = ORDERS[1];
    for (resolution, offset, ticks, ns) in [
        (6, 0, 1_500_000, 1_500_000_000),
        (0, 0, 3, 3_000_000_000),
        (3, 10, 1, 10_001_000_000),
        (3, -10, 20_001, 10_001_000_000),
        (12, 0, 1_999_999, 1_999),
        (0x80, 0, 3, 3_000_000_000),
        (0x80 | 20, 0, 1 << 20, 1_000_000_000),
        (0x80 | 63, 0, 1 << 62, 500_000_000),
        (0x80 | 127, 0, u64::MAX, 0),
        (0, 0, u64::MAX, u64::MAX),
        (127, 0, u64::MAX, 0),
        (9, i64::MIN, 5, 0),
        (9, i64::MAX, u64::MAX, u64::MAX),
    ] {
        let options: &[(u16, &[u8])] = &[(9, &[resolution]), (14, &i64::to_be_bytes(offset))];
        let file =
            [section(word), interface(word, 1, 0, options), enhanced(word, 0, ticks, 1, b"x")];
        assert_eq!(read(&file.concat())[0].ns, ns, "{resolution} {offset} {ticks}");
    }
}

#[test]
fn a_cut_at_any_byte_is_told_after_the_frames_before_it() {
    for (file, frames) in [plain_pcap(), mixed_ng()] {
        let mut counts = Vec::new();
        for cut in 24..file.len() {
            let (seen, end) = drain(open(&file[..cut], 1 << 16).unwrap());
            assert_eq!(seen, frames[..seen.len()], "cut at {cut}");
            match end {
                Ok(()) => counts.push(seen.len()),
                Err(SourceError::Truncated { frames, .. }) => assert_eq!(frames, seen.len() as u64),
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
        assert!(counts.is_sorted() && counts.last() == Some(&(frames.len() - 1)));
        for cut in 1..24 {
            let error = open(&file[..cut], 1 << 16).unwrap_err();
            let is_magic_whole = cut >= 4;
            assert_eq!(
                matches!(error, CaptureOpenError::HeaderCut { .. }),
                is_magic_whole,
                "{cut}"
            );
        }
    }
}

#[test]
fn small_reads_and_windows_change_nothing() {
    /// Returns one byte per read, with an interruption between two reads.
    struct Drip(Cursor<Vec<u8>>, bool);
    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = buffer.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }
    for (file, frames) in [plain_pcap(), mixed_ng()] {
        let source =
            PcapSource::new(Drip(Cursor::new(file.clone()), false), 1, &IfaceNames::default());
        assert_eq!(drain(source.unwrap()).0, frames);
        for read_bytes in 0..80 {
            assert_eq!(drain(open(&file, read_bytes).unwrap()).0, frames);
        }
    }
}

#[test]
fn a_record_longer_than_the_window_grows_it() {
    let data = vec![9; 3 << 20];
    let [le, _] = ORDERS;
    let pcap = [header(le, 0xa1b2_c3d4, 1), record(le, (0, 0), 3 << 20, &[], &data)].concat();
    let ng = [section(le), interface(le, 1, 0, &[]), enhanced(le, 0, 0, 3 << 20, &data)].concat();
    for file in [pcap, ng] {
        let (seen, end) = drain(open(&file, 4096).unwrap());
        end.unwrap();
        assert_eq!(seen, [ethernet(&data, 3 << 20, 0)]);
    }
}

#[test]
fn an_unknown_block_of_any_length_is_passed_over_without_memory() {
    let [le, _] = ORDERS;
    let total = 1u32 << 30;
    let head = [section(le), [le(0x4bad), le(total)].concat()].concat();
    let tail = [interface(le, 1, 0, &[]), enhanced(le, 0, 0, 1, b"x")].concat();
    let file =
        Cursor::new(head).chain(io::repeat(0).take(u64::from(total) - 8)).chain(Cursor::new(tail));
    let mut source = PcapSource::new(file, 1 << 20, &IfaceNames::default()).unwrap();
    let mut frames = 0;
    while source.poll(&mut |_: Frame<'_>| frames += 1).unwrap() != Polled::End {}
    assert_eq!(frames, 1);
}

#[test]
fn damage_is_told_with_what_is_wrong() {
    let [le, _] = ORDERS;
    let (pcap, _) = plain_pcap();
    let huge = [&le(0)[..], &le(0), &le(u32::MAX), &le(0)].concat();
    let with = |block: Vec<u8>| [section(le), interface(le, 1, 0, &[]), block].concat();
    let mut trailer = enhanced(le, 0, 0, 1, b"x");
    *trailer.last_mut().unwrap() = 1;
    let mut captured = enhanced(le, 0, 0, 1, b"x");
    captured[20] = 200;
    for (file, words) in [
        ([pcap, huge].concat(), "after 3 frames: a record claims to have 4294967311 bytes"),
        (with(enhanced(le, 1, 0, 1, b"x")), "interface 1, which is not described"),
        (with(trailer), "at its end"),
        (with(captured), "a packet claims to have 200 bytes"),
        (with(block(le, 6, b"short")), "only 20 bytes"),
        (with(block(le, 3, b"")), "only 12 bytes"),
        (with([le(6), le(8), le(8)].concat()), "a block claims to have 8 bytes"),
        (with([le(0x777), le(0), le(0)].concat()), "a block claims to have 0 bytes"),
        (with([le(6), le(1 << 30), le(0)].concat()), "a block claims to have 1073741824"),
        (with(block(le, 1, b"")), "an interface description cannot be read"),
        (with(block(le, 0x0a0d_0d0a, &[0; 16])), "does not specify its byte order"),
        ([section(le), block(le, 3, &[0; 8])].concat(), "before any interface"),
    ] {
        let message = error_of(&file);
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    }
}

#[test]
fn opening_errors_say_what_to_do() {
    let mut old = header(ORDERS[0], 0xa1b2_c3d4, 1);
    old[4] = 1;
    for (bytes, words) in [
        (&b""[..], "is empty"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "editcap -F pcapng"),
        (b"\x1f\x8b\x08\x00", "zcat FILE | httplines -r -"),
        (b"\x28\xb5\x2f\xfdxxxx", "zstdcat FILE"),
        (b"\xfd7zXZ\x00xxxx", "xzcat FILE"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "cut off inside its file header"),
        (&old, "pcap version 1.4"),
    ] {
        let message = open(bytes, 1 << 16).unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    }
}

#[test]
fn a_file_is_opened_for_every_shard_and_counts_its_progress() {
    let (file, frames) = mixed_ng();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a capture.pcapng");
    std::fs::write(&path, &file).unwrap();
    let capture = open::open_file(&path, 64, 3, &IfaceNames::default()).unwrap();
    assert_eq!(capture.progress.size_bytes(), Some(file.len() as u64));
    assert_eq!(capture.sources.len(), 3);
    for source in capture.sources {
        assert!(capture.progress.read_bytes() < file.len() as u64);
        assert_eq!(drain(source).0, frames);
    }
    assert_eq!(capture.progress.read_bytes(), file.len() as u64);

    let open = |path: &std::path::Path| {
        open::open_file(path, 64, 1, &IfaceNames::default()).map(|_| ()).unwrap_err()
    };
    assert!(matches!(open(directory.path()), CaptureOpenError::IsDirectory { .. }));
    assert!(matches!(open(&directory.path().join("none")), CaptureOpenError::NotFound { .. }));
    // Root may read any file, so this error is constructed rather than provoked.
    let refused = CaptureOpenError::io("x", ErrorKind::PermissionDenied.into());
    assert!(matches!(refused, CaptureOpenError::PermissionDenied { .. }));
}

#[test]
fn a_stream_gives_every_shard_what_a_file_does() {
    let (file, frames) = mixed_ng();
    for shard_count in [1, 3] {
        let (receive, mut send) = std::io::pipe().unwrap();
        let file = file.clone();
        let sender = std::thread::spawn(move || send.write_all(&file).unwrap());
        let input = File::from(std::os::fd::OwnedFd::from(receive));
        let names = IfaceNames::default();
        let open = open::OpenCapture::stream(input, "stdin");
        let capture = open.begin(16, shard_count, &names).unwrap();
        assert_eq!(capture.progress.size_bytes(), None);
        let threads: Vec<_> =
            capture.sources.into_iter().map(|s| std::thread::spawn(move || drain(s).0)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), frames);
        }
        sender.join().unwrap();
    }
}

proptest! {
    #[test]
    fn garbage_ends_and_does_not_panic(
        which in 0usize..8,
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let word = ORDERS[which % 2];
        let head = match which / 2 {
            0 => header(word, 0xa1b2_c3d4, 1),
            1 => header(word, 0xa1b2_cd34, 1),
            2 => section(word),
            _ => [section(word), interface(word, 1, 0, &[])].concat(),
        };
        let (seen, _) = drain(open(&[head, bytes.clone()].concat(), 1 << 16).unwrap());
        prop_assert!(seen.len() <= bytes.len() / 12);
        if let Ok(source) = open(&bytes, 1 << 16) {
            drain(source).1.ok();
        }
    }

    #[test]
    fn a_flipped_byte_ends_and_does_not_panic(is_ng: bool, at in 0usize..400, value: u8) {
        let (mut file, _) = if is_ng { mixed_ng() } else { plain_pcap() };
        let at = at % file.len();
        file[at] = value;
        if let Ok(source) = open(&file, 64) {
            drain(source).1.ok();
        }
    }
}

/// A capture of `count` frames in a file.
fn file_of(count: u32) -> tempfile::NamedTempFile {
    let word: Word = u32::to_le_bytes;
    let mut bytes = header(word, 0xa1b2_3c4d, 1);
    for n in 0..count {
        bytes.extend(record(word, (n, n), 900, &[], &[n as u8; 700]));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut file.as_file(), &bytes).unwrap();
    super::install_sigbus_handler().unwrap();
    file
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no process")]
fn files_are_read_until_mapping_them_is_asked_for() {
    let name = "capture::pcap::tests::files_are_read_until_mapping_them_is_asked_for";
    if !crate::sys::file_map::tests::is_alone(name) {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let (bytes, frames) = plain_pcap();
    std::fs::write(file.path(), bytes).unwrap();
    let read = || {
        let mut capture = open::open_file(file.path(), 64, 2, &IfaceNames::default()).unwrap();
        let source = capture.sources.remove(1);
        let is_mapped = format!("{source:?}").contains("Mapped");
        (drain(source).0 == frames, is_mapped)
    };
    assert_eq!(read(), (true, false));
    super::install_sigbus_handler().unwrap();
    assert_eq!(read(), (true, true));
}

#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn a_mapped_file_gives_the_frames_that_reading_gives() {
    let file = file_of(300);
    for step_bytes in [1, 100, 1000, 1 << 20] {
        let read = drain(open(&std::fs::read(file.path()).unwrap(), 4096).unwrap());
        let names = IfaceNames::default();
        let capture = open::open_file(file.path(), step_bytes, 2, &names).unwrap();
        for source in capture.sources {
            let (seen, end) = drain(source);
            assert!(end.is_ok());
            assert_eq!(seen, read.0);
        }
        assert_eq!(capture.progress.read_bytes(), file.as_file().metadata().unwrap().len());
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn a_file_that_shrinks_ends_with_an_error_and_what_came_before_is_told() {
    let file = file_of(300);
    let step_bytes = 10 * 716;
    let capture = open::open_file(file.path(), step_bytes, 1, &IfaceNames::default()).unwrap();
    let mut source = capture.sources.into_iter().next().unwrap();
    let mut count = 0;
    source.poll(&mut |_: Frame<'_>| count += 1).unwrap();
    file.as_file().set_len(24 + 15 * 716 + 100).unwrap();
    let (seen, end) = drain(source);
    assert_eq!((count, seen.len()), (10, 5));
    assert!(end.unwrap_err().to_string().contains("the last record has 100 of its"));
}

#[test]
#[cfg_attr(miri, ignore = "Miri maps no files")]
fn a_file_that_shrinks_under_our_eyes_ends_with_an_error() {
    let file = file_of(300);
    let capture = open::open_file(file.path(), 1 << 20, 1, &IfaceNames::default()).unwrap();
    let mut source = capture.sources.into_iter().next().unwrap();
    let mut count = 0;
    let end = source.poll(&mut |_: Frame<'_>| {
        count += 1;
        // Most of what this poll still walks is gone.
        file.as_file().set_len(4096).unwrap();
    });
    assert!(end.unwrap_err().to_string().contains("was cut while it was being read"));
    assert!((1..300).contains(&count));
}
