//! The command line: what can be typed, and what it means.

mod active;
mod capture;
mod check_config;
mod command_line;
pub mod commands;
#[cfg(test)]
mod completions;
mod config_file;
mod doctor;
pub mod ending;
mod files;
mod habits;
mod help;
mod identity;
#[cfg(test)]
mod manual;
mod metrics;
mod numbers;
mod report;
mod sandbox;
mod selection;
pub mod service;
mod statistics;
pub mod stderr;
#[cfg(feature = "top")]
mod top;
mod usage;
mod values;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Parser};
use httplines::config::{
    Choice, Config, HeaderShape, Input, LineFormat, Network, Output, Restrictions, Sample,
};
use httplines::sys::affinity;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use values::{
    DirectionArg, FanoutArg, FilterArg, FormatArg, HeadersArg, header_name, masked_name, number,
    ports, seconds,
};

/// HTTP traffic on the wire, as lines: the first line of every message, or a JSON line for every
/// exchange
///
/// httplines captures on interfaces, through a filter in the kernel, or reads capture files.
/// Without -o it prints the first line of every request and response as soon as its head is
/// complete. With -o it writes one JSON object for every exchange: a request and its response. At
/// the end it reports on standard error what it saw and what it lost. It cannot read encrypted
/// traffic.
#[derive(Debug, Parser)]
#[command(
    name = "httplines",
    version,
    about = "HTTP traffic on the wire, as lines",
    max_term_width = 100,
    disable_help_flag = true,
    disable_version_flag = true,
    allow_negative_numbers = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    override_usage = help::USAGE,
    after_help = help::AFTER_HELP,
    after_long_help = help::AFTER_LONG_HELP
)]
pub struct Args {
    /// A command, in place of a run.
    #[command(subcommand)]
    pub command: Option<command_line::Command>,

    /// Capture on these interfaces (see -D), or on `any`
    ///
    /// Names, or the numbers of -D. Repeat the option, or separate interfaces with commas. `any`
    /// captures on all interfaces, including those that appear later. Requires root, or the
    /// capabilities CAP_NET_RAW and CAP_BPF; with CAP_PERFMON as well it starts sooner.
    #[arg(short = 'i', long = "interface", value_name = "IFACES", help_heading = "Input")]
    #[arg(value_parser = NonEmptyStringValueParser::new(), value_delimiter = ',')]
    interfaces: Vec<String>,

    /// Read capture files (- is standard input)
    ///
    /// pcap or pcapng, as tcpdump and Wireshark write them, plain or compressed with gzip or zstd.
    /// Several files are read as one capture, in this order: -r trace.pcap0 trace.pcap1, or -r
    /// trace.pcap*. A connection may go on in the next file. If a file is cut off, everything
    /// before the cut is reported, the next file is read, and the exit code is 1.
    #[arg(short = 'r', long = "read", value_name = "FILE", help_heading = "Input")]
    #[arg(num_args = 1..)]
    read: Vec<PathBuf>,

    /// List the interfaces and exit
    #[arg(short = 'D', long = "list-interfaces", help_heading = "Input")]
    pub list: bool,

    /// Packet direction: in, out or inout [default: inout]
    ///
    /// `in` captures packets that the host receives, `out` those that it sends. On loopback, where
    /// every packet appears twice, `inout` captures only the received copy.
    #[arg(short = 'Q', long = "direction", value_name = "DIR", help_heading = "Input")]
    #[arg(hide_possible_values = true)]
    direction: Option<DirectionArg>,

    /// Do not put interfaces into promiscuous mode
    #[arg(short = 'p', long = "no-promiscuous-mode", help_heading = "Input")]
    no_promiscuous: bool,

    /// Only connections on these ports: 80,8000-8100
    ///
    /// Either end may use the port. Repeat the option, or separate ports with commas. The kernel
    /// filter applies this and the other restrictions before anything else. In tunnels they apply
    /// to the innermost connection.
    #[arg(long = "port", value_name = "PORTS", help_heading = "Input")]
    #[arg(value_parser = ports, value_delimiter = ',')]
    ports: Vec<RangeInclusive<u16>>,

