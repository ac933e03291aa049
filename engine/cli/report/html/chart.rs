//! The pictures of a page: SVG that is stretched to its place, with its labels around it as text,
//! which keeps its size on any screen.

use crate::cli::report::units::{bytes, count, few_digits, time, time_or_none};
use httplines::observe::summary::{Histogram, Span, Summary, Timeline};
use httplines::record::rfc3339;
use httplines::time::TimestampNs;
use std::fmt::{Result, Write};

/// The layers of the traffic from below: the class of the page's style, a name, and which statuses
/// of [`STATUSES`](httplines::protocol::classes::STATUSES).
pub const LAYERS: [(&str, &str, &[usize]); 6] = [
    ("ok", "2xx", &[1]),
    ("redirect", "3xx", &[2]),
    ("client", "4xx", &[3]),
    ("server", "5xx", &[4]),
    ("other", "1xx and others", &[0, 5]),
    ("none", "no status", &[]),
];

/// Exchanges of a span in a layer.
fn of_layer(span: &Span, statuses: &[usize]) -> u64 {
    match statuses {
        [] => span.without_status,
        statuses => statuses.iter().map(|class| span.statuses[*class]).sum(),
    }
}

/// The same of all exchanges.
pub fn all_of_layer(summary: &Summary, statuses: &[usize]) -> u64 {
    match statuses {
        [] => summary.totals.without_status,
        statuses => statuses.iter().map(|class| summary.totals.statuses[*class]).sum(),
    }
}

/// The least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `most`.
fn round_up(most: f64) -> f64 {
    let power = 10f64.powf(most.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= most * 0.999_999).unwrap_or(10.0 * power)
}

const HEIGHT: f64 = 100.0;

/// Labels at the side: each with its place from above, in percent.
fn write_side(out: &mut String, labels: &[(f64, String)]) -> Result {
    write!(out, "<div class=\"y\" aria-hidden=\"true\">")?;
    for (top, label) in labels {
        write!(out, "<span style=\"top:{top:.1}%\">{label}</span>")?;
    }
    write!(out, "</div>")
}

fn write_lines(out: &mut String, labels: &[(f64, String)], width: f64) -> Result {
    for (top, _) in labels.iter().filter(|(top, _)| *top < 99.0) {
        write!(out, "<path class=\"grid\" d=\"M0 {top:.1}H{width:.0}\"/>")?;
    }
    Ok(())
}

/// Moments of a timeline below its picture. Days are told where it is longer than one.
fn write_moments(out: &mut String, timeline: &Timeline, span_count: usize) -> Result {
    let spans = timeline.spans();
    let Some((first, _)) = spans.into_iter().next() else { return Ok(()) };
    let all_ns = timeline.width_ns().saturating_mul(span_count as u64);
    let is_long = all_ns >= 86_400_000_000_000;
    let is_short = all_ns < 10_000_000_000;
    write!(out, "<div class=\"x\" aria-hidden=\"true\">")?;
    for (at, class) in [(0, "first"), (1, "middle"), (2, ""), (3, "middle"), (4, "last")] {
        let moment = TimestampNs(first.0.saturating_add(all_ns / 4 * at));
        let text = rfc3339(moment);
        let shown = match (is_long, is_short) {
            (true, _) => format!("{} {}", &text[5..10], &text[11..16]),
            (_, true) => text[11..23].to_string(),
            _ => text[11..19].to_string(),
        };
        write!(out, "<span class=\"{class}\" style=\"left:{}%\">{shown}</span>", 25 * at)?;
    }
    write!(out, "</div>")
}

fn open_plot(out: &mut String, name: &str, width: f64) -> Result {
    write!(
        out,
        "<svg viewBox=\"0 0 {width:.0} {HEIGHT:.0}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{name}\">"
    )
}

