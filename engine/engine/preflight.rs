//! [`Preflight`]: what would keep a run from starting, as far as it shows without starting it.

use super::error::{EngineError, SandboxError};
use super::same_file::is_output;
use super::sandbox::{files_of, user_for};
use crate::capture::live::{LiveOpenError, check_interfaces, check_rings};
use crate::config::{Config, Input, Sandbox};
use crate::output::{WriterError, check_output, check_rotation, output_paths};
use crate::sys::privileges::is_root;
use crate::sys::user::{User, UserError, check_write};
use rustix::process::geteuid;
use std::path::{Path, PathBuf};

/// What can be said about a run before it starts. Nothing is created, and no privilege is needed.
#[derive(Debug, Default)]
pub struct Preflight {
    /// The user that the run would become, if it were started by this user, or `None`: it stays
    /// who it is.
    pub user: Option<String>,
    /// What keeps it from starting.
    pub errors: Vec<EngineError>,
    /// What may keep it from starting, or could not be looked at. Each is a sentence.
    pub notes: Vec<String>,
}

impl Preflight {
    /// Looks at the relations between the limits, the user, the outputs, the interfaces and the
    /// memory for the rings.
    pub fn of(config: &Config) -> Preflight {
        let mut preflight = Preflight::default();
        if let Err(error) = config.check() {
            preflight.errors.push(error.into());
        }
        let user = preflight.find_user(config);
        preflight.user = user.as_ref().map(|user| user.name.clone());
        // What is wrong with the first output is so with that of statistics beside it.
        let found = files_of(config).iter().find_map(|it| preflight.output(it, user.as_ref()));
        preflight.errors.extend(found);
        let paths = output_paths(&config.emit, config.shard_count);
        let refused = check_rotation(&config.emit, &paths).err();
        preflight.errors.extend(refused.map(EngineError::from));
        if let Input::Files(paths) = &config.input
            && paths.iter().any(|path| is_output(std::fs::metadata(path), config))
        {
            preflight.errors.push(EngineError::SameFile);
        }
        match &config.input {
            Input::Live(names) => preflight.look_at_interfaces(config, names),
            Input::Files(paths) => {
                let missing = paths.iter().filter(|path| !path.exists());
                let note = |path: &PathBuf| format!("{}: no such file yet", path.display());
                preflight.notes.extend(missing.map(note));
            }
            Input::Stdin => {}
        }
        preflight
    }

    /// The user that the run becomes.
    fn find_user(&mut self, config: &Config) -> Option<User> {
        let Sandbox::On { user: wanted } = &config.sandbox else { return None };
        if let (Some(name), false) = (wanted, is_root()) {
            // Somebody else may start the run.
            let user =
                User::parse(name).map_err(|error| self.errors.push(unknown_user(error))).ok()?;
            if user.uid != geteuid().as_raw() {
                self.notes.push(format!("-Z {name}: only root may start this run"));
            }
            return Some(user);
        }
        let user = user_for(wanted.as_deref(), &files_of(config), &[]);
        user.map_err(|error| self.errors.push(error.into())).ok()?
    }

    /// Why the user may not write an output.
    fn output(&mut self, path: &Path, user: Option<&User>) -> Option<EngineError> {
        let failed = |source| WriterError::Open { path: path.to_path_buf(), source };
        let own = geteuid().as_raw();
        if let Err(source) = check_output(path, user.map_or(own, |user| user.uid), is_root()) {
            return Some(failed(source).into());
        }
        match user {
            Some(user) if is_root() => match user.may(&[path], &[]) {
                Ok(true) => return None,
                Ok(false) => {
                    let (path, user) = (path.to_path_buf(), user.name.clone());
                    return Some(EngineError::OutputOfUser { path, user });
                }
                Err(_) => self.note_output(&user.name),
            },
            Some(user) if user.uid != own => self.note_output(&user.name),
            _ => return check_write(path).err().map(|source| failed(source).into()),
        }
        None
    }

    fn note_output(&mut self, user: &str) {
        let note = format!("whether {user} may write the output shows only if root looks");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn look_at_interfaces(&mut self, config: &Config, names: &[String]) {
        match check_interfaces(names) {
            Ok(missing) => self.notes.extend(missing.iter().map(LiveOpenError::to_string)),
            Err(error) => self.errors.push(error.into()),
        }
        let mut different: Vec<&String> = names.iter().collect();
        different.sort_unstable();
        different.dedup();
        let rings = check_rings(&config.capture, config.shard_count, different.len());
        self.errors.extend(rings.err().map(EngineError::from));
    }
}

fn unknown_user(error: UserError) -> EngineError {
    SandboxError::User(error).into()
}
