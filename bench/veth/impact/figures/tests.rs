//! What the programs printed in real runs, shortened.

use super::*;

/// One part in 10^9, for sums of binary fractions.
fn assert_close(found: Option<f64>, expected: Option<f64>, what: &str) {
    let is_close = match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= expected.abs() * 1e-9,
        (found, expected) => found == expected,
    };
    assert!(is_close, "{what}: {found:?}, expected {expected:?}");
}

fn assert_figures(text: &str, expected: &Figures) {
    let found = parse(text);
    assert_eq!(found.program, expected.program, "{text}");
    assert_close(found.requests_per_s, expected.requests_per_s, "requests/s");
    assert_close(found.bits_per_s, expected.bits_per_s, "bits/s");
    assert_close(found.mean_ns, expected.mean_ns, "mean");
    assert_close(found.p50_ns, expected.p50_ns, "p50");
    assert_close(found.p99_ns, expected.p99_ns, "p99");
    assert_eq!(found.errors, expected.errors, "{text}");
}

const MIB: f64 = 1024.0 * 1024.0;

const WRK: &str = "\
Running 1s test @ http://10.98.0.2/small
  1 threads and 10 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     7.11ms   21.62ms 133.95ms   93.35%
    Req/Sec    10.73k     4.74k   16.11k    80.00%
  10918 requests in 1.08s, 2.51MB read
Requests/sec:  10115.06
Transfer/sec:      2.32MB
";

const WRK_LATENCY: &str = "\
Running 1s test @ http://10.98.0.2/small
  1 threads and 10 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.09ms    3.18ms  19.87ms   84.76%
    Req/Sec    10.47k     5.35k   20.52k    70.00%
  Latency Distribution
     50%  218.00us
     75%    3.13ms
     90%    6.98ms
     99%   13.39ms
  10582 requests in 1.03s, 2.43MB read
Requests/sec:  10295.57
Transfer/sec:      2.37MB
";

#[test]
fn wrk_is_read() {
    let plain = Figures {
        program: Some("wrk"),
        requests_per_s: Some(10_115.06),
        bits_per_s: Some(8.0 * 2.32 * MIB),
        mean_ns: Some(7.11e6),
        ..Figures::default()
    };
    assert_figures(WRK, &plain);
    let percentiles = Figures {
        requests_per_s: Some(10_295.57),
        bits_per_s: Some(8.0 * 2.37 * MIB),
        mean_ns: Some(2.09e6),
        p50_ns: Some(218e3),
        p99_ns: Some(13.39e6),
        ..plain.clone()
    };
    assert_figures(WRK_LATENCY, &percentiles);
    // Of two runs the last counts.
    assert_figures(&format!("{WRK}{WRK_LATENCY}"), &percentiles);
    let bad = WRK.replace(
        "Requests/sec:",
        "  Socket errors: connect 0, read 3, write 0, timeout 1\n  \
         Non-2xx or 3xx responses: 5276\nRequests/sec:",
    );
    assert_figures(&bad, &Figures { errors: 5280, ..plain });
}

#[test]
fn wrk2_is_read() {
    let text = "\
Running 1m test @ http://localhost:8081
  1 threads and 64 connections
  Thread calibration: mean lat.: 1.421ms, rate sampling interval: 10ms
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.40ms  661.70us   9.49ms   68.12%
    Req/Sec     2.10k   252.82     3.44k    69.54%
  Latency Distribution (HdrHistogram - Recorded Latency)
 50.000%    1.32ms
 75.000%    1.84ms
 99.000%    2.78ms
 99.900%    6.08ms
100.000%    9.49ms

  Detailed Percentile spectrum:
       Value   Percentile   TotalCount 1/(1-Percentile)

       0.053     0.000000            1         1.00
#[Mean    =        1.400, StdDeviation   =        0.662]
----------------------------------------------------------
  119871 requests in 1.00m, 7.66MB read
Requests/sec:   1997.81
Transfer/sec:    130.72KB
";
    let expected = Figures {
        program: Some("wrk"),
        requests_per_s: Some(1_997.81),
        bits_per_s: Some(8.0 * 130.72 * 1024.0),
        mean_ns: Some(1.40e6),
        p50_ns: Some(1.32e6),
        p99_ns: Some(2.78e6),
        errors: 0,
    };
    assert_figures(text, &expected);
}

