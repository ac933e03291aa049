//! Faults while files are closed and opened: no line is lost, no name is used twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::capture_file::{Order, Unit, pcap};
use crate::support::conversation::Conversation;

/// How often the program is killed: this often, or what this variable says, for trials by hand.
const KILL_COUNT: (&str, u64) = ("HTTPLINES_TEST_KILLS", 30);

/// Exchanges of one run that may be killed. Their lines fill some hundred files.
const EXCHANGE_COUNT: usize = 5_000;

/// The bytes of a capture whose targets are `/RUNS/0/`, `/RUNS/1/`, …
fn capture() -> Vec<u8> {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:80");
    talk.handshake();
    for number in 0..EXCHANGE_COUNT {
        let filling = "x".repeat(number % 700);
        talk.client(format!("GET /RUNS/{number}/{filling} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    talk.finish();
    pcap(Order::Little, Unit::Nano, 1, &talk.frames(1_700_000_000_000_000_000, 1000))
}

/// The same capture for another run. Checksums are counted, but wrong ones change nothing.
fn number_runs(capture: &[u8], run: u64) -> Vec<u8> {
    let (old, new) = (b"GET /RUNS/", format!("GET /{run:04}/"));
    let mut bytes = capture.to_vec();
    for at in memchr::memmem::find_iter(capture, old) {
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    bytes
}

/// A number that nobody can foresee, below `end`.
fn random(end: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % end
}

/// The names in the directory in the order of their lines.
fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    let mut names: Vec<_> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    // The one that is open has no time in its name, and comes last.
    names.sort_by_key(|name| (name == "http.jsonl", name.clone()));
    names
}

/// The lines of a file.
fn lines(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("a file");
    match path.extension().is_some_and(|extension| extension == "zst") {
        true => zstd::decode_all(&bytes[..]).expect("it is compressed, and whole"),
        false => bytes,
    }
}

/// Checks the lines of all runs: of each run the first ones are there, in order, whole and once. A
/// run that was killed may leave half of its last line, which the next one ends.
fn check(directory: &Path, run_count: u64) -> (u64, u64) {
    let (mut next, mut torn): (BTreeMap<u64, u64>, u64) = (BTreeMap::new(), 0);
    let mut last_run = 0;
    for name in names(directory) {
        for line in lines(&directory.join(&name)).split_inclusive(|byte| *byte == b'\n') {
            let record: Result<serde_json::Value, _> = serde_json::from_slice(line);
            let Ok(record) = record else {
                torn += 1;
                continue;
            };
            let mut parts = record["target"].as_str().expect("a target").split('/').skip(1);
            let run: u64 = parts.next().expect("a run").parse().expect("a number");
            let number: u64 = parts.next().expect("an exchange").parse().expect("a number");
            assert!(run >= last_run, "{name}: run {run} after {last_run}");
            last_run = run;
            let expected = next.entry(run).or_default();
            assert_eq!(number, *expected, "{name}: a line of run {run} is missing or came twice");
            *expected += 1;
        }
    }
    assert!(torn <= run_count, "{torn} torn lines");
    (next.values().sum(), torn)
}

#[test]
fn a_process_that_is_killed_loses_no_line_that_it_wrote() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let logs = place.path().join("logs");
    fs::create_dir(&logs).expect("a directory");
    let capture = capture();
    let input = place.path().join("input.pcap");
    let start = |run: u64| {
        fs::write(&input, number_runs(&capture, run)).expect("a file");
        let mut command = Command::new(crate::httplines());
        command.args(["-q", "-C", "64K", "-o", "logs/http.jsonl", "--shards", "1"]);
        command.args(["--compress", "zstd", "-r", "input.pcap"]).current_dir(place.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let whole = Instant::now();
    assert!(start(0).wait().expect("a child of ours").success());
    let whole = whole.elapsed();
    let kills = std::env::var(KILL_COUNT.0).map_or(KILL_COUNT.1, |count| count.parse().unwrap());
    let (mut killed, mut seen) = (0, BTreeMap::new());
    for run in 1..=kills {
        let mut child = start(run);
        std::thread::sleep(Duration::from_micros(random(whole.as_micros() as u64)));
        child.kill().expect("a child of ours");
        let ended = child.wait().expect("a child of ours");
        killed += u64::from(ended.code().is_none());
        let is_closed = |name: &String| name.starts_with("http-");
        for name in names(&logs).into_iter().filter(is_closed) {
            // A file that was seen as it is now was not written again: its size is the same.
            let path = logs.join(&name);
            let size = path.metadata().expect("it is there").len();
            if seen.insert(name.clone(), size).is_some_and(|before| before != size) {
                panic!("{name} was used twice");
            }
        }
    }
    let last = start(kills + 1).wait_with_output().expect("a child of ours");
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    let names = names(&logs);
    let is_whole = |name: &String| name == "http.jsonl" || name.starts_with("http-");
    assert!(names.iter().all(is_whole), "half-compressed files are left: {names:?}");
    for name in names.iter().filter_map(|name| name.strip_suffix(".zst")) {
        assert!(!logs.join(name).exists(), "{name} is there twice");
    }
    let (line_count, torn_count) = check(&logs, kills);
    assert!(killed > kills / 4, "only {killed} of {kills} runs were killed in time");
    let file_count = names.len();
    println!("{killed} killed, {file_count} files, {line_count} lines, {torn_count} torn");
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use crate::support::fault_site::{FaultSite, numbers};
    use crate::support::faulty_disk::FaultyDisk;
    use crate::support::lab::{Finished, missing_program, wait_until};

    const NOBODY: u32 = 65534;

    /// The lines of all files of the output on `disk`.
    fn all_lines(disk: &FaultyDisk) -> Vec<u8> {
        let names = disk.names();
        let ours = names.iter().filter(|name| name.starts_with("http"));
        ours.filter(|name| name.ends_with(".jsonl"))
            .flat_map(|name| disk.read(name).unwrap())
            .collect()
    }

    fn closed_count(names: &[String]) -> usize {
        names.iter().filter(|name| name.starts_with("http-") && name.ends_with(".jsonl")).count()
    }

    /// The files of lines in the directory whose paths below it begin with `begin`.
    fn jsonl(site: &FaultSite, begin: &str) -> Vec<PathBuf> {
        let files = site.files(begin).into_iter();
        files.filter(|path| path.extension().is_some_and(|name| name == "jsonl")).collect()
    }

    fn closed_files(site: &FaultSite) -> usize {
        jsonl(site, "http-").len()
    }

    /// Asserts that no line was lost.
    fn check_all(site: &FaultSite, finished: &Finished, bytes: &[u8]) {
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        finished.told(" 0 lines lost");
        assert_eq!(numbers(bytes), (0..site.sent_count()).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_system_whose_renames_replace() {
        let (mut site, disk) = site!(FaultSite::with_disk());
        disk.set(|faults| faults.has_no_rename_flags = true);
        let running = site.capture("-o http.jsonl -C 64K");
        for _ in 0..10 {
            let before = all_lines(&disk).len();
            site.exchanges(7);
            wait_until("lines", || all_lines(&disk).len() > before + 7 * 8000);
        }
        let finished = running.stop();
        let names = disk.names();
        assert!(closed_count(&names) >= 8, "{names:?}");
        assert!(
            names
                .iter()
                .filter(|name| name.starts_with("http-"))
                .all(|name| !disk.read(name).unwrap().is_empty())
        );
        check_all(&site, &finished, &all_lines(&disk));
    }

    /// Somebody makes a file with the output's name as soon as it is free. It is not replaced:
    /// lines go on in it, as they do at a start.
    #[test]
    fn a_name_that_is_taken_between_rename_and_create() {
        let (mut site, disk) = site!(FaultSite::with_disk());
        disk.set(|faults| faults.squatter = Some((b"{\"theirs\":1}\n".to_vec(), 0)));
        let running = site.capture("-o http.jsonl -C 64K");
        for _ in 0..5 {
            let before = all_lines(&disk).len();
            site.exchanges(9);
            wait_until("lines", || all_lines(&disk).len() > before + 9 * 8000);
        }
        let finished = running.stop();
        assert!(disk.squatted_count() >= 4, "{:?}", disk.names());
        let lines = all_lines(&disk);
        let ours = lines.split_inclusive(|byte| *byte == b'\n');
        let ours =
            ours.filter(|line| !line.starts_with(b"{\"theirs\"")).collect::<Vec<_>>().concat();
        check_all(&site, &finished, &ours);
        let theirs = lines.len() - ours.len();
        assert_eq!(theirs as u64, 13 * disk.squatted_count(), "somebody's lines are lost");
    }

    /// Root does not write into the file of another user. Lines go on in the file that was closed.
    #[test]
    fn a_name_that_is_taken_by_another_user() {
        let (mut site, disk) = site!(FaultSite::with_disk());
        let mut running = site.capture("-o http.jsonl -C 64K");
        disk.set(|faults| faults.squatter = Some((b"theirs".to_vec(), NOBODY)));
        for _ in 0..5 {
            let before = all_lines(&disk).len();
            site.exchanges(9);
            wait_until("lines", || all_lines(&disk).len() > before + 9 * 8000);
        }
        running.await_stderr("cannot rotate http.jsonl: it belongs to another user (65534)");
        assert_eq!(disk.read("http.jsonl").expect("theirs"), b"theirs");
        assert_eq!(closed_count(&disk.names()), 1, "{:?}", disk.names());
        disk.set(|faults| faults.squatter = None);
        disk.remove("http.jsonl");
        running.await_stderr("http.jsonl: rotated again");
        site.exchanges(3);
        let finished = running.stop();
        check_all(&site, &finished, &all_lines(&disk));
        assert_eq!(finished.stderr.matches("cannot rotate").count(), 1, "{}", finished.stderr);
    }

    /// The steps of a rotation that fail, by the system's error.
    #[test]
    fn a_disk_on_which_no_file_can_be_renamed_or_made() {
        type Fault = fn(&mut crate::support::faulty_disk::Faults, Option<i32>);
        let rename: Fault = |faults, error| faults.rename_error = error;
        let create: Fault = |faults, error| faults.create_error = error;
        for (fault, error) in [(rename, libc::EROFS), (rename, libc::EIO), (create, libc::ENOSPC)] {
            let (mut site, disk) = site!(FaultSite::with_disk());
            let mut running = site.capture("-o http.jsonl -C 64K");
            disk.set(|faults| fault(faults, Some(error)));
            site.exchanges(20);
            running.await_stderr("cannot rotate http.jsonl: ");
            site.exchanges(20);
            disk.set(|faults| fault(faults, None));
            running.await_stderr("http.jsonl: rotated again");
            site.exchanges(20);
            let finished = running.stop();
            check_all(&site, &finished, &all_lines(&disk));
            let told = finished.stderr.matches("cannot rotate").count();
            assert_eq!(told, 1, "{}", finished.stderr);
        }
    }

    /// A directory with closed files in it is removed, and made again. In its sandbox a run can
    /// follow no directory: see `sealed`.
    #[test]
    fn a_directory_that_is_removed_while_files_are_closed() {
        let mut site = site!(FaultSite::new());
        let directory = site.path().join("logs");
        fs::create_dir(&directory).expect("a directory");
        let line = format!("--no-sandbox -o {}/http.jsonl -C 64K", directory.display());
        let mut running = site.capture(&line);
        site.exchanges(30);
        wait_until("closed files", || jsonl(&site, "logs/").len() > 1);
        fs::remove_dir_all(&directory).expect("it is there");
        site.exchanges(10);
        running.await_stderr("it was removed, and cannot be opened again");
        fs::create_dir(&directory).expect("a directory");
        wait_until("it writes again", || {
            site.exchanges(1);
            !site.read("logs/http.jsonl").is_empty()
        });
        let first = site.sent_count();
        site.exchanges(40);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        let files = jsonl(&site, "logs/");
        assert!(files.len() > 1, "{files:?}: {}", finished.stderr);
        let lines: Vec<u8> = files.iter().flat_map(|path| fs::read(path).unwrap()).collect();
        let numbers = numbers(&lines);
        assert!(numbers.ends_with(&(first..site.sent_count()).collect::<Vec<_>>()));
        assert!(!finished.stderr.contains(" 0 lines lost"), "{}", finished.stderr);
    }

    /// The clock of the program is set ahead and back. Files are closed once for each step at most,
    /// and go on being closed afterwards.
    #[test]
    fn a_clock_that_is_set() {
        if let Some(reason) = missing_program("cc") {
            crate::support::skip!(reason);
        }
        let mut site = site!(FaultSite::new());
        let (library, file) = (site.path().join("clock.so"), site.path().join("clock"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock_step.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        crate::support::lab::run(&mut compiler);
        let clock = fs::File::options().read(true).write(true).create_new(true).open(&file);
        let clock = clock.expect("a file");
        clock.set_len(4096).expect("a page");
        let mut command = site.command("-o http.jsonl -G 1h");
        command.env("LD_PRELOAD", &library).env("CLOCK_STEP_FILE", &file);
        let running = site.start(command);
        let (hour, day) = (3600i64, 86_400i64);
        let mut step = 0;
        let mut closed = 0;
        for by in [hour, day, -day, 0, -hour, hour, 365 * day, -400 * day, 40 * day, hour] {
            site.exchanges(1);
            wait_until("a line", || !site.read("http.jsonl").is_empty());
            step += by;
            clock.write_all_at(&step.to_ne_bytes(), 0).expect("a page");
            if by == 0 {
                // A line in the same interval closes nothing.
                continue;
            }
            // The file is closed without another line.
            closed += 1;
            wait_until("the file is closed", || closed_files(&site) == closed);
            // It is not closed again, whatever the time.
            let before = Instant::now();
            wait_until("some looks", || before.elapsed() > Duration::from_millis(50));
            assert_eq!(closed_files(&site), closed);
        }
        let finished = running.stop();
        let lines: Vec<u8> =
            jsonl(&site, "http").iter().flat_map(|path| fs::read(path).unwrap()).collect();
        check_all(&site, &finished, &lines);
    }
}
