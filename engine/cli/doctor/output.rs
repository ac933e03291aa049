//! Where lines go: the directory, its file system, and the user that is to write there.

use super::row::{Check, Row, percent, quoted};
use httplines::config::{Config, Input, Output};
use httplines::engine::{SandboxError, files_of, user_for};
use httplines::sys::privileges;
use httplines::sys::user::{User, may_write};
use std::fs;
use std::path::{Path, PathBuf};

/// Less free space is noted: in MiB, and in percent.
const FREE_MIB_MIN: u64 = 1024;
const FREE_PERCENT_MIN: u64 = 5;

/// File systems of linux/magic.h about which there is something to say.
const FILE_SYSTEMS: [(u64, &str, &str); 7] = [
    (0x6969, "NFS", NETWORK),
    (0xff53_4d42, "CIFS", NETWORK),
    (0xfe53_4d42, "SMB", NETWORK),
    (0x6573_5546, "FUSE", "lines are lost while the program behind it stalls"),
    (0x4d44, "FAT", "a file ends at 4 GiB, and has no owner"),
    (0x0102_1994, "tmpfs", "it is memory, and gone after a reboot"),
    (0x794c_7630, "overlayfs", "in a container, it is gone with the container"),
];
const NETWORK: &str = "lines are lost while the network or the server stalls";

/// What was found about the output.
#[derive(Clone, Debug)]
pub struct Facts {
    path: PathBuf,
    directory: PathBuf,
    is_directory_there: bool,
    is_directory: bool,
    /// It is a device, a FIFO or a socket.
    is_special: bool,
    /// The type of the file system, and its free and total space in MiB.
    file_system: Option<(u64, u64, u64)>,
}

/// Who writes.
#[derive(Clone, Debug)]
pub struct Writer {
    is_root: bool,
    /// The user that a run becomes, or why it cannot.
    user: Result<Option<String>, String>,
    /// There is no such user.
    is_unknown: bool,
    /// As -Z names it.
    wanted: Option<String>,
    /// Whether that user may write; `None`: not known.
    may_write: Option<bool>,
    /// The first file, if one is to be written.
    path: Option<PathBuf>,
    /// It exists.
    is_there: bool,
    /// It is a symbolic link to a file that does not exist.
    is_dangling: bool,
}

/// Looks at the file that `-o` names, and at its directory.
pub fn gather(path: &Path) -> Facts {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let space = rustix::fs::statvfs(&directory).ok();
    let kind = rustix::fs::statfs(&directory).ok().map(|it| it.f_type as u64);
    let file_system = space.zip(kind).map(|(space, kind)| {
        let mib = |blocks: u64| blocks.saturating_mul(space.f_frsize) >> 20;
        (kind, mib(space.f_bavail), mib(space.f_blocks))
    });
    Facts {
        is_directory_there: directory.is_dir(),
        is_directory: path.is_dir(),
        is_special: fs::metadata(path).is_ok_and(|it| !it.is_dir() && !it.is_file()),
        path: path.to_path_buf(),
        directory,
        file_system,
    }
}

/// Finds the user of a run that writes `path`, if it is a file, as the user `wanted` by -Z.
pub fn gather_writer(path: Option<&Path>, wanted: Option<&str>) -> Writer {
    let mut config = Config::new(Input::Live(Vec::new()));
    if let Some(path) = path {
        config.emit.output = Output::File(path.to_path_buf());
    }
    let paths = files_of(&config);
    let user = user_for(wanted, &paths, &[]);
    let is_unknown = matches!(user, Err(SandboxError::User(_)));
    let files: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let may_write = match &user {
        Ok(Some(user)) if privileges::is_root() => user.may(&files, &[]).ok(),
        Ok(_) => Some(files.iter().all(|path| may_write(path))),
        Err(_) => None,
    };
    Writer {
        is_root: privileges::is_root(),
        user: user.map(|user: Option<User>| user.map(|it| it.name)).map_err(|it| it.to_string()),
        is_unknown,
        wanted: wanted.map(str::to_string),
        may_write,
        is_there: paths.first().is_some_and(|path| fs::symlink_metadata(path).is_ok()),
        is_dangling: paths.first().is_some_and(|path| path.is_symlink() && !path.exists()),
        path: paths.into_iter().next(),
    }
}

