//! Holds README and docs/ to what they describe: the schema, `--help`, the defaults, the names of
//! counters.

use httplines::config::{Config, Input};
use httplines::stats::DecodeStats;
use httplines::sys::counters::Reason;
use std::collections::BTreeSet;
use std::process::Command;
use support::program;

mod support;

const README: &str = include_str!("../README.md");
const OUTPUT: &str = include_str!("../docs/output.md");
const CAPTURE: &str = include_str!("../docs/capture.md");
const BENCHMARKS: &str = include_str!("../docs/benchmarks.md");
const EXACTNESS: &str = include_str!("../docs/exactness.md");
const PERFORMANCE: &str = include_str!("../docs/performance.md");
const PAGES: [(&str, &str); 6] = [
    ("README.md", README),
    ("docs/output.md", OUTPUT),
    ("docs/capture.md", CAPTURE),
    ("docs/benchmarks.md", BENCHMARKS),
    ("docs/exactness.md", EXACTNESS),
    ("docs/performance.md", PERFORMANCE),
];

fn schema() -> serde_json::Value {
    serde_json::from_str(include_str!("../docs/schema.json")).expect("the schema is JSON")
}

/// The cells of the rows of the table under `heading`, its own head left out.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let head = format!("{heading}\n");
    let below = page.split_once(&head).unwrap_or_else(|| panic!("there is no {heading}")).1;
    let lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands in backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names in the first column of a table.
fn first_column<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    table(page, heading).iter().flat_map(|row| code_spans(row[0])).collect()
}

#[test]
fn readmes_fields_are_the_schemas() {
    let schema = schema();
    let properties = schema["properties"].as_object().expect("the schema has properties");
    let is_twin = |name: &str| {
        let base = name.strip_suffix("_b64").or_else(|| name.strip_suffix("_len"));
        base.is_some_and(|base| properties.contains_key(base))
    };
    let plain = properties.keys().filter(|name| !is_twin(name));
    let expected: BTreeSet<&str> =
        plain.map(String::as_str).chain(["<field>_b64", "<field>_len"]).collect();
    let told = first_column(README, "## What the fields mean");
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(told.len(), expected.len(), "a field is told twice");
}

#[test]
fn readmes_fields_come_in_the_order_of_a_line() {
    let text = include_str!("../docs/schema.json");
    let properties = text.split_once("\"properties\": {").expect("it has properties").1;
    let place = |name: &str| properties.find(&format!("\n    \"{name}\": {{"));
    let told = first_column(README, "## What the fields mean");
    let places: Vec<_> = told.iter().filter_map(|name| place(name)).collect();
    assert_eq!(places.len() + 2, told.len(), "all but the two patterns have a place");
    assert!(places.is_sorted(), "the order is not that of docs/schema.json: {told:?}");
}

#[test]
fn outcomes_and_ends_are_the_schemas() {
    let schema = schema();
    for field in ["outcome", "end"] {
        let names = schema["properties"][field]["enum"].as_array().expect("a list of names");
        let names: Vec<_> = names.iter().filter_map(|name| name.as_str()).collect();
        assert_eq!(first_column(OUTPUT, &format!("## {field}")), names, "docs/output.md");
        let rows = table(README, "## What the fields mean");
        let row = rows.iter().find(|row| row[0] == format!("`{field}`")).expect("it has a row");
        assert_eq!(code_spans(row[1]).collect::<Vec<_>>(), names, "README.md");
    }
}

#[test]
fn reasons_are_those_of_the_filter() {
    let told = first_column(CAPTURE, "Rejected: the frame stays in the kernel.");
    let reasons = |is_pass| {
        let all = Reason::ALL.iter().filter(move |reason| reason.is_pass() == is_pass);
        all.map(|reason| reason.name()).filter(|name| *name != "gated").collect::<Vec<_>>()
    };
    assert_eq!(told, reasons(false));
    assert_eq!(first_column(CAPTURE, "Passed: the frame goes to a ring."), reasons(true));
    assert!(CAPTURE.contains("`gated`"));
}

#[test]
fn decode_outcomes_are_those_that_are_counted() {
    let counted = DecodeStats::default().each();
    let counted: Vec<_> = counted.into_iter().map(|(name, _)| name).collect();
    assert_eq!(first_column(CAPTURE, "## What user space makes of frames"), counted);
}

