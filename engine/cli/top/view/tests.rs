use super::*;
use crate::cli::top::input::Sort;
use crate::cli::top::model::Sample;
use crate::cli::top::run_state::RunState;
use crate::cli::top::sample_lines::{exchange, summary_of};
use crate::cli::top::units::{ASCII, UNICODE};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::Duration;

/// A line of statistics of a run with two shards, one of which hangs.
const STATE: &str = r#"{"run":"01","seq":1,"shard_count":2,"total":{"elapsed_ms":SECONDS000,
    "frames":{"dropped":DROPPED,"captured_bytes":SECONDS000000},"before_us":{"rx_missed":12},
    "lines_lost":{},"flow":{"gaps":3,"gap_bytes":4100},"connections":{"http1":92,"tls":8},
    "cpu_ns":{"shards":1,"writer":1},"shards":[{"shard":0,"cpu_ns":SECONDS00000000},{"shard":1}]},
    "gauges":{"connections":41,"exchanges":318,
    "interfaces":[{"name":"eth1","state":"up"},{"name":"eth2","state":"down"}],
    "shards":[{"is_responding":true},{"is_responding":false}],
    "rings":[{"interface":"eth1","shard":0,"block_count":100,"full_blocks_most":85}]}}"#;

fn state(seconds: u64, dropped: u64) -> RunState {
    let line = STATE.replace("SECONDS", &seconds.to_string());
    let line = line.replace("DROPPED", &dropped.to_string());
    RunState::of_line(line.as_bytes()).expect("a line of statistics")
}

const HOSTILE: &str = "evil\u{1b}[2J\u{1b}]0;title\u{7}\r\n\u{202e}host\u{9b}31m.example";

fn model(kind: SourceKind) -> Model {
    let mut model = Model::new(kind, format!("eth1, eth2{HOSTILE}"));
    for second in 1..=12 {
        let mut lines = Vec::new();
        for number in 0..50 {
            let (status, time) = if number == 7 { (503, 900_000_000) } else { (200, 3_000_000) };
            lines.push(exchange("api.example.com", "/v1/orders/9", status, time));
        }
        lines.extend((0..9).map(|_| exchange(HOSTILE, &format!("/{HOSTILE}"), 404, 80_000)));
        let long = format!("{}.example", "x".repeat(180));
        lines.push(exchange(&long, &format!("/{}", "y".repeat(300)), 301, 40_000));
        lines.push(exchange("日本語.example", "/日本語", 200, 5_000_000_000));
        model.apply(Sample {
            elapsed: Duration::from_secs(1),
            summary: summary_of(&lines),
            run: Some(state(second, second * 3)),
            ..Sample::default()
        });
    }
    model
}

fn look(symbols: super::super::units::Symbols) -> Look {
    let theme = Theme { symbols, has_colour: true };
    let message = Some(format!("httplines: {HOSTILE} has gone\n"));
    Look { theme, clock: "14:00:00Z".into(), message }
}

