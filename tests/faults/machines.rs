//! What a machine does to a process: it is stopped for a while, or has little memory.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use crate::support::fault_site::FaultSite;
    use crate::support::lab::wait_until;

    /// How long a process is stopped: only as long as it takes to lose frames, or the seconds in
    /// this variable, for trials by hand.
    const STOP_SECONDS: &str = "HTTPLINES_TEST_STOP_SECONDS";

    /// The figure before `what` in the totals.
    fn figure(totals: &str, what: &str) -> u64 {
        let before = totals.split(what).next().filter(|before| before.len() < totals.len());
        let before = before.unwrap_or_else(|| panic!("no {what:?}:\n{totals}")).trim_end();
        let word = before.rsplit(|character: char| !character.is_ascii_digit()).next();
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{what:?}:\n{totals}"))
    }

    /// The kernel drops frames once the ring is full, and they are counted. Then all goes on.
    #[test]
    fn a_process_that_is_stopped() {
        let mut site = site!(FaultSite::new());
        let running = site.capture("-o http.jsonl -B 4096");
        site.exchanges(5);
        let path = site.path().join("http.jsonl");
        let lines = || fs::read(&path).expect("a file").iter().filter(|b| **b == b'\n').count();
        wait_until("five lines", || lines() == 5);
        running.signal("STOP");
        site.exchanges(1500);
        let seconds = std::env::var(STOP_SECONDS).map_or(0, |seconds| seconds.parse().unwrap());
        std::thread::sleep(Duration::from_secs(seconds));
        running.signal("CONT");
        // Some of those that were captured.
        wait_until("more lines", || lines() > 5);
        // The ring has space again before these come.
        let before = lines();
        let first = site.sent_count();
        wait_until("the last lines", || {
            site.exchanges(1);
            lines() > before + 3
        });
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        finished.told(" 0 lines lost");
        let dropped = figure(&finished.stderr, " dropped by kernel");
        assert!(dropped > 0, "{}", finished.stderr);
        let bytes = site.read("http.jsonl");
        let last = bytes.split_inclusive(|byte| *byte == b'\n').next_back().expect("lines");
        assert!(last.ends_with(b"\n") && String::from_utf8_lossy(last).contains("GET"));
        finished.told(&format!("{} lines, {} bytes", lines(), bytes.len()));
        assert!(site.sent_count() > first);
        if seconds > 0 {
            println!("{}", finished.stderr);
        }
    }

    /// A memory cgroup, removed with the guard.
    struct MemoryGroup(PathBuf);

    impl MemoryGroup {
        /// With a limit of `limit_bytes`. An error is the reason why that is impossible here.
        fn new(limit_bytes: u64) -> Result<MemoryGroup, String> {
            let name = format!("httplines-test-{}", std::process::id());
            let (v1, v2) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
            let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
            let (root, file) = match controllers.split_whitespace().any(|name| name == "memory") {
                true => (v2, "memory.max"),
                false => (v1, "memory.limit_in_bytes"),
            };
            let group = MemoryGroup(root.join(name));
            let needs = |error: std::io::Error| format!("needs a memory cgroup: {error}");
            fs::create_dir(&group.0).map_err(needs)?;
            fs::write(group.0.join(file), limit_bytes.to_string()).map_err(needs)?;
            Ok(group)
        }

        /// How often memory was short, so that pages of files had to be given back.
        fn short_count(&self) -> u64 {
            if let Ok(count) = fs::read_to_string(self.0.join("memory.failcnt")) {
                return count.trim().parse().expect("a number");
            }
            self.event("max")
        }

        /// How many processes were killed.
        fn killed_count(&self) -> u64 {
            self.event("oom_kill")
        }

        fn event(&self, name: &str) -> u64 {
            let events = ["memory.events", "memory.oom_control"];
            let events = events.iter().find_map(|file| fs::read_to_string(self.0.join(file)).ok());
            let events = events.expect("events are counted");
            let line = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.expect("this one, too").parse().expect("a number")
        }
    }

    impl Drop for MemoryGroup {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    /// The pages of the file that is written count, too. They are given back, and nobody is killed.
    #[test]
    fn a_memory_limit() {
        // Rings belong to it; they take 16 MiB, and the queue at most as much.
        let group = site!(MemoryGroup::new(128 << 20));
        let mut site = site!(FaultSite::new());
        let mut command = site.command("-o http.jsonl -B 16384");
        let processes = group.0.join("cgroup.procs");
        // SAFETY: the child only writes its own number to a file before it becomes the program.
        unsafe {
            command.pre_exec(move || fs::write(&processes, "0"));
        }
        let running = site.start(command);
        let path = site.path().join("http.jsonl");
        let size = || path.metadata().map_or(0, |metadata| metadata.len());
        // More than the limit, or 48 MB from when memory is short.
        let mut short_rounds = 0;
        for _ in 0..100 {
            let before = size();
            site.exchanges(200);
            wait_until("lines", || size() > before);
            short_rounds += u32::from(group.short_count() > 0);
            if short_rounds == 30 {
                break;
            }
        }
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        assert!(group.short_count() > 0, "the limit was not reached");
        assert_eq!(group.killed_count(), 0);
        if figure(&finished.stderr, " dropped by kernel") == 0 {
            site.check(&finished, &site.read("http.jsonl"), "queue full");
        }
    }
}
