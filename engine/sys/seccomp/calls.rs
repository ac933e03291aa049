//! The system calls that a sealed run may make. `scripts/syscalls` traces the tests and writes what
//! was seen to `tests/sealed/calls`; a test holds the two together.

use libc::c_long;

/// What a sealed run does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// It captures.
    Capture,
    /// It reads capture files.
    Files,
    /// It counts what is in files of lines, or in capture files, and writes one page.
    Report,
    /// It captures, and shows that on a terminal.
    TopCapture,
    /// It reads capture files, and shows that on a terminal.
    TopFiles,
    /// It follows files that another process writes, and shows that on a terminal.
    TopFollow,
}

impl Work {
    /// Each of them.
    pub const ALL: [Work; 6] = [
        Work::Capture,
        Work::Files,
        Work::Report,
        Work::TopCapture,
        Work::TopFiles,
        Work::TopFollow,
    ];

    /// The name in `tests/sealed/calls`.
    pub fn name(self) -> &'static str {
        match self {
            Work::Capture => "capture",
            Work::Files => "files",
            Work::Report => "report",
            Work::TopCapture => "top-capture",
            Work::TopFiles => "top-files",
            Work::TopFollow => "top-follow",
        }
    }
}

/// With which arguments a call is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    Always,
    /// Not on a packet socket: its first argument is a lower descriptor.
    NotOnPackets,
    /// On the one descriptor that listens; nowhere if none does.
    OfListener,
    /// Not on a packet socket; nowhere if no descriptor listens.
    BesideListener,
    /// Memory that is not executable; of a file only if the run reads files.
    Memory,
    /// Protections without execution, in the third argument.
    NotExecutable,
    /// The first argument is one of these.
    First(&'static [u64]),
    /// The second argument is one of these.
    Second(&'static [u64]),
    /// A signal to this process: the first argument.
    ToItself,
    /// A thread of this process, and nothing else.
    Thread,
}

/// A system call that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: c_long,
    pub(super) allowed: Allowed,
    /// For which work it is allowed.
    works: &'static [Work],
}

impl Call {
    const fn new(name: &'static str, number: c_long) -> Call {
        Call { name, number, allowed: Allowed::Always, works: &Work::ALL }
    }

    const fn only(self, allowed: Allowed) -> Call {
        Call { allowed, ..self }
    }

    const fn of(self, works: &'static [Work]) -> Call {
        Call { works, ..self }
    }

    /// Whether it is allowed for `work`.
    pub fn is_for(&self, work: Work) -> bool {
        self.works.contains(&work)
    }
}

/// It reads files.
const READING: [Work; 3] = [Work::Files, Work::Report, Work::TopFiles];
/// It writes lines.
const WRITING: [Work; 2] = [Work::Capture, Work::Files];
/// It captures.
const CAPTURING: [Work; 2] = [Work::Capture, Work::TopCapture];
/// It prints lines, or a page.
const PRINTING: [Work; 3] = [Work::Capture, Work::Files, Work::Report];
/// It looks at files by their names.
const OPENING: [Work; 5] =
    [Work::Capture, Work::Files, Work::Report, Work::TopFiles, Work::TopFollow];
/// It has a screen.
const SCREENS: [Work; 3] = [Work::TopCapture, Work::TopFiles, Work::TopFollow];
/// Its files are not duplicated.
const FIXED: [Work; 3] = [Work::Capture, Work::TopCapture, Work::TopFollow];
/// It runs until it is told to end, and waits for that by a pipe.
const PIPES: [Work; 5] =
    [Work::Capture, Work::Files, Work::TopCapture, Work::TopFiles, Work::TopFollow];

/// Terminals are recognised, and the width of one is asked for by a progress bar.
// The type differs between C libraries.
#[allow(clippy::unnecessary_cast)]
const TERMINAL: [u64; 2] = [libc::TCGETS as u64, libc::TIOCGWINSZ as u64];
/// SIOCGIFNAME names the interface of a frame, through its packet socket.
const IOCTLS: [u64; 3] = [TERMINAL[0], TERMINAL[1], 0x8910];
/// The screen sets the mode of the terminal, too: TCGETS2 and TCSETS2 of asm-generic/ioctls.h, of
/// which rustix makes use. Both architectures have these numbers.
const SCREEN_IOCTLS: [u64; 5] = [IOCTLS[0], IOCTLS[1], IOCTLS[2], 0x802c_542a, 0x402c_542b];
/// Descriptors are not duplicated,
const FCNTLS: [u64; 3] = [libc::F_GETFD as u64, libc::F_GETFL as u64, libc::F_SETFL as u64];
/// except for those of capture files.
const FILE_FCNTLS: [u64; 4] = [FCNTLS[0], FCNTLS[1], FCNTLS[2], libc::F_DUPFD_CLOEXEC as u64];
/// IORING_REGISTER_FILES_UPDATE: another file for a slot of the ring.
const REGISTRATIONS: [u64; 1] = [6];
/// PR_SET_NAME: the name of a thread.
const PRCTLS: [u64; 1] = [libc::PR_SET_NAME as u64];

macro_rules! call {
    ($name:ident, $number:ident) => {
        Call::new(stringify!($name), libc::$number)
    };
}