    /// Only connections in these networks: 10.0.0.0/8
    ///
    /// Either end may be in the network. A single address is a network, too.
    #[arg(long = "net", value_name = "NETS", help_heading = "Input")]
    #[arg(value_parser = Network::from_str, value_delimiter = ',')]
    networks: Vec<Network>,

    /// Only connections in these VLANs
    ///
    /// If a packet has several tags, any of them may match.
    #[arg(long = "vlan", value_name = "IDS", help_heading = "Input", hide_short_help = true)]
    #[arg(value_parser = number::<u16, 1, 4095>, value_delimiter = ',')]
    vlans: Vec<u16>,

    /// No connections on these ports
    #[arg(long = "exclude-port", value_name = "PORTS", help_heading = "Input")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = ports, value_delimiter = ',')]
    excluded_ports: Vec<RangeInclusive<u16>>,

    /// No connections in these networks
    #[arg(long = "exclude-net", value_name = "NETS", help_heading = "Input")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = Network::from_str, value_delimiter = ',')]
    excluded_networks: Vec<Network>,

    /// No connections in these VLANs
    #[arg(long = "exclude-vlan", value_name = "IDS", help_heading = "Input")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = number::<u16, 1, 4095>, value_delimiter = ',')]
    excluded_vlans: Vec<u16>,

    /// Only one in N connections, always the same ones: 1/16
    ///
    /// A hash of the addresses and ports decides, which is the same on every host and in every run.
    /// The connections of 1/32 are among those of 1/16. The packets of the others stay in the
    /// kernel, and are counted. Other restrictions apply first.
    #[arg(long, value_name = "1/N", help_heading = "Input", hide_short_help = true)]
    #[arg(value_parser = Sample::from_str)]
    sample: Option<Sample>,

    /// When rings are full, capture fewer connections, but these whole
    ///
    /// If the traffic is more than this machine can capture, the kernel drops frames at random, and
    /// every connection may have holes. With this option the share of the connections that are
    /// captured is halved until the drops end. After 10 s without drops it grows again by one in
    /// 32 each second. Connections outside of the share, and their exchanges in progress, are left
    /// out and counted. The connections are chosen as by --sample.
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    shed: bool,

    /// Do not tell connections apart by VLANs and VNIs
    ///
    /// For links whose two directions travel in different VLANs, or in different VXLAN or Geneve
    /// networks, as on mirrors of asymmetric paths. Connections are then identified by addresses
    /// and ports alone. So networks that use the same addresses must not be captured together.
    /// Copies of a packet in several VLANs, as from both sides of a router, count once. --vlan and
    /// --exclude-vlan still apply to the tags of each packet.
    #[arg(long = "ignore-vlan", help_heading = "Input", hide_short_help = true)]
    ignore_vlan: bool,

    /// Append JSON lines to this file (-: standard output)
    ///
    /// A new file gets mode 0640. A symbolic link is not followed. As root, a file that belongs to
    /// another user is refused, and so is a file that holds no text, such as a capture. A FIFO
    /// waits for its reader. SIGHUP reopens the file, for log rotation.
    #[arg(short = 'o', long = "output", value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,

    /// Format of lines [default: json with -o, else text]
    #[arg(long, value_name = "text|json", hide_possible_values = true, help_heading = "Output")]
    format: Option<FormatArg>,

    /// Start text lines with time, client and server
    #[arg(short = 'v', long, action = ArgAction::Count, help_heading = "Output")]
    verbose: u8,

    /// Print neither totals nor progress
    #[arg(short = 'q', long, help_heading = "Output")]
    pub quiet: bool,

    /// Stop after N exchanges
    #[arg(short = 'c', long = "count", value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::<u64, 1, { u64::MAX }>)]
    count: Option<u64>,

