//! Rotation on a real file system.

use super::*;
use crate::ids::ShardId;
use crate::output::{FileSink, Sink};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::SystemTime;

struct Lab {
    directory: tempfile::TempDir,
    files: Arc<Files>,
}

impl Lab {
    fn new() -> Lab {
        let files = Arc::new(Files::new().0);
        Lab { directory: tempfile::tempdir().unwrap(), files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn rotation(&self, config: &FilesConfig) -> Rotation {
        Rotation::new(&self.path("http.jsonl"), 0, config, self.files.clone()).unwrap()
    }

    /// A sink that rotates before a file is larger than `bytes`.
    fn sink(&self, bytes: u64) -> FileSink {
        let config = FilesConfig { rotate_bytes: Some(bytes), ..FilesConfig::default() };
        let sink = FileSink::open_plain(&self.path("http.jsonl")).unwrap();
        sink.with_rotation(self.rotation(&config)).unwrap()
    }

    /// A rotation by size, and the file that it begins with, which holds `text`.
    fn begun(&self, text: &str) -> (Rotation, File) {
        let config = FilesConfig { rotate_bytes: Some(1), ..FilesConfig::default() };
        let mut rotation = self.rotation(&config);
        std::fs::write(self.path("http.jsonl"), text).unwrap();
        let file = File::options().append(true).open(self.path("http.jsonl")).unwrap();
        assert!(!rotation.begin(&file, UtcMicros::now()).unwrap());
        (rotation, file)
    }

    /// All files with their content, in the order of their names.
    fn content(&self) -> BTreeMap<String, String> {
        let entries = self.directory.path().read_dir().unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let named = files.map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        });
        named.collect()
    }
}

fn batches(lines: &[&str]) -> Vec<Batch> {
    let batch = |line: &&str| Batch {
        bytes: format!("{line}\n").into_bytes(),
        line_count: 1,
        shard: ShardId(0),
    };
    lines.iter().map(batch).collect()
}

/// Appends as the writer does.
fn append(sink: &mut FileSink, lines: &[&str]) {
    let mut batches = batches(lines);
    let mut rest = &mut batches[..];
    while !rest.is_empty() {
        let count = sink.make_room(rest);
        let (fitting, others) = rest.split_at_mut(count);
        sink.append(fitting).unwrap();
        rest = others;
    }
}

#[test]
fn files_are_closed_before_they_are_too_large() {
    let lab = Lab::new();
    let mut sink = lab.sink(10);
    append(&mut sink, &["1", "22", "333", "4444", "a line of more than ten bytes", "6"]);
    append(&mut sink, &["7", "8"]);
    let content = lab.content();
    let texts: Vec<_> = content.values().map(String::as_str).collect();
    // In the order of their names, and that is the order of the lines.
    let expected = ["1\n22\n333\n", "4444\n", "a line of more than ten bytes\n", "6\n7\n8\n"];
    assert_eq!(texts, expected);
    let names: Vec<_> = content.keys().cloned().collect();
    assert_eq!(names[3], "http.jsonl");
    let name = FileName::of(Path::new("http.jsonl")).unwrap();
    assert!(names[..3].iter().all(|closed| name.parse(closed.as_ref()).is_some()), "{names:?}");
    assert_eq!(lab.files.stats().rotations, 3);
    assert_eq!(lab.files.stats().rotation_failures, 0);
}

