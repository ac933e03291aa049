//! The file of statistics beside the output of a live capture: its lines match
//! `docs/stats.schema.json`, which allows nothing else, and tell all that was counted and lost.

use std::collections::BTreeSet;
use std::time::Duration;

use httplines::capture::live::{InterfaceTotals, LiveTotals, RingTotals, ShedTotals};
use httplines::config::EmitConfig;
use httplines::observe::{Observed, Run, ShardState};
use httplines::output::{Sidecar, WriterGauges, sidecar_path};
use httplines::totals::Totals;
use serde_json::{Value, json};

use crate::support::stats_schema::{LINE_BYTES_MAX, check_line, schema};

/// A live run with counters in different places.
fn totals(interface_count: usize, shard_count: usize) -> Totals {
    let ring = RingTotals { packets: 5, block_count: 64, full_blocks: 1, ..Default::default() };
    let interface = |number| InterfaceTotals {
        name: format!("eth{number}"),
        rings: vec![ring.clone(); shard_count],
        ..InterfaceTotals::default()
    };
    let mut totals = Totals::default();
    let live = totals.live.insert(LiveTotals {
        interfaces: (0..interface_count).map(interface).collect(),
        softnet_dropped: 3,
        shed: Some(ShedTotals { halvings: 2, share_permille: 250, ..Default::default() }),
        ..LiveTotals::default()
    });
    live.filter.elided_bytes = 1 << 40;
    totals.shards.pipeline.frames = 99;
    totals.shards.emit.lines_dropped = 7;
    totals.shards.emit.lines_dropped_closed = 2;
    totals.writer.lines_lost_disk_full = 11;
    totals.is_running = true;
    totals
}

fn observed<'a>(totals: &'a Totals, shards: &'a [ShardState]) -> Observed<'a> {
    let writer = WriterGauges { lag: Duration::from_millis(1500), ..Default::default() };
    Observed { totals, shards, writer, resident_bytes: 1, errors: Vec::new() }
}

/// The lines that a run writes of these totals.
fn lines_of(emit: &EmitConfig, all: &[(Totals, Vec<ShardState>)]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = sidecar_path(&directory.path().join("http.jsonl"));
    let sidecar = Sidecar::open(&path).expect("a new file");
    let mut run = Run::new("http.jsonl".into(), emit);
    for (totals, shards) in all {
        sidecar.finish(run.record(&observed(totals, shards)));
    }
    let text = std::fs::read_to_string(path).expect("lines");
    text.lines().map(str::to_string).collect()
}

#[test]
fn a_line_has_every_figure_of_the_schema_and_no_other() {
    let mut ended = totals(2, 2);
    ended.is_running = false;
    let shards = vec![ShardState::default(); 2];
    let named = EmitConfig { sensor: Some("edge \"1\"".parse().unwrap()), ..EmitConfig::default() };
    let lines = lines_of(&named, &[(totals(2, 2), shards.clone()), (ended, shards)]);
    let [first, last] = [&lines[0], &lines[1]].map(|line| check_line(line));
    assert_eq!((first["seq"].as_u64(), first["final"].as_bool()), (Some(0), Some(false)));
    assert_eq!((last["seq"].as_u64(), last["final"].as_bool()), (Some(1), Some(true)));
    assert_eq!(first["run"], last["run"]);
    assert_eq!((&first["sensor"], &last["sensor"]), (&json!("edge \"1\""), &json!("edge \"1\"")));
    assert_eq!(first["gauges"]["lag_ms"], 1500);
    assert_eq!(first["gauges"]["share_permille"], 250);
    let lost = json!({"queue_full": 5, "disk_full": 11, "write_error": 0, "reader_gone": 2});
    assert_eq!(first["total"]["lines_lost"], lost);
    assert_eq!(first["delta"]["lines_lost"], lost);
    assert_eq!(last["delta"]["lines_lost"]["queue_full"], 0);
    assert_eq!(last["total"]["filter"]["elided_bytes"], 1u64 << 40);
    let violations = last["violations"].as_array().expect("a list");
    assert!(violations.len() > 2, "these totals do not add up: {violations:?}");
}

