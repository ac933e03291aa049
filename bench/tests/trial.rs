//! `httplines-bench trial`: what it sends is found to the exchange, and a planted defect is blamed
//! on its place. Nothing here depends on speed: only the generator may be late.

mod root {
    use crate::needs_root;
    use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
    use crate::support::confine::forbid;
    use crate::support::conversation::Conversation;
    use crate::support::{lab, skip};
    use httplines::capture::live::LiveCapture;
    use httplines::config::{Config, EmitConfig, Input, LineFormat, Output};
    use httplines::ids::IfaceNames;
    use httplines::output::{Limits, Patience, Policy, RecordWriter, Writer, open_sinks};
    use httplines::pipeline::Partition;
    use httplines::record::{Event, Format, JsonFormat, Wants};
    use httplines::shard::{Shard, StopSignal};
    use httplines::totals::Totals;
    use serde_json::Value;
    use signal_hook::consts::SIGINT;
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    const WORKLOADS: [&str; 13] = [
        "small",
        "h2",
        "grpc",
        "websocket",
        "pages",
        "bulk",
        "superpackets",
        "noise",
        "connections",
        "imix",
        "tunnel",
        "hostile",
        "mixed",
    ];
    /// The arguments of the receiver that simulates a lossy engine: `interface output`.
    const LOSSY: &str = "HTTPLINES_TRIAL_LOSSY";

    fn bench(args: &[&str]) -> Command {
        let mut command = Command::new(crate::bench_path());
        command.args(["trial", "--json"]).args(args).stdin(Stdio::null());
        command
    }

    /// The report of a trial, which need not be valid.
    fn trial(args: &[&str]) -> Value {
        let output = bench(args).output().expect("httplines-bench runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {printed}"));
        let is_valid = report["invalid"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(output.status.code(), Some(if is_valid { 0 } else { 1 }), "{printed}");
        report
    }

