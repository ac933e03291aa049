//! Several measurements of one thing.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The median of several measurements, and their range.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// The median; half of the values are not below it.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of `values`, which must not be empty.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Spread { median, min: values[0], max: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.1} ({:.1} to {:.1})", self.median, self.min, self.max);
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, median) in [
            (vec![3.0], 3.0),
            (vec![9.0, 1.0], 5.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 9.0, 1.0, 2.0], 3.0),
        ] {
            let spread = Spread::of(values.clone());
            assert_eq!(spread.median, median, "{values:?}");
            assert!(values.contains(&spread.min) && values.contains(&spread.max));
            assert!(values.iter().all(|value| (spread.min..=spread.max).contains(value)));
        }
    }
}
