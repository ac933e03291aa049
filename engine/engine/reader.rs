//! [`FileReader`]: a process that only reads files which another one writes, and gives up the rest.

use super::error::EngineError;
use super::sandbox::{Settled, settle_to_read};
use crate::config::Sandbox;
use crate::sys::seccomp::{Descriptors, Work};
use std::path::Path;

/// A process that follows the files of a directory and shows them on a terminal. It has given up
/// its user, if that was root, all capabilities, and all files but those.
#[derive(Debug)]
pub struct FileReader {
    settled: Settled,
}

impl FileReader {
    /// Gives up the rights that are not needed to read `file`, and the files beside it, for this
    /// thread and those that it starts later. The file need not be there; its directory must.
    ///
    /// # Errors
    /// The user that the sandbox names cannot be taken, or the kernel refuses.
    pub fn settle(sandbox: &Sandbox, file: &Path) -> Result<FileReader, EngineError> {
        Ok(FileReader { settled: settle_to_read(sandbox, file)? })
    }

    /// Seals all threads: from now on they make no other system calls than reading and drawing
    /// need. Says what the kernel lacks.
    pub fn seal(&mut self) {
        self.settled
            .seal(Work::TopFollow, Descriptors { packet_sockets: u32::MAX, listener: None });
        self.settled.say_notes();
    }
}
