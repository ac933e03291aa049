//! The command line: what can be typed, and what it means.

#[cfg(test)]
mod manual;
pub mod stderr;
mod usage;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Parser, ValueEnum};
use httplines::config::{
    Choice, Config, FanoutMode, FilterMode, Input, LineFormat, Network, Output, PacketDirection,
    Restrictions,
};
use httplines::sys::affinity;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// HTTP traffic on the wire, as lines: the first line of every message, or a JSON line for every
/// exchange
///
/// httplines captures on interfaces, behind a filter in the kernel, or reads capture files. Without
/// -o it prints the first line of every request and response as soon as its head is complete; with
/// -o it writes one JSON object for every exchange, request and response together. At the end it
/// says on standard error what it saw and what it lost. It cannot read encrypted traffic.
#[derive(Debug, Parser)]
#[command(
    name = "httplines",
    version,
    about = "HTTP traffic on the wire, as lines",
    max_term_width = 100,
    disable_help_flag = true,
    disable_version_flag = true,
    allow_negative_numbers = true,
    override_usage = USAGE,
    after_help = AFTER_HELP,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// Capture on this interface, any: on all (repeatable)
    ///
    /// Repeat it to capture on several; `any` is all of them, those to come included. -D lists
    /// them. Needs root, or the capabilities CAP_NET_RAW and CAP_BPF.
    #[arg(short = 'i', long = "interface", value_name = "IFACE", help_heading = "Input")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    interfaces: Vec<String>,

    /// Read a capture file (- is standard input)
    ///
    /// pcap or pcapng, as tcpdump and Wireshark write them. Of one that is cut off, all before the
    /// cut is reported, and the exit code is 1.
    #[arg(short = 'r', long = "read", value_name = "FILE", help_heading = "Input")]
    read: Option<PathBuf>,

    /// List the interfaces and end
    #[arg(short = 'D', long = "list-interfaces", help_heading = "Input")]
    pub list: bool,

    /// Packets: in, out or inout [default: inout]
    ///
    /// By the way they take through the interface. On loopback, where every packet comes twice,
    /// `inout` counts the received copy only.
    #[arg(short = 'Q', long = "direction", value_name = "WAY", help_heading = "Input")]
    #[arg(hide_possible_values = true)]
    direction: Option<DirectionArg>,

    /// Do not put interfaces into promiscuous mode
    #[arg(short = 'p', long = "no-promiscuous-mode", help_heading = "Input")]
    no_promiscuous: bool,

    /// Only connections of these ports: 80,8000-8100
    ///
    /// Either end may have it. Repeat it, or list several with commas. The kernel filter applies
    /// this and the other restrictions before anything else; inside tunnels, it is the innermost
    /// connection they mean.
    #[arg(long = "port", value_name = "PORTS", help_heading = "Input")]
    #[arg(value_parser = ports, value_delimiter = ',')]
    ports: Vec<RangeInclusive<u16>>,

    /// Only connections of these networks: 10.0.0.0/8
    ///
    /// Either end may be in it. An address alone is a network of one.
    #[arg(long = "net", value_name = "NETS", help_heading = "Input")]
    #[arg(value_parser = Network::from_str, value_delimiter = ',')]
    networks: Vec<Network>,

    /// Only connections in these VLANs
    ///
    /// By any of the tags, where there are several.
    #[arg(long = "vlan", value_name = "IDS", help_heading = "Input", hide_short_help = true)]
    #[arg(value_parser = number::<u16, 1, 4095>, value_delimiter = ',')]
    vlans: Vec<u16>,

    /// No connections of these ports
    #[arg(long = "exclude-port", value_name = "PORTS", help_heading = "Input")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = ports, value_delimiter = ',')]
    excluded_ports: Vec<RangeInclusive<u16>>,

    /// No connections of these networks
    #[arg(long = "exclude-net", value_name = "NETS", help_heading = "Input")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = Network::from_str, value_delimiter = ',')]
    excluded_networks: Vec<Network>,

    /// No connections in these VLANs
    #[arg(long = "exclude-vlan", value_name = "IDS", help_heading = "Input")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = number::<u16, 1, 4095>, value_delimiter = ',')]
    excluded_vlans: Vec<u16>,

    /// Append JSON lines to this file (-: standard output)
    ///
    /// A new file gets mode 0640. SIGHUP opens it anew, for log rotation.
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

    /// End after N exchanges
    #[arg(short = 'c', long = "count", value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::<u64, 1, { u64::MAX }>)]
    count: Option<u64>,

    /// A file for each shard: http.0.jsonl, http.1.jsonl
    ///
    /// The shard's number stands before the extension of the name given with -o.
    #[arg(long, help_heading = "Output")]
    output_per_shard: bool,

    /// Report this header, too (repeatable; JSON)
    #[arg(long = "header", value_name = "NAME", help_heading = "Output")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    headers: Vec<String>,

    /// Report all headers (JSON)
    #[arg(long, help_heading = "Output")]
    all_headers: bool,

    /// Show credentials and cookies (JSON)
    ///
    /// The values of Authorization, Proxy-Authorization, Cookie and Set-Cookie are masked
    /// otherwise.
    #[arg(long, help_heading = "Output")]
    show_secrets: bool,

    /// Mask the query part of targets
    #[arg(long, help_heading = "Output")]
    redact_query: bool,

    /// Worker threads [default: one per CPU; for a file 1]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[arg(value_parser = number::<u16, 1, 1024>)]
    shards: Option<u16>,

    /// Size of one ring in KiB [default: 65536]
    ///
    /// Every shard has a ring on every interface; all of them together must fit into memory.
    #[arg(short = 'B', long = "buffer-size", value_name = "KIB", help_heading = "Limits")]
    #[arg(value_parser = number::<u32, 2048, 4_194_303>)]
    buffer_kib: Option<u32>,

    /// Size of one block of a ring in KiB, a power of two [default: 256]
    ///
    /// The kernel hands over whole blocks: with smaller ones lines come sooner, and more of a long
    /// body stays in the kernel. What does not fit is cut off a frame, and its exchange tells a
    /// gap: superpackets take 128, of BIG TCP up to 512, frames of MTU size 16.
    #[arg(long, value_name = "KIB", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 16, 65_536>)]
    block_kib: Option<u32>,

    /// How long a frame waits for its block to fill [default: 2]
    ///
    /// Text lines come at most so much later than their packets; a larger value costs less CPU
    /// time where little comes.
    #[arg(long, value_name = "MS", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 1, 10_000>)]
    retire_timeout_ms: Option<u32>,

    /// off: take all TCP up, not HTTP only [default: http]
    ///
    /// The filter in the kernel keeps what is not HTTP away from httplines. Without it the result
    /// is the same and costs more.
    #[arg(long, value_name = "http|off", hide_possible_values = true)]
    #[arg(help_heading = "Limits")]
    filter: Option<FilterArg>,

    /// Take the bodies of messages up, too
    ///
    /// Once it is certain how far a body goes, the kernel filter cuts its packets to their headers.
    /// No head is touched, and lengths and times are the same; this is for comparison.
    #[arg(long, help_heading = "Limits", hide_short_help = true)]
    no_elide: bool,

    /// Leave bodies in the kernel of which so many bytes are to come [default: 8192]
    #[arg(long, value_name = "BYTES", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u64, 1, { u64::MAX }>)]
    elide_min_bytes: Option<u64>,

    /// How the kernel spreads connections over the shards [default: flow]
    ///
    /// `flow`: by the innermost connection, through tunnels; fragments follow their first. `hash`:
    /// by the outermost connection, which parts the directions of a tunnel. `cpu` and `queue`: by
    /// where a frame came in, for NICs that take both directions of a connection in one place.
    #[arg(long, value_name = "flow|hash|cpu|queue", hide_possible_values = true)]
    #[arg(help_heading = "Limits", hide_short_help = true)]
    fanout: Option<FanoutArg>,

    /// HTTP sessions the kernel filter can hold [default: 262144]
    #[arg(long, value_name = "N", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 64, 16_777_216>)]
    sessions: Option<u32>,

    /// Another UDP port that carries VXLAN, beside 4789 and 8472 (repeat it for more)
    #[arg(long = "vxlan-port", value_name = "PORT", help_heading = "Limits")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    vxlan_ports: Vec<u16>,

    /// Connections a shard can hold [default: 1048576]
    #[arg(long, value_name = "N", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 16, 16_777_216>)]
    flows: Option<u32>,

    /// End connections quiet for S seconds [default: 300]
    #[arg(long, value_name = "S", help_heading = "Limits")]
    #[arg(value_parser = number::<u64, 1, 604_800>)]
    idle_timeout_s: Option<u64>,

    /// This page
    #[arg(short = 'h', long, help_heading = "Help", action = ArgAction::HelpShort)]
    help: Option<bool>,

    /// All options, at length
    #[arg(long, help_heading = "Help", action = ArgAction::HelpLong)]
    help_all: Option<bool>,

    /// The version
    #[arg(short = 'V', long, help_heading = "Help", action = ArgAction::Version)]
    version: Option<bool>,
}