/// Whatever is a property must be there, and nothing else may be: then a line that the schema
/// allows has exactly its keys. Only the last line of a run has more, and those of a sensor with a
/// name.
#[test]
fn the_schema_demands_what_it_describes() {
    fn check(at: &str, part: &Value) {
        let properties = part.get("properties").and_then(Value::as_object);
        if properties.is_none() {
            return;
        }
        assert_eq!(part["additionalProperties"], json!(false), "{at}");
        let required: Vec<&str> =
            part["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        for (name, property) in properties.into_iter().flatten() {
            let is_optional =
                at.is_empty() && ["violations", "errors", "sensor"].contains(&name.as_str());
            assert_eq!(required.contains(&name.as_str()), !is_optional, "{at}.{name}");
            let description = property["description"].as_str().unwrap_or_default();
            assert!(description.len() > 7, "{at}.{name} needs a description");
            check(&format!("{at}.{name}"), property);
            check(&format!("{at}.{name}[]"), &property["items"]);
        }
    }
    check("", schema());
    for (name, part) in schema()["$defs"].as_object().expect("definitions") {
        check(name, part);
    }
}

/// Whole numbers only: a reader loses no digit.
#[test]
fn a_line_is_bounded_and_its_numbers_are_exact() {
    fn check(value: &Value) {
        match value {
            Value::Number(number) => assert!(number.is_u64(), "{number}"),
            Value::Array(values) => values.iter().for_each(check),
            Value::Object(members) => members.values().for_each(check),
            _ => {}
        }
    }
    let line_bytes = |interfaces, shards| {
        let states = vec![ShardState::default(); shards];
        let line =
            lines_of(&EmitConfig::default(), &[(totals(interfaces, shards), states)]).remove(0);
        check(&serde_json::from_str(&line).expect("it is JSON"));
        line.len()
    };
    assert!(line_bytes(2, 8) < LINE_BYTES_MAX);
    assert!(line_bytes(1, 1024) < LINE_BYTES_MAX, "sums only");
    assert!(line_bytes(64, 64) < 64 << 10);
}

mod root {
    use std::path::Path;

    use super::*;
    use crate::support::lab::{self, CLIENT_IFACE, End, Lab, Offload, SERVER_IFACE, wait_until};
    use crate::support::skip;
    use crate::support::stats_schema;

    fn line_count(path: &Path) -> usize {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    }

    /// Adds the counters of `delta`.
    fn add(sum: &mut Value, delta: &Value) {
        match (sum, delta) {
            (Value::Number(sum), Value::Number(delta)) => {
                *sum = (sum.as_u64().unwrap() + delta.as_u64().unwrap()).into();
            }
            (Value::Array(sum), Value::Array(delta)) => {
                sum.iter_mut().zip(delta).for_each(|(sum, delta)| add(sum, delta));
            }
            (Value::Object(sum), Value::Object(delta)) => {
                sum.iter_mut().for_each(|(name, sum)| add(sum, &delta[name]));
            }
            _ => {}
        }
    }

    /// The number in the rows of a list, together.
    fn of_rows(rows: &Value, name: &str) -> u64 {
        let rows = rows.as_array().expect("rows").iter();
        rows.map(|row| row[name].as_u64().expect("a number")).sum()
    }

