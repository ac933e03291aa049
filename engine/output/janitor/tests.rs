//! The janitor on real directories.

use super::*;
use crate::config::KeepFree;
use crate::output::files::ClosedFile;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

struct Lab {
    temporary: tempfile::TempDir,
    files: Arc<Files>,
}

const SECOND: u64 = 1_000_000;

impl Lab {
    /// The `count`th second has a closed file of 1000 bytes, from 1 on; the file that is open has
    /// 500 bytes.
    fn new(count: u64) -> Lab {
        let files = Arc::new(Files::new().0);
        let lab = Lab { temporary: tempfile::tempdir().unwrap(), files };
        for second in 1..=count {
            lab.write(&closed(second), 1000);
        }
        lab.write("http.jsonl", 500);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    fn write(&self, name: &str, bytes: usize) {
        std::fs::write(self.path(name), &"a line\n".repeat(bytes / 7 + 1).as_bytes()[..bytes])
            .unwrap();
    }

    fn janitor(&self, config: FilesConfig) -> Janitor {
        self.janitor_of(&["http.jsonl"], config)
    }

    /// As it is after its start.
    fn janitor_of(&self, names: &[&str], config: FilesConfig) -> Janitor {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let sidecar = FileName::of(Path::new("http.stats"));
        let news = std::sync::mpsc::sync_channel(1).1;
        let files = self.files.clone();
        let mut janitor = Janitor::open(&config, &paths, sidecar, files, news).unwrap();
        janitor.tidy_up();
        janitor
    }

    /// The names of all files, sorted, except those that are open.
    fn names(&self) -> Vec<String> {
        let entries = self.temporary.path().read_dir().unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "http.jsonl");
        names.sort();
        names
    }
}

fn in_form(second: u64, form: Form) -> String {
    let name = FileName::of(Path::new("http.jsonl")).unwrap();
    name.in_form(UtcMicros(second * SECOND), form).into_string().unwrap()
}

fn closed(second: u64) -> String {
    in_form(second, Form::Plain)
}

fn of_seconds(seconds: impl IntoIterator<Item = u64>) -> Vec<String> {
    seconds.into_iter().map(closed).collect()
}

#[test]
fn the_newest_closed_files_are_kept() {
    let lab = Lab::new(5);
    let config = FilesConfig { keep_file_count: Some(2), ..FilesConfig::default() };
    let mut janitor = lab.janitor(config);
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds(4..=5));
    // A file that was closed later is newer, although the clock was set back.
    lab.write(&closed(3), 1000);
    janitor.closed.push(Entry::new(0, UtcMicros(3 * SECOND), 1000, Form::Plain));
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds([3, 5]));
    let stats = lab.files.stats();
    assert_eq!((stats.files_deleted, stats.bytes_deleted), (4, 4000));
}

#[test]
fn all_files_together_keep_to_their_size() {
    let lab = Lab::new(5);
    let config = FilesConfig { keep_bytes: Some(3600), ..FilesConfig::default() };
    let mut janitor = lab.janitor(config);
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds(3..=5));
    // The file that is open grows, and is never deleted.
    lab.write("http.jsonl", 1000);
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds(4..=5));
    lab.write("http.jsonl", 10_000);
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds([]));
    assert!(lab.path("http.jsonl").exists());
}

#[test]
fn files_that_others_removed_do_not_count() {
    let lab = Lab::new(5);
    let config = FilesConfig { keep_bytes: Some(5600), ..FilesConfig::default() };
    let mut janitor = lab.janitor(config);
    std::fs::remove_file(lab.path(&closed(4))).unwrap();
    // By the books it is too much now.
    lab.write("http.jsonl", 1000);
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds([1, 2, 3, 5]));
    assert_eq!(lab.files.stats().files_deleted, 0);
}

