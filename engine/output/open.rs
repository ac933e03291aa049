//! The outputs of a run: their file names, and opening them.

use crate::config::{EmitConfig, Output};
use crate::output::batch::Policy;
use crate::output::error::WriterError;
use crate::output::patience::Patience;
use crate::output::sink::{FileSink, Sink, StdoutSink};
use std::path::{Path, PathBuf};

/// Opens the outputs of a run: standard output, or the files of [`output_paths`]. Their readers are
/// waited for as long as `patience` lasts.
///
/// A run that waits for its writer gains nothing from io_uring: the kernel hands each write to a
/// file to a thread of its own, which costs more than the system call.
pub fn open_sinks(
    config: &EmitConfig,
    shard_count: u16,
    policy: Policy,
    patience: &Patience,
) -> Result<Vec<Box<dyn Sink>>, WriterError> {
    let open_file = match policy {
        #[cfg(feature = "live")]
        Policy::Drop => FileSink::open,
        _ => FileSink::open_plain,
    };
    let open = |path: PathBuf| match open_file(&path) {
        Ok(sink) => Ok(Box::new(sink.with_patience(patience.clone())) as Box<dyn Sink>),
        Err(source) => Err(WriterError::Open { path, source }),
    };
    match &config.output {
        Output::Stdout => {
            let sink = StdoutSink::new(patience.clone()).map_err(WriterError::Stdout)?;
            Ok(vec![Box::new(sink)])
        }
        Output::File(_) => output_paths(config, shard_count).into_iter().map(open).collect(),
    }
}

/// The files a run writes: none, one, or one per shard if `is_per_shard` is set.
pub fn output_paths(config: &EmitConfig, shard_count: u16) -> Vec<PathBuf> {
    match &config.output {
        Output::Stdout => Vec::new(),
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