#[test]
fn a_file_that_is_there_at_the_start_goes_on_unless_its_interval_is_over() {
    let lab = Lab::new();
    let rotate_interval = Some(Duration::from_secs(3600));
    let hourly = FilesConfig { rotate_interval, ..FilesConfig::default() };
    std::fs::write(lab.path("http.jsonl"), "old\n").unwrap();
    let file = File::options().append(true).open(lab.path("http.jsonl")).unwrap();
    let hour_us = 3_600_000_000;
    let now = UtcMicros::now();
    let mut rotation = lab.rotation(&hourly);
    let written = SystemTime::now();
    file.set_modified(written).unwrap();
    let this_hour = UtcMicros::from(written).0 / hour_us;
    assert!(!rotation.begin(&file, UtcMicros::from(written)).unwrap());
    assert!(rotation.begin(&file, UtcMicros((this_hour + 1) * hour_us)).unwrap());
    assert!(!rotation.begin(&file, UtcMicros((this_hour + 1) * hour_us - 1)).unwrap());
    assert!(rotation.begin(&file, UtcMicros((this_hour - 1) * hour_us)).unwrap(), "set back");
    assert!(rotation.opened <= now, "it is as old as it was");
    // An empty file belongs to the interval in which its first line comes.
    file.set_len(0).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(!rotation.begin(&file, now).unwrap());
    assert!(!rotation.is_over(UtcMicros(now.0 + 5 * hour_us)));
    assert_eq!(rotation.opened, UtcMicros(now.0 + 5 * hour_us));
    rotation.set_bytes(1);
    assert!(rotation.is_over(UtcMicros(now.0 + 6 * hour_us)));
}

#[test]
fn a_stale_file_is_closed_at_the_start() {
    let lab = Lab::new();
    let path = lab.path("http.jsonl");
    std::fs::write(&path, "old, and torn").unwrap();
    let old = SystemTime::now() - Duration::from_secs(7200);
    File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
    let rotate_interval = Some(Duration::from_secs(3600));
    let hourly = FilesConfig { rotate_interval, ..FilesConfig::default() };
    let sink = FileSink::open_plain(&path).unwrap();
    let mut sink = sink.with_rotation(lab.rotation(&hourly)).unwrap();
    append(&mut sink, &["new"]);
    let content = lab.content();
    assert_eq!(content.values().collect::<Vec<_>>(), ["old, and torn\n", "new\n"]);
}

#[test]
fn no_name_is_used_twice() {
    let lab = Lab::new();
    let (mut rotation, file) = lab.begun("lines\n");
    let name = rotation.name.clone();
    let opened = rotation.opened;
    std::fs::write(lab.path(name.closed(opened).to_str().unwrap()), "taken\n").unwrap();
    let compressed = name.in_form(opened.next(), Form::Compressed);
    std::fs::write(lab.path(compressed.to_str().unwrap()), "taken, too\n").unwrap();
    rotation.rotate(&file).unwrap();
    let third = name.closed(opened.next().next()).into_string().unwrap();
    assert_eq!(lab.content()[&third], "lines\n");
    assert_eq!(lab.content().len(), 4);
}

#[test]
fn if_the_next_file_cannot_be_opened_lines_go_on_in_the_closed_one() {
    let lab = Lab::new();
    let (mut rotation, mut file) = lab.begun("1\n");
    // Between rename and open, somebody takes the name.
    rotation.closed = rotation.close().unwrap();
    let closed = rotation.name.closed(rotation.closed.unwrap()).into_string().unwrap();
    std::fs::create_dir(lab.path("http.jsonl")).unwrap();
    assert!(rotation.rotate(&file).is_none());
    assert!(!rotation.is_due(100), "not before a second has passed");
    rotation.retry_at = Some(Instant::now());
    assert!(rotation.is_due(0) && rotation.rotate(&file).is_none());
    file.write_all(b"2\n").unwrap();
    std::fs::remove_dir(lab.path("http.jsonl")).unwrap();
    let next = rotation.rotate(&file).unwrap();
    assert_eq!(lab.content()[&closed], "1\n2\n");
    assert_eq!(lab.content()["http.jsonl"], "");
    assert!(rotation.is_for(&next.file) && rotation.retry_at.is_none());
    let stats = lab.files.stats();
    assert_eq!((stats.rotations, stats.rotation_failures), (1, 2));
}

