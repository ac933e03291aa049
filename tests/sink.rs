//! Real files: the same bytes by io_uring and by write(2), and a disk that is really full.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use httplines::ids::ShardId;
use httplines::output::{Batch, FileSink, Limits, Policy, Sink, StdoutSink, Writer, WriterError};
use httplines::stats::EmitStats;

use crate::support::skip;

/// A batch of lines that contain their number and have many lengths.
fn batch(first: u64, count: u64) -> Batch {
    let mut bytes = Vec::new();
    for number in first..first + count {
        bytes.extend_from_slice(
            format!("{number} {}\n", "x".repeat(number as usize % 97)).as_bytes(),
        );
    }
    Batch { bytes, line_count: count, shard: ShardId(0) }
}

/// `count` batches of 100 lines each.
fn batches(count: u64) -> Vec<Batch> {
    (0..count).map(|index| batch(index * 100, 100)).collect()
}

fn bytes_of(batches: &[Batch]) -> Vec<u8> {
    batches.iter().flat_map(|batch| batch.bytes.iter().copied()).collect()
}

/// The numbers of the lines in `bytes`; panics at a partial line.
fn whole_numbers(bytes: &[u8]) -> Vec<u64> {
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "the last line is torn");
    let text = std::str::from_utf8(bytes).unwrap();
    let number = |line: &str| {
        let (number, filling) = line.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        assert_eq!(filling.len(), number as usize % 97, "line {number} is torn");
        number
    };
    text.lines().map(number).collect()
}

/// Both ways of writing a file.
fn both_ways(path: &Path) -> [(&'static str, FileSink); 2] {
    let beside = path.with_extension("plain");
    [("ring", FileSink::open(path).unwrap()), ("plain", FileSink::open_plain(&beside).unwrap())]
}

#[test]
fn io_uring_and_plain_writes_give_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.jsonl");
    for (_, mut sink) in both_ways(&path) {
        for count in [1, 32, 70, 0, 3] {
            let mut written = batches(count);
            sink.append(&mut written).unwrap();
            assert_eq!(bytes_of(&written), bytes_of(&batches(count)), "batches come back");
        }
    }
    let expected: Vec<u8> =
        [1, 32, 70, 0, 3].iter().flat_map(|count| bytes_of(&batches(*count))).collect();
    assert!(fs::read(&path).unwrap() == expected);
    assert!(fs::read(path.with_extension("plain")).unwrap() == expected);
}

