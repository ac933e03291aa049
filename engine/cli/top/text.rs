//! Text that came from the wire, made fit for a line of the screen: printable, and cut with a sign
//! where it is too long.

use super::units::Symbols;
use httplines::record::is_unsafe;
use ratatui::text::Span;
use std::borrow::Cow;

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

/// `text` without anything that a terminal would obey, or that it cannot show: control characters,
/// those that change the direction of text, those without a width, and beyond ASCII all where the
/// terminal shows no UTF-8. They are escaped.
pub fn printable<'a>(text: &'a str, symbols: &Symbols) -> Cow<'a, str> {
    let is_shown = |character: char| match character {
        ' '..='~' => true,
        _ if character.is_ascii() || !symbols.has_lines => false,
        _ => !is_unsafe(character) && width(character.encode_utf8(&mut [0; 4])) > 0,
    };
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            _ if is_shown(character) => out.push(character),
            _ => out.extend(character.escape_default()),
        }
    }
    Cow::Owned(out)
}

/// `text`, which is printable, in exactly `columns`: filled up with spaces behind it, or cut with a
/// sign.
pub fn left(text: &str, columns: usize, symbols: &Symbols) -> String {
    let mut out = cut(text, columns, symbols);
    let missing = columns.saturating_sub(width(&out));
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// The same, with the spaces before it.
pub fn right(text: &str, columns: usize, symbols: &Symbols) -> String {
    let out = cut(text, columns, symbols);
    let missing = columns.saturating_sub(width(&out));
    " ".repeat(missing) + &out
}

/// `text` in at most `columns`, cut with a sign.
pub fn cut(text: &str, columns: usize, symbols: &Symbols) -> String {
    if width(text) <= columns {
        return text.to_string();
    }
    let mut out = String::new();
    // The sign has one column.
    let mut left = columns.saturating_sub(1);
    for character in text.chars() {
        let columns = width(character.encode_utf8(&mut [0; 4]));
        if columns > left {
            break;
        }
        left -= columns;
        out.push(character);
    }
    if columns > 0 {
        out.push_str(symbols.cut);
    }
    out
}

/// `text` in at most `columns`, with a sign where its beginning was cut off.
pub fn cut_left(text: &str, columns: usize, symbols: &Symbols) -> String {
    if width(text) <= columns {
        return text.to_string();
    }
    let starts = text.char_indices().map(|(at, _)| at);
    let rest = starts.map(|at| &text[at..]).find(|rest| width(rest) < columns);
    format!("{}{}", symbols.cut, rest.unwrap_or_default())
}

/// `text` in lines of at most `columns`, as many as it needs.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for character in text.chars() {
        let needed = width(character.encode_utf8(&mut [0; 4]));
        if used + needed > columns && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        used += needed;
        if let Some(line) = lines.last_mut() {
            line.push(character);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::units::{ASCII, UNICODE};
    use super::*;

    #[test]
    fn a_terminal_obeys_no_name() {
        let hostile = "a\u{1b}[2J\r\n\u{202e}b\u{200b}\u{9b}é";
        let shown = printable(hostile, &UNICODE);
        assert_eq!(shown, r"a\u{1b}[2J\r\n\u{202e}b\u{200b}\u{9b}é");
        assert_eq!(printable("é", &ASCII), r"\u{e9}");
        assert_eq!(printable("api.example.com", &ASCII), "api.example.com");
    }

    #[test]
    fn what_does_not_fit_is_cut_with_a_sign() {
        assert_eq!(left("api.example.com", 8, &UNICODE), "api.exa…");
        assert_eq!(left("api", 5, &UNICODE), "api  ");
        assert_eq!(right("api", 5, &ASCII), "  api");
        assert_eq!(right("api.example.com", 4, &ASCII), "api~");
        // Wide characters take two columns each.
        assert_eq!(left("日本語テキスト", 6, &UNICODE), "日本… ");
        assert_eq!(left("日本語", 6, &UNICODE), "日本語");
        assert_eq!(cut("abc", 0, &UNICODE), "");
        assert_eq!(cut_left("/var/log/http.jsonl", 12, &UNICODE), "…/http.jsonl");
        assert_eq!(cut_left("日本語", 5, &UNICODE), "…本語");
        assert_eq!(cut_left("abc", 3, &UNICODE), "abc");
        assert_eq!(wrapped("abcdefg", 3), ["abc", "def", "g"]);
    }
}