const H2LOAD: &str = "\
starting benchmark...
spawning thread #0: 10 total client(s). 2000 total requests
Application protocol: h2c
progress: 100% done

finished in 271.02ms, 7379.56 req/s, 924.21KB/s
requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 250.48KB (256490) total, 203.13KB (208000) headers (space savings 40.23%), 11.72KB data
                     min         max         mean         sd        +/- sd
time for request:      314us     31.86ms     12.24ms      9.51ms    64.05%
time for connect:      150us      4.58ms      1.52ms      2.01ms    70.00%
time to 1st byte:     7.81ms     12.39ms      9.30ms      2.07ms    70.00%
req/s           :     750.20      780.34      762.21       10.88    50.00%
";

#[test]
fn h2load_is_read() {
    let expected = Figures {
        program: Some("h2load"),
        requests_per_s: Some(7_379.56),
        bits_per_s: Some(8.0 * 924.21 * 1024.0),
        mean_ns: Some(12.24e6),
        ..Figures::default()
    };
    assert_figures(H2LOAD, &expected);
    let failed = H2LOAD.replace("0 failed, 0 errored", "7 failed, 3 errored");
    assert_figures(&failed, &Figures { errors: 7, ..expected.clone() });
    // Columns are found by their names.
    let newer = H2LOAD
        .replace("max         mean", "max      median         p95         p99        mean")
        .replace(
            "time for request:      314us     31.86ms",
            "request     : 314us 31.86ms 900us 4ms 9.1ms",
        );
    let expected = Figures { p50_ns: Some(900e3), p99_ns: Some(9.1e6), ..expected };
    assert_figures(&newer, &expected);
}

