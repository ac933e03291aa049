//! Charts as SVG: lines over two axes, and bars with parts. They are readable on a phone, on paper,
//! and in the dark: colours differ in lightness, too, and text takes the page's colour.

use std::fmt::Write;

/// Width of all charts, in SVG's units. Narrow, so that letters are large enough on a phone.
const WIDTH: f64 = 440.0;
const LINES_HEIGHT: f64 = 340.0;
const BAR_HEIGHT: f64 = 18.0;
/// Distance between bars: of the same name, and of different ones.
const BAR_PITCH: f64 = 21.0;
const GROUP_PITCH: f64 = 31.0;
const TOP: f64 = 44.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 26.0;

/// Distinguishable with colour blindness, too (Okabe and Ito); darkest first.
pub const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"];

/// How numbers are placed along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their powers of ten.
    Log,
    /// A percentile by how much is beyond it: 90, 99, 99.9 are at equal distances.
    Percentile,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.max(1e-9).log10(),
            Scale::Percentile => -((100.0 - value).max(1e-3) / 100.0).log10(),
        }
    }
}

/// An axis: its quantity and its ticks.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The quantity, with its unit.
    pub title: String,
    /// The scale.
    pub scale: Scale,
    /// Values with their labels, from the least to the greatest; the outer ones are the ends of the
    /// axis.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 in round steps to at least `max`.
    pub fn from_zero(title: &str, max: f64) -> Axis {
        let max = if max > 0.0 { max } else { 1.0 };
        let rough = max / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|part| part * power);
        let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
        let count = (max / step - 1e-9).ceil() as u32;
        let ticks = (0..=count).map(|index| f64::from(index) * step);
        Axis {
            title: title.into(),
            scale: Scale::Linear,
            ticks: ticks.map(|value| (value, short(value))).collect(),
        }
    }

    /// Around the range from `min` to `max`: powers of ten, or 1, 2, 5 of each if those are few.
    pub fn powers(title: &str, min: f64, max: f64, text: impl Fn(f64) -> String) -> Axis {
        let (min, max) = (min.max(1e-9), max.max(1e-9));
        let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
        let parts: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all =
            (first..=last).flat_map(|power| parts.iter().map(move |it| it * 10f64.powi(power)));
        let all: Vec<f64> = all.collect();
        // One at or below the least, one at or above the greatest, at least two.
        let from = all.iter().rposition(|tick| *tick <= min * 1.000_001).unwrap_or(0);
        let to = all.iter().position(|tick| *tick >= max * 0.999_999).unwrap_or(all.len() - 1);
        let from = from.min(all.len() - 2);
        let ticks = all[from..=to.max(from + 1)].iter().copied();
        Axis {
            title: title.into(),
            scale: Scale::Log,
            ticks: ticks.map(|value| (value, text(value))).collect(),
        }
    }

    /// The position of a value, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let end = |tick: Option<&(f64, String)>| self.scale.place(tick.map_or(0.0, |tick| tick.0));
        let (first, last) = (end(self.ticks.first()), end(self.ticks.last()));
        ((self.scale.place(value) - first) / (last - first)).clamp(0.0, 1.0)
    }
}

/// A line through points, in their order.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is called.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
    /// Draw dots without a line: several measurements of the same thing.
    pub is_dots: bool,
}

