//! The panels above the table: rate, times, losses; and the load below it.

use super::Pen;
use crate::cli::top::graph::{self, history};
use crate::cli::top::input::Choices;
use crate::cli::top::model::{Model, Point, QUANTILES, SourceKind};
use crate::cli::top::text::{left, right};
use crate::cli::top::theme::{Role, Theme};
use crate::cli::top::units::{bytes, count, exact, percent};
use httplines::observe::summary::{Histogram, VERSIONS};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use std::time::Duration;

/// Draws the three panels side by side.
pub fn draw(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, theme: &Theme) {
    let third = area.width / 3;
    let loss_columns = third.clamp(26, 40);
    let times_columns = (area.width - loss_columns) / 2;
    let rate_columns = area.width - loss_columns - times_columns;
    let part = |x: u16, width: u16| Rect { x: area.x + x, width, ..area };
    rate(buffer, part(0, rate_columns), model, theme);
    times(buffer, part(rate_columns, times_columns), model, choices, theme);
    let losses_at = rate_columns + times_columns;
    losses(buffer, part(losses_at, loss_columns), model, theme);
}

/// Draws a frame, and returns what is inside, with a column of space on the left.
fn framed(buffer: &mut Buffer, area: Rect, title: &str, theme: &Theme) -> Rect {
    let block = theme.block(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    Rect { x: inner.x + 1, width: inner.width - 1, ..inner }
}

/// The values of a history that fit `columns`: of a capture file all of them, else the last.
fn fitting(
    points: &[Point],
    columns: usize,
    model: &Model,
    of: impl Fn(&Point) -> Option<f64>,
) -> Vec<Option<f64>> {
    let values: Vec<_> = points.iter().map(of).collect();
    if !model.is_whole() || values.len() <= columns {
        return values;
    }
    let plain: Vec<_> = values.iter().map(|value| value.unwrap_or(0.0)).collect();
    graph::resampled(&plain, columns).into_iter().map(Some).collect()
}

fn rate(buffer: &mut Buffer, area: Rect, model: &Model, theme: &Theme) {
    let inner = framed(buffer, area, " requests a second ", theme);
    let columns = usize::from(inner.width);
    let points = model.history();
    let height = usize::from(inner.height) - 3;
    let rates = fitting(&points, columns, model, |point| Some(point.rate));
    for (row, line) in history(&rates, columns, height, &theme.symbols).iter().enumerate() {
        Pen::new(buffer, theme, inner, row as u16).write(Role::Plain, line);
    }
    let mut row = height as u16;
    let mut next = || {
        row += 1;
        row - 1
    };
    let totals = &model.total.totals;
    let (name, most) = match model.is_whole() {
        true => ("mean ", points.iter().map(|point| point.rate).fold(0.0, f64::max)),
        false => ("now ", model.rate_max),
    };
    let mut pen = Pen::new(buffer, theme, inner, next());
    pen.write(Role::Aside, name).write(Role::Plain, &count(model.rate()));
    pen.write(Role::Aside, "  max ").write(Role::Plain, &count(most));
    if let Some(run) = &model.run
        && run.frame_bytes > 0
        && !model.is_whole()
    {
        let rate = format!("{}/s", bytes(model.run_rates.frame_bytes));
        pen.write_whole(&[(Role::Aside, "  wire "), (Role::Plain, &rate)]);
    }
    let mut pen = Pen::new(buffer, theme, inner, next());
    match (&model.run, model.is_whole()) {
        (Some(run), false) => {
            pen.write(Role::Aside, "open ").write(Role::Plain, &count(run.connections as f64));
            pen.write(Role::Aside, "  under way ");
            pen.write(Role::Plain, &count(run.exchanges as f64));
        }
        _ => {
            pen.write(Role::Aside, "all ").write(Role::Plain, &exact(totals.exchanges));
        }
    }
    let mut pen = Pen::new(buffer, theme, inner, next());
    for (at, (name, part)) in kinds(model).into_iter().enumerate() {
        let gap = if at == 0 { "" } else { "  " };
        pen.write_whole(&[(Role::Aside, &format!("{gap}{name} ")), (Role::Plain, &part)]);
    }
}

/// What connections speak, or else requests, with their parts.
fn kinds(model: &Model) -> Vec<(String, String)> {
    let of_run = model.run.iter().flat_map(|run| run.kinds.clone());
    let mut kinds: Vec<_> = of_run.filter(|(name, count)| *count > 0 && name != "empty").collect();
    if kinds.is_empty() {
        let versions = model.total.totals.versions;
        let named = VERSIONS.into_iter().zip(versions);
        kinds = named.filter(|it| it.1 > 0).map(|it| (it.0.to_string(), it.1)).collect();
    }
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all = kinds.iter().fold(0u64, |all, (_, count)| all.saturating_add(*count));
    let part = |(name, count): (String, u64)| (name, percent(count as f64, all as f64));
    kinds.into_iter().map(part).collect()
}

fn times(buffer: &mut Buffer, area: Rect, model: &Model, choices: &Choices, theme: &Theme) {
    let inner = framed(buffer, area, " time to first byte ", theme);
    let shown = &model.shown(choices.is_all).0.totals.ttfb;
    let points = model.history();
    let columns = usize::from(inner.width).saturating_sub(12);
    for (row, (name, quantile)) in QUANTILES.into_iter().enumerate() {
        let time = shown.quantile_ns(quantile).map(Duration::from_nanos);
        let time = time.map_or_else(|| "-".to_string(), |time| theme.symbols.time(time));
        let values = fitting(&points, columns, model, |point| point.times[row]);
        let line = history(&values, columns, 1, &theme.symbols).concat();
        let mut pen = Pen::new(buffer, theme, inner, row as u16);
        pen.write(Role::Aside, name).write(Role::Plain, &right(&time, 7, &theme.symbols));
        pen.write(Role::Plain, "  ").write(Role::Plain, &line);
    }
    if inner.height > 4 {
        let below = Rect { y: inner.y + 4, height: inner.height - 4, ..inner };
        spread(buffer, below, shown, theme);
    }
}

/// How times spread, by powers of ten.
fn spread(buffer: &mut Buffer, area: Rect, times: &Histogram, theme: &Theme) {
    let names = ["<1ms", "<10ms", "<100ms", ">=100ms"];
    let mut counts = [0u64; 4];
    for bucket in times.buckets() {
        const BOUNDS_NS: [u64; 3] = [1_000_000, 10_000_000, 100_000_000];
        let place = BOUNDS_NS.iter().filter(|bound| bucket.from_ns >= **bound).count();
        counts[place] += bucket.count;
    }
    let whole = times.count() as f64;
    let skipped = names.len().saturating_sub(usize::from(area.height));
    let columns = usize::from(area.width).saturating_sub(16);
    for (row, at) in (skipped..names.len()).enumerate() {
        let part = counts[at] as f64;
        let mut pen = Pen::new(buffer, theme, area, row as u16);
        pen.write(Role::Aside, &left(names[at], 7, &theme.symbols));
        pen.write(Role::Plain, &right(&percent(part, whole), 6, &theme.symbols));
        pen.write(Role::Plain, " ");
        pen.write(Role::Plain, &graph::bar(part, whole, columns, &theme.symbols));
    }
}

/// The losses of a source, by their places: what it cannot have is left out.
fn shown_losses(kind: SourceKind) -> &'static [usize] {
    match kind {
        // Its own lines are not written.
        SourceKind::Interfaces => &[0, 1, 3, 4, 5],
        SourceKind::Lines => &[0, 1, 2, 3, 4, 5],
        SourceKind::Capture => &[3, 4, 5],
    }
}