#[test]
fn free_space_is_kept_by_deleting_no_more_than_is_missing() {
    let lab = Lab::new(0);
    for second in 1..=4 {
        lab.write(&closed(second), 1 << 20);
    }
    let free = Directory::of(&lab.path("x")).unwrap().space().unwrap().free_bytes;
    // Others use the file system, too; so what is missing is known roughly only.
    let config = FilesConfig {
        keep_free: Some(KeepFree::Bytes(free + (3 << 19))),
        ..FilesConfig::default()
    };
    let mut janitor = lab.janitor(config);
    janitor.enforce();
    assert!(!lab.path(&closed(1)).exists());
    let everything = KeepFree::Bytes(u64::MAX);
    janitor.config.keep_free = Some(everything);
    janitor.free_at = None;
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds([]));
    janitor.free_at = None;
    janitor.enforce();
    assert!(janitor.is_space_missing && lab.path("http.jsonl").exists());
    janitor.config.keep_free = Some(KeepFree::Bytes(1));
    janitor.enforce();
    assert!(!janitor.is_space_missing);
    assert_eq!(KeepFree::Percent(5).bytes(1000), 50);
}

#[test]
fn only_closed_files_of_this_run_are_touched() {
    let lab = Lab::new(3);
    let others = [
        "http.0-19700101T000001.000000Z.jsonl",
        "http-19700101T000001.000000Z.json",
        "http-19700101T000001.000000Z.jsonl.gz",
        "other-19700101T000001.000000Z.jsonl",
        ".other-19700101T000001.000000Z.jsonl.zst.part",
    ];
    others.iter().for_each(|name| lab.write(name, 1000));
    std::fs::remove_file(lab.path(&closed(1))).unwrap();
    std::fs::remove_file(lab.path(&closed(2))).unwrap();
    // Names of ours that are a link and a directory.
    symlink("http.jsonl", lab.path(&closed(1))).unwrap();
    std::fs::create_dir(lab.path(&closed(2))).unwrap();
    let config = FilesConfig { keep_bytes: Some(1), ..FilesConfig::default() };
    lab.janitor(config).enforce();
    let mut expected: Vec<_> = others.iter().map(|name| name.to_string()).collect();
    expected.extend([closed(1), closed(2)]);
    expected.sort();
    assert_eq!(lab.names(), expected);
}

#[test]
fn a_file_that_is_still_written_is_neither_deleted_nor_compressed() {
    let lab = Lab::new(3);
    let writer = std::fs::File::open(lab.path(&closed(1))).unwrap();
    lock(&writer, Sharing::Alone).unwrap();
    let config = FilesConfig { keep_file_count: Some(1), ..FilesConfig::default() };
    let mut janitor = lab.janitor(config);
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds([1]), "the next ones were deleted instead");
    drop(writer);
    janitor.closed.get_mut(0, UtcMicros(SECOND)).unwrap().retry_at = None;
    janitor.config.keep_file_count = None;
    janitor.config.keep_bytes = Some(1);
    janitor.enforce();
    assert_eq!(lab.names(), of_seconds([]));
    assert_eq!(lab.files.stats().janitor_failures, 0);
}

#[test]
fn a_sidecar_goes_with_its_file() {
    let lab = Lab::new(3);
    let sidecar = |second| closed(second).replace(".jsonl", ".stats");
    (1..=3).for_each(|second| lab.write(&sidecar(second), 10));
    let config = FilesConfig { keep_file_count: Some(1), ..FilesConfig::default() };
    lab.janitor(config).enforce();
    assert_eq!(lab.names(), [closed(3), sidecar(3)]);
}

#[test]
fn each_output_keeps_its_own_files() {
    let lab = Lab::new(0);
    let name = |shard: u64, second| closed(second).replace("http-", &format!("http.{shard}-"));
    for second in 1..=3 {
        lab.write(&name(0, second), 10);
        lab.write(&name(1, second + 3), 10);
    }
    let config = FilesConfig { keep_file_count: Some(2), ..FilesConfig::default() };
    let mut janitor = lab.janitor_of(&["http.0.jsonl", "http.1.jsonl"], config);
    janitor.enforce();
    assert_eq!(lab.names(), [name(0, 2), name(0, 3), name(1, 5), name(1, 6)]);
    // All files together: the oldest first.
    janitor.config.keep_bytes = Some(30);
    janitor.enforce();
    assert_eq!(lab.names(), [name(0, 3), name(1, 5), name(1, 6)]);
}

#[cfg(feature = "cli")]
mod compression {
    use super::*;

    fn compressing() -> FilesConfig {
        FilesConfig { is_compressed: true, ..FilesConfig::default() }
    }