/// Files, in the directory of the output.
const FILES: &[Call] = &[
    call!(read, SYS_read),
    call!(write, SYS_write).only(Allowed::NotOnPackets),
    call!(close, SYS_close),
    call!(openat, SYS_openat),
    call!(lseek, SYS_lseek).of(&OPENING),
    call!(pread64, SYS_pread64).of(&PIPES),
    call!(fstat, SYS_fstat).of(&PRINTING),
    call!(newfstatat, SYS_newfstatat).of(&PRINTING),
    call!(statx, SYS_statx).of(&OPENING),
    call!(fstatfs, SYS_fstatfs).of(&WRITING),
    call!(ftruncate, SYS_ftruncate).of(&WRITING),
    call!(fallocate, SYS_fallocate).of(&[Work::Files]),
    call!(fcntl, SYS_fcntl).of(&FIXED).only(Allowed::Second(&FCNTLS)),
    call!(fcntl, SYS_fcntl).of(&READING).only(Allowed::Second(&FILE_FCNTLS)),
    call!(flock, SYS_flock).of(&WRITING),
    call!(renameat2, SYS_renameat2).of(&WRITING),
    call!(unlinkat, SYS_unlinkat).of(&PRINTING),
    call!(getdents64, SYS_getdents64).of(&WRITING),
    call!(fchmod, SYS_fchmod).of(&WRITING),
    call!(fchown, SYS_fchown).of(&WRITING),
    call!(utimensat, SYS_utimensat).of(&WRITING),
    call!(ioctl, SYS_ioctl).of(&PRINTING).only(Allowed::Second(&IOCTLS)),
    call!(ioctl, SYS_ioctl).of(&SCREENS).only(Allowed::Second(&SCREEN_IOCTLS)),
];

/// Waiting, clocks and threads.
const THREADS: &[Call] = &[
    call!(futex, SYS_futex),
    call!(ppoll, SYS_ppoll),
    call!(clock_gettime, SYS_clock_gettime),
    call!(clock_nanosleep, SYS_clock_nanosleep).of(&PIPES),
    call!(sched_yield, SYS_sched_yield),
    call!(sched_getaffinity, SYS_sched_getaffinity),
    call!(getpid, SYS_getpid),
    call!(geteuid, SYS_geteuid).of(&WRITING),
    call!(gettid, SYS_gettid),
    call!(tgkill, SYS_tgkill).only(Allowed::ToItself),
    call!(getrandom, SYS_getrandom),
    call!(restart_syscall, SYS_restart_syscall),
    call!(rt_sigaction, SYS_rt_sigaction),
    call!(rt_sigprocmask, SYS_rt_sigprocmask),
    call!(rt_sigreturn, SYS_rt_sigreturn),
    call!(sigaltstack, SYS_sigaltstack),
    call!(exit, SYS_exit),
    call!(exit_group, SYS_exit_group),
];

/// Waiting for keys. Only x86-64 has the first call.
const KEYS: &[Call] = &[
    #[cfg(target_arch = "x86_64")]
    call!(epoll_wait, SYS_epoll_wait).of(&SCREENS),
    call!(epoll_pwait, SYS_epoll_pwait).of(&SCREENS),
];

/// Memory.
const MEMORY: &[Call] = &[
    call!(brk, SYS_brk),
    call!(mmap, SYS_mmap).only(Allowed::Memory),
    call!(munmap, SYS_munmap),
    call!(mremap, SYS_mremap),
    call!(mprotect, SYS_mprotect).only(Allowed::NotExecutable),
    call!(madvise, SYS_madvise),
];

/// Sockets that are open: the signals' pipe, netlink, the port of the metrics, which accepts
/// connections, and packet sockets, on which nothing is sent.
const SOCKETS: &[Call] = &[
    call!(accept4, SYS_accept4).of(&[Work::Capture]).only(Allowed::OfListener),
    call!(shutdown, SYS_shutdown).of(&[Work::Capture]).only(Allowed::BesideListener),
    call!(sendto, SYS_sendto).only(Allowed::NotOnPackets).of(&PIPES),
    call!(recvfrom, SYS_recvfrom).of(&PIPES),
    call!(getsockopt, SYS_getsockopt).of(&CAPTURING),
    call!(getsockname, SYS_getsockname).of(&CAPTURING),
    call!(membarrier, SYS_membarrier).of(&CAPTURING),
    call!(io_uring_enter, SYS_io_uring_enter).of(&[Work::Capture]),
    call!(io_uring_register, SYS_io_uring_register)
        .of(&[Work::Capture])
        .only(Allowed::Second(&REGISTRATIONS)),
];

/// Reading files starts threads after the seal: one for each compressed file, and the janitor. Its
/// last three calls make it idle; they are allowed for the calling thread only.
const STARTS: &[Call] = &[
    call!(clone, SYS_clone).of(&READING).only(Allowed::Thread),
    call!(prctl, SYS_prctl).of(&READING).only(Allowed::First(&PRCTLS)),
    call!(rseq, SYS_rseq).of(&READING),
    call!(set_robust_list, SYS_set_robust_list).of(&READING),
    call!(sched_setscheduler, SYS_sched_setscheduler).of(&[Work::Files]).only(Allowed::First(&[0])),
    call!(ioprio_set, SYS_ioprio_set).of(&[Work::Files]).only(Allowed::Second(&[0])),
    call!(setpriority, SYS_setpriority).of(&[Work::Files]).only(Allowed::Second(&[0])),
];

/// Where a file system has no RENAME_NOREPLACE. Architectures newer than aarch64 have this call no
/// more, and libc does not name it for aarch64.
const RENAME: &[Call] = &[
    #[cfg(target_arch = "x86_64")]
    call!(renameat, SYS_renameat).of(&PRINTING),
    #[cfg(target_arch = "aarch64")]
    Call::new("renameat", 38).of(&PRINTING),
];

/// All calls that are allowed for some work.
pub fn calls() -> impl Iterator<Item = &'static Call> {
    [FILES, RENAME, THREADS, KEYS, MEMORY, SOCKETS, STARTS].into_iter().flatten()
}
