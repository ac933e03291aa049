//! [`Sample`]: a part of all connections.

use std::num::NonZeroU32;
use std::str::FromStr;

/// One in a number of connections: always the same ones, on every host and in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub(crate) NonZeroU32);

impl Sample {
    /// One in `count` connections; `None` for one in none.
    pub fn one_in(count: u32) -> Option<Sample> {
        NonZeroU32::new(count).map(Sample)
    }
}

/// A text that is no sample. The message completes a sentence that ends with "takes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one in a number of connections, such as 1/16")]
pub struct SampleError;

impl FromStr for Sample {
    type Err = SampleError;

    /// `1/16`.
    fn from_str(text: &str) -> Result<Sample, SampleError> {
        let count = text.strip_prefix("1/").and_then(|count| count.parse().ok());
        count.and_then(Sample::one_in).ok_or(SampleError)
    }
}

impl Default for Sample {
    /// All connections.
    fn default() -> Self {
        Sample(NonZeroU32::MIN)
    }
}