fn losses(buffer: &mut Buffer, area: Rect, model: &Model, theme: &Theme) {
    let is_rated = !model.is_whole();
    let title = if is_rated { " lost: in all, a second " } else { " lost " };
    let inner = framed(buffer, area, title, theme);
    let Some(run) = &model.run else {
        let why = match model.kind {
            SourceKind::Lines => {
                ["not known: there is no", "file of statistics", "beside it (.stats)"]
            }
            _ => ["not known yet", "", ""],
        };
        for (row, text) in why.iter().enumerate() {
            Pen::new(buffer, theme, inner, row as u16).write(Role::Aside, text);
        }
        return;
    };
    let shown = shown_losses(model.kind).iter().take(usize::from(inner.height));
    for (row, at) in shown.enumerate() {
        let (loss, now) = (run.losses[*at], model.run_rates.losses[*at]);
        let role = match (loss.total, now > 0.0) {
            (0, _) => Role::Aside,
            (_, false) => Role::Notice,
            (_, true) => Role::Alarm,
        };
        let mark = if now > 0.0 { "!" } else { " " };
        let mut pen = Pen::new(buffer, theme, inner, row as u16);
        pen.write(role, &left(loss.name, 9, &theme.symbols));
        pen.write(role, &right(&count(loss.total as f64), 7, &theme.symbols));
        if is_rated {
            pen.write(role, &right(&format!("{}{mark}", count(now)), 7, &theme.symbols));
        }
        if loss.name == "gaps" && loss.total > 0 {
            let size = format!("  {}", bytes(run.gap_bytes as f64));
            pen.write_whole(&[(role, &size)]);
        }
    }
}

