//! Histories and bars out of characters.

use super::units::Symbols;

/// The last `columns` of `values` as lines of levels, the top one first, the newest on the right;
/// what is not known is empty. The greatest of them fills the height.
pub fn history(
    values: &[Option<f64>],
    columns: usize,
    height: usize,
    symbols: &Symbols,
) -> Vec<String> {
    let shown = &values[values.len().saturating_sub(columns)..];
    let most = shown.iter().flatten().fold(0.0_f64, |most, value| most.max(*value));
    let steps = symbols.levels.len() - 1;
    let level_of = |value: &Option<f64>| match value {
        // Something is never shown as nothing.
        Some(value) if *value > 0.0 => {
            let levels = (value / most * (height * steps) as f64).round() as usize;
            levels.max(1)
        }
        _ => 0,
    };
    let line = |row: usize| {
        let below = (height - 1 - row) * steps;
        let mut line = " ".repeat(columns - shown.len());
        for value in shown {
            line.push_str(symbols.levels[level_of(value).saturating_sub(below).min(steps)]);
        }
        line
    };
    (0..height).map(line).collect()
}

/// `values`, which are `wanted` or more, in as many values: each is the mean of its part.
pub fn resampled(values: &[f64], wanted: usize) -> Vec<f64> {
    if values.len() <= wanted || wanted == 0 {
        return values.to_vec();
    }
    let part = |at: usize| {
        let (from, to) = (at * values.len() / wanted, (at + 1) * values.len() / wanted);
        let part = &values[from..to.max(from + 1)];
        part.iter().sum::<f64>() / part.len() as f64
    };
    (0..wanted).map(part).collect()
}

/// A bar of a part of a whole, in `columns`; something is never shown as nothing.
pub fn bar(part: f64, whole: f64, columns: usize, symbols: &Symbols) -> String {
    if whole <= 0.0 || part <= 0.0 {
        return String::new();
    }
    let filled = (part / whole * columns as f64).round() as usize;
    symbols.bar.repeat(filled.clamp(1, columns.max(1)))
}

#[cfg(test)]
mod tests {
    use super::super::units::{ASCII, UNICODE};
    use super::*;

    #[test]
    fn a_history_ends_on_the_right_and_is_filled_by_its_maximum() {
        let values = [None, Some(0.0), Some(1.0), Some(4.0), Some(8.0)];
        assert_eq!(history(&values, 6, 1, &UNICODE), ["   ▁▄█"]);
        assert_eq!(history(&values, 3, 1, &UNICODE), ["▁▄█"]);
        assert_eq!(history(&values, 5, 2, &UNICODE), ["    █", "  ▂██"]);
        assert_eq!(history(&values, 5, 1, &ASCII), ["  _-#"]);
        assert_eq!(history(&[Some(1.0), Some(1e9)], 2, 1, &UNICODE), ["▁█"]);
        assert_eq!(history(&[], 2, 1, &UNICODE), ["  "]);
        assert_eq!(history(&[Some(0.0)], 1, 1, &UNICODE), [" "]);
    }

    #[test]
    fn a_bar_shows_its_part() {
        assert_eq!(bar(1.0, 2.0, 4, &UNICODE), "██");
        assert_eq!(bar(1.0, 1e9, 4, &ASCII), "#");
        assert_eq!(bar(0.0, 1.0, 4, &ASCII), "");
        assert_eq!(bar(0.0, 0.0, 4, &ASCII), "");
    }

    #[test]
    fn many_values_are_averaged() {
        assert_eq!(resampled(&[1.0, 3.0, 5.0, 7.0], 2), [2.0, 6.0]);
        assert_eq!(resampled(&[1.0, 3.0], 5), [1.0, 3.0]);
        assert_eq!(resampled(&[1.0, 2.0, 3.0], 2).len(), 2);
    }
}
