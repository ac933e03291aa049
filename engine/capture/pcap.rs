//! Capture files → [`Frame`]: pcap and pcapng, from any reader.
//!
//! [`open`] turns a path or standard input into one [`PcapSource`] per shard; `legacy` and `ng`
//! know the two formats. The source walks the records in a window, over a mapped file or over large
//! reads. A frame is a borrow of that window; nothing is allocated or copied per record. A length
//! in the file is not trusted before its bytes are there: a window over reads grows as they arrive,
//! up to [`RECORD_BYTES_MAX`].
//!
//! Files are read by default. If the program has called [`install_sigbus_handler`] they are mapped,
//! which takes less time. A library must not install a signal handler unasked.

use std::io::{ErrorKind, Read};

use super::{Frame, FrameSource, Lookahead, Polled, SourceError, here};
use crate::ids::IfaceNames;
use crate::time::TimestampNs;
use format::Format;
use interface_ids::InterfaceIds;
use prefetch::prefetch_behind;
use step::Step;

pub use crate::sys::file_map::install_sigbus_handler;
pub use error::CaptureOpenError;
pub use files::CaptureSource;
pub use open::CaptureFile;
pub use step::RECORD_BYTES_MAX;
pub use walked::WalkedSource;
pub use window::{MappedWindow, RecordBuffer, Window};

#[cfg(feature = "cli")]
pub mod decompress;
mod error;
mod files;
mod format;
mod input;
mod interface_ids;
mod legacy;
mod listed;
mod ng;
pub mod open;
mod prefetch;
mod step;
mod walk;
mod walked;
mod window;

#[cfg(test)]
mod tests;

/// The error for a file that became shorter while it was read.
const CUT: &str = "the file was cut while it was being read";

/// The frames of one capture, in the order of the file.
///
/// Reads pcap (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>: both byte orders,
/// micro- and nanoseconds, and the longer record headers of the "modified" magic) and pcapng
/// (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>). An error is returned once,
/// after all frames before it were visited; after that, [`Polled::End`] is returned for ever.
#[derive(Debug)]
pub struct PcapSource<W> {
    window: W,
    format: Format,
    ids: InterfaceIds,
    /// The time of the first frame, once it was seen.
    first: Option<TimestampNs>,
    /// The time of the last frame, here or in the capture that this one continues.
    last: TimestampNs,
    /// Frames visited since the beginning.
    frames: u64,
    /// Bytes to skip before the next record.
    pass_bytes: u64,
    /// Bytes that the record at the front of the window needs; 0 before the first record was looked
    /// at.
    need_bytes: usize,
    is_over: bool,
    /// Room for records of a list.
    room: Vec<walk::Record>,
}

impl<R: Read> PcapSource<Window<R>> {
    /// A source over `reader`, which must be positioned at the first byte of a capture.
    /// `read_bytes` is the size of one read; the interface names of a pcapng go to `names`. Reads
    /// the first few bytes, and waits for them.
    ///
    /// # Errors
    /// Those variants of [`CaptureOpenError`] that concern the content; they name the input "the
    /// capture".
    pub fn new(
        mut reader: R,
        read_bytes: usize,
        names: &IfaceNames,
    ) -> Result<PcapSource<Window<R>>, CaptureOpenError> {
        let prefix = format::read_prefix(&mut reader, "the capture")?;
        let format = Format::detect(&prefix, "the capture")?;
        let unread = &prefix[format.header_bytes().min(prefix.len())..];
        let window = Window::new(reader, read_bytes, unread);
        Ok(PcapSource::resume(window, format, InterfaceIds::new(names), TimestampNs(0)))
    }
}

impl<W: RecordBuffer> PcapSource<W> {
    /// A source over a capture whose header was already read and recognised. It continues one in
    /// which the interfaces have `ids` and the last frame has the time `last`.
    fn resume(
        window: W,
        mut format: Format,
        mut ids: InterfaceIds,
        last: TimestampNs,
    ) -> PcapSource<W> {
        format.continue_from(&mut ids, last);
        PcapSource {
            window,
            format,
            ids,
            first: None,
            last,
            frames: 0,
            pass_bytes: 0,
            need_bytes: 0,
            is_over: false,
            room: Vec::new(),
        }
    }

