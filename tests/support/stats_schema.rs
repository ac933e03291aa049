//! Checks lines of the file of statistics against `docs/stats.schema.json`.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

use super::schema::validator_of;

/// Maximum bytes of a line of a run with few shards.
pub const LINE_BYTES_MAX: usize = 16 << 10;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../docs/stats.schema.json")).expect("the schema is JSON")
});

static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| validator_of(&SCHEMA));

/// The schema.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// Panics unless `line` is one whole line that the schema allows. Returns its figures.
pub fn check_line(line: &str) -> Value {
    assert!(line.len() < LINE_BYTES_MAX, "the line has {} bytes", line.len());
    let figures: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let errors: Vec<String> = VALIDATOR
        .iter_errors(&figures)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?} in {line}");
    figures
}

/// All lines of a file, each checked.
pub fn lines_of(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the file is there");
    assert!(text.is_empty() || text.ends_with('\n'), "no line is torn");
    text.lines().map(check_line).collect()
}
