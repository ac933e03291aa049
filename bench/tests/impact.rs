//! `httplines-bench impact`: a load runs in turns without and with a capture, and what went wrong
//! is said. Nothing here depends on speed.

mod root {
    use crate::support::lab::{self, CLIENT_IFACE, End, Lab, Offload, SERVER};
    use crate::support::skip;
    use serde_json::Value;
    use std::fs;
    use std::path::Path;
    use std::process::{Child, Command, Output, Stdio};

    /// `httplines-bench impact` at the client's end. Its temporary files go to `tmp` in the lab.
    fn impact(lab: &Lab, args: &[&str]) -> Command {
        let mut command = lab.command(End::Client, crate::bench_path());
        let tmp = lab.path().join("tmp");
        fs::create_dir_all(&tmp).expect("a directory");
        command.env("TMPDIR", tmp).args(["impact", "--httplines", crate::httplines()]).args(args);
        command
    }

    fn report(output: &Output) -> Value {
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{printed}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// Its error, which ends it with this exit code.
    fn failure(output: &Output, code: i32) -> String {
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(output.stdout.is_empty(), "{printed}");
        printed
    }

    fn assert_left_nothing(lab: &Lab) {
        let left: Vec<_> = fs::read_dir(lab.path().join("tmp")).expect("it is there").collect();
        assert!(left.is_empty(), "{left:?}");
        let sockets = lab.command(End::Client, "cat").arg("/proc/net/packet").output();
        let sockets = String::from_utf8(sockets.expect("cat runs").stdout).expect("text");
        assert_eq!(sockets.lines().count(), 1, "only the heading: {sockets}");
    }

    fn quantity<'a>(report: &'a Value, name: &str) -> &'a Value {
        let rows = report["quantities"].as_array().expect("a list");
        rows.iter().find(|row| row["name"] == name).unwrap_or(&Value::Null)
    }

    /// wrk against nginx: all of its figures are there on both sides, the capture found the
    /// requests, and nothing is left behind.
    #[test]
    fn a_real_load_is_measured_on_both_sides() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let url = format!("http://{}:80/small", SERVER[0]);
        let load = ["--", "wrk", "--latency", "-t1", "-c4", "-d1s", &url];
        let args = [&["-i", CLIENT_IFACE, "--rounds", "2", "--json"][..], &load].concat();
        let report = report(&impact(&lab, &args).output().expect("it runs"));
        for name in
            ["requests_per_s", "bits_per_s", "p50_ns", "p99_ns", "duration_ns", "load_cpu_ns"]
        {
            for side in ["without", "with"] {
                let median = quantity(&report, name)[side]["median"].as_f64();
                assert!(median.is_some_and(|median| median > 0.0), "{name} {side}: {report}");
            }
            assert!(quantity(&report, name)["is_noise"].is_boolean(), "{name}: {report}");
        }
        let capture = quantity(&report, "capture_cpu_ns");
        assert!(capture["with"]["min"].as_f64() > Some(0.0) && capture["without"].is_null());
        let rounds = report["rounds"].as_array().expect("a list");
        assert_eq!(rounds.len(), 2);
        // Each request is a line, and has at least a packet; wrk counts no requests that it left
        // unanswered at its end.
        let lines = report["capture"]["lines_written"].as_u64().expect("a number");
        let requests: f64 = rounds.iter().map(|round| requests(&round["with"])).sum();
        assert!(lines as f64 > 0.9 * requests && requests > 0.0, "{requests}: {report}");
        assert_left_nothing(&lab);
    }

    fn requests(run: &Value) -> f64 {
        let rate = run["figures"]["requests_per_s"].as_f64().expect("a rate");
        // wrk divides by its own duration, which is shorter.
        rate * run["duration_ns"].as_f64().expect("a time").min(1e9) / 1e9
    }

    /// The load sees in which runs somebody captures: a packet socket and the heading.
    #[test]
    fn the_order_alternates_and_other_loads_have_time_and_cpu() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let lab = Lab::new(Offload::On);
        let seen = lab.path().join("seen");
        let look = format!("wc -l </proc/net/packet >>{}", seen.display());
        let args = ["-i", CLIENT_IFACE, "-n3", "--receiver", "httplines --shards 1"];
        let output = impact(&lab, &args).args(["--", "sh", "-c", &look]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let seen = fs::read_to_string(seen).expect("the load ran");
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["1", "2", "2", "1", "1", "2"]);
        let text = String::from_utf8(output.stdout).expect("text");
        for part in ["duration, s", "CPU: load, s", "CPU: machine, s", "only time and CPU count"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains(&format!("NOTHING: does the load use {CLIENT_IFACE}?")), "{text}");
        assert!(!text.contains("requests/s"), "{text}");
        assert_left_nothing(&lab);
    }

    #[test]
    fn any_command_can_capture() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let kept = lab.path().join("kept.pcap");
        let tcpdump = format!(
            "trap : INT; \
             tcpdump -i {{iface}} -B 32768 --immediate-mode -U -Z root -w {{dir}}/all.pcap; \
             cp {{dir}}/all.pcap {}",
            kept.display()
        );
        let url = format!("http://{}/small", SERVER[0]);
        let args = ["-i", CLIENT_IFACE, "-n1", "--drain-s", "0.2", "--json"];
        let mut command = impact(&lab, &args);
        command.args(["--receiver", &tcpdump, "--", "curl", "-sS", &url]);
        let report = report(&command.output().expect("it runs"));
        assert!(report["capture"].is_null(), "{report}");
        assert!(quantity(&report, "capture_cpu_ns")["with"]["median"].is_number(), "{report}");
        let captured = fs::read(kept).expect("tcpdump ended, and the file was copied");
        assert!(captured.windows(10).any(|part| part == b"GET /small"));
        assert_left_nothing(&lab);
    }

    #[test]
    fn a_load_or_a_capture_that_fails_is_said() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let lab = Lab::new(Offload::On);
        let run = |args: &[&str]| impact(&lab, args).output().expect("it runs");
        let broken = ["-i", CLIENT_IFACE, "--", "sh", "-c", "echo cannot connect >&2; exit 7"];
        let printed = failure(&run(&broken), 1);
        assert!(printed.contains("round 1 of 5, without the capture"), "{printed}");
        assert!(printed.contains("exit status: 7") && printed.contains("  cannot connect"));
        // The second run, that with the capture, fails.
        let once = lab.path().join("once");
        let once = format!("mkdir {}", once.display());
        let printed = failure(&run(&["-i", CLIENT_IFACE, "--", "sh", "-c", &once]), 1);
        assert!(printed.contains("round 1 of 5, with the capture"), "{printed}");
        let printed = failure(&run(&["-i", "nosuch0", "--", "true"]), 1);
        assert!(printed.contains("ended before it began") && printed.contains("nosuch0"));
        let one = "tcpdump -i {iface} -c 1 --immediate-mode -w {dir}/out tcp";
        let args = ["-i", CLIENT_IFACE, "--receiver", one, "--drain-s", "0.1", "--"];
        // tcpdump ends after a packet, and the load waits for that.
        let ping = format!(
            "while [ $(wc -l </proc/net/packet) = 2 ]; do echo >/dev/tcp/{}/9; done; true",
            SERVER[0]
        );
        let printed = failure(&run(&[&args[..], &["bash", "-c", &ping]].concat()), 1);
        assert!(printed.contains("the capture ended by itself"), "{printed}");
        assert_left_nothing(&lab);
        assert!(failure(&run(&["--", "true"]), 2).contains("-i IFACE"));
        assert!(failure(&run(&["-i", CLIENT_IFACE]), 2).contains("<LOAD>"));
    }

    #[test]
    fn an_interrupted_load_is_ended_with_its_children() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let lab = Lab::new(Offload::On);
        let started = lab.path().join("started");
        let wait = format!("sleep 600 & echo $$ $! >{}; wait", started.display());
        let mut command = impact(&lab, &["-i", CLIENT_IFACE, "--", "sh", "-c", &wait]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let bench = Guard(Some(command.spawn().expect("it starts")));
        let ids = || fs::read_to_string(&started).unwrap_or_default();
        lab::wait_until("the load runs", || ids().ends_with('\n'));
        let output = bench.interrupt();
        assert!(failure(&output, 1).contains("interrupted"));
        for id in ids().split_whitespace() {
            // The child of the load is reaped by init, some time.
            let is_gone = || {
                let stat = fs::read_to_string(Path::new("/proc").join(id).join("stat"));
                stat.map_or(true, |stat| stat.contains(") Z "))
            };
            lab::wait_until("the load has ended", is_gone);
        }
        assert_left_nothing(&lab);
    }

    /// A child that is killed if a test fails.
    struct Guard(Option<Child>);

    impl Guard {
        fn interrupt(mut self) -> Output {
            let child = self.0.take().expect("it runs");
            lab::run(Command::new("kill").args(["-INT", &child.id().to_string()]));
            child.wait_with_output().expect("a child of ours")
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            if let Some(child) = &mut self.0 {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