/// Lines over two axes, with a legend below the title.
pub fn lines(title: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let legend = Legend::new(lines.iter().map(|line| line.name.as_str()));
    let top = TOP + legend.height();
    let (right, bottom) = (WIDTH - RIGHT, top + LINES_HEIGHT - 110.0);
    let at_x = |value: f64| LEFT + x.share(value) * (right - LEFT);
    let at_y = |value: f64| bottom - y.share(value) * (bottom - top);
    let mut svg = Svg::new(title, bottom + 58.0);
    legend.draw(&mut svg);
    for (value, text) in &y.ticks {
        let at = at_y(*value);
        svg.push(format_args!("<path class='grid' d='M{LEFT:.1} {at:.1}H{right:.1}'/>"));
        svg.text(LEFT - 8.0, at + 4.0, "end", text);
    }
    for (value, text) in &x.ticks {
        let at = at_x(*value);
        svg.push(format_args!("<path class='grid' d='M{at:.1} {top:.1}V{bottom:.1}'/>"));
        svg.text(at, bottom + 20.0, "middle", text);
    }
    svg.text((LEFT + right) / 2.0, bottom + 44.0, "middle", &x.title);
    svg.text(8.0, top - 12.0, "start", &y.title);
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let places = line.points.iter().map(|(x, y)| format!("{:.1} {:.1}", at_x(*x), at_y(*y)));
        let places: Vec<String> = places.collect();
        if !line.is_dots {
            let path = places.join("L");
            svg.push(format_args!("<path class='line' stroke='{colour}' d='M{path}'/>"));
            continue;
        }
        for place in &places {
            let (x, y) = place.split_once(' ').unwrap_or_default();
            svg.push(format_args!("<circle cx='{x}' cy='{y}' r='3.5' fill='{colour}'/>"));
        }
    }
    svg.finish()
}

/// A bar with parts, and a text after it.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Its name; empty: the same as the bar above.
    pub name: String,
    /// The length of each part, in the order of the legend.
    pub parts: Vec<f64>,
    /// The range of the measurements.
    pub range: Option<(f64, f64)>,
    /// The text after it.
    pub text: String,
}

/// Bars below each other; `parts` names their parts, if there are several.
pub fn bars(title: &str, x: &Axis, parts: &[&str], bars: &[Bar]) -> String {
    let legend = Legend::new(parts.iter().copied().filter(|_| parts.len() > 1));
    let top = TOP + legend.height() - 8.0;
    let longest = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
    let left = 14.0 + 7.6 * longest as f64;
    // Space for the text after the longest bar.
    let behind = bars.iter().map(|bar| bar.text.chars().count()).max().unwrap_or(0);
    let right = WIDTH - RIGHT - 7.2 * behind as f64;
    let mut places = Vec::with_capacity(bars.len());
    let mut bottom = top;
    for bar in bars {
        let pitch = if bar.name.is_empty() { BAR_PITCH } else { GROUP_PITCH };
        bottom += pitch;
        places.push(bottom - BAR_HEIGHT);
    }
    bottom += (GROUP_PITCH - BAR_HEIGHT) / 2.0;
    let at_x = |value: f64| left + x.share(value) * (right - left);
    let mut svg = Svg::new(title, bottom + 54.0);
    legend.draw(&mut svg);
    for (value, text) in &x.ticks {
        let at = at_x(*value);
        svg.push(format_args!("<path class='grid' d='M{at:.1} {top:.1}V{bottom:.1}'/>"));
        svg.text(at, bottom + 18.0, "middle", text);
    }
    svg.text((left + right) / 2.0, bottom + 42.0, "middle", &x.title);
    for (bar, y) in bars.iter().zip(places) {
        svg.text(left - 8.0, y + 14.0, "end", &bar.name);
        let mut sum = 0.0;
        for (part, colour) in bar.parts.iter().zip(COLOURS) {
            let (from, to) = (at_x(sum), at_x(sum + part));
            sum += part;
            let width = to - from;
            svg.push(format_args!(
                "<rect x='{from:.1}' y='{y:.1}' width='{width:.1}' height='{BAR_HEIGHT}' \
                 fill='{colour}'/>"
            ));
        }
        let mut end = at_x(sum);
        if let Some((min, max)) = bar.range {
            let (from, to, middle) = (at_x(min), at_x(max), y + BAR_HEIGHT / 2.0);
            end = end.max(to);
            svg.push(format_args!("<path class='range' d='M{from:.1} {middle:.1}H{to:.1}'/>"));
        }
        svg.text(end + 6.0, y + 14.0, "start", &bar.text);
    }
    svg.finish()
}

/// Names with their colours, as many per row as fit.
struct Legend {
    /// Name, x and row.
    entries: Vec<(String, f64, usize)>,
    rows: usize,
}

