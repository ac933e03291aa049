//! A document of TOML 1.0 as keys and values, each with its line.

use super::Fault;
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key and its value.
#[derive(Debug)]
pub struct Entry {
    pub key: String,
    /// The line of the key, from 1.
    pub line: usize,
    pub value: Value,
}

/// A value, as far as options have such ones.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Switch(bool),
    /// A string, or a number in decimal.
    Text(String),
    /// Values with their lines.
    List(Vec<(usize, Value)>),
    /// A date or time without quotes.
    Date,
    /// A table: `[section]`, `a.b = 1` or `{ a = 1 }`.
    Section,
}

/// The entries of `text`, in the order of their lines.
pub fn entries(text: &str) -> Result<Vec<Entry>, Fault> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| fault(text, &lines, &error))?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().to_string(),
        line: lines.at(key.span().start),
        value: value_of(&lines, value.get_ref()),
    };
    Ok(entries.into_iter().map(entry).collect())
}

fn value_of(lines: &Lines, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(is_on) => Value::Switch(*is_on),
        DeValue::String(string) => Value::Text(string.to_string()),
        DeValue::Float(number) => Value::Text(number.as_str().to_string()),
        DeValue::Integer(number) => {
            // A number that is too large is so in its own words.
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Value::Text(decimal.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        // `[[section]]`
        DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
            Value::Section
        }
        DeValue::Array(items) => {
            let item = |item: &Spanned<DeValue<'_>>| {
                (lines.at(item.span().start), value_of(lines, item.get_ref()))
            };
            Value::List(items.iter().map(item).collect())
        }
        DeValue::Datetime(_) => Value::Date,
        DeValue::Table(_) => Value::Section,
    }
}

/// What is wrong with a text that is not TOML.
fn fault(text: &str, lines: &Lines, error: &toml::de::Error) -> Fault {
    let span = error.span().unwrap_or_default();
    let line = lines.at(span.start);
    if error.message().contains("duplicate key") {
        let key = text.get(span).unwrap_or_default().trim();
        return Fault { line, sentence: format!("{key} is given twice; give it once") };
    }
    Fault { line, sentence: format!("this is no TOML: {}", error.message()) }
}

/// Where the lines of a text end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    /// The line of the byte at `offset`, from 1.
    fn at(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|end| *end < offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, usize, Value)> {
        let entries = entries(text).expect("it is TOML");
        entries.into_iter().map(|it| (it.key, it.line, it.value)).collect()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_string())
    }

    #[test]
    fn values_come_with_their_lines_and_numbers_in_decimal() {
        let document = "# first\nz = 1_000\n\na = [\n  'b', # a comment\n  0x10,\n]\n'c' = 0.5\n\
                        d = true\ne = 1979-05-27\nf.g = 1\nh = +7\nj = \"\"\"\ntwo\n\"\"\"\n";
        let list = vec![(5, text("b")), (6, text("16"))];
        let expected = [
            ("z", 2, text("1000")),
            ("a", 4, Value::List(list)),
            ("c", 8, text("0.5")),
            ("d", 9, Value::Switch(true)),
            ("e", 10, Value::Date),
            ("f", 11, Value::Section),
            ("h", 12, text("7")),
        ];
        assert_eq!(self::values("[[a]]\nb = 1\n"), [("a".to_string(), 1, Value::Section)]);
        let values = values(document);
        for (value, expected) in values.iter().zip(expected) {
            assert_eq!((value.0.as_str(), value.1), (expected.0, expected.1));
            assert_eq!(value.2, expected.2, "{}", expected.0);
        }
        assert_eq!(values[7], ("j".into(), 13, text("two\n")));
    }

    #[test]
    fn what_is_no_toml_has_its_line() {
        for (document, line, says) in [
            ("a = 1\nb = eth0\n", 2, "no TOML: "),
            ("a = 1\n\n\nb\n", 4, "no TOML: "),
            ("a = 1\nb = 2\na = 3\n", 3, "a is given twice"),
            ("a = [1,\n2\n\n", 2, "no TOML: "),
            ("a = \"\nb = 2", 1, "no TOML: "),
        ] {
            let fault = entries(document).expect_err(document);
            assert!(fault.sentence.contains(says), "{document}: {}", fault.sentence);
            assert_eq!(fault.line, line, "{document}: {}", fault.sentence);
        }
    }
}
