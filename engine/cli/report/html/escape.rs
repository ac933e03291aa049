//! Texts of the wire as HTML.

use httplines::printable::{is_invisible, is_unsafe};
use std::fmt::{self, Write};

/// Shows a text as it is, wherever in a page it stands: no character of it is markup, and those
/// that are not to be seen, or that turn the text around them, are shown by their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                character if is_unsafe(character) || is_invisible(character) => {
                    write!(formatter, "{}", character.escape_unicode())?
                }
                character => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[test]
fn nothing_of_a_text_is_markup() {
    let shown =
        Escaped("</td><script>a('&\"')</script>\u{202e}\u{1b}[2J\u{e9}\u{200b}").to_string();
    let wanted = "&lt;/td&gt;&lt;script&gt;a(&#39;&amp;&quot;&#39;)&lt;/script&gt;\
                  \\u{202e}\\u{1b}[2J\u{e9}\\u{200b}";
    assert_eq!(shown, wanted);
}
