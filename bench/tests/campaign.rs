//! `httplines-bench veth` and `compare`: their output is consistent, and is what was measured.
//! Nothing here depends on speed: on a busy machine every rate may be 0.

use crate::bench;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// Each rate is compared with the null reader's of the same round, and the null reader's own
/// variation is shown.
#[test]
fn rates_are_told_beside_the_null_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = results([80.0, 100.0, 120.0], [500.0, 510.0, 520.0], "6.1");
    let mut null = run["searches"][0].clone();
    null["receiver"] = json!("null");
    null["rounds"] = json!([100.0, 200.0, 160.0]);
    null["ndr"] = json!({"rate": spread([100.0, 160.0, 200.0]), "limit": ["generator"]});
    run["searches"].as_array_mut().expect("a list").push(null);
    let path = folder.path().join("run").display().to_string();
    std::fs::write(&path, run.to_string()).expect("enough disk space");
    let output = bench(&["veth", "--from", &path]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    for words in ["100 (80 to 120)", "0.75 (0.50 to 0.80)", "\u{2265} 160 (100 to 200)", "by 100%"]
    {
        assert!(printed.contains(words), "{words:?} is not in {printed}");
    }
    assert!(
        printed.contains("httplines takes 100 frames a second of \u{201c}small\u{201d}"),
        "{printed}"
    );
    assert!(printed.lines().all(|line| line.chars().count() <= 110), "{printed}");
}

fn spread(values: [f64; 3]) -> Value {
    json!({"min": values[0], "median": values[1], "max": values[2]})
}

/// What `veth --json` could have written, with these rates.
fn results(rates: [f64; 3], costs: [f64; 3], kernel: &str) -> Value {
    let highest = json!({"rate": spread(rates), "limit": ["ring"]});
    let frame = json!({"kernel_ns": 1.0, "filter_ns": 1.0, "workers_ns": 1.0, "writer_ns": 1.0,
        "other_ns": 1.0});
    json!({
        "machine": {"version": "1", "commit": null, "kernel": kernel, "cpu": "x", "cpu_count": 2,
            "memory_bytes": 1},
        "parameters": {"seed": 1, "short_s": 0.1, "long_s": 1.0, "repeats": 3, "resolution": 0.02,
            "retire_timeout_ms": 10, "generator_cpu": 0, "receiver_cpu": 1, "arguments": [],
            "features": {}},
        "begun_s": 1, "seconds": 1.0, "latencies": [], "allocations_per_exchange": {},
        "searches": [{"workload": "small", "receiver": "httplines", "command": null,
            "rounds": rates, "ndr": highest, "pdr": highest, "frame_bytes": 100.0,
            "exchanges_per_frame": 0.5,
            "points": []}],
        "costs": [{"workload": "small", "variant": "default", "rate": 1.0, "frame": frame,
            "total_ns": spread(costs), "ring_frames": 1.0, "ring_bytes": 1.0, "not_right": 0.0,
            "memory_bytes_max": 1}],
    })
}

