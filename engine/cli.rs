//! The command line: what can be typed, and what it means.

use clap::{Parser, ValueEnum};
use httplines::config::{Config, FilterMode, Input, LineFormat, Output, PacketDirection};
use httplines::sys::affinity;
use std::path::PathBuf;

/// HTTP traffic on the wire, as lines: the first line of every message, or a JSON line for every exchange.
#[derive(Debug, Parser)]
#[command(
    name = "httplines",
    version,
    max_term_width = 100,
    override_usage = "httplines -i IFACE [-o FILE]\n       httplines -r CAPTURE [-o FILE]",
    after_help = "Signals: INT and TERM end in order, USR1 prints the totals so far, HUP reopens FILE.\n\
                  Exit codes: 0, 1 failed while running, 2 wrong usage, 3 no permission."
)]
pub struct Args {
    /// Capture on this interface; repeat it for more, `any` is all
    #[arg(short = 'i', long = "interface", value_name = "IFACE", help_heading = "Input")]
    interfaces: Vec<String>,

    /// Read a capture file (pcap or pcapng; - is standard input)
    #[arg(short = 'r', long = "read", value_name = "FILE", help_heading = "Input")]
    #[arg(conflicts_with = "interfaces", required_unless_present_any = ["interfaces", "list"])]
    read: Option<PathBuf>,

    /// List the interfaces and end
    #[arg(short = 'D', long = "list-interfaces", help_heading = "Input")]
    pub list: bool,

    /// Which packets count, by the way they take through the interface
    #[arg(
        short = 'Q',
        long = "direction",
        value_name = "in|out|inout",
        hide_possible_values = true
    )]
    #[arg(default_value = "inout", hide_default_value = true, help_heading = "Input")]
    direction: DirectionArg,

    /// Do not put the interfaces into promiscuous mode
    #[arg(short = 'p', long = "no-promiscuous-mode", help_heading = "Input")]
    no_promiscuous: bool,

    /// Append JSON lines to this file (- is standard output)
    #[arg(short = 'o', long = "output", value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,

    /// What a line is [default: json with -o, else text]
    #[arg(long, value_name = "text|json", hide_possible_values = true, help_heading = "Output")]
    format: Option<FormatArg>,

    /// Time, client and server in front of text lines
    #[arg(short = 'v', long, help_heading = "Output")]
    verbose: bool,

    /// No totals and no progress
    #[arg(short = 'q', long, help_heading = "Output")]
    pub quiet: bool,

    /// End after so many exchanges
    #[arg(short = 'c', long = "count", value_name = "N", help_heading = "Output")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// A file for each shard: http.jsonl becomes http.0.jsonl, http.1.jsonl ...
    #[arg(long, requires = "output", help_heading = "Output")]
    output_per_shard: bool,

    /// Report this header, too (repeat it for more)
    #[arg(long = "header", value_name = "NAME", help_heading = "Output")]
    headers: Vec<String>,

    /// Report all headers
    #[arg(long, help_heading = "Output")]
    all_headers: bool,

    /// Show credentials and cookies, which are masked otherwise
    #[arg(long, help_heading = "Output")]
    show_secrets: bool,

    /// Mask the query part of targets
    #[arg(long, help_heading = "Output")]
    redact_query: bool,

    /// Worker threads [default: live one per CPU, for a file 1]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,

    /// Size of a ring, one for each interface and shard [default: 65536]
    #[arg(short = 'B', long = "buffer-size", value_name = "KIB", help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u32).range(2048..=4_194_303))]
    buffer_kib: Option<u32>,

    /// How long a frame may wait for its block to fill [default: 10]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    retire_timeout_ms: Option<u32>,

    /// http admits HTTP sessions only, off all TCP
    #[arg(long, value_name = "http|off", default_value = "http", hide_default_value = true)]
    #[arg(hide_possible_values = true, help_heading = "Limits")]
    filter: FilterArg,

    /// HTTP sessions the kernel filter can hold [default: 262144]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u32).range(64..=16_777_216))]
    sessions: Option<u32>,

    /// Another UDP port that carries VXLAN, beside 4789 and 8472 (repeat it for more)
    #[arg(long = "vxlan-port", value_name = "PORT", help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    vxlan_ports: Vec<u16>,

    /// Connections a shard can hold [default: 1048576]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=16_777_216))]
    flows: Option<u32>,

    /// A connection that is quiet for so long is over [default: 300]
    #[arg(long, value_name = "S", help_heading = "Limits")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    idle_timeout_s: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DirectionArg {
    In,
    Out,
    Inout,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum FormatArg {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FilterArg {
    Http,
    Off,
}

impl Args {
    /// The run that was asked for.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.input());
        config.exchange_count_max = self.count;
        config.shard_count = self.shards.unwrap_or_else(|| match config.input {
            Input::Live(_) => affinity::allowed_cpus().len().clamp(1, 1024) as u16,
            Input::File(_) | Input::Stdin => 1,
        });
        self.configure_capture(&mut config);
        self.configure_lines(&mut config);
        config.decode.vxlan_ports.extend(&self.vxlan_ports);
        if let Some(flows) = self.flows {
            config.flow.flow_count_max = flows as usize;
        }
        if let Some(seconds) = self.idle_timeout_s {
            config.flow.idle_timeout_ms = seconds * 1000;
        }
        config
    }

    fn input(&self) -> Input {
        match &self.read {
            Some(path) if path.as_os_str() == "-" => Input::Stdin,
            Some(path) => Input::File(path.clone()),
            None => Input::Live(self.interfaces.clone()),
        }
    }

    fn configure_capture(&self, config: &mut Config) {
        let capture = &mut config.capture;
        capture.direction = match self.direction {
            DirectionArg::In => PacketDirection::In,
            DirectionArg::Out => PacketDirection::Out,
            DirectionArg::Inout => PacketDirection::InOut,
        };
        capture.filter = match self.filter {
            FilterArg::Http => FilterMode::Http,
            FilterArg::Off => FilterMode::Off,
        };
        capture.is_promiscuous = !self.no_promiscuous;
        if let Some(kibibytes) = self.buffer_kib {
            capture.block_count = kibibytes / (capture.block_bytes >> 10);
        }
        if let Some(milliseconds) = self.retire_timeout_ms {
            capture.retire_timeout_ms = milliseconds;
        }
        if let Some(sessions) = self.sessions {
            capture.session_count_max = sessions;
        }
    }

    fn configure_lines(&self, config: &mut Config) {
        let emit = &mut config.emit;
        emit.output = match &self.output {
            Some(path) if path.as_os_str() != "-" => Output::File(path.clone()),
            _ => Output::Stdout,
        };
        let default = if self.output.is_some() { FormatArg::Json } else { FormatArg::Text };
        emit.format = match self.format.unwrap_or(default) {
            FormatArg::Text => LineFormat::Text { is_verbose: self.verbose },
            FormatArg::Json => LineFormat::Json,
        };
        emit.is_per_shard = self.output_per_shard;
        emit.extra_headers = self.headers.clone();
        emit.is_all_headers = self.all_headers;
        emit.is_secrets_shown = self.show_secrets;
        emit.is_query_redacted = self.redact_query;
    }
}
