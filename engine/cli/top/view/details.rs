//! All that is known of the selected row.

use super::Pen;
use crate::cli::top::graph;
use crate::cli::top::input::{Choices, View};
use crate::cli::top::model::Model;
use crate::cli::top::text::{left, printable, right, wrapped};
use crate::cli::top::theme::{Role, Theme};
use crate::cli::top::units::{bytes, count, exact, percent};
use httplines::observe::summary::{Histogram, Row};
use httplines::protocol::classes::{GRPC_CODES, STATUSES};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::time::Duration;

/// The box has at most so many columns.
const COLUMNS_MAX: u16 = 110;

/// A name has at most so many lines.
const NAME_LINES_MAX: usize = 4;

/// Draws the box over the screen.
pub fn draw(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, theme: &Theme) {
    let size = (area.width.saturating_sub(6).min(COLUMNS_MAX), area.height);
    let name = choices.selected.as_deref();
    let title = match choices.view {
        View::Hosts => " host ",
        View::Targets => " path ",
        View::Clients => " client ",
        View::Grpc => " method of gRPC ",
        View::Tls => " name in TLS ",
    };
    let all = name.and_then(|name| model.table(choices.view, true).row(name));
    let (Some(name), Some(all)) = (name, all) else {
        let inner = super::over(buffer, area, (50, 5), title, theme);
        Pen::new(buffer, theme, inner, 1).write(Role::Plain, "there is no row; Esc goes back");
        return;
    };
    let recent = model.table(choices.view, false).row(name);
    // As many lines as there is something to say.
    let columns = usize::from(size.0) - 4;
    let name = printable(name, &theme.symbols);
    let mut names = wrapped(&name, columns);
    if names.len() > NAME_LINES_MAX {
        names.truncate(NAME_LINES_MAX);
        let last = names.pop().unwrap_or_default() + " ";
        names.push(super::cut(&(last + "…more"), columns, &theme.symbols));
    }
    let facts = facts(all, recent, model, theme);
    let spread = spread(&all.latency, theme, columns);
    let wanted = names.len() + facts.len() + spread.len() + 5;
    let rows = (wanted as u16).min(size.1);
    let inner = super::over(buffer, area, (size.0, rows), title, theme);
    let mut lines: Vec<(Role, String)> = Vec::new();
    lines.extend(names.into_iter().map(|line| (Role::Heading, line)));
    lines.push((Role::Plain, String::new()));
    lines.extend(facts);
    lines.push((Role::Plain, String::new()));
    lines.extend(spread.into_iter().map(|line| (Role::Plain, line)));
    let lines = lines.into_iter().map(|line| vec![line]).collect();
    super::write_lines(buffer, inner, lines, theme);
}

/// The numbers of a row, those of the last seconds beside those of the whole time.
fn facts(all: &Row, recent: Option<&Row>, model: &Model, theme: &Theme) -> Vec<(Role, String)> {
    let none = Row::default();
    let recent = recent.unwrap_or(&none);
    let is_whole = model.is_whole();
    let seconds = model.shown(false).1.as_secs_f64();
    let line = |name: &str, of: &dyn Fn(&Row) -> String| {
        let mut text = left(name, 16, &theme.symbols);
        if !is_whole {
            text += &right(&of(recent), 16, &theme.symbols);
        }
        text + &right(&of(all), 16, &theme.symbols)
    };
    let mut lines = Vec::new();
    if !is_whole {
        let heads = ["last 10 s", "since start"].map(|head| right(head, 16, &theme.symbols));
        lines.push((Role::Aside, left("", 16, &theme.symbols) + &heads.concat()));
        let rate = if seconds > 0.0 { recent.count as f64 / seconds } else { 0.0 };
        let text = left("a second", 16, &theme.symbols) + &right(&count(rate), 16, &theme.symbols);
        lines.push((Role::Plain, text));
    }
    lines.push((Role::Plain, line("requests", &|row| exact(row.count))));
    if all.error > 0 {
        lines.push((Role::Notice, line("  at most too many", &|row| exact(row.error))));
    }
    for (name, quantile) in crate::cli::top::model::QUANTILES {
        let time = |row: &Row| {
            let time = row.latency.quantile_ns(quantile).map(Duration::from_nanos);
            time.map_or_else(|| "-".to_string(), |time| theme.symbols.time(time))
        };
        lines.push((Role::Plain, line(name, &time)));
    }
    let with_part = |row: &Row, number: u64| {
        format!("{} {:>6}", exact(number), percent(number as f64, row.certain() as f64))
    };
    for (class, name) in STATUSES.iter().enumerate() {
        if all.statuses[class] > 0 {
            let text = line(&format!("status {name}"), &|row| with_part(row, row.statuses[class]));
            lines.push((if *name == "5xx" { Role::Alarm } else { Role::Plain }, text));
        }
    }
    if all.without_status > 0 {
        let text = line("without status", &|row| with_part(row, row.without_status));
        lines.push((Role::Plain, text));
    }
    if all.broken > 0 {
        lines.push((Role::Alarm, line("broken off", &|row| with_part(row, row.broken))));
    }
    if let Some(codes) = &all.grpc {
        for (code, name) in GRPC_CODES.iter().enumerate().filter(|(code, _)| codes[*code] > 0) {
            let of = |row: &Row| row.grpc.as_ref().map_or(0, |codes| codes[code]);
            let text = line(&name.to_lowercase(), &|row| with_part(row, of(row)));
            lines.push((Role::Plain, text));
        }
    }
    lines.push((Role::Plain, line("bodies in", &|row| bytes(row.request_body_bytes as f64))));
    lines.push((Role::Plain, line("bodies out", &|row| bytes(row.response_body_bytes as f64))));
    lines
}

/// How the times spread, by steps of 1, 2 and 5, from the least to the greatest.
fn spread(times: &Histogram, theme: &Theme, columns: usize) -> Vec<String> {
    let (Some(least), Some(most)) = (times.min_ns(), times.max_ns()) else { return Vec::new() };
    let mut bounds = vec![1_000u64];
    while let Some(last) = bounds.last().copied()
        && last <= most
        && bounds.len() < 40
    {
        let leading = last / 10u64.pow(last.ilog10());
        bounds.push(if leading == 2 { last / 2 * 5 } else { last * 2 });
    }
    let from = bounds.iter().rposition(|bound| *bound <= least).unwrap_or(0);
    let bounds = &bounds[from..];
    let mut counts = vec![0u64; bounds.len()];
    for bucket in times.buckets() {
        let place = bounds.iter().rposition(|bound| *bound <= bucket.from_ns).unwrap_or(0);
        counts[place] += bucket.count;
    }
    let most = counts.iter().max().copied().unwrap_or(0) as f64;
    let bar_columns = columns.saturating_sub(19);
    let rows =
        bounds.iter().zip(&counts).filter(|(bound, _)| **bound <= times.max_ns().unwrap_or(0));
    rows.map(|(bound, count)| {
        let bound = theme.symbols.time(Duration::from_nanos(*bound));
        let share = percent(*count as f64, times.count() as f64);
        let bar = graph::bar(*count as f64, most, bar_columns, &theme.symbols);
        let from = format!("from {bound}");
        format!("{} {:>6} {bar}", left(&from, 11, &theme.symbols), share)
    })
    .collect()
}
