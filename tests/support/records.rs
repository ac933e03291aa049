//! JSON lines, and sets of them.

use serde_json::Value;

/// The records in `lines`; every line must be one JSON object.
pub fn parse(lines: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(lines).expect("lines are UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is torn: {text:?}");
    let record = |line: &str| match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        other => panic!("{line:?} is no JSON object: {other:?}"),
    };
    text.lines().map(record).collect()
}

/// The records without some of their fields, such as those that two runs may differ in.
pub fn without(mut records: Vec<Value>, fields: &[&str]) -> Vec<Value> {
    for record in &mut records {
        if let Value::Object(record) = record {
            record.retain(|name, _| !fields.contains(&name.as_str()));
        }
    }
    records
}

/// Asserts that both have the same records, each as often, in any order; says which differ.
pub fn assert_same(left: &[Value], right: &[Value]) {
    let mut missing: Vec<String> = left.iter().map(Value::to_string).collect();
    let mut extra = Vec::new();
    for record in right.iter().map(Value::to_string) {
        match missing.iter().position(|other| *other == record) {
            Some(at) => drop(missing.swap_remove(at)),
            None => extra.push(record),
        }
    }
    assert!(
        missing.is_empty() && extra.is_empty(),
        "only on the left:\n  {}\nonly on the right:\n  {}",
        missing.join("\n  "),
        extra.join("\n  ")
    );
}