/// Words of a program's help that begin with a dash.
fn flags_of_help(program: &str, help: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(help).output().expect("it runs");
    let flags = flags_of(&String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success() && flags.len() > 4, "{help:?}: {flags:?}");
    flags
}

/// The flags of the programs that `page` may name.
fn known_flags(page: &str) -> BTreeSet<String> {
    let program = env!("CARGO_BIN_EXE_httplines");
    let mut flags = BTreeSet::new();
    for help in ["--help", "--help-all"] {
        flags.extend(flags_of_help(program, &[help]));
    }
    if ["README.md", "docs/benchmarks.md"].contains(&page) {
        for command in ["veth", "trial", "replay", "filter"] {
            let program = program::built("httplines-bench").display().to_string();
            flags.extend(flags_of_help(&program, &[command, "--help"]));
        }
    }
    flags
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

/// What follows `httplines` in the commands of a page, up to the end of each; and code spans that
/// begin with a dash.
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

#[test]
fn flags_on_the_pages_exist() {
    for (page, text) in PAGES {
        let (known, named) = (known_flags(page), flags_in(text));
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{page} names flags that do not exist: {unknown:?}");
        let has_flags = !["docs/exactness.md", "docs/performance.md"].contains(&page);
        assert!(named.len() >= 3 || !has_flags, "{page}: only {named:?} were found");
    }
}

#[test]
fn limits_are_the_defaults() {
    let config = Config::new(Input::Stdin);
    assert_eq!(config.check(), Ok(()));
    let (capture, flow, http, emit) = (&config.capture, &config.flow, &config.http, &config.emit);
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    let ring_bytes = capture.block_bytes as usize * capture.block_count as usize;
    let expected = [
        kib(emit.line_bytes_max),
        kib(http.head_bytes_max),
        http.pending_count_max.to_string(),
        mib(http.held_bytes_shard_max),
        mib(flow.reorder_bytes_max),
        mib(flow.reorder_bytes_shard_max),
        mib(config.decode.fragment_bytes_max),
        format!("{} ms", flow.reorder_grace_ms),
        flow.flow_count_max.to_string(),
        capture.session_count_max.to_string(),
        format!("{} s", flow.idle_timeout_ms / 1000),
        mib(ring_bytes),
        mib(emit.batch_bytes * emit.batch_count_max),
    ];
    let rows = table(README, "## Limits");
    let told: Vec<_> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(told, expected);
}

/// Links between our own pages lead somewhere, and so do the paths of the directory index.
#[test]
fn paths_on_the_pages_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, text) in PAGES {
        let folder = root.join(page).parent().expect("a page has a folder").to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            if !link.0.starts_with("http") {
                assert!(folder.join(link.0).exists(), "{page}: {} is not there", link.0);
            }
        }
    }
    for path in first_column(README, "## Directory index") {
        assert!(root.join(path).exists(), "README.md: {path} is not there");
    }
}

/// The tests that docs/exactness.md names, each with its file: in the last cells of its tables, and
/// in lines that begin with one.
fn tests_named() -> Vec<(&'static str, &'static str)> {
    let (mut file, mut named) = ("", Vec::new());
    for line in EXACTNESS.lines() {
        let cell = line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let tests = if line.starts_with('|') { cell } else { line };
        if !line.starts_with(['|', '`']) {
            continue;
        }
        for span in code_spans(tests) {
            if span.ends_with(".rs") {
                file = span;
            } else {
                named.push((file, span));
            }
        }
    }
    named
}

#[test]
fn tests_on_the_page_of_exactness_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = tests_named();
    assert!(named.len() > 150, "only {} were found", named.len());
    for (file, test) in named {
        let text = std::fs::read_to_string(root.join(file));
        let text = text.unwrap_or_else(|error| panic!("{file}, for {test}: {error}"));
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let head = format!("fn {test}(");
        let place = lines.iter().position(|line| line.starts_with(&head));
        let place = place.unwrap_or_else(|| panic!("{file} has no {test}"));
        let before = lines[..place].iter().rev();
        let mut attributes = before.take_while(|line| line.starts_with(['#', '/']));
        assert!(attributes.any(|line| *line == "#[test]"), "{file}: {test} is no test");
    }
}
