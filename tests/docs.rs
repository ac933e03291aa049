//! Checks README and docs/ against what they describe: the schema, `--help`, the defaults, the
//! names of counters.

use crate::support::pages::{check_flags, code_spans, flags_of_httplines};
use httplines::config::{Config, Input};
use httplines::record::INTERIM_COUNT_MAX;
use httplines::stats::DecodeStats;
use httplines::sys::counters::Reason;
use std::collections::BTreeSet;

const README: &str = include_str!("../README.md");
const OUTPUT: &str = include_str!("../docs/output.md");
const FILES: &str = include_str!("../docs/files.md");
const QUERIES: &str = include_str!("../docs/queries.md");
const CONFIG: &str = include_str!("../docs/config.md");
const CAPTURE: &str = include_str!("../docs/capture.md");
const INSTALL: &str = include_str!("../docs/install.md");
const REPORT: &str = include_str!("../docs/report.md");
const SECURITY: &str = include_str!("../docs/security.md");
const FLEET: &str = include_str!("../docs/fleet.md");
const METRICS: &str = include_str!("../docs/metrics.md");
const SERVICE: &str = include_str!("../docs/service.md");
const BENCHMARKS: &str = include_str!("../docs/benchmarks.md");
const EXACTNESS: &str = include_str!("../docs/exactness.md");
const PERFORMANCE: &str = include_str!("../docs/performance.md");
const TOP: &str = include_str!("../docs/top.md");
const TROUBLESHOOTING: &str = include_str!("../docs/troubleshooting.md");
const TUNING: &str = include_str!("../docs/tuning.md");
const PAGES: [(&str, &str); 18] = [
    ("README.md", README),
    ("docs/output.md", OUTPUT),
    ("docs/files.md", FILES),
    ("docs/queries.md", QUERIES),
    ("docs/config.md", CONFIG),
    ("docs/capture.md", CAPTURE),
    ("docs/install.md", INSTALL),
    ("docs/report.md", REPORT),
    ("docs/security.md", SECURITY),
    ("docs/fleet.md", FLEET),
    ("docs/metrics.md", METRICS),
    ("docs/service.md", SERVICE),
    ("docs/benchmarks.md", BENCHMARKS),
    ("docs/exactness.md", EXACTNESS),
    ("docs/performance.md", PERFORMANCE),
    ("docs/top.md", TOP),
    ("docs/troubleshooting.md", TROUBLESHOOTING),
    ("docs/tuning.md", TUNING),
];

fn schema() -> serde_json::Value {
    serde_json::from_str(include_str!("../docs/schema.json")).expect("the schema is JSON")
}

/// The cells of the rows of the table under `heading`, without its header.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let head = format!("{heading}\n");
    let below = page.split_once(&head).unwrap_or_else(|| panic!("there is no {heading}")).1;
    let lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
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
    assert_eq!(told.len(), expected.len(), "a field is listed twice");
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
    for field in ["outcome", "end_reason"] {
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

/// Those of README.md and docs/benchmarks.md, which name flags of `httplines-bench` too, are held
/// in bench/tests/docs.rs.
#[test]
fn flags_on_the_pages_exist() {
    let known = flags_of_httplines();
    for (page, text) in PAGES {
        if !["README.md", "docs/benchmarks.md"].contains(&page) {
            let pages_without = ["docs/exactness.md", "docs/performance.md", "docs/queries.md"];
            let has_flags = !pages_without.contains(&page);
            check_flags(page, text, &known, if has_flags { 3 } else { 0 });
        }
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
        http.pending_count_max.to_string(),
        kib(http.head_bytes_max),
        "64 KiB".into(),
        mib(http.held_bytes_shard_max),
        INTERIM_COUNT_MAX.to_string(),
        mib(flow.reorder_bytes_max),
        mib(flow.reorder_bytes_shard_max),
        mib(config.decode.fragment_bytes_max),
        mib(config.decode.crossing_bytes_max),
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

/// Links between our own pages, with their anchors, and the paths of the directory index lead to
/// existing targets.
#[test]
fn paths_on_the_pages_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, text) in PAGES {
        let folder = root.join(page).parent().expect("a page has a folder").to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            if link.0.starts_with("http") {
                continue;
            }
            let (path, anchor) = link.0.split_once('#').unwrap_or((link.0, ""));
            let path = if path.is_empty() { root.join(page) } else { folder.join(path) };
            assert!(path.exists(), "{page}: {} is not there", link.0);
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(path).expect("a page");
                let has_anchor = text.contains(&format!("<a id=\"{anchor}\"></a>"));
                assert!(has_anchor, "{page}: {} is not there", link.0);
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

/// The program in README is the one that `engine/pipeline.rs` begins with, which is a test of its
/// own.
/// `scripts/integration` runs the files.
#[test]
fn the_configuration_of_rsyslog_on_the_page_is_the_one_that_is_run() {
    let files =
        [include_str!("../docs/rsyslog.conf"), include_str!("../docs/rsyslog-unclean.conf")];
    for file in files {
        assert!(FILES.contains(&format!("```text\n{file}```\n")), "docs/files.md lacks {file}");
    }
}

#[test]
fn the_program_on_the_page_is_the_one_that_compiles() {
    let words = |code: &str| code.split_whitespace().collect::<String>();
    let without_comment = |line: &str| line.split("// ").next().unwrap_or_default().to_string();
    let section = README.split_once("## As a library").expect("the section").1;
    let block = section.split_once("```rust\n").expect("a program").1;
    let on_the_page: String =
        block.split_once("```").expect("its end").0.lines().map(without_comment).collect();
    let pipeline = include_str!("../engine/pipeline.rs");
    let lines = pipeline.lines().filter_map(|line| line.strip_prefix("//! "));
    let example: String = lines
        .skip_while(|line| !line.starts_with("let mut hosts"))
        .take_while(|line| !line.starts_with('#'))
        .collect();
    // Braces on one line need no semicolon behind the statement.
    assert_eq!(words(&on_the_page), words(&example).replace(";}});", "}});"));
}