#[test]
fn a_change_is_told_from_noise() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, results: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, results.to_string()).expect("enough disk space");
        path.display().to_string()
    };
    let old = file("old", &results([90.0, 100.0, 110.0], [500.0, 510.0, 520.0], "6.1"));
    for (new, code, words) in [
        (results([95.0, 99.0, 120.0], [490.0, 500.0, 501.0], "6.1"), 0, vec!["within the noise"]),
        (results([111.0, 120.0, 130.0], [400.0, 410.0, 420.0], "6.1"), 0, vec!["better"]),
        (results([40.0, 50.0, 60.0], [500.0, 510.0, 520.0], "6.1"), 1, vec!["0.500x  WORSE"]),
        (
            results([90.0, 100.0, 110.0], [700.0, 710.0, 720.0], "6.2"),
            1,
            vec!["1.392x  WORSE", "not the same kernel: 6.1, now 6.2"],
        ),
    ] {
        let output = bench(&["compare", &old, &file("new", &new)]);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{printed}");
        for words in words {
            assert!(printed.contains(words), "{words:?} is not in {printed}");
        }
        assert!(code == 1 || !printed.contains("WORSE"), "{printed}");
    }
    // The reader closes the pipe after the beginning.
    let mut veth = Command::new(crate::bench_path());
    veth.args(["veth", "--from", &old]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = veth.spawn().expect("httplines-bench starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    let no_results = file("none", &json!({"machine": 1}));
    for (path, sentence) in [("/nowhere", "cannot read /nowhere"), (&no_results, "is not what")] {
        let output = bench(&["compare", &old, path]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains(sentence) && printed.lines().count() == 1, "{printed}");
    }
}

/// Needs root, for network namespaces; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::needs_root;
    use crate::support::lab;
    use std::io::{BufRead, BufReader};

    fn text_of(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn number(value: &Value) -> f64 {
        value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
    }

    /// The rate without loss was tried, and the trial had no loss.
    fn assert_rates_were_measured(searched: &Value) {
        let rate = &searched["ndr"]["rate"];
        let points = searched["points"].as_array().expect("a list");
        let is_whole = |point: &&Value| number(&point["loss"]) == 0.0 && point["is_late"] == false;
        for rate in [&rate["min"], &rate["max"]] {
            // The requested rate, or the rate that the generator reached at full speed.
            let asked = |point: &&Value| {
                let asked = point["asked"].as_f64().unwrap_or(number(&point["rate"]));
                asked.floor() == number(rate).floor()
            };
            let is_confirmed = points.iter().filter(is_whole).any(|point| asked(&point));
            assert!(number(rate) == 0.0 || is_confirmed, "{searched}");
        }
        let rounds = searched["rounds"].as_array().expect("a list");
        assert!(rounds.len() == 2 || rounds == &[json!(0.0)], "{searched}");
        assert!(number(&searched["pdr"]["rate"]["max"]) >= 0.0, "{searched}");
    }

    #[test]
    fn what_is_written_is_what_was_measured() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        // Finds every second request, by its number, however slowly they arrive.
        let half = "exec 3>{dir}/half; exec tcpdump -i {iface} -B 65536 -A -l -Z root tcp port 80 \
                    | awk '/\\/qq?\\/.......[02468ace]/' >&3";
        let output = bench(&[
            "veth",
            "-w",
            "small",
            "--repeats",
            "2",
            "--drain-s",
            "0.2",
            "--short-s",
            "0.02",
            "--long-s",
            "0.05",
            "--peer",
            half,
            "--json",
            &path("json"),
            "--html",
            &path("html"),
            "--pictures",
            &path("pictures"),
            "--",
            "-B",
            "16384",
        ]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{printed}");
        let results: Value = serde_json::from_str(&text_of(&folder.path().join("json"))).unwrap();
        let searches = results["searches"].as_array().expect("a list");
        let names: Vec<_> = searches.iter().map(|it| (&it["workload"], &it["receiver"])).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        for (name, receiver) in names.iter().zip(["httplines", "null"]) {
            assert_eq!(*name, (&json!("small"), &json!(receiver)));
        }
        searches.iter().for_each(assert_rates_were_measured);
        // A receiver that loses half has no rate without loss.
        let peer = &searches[2];
        assert_eq!(number(&peer["ndr"]["rate"]["max"]), 0.0, "{peer}");
        for cost in results["costs"].as_array().expect("a list") {
            assert!(number(&cost["frame"]["filter_ns"]) > 0.0, "{cost}");
            assert!(number(&cost["total_ns"]["min"]) > 0.0, "{cost}");
        }
        let allocated = &results["allocations_per_exchange"];
        assert!(number(&allocated["small"]) < 1.0, "{allocated}");
        assert_eq!(results["parameters"]["arguments"], json!(["-B", "16384"]));
        assert_page(folder.path(), &String::from_utf8_lossy(&output.stdout));

        // The written results give the same report again.
        let again = path("again");
        let output_again = bench(&["veth", "--from", &path("json"), "--html", &again]);
        assert_eq!(output_again.status.code(), Some(0));
        assert_eq!(output_again.stdout, output.stdout);
        assert_eq!(text_of(Path::new(&again)), text_of(&folder.path().join("html")));

        // A run compared with itself is the same.
        let output = bench(&["compare", &path("json"), &path("json")]);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{printed}");
    }

    /// One self-contained page, with all charts in it; each is a file, too.
    fn assert_page(folder: &Path, table: &str) {
        let page = text_of(&folder.join("html"));
        for outside in ["<script", "<link", "<img", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        let xmlns = "http://www.w3.org/2000/svg";
        assert_eq!(
            page.matches("http").count(),
            page.matches(xmlns).count()
                + page.matches("httplines").count()
                + page.matches("httpry").count()
        );
        assert!(page.contains("frames/s without loss") && table.contains("frames/s without loss"));
        let pictures: Vec<_> =
            std::fs::read_dir(folder.join("pictures")).expect("a folder").collect();
        assert!(pictures.len() >= 3, "{pictures:?}");
        for picture in pictures {
            let svg = text_of(&picture.expect("an entry").path());
            assert!(page.contains(&svg), "it is not on the page: {svg}");
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        }
    }

    #[test]
    fn what_cannot_be_done_is_told_in_a_sentence() {
        needs_root!();
        let mut nothing_installed = Command::new(crate::bench_path());
        nothing_installed.args(["veth", "--peer", "tcpflow"]).env("PATH", "/nowhere");
        let output = nothing_installed.output().expect("httplines-bench starts");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), printed.lines().count()), (Some(1), 1), "{printed}");
        assert!(printed.contains("tcpflow is not installed"), "{printed}");
        for (args, code, sentence) in [
            (&["--peer", "nobody"][..], 1, "neither a program that is known nor a command"),
            (&["--json", "/nowhere/file"], 1, "cannot write /nowhere/file"),
            (&["--httplines", "/nowhere"], 1, "cannot start /nowhere"),
            (&["-w", "nothing"], 2, "possible values"),
        ] {
            let output = bench(&[&["veth"], args].concat());
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{printed}");
            assert!(printed.contains(sentence), "{printed}");
        }
    }

    /// An interruption halfway leaves no file, no process, and nothing in the temporary folder.
    #[test]
    fn an_interruption_leaves_nothing_behind() {
        needs_root!();
        for signal in ["INT", "TERM"] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name: &str| folder.path().join(name).display().to_string();
            let mut bench = Command::new(crate::bench_path());
            bench.args(["veth", "--quick", "--json", &path("json"), "--html", &path("html")]);
            // As short as trials can be: what is looked at is the end.
            bench.args(["--drain-s", "0.2", "--short-s", "0.02", "--long-s", "0.05"]);
            bench.args(["--pictures", &path("pictures")]).env("TMPDIR", folder.path());
            let mut child = bench.stderr(Stdio::piped()).spawn().expect("it starts");
            let mut printed = BufReader::new(child.stderr.take().expect("a pipe")).lines();
            let is_third = |line: &String| line.contains("bulk, rate of httplines");
            assert!(printed.by_ref().map_while(Result::ok).any(|line| is_third(&line)));
            lab::run(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]));
            let last: Vec<String> = printed.map_while(Result::ok).collect();
            assert_eq!(child.wait().expect("it ends").code(), Some(1), "{last:?}");
            assert_eq!(last, ["httplines-bench: interrupted"]);
            let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    #[test]
    fn without_the_right_it_says_so() {
        needs_root!();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all"]);
        command.args([crate::bench_path(), "veth", "--quick"]);
        let output = command.output().expect("setpriv(1) is there");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{printed}");
        assert_eq!(printed.lines().count(), 1, "{printed}");
        assert!(printed.contains("a trial needs root"), "{printed}");
    }
}
