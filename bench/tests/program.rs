//! `httplines` itself. Cargo builds the programs of a test's own package and passes their paths;
//! this one belongs to another package. It is expected next to `httplines-bench`, where `cargo test
//! --workspace` puts both. If it is missing, or older than its sources, it is built there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

/// The path of the program, which is built if necessary.
pub fn httplines() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        let folder = Path::new(crate::bench_path()).parent().expect("a program is in a folder");
        let program = folder.join("httplines");
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let sources = ["Cargo.toml", "Cargo.lock", "build.rs", "bpf", "engine"];
        if is_stale(&program, &sources.map(|source| package.join(source))) {
            build_into(folder);
        }
        assert!(program.exists(), "{} was not built", program.display());
        program.into_os_string().into_string().expect("UTF-8")
    });
    &PROGRAM
}

/// When a file, or the newest file in a folder, was changed.
fn changed(path: &Path) -> Option<SystemTime> {
    match path.read_dir() {
        Ok(entries) => entries.flatten().filter_map(|entry| changed(&entry.path())).max(),
        Err(_) => path.metadata().and_then(|metadata| metadata.modified()).ok(),
    }
}

/// Whether `program` is missing, or one of its source files or folders is newer. (Cargo's own list
/// of sources is not there where it built the program for tests.)
fn is_stale(program: &Path, sources: &[PathBuf]) -> bool {
    let built = changed(program);
    built.is_none() || sources.iter().any(|source| changed(source) > built)
}

/// Builds `httplines` with the profile that this folder belongs to.
fn build_into(folder: &Path) {
    let name = folder.file_name().and_then(|name| name.to_str()).expect("the profile's folder");
    let profile = if name == "debug" { "dev" } else { name };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--package", "httplines", "--bin", "httplines", "--profile", profile]);
    build.arg("--target-dir").arg(folder.parent().expect("the target folder"));
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(status.is_ok_and(|status| status.success()), "run: cargo build -p httplines");
}

#[test]
fn a_program_is_stale_that_is_missing_or_older_than_a_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let at = |name: &str, seconds: u64| {
        let file = std::fs::File::options().create(true).append(true).open(path(name));
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.and_then(|file| file.set_modified(time)).expect("a file of ours");
    };
    std::fs::create_dir(path("engine")).expect("enough disk space");
    at("engine/b.rs", 20);
    at("a.rs", 10);
    let (program, sources) = (path("program"), ["a.rs", "engine"].map(path));
    assert!(is_stale(&program, &sources), "it is missing");
    at("program", 20);
    assert!(!is_stale(&program, &sources));
    at("engine/b.rs", 21);
    assert!(is_stale(&program, &sources), "a source in a folder is newer");
}

#[test]
fn the_program_says_what_it_is() {
    let output = Command::new(httplines()).arg("--version").output().expect("it starts");
    assert!(output.status.success() && output.stdout.starts_with(b"httplines "));
}
