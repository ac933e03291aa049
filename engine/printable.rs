//! A leaf: characters that must not be shown as they are.

/// Whether a character must not reach a terminal, or a program that reads lines: control characters
/// (also U+0080 to U+009F), the line separators of Unicode, those that change the direction of the
/// text around them, and those that are not to be seen, so that a line looks like another one.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