const USAGE: &str = "\
httplines -i eth0                 first lines of messages, live
       httplines -i eth0 -o http.jsonl   a JSON line for every exchange
       httplines -r trace.pcap [-o -]    the same from a capture file";

const AFTER_HELP: &str = "\
Signals: INT and TERM end in order, USR1 prints totals, HUP reopens the output.
Exit codes: 0, 1 failed while running, 2 wrong usage, 3 no permission.";

const AFTER_LONG_HELP: &str = "\
Signals:
  INT, TERM  end in order: what was captured is written, then the totals are printed
  USR1       print the totals so far and go on
  HUP        open the output file anew, after it was renamed

Exit codes:
  0  all went well
  1  failed while running: an input that is cut off or gone, an output that is full
  2  wrong usage
  3  no permission";

/// A number from `MIN` to `MAX`; the error is what stands behind "takes" in a sentence.
fn number<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match MAX {
        u64::MAX => format!("a whole number from {MIN} on"),
        _ => format!("a whole number from {MIN} to {MAX}"),
    })
}

/// A port, or the first and the last of several.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok().zip(last.parse().ok()).map(|(first, last)| first..=last);
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| "ports from 0 to 65535, such as 80 or 8000-8100".to_string())
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FanoutArg {
    Flow,
    Hash,
    Cpu,
    Queue,
}

