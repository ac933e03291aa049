//! The integration tests of the library and the program: one binary, with a module for each
//! subject.
//!
//! Tests that need root are in modules named `root`. `cargo test --test main decode::` runs one
//! module.
//!
//! All tests run in one process, each on a thread of its own. No test may change the state of the
//! process: its environment, working directory, mounts and signals. A test that needs to starts a
//! program, or this binary again with `--exact` and its own name (see `sink`). Network namespaces
//! and capabilities belong to a thread that the test starts. Memory is counted by thread
//! (`support::attack_harness::Counting`, the allocator of all tests here).

mod support;

mod ancestor;
mod architecture;
mod bounds;
mod capture_files;
mod capture_lists;
mod commands;
mod compilers;
mod config_file;
mod crossing;
mod decode;
mod devices;
mod differential;
mod docs;
mod doctor;
mod elide;
mod examples;
mod fanout;
mod faults;
mod filter;
mod filter_exact;
mod filter_heads;
mod filter_hints;
mod filter_quic;
mod filter_tls;
mod filter_trust;
mod filter_tunnels;
mod floods;
mod fragments;
mod frames;
mod grpc;
mod grpc_web;
mod habits;
mod headers;
mod hpack;
mod http2;
mod http2_attacks;
mod http2_live;
mod http2_losses;
mod http2_upgrade;
mod identity;
mod interfaces;
mod joined_late;
mod json;
mod live;
mod live_tls;
mod masks;
mod metrics;
mod networks;
mod outputs;
mod packaging;
mod partial;
mod replay;
mod report;
mod retransmission;
mod rotation;
mod same;
mod schema;
mod schemas;
mod sealed;
mod selection;
mod shed;
mod sink;
mod starts;
mod statistics;
mod strangers;
mod streams;
mod tls;
mod top;
mod trailers;
mod tunnels;
mod verifier;
mod veth;
mod walked;
mod watched;
mod websocket;
mod websocket_live;
mod websocket_strangers;
mod websocket_streams;

/// The program under test. `scripts/syscalls` names one that traces it.
fn httplines() -> &'static str {
    static PROGRAM: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = env!("CARGO_BIN_EXE_httplines");
        std::env::var("HTTPLINES_PROGRAM").unwrap_or_else(|_| built.to_string())
    })
}
