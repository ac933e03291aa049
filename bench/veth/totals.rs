//! The totals that httplines and the null reader print at their end, as numbers.

use anyhow::{Context, bail};

/// The rows of the totals that a trial adds up.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Frames the filter judged.
    pub offered: u64,
    /// Frames it kept in the kernel.
    pub rejected: u64,
    /// Those among them that are acknowledgements of HTTP connections, which are not wanted.
    pub body_acks: u64,
    /// Frames it passed.
    pub passed: u64,
    /// Frames that reached user space.
    pub captured: u64,
    /// Bytes of them.
    pub captured_bytes: u64,
    /// Frames dropped because the rings were full.
    pub ring_drops: u64,
    /// Lines that reached the output.
    pub lines_written: u64,
    /// Lines that were formatted and did not.
    pub lines_lost: u64,
    /// Set if its totals do not add up.
    pub violation: Option<String>,
}

impl Totals {
    /// Adds those of another run.
    pub fn add(self, other: &Totals) -> Totals {
        Totals {
            offered: self.offered + other.offered,
            rejected: self.rejected + other.rejected,
            body_acks: self.body_acks + other.body_acks,
            passed: self.passed + other.passed,
            captured: self.captured + other.captured,
            captured_bytes: self.captured_bytes + other.captured_bytes,
            ring_drops: self.ring_drops + other.ring_drops,
            lines_written: self.lines_written + other.lines_written,
            lines_lost: self.lines_lost + other.lines_lost,
            violation: self.violation.or_else(|| other.violation.clone()),
        }
    }

    /// Parses the lines on standard error.
    pub fn parse(said: &[String]) -> anyhow::Result<Totals> {
        let text = |name: &str| {
            let label = format!("  {name:<10} ");
            said.iter().find_map(|line| line.strip_prefix(&label))
        };
        let row = |name: &str, count: usize| {
            let row = text(name).with_context(|| format!("its totals have no row {name}"))?;
            let numbers = numbers_in(row);
            match numbers.len() >= count {
                true => Ok(numbers),
                false => bail!("its totals have a row {name} that is unknown here: {row}"),
            }
        };
        let violation = match row("sums", 0) {
            Ok(_) => None,
            Err(error) => {
                let wrong = said.iter().find_map(|line| line.strip_prefix("  SUMS "));
                Some(wrong.ok_or(error)?.trim().to_string())
            }
        };
        let (offered, passed) = (row("offered", 3)?, row("passed", 3)?);
        // Reasons with a count of 0 are left out.
        let reasons = text("rejected").unwrap_or_default();
        let body_acks = reasons.split(", ").find_map(|part| part.strip_suffix(" body ack"));
        // The null reader writes nothing.
        let written = row("written", 3).unwrap_or(vec![0; 3]);
        Ok(Totals {
            offered: offered[0],
            rejected: offered[1],
            body_acks: body_acks.unwrap_or("0").parse()?,
            passed: offered[2],
            captured: passed[1],
            captured_bytes: row("captured", 1)?[0],
            ring_drops: passed[2],
            lines_written: written[0],
            lines_lost: written[2],
            violation,
        })
    }
}

fn numbers_in(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn the_rows_of_httplines_are_read() {
        let engine = httplines::totals::Totals {
            live: Some(httplines::capture::live::LiveTotals::default()),
            ..Default::default()
        };
        assert_eq!(Totals::parse(&lines(&engine.to_string())).unwrap(), Totals::default());
        let said = "  offered    110 = 14 rejected + 96 passed\n  \
                    passed     96 = 90 captured + 6 dropped by kernel\n  captured   700 bytes\n  \
                    rejected   5 not ip, 9 body ack\n  \
                    written    6 lines, 3034 bytes, 2 lines lost\n  sums       every frame\n";
        let totals = Totals::parse(&lines(said)).unwrap();
        assert_eq!((totals.offered, totals.rejected, totals.passed), (110, 14, 96));
        assert_eq!(totals.body_acks, 9);
        assert_eq!((totals.captured, totals.captured_bytes, totals.ring_drops), (90, 700, 6));
        assert_eq!((totals.lines_written, totals.lines_lost), (6, 2));
    }

    #[test]
    fn totals_that_do_not_add_up_say_so() {
        let said = "  offered    1 = 0 rejected + 1 passed\n  \
                    passed     1 = 1 captured + 0 dropped\n  \
                    captured   60 bytes\n  \
                    SUMS       DO NOT ADD UP: flows 3 is not 4\n";
        let totals = Totals::parse(&lines(said)).unwrap();
        assert_eq!(totals.violation.as_deref(), Some("DO NOT ADD UP: flows 3 is not 4"));
        assert!(Totals::parse(&lines("  offered    1 = 0 rejected + 1 passed")).is_err());
    }
}
