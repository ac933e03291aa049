//! The reader for one shard of an input that can be read only once. Reading a pipe may block for
//! ever, which a source must not, so the reader first polls for data.

use super::tee::WAIT_MS;
use crate::sys::wait::WaitSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;

/// Reads what is available. [`Read::read`] returns [`ErrorKind::WouldBlock`] if nothing arrives
/// within [`WAIT_MS`].
#[derive(Debug)]
pub struct DirectReader {
    file: File,
    waits: WaitSet,
}

impl DirectReader {
    /// Reads `file`. There must be no other reader: it could take the data between poll and read.
    pub fn new(file: File) -> DirectReader {
        DirectReader { file, waits: WaitSet::default() }
    }
}

impl Read for DirectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.waits.wait([self.file.as_fd()], WAIT_MS)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    #[test]
    fn nothing_yet_is_said_and_is_no_end() {
        let (receive, mut send) = io::pipe().unwrap();
        let mut reader = DirectReader::new(File::from(OwnedFd::from(receive)));
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        send.write_all(b"later").unwrap();
        assert_eq!(reader.read(&mut buffer).unwrap(), 5);
        drop(send);
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    }
}
