//! The house rules that a test can check: which module may import which, where unsafe code is, and
//! how long a file, a function and a line may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imports::{Imports, circles};
use modules::Crate;

mod imports;
mod modules;
mod tests;
mod tokens;

/// The modules in the order of the data path. A module may import modules before it and the leaves.
const MODULES: [&str; 9] =
    ["sys", "capture", "decode", "flow", "record", "protocol", "pipeline", "output", "shard"];
/// Files that any module may import. `config` and `stats` do not import modules.
const LEAVES: [&str; 8] =
    ["config", "ids", "line_memory", "packed_option", "printable", "simd", "stats", "time"];
/// The control plane, above the modules.
const CONTROL: [&str; 3] = ["engine", "observe", "totals"];
/// Modules that see bytes and packet times only.
const PURE: [&str; 4] = ["decode", "flow", "record", "protocol"];

/// Where files may import each other, and why: one circle for each row.
const CIRCLES: [(&str, &str); 2] = [
    ("engine/decode", "Ethernet carries MPLS and PPP, and these carry Ethernet or IP again"),
    ("engine/protocol", "a protocol names the one it hands over to, and the registry names all"),
];

/// Folders whose files must all be declared, and their root files.
const ROOTS: [(&str, &[&str]); 3] = [
    ("engine", &["engine/lib.rs", "engine/main.rs"]),
    ("tests", &["tests/main.rs"]),
    ("bench/tests", &["bench/tests/main.rs"]),
];
/// Manifests, and the roots of their tests.
const TEST_TARGETS: [(&str, &str); 2] =
    [("Cargo.toml", "tests/main.rs"), ("bench/Cargo.toml", "tests/main.rs")];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

fn rust_files(under: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(under)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests/fuzz") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(!files.is_empty());
    files
}

