//! Builds skeletons from bpf/*.bpf.c in OUT_DIR; does nothing without the feature `live`.

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    #[cfg(feature = "live")]
    live::build();
}

#[cfg(feature = "live")]
mod live {
    use libbpf_cargo::SkeletonBuilder;
    use std::{env, path::PathBuf};

    pub fn build() {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
        // clang's bpf target has no multiarch directory of its own; Debian keeps asm/ headers
        // there.
        let include = format!("-I/usr/include/{arch}-linux-gnu");
        for program in ["http_filter", "fanout"] {
            SkeletonBuilder::new()
                .source(format!("bpf/{program}.bpf.c"))
                // Linux 5.10 knows version 2 of the instruction set, whatever clang's default is.
                .clang_args([include.as_str(), "-mcpu=v2", "-Wall", "-Wextra"])
                .build_and_generate(out.join(format!("{program}.skel.rs")))
                .expect("clang makes the kernel half (needs clang, libelf-dev and kernel headers)");
        }
    }
}
