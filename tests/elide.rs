//! Bodies that stay in the kernel: real servers and clients on a veth pair, with elision and
//! without, and what a capture file of the same traffic says.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use crate::support::lab::{self, End, Lab, Offload, Running, SERVER, SERVER_IFACE};
    use crate::support::{records, skip};
    use serde_json::Value;
    use std::io::Write;
    use std::process::Stdio;

    /// All traffic fits into one ring, so that nothing is dropped, however slow the machine is.
    const BIG_BYTES: u64 = 8 << 20;
    /// Empty messages of gRPC-Web: these are counted, so they are never cut off.
    const CALL_BYTES: usize = 1 << 20;
    /// Bytes sent at a time until the filter is known to have its hint.
    const PIECE_BYTES: u64 = 1 << 10;
    /// Times depend on a capture's own timestamps.
    const TIMES: [&str; 6] =
        ["ts", "connect_ns", "request_ns", "ttfb_ns", "response_ns", "duration_ns"];

    /// The words after the number of elided bytes in the totals.
    const LEFT_OUT: &str = " bytes of bodies left in the kernel";

    /// The number in front of `words` in the newest totals, or 0.
    fn number_of(totals: &str, words: &str) -> u64 {
        let before = totals.rsplit_once(words).map(|(before, _)| before);
        let number = before.and_then(|before| before.split_whitespace().next_back());
        number.map_or(0, |number| number.parse().expect("a number"))
    }

    /// Makes downloads and uploads of all kinds. Returns the number of requests.
    fn make_traffic(lab: &Lab) -> usize {
        let big = lab.path().join("www/big");
        std::fs::write(&big, vec![b'x'; BIG_BYTES as usize]).expect("a file to serve");
        lab.curl(&["/big", "/64k", "/big", "/small/between", "/big"]);
        lab.curl(&["--head", "/big"]);
        lab.curl(&["-r", "1000-6000000", "/big"]);
        lab.curl(&[&format!("http://[{}]/big", SERVER[1])]);
        let form = format!("@{}", big.display());
        lab.curl(&["-H", "Expect:", "--data-binary", &form, "/small/upload"]);
        lab.curl(&["-H", "Transfer-Encoding: chunked", "--data-binary", &form, "/small/chunked"]);
        let call = lab.path().join("call");
        std::fs::write(&call, vec![0; CALL_BYTES]).expect("a file to send");
        let call = format!("@{}", call.display());
        let kind = "Content-Type: application/grpc-web";
        lab.curl(&["-H", "Expect:", "-H", kind, "--data-binary", &call, "/small/call"]);
        let broken = format!("curl -s http://{}/big | head -c 3000000 | wc -c", SERVER[0]);
        lab::run(lab.command(End::Client, "bash").args(["-c", &broken]));
        12
    }

    /// An upload that the filter knows only from the hints of each of `all`. Only its beginning is
    /// sent until they have given them. Returns how many bytes follow.
    fn upload_told(lab: &Lab, all: &mut [&mut Running]) -> u64 {
        let left_out = |running: &mut Running| {
            running.signal("USR1");
            running.await_stderr("  written ");
            number_of(running.stderr(), LEFT_OUT)
        };
        let to_server =
            format!("exec 3<> /dev/tcp/{}/80; cat >&3; head -n 1 <&3 > /dev/null", SERVER[0]);
        let mut client = lab.command(End::Client, "bash");
        let mut client = client.args(["-c", &to_server]).stdin(Stdio::piped()).spawn();
        let client = client.as_mut().expect("bash is there");
        let mut pipe = client.stdin.take().expect("a pipe");
        let mut send = |bytes: &[u8]| pipe.write_all(bytes).expect("the client takes it");
        let length = format!("Content-Length: {BIG_BYTES}");
        send(format!("POST /small/told HTTP/1.1\r\nHost: told\r\n{length}\r\n\r\n").as_bytes());
        let mut rest_bytes = BIG_BYTES;
        for running in all {
            let before = left_out(running);
            lab::wait_until("the filter is told", || {
                rest_bytes -= PIECE_BYTES;
                send(&[b'x'; PIECE_BYTES as usize]);
                left_out(running) > before
            });
        }
        send(&vec![b'x'; rest_bytes as usize]);
        drop(pipe);
        assert!(client.wait().expect("a child of ours").success());
        rest_bytes
    }

    fn elided_or_not(offload: Offload, frame_bytes: u64) {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(offload);
        lab.start_nginx();
        let start = |name: &str, more: &[&str]| {
            let args = ["-i", SERVER_IFACE, "-o", name, "-B", "262144"];
            lab.start_httplines(End::Server, &[&args[..], more].concat())
        };
        let mut elided = start("elided.jsonl", &["--retire-timeout-ms", "1"]);
        let mut small =
            start("small.jsonl", &["--retire-timeout-ms", "1", "--elide-min-bytes", "1"]);
        let whole = start("whole.jsonl", &["--no-elide"]);
        let (tcpdump, capture) = lab.start_tcpdump();
        let request_count = make_traffic(&lab) + 1;
        let told_bytes = upload_told(&lab, &mut [&mut elided, &mut small]);
        lab::wait_until("tcpdump has read all", || {
            let all = lab.replay_so_far(&capture);
            all.iter()
                .filter(|record| record["status"].is_u64() && record["end_reason"] != "exit")
                .count()
                == request_count
        });
        tcpdump.stop();
        let ended = [elided, small, whole].map(|running| running.stop());

        let comparable = |all: Vec<Value>| {
            records::without(records::without_crossings(all), &[&TIMES[..], &["iface"]].concat())
        };
        let of_file = comparable(lab.replay(&capture, &[]));
        assert_eq!(of_file.len(), request_count);
        let calls = of_file.iter().filter_map(|record| record["grpc_request_messages"].as_u64());
        assert_eq!(calls.collect::<Vec<_>>(), [CALL_BYTES as u64 / 5]);
        for (name, ended) in ["elided.jsonl", "small.jsonl", "whole.jsonl"].iter().zip(ended) {
            let live = comparable(ended.records(&lab.path().join(name)));
            records::assert_same(&format!("{name} and the file"), &live, &of_file);
            let totals = &ended.stderr;
            assert_eq!(number_of(totals, " dropped by kernel"), 0, "{totals}");
            let bytes = number_of(totals, LEFT_OUT);
            let frames = number_of(totals, " frames cut to their headers");
            if *name == "whole.jsonl" {
                assert_eq!((bytes, frames), (0, 0), "{totals}");
            } else {
                // The filter has found these itself: those of the first connection until a small
                // one comes, those of the range and of IPv6, and one that is aborted. Of these, and
                // of those it surely has a hint for, only ends of segments reach user space. Of
                // others, everything before the shard has parsed the head and given a hint reaches
                // it, too.
                let found = number_of(totals, " ends of bodies found by the filter");
                let sure_bytes = 3 * BIG_BYTES + (64 << 10) + 5_999_001 + told_bytes;
                assert_eq!(found, 6, "{totals}");
                assert!(bytes > sure_bytes / 100 * 99, "{bytes} of {sure_bytes}: {totals}");
                assert!(bytes <= frames * frame_bytes, "{totals}");
            }
        }
    }

    #[test]
    fn superpackets() {
        elided_or_not(Offload::On, 1 << 16);
    }

    #[test]
    fn packets_of_mtu_size() {
        elided_or_not(Offload::Off, 1460);
    }
}
