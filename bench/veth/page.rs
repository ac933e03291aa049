//! The results, as charts and as one self-contained page.

use crate::campaign::DEFAULT;
use crate::chart::{self, Axis, Bar, Line, Scale, escaped, short};
use crate::results::{Cost, FrameCost, Results, Searched};
use std::fmt::Write;

/// The style of our pages.
pub const STYLE: &str = include_str!("page.css");

/// Names and SVG, in the order of the page.
pub fn pictures(results: &Results) -> Vec<(&'static str, String)> {
    let all = [
        ("rates", rates(results)),
        ("peers", peers(results)),
        ("loss", loss(results)),
        ("latency", latency(results)),
        ("cost", cost(results)),
        ("arguments", variants(results)),
    ];
    all.into_iter().filter_map(|(name, picture)| Some((name, picture?))).collect()
}

/// The page.
pub fn html(results: &Results) -> String {
    let machine = &results.machine;
    let mut page = format!(
        "<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n\
         <meta name='viewport' content='width=device-width, initial-scale=1'>\n\
         <title>httplines: what this machine can capture</title>\n<style>{STYLE}</style>\n\
         <h1>What this machine can capture</h1>\n\
         <p class='lead'>{}</p>\n<p>{} The null reader has the same filter and rings, and does \
         nothing with what comes up.</p>\n<p class='small'>httplines {}{}, Linux {}, {} CPUs ({}), \
         {} GiB; {} rounds, trials of {} s and {} s, seed {}; {:.0} s in all. The receive work \
         of a veth pair \
         runs on the CPU of who sends.</p>\n",
        escaped(&results.answer()),
        escaped(&results.claim()),
        escaped(&machine.version),
        machine.commit.as_ref().map_or(String::new(), |it| format!(" ({})", escaped(it))),
        escaped(&machine.kernel),
        machine.cpu_count,
        escaped(&machine.cpu),
        machine.memory_bytes >> 30,
        results.parameters.repeats,
        results.parameters.short_s,
        results.parameters.long_s,
        results.parameters.seed,
        results.seconds,
    );
    for (name, picture) in pictures(results) {
        // Writing to a string does not fail.
        let _ = writeln!(page, "<figure id='{name}'>\n{picture}</figure>");
    }
    page.push_str(&rate_table(results));
    let _ = write!(
        page,
        "<h2>All figures</h2>\n<pre>{}</pre>\n</html>\n",
        escaped(&results.to_string())
    );
    page
}

fn rate_table(results: &Results) -> String {
    let mut table = String::from(
        "<h2>Highest rates</h2>\n<p>Frames a second without loss.</p>\n<div class='wide'><table>\
         <tr><th>traffic<th>receiver<th>frames/s<th>least to greatest<th>limit<th>beside null\
         <th>0.5% lost<th>Gbit/s<th>exchanges/s</tr>\n",
    );
    for it in &results.searches {
        let rate = it.ndr.rate;
        let _ = writeln!(
            table,
            "<tr><td>{}<td>{}<td>{}{}<td>{} to {}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            escaped(&it.workload),
            escaped(&it.receiver),
            if it.ndr.is_open() { "≥ " } else { "" },
            short(rate.median),
            short(rate.min),
            short(rate.max),
            escaped(&it.ndr.limit_text()),
            results.beside_null(it).map_or(String::new(), |ratio| format!("{:.2}", ratio.median)),
            short(it.pdr.rate.median),
            short(it.gbit_s()),
            it.exchanges_s().map_or(String::new(), short),
        );
    }
    table.push_str("</table></div>\n");
    table
}

/// Highest rates without loss, of httplines and of the null reader.
fn rates(results: &Results) -> Option<String> {
    let mut all = Vec::new();
    for workload in results.workloads() {
        for receiver in ["httplines", "null"] {
            let Some(it) = results.searched(workload, receiver) else { continue };
            let is_ours = receiver == "httplines";
            let value = it.ndr.rate.median;
            all.push(Bar {
                name: if is_ours { workload.into() } else { String::new() },
                parts: if is_ours { vec![value] } else { vec![0.0, value] },
                range: Some((it.ndr.rate.min, it.ndr.rate.max)),
                text: format!("{}{}", if it.ndr.is_open() { "≥ " } else { "" }, short(value)),
            });
        }
    }
    let x = Axis::from_zero("frames a second (≥: the generator is the limit)", max_of(&all));
    (!all.is_empty())
        .then(|| chart::bars("Highest rate without loss", &x, &["httplines", "null reader"], &all))
}

/// httplines compared with other programs.
fn peers(results: &Results) -> Option<String> {
    let is_peer = |it: &&Searched| it.command.is_some();
    let workload = &results.searches.iter().find(is_peer)?.workload;
    let mut beside: Vec<&Searched> =
        results.searches.iter().filter(|it| it.workload == *workload).collect();
    beside.sort_by(|one, other| other.ndr.rate.median.total_cmp(&one.ndr.rate.median));
    let bar = |it: &&Searched| Bar {
        name: if it.receiver == "null" { "null reader".into() } else { it.receiver.clone() },
        parts: vec![it.ndr.rate.median],
        range: Some((it.ndr.rate.min, it.ndr.rate.max)),
        text: format!("{}{}", if it.ndr.is_open() { "≥ " } else { "" }, short(it.ndr.rate.median)),
    };
    let all: Vec<Bar> = beside.iter().map(bar).collect();
    let x = Axis::from_zero("frames a second with every request found", max_of(&all));
    Some(chart::bars(&format!("Beside others: {workload}"), &x, &[""], &all))
}

