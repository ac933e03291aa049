//! JSON lines, and sets of them.

use serde_json::Value;
use std::collections::BTreeMap;

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

/// The records without the fields in which two captures of one interface may differ: packets of
/// both directions cross on the wire, and each capture may see a reset before or after the last
/// packets of the other side.
pub fn without_crossings(records: Vec<Value>) -> Vec<Value> {
    let (cut, mut kept): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record["outcome"] == "truncated");
    kept.extend(without(cut, &["end_reason", "response_body_bytes"]));
    kept
}

/// Asserts that both have the same records, each equally often, in any order. Reports those that
/// differ.
pub fn assert_same(what: &str, left: &[Value], right: &[Value]) {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for record in left {
        *counts.entry(record.to_string()).or_default() += 1;
    }
    for record in right {
        *counts.entry(record.to_string()).or_default() -= 1;
    }
    let only = |is_left: bool| {
        let found = counts.iter().filter(|(_, count)| **count != 0 && (**count > 0) == is_left);
        found.take(10).map(|(record, count)| format!("  {count} {record}\n")).collect::<String>()
    };
    let (left_only, right_only) = (only(true), only(false));
    assert!(
        left_only.is_empty() && right_only.is_empty(),
        "{what}\nonly on the left:\n{left_only}only on the right:\n{right_only}"
    );
}
