//! What is typed, and what it does to what is shown.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the rows of the table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Hosts,
    Targets,
    Clients,
    Grpc,
    Tls,
}

impl View {
    /// All, in the order in which they are told.
    pub const ALL: [View; 5] = [View::Hosts, View::Targets, View::Clients, View::Grpc, View::Tls];

    /// Its key, and its name.
    pub fn key(self) -> (char, &'static str) {
        match self {
            View::Hosts => ('h', "hosts"),
            View::Targets => ('p', "paths"),
            View::Clients => ('c', "clients"),
            View::Grpc => ('g', "grpc"),
            View::Tls => ('n', "tls"),
        }
    }
}

/// The order of the rows; the largest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Rate,
    P99,
    Errors,
    Bytes,
}

impl Sort {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::P99 => "p99",
            Sort::Errors => "errors",
            Sort::Bytes => "bytes",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Rate => Sort::P99,
            Sort::P99 => Sort::Errors,
            Sort::Errors => Sort::Bytes,
            Sort::Bytes => Sort::Rate,
        }
    }
}

/// What lies over the table, and where keys go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Table,
    /// A filter is typed; the one before it is kept for Esc.
    Typing {
        before: String,
    },
    Details,
    Help,
}

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Draw again.
    Redraw,
    /// Draw everything again.
    Clear,
    /// Nothing has changed.
    Nothing,
    Quit,
    Suspend,
}

/// What the user has chosen.
#[derive(Clone, Debug)]
pub struct Choices {
    pub view: View,
    pub sort: Sort,
    /// Rows whose names contain it, in any case, are shown; empty: all.
    pub filter: String,
    pub is_paused: bool,
    /// All since the start is shown, and not the last seconds.
    pub is_all: bool,
    pub mode: Mode,
    /// The name of the selected row, once one was selected.
    pub selected: Option<String>,
    /// How far the selection is to move, since rows are known only when they are drawn.
    pub steps: isize,
    /// How many rows are on the screen, for whole pages.
    pub page: usize,
}

/// A filter is at most so long.
const FILTER_CHARS_MAX: usize = 64;

impl Default for Choices {
    fn default() -> Self {
        Choices {
            view: View::Hosts,
            sort: Sort::Rate,
            filter: String::new(),
            is_paused: false,
            is_all: false,
            mode: Mode::Table,
            selected: None,
            steps: 0,
            page: 1,
        }
    }
}