/// The first name below `engine/`: `flow` for `engine/flow/table.rs` and for `engine/flow.rs`.
fn module_of(path: &Path) -> String {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    let below = path.strip_prefix(engine).expect("a file of the engine");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// The library: `engine/lib.rs` and what it declares.
fn library() -> Crate {
    crate_of("engine/lib.rs")
}

fn crate_of(root: &str) -> Crate {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    Crate::read(&root, &|path| fs::read_to_string(path).ok())
}

/// The path below the package.
fn name_of(path: &Path) -> String {
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
    path.display().to_string()
}

#[test]
fn a_module_imports_only_modules_before_it() {
    let place = |module: &str| MODULES.iter().position(|name| *name == module);
    let library = library();
    for file in library.files() {
        let module = module_of(file);
        let Some(own) = place(&module) else { continue };
        for (named, line) in library.modules_named(file) {
            let is_allowed =
                LEAVES.contains(&named.as_str()) || place(&named).is_some_and(|at| at <= own);
            let is_room = place(&named).is_some() || CONTROL.contains(&named.as_str());
            let name = name_of(file);
            assert!(is_allowed || !is_room, "{name}:{line}: {module} may not import {named}");
        }
    }
}

#[test]
fn the_leaves_import_no_module() {
    let library = library();
    for file in library.files().into_iter().filter(|file| LEAVES.contains(&&*module_of(file))) {
        for (named, line) in library.modules_named(file) {
            assert!(LEAVES.contains(&named.as_str()), "{}:{line}: {named}", name_of(file));
        }
    }
}

/// Files that import each other can only be read as one.
#[test]
fn files_import_each_other_only_where_that_is_explained() {
    let imports = library().imports();
    let mut unexplained = Vec::new();
    let mut counts = [0; CIRCLES.len()];
    for circle in circles(&imports) {
        let names: Vec<String> = circle.iter().map(|file| name_of(file)).collect();
        let is_of = |place: &str| names.iter().all(|name| is_below(name, place));
        let places = CIRCLES.iter().enumerate().filter(|(_, (place, _))| is_of(place));
        // Of two nested folders, the inner one counts.
        match places.max_by_key(|(_, (place, _))| place.len()) {
            Some((at, _)) => counts[at] += 1,
            None => unexplained.push(told(&circle, &imports)),
        }
    }
    assert!(unexplained.is_empty(), "circles without a reason:\n{}", unexplained.join("\n"));
    for ((place, _), count) in CIRCLES.iter().zip(counts) {
        assert_eq!(count, 1, "circles in {place}");
    }
}

/// Whether the file `name` is `place`, or in its folder.
fn is_below(name: &str, place: &str) -> bool {
    name.strip_prefix(place).is_some_and(|rest| rest.starts_with(['.', '/']))
}

/// The imports that make a circle.
fn told(circle: &BTreeSet<&Path>, imports: &Imports) -> String {
    let mut lines = Vec::new();
    for file in circle {
        for (other, line) in &imports[*file] {
            if circle.contains(other.as_path()) {
                lines.push(format!("  {}:{line} imports {}", name_of(file), name_of(other)));
            }
        }
    }
    format!("{} files:\n{}", circle.len(), lines.join("\n"))
}

/// A file that no `mod` declares is not compiled, and its tests do not run.
#[test]
fn every_file_is_declared() {
    for (folder, roots) in ROOTS {
        let crates: Vec<Crate> = roots.iter().map(|root| crate_of(root)).collect();
        let declared: BTreeSet<&Path> = crates.iter().flat_map(Crate::files).collect();
        for (path, _) in rust_files(folder) {
            let name = name_of(&path);
            assert!(declared.contains(path.as_path()), "{name}: no `mod` declares it");
        }
    }
}

/// Nor do the tests of a root that no manifest names.
#[test]
fn every_root_of_tests_is_a_target() {
    for (manifest, path) in TEST_TARGETS {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
        let text = fs::read_to_string(&manifest).expect("a manifest");
        let targets: Vec<&str> = text.split("[[test]]\n").skip(1).collect();
        let has = |line: &str| targets.iter().any(|target| target.contains(line));
        let line = format!("path = \"{path}\"");
        assert!(has(&line), "{} has no [[test]] with {line}", manifest.display());
        assert!(!has("test = false"), "{}", manifest.display());
    }
}

/// A test that cannot run here ends with `skip!`, which reports it. Otherwise it would be counted
/// as passed. (`scripts/test` compares what ran without root with what was reported.)
#[test]
fn no_test_ends_early_in_silence() {
    for (path, text) in ["tests", "bench"].into_iter().flat_map(rust_files) {
        let name = name_of(&path);
        if name == "tests/architecture.rs" || name.starts_with("tests/support/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let is_test = !name.starts_with("bench/veth/");
            let is_silent = is_test && line.contains("else { return }");
            let is_silent = is_silent || line.contains("\"skipped");
            assert!(!is_silent, "{name}:{}: end the test with skip!", number + 1);
        }
    }
}

#[test]
fn pure_modules_see_no_clock_no_descriptor_no_thread_and_no_log() {
    let banned = [
        "std::io",
        "std::fs",
        "std::thread",
        "std::net::Tcp",
        "SystemTime",
        "Instant",
        "tracing::",
        "println!",
        "crate::sys",
    ];
    for (path, text) in rust_files("engine") {
        if !PURE.contains(&module_of(&path).as_str()) {
            continue;
        }
        for word in banned {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(
                !code.into_iter().any(|line| line.contains(word)),
                "{}: {word}",
                path.display()
            );
        }
    }
}

#[test]
fn unsafe_code_stands_in_one_module() {
    for (path, text) in rust_files("engine") {
        if module_of(&path) == "sys" {
            continue;
        }
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        for line in code {
            let is_fence = line.contains("unsafe_code");
            assert!(is_fence || !line.contains("unsafe "), "{}: {line}", path.display());
        }
    }
}

#[test]
fn files_lines_and_functions_are_short() {
    for folder in ["engine", "bench", "tests"] {
        for (path, text) in rust_files(folder) {
            let name = path.display();
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines.len() <= FILE_LINES_MAX, "{name} has {} lines", lines.len());
            for (number, line) in lines.iter().enumerate() {
                let columns = line.chars().count();
                assert!(columns <= LINE_COLUMNS_MAX, "{name}:{}: {columns} columns", number + 1);
            }
            for (number, length) in functions(&lines) {
                assert!(length <= FUNCTION_LINES_MAX, "{name}:{number}: {length} lines long");
            }
        }
    }
}

/// Where each function begins and how many lines it has, by the indentation rustfmt gives.
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ");
        if !head.starts_with("fn ") {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[start..].iter().position(|line| *line == close) {
            found.push((start + 1, length + 1));
        }
    }
    found
}