    /// Stop after S seconds, such as 60 or 0.5
    ///
    /// This is time on the clock, also when a capture file is read. The run ends as after SIGINT:
    /// what was captured is written, and the exit code is 0.
    #[arg(long, value_name = "S", help_heading = "Output", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// One file per shard: http.0.jsonl, http.1.jsonl
    ///
    /// The shard's number is put before the extension of the name given with -o.
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    output_per_shard: bool,

    #[command(flatten)]
    files: files::FilesArgs,

    /// Also report these headers: Via,X-Request-Id (JSON)
    ///
    /// Repeat the option, or separate names with commas.
    #[arg(long = "header", value_name = "NAMES", help_heading = "Output")]
    #[arg(value_parser = header_name, value_delimiter = ',')]
    headers: Vec<String>,

    /// Report all headers (JSON)
    #[arg(long, help_heading = "Output")]
    all_headers: bool,

    /// Headers as a list or as an object by name [default: list] (JSON)
    ///
    /// `list`: [[name, value], ...], as sent. `object`: {name: value}, with names in lower case;
    /// headers with the same name have a list of their values.
    #[arg(long, value_name = "list|object", hide_possible_values = true)]
    #[arg(help_heading = "Output", hide_short_help = true)]
    headers_as: Option<HeadersArg>,

    /// Show credentials and cookies (JSON)
    ///
    /// Without this option the values of headers that hold credentials are masked: Authorization,
    /// Cookie, Set-Cookie, X-Api-Key, and all others whose names say so.
    #[arg(long, help_heading = "Output")]
    show_secrets: bool,

    /// Also mask these headers: X-Customer,X-Account (JSON)
    ///
    /// Their values are masked wherever they are shown, even with --show-secrets. Repeat the
    /// option, or separate names with commas. Names are compared by their letters and digits.
    #[arg(long = "mask-header", value_name = "NAMES", help_heading = "Output")]
    #[arg(value_parser = masked_name, value_delimiter = ',', hide_short_help = true)]
    masked_headers: Vec<String>,

    /// Mask queries and other secret parts of URIs
    ///
    /// These are the userinfo, the parameters, the query and the fragment: http://u:pw@host/a;b?c#d
    /// becomes http://***@host/a;***. This is done in the target, in Host, Referer and Location,
    /// and in all other values that hold URIs.
    #[arg(long, help_heading = "Output")]
    redact_query: bool,

    /// Leave out requests that nobody answered (JSON)
    ///
    /// Anybody can send one packet from any address. With this option there is no line for a
    /// request on a connection on which the other side sent nothing at all: no answer, no
    /// acknowledgement and no part of a handshake. A reset is no answer. Such requests are counted.
    /// If the capture sees one direction only, no request is answered.
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    answered_only: bool,

    #[command(flatten)]
    identity: identity::IdentityArgs,

    #[command(flatten)]
    selection: selection::SelectionArgs,

    #[command(flatten)]
    active: active::ActiveArgs,

    #[command(flatten)]
    statistics: statistics::StatisticsArgs,

    #[command(flatten)]
    metrics: metrics::MetricsArgs,

    /// Worker threads [default: one per CPU; for a file 1]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[arg(value_parser = number::<u16, 1, 1024>)]
    shards: Option<u16>,

    /// Size of one ring in KiB [default: 65536]
    ///
    /// Each shard has a ring on each interface. All rings together must fit into memory.
    #[arg(short = 'B', long = "buffer-size", value_name = "KIB", help_heading = "Limits")]
    #[arg(value_parser = number::<u32, 2048, 4_194_303>)]
    buffer_kib: Option<u32>,

    /// Size of a ring's blocks in KiB, a power of two [default: 256]
    ///
    /// The kernel hands over whole blocks. With smaller blocks, lines appear sooner and more of a
    /// long body stays in the kernel. A frame that does not fit into a block is cut, and its
    /// exchange reports a gap. Superpackets need 128, superpackets of BIG TCP up to 512, frames of
    /// MTU size 16.
    #[arg(long, value_name = "KIB", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 16, 65_536>)]
    block_kib: Option<u32>,

