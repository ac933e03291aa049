//! The house rules that a machine can hold: which room may import which, where unsafe code stands,
//! and how long a file, a function and a line may be.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of the data's way. A room may import rooms before it and the leaves.
const ROOMS: [&str; 7] = ["sys", "capture", "decode", "flow", "http", "emit", "shard"];
/// What any room may import. `config` and `stats` know nothing of rooms.
const LEAVES: [&str; 6] = ["config", "ids", "lanes", "slim", "stats", "time"];
/// What stands above the rooms.
const CONTROL: [&str; 2] = ["engine", "totals"];
/// Rooms that see bytes and packet times only.
const PURE: [&str; 3] = ["decode", "flow", "http"];

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
fn room_of(path: &Path) -> String {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    let below = path.strip_prefix(engine).expect("a file of the engine");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// The rooms that a line of code names: `flow` for `use crate::flow::Chunk`, each of `use
/// crate::{flow, http}`.
fn rooms_named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let list = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or(list));
        for part in list.unwrap_or(rest).split(", ") {
            let name: String =
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            named.push(name);
            if list.is_none() {
                break;
            }
        }
    }
    named
}

#[test]
fn a_room_imports_only_rooms_before_it() {
    let place = |room: &str| ROOMS.iter().position(|name| *name == room);
    for (path, text) in rust_files("engine") {
        let room = room_of(&path);
        let Some(own) = place(&room) else { continue };
        for (number, line) in text.lines().enumerate() {
            for named in rooms_named(line) {
                let is_allowed =
                    LEAVES.contains(&named.as_str()) || place(&named).is_some_and(|at| at <= own);
                let is_room = place(&named).is_some() || CONTROL.contains(&named.as_str());
                assert!(
                    is_allowed || !is_room,
                    "{}:{}: {room} may not import {named}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn the_leaves_import_no_room() {
    for (path, text) in rust_files("engine") {
        if !LEAVES.contains(&room_of(&path).as_str()) {
            continue;
        }
        for named in text.lines().flat_map(rooms_named) {
            assert!(LEAVES.contains(&named.as_str()), "{}: imports {named}", path.display());
        }
    }
}

#[test]
fn pure_rooms_see_no_clock_no_descriptor_no_thread_and_no_log() {
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
        if !PURE.contains(&room_of(&path).as_str()) {
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
fn unsafe_code_stands_in_one_room() {
    for (path, text) in rust_files("engine") {
        if room_of(&path) == "sys" {
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
