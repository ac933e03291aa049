//! What this process uses: proc(5). The files stay open, since a process that is sealed opens
//! nothing.

use std::fs::File;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::Dir;
use rustix::process::{Resource, getrlimit};

use crate::sys::memory::ResidentMemory;
use crate::sys::thread_clock;

/// Ticks of `/proc/self/stat` in a second: USER_HZ, which is 100 on all architectures of ours.
const TICKS_PER_SECOND: u64 = 100;

/// What a process uses. What the kernel does not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessState {
    /// CPU time of all its threads, in user space and in the kernel.
    pub cpu: Duration,
    /// Its resident memory, with shared memory and rings.
    pub resident_bytes: u64,
    /// When it started, since 1970.
    pub started: Option<Duration>,
    /// File descriptors that are open.
    pub descriptor_count: Option<u64>,
    /// File descriptors that may be open.
    pub descriptor_count_max: Option<u64>,
}

/// The files that tell it.
#[derive(Debug)]
pub struct ProcessFiles {
    resident: ResidentMemory,
    descriptors: Option<Mutex<Dir>>,
    started: Option<Duration>,
    descriptor_count_max: Option<u64>,
}

impl ProcessFiles {
    /// Opens them. What does not change is read now.
    pub fn open() -> ProcessFiles {
        let descriptors = File::open("/proc/self/fd").ok();
        let descriptors = descriptors.and_then(|directory| Dir::new(directory).ok());
        let read = |path| std::fs::read_to_string(path).ok();
        let started = read("/proc/self/stat").zip(read("/proc/stat"));
        ProcessFiles {
            resident: ResidentMemory::open(),
            descriptors: descriptors.map(Mutex::new),
            started: started.and_then(|(own, machine)| started_at(&own, &machine)),
            descriptor_count_max: getrlimit(Resource::Nofile).current,
        }
    }

    /// The state now.
    pub fn state(&self) -> ProcessState {
        ProcessState {
            cpu: thread_clock::of_process(),
            resident_bytes: self.resident.bytes(),
            started: self.started,
            descriptor_count: self.descriptor_count(),
            descriptor_count_max: self.descriptor_count_max,
        }
    }

    fn descriptor_count(&self) -> Option<u64> {
        let mut directory =
            self.descriptors.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        directory.rewind();
        let mut count = 0;
        for entry in directory.by_ref() {
            count += u64::from(!entry.ok()?.file_name().to_bytes().starts_with(b"."));
        }
        Some(count)
    }
}

/// When the process started: `starttime`, which is in ticks since the machine did, and `btime`.
fn started_at(own: &str, machine: &str) -> Option<Duration> {
    // The name of the program is in parentheses, and may have any characters.
    let fields = own.rsplit_once(')')?.1;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot = Duration::from_secs(boot.trim().parse().ok()?);
    let nanoseconds = (ticks % TICKS_PER_SECOND) * (1_000_000_000 / TICKS_PER_SECOND);
    Some(boot + Duration::new(ticks / TICKS_PER_SECOND, nanoseconds as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_start_is_found_whatever_the_program_is_called() {
        let rest = (3..22).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        let own = format!("17 (a) b) {rest} 12345 23 24\n");
        let started = started_at(&own, "cpu 1 2\nbtime 1000\n");
        assert_eq!(started, Some(Duration::from_millis(1_123_450)));
        assert_eq!(started_at("", "btime 1000\n"), None);
        assert_eq!(started_at(&own, "cpu 1 2\n"), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such files")]
    fn the_state_is_that_of_this_process() {
        let files = ProcessFiles::open();
        let before = files.state();
        let opened: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = files.state();
        // Other tests open and close files meanwhile.
        assert!(after.descriptor_count > before.descriptor_count, "{before:?} {after:?}");
        assert!(after.descriptor_count <= after.descriptor_count_max, "{after:?}");
        assert!(after.cpu >= before.cpu && after.cpu > Duration::ZERO);
        assert!(after.resident_bytes > 0 && opened.len() == 100);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let started = after.started.expect("proc(5) is there");
        assert!(started < now && now - started < Duration::from_secs(24 * 3600));
    }
}
