//! Users and groups: their names, and becoming one: getpwnam(3), credentials(7).

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{cvt, privileges};

/// The user and group that own nothing, where no `nobody` has an entry.
const NOBODY_ID: u32 = 65_534;

/// Space for the strings of an entry.
const ENTRY_BYTES: usize = 16 << 10;

/// A user to become, and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name, or its number if it has none.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// It has other groups, too, by this name.
    entry: Option<CString>,
}

/// Why a user cannot be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// No such group.
    #[error("there is no group {0}")]
    NoGroup(String),
    /// A number without an entry, which has no group of its own.
    #[error("user {0} has no group; name one: {0}:GROUP")]
    GroupNeeded(String),
}

impl User {
    /// The user that `text` names: `USER` or `USER:GROUP`, each a name or a number. With a group it
    /// has no other groups.
    pub fn parse(text: &str) -> Result<User, UserError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let found =
            by_name(user).or_else(|| user.parse().ok().map(|uid| User::numbered(uid, None)));
        let found = found.ok_or_else(|| UserError::NoUser(user.to_string()))?;
        match group {
            None if found.entry.is_none() => Err(UserError::GroupNeeded(user.to_string())),
            None => Ok(found),
            Some(group) => {
                let gid = group_by_name(group).or_else(|| group.parse().ok());
                let gid = gid.ok_or_else(|| UserError::NoGroup(group.to_string()))?;
                Ok(User { gid, entry: None, ..found })
            }
        }
    }

    /// The user of this number; without an entry of its own it has the group `gid`.
    pub fn of_id(uid: u32, gid: u32) -> User {
        User::numbered(uid, Some(gid))
    }

    /// The user that owns nothing.
    pub fn nobody() -> User {
        by_name("nobody").unwrap_or_else(|| User {
            name: "nobody".into(),
            uid: NOBODY_ID,
            gid: NOBODY_ID,
            entry: None,
        })
    }

    fn numbered(uid: u32, gid: Option<u32>) -> User {
        let entry = entry_of(|entry, buffer, found| {
            // SAFETY: the buffer is described by its length, and all pointers are valid.
            unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), found) }
        });
        let gid = gid.unwrap_or(uid);
        entry.unwrap_or_else(|| User { name: uid.to_string(), uid, gid, entry: None })
    }

    /// Whether the user may write what is at each of `outputs`, or create it, and read each of
    /// `inputs`. Only this thread acts as the user meanwhile, which needs root.
    ///
    /// # Errors
    /// This thread may not become the user, as in a user namespace.
    pub fn may(&self, outputs: &[&Path], inputs: &[PathBuf]) -> io::Result<bool> {
        use rustix::process::{Gid, Uid};
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let (own_uid, own_gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let own_groups = rustix::process::getgroups()?;
        set_thread_groups(&[])?;
        let become_it = || {
            set_thread_res_gid(gid, gid, own_gid)?;
            set_thread_res_uid(uid, uid, own_uid)
        };
        let may_read = |path: &PathBuf| may_access(path, Access::READ_OK);
        let may_all = || outputs.iter().all(|path| may_write(path)) && inputs.iter().all(may_read);
        let result = become_it().map(|()| may_all());
        set_thread_res_uid(own_uid, own_uid, own_uid)?;
        set_thread_res_gid(own_gid, own_gid, own_gid)?;
        set_thread_groups(&own_groups)?;
        Ok(result?)
    }

    /// Makes this process run as the user, for ever. Needs root.
    pub fn become_it(&self) -> io::Result<()> {
        privileges::remember_root();
        match &self.entry {
            // SAFETY: the name is a C string, which is only read.
            Some(name) => cvt(unsafe { libc::initgroups(name.as_ptr(), self.gid) })?,
            // SAFETY: no group is read.
            None => cvt(unsafe { libc::setgroups(0, ptr::null()) })?,
        };
        // SAFETY: the arguments are numbers.
        cvt(unsafe { libc::setresgid(self.gid, self.gid, self.gid) })?;
        // SAFETY: likewise.
        cvt(unsafe { libc::setresuid(self.uid, self.uid, self.uid) })?;
        Ok(())
    }
}