/// The lines of a screen.
fn drawn(model: &Model, choices: &mut Choices, look: &Look, size: (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("memory");
    terminal.draw(|frame| draw(frame, model, choices, look)).expect("memory");
    let buffer = terminal.backend().buffer();
    // Behind a wide character there is an empty cell, which is not shown.
    let row = |y| {
        let mut line = String::new();
        let mut x = 0;
        while x < size.0 {
            line.push_str(buffer[(x, y)].symbol());
            x += width(buffer[(x, y)].symbol()).max(1) as u16;
        }
        line
    };
    (0..size.1).map(row).collect()
}

const SIZES: [(u16, u16); 6] = [(80, 16), (80, 24), (100, 30), (132, 36), (200, 60), (500, 120)];

#[test]
fn whatever_the_size_nothing_hostile_is_drawn_and_all_parts_are_there() {
    for kind in [SourceKind::Interfaces, SourceKind::Lines, SourceKind::Capture] {
        let model = model(kind);
        for size in SIZES {
            for view in View::ALL {
                for mode in [Mode::Table, Mode::Details, Mode::Help] {
                    for symbols in [UNICODE, ASCII] {
                        let mut choices =
                            Choices { view, mode: mode.clone(), ..Choices::default() };
                        let lines = drawn(&model, &mut choices, &look(symbols), size);
                        let text = lines.concat();
                        let odd = text.chars().find(|it| httplines::record::is_unsafe(*it));
                        assert_eq!(odd, None, "{size:?} {view:?} {mode:?}");
                        let is_plain = symbols == UNICODE || text.is_ascii();
                        assert!(is_plain, "{size:?} {view:?} {mode:?}: {lines:#?}");
                        assert!(text.contains("httplines top"), "{lines:#?}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_smallest_screen_shows_what_matters() {
    let mut choices = Choices::default();
    let lines = drawn(&model(SourceKind::Interfaces), &mut choices, &look(UNICODE), (80, 24));
    let screen = lines.join("\n");
    for part in [
        "61 req/s",
        "up 12 s",
        "ring full     36     3!",
        "before us     12     0 ",
        "gaps           3     0",
        "p50  3.0ms",
        "p99   5.0s",
        "open 41  under way 318",
        "http1 92.0%",
        "2xx 500 82.0%",
        "5xx 10 1.6%",
        "▶ api.example.com",
        "3.0ms   900ms",
        "日本語.example",
        "▼req/s",
        " ! httplines: evil",
        "s sort",
        "? help q quit",
        "fullest ring 85%",
        "[h hosts] p paths",
    ] {
        assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
    }
    assert!(screen.contains(" 1!        0%"), "a shard that hangs:\n{screen}");
}

/// The key that ends it is seen, whatever the width, the order and the view.
#[test]
fn the_keys_fit_every_width() {
    let model = model(SourceKind::Lines);
    for width in COLUMNS_MIN..=140 {
        for view in View::ALL {
            for is_all in [false, true] {
                let sort = Sort::Errors;
                let mut choices = Choices { view, is_all, sort, ..Choices::default() };
                let lines = drawn(&model, &mut choices, &look(ASCII), (width, 24));
                let keys = lines.last().expect("the keys");
                for key in ["s ", "/ filter", "t ", "? help", "q quit"] {
                    assert!(keys.contains(key), "{width} {view:?}: {key:?} is missing: {keys}");
                }
            }
        }
    }
}

/// A file may claim any numbers.
#[test]
fn the_greatest_numbers_are_drawn() {
    let most = u64::MAX;
    let line = exchange("a.example", "/", 200, 1).replace(
        "\"response_body_bytes\":1000",
        &format!("\"request_body_bytes\":{most},\"response_body_bytes\":{most}"),
    );
    let state = format!(
        r#"{{"run":"01","shard_count":0,"total":{{"before_us":{{"a":{most},"b":{most}}},
        "connections":{{"http1":{most},"tls":{most}}},"shards":[{{"shard":0}}]}},
        "gauges":{{"rings":[{{"shard":0,"block_count":1,"full_blocks_most":{most}}}]}}}}"#
    );
    let mut model = Model::new(SourceKind::Lines, "http.jsonl".into());
    for _ in 0..2 {
        model.apply(Sample {
            elapsed: Duration::from_secs(1),
            summary: summary_of(std::slice::from_ref(&line)),
            run: RunState::of_line(state.as_bytes()),
            ..Sample::default()
        });
    }
    for size in SIZES {
        for mode in [Mode::Table, Mode::Details] {
            let mut choices = Choices { sort: Sort::Bytes, mode, ..Choices::default() };
            let lines = drawn(&model, &mut choices, &look(UNICODE), size);
            assert!(lines.concat().contains("a.example"), "{lines:#?}");
        }
    }
}

#[test]
fn an_interface_that_is_down_is_told() {
    let model = model(SourceKind::Interfaces);
    let lines = drawn(&model, &mut Choices::default(), &look(UNICODE), (120, 24));
    assert!(lines[0].contains("! eth2 is down"), "{}", lines[0]);
}

#[test]
fn a_screen_that_is_too_small_says_so() {
    let model = model(SourceKind::Interfaces);
    for size in [(40, 10), (79, 24), (80, 15), (12, 1), (1, 1)] {
        let lines = drawn(&model, &mut Choices::default(), &look(UNICODE), size);
        let wanted = &"too small"[..usize::from(size.0).min(9)];
        assert!(lines[0].starts_with(wanted) || size.0 < 10, "{size:?}: {lines:?}");
    }
    let lines = drawn(&model, &mut Choices::default(), &look(UNICODE), (40, 10));
    assert!(lines[1].starts_with("needs 80x16; q quits"), "{lines:?}");
}

#[test]
fn rows_are_sorted_filtered_and_selected() {
    let model = model(SourceKind::Interfaces);
    let first = |choices: &mut Choices| {
        let lines = drawn(&model, choices, &look(UNICODE), (80, 24));
        lines.into_iter().find(|line| line.starts_with('▶')).unwrap_or_default()
    };
    let mut choices = Choices { sort: Sort::P99, ..Choices::default() };
    assert!(first(&mut choices).contains("日本語"));
    choices.sort = Sort::Errors;
    assert!(first(&mut choices).contains("api.example.com"));
    choices.filter = "EVIL".into();
    assert!(first(&mut choices).contains(r"evil\u{1b}[2j"), "the names of hosts are in lower case");
    choices.filter = "nothing has it".into();
    let lines = drawn(&model, &mut choices, &look(UNICODE), (80, 24)).concat();
    assert!(lines.contains("no name has this in it"), "{lines}");
    let mut choices = Choices { steps: 2, ..Choices::default() };
    assert!(first(&mut choices).contains("xxx…"));
    assert!(choices.selected.is_some_and(|name| name.starts_with("xxx")));
}

#[test]
fn details_show_the_selected_row() {
    let model = model(SourceKind::Interfaces);
    let mut choices = Choices { mode: Mode::Details, ..Choices::default() };
    let screen = drawn(&model, &mut choices, &look(UNICODE), (120, 50)).join("\n");
    for part in [
        "┌ host ─",
        "api.example.com",
        "last 10 s",
        "since start",
        "500",
        "600",
        "status 5xx",
        "900ms",
    ] {
        assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
    }
    assert!(screen.contains("2.0%") && screen.contains("from 500ms"), "{screen}");
}

/// Nothing is told by a colour alone: without any, the text is the same.
#[test]
fn colours_add_nothing_to_the_text() {
    let model = model(SourceKind::Lines);
    let plain = Look { theme: Theme { symbols: UNICODE, has_colour: false }, ..look(UNICODE) };
    let text = drawn(&model, &mut Choices::default(), &look(UNICODE), (120, 40));
    assert_eq!(text, drawn(&model, &mut Choices::default(), &plain, (120, 40)));
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).expect("memory");
    let mut choices = Choices::default();
    terminal.draw(|frame| draw(frame, &model, &mut choices, &plain)).expect("memory");
    let cells = &terminal.backend().buffer().content;
    let reset = ratatui::style::Color::Reset;
    assert!(cells.iter().all(|cell| cell.fg == reset && cell.bg == reset));
}
