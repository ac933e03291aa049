//! A small tokenizer for Rust: just enough to read `mod`, `use` and paths.

/// A word or a mark of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A name, a keyword, or a number.
    Word(String),
    /// The content of a string.
    Text(String),
    /// `::`
    Colons,
    /// Any other mark.
    Mark(char),
}

/// A token, and its line from 1.
#[derive(Clone, Debug)]
pub struct Spot {
    pub token: Token,
    pub line: usize,
}

impl Spot {
    /// Whether this is the mark `mark`.
    pub fn is(&self, mark: char) -> bool {
        self.token == Token::Mark(mark)
    }

    /// The word, if this is one.
    pub fn word(&self) -> Option<&str> {
        match &self.token {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether this is `::`.
    pub fn is_colons(&self) -> bool {
        self.token == Token::Colons
    }
}

/// The tokens of `text`, without comments.
pub fn tokens(text: &str) -> Vec<Spot> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut spots = Vec::new();
    while let Some(first) = reader.rest.chars().next() {
        let line = reader.line;
        if let Some(token) = reader.next(first) {
            spots.push(Spot { token, line });
        }
    }
    spots
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    /// The token that begins with `first`; `None` for blanks, comments and other text of no
    /// interest.
    fn next(&mut self, first: char) -> Option<Token> {
        if let Some(hashes) = raw_string(self.rest) {
            let start = self.rest.find('"').expect("a raw string has quotes") + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            self.take(start);
            let bytes = self.rest.find(&end).unwrap_or(self.rest.len());
            let text = self.take(bytes).to_string();
            self.take(end.len().min(self.rest.len()));
            return Some(Token::Text(text));
        }
        match first {
            '/' if self.rest.starts_with("//") => {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
                None
            }
            '/' if self.rest.starts_with("/*") => {
                self.take(comment_bytes(self.rest));
                None
            }
            '"' => {
                let bytes = string_bytes(self.rest);
                let text = self.take(bytes);
                Some(Token::Text(text.trim_matches('"').to_string()))
            }
            '\'' => {
                self.take(quoted_bytes(self.rest));
                None
            }
            ':' if self.rest.starts_with("::") => {
                self.take(2);
                Some(Token::Colons)
            }
            _ if is_of_word(first) => {
                let end = self.rest.find(|c| !is_of_word(c)).unwrap_or(self.rest.len());
                Some(Token::Word(self.take(end).to_string()))
            }
            _ => {
                self.take(first.len_utf8());
                (!first.is_whitespace()).then_some(Token::Mark(first))
            }
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The number of `#` of the raw string at the start of `rest`, if there is one.
fn raw_string(rest: &str) -> Option<usize> {
    let behind = ["r", "br", "cr"].iter().find_map(|start| rest.strip_prefix(start))?;
    let quoted = behind.trim_start_matches('#');
    quoted.starts_with('"').then_some(behind.len() - quoted.len())
}

/// The length of the string at the start of `rest`.
fn string_bytes(rest: &str) -> usize {
    let mut is_escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(rest.len(), |(at, _)| at + 1)
}

/// The length of the comment at the start of `rest`; it may be nested.
fn comment_bytes(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of the character at the start of `rest`, or of the quote of a lifetime.
fn quoted_bytes(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            let from = escaped + 1;
            rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[test]
fn comments_strings_and_characters_hold_no_names() {
    let text = r##"a // b
        /* c /* d */ e */ 'f' '\'' '\u{2f}' b'\\' "g \" h" r#"i " j"# 'k: l::m"##;
    let found: Vec<String> = tokens(text)
        .into_iter()
        .map(|spot| match spot.token {
            Token::Word(word) => format!("{}:{word}", spot.line),
            Token::Text(text) => format!("{text:?}"),
            Token::Colons => "::".into(),
            Token::Mark(mark) => mark.to_string(),
        })
        .collect();
    let wanted = ["1:a", "2:b", r#""g \\\" h""#, r#""i \" j""#, "2:k", ":", "2:l", "::", "2:m"];
    assert_eq!(found, wanted);
}
