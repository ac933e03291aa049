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
        if is_stale(&program) {
            build_into(folder);
        }
        assert!(program.exists(), "{} was not built", program.display());
        program.into_os_string().into_string().expect("UTF-8")
    });
    &PROGRAM
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Whether `program` is missing, or one of its source files is gone or newer. Cargo leaves their
/// names next to the program, as a rule of make(1).
fn is_stale(program: &Path) -> bool {
    let rule = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let Some((_, sources)) = rule.split_once(": ") else { return true };
    let built = changed(program);
    let mut sources = sources_of(sources).into_iter();
    built.is_none() || sources.any(|source| changed(&source) > built || !source.exists())
}

/// The names in a rule, separated by blanks; a blank inside a name follows a backslash.
fn sources_of(names: &str) -> Vec<PathBuf> {
    let kept = names.trim().replace("\\ ", "\0");
    kept.split_whitespace().map(|name| name.replace('\0', " ").into()).collect()
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
    let program = path("program");
    assert!(is_stale(&program), "it is missing");
    at("program", 20);
    assert!(is_stale(&program), "its sources are not known");
    let [first, second] = ["a.rs", "b c.rs"].map(path);
    let rule = format!("{}: {} {}\n", program.display(), first.display(), second.display());
    let rule = rule.replace("b c", "b\\ c");
    std::fs::write(path("program.d"), rule).expect("enough disk space");
    at("a.rs", 10);
    assert!(is_stale(&program), "a source is gone");
    at("b c.rs", 20);
    assert!(!is_stale(&program));
    at("b c.rs", 21);
    assert!(is_stale(&program), "a source is newer");
}

#[test]
fn the_program_says_what_it_is() {
    let output = Command::new(httplines()).arg("--version").output().expect("it starts");
    assert!(output.status.success() && output.stdout.starts_with(b"httplines "));
}
