//! What stands for io_uring where httplines was built without the feature `live`: files are written
//! by write(2).

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;

/// There is none.
#[derive(Debug)]
pub struct Uring(Infallible);

/// What became of an append.
#[derive(Debug)]
pub struct Appended {
    /// Bytes that were written.
    pub written_bytes: usize,
    /// Why no more were.
    pub error: Option<io::Error>,
    /// The buffers, back.
    pub buffers: Vec<Vec<u8>>,
}

impl Uring {
    /// Says that there is none.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`], always.
    pub fn new() -> io::Result<Uring> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called.
    pub fn append(&mut self, _file: BorrowedFd<'_>, _buffers: Vec<Vec<u8>>) -> Appended {
        match self.0 {}
    }
}
