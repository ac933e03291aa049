//! [`Figures`]: named numbers in groups, as JSON. Counters of two moments can be subtracted.

use crate::record::append_json_text;

/// A member of a group: its name and value.
pub type Figure = (&'static str, Value);

/// Names and values in a fixed order.
pub type Figures = Vec<Figure>;

/// A value of a [`Figure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A counter. It only grows.
    Count(u64),
    /// A number that is no counter: a gauge, or what a row belongs to.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// A text.
    Text(String),
    /// A group of figures.
    Group(Figures),
    /// A list.
    List(Vec<Value>),
}

/// Counters by name, as the groups of `stats.rs` list them.
pub fn counts(counters: impl IntoIterator<Item = (&'static str, u64)>) -> Figures {
    counters.into_iter().map(|(name, count)| (name, Value::Count(count))).collect()
}

/// What `now` has counted since `before`. Both have the same names, and their lists only grow: what
/// is new counts from zero. What is no counter stays as it is in `now`.
pub(super) fn since(now: &Figures, before: &Figures) -> Figures {
    let earlier = |name| before.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    now.iter().map(|(name, value)| (*name, value.since(earlier(*name)))).collect()
}

impl Value {
    fn since(&self, before: Option<&Value>) -> Value {
        match (self, before) {
            // A worker that failed takes its counters with it.
            (Value::Count(now), Some(Value::Count(before))) => {
                Value::Count(now.saturating_sub(*before))
            }
            (Value::Group(now), Some(Value::Group(before))) => Value::Group(since(now, before)),
            (Value::List(now), Some(Value::List(before))) => {
                let rows = now.iter().enumerate();
                Value::List(rows.map(|(at, value)| value.since(before.get(at))).collect())
            }
            (now, _) => now.clone(),
        }
    }

    fn append(&self, out: &mut Vec<u8>) {
        match self {
            Value::Count(number) | Value::Number(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
            Value::Flag(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
            Value::Text(text) => {
                out.push(b'"');
                append_json_text(text, out);
                out.push(b'"');
            }
            Value::Group(figures) => append_object(figures, out),
            Value::List(values) => {
                out.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    value.append(out);
                }
                out.push(b']');
            }
        }
    }
}

/// Appends `figures` as a JSON object.
pub(super) fn append_object(figures: &Figures, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in figures.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
        value.append(out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(figures: &Figures) -> serde_json::Value {
        let mut out = Vec::new();
        append_object(figures, &mut out);
        serde_json::from_slice(&out).expect("it is JSON")
    }

    #[test]
    fn counters_are_subtracted_and_nothing_else() {
        let row = |shard, frames| {
            Value::Group(vec![("shard", Value::Number(shard)), ("frames", Value::Count(frames))])
        };
        let before = vec![
            ("a", Value::Count(3)),
            ("rows", Value::List(vec![row(0, 5), row(1, 6)])),
            ("down", Value::Flag(false)),
        ];
        let now = vec![
            ("a", Value::Count(10)),
            ("rows", Value::List(vec![row(0, 5), row(1, 9), row(2, 4)])),
            ("down", Value::Flag(true)),
            ("new", Value::Group(counts([("b", 2)]))),
        ];
        let expected = serde_json::json!({
            "a": 7,
            "rows": [
                {"shard": 0, "frames": 0}, {"shard": 1, "frames": 3}, {"shard": 2, "frames": 4}
            ],
            "down": true,
            "new": {"b": 2},
        });
        assert_eq!(json(&since(&now, &before)), expected);
        assert_eq!(since(&now, &Vec::new()), now);
    }

    proptest! {
        #[test]
        fn texts_and_numbers_come_back(text in any::<String>(), number in any::<u64>()) {
            let figures = vec![
                ("text", Value::Text(text.clone())),
                ("number", Value::Number(number)),
                ("list", Value::List(vec![Value::Count(number), Value::Flag(false)])),
            ];
            let expected = serde_json::json!({
                "text": text, "number": number, "list": [number, false]
            });
            prop_assert_eq!(json(&figures), expected);
        }
    }
}
