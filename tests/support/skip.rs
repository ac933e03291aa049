//! Skips tests that cannot run here, and reports it.

use std::io::Write;

/// Reports that the running test was skipped: on stderr, past the test harness's capture, and in
/// the file that `HTTPLINES_SKIP_LOG` names, from which `scripts/test` counts.
pub fn say_skipped(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    // A line that cannot be written is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
    if let Some(path) = std::env::var_os("HTTPLINES_SKIP_LOG")
        && let Ok(mut log) = std::fs::File::options().append(true).open(path)
    {
        let _ = log.write_all(format!("{test} {reason}\n").as_bytes());
    }
}

/// Ends the running test as skipped, with the reason.
macro_rules! skip {
    ($reason:expr) => {{
        $crate::support::skip::say_skipped(&$reason);
        return;
    }};
}
pub(crate) use skip;
