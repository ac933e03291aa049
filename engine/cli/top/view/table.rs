//! The table of the chosen view, and beside it, where there is room, the slowest targets.

use super::Pen;
use crate::cli::top::input::{Choices, Sort, View};
use crate::cli::top::model::Model;
use crate::cli::top::text::{left, printable, right};
use crate::cli::top::theme::{Role, Theme};
use crate::cli::top::units::{bytes, count, exact, percent};
use httplines::observe::summary::{Dimension, Row, Summary, TopK};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::cmp::Reverse;
use std::time::Duration;

impl View {
    /// What is counted for it.
    pub fn table(self, summary: &Summary) -> &TopK {
        match self {
            View::Hosts => summary.table(Dimension::Hosts),
            View::Targets => summary.table(Dimension::Targets),
            View::Clients => summary.table(Dimension::Clients),
            View::Grpc => summary.table(Dimension::Grpc),
            View::Tls => &summary.tls.names,
        }
    }

    fn title(self) -> &'static str {
        match self {
            View::Hosts => "HOST",
            View::Targets => "PATH",
            View::Clients => "CLIENT",
            View::Grpc => "METHOD OF gRPC",
            View::Tls => "NAME IN TLS",
        }
    }
}

/// What a cell is made of.
struct Cell<'a> {
    row: &'a Row,
    /// Of all rows together.
    whole: u64,
    seconds: f64,
    /// Numbers are of the whole time: counts are shown, and not rates.
    is_all: bool,
    theme: &'a Theme,
}

impl Cell<'_> {
    fn time(&self, quantile: f64) -> String {
        let time = self.row.latency.quantile_ns(quantile).map(Duration::from_nanos);
        time.map_or_else(|| "-".to_string(), |time| self.theme.symbols.time(time))
    }

    fn rate(&self, number: u64) -> f64 {
        if self.seconds > 0.0 { number as f64 / self.seconds } else { 0.0 }
    }

    fn bytes(&self, number: u64) -> String {
        match self.is_all {
            true => bytes(number as f64),
            false => bytes(self.rate(number)) + "/s",
        }
    }

    /// `number` of the row, in percent. Only those since the key got its row are known by kind.
    fn share(&self, number: u64) -> String {
        percent(number as f64, self.row.certain() as f64)
    }
}

