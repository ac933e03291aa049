//! The load generator of `bpf/traffic.bpf.c`. It makes frames in the kernel, each at its time, and
//! puts them into the receive path of an interface as if they had arrived from the wire. bpf(2),
//! `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` (Linux 5.18).

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use anyhow::anyhow;
use httplines::sys::privileges::may_load_programs;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorExt, PrintLevel, Xdp, XdpFlags};

use super::sys::{self, ArrayMap, skeleton};

/// Maximum size of a template: `TEMPLATE_BYTES`.
pub const TEMPLATE_BYTES: usize = 2048;
/// No tunnel's headers are longer: `PREFIX_BYTES_MAX`.
pub const PREFIX_BYTES_MAX: u32 = 63;
/// Attempts after which the kernel receives the frames sent in them: `BATCH_ATTEMPTS`.
const BATCH_ATTEMPTS: u32 = 64;
/// Times are in units of 2^-this nanoseconds: `INTERVAL_SHIFT`.
pub const INTERVAL_SHIFT: u32 = 10;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// Size of `struct traffic`, in which a run keeps its counters.
const STATE_BYTES: usize = size_of::<skeleton::types::traffic>();

/// A frame of a round: `struct step`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Index of its template.
    pub template: u32,
    /// Index of its connection in the round, from 0.
    pub connection: u32,
    /// The sequence number, relative to the sender's initial one; for a replayed frame, the offset
    /// of the word to whose upper half the round is added.
    pub seq: u32,
    /// The acknowledgement number, relative to the other side's initial one; for a replayed frame,
    /// the offsets of the checksums that cover the word.
    pub ack: u32,
    /// Index of its request in the round, from 0.
    pub number: u32,
    /// Length of the frame.
    pub frame_bytes: u16,
    /// Which fields of its template the frame changes: `KIND_…`.
    pub kind: u8,
    /// Where the frame names its request: `TEXT_…`.
    pub text: u8,
}

/// Whether frames are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They are received by the interface.
    Pass,
    /// They are made and dropped, which shows the cost of making them.
    Drop,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When the first frame is due, on the monotonic clock.
    pub start_ns: u64,
    /// The time of day at that moment.
    pub epoch_ns: u64,
    /// Between two frames, in 2^-[`INTERVAL_SHIFT`] ns; 0: as fast as possible.
    pub interval: u64,
    /// No more frames than this.
    pub frame_count_max: u64,
    /// Connections of a round.
    pub connection_count: u32,
    /// Requests of a round.
    pub request_count: u32,
    /// Size of a tunnel's headers, before the fields that change: at most [`PREFIX_BYTES_MAX`].
    pub prefix_bytes: u32,
    /// Whether frames are sent.
    pub verdict: Verdict,
}

/// What was sent since the schedule was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Frames.
    pub frame_count: u64,
    /// Their bytes.
    pub byte_count: u64,
    /// Frames that could not be made.
    pub failed_count: u64,
    /// Time the program waited until the next frame was due.
    pub idle_ns: u64,
    /// The maximum delay of a frame.
    pub late_ns_max: u64,
    /// The monotonic clock at the last frame.
    pub last_ns: u64,
    /// When the next frame is due, on the monotonic clock.
    pub due_ns: u64,
}

/// The loaded generator, with its round.
#[derive(Debug)]
pub struct Traffic {
    program: OwnedFd,
    state: ArrayMap,
    /// Bytes of the longest frame of the round.
    frame_bytes_max: usize,
    step_count: u32,
}

/// The offset of a field in `struct traffic`.
macro_rules! place {
    ($field:ident) => {
        std::mem::offset_of!(skeleton::types::traffic, $field)
    };
}

impl Traffic {
    /// Loads the generator with a round. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. The error
    /// is a sentence with the kernel's reason.
    ///
    /// # Panics
    /// If there are no steps, or a template is too long.
    pub fn load(steps: &[Step], templates: &[Vec<u8>]) -> anyhow::Result<Traffic> {
        assert!(!steps.is_empty() && !templates.is_empty(), "a round has frames");
        LOG.take();
        libbpf_rs::set_print(Some((PrintLevel::Warn, keep_log)));
        Traffic::try_load(steps, templates).map_err(|error| match refusal(&LOG.take()) {
            Some(words) => anyhow!("the kernel's verifier rejects the generator: {words}"),
            None if !may_load_programs() => {
                anyhow!("CAP_BPF is missing, which the generator needs")
            }
            None => anyhow::Error::new(error).context("the kernel rejects the generator"),
        })
    }