    /// Longest time a frame waits for its block to fill [default: 2]
    ///
    /// Text lines appear at most this much later than their packets. A larger value saves CPU time
    /// when there is little traffic.
    #[arg(long, value_name = "MS", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 1, 10_000>)]
    retire_timeout_ms: Option<u32>,

    /// Lines as soon as possible, for more CPU time
    ///
    /// Blocks of 128 KiB and a retire timeout of 1 ms, unless --block-kib or --retire-timeout-ms
    /// say otherwise, and free space in front of each frame: a block is full, and handed over,
    /// after 60 small frames instead of 1,200. A ring then holds a tenth as many of them.
    #[arg(long, help_heading = "Limits", hide_short_help = true)]
    low_latency: bool,

    /// off: pass all TCP to user space [default: http]
    ///
    /// By default the filter in the kernel passes only HTTP to httplines. With `off` the result is
    /// the same, but costs more.
    #[arg(long, value_name = "http|off", hide_possible_values = true)]
    #[arg(help_heading = "Limits", hide_short_help = true)]
    filter: Option<FilterArg>,

    /// Pass message bodies to user space, too
    ///
    /// Once it is certain where a body ends, the kernel filter cuts its packets to their headers.
    /// It never cuts heads, and lengths and times stay exact. This option is for comparison.
    #[arg(long, help_heading = "Limits", hide_short_help = true)]
    no_elide: bool,

    /// Keep bodies in the kernel if at least this many bytes are to come [default: 8192]
    #[arg(long, value_name = "BYTES", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u64, 1, { u64::MAX }>)]
    elide_min_bytes: Option<u64>,

    /// How the kernel spreads connections over the shards [default: flow]
    ///
    /// `flow`: by the innermost connection, also inside tunnels and of fragments. `hash`: by the
    /// outermost connection, which separates the two directions of a VXLAN tunnel. `cpu` and
    /// `queue`: by the CPU or NIC queue that received the frame, for NICs that deliver both
    /// directions of a connection to the same one. Only `flow` keeps fragments with their
    /// connection.
    #[arg(long, value_name = "flow|hash|cpu|queue", hide_possible_values = true)]
    #[arg(help_heading = "Limits", hide_short_help = true)]
    fanout: Option<FanoutArg>,

    /// HTTP sessions the kernel filter can hold [default: 262144]
    #[arg(long, value_name = "N", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 64, 16_777_216>)]
    sessions: Option<u32>,

    /// Another UDP port for VXLAN, besides 4789 and 8472 (repeatable)
    #[arg(long = "vxlan-port", value_name = "PORT", help_heading = "Limits")]
    #[arg(hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    vxlan_ports: Vec<u16>,

    /// Connections a shard can hold [default: 1048576]
    #[arg(long, value_name = "N", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u32, 16, 16_777_216>)]
    flows: Option<u32>,

    /// End connections idle for S seconds [default: 300]
    #[arg(long, value_name = "S", help_heading = "Limits", hide_short_help = true)]
    #[arg(value_parser = number::<u64, 1, 604_800>)]
    idle_timeout_s: Option<u64>,

    #[command(flatten)]
    sandbox: sandbox::SandboxArgs,

    /// Accepted: names of hosts and ports are never looked up
    #[arg(short = 'n', action = ArgAction::Count, help_heading = "Habits from tcpdump")]
    #[arg(hide_short_help = true)]
    numeric: u8,

    /// Accepted, as is -U: a live capture never holds lines back
    #[arg(short = 'l', short_alias = 'U', long = "immediate-mode")]
    #[arg(action = ArgAction::Count, help_heading = "Habits from tcpdump", hide_short_help = true)]
    line_buffered: u8,

