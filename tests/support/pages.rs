//! Flags that our documentation pages name.

use std::collections::BTreeSet;
use std::process::Command;

/// The text in backticks.
pub fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Words of a program's help that begin with a dash.
pub fn flags_of_help(program: &str, help: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(help).output().expect("it runs");
    let flags = flags_of(&String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success() && flags.len() > 4, "{help:?}: {flags:?}");
    flags
}

/// The flags of `httplines`, and of its commands that have some of their own.
pub fn flags_of_httplines() -> BTreeSet<String> {
    let help = |arguments: &&[&str]| flags_of_help(crate::httplines(), arguments);
    let pages: [&[&str]; 4] =
        [&["--help"], &["--help-all"], &["report", "--help"], &["top", "--help"]];
    pages.iter().flat_map(help).collect()
}

/// Asserts that a page names at least `count_min` flags, and none that is not in `known`.
pub fn check_flags(page: &str, text: &str, known: &BTreeSet<String>, count_min: usize) {
    let named = flags_in(text);
    let unknown: Vec<_> = named.difference(known).collect();
    assert!(unknown.is_empty(), "{page} names flags that do not exist: {unknown:?}");
    assert!(named.len() >= count_min, "{page}: only {named:?} were found");
}

fn flags_of(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "[](),;=".contains(c));
    let words = words.map(|word| word.trim_end_matches(['.', ':', '`']));
    let is_flag = |word: &&str| {
        word.trim_start_matches('-').starts_with(|c: char| c.is_ascii_alphabetic())
            && word.starts_with('-')
    };
    words.filter(is_flag).map(str::to_string).collect()
}

/// The flags that follow `httplines` in the commands of a page, and code spans that begin with a
/// dash.
fn flags_in(page: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut flags = BTreeSet::new();
    for line in page.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_code {
            let command = line.split_once("httplines -").map_or("", |(_, rest)| rest);
            let end = command.find(['|', '#', ';', '&']).unwrap_or(command.len());
            flags.extend(flags_of(&format!("-{}", &command[..end])));
        } else if !is_fence {
            let spans = code_spans(line);
            let ours = spans.map(|span| span.trim_start_matches("httplines "));
            flags.extend(ours.filter(|span| span.starts_with('-')).flat_map(flags_of));
        }
    }
    flags
}
