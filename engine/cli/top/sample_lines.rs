//! Lines for tests.

use httplines::observe::summary::Summary;

/// A line of an exchange of a GET.
pub fn line(host: &str, status: u16, ttfb_ns: u64) -> String {
    exchange(host, "/v1/orders/7", status, ttfb_ns)
}

/// The same, with a target.
pub fn exchange(host: &str, target: &str, status: u16, ttfb_ns: u64) -> String {
    let [host, target] = [host, target].map(|text| serde_json::to_string(text).expect("a text"));
    let addresses =
        r#""client_ip":"10.0.0.1","client_port":40000,"server_ip":"10.0.0.2","server_port":80"#;
    let identity = r#""ts":"2026-12-01T14:00:00.000000000Z","flow":"0123456789abcdef","n":0"#;
    let request = format!(r#""method":"GET","target":{target},"version":"HTTP/1.1","host":{host}"#);
    let response = format!(r#""status":{status},"response_body_bytes":1000,"ttfb_ns":{ttfb_ns}"#);
    format!(r#"{{{identity},{addresses},{request},{response},"outcome":"complete"}}"#)
}

/// What is counted of them.
pub fn summary_of(lines: &[String]) -> Summary {
    let mut summary = Summary::default();
    lines.iter().for_each(|line| assert!(summary.add_line(line.as_bytes()), "{line}"));
    summary
}