    /// Accepted: heads are always read whole, and bodies are never stored
    #[arg(short = 's', long = "snapshot-length", value_name = "BYTES")]
    #[arg(value_parser = number::<u32, 0, { u32::MAX as u64 }>)]
    #[arg(help_heading = "Habits from tcpdump", hide_short_help = true)]
    snapshot_bytes: Option<u32>,

    /// Words without an option. They are taken only to be answered.
    #[arg(hide = true)]
    words: Vec<String>,

    #[command(flatten)]
    pub config: config_file::ConfigArgs,

    /// Print this help
    #[arg(short = 'h', long, help_heading = "Help", action = ArgAction::HelpShort)]
    help: Option<bool>,

    /// Print help on all options, with details
    #[arg(long, help_heading = "Help", action = ArgAction::HelpLong)]
    help_all: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, help_heading = "Help", action = ArgAction::Version)]
    version: Option<bool>,
}

impl Args {
    /// Answers words behind the first file of -r that are no files: `-r trace.pcap port 80`.
    fn check_words(&self) -> Result<(), String> {
        let words = self.read.iter().skip(1).filter(|path| !path.exists());
        let words: Vec<_> = words.map(|path| path.display().to_string()).collect();
        habits::answer_to_expression(&words).map_or(Ok(()), Err)
    }

    /// Refuses arguments that contradict each other, or would silently give another result than
    /// requested.
    fn check(&self) -> Result<(), String> {
        if !self.words.is_empty() {
            return Err(habits::answer_to_words(&self.words));
        }
        self.check_contradictions().map_err(|it| self.config.file.locate(it, None))
    }

    fn check_contradictions(&self) -> Result<(), String> {
        self.check_words()?;
        let is_live = self.is_live();
        let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
        let is_text = self.format() == FormatArg::Text;
        let refusal = match (&self.read[..], is_live) {
            _ if self.list => return Ok(()),
            ([], false) if habits::is_input_on_stdin() => {
                "add -r - to read the capture on standard input, or name an interface with -i \
                 (-D lists them)"
            }
            ([], false) => {
                "name an interface with -i (-D lists them) or a capture file with -r; \
                 httplines --help shows examples"
            }
            ([_, ..], true) => {
                "-i captures and -r reads a file, and one run does only one of them: leave one out"
            }
            (paths, _) if paths.iter().any(|path| path.as_os_str().is_empty()) => {
                "-r needs the name of a capture file, or - for standard input"
            }
            ([_, _, ..], _) if self.read.iter().any(is_stdin) => {
                "- is standard input, and -r reads it alone: leave it or the files out"
            }
            ([_, ..], _)
                if matches!(self.direction, Some(DirectionArg::In | DirectionArg::Out)) =>
            {
                "-Q in and -Q out are for capturing with -i; a file does not record the direction \
                 of its packets: leave it out"
            }
            ([_, ..], _) if self.sandbox.is_waiting() => sandbox::WAIT_WITH_FILE,
            ([_, ..], _) if self.shed => {
                "--shed is for capturing with -i; a file is read without losing packets: leave it \
                 out, or take a sample with --sample"
            }
            _ if self.output.as_ref().is_some_and(|path| path.as_os_str().is_empty()) => {
                "-o needs the name of a file, or - for standard output"
            }
            _ if self.output_per_shard && !self.is_to_file() => {
                "--output-per-shard needs the name of a file: add -o http.jsonl"
            }
            _ if self.is_json_tuned() && is_text => {
                "--header, --all-headers, --show-secrets and --mask-header are for JSON lines: \
                 add -o FILE, or -o - for standard output"
            }
            _ if self.headers_as.is_some() && self.headers.is_empty() && !self.all_headers => {
                "--headers-as is for headers in JSON lines: add --header NAME or --all-headers"
            }
            _ if self.answered_only && is_text => {
                "--answered-only is for JSON lines, because a text line is written before an \
                 answer can come: add -o FILE, or -o - for standard output"
            }
            _ if self.selection.is_given() && is_text => {
                "--only and --except are for JSON lines, because a text line is written before \
                 its exchange is over: add -o FILE, or -o - for standard output"
            }
            _ if self.active.is_given() && is_text => active::NEEDS_JSON,
            _ if is_text && self.selection.names_others() => selection::NEEDS_JSON,
            _ if self.selection.is_early_alone() => selection::NEEDS_TLS,
            _ if self.count.is_some() && !self.selection.records().http => selection::NEEDS_HTTP,
            _ if self.sandbox.is_contradiction() => sandbox::USER_WITHOUT_SANDBOX,
            _ if self.statistics.is_wanted() && !is_live => statistics::NEEDS_LIVE,
            _ => match self.identity.refusal(is_text) {
                Some(refusal) => refusal,
                None => return Ok(()),
            },
        };
        Err(refusal.to_string())
    }