impl Args {
    /// The arguments of this process.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn from_command_line() -> Result<Args, String> {
        let args = Args::try_parse().map_err(|error| usage::sentence(&error))?;
        args.check()?;
        Ok(args)
    }

    /// What contradicts itself, or would quietly give another result than was asked for, is
    /// refused.
    fn check(&self) -> Result<(), String> {
        let is_live = !self.interfaces.is_empty();
        let refusal = match (&self.read, is_live) {
            _ if self.list => return Ok(()),
            (None, false) => {
                "name an interface with -i (-D lists them) or a capture file with -r; \
                 httplines --help shows examples"
            }
            (Some(_), true) => {
                "-i captures and -r reads a file, and one run does one of them: leave one out"
            }
            (Some(path), _) if path.as_os_str().is_empty() => {
                "-r needs the name of a capture file, or - for standard input"
            }
            (Some(_), _)
                if matches!(self.direction, Some(DirectionArg::In | DirectionArg::Out)) =>
            {
                "-Q in and -Q out are for capturing with -i; a file does not say which way its \
                 packets went: leave it out"
            }
            _ if self.output.as_ref().is_some_and(|path| path.as_os_str().is_empty()) => {
                "-o needs the name of a file, or - for standard output"
            }
            _ if self.output_per_shard && !self.is_to_file() => {
                "--output-per-shard needs the name of a file: add -o http.jsonl"
            }
            _ if self.is_json_tuned() && self.format() == FormatArg::Text => {
                "--header, --all-headers and --show-secrets are for JSON lines: \
                 add -o FILE, or -o - for standard output"
            }
            _ => return Ok(()),
        };
        Err(refusal.to_string())
    }

    fn is_json_tuned(&self) -> bool {
        !self.headers.is_empty() || self.all_headers || self.show_secrets
    }

    /// Whether lines go to a file, and not to standard output.
    pub fn is_to_file(&self) -> bool {
        self.output.as_ref().is_some_and(|path| path.as_os_str() != "-")
    }

    fn format(&self) -> FormatArg {
        let default = if self.output.is_some() { FormatArg::Json } else { FormatArg::Text };
        self.format.unwrap_or(default)
    }

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
        config.decode.restrictions = self.restrictions();
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

    fn restrictions(&self) -> Restrictions {
        fn choice<T: Clone>(wanted: &[T], unwanted: &[T]) -> Choice<T> {
            Choice { wanted: wanted.to_vec(), unwanted: unwanted.to_vec() }
        }
        Restrictions {
            ports: choice(&self.ports, &self.excluded_ports),
            networks: choice(&self.networks, &self.excluded_networks),
            vlans: choice(&self.vlans, &self.excluded_vlans),
        }
    }

    fn configure_capture(&self, config: &mut Config) {
        let capture = &mut config.capture;
        capture.direction = match self.direction {
            Some(DirectionArg::In) => PacketDirection::In,
            Some(DirectionArg::Out) => PacketDirection::Out,
            Some(DirectionArg::Inout) | None => PacketDirection::InOut,
        };
        capture.filter = match self.filter {
            Some(FilterArg::Http) | None => FilterMode::Http,
            Some(FilterArg::Off) => FilterMode::Off,
        };
        capture.fanout = match self.fanout {
            Some(FanoutArg::Flow) | None => FanoutMode::Flow,
            Some(FanoutArg::Hash) => FanoutMode::Hash,
            Some(FanoutArg::Cpu) => FanoutMode::Cpu,
            Some(FanoutArg::Queue) => FanoutMode::Queue,
        };
        capture.is_promiscuous = !self.no_promiscuous;
        let mut ring_kib = capture.block_count * (capture.block_bytes >> 10);
        if let Some(kibibytes) = self.buffer_kib {
            ring_kib = kibibytes;
        }
        if let Some(kibibytes) = self.block_kib {
            capture.block_bytes = kibibytes << 10;
        }
        capture.block_count = ring_kib / (capture.block_bytes >> 10);
        if let Some(milliseconds) = self.retire_timeout_ms {
            capture.retire_timeout_ms = milliseconds;
        }
        if self.no_elide {
            capture.elide_bytes_min = None;
        } else if let Some(bytes) = self.elide_min_bytes {
            capture.elide_bytes_min = Some(bytes);
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
        emit.format = match self.format() {
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
