//! A plain reader of Prometheus' text format 0.0.4, which checks what the format demands.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample, by name.
pub type Labels = BTreeMap<String, String>;

/// All families of a scrape.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The type of each family.
    pub families: BTreeMap<String, String>,
    /// The samples: name, labels and value, in their order.
    pub samples: Vec<(String, Labels, f64)>,
}

impl Scrape {
    /// Reads a text.
    ///
    /// # Panics
    /// If it breaks the format, has a series twice, or a sample outside of its family.
    pub fn read(text: &str) -> Scrape {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut scrape = Scrape::default();
        let (mut helped, mut current) = (BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, sentence) = help.split_once(' ').expect("a name and a sentence");
                assert!(sentence.ends_with('.') && sentence.len() > 10, "{line}");
                assert!(helped.insert(name.to_string()), "{name} is helped twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a type");
                assert!(helped.contains(name), "{name} has a type and no help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(scrape.families.insert(name.into(), kind.into()).is_none(), "{line}");
                current = name.into();
            } else {
                let (name, labels, value) = sample(line);
                let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line}"));
                let is_histogram = scrape.families[&current] == "histogram";
                let suffixes: &[&str] =
                    if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                let is_known = |(known, its, _): &(String, Labels, f64)| {
                    (known.as_str(), its) == (name.as_str(), &labels)
                };
                assert!(!scrape.samples.iter().any(is_known), "twice: {line}");
                scrape.samples.push((name, labels, value));
            }
        }
        assert_eq!(helped.len(), scrape.families.len());
        scrape.check_histograms();
        scrape
    }

    fn check_histograms(&self) {
        let histograms = self.families.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in histograms {
            let buckets: Vec<(f64, f64)> = self
                .of(&format!("{name}_bucket"))
                .map(|(labels, value)| (labels["le"].parse().expect("a bound"), value))
                .collect();
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{buckets:?}");
            let (last, count) = buckets.last().expect("buckets");
            assert_eq!((*last, *count), (f64::INFINITY, self.one(&format!("{name}_count"))));
            self.one(&format!("{name}_sum"));
        }
    }

    /// The samples called `name`.
    pub fn of(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        let samples = self.samples.iter().filter(move |(known, ..)| known == name);
        samples.map(|(_, labels, value)| (labels, *value))
    }

    /// The sum of all samples called `name`.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    /// The only sample called `name`, which has no label.
    pub fn one(&self, name: &str) -> f64 {
        let all: Vec<_> = self.of(name).collect();
        assert!(all.len() == 1 && all[0].0.is_empty(), "{name}: {all:?}");
        all[0].1
    }

    /// The sample called `name` with this label among others.
    pub fn with(&self, name: &str, label: &str, value: &str) -> f64 {
        let mut all =
            self.of(name).filter(|(labels, _)| labels.get(label).is_some_and(|it| it == value));
        all.next().unwrap_or_else(|| panic!("no {name} with {label} {value}")).1
    }

    /// The names of the labels of a family.
    pub fn label_names(&self, family: &str) -> BTreeSet<&str> {
        let is_of = |name: &str| {
            name.strip_prefix(family).is_some_and(|rest| ["", "_bucket"].contains(&rest))
        };
        let samples = self.samples.iter().filter(|(name, ..)| is_of(name));
        samples.flat_map(|(_, labels, _)| labels.keys().map(String::as_str)).collect()
    }
}

/// One line: a name, labels and a value.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let is_name = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
    };
    assert!(is_name(name), "{line}");
    let (mut labels, mut rest) = (Labels::new(), rest);
    while rest != "}" {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label), "{line}");
        let (mut text, mut characters) = (String::new(), after.char_indices());
        let end = loop {
            match characters.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => text.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, other @ ('\\' | '"'))) => other,
                    other => panic!("{other:?} is escaped: {line}"),
                }),
                Some((_, other)) => text.push(other),
                None => panic!("{line}"),
            }
        };
        assert!(labels.insert(label.into(), text).is_none(), "twice {label}: {line}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.into(), labels, value)
}
