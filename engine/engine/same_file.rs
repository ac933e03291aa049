//! Whether an input is also the output: the run would read what it appends.

use crate::config::{Config, Output};
use crate::output::output_paths;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// Whether `input` is an output of this run. Files are compared by device and inode, not by name.
pub(super) fn is_output(input: io::Result<Metadata>, config: &Config) -> bool {
    let Ok(input) = input else { return false };
    let is_same = |output: Metadata| {
        input.is_file() && (input.dev(), input.ino()) == (output.dev(), output.ino())
    };
    match &config.emit.output {
        Output::Stdout => {
            duplicate(&io::stdout()).and_then(|stdout| stdout.metadata()).is_ok_and(is_same)
        }
        Output::Counted(path) => {
            path.as_ref().is_some_and(|path| std::fs::metadata(path).is_ok_and(is_same))
        }
        Output::File(_) => output_paths(&config.emit, config.shard_count)
            .iter()
            .any(|path| std::fs::metadata(path).is_ok_and(is_same)),
    }
}

/// Duplicates an open descriptor as a file of our own: the shell may have opened one for us.
pub(super) fn duplicate(open: &impl AsFd) -> io::Result<File> {
    Ok(File::from(open.as_fd().try_clone_to_owned()?))
}
