//! The file of `--config`: whether a run with it could start, and what it is about.

use super::DoctorArgs;
use super::row::{Check, Row, quoted};
use crate::cli::check_config::{CheckConfigArgs, Findings};
use httplines::config::{Config, Input, Output, Sandbox};
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug)]
pub struct Facts {
    path: PathBuf,
    findings: Findings,
}

/// Reads the file at `path`.
pub fn gather(path: &Path) -> Facts {
    let findings = CheckConfigArgs::of(path.to_path_buf()).look().unwrap_or_else(Findings::from);
    Facts { path: path.to_path_buf(), findings }
}

impl Facts {
    /// The configuration of a run, if the file has one.
    pub fn config(&self) -> Option<&Config> {
        self.findings.config.as_ref()
    }

    /// `args`, with what the file names where they name nothing.
    pub fn complete(&self, args: &DoctorArgs) -> DoctorArgs {
        let (mut interfaces, mut output) = (args.interfaces.clone(), args.output.clone());
        let mut user = args.user.clone();
        if let Some(config) = self.config() {
            if let (true, Input::Live(names)) = (interfaces.is_empty(), &config.input) {
                interfaces.clone_from(names);
            }
            if let (None, Output::File(path)) = (&output, &config.emit.output) {
                output = Some(path.clone());
            }
            if let (None, Sandbox::On { user: Some(name) }) = (&user, &config.sandbox) {
                user = Some(name.clone());
            }
        }
        DoctorArgs { interfaces, output, user, config: None, help: None }
    }
}

/// The row. What it says of interfaces, the output and the rings has rows of its own, too.
pub fn judge(facts: &Facts) -> Row {
    let Facts { path, findings } = facts;
    let path = path.display();
    match (&findings.errors[..], &findings.notes[..]) {
        ([], []) => Row::ok(Check::Config, format!("a run with {path} can start")),
        ([], notes) => Row::note(Check::Config, notes.join("; ")),
        (errors, _) => Row::wrong(Check::Config, errors.join("; "))
            .advise(format!("httplines check-config {}", quoted(path))),
    }
}
