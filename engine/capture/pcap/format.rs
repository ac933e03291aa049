//! Detects the format of a capture by its first bytes.

use super::error::CaptureOpenError;
use super::interface_ids::InterfaceIds;
use super::legacy::Legacy;
use super::ng::{self, Ng};
use super::step::{PREFIX_BYTES, Step};
use crate::capture::Frame;
use crate::time::TimestampNs;
use std::io::Read;

/// The state of a capture between two records.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Legacy(Legacy),
    Ng(Ng),
}

/// The first bytes of compressed files, the name of the compression, and the tool that unpacks it.
const COMPRESSED: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "zcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"\xfd7zXZ\x00", "xz", "xzcat"),
    (b"BZh", "bzip2", "bzcat"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4cat"),
];

impl Format {
    /// The format of the capture that begins with `prefix`: [`PREFIX_BYTES`], or fewer if the input
    /// is shorter. Errors call the capture `input`.
    pub(super) fn detect(prefix: &[u8], input: &str) -> Result<Format, CaptureOpenError> {
        let input = input.to_string();
        if prefix.is_empty() {
            return Err(CaptureOpenError::Empty { input });
        }
        if let Some((_, kind, tool)) =
            COMPRESSED.iter().find(|(magic, _, _)| prefix.starts_with(magic))
        {
            return Err(CaptureOpenError::Compressed { input, kind, tool });
        }
        let is_ng = prefix.starts_with(&ng::SECTION_MAGIC);
        if !is_ng && !Legacy::is_magic(prefix) {
            return Err(CaptureOpenError::NotACapture { input });
        }
        if prefix.len() < PREFIX_BYTES {
            return Err(CaptureOpenError::HeaderCut { input });
        }
        if is_ng {
            let order = ng::section_order(prefix).ok_or(CaptureOpenError::NotACapture { input })?;
            return Ok(Format::Ng(Ng::new(order)));
        }
        Legacy::parse(prefix, input).map(Format::Legacy)
    }

    /// Continues a capture in which the interfaces have `ids` and the last frame has the time
    /// `last`.
    pub(super) fn continue_from(&mut self, ids: &mut InterfaceIds, last: TimestampNs) {
        match self {
            Format::Legacy(legacy) => legacy.set_iface(ids.of(b"")),
            Format::Ng(ng) => ng.continue_from(last),
        }
    }

    /// Bytes before the first record.
    pub(super) fn header_bytes(&self) -> usize {
        match self {
            Format::Legacy(_) => PREFIX_BYTES,
            Format::Ng(_) => 0,
        }
    }

    /// The frame at the front of `bytes`, if it is there, ahead of its turn. No state changes.
    #[inline]
    pub(super) fn ahead<'a>(&self, bytes: &'a [u8]) -> Option<(Frame<'a>, usize)> {
        match self {
            Format::Legacy(legacy) => match legacy.step(bytes) {
                Step::Frame(frame, record_bytes) => Some((frame, record_bytes)),
                _ => None,
            },
            Format::Ng(ng) => ng.ahead(bytes),
        }
    }

    /// The same as [`Format::step`], if it depends on no frame before and changes no state.
    #[inline]
    pub(super) fn stateless_step<'a>(&self, bytes: &'a [u8]) -> Option<Step<'a>> {
        match self {
            Format::Legacy(legacy) => Some(legacy.step(bytes)),
            Format::Ng(ng) => ng.stateless_step(bytes),
        }
    }

    /// The last frame before the next step had the time `last`.
    pub(super) fn set_last(&mut self, last: TimestampNs) {
        if let Format::Ng(ng) = self {
            ng.continue_from(last);
        }
    }

    /// Whether [`Format::stateless_step`] says of everything what it does with `other`.
    pub(super) fn reads_as(&self, other: &Format) -> bool {
        match (self, other) {
            (Format::Legacy(_), Format::Legacy(_)) => true,
            (Format::Ng(one), Format::Ng(other)) => one.reads_as(other),
            _ => false,
        }
    }

    /// Whether it makes sense to guess where records begin further on. `is_changing`: it is not
    /// known how later records are read.
    pub(super) fn can_guess(&self, is_changing: bool) -> bool {
        match self {
            // All records of a pcap are read in the same way.
            Format::Legacy(_) => true,
            Format::Ng(ng) => ng.has_interface() && !is_changing,
        }
    }

    /// The next step: what is at the front of `bytes`.
    #[inline]
    pub(super) fn step<'a>(&mut self, bytes: &'a [u8], ids: &mut InterfaceIds) -> Step<'a> {
        match self {
            Format::Legacy(legacy) => legacy.step(bytes),
            Format::Ng(ng) => ng.step(bytes, ids),
        }
    }
}

/// The first bytes of a capture: [`PREFIX_BYTES`], or all if it is shorter.
pub(super) fn read_prefix(
    reader: &mut impl Read,
    input: &str,
) -> Result<Vec<u8>, CaptureOpenError> {
    let mut prefix = Vec::with_capacity(PREFIX_BYTES);
    reader
        .take(PREFIX_BYTES as u64)
        .read_to_end(&mut prefix)
        .map_err(|source| CaptureOpenError::io(input, source))?;
    Ok(prefix)
}