    fn compress_all(janitor: &mut Janitor) {
        janitor.compress_a_part();
        while janitor.is_compressing() {
            janitor.compress_a_part();
        }
    }

    fn compressed(second: u64) -> String {
        in_form(second, Form::Compressed)
    }

    #[test]
    fn all_but_the_newest_file_are_compressed() {
        let lab = Lab::new(3);
        lab.write(&closed(1), 5 << 20);
        let plain = std::fs::read(lab.path(&closed(1))).unwrap();
        let mode = std::fs::Permissions::from_mode(0o604);
        std::fs::set_permissions(lab.path(&closed(1)), mode).unwrap();
        let modified = lab.path(&closed(1)).metadata().unwrap().modified().unwrap();
        let mut janitor = lab.janitor(compressing());
        compress_all(&mut janitor);
        assert_eq!(lab.names(), [compressed(1), compressed(2), closed(3)]);
        let metadata = lab.path(&compressed(1)).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o604);
        assert_eq!(metadata.modified().unwrap(), modified);
        let bytes = std::fs::read(lab.path(&compressed(1))).unwrap();
        assert!(zstd::decode_all(&bytes[..]).unwrap() == plain);
        assert_eq!(lab.files.stats().files_compressed, 2);
        // Compressed files are closed files, and count with their size.
        let books = janitor.closed.bytes();
        janitor.list();
        assert_eq!(janitor.closed.bytes(), books);
        janitor.config.keep_file_count = Some(1);
        janitor.enforce();
        assert_eq!(lab.names(), of_seconds([3]));
    }

    #[test]
    fn what_a_crash_left_is_tidied_up() {
        let lab = Lab::new(3);
        // Killed while compressing, and before the plain file was removed.
        lab.write(&in_form(1, Form::Part), 10);
        lab.write(&compressed(2), 10);
        // Killed after a name was claimed.
        lab.write(&closed(4), 0);
        let mut janitor = lab.janitor(compressing());
        assert_eq!(lab.names(), of_seconds(1..=3));
        compress_all(&mut janitor);
        assert_eq!(lab.names(), [compressed(1), compressed(2), closed(3)]);
        let bytes = std::fs::read(lab.path(&compressed(2))).unwrap();
        assert_eq!(zstd::decode_all(&bytes[..]).unwrap().len(), 1000);
    }

    #[test]
    fn a_file_that_is_deleted_or_written_meanwhile_is_not_compressed() {
        let lab = Lab::new(3);
        lab.write(&closed(1), 5 << 20);
        let mut janitor = lab.janitor(compressing());
        janitor.compress_a_part();
        janitor.compress_a_part();
        assert!(lab.path(&in_form(1, Form::Part)).exists());
        janitor.config.keep_file_count = Some(2);
        janitor.enforce();
        assert_eq!(lab.names(), of_seconds(2..=3));
        janitor.compress_a_part();
        assert!(janitor.is_compressing());
        // At the end of a run what is begun is given up.
        janitor.end();
        assert_eq!(lab.names(), of_seconds(2..=3));
        let writer = std::fs::File::open(lab.path(&closed(2))).unwrap();
        lock(&writer, Sharing::Alone).unwrap();
        compress_all(&mut janitor);
        assert_eq!(lab.names(), of_seconds(2..=3));
        assert_eq!(lab.files.stats().janitor_failures, 0, "that is no fault");
    }

    #[test]
    fn the_thread_hears_of_closed_files_and_stops_at_once() {
        let lab = Lab::new(0);
        let (files, news) = Files::new();
        let files = Arc::new(files);
        let paths = [lab.path("http.jsonl")];
        let janitor = Janitor::open(&compressing(), &paths, None, files.clone(), news).unwrap();
        let mut thread = janitor.start().unwrap();
        for second in 1..=2000 {
            lab.write(&closed(second), 10);
            let opened = UtcMicros(second * SECOND);
            files.tell(News::Closed(ClosedFile { output: 0, opened, bytes: 10 }));
        }
        let begun = Instant::now();
        while files.stats().files_compressed < 1999 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", files.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!thread.stop());
        assert!(lab.path(&closed(2000)).exists() && lab.path(&compressed(1999)).exists());
    }
}