    fn is_json_tuned(&self) -> bool {
        let names = [&self.headers, &self.masked_headers];
        self.all_headers || self.show_secrets || names.iter().any(|names| !names.is_empty())
    }

    /// Whether lines go to a file, and not to standard output.
    pub fn is_to_file(&self) -> bool {
        self.output.as_ref().is_some_and(|path| path.as_os_str() != "-")
    }

    fn format(&self) -> FormatArg {
        let default = if self.output.is_some() { FormatArg::Json } else { FormatArg::Text };
        self.format.unwrap_or(default)
    }

    /// The configuration of the requested run.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.input());
        config.exchange_count_max = self.count;
        config.sandbox = self.sandbox.config();
        config.shard_count = self.shards.unwrap_or_else(|| match config.input {
            Input::Live(_) => affinity::allowed_cpus().len().clamp(1, 1024) as u16,
            Input::Files(_) | Input::Stdin => 1,
        });
        self.configure_capture(&mut config);
        self.configure_statistics(&mut config);
        self.metrics.configure(&mut config.watch);
        self.configure_lines(&mut config);
        config.decode.vxlan_ports.extend(&self.vxlan_ports);
        config.decode.restrictions = self.restrictions();
        config.decode.is_vlan_ignored = self.ignore_vlan;
        config.http.is_answered_only = self.answered_only;
        self.active.configure(&mut config.flow);
        if let Some(flows) = self.flows {
            config.flow.flow_count_max = flows as usize;
        }
        if let Some(seconds) = self.idle_timeout_s {
            config.flow.idle_timeout_ms = seconds * 1000;
        }
        config
    }

    fn input(&self) -> Input {
        match &self.read[..] {
            [] => Input::Live(self.interfaces.iter().map(|name| values::interface(name)).collect()),
            [path] if path.as_os_str() == "-" => Input::Stdin,
            paths => Input::Files(paths.to_vec()),
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
            sample: self.sample.unwrap_or_default(),
        }
    }

    fn configure_lines(&self, config: &mut Config) {
        let emit = &mut config.emit;
        emit.output = match &self.output {
            Some(path) if path.as_os_str() != "-" => Output::File(path.clone()),
            _ => Output::Stdout,
        };
        emit.format = match self.format() {
            FormatArg::Text => LineFormat::Text { is_verbose: self.verbose > 0 },
            FormatArg::Json => LineFormat::Json,
        };
        emit.is_per_shard = self.output_per_shard;
        emit.files = self.files.config();
        emit.extra_headers = self.headers.clone();
        emit.is_all_headers = self.all_headers;
        emit.header_shape = match self.headers_as {
            Some(HeadersArg::Object) => HeaderShape::Object,
            Some(HeadersArg::List) | None => HeaderShape::List,
        };
        emit.is_secrets_shown = self.show_secrets;
        emit.masked_headers = self.masked_headers.clone();
        emit.is_query_redacted = self.redact_query;
        emit.records = self.selection.records();
        emit.selection = self.selection.selection();
        self.identity.configure(emit);
    }
}
