//! What is said when a run is over.

use super::stderr::say;
use httplines::engine::Ending;
use std::process::ExitCode;

/// The exit code if something went wrong while it ran.
const EXIT_RUNTIME: u8 = 1;

/// Prints the totals, unless `is_quiet`, and what went wrong. Whether frames and lines were lost is
/// wrong, too, if `fail_on_drop` says whether the run was live.
pub fn tell(ending: &Ending, is_quiet: bool, fail_on_drop: Option<bool>) -> ExitCode {
    if !is_quiet {
        say(format_args!("{}", ending.totals));
    }
    let mut errors = ending.errors();
    if let Some(is_live) = fail_on_drop {
        let losses = ending.totals.losses();
        let losses = losses.or_else(|| ending.totals.lacks_counters(is_live));
        errors.extend(losses.map(|losses| format!("failed (--fail-on-drop): {losses}")));
    }
    for sentence in &errors {
        say(format_args!("httplines: {sentence}\n"));
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_RUNTIME) }
}
