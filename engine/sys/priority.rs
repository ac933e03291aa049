//! The lowest priority, for a thread whose work can wait.

/// Lets this thread run only when no other one wants the CPU or the disk: SCHED_IDLE of sched(7),
/// which anybody may choose, and the idle class of ioprio_set(2). Where a sandbox forbids it, the
/// thread runs as others do.
pub fn make_idle() {
    /// IOPRIO_WHO_PROCESS of ioprio_set(2): a thread.
    const WHO_PROCESS: libc::c_int = 1;
    /// IOPRIO_CLASS_IDLE of linux/ioprio.h, above 13 bits for a level that this class has not.
    const CLASS_IDLE: libc::c_int = 3 << 13;
    /// sched_setscheduler(2) and ioprio_set(2): the calling thread.
    const THIS_THREAD: libc::c_int = 0;
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel only reads `parameters`, during the call.
    unsafe { libc::sched_setscheduler(THIS_THREAD, libc::SCHED_IDLE, &parameters) };
    // SAFETY: the arguments are numbers.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, THIS_THREAD, CLASS_IDLE) };
    // For kernels and containers without SCHED_IDLE.
    let _ = rustix::process::setpriority_process(None, 19);
}

#[test]
fn a_thread_becomes_idle_alone() {
    // SAFETY: the argument is a number.
    let policy = || unsafe { libc::sched_getscheduler(0) };
    let nice = || rustix::process::getpriority_process(None).unwrap();
    let before = (policy(), nice());
    std::thread::spawn(move || {
        make_idle();
        assert_eq!((policy(), nice()), (libc::SCHED_IDLE, 19));
    })
    .join()
    .unwrap();
    assert_eq!((policy(), nice()), before);
}