/// Exchanges over time, by the class of their status.
pub fn traffic(summary: &Summary, out: &mut String) -> Result {
    let timeline = &summary.timeline;
    let spans: Vec<_> = timeline.spans().collect();
    let seconds = timeline.width_ns() as f64 / 1e9;
    let most = spans.iter().map(|(_, span)| span.count).max().unwrap_or_default();
    let top = round_up(most as f64 / seconds);
    let width = spans.len() as f64 * 4.0;
    let labels = [(0.0, 1.0), (50.0, 0.5), (100.0, 0.0)];
    let labels = labels.map(|(at, part)| (at, format!("{}/s", few_digits(top * part))));
    write!(
        out,
        "<figure><figcaption><b>Exchanges per second</b>, by status; each bar is {}</figcaption>\
         <div class=\"plot\">",
        time(timeline.width_ns())
    )?;
    write_side(out, &labels)?;
    open_plot(out, "Exchanges per second over time, by the class of the status", width)?;
    write_lines(out, &labels, width)?;
    for (class, _, statuses) in LAYERS {
        let below = LAYERS.iter().take_while(|(other, ..)| *other != class);
        let below: Vec<&[usize]> = below.map(|(_, _, statuses)| *statuses).collect();
        let mut path = String::new();
        for (at, (_, span)) in spans.iter().enumerate() {
            let number = of_layer(span, statuses);
            if number > 0 {
                let under: u64 = below.iter().map(|statuses| of_layer(span, statuses)).sum();
                let scale = HEIGHT / top / seconds;
                let (from, height) = (HEIGHT - under as f64 * scale, number as f64 * scale);
                write!(path, "M{} {from:.2}h3.4v-{height:.2}h-3.4z", at as f64 * 4.0 + 0.3)?;
            }
        }
        if !path.is_empty() {
            write!(out, "<path class=\"{class}\" d=\"{path}\"/>")?;
        }
    }
    for (at, (from, span)) in spans.iter().enumerate() {
        write_hit(out, at, |out| {
            write!(out, "{} UTC: {} exchanges", &rfc3339(*from)[11..23], count(span.count))?;
            for (_, name, statuses) in LAYERS.iter().filter(|it| of_layer(span, it.2) > 0) {
                write!(out, ", {} {name}", count(of_layer(span, statuses)))?;
            }
            write!(out, ", {} out", bytes(span.response_body_bytes))
        })?;
    }
    write!(out, "</svg>")?;
    write_moments(out, timeline, spans.len())?;
    write!(out, "</div><ul class=\"legend\">")?;
    for (class, name, statuses) in LAYERS {
        let number = all_of_layer(summary, statuses);
        if number > 0 {
            write!(out, "<li><i class=\"{class}\"></i>{name} {}</li>", count(number))?;
        }
    }
    write!(out, "</ul></figure>")
}

/// A place of a picture that says what is there when it is pointed at.
fn write_hit(out: &mut String, at: usize, say: impl FnOnce(&mut String) -> Result) -> Result {
    write!(out, "<rect class=\"hit\" x=\"{}\" width=\"4\" height=\"100\"><title>", at * 4)?;
    say(out)?;
    write!(out, "</title></rect>")
}

/// The quantiles that are drawn: class and name, and the share.
pub const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// Powers of ten, in nanoseconds, around some times.
struct Decades {
    low: i32,
    high: i32,
}

impl Decades {
    fn around(least_ns: u64, most_ns: u64) -> Decades {
        let low = (least_ns.max(1) as f64).log10().floor() as i32;
        let high = (most_ns.max(1) as f64).log10().ceil() as i32;
        Decades { low, high: high.max(low + 1) }
    }

    /// Where a time is, from 0 to 1.
    fn place(&self, time_ns: u64) -> f64 {
        let place = (time_ns.max(1) as f64).log10() - f64::from(self.low);
        (place / f64::from(self.high - self.low)).clamp(0.0, 1.0)
    }

    /// The powers, and where they are.
    fn each(&self) -> Vec<(f64, String)> {
        let step = ((self.high - self.low) as usize).div_ceil(6).max(1);
        let powers = (self.low..=self.high).step_by(step);
        let told = powers.map(|power| 10u64.saturating_pow(power as u32));
        told.map(|power| (self.place(power), time(power))).collect()
    }
}

/// Percentiles of the time to the first byte over time.
pub fn latency(summary: &Summary, out: &mut String) -> Result {
    let timeline = &summary.timeline;
    let spans: Vec<_> = timeline.spans().collect();
    let of = |quantile| {
        let times = spans.iter().filter_map(move |(_, span)| span.ttfb.quantile_ns(quantile));
        times.collect::<Vec<u64>>()
    };
    let (low, high) = (of(0.5).into_iter().min(), of(0.99).into_iter().max());
    let (Some(low), Some(high)) = (low, high) else { return Ok(()) };
    let decades = Decades::around(low, high);
    let width = spans.len() as f64 * 4.0;
    let labels: Vec<_> =
        decades.each().into_iter().map(|(at, text)| (100.0 * (1.0 - at), text)).collect();
    write!(
        out,
        "<figure><figcaption><b>Time to first byte</b> over time, on a logarithmic scale\
         </figcaption><div class=\"plot\">"
    )?;
    write_side(out, &labels)?;
    open_plot(out, "Percentiles of the time to the first byte over time", width)?;
    write_lines(out, &labels, width)?;
    for (class, quantile) in QUANTILES {
        let mut path = String::new();
        let mut is_down = false;
        for (at, (_, span)) in spans.iter().enumerate() {
            let Some(time_ns) = span.ttfb.quantile_ns(quantile) else {
                is_down = false;
                continue;
            };
            let (x, y) = (at as f64 * 4.0 + 2.0, HEIGHT * (1.0 - decades.place(time_ns)));
            // A lone span is a short line.
            let begin = if is_down { 'L' } else { 'M' };
            write!(path, "{begin}{x} {y:.2}")?;
            if !is_down {
                write!(path, "h.01")?;
            }
            is_down = true;
        }
        write!(out, "<path class=\"curve {class}\" d=\"{path}\"/>")?;
    }
    for (at, (from, span)) in spans.iter().enumerate() {
        write_hit(out, at, |out| {
            write!(out, "{} UTC:", &rfc3339(*from)[11..23])?;
            for (name, quantile) in QUANTILES {
                write!(out, " {name} {}", time_or_none(span.ttfb.quantile_ns(quantile)))?;
            }
            write!(out, " of {}", count(span.ttfb.count()))
        })?;
    }
    write!(out, "</svg>")?;
    write_moments(out, timeline, spans.len())?;
    write!(out, "</div>")?;
    write_quantile_legend(&summary.totals.ttfb, out)?;
    write!(out, "</figure>")
}