#[test]
fn what_is_there_is_kept_and_a_torn_end_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.jsonl");
    fs::write(&path, "old\ntorn").unwrap();
    let mut sink = FileSink::open(&path).unwrap();
    sink.append(&mut [batch(0, 1)]).unwrap();
    sink.append(&mut [batch(1, 1)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\ntorn\n0 \n1 x\n");
    drop(sink);
    FileSink::open(&path).unwrap().append(&mut [batch(0, 1)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\ntorn\n0 \n1 x\n0 \n");
}

#[test]
fn new_files_are_not_for_everybody_and_reopening_makes_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.jsonl");
    let mut sink = FileSink::open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777 & !0o640, 0, "{mode:o}");
    sink.append(&mut [batch(0, 1)]).unwrap();
    let renamed = directory.path().join("http.jsonl.1");
    fs::rename(&path, &renamed).unwrap();
    sink.append(&mut [batch(1, 1)]).unwrap();
    sink.reopen().unwrap();
    sink.append(&mut [batch(2, 1)]).unwrap();
    assert_eq!(fs::read_to_string(&renamed).unwrap(), "0 \n1 x\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "2 xx\n");
}

#[test]
fn a_full_device_file_is_a_fault_and_no_more() {
    for mut sink in
        [FileSink::open(Path::new("/dev/full")), FileSink::open_plain(Path::new("/dev/full"))]
            .map(Result::unwrap)
    {
        for _ in 0..2 {
            let fault = sink.append(&mut batches(2)).unwrap_err();
            assert_eq!(fault.written_bytes, 0);
            assert_eq!(fault.error.kind(), std::io::ErrorKind::StorageFull);
        }
    }
}

#[test]
fn a_pipe_without_reader_ends_a_run_in_order() {
    let (reader, pipe) = std::io::pipe().unwrap();
    let sink = StdoutSink::on(File::from(std::os::fd::OwnedFd::from(pipe)));
    drop(reader);
    let limits =
        Limits { batch_bytes: 64, direct_batch_bytes: 64, batch_count_max: 4, line_bytes_max: 64 };
    let (mut senders, writer) =
        Writer::start(vec![Box::new(sink)], 1, limits, Policy::Wait).unwrap();
    let mut sender = senders.remove(0);
    let mut stats = EmitStats::default();
    let start = Instant::now();
    while !sender.is_closed() {
        sender.line(&mut stats, |out| out.extend_from_slice(b"a line\n"));
        assert!(start.elapsed() < Duration::from_secs(20), "nobody saw that the reader had gone");
    }
    sender.close(&mut stats);
    let (written, result) = writer.finish();
    result.unwrap();
    assert_eq!((written.lines_written, written.faults), (0, 0));
}

/// The environment variable with the path of a file system of 256 KiB, for the tests below.
const SMALL_DISK: &str = "HTTPLINES_TEST_SMALL_DISK";

/// Runs one of the tests below in a mount namespace of its own, with a small tmpfs.
fn on_a_small_disk(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k,mode=700 none \"$0\" || exit 77; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(SMALL_DISK, directory.path())
        .output();
    let output = match output {
        Ok(output) if matches!(output.status.code(), Some(1 | 77)) => {
            let why = String::from_utf8_lossy(&output.stderr);
            skip!(format!("needs a tmpfs: {}", why.lines().last().unwrap_or_default()));
        }
        Ok(output) => output,
        Err(_) => skip!("needs unshare"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn a_full_disk_cuts_back_and_resumes() {
    on_a_small_disk("sink::root::small_disk_cuts_back_and_resumes");
}

#[test]
fn a_full_disk_under_a_pipe_like_output_is_continued() {
    on_a_small_disk("sink::root::small_disk_is_continued");
}

#[test]
fn a_full_disk_under_the_writer() {
    on_a_small_disk("sink::root::small_disk_under_the_writer");
}

/// These are run by the tests above, which need root for their file system.
mod root {
    use super::*;

    fn small_disk() -> PathBuf {
        std::env::var_os(SMALL_DISK).expect("run by the test of the same end").into()
    }

    /// Takes a part of the disk, once all of it is free. The kernel closes the file of a ring that
    /// was dropped a little later, and only then gives back the space of one that was removed.
    fn fill(filler: &Path) {
        let until = Instant::now() + Duration::from_secs(20);
        while let Err(error) = fs::write(filler, vec![0; 250_000]) {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::write(filler, vec![0; 100_000]).unwrap();
    }

    #[test]
    #[ignore = "needs a small disk"]
    fn small_disk_cuts_back_and_resumes() {
        let disk = small_disk();
        for (way, mut sink) in both_ways(&disk.join("http.jsonl")) {
            let path = PathBuf::from(sink.name());
            let filler = disk.join("filler");
            fill(&filler);
            sink.append(&mut batches(2)).unwrap();
            let before = fs::read(&path).unwrap();
            let mut many = batches(100);
            let fault = sink.append(&mut many).unwrap_err();
            assert_eq!(fault.error.raw_os_error(), Some(libc::ENOSPC), "{way}");
            let full = fs::read(&path).unwrap();
            assert!(fault.written_bytes > 50_000, "{way}: {}", fault.written_bytes);
            assert_eq!(full.len(), before.len() + fault.written_bytes, "{way}");
            assert!(full == [before, bytes_of(&many)[..fault.written_bytes].to_vec()].concat());
            whole_numbers(&full);
            fs::remove_file(&filler).unwrap();
            sink.append(&mut [batch(7, 3)]).unwrap();
            let resumed = whole_numbers(&fs::read(&path).unwrap());
            assert!(resumed.ends_with(&[7, 8, 9]), "{way}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    #[ignore = "needs a small disk"]
    fn small_disk_is_continued() {
        let disk = small_disk();
        let (path, filler) = (disk.join("out"), disk.join("filler"));
        fill(&filler);
        let mut sink = StdoutSink::on(File::create(&path).unwrap());
        let mut many = batches(100);
        let fault = sink.append(&mut many).unwrap_err();
        let torn = fs::read(&path).unwrap();
        assert!(torn.len() < fault.written_bytes, "the torn line counts as written");
        assert_eq!(sink.append(&mut [batch(0, 1)]).unwrap_err().written_bytes, 0);
        fs::remove_file(&filler).unwrap();
        sink.append(&mut [batch(7, 3)]).unwrap();
        let whole = [&bytes_of(&many)[..fault.written_bytes], &batch(7, 3).bytes].concat();
        assert!(fs::read(&path).unwrap() == whole);
        whole_numbers(&whole);
    }

    #[test]
    #[ignore = "needs a small disk"]
    fn small_disk_under_the_writer() {
        let disk = small_disk();
        let limits = Limits {
            batch_bytes: 4096,
            direct_batch_bytes: 4096,
            batch_count_max: 64,
            line_bytes_max: 128,
        };
        for policy in [Policy::Drop, Policy::Wait] {
            let path = disk.join("http.jsonl");
            let filler = disk.join("filler");
            fill(&filler);
            let sink = Box::new(FileSink::open(&path).unwrap());
            let (mut senders, writer) = Writer::start(vec![sink], 1, limits, policy).unwrap();
            let mut sender = senders.remove(0);
            let mut stats = EmitStats::default();
            let mut say = |sender: &mut httplines::output::BatchSender,
                           numbers: std::ops::Range<u64>| {
                for number in numbers {
                    let line = batch(number, 1).bytes;
                    sender.line(&mut stats, |out| out.extend_from_slice(&line));
                    if number % 500 == 0 {
                        sender.flush(&mut stats);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            };
            say(&mut sender, 0..20_000);
            std::thread::sleep(Duration::from_millis(50));
            fs::remove_file(&filler).unwrap();
            say(&mut sender, 20_000..20_500);
            sender.close(&mut stats);
            let (written, result) = writer.finish();
            let numbers = whole_numbers(&fs::read(&path).unwrap());
            assert!(numbers.is_sorted());
            if policy == Policy::Wait {
                assert!(matches!(result, Err(WriterError::Write { .. })), "{result:?}");
                assert!(
                    numbers.last() < Some(&20_000) && numbers.len() as u64 == written.lines_written
                );
                continue;
            }
            result.unwrap();
            assert_eq!(written.lines_written, numbers.len() as u64);
            assert_eq!(written.lines_written + written.lines_lost + stats.lines_dropped, 20_500);
            assert_eq!(written.faults, 1);
            assert_eq!(numbers.last(), Some(&20_499));
            assert!(!numbers.contains(&15_000));
            fs::remove_file(&path).unwrap();
        }
    }
}
