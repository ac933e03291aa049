//! The outputs of a run: their file names, and opening them.

use crate::config::{EmitConfig, Output, STATS_EXTENSION};
use crate::output::batch::Policy;
use crate::output::closed_name::FileName;
use crate::output::error::WriterError;
use crate::output::files::Files;
use crate::output::janitor::Janitor;
use crate::output::patience::Patience;
use crate::output::rotation::Rotation;
use crate::output::sink::{FileSink, NoSink, Sink, StdoutSink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The outputs of a run.
#[derive(Default)]
pub struct Outputs {
    /// One for all shards, or one for each.
    pub(super) sinks: Vec<Box<dyn Sink>>,
    /// If files are closed.
    pub(super) files: Option<Arc<Files>>,
    /// If something is done with closed files.
    pub(super) janitor: Option<Janitor>,
}

impl Outputs {
    /// Outputs whose files are never closed.
    pub(super) fn from_sinks(sinks: Vec<Box<dyn Sink>>) -> Outputs {
        Outputs { sinks, ..Outputs::default() }
    }
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.sinks.iter().map(|sink| sink.name());
        f.debug_tuple("Outputs").field(&names.collect::<Vec<_>>()).finish()
    }
}

/// Opens the outputs of a run: standard output, or the files of [`output_paths`]. Their readers are
/// waited for as long as `patience` lasts. If the reader of a FIFO goes, a capture of a file ends;
/// a live one waits for the next reader.
///
/// A run that waits for its writer gains nothing from io_uring: the kernel hands each write to a
/// file to a thread of its own, which costs more than the system call.
pub fn open_sinks(
    config: &EmitConfig,
    shard_count: u16,
    policy: Policy,
    patience: &Patience,
) -> Result<Outputs, WriterError> {
    if matches!(config.output, Output::Counted(_)) {
        return Ok(Outputs::from_sinks(vec![Box::new(NoSink)]));
    }
    if config.output == Output::Stdout {
        let sink = StdoutSink::new(patience.clone()).map_err(WriterError::Stdout)?;
        return Ok(Outputs::from_sinks(vec![Box::new(sink)]));
    }
    let open_file = match policy {
        #[cfg(feature = "live")]
        Policy::Drop => FileSink::open,
        _ => FileSink::open_plain,
    };
    let paths = output_paths(config, shard_count);
    let mut outputs = Outputs::default();
    check_rotation(config, &paths)?;
    if config.files.is_rotating()
        && let Output::File(path) = &config.output
    {
        let (files, news) = Files::new();
        let files = Arc::new(files);
        if config.files.is_keeping() {
            let sidecar = FileName::of(path).map(|name| name.with_extension(STATS_EXTENSION));
            let janitor = Janitor::open(&config.files, &paths, sidecar, files.clone(), news);
            let failed = |source| WriterError::Open { path: path.clone(), source };
            outputs.janitor = Some(janitor.map_err(failed)?);
        }
        outputs.files = Some(files);
    }
    for (output, path) in paths.into_iter().enumerate() {
        let failed = |source| WriterError::Open { path: path.clone(), source };
        let mut sink = open_file(&path).map_err(failed)?.with_patience(patience.clone());
        sink = match policy {
            Policy::Drop => sink.with_next_readers(),
            Policy::Wait => sink.with_reserved_space(),
        };
        if let Some(files) = &outputs.files {
            let rotation = Rotation::new(&path, output, &config.files, files.clone());
            sink = sink.with_rotation(rotation.map_err(failed)?)?;
        }
        outputs.sinks.push(Box::new(sink));
    }
    if let Some(janitor) = &mut outputs.janitor {
        janitor.tidy_up();
    }
    Ok(outputs)
}

/// Refuses rotation of an output that is there and is no file.
pub fn check_rotation(config: &EmitConfig, paths: &[PathBuf]) -> Result<(), WriterError> {
    let is_rotating = config.files.is_rotating();
    match paths.iter().find(|path| is_rotating && is_no_file(path)) {
        Some(path) => Err(WriterError::NotRotated { name: path.display().to_string() }),
        None => Ok(()),
    }
}

/// Whether something else than a file is there. Its directory may be out of reach.
fn is_no_file(path: &Path) -> bool {
    let kind = path.symlink_metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| !kind.is_file() && !kind.is_symlink() && !kind.is_dir())
}

/// The files a run writes: none, one, or one per shard if `is_per_shard` is set.
pub fn output_paths(config: &EmitConfig, shard_count: u16) -> Vec<PathBuf> {
    match &config.output {
        Output::Stdout | Output::Counted(_) => Vec::new(),
        Output::File(path) if config.is_per_shard => {
            (0..shard_count).map(|shard| shard_path(path, shard)).collect()
        }
        Output::File(path) => vec![path.clone()],
    }
}

/// `http.jsonl` → `http.0.jsonl`: the number is put before the extension, because log rotation puts
/// its own number at the end.
fn shard_path(path: &Path, shard: u16) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{shard}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_per_shard() {
        assert_eq!(
            shard_path(Path::new("/var/log/http.jsonl"), 3),
            Path::new("/var/log/http.3.jsonl")
        );
        assert_eq!(shard_path(Path::new("http"), 0), Path::new("http.0"));
        assert_eq!(shard_path(Path::new("a.b/http.x.jsonl"), 1), Path::new("a.b/http.x.1.jsonl"));
    }
}
