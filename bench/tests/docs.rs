//! Compares the flags of `httplines-bench` on the pages with its `--help`.

use crate::bench_path;
use crate::support::pages::{check_flags, flags_of_help, flags_of_httplines};

#[test]
fn flags_on_the_pages_of_the_harness_exist() {
    let mut known = flags_of_httplines();
    for command in ["veth", "impact", "trial", "soak", "replay", "filter"] {
        known.extend(flags_of_help(bench_path(), &[command, "--help"]));
    }
    for (page, text) in [
        ("README.md", include_str!("../../README.md")),
        ("docs/benchmarks.md", include_str!("../../docs/benchmarks.md")),
    ] {
        check_flags(page, text, &known, 3);
    }
}