    fn try_load(steps: &[Step], templates: &[Vec<u8>]) -> libbpf_rs::Result<Traffic> {
        let mut storage = MaybeUninit::uninit();
        let mut open = skeleton::TrafficSkelBuilder::default().open(&mut storage)?;
        open.maps.steps.set_max_entries(steps.len() as u32)?;
        open.maps.templates.set_max_entries(templates.len() as u32)?;
        let loaded = open.load()?;
        let bytes = size_of_val(steps);
        let map = ArrayMap::of_file(loaded.maps.steps.as_fd(), bytes)?;
        for (index, step) in steps.iter().enumerate() {
            put_step(&map, index * size_of::<Step>(), step);
        }
        let bytes = templates.len() * TEMPLATE_BYTES;
        let map = ArrayMap::of_file(loaded.maps.templates.as_fd(), bytes)?;
        for (index, template) in templates.iter().enumerate() {
            put_bytes(&map, index * TEMPLATE_BYTES, template);
        }
        let duplicate = "cannot duplicate the program's descriptor";
        Ok(Traffic {
            program: loaded.progs.traffic.as_fd().try_clone_to_owned().context(duplicate)?,
            state: ArrayMap::of_file(loaded.maps.state.as_fd(), STATE_BYTES)?,
            frame_bytes_max: steps.iter().map(|step| step.frame_bytes).max().unwrap_or(0).into(),
            step_count: steps.len() as u32,
        })
    }

    /// Attaches the program to an interface of this thread's network namespace that carries no
    /// traffic. Otherwise, in each run of a program that is attached nowhere, the kernel waits
    /// twice for a grace period of all CPUs (`bpf_prog_change_xdp`, kernel/bpf/dispatcher.c): 10 ms
    /// and more.
    pub fn settle(&self, ifindex: u32) -> libbpf_rs::Result<()> {
        Xdp::new(self.program.as_fd()).attach(ifindex as i32, XdpFlags::SKB_MODE)
    }