fn may_access(path: &Path, access: Access) -> bool {
    check_access(path, access).is_ok()
}

fn check_access(path: &Path, access: Access) -> io::Result<()> {
    Ok(accessat(CWD, path, access, AtFlags::empty())?)
}

/// Whether this thread's user may write the file at `path` and its directory, or create it there.
pub fn may_write(path: &Path) -> bool {
    check_write(path).is_ok()
}

/// The same, with the reason why not: EACCES, or EROFS on a file system that is read-only.
pub fn check_write(path: &Path) -> io::Result<()> {
    let check = check_access;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let check_directory =
        || check(parent.unwrap_or(Path::new(".")), Access::WRITE_OK | Access::EXEC_OK);
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            check(path, Access::WRITE_OK).and_then(|()| check_directory())
        }
        Ok(_) => check(path, Access::WRITE_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_directory(),
        Err(error) => Err(error),
    }
}

fn by_name(name: &str) -> Option<User> {
    let name = CString::new(name).ok()?;
    entry_of(|entry, buffer, found| {
        // SAFETY: the name is a C string, the buffer is described by its length, and all pointers
        // are valid.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found) }
    })
}

/// The entry that `look` finds.
fn entry_of(
    look: impl FnOnce(*mut libc::passwd, &mut [libc::c_char], *mut *mut libc::passwd) -> i32,
) -> Option<User> {
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = ptr::null_mut();
    if look(entry.as_mut_ptr(), &mut buffer, &mut found) != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call has found an entry and filled it in.
    let entry = unsafe { entry.assume_init() };
    // SAFETY: the name is a C string in `buffer`, which is alive.
    let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_owned();
    let shown = name.to_string_lossy().into_owned();
    Some(User { name: shown, uid: entry.pw_uid, gid: entry.pw_gid, entry: Some(name) })
}

fn group_by_name(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = ptr::null_mut();
    let (pointer, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the name is a C string, the buffer is described by its length, and all pointers are
    // valid.
    let error =
        unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), pointer, length, &mut found) };
    // SAFETY: the call has found an entry and filled it in.
    (error == 0 && !found.is_null()).then(|| unsafe { entry.assume_init() }.gr_gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows no users")]
    fn users_are_names_or_numbers() {
        let ids = |text: &str| User::parse(text).map(|user| (user.uid, user.gid));
        assert_eq!((ids("root"), ids("0")), (Ok((0, 0)), Ok((0, 0))));
        assert_eq!(ids("root:7"), Ok((0, 7)));
        assert_eq!(ids("4000000:4000001"), Ok((4_000_000, 4_000_001)));
        assert_eq!(ids("4000000"), Err(UserError::GroupNeeded("4000000".into())));
        assert_eq!(ids("no such user"), Err(UserError::NoUser("no such user".into())));
        assert_eq!(ids("root:no such group"), Err(UserError::NoGroup("no such group".into())));
        assert_eq!(User::of_id(0, 5).name, "root");
        assert_eq!(User::of_id(4_000_000, 5).gid, 5);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows no users")]
    fn nobody_may_write_where_everybody_may() {
        if !super::super::privileges::is_root() {
            println!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir().expect("a directory");
        let (file, other) = (place.path().join("file"), place.path().join("other"));
        std::fs::write(&file, "").expect("a file");
        let set = |path: &Path, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("it is ours");
        };
        let nobody = User::nobody();
        // In a user namespace there is no other user.
        let Ok(may) = nobody.may(&[&other], &[]) else { return };
        assert!(!may, "the directory is root's");
        set(place.path(), 0o777);
        assert_eq!(nobody.may(&[&other], &[]).ok(), Some(true));
        assert_eq!(nobody.may(&[&other, &file], &[]).ok(), Some(false), "the file is root's");
        set(&file, 0o666);
        assert_eq!(nobody.may(&[&other, &file], &[]).ok(), Some(true));
        assert!(super::super::privileges::is_root(), "and only meanwhile");
    }
}
