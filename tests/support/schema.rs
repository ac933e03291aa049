//! Checks output against `docs/schema.json`.

use std::sync::LazyLock;

use serde_json::Value;

use super::keys::key_order;

/// Maximum bytes of a line, as in the schema's description.
pub const LINE_BYTES_MAX: usize = 16 << 10;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../docs/schema.json")).expect("the schema is JSON")
});

static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| validator_of(&SCHEMA));

/// Checks values against a schema, with the formats that it names.
pub fn validator_of(schema: &Value) -> jsonschema::Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .expect("the schema is a schema")
}

/// The schema.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// Names of all properties of all kinds of records, in the schema's order, which is the order of
/// keys in a line. (A `Value`
/// may sort its keys, so they are read from the text.)
pub fn property_names() -> Vec<String> {
    key_order(schema_text("properties"))
}

/// The text of an object that is a member of the schema.
fn schema_text(member: &str) -> &'static str {
    #[derive(serde::Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        properties: &'a serde_json::value::RawValue,
    }
    assert_eq!(member, "properties");
    let members: Members<'static> =
        serde_json::from_str(include_str!("../../docs/schema.json")).expect("the schema is JSON");
    members.properties.get()
}

/// Panics unless `line` is one whole line of at most 16 KiB that the schema allows, with its keys
/// in the schema's order. Returns the record.
pub fn check_line(line: &[u8]) -> Value {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(property_names);
    assert!(line.len() <= LINE_BYTES_MAX, "the line has {} bytes", line.len());
    let body = line.strip_suffix(b"\n").expect("a line ends with a line feed");
    assert!(!body.contains(&b'\n') && !body.contains(&b'\r'), "a line is one line");
    let text = std::str::from_utf8(body).expect("a line is UTF-8");
    let record: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let errors: Vec<String> = VALIDATOR
        .iter_errors(&record)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:?} in {text}");
    let mut names = NAMES.iter();
    for key in key_order(text) {
        assert!(names.any(|name| *name == key), "{key} is out of order in {text}");
    }
    record
}
