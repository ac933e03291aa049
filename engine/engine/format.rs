//! The format of lines that a run asks for.

use crate::config::{Config, LineFormat, Output};
use crate::ids::IfaceNames;
use crate::observe::Counter;
use crate::record::{Format, JsonFormat, TextFormat};
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The format of the lines of one shard, which go to a terminal or not. A shard with a `counter`
/// has none.
pub(super) fn line_format(
    config: &Config,
    names: &IfaceNames,
    is_terminal: bool,
    counter: Option<Counter>,
) -> Box<dyn Format + Send> {
    if let Some(counter) = counter {
        return Box::new(counter);
    }
    match config.emit.format {
        LineFormat::Json => Box::new(JsonFormat::new(&config.emit, names.clone())),
        LineFormat::Text { is_verbose } => {
            Box::new(TextFormat::new(&config.emit, is_verbose, is_terminal))
        }
    }
}

/// Whether the lines of `config` go to a terminal, and control characters must not.
pub(super) fn is_terminal(config: &Config) -> bool {
    match &config.emit.output {
        Output::Stdout => std::io::stdout().is_terminal(),
        Output::File(path) => is_terminal_at(path),
        Output::Counted(_) => false,
    }
}

/// Whether a file is a terminal, as `/dev/tty` is, and `/dev/stdout` may be.
fn is_terminal_at(path: &Path) -> bool {
    // Nothing else is opened: of a pipe, that would be noticed at its other end.
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device())
        && File::options()
            .append(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .is_ok_and(|file| file.is_terminal())
}