    fn number(report: &Value, path: &str) -> u64 {
        let value = report.pointer(path).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("{path} is no number in {report}"))
    }

    /// The places that are blamed, except for the generator, which a busy machine may slow down.
    fn blamed(report: &Value) -> Vec<&str> {
        let places = report["blamed"].as_array().expect("a list").iter();
        places.filter_map(Value::as_str).filter(|place| *place != "generator").collect()
    }

    /// Why the trial is not valid, except that the generator was late.
    fn doubts(report: &Value) -> Vec<&str> {
        let doubts = report["invalid"].as_array().expect("a list").iter();
        doubts.filter_map(Value::as_str).filter(|doubt| !doubt.starts_with("generator")).collect()
    }

    fn assert_all_right(report: &Value) {
        assert_eq!(doubts(report), [""; 0], "{report}");
        assert_eq!(blamed(report), [""; 0], "{report}");
        let sent = number(report, "/exchanges/sent");
        assert!(sent > 0 && number(report, "/exchanges/right") == sent, "{report}");
        assert_eq!(number(report, "/exchanges/extra"), 0, "{report}");
    }

    /// The common part of the scripts below. A signal ends a wait early.
    const RELAY: &str = r#"
        mkfifo "$folder/err"
        wait_ready() {
            exec 4<"$folder/err"
            while IFS= read -r ready <&4; do
                case $ready in *capturing*) return;; esac
            done
        }
        relay() {
            echo "$ready" >&2
            cat <&4 >&2 & local relay=$!
            wait $pid; status=$?
            while kill -0 $pid 2>/dev/null; do wait $pid; status=$?; done
            wait $relay
        }"#;

    /// A script in place of httplines. `$program` is the real one; `wait_ready` reads its standard
    /// error from the pipe `$folder/err` until it captures, and `relay` passes on its further
    /// output, to its end with its `status`.
    fn shim(folder: &Path, body: &str) -> String {
        let path = folder.join("shim");
        let program = crate::httplines();
        let text = format!(
            "#!/bin/bash\nset -u\nprogram={program}\nfolder={}\n\
             {RELAY}\n{body}\n",
            folder.display()
        );
        // Written by sh(1): a file that this process has open for writing, or a child that another
        // test is about to start, cannot be run (ETXTBSY).
        let write = "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\"";
        lab::run(Command::new("sh").args(["-c", write]).arg(&path).arg(text));
        path.display().to_string()
    }

    #[test]
    fn every_exchange_of_every_workload_is_found() {
        needs_root!();
        for workload in WORKLOADS {
            let report = trial(&["-w", workload, "-r", "20000", "-t", "0.1"]);
            assert_all_right(&report);
            // A line arrives after the frame that completes it.
            for delay in ["to_line", "from_timestamp"] {
                assert!(number(&report, &format!("/delay/{delay}/p50_ns")) > 0, "{report}");
            }
            let (sent, offered) = (number(&report, "/sent/frames"), "/totals/offered");
            assert!(sent >= 2000 && number(&report, offered) == sent, "{report}");
            let acks = number(&report, "/totals/body_acks");
            // So short a round of mixed traffic has none.
            let has_large_bodies = ["pages", "bulk"].contains(&workload);
            assert_eq!(acks > 0, has_large_bodies, "{workload}: {report}");
            if workload == "bulk" {
                // A body of 1 MB has 342 acknowledgements, one per two segments. The first and each
                // 23rd after it reach user space: 22 of them cover less than 64 KiB.
                let bodies = number(&report, "/exchanges/sent");
                assert_eq!(acks, (342 - 15) * bodies, "{report}");
            }
            let rejected = number(&report, "/totals/rejected") - acks;
            let is_rejected = ["noise", "hostile", "mixed"].contains(&workload);
            assert_eq!(rejected > 0, is_rejected, "{report}");
        }
    }

    /// It ran once per frame, and is found by name among other filters.
    #[test]
    fn the_filter_is_timed_where_that_is_asked_for() {
        needs_root!();
        let report = trial(&["-r", "20000", "-t", "0.1", "--time-filter"]);
        let filter_ns = number(&report, "/cpu/filter_ns");
        assert!(filter_ns > 10 * number(&report, "/sent/frames"), "{report}");
        assert!(trial(&["-r", "20000", "-t", "0.1"])["cpu"]["filter_ns"].is_null());
    }

    #[test]
    fn both_means_send_the_same() {
        needs_root!();
        let sent = ["kernel", "socket"].map(|means| {
            let report = trial(&["--means", means, "-r", "20000", "-t", "0.1", "--seed", "9"]);
            assert_all_right(&report);
            assert_eq!(report["setting"]["means"], means);
            ["/sent/frames", "/sent/bytes", "/exchanges/sent", "/totals/captured_bytes"]
                .map(|path| number(&report, path))
        });
        assert_eq!(sent[0], sent[1]);
    }

    #[test]
    fn without_a_rate_it_ends_with_a_round() {
        needs_root!();
        let report = trial(&["-t", "0.001", "--receiver", "null", "--", "-B", "262144"]);
        assert_eq!(doubts(&report), [""; 0], "{report}");
        let (sent, round) = (number(&report, "/sent/frames"), "/setting/round_frames");
        assert!(sent > 0 && sent % number(&report, round) == 0, "{report}");
    }

    #[test]
    fn the_null_reader_sees_what_the_filter_passes() {
        needs_root!();
        for (receiver, has_all) in [("null", false), ("null-unfiltered", true)] {
            let args = ["-w", "noise", "-r", "20000", "-t", "0.1", "--receiver", receiver];
            let report = trial(&args);
            assert_eq!((doubts(&report), blamed(&report)), (vec![], vec![]), "{report}");
            let (captured, sent) = ("/totals/captured", number(&report, "/sent/frames"));
            // Without the filter all TCP passes, but datagrams do not.
            assert_eq!(number(&report, captured) > sent / 2, has_all, "{report}");
        }
    }

    #[test]
    fn any_command_can_receive() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        // Its ring holds few frames, if they may be long.
        let tcpdump = "exec tcpdump -i {iface} -s 2000 -B 32768 --immediate-mode \
                       -w {dir}/all.pcap -U -Z root";
        let args = ["-r", "20000", "-t", "0.1", "--drain-s", "0.2", "--receiver", tcpdump];
        let report = trial(&args);
        let (sent, right) = (number(&report, "/exchanges/sent"), "/exchanges/right");
        assert!(sent > 0 && number(&report, right) == sent, "{report}");
    }

    /// IPv4, IPv6 and a VLAN in turn, each connection from another client.
    fn capture(segment_bytes: usize) -> Vec<u8> {
        let talk = |client: &str, server: &str, vlans: &[u16], target: &str| {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n".to_vec();
            response.resize(response.len() + 9000, b'x');
            let talk = Conversation::new(client, server);
            let mut talk = talk.segment_bytes(segment_bytes).vlans(vlans);
            talk.handshake().client(request.as_bytes()).server(&response).finish();
            talk.frames(0, 1000)
        };
        let frames: Vec<WrittenFrame> = [
            talk("10.0.0.1:4000", "10.0.0.2:80", &[], "/one"),
            talk("[fd00::1]:4000", "[fd00::2]:80", &[], "/two"),
            talk("10.0.0.1:4000", "10.0.0.2:80", &[7], "/three"),
        ]
        .concat();
        pcap(Order::Little, Unit::Nano, 1, &frames)
    }

    /// The contents of a capture are found as often as it is sent, and no round disturbs another.
    #[test]
    fn a_capture_is_sent_over_and_over() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file.pcap");
        let name = file.display().to_string();
        for (segment_bytes, means) in [(1460, "kernel"), (1460, "socket"), (8000, "socket")] {
            std::fs::write(&file, capture(segment_bytes)).expect("a file");
            let report = trial(&["--pcap", &name, "-r", "20000", "-t", "0.05", "--means", means]);
            assert_all_right(&report);
            let rounds = number(&report, "/sent/frames") / number(&report, "/setting/round_frames");
            assert!(rounds > 10, "{report}");
            assert_eq!(number(&report, "/exchanges/sent"), 3 * rounds, "{report}");
        }
    }

    #[test]
    fn a_generator_that_cannot_keep_its_pace_is_blamed() {
        needs_root!();
        // Ten nanoseconds per frame are too few for any machine.
        let report = trial(&["-r", "100000000", "-t", "0.0002"]);
        let doubts = report["invalid"].as_array().expect("a list");
        let words = doubts[0].as_str().expect("a sentence");
        assert!(words.starts_with("generator: ") && words.contains("100000000"), "{report}");
        assert_eq!(report["blamed"][0], "generator", "{report}");
    }

    /// The receiver's end of the wire is down.
    #[test]
    fn a_wire_that_is_cut_is_blamed() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let shim = shim(
            folder.path(),
            r#"
            "$program" "$@" 2>"$folder/err" & pid=$!
            wait_ready
            ip link set veth1 down
            trap : INT
            relay; exit $status"#,
        );
        let report =
            trial(&["-r", "20000", "-t", "0.1", "--means", "socket", "--httplines", &shim]);
        assert_eq!(doubts(&report), [""; 0], "{report}");
        assert_eq!(blamed(&report), ["veth"], "{report}");
        let sent = number(&report, "/sent/frames");
        assert_eq!(number(&report, "/lost/veth"), sent, "{report}");
    }

    /// The filter's table of sessions is too small, so it evicts some that continue.
    #[test]
    fn a_filter_that_forgets_is_blamed() {
        needs_root!();
        let args = ["-w", "pages", "-r", "100000", "-t", "0.2", "--", "--sessions", "64"];
        let report = trial(&args);
        assert_eq!(doubts(&report), [""; 0], "{report}");
        assert_eq!(blamed(&report), ["filter"], "{report}");
        let acks = number(&report, "/totals/body_acks");
        let rejected = number(&report, "/totals/rejected") - acks;
        assert_eq!(number(&report, "/lost/filter"), rejected, "{report}");
        assert!(number(&report, "/exchanges/damaged") > 0, "{report}");
    }

    /// The ring has 2 MiB, and is not read until everything was sent.
    #[test]
    fn a_ring_that_is_too_small_is_blamed() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let shim = shim(
            folder.path(),
            r#"
            "$program" "$@" 2>"$folder/err" & pid=$!
            wait_ready
            kill -STOP $pid
            trap 'kill -CONT $pid' INT
            relay; exit $status"#,
        );
        let args = ["-w", "bulk", "-r", "20000", "-t", "0.2", "--httplines", &shim];
        let report = trial(&[&args[..], &["--", "-B", "2048", "--shards", "1"]].concat());
        assert_eq!(doubts(&report), [""; 0], "{report}");
        assert_eq!(blamed(&report), ["ring"], "{report}");
        let captured = number(&report, "/totals/captured");
        let lost = number(&report, "/lost/ring");
        let acks = number(&report, "/totals/body_acks");
        assert_eq!(captured + lost + acks, number(&report, "/sent/frames"), "{report}");
    }

    /// The output is a pipe that is not read until everything was sent.
    #[test]
    fn a_writer_that_is_too_slow_is_blamed() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let shim = shim(
            folder.path(),
            r#"
            shift 2; output=$2; shift 2
            mkfifo "$folder/out"
            "$program" -i veth1 "$@" -o - >"$folder/out" 2>"$folder/err" & pid=$!
            exec 3<"$folder/out"
            wait_ready
            trap 'cat <&3 >"$output" & copy=$!' INT
            relay; wait $copy; exit $status"#,
        );
        // Lines of 30 MB; the queue holds 64 batches of 256 KiB, and the writer has taken 32.
        let args = ["-r", "180000", "-t", "0.5", "--httplines", &shim, "--", "--all-headers"];
        let more = ["--shards", "1", "-B", "262144"];
        let report = trial(&[&args[..], &more].concat());
        assert_eq!(doubts(&report), [""; 0], "{report}");
        assert_eq!(blamed(&report), ["output"], "{report}");
        let missing = number(&report, "/exchanges/missing");
        assert!(missing > 0 && number(&report, "/lost/output") == missing, "{report}");
    }

    /// A filter between program and file, which drops one line in a hundred.
    #[test]
    fn lines_that_vanish_behind_the_writer_are_blamed_on_the_output() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let shim = shim(
            folder.path(),
            r#"
            shift 2; output=$2; shift 2
            trap : INT
            "$program" -i veth1 "$@" -o - | (trap '' INT; awk 'NR % 100' >"$output")
            exit ${PIPESTATUS[0]}"#,
        );
        let report = trial(&["-r", "20000", "-t", "0.2", "--httplines", &shim]);
        assert_eq!(doubts(&report), [""; 0], "{report}");
        assert_eq!(blamed(&report), ["output"], "{report}");
        let lost = number(&report, "/exchanges/sent") / 100;
        assert_eq!(number(&report, "/lost/output"), lost, "{report}");
    }

    /// An engine that omits one exchange in ten thousand, and otherwise is httplines.
    #[test]
    fn an_engine_that_drops_one_exchange_in_ten_thousand_is_blamed() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let this = std::env::current_exe().expect("this program");
        let body = format!(
            "export {LOSSY}=\"$2 $4\"
            exec {} --ignored --exact trial::root::lossy_engine --nocapture",
            this.display()
        );
        let shim = shim(folder.path(), &body);
        let report = trial(&["-r", "60000", "-t", "0.5", "--httplines", &shim]);
        assert_eq!(doubts(&report), [""; 0], "{report}");
        assert_eq!(blamed(&report), ["engine"], "{report}");
        assert_eq!(number(&report, "/exchanges/missing"), 1, "{report}");
        assert_eq!(number(&report, "/lost/engine"), 1, "{report}");
    }

    /// Not a test but that engine, which the test above runs.
    #[test]
    #[ignore = "is an engine for another test"]
    fn lossy_engine() {
        let words = std::env::var(LOSSY).expect("run by the test above");
        let (interface, output) = words.split_once(' ').expect("interface and output");
        run_lossy(interface, PathBuf::from(output));
        std::process::exit(0);
    }

    #[derive(Debug)]
    struct Lossy(JsonFormat, u64);

    impl Format for Lossy {
        fn wants(&self) -> Wants {
            self.0.wants()
        }

        fn line(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
            self.1 += 1;
            if !self.1.is_multiple_of(10_000) {
                self.0.line(event, out);
            }
        }
    }

    fn run_lossy(interface: &str, output: PathBuf) {
        let interfaces = [interface.to_string()];
        let mut config = Config::new(Input::Live(interfaces.to_vec()));
        let output = Output::File(output);
        config.emit = EmitConfig { output, format: LineFormat::Json, ..config.emit };
        let names = IfaceNames::default();
        let (mut control, sources) =
            LiveCapture::open(&config.capture, &config.decode, &interfaces, 1, &names)
                .expect("it opens");
        let outputs = open_sinks(&config.emit, 1, Policy::Drop, &Patience::default())
            .expect("the output opens");
        let limits = Limits::from(&config.emit);
        let (senders, writer) =
            Writer::start_outputs(outputs, 1, limits, Policy::Drop).expect("the writer starts");
        let format = Box::new(Lossy(JsonFormat::new(&config.emit, names), 0));
        let (source, sender) = sources.into_iter().zip(senders).next().expect("one shard");
        let records = RecordWriter::new(format, sender, None, true);
        let shard = Shard::new(&config, source, Partition::All, records);
        let (orders, frames) = (Arc::new(StopSignal::default()), Arc::new(AtomicU64::new(0)));
        let (ordered, seen) = (orders.clone(), frames.clone());
        let thread = std::thread::spawn(move || {
            shard.run(&ordered, |line| seen.store(line.frame_count(), Ordering::Relaxed))
        });
        control.open_gate();
        let mut signals = signal_hook::iterator::Signals::new([SIGINT]).expect("signals");
        eprintln!("httplines: capturing on {interface}");
        signals.forever().next();
        control.shut_gate();
        lab::wait_until("the ring is drained", || {
            let totals = control.totals().expect("totals");
            totals.packets() == frames.load(Ordering::Relaxed) + totals.drops()
        });
        orders.drain();
        let shards = thread.join().expect("the shard ends").0;
        let live = control.totals().ok().cloned();
        let writer = writer.finish().0;
        let elapsed = Duration::ZERO;
        eprint!("{}", Totals { shards, live, writer, elapsed, is_running: false });
    }

    /// A frame that the generator did not send is on the wire: an ARP request from the receiver.
    #[test]
    fn a_trial_that_does_not_add_up_is_not_valid() {
        needs_root!();
        let folder = tempfile::tempdir().expect("a folder");
        let shim = shim(
            folder.path(),
            r#"
            "$program" "$@" 2>"$folder/err" & pid=$!
            wait_ready
            ip address add 192.0.2.1/24 dev veth1
            echo >/dev/udp/192.0.2.9/9
            trap : INT
            relay; exit $status"#,
        );
        let report = trial(&["-r", "20000", "-t", "0.1", "--httplines", &shim]);
        let doubts = doubts(&report);
        assert_eq!(doubts.len(), 1, "{report}");
        assert!(doubts[0].starts_with("sums: sent "), "{report}");
    }

    /// The receiver's processes, whose arguments contain `folder`.
    fn processes_of(folder: &Path) -> usize {
        let name = folder.display().to_string();
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let is_ours = |entry: &std::fs::DirEntry| {
            std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name))
        };
        entries.filter(is_ours).count()
    }

    fn start_and_await_sending(folder: &Path) -> Child {
        let keep = folder.join("kept").display().to_string();
        let mut bench = bench(&["-r", "1000", "-t", "60", "--keep", &keep]);
        let mut child =
            bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let is_sending = |line: &std::io::Result<String>| {
            line.as_ref().is_ok_and(|line| line.contains("sending"))
        };
        assert!(stderr.lines().any(|line| is_sending(&line)), "it never sent");
        child
    }

    #[test]
    fn an_interruption_ends_it_and_takes_all_away() {
        needs_root!();
        for (signal, code) in [("INT", Some(1)), ("KILL", None)] {
            let folder = tempfile::tempdir().expect("a folder");
            let child = start_and_await_sending(folder.path());
            let pid = child.id().to_string();
            lab::run(Command::new("kill").args([&format!("-{signal}"), &pid]));
            let output = child.wait_with_output().expect("it ends");
            assert_eq!(output.status.code(), code, "{signal}");
            if code.is_some() {
                let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
                assert!(report["invalid"].to_string().contains("interrupted"), "{report}");
            }
            lab::wait_until("its receiver is gone", || processes_of(folder.path()) == 0);
        }
    }

    #[test]
    fn without_the_right_it_says_so() {
        if !lab::is_root() {
            skip!("needs root, to give up what root may do");
        }
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all"]);
        let output = command.arg(crate::bench_path()).arg("trial").output();
        let output = output.expect("setpriv(1) is there");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{printed}");
        assert!(printed.contains("a trial needs root"), "{printed}");
    }

    /// The kernel's age is not blamed for what a sandbox forbids, and the socket takes over only if
    /// nobody asked for the kernel's means.
    #[test]
    fn why_the_generator_cannot_be_loaded_is_said() {
        needs_root!();
        for (args, says) in
            [(&["--means", "kernel"][..], ""), (&[], "; frames come from a packet socket")]
        {
            let mut command = bench(args);
            forbid(command.args(["--receiver", "exit 3"]), &[libc::SYS_bpf], libc::EPERM);
            let output = command.output().expect("it runs");
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{printed}");
            let line = printed.lines().next().expect("a line");
            assert!(
                line.starts_with("httplines-bench: the kernel rejects the generator: "),
                "{line}"
            );
            let cause = format!("Operation not permitted (os error 1){says}");
            assert!(line.ends_with(&cause), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_told_in_a_sentence() {
        needs_root!();
        for (args, code, sentence) in [
            (&["-w", "superpackets", "--means", "kernel"][..], 1, "make no superpackets"),
            (&["--httplines", "/nowhere"], 1, "cannot start /nowhere"),
            (&["--receiver", "echo no >&2; exit 3"], 1, "ended before it began"),
            (&["--", "--no-such-flag"], 1, "--no-such-flag"),
            (&["--pcap", "Cargo.toml"], 1, "is not a capture"),
            (&["--pcap", "Cargo.toml", "-w", "small"], 2, "cannot be used with"),
            (&["-t", "0"], 2, "more than 0"),
            (&["-w", "nothing"], 2, "possible values"),
        ] {
            let output = bench(args).output().expect("it runs");
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{args:?}: {printed}");
            assert!(printed.contains(sentence), "{args:?}: {printed}");
        }
    }
}
