//! [`OpenInput`]: the input of a run, open and not read yet.

use super::error::EngineError;
use super::same_file::{duplicate, is_output};
use crate::capture::live::{LiveCapture, LiveControl, LiveSource};
use crate::capture::pcap::{self, open as file};
use crate::config::{Config, Input};
use crate::ids::IfaceNames;
use crate::output::Policy;
use std::fs::Metadata;
use std::path::PathBuf;

/// What a run reads. `F` is a capture file: open, or begun.
#[derive(Debug)]
pub(super) enum OpenInput<F = file::OpenCapture> {
    Live { control: Box<LiveControl>, sources: Vec<LiveSource>, interfaces: Vec<String> },
    File(F),
}

impl OpenInput {
    /// Opens the input of `config`.
    pub(super) fn open(config: &Config, names: &IfaceNames) -> Result<OpenInput, EngineError> {
        match &config.input {
            Input::Live(interfaces) => {
                let (control, sources) = LiveCapture::open(
                    &config.capture,
                    &config.decode,
                    interfaces,
                    config.shard_count,
                    names,
                )?;
                let mut once: Vec<String> = Vec::with_capacity(interfaces.len());
                for name in interfaces {
                    if !once.contains(name) {
                        once.push(name.clone());
                    }
                }
                let control = Box::new(control);
                Ok(OpenInput::Live { control, sources, interfaces: once })
            }
            Input::Files(paths) => {
                for path in paths {
                    refuse_same_file(std::fs::metadata(path), config)?;
                }
                Ok(OpenInput::File(file::OpenCapture::files(paths)?))
            }
            Input::Stdin => {
                // A descriptor of its own, to bypass the buffer of `Stdin`.
                let input = "standard input";
                let stdin = duplicate(&std::io::stdin()).map_err(|source| {
                    pcap::CaptureOpenError::Read { input: input.into(), source }
                })?;
                refuse_same_file(stdin.metadata(), config)?;
                Ok(OpenInput::File(file::OpenCapture::stream(stdin, input)))
            }
        }
    }

    /// Files that are opened later.
    pub(super) fn opened_later(&self) -> Vec<PathBuf> {
        match self {
            OpenInput::Live { .. } => Vec::new(),
            OpenInput::File(capture) => capture.opened_later(),
        }
    }

    /// Reads the first bytes of a capture file, and recognises its format. A live capture reads
    /// nothing before its gate is open.
    pub(super) fn begin(
        self,
        config: &Config,
        names: &IfaceNames,
    ) -> Result<OpenInput<file::Capture>, EngineError> {
        let (shard_count, read_bytes) = (config.shard_count, config.capture.read_bytes);
        Ok(match self {
            OpenInput::Live { control, sources, interfaces } => {
                OpenInput::Live { control, sources, interfaces }
            }
            OpenInput::File(open) => OpenInput::File(open.begin(read_bytes, shard_count, names)?),
        })
    }

    /// Whether shards wait for their outputs.
    pub(super) fn policy(&self) -> Policy {
        match self {
            OpenInput::Live { .. } => Policy::Drop,
            OpenInput::File(_) => Policy::Wait,
        }
    }
}

fn refuse_same_file(input: std::io::Result<Metadata>, config: &Config) -> Result<(), EngineError> {
    if is_output(input, config) { Err(EngineError::SameFile) } else { Ok(()) }
}