/// The row about the directory.
pub fn judge(facts: &Facts, writer: &Writer) -> Row {
    let (path, directory) = (facts.path.display(), facts.directory.display());
    if !facts.is_directory_there {
        let row = Row::wrong(Check::Output, format!("there is no directory {directory}"));
        let directory = quoted(&directory);
        let Some(owner) = wanted_name(writer) else {
            let owner = if writer.is_root { "" } else { "-o $USER " };
            return row.advise(format!("sudo install -d -m 755 {owner}{directory}"));
        };
        let row = match useradd(writer) {
            Some(first) => row.advise(first),
            None => row,
        };
        return row.advise(format!("sudo install -d -m 750 -o {} {directory}", quoted(owner)));
    }
    if facts.is_directory {
        return Row::wrong(Check::Output, format!("{path} is a directory")).advise(format!(
            "name a file in it: -o {}",
            quoted(facts.path.join("http.jsonl").display())
        ));
    }
    if facts.is_special {
        return Row::ok(Check::Output, format!("{path} is a device, a FIFO or a socket"));
    }
    let Some((kind, free_mib, total_mib)) = facts.file_system else {
        return Row::note(Check::Output, format!("{directory}: its file system does not tell"));
    };
    let (free, share) = (megabytes(free_mib), percent(free_mib, total_mib));
    let finding = format!("{directory}: {free} are free, {share}% of its file system");
    if total_mib > 0 && free_mib == 0 {
        return Row::wrong(Check::Output, format!("{directory}: the file system is full")).advise(
            format!("df -h {}; a run can keep space free: --keep-free 5%", quoted(&directory)),
        );
    }
    if let Some((_, name, what)) = FILE_SYSTEMS.iter().find(|(magic, ..)| *magic == kind) {
        return Row::note(Check::Output, format!("{finding} ({name}: {what})"));
    }
    // Of a large file system less is much.
    if free_mib < FREE_MIB_MIN || share < FREE_PERCENT_MIN && free_mib < FREE_MIB_MIN * 100 {
        return Row::note(Check::Output, finding)
            .advise("httplines ... -G 1h --keep-free 5% deletes the oldest files in time");
    }
    Row::ok(Check::Output, finding)
}

fn megabytes(mib: u64) -> String {
    match mib {
        0..10_240 => format!("{mib} MiB"),
        _ => format!("{} GiB", mib >> 10),
    }
}

/// The user that -Z names, without its group.
fn wanted_name(writer: &Writer) -> Option<&str> {
    writer.wanted.as_deref()?.split(':').next()
}

/// What makes the user that -Z names, if there is none of this name.
fn useradd(writer: &Writer) -> Option<String> {
    let name = wanted_name(writer).filter(|it| writer.is_unknown && it.parse::<u32>().is_err())?;
    let name = quoted(name);
    Some(format!("sudo useradd --system --user-group --shell /usr/sbin/nologin {name}"))
}

