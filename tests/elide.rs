//! Bodies that stay in the kernel: real servers and clients on a veth pair, with elision and
//! without, and what a capture file of the same traffic says.

mod support;

/// Needs root; elsewhere each test says that it was skipped.
mod root {
    use super::support::lab::{self, End, Lab, Offload, SERVER, SERVER_IFACE};
    use super::support::{records, skip};
    use serde_json::Value;

    /// All that passes fits into one ring, so that nothing is dropped however slow the machine is.
    const BIG_BYTES: u64 = 8 << 20;
    /// Bodies pass slowly enough for the shard to hear of them in time.
    const RATE: [&str; 2] = ["--limit-rate", "20M"];
    /// Times are of a capture's own stamps.
    const TIMES: [&str; 5] = ["ts", "connect_ns", "request_ns", "ttfb_ns", "response_ns"];

    /// The number in front of `words` in the totals, or 0.
    fn number_of(totals: &str, words: &str) -> u64 {
        let before = totals.split(words).next().filter(|before| before.len() < totals.len());
        let number = before.and_then(|before| before.split_whitespace().next_back());
        number.map_or(0, |number| number.parse().expect("a number"))
    }

    /// Downloads and uploads of all kinds; how many requests, and how many bytes of bodies in those
    /// that were not broken off.
    fn make_traffic(lab: &Lab) -> (usize, u64) {
        let big = lab.path().join("www/big");
        std::fs::write(&big, vec![b'x'; BIG_BYTES as usize]).expect("a file to serve");
        let curl = |args: &[&str]| lab.curl(&[&RATE[..], args].concat());
        curl(&["/big", "/64k", "/big", "/small/between", "/big"]);
        curl(&["--head", "/big"]);
        curl(&["-r", "1000-6000000", "/big"]);
        curl(&[&format!("http://[{}]/big", SERVER[1])]);
        let form = format!("@{}", big.display());
        curl(&["-H", "Expect:", "--data-binary", &form, "/small/upload"]);
        curl(&["-H", "Transfer-Encoding: chunked", "--data-binary", &form, "/small/chunked"]);
        let broken = format!("curl -s http://{}/big | head -c 3000000 | wc -c", SERVER[0]);
        lab::run(lab.command(End::Client, "bash").args(["-c", &broken]));
        (11, 6 * BIG_BYTES + 5_999_001)
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
        let elided = start("elided.jsonl", &["--retire-timeout-ms", "1"]);
        let small = start("small.jsonl", &["--retire-timeout-ms", "1", "--elide-min-bytes", "1"]);
        let whole = start("whole.jsonl", &["--no-elide"]);
        let (tcpdump, capture) = lab.start_tcpdump();
        let (request_count, body_bytes) = make_traffic(&lab);
        let ended = [elided, small, whole].map(|running| running.stop());
        let of_file = || lab.replay(&capture, &[]);
        lab::wait_until("tcpdump has read all", || {
            let all = of_file();
            all.iter().filter(|record| record["status"].is_u64() && record["end"] != "exit").count()
                == request_count
        });
        tcpdump.stop();

        let comparable = |all: Vec<Value>| {
            records::without(records::without_crossings(all), &[&TIMES[..], &["iface"]].concat())
        };
        let of_file = comparable(of_file());
        assert_eq!(of_file.len(), request_count);
        for (name, ended) in ["elided.jsonl", "small.jsonl", "whole.jsonl"].iter().zip(ended) {
            let live = comparable(ended.records(&lab.path().join(name)));
            records::assert_same(&format!("{name} and the file"), &live, &of_file);
            let totals = &ended.stderr;
            assert_eq!(number_of(totals, " dropped by kernel"), 0, "{totals}");
            let bytes = number_of(totals, " bytes of bodies left in the kernel");
            let frames = number_of(totals, " frames cut to their headers");
            if *name == "whole.jsonl" {
                assert_eq!((bytes, frames), (0, 0), "{totals}");
            } else {
                // These the filter has found itself: of the first connection until a small one
                // comes, of the range and of IPv6. Of them nothing comes up but ends of segments.
                let found = number_of(totals, " ends of bodies found by the filter itself");
                let found_bytes = 4 * BIG_BYTES + (64 << 10) + 5_999_001;
                assert_eq!(found, 6, "{totals}");
                assert!(bytes > found_bytes / 100 * 99, "{bytes} of {body_bytes}: {totals}");
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
