//! How things look: the terminal's own sixteen colours and its own background, so that light and
//! dark terminals are served alike. Nothing is told by a colour alone.

use super::units::Symbols;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::widgets::Block;

/// What a piece of the screen means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// Names of columns and panels, and keys.
    Heading,
    /// What explains and does not matter.
    Aside,
    /// All is well.
    Good,
    /// Something to know of.
    Notice,
    /// Something is wrong now.
    Alarm,
    /// The selected row, and states that must not be missed.
    Selected,
}

/// How roles are shown on this terminal.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    pub symbols: Symbols,
    pub has_colour: bool,
}

impl Theme {
    /// The style of a role.
    pub fn style(&self, role: Role) -> Style {
        let (style, colour) = match role {
            Role::Plain => (Style::new(), None),
            Role::Heading => (Style::new().add_modifier(Modifier::BOLD), Some(Color::Cyan)),
            Role::Aside => (Style::new().add_modifier(Modifier::DIM), None),
            Role::Good => (Style::new(), Some(Color::Green)),
            Role::Notice => (Style::new(), Some(Color::Yellow)),
            Role::Alarm => (Style::new().add_modifier(Modifier::BOLD), Some(Color::Red)),
            Role::Selected => (Style::new().add_modifier(Modifier::REVERSED), None),
        };
        match colour.filter(|_| self.has_colour) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }

    /// A frame with a title.
    pub fn block<'a>(&self, title: &'a str) -> Block<'a> {
        const ASCII: border::Set<'static> = border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        };
        let set = if self.symbols.has_lines { border::PLAIN } else { ASCII };
        let block = Block::bordered().border_set(set).border_style(self.style(Role::Aside));
        // It would be as dim as the border.
        let heading = self.style(Role::Heading).remove_modifier(Modifier::DIM);
        block.title(title).title_style(heading)
    }
}
