//! Capture files → [`Frame`]: pcap and pcapng, from anything that can be read.
//!
//! [`open`] turns a path or standard input into one [`PcapSource`] a shard; `legacy` and `ng` know
//! the two formats. The source owns a window over large reads and walks the records in it, so that
//! a frame is a borrow and nothing is allocated or copied for a record. What a file claims is never
//! believed before its bytes are there: the window grows as they arrive, up to
//! [`RECORD_BYTES_MAX`].

use std::io::{ErrorKind, Read};

use super::{Frame, FrameSource, Polled, SourceError};
use crate::ids::IfaceNames;
use format::Format;
use window::Window;

mod format;
mod legacy;
mod ng;
pub mod open;
mod window;

#[cfg(test)]
mod tests;

/// Bytes of the longest record that is read, its header included. Frames are at most 256 KiB in any
/// file that a capture tool writes; a record beyond this is damage.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// What stands next in a capture, seen from the first byte of a record.
enum Step<'a> {
    /// A frame, and how many bytes its whole record takes.
    Frame(Frame<'a>, usize),
    /// No frame; so many bytes are to be passed over, possibly more than are there yet.
    Pass(u64),
    /// The record cannot be read until so many bytes of it are there.
    Need(usize),
    /// What is there contradicts the format.
    Damaged(String),
}

/// The frames of one capture, in the order of the file.
///
/// Reads pcap (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>: both byte orders,
/// micro- and nanoseconds, and the longer record headers of the "modified" magic) and pcapng
/// (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>). An error is told once,
/// after all frames before it were visited; from then on [`Polled::End`] is all there is.
#[derive(Debug)]
pub struct PcapSource<R> {
    reader: R,
    window: Window,
    format: Format,
    names: IfaceNames,
    /// Frames visited since the beginning.
    frames: u64,
    /// Bytes that are still to be passed over before the next record.
    pass_bytes: u64,
    /// Bytes the record at the front of the window needs; 0 before any was looked at.
    need_bytes: usize,
    is_over: bool,
}

impl<R: Read> PcapSource<R> {
    /// A source over `reader`, which stands at the first byte of a capture. `read_bytes` is the
    /// size of one read; the names of a pcapng's interfaces go to `names`. Reads the first few
    /// bytes, and waits for them.
    ///
    /// # Errors
    /// Those of [`open::OpenError`] that concern content; they name the input "the capture".
    pub fn new(
        mut reader: R,
        read_bytes: usize,
        names: &IfaceNames,
    ) -> Result<PcapSource<R>, open::OpenError> {
        let prefix = open::read_prefix(&mut reader, "the capture")?;
        let format = Format::detect(&prefix, "the capture")?;
        Ok(PcapSource::resume(reader, &prefix, format, read_bytes, names))
    }

    /// A source over a capture whose first bytes, `prefix`, were read and recognised before.
    fn resume(
        reader: R,
        prefix: &[u8],
        format: Format,
        read_bytes: usize,
        names: &IfaceNames,
    ) -> PcapSource<R> {
        let unread = &prefix[format.header_bytes().min(prefix.len())..];
        PcapSource {
            reader,
            window: Window::new(read_bytes, unread),
            format,
            names: names.clone(),
            frames: 0,
            pass_bytes: 0,
            need_bytes: 0,
            is_over: false,
        }
    }

    /// Visits every whole record in the window; what is left in it is less than one record.
    fn visit_window(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<usize, SourceError> {
        let mut count = 0;
        let unread = self.window.unread();
        let mut at = self.pass_bytes.min(unread.len() as u64) as usize;
        self.pass_bytes -= at as u64;
        let damage = loop {
            if self.pass_bytes > 0 {
                break None;
            }
            let rest = &unread[at..];
            match self.format.step(rest, &self.names) {
                Step::Frame(frame, record_bytes) => {
                    visit(frame);
                    count += 1;
                    at += record_bytes;
                }
                Step::Pass(bytes) => {
                    let here = bytes.min(rest.len() as u64);
                    self.pass_bytes = bytes - here;
                    at += here as usize;
                }
                Step::Need(bytes) => {
                    self.need_bytes = bytes;
                    break None;
                }
                Step::Damaged(detail) => break Some(detail),
            }
        };
        self.window.consume(at);
        self.frames += count as u64;
        match damage {
            None => Ok(count),
            Some(detail) => {
                self.is_over = true;
                Err(SourceError::Damaged { frames: self.frames, detail })
            }
        }
    }

    /// The reader has no more: a clean end, or one in the middle of a record.
    fn end(&mut self) -> Result<Polled, SourceError> {
        self.is_over = true;
        let there = self.window.unread().len();
        let detail = match (there, self.pass_bytes) {
            (0, 0) => return Ok(Polled::End),
            (_, 0) => format!("the last record has {there} of its {} bytes", self.need_bytes),
            (_, missing) => format!("the last block lacks {missing} bytes"),
        };
        Err(SourceError::Truncated { frames: self.frames, detail })
    }
}

impl<R: Read> FrameSource for PcapSource<R> {
    /// One read, and the frames it completed: [`Polled::Frames`] may say 0. A reader that has
    /// nothing yet says so with `WouldBlock` or `TimedOut`, which is [`Polled::Idle`] here; so is a
    /// signal's `Interrupted`, so that whoever polls can look whether to stop.
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        if self.is_over {
            return Ok(Polled::End);
        }
        match self.window.fill(&mut self.reader) {
            Ok(0) => self.end(),
            Ok(_) => self.visit_window(visit).map(Polled::Frames),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                    Ok(Polled::Idle)
                }
                _ => {
                    self.is_over = true;
                    Err(SourceError::Read(error))
                }
            },
        }
    }
}
