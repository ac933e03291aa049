//! What stands for the live source where httplines was built without the feature `live`: the same
//! names, and nothing that can be opened.

use super::{Frame, FrameSource, Polled, SourceError};
use crate::config::{CaptureConfig, DecodeConfig};
use crate::ids::IfaceNames;
use std::convert::Infallible;
use std::io;

pub use super::live_totals::{InterfaceTotals, LiveTotals};

/// Why a live capture cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The feature `live` was left out.
    #[error("this httplines was built without the feature live: it reads files only")]
    NotBuilt,
}

impl OpenError {
    /// Whether more privileges would help: exit code 3.
    pub fn is_permission(&self) -> bool {
        false
    }
}

/// Opens no live capture.
#[derive(Debug)]
pub struct LiveCapture;

impl LiveCapture {
    /// Says that there is none.
    ///
    /// # Errors
    /// [`OpenError::NotBuilt`], always.
    pub fn open(
        _config: &CaptureConfig,
        _decode: &DecodeConfig,
        _interfaces: &[String],
        _shard_count: u16,
        _names: &IfaceNames,
    ) -> Result<(LiveControl, Vec<LiveSource>), OpenError> {
        Err(OpenError::NotBuilt)
    }
}

/// There is none.
#[derive(Debug)]
pub struct LiveControl(Infallible);

impl LiveControl {
    /// Never called, as all others.
    pub fn has_fanout_program(&self) -> bool {
        match self.0 {}
    }

    /// Never called.
    pub fn open_gate(&self) {
        match self.0 {}
    }

    /// Never called.
    pub fn shut_gate(&self) {
        match self.0 {}
    }

    /// Never called.
    pub fn all_gone(&self) -> Option<String> {
        match self.0 {}
    }

    /// Never called.
    pub fn totals(&mut self) -> io::Result<&LiveTotals> {
        match self.0 {}
    }
}

/// There is none.
#[derive(Debug)]
pub struct LiveSource(Infallible);

impl FrameSource for LiveSource {
    fn poll(&mut self, _visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        match self.0 {}
    }
}
