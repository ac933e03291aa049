//! Builds the skeleton of `bpf/traffic.bpf.c` in OUT_DIR.

use std::{env, path::PathBuf};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    // Like the package httplines, for the reasons given in its build.rs.
    let include = format!("-I/usr/include/{arch}-linux-gnu");
    SkeletonBuilder::new()
        .source("../bpf/traffic.bpf.c")
        .clang_args([include.as_str(), "-mcpu=v2", "-Wall", "-Wextra"])
        .build_and_generate(out.join("traffic.skel.rs"))
        .expect("clang makes the load generator (needs clang, libelf-dev and kernel headers)");
    println!("cargo:rerun-if-changed=../bpf");
}
