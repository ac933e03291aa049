//! Options of lines that contradict each other.

use super::{ConfigError, EmitConfig, LineFormat, Output, Selection};

impl EmitConfig {
    pub(super) fn check_selection(&self) -> Result<(), ConfigError> {
        let Selection { wanted, unwanted } = &self.selection;
        if wanted.len() + unwanted.len() > Selection::CONDITION_COUNT_MAX {
            return Err(ConfigError::ConditionCount);
        }
        if !self.selection.is_empty() && matches!(self.format, LineFormat::Text { .. }) {
            return Err(ConfigError::SelectionText);
        }
        Ok(())
    }

    pub(super) fn check_files(&self) -> Result<(), ConfigError> {
        let files = &self.files;
        let is_any = files.is_rotating() || files.is_keeping();
        let is_text = matches!(self.format, LineFormat::Text { .. });
        if is_any && (is_text || !matches!(self.output, Output::File(_))) {
            return Err(ConfigError::RotateNoFile);
        }
        if files.is_keeping() && !files.is_rotating() {
            return Err(ConfigError::KeepWithoutRotation);
        }
        let is_short = files.rotate_interval.is_some_and(|interval| interval.as_secs() == 0);
        if is_short || files.rotate_bytes == Some(0) || files.keep_file_count == Some(0) {
            return Err(ConfigError::RotateZero);
        }
        if files.is_compressed && !cfg!(feature = "cli") {
            return Err(ConfigError::NoCompression);
        }
        Ok(())
    }
}
