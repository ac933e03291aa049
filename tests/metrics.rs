//! The metrics: the text that is made of a run, and the port that serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use httplines::capture::live::{InterfaceState, InterfaceTotals, LiveTotals, RingTotals};
use httplines::observe::metrics::{Scraped, render};
use httplines::observe::{Observed, ShardState};
use httplines::output::{ClosedFiles, WriterGauges};
use httplines::sys::process::ProcessState;
use httplines::time::TimestampNs;
use httplines::totals::Totals;

use crate::support::exposition::Scrape;
use crate::support::pages::code_spans;

const PAGE: &str = include_str!("../docs/metrics.md");
const ALERTS: &str = include_str!("../docs/alerts.yml");

const LAYERS: [(&str, bool); 4] =
    [("user", true), ("capabilities", true), ("landlock", true), ("seccomp", false)];

/// A live run of which everything is known.
fn totals(interfaces: &[&str], shard_count: usize) -> Totals {
    let ring = RingTotals {
        drops: 3,
        block_count: 8,
        full_blocks_most: 2,
        ring_bytes: 1 << 20,
        ..RingTotals::default()
    };
    let interface = |name: &&str| InterfaceTotals {
        name: name.to_string(),
        state: if *name == "down" { InterfaceState::Down } else { InterfaceState::Up },
        rings: vec![ring.clone(); shard_count],
        ..InterfaceTotals::default()
    };
    let interfaces = interfaces.iter().map(interface).collect();
    let live = Some(LiveTotals { interfaces, ..LiveTotals::default() });
    let mut totals = Totals { live, ..Totals::default() };
    totals.shards.pipeline.frames = 7 * shard_count as u64;
    totals.shards.emit.lines_dropped = 5;
    totals.is_running = true;
    totals
}

fn shards(count: usize) -> Vec<ShardState> {
    let mut shard = ShardState { cpu: Duration::from_millis(1500), ..ShardState::default() };
    shard.stats.pipeline.frames = 7;
    shard.gauges.queued_batches = 16;
    shard.gauges.pipeline.last_frame = Some(TimestampNs(1_700_000_000_000_000_001));
    vec![shard; count]
}

fn text_of(totals: &Totals, shards: &[ShardState]) -> String {
    let closed = Some(ClosedFiles { count: 2, bytes: 300 });
    let writer = WriterGauges { lag: Duration::from_millis(250), closed, ..Default::default() };
    let process = ProcessState {
        cpu: Duration::from_secs(3),
        resident_bytes: 1 << 20,
        started: Some(Duration::from_secs(1_700_000_000)),
        descriptor_count: Some(12),
        descriptor_count_max: Some(1024),
    };
    let observed = Observed { totals, shards, writer, resident_bytes: 1 << 20, errors: Vec::new() };
    render(&Scraped {
        observed: &observed,
        age: Duration::ZERO,
        process: &process,
        stalled_count: 0,
        sandbox: &LAYERS,
        batch_count_max: 64,
        free_bytes: Some(1 << 40),
    })
}

#[test]
fn a_scrape_has_the_figures_of_the_run() {
    let hostile = "a\"b\\c\nd{e=\"f\"}";
    let text = text_of(&totals(&["eth0", "down", hostile], 2), &shards(2));
    let scrape = Scrape::read(&text);
    assert_eq!(scrape.with("httplines_interface_up", "interface", "eth0"), 1.0);
    assert_eq!(scrape.with("httplines_interface_up", "interface", "down"), 0.0);
    assert_eq!(scrape.with("httplines_interface_up", "interface", hostile), 1.0);
    assert_eq!(scrape.of("httplines_ring_fill_ratio").count(), 6);
    assert!(scrape.of("httplines_ring_fill_ratio").all(|(_, ratio)| ratio == 0.25));
    assert_eq!(scrape.sum("httplines_frames_dropped_total"), 18.0);
    assert_eq!(scrape.sum("httplines_frames_captured_total"), 14.0);
    assert_eq!(scrape.with("httplines_output_queue_ratio", "shard", "1"), 0.25);
    assert_eq!(scrape.with("httplines_lines_lost_total", "cause", "queue_full"), 5.0);
    assert_eq!(scrape.one("httplines_output_lag_seconds"), 0.25);
    assert_eq!(scrape.with("httplines_memory_bytes", "kind", "rings"), 6.0 * (1u64 << 20) as f64);
    assert_eq!(scrape.with("httplines_sandbox", "layer", "seccomp"), 0.0);
    assert_eq!(scrape.one("process_open_fds"), 12.0);
    assert!(text.contains("\nhttplines_last_packet_timestamp_seconds 1700000000.000000001\n"));
    assert!(text.contains("\nhttplines_ttfb_seconds_bucket{le=\"0.0005\"} 0\n"));
}