/// Loss over rate, for all receivers of the first workload that several take part in.
fn loss(results: &Results) -> Option<String> {
    let is_peer = |it: &&Searched| it.command.is_some();
    let workload = match results.searches.iter().find(is_peer) {
        Some(it) => it.workload.as_str(),
        None => results.workloads().into_iter().next()?,
    };
    let mut lines = Vec::new();
    for it in results.searches.iter().filter(|it| it.workload == workload) {
        let told = it.points.iter().filter(|point| !point.is_late);
        let points = told.map(|point| (point.rate, 100.0 * point.loss)).collect();
        lines.push(Line { name: it.receiver.clone(), points, is_dots: true });
    }
    let all = || lines.iter().flat_map(|line| &line.points);
    let max_rate = all().map(|point| point.0).fold(0.0, f64::max);
    let min_rate = all().map(|point| point.0).fold(f64::MAX, f64::min);
    let x = Axis::powers("frames a second", min_rate, max_rate, short);
    let y = Axis::from_zero("% lost", all().map(|point| point.1).fold(1.0, f64::max));
    // Without any loss there is nothing to see.
    let is_lost = all().any(|point| point.1 > 0.0);
    is_lost
        .then(|| chart::lines(&format!("Loss over rate, each trial: {workload}"), &x, &y, &lines))
}

/// From the last frame's time to the line: for the first workload at each percentage of its rate,
/// or for all workloads if there is one percentage only.
fn latency(results: &Results) -> Option<String> {
    let first = results.latencies.first()?;
    let of_first = || results.latencies.iter().filter(|it| it.workload == first.workload);
    let is_one = of_first().count() == 1;
    let mut lines = Vec::new();
    for it in results.latencies.iter().filter(|it| is_one || it.workload == first.workload) {
        let Some(delay) = &it.delays.to_line else { continue };
        let points = delay.curve.iter().map(|(percentile, ns)| (*percentile, *ns as f64 / 1e6));
        lines.push(Line {
            name: match is_one {
                true => it.workload.clone(),
                false => format!("{}%: {}/s", it.percent, short(it.rate)),
            },
            points: points.collect(),
            is_dots: false,
        });
    }
    let ticks = [0.0, 90.0, 99.0, 99.9, 99.99].map(|value| (value, format!("{value}%")));
    let timeout = results.parameters.retire_timeout_ms;
    let title = format!("of exchanges; the retire timeout is {timeout} ms");
    let x = Axis { title, scale: Scale::Percentile, ticks: ticks.to_vec() };
    let all = || lines.iter().flat_map(|line: &Line| &line.points).map(|point| point.1);
    let y = Axis::powers("ms", all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max), short);
    let name = match is_one {
        true => format!("From wire to line, at {}% of the rate", first.percent),
        false => format!("From wire to line: {}, at parts of its rate", first.workload),
    };
    (!lines.is_empty()).then(|| chart::lines(&name, &x, &y, &lines))
}

/// Where the nanoseconds go.
fn cost(results: &Results) -> Option<String> {
    // A superpacket costs as much as 40 frames: next to it the others would be too short to
    // compare.
    let is_shown = |it: &&Cost| it.variant == DEFAULT && it.workload != "superpackets";
    costs("Where the nanoseconds go", results.costs.iter().filter(is_shown), |it| &it.workload)
}

/// The effect of other arguments on that, if it is more than small.
fn variants(results: &Results) -> Option<String> {
    const WORKLOADS: [&str; 2] = ["small", "bulk"];
    let is_shown = |it: &&Cost| WORKLOADS.contains(&it.workload.as_str());
    let is_varied = results.costs.iter().filter(is_shown).any(|it| it.variant != DEFAULT);
    let shown = results.costs.iter().filter(|it| is_varied && is_shown(it));
    costs("What arguments change", shown, |it| match it.variant.as_str() {
        DEFAULT => &it.workload,
        _ => &it.variant,
    })
}

fn costs<'a>(
    title: &str,
    shown: impl Iterator<Item = &'a Cost>,
    name: impl Fn(&'a Cost) -> &'a String,
) -> Option<String> {
    let bar = |it: &'a Cost| Bar {
        name: name(it).clone(),
        parts: it.frame.parts().map(|(_, ns)| ns).to_vec(),
        range: None,
        text: format!("{:.0} ns", it.frame.total_ns()),
    };
    let all: Vec<Bar> = shown.map(bar).collect();
    let names = FrameCost::default().parts().map(|(name, _)| name);
    let x = Axis::from_zero("ns of CPU time for a frame, at 50% of the rate", max_of(&all));
    (!all.is_empty()).then(|| chart::bars(title, &x, &names, &all))
}

fn max_of(bars: &[Bar]) -> f64 {
    let ends =
        bars.iter().map(|bar| bar.range.map_or(0.0, |range| range.1).max(bar.parts.iter().sum()));
    ends.fold(0.0, f64::max)
}
