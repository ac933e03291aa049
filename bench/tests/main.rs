//! The tests of the harness, `httplines-bench`: one binary, a module for each subject.
//!
//! The harness starts `httplines`, which is the program of another package: see [`program`].

use std::process::{Command, Output};

mod campaign;
mod docs;
mod impact;
mod program;
mod reports;
mod soak;
#[path = "../../tests/support"]
#[allow(dead_code, unused_imports, reason = "the product's tests use the rest")]
mod support {
    pub mod capture_file;
    pub mod confine;
    pub mod conversation;
    pub mod keys;
    pub mod lab;
    pub mod packet;
    pub mod pages;
    pub mod records;
    pub mod schema;
    pub mod skip;

    pub(crate) use skip::skip;
}
mod trial;

use program::httplines;

/// The path of the harness.
fn bench_path() -> &'static str {
    env!("CARGO_BIN_EXE_httplines-bench")
}

/// Runs `httplines-bench` with these arguments.
fn bench(args: &[&str]) -> Output {
    Command::new(bench_path()).args(args).output().expect("httplines-bench starts")
}

/// Ends a test if it may not create network namespaces.
macro_rules! needs_root {
    () => {
        if !$crate::support::lab::is_root() {
            $crate::support::skip!("needs root, for network namespaces");
        }
    };
}
pub(crate) use needs_root;
