//! The file that a report is written to. It is there as a whole, or as it was before.

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that will be written.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    /// The name that it has until it is whole, in the same directory.
    partial: PathBuf,
}

impl Page {
    /// The file at `path`, which may be there.
    ///
    /// # Errors
    /// A sentence: it cannot be written.
    pub fn at(path: &Path) -> anyhow::Result<Page> {
        let told = path.display();
        let Some(name) = path.file_name() else { bail!("{told} is no name of a file") };
        if std::fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            bail!("{told} is not a regular file; name a file, or write to standard output");
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let access = rustix::fs::accessat(
            CWD,
            &directory,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
            AtFlags::EACCESS,
        );
        access.map_err(io::Error::from).with_context(|| format!("cannot write {told}"))?;
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}", std::process::id()));
        Ok(Page { path: path.to_path_buf(), partial: directory.join(partial) })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to replace a file that is read.
    ///
    /// # Errors
    /// A sentence: one of `inputs` is the same file.
    pub fn refuse_inputs(&self, inputs: &[PathBuf]) -> anyhow::Result<()> {
        let Ok(own) = std::fs::metadata(&self.path) else { return Ok(()) };
        let is_same = |input: &PathBuf| {
            std::fs::metadata(input).is_ok_and(|it| (it.dev(), it.ino()) == (own.dev(), own.ino()))
        };
        if inputs.iter().any(is_same) {
            bail!("the output is the input; name another file");
        }
        Ok(())
    }

    /// Writes it.
    ///
    /// # Errors
    /// A sentence. The file is as it was before.
    pub fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.write_whole(bytes);
        if written.is_err() {
            // It may not have been made.
            let _ = rustix::fs::unlinkat(CWD, &self.partial, AtFlags::empty());
        }
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write_whole(&self, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let mut file = File::from(rustix::fs::openat(CWD, &self.partial, flags, mode)?);
        file.write_all(bytes)?;
        Ok(rustix::fs::renameat(CWD, &self.partial, CWD, &self.path)?)
    }
}

/// Writes to standard output.
///
/// # Errors
/// A sentence. A reader that closed the pipe has seen enough; that is no error.
pub fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            bail!("cannot write standard output: {}", error.kind())
        }
        _ => Ok(()),
    }
}
