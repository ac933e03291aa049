//! What integration tests share: packets, conversations, capture files, records, and a lab of
//! namespaces. Included with `mod support;`.

// Each test uses its part of this.
#![allow(dead_code, unused_imports, unused_macros)]

use std::io::Write;

pub mod attacks;
pub mod capture_file;
pub mod conversation;
pub mod found;
pub mod lab;
pub mod oracle;
pub mod packet;
pub mod program;
pub mod records;
pub mod rooms;
pub mod schema;
pub mod siege;
pub mod traffic;
pub mod tshark;
pub mod tunnel;

/// Says on stderr, past the test harness's capture, that the running test was skipped; and in the
/// file that `HTTPLINES_SKIP_LOG` names, from which `scripts/test` counts.
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
        $crate::support::say_skipped(&$reason);
        return;
    }};
}
pub(crate) use skip;

/// Ends a test where it may not make network namespaces.
macro_rules! needs_root {
    () => {
        if !$crate::support::lab::is_root() {
            $crate::support::skip!("needs root, for network namespaces");
        }
    };
}
pub(crate) use needs_root;
