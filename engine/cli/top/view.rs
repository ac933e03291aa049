//! Draws the screen: head, panels, classes of status, table, load, keys.

mod details;
mod panels;
mod table;

use super::graph;
use super::input::{Choices, Mode, View};
use super::model::{Model, SourceKind};
use super::text::{cut, cut_left, printable, width};
use super::theme::{Role, Theme};
use super::units::{count, exact, percent, uptime};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// The least screen.
pub const COLUMNS_MIN: u16 = 80;
pub const ROWS_MIN: u16 = 16;

/// From this height on, graphs have several lines.
const TALL_ROWS: u16 = 32;

/// Bars with fewer columns tell nothing.
const BAR_COLUMNS_MIN: usize = 12;

/// From this width on all keys have room between them.
const KEYS_COLUMNS: u16 = 124;

/// What belongs to neither counts nor choices.
#[derive(Clone, Debug)]
pub struct Look {
    pub theme: Theme,
    /// The time of day, UTC.
    pub clock: String,
    /// The last message of the engine.
    pub message: Option<String>,
}

/// Where spans are put one behind the other, as far as there is room.
struct Pen<'a> {
    buffer: &'a mut Buffer,
    theme: &'a Theme,
    x: u16,
    y: u16,
    /// The first column that is not to be used.
    end: u16,
}

impl<'a> Pen<'a> {
    fn new(buffer: &'a mut Buffer, theme: &'a Theme, area: Rect, row: u16) -> Pen<'a> {
        Pen { buffer, theme, x: area.x, y: area.y + row, end: area.right() }
    }

    /// The columns that are left.
    fn room(&self) -> usize {
        usize::from(self.end.saturating_sub(self.x))
    }

    /// Writes `text`, cut with a sign where the room ends.
    fn write(&mut self, role: Role, text: &str) -> &mut Self {
        let text = cut(text, self.room(), &self.theme.symbols);
        let columns = width(&text) as u16;
        if columns > 0 {
            let line = Line::from(Span::styled(text, self.theme.style(role)));
            self.buffer.set_line(self.x, self.y, &line, columns);
            self.x += columns;
        }
        self
    }

    /// Writes all of it, or nothing if there is no room.
    fn write_whole(&mut self, parts: &[(Role, &str)]) -> bool {
        let columns: usize = parts.iter().map(|(_, text)| width(text)).sum();
        let is_room = columns <= self.room();
        if is_room {
            parts.iter().for_each(|(role, text)| {
                self.write(*role, text);
            });
        }
        is_room
    }

    /// Writes `text` so that it ends where the room ends.
    fn write_right(&mut self, role: Role, text: &str) {
        let columns = width(text).min(self.room()) as u16;
        self.x = self.end - columns;
        self.write(role, text);
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, choices: &mut Choices, look: &Look) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        return too_small(buffer, area, &look.theme);
    }
    let is_tall = area.height >= TALL_ROWS;
    let panel_rows = if is_tall { 10 } else { 6 };
    let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
    head(buffer, row(0, 1), model, choices, look);
    panels::draw(buffer, row(1, panel_rows), model, choices, &look.theme);
    classes(buffer, row(1 + panel_rows, 1), model, choices, &look.theme);
    let below = if look.message.is_some() { 3 } else { 2 };
    let table_at = 2 + panel_rows;
    let table_area = row(table_at, area.height - table_at - below);
    table::draw(buffer, table_area, model, choices, &look.theme);
    if let Some(message) = &look.message {
        let message = printable(message.trim_end(), &look.theme.symbols);
        let mut pen = Pen::new(buffer, &look.theme, row(area.height - 3, 1), 0);
        pen.write(Role::Notice, " ! ").write(Role::Plain, &message);
    }
    panels::load(buffer, row(area.height - 2, 1), model, &look.theme);
    keys(buffer, row(area.height - 1, 1), model, choices, &look.theme);
    // Head and keys stay in sight.
    let between = row(1, area.height - 2);
    match choices.mode {
        Mode::Details => details::draw(buffer, between, model, choices, &look.theme),
        Mode::Help => help(buffer, between, &look.theme),
        Mode::Table | Mode::Typing { .. } => {}
    }
}