/// A column: its width, with the space before it; from which width of the table on it is there; its
/// name, alone and where numbers are of the whole time; its text; and the order that it shows.
struct Column {
    width: usize,
    from: u16,
    names: [&'static str; 2],
    text: fn(&Cell<'_>) -> String,
    sort: Option<Sort>,
}

const fn column(
    width: usize,
    from: u16,
    name: &'static str,
    text: fn(&Cell<'_>) -> String,
) -> Column {
    Column { width, from, names: [name, name], text, sort: None }
}

/// Failed, or broken off.
pub fn errors(row: &Row) -> u64 {
    row.errors.saturating_add(row.broken)
}

fn transferred(row: &Row) -> u64 {
    // Lines claim them: a file may hold any numbers.
    row.request_body_bytes.saturating_add(row.response_body_bytes)
}

const COLUMNS: [Column; 11] = [
    Column {
        names: ["req/s", "requests"],
        sort: Some(Sort::Rate),
        ..column(10, 0, "", |cell| {
            let mark = if cell.row.error > 0 { "~" } else { "" };
            let number = match cell.is_all {
                true => exact(cell.row.count),
                false => count(cell.rate(cell.row.count)),
            };
            format!("{mark}{number}")
        })
    },
    column(7, 0, "share", |cell| percent(cell.row.count as f64, cell.whole as f64)),
    Column {
        sort: Some(Sort::Errors),
        ..column(7, 0, "err%", |cell| cell.share(errors(cell.row)))
    },
    column(7, 112, "4xx%", |cell| cell.share(cell.row.statuses[3])),
    column(7, 120, "5xx%", |cell| cell.share(cell.row.statuses[4])),
    column(8, 0, "p50", |cell| cell.time(0.5)),
    column(8, 88, "p90", |cell| cell.time(0.9)),
    Column { sort: Some(Sort::P99), ..column(8, 0, "p99", |cell| cell.time(0.99)) },
    column(8, 96, "max", |cell| cell.time(1.0)),
    column(10, 104, "in", |cell| cell.bytes(cell.row.request_body_bytes)),
    Column {
        sort: Some(Sort::Bytes),
        ..column(10, 0, "out", |cell| cell.bytes(cell.row.response_body_bytes))
    },
];

/// The side table is there from this width on, and has so many columns.
const SIDE_FROM: u16 = 132;
const SIDE_COLUMNS: u16 = 50;

/// The rows of a table that are shown, in order, and how many there are.
pub fn ranked<'a>(table: &'a TopK, choices: &Choices) -> (Vec<(&'a str, &'a Row)>, usize) {
    let rows = table.rows();
    let count = rows.len();
    let mut shown: Vec<_> = rows.filter(|(name, _)| choices.admits(name)).collect();
    // The name decides among equals, so that rows do not jump.
    shown.sort_by_cached_key(|(name, row)| {
        let key = match choices.sort {
            Sort::Rate => row.count,
            Sort::P99 => row.latency.quantile_ns(0.99).unwrap_or(0),
            Sort::Errors => errors(row),
            Sort::Bytes => transferred(row),
        };
        (Reverse(key), Reverse(row.count), name.to_string())
    });
    (shown, count)
}

/// Draws the table into `area`, its names first.
pub fn draw(buffer: &mut Buffer, area: Rect, model: &Model, choices: &mut Choices, theme: &Theme) {
    let is_wide = area.width >= SIDE_FROM && choices.view != View::Targets;
    let side_columns = if is_wide { SIDE_COLUMNS } else { 0 };
    let main = Rect { width: area.width - side_columns, ..area };
    if is_wide {
        side(buffer, Rect { x: main.right(), width: side_columns, ..area }, model, choices, theme);
    }
    let is_all = choices.is_all || model.is_whole();
    let table = model.table(choices.view, is_all);
    let (rows, count) = ranked(table, choices);
    heading(buffer, main, choices, (rows.len(), count), is_all, theme);
    let height = usize::from(main.height) - 1;
    choices.page = height;
    let selected = choices.select(rows.iter().map(|(name, _)| *name));
    let below = Rect { y: main.y + 1, height: main.height - 1, ..main };
    if rows.is_empty() {
        return nothing(buffer, below, model, choices, theme);
    }
    // The selected row stays in sight.
    let first = selected.saturating_sub(height - 1);
    let time = model.shown(is_all).1.as_secs_f64();
    for (place, (name, row)) in rows.iter().enumerate().skip(first).take(height) {
        let cell = Cell { row, whole: table.count(), seconds: time, is_all, theme };
        let y = (place - first) as u16;
        line(buffer, below, y, name, &cell, place == selected);
    }
}

fn columns_of(width: u16) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| width >= column.from)
}

fn name_columns(width: u16) -> usize {
    let taken: usize = columns_of(width).map(|column| column.width).sum();
    usize::from(width).saturating_sub(taken + 3)
}

fn heading(
    buffer: &mut Buffer,
    area: Rect,
    choices: &Choices,
    (shown_count, count): (usize, usize),
    is_all: bool,
    theme: &Theme,
) {
    let mut title = choices.view.title().to_string();
    if !choices.filter.is_empty() {
        let filter = printable(&choices.filter, &theme.symbols);
        title += &format!(" /{filter}/");
    }
    title += &match shown_count == count {
        true => format!("  {count}"),
        false => format!("  {shown_count} of {count}"),
    };
    title += if is_all { ", in all" } else { ", last 10 s" };
    let mut pen = Pen::new(buffer, theme, area, 0);
    pen.write(Role::Plain, "  ");
    pen.write(Role::Heading, &left(&title, name_columns(area.width), &theme.symbols));
    for column in columns_of(area.width) {
        let is_order = column.sort == Some(choices.sort);
        let name = column.names[usize::from(is_all)];
        let mark = match (is_order, theme.symbols.has_lines) {
            (true, true) => "▼",
            (true, false) => "v",
            _ => "",
        };
        let role = if is_order { Role::Heading } else { Role::Aside };
        pen.write(role, &right(&format!("{mark}{name}"), column.width, &theme.symbols));
    }
}

