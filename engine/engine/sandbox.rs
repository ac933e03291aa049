//! What a run gives up: once its input is open, its user and its rights ([`settle`]).

use super::error::{EngineError, SandboxError};
use crate::config::{Config, Output, Sandbox};
use crate::output::{WriterError, is_passed_descriptor, output_paths, sidecar_path};
use crate::sys::landlock::{self, Enforced};
use crate::sys::privileges::{self, is_root};
use crate::sys::seccomp::{self, Descriptors, Work};
use crate::sys::user::User;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A run whose output directory was removed goes on for so long: whoever removed it may also end
/// the run.
const LOST_WAIT: Duration = Duration::from_secs(10);

/// What a run has given up.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// There is a sandbox.
    is_on: bool,
    /// The user that it runs as now, if it was started as root.
    user: Option<String>,
    /// What is to be said about it, once the run begins.
    notes: Vec<String>,
    /// The directory of the output, and its path. It is the only one that can be opened, even if
    /// another one takes its name.
    directory: Option<(File, PathBuf)>,
    /// Since when it is removed.
    removed: Option<Instant>,
    /// What is enforced.
    layers: Layers,
}

/// Which layers of the sandbox are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// The user is not root.
    user: bool,
    /// There are no capabilities.
    capabilities: bool,
    /// Files are restricted.
    landlock: bool,
    /// System calls are restricted.
    seccomp: bool,
}

impl Layers {
    /// The name of each layer, and whether it is enforced.
    pub(super) fn each(self) -> [(&'static str, bool); 4] {
        let Layers { user, capabilities, landlock, seccomp } = self;
        [
            ("user", user),
            ("capabilities", capabilities),
            ("landlock", landlock),
            ("seccomp", seccomp),
        ]
    }
}

impl Settled {
    /// An output cannot be opened: the user that the run became may be the reason.
    pub(super) fn explain(&self, error: WriterError) -> EngineError {
        match (error, &self.user) {
            (WriterError::Open { path, source }, Some(user))
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                EngineError::OutputOfUser { path, user: user.clone() }
            }
            (error, _) => EngineError::Output(error),
        }
    }

    /// Seals all threads: from now on they make no other system calls than `work` needs.
    pub(super) fn seal(&mut self, work: Work, descriptors: Descriptors) {
        if !self.is_on {
            return;
        }
        match seccomp::seal(work, descriptors) {
            Ok(()) => self.layers.seccomp = true,
            Err(error) => {
                self.notes.push(format!("system calls are not restricted here: {error}"));
            }
        }
    }

    /// Which layers are enforced.
    pub(super) fn layers(&self) -> Layers {
        self.layers
    }

    /// The directory of the output, if the run can write nowhere else.
    pub(super) fn directory(&self) -> Option<&File> {
        self.directory.as_ref().map(|(directory, _)| directory)
    }

    /// The path of that directory, if it was removed a while before `now`; `is_removed`: it is gone
    /// now. Nothing can be written there any more, nor in one that was made in its place.
    pub(super) fn removed_directory(&mut self, now: Instant, is_removed: bool) -> Option<PathBuf> {
        let (_, path) = self.directory.as_ref()?;
        if !is_removed {
            self.removed = None;
            return None;
        }
        let since = *self.removed.get_or_insert(now);
        (now >= since + LOST_WAIT).then(|| path.clone())
    }

    /// Says what is to be said.
    pub(super) fn say_notes(&self) {
        self.notes.iter().for_each(|note| tracing::info!("{note}"));
    }
}

/// Whether lines go to a descriptor with which the process was started. It is taken over before
/// rights are given up: it may lead to a place where the user could open nothing.
pub(super) fn is_output_passed(config: &Config) -> bool {
    match &config.emit.output {
        Output::Stdout => true,
        Output::File(path) => is_passed_descriptor(path),
        Output::Counted(_) => false,
    }
}