/// The line of shards, rings and writer.
pub fn load(buffer: &mut Buffer, area: Rect, model: &Model, theme: &Theme) {
    let mut pen = Pen::new(buffer, theme, area, 0);
    let Some(run) = model.run.as_ref().filter(|_| !model.is_whole()) else { return };
    let percent = |part: f64| format!("{:.0}%", part * 100.0);
    pen.write(Role::Heading, " shards ");
    let rates = &model.run_rates;
    // The rest of the line takes up to so much.
    let rest = 44;
    let bar_columns = (usize::from(area.width).saturating_sub(rest + 8))
        .checked_div(run.shards.len())
        .map_or(0, |columns| columns.saturating_sub(8).min(12));
    let mut hidden_count = run.shard_count as usize;
    for (number, shard) in run.shards.iter().enumerate() {
        let load = rates.shards.get(number).copied().unwrap_or(0.0);
        let mark = if shard.is_responding { "" } else { "!" };
        let text = format!(" {number}{mark} ");
        let bar = match bar_columns {
            4.. => {
                let bar = graph::bar(load.min(1.0), 1.0, bar_columns, &theme.symbols);
                left(&bar, bar_columns + 1, &theme.symbols)
            }
            _ => String::new(),
        };
        let role = if shard.is_responding { Role::Plain } else { Role::Alarm };
        if pen.room() < rest {
            break;
        }
        pen.write(role, &text).write(Role::Good, &bar).write(role, &percent(load));
        hidden_count = hidden_count.saturating_sub(1);
    }
    if hidden_count > 0 {
        let all = format!("  {} in all {}", run.shard_count, percent(rates.all_shards));
        pen.write_whole(&[(Role::Plain, &all)]);
    }
    if let Some(fullest) = run.shards.iter().filter_map(|shard| shard.ring_percent).max() {
        let role = if fullest >= 80 { Role::Alarm } else { Role::Plain };
        pen.write_whole(&[(Role::Heading, "   fullest ring "), (role, &format!("{fullest}%"))]);
    }
    if model.kind == SourceKind::Lines {
        let writer = percent(rates.writer);
        pen.write_whole(&[(Role::Heading, "   writer "), (Role::Plain, &writer)]);
        let lag = theme.symbols.time(run.lag);
        pen.write_whole(&[(Role::Heading, "   lag "), (Role::Plain, &lag)]);
    }
}
