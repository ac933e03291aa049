//! What the sidecar of a soak says: losses by cause, while it runs and at its end.

use super::folder::SIDECAR;
use super::samples::Told;
use crate::totals::Totals;
use std::path::Path;

/// What the last line in the active sidecar says, if there is one.
pub fn latest(folder: &Path) -> Option<Told> {
    let text = std::fs::read_to_string(folder.join(SIDECAR)).ok()?;
    let whole = text.rfind('\n')?;
    told(text[..whole].lines().next_back()?)
}

fn told(_line: &str) -> Option<Told> {
    None
}

/// What is wrong with all of its lines.
pub fn faults(_lines: &[String], _totals: &Totals) -> Vec<String> {
    Vec::new()
}