fn too_small(buffer: &mut Buffer, area: Rect, theme: &Theme) {
    let text = format!("too small: {}x{}", area.width, area.height);
    let need = format!("needs {COLUMNS_MIN}x{ROWS_MIN}; q quits");
    for (row, text) in [text, need].iter().enumerate().take(usize::from(area.height)) {
        Pen::new(buffer, theme, area, row as u16).write(Role::Plain, text);
    }
}

fn head(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, look: &Look) {
    let theme = &look.theme;
    let mut tail = look.clock.clone();
    if choices.is_paused {
        tail = format!("paused  {tail}");
    }
    let columns = area.width - width(&tail) as u16 - 2;
    let mut pen = Pen::new(buffer, theme, Rect { width: columns, ..area }, 0);
    pen.write(Role::Heading, " httplines top  ");
    // The name may be long; what follows it is not. Of a path the end tells more.
    let facts = head_facts(model);
    let facts_columns: usize = facts.iter().map(|(_, text)| width(text) + 3).sum();
    let name = printable(&model.name, &theme.symbols);
    let room = pen.room().saturating_sub(facts_columns).max(12);
    pen.write(Role::Plain, &cut_left(&name, room, &theme.symbols));
    for (role, text) in &facts {
        pen.write_whole(&[(Role::Plain, "   "), (*role, text)]);
    }
    let role = if choices.is_paused { Role::Selected } else { Role::Plain };
    Pen::new(buffer, theme, area, 0).write_right(role, &format!("{tail} "));
}

/// What is told behind the name.
fn head_facts(model: &Model) -> Vec<(Role, String)> {
    let mut facts = Vec::new();
    if model.kind == SourceKind::Capture {
        let (exchanges, time) = (model.total.totals.exchanges, model.record_time());
        facts.push((Role::Plain, format!("{} exchanges", exact(exchanges))));
        facts.push((Role::Plain, format!("in {:.1} s", time.as_secs_f64())));
    } else {
        facts.push((Role::Plain, format!("{} req/s", count(model.rate()))));
        if let Some(run) = &model.run {
            let up = uptime(run.elapsed);
            let is_over = run.is_final && model.kind == SourceKind::Lines;
            facts.push(match is_over {
                true => (Role::Notice, format!("the run ended after {up}")),
                false => (Role::Plain, format!("up {up}")),
            });
        }
    }
    let states = model.run.iter().flat_map(|run| &run.interfaces);
    let away: Vec<_> = states.filter(|(_, state)| state != "up").collect();
    if let [(name, state), ..] = away[..] {
        facts.push((Role::Alarm, format!("! {name} is {state}")));
    }
    if !model.doing.is_empty() {
        facts.push((Role::Aside, model.doing.clone()));
    }
    facts
}

/// Exchanges by the class of their status.
fn classes(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, theme: &Theme) {
    let totals = &model.shown(choices.is_all).0.totals;
    let [of_1xx, of_2xx, of_3xx, of_4xx, of_5xx, other] = totals.statuses;
    let whole = totals.exchanges as f64;
    let mut shown = vec![
        ("2xx", of_2xx, Role::Good),
        ("3xx", of_3xx, Role::Plain),
        ("4xx", of_4xx, Role::Notice),
        ("5xx", of_5xx, Role::Alarm),
        ("none", totals.without_status, Role::Plain),
    ];
    if of_1xx + other > 0 {
        shown.push(("other", of_1xx + other, Role::Plain));
    }
    // What the numbers leave, for all bars together.
    let room = usize::from(area.width).saturating_sub(8 + shown.len() * 21);
    let mut pen = Pen::new(buffer, theme, area, 0);
    pen.write(Role::Heading, " status ");
    for (name, number, role) in shown {
        let number = number as f64;
        let role = if number > 0.0 { role } else { Role::Aside };
        let bar = match room {
            BAR_COLUMNS_MIN.. => graph::bar(number, whole, room, &theme.symbols) + " ",
            _ => String::new(),
        };
        let text = format!(" {name} {} {} ", count(number), percent(number, whole));
        pen.write_whole(&[(role, &text), (role, &bar)]);
    }
}

