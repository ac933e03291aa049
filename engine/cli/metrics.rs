//! The option for the metrics.

use clap::Args;
use httplines::config::WatchConfig;
use std::net::{IpAddr, SocketAddr};

/// The port, if only an address is named.
const PORT_DEFAULT: u16 = 9919;

/// The option for the metrics.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Serve metrics for Prometheus at this address: 127.0.0.1 [port: 9919]
    ///
    /// An address of this machine, and a port if it is not 9919: 127.0.0.1, 127.0.0.1:9100, [::1],
    /// [::1]:9100. http://127.0.0.1:9919/metrics has the counters and gauges of a live capture in
    /// the text format of Prometheus, and /healthz answers 503 if a shard does not poll. Whoever
    /// can reach the port can read them; they name no host, no path and no client.
    #[arg(long, value_name = "ADDR", help_heading = "Output", hide_short_help = true)]
    #[arg(value_parser = address)]
    metrics: Option<SocketAddr>,
}

impl MetricsArgs {
    /// Sets the address.
    pub fn configure(&self, watch: &mut WatchConfig) {
        watch.metrics = self.metrics;
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let alone = unbracketed.unwrap_or(text).parse::<IpAddr>().ok();
    let alone = alone.filter(|address| address.is_ipv6() || unbracketed.is_none());
    alone
        .map(|address| SocketAddr::new(address, PORT_DEFAULT))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            "an address of this machine, such as 127.0.0.1, 127.0.0.1:9919 or [::1]:9919".into()
        })
}

#[test]
fn an_address_has_a_port_or_gets_one() {
    for (text, expected) in [
        ("127.0.0.1", "127.0.0.1:9919"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("::1", "[::1]:9919"),
        ("[::1]", "[::1]:9919"),
        ("[::1]:1", "[::1]:1"),
    ] {
        assert_eq!(address(text).map(|it| it.to_string()), Ok(expected.into()), "{text}");
    }
    for text in ["", "localhost", "9919", ":9919", "127.0.0.1:", "127.0.0.1:65536", "[127.0.0.1]"] {
        assert!(address(text).is_err(), "{text}");
    }
}