    /// Starts over with this schedule, from the first frame of the first round.
    ///
    /// # Panics
    /// If the headers of the tunnel are too long.
    pub fn schedule(&self, schedule: &Schedule) {
        assert!(schedule.prefix_bytes <= PREFIX_BYTES_MAX, "no tunnel's headers are longer");
        let Schedule { start_ns, epoch_ns, interval, frame_count_max, .. } = *schedule;
        for (place, value) in [
            (place!(start_ns), start_ns),
            (place!(epoch_ns), epoch_ns),
            (place!(interval), interval),
            (place!(frame_count_max), frame_count_max),
            (place!(due), 0),
            (place!(frame_count), 0),
            (place!(byte_count), 0),
            (place!(failed_count), 0),
            (place!(idle_ns), 0),
            (place!(early_ns), 0),
            (place!(late_ns_max), 0),
            (place!(last_ns), 0),
        ] {
            self.state.word64(place).store(value, Ordering::Relaxed);
        }
        let verdict = match schedule.verdict {
            Verdict::Pass => XDP_PASS,
            Verdict::Drop => XDP_DROP,
        };
        for (place, value) in [
            (place!(step_count), self.step_count),
            (place!(connection_count), schedule.connection_count),
            (place!(request_count), schedule.request_count),
            (place!(prefix_bytes), schedule.prefix_bytes),
            (place!(verdict), verdict),
            (place!(frame_bytes_max), self.frame_bytes_max as u32),
            (place!(step), 0),
            (place!(round), 0),
        ] {
            self.state.word32(place).store(value, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Ends the schedule with frame `frame_count`.
    pub fn end_at(&self, frame_count: u64) {
        self.state.word64(place!(frame_count_max)).store(frame_count, Ordering::Relaxed);
    }

    /// Sends the frames that are due, into interface `ifindex` of this thread's network namespace.
    /// The program runs `attempts` times; if no frame is due, it waits for a moment.
    pub fn run(&self, ifindex: u32, attempts: u32) -> io::Result<()> {
        // Time between calls is not idle time.
        self.state.word64(place!(early_ns)).store(0, Ordering::Relaxed);
        self.state.word32(place!(attempt)).store(0, Ordering::Relaxed);
        self.state.word32(place!(batch_frames)).store(0, Ordering::Relaxed);
        let page = vec![0u8; self.frame_bytes_max];
        sys::run_live(self.program.as_fd(), &page, ifindex, attempts, BATCH_ATTEMPTS)
    }

    /// The next frame as bytes, which the program makes and does not send: for tests.
    #[cfg(test)]
    pub fn next_frame(&self) -> io::Result<Vec<u8>> {
        let mut made = vec![0u8; TEMPLATE_BYTES];
        let page = vec![0u8; self.frame_bytes_max];
        let bytes = sys::run_once(self.program.as_fd(), &page, &mut made)?;
        made.truncate(bytes);
        Ok(made)
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        let word = |place| self.state.word64(place).load(Ordering::Relaxed);
        Sent {
            frame_count: word(place!(frame_count)),
            byte_count: word(place!(byte_count)),
            failed_count: word(place!(failed_count)),
            idle_ns: word(place!(idle_ns)),
            late_ns_max: word(place!(late_ns_max)),
            last_ns: word(place!(last_ns)),
            due_ns: word(place!(start_ns)) + (word(place!(due)) >> INTERVAL_SHIFT),
        }
    }
}

thread_local! {
    /// The verifier's log of the last program that this thread could not load.
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the verifier's log, out of all that libbpf reports.
fn keep_log(_: PrintLevel, text: String) {
    if text.contains("-- BEGIN PROG LOAD LOG --") {
        LOG.set(text);
    }
}

/// The verifier's reason: the last line of its log before its own statistics.
fn refusal(log: &str) -> Option<&str> {
    let (_, log) = log.split_once("-- BEGIN PROG LOAD LOG --")?;
    let (log, _) = log.split_once("-- END PROG LOAD LOG --")?;
    let is_reason = |line: &&str| !line.is_empty() && !line.starts_with("processed ");
    log.lines().rev().map(str::trim).find(is_reason)
}

fn put_step(map: &ArrayMap, at: usize, step: &Step) {
    let words = [
        step.template,
        step.connection,
        step.seq,
        step.ack,
        step.number,
        u32::from(step.frame_bytes) | u32::from(step.kind) << 16 | u32::from(step.text) << 24,
    ];
    for (index, word) in words.iter().enumerate() {
        map.word32(at + 4 * index).store(*word, Ordering::Relaxed);
    }
}

fn put_bytes(map: &ArrayMap, at: usize, bytes: &[u8]) {
    assert!(bytes.len() <= TEMPLATE_BYTES, "a template has room for a frame");
    for (index, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        map.word64(at + 8 * index).store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

    #[test]
    fn the_reason_is_the_last_line_before_the_statistics() {
        let log = "libbpf: prog 'traffic': -- BEGIN PROG LOAD LOG --\n\
                   89: (85) call bpf_xdp_store_bytes#190\n\
                   R4 invalid zero-sized read: u64=[0,65535]\n\
                   processed 87 insns (limit 1000000) max_states_per_insn 0 total_states 8\n\
                   -- END PROG LOAD LOG --\n";
        assert_eq!(refusal(log), Some("R4 invalid zero-sized read: u64=[0,65535]"));
        assert_eq!(refusal(""), None);
    }

    /// Without CAP_PERFMON the verifier rejects the generator.
    #[test]
    fn the_verifier_is_quoted() {
        if !may_load_programs() {
            crate::support::skip!("needs CAP_BPF");
        }
        let error = std::thread::spawn(|| {
            let kept = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
            set_capabilities(None, sets).expect("we had these");
            Traffic::load(&[Step::default()], &[vec![0; 64]]).expect_err("CAP_PERFMON is missing")
        });
        let error = format!("{:#}", error.join().expect("no panic"));
        let (_, words) = error.split_once("verifier rejects the generator: ").expect(&error);
        assert!(words.contains("pointer arithmetic"), "{error}");
    }
}