fn keys(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, theme: &Theme) {
    let is_narrow = area.width < KEYS_COLUMNS;
    let mut pen = Pen::new(buffer, theme, area, 0);
    if let Mode::Typing { .. } = choices.mode {
        let filter = printable(&choices.filter, &theme.symbols);
        pen.write(Role::Heading, " filter: ").write(Role::Plain, &filter);
        pen.write(Role::Selected, " ").write(Role::Aside, "  Enter keeps it, Esc takes it back");
        return;
    }
    for view in View::ALL {
        let (key, name) = view.key();
        // Also without reversed colours it is seen which one it is.
        match view == choices.view {
            true => pen.write(Role::Selected, &format!("[{key} {name}]")),
            false => pen
                .write(Role::Heading, &format!(" {key}"))
                .write(Role::Plain, &format!(" {name}{}", if is_narrow { "" } else { " " })),
        };
    }
    // The heading of the table marks the order, too.
    let sort = match is_narrow {
        true => " sort".to_string(),
        false => format!(" by {}", choices.sort.name()),
    };
    let time = if choices.is_all { " recent" } else { " all" };
    let mut others = vec![("s", sort.as_str()), ("/", " filter"), ("?", " help"), ("q", " quit")];
    if !model.is_whole() {
        others.insert(2, ("t", time));
    }
    others.push(("Enter", " details"));
    others.push(("Space", if choices.is_paused { " go on" } else { " pause" }));
    let gap = if is_narrow { " " } else { "  " };
    for (key, meaning) in others {
        pen.write_whole(&[(Role::Plain, gap), (Role::Heading, key), (Role::Plain, meaning)]);
    }
}

/// A box in the middle, over everything else; returns its inner area.
fn over(buffer: &mut Buffer, area: Rect, size: (u16, u16), title: &str, theme: &Theme) -> Rect {
    use ratatui::widgets::{Clear, Widget};
    let (columns, rows) = (size.0.min(area.width), size.1.min(area.height));
    let x = area.x + (area.width - columns) / 2;
    let y = area.y + (area.height - rows) / 2;
    let outer = Rect { x, y, width: columns, height: rows };
    Clear.render(outer, buffer);
    let block = theme.block(title);
    let inner = block.inner(outer);
    block.render(outer, buffer);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

const HELP: &[(&str, &str)] = &[
    ("h p c g n", "hosts, paths, clients, gRPC, names in TLS (Tab: next)"),
    ("s   t", "sort by the next column; the last 10 s, or all"),
    ("/", "filter by a part of the name; Esc removes it"),
    ("j k, arrows", "select; also PgUp, PgDn, Home, End"),
    ("Enter", "details of the selected row"),
    ("Space", "pause and go on; counting goes on meanwhile"),
    ("q, Esc, Ctrl-C", "quit; Ctrl-Z suspends"),
    ("", ""),
    ("p50 p90 p99", "from a request's last byte to its response's first;"),
    ("", "gRPC: of calls; TLS: of handshakes. Errors of 1% at most"),
    ("err%", "status 5xx, failed calls of gRPC, broken off"),
    ("*", "in a path: a number, or 8 and more hex digits"),
    ("~", "an upper bound: more names came than 512 rows hold"),
    ("ring full", "lost: frames that found no room in a ring"),
    ("before us", "lost: frames, in NIC, driver or backlog"),
    ("lines", "lost: lines, on the way to the file"),
    ("gaps", "holes in connections: bytes that never came by"),
    ("evicted, refused", "connections beyond the limit; forged segments"),
];

fn help(buffer: &mut Buffer, area: Rect, theme: &Theme) {
    let rows = HELP.len() as u16 + 2;
    let inner = over(buffer, area, (78, rows), " keys and numbers ", theme);
    let lines = HELP.iter().map(|(key, meaning)| {
        let key = super::text::left(key, 18, &theme.symbols);
        vec![(Role::Heading, key), (Role::Plain, (*meaning).to_string())]
    });
    write_lines(buffer, inner, lines.collect(), theme);
}

/// Writes lines, each of several parts. If they are too many, the last one says so.
fn write_lines(
    buffer: &mut Buffer,
    area: Rect,
    mut lines: Vec<Vec<(Role, String)>>,
    theme: &Theme,
) {
    let room = usize::from(area.height);
    if lines.len() > room {
        lines.truncate(room.saturating_sub(1));
        lines.push(vec![(Role::Aside, "(a taller screen shows more)".to_string())]);
    }
    for (row, line) in lines.iter().enumerate().take(room) {
        let mut pen = Pen::new(buffer, theme, area, row as u16);
        for (role, text) in line {
            pen.write(*role, text);
        }
    }
}

#[cfg(test)]
mod tests;