/// Gives up the rights that the run no longer needs, if it is to: its user, all capabilities, and
/// every file but those in the directory of the output, and `inputs`. Threads that run already keep
/// theirs.
pub(super) fn settle(config: &Config, inputs: &[PathBuf]) -> Result<Settled, SandboxError> {
    settle_for(&config.sandbox, &files_of(config), inputs)
}

/// Gives up the rights of a process whose inputs are open, and that only counts: it starts no
/// thread and opens no file, except `page` and what has a name in its directory. Says what is
/// lacking.
///
/// # Errors
/// It cannot give them up, or may not have the user that is wanted.
pub fn confine(sandbox: &Sandbox, page: Option<&Path>) -> Result<(), SandboxError> {
    let paths: Vec<PathBuf> = page.map(Path::to_path_buf).into_iter().collect();
    let mut settled = settle_for(sandbox, &paths, &[])?;
    settled.seal(Work::Report, Descriptors { packet_sockets: u32::MAX, listener: None });
    settled.say_notes();
    Ok(())
}

/// Gives up the rights of a process that writes `paths`, and opens `inputs` later.
fn settle_for(
    sandbox: &Sandbox,
    paths: &[PathBuf],
    inputs: &[PathBuf],
) -> Result<Settled, SandboxError> {
    let Sandbox::On { user } = sandbox else {
        let layers = Layers { user: !is_root(), ..Layers::default() };
        return Ok(Settled { layers, ..Settled::default() });
    };
    let mut settled = Settled { is_on: true, ..Settled::default() };
    let chosen = user_for(user.as_deref(), paths, inputs)?;
    let allowed: Vec<PathBuf> = paths.iter().map(|path| reachable(path)).collect();
    let root = "running as root without capabilities, since nobody else may write the output (-Z \
                names a user)";
    give_up(&mut settled, chosen.as_ref(), root, &allowed, inputs)?;
    if settled.layers.landlock {
        let directory = allowed.first().filter(|path| path.is_dir());
        let open = |path: &PathBuf| Some((File::open(path).ok()?, path.clone()));
        settled.directory = directory.and_then(open);
    }
    Ok(settled)
}

/// Becomes `user`, if there is one, and gives up all capabilities, and all files but those in
/// `outputs`, to write, and `inputs`, to read. `root` is said of a run that stays root.
fn give_up(
    settled: &mut Settled,
    user: Option<&User>,
    root: &str,
    outputs: &[PathBuf],
    inputs: &[PathBuf],
) -> Result<(), SandboxError> {
    privileges::empty_bounding_set();
    match user {
        Some(user) => become_user(user, settled)?,
        None if is_root() => {
            settled.user = Some("root without capabilities".into());
            settled.notes.push(root.into());
        }
        None => {}
    }
    privileges::give_up_all().map_err(SandboxError::Capabilities)?;
    let outputs: Vec<&Path> = outputs.iter().map(PathBuf::as_path).collect();
    let enforced = match landlock::allow_only(&outputs, inputs) {
        Ok(enforced) => enforced,
        Err(error) => return Err(SandboxError::Landlock(error.to_string())),
    };
    let landlock = enforced != Enforced::Nothing && enforced != Enforced::SwitchedOff;
    settled.layers = Layers { user: !is_root(), capabilities: true, landlock, seccomp: false };
    settled.notes.extend(Enforced::lack(enforced).map(String::from));
    Ok(())
}

