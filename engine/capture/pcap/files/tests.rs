use super::*;
use crate::capture::pcap::open::open_files;
use std::fs;

/// A pcap with one frame, which holds `content`, at `seconds`.
fn capture(seconds: u32, content: u8) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 0, 1, seconds, 0, 1, 1] {
        file.extend(u32::to_le_bytes(word));
    }
    file.push(content);
    file
}

/// A directory with `count` captures, and their paths.
fn place(count: u8) -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let paths = (0..count).map(|number| {
        let path = directory.path().join(number.to_string());
        fs::write(&path, capture(number.into(), number)).unwrap();
        path
    });
    let paths = paths.collect();
    (directory, paths)
}

/// The contents of the frames of `source` up to its end, or until it waits; and how it ended.
fn drain(source: &mut CaptureSource) -> (Vec<u8>, Result<Polled, SourceError>) {
    let mut seen = Vec::new();
    loop {
        match source.poll(&mut |frame: Frame<'_>| seen.extend(frame.bytes)) {
            Ok(Polled::Frames(_)) => {}
            ended => return (seen, ended),
        }
    }
}

#[test]
fn no_shard_gets_far_ahead_of_the_others() {
    let (_directory, paths) = place(20);
    let mut capture = open_files(&paths, 64, 2, &IfaceNames::default()).unwrap();
    let [one, other] = &mut capture.sources[..] else { panic!("two sources") };
    let (mut seen, ended) = drain(one);
    assert_eq!(ended.unwrap(), Polled::Idle);
    // The other one has begun with the first file.
    assert_eq!(seen.len(), 1 + LEAD_COUNT_MAX);
    let (first, ended) = drain(other);
    assert_eq!((first.len(), ended.unwrap()), (1 + 2 * LEAD_COUNT_MAX, Polled::Idle));
    // It ends, and the first one goes on alone.
    drop(capture.sources.pop());
    let (rest, ended) = drain(&mut capture.sources[0]);
    assert_eq!(ended.unwrap(), Polled::End);
    seen.extend(rest);
    assert_eq!(seen, (0..20).collect::<Vec<u8>>());
    assert_eq!(capture.progress.size_bytes(), Some(20 * 41));
}

/// Files stay open: what was checked is read, whatever has its name now. One that was cut is passed
/// over.
#[test]
fn a_file_that_has_changed_since_it_was_checked_is_told_and_passed_over() {
    let (directory, paths) = place(6);
    let capture_of = capture;
    let mut capture = open_files(&paths, 64, 2, &IfaceNames::default()).unwrap();
    let new = directory.path().join("new");
    fs::write(&new, capture_of(1, 9)).unwrap();
    fs::rename(&new, &paths[1]).unwrap();
    fs::remove_file(&paths[2]).unwrap();
    fs::write(&paths[3], b"").unwrap();
    fs::write(&paths[4], &capture_of(4, 4)[..30]).unwrap();
    let sources = std::mem::take(&mut capture.sources);
    let shards: Vec<_> = sources
        .into_iter()
        .map(|mut source| {
            std::thread::spawn(move || {
                let (seen, ended) = drain(&mut source);
                let error = ended.unwrap_err().to_string();
                assert_eq!(drain(&mut source).1.unwrap(), Polled::End, "an error is told once");
                (seen, error)
            })
        })
        .collect();
    for shard in shards {
        let (seen, error) = shard.join().unwrap();
        assert_eq!(seen, [0, 1, 2, 5]);
        assert_eq!(error, "2 of 6 capture files could not be read to the end");
    }
    assert_eq!(capture.progress.read_bytes(), capture.progress.size_bytes().unwrap());
}

#[test]
fn time_does_not_run_backwards_between_files() {
    // A pcapng whose only packet has no time.
    let mut untimed = Vec::new();
    let section = [0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, !0, !0, 28];
    let (interface, packet) = ([1, 20, 1, 0, 20], [3, 20, 1, 7, 20]);
    for word in section.iter().chain(&interface).chain(&packet) {
        untimed.extend(u32::to_le_bytes(*word));
    }
    let (_directory, paths) = place(2);
    fs::write(&paths[0], capture(77, 1)).unwrap();
    fs::write(&paths[1], &untimed).unwrap();
    let mut source = open_files(&paths, 64, 1, &IfaceNames::default()).unwrap().sources.remove(0);
    let mut times = Vec::new();
    while source.poll(&mut |frame| times.push(frame.timestamp.0)).unwrap() != Polled::End {}
    assert_eq!(times, [77_000_000_000; 2]);
    assert!(open_files(&[], 64, 1, &IfaceNames::default()).is_err());
}