    fn number(value: &Value, path: &str) -> u64 {
        value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path}"))
    }

    /// The deltas of all lines are the last total. Texts and the numbers of rows stay as they are.
    fn assert_deltas_add_up(lines: &[Value]) {
        let mut sum = lines[0]["delta"].clone();
        for line in &lines[1..] {
            add(&mut sum, &line["delta"]);
        }
        let total = &lines[lines.len() - 1]["total"];
        for (name, value) in total.as_object().expect("groups") {
            if !value.is_array() {
                assert_eq!(&sum[name], value, "{name}");
            }
        }
        for rows in ["interfaces", "shards", "rings"] {
            let names = total[rows][0].as_object().expect("a row").keys();
            for name in names.filter(|name| !["name", "shard", "interface"].contains(&&***name)) {
                assert_eq!(of_rows(&sum[rows], name), of_rows(&total[rows], name), "{rows} {name}");
            }
        }
    }

    #[test]
    fn lines_come_at_each_interval_and_the_last_one_has_the_totals() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let args = "-i wire1,lo -o http.jsonl --stats-interval 0.2 --shards 2 -B 4096";
        let args: Vec<&str> = args.split(' ').collect();
        let running = lab.start_httplines(End::Server, &args);
        let stats = lab.path().join("http.stats");
        wait_until("the first line is there", || line_count(&stats) >= 1);
        for number in 0..10 {
            lab.curl(&[&format!("/small/{number}"), "/1m"]);
            let before = line_count(&stats);
            wait_until("the next line comes", || line_count(&stats) > before);
        }
        let pid = running.pid();
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let lines = stats_schema::lines_of(&stats);
        let (last, others) = lines.split_last().expect("lines");
        assert!(others.iter().all(|line| line["final"] == false && line["run"] == last["run"]));
        assert_eq!((&last["final"], &last["pid"]), (&json!(true), &json!(pid)));
        assert_eq!((&last["violations"], &last["errors"]), (&json!([]), &json!([])));
        assert!(lines.iter().map(|line| &line["seq"]).eq(&(0..lines.len()).collect::<Vec<_>>()));

        assert_deltas_add_up(&lines);
        let total = &last["total"];
        // Rows add up to the sums.
        let shards = &total["shards"];
        assert_eq!(of_rows(shards, "frames"), number(total, "/frames/captured"));
        assert_eq!(of_rows(shards, "lines"), number(total, "/lines/made"));
        assert_eq!(of_rows(shards, "requests"), number(total, "/exchanges/requests"));
        assert_eq!(of_rows(shards, "cpu_ns"), number(total, "/cpu_ns/shards"));
        assert!(number(total, "/cpu_ns/shards") > 0 && number(total, "/cpu_ns/writer") > 0);
        let passed = number(total, "/frames/passed");
        for rows in ["rings", "interfaces"] {
            assert_eq!(of_rows(&total[rows], "packets"), passed, "{rows}");
        }
        assert_eq!(total["rings"].as_array().map(Vec::len), Some(4));

        // They are the totals that were printed.
        let frames = &total["frames"];
        finished.told(&format!(
            "{} = {} rejected + {passed} passed",
            frames["offered"], frames["rejected"]
        ));
        finished.told(&format!("{} captured + {} dropped", frames["captured"], frames["dropped"]));
        finished.told(&format!("{} bytes of bodies left", total["filter"]["elided_bytes"]));
        let written = &total["lines"];
        assert_eq!(written["written"], 20);
        finished.told(&format!("20 lines, {} bytes, 0 lines lost", written["written_bytes"]));
        let gauges = &others[0]["gauges"];
        assert_eq!(gauges["memory_bytes"]["rings"], 4 * (4 << 20));
        assert!(gauges["shards"].as_array().unwrap().iter().all(|it| it["is_responding"] == true));
    }

    /// With one file, and with one for each shard.
    #[test]
    fn the_file_is_closed_with_the_lines_that_it_is_about() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        for (more, first) in [("", "http"), ("--output-per-shard", "http.0")] {
            let mut lab = Lab::new(Offload::On);
            lab.start_nginx();
            let args =
                format!("-i wire1 -o http.jsonl --stats-interval 0.1 --shards 2 -C 9K {more}");
            let args: Vec<&str> = args.split_whitespace().collect();
            let running = lab.start_httplines(End::Server, &args);
            let stats = lab.path().join("http.stats");
            for _ in 0..4 {
                lab.wrk(lab::SERVER[0], 4, 60);
                wait_until("a line of statistics is there", || line_count(&stats) >= 1);
            }
            let finished = running.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            let names = std::fs::read_dir(lab.path()).expect("it is there");
            let names = names.map(|it| it.expect("an entry").file_name().into_string().unwrap());
            let names: BTreeSet<String> = names.filter(|name| name.starts_with("http")).collect();
            // Sorted by time; the one that is open is the last.
            let closed = names.iter().filter(|name| *name != "http.stats");
            let closed: Vec<_> = closed.filter(|name| name.ends_with(".stats")).collect();
            assert!(!closed.is_empty(), "{names:?}");
            for name in &closed {
                let stamp = name.trim_start_matches("http-").trim_end_matches(".stats");
                assert!(names.contains(&format!("{first}-{stamp}.jsonl")), "{name}: {names:?}");
            }
            let all = closed.iter().map(|name| name.as_str()).chain(["http.stats"]);
            let lines: Vec<Value> =
                all.flat_map(|name| stats_schema::lines_of(&lab.path().join(name))).collect();
            assert!(
                lines.iter().map(|line| &line["seq"]).eq(&(0..lines.len()).collect::<Vec<_>>())
            );
            let last = lines.last().expect("lines");
            let is_closed = |name: &&String| name.contains('-') && name.ends_with(".jsonl");
            let closed_count = names.iter().filter(is_closed).count();
            assert_eq!(number(last, "/total/files/rotations"), closed_count as u64);
            assert_eq!((&last["final"], &last["violations"]), (&json!(true), &json!([])));
        }
    }

    /// The file has a size limit, as a full disk is: lines are lost for one cause, and told.
    #[test]
    fn lines_that_a_full_disk_cost_are_told_by_cause() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let mut command = lab.command(End::Server, "bash");
        command.args(["-c", "ulimit -f 64; exec \"$0\" \"$@\"", crate::httplines()]);
        let args = ["-i", SERVER_IFACE, "-o", "http.jsonl", "--stats-interval", "1"];
        let running = lab.start(command, &args, "capturing");
        lab.wrk(lab::SERVER[0], 4, 1000);
        let finished = running.stop();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let lines = stats_schema::lines_of(&lab.path().join("http.stats"));
        let last = lines.last().expect("lines");
        let [written, lost] = ["/total/lines/written", "/total/lines_lost/disk_full"];
        assert!(number(last, lost) > 100);
        assert_eq!(number(last, written) + number(last, lost), 1000);
        assert_eq!((&last["final"], &last["violations"]), (&json!(true), &json!([])));
        let errors = last["errors"].as_array().expect("a list");
        assert!(errors[0].as_str().is_some_and(|it| it.contains("lost until the end")));
        finished.told(&format!("{0} lines lost ({0} disk full)", number(last, lost)));
    }

    /// The same for the file of statistics itself, whose limit it reaches first.
    #[test]
    fn a_full_disk_tears_no_line_of_statistics() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let lab = Lab::new(Offload::On);
        let mut command = lab.command(End::Server, "bash");
        command.args(["-c", "ulimit -f 24; exec \"$0\" \"$@\"", crate::httplines()]);
        let args = ["-i", SERVER_IFACE, "-o", "http.jsonl", "--stats-interval", "0.1"];
        let mut running = lab.start(command, &args, "capturing");
        running.await_stderr("cannot write http.stats: the file has reached the size limit");
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "the lines are what counts: {}", finished.stderr);
        let lines = stats_schema::lines_of(&lab.path().join("http.stats"));
        assert!((2..=4).contains(&lines.len()), "{}", lines.len());
        assert!(lines.iter().all(|line| line["final"] == false));
    }

    #[test]
    fn a_run_that_is_killed_has_no_last_line_and_the_next_one_goes_on_in_the_file() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let lab = Lab::new(Offload::On);
        let args = ["-i", CLIENT_IFACE, "-o", "http", "--stats-interval", "0.1"];
        let stats = lab.path().join("http.stats");
        let running = lab.start_httplines(End::Client, &args);
        wait_until("some lines are there", || line_count(&stats) >= 3);
        running.signal("KILL");
        assert_eq!(running.wait().code, None);
        let killed = stats_schema::lines_of(&stats);
        assert!(killed.iter().all(|line| line["final"] == false));
        lab.start_httplines(End::Client, &args).stop();
        let both = stats_schema::lines_of(&stats);
        let (last, others) = both.split_last().expect("lines");
        assert_eq!(last["final"], true);
        assert_eq!(others.iter().filter(|line| line["run"] != last["run"]).count(), killed.len());
        assert_eq!(both[killed.len()]["seq"], 0);
    }

    /// Nothing is beside what is no file of JSON lines, or if that is not wanted.
    #[test]
    fn only_a_file_of_json_lines_has_statistics() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let lab = Lab::new(Offload::On);
        for (number, rest) in [
            "-o http.jsonl --stats-interval 0",
            "-o http.txt --format text",
            "-o -",
            "-o /dev/stdout",
            "-o /dev/null",
        ]
        .into_iter()
        .enumerate()
        {
            let place = lab.path().join(number.to_string());
            std::fs::create_dir(&place).expect("a directory");
            let mut command = lab.command(End::Client, "bash");
            let script = "cd \"$0\" && exec \"$@\"";
            command.args(["-c", script]).arg(&place).arg(crate::httplines());
            let args: Vec<&str> = ["-i", CLIENT_IFACE].into_iter().chain(rest.split(' ')).collect();
            let finished = lab.start(command, &args, "capturing").stop();
            assert_eq!(finished.code, Some(0), "{rest}: {}", finished.stderr);
            let files: Vec<_> = std::fs::read_dir(&place).expect("it is there").collect();
            assert_eq!(files.len(), usize::from(number < 2), "{rest}: {files:?}");
        }
    }

    #[test]
    fn a_file_that_may_not_be_written_is_refused_at_the_start() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let lab = Lab::new(Offload::On);
        let stats = lab.path().join("http.stats");
        std::os::unix::fs::symlink("/etc/passwd", &stats).expect("a link");
        let mut command = lab.command(End::Client, crate::httplines());
        let args = ["-q", "-i", CLIENT_IFACE, "-o", "http.jsonl"];
        let output = command.args(args).current_dir(lab.path()).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("cannot write http.stats: it is a symbolic link"), "{told}");
        let args = ["-q", "-i", CLIENT_IFACE, "-o", "x.stats"];
        let mut command = lab.command(End::Client, crate::httplines());
        let output = command.args(args).current_dir(lab.path()).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("the name of the output (-o) ends with .stats"), "{told}");
    }
}