/// Gives up what is not needed to read `file`, and the files beside it; where it is a symbolic link
/// now, also those beside what it leads to. As root it becomes the
/// owner of the file, or of its directory if it is not there; if that is root, nobody, where nobody
/// may read it.
pub(super) fn settle_to_read(sandbox: &Sandbox, file: &Path) -> Result<Settled, SandboxError> {
    let Sandbox::On { user } = sandbox else {
        let layers = Layers { user: !is_root(), ..Layers::default() };
        return Ok(Settled { layers, ..Settled::default() });
    };
    let mut settled = Settled { is_on: true, ..Settled::default() };
    let directory = directory_of(file).to_path_buf();
    let is_there = file.exists();
    let owned = if is_there { file } else { &directory };
    let owner = std::fs::metadata(owned).ok().filter(|owner| is_root() && owner.uid() != 0);
    let chosen = match (user, owner) {
        (None, Some(owner)) => Some(User::of_id(owner.uid(), owner.gid())),
        // Nobody knows who may read it once root has made it.
        (None, None) if !is_there => None,
        (user, _) => user_for(user.as_deref(), &[], &[file.to_path_buf()])?,
    };
    let root = "running as root without capabilities, since nobody else may read the file (-Z \
                names a user)";
    let target = file.canonicalize().ok().map(|target| directory_of(&target).to_path_buf());
    let readable: Vec<PathBuf> = std::iter::once(directory).chain(target).collect();
    give_up(&mut settled, chosen.as_ref(), root, &[], &readable)?;
    Ok(settled)
}

/// The user that -Z names. Without root that can only be the one that runs this.
fn named(text: &str) -> Result<User, SandboxError> {
    let user = User::parse(text)?;
    if !is_root() && user.uid != rustix::process::geteuid().as_raw() {
        return Err(SandboxError::NotRoot(text.to_string()));
    }
    Ok(user)
}

fn become_user(user: &User, settled: &mut Settled) -> Result<(), SandboxError> {
    if !is_root() {
        return Ok(());
    }
    let refused = |source| SandboxError::Become { name: user.name.clone(), source };
    user.become_it().map_err(refused)?;
    settled.user = Some(user.name.clone());
    Ok(())
}

/// The user that a run becomes once its input is open, if it is to become one: `wanted`, as -Z
/// names it, or else, as root, one that may write `paths` and read `inputs`.
///
/// # Errors
/// There is no such user, or only root could become it.
pub fn user_for(
    wanted: Option<&str>,
    paths: &[PathBuf],
    inputs: &[PathBuf],
) -> Result<Option<User>, SandboxError> {
    match (wanted, is_root()) {
        (Some(wanted), _) => named(wanted).map(Some),
        (None, true) => Ok(suitable(paths, inputs)),
        (None, false) => Ok(None),
    }
}

/// The files that the run writes, apart from those with whose descriptors it was started.
pub fn files_of(config: &Config) -> Vec<PathBuf> {
    if is_output_passed(config) {
        return Vec::new();
    }
    if let Output::Counted(path) = &config.emit.output {
        return path.iter().cloned().collect();
    }
    let mut paths = output_paths(&config.emit, config.shard_count);
    if let Output::File(path) = &config.emit.output
        && config.has_statistics()
        && is_regular_or_new(path)
    {
        paths.push(sidecar_path(path));
    }
    paths
}

fn is_regular_or_new(path: &Path) -> bool {
    std::fs::symlink_metadata(path).map_or(true, |metadata| metadata.is_file())
}

/// The user for a run as root that writes `paths` and reads `inputs`: the owner of the directory of
/// `paths`, or nobody, if nobody may do that. `None`: only root may.
fn suitable(paths: &[PathBuf], inputs: &[PathBuf]) -> Option<User> {
    let directory = paths.first().map(|path| directory_of(path));
    let owner = directory.and_then(|directory| std::fs::metadata(directory).ok());
    let owner = owner.filter(|owner| owner.uid() != 0);
    let user = owner.as_ref().map(|owner| User::of_id(owner.uid(), owner.gid()));
    let user = user.unwrap_or_else(User::nobody);
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    // In a user namespace nobody else may exist.
    let may = user.may(&paths, inputs).ok()?;
    // If the owner may not, opening the output says why.
    (may || owner.is_some()).then_some(user)
}

/// What must be reachable to write `path`: its directory, or itself, if it is a device.
fn reachable(path: &Path) -> PathBuf {
    let is_device = std::fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
    });
    if is_device { path.to_path_buf() } else { directory_of(path).to_path_buf() }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