#[test]
fn ab_is_read() {
    let text = "\
Concurrency Level:      10
Time taken for tests:   0.425 seconds
Complete requests:      2000
Failed requests:        0
Keep-Alive requests:    2000
Total transferred:      482000 bytes
Requests per second:    4701.83 [#/sec] (mean)
Time per request:       2.127 [ms] (mean)
Time per request:       0.213 [ms] (mean, across all concurrent requests)
Transfer rate:          1106.58 [Kbytes/sec] received

Connection Times (ms)
              min  mean[+/-sd] median   max
Total:          0    2   4.3      0      33

Percentage of the requests served within a certain time (ms)
  50%      1
  66%      1
  99%     20
 100%     33 (longest request)
";
    let expected = Figures {
        program: Some("ab"),
        requests_per_s: Some(4_701.83),
        bits_per_s: Some(8.0 * 1_106.58 * 1024.0),
        mean_ns: Some(2.127e6),
        p50_ns: Some(1e6),
        p99_ns: Some(20e6),
        errors: 0,
    };
    assert_figures(text, &expected);
    let bad = text.replace("Keep-Alive", "Non-2xx responses:      100\nKeep-Alive");
    assert_figures(&bad, &Figures { errors: 100, ..expected });
}

#[test]
fn hey_and_oha_are_read() {
    let text = "
Summary:
  Total:\t1.0235 secs
  Slowest:\t0.0242 secs
  Fastest:\t0.0000 secs
  Average:\t0.0010 secs
  Requests/sec:\t4759.9755
  
  Total data:\t29232 bytes
  Size/request:\t6 bytes

Response time histogram:
  0.000 [1]\t|
  0.002 [4444]\t|\u{25a0}\u{25a0}\u{25a0}

Latency distribution:
  10% in 0.0001 secs
  50% in 0.0003 secs
  99% in 0.0159 secs

Status code distribution:
  [200]\t4862 responses
  [404]\t10 responses
";
    let expected = Figures {
        program: Some("hey"),
        requests_per_s: Some(4_759.975_5),
        bits_per_s: None,
        mean_ns: Some(1e6),
        p50_ns: Some(300e3),
        p99_ns: Some(15.9e6),
        errors: 10,
    };
    assert_figures(text, &expected);
    let text = "
Summary:
  Success rate:\t100.00%
  Total:\t4991.5000 ms
  Slowest:\t2.6000 ms
  Fastest:\t0.5000 ms
  Average:\t1.0000 ms
  Requests/sec:\t10016.9373

  Total data:\t490.90 MiB
  Size/request:\t10.05 KiB
  Size/sec:\t98.35 MiB

Response time distribution:
  50.00% in 1.0100 ms
  99.00% in 1.3000 ms
  99.99% in 2.2000 ms

Status code distribution:
  [200] 50000 responses
";
    let expected = Figures {
        program: Some("oha"),
        requests_per_s: Some(10_016.937_3),
        bits_per_s: Some(8.0 * 98.35 * MIB),
        mean_ns: Some(1e6),
        p50_ns: Some(1.01e6),
        p99_ns: Some(1.3e6),
        errors: 0,
    };
    assert_figures(text, &expected);
}

#[test]
fn iperf_is_read() {
    let rate = |program, bits_per_s| Figures {
        program: Some(program),
        bits_per_s: Some(bits_per_s),
        ..Figures::default()
    };
    let iperf3 = "\
[ ID] Interval           Transfer     Bitrate         Retr  Cwnd
[  5]   0.00-1.03   sec   175 MBytes  1.43 Gbits/sec    1   2.53 MBytes       
[SUM]   0.00-1.03   sec   356 MBytes  2.91 Gbits/sec    2             
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate         Retr
[  5]   0.00-1.03   sec   175 MBytes  1.43 Gbits/sec    1             sender
[  5]   0.00-1.04   sec   174 MBytes  1.40 Gbits/sec                  receiver
[SUM]   0.00-1.03   sec   356 MBytes  2.91 Gbits/sec    2             sender
[SUM]   0.00-1.04   sec   354 MBytes  2.86 Gbits/sec                  receiver

iperf Done.
";
    assert_figures(iperf3, &rate("iperf", 2.86e9));
    let datagrams = "\
[  5]   0.00-1.00   sec  11.9 MBytes   100 Mbits/sec  0.000 ms  0/8630 (0%)  sender
[  5]   0.00-1.00   sec  11.8 MBytes  98.7 Mbits/sec  0.005 ms  106/8630 (1.2%)  receiver
";
    assert_figures(datagrams, &rate("iperf", 98.7e6));
    let iperf2 = "\
[ ID] Interval       Transfer     Bandwidth
[  1] 0.0000-1.0067 sec   491 MBytes  4.09 Gbits/sec
";
    assert_figures(iperf2, &rate("iperf", 4.09e9));
    let in_bytes = iperf2.replace("4.09 Gbits/sec", "488 MBytes/sec");
    assert_figures(&in_bytes, &rate("iperf", 8.0 * 488.0 * MIB));
    let json = r#"{"start": {}, "intervals": [], "end": {
        "sum_sent": {"seconds": 1.003079, "bits_per_second": 5141067421.40948},
        "sum_received": {"seconds": 1.011094, "bits_per_second": 5089943178.3790627}}}"#;
    assert_figures(json, &rate("iperf3", 5_089_943_178.379_063));
}

#[test]
fn other_text_gives_nothing() {
    for text in
        ["", "done\n", "{\"end\": 3}", "Requests/sec: many", "finished in time", "\u{fffd}%"]
    {
        assert_eq!(parse(text), Figures::default(), "{text}");
    }
}

mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No output makes a parser panic: words of real outputs in any order, and other text.
        #[test]
        fn any_text_is_taken(
            words in proptest::collection::vec(
                prop_oneof![
                    "\\PC{0,6}",
                    Just("\n".to_string()),
                    Just("  ".to_string()),
                    proptest::sample::select(
                        format!("{WRK_LATENCY}{H2LOAD}")
                            .split_inclusive([' ', '\n'])
                            .map(str::to_string)
                            .collect::<Vec<_>>(),
                    ),
                ],
                0..60,
            ),
        ) {
            parse(&words.concat());
        }
    }
}