/// The row about the user.
pub fn judge_writer(writer: &Writer) -> Row {
    let file = writer.path.as_ref().map(|path| path.display().to_string());
    let user = match &writer.user {
        Err(sentence) => {
            let row = Row::wrong(Check::User, sentence.clone());
            return match useradd(writer) {
                Some(advice) => row.advise(advice),
                None => row,
            };
        }
        Ok(user) => user.clone(),
    };
    let as_root = user.is_none() && writer.is_root;
    let name = match (&user, as_root) {
        (Some(user), _) => user.clone(),
        (None, true) => "root without capabilities".to_string(),
        (None, false) => "the user that starts it".to_string(),
    };
    let Some(file) = file else {
        return Row::ok(Check::User, format!("a run becomes {name}"));
    };
    let as_other = "httplines -Z httplines ..., with a directory that belongs to that user";
    match writer.may_write {
        Some(false) if writer.is_dangling => Row::wrong(
            Check::User,
            format!("{file} is a symbolic link to a file that does not exist"),
        )
        .advise(format!("name the file itself; ls -l {}", quoted(&file))),
        Some(false) if as_root => {
            Row::wrong(Check::User, format!("{file} cannot be written as {name}")).advise(as_other)
        }
        Some(false) => {
            let target = match (writer.is_there, writer.path.as_ref().and_then(|it| it.parent())) {
                (false, Some(parent)) if !parent.as_os_str().is_empty() => {
                    parent.display().to_string()
                }
                (false, _) => ".".to_string(),
                (true, _) => file.clone(),
            };
            let owner = user.map_or("$USER".into(), quoted);
            Row::wrong(Check::User, format!("{file} cannot be written as {name}"))
                .advise(format!("sudo chown {owner} {}", quoted(target)))
        }
        None => Row::note(Check::User, format!("whether {name} may write {file} is not seen")),
        Some(true) if as_root => Row::note(
            Check::User,
            format!("{file} is written as {name}, since nobody else may write there"),
        )
        .advise(as_other),
        Some(true) => Row::ok(Check::User, format!("{file} is written as {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Verdict::{Note, Ok as Fine, Wrong};
    use super::super::tests::said;
    use super::*;

    const EXT4: u64 = 0xef53;

    fn facts() -> Facts {
        Facts {
            path: "/var/log/httplines/http.jsonl".into(),
            directory: "/var/log/httplines".into(),
            is_directory_there: true,
            is_directory: false,
            is_special: false,
            file_system: Some((EXT4, 50_000, 100_000)),
        }
    }

    fn writer() -> Writer {
        Writer {
            is_root: true,
            user: Ok(Some("httplines".into())),
            is_unknown: false,
            wanted: Some("httplines".into()),
            may_write: Some(true),
            path: Some("/var/log/httplines/http.jsonl".into()),
            is_there: true,
            is_dangling: false,
        }
    }

    #[test]
    fn a_directory_may_be_absent_full_or_odd() {
        let row = |facts: Facts| [judge(&facts, &writer())];
        said(&row(facts()), Check::Output, Fine, "48 GiB are free, 50%");
        let absent = Facts { is_directory_there: false, ..facts() };
        let install = "sudo install -d -m 750 -o httplines /var/log/httplines";
        said(&row(absent.clone()), Check::Output, Wrong, install);
        let of = |writer: Writer| [judge(&absent, &writer)];
        let anybody = of(Writer { wanted: None, ..writer() });
        said(&anybody, Check::Output, Wrong, "sudo install -d -m 755 /var/log/httplines");
        let plain = of(Writer { wanted: None, is_root: false, ..writer() });
        said(&plain, Check::Output, Wrong, "sudo install -d -m 755 -o $USER /var/log/httplines");
        let user = Err("there is no user x".to_string());
        let unknown = of(Writer { user, is_unknown: true, wanted: Some("x:y".into()), ..writer() });
        let both = "nologin x\nsudo install -d -m 750 -o x /var/log/httplines";
        said(&unknown, Check::Output, Wrong, both);
        let odd = Facts { directory: "/a b".into(), ..absent.clone() };
        said(&[judge(&odd, &writer())], Check::Output, Wrong, "-o httplines '/a b'");
        said(&row(Facts { is_special: true, ..facts() }), Check::Output, Fine, "a FIFO");
        said(&row(Facts { is_directory: true, ..facts() }), Check::Output, Wrong, "name a file");
        let of = |kind, free, total| Facts { file_system: Some((kind, free, total)), ..facts() };
        said(&row(of(EXT4, 0, 100)), Check::Output, Wrong, "full");
        said(&row(of(EXT4, 500, 100_000)), Check::Output, Note, "--keep-free 5%");
        said(&row(of(EXT4, 2000, 100_000)), Check::Output, Note, "2000 MiB");
        said(&row(of(EXT4, 200_000, 100_000_000)), Check::Output, Fine, "195 GiB");
        said(&row(of(0x6969, 50_000, 100_000)), Check::Output, Note, "NFS: lines are lost");
        said(&row(of(0x0102_1994, 50_000, 100_000)), Check::Output, Note, "gone after a reboot");
        said(&row(Facts { file_system: None, ..facts() }), Check::Output, Note, "does not tell");
    }

    #[test]
    fn the_user_must_exist_and_may_write() {
        let row = |writer: Writer| [judge_writer(&writer)];
        said(&row(writer()), Check::User, Fine, "is written as httplines");
        let refused = Writer { may_write: Some(false), ..writer() };
        let chown = "sudo chown httplines /var/log/httplines/http.jsonl";
        said(&row(refused.clone()), Check::User, Wrong, chown);
        let linked = Writer { is_dangling: true, ..refused.clone() };
        said(&row(linked), Check::User, Wrong, "a symbolic link to a file that does not exist");
        let as_root = Writer { user: Ok(None), ..refused.clone() };
        said(&row(as_root), Check::User, Wrong, "root without capabilities\nhttplines -Z");
        let new = Writer { is_there: false, ..refused };
        said(&row(new), Check::User, Wrong, "sudo chown httplines /var/log/httplines");
        let unknown =
            Writer { user: Err("there is no user x".into()), is_unknown: true, ..writer() };
        said(&row(unknown), Check::User, Wrong, "sudo useradd --system --user-group");
        let as_root = Writer { user: Ok(None), ..writer() };
        said(&row(as_root), Check::User, Note, "root without capabilities");
        let plain = Writer { user: Ok(None), is_root: false, ..writer() };
        said(&row(plain), Check::User, Fine, "as the user that starts it");
        let unseen = Writer { may_write: None, ..writer() };
        said(&row(unseen), Check::User, Note, "not seen");
        let none = Writer { path: None, ..writer() };
        said(&row(none), Check::User, Fine, "a run becomes httplines");
    }
}
