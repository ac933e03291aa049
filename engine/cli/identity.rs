//! The options for lines of many sensors, and of many tools.

use super::values::number;
use clap::Args;
use httplines::config::{EmitConfig, SensorName};
use std::str::FromStr;

/// The answer if there is no line that could have a name or an id.
const NEEDS_JSON: &str = "--sensor and --community-id are for JSON lines: add -o FILE, or -o - for \
     standard output";

/// The answer if there is no id that could have a seed.
const NEEDS_ID: &str = "--community-id-seed is the seed of --community-id: add that option, or \
     leave the seed out";

/// The options for lines of many sensors, and of many tools.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// Name of this sensor, reported in every record (JSON)
    ///
    /// The field `sensor` behind the time. If lines of several hosts or interfaces are brought
    /// together, it says where each was captured. Up to 128 bytes of printable text. The lines of
    /// http.stats have it, too.
    #[arg(long, value_name = "NAME", help_heading = "Output", hide_short_help = true)]
    #[arg(value_parser = SensorName::from_str)]
    sensor: Option<SensorName>,

    /// Report the Community ID of each connection (JSON)
    ///
    /// The field `community_id`, version 1 of the id that Zeek, Suricata and others give to the
    /// same connection. It is a hash of the innermost addresses and the ports, so a connection that
    /// uses the same addresses and ports again has the same id.
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    community_id: bool,

    /// Seed of the Community ID, from 0 to 65535 [default: 0]
    ///
    /// All tools whose ids are compared must have the same one.
    #[arg(long, value_name = "N", help_heading = "Output", hide_short_help = true)]
    #[arg(value_parser = number::<u16, 0, 65_535>)]
    community_id_seed: Option<u16>,
}

impl IdentityArgs {
    /// Why the options cannot be taken, if they cannot.
    pub fn refusal(&self, is_text: bool) -> Option<&'static str> {
        if self.community_id_seed.is_some() && !self.community_id {
            return Some(NEEDS_ID);
        }
        (is_text && (self.sensor.is_some() || self.community_id)).then_some(NEEDS_JSON)
    }

    /// Sets what records say.
    pub fn configure(&self, emit: &mut EmitConfig) {
        emit.sensor = self.sensor.clone();
        emit.community_id_seed =
            self.community_id.then(|| self.community_id_seed.unwrap_or_default());
    }
}