impl Choices {
    /// Whether a row called `name` is shown.
    pub fn admits(&self, name: &str) -> bool {
        self.filter.is_empty() || name.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return Wish::Quit,
                KeyCode::Char('z') => return Wish::Suspend,
                KeyCode::Char('l') => return Wish::Clear,
                KeyCode::Char('u') if matches!(self.mode, Mode::Typing { .. }) => {
                    self.filter.clear();
                    return Wish::Redraw;
                }
                _ => return Wish::Nothing,
            }
        }
        match &self.mode {
            Mode::Typing { .. } => self.typed(key.code),
            Mode::Details | Mode::Help => self.over_table(key.code),
            Mode::Table => self.in_table(key.code),
        }
    }

    fn typed(&mut self, code: KeyCode) -> Wish {
        match code {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                if let Mode::Typing { before } = std::mem::replace(&mut self.mode, Mode::Table) {
                    self.filter = before;
                }
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(letter);
            }
            _ => return Wish::Nothing,
        }
        Wish::Redraw
    }

    fn over_table(&mut self, code: KeyCode) -> Wish {
        match (code, &self.mode) {
            (KeyCode::Char('q'), Mode::Details | Mode::Help)
            | (KeyCode::Esc | KeyCode::Enter, _)
            | (KeyCode::Char('?'), Mode::Help) => self.mode = Mode::Table,
            (KeyCode::Char('?'), _) => self.mode = Mode::Help,
            (KeyCode::Char(' '), _) => self.is_paused = !self.is_paused,
            (_, Mode::Details) => return self.moved(code),
            _ => return Wish::Nothing,
        }
        Wish::Redraw
    }

    fn in_table(&mut self, code: KeyCode) -> Wish {
        match code {
            KeyCode::Char('q') => return Wish::Quit,
            // The first one takes the filter away, and the next one ends.
            KeyCode::Esc if self.filter.is_empty() => return Wish::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('t') => self.is_all = !self.is_all,
            KeyCode::Char('/') => self.mode = Mode::Typing { before: self.filter.clone() },
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Enter => self.mode = Mode::Details,
            KeyCode::Tab => {
                let place = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
                self.show(View::ALL[(place + 1) % View::ALL.len()]);
            }
            KeyCode::Char(letter) => {
                let Some(view) = View::ALL.into_iter().find(|view| view.key().0 == letter) else {
                    return self.moved(code);
                };
                self.show(view);
            }
            _ => return self.moved(code),
        }
        Wish::Redraw
    }

    fn show(&mut self, view: View) {
        if self.view != view {
            (self.view, self.selected, self.steps) = (view, None, 0);
        }
    }

    fn moved(&mut self, code: KeyCode) -> Wish {
        let page = self.page.max(1) as isize;
        let steps = match code {
            KeyCode::Down | KeyCode::Char('j') => 1,
            KeyCode::Up | KeyCode::Char('k') => -1,
            KeyCode::PageDown => page,
            KeyCode::PageUp => -page,
            KeyCode::End | KeyCode::Char('G') => isize::MAX,
            KeyCode::Home => isize::MIN,
            _ => return Wish::Nothing,
        };
        self.steps = self.steps.saturating_add(steps);
        Wish::Redraw
    }

    /// The place of the selected row among rows with these `names`, after it was moved as far as
    /// was asked for. It goes with its row, wherever that moves.
    pub fn select<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a str> + Clone) -> usize {
        let last = names.len().saturating_sub(1);
        let selected = self.selected.as_deref();
        let place = selected.and_then(|name| names.clone().position(|it| it == name));
        let steps = std::mem::take(&mut self.steps);
        let place = (place.unwrap_or(0) as isize).saturating_add(steps).clamp(0, last as isize);
        // Until somebody moves, it stays on the first row, whatever that is.
        if steps != 0 || self.selected.is_some() || self.mode == Mode::Details {
            self.selected = names.clone().nth(place as usize).map(str::to_string);
        }
        place as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(choices: &mut Choices, keys: &str) -> Vec<Wish> {
        let key = |letter| match letter {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            letter => KeyCode::Char(letter),
        };
        keys.chars().map(|it| choices.key(KeyEvent::new(key(it), KeyModifiers::NONE))).collect()
    }

    #[test]
    fn keys_choose_what_is_shown() {
        let mut choices = Choices::default();
        for (key, view) in
            [('p', View::Targets), ('c', View::Clients), ('g', View::Grpc), ('n', View::Tls)]
        {
            assert_eq!(press(&mut choices, &key.to_string()), [Wish::Redraw]);
            assert_eq!(choices.view, view);
        }
        let sorts: Vec<_> = (0..4)
            .map(|_| {
                press(&mut choices, "s");
                choices.sort
            })
            .collect();
        assert_eq!(sorts, [Sort::P99, Sort::Errors, Sort::Bytes, Sort::Rate]);
        press(&mut choices, " ");
        assert!(choices.is_paused);
        assert_eq!(press(&mut choices, "xq"), [Wish::Nothing, Wish::Quit]);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(choices.key(control), Wish::Quit);
    }

    #[test]
    fn a_filter_is_typed_taken_back_and_removed() {
        let mut choices = Choices::default();
        press(&mut choices, "/APq\u{8}i\n");
        assert_eq!((choices.filter.as_str(), &choices.mode), ("APi", &Mode::Table));
        assert!(choices.admits("api.example") && !choices.admits("shop.example"));
        press(&mut choices, "/zzz\u{1b}");
        assert_eq!(choices.filter, "APi", "Esc takes back what was typed");
        assert_eq!(press(&mut choices, "\u{1b}\u{1b}"), [Wish::Redraw, Wish::Quit]);
        press(&mut choices, &format!("/{}", "a".repeat(200)));
        assert_eq!(choices.filter.len(), FILTER_CHARS_MAX);
    }

    #[test]
    fn the_selection_goes_with_its_row() {
        let mut choices = Choices::default();
        assert_eq!(choices.select(["a", "b", "c"].into_iter()), 0);
        assert_eq!(choices.select(["b", "a", "c"].into_iter()), 0, "nobody has moved yet");
        press(&mut choices, "j");
        assert_eq!(choices.select(["b", "a", "c"].into_iter()), 1);
        assert_eq!(choices.select(["c", "b", "a"].into_iter()), 2, "a");
        press(&mut choices, "jjj");
        assert_eq!(choices.select(["c", "b", "a"].into_iter()), 2);
        press(&mut choices, "kk");
        assert_eq!(choices.select(["c", "b", "a"].into_iter()), 0);
        choices.key(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
        assert_eq!(choices.select(["c", "b", "a"].into_iter()), 2);
        assert_eq!(choices.select([].into_iter()), 0);
    }
}
