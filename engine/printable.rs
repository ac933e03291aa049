//! A leaf: characters that must not be shown as they are.

/// Whether a character must not reach a terminal, or a program that reads lines: control characters
/// (also U+0080 to U+009F), the line separators of Unicode, and those that change the direction of
/// the text around them, so that a line looks like another one.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character is not to be seen, so that a name with it looks like another one.
#[cfg(feature = "live")]
pub fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}
