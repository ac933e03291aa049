//! The programs of `bpf/` as other versions of clang build them: the verifier accepts each. The
//! build itself uses `clang`, whichever version that is.

/// Needs the compiler, and CAP_BPF for loading; otherwise each test reports that it was skipped.
mod root {
    use crate::support::lab::missing_program;
    use crate::support::namespace::Namespace;
    use crate::support::skip;
    use httplines::sys::privileges::may_load_programs;
    use libbpf_rs::btf::{Btf, types};
    use libbpf_rs::{ObjectBuilder, OpenObject, libbpf_sys};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The load generator needs CAP_PERFMON, which is no loss: its namespaces need root.
    const NEEDS_PERFMON: &str = "traffic";

    fn programs() -> Vec<String> {
        let files = std::fs::read_dir("bpf").expect("a directory");
        let names = files.map(|file| file.expect("a file").file_name().into_string());
        let names = names.map(|name| name.expect("a name in UTF-8"));
        names.filter_map(|name| name.strip_suffix(".bpf.c").map(str::to_string)).collect()
    }

    /// Compiles `bpf/PROGRAM.bpf.c` as `build.rs` does, but with `compiler`.
    fn compile(compiler: &str, program: &str, place: &Path) -> PathBuf {
        let headers = place.join("bpf");
        std::fs::create_dir_all(&headers).expect("a directory");
        for (name, text) in libbpf_sys::API_HEADERS {
            std::fs::write(headers.join(name), text).expect("a header");
        }
        let object = place.join(format!("{program}.o"));
        let mut command = Command::new(compiler);
        command.args(["-g", "-O2", "-target", "bpf", "-fno-stack-protector", "-mcpu=v2"]);
        command.args(["-Wall", "-Wextra", "-Werror", "-I"]).arg(place);
        command.arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH));
        command.args(["-c", &format!("bpf/{program}.bpf.c"), "-o"]).arg(&object);
        let output = command.output().expect("the compiler starts");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler}, {program}: {printed}");
        object
    }

    /// An object whose constant `is_trusted`, if it has one, is set.
    fn open(object: &Path, is_trusted: bool) -> OpenObject {
        let btf = Btf::from_path(object).expect("the object has BTF");
        let mut open = ObjectBuilder::default().open_file(object).expect("an object");
        let Some(constants) = btf.type_by_name::<types::DataSec<'_>>(".rodata") else {
            return open;
        };
        let name = |it: &types::VarSecInfo| btf.type_by_id::<types::Var<'_>>(it.ty)?.name();
        let Some(place) = constants.iter().find(|it| name(it).is_some_and(|it| it == "is_trusted"))
        else {
            return open;
        };
        let map = open.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
        let mut map = map.expect("constants have a map");
        let bytes = map.initial_value_mut().expect("constants have values");
        bytes[place.offset as usize..][..4].copy_from_slice(&u32::from(is_trusted).to_ne_bytes());
        open
    }

    fn check(compiler: &'static str) {
        const CAP_BPF: u32 = 39;
        if let Some(reason) = missing_program(compiler) {
            skip!(reason);
        }
        if !may_load_programs() {
            skip!("needs CAP_BPF, for loading programs");
        }
        let place = tempfile::tempdir().expect("a directory");
        let untrusted = Namespace::new().expect("we are root");
        untrusted.keep_capabilities(&[CAP_BPF]);
        let mut refused = Vec::new();
        for program in programs() {
            let object = compile(compiler, &program, place.path());
            if let Err(error) = open(&object, true).load() {
                refused.push(format!("{compiler}, {program}: {error:#}"));
            }
            if program == NEEDS_PERFMON {
                continue;
            }
            let load = move || open(&object, false).load().map(drop);
            if let Err(error) = untrusted.run(load) {
                refused.push(format!("{compiler}, {program}, without CAP_PERFMON: {error:#}"));
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }

    #[test]
    fn the_verifier_accepts_the_code_of_clang_14() {
        check("clang-14");
    }

    #[test]
    fn the_verifier_accepts_the_code_of_clang_19() {
        check("clang-19");
    }
}