/// With many shards there are only sums, and no more series than with some.
#[test]
fn a_scrape_is_bounded() {
    let series = |interfaces: &[&str], shard_count| {
        Scrape::read(&text_of(&totals(interfaces, shard_count), &shards(shard_count)))
    };
    let many = series(&["eth0", "eth1"], 1024);
    assert_eq!(many.one("httplines_frames_captured_total"), 7.0 * 1024.0);
    assert_eq!(many.one("httplines_shard_cpu_seconds_total"), 1.5 * 1024.0);
    assert_eq!(many.one("httplines_output_queue_ratio"), 0.25);
    let dropped = many.with("httplines_frames_dropped_total", "interface", "eth1");
    assert_eq!(dropped, 3.0 * 1024.0);
    assert!(many.samples.iter().all(|(_, labels, _)| !labels.contains_key("shard")));
    assert!(many.samples.len() < 250, "{}", many.samples.len());
    let some = series(&["eth0"], 64);
    assert_eq!(some.of("httplines_ring_fill_ratio").count(), 64);
    assert!(some.samples.len() < 700, "{}", some.samples.len());
}

/// The rows of the table of families: name, type, labels and meaning.
fn rows() -> Vec<[&'static str; 4]> {
    let below = PAGE.split_once("## The families\n").expect("the heading").1;
    let lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let row = |line: &'static str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let [name, kind, labels] = [(); 3].map(|()| cells.next().expect("four cells"));
        [code_spans(name).next().expect("a name"), kind, labels, cells.next().expect("four cells")]
    };
    rows.map(row).collect()
}

/// Each family's type, and the names of its labels.
fn told() -> BTreeMap<&'static str, (&'static str, BTreeSet<&'static str>)> {
    let rows = rows().into_iter();
    rows.map(|[name, kind, labels, _]| (name, (kind, code_spans(labels).collect()))).collect()
}

#[test]
fn the_page_has_a_row_for_each_family() {
    let scrape = Scrape::read(&text_of(&totals(&["eth0"], 2), &shards(2)));
    let told = told();
    let made: BTreeSet<&str> = scrape.families.keys().map(String::as_str).collect();
    let rows: BTreeSet<&str> = told.keys().copied().collect();
    assert_eq!(made, rows, "docs/metrics.md");
    for (name, (kind, labels)) in &told {
        assert_eq!(scrape.families[*name], *kind, "{name}");
        let made: BTreeSet<&str> =
            scrape.label_names(name).into_iter().filter(|label| *label != "le").collect();
        assert_eq!(&made, labels, "{name}");
    }
}

/// Values of labels that the page lists are those that there are.
#[test]
fn the_page_has_the_values_of_labels() {
    let scrape = Scrape::read(&text_of(&totals(&["eth0"], 1), &shards(1)));
    let mut checked = 0;
    for [name, _, labels, _] in rows() {
        let Some((label, values)) = labels.split_once(": ") else { continue };
        let label = code_spans(label).next().expect("a label");
        let told: Vec<&str> = values.split(", ").collect();
        let made: Vec<&str> = scrape.of(name).map(|(labels, _)| labels[label].as_str()).collect();
        assert_eq!(told, made, "{name}");
        checked += 1;
    }
    assert!(checked > 8, "{checked}");
}

/// Each metric that an alert is about exists.
#[test]
fn alerts_are_about_families() {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let told = told();
    let words: BTreeSet<&str> = ALERTS
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|it| !is_part(it)))
        .filter(|word| word.starts_with("httplines_") || word.starts_with("process_"))
        .collect();
    assert!(words.len() > 8, "{words:?}");
    let unknown: Vec<_> = words.iter().filter(|word| !told.contains_key(*word)).collect();
    assert!(unknown.is_empty(), "docs/alerts.yml: {unknown:?}");
    // The page names each alert.
    let names = ALERTS.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: "));
    for name in names {
        assert!(PAGE.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
    }
}

/// Wrong usage is told in a sentence.
#[test]
fn wrong_addresses_are_refused() {
    use crate::support::program::run;
    for (args, says) in [
        (&["-i", "lo", "--metrics", "localhost"][..], "an address of this machine, such as"),
        (&["-r", "a.pcap", "--metrics", "127.0.0.1"], "--metrics is for capturing with -i"),
    ] {
        let done = run(args, None);
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{told}");
        assert!(told.contains(says) && told.lines().count() == 1, "{told}");
    }
}

mod live;
