//! How often what is under way is reported.

use super::{ConfigError, FlowConfig, LineFormat};

impl FlowConfig {
    /// The least [`FlowConfig::active_timeout_ms`].
    pub const ACTIVE_TIMEOUT_MS_MIN: u64 = 1_000;
    /// The greatest: a week.
    pub const ACTIVE_TIMEOUT_MS_MAX: u64 = 7 * 24 * 3_600_000;

    pub(super) fn check_active(&self, format: LineFormat) -> Result<(), ConfigError> {
        let range = Self::ACTIVE_TIMEOUT_MS_MIN..=Self::ACTIVE_TIMEOUT_MS_MAX;
        match self.active_timeout_ms {
            None => Ok(()),
            Some(timeout_ms) if !range.contains(&timeout_ms) => Err(ConfigError::ActiveTimeout),
            Some(_) if format != LineFormat::Json => Err(ConfigError::ActiveTimeoutText),
            Some(_) => Ok(()),
        }
    }
}
