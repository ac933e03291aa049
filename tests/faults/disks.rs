//! Disks that are full, slow, faulty or gone.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use crate::support::fault_site::{FaultSite, numbers};
    use crate::support::lab::{missing_program, wait_until};
    use crate::support::live_capture::holds;
    use crate::support::service_manager::ServiceManager;

    /// Lines that no queue holds: 64 batches of 256 KiB may wait for the writer.
    const MORE_THAN_THE_QUEUE: u64 = 4000;

    /// Rings that hold all of them, however slow this machine is.
    const LARGE_RINGS: &str = "-B 262144";

    /// How long a disk stalls: as long as it takes to lose lines, or the seconds in this variable,
    /// for trials by hand.
    const STALL_SECONDS: &str = "HTTPLINES_TEST_STALL_SECONDS";

    #[test]
    fn a_disk_that_is_full_and_free_again() {
        let mut site = site!(FaultSite::new());
        site!(site.shell("mount -t tmpfs -o size=1m,mode=700 none \"$0\""));
        site!(site.shell("cd \"$0\"; head -c 700k /dev/zero >filler"));
        let mut running = site.capture("-o http.jsonl");
        site.exchanges(100);
        running.await_stderr("cannot write http.jsonl: the disk is full; free some space; until");
        site.shell("cd \"$0\"; rm filler").expect("it is there");
        let first = site.sent_count();
        site.exchanges(1);
        running.await_stderr("http.jsonl: writing again; ");
        site.exchanges(5);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let numbers = site.check(&finished, &site.read("http.jsonl"), "disk full");
        assert!((numbers.len() as u64) < site.sent_count(), "{}", finished.stderr);
        assert!(numbers.ends_with(&(first..site.sent_count()).collect::<Vec<_>>()));
    }

    #[test]
    fn a_disk_that_stalls() {
        let (mut site, disk) = site!(FaultSite::with_disk());
        let mut running = site.capture(&format!("-o http.jsonl {LARGE_RINGS}"));
        let stall = std::env::var(STALL_SECONDS).map_or(0, |seconds| seconds.parse().unwrap());
        let begun = Instant::now();
        disk.stalled(|| {
            site.exchanges(MORE_THAN_THE_QUEUE);
            running.await_stderr("http.jsonl: its reader or disk is too slow; lines are being");
            std::thread::sleep(Duration::from_secs(stall).saturating_sub(begun.elapsed()));
        });
        running.await_stderr("http.jsonl: fast enough again; ");
        let first = site.sent_count();
        site.exchanges(5);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(disk.stalled_count() > 0);
        let numbers =
            site.check(&finished, &disk.read("http.jsonl").expect("it is there"), "queue full");
        assert!((numbers.len() as u64) < first, "nothing was lost: {}", finished.stderr);
        assert!(numbers.ends_with(&(first..site.sent_count()).collect::<Vec<_>>()));
        if stall > 0 {
            println!("{}", finished.stderr);
        }
    }

    /// Not even a question about the directory is answered. The run goes on, and so do its signs of
    /// life.
    #[test]
    fn a_disk_that_answers_nothing() {
        let (mut site, disk) = site!(FaultSite::with_disk());
        let place = tempfile::tempdir().expect("a directory");
        let manager = ServiceManager::at(&place.path().join("notify").display().to_string());
        let mut command = site.command("-o http.jsonl");
        manager.watch(&mut command, Some(400));
        let running = site.start(command);
        assert_eq!(manager.next(), "READY=1\nSTATUS=capturing");
        disk.hung(|| {
            // Three seconds without traffic: the directory is looked at each second.
            (0..15).for_each(|_| manager.await_sign());
            // The writer waits for the disk.
            site.exchanges(5);
            (0..15).for_each(|_| manager.await_sign());
        });
        site.exchanges(5);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let bytes = disk.read("http.jsonl").expect("it is there");
        let numbers = site.check(&finished, &bytes, "queue full");
        assert_eq!(numbers, (0..site.sent_count()).collect::<Vec<_>>());
    }

    /// A disk that fails, by error: what is said, and whether it was half a batch that was written.
    #[test]
    fn a_disk_that_fails() {
        for (error, why, cause) in [
            (libc::EIO, "Input/output error", "write error"),
            (libc::EROFS, "Read-only file system", "write error"),
            (libc::EDQUOT, "the disk quota is used up; free some space", "disk full"),
        ] {
            let (mut site, disk) = site!(FaultSite::with_disk());
            let mut running = site.capture("-o http.jsonl");
            site.exchanges(5);
            disk.set(|faults| faults.write_error = Some(error));
            site.exchanges(50);
            running.await_stderr(&format!("cannot write http.jsonl: {why}"));
            disk.set(|faults| faults.write_error = None);
            let first = site.sent_count();
            site.exchanges(1);
            running.await_stderr("http.jsonl: writing again; ");
            let finished = running.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            let numbers =
                site.check(&finished, &disk.read("http.jsonl").expect("it is there"), cause);
            assert_eq!(numbers.last(), Some(&first));
        }
    }

    /// The disk fills in the middle of a batch, so a line is half written.
    #[test]
    fn a_partial_write_is_cut_back() {
        let (mut site, disk) = site!(FaultSite::with_disk());
        for capacity_bytes in [100_001, 250_123] {
            disk.set(|faults| faults.capacity_bytes = Some(capacity_bytes));
            let mut running = site.capture("-o http.jsonl");
            site.exchanges(60);
            running.await_stderr("cannot write http.jsonl: the disk is full");
            // Other lines may still be tried.
            wait_until("no torn line stays behind", || {
                let full = disk.read("http.jsonl").expect("it is there");
                let other_bytes = disk.read("http.stats").map_or(0, |stats| stats.len());
                full.len() + other_bytes + 9000 > capacity_bytes && full.ends_with(b"\n")
            });
            disk.set(|faults| faults.capacity_bytes = None);
            site.exchanges(1);
            running.await_stderr("http.jsonl: writing again; ");
            let finished = running.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            finished.told("every frame, flow and line is accounted for");
            disk.remove("http.jsonl");
            disk.remove("http.stats");
        }
    }

    /// There is not even enough space to cut it back.
    #[test]
    fn a_partial_write_that_cannot_be_cut_back_yet() {
        let (mut site, disk) = site!(FaultSite::with_disk());
        disk.set(|faults| {
            faults.capacity_bytes = Some(100_001);
            faults.truncate_error = Some(libc::EDQUOT);
        });
        let mut running = site.capture("-o http.jsonl");
        site.exchanges(60);
        running.await_stderr("cannot write http.jsonl: the disk is full");
        disk.set(|faults| faults.capacity_bytes = None);
        site.exchanges(1);
        disk.set(|faults| faults.truncate_error = None);
        let first = site.sent_count();
        site.exchanges(1);
        running.await_stderr("http.jsonl: writing again; ");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let numbers =
            site.check(&finished, &disk.read("http.jsonl").expect("it is there"), "disk full");
        assert_eq!(numbers.last(), Some(&first));
    }

    /// Mounts a loop device with a file system of `megabytes` at the site. Returns the device. An
    /// error is the reason why that is impossible here.
    fn loop_device(
        site: &FaultSite,
        megabytes: u32,
        make: &str,
        options: &str,
    ) -> Result<String, String> {
        let made = site.shell(&format!(
            "image=$(mktemp); truncate -s {megabytes}M $image
             loop=$(losetup --find --show $image); rm $image
             {{ {make} $loop && mount -o {options} $loop \"$0\"; }} >&2 || {{
                 losetup --detach $loop
                 exit 1
             }}
             # It is gone when it is no longer mounted.
             losetup --detach $loop
             echo ${{loop#/dev/}}"
        ));
        let device = made.map_err(|reason| format!("needs a loop device: {reason}"))?;
        Ok(device.trim().to_string())
    }

    #[test]
    fn a_quota_that_is_used_up_and_free_again() {
        if let Some(reason) = missing_program("mkfs.btrfs") {
            crate::support::skip!(reason);
        }
        let mut site = site!(FaultSite::new());
        site!(loop_device(&site, 64, "mkfs.btrfs -q --mixed", "nodatacow"));
        site!(site.shell(
            "btrfs quota enable \"$0\"; btrfs subvolume create \"$0/logs\" >/dev/null
             btrfs qgroup limit 1M \"$0/logs\"
             head -c 600k /dev/urandom >\"$0/logs/filler\"; sync -f \"$0\""
        ));
        let mut running = site.capture("-o logs/http.jsonl");
        // Without the filler there is space for all of them.
        site.exchanges(100);
        let full =
            "cannot write logs/http.jsonl: the disk quota is used up; free some space; until";
        running.await_stderr(full);
        site.shell("rm \"$0/logs/filler\"; btrfs filesystem sync \"$0\"").expect("it is there");
        // Reservations come and go for a while.
        let first = site.sent_count();
        wait_until("it writes again", || {
            site.short_exchanges(1);
            site.shell("btrfs filesystem sync \"$0\"").expect("it is mounted");
            whole_numbers(&site.read("logs/http.jsonl")).last() >= Some(&first)
        });
        running.await_stderr("logs/http.jsonl: writing again; ");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let numbers = site.check(&finished, &site.read("logs/http.jsonl"), "disk full");
        assert_eq!(numbers.last(), Some(&(site.sent_count() - 1)));
    }

    /// ext4 does so itself when it finds an error. Nobody else can while a file is being written.
    /// In its sandbox a run reaches no directory that is mounted later.
    #[test]
    fn a_disk_that_is_remounted_read_only() {
        let mut site = site!(FaultSite::new());
        let device = site!(loop_device(&site, 16, "mkfs.ext4 -q", "errors=remount-ro"));
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        if !Path::new(&trigger).exists() {
            crate::support::skip!("needs ext4 with trigger_fs_error");
        }
        let path = site.path().join("http.jsonl").display().to_string();
        let mut running = site.capture(&format!("--no-sandbox -o {path}"));
        site.exchanges(5);
        wait_until("five lines", || holds(&site.read("http.jsonl"), b"\"target\":\"/4/"));
        let mut bytes = site.read("http.jsonl");
        site.shell(&format!("echo 1 >{trigger}")).expect("it can be written");
        site.exchanges(5);
        running.await_stderr(&format!("cannot write {path}: Read-only file system"));
        // Such a file system has to be checked, and it cannot be mounted as long as a file on it is
        // open. So another disk takes its place.
        site.shell("mount -t tmpfs -o mode=700 none \"$0\"").expect("a tmpfs");
        running.signal("HUP");
        wait_until("it writes again", || {
            site.exchanges(1);
            holds(&site.read("http.jsonl"), b"\n")
        });
        running.await_stderr(&format!("{path}: writing again; "));
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        bytes.extend(site.read("http.jsonl"));
        let numbers = site.check(&finished, &bytes, "write error");
        assert!(numbers.last() == Some(&(site.sent_count() - 1)));
    }

    /// As with tail -F and vi: the name counts. What was in the file is gone with it.
    #[test]
    fn an_output_that_is_removed() {
        let mut site = site!(FaultSite::new());
        let path = site.path().join("http.jsonl");
        let mut running = site.capture("-o http.jsonl");
        site.exchanges(3);
        wait_until("three lines", || numbers_so_far(&path).ends_with(&[2]));
        fs::remove_file(&path).expect("it is there");
        site.exchanges(4);
        running.await_stderr("http.jsonl was removed; lines go into a new file of that name");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("7 lines, ");
        finished.told(" 0 lines lost");
        finished.told("every frame, flow and line is accounted for");
        assert_eq!(numbers(&site.read("http.jsonl")), [3, 4, 5, 6]);
    }

    /// In its sandbox a run can follow no directory: see `sealed`.
    #[test]
    fn a_directory_that_is_removed_and_made_again() {
        let mut site = site!(FaultSite::new());
        let directory = site.path().join("logs");
        fs::create_dir(&directory).expect("a directory");
        let line = format!("--no-sandbox -o {}/http.jsonl", directory.display());
        let mut running = site.capture(&line);
        site.exchanges(3);
        wait_until("three lines", || numbers_so_far(&directory.join("http.jsonl")).len() == 3);
        fs::remove_dir_all(&directory).expect("it is there");
        site.exchanges(10);
        running
            .await_stderr("http.jsonl: it was removed, and cannot be opened again: No such file");
        fs::create_dir(&directory).expect("a directory");
        wait_until("it writes again", || {
            site.exchanges(1);
            !site.read("logs/http.jsonl").is_empty()
        });
        running.await_stderr("http.jsonl was removed; lines go into a new file of that name");
        running.await_stderr("http.jsonl: writing again; ");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        let numbers = numbers(&site.read("logs/http.jsonl"));
        let lost = site.sent_count() - 3 - numbers.len() as u64;
        assert!(lost > 0 && numbers.last() == Some(&(site.sent_count() - 1)), "{numbers:?}");
        finished.told(&format!(" {lost} lines lost ({lost} write error)\n"));
    }

    /// The numbers in a file that is being written.
    fn numbers_so_far(path: &Path) -> Vec<u64> {
        whole_numbers(&fs::read(path).unwrap_or_default())
    }

    /// The numbers in the whole lines of `bytes`.
    fn whole_numbers(bytes: &[u8]) -> Vec<u64> {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        numbers(&bytes[..whole])
    }
}