fn line(buffer: &mut Buffer, area: Rect, y: u16, name: &str, cell: &Cell<'_>, is_selected: bool) {
    let theme = cell.theme;
    let has_errors = errors(cell.row) > 0;
    let plain = if is_selected { Role::Selected } else { Role::Plain };
    let cursor = if is_selected { theme.symbols.cursor } else { " " };
    let mut pen = Pen::new(buffer, theme, area, y);
    pen.write(plain, &format!("{cursor} "));
    let name = printable(name, &theme.symbols);
    pen.write(plain, &left(&name, name_columns(area.width), &theme.symbols));
    for column in columns_of(area.width) {
        let is_alarm = has_errors && column.sort == Some(Sort::Errors) && !is_selected;
        let role = if is_alarm { Role::Alarm } else { plain };
        pen.write(role, &right(&(column.text)(cell), column.width, &theme.symbols));
    }
    pen.write(plain, " ");
}

/// Why the table is empty.
fn nothing(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, theme: &Theme) {
    let is_all = choices.is_all || model.is_whole();
    let of_all = model.table(choices.view, true).rows().len();
    let text = match choices.view {
        _ if !choices.filter.is_empty() => "no name has this in it; Esc removes the filter",
        _ if of_all > 0 && !is_all => "nothing in the last 10 s; t shows all since the start",
        View::Tls if model.total.tls.connections > 0 => "no connection of TLS had a name",
        View::Tls => "no connection of TLS has ended; lines need --records http,tls",
        View::Grpc if model.total.totals.exchanges > 0 => "no call of gRPC was seen",
        _ if model.total.records() == 0 => "nothing was seen yet",
        _ => "no request had a name for this table",
    };
    let text = if model.is_over { text.trim_end_matches(" yet") } else { text };
    if area.height > 1 {
        Pen::new(buffer, theme, area, 1).write(Role::Aside, "  ").write(Role::Aside, text);
    }
}

/// The slowest targets.
fn side(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, theme: &Theme) {
    let is_all = choices.is_all || model.is_whole();
    let table = model.table(View::Targets, is_all);
    let by_p99 = Choices { sort: Sort::P99, ..Choices::default() };
    let (rows, _) = ranked(table, &by_p99);
    let seconds = model.shown(is_all).1.as_secs_f64();
    let name_columns = usize::from(area.width) - 3 - 18;
    for y in 0..area.height {
        Pen::new(buffer, theme, area, y).write(Role::Aside, &format!(" {} ", theme.symbols.rule));
    }
    let inner = Rect { x: area.x + 3, width: area.width - 3, ..area };
    let mut pen = Pen::new(buffer, theme, inner, 0);
    pen.write(Role::Heading, &left("SLOWEST PATHS", name_columns, &theme.symbols));
    let names = if is_all { ["p99", "requests"] } else { ["p99", "req/s"] };
    for (name, width) in names.into_iter().zip([8, 9]) {
        pen.write(Role::Aside, &right(name, width, &theme.symbols));
    }
    let shown = rows.iter().take(usize::from(area.height) - 1).enumerate();
    for (y, (name, row)) in shown {
        let cell = Cell { row, whole: table.count(), seconds, is_all, theme };
        let mut pen = Pen::new(buffer, theme, inner, y as u16 + 1);
        let name = printable(name, &theme.symbols);
        pen.write(Role::Plain, &left(&name, name_columns, &theme.symbols));
        pen.write(Role::Plain, &right(&cell.time(0.99), 8, &theme.symbols));
        pen.write(Role::Plain, &right(&(COLUMNS[0].text)(&cell), 9, &theme.symbols));
    }
}