    /// The time of the first frame that was not visited, if it is in the window.
    #[cold]
    fn next_time(&self) -> Option<TimestampNs> {
        let (mut format, mut ids) = (self.format.clone(), self.ids.clone());
        let mut rest = self.window.unread().get(usize::try_from(self.pass_bytes).ok()?..)?;
        loop {
            match format.step(rest, &mut ids) {
                Step::Frame(frame, _) => return Some(frame.timestamp),
                Step::Pass(bytes) => rest = rest.get(usize::try_from(bytes).ok()?..)?,
                Step::Need(_) | Step::Damaged(_) => return None,
            }
        }
    }

    /// Visits every whole record in the window, and shows each frame `ahead_count` frames ahead.
    /// Less than one record is left in the window.
    #[inline(always)]
    fn visit_window(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<usize, SourceError> {
        if self.frames == 0 && self.first.is_none() {
            self.first = self.next_time();
        }
        let mut count = 0;
        // The offset of the next record that was not shown ahead, and the number of records shown
        // ahead of `at`.
        let (mut far, mut shown_count) = (0, 0);
        let unread = self.window.unread();
        let mut at = self.pass_bytes.min(unread.len() as u64) as usize;
        self.pass_bytes -= at as u64;
        let damage = loop {
            if self.pass_bytes > 0 {
                break None;
            }
            let rest = &unread[at..];
            match self.format.step(rest, &mut self.ids) {
                // The bytes of this record may be zeros in place of bytes that are gone.
                _ if self.window.is_cut() => break Some(CUT.to_string()),
                Step::Frame(frame, record_bytes) => {
                    prefetch_behind(unread, at, record_bytes, 1);
                    at += record_bytes;
                    if ahead_count > 0 {
                        far = far.max(at);
                        while shown_count < ahead_count
                            && let Some((frame, bytes)) = self.format.ahead(&unread[far..])
                        {
                            visit(Lookahead::Ahead(&frame));
                            shown_count += 1;
                            far += bytes;
                        }
                        shown_count = shown_count.saturating_sub(1);
                    }
                    self.last = frame.timestamp;
                    visit(Lookahead::Here(&frame));
                    count += 1;
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

    /// The reader has no more bytes: a clean end, or an end in the middle of a record.
    fn end(&mut self) -> Result<Polled, SourceError> {
        self.is_over = true;
        let there = self.window.unread().len();
        let detail = match (there, self.pass_bytes) {
            (0, 0) => return Ok(Polled::End),
            (_, 0) => format!("the last record has {there} of its {} bytes", self.need_bytes),
            (_, missing) => format!("the last block is {missing} bytes short"),
        };
        Err(SourceError::Truncated { frames: self.frames, detail })
    }
}

impl<W: RecordBuffer> FrameSource for PcapSource<W> {
    /// Does one read and visits the frames it completed, so [`Polled::Frames`] may be 0. A reader
    /// without data returns `WouldBlock` or `TimedOut`, which becomes [`Polled::Idle`]. So does
    /// `Interrupted` by a signal, which lets the caller check whether to stop.
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        self.poll_ahead(0, &mut here(visit))
    }

    #[inline(always)]
    fn poll_ahead(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        if self.is_over {
            return Ok(Polled::End);
        }
        match self.window.fill() {
            Ok(0) => self.end(),
            Ok(_) => self.visit_window(ahead_count, visit).map(Polled::Frames),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                    Ok(Polled::Idle)
                }
                kind => {
                    self.is_over = true;
                    let (frames, detail) = (self.frames, error.to_string());
                    Err(match kind {
                        // From decompression; read(2) knows neither.
                        ErrorKind::UnexpectedEof => SourceError::Truncated { frames, detail },
                        ErrorKind::InvalidData => SourceError::Damaged { frames, detail },
                        _ => SourceError::Read(error),
                    })
                }
            },
        }
    }

    fn ended_at(&self) -> Option<TimestampNs> {
        self.is_over.then_some(self.last)
    }
}