fn write_quantile_legend(times: &Histogram, out: &mut String) -> Result {
    write!(out, "<ul class=\"legend\">")?;
    for (name, quantile) in QUANTILES {
        let value = time_or_none(times.quantile_ns(quantile));
        write!(out, "<li><i class=\"{name}\"></i>{name} {value}</li>")?;
    }
    write!(out, "</ul>")
}

/// Columns of the picture of how times are spread, for each power of ten.
const DECADE_COLUMNS: f64 = 20.0;

/// How times are spread: their numbers on a logarithmic scale.
pub fn spread(name: &str, times: &Histogram, out: &mut String) -> Result {
    let (Some(least), Some(most)) = (times.min_ns(), times.max_ns()) else { return Ok(()) };
    let decades = Decades::around(least, most);
    let columns = f64::from(decades.high - decades.low) * DECADE_COLUMNS;
    let mut counts = vec![0u64; columns as usize];
    for bucket in times.buckets() {
        let middle = bucket.from_ns + (bucket.to_ns - bucket.from_ns) / 2;
        let column = (decades.place(middle) * columns) as usize;
        counts[column.min(columns as usize - 1)] += bucket.count;
    }
    let highest = counts.iter().max().copied().unwrap_or(1).max(1);
    let top = round_up(100.0 * highest as f64 / times.count().max(1) as f64);
    let scale = HEIGHT / (top / 100.0 * times.count().max(1) as f64);
    let labels = [(0.0, top), (50.0, top / 2.0), (100.0, 0.0)];
    let labels = labels.map(|(at, part)| (at, format!("{part}%")));
    write!(
        out,
        "<figure><figcaption><b>{name}</b>: how {} times are spread, on a logarithmic scale\
         </figcaption><div class=\"plot low\">",
        count(times.count())
    )?;
    write_side(out, &labels)?;
    let width = columns * 4.0;
    open_plot(out, &format!("{name}: shares of all times"), width)?;
    write_lines(out, &labels, width)?;
    let mut path = String::new();
    for (at, number) in counts.iter().enumerate().filter(|(_, number)| **number > 0) {
        let height = (*number as f64 * scale).max(0.4);
        write!(path, "M{} {HEIGHT}h3.6v-{height:.2}h-3.6z", at as f64 * 4.0 + 0.2)?;
    }
    write!(out, "<path class=\"redirect\" d=\"{path}\"/>")?;
    for (class, quantile) in QUANTILES {
        if let Some(time_ns) = times.quantile_ns(quantile) {
            let x = decades.place(time_ns) * width;
            write!(out, "<path class=\"mark {class}\" d=\"M{x:.1} 0V{HEIGHT}\"/>")?;
        }
    }
    for (at, number) in counts.iter().enumerate() {
        let bound = |at: usize| {
            let power = f64::from(decades.low) + at as f64 / DECADE_COLUMNS;
            time(10f64.powf(power) as u64)
        };
        write_hit(out, at, |out| {
            write!(out, "{} to {}: {}", bound(at), bound(at + 1), count(*number))
        })?;
    }
    write!(out, "</svg><div class=\"x\" aria-hidden=\"true\">")?;
    for (number, (at, text)) in decades.each().into_iter().enumerate() {
        let class = match at {
            0.0 => "first",
            1.0 => "last",
            // On a narrow screen there is room for every other one.
            _ if number % 2 == 1 => "middle",
            _ => "",
        };
        write!(out, "<span class=\"{class}\" style=\"left:{:.1}%\">{text}</span>", at * 100.0)?;
    }
    write!(out, "</div></div>")?;
    write_quantile_legend(times, out)?;
    write!(out, "</figure>")
}
