//! Keys of a file that belong to an input or an output for which the command line has named
//! another one: `-r trace.pcap -o -` with the file of a service.

use crate::cli::Args;

/// The two inputs, of which a run has one.
pub(super) const INPUTS: [&str; 2] = ["interface", "read"];
/// Keys for capturing on interfaces.
pub(super) const LIVE: [&str; 5] = ["direction", "metrics", "shed", "stats-interval", "wait"];
/// Keys for files of lines.
pub(super) const FILES: [&str; 7] = [
    "compress",
    "keep-files",
    "keep-free",
    "keep-size",
    "output-per-shard",
    "rotate-interval",
    "rotate-size",
];

/// The keys that have no effect beside these arguments of the command line.
pub fn keys_without_effect(typed: &Args) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if !(typed.interfaces.is_empty() && typed.read.is_empty()) {
        keys.extend(INPUTS);
    }
    if !typed.read.is_empty() {
        keys.extend(LIVE);
    }
    if typed.output.as_ref().is_some_and(|path| path.as_os_str() == "-") {
        keys.extend(FILES);
    }
    keys
}