#[test]
fn a_file_that_appears_between_rename_and_open_is_appended_to() {
    let lab = Lab::new();
    let (mut rotation, file) = lab.begun("1\n");
    rotation.closed = rotation.close().unwrap();
    std::fs::write(lab.path("http.jsonl"), "not ours").unwrap();
    let next = rotation.rotate(&file).unwrap();
    assert!(next.is_torn && rotation.bytes == 8);
    // Nothing is written to what the rules of an output refuse.
    rotation.closed = rotation.close().unwrap();
    std::fs::write(lab.path("http.jsonl"), b"\x1f\x8b\x08").unwrap();
    assert!(rotation.rotate(&next.file).is_none());
    assert_eq!(std::fs::read(lab.path("http.jsonl")).unwrap(), b"\x1f\x8b\x08");
}

#[test]
fn a_file_that_was_moved_keeps_the_name_that_it_got() {
    let lab = Lab::new();
    let (mut rotation, file) = lab.begun("1\n");
    std::fs::rename(lab.path("http.jsonl"), lab.path("moved")).unwrap();
    rotation.rotate(&file).unwrap();
    let content = lab.content();
    assert_eq!((content.len(), &content["moved"][..], &content["http.jsonl"][..]), (2, "1\n", ""));
    // Another file has the name now. It is not the one that is written, so it is not renamed.
    let (mut rotation, file) = Lab::begun(&lab, "2\n");
    std::fs::rename(lab.path("http.jsonl"), lab.path("moved")).unwrap();
    std::fs::write(lab.path("http.jsonl"), "other\n").unwrap();
    rotation.rotate(&file).unwrap();
    let content = lab.content();
    assert_eq!((content.len(), &content["moved"][..]), (2, "2\n"));
    assert_eq!(content["http.jsonl"], "other\n");
}

#[test]
fn sighup_closes_a_file_that_nobody_moved() {
    let lab = Lab::new();
    let mut sink = lab.sink(1_000_000);
    sink.reopen().unwrap();
    assert_eq!(lab.content().len(), 1, "an empty file stays");
    append(&mut sink, &["1"]);
    sink.reopen().unwrap();
    append(&mut sink, &["2"]);
    assert_eq!(lab.content().values().collect::<Vec<_>>(), ["1\n", "2\n"]);
    std::fs::rename(lab.path("http.jsonl"), lab.path("moved")).unwrap();
    sink.reopen().unwrap();
    append(&mut sink, &["3"]);
    let content = lab.content();
    assert_eq!(
        (content.len(), &content["moved"][..], &content["http.jsonl"][..]),
        (3, "2\n", "3\n")
    );
}

#[test]
fn two_runs_cannot_rotate_the_same_file() {
    let lab = Lab::new();
    let sink = lab.sink(1_000_000);
    let error = FileSink::open_plain(&lab.path("http.jsonl")).unwrap_err();
    assert!(error.to_string().starts_with("another httplines writes to it"), "{error}");
    drop(sink);
    let _plain = FileSink::open_plain(&lab.path("http.jsonl")).unwrap();
    let _other = FileSink::open_plain(&lab.path("http.jsonl")).unwrap();
    let config = FilesConfig { rotate_bytes: Some(1), ..FilesConfig::default() };
    let sink = FileSink::open_plain(&lab.path("http.jsonl")).unwrap();
    assert!(sink.with_rotation(lab.rotation(&config)).is_err());
}

#[test]
fn only_files_are_rotated() {
    let lab = Lab::new();
    let config = FilesConfig { rotate_bytes: Some(1), ..FilesConfig::default() };
    let files = lab.files.clone();
    let null = Path::new("/dev/null");
    let rotation = Rotation::new(null, 0, &config, files).unwrap();
    let error = FileSink::open_plain(null).unwrap().with_rotation(rotation).unwrap_err();
    assert!(error.to_string().starts_with("/dev/null is no file"), "{error}");
}
