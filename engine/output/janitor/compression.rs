//! [`Compression`]: a closed file on its way to `http-20261129T184507.123456Z.jsonl.zst`. Until it
//! is whole it has a name that begins with a dot, so that no glob takes it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use zstd::stream::write::Encoder;

use crate::output::closed_name::{FileName, Form, UtcMicros};
use crate::output::directory::{Directory, Sharing, lock};

/// Bytes that are compressed in one step. Between steps the janitor looks for news.
const STEP_BYTES: usize = 1 << 20;

/// The level of zstd: its default, 300 MB/s or so on one core.
const LEVEL: i32 = 3;

/// A closed file that is being compressed. Nobody else may change it meanwhile.
pub(super) struct Compression {
    pub(super) output: usize,
    pub(super) opened: UtcMicros,
    name: FileName,
    source: File,
    read_bytes: u64,
    encoder: Encoder<'static, File>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compression").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Compression {
    /// Begins with the closed file of `name` that was opened at this time. `None`: somebody still
    /// writes it.
    pub(super) fn begin(
        directory: &Directory,
        output: usize,
        name: &FileName,
        opened: UtcMicros,
    ) -> io::Result<Option<Compression>> {
        let source = directory.open_file(&name.closed(opened))?;
        if lock(&source, Sharing::Alone).is_err() {
            return Ok(None);
        }
        let encoder = directory.create(&name.in_form(opened, Form::Part)).and_then(|part| {
            // What was secret before stays so.
            part.set_permissions(PermissionsExt::from_mode(0o600))?;
            let mut encoder = Encoder::new(part, LEVEL)?;
            encoder.include_checksum(true)?;
            Ok(encoder)
        })?;
        let (name, buffer) = (name.clone(), vec![0; STEP_BYTES]);
        Ok(Some(Compression { output, opened, name, source, read_bytes: 0, encoder, buffer }))
    }

    /// Compresses the next part. Returns whether that was the last one.
    pub(super) fn step(&mut self) -> io::Result<bool> {
        match self.source.read(&mut self.buffer) {
            Ok(0) => Ok(true),
            Ok(bytes) => {
                self.read_bytes += bytes as u64;
                self.encoder.write_all(&self.buffer[..bytes])?;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the compressed file its name, and its owner, mode and time; then removes the plain
    /// one. Returns its size.
    pub(super) fn finish(self, directory: &Directory) -> io::Result<u64> {
        let part_name = self.part_name();
        let finished = (|| {
            let part = self.encoder.finish()?;
            let metadata = self.source.metadata()?;
            if metadata.len() != self.read_bytes {
                return Err(io::Error::other("somebody wrote to it meanwhile"));
            }
            let is_owner_kept = fchown(&part, Some(metadata.uid()), Some(metadata.gid())).is_ok();
            // Another group must not read it.
            let mode = metadata.mode() & if is_owner_kept { 0o777 } else { 0o700 };
            part.set_permissions(PermissionsExt::from_mode(mode))?;
            part.set_modified(metadata.modified()?)?;
            let bytes = part.metadata()?.len();
            directory.rename(&part_name, &self.name.in_form(self.opened, Form::Compressed))?;
            Ok(bytes)
        })();
        match finished {
            Ok(bytes) => {
                directory.remove(&self.name.closed(self.opened))?;
                Ok(bytes)
            }
            Err(error) => {
                let _ = directory.remove(&part_name);
                Err(error)
            }
        }
    }

    /// Gives up: the plain file stays as it is.
    pub(super) fn abandon(self, directory: &Directory) {
        // If it cannot be removed now, the next start does.
        let _ = directory.remove(&self.part_name());
    }

    fn part_name(&self) -> OsString {
        self.name.in_form(self.opened, Form::Part)
    }
}
