//! Landlock, landlock(7): which files this thread, and those that it starts, may open.

use std::io;
use std::path::{Path, PathBuf};
use std::ptr;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

/// The version that knows everything that is asked for here: Linux 6.12.
const WANTED: ABI = ABI::V6;

/// What the kernel enforces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enforced {
    /// Everything.
    All,
    /// What Landlock of this version knows, which is less than the wanted one.
    Version(i32),
    /// Nothing: the kernel has no Landlock.
    Nothing,
    /// Nothing: Landlock is switched off (the kernel's parameter `lsm=`).
    SwitchedOff,
}

impl Enforced {
    /// What is missing, in words.
    pub fn lack(self) -> Option<&'static str> {
        match self {
            Enforced::All => None,
            Enforced::Version(5) => Some("Landlock here does not restrict signals and sockets"),
            Enforced::Version(4) => {
                Some("Landlock here does not restrict signals, sockets and ioctl on devices")
            }
            Enforced::Version(_) => Some("Landlock here restricts files, but not TCP and signals"),
            Enforced::Nothing => Some("this kernel has no Landlock: the mode of files decides"),
            Enforced::SwitchedOff => {
                Some("Landlock is switched off (lsm= of the kernel): the mode of files decides")
            }
        }
    }
}

/// What the kernel would enforce.
pub fn available() -> Enforced {
    /// LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h.
    const VERSION: libc::c_uint = 1;
    let none = ptr::null::<libc::c_void>();
    // SAFETY: without a ruleset the call only returns the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    match (version, io::Error::last_os_error().raw_os_error()) {
        (..=0, Some(libc::EOPNOTSUPP)) => Enforced::SwitchedOff,
        (..=0, _) => Enforced::Nothing,
        (version, _) if version >= WANTED as libc::c_long => Enforced::All,
        (version, _) => Enforced::Version(version as i32),
    }
}

/// From now on this thread, and those that it starts, open files only below the directories and
/// with the names in `paths`, and `inputs` to read, and no TCP connection; they reach no other
/// process by a signal or an abstract socket. What is open stays so. Needs no_new_privs. As much as
/// the kernel knows is enforced.
pub fn allow_only(paths: &[&Path], inputs: &[PathBuf]) -> Result<Enforced, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?;
    for path in paths {
        // One that is not there cannot be opened, which is reported when it is.
        let Ok(opened) = PathFd::new(path) else { continue };
        let of_file = AccessFs::WriteFile | AccessFs::ReadFile | AccessFs::Truncate;
        let rights = match path.is_dir() {
            true => of_file | AccessFs::ReadDir | AccessFs::MakeReg | AccessFs::RemoveFile,
            false => of_file,
        };
        rules = rules.add_rule(PathBeneath::new(opened, rights))?;
    }
    for path in inputs {
        let Ok(opened) = PathFd::new(path) else { continue };
        rules = rules.add_rule(PathBeneath::new(opened, AccessFs::ReadFile))?;
    }
    Ok(match rules.restrict_self()?.landlock {
        LandlockStatus::NotImplemented => Enforced::Nothing,
        LandlockStatus::NotEnabled => Enforced::SwitchedOff,
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= WANTED => Enforced::All,
        LandlockStatus::Available { effective_abi, .. } => Enforced::Version(effective_abi as i32),
    })
}

#[test]
fn only_what_was_named_can_be_opened() {
    let place = tempfile::tempdir().expect("a directory");
    let [inside, outside] = ["inside", "outside"].map(|name| {
        let path = place.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        path
    });
    let thread = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).expect("always allowed");
        let enforced = allow_only(&[&inside], &[]).expect("the rules are sound");
        let file = inside.join("file");
        std::fs::write(&file, "text").expect("inside");
        std::fs::rename(&file, inside.join("renamed")).expect("in one directory");
        let is_refused = std::fs::write(outside.join("file"), "text").is_err()
            && std::fs::read("/proc/self/status").is_err();
        (enforced, is_refused)
    });
    let (enforced, is_refused) = thread.join().expect("no panic");
    let has_landlock = !matches!(enforced, Enforced::Nothing | Enforced::SwitchedOff);
    assert_eq!(is_refused, has_landlock, "{enforced:?}");
    assert_eq!(enforced.lack().is_none(), enforced == Enforced::All);
}
