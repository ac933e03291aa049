//! What records say of their sensor and their connection, for many sensors and other tools.

use std::str::FromStr;

use crate::printable::is_unsafe;

/// The name of a sensor: the `sensor` of all its records (`--sensor`). Printable text of 1 to
/// [`SensorName::BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorName(String);

/// Why a text is no name of a sensor. The message completes a sentence that ends with "takes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name of 1 to {} bytes of printable text, without white space around it",
    SensorName::BYTES_MAX
)]
pub struct SensorNameError;

impl SensorName {
    /// The length of the longest name, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 128;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SensorName {
    type Err = SensorNameError;

    fn from_str(text: &str) -> Result<SensorName, SensorNameError> {
        let is_name = (1..=SensorName::BYTES_MAX).contains(&text.len())
            && !text.chars().any(is_unsafe)
            && text.trim() == text;
        is_name.then(|| SensorName(text.to_string())).ok_or(SensorNameError)
    }
}

#[test]
fn a_name_is_printable_and_bounded() {
    let longest = "é".repeat(64);
    for text in ["a", "edge-1.example.org", "Zürich 3", "say \"hi\" \\", &longest] {
        assert_eq!(
            text.parse::<SensorName>().map(|name| name.as_str().to_string()),
            Ok(text.into())
        );
    }
    let too_long = format!("{longest}a");
    let refused = ["", " ", " a", "a ", "a\nb", "a\tb", "\0", "\u{7f}", "\u{85}", "\u{202e}a"];
    for text in refused.into_iter().chain([too_long.as_str()]) {
        assert_eq!(text.parse::<SensorName>(), Err(SensorNameError), "{text:?}");
    }
}