impl Legend {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Legend {
        let (mut entries, mut x, mut row) = (Vec::new(), 8.0, 0);
        for name in names {
            let width = 36.0 + 7.6 * name.chars().count() as f64;
            if x + width > WIDTH && x > 8.0 {
                (x, row) = (8.0, row + 1);
            }
            entries.push((name.to_string(), x, row));
            x += width;
        }
        let rows = if entries.is_empty() { 0 } else { row + 1 };
        Legend { entries, rows }
    }

    fn height(&self) -> f64 {
        22.0 * self.rows as f64 + if self.rows > 0 { 18.0 } else { 6.0 }
    }

    fn draw(&self, svg: &mut Svg) {
        for ((name, x, row), colour) in self.entries.iter().zip(COLOURS.iter().cycle()) {
            let y = TOP + 22.0 * *row as f64;
            svg.push(format_args!(
                "<rect x='{x:.1}' y='{:.1}' width='14' height='14' fill='{colour}'/>",
                y - 10.0
            ));
            svg.text(x + 20.0, y + 2.0, "start", name);
        }
    }
}

/// A chart that is being drawn.
struct Svg(String);

impl Svg {
    fn new(title: &str, height: f64) -> Svg {
        let title = escaped(title);
        // Alone it is white, or dark if the reader's screen is; inside our page it takes the page's
        // background.
        let mut svg = Svg(format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0}' role='img' \
             aria-label='{title}' font-family='DejaVu Sans, Helvetica, Arial, sans-serif' \
             font-size='13'>\n<style>.paper{{fill:#fff}}text{{fill:#1a1a1a}}\
             .grid{{stroke:#888;stroke-opacity:.3;fill:none}}\
             .line{{fill:none;stroke-width:2.5;stroke-linejoin:round}}\
             .range{{stroke:#1a1a1a;stroke-width:2;fill:none}}\
             @media (prefers-color-scheme:dark){{.paper{{fill:#161616}}text{{fill:#e8e8e8}}\
             .range{{stroke:#e8e8e8}}}}</style>\n"
        ));
        svg.push(format_args!("<rect class='paper' width='{WIDTH}' height='{height:.0}'/>"));
        svg.push(format_args!(
            "<text x='8' y='22' font-size='16' font-weight='bold'>{title}</text>"
        ));
        svg
    }

    fn push(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{what}");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escaped(text);
        self.push(format_args!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{text}</text>"));
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// Escapes text for XML and HTML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Three digits, with k and M.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (7.0, "7"),
            (100.0, "100"),
            (1234.0, "1.23k"),
            (98_765.0, "98.8k"),
            (1_144_468.0, "1.14M"),
            (52.51e9, "52.5G"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn axes_hold_all_that_is_shown() {
        for max in [0.0, 0.003, 1.0, 7.3, 999.0, 1_144_468.0] {
            let axis = Axis::from_zero("", max);
            let last = axis.ticks.last().expect("it has ticks").0;
            assert!(last >= max && last <= 2.0 * max.max(0.5) && axis.ticks.len() <= 7, "{axis:?}");
        }
        for (min, max, first, last, count) in [
            (30.0, 120_000.0, 10.0, 1_000_000.0, 6),
            (0.7, 12.0, 0.5, 20.0, 6),
            (10.0, 10.0, 10.0, 20.0, 2),
            (0.0, 0.0, 1e-9, 2e-9, 2),
        ] {
            let axis = Axis::powers("", min, max, short);
            assert_eq!(axis.ticks.len(), count, "{axis:?}");
            assert_eq!((axis.share(first), axis.share(last)), (0.0, 1.0), "{axis:?}");
            let (least, most) = (axis.ticks[0].0, axis.ticks[count - 1].0);
            assert!((least / first - 1.0).abs() < 1e-6 && (most / last - 1.0).abs() < 1e-6);
        }
    }

    /// The name of a peer may contain anything.
    #[test]
    fn text_is_text() {
        let line =
            Line { name: "<b>&'".into(), points: vec![(0.0, 0.0), (1.0, 1.0)], is_dots: true };
        let axis = Axis::from_zero("<", 1.0);
        let svg = lines("\"", &axis, &axis, &[line]);
        assert!(svg.contains("&lt;b&gt;&amp;&#39;") && !svg.contains("<b>"));
    }
}
